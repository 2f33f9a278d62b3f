//! The recipe: every choice that turns a recording into a detector.

use serde::{Deserialize, Serialize};
use stonechat_core::detector::ScoreRule;
use stonechat_core::features::{Feature, FeatureKind};
use thiserror::Error;

use crate::fit::FitOptions;
use crate::threshold::ThresholdRule;

/// Every choice of a training run; with the data and this, the detector file is the same to the byte.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The detector's name.
    pub name: String,
    /// The model.
    pub detector: DetectorKind,
    /// Arithmetic of the network.
    pub precision: Precision,
    /// Samples in a window.
    pub window_len: usize,
    /// Samples from one window to the next.
    pub stride: usize,
    /// The features of each channel, as in [`parse_feature`].
    pub features: Vec<String>,
    /// The widths of the encoder's layers; the decoder mirrors them.
    pub encoder: Vec<usize>,
    /// How residuals become a score.
    pub score: ScoreChoice,
    /// Whether residuals are divided by the spread they have on normal data.
    pub weigh_residuals: bool,
    /// How the threshold follows from scores of held-out normal data.
    pub threshold: ThresholdRule,
    /// k of "k of n scores above the threshold".
    pub raise_count: u8,
    /// n of "k of n scores above the threshold".
    pub raise_of: u8,
    /// The clear level as a share of the threshold.
    pub clear_share: f32,
    /// Scores in a row at or below the clear level that end an anomaly.
    pub clear_count: u8,
    /// The share of the recording, from its end, that is kept for the threshold.
    pub calibration_share: f32,
    /// The weight of a new window in an adaptive z-score; 0 does not adapt.
    pub alpha: f32,
    /// How the network is fitted.
    pub fit: FitOptions,
}

/// What reconstructs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DetectorKind {
    /// A dense autoencoder.
    Dense,
    /// Mean and deviation.
    ZScore,
}

/// The arithmetic of a network on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 8-bit integers.
    Int8,
    /// Single precision.
    Float32,
}

/// The score rules by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScoreChoice {
    /// Mean of the magnitudes.
    MeanAbsolute,
    /// Mean of the squares.
    MeanSquared,
    /// Root of the mean of the squares.
    Rms,
    /// Greatest magnitude.
    Maximum,
}

impl From<ScoreChoice> for ScoreRule {
    fn from(choice: ScoreChoice) -> Self {
        match choice {
            ScoreChoice::MeanAbsolute => Self::MeanAbsolute,
            ScoreChoice::MeanSquared => Self::MeanSquared,
            ScoreChoice::Rms => Self::RootMeanSquare,
            ScoreChoice::Maximum => Self::Maximum,
        }
    }
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            name: "detector".to_owned(),
            detector: DetectorKind::Dense,
            precision: Precision::Int8,
            window_len: 32,
            stride: 1,
            features: vec!["samples".to_owned()],
            encoder: vec![16, 4],
            score: ScoreChoice::Rms,
            weigh_residuals: true,
            threshold: ThresholdRule::Quantile { quantile: 1.0, margin: 0.25 },
            raise_count: 2,
            raise_of: 3,
            clear_share: 0.8,
            clear_count: 3,
            calibration_share: 0.2,
            alpha: 0.0,
            fit: FitOptions::default(),
        }
    }
}

impl Recipe {
    /// Returns the recipe for the rooms of [`crate::synth::temperature`].
    ///
    /// The deviation shows a stuck sensor, which the samples alone reconstruct well. Rooms of other
    /// seeds score up to twice as high as the room of the training, and a stuck sensor ten times:
    /// the margin lies between.
    #[must_use]
    pub fn synthetic_room() -> Self {
        Self {
            name: "room".to_owned(),
            features: vec!["samples".to_owned(), "standard_deviation".to_owned()],
            threshold: ThresholdRule::Quantile { quantile: 1.0, margin: 2.0 },
            ..Self::default()
        }
    }
}

/// A feature's spelling is not understood.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FeatureError {
    /// There is no such feature.
    #[error("there is no feature `{name}`; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The parameter is missing, superfluous or not a whole number that fits the window.
    #[error("the feature `{text}` does not fit a window of {window_len} samples: {remedy}")]
    Parameter {
        /// What was asked for.
        text: String,
        /// The window.
        window_len: usize,
        /// What to write instead.
        remedy: &'static str,
    },
}

/// Reads a feature such as `rms`, `samples`, `samples:4` (means of 4) or `rolling_mean:8`, for one channel.
///
/// # Errors
/// [`FeatureError`] names what there is instead.
pub fn parse_feature(text: &str, channel: u16, window_len: usize) -> Result<Feature, FeatureError> {
    let (name, parameter) = match text.split_once(':') {
        Some((name, parameter)) => (name, Some(parameter)),
        None => (text, None),
    };
    let kind = FeatureKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
        FeatureError::Unknown {
            name: name.to_owned(),
            known: FeatureKind::ALL.map(FeatureKind::name).join(", "),
        }
    })?;
    let wrong = |remedy| FeatureError::Parameter { text: text.to_owned(), window_len, remedy };
    let parameter = match parameter {
        Some(parameter) => parameter
            .parse()
            .map_err(|_| wrong("what follows the colon must be a whole number of samples"))?,
        None if kind == FeatureKind::RollingMean => {
            return Err(wrong("name the samples to average, such as rolling_mean:8"));
        }
        None => u32::from(kind.takes_parameter()),
    };
    let feature = Feature { kind, channel, parameter };
    if feature.output_len(window_len).is_none() {
        return Err(wrong(if kind.takes_parameter() {
            "its number of samples must divide the window (samples, centred_samples) or fit into it (rolling_mean)"
        } else {
            "it takes no number"
        }));
    }
    Ok(feature)
}
