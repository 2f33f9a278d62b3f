//! The model of the one-class SVM.
