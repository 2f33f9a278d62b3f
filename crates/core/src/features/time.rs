//! Features in the time domain, each over the samples of one channel, in that channel's unit.
//!
//! Sums run in the order of the samples in single precision, so that every machine gives the same
//! bits. An empty slice gives 0.

/// Returns the arithmetic mean, Σx / n.
#[must_use]
pub fn mean(samples: &[f32]) -> f32 {
    if samples.is_empty() {
        return 0.0;
    }
    let mut sum = 0.0;
    for sample in samples {
        sum += sample;
    }
    sum / samples.len() as f32
}

/// Returns the population variance, Σ(x - mean)² / n, in the unit squared; computed in two passes.
#[must_use]
pub fn variance(samples: &[f32]) -> f32 {
    if samples.is_empty() {
        return 0.0;
    }
    let centre = mean(samples);
    let mut sum = 0.0;
    for sample in samples {
        let deviation = sample - centre;
        sum += deviation * deviation;
    }
    sum / samples.len() as f32
}

/// Returns the population standard deviation, √variance.
#[must_use]
pub fn standard_deviation(samples: &[f32]) -> f32 {
    libm::sqrtf(variance(samples))
}

/// Returns the root mean square, √(Σx² / n).
#[must_use]
pub fn root_mean_square(samples: &[f32]) -> f32 {
    if samples.is_empty() {
        return 0.0;
    }
    let mut sum = 0.0;
    for sample in samples {
        sum += sample * sample;
    }
    libm::sqrtf(sum / samples.len() as f32)
}

/// Returns the least sample.
#[must_use]
pub fn minimum(samples: &[f32]) -> f32 {
    let Some((first, rest)) = samples.split_first() else {
        return 0.0;
    };
    let mut least = *first;
    for sample in rest {
        if *sample < least {
            least = *sample;
        }
    }
    least
}

/// Returns the greatest sample.
#[must_use]
pub fn maximum(samples: &[f32]) -> f32 {
    let Some((first, rest)) = samples.split_first() else {
        return 0.0;
    };
    let mut greatest = *first;
    for sample in rest {
        if *sample > greatest {
            greatest = *sample;
        }
    }
    greatest
}

/// Returns the slope of the least-squares line through the samples, in units a second:
/// Σ(i - ī)(x - x̄) / Σ(i - ī)² times the rate.
#[must_use]
pub fn slope(samples: &[f32], rate_hz: f32) -> f32 {
    if samples.len() < 2 {
        return 0.0;
    }
    let centre = mean(samples);
    let middle = (samples.len() - 1) as f32 / 2.0;
    let mut product = 0.0;
    let mut square = 0.0;
    for (index, sample) in samples.iter().enumerate() {
        let from_middle = index as f32 - middle;
        product += from_middle * (sample - centre);
        square += from_middle * from_middle;
    }
    product / square * rate_hz
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
