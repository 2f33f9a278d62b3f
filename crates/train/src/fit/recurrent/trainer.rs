//! The training loop: batches shared out over threads, clipped gradients, Adam, early stopping.
//!
//! A batch is cut into a fixed number of shards, whose gradients are added in their order: the
//! bits are the same for any number of threads.

use core::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, RwLock};

use pulp::Arch;

use super::cell::{AddTo, SumOfSquares};
use super::network::Form;
use super::plan::Plan;
use super::sequences::{Sequence, Sequences};
use super::shard::{Piece, Shard};
use super::team::{Team, with_team};
use super::{FittedRecurrent, RecurrentArchitecture, RecurrentFitOptions};
use crate::fit::checks;
use crate::fit::elementwise::Adam;
use crate::fit::trainer::{Best, remember, shuffle};
use crate::fit::{Ending, FitError, FitOptions, Progress};
use crate::limits::RECURRENT_SHARDS;
use crate::random::Random;
use crate::rows::Rows;

/// Rows of a shard are a multiple of this, as products take so many rows at a time.
const SHARD_ROWS_STEP: usize = 4;
/// The stream of random numbers that the order is drawn from; weights have stream 0.
const ORDER_STREAM: u64 = 1;

/// What the threads read while they work on a batch.
struct Task {
    parameters: Vec<f32>,
    turned: Vec<f32>,
    /// One a row of the batch.
    pieces: Vec<Piece>,
    carry: bool,
    learn: bool,
    gradient_scale: f32,
}

/// What the threads share.
struct Shared<'a> {
    plan: Plan,
    rows: Rows<'a>,
    /// Rows of a shard.
    shard_rows: usize,
    /// Rows from an input to its target.
    ahead: usize,
    task: RwLock<Task>,
    shards: Vec<Mutex<Shard>>,
}

impl Shared<'_> {
    /// Runs one shard of the batch.
    fn work(&self, index: usize) {
        let task = self.task.read().expect("no thread panicked");
        let mut shard = self.shard(index);
        let mine = task.pieces.chunks(self.shard_rows).nth(index).unwrap_or(&[]);
        shard.load(&self.plan, self.rows, mine, self.ahead, task.carry);
        shard.forward(&self.plan, &task.parameters, task.gradient_scale);
        if task.learn {
            shard.backward(&self.plan, &task.turned);
        }
    }

    fn shard(&self, index: usize) -> MutexGuard<'_, Shard> {
        self.shards[index].lock().expect("no thread panicked")
    }
}

/// The squared errors of some batches.
#[derive(Clone, Copy, Default)]
struct Errors {
    squares: f64,
    values: usize,
}

impl Errors {
    fn add(&mut self, other: Self) {
        self.squares += other.squares;
        self.values += other.values;
    }

    fn mean(self) -> f64 {
        self.squares / self.values as f64
    }
}

/// The thread that leads, with what it alone changes.
struct Trainer<'a> {
    shared: &'a Shared<'a>,
    team: &'a Team<'a>,
    arch: Arch,
    options: &'a RecurrentFitOptions,
    gradients: Vec<f32>,
    first_moments: Vec<f32>,
    second_moments: Vec<f32>,
    updates: i32,
}

impl Trainer<'_> {
    /// Runs a group of sequences, at most a batch, chunk by chunk; `learn` steps after each.
    fn run(&mut self, group: &[&Sequence], learn: bool) -> Errors {
        let steps = self.shared.plan.steps;
        let chunks = group.iter().map(|sequence| sequence.chunks(steps)).max().unwrap_or(0);
        let mut errors = Errors::default();
        for chunk in 0..chunks {
            let pieces = group.iter().map(|sequence| sequence.piece(chunk, steps));
            errors.add(self.run_chunk(pieces, chunk > 0, learn));
        }
        errors
    }

    fn run_chunk(
        &mut self,
        pieces: impl Iterator<Item = Piece>,
        carry: bool,
        learn: bool,
    ) -> Errors {
        let mut task = self.shared.task.write().expect("no thread panicked");
        task.pieces.clear();
        task.pieces.extend(pieces);
        let counted: usize = task.pieces.iter().map(|piece| piece.counted.len()).sum();
        let values = counted * self.shared.plan.output.outputs;
        task.carry = carry;
        task.learn = learn && values > 0;
        task.gradient_scale = 2.0 / values.max(1) as f32;
        let learn = task.learn;
        let shards = task.pieces.len().div_ceil(self.shared.shard_rows);
        drop(task);
        self.team.run(shards);
        let mut squares = 0.0;
        for index in 0..shards {
            let shard = self.shared.shard(index);
            squares += shard.squares;
            if !learn {
                continue;
            }
            if index == 0 {
                self.gradients.copy_from_slice(&shard.gradients);
            } else {
                let values = &shard.gradients;
                self.arch.dispatch(AddTo { sums: &mut self.gradients, values });
            }
        }
        if learn {
            self.shared.plan.mask(&mut self.gradients);
            self.step();
        }
        Errors { squares, values }
    }

    fn step(&mut self) {
        if let Some(norm_max) = self.options.clip_norm {
            clip(self.arch, &mut self.gradients, norm_max);
        }
        let options = &self.options.fit;
        self.updates = self.updates.saturating_add(1);
        // In f64, as 0.999^n is too close to 1 for f32 in the first steps.
        let correction1 = 1.0 - f64::from(options.beta1).powi(self.updates);
        let correction2 = 1.0 - f64::from(options.beta2).powi(self.updates);
        let mut task = self.shared.task.write().expect("no thread panicked");
        let Task { parameters, turned, .. } = &mut *task;
        self.arch.dispatch(Adam {
            parameters,
            gradients: &self.gradients,
            first_moments: &mut self.first_moments,
            second_moments: &mut self.second_moments,
            beta1: options.beta1,
            beta2: options.beta2,
            epsilon: options.epsilon,
            step: (f64::from(options.learning_rate) / correction1) as f32,
            second_correction: (1.0 / correction2.sqrt()) as f32,
        });
        self.shared.plan.turn(parameters, turned);
    }

    /// Mean squared error over sequences.
    fn evaluate(&mut self, sequences: &[Sequence]) -> f64 {
        let mut errors = Errors::default();
        for group in sequences.chunks(self.options.fit.batch) {
            let group: Vec<_> = group.iter().collect();
            errors.add(self.run(&group, false));
        }
        errors.mean()
    }

    fn train(
        &mut self,
        sequences: &Sequences,
        mut random: Random,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedRecurrent, FitError> {
        let options: &FitOptions = &self.options.fit;
        let training = &sequences.training;
        let mut order: Vec<u32> = (0..).take(training.len()).collect();
        let mut history = Vec::new();
        let mut best: Option<Best> = None;
        let mut ending = Ending::Epochs;
        for epoch in 1..=options.epochs {
            if options.shuffle {
                shuffle(&mut order, &mut random);
            }
            let mut errors = Errors::default();
            for chosen in order.chunks(options.batch) {
                let group: Vec<_> = chosen.iter().map(|index| &training[*index as usize]).collect();
                errors.add(self.run(&group, true));
            }
            let train_loss = errors.mean();
            let validation = &sequences.validation;
            let validation_loss = (!validation.is_empty()).then(|| self.evaluate(validation));
            if !train_loss.is_finite() || validation_loss.is_some_and(|loss| !loss.is_finite()) {
                return Err(FitError::Diverged {
                    epoch,
                    learning_rate: options.learning_rate,
                    largest: checks::largest(self.shared.rows),
                });
            }
            let now = Progress { epoch, train_loss, validation_loss };
            history.push(now);
            let task = self.shared.task.read().expect("no thread panicked");
            remember(&mut best, now, &task.parameters, options);
            drop(task);
            if progress(now).is_break() {
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
        Ok(FittedRecurrent {
            network: self.shared.plan.network(&best.parameters),
            history,
            best_epoch: best.epoch,
            ending,
        })
    }
}

/// Scales gradients down where their norm is too large (Pascanu et al. 2013, algorithm 1).
pub(super) fn clip(arch: Arch, gradients: &mut [f32], norm_max: f32) {
    let norm = arch.dispatch(SumOfSquares { values: gradients }).sqrt();
    if norm > f64::from(norm_max) {
        let factor = (f64::from(norm_max) / norm) as f32;
        gradients.iter_mut().for_each(|gradient| *gradient *= factor);
    }
}

/// Rows of a shard of a batch.
fn shard_rows(batch: usize) -> usize {
    batch.div_ceil(RECURRENT_SHARDS).next_multiple_of(SHARD_ROWS_STEP)
}

pub(super) fn initial_parameters(plan: &Plan, seed: u64) -> Vec<f32> {
    plan.initial(&mut Random::new(seed))
}

pub(super) fn fit(
    architecture: &RecurrentArchitecture,
    rows: Rows<'_>,
    run_starts: &[usize],
    options: &RecurrentFitOptions,
    threads: usize,
    arch: Arch,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<FittedRecurrent, FitError> {
    let sequences = Sequences::new(architecture, rows.len(), run_starts, &options.fit)?;
    let plan = Plan::new(architecture);
    let most = sequences.training.len().max(sequences.validation.len());
    let batch = options.fit.batch.min(most);
    let shard_rows = shard_rows(batch);
    let shards = batch.div_ceil(shard_rows);
    let parameters = initial_parameters(&plan, options.fit.seed);
    let mut turned = vec![0.0; plan.turned_len];
    plan.turn(&parameters, &mut turned);
    let parameters_len = plan.parameters_len;
    let shared = Shared {
        rows,
        shard_rows,
        ahead: match architecture.form {
            Form::Staggered => 0,
            Form::Stateful => 1,
        },
        task: RwLock::new(Task {
            parameters,
            turned,
            pieces: Vec::with_capacity(batch),
            carry: false,
            learn: true,
            gradient_scale: 0.0,
        }),
        shards: (0..shards).map(|_| Mutex::new(Shard::new(arch, &plan, shard_rows))).collect(),
        plan,
    };
    let work = |index: usize| shared.work(index);
    with_team(threads.clamp(1, shards), &work, |team| {
        let mut trainer = Trainer {
            shared: &shared,
            team,
            arch,
            options,
            gradients: vec![0.0; parameters_len],
            first_moments: vec![0.0; parameters_len],
            second_moments: vec![0.0; parameters_len],
            updates: 0,
        };
        let order = Random::stream(options.fit.seed, ORDER_STREAM);
        trainer.train(&sequences, order, progress)
    })
}
