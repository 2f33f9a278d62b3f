//! The random forest, which learns from labels.
//!
//! Breiman 2001, "Random Forests", with the soft vote, the criterion and the defaults of scikit-learn,
//! but over features cut into at most 256 bins.

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use stonechat_core::detector::format::random_forest::RandomForestHeader;
use stonechat_core::detector::{EngineKind, RandomForest};
use stonechat_core::limits::{FOREST_CLASSES_MAX, TREES_MAX};

use super::tree::{
    Bins, ClassifierRules, ForestError, Tree, append_trees, check_trees, each_index, each_row,
    grow_classifier, words,
};
use super::{Fit, FitError, FittedModel, Progress, TrainingData};
use crate::compile::Model;
use crate::limits::FIT_ROWS_MAX;
use crate::random::Random;
use crate::rows::Rows;

/// How to fit the random forest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomForestOptions {
    /// How many trees vote.
    pub trees: usize,
    /// Depth of the deepest leaf; none grows until every leaf has one class.
    pub max_depth: Option<usize>,
    /// Features that a split looks at; none takes the square root of their number.
    pub features_per_split: Option<usize>,
    /// Nodes with fewer rows are not split. Rows count as often as they were drawn.
    pub min_rows_to_split: usize,
    /// Rows on either side of a split.
    pub min_rows_in_leaf: usize,
    /// What a row weighs.
    pub class_weights: ClassWeights,
    /// Decides the rows of each tree and the features of each split.
    pub seed: u64,
}

/// What a row weighs in splits and votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClassWeights {
    /// Every row as much as another.
    Equal,
    /// Every class as much as another, so that rare anomalies are not outvoted.
    Balanced,
}

impl Default for RandomForestOptions {
    /// scikit-learn's, but no deeper than a chip can hold.
    fn default() -> Self {
        Self {
            trees: 100,
            max_depth: Some(10),
            features_per_split: None,
            min_rows_to_split: 2,
            min_rows_in_leaf: 1,
            class_weights: ClassWeights::Equal,
            seed: 1,
        }
    }
}

impl Fit for RandomForestOptions {
    fn fit(
        &self,
        data: &TrainingData<'_>,
        _progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError> {
        let labels = data.labels.ok_or(ForestError::NoLabels)?;
        let classes: Vec<u8> = labels.iter().map(|anomalous| u8::from(*anomalous)).collect();
        Ok(fit_classes(data.rows, &classes, self, data.threads)?.encode().into())
    }
}

/// Fits a forest to classes; class 0 is normal. Every class up to the greatest has a row.
///
/// The same rows, options and seed give the same forest on any number of threads.
///
/// # Errors
/// When rows and classes do not fit together, a class has no row, or an option is out of range.
pub fn fit_classes(
    rows: Rows<'_>,
    classes: &[u8],
    options: &RandomForestOptions,
    threads: usize,
) -> Result<RandomForestModel, FitError> {
    let counts = check_classes(rows, classes)?;
    check_options(options, rows.width())?;
    let class_weights: Vec<f64> = match options.class_weights {
        ClassWeights::Equal => vec![1.0; counts.len()],
        ClassWeights::Balanced => {
            counts.iter().map(|count| rows.len() as f64 / (counts.len() * count) as f64).collect()
        }
    };
    let rules = ClassifierRules {
        features_per_split: options
            .features_per_split
            .unwrap_or_else(|| rows.width().isqrt())
            .max(1),
        max_depth: options.max_depth.unwrap_or(usize::MAX),
        min_rows_to_split: options.min_rows_to_split,
        min_rows_in_leaf: options.min_rows_in_leaf,
        class_weights: &class_weights,
    };
    let bins = Bins::new(rows, threads);
    let trees = each_index(options.trees, threads, |tree| {
        grow_classifier(&bins, classes, &rules, Random::stream(options.seed, tree as u64))
    });
    Ok(RandomForestModel { vector_len: rows.width(), class_count: counts.len(), trees })
}

/// Returns the rows of each class.
fn check_classes(rows: Rows<'_>, classes: &[u8]) -> Result<Vec<usize>, FitError> {
    if rows.len() != classes.len() {
        return Err(ForestError::Labels { rows: rows.len(), labels: classes.len() }.into());
    }
    if rows.len() > FIT_ROWS_MAX {
        return Err(FitError::TooManyRows { rows: rows.len() });
    }
    let mut counts = vec![0_usize; 2];
    for (row, class) in classes.iter().enumerate() {
        let index = usize::from(*class);
        if index >= FOREST_CLASSES_MAX {
            return Err(ForestError::Class { row, class: *class }.into());
        }
        if index >= counts.len() {
            counts.resize(index + 1, 0);
        }
        counts[index] += 1;
    }
    match counts.iter().position(|count| *count == 0) {
        None => Ok(counts),
        Some(missing) => Err(missing_class(&counts, missing).into()),
    }
}

fn missing_class(counts: &[usize], missing: usize) -> ForestError {
    let name = |class: usize| match (class, counts.len()) {
        (0, _) => "normal".to_owned(),
        (_, 2) => "anomalous".to_owned(),
        _ => format!("of class {class}"),
    };
    let found = (0..counts.len()).filter(|class| counts[*class] > 0).map(name);
    let found = found.collect::<Vec<_>>().join(" or ");
    ForestError::SingleClass { rows: counts.iter().sum(), found, missing: name(missing) }
}

fn check_options(options: &RandomForestOptions, width: usize) -> Result<(), FitError> {
    let refuse =
        |option, value: usize, range| Err(FitError::Option { option, value: value as f64, range });
    if !(1..=TREES_MAX).contains(&options.trees) {
        return refuse("trees", options.trees, "1 to 4096");
    }
    if options.max_depth == Some(0) {
        return refuse("max_depth", 0, "at least 1, or none");
    }
    if let Some(features) = options.features_per_split
        && !(1..=width).contains(&features)
    {
        return refuse("features_per_split", features, "1 to the number of features, or none");
    }
    if options.min_rows_to_split < 2 {
        return refuse("min_rows_to_split", options.min_rows_to_split, "at least 2");
    }
    if options.min_rows_in_leaf == 0 {
        return refuse("min_rows_in_leaf", 0, "at least 1");
    }
    Ok(())
}

/// A fitted random forest. The values of a leaf are the shares of each class.
#[derive(Clone, Debug, PartialEq)]
pub struct RandomForestModel {
    vector_len: usize,
    class_count: usize,
    trees: Vec<Tree>,
}

impl RandomForestModel {
    /// Takes trees over, of our own or another library's making.
    ///
    /// # Errors
    /// When a tree does not hold together.
    pub fn new(
        vector_len: usize,
        class_count: usize,
        trees: Vec<Tree>,
    ) -> Result<Self, ForestError> {
        if !(2..=FOREST_CLASSES_MAX).contains(&class_count) {
            return Err(ForestError::Size);
        }
        check_trees(&trees, vector_len, class_count)?;
        for (index, tree) in trees.iter().enumerate() {
            let mut leaves = tree.values.chunks_exact(class_count);
            if leaves.any(|shares| (shares.iter().sum::<f64>() - 1.0).abs() > 1e-6) {
                let what = "the shares of the classes must have the sum 1";
                return Err(ForestError::Tree { tree: index, node: 0, what });
            }
        }
        Ok(Self { vector_len, class_count, trees })
    }

    /// Numbers of the feature vector.
    #[must_use]
    pub fn vector_len(&self) -> usize {
        self.vector_len
    }

    /// How many classes it tells apart.
    #[must_use]
    pub fn class_count(&self) -> usize {
        self.class_count
    }

    /// The trees.
    #[must_use]
    pub fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// Lays the forest out as the detector file holds it.
    ///
    /// The vote of a tree is rounded to a whole number of 2^-b, with the greatest b that lets the sum
    /// over all trees fit: 24 for 100 trees.
    #[must_use]
    pub fn encode(&self) -> Model {
        Model::new(EngineKind::RandomForest, self.bytes())
    }

    fn bytes(&self) -> Vec<u8> {
        let weight_bits = 31 - self.trees.len().next_power_of_two().ilog2();
        let mut bytes = vec![0; size_of::<RandomForestHeader>()];
        let trees = append_trees(
            &mut bytes,
            &self.trees,
            self.vector_len,
            self.class_count,
            |shares, record| round_shares(shares, weight_bits, record),
        );
        // At most 16 classes.
        let class_count = self.class_count as u32;
        let header = RandomForestHeader { trees, class_count, weight_bits };
        bytes[..size_of::<RandomForestHeader>()].copy_from_slice(bytemuck::bytes_of(&header));
        bytes
    }

    /// The model as [`RandomForest::load`] reads it.
    #[must_use]
    pub fn words(&self) -> Vec<u32> {
        words(&self.bytes())
    }

    /// The length of the model in a detector file, in bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.bytes().len()
    }

    /// Classifies rows with the core, on up to `threads` threads.
    ///
    /// # Errors
    /// When the core refuses the forest.
    pub fn classify(&self, rows: Rows<'_>, threads: usize) -> Result<Vec<u8>, ForestError> {
        self.run(rows, threads, |forest, row, memory, classes| {
            classes.push(forest.classify(row, memory));
        })
    }

    /// Scores rows with the core: the share of the vote that is not for class 0.
    ///
    /// # Errors
    /// When the core refuses the forest.
    pub fn score(&self, rows: Rows<'_>, threads: usize) -> Result<Vec<f32>, ForestError> {
        self.run(rows, threads, |forest, row, memory, scores| {
            scores.push(forest.score(row, memory));
        })
    }

    /// The share of the vote that each class has, `[rows][classes]`, by the core.
    ///
    /// # Errors
    /// When the core refuses the forest.
    pub fn shares(&self, rows: Rows<'_>, threads: usize) -> Result<Vec<f32>, ForestError> {
        self.run(rows, threads, |forest, row, memory, shares| {
            let votes = forest.votes(row, memory);
            let total = f64::from(forest.vote_total());
            let votes = votes.iter().take(forest.class_count());
            shares.extend(votes.map(|votes| (f64::from(*votes) / total) as f32));
        })
    }

    fn run<T: Send>(
        &self,
        rows: Rows<'_>,
        threads: usize,
        compute: impl Fn(&RandomForest<'_>, &[f32], &mut [u32], &mut Vec<T>) + Sync,
    ) -> Result<Vec<T>, ForestError> {
        let words = self.words();
        let forest = RandomForest::load(bytemuck::cast_slice(&words), self.vector_len)
            .map_err(ForestError::Rejected)?;
        Ok(each_row(rows, threads, forest.memory_words(), |row, memory, results| {
            compute(&forest, row, memory, results);
        }))
    }
}

/// Appends the weights of all classes but the first, which gets what is left: all of them are
/// 2^`weight_bits` together.
fn round_shares(shares: &[f64], weight_bits: u32, record: &mut Vec<u32>) {
    let whole = 1_u32 << weight_bits;
    let mut rest = whole;
    for share in &shares[1..] {
        // The cast saturates; a share may exceed 1 by a rounding.
        let weight = ((share * f64::from(whole)).round_ties_even() as u32).min(rest);
        rest -= weight;
        record.push(weight);
    }
}
