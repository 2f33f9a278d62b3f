//! The model of the robust z-score.
//!
//! | offset | field | size |
//! |---|---|---|
//! | 0 | [`RobustZScoreHeader`] | 16 |
//! | `medians` | `f32` for each number of the feature vector | 4 |
//! | `spreads` | `f32` for each number of the feature vector | 4 |

use bytemuck::{Pod, Zeroable};

/// The start of the model; offsets count from here.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct RobustZScoreHeader {
    /// 0: the step of the running median and spread, in deviations; 0 keeps those of training.
    pub alpha: f32,
    /// 4: a deviation is never taken smaller than this, in scaled units; above 0.
    pub minimum_deviation: f32,
    /// 8: the medians.
    pub medians: u32,
    /// 12: the median absolute deviations from them.
    pub spreads: u32,
}
