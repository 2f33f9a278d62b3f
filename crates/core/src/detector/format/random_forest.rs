//! The model of the random forest.
