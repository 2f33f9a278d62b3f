//! How far the mean of a block lies from what the means before it predict.

use super::super::Work;
use super::super::format::learner::ExpertEntry;
use super::record::{Blocks, Record, RunningMean};

/// The deviations at the start, in which the weights may err.
const START_DEVIATION: f32 = 3.162_277_7;
/// The mean variance of the weights beyond which forgetting does not raise it.
const VARIANCE_MAX: f32 = 1.0e3;
/// Blocks over which the scale of the numbers is taken.
const SCALE_LEN: f32 = 2_000.0;
/// Blocks over which the size of the errors is taken ...
const ERROR_LEN: f32 = 100.0;
/// ... of which it takes so many to be known; until then errors are learned up to `CLIP_AT_START`.
const ERRORS_KNOWN: f32 = 50.0;
/// An error is learned up to so many times the usual one, so that an anomaly teaches little.
const CLIP: f32 = 5.0;
/// In deviations of the numbers.
const CLIP_AT_START: f32 = 3.0;
/// A deviation is taken no smaller than this share of the mean, below which it is rounding.
const DEVIATION_SHARE_MIN: f32 = 1.0e-6;
/// The least deviation of numbers whose mean is zero.
const DEVIATION_MIN: f32 = 1.0e-20;
/// The magnitude to which scaled numbers are clamped, so that what is computed from them stays finite.
const SCALED_ABS_MAX: f32 = 1.0e4;

/// An autoregressive model fitted by recursive least squares with exponential forgetting (Plackett
/// 1950; Haykin, "Adaptive Filter Theory", chapter 10), its covariance P = S Sᵀ kept as the square root
/// S by Potter's update (Bierman 1977, "Factorization Methods for Discrete Sequential Estimation",
/// section II.8), which single precision cannot drive negative. With f = Sᵀx and a = λ + f·f:
/// w += (S f / a) e and S = (S - (S f) fᵀ / (a + √(λa))) / √λ.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prediction {
    blocks: Blocks,
    record: Record,
    order: usize,
    smoothing_len: f32,
    forgetting: f32,
}

/// The memory, cut into its parts.
struct Parts<'m> {
    record: &'m mut [f32],
    blocks: &'m mut [f32],
    mean: &'m mut [f32],
    error_size: &'m mut [f32],
    /// Variance of the numbers, mean error in their units, how many numbers are known.
    variance: &'m mut f32,
    smoothed: &'m mut f32,
    known: &'m mut f32,
    /// The last numbers, newest first.
    history: &'m mut [f32],
    weights: &'m mut [f32],
    /// The last numbers scaled, and one.
    inputs: &'m mut [f32],
    projected: &'m mut [f32],
    gain: &'m mut [f32],
    /// Row by row.
    root: &'m mut [f32],
}

impl Prediction {
    pub(super) fn new(entry: &ExpertEntry) -> Self {
        Self {
            blocks: Blocks { len: entry.block_len },
            record: Record { fading: entry.fading, other_side: entry.other_side },
            order: entry.len as usize,
            smoothing_len: entry.smoothing_len,
            forgetting: entry.forgetting,
        }
    }

    pub(super) fn memory_words(self) -> usize {
        let width = self.order + 1;
        Record::MEMORY_WORDS
            + Blocks::MEMORY_WORDS
            + 2 * RunningMean::MEMORY_WORDS
            + 3
            + self.order
            + 4 * width
            + width * width
    }

    pub(super) fn work(self) -> Work {
        let width = self.order as u64 + 1;
        let blocks = u64::from(self.blocks.len);
        Work {
            float_macs: (3 * width * width + 4 * width).div_ceil(blocks),
            float_operations: 1 + (2 * width * width + 6 * width + 40).div_ceil(blocks),
            float_divisions: (width + 8).div_ceil(blocks),
            float_functions: 4_u64.div_ceil(blocks),
            ..Work::default()
        }
    }

    fn parts(self, memory: &mut [f32]) -> Option<Parts<'_>> {
        let width = self.order + 1;
        let (record, memory) = memory.split_at_mut(Record::MEMORY_WORDS);
        let (blocks, memory) = memory.split_at_mut(Blocks::MEMORY_WORDS);
        let (mean, memory) = memory.split_at_mut(RunningMean::MEMORY_WORDS);
        let (error_size, memory) = memory.split_at_mut(RunningMean::MEMORY_WORDS);
        let (variance, memory) = memory.split_first_mut()?;
        let (smoothed, memory) = memory.split_first_mut()?;
        let (known, memory) = memory.split_first_mut()?;
        let (history, memory) = memory.split_at_mut(self.order);
        let (weights, memory) = memory.split_at_mut(width);
        let (inputs, memory) = memory.split_at_mut(width);
        let (projected, memory) = memory.split_at_mut(width);
        let (gain, root) = memory.split_at_mut(width);
        Some(Parts {
            record,
            blocks,
            mean,
            error_size,
            variance,
            smoothed,
            known,
            history,
            weights,
            inputs,
            projected,
            gain,
            root,
        })
    }

    pub(super) fn start(self, memory: &mut [f32]) {
        if let Some(parts) = self.parts(memory) {
            self.forget(parts.weights, parts.root);
        }
    }

    /// Predicts that a number is as the one before.
    fn forget(self, weights: &mut [f32], root: &mut [f32]) {
        weights.fill(0.0);
        if let Some(first) = weights.first_mut() {
            *first = 1.0;
        }
        root.fill(0.0);
        for diagonal in root.iter_mut().step_by(self.order + 2) {
            *diagonal = START_DEVIATION;
        }
    }

    pub(super) fn run(self, value: f32, memory: &mut [f32]) -> f32 {
        let Some(mut parts) = self.parts(memory) else {
            return 0.0;
        };
        let Some(number) = self.blocks.push(value, parts.blocks) else {
            return 0.0;
        };
        let mut ratio = 0.0;
        if *parts.known < self.order as f32 {
            *parts.known += 1.0;
        } else {
            let residual = self.predict_and_learn(number, &mut parts);
            *parts.smoothed += (residual - *parts.smoothed) / self.smoothing_len;
            ratio = self.record.ratio(*parts.smoothed, parts.record);
        }
        parts.history.rotate_right(1);
        if let Some(newest) = parts.history.first_mut() {
            *newest = number;
        }
        let distance = RunningMean::distance(number, parts.mean);
        let weight = RunningMean { len: SCALE_LEN }.push(number, parts.mean);
        *parts.variance = (1.0 - weight) * (*parts.variance + weight * distance * distance);
        ratio
    }

    /// Returns the error of the prediction, in the units of the numbers.
    fn predict_and_learn(self, number: f32, parts: &mut Parts<'_>) -> f32 {
        let mean = parts.mean.first().copied().unwrap_or(0.0);
        let deviation = deviation(*parts.variance, mean);
        let scaled = |number: f32, memory: &[f32]| {
            let scaled = RunningMean::distance(number, memory) / deviation;
            scaled.clamp(-SCALED_ABS_MAX, SCALED_ABS_MAX)
        };
        for (input, past) in parts.inputs.iter_mut().zip(parts.history.iter()) {
            *input = scaled(*past, parts.mean);
        }
        if let Some(bias) = parts.inputs.last_mut() {
            *bias = 1.0;
        }
        let predicted = dot(parts.weights, parts.inputs);
        let error = scaled(number, parts.mean) - predicted;
        let errors_known = parts.error_size.get(2).copied().unwrap_or(0.0);
        let size = RunningMean { len: ERROR_LEN };
        size.push(libm::fabsf(error), parts.error_size);
        let usual = parts.error_size.first().copied().unwrap_or(0.0);
        let limit = if errors_known < ERRORS_KNOWN { CLIP_AT_START } else { CLIP * usual };
        self.learn(error.clamp(-limit, limit), parts);
        error * deviation
    }

    fn learn(self, error: f32, parts: &mut Parts<'_>) {
        let width = self.order + 1;
        parts.projected.fill(0.0);
        for (row, input) in parts.root.chunks_exact(width).zip(parts.inputs.iter()) {
            for (projected, entry) in parts.projected.iter_mut().zip(row) {
                *projected += entry * input;
            }
        }
        let energy = self.forgetting + dot(parts.projected, parts.projected);
        for (gain, row) in parts.gain.iter_mut().zip(parts.root.chunks_exact(width)) {
            *gain = dot(row, parts.projected);
        }
        for (weight, gain) in parts.weights.iter_mut().zip(parts.gain.iter()) {
            *weight += gain / energy * error;
        }
        let shrink = 1.0 / (energy + libm::sqrtf(self.forgetting * energy));
        let grow = 1.0 / libm::sqrtf(self.forgetting);
        let mut trace = 0.0_f32;
        for (row, gain) in parts.root.chunks_exact_mut(width).zip(parts.gain.iter()) {
            let shrink = gain * shrink;
            for (entry, projected) in row.iter_mut().zip(parts.projected.iter()) {
                *entry = (*entry - shrink * projected) * grow;
                trace += *entry * *entry;
            }
        }
        let trace_max = VARIANCE_MAX * width as f32;
        if trace > trace_max {
            let scale = libm::sqrtf(trace_max / trace);
            parts.root.iter_mut().for_each(|entry| *entry *= scale);
        }
        // What is not finite would stay so.
        let sum: f32 = parts.weights.iter().sum::<f32>() + trace;
        if !sum.is_finite() {
            self.forget(parts.weights, parts.root);
        }
    }
}

/// Numbers that have not differed yet have a deviation of 1.
fn deviation(variance: f32, mean: f32) -> f32 {
    if variance <= 0.0 {
        return 1.0;
    }
    let least = DEVIATION_SHARE_MIN * libm::fabsf(mean) + DEVIATION_MIN;
    let deviation = libm::sqrtf(variance);
    if deviation > least { deviation } else { least }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sum = 0.0;
    for (a, b) in a.iter().zip(b) {
        sum += a * b;
    }
    sum
}
