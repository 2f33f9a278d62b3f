//! The model of the robust z-score.
