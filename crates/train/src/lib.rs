//! From recordings to a detector.

pub mod compile;
pub mod export;
pub mod dataset;
pub mod evaluate;
pub mod fit;
pub mod limits;
pub mod network;
pub mod plot;
pub mod random;
pub mod quantise;
pub mod rows;
pub mod threshold;
pub mod synth;
