//! The random forest model: [`RandomForestHeader`], then what [`super::trees`] describes.
//!
//! A leaf record holds the weights of classes 1, 2, ... (class 0 is normal and has the rest); the
//! weights of all classes are 2^`weight_bits` together.

use bytemuck::{Pod, Zeroable};

use super::trees::TreesHeader;

/// The start of a random forest.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct RandomForestHeader {
    /// 0: the trees.
    pub trees: TreesHeader,
    /// 40: how many classes; the first is normal.
    pub class_count: u32,
    /// 44: the weight of a leaf is 2 to this power, and that of all trees at most 2^31.
    pub weight_bits: u32,
}
