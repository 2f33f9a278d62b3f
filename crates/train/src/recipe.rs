//! The recipe: every choice that turns a recording into a detector.

mod feature;

pub use feature::{FeatureError, parse_feature, parse_features, spell_feature};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stonechat_core::detector::ScoreRule;
use thiserror::Error;

use crate::fit::convolution::ConvolutionOptions;
use crate::fit::covariance::{MahalanobisOptions, PcaOptions};
use crate::fit::dense::DenseOptions;
use crate::fit::isolation_forest::IsolationForestOptions;
use crate::fit::learner::LearnerOptions;
use crate::fit::neighbour::NeighbourOptions;
use crate::fit::one_class::OneClassOptions;
use crate::fit::random_forest::RandomForestOptions;
use crate::fit::recurrent::RecurrentOptions;
use crate::fit::robust_zscore::RobustZScoreOptions;
use crate::fit::z_score::ZScoreOptions;
use crate::fit::{Fit, FitOptions};
use crate::threshold::ThresholdRule;

/// Every choice of a training run; with the data and this, the detector file is the same to the byte.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The detector's name.
    pub name: String,
    /// The model, with the choices of its kind.
    pub detector: DetectorChoice,
    /// Samples in a window.
    pub window_len: usize,
    /// Samples from one window to the next.
    pub stride: usize,
    /// The features of each channel, as in [`parse_feature`]; behind `@`, the one channel meant.
    pub features: Vec<String>,
    /// How residuals become a score.
    pub score: ScoreChoice,
    /// Whether residuals are divided by the spread they have on normal data.
    pub weigh_residuals: bool,
    /// Over how many windows scores are smoothed, with the weights of an exponential mean; 1 leaves
    /// them as they are.
    pub smoothing: usize,
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
}

/// Which model, and the choices of its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DetectorChoice {
    /// Mean and deviation of each feature.
    #[serde(rename = "z-score")]
    ZScore(ZScoreOptions),
    /// Median and absolute deviation of each feature.
    #[serde(rename = "robust-z-score")]
    RobustZScore(RobustZScoreOptions),
    /// The distance in units of the covariance.
    Mahalanobis(MahalanobisOptions),
    /// The residual of the principal components.
    Pca(PcaOptions),
    /// A dense autoencoder.
    Dense(DenseOptions),
    /// A recurrent autoencoder or forecaster.
    Recurrent(RecurrentOptions),
    /// A convolutional autoencoder.
    Convolution(ConvolutionOptions),
    /// A random forest that learned from labels.
    RandomForest(RandomForestOptions),
    /// An isolation forest.
    IsolationForest(IsolationForestOptions),
    /// A one-class SVM.
    OneClass(OneClassOptions),
    /// A model that keeps learning on the device.
    Learner(LearnerOptions),
    /// The distance to the nearest of some stored vectors.
    Neighbour(NeighbourOptions),
}

impl DetectorChoice {
    /// The default choice of every kind.
    #[must_use]
    pub fn all() -> Vec<Self> {
        vec![
            Self::ZScore(ZScoreOptions::default()),
            Self::RobustZScore(RobustZScoreOptions::default()),
            Self::Mahalanobis(MahalanobisOptions::default()),
            Self::Pca(PcaOptions::default()),
            Self::Dense(DenseOptions::default()),
            Self::Recurrent(RecurrentOptions::default()),
            Self::Convolution(ConvolutionOptions::default()),
            Self::RandomForest(RandomForestOptions::default()),
            Self::IsolationForest(IsolationForestOptions::default()),
            Self::OneClass(OneClassOptions::default()),
            Self::Learner(LearnerOptions::default()),
            Self::Neighbour(NeighbourOptions::default()),
        ]
    }

    /// Returns the default choice of the kind with a name.
    ///
    /// # Errors
    /// [`ChoiceError::Kind`] names the kinds that there are.
    pub fn of_kind(name: &str) -> Result<Self, ChoiceError> {
        Self::all().into_iter().find(|choice| choice.kind() == name).ok_or_else(|| {
            ChoiceError::Kind {
                name: name.to_owned(),
                known: Self::all().iter().map(Self::kind).collect::<Vec<_>>().join(", "),
            }
        })
    }

    /// Returns the kind's name.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ZScore(_) => "z-score",
            Self::RobustZScore(_) => "robust-z-score",
            Self::Mahalanobis(_) => "mahalanobis",
            Self::Pca(_) => "pca",
            Self::Dense(_) => "dense",
            Self::Recurrent(_) => "recurrent",
            Self::Convolution(_) => "convolution",
            Self::RandomForest(_) => "random-forest",
            Self::IsolationForest(_) => "isolation-forest",
            Self::OneClass(_) => "one-class",
            Self::Learner(_) => "learner",
            Self::Neighbour(_) => "neighbour",
        }
    }

    /// Says in a line what the kind is.
    #[must_use]
    pub fn about(&self) -> &'static str {
        match self {
            Self::ZScore(_) => "mean and deviation of each feature",
            Self::RobustZScore(_) => "median and absolute deviation of each feature",
            Self::Mahalanobis(_) => "distance in units of the covariance of normal data",
            Self::Pca(_) => "residual of the principal components",
            Self::Dense(_) => "autoencoder of dense layers",
            Self::Recurrent(_) => "LSTM or GRU: autoencoder over windows, or forecaster",
            Self::Convolution(_) => "autoencoder of convolution layers",
            Self::RandomForest(_) => "vote of classification trees; learns from labels",
            Self::IsolationForest(_) => "mean depth at which random trees isolate a vector",
            Self::OneClass(_) => "one-class SVM over random features",
            Self::Learner(_) => "keeps learning on the device; needs no training after",
            Self::Neighbour(_) => "distance to the nearest of some stored vectors",
        }
    }

    /// Returns the settings of the kind by name; some hold settings of their own.
    #[must_use]
    pub fn settings(&self) -> Value {
        let mut settings = plain(self);
        if let Some(settings) = settings.as_object_mut() {
            settings.remove(KIND_KEY);
        }
        settings
    }

    /// Tells whether the kind has a setting, such as `trees` or `fit.epochs`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.settings().pointer(&pointer(name)).is_some()
    }

    /// Changes a setting, such as `trees` or `fit.epochs`.
    ///
    /// # Errors
    /// [`ChoiceError`] names the settings that there are, or says what the value must be.
    pub fn set(&mut self, name: &str, value: Value) -> Result<(), ChoiceError> {
        let mut all = plain(&*self);
        let known = || setting_names(&self.settings(), "").join(", ");
        let kind = self.kind();
        let place = all
            .pointer_mut(&pointer(name))
            .filter(|_| name != KIND_KEY)
            .ok_or_else(|| ChoiceError::Setting { kind, name: name.to_owned(), known: known() })?;
        let text = value.to_string();
        *place = value;
        *self = serde_json::from_value(all).map_err(|source| ChoiceError::Value {
            kind,
            name: name.to_owned(),
            value: text,
            source,
        })?;
        Ok(())
    }

    /// Returns what fits the model.
    #[must_use]
    pub fn fit(&self) -> &dyn Fit {
        match self {
            Self::ZScore(options) => options,
            Self::RobustZScore(options) => options,
            Self::Mahalanobis(options) => options,
            Self::Pca(options) => options,
            Self::Dense(options) => options,
            Self::Recurrent(options) => options,
            Self::Convolution(options) => options,
            Self::RandomForest(options) => options,
            Self::IsolationForest(options) => options,
            Self::OneClass(options) => options,
            Self::Learner(options) => options,
            Self::Neighbour(options) => options,
        }
    }

    /// Returns the features that suit the kind: networks and stored vectors take the samples
    /// themselves, the others a few numbers that say what a window is like.
    #[must_use]
    pub fn usual_features(&self) -> Vec<String> {
        let names: &[&str] = match self {
            Self::Dense(_)
            | Self::Recurrent(_)
            | Self::Convolution(_)
            | Self::Pca(_)
            | Self::Neighbour(_)
            | Self::Learner(_) => &["samples"],
            _ => &["mean", "standard_deviation", "peak_to_peak", "slope"],
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Returns window and stride for the kind, in samples, where some may be asked for.
    ///
    /// A recurrent network takes sample by sample: what was asked for becomes its steps and its hop. So
    /// does the learner, unless told otherwise.
    pub fn lay_out(&mut self, window: Option<usize>, stride: Option<usize>) -> (usize, usize) {
        match self {
            Self::Recurrent(options) => {
                options.steps = window.unwrap_or(options.steps);
                if window.or(stride).is_some() {
                    options.hop = stride.unwrap_or(options.steps);
                }
                (1, 1)
            }
            Self::Learner(_) => {
                let window = window.unwrap_or(1);
                (window, stride.unwrap_or(window))
            }
            _ => {
                let window = window.unwrap_or(USUAL_WINDOW);
                let usual = if window <= WINDOW_OF_STRIDE_1_MAX { 1 } else { window };
                (window, stride.unwrap_or(usual))
            }
        }
    }

    /// Returns k and n of "k of n scores above the threshold" that suit the kind. A score of the learner
    /// holds the next ones back.
    #[must_use]
    pub fn usual_raise(&self) -> (u8, u8) {
        match self {
            Self::Learner(_) => (1, 1),
            _ => (2, 3),
        }
    }

    /// Tells whether the model learns from labels, and so has to see anomalies.
    #[must_use]
    pub fn learns_from_labels(&self) -> bool {
        matches!(self, Self::RandomForest(_))
    }

    /// Tells whether the model leaves residuals; the others give scores of their own.
    #[must_use]
    pub fn gives_residuals(&self) -> bool {
        !matches!(
            self,
            Self::RandomForest(_) | Self::IsolationForest(_) | Self::OneClass(_) | Self::Learner(_)
        )
    }

    /// Tells whether residuals are divided by the spread that they have on normal data. Those of a
    /// z-score and of the Mahalanobis distance are in units of it already.
    #[must_use]
    pub fn has_residual_gains(&self) -> bool {
        matches!(self, Self::Pca(_) | Self::Dense(_) | Self::Recurrent(_) | Self::Convolution(_))
    }
}

/// Samples in a window, unless told otherwise.
const USUAL_WINDOW: usize = 32;
/// Windows up to this length advance by one sample where no stride is given.
const WINDOW_OF_STRIDE_1_MAX: usize = 64;
/// Where the kind stands among the settings.
const KIND_KEY: &str = "kind";

/// Returns settings as JSON. By way of text, as a number of 32 bits is shortest there: 0.9, where its
/// widening would be 0.8999999761581421.
pub(crate) fn plain(settings: &impl Serialize) -> Value {
    let text = serde_json::to_string(settings).expect("settings are plain data");
    serde_json::from_str(&text).expect("what was written reads back")
}

fn pointer(name: &str) -> String {
    format!("/{}", name.replace('.', "/"))
}

fn setting_names(settings: &Value, prefix: &str) -> Vec<String> {
    let Some(settings) = settings.as_object() else {
        return vec![prefix.trim_end_matches('.').to_owned()];
    };
    let names =
        settings.iter().flat_map(|(name, value)| setting_names(value, &format!("{prefix}{name}.")));
    names.collect()
}

/// A kind of detector or one of its settings is not understood.
#[derive(Debug, Error)]
pub enum ChoiceError {
    /// There is no such kind.
    #[error("there is no detector `{name}`; there are {known}")]
    Kind {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The kind has no such setting.
    #[error("the detector {kind} has no setting `{name}`; it has {}", if known.is_empty() { "none" } else { known })]
    Setting {
        /// The kind.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The setting cannot have that value.
    #[error("the setting `{name}` of the detector {kind} cannot be {value}: {source}")]
    Value {
        /// The kind.
        kind: &'static str,
        /// The setting.
        name: String,
        /// The value given.
        value: String,
        /// What it must be.
        source: serde_json::Error,
    },
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
            detector: DetectorChoice::Dense(DenseOptions::default()),
            window_len: 32,
            stride: 1,
            features: vec!["samples".to_owned()],
            score: ScoreChoice::Rms,
            weigh_residuals: true,
            smoothing: 1,
            threshold: ThresholdRule::Quantile { quantile: 1.0, margin: 0.25 },
            raise_count: 2,
            raise_of: 3,
            clear_share: 0.8,
            clear_count: 3,
            calibration_share: 0.2,
        }
    }
}

impl Recipe {
    /// Returns how the threshold follows from normal scores. The scores that an engine gives itself, such
    /// as a share of votes, have no zero to multiply: their quantile is raised above the median.
    #[must_use]
    pub fn threshold_rule(&self) -> ThresholdRule {
        match self.threshold {
            ThresholdRule::Quantile { quantile, margin } if !self.detector.gives_residuals() => {
                ThresholdRule::AboveMedian { quantile, margin }
            }
            rule => rule,
        }
    }

    /// Returns the recipe for the rooms of [`crate::synth::temperature`].
    ///
    /// The deviation shows a stuck sensor, which the samples alone reconstruct well. Rooms of other
    /// seeds score up to twice as high as the room of the training, and a stuck sensor ten times:
    /// the margin lies between.
    #[must_use]
    pub fn synthetic_room() -> Self {
        Self {
            name: "room".to_owned(),
            detector: DetectorChoice::Dense(DenseOptions {
                fit: FitOptions::default(),
                ..DenseOptions::default()
            }),
            features: vec!["samples".to_owned(), "standard_deviation".to_owned()],
            threshold: ThresholdRule::Quantile { quantile: 1.0, margin: 2.0 },
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name_and_keeps_its_settings() {
        for choice in DetectorChoice::all() {
            let found = DetectorChoice::of_kind(choice.kind()).expect("is found");
            assert_eq!(found, choice);
            let json = serde_json::to_value(&choice).expect("plain data");
            assert_eq!(json[KIND_KEY], choice.kind());
            let again: DetectorChoice = serde_json::from_value(json).expect("reads back");
            assert_eq!(again, choice);
        }
    }

    #[test]
    fn settings_change_by_name_and_errors_name_what_there_is() {
        let mut choice = DetectorChoice::of_kind("dense").expect("is found");
        choice.set("fit.epochs", 7.into()).expect("is a setting");
        choice.set("encoder", serde_json::json!([5, 2])).expect("is a setting");
        let DetectorChoice::Dense(options) = &choice else { panic!("it is dense") };
        assert_eq!((options.fit.epochs, &options.encoder[..]), (7, &[5, 2][..]));
        let unknown = choice.set("trees", 7.into()).expect_err("there are no trees").to_string();
        assert!(unknown.contains("`trees`") && unknown.contains("fit.epochs"), "{unknown}");
        let wrong = choice.set("fit.epochs", "many".into()).expect_err("no number").to_string();
        assert!(wrong.contains("fit.epochs") && wrong.contains("many"), "{wrong}");
        let kind = DetectorChoice::of_kind("densest").expect_err("no kind").to_string();
        assert!(kind.contains("`densest`") && kind.contains("isolation-forest"), "{kind}");
    }
}
