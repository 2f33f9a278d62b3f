//! Decision trees: what the forests share.

mod bins;
mod encode;
mod grow;
mod pool;

pub(super) use bins::Bins;
pub(super) use encode::{append_trees, words};
pub(super) use grow::{ClassifierRules, grow_classifier};
pub(super) use pool::{each_index, each_row};

use serde::{Deserialize, Serialize};
use stonechat_core::detector::LoadError;
use stonechat_core::limits::{FEATURE_VECTOR_LEN_MAX, FOREST_CLASSES_MAX, TREES_MAX};
use thiserror::Error;

/// A node: a vector goes to the left where `vector[feature] <= threshold`, otherwise to the right.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The index of the feature, or [`Node::LEAF`].
    pub feature: u32,
    /// In scaled units.
    pub threshold: f32,
    /// The index of the left child, behind this node; in a leaf, the index of its value.
    pub left: u32,
    /// The index of the right child, behind this node.
    pub right: u32,
}

impl Node {
    /// The feature of a leaf.
    pub const LEAF: u32 = u32::MAX;

    /// Makes the leaf that holds a tree's value `index`.
    #[must_use]
    pub fn leaf(index: u32) -> Self {
        Self { feature: Self::LEAF, threshold: 0.0, left: index, right: 0 }
    }

    /// Tells whether it is a leaf.
    #[must_use]
    pub fn is_leaf(&self) -> bool {
        self.feature == Self::LEAF
    }
}

/// A decision tree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// The root stands first.
    pub nodes: Vec<Node>,
    /// What the leaves hold, `[leaves][numbers of a leaf]`.
    pub values: Vec<f64>,
}

/// Why a forest cannot be fitted or encoded.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ForestError {
    /// The model learns from labels, and there are none.
    #[error(
        "this kind of detector learns from labels, and the recording has none: label its anomalies, \
         or use an isolation forest, which needs none"
    )]
    NoLabels,
    /// Rows and labels differ in number.
    #[error("{rows} rows, but {labels} labels: each row needs its label")]
    Labels {
        /// Rows given.
        rows: usize,
        /// Labels given.
        labels: usize,
    },
    /// All rows have one label.
    #[error(
        "all {rows} rows are {found}, none is {missing}: a random forest learns from both; \
         add a recording with {missing} rows, or use an isolation forest, which learns from normal rows alone"
    )]
    SingleClass {
        /// Rows given.
        rows: usize,
        /// What all of them are.
        found: String,
        /// What is missing.
        missing: String,
    },
    /// A class is beyond what a detector file holds.
    #[error("row {row} is of class {class}, but a forest has classes 0 to {}", FOREST_CLASSES_MAX - 1)]
    Class {
        /// Counted from 0.
        row: usize,
        /// The class given.
        class: u8,
    },
    /// There are too few rows.
    #[error("{rows} rows are too few for a forest: give at least {needed}")]
    TooFewRows {
        /// Rows given.
        rows: usize,
        /// Rows needed.
        needed: usize,
    },
    /// A tree does not hold together.
    #[error("tree {tree}, node {node}: {what}")]
    Tree {
        /// Counted from 0.
        tree: usize,
        /// Counted from 0.
        node: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The forest has no or too many trees, features or classes.
    #[error(
        "a forest has 1 to {TREES_MAX} trees over 1 to {FEATURE_VECTOR_LEN_MAX} features and tells 2 to {FOREST_CLASSES_MAX} classes apart"
    )]
    Size,
    /// The core refuses the model.
    #[error("the core refuses the forest: {0}")]
    Rejected(LoadError),
}

/// Checks trees whose leaves hold `value_len` numbers each.
pub(super) fn check_trees(
    trees: &[Tree],
    vector_len: usize,
    value_len: usize,
) -> Result<(), ForestError> {
    let legal = (1..=TREES_MAX).contains(&trees.len())
        && (1..=FEATURE_VECTOR_LEN_MAX).contains(&vector_len);
    if !legal {
        return Err(ForestError::Size);
    }
    for (index, tree) in trees.iter().enumerate() {
        let refuse = |node, what| Err(ForestError::Tree { tree: index, node, what });
        if tree.nodes.is_empty() {
            return refuse(0, "a tree has at least a root");
        }
        if !tree.values.iter().all(|value| value.is_finite() && *value >= 0.0) {
            return refuse(0, "the values of the leaves must be finite and not negative");
        }
        for (at, node) in tree.nodes.iter().enumerate() {
            let behind = |child: u32| (at + 1..tree.nodes.len()).contains(&(child as usize));
            if node.is_leaf() {
                if (node.left as usize + 1) * value_len > tree.values.len() {
                    return refuse(at, "the leaf has no value");
                }
            } else if node.feature as usize >= vector_len {
                return refuse(at, "there is no such feature");
            } else if !node.threshold.is_finite() {
                return refuse(at, "the threshold must be finite");
            } else if !behind(node.left) || !behind(node.right) || node.left == node.right {
                return refuse(at, "its children must be two later nodes");
            }
        }
    }
    Ok(())
}

/// Returns the greatest f32 that is not above `threshold`.
///
/// scikit-learn compares an f32 with an f64 threshold; compared with this, every f32 goes the same way.
#[must_use]
pub fn threshold_at_most(threshold: f64) -> f32 {
    let nearest = threshold as f32;
    if f64::from(nearest) > threshold { nearest.next_down() } else { nearest }
}
