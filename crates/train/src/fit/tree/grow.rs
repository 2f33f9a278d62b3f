//! Growth of one classification tree on binned rows (Breiman, Friedman, Olshen and Stone 1984,
//! chapter 4: Gini's criterion).
//!
//! A node counts the classes of each bin of a few random features and splits between two bins. Each
//! node looks at other features, so that nothing of a parent's counts could be reused for a child.
//! In small nodes a bit map tells which bins are taken, so that their order costs no sorting and
//! empty bins cost nothing.

use super::bins::BINS;
use super::{Bins, Node, Tree};
use crate::random::Random;

/// Features whose counts are taken in one pass over the rows of a node.
const GROUP: usize = 4;
/// Nodes with fewer rows visit only the bins that are taken.
const SMALL_ROWS: usize = 1_024;

/// When and how a node splits.
#[derive(Clone, Copy, Debug)]
pub(in crate::fit) struct ClassifierRules<'a> {
    /// Features that a split looks at.
    pub(in crate::fit) features_per_split: usize,
    /// Depth of the deepest leaf.
    pub(in crate::fit) max_depth: usize,
    /// Fewer rows are not split.
    pub(in crate::fit) min_rows_to_split: usize,
    /// Rows on either side of a split.
    pub(in crate::fit) min_rows_in_leaf: usize,
    /// The weight of a row of each class.
    pub(in crate::fit) class_weights: &'a [f64],
}

/// Grows a tree on rows drawn with replacement; its leaves hold the weighted share of each class.
pub(in crate::fit) fn grow_classifier(
    bins: &Bins,
    classes: &[u8],
    rules: &ClassifierRules<'_>,
    random: Random,
) -> Tree {
    match rules.class_weights.len() {
        ..=2 => Growth::<2>::new(bins, classes, rules, random).grow(),
        3..=4 => Growth::<4>::new(bins, classes, rules, random).grow(),
        5..=8 => Growth::<8>::new(bins, classes, rules, random).grow(),
        _ => Growth::<16>::new(bins, classes, rules, random).grow(),
    }
}

/// A drawn row.
#[derive(Clone, Copy, Default)]
struct Drawn {
    row: u32,
    /// How often it was drawn, above the byte that holds its class.
    times_and_class: u32,
}

impl Drawn {
    fn times(self) -> u32 {
        self.times_and_class >> 8
    }

    fn class<const C: usize>(self) -> usize {
        // C is a power of two above every class.
        self.times_and_class as usize & (C - 1)
    }
}

type Histogram<const C: usize> = [[u32; C]; BINS];

/// A part of the drawn rows that becomes a node.
struct Task<const C: usize> {
    start: usize,
    end: usize,
    depth: usize,
    counts: [u32; C],
    /// The parent whose right child it is.
    right_of: Option<usize>,
}

#[derive(Clone, Copy)]
struct Split<const C: usize> {
    gain: f64,
    feature: usize,
    /// Rows up to this bin go to the left.
    bin: usize,
    left: [u32; C],
}

struct Growth<'a, const C: usize> {
    bins: &'a Bins,
    rules: &'a ClassifierRules<'a>,
    weights: [f64; C],
    random: Random,
    drawn: Vec<Drawn>,
    scratch: Vec<Drawn>,
    histograms: Box<[Histogram<C>; GROUP]>,
    /// All zero between two searches.
    small_histogram: Box<Histogram<C>>,
    /// All features; the first are those that a node looks at.
    order: Vec<u32>,
    tree: Tree,
}

impl<'a, const C: usize> Growth<'a, C> {
    fn new(
        bins: &'a Bins,
        classes: &[u8],
        rules: &'a ClassifierRules<'a>,
        mut random: Random,
    ) -> Self {
        let mut times = vec![0_u32; classes.len()];
        for _ in 0..classes.len() {
            // Below the number of rows, which a fit holds to 32 bits.
            times[random.below(classes.len() as u32) as usize] += 1;
        }
        let rows = times.iter().zip(classes).zip(0..);
        let drawn: Vec<Drawn> = rows
            .filter(|((times, _), _)| **times > 0)
            .map(|((times, class), row)| Drawn {
                row,
                times_and_class: times << 8 | u32::from(*class),
            })
            .collect();
        let mut weights = [0.0; C];
        for (weight, of_class) in weights.iter_mut().zip(rules.class_weights) {
            *weight = *of_class;
        }
        Self {
            bins,
            rules,
            weights,
            random,
            scratch: vec![Drawn::default(); drawn.len()],
            drawn,
            histograms: Box::new([[[0; C]; BINS]; GROUP]),
            small_histogram: Box::new([[0; C]; BINS]),
            // A vector has at most 4,096 features.
            order: (0..bins.width as u32).collect(),
            tree: Tree::default(),
        }
    }

    fn grow(mut self) -> Tree {
        let mut counts = [0; C];
        for drawn in &self.drawn {
            counts[drawn.class::<C>()] += drawn.times();
        }
        let (start, end) = (0, self.drawn.len());
        let mut stack = vec![Task { start, end, depth: 0, counts, right_of: None }];
        while let Some(task) = stack.pop() {
            let place = self.tree.nodes.len();
            if let Some(parent) = task.right_of {
                self.tree.nodes[parent].right = place as u32;
            }
            let Some(split) = self.split(&task) else {
                self.leaf(&task);
                continue;
            };
            self.tree.nodes.push(Node {
                feature: split.feature as u32,
                threshold: self.bins.edges[split.feature][split.bin],
                left: place as u32 + 1,
                right: 0,
            });
            let middle = task.start + self.partition(&task, &split);
            let mut right = task.counts;
            for (right, left) in right.iter_mut().zip(split.left) {
                *right -= left;
            }
            let depth = task.depth + 1;
            let Task { start, end, .. } = task;
            let right_of = Some(place);
            stack.push(Task { start: middle, end, depth, counts: right, right_of });
            stack.push(Task { start, end: middle, depth, counts: split.left, right_of: None });
        }
        self.tree
    }

    fn leaf(&mut self, task: &Task<C>) {
        let class_count = self.rules.class_weights.len();
        let index = self.tree.values.len() / class_count;
        self.tree.nodes.push(Node::leaf(index as u32));
        let counts = task.counts.iter().zip(&self.weights).take(class_count);
        let weights = counts.map(|(count, weight)| f64::from(*count) * weight);
        let total: f64 = weights.clone().sum();
        self.tree.values.extend(weights.map(|weight| weight / total));
    }

    /// Finds the best split of a node among random features; none where it becomes a leaf.
    fn split(&mut self, task: &Task<C>) -> Option<Split<C>> {
        let rules = self.rules;
        let total: u32 = task.counts.iter().sum();
        let is_pure = task.counts.contains(&total);
        if is_pure || task.depth >= rules.max_depth || (total as usize) < rules.min_rows_to_split {
            return None;
        }
        let mut best = None;
        let mut looked = 0;
        // Features that are the same in all rows are passed over once too few others were drawn, as
        // scikit-learn does.
        while looked < self.order.len() && (looked < rules.features_per_split || best.is_none()) {
            let wanted = if looked < rules.features_per_split {
                (rules.features_per_split - looked).min(GROUP)
            } else {
                1
            };
            let count = wanted.min(self.order.len() - looked);
            for place in looked..looked + count {
                let other = place + self.random.below((self.order.len() - place) as u32) as usize;
                self.order.swap(place, other);
            }
            let mut features = [0; GROUP];
            for (feature, of_order) in features.iter_mut().zip(&self.order[looked..looked + count])
            {
                *feature = *of_order as usize;
            }
            looked += count;
            if task.end - task.start < SMALL_ROWS {
                for feature in &features[..count] {
                    self.search_small(task, *feature, &mut best);
                }
            } else {
                self.search_large(task, &features[..count], &mut best);
            }
        }
        best
    }

    fn search_large(&mut self, task: &Task<C>, features: &[usize], best: &mut Option<Split<C>>) {
        for histogram in self.histograms.iter_mut().take(features.len()) {
            *histogram = [[0; C]; BINS];
        }
        let rows = &self.drawn[task.start..task.end];
        match *features {
            [a, b, c, d] => count_classes(self.bins, rows, [a, b, c, d], &mut self.histograms[..]),
            [a, b, c] => count_classes(self.bins, rows, [a, b, c], &mut self.histograms[..]),
            [a, b] => count_classes(self.bins, rows, [a, b], &mut self.histograms[..]),
            _ => {
                for (feature, histogram) in features.iter().zip(self.histograms.iter_mut()) {
                    let histogram = core::slice::from_mut(histogram);
                    count_classes(self.bins, rows, [*feature], histogram);
                }
            }
        }
        for (feature, histogram) in features.iter().zip(self.histograms.iter()) {
            let mut scan = Scan::new(task, self.rules, &self.weights, *feature);
            for (bin, counts) in histogram.iter().enumerate() {
                if *counts != [0; C] {
                    scan.visit(bin, counts, best);
                }
            }
        }
    }

    fn search_small(&mut self, task: &Task<C>, feature: usize, best: &mut Option<Split<C>>) {
        let histogram = &mut self.small_histogram;
        let mut taken = [0_u64; BINS / 64];
        for drawn in &self.drawn[task.start..task.end] {
            let bin = self.bins.bins[drawn.row as usize * self.bins.width + feature];
            histogram[usize::from(bin)][drawn.class::<C>()] += drawn.times();
            taken[usize::from(bin >> 6)] |= 1 << (bin & 63);
        }
        let mut scan = Scan::new(task, self.rules, &self.weights, feature);
        for (word, mut bits) in taken.into_iter().enumerate() {
            while bits != 0 {
                let bin = 64 * word + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let counts = core::mem::replace(&mut histogram[bin], [0; C]);
                scan.visit(bin, &counts, best);
            }
        }
    }

    /// Brings the rows of the left child before those of the right one and returns their number;
    /// both stay in the order of the table.
    fn partition(&mut self, task: &Task<C>, split: &Split<C>) -> usize {
        let rows = &mut self.drawn[task.start..task.end];
        let scratch = &mut self.scratch[..rows.len()];
        let (mut left, mut right) = (0, 0);
        for index in 0..rows.len() {
            let drawn = rows[index];
            let bin = self.bins.bins[drawn.row as usize * self.bins.width + split.feature];
            let to_left = usize::from(bin) <= split.bin;
            // Both are written and one is kept, as a branch would be foreseen half of the time.
            rows[left] = drawn;
            scratch[right] = drawn;
            left += usize::from(to_left);
            right += usize::from(!to_left);
        }
        rows[left..].copy_from_slice(&scratch[..right]);
        left
    }
}

/// Counts the classes in each bin of several features.
fn count_classes<const C: usize, const N: usize>(
    bins: &Bins,
    rows: &[Drawn],
    features: [usize; N],
    histograms: &mut [Histogram<C>],
) {
    let Some(histograms) = histograms.first_chunk_mut::<N>() else { return };
    for drawn in rows {
        let row = &bins.bins[drawn.row as usize * bins.width..][..bins.width];
        let (class, times) = (drawn.class::<C>(), drawn.times());
        for (feature, histogram) in features.iter().zip(histograms.iter_mut()) {
            histogram[usize::from(row[*feature])][class] += times;
        }
    }
}

/// Goes through the bins of a feature that are taken and keeps the best split.
struct Scan<'a, const C: usize> {
    counts: &'a [u32; C],
    rules: &'a ClassifierRules<'a>,
    weights: &'a [f64; C],
    feature: usize,
    left: [u32; C],
    last_bin: Option<usize>,
}

impl<'a, const C: usize> Scan<'a, C> {
    fn new(
        task: &'a Task<C>,
        rules: &'a ClassifierRules<'a>,
        weights: &'a [f64; C],
        feature: usize,
    ) -> Self {
        Self { counts: &task.counts, rules, weights, feature, left: [0; C], last_bin: None }
    }

    /// Judges the split between the bin before and this one.
    #[inline(always)]
    fn visit(&mut self, bin: usize, counts: &[u32; C], best: &mut Option<Split<C>>) {
        if let Some(last) = self.last_bin
            && let Some(gain) = self.gain()
            && best.is_none_or(|best| gain > best.gain)
        {
            // In the middle of the empty bins between the two.
            let bin = usize::midpoint(last, bin - 1);
            *best = Some(Split { gain, feature: self.feature, bin, left: self.left });
        }
        for (left, count) in self.left.iter_mut().zip(counts) {
            *left += count;
        }
        self.last_bin = Some(bin);
    }

    /// The sum of squared class weights over the weight, of both sides: the greater it is, the less
    /// impure they are by Gini's measure. None where a side has too few rows.
    #[inline(always)]
    fn gain(&self) -> Option<f64> {
        let mut rows = [0_u32; 2];
        let (mut totals, mut squares) = ([0.0; 2], [0.0; 2]);
        for class in 0..C {
            let left = self.left[class];
            for (side, count) in [left, self.counts[class] - left].into_iter().enumerate() {
                let weight = f64::from(count) * self.weights[class];
                rows[side] += count;
                totals[side] += weight;
                squares[side] += weight * weight;
            }
        }
        let least = rows[0].min(rows[1]) as usize;
        (least >= self.rules.min_rows_in_leaf)
            .then(|| (squares[0] * totals[1] + squares[1] * totals[0]) / (totals[0] * totals[1]))
    }
}
