//! Decision trees, as the random forest and the isolation forest hold them.
//!
//! A vector is quantised once: `rank(x)` is the number of the feature's thresholds below x, so that
//! `x <= threshold` holds exactly where the rank is at most the threshold's index. Nodes then compare
//! small integers only. Leaves take no node: the node above refers to their record.
//!
//! The nodes of a tree stand in preorder; the left child, or the right one where the left is a leaf,
//! is the next node. A node is one word, or two where its fields need more room:
//!
//! | bits | field |
//! |---|---|
//! | 0.. (`feature_bits`) | index of the feature |
//! | then (`rank_bits`) | index of the threshold among those of the feature |
//! | up to 29 | the reference; in a node of two words the second word holds it |
//! | 30 | [`RIGHT_IS_LEAF`] |
//! | 31 | [`LEFT_IS_LEAF`]: the sign, which is the quickest to test |
//!
//! The reference means the record of the one leaf; with two leaves, the left one's record, which the
//! right one's follows; with none, the number of nodes below the left child, which stand between it
//! and the right child.

use bytemuck::{Pod, Zeroable};

/// The bit of a node whose left child is a leaf.
pub const LEFT_IS_LEAF: u32 = 1 << 31;
/// The bit of a node whose right child is a leaf.
pub const RIGHT_IS_LEAF: u32 = 1 << 30;
/// How many bits of a node the two marks take.
pub const MARK_BITS: u32 = 2;
/// The bit of a root that says: the tree is one leaf, and the other bits are its record.
pub const ROOT_IS_LEAF: u32 = 1 << 31;

/// The trees; offsets count from the start of the model.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct TreesHeader {
    /// 0: how many trees.
    pub tree_count: u32,
    /// 4: how many nodes, over all trees.
    pub node_count: u32,
    /// 8: how many thresholds, over all features.
    pub threshold_count: u32,
    /// 12: how many leaf records.
    pub leaf_count: u32,
    /// 16: `[tree_count]` of `u32`: the index of the root, or [`ROOT_IS_LEAF`] and a record.
    pub roots: u32,
    /// 20: `[vector_len + 1]` of `u32`: where the thresholds of a feature start, and where the last end.
    pub starts: u32,
    /// 24: `[threshold_count]` of `i32`: ascending [`order_key`]s.
    pub thresholds: u32,
    /// 28: `[node_count]` of one or two `u32`.
    pub nodes: u32,
    /// 32: `[leaf_count][numbers of a record]` of `u32`.
    pub leaves: u32,
    /// 36: bits of a threshold's index in a node.
    pub rank_bits: u8,
    /// 37: bits of a feature's index in a node.
    pub feature_bits: u8,
    /// 38: words of a node: 1 or 2.
    pub node_words: u8,
    /// 39: zero.
    pub reserved: u8,
}

/// Maps a number to an integer of the same order, so that a chip without floating point compares
/// quickly. Only -0 does not equal +0: no threshold may be -0.
#[inline(always)]
#[must_use]
pub const fn order_key(x: f32) -> i32 {
    let bits = x.to_bits().cast_signed();
    // Below zero a larger magnitude is a smaller number: all bits but the sign are turned round.
    bits ^ ((bits >> 31) & i32::MAX)
}
