//! Features in the time domain, each over the samples of one channel.
//!
//! Sums run in single precision in the fixed order of `lanes.rs`, so that every machine gives the
//! same bits. An empty slice gives 0, and so does a constant one wherever the formula would divide
//! by a deviation of 0.

use super::lanes;

/// Returns the arithmetic mean, Σx / n, in the channel's unit.
#[must_use]
pub fn mean(samples: &[f32]) -> f32 {
    if samples.is_empty() {
        return 0.0;
    }
    lanes::sum(samples, |sample| sample) / samples.len() as f32
}

/// Returns the mean as the first sample plus the mean of the distances from it: exact for a
/// constant, whose deviations are then 0 and not a rounding of the mean.
pub(crate) fn centre(samples: &[f32]) -> f32 {
    let Some(first) = samples.first() else {
        return 0.0;
    };
    first + lanes::sum(samples, |sample| sample - first) / samples.len() as f32
}

/// Returns the population variance, Σ(x - mean)² / n, in the unit squared; computed in two passes.
#[must_use]
pub fn variance(samples: &[f32]) -> f32 {
    if samples.is_empty() {
        return 0.0;
    }
    let centre = centre(samples);
    let sum = lanes::sum(samples, |sample| {
        let deviation = sample - centre;
        deviation * deviation
    });
    sum / samples.len() as f32
}

/// Returns the population standard deviation, √variance, in the channel's unit.
#[must_use]
pub fn standard_deviation(samples: &[f32]) -> f32 {
    libm::sqrtf(variance(samples))
}

/// Returns the root mean square, √(Σx² / n), in the channel's unit.
#[must_use]
pub fn root_mean_square(samples: &[f32]) -> f32 {
    if samples.is_empty() {
        return 0.0;
    }
    libm::sqrtf(lanes::sum(samples, |sample| sample * sample) / samples.len() as f32)
}

/// Returns the least sample.
#[must_use]
pub fn minimum(samples: &[f32]) -> f32 {
    lanes::extremes(samples, |sample| sample).0
}

/// Returns the greatest sample.
#[must_use]
pub fn maximum(samples: &[f32]) -> f32 {
    lanes::extremes(samples, |sample| sample).1
}

/// Returns the greatest sample less the least.
#[must_use]
pub fn peak_to_peak(samples: &[f32]) -> f32 {
    let (least, greatest) = lanes::extremes(samples, |sample| sample);
    greatest - least
}

/// Returns the slope of the least-squares line through the samples, in units a second:
/// Σ(i - ī)(x - x̄) / Σ(i - ī)² times the rate, where Σ(i - ī)² = n(n² - 1) / 12.
#[must_use]
pub fn slope(samples: &[f32], rate_hz: f32) -> f32 {
    if samples.len() < 2 {
        return 0.0;
    }
    let len = samples.len() as f32;
    let centre = centre(samples);
    let middle = (len - 1.0) / 2.0;
    let product = lanes::sum_indexed(samples, |index, sample| (index - middle) * (sample - centre));
    product / (len * (len * len - 1.0) / 12.0) * rate_hz
}

/// Writes the mean of each block of `block` samples, less `centre`, into `output`.
pub fn block_means(samples: &[f32], block: usize, centre: f32, output: &mut [f32]) {
    if block == 1 {
        for (output, sample) in output.iter_mut().zip(samples) {
            *output = sample - centre;
        }
        return;
    }
    for (output, run) in output.iter_mut().zip(samples.chunks_exact(block.max(1))) {
        *output = mean(run) - centre;
    }
}

/// Returns the mean of a power of the samples' distances from their mean in deviations, Σz³ / n and
/// Σz⁴ / n; `None` where there is no deviation.
fn standardised_moments(samples: &[f32]) -> Option<[f32; 2]> {
    let deviation = standard_deviation(samples);
    if deviation == 0.0 {
        return None;
    }
    let centre = centre(samples);
    let gain = 1.0 / deviation;
    let sums = lanes::sums(samples, |sample| {
        let z = (sample - centre) * gain;
        let square = z * z;
        [square * z, square * square]
    });
    Some(sums.map(|sum| sum / samples.len() as f32))
}

/// Returns the skewness g₁ = m₃ / m₂^1.5 of the population, without a unit (Joanes and Gill 1998,
/// "Comparing measures of sample skewness and kurtosis").
#[must_use]
pub fn skewness(samples: &[f32]) -> f32 {
    standardised_moments(samples).map_or(0.0, |[third, _]| third)
}

/// Returns the excess kurtosis g₂ = m₄ / m₂² - 3 of the population, without a unit (Joanes and Gill
/// 1998): 0 for a normal distribution, -1.5 for a sine.
#[must_use]
pub fn kurtosis(samples: &[f32]) -> f32 {
    standardised_moments(samples).map_or(0.0, |[_, fourth]| fourth - 3.0)
}

/// Returns the crest factor, max|x - mean| / standard deviation, without a unit. The mean is taken
/// off so that gravity or an offset of the sensor does not hide the peaks.
#[must_use]
pub fn crest_factor(samples: &[f32]) -> f32 {
    let deviation = standard_deviation(samples);
    if deviation == 0.0 {
        return 0.0;
    }
    let centre = centre(samples);
    lanes::extremes(samples, |sample| libm::fabsf(sample - centre)).1 / deviation
}

/// Returns how often a second the signal crosses its mean: the neighbours that lie on different
/// sides of it (at least the mean, or below), times the rate, over n - 1.
#[must_use]
pub fn zero_crossing_rate(samples: &[f32], rate_hz: f32) -> f32 {
    let Some(next) = samples.get(1..).filter(|next| !next.is_empty()) else {
        return 0.0;
    };
    let centre = centre(samples);
    let mut crossings = 0_u32;
    for (before, after) in samples.iter().zip(next) {
        crossings += u32::from((*before < centre) != (*after < centre));
    }
    crossings as f32 / next.len() as f32 * rate_hz
}

/// Returns the greatest |x(i + 1) - x(i)|, in the channel's unit.
#[must_use]
pub fn maximum_difference(samples: &[f32]) -> f32 {
    lanes::greatest_step(samples)
}

/// Returns the median of |x - median(x)|, in the channel's unit, not scaled to a deviation.
///
/// Of an even number of samples the median is the mean of the two in the middle. `scratch` holds as
/// many numbers as there are samples.
#[must_use]
pub fn median_abs_deviation(samples: &[f32], scratch: &mut [f32]) -> f32 {
    let Some(scratch) = scratch.get_mut(..samples.len()) else {
        return 0.0;
    };
    scratch.copy_from_slice(samples);
    let middle = median(scratch);
    for (deviation, sample) in scratch.iter_mut().zip(samples) {
        *deviation = libm::fabsf(sample - middle);
    }
    median(scratch)
}

/// Returns the median of numbers that are not NaN, and disorders them.
fn median(numbers: &mut [f32]) -> f32 {
    if numbers.is_empty() {
        return 0.0;
    }
    let half = numbers.len() / 2;
    let is_even = numbers.len().is_multiple_of(2);
    // As whole numbers floats select twice as fast: the bits of those below 0 are turned round.
    let keys: &mut [i32] = bytemuck::cast_slice_mut(numbers);
    for key in keys.iter_mut() {
        *key = ordered(*key);
    }
    let (below, upper, _) = keys.select_nth_unstable(half);
    let upper = *upper;
    let lower = if is_even { below.iter().copied().max().unwrap_or(upper) } else { upper };
    let [lower, upper] = [lower, upper].map(|key| f32::from_bits(ordered(key) as u32));
    lower + (upper - lower) / 2.0
}

/// Turns the bits of a float into a whole number of the same order, and back.
fn ordered(bits: i32) -> i32 {
    bits ^ (((bits >> 31) as u32) >> 1) as i32
}
