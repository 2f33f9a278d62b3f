//! Rows as bins: each feature cut into at most 256 intervals of about as many rows.

use stonechat_core::detector::format::trees::order_key;

use super::each_index;
use crate::rows::Rows;

/// Most bins of a feature, so that a bin fits a byte.
pub(super) const BINS: usize = 256;
/// Most rows from which the edges are taken.
const EDGE_ROWS_MAX: usize = 50_000;

/// The edges of one feature, ascending: x lies in bin b where exactly b edges are below x.
pub(super) type Edges = Vec<f32>;

/// A table of bins.
#[derive(Debug)]
pub(in crate::fit) struct Bins {
    /// `[rows][width]`: a split looks at a few features of every row, which then share a cache line.
    pub(super) bins: Vec<u8>,
    pub(super) width: usize,
    /// One for each feature.
    pub(super) edges: Vec<Edges>,
}

impl Bins {
    /// Cuts every feature at quantiles of evenly spaced rows, or between all its values where they are few.
    pub(in crate::fit) fn new(rows: Rows<'_>, threads: usize) -> Self {
        let width = rows.width();
        let edges = each_index(width, threads, |feature| edges(rows, feature));
        let keys: Vec<[i32; BINS - 1]> = edges
            .iter()
            .map(|edges| {
                // Above every number, so that a search has a fixed number of steps.
                let mut keys = [i32::MAX; BINS - 1];
                for (key, edge) in keys.iter_mut().zip(edges) {
                    *key = order_key(*edge);
                }
                keys
            })
            .collect();
        const CHUNK_ROWS: usize = 4_096;
        let chunks = each_index(rows.len().div_ceil(CHUNK_ROWS), threads, |chunk| {
            let end = rows.len().min((chunk + 1) * CHUNK_ROWS);
            let mut bins = Vec::with_capacity((end - chunk * CHUNK_ROWS) * width);
            for row in chunk * CHUNK_ROWS..end {
                let values = rows.row(row).iter().zip(&keys);
                bins.extend(values.map(|(x, keys)| bin(order_key(*x), keys)));
            }
            bins
        });
        Self { bins: chunks.concat(), width, edges }
    }
}

/// Counts the edges below x: a binary search of eight steps without branches.
fn bin(key: i32, keys: &[i32; BINS - 1]) -> u8 {
    let mut below = 0;
    for step in [128, 64, 32, 16, 8, 4, 2, 1] {
        // Written so that it needs no branch, which would be foreseen half of the time.
        below += step * usize::from(keys[below + step - 1] < key);
    }
    // At most 255: the sum of the steps.
    below as u8
}

fn edges(rows: Rows<'_>, feature: usize) -> Edges {
    let stride = rows.len().div_ceil(EDGE_ROWS_MAX);
    let picked = (0..rows.len()).step_by(stride);
    // -0 becomes +0, so that an edge is never -0.
    let mut values: Vec<f32> = picked.map(|row| rows.row(row)[feature] + 0.0).collect();
    values.sort_unstable_by(f32::total_cmp);
    let count = values.len();
    let mut distinct = values.clone();
    distinct.dedup();
    if distinct.len() <= BINS {
        return distinct.windows(2).map(|pair| between(pair[0], pair[1])).collect();
    }
    let mut edges = Vec::with_capacity(BINS - 1);
    for index in 1..BINS {
        let at = index * count / BINS;
        let (low, high) = (values[at - 1], values[at]);
        // Equal neighbours belong into one bin: the edge goes above them.
        let edge = if low < high {
            between(low, high)
        } else {
            let above = values.partition_point(|value| *value <= high);
            match values.get(above) {
                Some(next) => between(high, *next),
                None => continue,
            }
        };
        if edges.last().is_none_or(|last| *last < edge) {
            edges.push(edge);
        }
    }
    edges
}

/// The middle of two ascending numbers, not less than the first and less than the second.
fn between(low: f32, high: f32) -> f32 {
    let middle = low + (high - low) * 0.5 + 0.0;
    if middle >= low && middle < high { middle } else { low }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_are_cut_in_their_middles() {
        let values = [3.0, -1.0, 3.0, 0.0, -0.0, 7.0];
        let bins = Bins::new(Rows::new(&values, 1).unwrap(), 1);
        assert_eq!(bins.edges, [[-0.5, 1.5, 5.0]]);
        assert_eq!(bins.bins, [2, 0, 2, 1, 1, 3]);
    }

    #[test]
    fn a_bin_counts_the_edges_below() {
        let values: Vec<f32> = (0..5_000).map(|index| ((index * 7_919) % 5_000) as f32).collect();
        let rows = Rows::new(&values, 2).unwrap();
        let bins = Bins::new(rows, 2);
        for (index, row) in rows.iter().enumerate() {
            for (feature, x) in row.iter().enumerate() {
                let below = bins.edges[feature].iter().filter(|edge| *edge < x).count();
                assert_eq!(usize::from(bins.bins[2 * index + feature]), below);
            }
        }
        let mut rows_of_bin = [0; BINS];
        for bin in bins.bins.chunks(2) {
            rows_of_bin[usize::from(bin[0])] += 1;
        }
        assert!(rows_of_bin.iter().all(|rows| (9..=11).contains(rows)), "{rows_of_bin:?}");
    }

    #[test]
    fn a_heavy_value_has_a_bin_of_its_own() {
        let values: Vec<f32> =
            (0..4_000).map(|index| if index % 2 == 0 { 0.0 } else { index as f32 }).collect();
        let bins = Bins::new(Rows::new(&values, 1).unwrap(), 1);
        assert_eq!(bins.edges[0][0], 0.5);
        assert!(bins.edges[0].is_sorted_by(|a, b| a < b));
    }
}
