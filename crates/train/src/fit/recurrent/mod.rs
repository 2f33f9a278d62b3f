//! Recurrent networks: autoencoders over windows and forecasters.
//!
//! Trained by backpropagation through time in single precision, an autoencoder over whole windows
//! from zero state, a forecaster in chunks of long sequences with carried state. The products and
//! passes are those of the dense networks and have the same bits on every machine.

mod cell;
pub mod encode;
pub mod network;
mod plan;
mod sequences;
mod shard;
mod team;
mod trainer;

#[cfg(test)]
mod tests;

use core::ops::ControlFlow;

use pulp::Arch;
use serde::{Deserialize, Serialize};
use stonechat_core::limits::{RECURRENT_LANES_MAX, RECURRENT_LAYERS_MAX, RECURRENT_STEPS_MAX};

use self::encode::{encode, encode_int8};
use self::network::{Cell, Form, RecurrentNetwork};
use super::checks::check_options;
use super::dense::Precision;
use super::refine::Refined;
use super::{Ending, Fit, FitError, FitOptions, FittedModel, Progress, TrainingData};
use crate::limits::FIT_ROWS_MAX;
use crate::network::{Activation, NetworkError, check_chain};
use crate::quantise::QuantiseOptions;
use crate::quantise::recurrent::quantise_recurrent;
use crate::rows::Rows;

/// The form of a recurrent network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecurrentArchitecture {
    /// How it meets a stream.
    pub form: Form,
    /// The cell of every layer.
    pub cell: Cell,
    /// Numbers in a vector.
    pub inputs: usize,
    /// Units of the layers from the vector on; the decoder of an autoencoder mirrors them.
    pub encoder: Vec<usize>,
    /// Vectors in a window of an autoencoder; vectors before a forecaster's first forecast that
    /// counts, and those that its gradients reach back.
    pub steps: usize,
    /// Of the dense layer to the vector.
    pub output: Activation,
}

impl RecurrentArchitecture {
    /// Units of all recurrent layers in the order of data.
    fn units(&self) -> impl Iterator<Item = usize> {
        let decoder = match self.form {
            Form::Staggered => &self.encoder[..],
            Form::Stateful => &[],
        };
        self.encoder.iter().chain(decoder.iter().rev()).copied()
    }

    fn check(&self) -> Result<(), FitError> {
        if !(1..=RECURRENT_STEPS_MAX).contains(&self.steps) {
            let value = self.steps as f64;
            return Err(FitError::Option { option: "steps", value, range: "1 to 4096" });
        }
        if self.encoder.is_empty() {
            let range = "at least one width";
            return Err(FitError::Option { option: "encoder", value: 0.0, range });
        }
        let widths: Vec<usize> =
            core::iter::once(self.inputs).chain(self.units()).chain([self.inputs]).collect();
        let pairs = widths.windows(2);
        Ok(check_chain(pairs.map(|pair| (pair[0], pair[1])))?)
    }
}

/// How to fit a recurrent network.
#[derive(Clone, Debug, PartialEq)]
pub struct RecurrentFitOptions {
    /// Epochs, batch, Adam and the rest, as for dense networks; a batch counts windows or streams.
    pub fit: FitOptions,
    /// The greatest Euclidean norm of all gradients together; longer ones are scaled down to it.
    pub clip_norm: Option<f32>,
}

/// A fitted recurrent network and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedRecurrent {
    /// With the weights of the best epoch.
    pub network: RecurrentNetwork,
    /// One entry an epoch.
    pub history: Vec<Progress>,
    /// The epoch whose weights were kept, counted from 1.
    pub best_epoch: usize,
    /// Why fitting ended.
    pub ending: Ending,
}

/// The network that [`fit_recurrent`] starts from with this seed.
///
/// # Errors
/// When the architecture is not a legal network.
pub fn initial_recurrent(
    architecture: &RecurrentArchitecture,
    seed: u64,
) -> Result<RecurrentNetwork, FitError> {
    architecture.check()?;
    let plan = plan::Plan::new(architecture);
    Ok(plan.network(&trainer::initial_parameters(&plan, seed)))
}

/// Fits a recurrent network to rows in time order, on at most `threads` threads.
///
/// Windows and streams never cross `run_starts`. Windows stand half a window apart. The last
/// [`FitOptions::validation_share`] validates and shares no row with what trains. `progress` is
/// called after each epoch and may break off, which keeps the best weights so far. The same bits come
/// out for any number of threads.
///
/// # Errors
/// When the architecture or an option is illegal, no run is as long as a window, or the loss
/// stops being finite.
pub fn fit_recurrent(
    architecture: &RecurrentArchitecture,
    rows: Rows<'_>,
    run_starts: &[usize],
    options: &RecurrentFitOptions,
    threads: usize,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<FittedRecurrent, FitError> {
    architecture.check()?;
    check_options(&options.fit)?;
    if let Some(norm) = options.clip_norm
        && !(norm.is_finite() && norm > 0.0)
    {
        let (option, value) = ("clip_norm", f64::from(norm));
        return Err(FitError::Option { option, value, range: "a number above 0, or none" });
    }
    if rows.width() != architecture.inputs {
        return Err(FitError::Width {
            table: "input",
            end: "input",
            found: rows.width(),
            needed: architecture.inputs,
        });
    }
    if rows.len() > FIT_ROWS_MAX {
        return Err(FitError::TooManyRows { rows: rows.len() });
    }
    trainer::fit(architecture, rows, run_starts, options, threads, Arch::new(), &mut progress)
}

/// How to fit a recurrent detector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecurrentOptions {
    /// How the network meets the stream.
    pub form: Form,
    /// The cell of every layer.
    pub cell: Cell,
    /// Units of the layers from the vector on; the decoder of an autoencoder mirrors them.
    pub encoder: Vec<usize>,
    /// Vectors in a window of an autoencoder; vectors that a forecaster warms up on and that its
    /// gradients reach back.
    pub steps: usize,
    /// Vectors from one verdict to the next; of an autoencoder a divisor of `steps`. Training
    /// windows always stand half a window apart.
    pub hop: usize,
    /// Of the dense layer to the vector.
    pub output: Activation,
    /// The arithmetic on the device.
    pub precision: Precision,
    /// The greatest Euclidean norm of all gradients together; none does not clip.
    pub clip_norm: Option<f32>,
    /// How the network is fitted; a batch counts windows or streams.
    pub fit: FitOptions,
}

impl Default for RecurrentOptions {
    fn default() -> Self {
        Self {
            form: Form::Staggered,
            cell: Cell::Lstm,
            encoder: vec![16, 8],
            steps: 40,
            hop: 20,
            output: Activation::Linear,
            precision: Precision::Int8,
            clip_norm: Some(1.0),
            fit: FitOptions { batch: 32, seed: 1, ..FitOptions::default() },
        }
    }
}

impl RecurrentOptions {
    /// Checks what the core would refuse, before time is spent on training.
    fn check(&self) -> Result<(), FitError> {
        if self.encoder.len() > RECURRENT_LAYERS_MAX {
            let value = self.encoder.len() as f64;
            return Err(FitError::Option { option: "encoder", value, range: "at most 8 widths" });
        }
        let legal = match self.form {
            Form::Staggered => {
                self.hop > 0
                    && self.steps.is_multiple_of(self.hop)
                    && self.steps / self.hop <= RECURRENT_LANES_MAX
            }
            Form::Stateful => (1..=RECURRENT_STEPS_MAX).contains(&self.hop),
        };
        if !legal {
            let range = match self.form {
                Form::Staggered => "the steps of a window divided by 1 to 64 without remainder",
                Form::Stateful => "1 to 4096",
            };
            return Err(FitError::Option { option: "hop", value: self.hop as f64, range });
        }
        let in_int8 = matches!(self.output, Activation::Linear | Activation::Relu);
        if self.precision == Precision::Int8 && !in_int8 {
            let layer = self.encoder.len() * if self.form == Form::Staggered { 2 } else { 1 };
            return Err(NetworkError::Activation { layer, activation: self.output }.into());
        }
        Ok(())
    }
}

impl Fit for RecurrentOptions {
    fn fit(
        &self,
        data: &TrainingData<'_>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError> {
        self.check()?;
        let architecture = RecurrentArchitecture {
            form: self.form,
            cell: self.cell,
            inputs: data.rows.width(),
            encoder: self.encoder.clone(),
            steps: self.steps,
            output: self.output,
        };
        let options = RecurrentFitOptions { fit: self.fit.clone(), clip_norm: self.clip_norm };
        let (rows, run_starts) = (data.rows, data.run_starts);
        let fitted =
            fit_recurrent(&architecture, rows, run_starts, &options, data.threads, progress)?;
        let float = encode(&fitted.network, self.hop)?;
        let mut refined = Refined::default();
        let model = match self.precision {
            Precision::Float32 => float,
            Precision::Int8 => {
                refined.float_twin = Some(float);
                let options = QuantiseOptions::default();
                let quantised = quantise_recurrent(&fitted.network, rows, run_starts, &options)?;
                encode_int8(&quantised, self.hop)?
            }
        };
        Ok(FittedModel {
            model,
            history: fitted.history,
            best_epoch: Some(fitted.best_epoch),
            ending: Some(fitted.ending),
            refined,
        })
    }
}
