//! From a fitted network to the form that the device runs: pruning by magnitude, quantisation, and
//! training with rounding where quantisation alone costs too much.

mod trial;

#[cfg(test)]
mod tests;

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::checks::training_rows;
use super::dense::Precision;
use super::epochs::{self, Learns, Run};
use super::parameters::Parameters;
use super::{FitError, FitOptions, FittedModel, Progress};
use crate::compile::Model;
use crate::limits::{AWARE_CALIBRATION_ROWS_MAX, INT8_AUC_LOSS_MAX, PRUNE_SHARE_MAX};
use crate::network::Grid;
use crate::random::Random;
use crate::rows::Rows;
use trial::Trial;

/// Training with rounding takes so many times fewer epochs than training without ...
const AWARE_EPOCHS_DIVISOR: usize = 2;
/// ... and smaller steps.
const AWARE_RATE_FACTOR: f32 = 0.2;
/// The share of the pruning epochs over which the share of zeros grows.
const PRUNE_GROWTH_DIVISOR: usize = 4;
/// Steps of fine-tuning are smaller than those of training.
const PRUNE_RATE_FACTOR: f32 = 0.5;

/// Whether a network learns to live with the rounding of int8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuantisationAware {
    /// Where quantisation after training costs more than a point of AUC: held-out rows against the
    /// same rows disturbed so much that the network in single precision reaches 0.9 (see
    /// [`QuantisationLoss`]). No labels are needed.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What quantisation costs: the AUC with which a model tells held-out rows from the same rows
/// disturbed (a spike, a shift of a part, or noise, so large that the network in single precision
/// reaches about 0.9, where differences show best).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct QuantisationLoss {
    /// Of the network in single precision.
    pub float_auc: f64,
    /// Of the same network quantised.
    pub int8_auc: f64,
    /// Of the network that learned to live with rounding, where that was tried.
    pub aware_auc: Option<f64>,
    /// Whether that one was kept.
    pub aware_kept: bool,
}

/// What pruning and quantisation did to a network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refined {
    /// The share of weights that are zero, where pruning was asked for.
    pub pruned_share: Option<f64>,
    /// What quantisation costs, where it could be measured.
    pub quantisation: Option<QuantisationLoss>,
    /// The same network in single precision, beside an int8 model.
    pub float_twin: Option<Model>,
}

/// What is to be made of a network.
pub(super) struct Refinement<'a> {
    pub(super) precision: Precision,
    pub(super) prune: f64,
    pub(super) quantisation_aware: QuantisationAware,
    pub(super) fit: &'a FitOptions,
}

/// A learner whose network can be pruned, rounded and brought into the form of the device.
pub(super) trait Refines: Learns {
    /// The rows that it learns from.
    fn table(&self) -> Rows<'_>;
    fn parameters_mut(&mut self) -> &mut Parameters;
    /// Is called after the parameters changed from outside.
    fn renew(&mut self);
    /// Rounds input and activations to these grids from now on; without any, no longer.
    fn set_grids(&mut self, grids: Vec<Grid>);
    /// The grids of the network as it computes now.
    fn grids(&self, rows: Rows<'_>) -> Result<Vec<Grid>, FitError>;
    fn float_model(&self, parameters: &[f32]) -> Result<Model, FitError>;
    fn int8_model(&self, parameters: &[f32]) -> Result<Model, FitError>;
}

/// Fits, prunes and quantises.
pub(super) fn run<L: Refines>(
    learner: &mut L,
    refinement: &Refinement<'_>,
    random: &mut Random,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<FittedModel, FitError> {
    let prune = refinement.prune;
    if !(0.0..=PRUNE_SHARE_MAX).contains(&prune) {
        return Err(FitError::Option { option: "prune", value: prune, range: "from 0 to 0.95" });
    }
    let fitted = epochs::run(learner, refinement.fit, random, progress)?;
    refine(learner, fitted, refinement, random, progress)
}

/// Prunes and quantises what was fitted.
fn refine<L: Refines>(
    learner: &mut L,
    mut fitted: Run,
    refinement: &Refinement<'_>,
    random: &mut Random,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<FittedModel, FitError> {
    let mut refined = Refined::default();
    if refinement.prune > 0.0 {
        fitted = pruned(learner, fitted, refinement, random, progress)?;
        let zeros = learner.parameters_mut().share_of_zeros(&fitted.parameters);
        refined.pruned_share = Some(zeros);
    }
    let float = learner.float_model(&fitted.parameters)?;
    let model = match refinement.precision {
        Precision::Float32 => float,
        Precision::Int8 => {
            let quantised = quantised(learner, &float, fitted, refinement, random, progress)?;
            fitted = quantised.run;
            refined.quantisation = quantised.loss;
            refined.float_twin = Some(float);
            quantised.model
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

/// A network in int8.
struct Quantised {
    model: Model,
    run: Run,
    loss: Option<QuantisationLoss>,
}

/// Quantises what was fitted, and trains on with rounding where that is wanted and helps.
fn quantised<L: Refines>(
    learner: &mut L,
    float: &Model,
    fitted: Run,
    refinement: &Refinement<'_>,
    random: &mut Random,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Quantised, FitError> {
    let trial = Trial::new(learner.table(), refinement.fit, float);
    let auc = |model: &Model| trial.as_ref().and_then(|trial| trial.auc(model));
    let model = learner.int8_model(&fitted.parameters)?;
    let before = auc(&model);
    let mut loss = trial.as_ref().map(Trial::float_auc).zip(before).map(|(float_auc, int8_auc)| {
        QuantisationLoss { float_auc, int8_auc, aware_auc: None, aware_kept: false }
    });
    let costs = loss.is_some_and(|loss| loss.float_auc - loss.int8_auc > INT8_AUC_LOSS_MAX);
    let is_wanted = match refinement.quantisation_aware {
        QuantisationAware::Auto => costs,
        QuantisationAware::Always => true,
        QuantisationAware::Never => false,
    };
    if !is_wanted {
        return Ok(Quantised { model, run: fitted, loss });
    }
    let best_epoch = fitted.best_epoch;
    let mut aware = aware(learner, fitted, refinement, random, progress)?;
    let aware_model = learner.int8_model(&aware.parameters)?;
    let after = auc(&aware_model);
    let is_kept = refinement.quantisation_aware == QuantisationAware::Always
        || after.zip(before).is_some_and(|(after, before)| after > before);
    if let Some(loss) = &mut loss {
        (loss.aware_auc, loss.aware_kept) = (after, is_kept);
    }
    if is_kept {
        return Ok(Quantised { model: aware_model, run: aware, loss });
    }
    aware.best_epoch = best_epoch;
    Ok(Quantised { model, run: aware, loss })
}

/// Goes on training from what a run ended with; epochs count on.
fn go_on(
    learner: &mut impl Learns,
    before: Run,
    options: &FitOptions,
    random: &mut Random,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Run, FitError> {
    let done = before.history.len();
    let later = |now: Progress| Progress { epoch: now.epoch + done, ..now };
    let run = epochs::run(learner, options, random, &mut |now| progress(later(now)))?;
    let mut history = before.history;
    history.extend(run.history.into_iter().map(later));
    Ok(Run { history, best_epoch: run.best_epoch + done, ..run })
}

/// A learner whose weights are taken out one after the other.
struct Pruning<'a, L> {
    learner: &'a mut L,
    share: f64,
    /// The epochs until the share is reached.
    growth: usize,
}

/// Takes out the least weights little by little and lets the others make up for it.
///
/// The kernels of the device multiply by zeros as by all else, so that a pruned network is not faster,
/// and the detector file keeps its length; it is what a sender compresses that gets shorter.
///
/// Zhu and Gupta 2017, "To prune, or not to prune", equation 1: the share of zeros grows with the
/// cube of the time that is left, fast at first, while there is much to spare. Only epochs with the
/// full share are kept.
fn pruned<L: Refines>(
    learner: &mut L,
    before: Run,
    refinement: &Refinement<'_>,
    random: &mut Random,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Run, FitError> {
    learner.parameters_mut().restart(&before.parameters);
    learner.renew();
    let growth = (refinement.fit.epochs / PRUNE_GROWTH_DIVISOR).max(1);
    let options = FitOptions {
        learning_rate: refinement.fit.learning_rate * PRUNE_RATE_FACTOR,
        ..refinement.fit.clone()
    };
    let mut pruning = Pruning { learner, share: refinement.prune, growth };
    go_on(&mut pruning, before, &options, random, progress)
}

impl<L: Refines> Learns for Pruning<'_, L> {
    fn rows(&self) -> usize {
        self.learner.rows()
    }

    fn train(&mut self, order: &[u32]) -> f64 {
        self.learner.train(order)
    }

    fn error(&mut self, order: &[u32]) -> f64 {
        self.learner.error(order)
    }

    fn parameters(&self) -> &[f32] {
        self.learner.parameters()
    }

    fn largest(&self) -> f32 {
        self.learner.largest()
    }

    fn begin(&mut self, epoch: usize) -> bool {
        if epoch <= self.growth {
            let left = 1.0 - epoch as f64 / self.growth as f64;
            let share = self.share * (1.0 - left.powi(3));
            self.learner.parameters_mut().prune(share);
            self.learner.renew();
        }
        epoch >= self.growth
    }
}

/// A learner that computes with rounded weights and activations.
struct Aware<'a, L> {
    learner: &'a mut L,
    /// Rows that the ranges of the activations are taken from.
    calibration: Vec<f32>,
}

/// Trains on with rounding, from what a run ended with.
fn aware<L: Refines>(
    learner: &mut L,
    before: Run,
    refinement: &Refinement<'_>,
    random: &mut Random,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Run, FitError> {
    let rows = learner.table();
    let train = training_rows(rows.len(), refinement.fit)?;
    let every = train.div_ceil(AWARE_CALIBRATION_ROWS_MAX).max(1);
    let calibration = rows.iter().take(train).step_by(every).flatten().copied().collect();
    learner.parameters_mut().restart(&before.parameters);
    learner.parameters_mut().round_weights(true);
    let options = FitOptions {
        epochs: refinement.fit.epochs.div_ceil(AWARE_EPOCHS_DIVISOR),
        learning_rate: refinement.fit.learning_rate * AWARE_RATE_FACTOR,
        ..refinement.fit.clone()
    };
    let mut aware = Aware { learner, calibration };
    let run = go_on(&mut aware, before, &options, random, progress);
    learner.parameters_mut().round_weights(false);
    learner.set_grids(Vec::new());
    learner.renew();
    run
}

impl<L: Refines> Learns for Aware<'_, L> {
    fn rows(&self) -> usize {
        self.learner.rows()
    }

    fn train(&mut self, order: &[u32]) -> f64 {
        self.learner.train(order)
    }

    fn error(&mut self, order: &[u32]) -> f64 {
        self.learner.error(order)
    }

    fn parameters(&self) -> &[f32] {
        self.learner.parameters()
    }

    fn largest(&self) -> f32 {
        self.learner.largest()
    }

    /// Takes the ranges of the activations anew: they move with the weights.
    fn begin(&mut self, _epoch: usize) -> bool {
        self.learner.renew();
        let width = self.learner.table().width();
        let grids = Rows::new(&self.calibration, width)
            .map_err(FitError::from)
            .and_then(|rows| self.learner.grids(rows));
        // A range that cannot be scaled comes with a loss that is not finite, which ends the run.
        if let Ok(grids) = grids {
            self.learner.set_grids(grids);
        }
        true
    }
}
