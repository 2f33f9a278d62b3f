//! The isolation forest model: [`IsolationForestHeader`], then what [`super::trees`] describes.
//!
//! A leaf record is one number: the depth of the leaf plus the mean depth that its rows would still
//! need, in steps of the fixed point that `gain` undoes; the greatest sum over all trees is below 2^32.

use bytemuck::{Pod, Zeroable};

use super::trees::TreesHeader;

/// The start of an isolation forest.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct IsolationForestHeader {
    /// 0: the trees.
    pub trees: TreesHeader,
    /// 40: the score is 2^(gain * sum of the leaves): -1 / (trees * steps of a level * c(ψ)).
    pub gain: f32,
    /// 44: zero.
    pub reserved: u32,
}
