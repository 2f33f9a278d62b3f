//! The windowed Gaussian of the Numenta Anomaly Benchmark, as a control: with a right scorer it has
//! the published marks.
//!
//! The score is the share of a normal distribution that lies nearer to the mean than the value. Mean
//! and deviation are those of the last 6,400 values, brought up to date with every 100th.

/// The values that mean and deviation are taken over.
const WINDOW_LEN: usize = 6_400;
/// The values from one window to the next, once the first is full.
const STEP_LEN: usize = 100;
/// The deviation of a constant.
const DEVIATION_OF_CONSTANT: f64 = 1.0e-6;
/// The published scores were written with so many digits, and those that round to 1 make the marks.
const PUBLISHED_DIGITS: usize = 12;

/// Scores a stream, 0 to 1; the first value has no window and scores 0.
#[must_use]
pub fn scores(values: &[f64]) -> Vec<f64> {
    let (mut mean, mut deviation) = (0.0, 1.0);
    let score = |(row, value): (usize, &f64)| {
        let distance = (value - mean).abs() / deviation;
        let score = 1.0 - 0.5 * libm::erfc(distance / core::f64::consts::SQRT_2);
        let next = row + 1;
        if next <= WINDOW_LEN || (next - WINDOW_LEN).is_multiple_of(STEP_LEN) {
            (mean, deviation) = moments(&values[next.saturating_sub(WINDOW_LEN)..next]);
        }
        if row == 0 { 0.0 } else { as_published(score) }
    };
    values.iter().enumerate().map(score).collect()
}

fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    let deviation = variance.sqrt();
    (mean, if deviation == 0.0 { DEVIATION_OF_CONSTANT } else { deviation })
}

fn as_published(score: f64) -> f64 {
    let text = format!("{score:.*e}", PUBLISHED_DIGITS - 1);
    text.parse().expect("what was just written is a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_shares_of_a_normal_distribution() {
        // After 1 and 3 the mean is 2 and the deviation 1: 4 lies two deviations away, and the upper
        // tail of a normal distribution from there on is 0.022750.
        let scores = scores(&[1.0, 3.0, 4.0]);
        assert_eq!(scores[0], 0.0);
        assert!((scores[2] - (1.0 - 0.022_750_131_948)).abs() < 1e-11);
    }

    #[test]
    fn what_rounds_to_one_is_one() {
        assert_eq!(as_published(1.0 - 4.0e-13), 1.0);
        assert!(as_published(1.0 - 2.0e-12) < 1.0);
        assert_eq!(as_published(0.0), 0.0);
    }

    #[test]
    fn a_constant_has_a_deviation() {
        assert!(scores(&[5.0; 20]).iter().all(|score| score.is_finite()));
    }
}
