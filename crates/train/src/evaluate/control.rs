//! Four controls that stand beside every detector: never, always, random, and a z-score frozen after training.

use super::{EvaluateError, Scored};
use crate::dataset::Recording;
use crate::random::Random;

/// The controls' names in reports, in their order.
pub const CONTROL_NAMES: [&str; 4] = ["never", "always", "random", "frozen z-score"];

/// Calls nothing an anomaly.
#[must_use]
pub fn never(count: usize) -> Scored {
    Scored { scores: vec![0.0; count], verdicts: vec![false; count], threshold: None }
}

/// Calls everything an anomaly.
#[must_use]
pub fn always(count: usize) -> Scored {
    Scored { scores: vec![0.0; count], verdicts: vec![true; count], threshold: None }
}

/// Calls a share of the windows an anomaly, whichever the seed chooses.
///
/// With the share of the detector beside it, it shows what that many alarms are worth without looking at the data.
#[must_use]
pub fn random(count: usize, share: f64, seed: u64) -> Scored {
    let mut random = Random::new(seed);
    let scores: Vec<f64> = (0..count).map(|_| random.uniform()).collect();
    let threshold = 1.0 - share.clamp(0.0, 1.0);
    // At a share of 1 the threshold is 0, which a score of exactly 0 would not exceed.
    let verdicts = scores.iter().map(|&score| score > threshold || share >= 1.0).collect();
    Scored { scores, verdicts, threshold: Some(threshold) }
}

/// Which windows of a recording are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows<'a> {
    /// Last row of each window.
    pub last_rows: &'a [usize],
    /// Rows of a window.
    pub len: usize,
}

/// The mean and deviation of each channel over normal data, never changed afterwards.
///
/// A window scores the greatest distance of any sample from its channel's mean, in deviations. The threshold is the
/// greatest score of held-out normal windows: training data alone decide.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FrozenZScore {
    means: Vec<f64>,
    deviations: Vec<f64>,
    threshold: f64,
}

impl FrozenZScore {
    /// Share of the normal rows that mean and deviation are taken from; the others give the threshold.
    const FIT_SHARE: f64 = 0.8;

    /// Takes means, deviations and threshold from a recording of normal data.
    ///
    /// # Errors
    /// [`EvaluateError::NoNormal`] where the recording has no numbers.
    pub fn fit(normal: &Recording) -> Result<Self, EvaluateError> {
        let fit = normal.slice_fraction(0.0..Self::FIT_SHARE);
        let held_out = normal.slice_fraction(Self::FIT_SHARE..1.0);
        let moments = (0..normal.channels.len()).map(|channel| moments(fit.channel(channel)));
        let (means, deviations) =
            moments.collect::<Option<(Vec<f64>, Vec<f64>)>>().ok_or(EvaluateError::NoNormal)?;
        let mut z_score = Self { means, deviations, threshold: 0.0 };
        let held_out_scores =
            (0..held_out.rows()).map(|row| z_score.sample_score(held_out.row(row)));
        z_score.threshold = held_out_scores.fold(0.0, f64::max);
        Ok(z_score)
    }

    /// Scores windows of a recording with the same channels.
    #[must_use]
    pub fn score(&self, recording: &Recording, windows: Windows<'_>) -> Scored {
        let samples: Vec<f64> =
            (0..recording.rows()).map(|row| self.sample_score(recording.row(row))).collect();
        let score = |&last: &usize| {
            let first = (last + 1).saturating_sub(windows.len);
            samples[first..=last].iter().copied().fold(0.0, f64::max)
        };
        let scores: Vec<f64> = windows.last_rows.iter().map(score).collect();
        let verdicts = scores.iter().map(|&score| score > self.threshold).collect();
        Scored { scores, verdicts, threshold: Some(self.threshold) }
    }

    /// Returns the greatest distance of a sample from the means, in deviations; NaN counts as none.
    fn sample_score(&self, sample: &[f32]) -> f64 {
        let distances = sample.iter().zip(self.means.iter().zip(&self.deviations));
        distances
            .map(|(&x, (mean, deviation))| (f64::from(x) - mean).abs() / deviation)
            .fold(0.0, f64::max)
    }
}

fn moments(values: impl Iterator<Item = f32>) -> Option<(f64, f64)> {
    let values: Vec<f64> = values.filter(|x| x.is_finite()).map(f64::from).collect();
    if values.is_empty() {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
    // A constant channel has no scale of its own; the smallest one keeps any change visible and the score finite.
    Some((mean, variance.sqrt().max(f64::from(f32::EPSILON) * mean.abs().max(1.0))))
}
