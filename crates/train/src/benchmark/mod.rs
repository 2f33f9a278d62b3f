//! Public benchmarks: their own protocols and scorers, and our detectors in them.
//!
//! A benchmark reads its data from a folder that the user names; nothing of it is part of Stonechat.

pub mod nab;
pub mod skab;
pub mod ucr;
