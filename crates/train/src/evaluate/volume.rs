//! Volumes under the surface (VUS-ROC, VUS-PR): areas under the curves, averaged over buffers around the labels.
//!
//! Source: J. Paparrizos et al., "Volume Under the Surface: A New Accuracy Evaluation Measure for Time-Series Anomaly
//! Detection", PVLDB 15(11), 2022, with the choices that the TSB-AD benchmark made in computing it: 250 thresholds at
//! evenly spaced ranks, buffers of 0 to the window, each reaching half its length to either side.
//!
//! A buffer of length b gives a row at distance d <= b/2 from a labelled interval the label sqrt(1 - d/b). For each
//! threshold, with "called" for rows at or above it:
//!   TP = sum of the labels of called rows; P = mean of the labelled rows and those plus the called part of the buffers;
//!   recall = min(TP / P, 1) * share of the intervals (with buffers; touching ones are one) that have a called row;
//!   FPR = (called - TP) / (rows - P); precision = TP / called.

use std::ops::Range;

use super::runs;
use crate::limits::VOLUME_WINDOW_MAX;

/// Thresholds of the curves.
const THRESHOLDS: usize = 250;
/// Longest buffer that [`default_volume_window`] chooses.
const DEFAULT_WINDOW_MAX: usize = 100;

/// The two volumes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Volume {
    /// VUS-ROC.
    pub roc: f64,
    /// VUS-PR.
    pub pr: f64,
}

/// Chooses the longest buffer from the labels: the median length of the intervals, at most 100 rows.
#[must_use]
pub fn default_volume_window(labels: &[bool]) -> usize {
    let mut lengths: Vec<usize> = runs(labels).iter().map(Range::len).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or(0).min(DEFAULT_WINDOW_MAX)
}

/// Computes the volumes for buffers of 0 to `window` rows, at most [`VOLUME_WINDOW_MAX`].
///
/// None where one class is missing, lengths differ or a score is NaN.
#[must_use]
pub fn volume_under_surface<S: Copy + Into<f64>>(
    scores: &[S],
    labels: &[bool],
    window: usize,
) -> Option<Volume> {
    let scores: Vec<f64> = scores.iter().map(|&score| score.into()).collect();
    let both = labels.contains(&true) && labels.contains(&false);
    if !both || scores.len() != labels.len() || scores.iter().any(|score| score.is_nan()) {
        return None;
    }
    let window = window.min(VOLUME_WINDOW_MAX);
    let surface = Surface::new(&scores, labels);
    let (mut roc, mut pr) = (0.0, 0.0);
    for buffer in 0..=window {
        let (buffer_roc, buffer_pr) = surface.areas(buffer);
        roc += buffer_roc;
        pr += buffer_pr;
    }
    let buffers = (window + 1) as f64;
    Some(Volume { roc: roc / buffers, pr: pr / buffers })
}

struct Surface {
    rows: usize,
    intervals: Vec<Range<usize>>,
    /// For each row the first threshold that calls it; [`THRESHOLDS`] where none does.
    called_from: Vec<usize>,
    /// For each threshold the number of called rows.
    called: Vec<f64>,
    labelled: f64,
}

impl Surface {
    fn new(scores: &[f64], labels: &[bool]) -> Self {
        let mut sorted = scores.to_vec();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let step = (scores.len() - 1) as f64 / (THRESHOLDS - 1) as f64;
        let rank = |k: usize| {
            if k == THRESHOLDS - 1 { scores.len() - 1 } else { (k as f64 * step) as usize }
        };
        let thresholds: Vec<f64> = (0..THRESHOLDS).map(|k| sorted[rank(k)]).collect();
        let called_from: Vec<usize> = scores
            .iter()
            .map(|score| thresholds.partition_point(|threshold| threshold > score))
            .collect();
        let mut called = vec![0.0; THRESHOLDS + 1];
        for &first in &called_from {
            called[first] += 1.0;
        }
        accumulate(&mut called);
        let labelled = labels.iter().filter(|&&label| label).count() as f64;
        Self { rows: scores.len(), intervals: runs(labels), called_from, called, labelled }
    }

    /// Returns the areas under the two curves for one buffer.
    fn areas(&self, buffer: usize) -> (f64, f64) {
        let (hits, outer_hits) = self.label_sums(buffer);
        let (touched, groups) = self.touched_groups(buffer / 2);
        let (mut roc, mut pr) = (0.0, 0.0);
        let mut before = (0.0, 0.0);
        for k in 0..THRESHOLDS {
            // Inside the intervals labels are 1, called or not; in the buffers only the called rows count.
            let positives = (self.labelled + self.labelled + outer_hits[k]) / 2.0;
            let recall = (hits[k] / positives).min(1.0) * touched[k] / groups;
            let false_rate = (self.called[k] - hits[k]) / (self.rows as f64 - positives);
            roc += (false_rate - before.1) * (recall + before.0) / 2.0;
            pr += (recall - before.0) * hits[k] / self.called[k];
            before = (recall, false_rate);
        }
        // The curve ends at (1, 1) whatever the last threshold gave.
        roc += (1.0 - before.1) * (1.0 + before.0) / 2.0;
        (roc, pr)
    }

    /// Sums the labels of called rows for each threshold: of all rows, and of those in buffers.
    fn label_sums(&self, buffer: usize) -> (Vec<f64>, Vec<f64>) {
        let mut inner = vec![0.0; THRESHOLDS + 1];
        for row in self.intervals.iter().flat_map(Clone::clone) {
            inner[self.called_from[row]] += 1.0;
        }
        let mut outer = vec![0.0; THRESHOLDS + 1];
        for (row, label) in self.buffer_labels(buffer) {
            outer[self.called_from[row]] += label;
        }
        accumulate(&mut inner);
        accumulate(&mut outer);
        (inner.iter().zip(&outer).map(|(inner, outer)| inner + outer).collect(), outer)
    }

    /// Returns the rows of the buffers with their labels; where two buffers meet, labels add up to at most 1.
    fn buffer_labels(&self, buffer: usize) -> Vec<(usize, f64)> {
        let label = |distance: usize| (1.0 - distance as f64 / buffer as f64).sqrt();
        let mut rows: Vec<(usize, f64)> = Vec::new();
        for interval in &self.intervals {
            for distance in 1..=buffer / 2 {
                if let Some(row) = interval.start.checked_sub(distance) {
                    rows.push((row, label(distance)));
                }
                let row = interval.end - 1 + distance;
                if row < self.rows {
                    rows.push((row, label(distance)));
                }
            }
        }
        rows.sort_unstable_by_key(|&(row, _)| row);
        let mut merged: Vec<(usize, f64)> = Vec::with_capacity(rows.len());
        for (row, label) in rows {
            match merged.last_mut() {
                Some((last, sum)) if *last == row => *sum = (*sum + label).min(1.0),
                _ => merged.push((row, label)),
            }
        }
        merged.retain(|(row, _)| !self.is_labelled(*row));
        merged
    }

    fn is_labelled(&self, row: usize) -> bool {
        let next = self.intervals.partition_point(|interval| interval.end <= row);
        self.intervals.get(next).is_some_and(|interval| interval.start <= row)
    }

    /// Counts for each threshold the intervals that have a called row, and all of them; ones whose buffers touch are one.
    fn touched_groups(&self, reach: usize) -> (Vec<f64>, f64) {
        let mut groups: Vec<Range<usize>> = Vec::new();
        for interval in &self.intervals {
            let start = interval.start.saturating_sub(reach);
            let end = (interval.end + reach).min(self.rows);
            match groups.last_mut() {
                // Buffers that share a row; `end` is the row after the last one.
                Some(last) if last.end > start => last.end = end,
                _ => groups.push(start..end),
            }
        }
        let mut touched = vec![0.0; THRESHOLDS + 1];
        for group in &groups {
            let first = self.called_from[group.clone()].iter().copied().min().unwrap_or(THRESHOLDS);
            touched[first] += 1.0;
        }
        accumulate(&mut touched);
        (touched, groups.len() as f64)
    }
}

/// Turns counts per threshold into counts up to each threshold.
fn accumulate(counts: &mut [f64]) {
    let mut sum = 0.0;
    for count in counts {
        sum += *count;
        *count = sum;
    }
}
