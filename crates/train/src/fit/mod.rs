//! Fits models: every kind of detector through one trait, [`Fit`]; the same seed and data give the same
//! bits on every machine and any number of threads.
//!
//! Dense networks: minibatch Adam on the mean squared error, with early stopping, on one thread.

mod checks;
pub mod convolution;
pub mod covariance;
pub mod dense;
mod elementwise;
mod epochs;
pub mod isolation_forest;
mod kernel;
mod layer;
pub mod learner;
mod linear;
pub mod neighbour;
pub mod one_class;
mod parameters;
pub mod random_forest;
pub mod recurrent;
pub mod refine;
pub mod robust_zscore;
mod rounding;
mod trainer;
pub mod tree;
pub mod z_score;

#[cfg(test)]
mod tests;

use core::ops::ControlFlow;

use thiserror::Error;

use refine::Refined;

use crate::compile::Model;
use crate::limits::FIT_ROWS_MAX;
use crate::network::{Activation, Network, NetworkError};
use crate::quantise::QuantiseError;
use crate::rows::{Rows, RowsError};

/// What a model is fitted to.
#[derive(Clone, Copy, Debug)]
pub struct TrainingData<'a> {
    /// Scaled feature vectors in the order of time.
    pub rows: Rows<'a>,
    /// Channels, whose features stand one after the other in a row, as many of each.
    pub channels: usize,
    /// The rows that begin a run without a gap; the first is 0.
    pub run_starts: &'a [usize],
    /// For models that learn from labels, which rows are anomalous; all others see normal rows alone.
    pub labels: Option<&'a [bool]>,
    /// The most threads to use.
    pub threads: usize,
}

/// A fitted model and how it came about.
#[derive(Clone, Debug)]
pub struct FittedModel {
    /// The model.
    pub model: Model,
    /// One entry an epoch; empty for models that are not fitted in epochs.
    pub history: Vec<Progress>,
    /// The epoch whose weights were kept.
    pub best_epoch: Option<usize>,
    /// Why fitting ended.
    pub ending: Option<Ending>,
    /// What pruning and quantisation did; nothing for models that have neither.
    pub refined: Refined,
}

impl From<Model> for FittedModel {
    /// For a model that is fitted in one pass.
    fn from(model: Model) -> Self {
        Self {
            model,
            history: Vec::new(),
            best_epoch: None,
            ending: None,
            refined: Refined::default(),
        }
    }
}

/// Fits one kind of model; what is fitted is scored by the core alone.
pub trait Fit {
    /// Fits the model. `progress` is called after each epoch and may break off, which keeps the best
    /// so far.
    ///
    /// # Errors
    /// [`FitError`] says what stands in the way and what to do.
    fn fit(
        &self,
        data: &TrainingData<'_>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError>;
}

/// The form of a dense network: its widths and activations.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Architecture {
    /// Values at the input, after each hidden layer and at the output: at least two.
    pub widths: Vec<usize>,
    /// Of every layer but the last.
    pub hidden: Activation,
    /// Of the last layer.
    pub output: Activation,
}

impl Architecture {
    /// A ReLU autoencoder: `inputs`, the `encoder` widths, the same mirrored, `inputs`.
    ///
    /// With 16 inputs and the encoder 32, 16, 8 this is 16-32-16-8-16-32-16.
    #[must_use]
    pub fn autoencoder(inputs: usize, encoder: &[usize]) -> Self {
        let mirrored = encoder.iter().rev().skip(1);
        let widths = core::iter::once(&inputs)
            .chain(encoder)
            .chain(mirrored)
            .chain(core::iter::once(&inputs));
        Self {
            widths: widths.copied().collect(),
            hidden: Activation::Relu,
            output: Activation::Linear,
        }
    }
}

/// How to fit.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FitOptions {
    /// Most passes over the training rows.
    pub epochs: usize,
    /// Rows of a minibatch.
    pub batch: usize,
    /// Adam's step size.
    pub learning_rate: f32,
    /// Adam's decay of the first moment.
    pub beta1: f32,
    /// Adam's decay of the second moment.
    pub beta2: f32,
    /// Adam's guard against division by zero.
    pub epsilon: f32,
    /// Share of the rows, from the end, kept out of training to validate; 0.0 to below 1.0.
    pub validation_share: f32,
    /// Stop after this many epochs without a better validation loss; `None` never stops early.
    pub patience: Option<usize>,
    /// A validation loss counts as better when it is lower by more than this.
    pub improvement_min: f64,
    /// Train in a new random order each epoch; otherwise in time order.
    pub shuffle: bool,
    /// Decides weights and order.
    pub seed: u64,
}

impl Default for FitOptions {
    /// The defaults of PyTorch's Adam, batches of 64, a fifth of the rows for validation.
    fn default() -> Self {
        Self {
            epochs: 100,
            batch: 64,
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            validation_share: 0.2,
            patience: Some(10),
            improvement_min: 0.0,
            shuffle: true,
            seed: 0,
        }
    }
}

/// What is known after an epoch.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Progress {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean squared error over the epoch's batches, each taken before its step.
    pub train_loss: f64,
    /// Mean squared error over the validation rows after the epoch; `None` without such rows.
    pub validation_loss: Option<f64>,
}

/// Why fitting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// All epochs were run.
    Epochs,
    /// The validation loss no longer improved.
    Patience,
    /// The progress callback broke off.
    Callback,
}

/// A fitted network and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// With the weights of the best epoch.
    pub network: Network,
    /// One entry an epoch.
    pub history: Vec<Progress>,
    /// The epoch whose weights were kept, counted from 1.
    pub best_epoch: usize,
    /// Why fitting ended.
    pub ending: Ending,
}

/// Why a network cannot be fitted.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum FitError {
    /// The rows are empty, ragged or not finite.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// The architecture is not a legal network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The table and the network differ in width.
    #[error("the {table} rows have {found} columns, but the network's {end} is {needed} wide")]
    Width {
        /// `input` or `target`.
        table: &'static str,
        /// `input` or `output`.
        end: &'static str,
        /// Columns found.
        found: usize,
        /// Columns needed.
        needed: usize,
    },
    /// Inputs and targets differ in number.
    #[error("{inputs} input rows, but {targets} target rows: each input needs its target")]
    Pairs {
        /// Input rows.
        inputs: usize,
        /// Target rows.
        targets: usize,
    },
    /// There are more rows than one fit takes.
    #[error(
        "{rows} rows are more than one fit takes ({FIT_ROWS_MAX}): use a larger stride or fewer files"
    )]
    TooManyRows {
        /// Rows given.
        rows: usize,
    },
    /// An option is outside its range.
    #[error("{option} is {value}, but must be {range}")]
    Option {
        /// Its name.
        option: &'static str,
        /// The value given.
        value: f64,
        /// The legal range.
        range: &'static str,
    },
    /// The split leaves no row to train on, or none to validate on.
    #[error(
        "{rows} rows with a validation share of {share} leave {train} to train and {validation} to validate: \
         give more rows or another share"
    )]
    Split {
        /// Rows given.
        rows: usize,
        /// The share asked for.
        share: f32,
        /// Rows left to train.
        train: usize,
        /// Rows left to validate.
        validation: usize,
    },
    /// The feature vector has more or fewer numbers than this kind of model takes.
    #[error(
        "the feature vector has {found} numbers, but {model} takes {legal}: choose other features, means of blocks \
         such as samples:4, or another window"
    )]
    VectorLen {
        /// The kind of model.
        model: &'static str,
        /// Numbers found.
        found: usize,
        /// What it takes.
        legal: String,
    },
    /// A number that the fit needs cannot be computed.
    #[error("{0}")]
    Degenerate(&'static str),
    /// No run without a gap is long enough.
    #[error(
        "the longest run of rows without a gap has {longest}, but the network needs {needed}: \
         give longer recordings, or choose fewer steps or a smaller stride"
    )]
    RunTooShort {
        /// Rows needed.
        needed: usize,
        /// Rows of the longest run.
        longest: usize,
    },
    /// The split leaves no sequence to train on, or none to validate on.
    #[error(
        "{rows} rows with a validation share of {share} leave {training} sequences to train and \
         {validation} to validate: give longer recordings, another share, or fewer steps than {steps}"
    )]
    SequenceSplit {
        /// Rows given.
        rows: usize,
        /// The share asked for.
        share: f32,
        /// Steps asked for.
        steps: usize,
        /// Windows or streams left to train.
        training: usize,
        /// Windows or streams left to validate.
        validation: usize,
    },
    /// The network cannot be quantised.
    #[error(transparent)]
    Quantise(#[from] QuantiseError),
    /// The forest cannot be fitted.
    #[error(transparent)]
    Forest(#[from] tree::ForestError),
    /// The loss became infinite or not a number.
    #[error(
        "the loss is no longer finite in epoch {epoch}: lower the learning rate (now {learning_rate}), \
         and scale the inputs to about mean 0 and deviation 1 (the largest magnitude is {largest})"
    )]
    Diverged {
        /// Counted from 1.
        epoch: usize,
        /// The learning rate in use.
        learning_rate: f32,
        /// Largest magnitude in inputs and targets.
        largest: f32,
    },
}

/// The network that [`fit_regression`] starts from with this seed.
///
/// # Errors
/// When the architecture is not a legal network.
pub fn initial_network(architecture: &Architecture, seed: u64) -> Result<Network, FitError> {
    trainer::initial(architecture, seed)
}

/// Fits a network that reproduces its input, as [`fit_regression`] with the inputs as targets.
///
/// # Errors
/// As [`fit_regression`].
pub fn fit_autoencoder(
    architecture: &Architecture,
    rows: Rows<'_>,
    options: &FitOptions,
    progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Fitted, FitError> {
    fit_regression(architecture, rows, rows, options, progress)
}

/// Fits a network that maps each input row to its target row.
///
/// Rows stand in time order; the last [`FitOptions::validation_share`] of them validate. `progress`
/// is called after each epoch and may break off, which keeps the best weights so far.
///
/// # Errors
/// When widths, numbers of rows or options do not fit together, or the loss stops being finite.
pub fn fit_regression(
    architecture: &Architecture,
    inputs: Rows<'_>,
    targets: Rows<'_>,
    options: &FitOptions,
    progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Fitted, FitError> {
    trainer::fit(architecture, inputs, targets, options, progress)
}
