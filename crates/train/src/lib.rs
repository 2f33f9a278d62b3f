//! From recordings to a detector.

pub mod compile;
pub mod fit;
pub mod limits;
pub mod network;
pub mod rows;
