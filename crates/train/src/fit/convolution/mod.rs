//! The convolutional autoencoder.

mod trainer;

#[cfg(test)]
mod tests;

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::checks::check_options;
use super::dense::Precision;
use super::epochs;
use super::refine::{self, QuantisationAware, Refinement};
use super::{Ending, Fit, FitError, FitOptions, FittedModel, Progress, TrainingData};
use crate::limits::{FIT_ROWS_MAX, NETWORK_LAYERS_MAX, NETWORK_WIDTH_MAX};
use crate::network::convolution::{ConvolutionForm, ConvolutionNetwork};
use crate::random::Random;
use crate::rows::Rows;
use trainer::{ConvolutionTrainer, Learner};

/// How to fit the convolutional autoencoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConvolutionOptions {
    /// Filters of the encoder's layers, each of which halves the window; the decoder mirrors them.
    pub filters: Vec<usize>,
    /// Places that a kernel covers.
    pub kernel_width: usize,
    /// The arithmetic on the device.
    pub precision: Precision,
    /// The share of the weights that pruning takes out; 0 prunes nothing.
    pub prune: f64,
    /// Whether the network learns to live with the rounding of int8.
    pub quantisation_aware: QuantisationAware,
    /// How the network is fitted.
    pub fit: FitOptions,
}

impl Default for ConvolutionOptions {
    /// Two layers of 16 and 4 filters, five places wide.
    fn default() -> Self {
        let fit = FitOptions {
            epochs: 200,
            learning_rate: 0.002,
            patience: Some(20),
            seed: 1,
            ..FitOptions::default()
        };
        Self {
            filters: vec![16, 4],
            kernel_width: 5,
            precision: Precision::Int8,
            prune: 0.0,
            quantisation_aware: QuantisationAware::Auto,
            fit,
        }
    }
}

impl Fit for ConvolutionOptions {
    fn fit(
        &self,
        data: &TrainingData<'_>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError> {
        let form = self.form(data.rows.width(), data.channels)?;
        let refinement = Refinement {
            precision: self.precision,
            prune: self.prune,
            quantisation_aware: self.quantisation_aware,
            fit: &self.fit,
        };
        let (mut learner, mut random) = learner(&form, data.rows, &self.fit)?;
        refine::run(&mut learner, &refinement, &mut random, progress)
    }
}

impl ConvolutionOptions {
    /// The form for rows of so many numbers from so many channels.
    fn form(&self, width: usize, channels: usize) -> Result<ConvolutionForm, FitError> {
        let refuse = |option, value: usize, range| {
            Err(FitError::Option { option, value: value as f64, range })
        };
        let layers = 2 * self.filters.len();
        if !(1..=NETWORK_LAYERS_MAX).contains(&layers) {
            return refuse("the number of filters", self.filters.len(), "1 to 32");
        }
        if let Some(filters) =
            self.filters.iter().find(|filters| !(1..=NETWORK_WIDTH_MAX).contains(*filters))
        {
            return refuse("filters", *filters, "1 to 32768");
        }
        if !(1..=width).contains(&self.kernel_width) {
            return refuse("kernel_width", self.kernel_width, "from 1 to the length of the window");
        }
        if channels == 0 || !width.is_multiple_of(channels) {
            return refuse("channels", channels, "a divisor of the feature vector's length");
        }
        Ok(ConvolutionForm {
            channels,
            len: width / channels,
            filters: self.filters.clone(),
            kernel_width: self.kernel_width,
        })
    }
}

/// A fitted convolution network and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedConvolution {
    /// With the weights of the best epoch.
    pub network: ConvolutionNetwork,
    /// One entry an epoch.
    pub history: Vec<Progress>,
    /// The epoch whose weights were kept, counted from 1.
    pub best_epoch: usize,
    /// Why fitting ended.
    pub ending: Ending,
}

/// Fits a convolution network that reproduces its rows, `[channels][length]` each: minibatch Adam on
/// the mean squared error, with early stopping, as [`fit_autoencoder`](super::fit_autoencoder).
///
/// # Errors
/// When form, rows or options do not fit together, or the loss stops being finite.
pub fn fit_convolution(
    form: &ConvolutionForm,
    rows: Rows<'_>,
    options: &FitOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<FittedConvolution, FitError> {
    let (mut learner, mut random) = learner(form, rows, options)?;
    let run = epochs::run(&mut learner, options, &mut random, progress)?;
    Ok(FittedConvolution {
        network: learner.trainer.network(&run.parameters),
        history: run.history,
        best_epoch: run.best_epoch,
        ending: run.ending,
    })
}

/// Checks what there is to fit and lays out the network; the generator goes on to give the order.
fn learner<'a>(
    form: &ConvolutionForm,
    rows: Rows<'a>,
    options: &'a FitOptions,
) -> Result<(Learner<'a>, Random), FitError> {
    check_options(options)?;
    form.check()?;
    let needed = form.channels * form.len;
    if rows.width() != needed {
        let (table, end) = ("input", "input");
        return Err(FitError::Width { table, end, found: rows.width(), needed });
    }
    if rows.len() > FIT_ROWS_MAX {
        return Err(FitError::TooManyRows { rows: rows.len() });
    }
    let mut random = Random::new(options.seed);
    let batch = options.batch.min(rows.len());
    let trainer = ConvolutionTrainer::new(form, batch, &mut random);
    Ok((Learner { trainer, rows, options }, random))
}
