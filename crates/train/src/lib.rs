//! From recordings to a detector.
