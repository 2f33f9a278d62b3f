//! The loop over epochs that every network shares: order, progress, early stopping, best weights.

use core::ops::ControlFlow;

use super::checks::training_rows;
use super::trainer::{Best, remember, shuffle};
use super::{Ending, FitError, FitOptions, Progress};
use crate::random::Random;

/// A network that learns batch by batch from rows of its own.
pub(super) trait Learns {
    /// Rows that there are.
    fn rows(&self) -> usize;
    /// Trains on a batch of rows; returns the sum of their mean squared errors before the step.
    fn train(&mut self, order: &[u32]) -> f64;
    /// The mean squared error over rows.
    fn error(&mut self, order: &[u32]) -> f64;
    /// What is learned.
    fn parameters(&self) -> &[f32];
    /// The largest magnitude among inputs and targets.
    fn largest(&self) -> f32;
    /// Is called before each epoch, counted from 1; tells whether its weights may be kept.
    fn begin(&mut self, _epoch: usize) -> bool {
        true
    }
}

/// How a run over epochs went.
pub(super) struct Run {
    /// Of the best epoch.
    pub(super) parameters: Vec<f32>,
    pub(super) history: Vec<Progress>,
    pub(super) best_epoch: usize,
    pub(super) ending: Ending,
}

/// Trains until the epochs, the patience or the caller ends it.
pub(super) fn run(
    learner: &mut impl Learns,
    options: &FitOptions,
    random: &mut Random,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Run, FitError> {
    let mut order: Vec<u32> = (0..).take(learner.rows()).collect();
    let validation = order.split_off(training_rows(learner.rows(), options)?);
    let batch = options.batch.min(learner.rows());
    let mut history = Vec::new();
    let mut best: Option<Best> = None;
    let mut ending = Ending::Epochs;
    for epoch in 1..=options.epochs {
        let may_keep = learner.begin(epoch);
        if options.shuffle {
            shuffle(&mut order, random);
        }
        let squares: f64 = order.chunks(batch).map(|chosen| learner.train(chosen)).sum();
        let train_loss = squares / order.len() as f64;
        let validation_loss = (!validation.is_empty()).then(|| learner.error(&validation));
        if !train_loss.is_finite() || validation_loss.is_some_and(|loss| !loss.is_finite()) {
            let (learning_rate, largest) = (options.learning_rate, learner.largest());
            return Err(FitError::Diverged { epoch, learning_rate, largest });
        }
        let now = Progress { epoch, train_loss, validation_loss };
        history.push(now);
        // The last epoch is kept where none before it may be.
        if may_keep || (best.is_none() && epoch == options.epochs) {
            remember(&mut best, now, learner.parameters(), options);
        }
        if progress(now).is_break() {
            remember_any(&mut best, now, learner.parameters(), options);
            ending = Ending::Callback;
            break;
        }
        let waited = best.as_ref().map_or(0, |best| epoch - best.epoch);
        if validation_loss.is_some() && options.patience.is_some_and(|most| waited >= most) {
            ending = Ending::Patience;
            break;
        }
    }
    let best = best.expect("at least one epoch was run, and its loss was finite");
    Ok(Run { parameters: best.parameters, history, best_epoch: best.epoch, ending })
}

/// Keeps the epoch if there is none yet.
fn remember_any(best: &mut Option<Best>, now: Progress, parameters: &[f32], options: &FitOptions) {
    if best.is_none() {
        remember(best, now, parameters, options);
    }
}
