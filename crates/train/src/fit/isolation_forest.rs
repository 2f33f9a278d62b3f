//! The isolation forest, after Liu, Ting and Zhou 2008, "Isolation Forest".

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use stonechat_core::detector::format::isolation_forest::IsolationForestHeader;
use stonechat_core::detector::{EngineKind, IsolationForest};
use stonechat_core::limits::TREES_MAX;

use super::tree::{
    ForestError, Node, Tree, append_trees, check_trees, each_index, each_row, words,
};
use super::{Fit, FitError, FittedModel, Progress, TrainingData};
use crate::compile::Model;
use crate::limits::FIT_ROWS_MAX;
use crate::random::Random;
use crate::rows::Rows;

/// Fewest rows that a tree can be grown on.
const ROWS_MIN: usize = 2;
/// Most rows of one tree.
const TREE_ROWS_MAX: usize = 65_536;

/// How to fit the isolation forest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IsolationForestOptions {
    /// How many trees isolate.
    pub trees: usize,
    /// ψ: rows drawn for each tree without replacement; all where there are fewer.
    pub rows_per_tree: usize,
    /// Decides rows, features and thresholds.
    pub seed: u64,
}

impl Default for IsolationForestOptions {
    /// The paper's.
    fn default() -> Self {
        Self { trees: 100, rows_per_tree: 256, seed: 1 }
    }
}

impl Fit for IsolationForestOptions {
    fn fit(
        &self,
        data: &TrainingData<'_>,
        _progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError> {
        Ok(fit_isolation_forest(data.rows, self, data.threads)?.encode().into())
    }
}

/// Fits an isolation forest to rows, nearly all of which are normal.
///
/// The same rows, options and seed give the same forest on any number of threads.
///
/// # Errors
/// When there are too few rows, or an option is out of range.
pub fn fit_isolation_forest(
    rows: Rows<'_>,
    options: &IsolationForestOptions,
    threads: usize,
) -> Result<IsolationForestModel, FitError> {
    let refuse =
        |option, value: usize, range| Err(FitError::Option { option, value: value as f64, range });
    if !(1..=TREES_MAX).contains(&options.trees) {
        return refuse("trees", options.trees, "1 to 4096");
    }
    if !(ROWS_MIN..=TREE_ROWS_MAX).contains(&options.rows_per_tree) {
        return refuse("rows_per_tree", options.rows_per_tree, "2 to 65536");
    }
    if rows.len() < ROWS_MIN {
        return Err(ForestError::TooFewRows { rows: rows.len(), needed: ROWS_MIN }.into());
    }
    if rows.len() > FIT_ROWS_MAX {
        return Err(FitError::TooManyRows { rows: rows.len() });
    }
    let rows_per_tree = options.rows_per_tree.min(rows.len());
    let trees = each_index(options.trees, threads, |tree| {
        let mut random = Random::stream(options.seed, tree as u64);
        let drawn = draw(rows.len(), rows_per_tree, &mut random);
        grow(rows, drawn, &mut random)
    });
    Ok(IsolationForestModel { vector_len: rows.width(), rows_per_tree, trees })
}

/// Draws `count` of `len` rows without replacement (Floyd's algorithm; Bentley 1987, "A Sample of
/// Brilliance").
fn draw(len: usize, count: usize, random: &mut Random) -> Vec<u32> {
    let mut drawn = std::collections::HashSet::with_capacity(count);
    let mut order = Vec::with_capacity(count);
    for last in len - count..len {
        // A fit holds the number of rows to 32 bits.
        let row = random.below(last as u32 + 1);
        let row = if drawn.insert(row) { row } else { last as u32 };
        drawn.insert(row);
        order.push(row);
    }
    order
}

/// A part of the drawn rows that becomes a node.
struct Task {
    start: usize,
    end: usize,
    depth: usize,
    right_of: Option<usize>,
}

/// Grows a tree: each node cuts a random feature at random, until its rows are alone, all the same,
/// or as deep as ψ rows are on average.
fn grow(rows: Rows<'_>, mut drawn: Vec<u32>, random: &mut Random) -> Tree {
    let depth_max = drawn.len().next_power_of_two().ilog2() as usize;
    let mut tree = Tree::default();
    // A vector has at most 4,096 features.
    let mut order: Vec<u32> = (0..rows.width() as u32).collect();
    let mut stack = vec![Task { start: 0, end: drawn.len(), depth: 0, right_of: None }];
    while let Some(Task { start, end, depth, right_of }) = stack.pop() {
        let place = tree.nodes.len();
        if let Some(parent) = right_of {
            let parent: &mut Node = &mut tree.nodes[parent];
            parent.right = place as u32;
        }
        let members = &mut drawn[start..end];
        let cut = if members.len() > 1 && depth < depth_max {
            random_cut(rows, members, &mut order, random)
        } else {
            None
        };
        let Some((feature, threshold)) = cut else {
            tree.nodes.push(Node::leaf(tree.values.len() as u32));
            tree.values.push(depth as f64 + mean_depth(members.len()));
            continue;
        };
        tree.nodes.push(Node { feature, threshold, left: place as u32 + 1, right: 0 });
        let middle = start + partition(rows, members, feature, threshold);
        let depth = depth + 1;
        stack.push(Task { start: middle, end, depth, right_of: Some(place) });
        stack.push(Task { start, end: middle, depth, right_of: None });
    }
    tree
}

/// Draws a feature that differs among the members, and a threshold between its least and greatest value.
fn random_cut(
    rows: Rows<'_>,
    members: &[u32],
    order: &mut [u32],
    random: &mut Random,
) -> Option<(u32, f32)> {
    for place in 0..order.len() {
        let other = place + random.below((order.len() - place) as u32) as usize;
        order.swap(place, other);
        let feature = order[place];
        let values = members.iter().map(|row| rows.row(*row as usize)[feature as usize]);
        let (least, greatest) = values.fold((f32::MAX, f32::MIN), |(least, greatest), value| {
            (least.min(value), greatest.max(value))
        });
        if least < greatest {
            // In f64, where the difference of two f32 does not overflow.
            let threshold = random.between(f64::from(least), f64::from(greatest)) as f32;
            let threshold = if threshold < greatest { threshold.max(least) } else { least };
            return Some((feature, threshold));
        }
    }
    None
}

fn partition(rows: Rows<'_>, members: &mut [u32], feature: u32, threshold: f32) -> usize {
    let mut left = 0;
    for index in 0..members.len() {
        if rows.row(members[index] as usize)[feature as usize] <= threshold {
            members.swap(left, index);
            left += 1;
        }
    }
    left
}

/// c(n): the mean depth of a random binary search tree of n rows (equation 1 of the paper, with
/// H(i) = ln i + Euler's constant, and exactly 1 for two rows, as scikit-learn has it).
fn mean_depth(rows: usize) -> f64 {
    /// Euler's constant.
    const EULER: f64 = 0.577_215_664_901_532_9;
    match rows {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => {
            let n = rows as f64;
            // One logarithm for all machines, so that the detector file has the same bytes.
            2.0 * (libm::log(n - 1.0) + EULER) - 2.0 * (n - 1.0) / n
        }
    }
}

/// A fitted isolation forest. The value of a leaf is its depth and the mean depth that its rows would
/// still need.
#[derive(Clone, Debug, PartialEq)]
pub struct IsolationForestModel {
    vector_len: usize,
    rows_per_tree: usize,
    trees: Vec<Tree>,
}

impl IsolationForestModel {
    /// Takes trees over that were grown on `rows_per_tree` rows each.
    ///
    /// # Errors
    /// When a tree does not hold together.
    pub fn new(
        vector_len: usize,
        rows_per_tree: usize,
        trees: Vec<Tree>,
    ) -> Result<Self, ForestError> {
        if rows_per_tree < ROWS_MIN {
            return Err(ForestError::TooFewRows { rows: rows_per_tree, needed: ROWS_MIN });
        }
        check_trees(&trees, vector_len, 1)?;
        Ok(Self { vector_len, rows_per_tree, trees })
    }

    /// Numbers of the feature vector.
    #[must_use]
    pub fn vector_len(&self) -> usize {
        self.vector_len
    }

    /// The trees.
    #[must_use]
    pub fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// Lays the forest out as the detector file holds it; depths are rounded to steps so small that
    /// their sum over all trees just fits 32 bits.
    #[must_use]
    pub fn encode(&self) -> Model {
        Model::new(EngineKind::IsolationForest, self.bytes())
    }

    fn bytes(&self) -> Vec<u8> {
        let deepest =
            self.trees.iter().flat_map(|tree| &tree.values).fold(1.0, |a: f64, b| a.max(*b));
        let trees = self.trees.len() as f64;
        let mut steps = 65_536.0;
        while steps > 1.0 && (deepest * steps + 1.0) * trees > f64::from(u32::MAX) {
            steps *= 0.5;
        }
        let mut bytes = vec![0; size_of::<IsolationForestHeader>()];
        let header = IsolationForestHeader {
            trees: append_trees(&mut bytes, &self.trees, self.vector_len, 1, |depth, record| {
                record.push((depth[0] * steps).round_ties_even() as u32);
            }),
            gain: (-1.0 / (trees * steps * mean_depth(self.rows_per_tree))) as f32,
            reserved: 0,
        };
        bytes[..size_of::<IsolationForestHeader>()].copy_from_slice(bytemuck::bytes_of(&header));
        bytes
    }

    /// The model as [`IsolationForest::load`] reads it.
    #[must_use]
    pub fn words(&self) -> Vec<u32> {
        words(&self.bytes())
    }

    /// The length of the model in a detector file, in bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.bytes().len()
    }

    /// Scores rows with the core, on up to `threads` threads.
    ///
    /// # Errors
    /// When the core refuses the forest.
    pub fn score(&self, rows: Rows<'_>, threads: usize) -> Result<Vec<f32>, ForestError> {
        let words = self.words();
        let forest = IsolationForest::load(bytemuck::cast_slice(&words), self.vector_len)
            .map_err(ForestError::Rejected)?;
        Ok(each_row(rows, threads, forest.memory_words(), |row, memory, scores| {
            scores.push(forest.score(row, memory));
        }))
    }
}
