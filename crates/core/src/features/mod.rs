//! Features: a fixed vector from a window.
//!
//! A detector file names its features one by one, so a new choice needs no new firmware.

pub mod time;

use crate::detector::Work;
use crate::window::Window;

/// What is computed from one channel of a window; numbers are those of the detector file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[non_exhaustive]
pub enum FeatureKind {
    /// The samples themselves, as means of blocks of `parameter` samples (1: each sample).
    Samples = 0,
    /// Arithmetic mean.
    Mean = 1,
    /// Population variance.
    Variance = 2,
    /// Population standard deviation.
    StandardDeviation = 3,
    /// Root mean square.
    RootMeanSquare = 4,
    /// Minimum.
    Minimum = 5,
    /// Maximum.
    Maximum = 6,
    /// Maximum less minimum.
    PeakToPeak = 7,
    /// Slope of the least-squares line, in units a second.
    Slope = 8,
    /// Mean of the last `parameter` samples.
    RollingMean = 9,
    /// The samples less the window's mean, as means of blocks of `parameter` samples.
    CentredSamples = 10,
}

impl FeatureKind {
    /// Every kind, in the order of the numbers.
    pub const ALL: [Self; 11] = [
        Self::Samples,
        Self::Mean,
        Self::Variance,
        Self::StandardDeviation,
        Self::RootMeanSquare,
        Self::Minimum,
        Self::Maximum,
        Self::PeakToPeak,
        Self::Slope,
        Self::RollingMean,
        Self::CentredSamples,
    ];

    /// Returns the kind with a number of the detector file.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Returns the name that the command line and channel names use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::Mean => "mean",
            Self::Variance => "variance",
            Self::StandardDeviation => "standard_deviation",
            Self::RootMeanSquare => "rms",
            Self::Minimum => "minimum",
            Self::Maximum => "maximum",
            Self::PeakToPeak => "peak_to_peak",
            Self::Slope => "slope",
            Self::RollingMean => "rolling_mean",
            Self::CentredSamples => "centred_samples",
        }
    }

    /// Tells whether the kind takes a parameter (a number of samples).
    #[must_use]
    pub fn takes_parameter(self) -> bool {
        matches!(self, Self::Samples | Self::RollingMean | Self::CentredSamples)
    }
}

/// One entry of a detector's list of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What is computed.
    pub kind: FeatureKind,
    /// From which channel.
    pub channel: u16,
    /// The number of samples for the kinds that take one, else 0.
    pub parameter: u32,
}

impl Feature {
    /// Returns how many numbers the feature gives from a window of `window_len` samples, or `None`
    /// if its parameter does not fit the window.
    #[must_use]
    pub fn output_len(&self, window_len: usize) -> Option<usize> {
        let parameter = self.parameter as usize;
        match self.kind {
            FeatureKind::Samples | FeatureKind::CentredSamples => {
                (parameter > 0 && parameter <= window_len && window_len.is_multiple_of(parameter))
                    .then(|| window_len / parameter)
            }
            FeatureKind::RollingMean => (1..=window_len).contains(&parameter).then_some(1),
            _ => (parameter == 0).then_some(1),
        }
    }

    /// Counts what computing the feature takes.
    #[must_use]
    pub fn work(&self, window_len: usize) -> Work {
        let len = window_len as u64;
        let sums = match self.kind {
            FeatureKind::Samples => 1,
            FeatureKind::Mean | FeatureKind::RollingMean | FeatureKind::RootMeanSquare => 2,
            FeatureKind::Minimum | FeatureKind::Maximum => 1,
            FeatureKind::PeakToPeak | FeatureKind::CentredSamples => 2,
            FeatureKind::Variance | FeatureKind::StandardDeviation | FeatureKind::Slope => 4,
        };
        Work { float_operations: sums * len, float_divisions: 1, ..Work::default() }
    }

    /// Computes the feature into `output`, whose length is [`Feature::output_len`].
    pub(crate) fn compute(&self, window: &Window<'_>, rate_hz: f32, output: &mut [f32]) {
        let samples = window.channel(usize::from(self.channel));
        let parameter = self.parameter as usize;
        let one = match self.kind {
            FeatureKind::Samples => return time::block_means(samples, parameter, 0.0, output),
            FeatureKind::CentredSamples => {
                return time::block_means(samples, parameter, time::mean(samples), output);
            }
            FeatureKind::Mean => time::mean(samples),
            FeatureKind::Variance => time::variance(samples),
            FeatureKind::StandardDeviation => time::standard_deviation(samples),
            FeatureKind::RootMeanSquare => time::root_mean_square(samples),
            FeatureKind::Minimum => time::minimum(samples),
            FeatureKind::Maximum => time::maximum(samples),
            FeatureKind::PeakToPeak => time::maximum(samples) - time::minimum(samples),
            FeatureKind::Slope => time::slope(samples, rate_hz),
            FeatureKind::RollingMean => {
                time::mean(&samples[samples.len().saturating_sub(parameter)..])
            }
        };
        if let Some(first) = output.first_mut() {
            *first = one;
        }
    }
}
