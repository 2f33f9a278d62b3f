//! What every expert needs: records that fade, means that stay exact, blocks.

use super::RATIO_MAX;

/// A record says something once it rests on so many residuals.
const RESIDUALS_KNOWN: f32 = 8.0;
/// The ratio of the first residual that is not zero, where all before were.
const RATIO_OF_FIRST: f32 = 10.0;

/// The greatest residuals of either sign so far, fading.
///
/// A signal that often jumps up but never down has small residuals of one sign: each sign has its own
/// record, of which the other side's counts a share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// What is left of a record after one residual.
    pub(super) fading: f32,
    /// The share of the record of the other sign that counts.
    pub(super) other_side: f32,
}

impl Record {
    /// Words of memory: the record above and the one below zero, and how many residuals they rest on.
    pub(super) const MEMORY_WORDS: usize = 3;

    /// Returns the ratio of a residual to the record before it, and remembers the residual. While
    /// there is too little to compare with, the ratio is 0.
    pub(super) fn ratio(self, residual: f32, memory: &mut [f32]) -> f32 {
        let [above, below, known] = memory else {
            return 0.0;
        };
        let magnitude = libm::fabsf(residual);
        let (same, other) = if residual >= 0.0 { (above, below) } else { (below, above) };
        let mut reference = self.other_side * *other;
        if *same > reference {
            reference = *same;
        }
        let mut ratio = 0.0;
        if *known < RESIDUALS_KNOWN {
            *known += 1.0;
        } else if reference > 0.0 {
            ratio = (magnitude / reference).min(RATIO_MAX);
        } else if magnitude > 0.0 {
            ratio = RATIO_OF_FIRST;
        }
        let faded = *same * self.fading;
        *same = if magnitude > faded { magnitude } else { faded };
        *other *= self.fading;
        ratio
    }
}

/// A running mean: of all numbers at first, with weights that fall exponentially later.
///
/// Two words hold it, the second what the first rounds away (Neumaier 1974): a slow mean in single
/// precision would stop where a step is smaller than half its last digit.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunningMean {
    /// The number of values with which the weight of a new one stops falling.
    pub(super) len: f32,
}

impl RunningMean {
    /// Words of memory: the mean, what it rounds away, and how many values it rests on.
    pub(super) const MEMORY_WORDS: usize = 3;

    /// Returns how far a value lies from the mean; 0 for the first.
    pub(super) fn distance(value: f32, memory: &[f32]) -> f32 {
        match memory {
            [mean, rest, count] if *count > 0.0 => (value - *mean) - *rest,
            _ => 0.0,
        }
    }

    /// Takes a value in and returns its weight.
    pub(super) fn push(self, value: f32, memory: &mut [f32]) -> f32 {
        let distance = Self::distance(value, memory);
        let [mean, rest, count] = memory else {
            return 0.0;
        };
        if *count == 0.0 {
            *mean = value;
        }
        if *count < self.len {
            *count += 1.0;
        }
        let weight = 1.0 / *count;
        let step = weight * distance + *rest;
        let next = *mean + step;
        *rest = step - (next - *mean);
        *mean = next;
        weight
    }
}

/// Means of blocks of numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    pub(super) len: u32,
}

impl Blocks {
    /// Words of memory: the sum and how many numbers it has.
    pub(super) const MEMORY_WORDS: usize = 2;

    /// Takes a number in and returns the mean of the block that it completes.
    pub(super) fn push(self, value: f32, memory: &mut [f32]) -> Option<f32> {
        let [sum, count] = memory else {
            return None;
        };
        *sum += value;
        *count += 1.0;
        let len = self.len as f32;
        if *count < len {
            return None;
        }
        let mean = *sum / len;
        (*sum, *count) = (0.0, 0.0);
        Some(mean)
    }
}
