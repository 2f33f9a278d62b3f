//! The model of the online learner.
//!
//! | offset | field | size |
//! |---|---|---|
//! | 0 | [`LearnerHeader`] | 20 |
//! | `experts` | [`ExpertEntry`] for each expert | 32 |

use bytemuck::{Pod, Zeroable};

/// The start of the model; offsets count from here.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct LearnerHeader {
    /// 0: vectors that are learned from before the first score.
    pub warm_up: u32,
    /// 4: vectors for which a score holds back lower ones.
    pub hold_len: u32,
    /// 8: within them, a score is above 1 only if it is greater by this factor; at least 1.
    pub hold_factor: f32,
    /// 12: how many experts watch each number of the vector.
    pub expert_count: u32,
    /// 16: the experts.
    pub experts: u32,
}

/// One expert. Lengths count vectors, or blocks of `block_len` vectors where the expert takes means
/// of blocks.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct ExpertEntry {
    /// 0: 1 level, 2 prediction, 3 discord.
    pub kind: u32,
    /// 4: vectors in a block; 1 for a level.
    pub block_len: u32,
    /// 8: level: of the slow mean; prediction: the order; discord: of the pattern.
    pub len: u32,
    /// 12: discord: the blocks remembered; otherwise 0.
    pub history_len: u32,
    /// 16: level: of the fast mean; prediction: over how many errors the mean is taken; discord: 1.
    pub smoothing_len: f32,
    /// 20: prediction: the forgetting factor; otherwise 1.
    pub forgetting: f32,
    /// 24: what is left of a record after one residual; above 0, at most 1.
    pub fading: f32,
    /// 28: the share of a record of the other sign that counts, 0 to 1.
    pub other_side: f32,
}
