//! Recordings that are computed instead of measured.
