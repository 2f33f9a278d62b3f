//! The model of the isolation forest.
