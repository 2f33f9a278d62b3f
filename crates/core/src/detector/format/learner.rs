//! The model of the online learner.
