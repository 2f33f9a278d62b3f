//! The training loop: batches forward and backward through the layers, Adam, early stopping.

use core::ops::ControlFlow;

use pulp::Arch;

use super::checks::{self, check_architecture, check_options, check_rows};
use super::elementwise::SquaredError;
use super::epochs::{self, Learns};
use super::kernel::padded;
use super::layer::Plan;
use super::parameters::Parameters;
use super::refine::{self, Refinement, Refines};
use super::rounding::Round;
use super::{Architecture, FitError, FitOptions, Fitted, FittedModel, Progress};
use crate::compile::Model;
use crate::network::{Grid, Network};
use crate::quantise::{Calibration, QuantiseOptions, activation_grids, quantise};
use crate::random::Random;
use crate::rows::Rows;

/// Parameters, their gradients and moments, and the buffers of one batch.
pub(super) struct Trainer {
    arch: Arch,
    plans: Vec<Plan>,
    parameters: Parameters,
    /// Of the input and of each layer, while the network learns to live with rounding.
    grids: Vec<Grid>,
    /// The weights once more with outputs as rows, for the way back.
    turned: Vec<f32>,
    /// `activations[0]` is the batch's input, `activations[l + 1]` the output of layer l;
    /// `[batch][padded]`.
    activations: Vec<Vec<f32>>,
    /// `deltas[l]`: the loss's gradient at the output of layer l, `[batch][outputs_padded]`.
    deltas: Vec<Vec<f32>>,
    /// `[batch][outputs_padded]` of the last layer.
    targets: Vec<f32>,
}

impl Trainer {
    /// Lays out the layers and draws their weights.
    pub(super) fn new(architecture: &Architecture, batch: usize, random: &mut Random) -> Self {
        let mut plans: Vec<Plan> = Vec::new();
        let layers = architecture.widths.len() - 1;
        for (index, pair) in architecture.widths.windows(2).enumerate() {
            let last = index + 1 == layers;
            let activation = if last { architecture.output } else { architecture.hidden };
            plans.push(Plan::behind(plans.last(), pair[0], pair[1], activation));
        }
        let buffer = |width: usize| vec![0.0; batch * padded(width)];
        let (parameters_len, turned_len) = plans.last().map_or((0, 0), Plan::ends);
        let mut parameters =
            Parameters::new(parameters_len, plans.iter().map(Plan::matrix).collect());
        plans.iter().for_each(|plan| plan.initialise(&mut parameters.values, random));
        let mut trainer = Self {
            arch: Arch::new(),
            parameters,
            grids: Vec::new(),
            turned: vec![0.0; turned_len],
            activations: architecture.widths.iter().copied().map(buffer).collect(),
            deltas: architecture.widths[1..].iter().copied().map(buffer).collect(),
            targets: buffer(architecture.widths[layers]),
            plans,
        };
        trainer.turn_weights();
        trainer
    }

    /// Brings the turned weights up to date; the first layer needs none.
    fn turn_weights(&mut self) {
        for plan in self.plans.iter().skip(1) {
            plan.turn(self.parameters.used(), &mut self.turned);
        }
    }

    /// Copies the chosen rows into the batch's input and target.
    fn load(&mut self, inputs: Rows<'_>, targets: Rows<'_>, order: &[u32]) {
        let input = self.activations[0].chunks_exact_mut(padded(inputs.width()));
        let target = self.targets.chunks_exact_mut(padded(targets.width()));
        for ((input, target), index) in input.zip(target).zip(order) {
            input[..inputs.width()].copy_from_slice(inputs.row(*index as usize));
            target[..targets.width()].copy_from_slice(targets.row(*index as usize));
        }
    }

    fn forward(&mut self, rows: usize) {
        if let Some(grid) = self.grids.first() {
            let len = rows * self.plans[0].inputs_padded;
            self.arch.dispatch(Round { grid: *grid, values: &mut self.activations[0][..len] });
        }
        for (index, plan) in self.plans.iter().enumerate() {
            let (before, after) = self.activations.split_at_mut(index + 1);
            let out = &mut after[0][..rows * plan.outputs_padded];
            let input = (&before[index][..], plan.inputs_padded);
            let grid = self.grids.get(index + 1).copied();
            plan.forward(self.arch, &self.parameters, grid, input, out);
        }
    }

    /// Writes the last layer's deltas and returns the batch's sum of squared errors.
    fn loss(&mut self, rows: usize) -> f64 {
        let plan = self.plans.last().expect("a trainer has a layer");
        let (outputs, deltas) = (self.activations.last(), self.deltas.last_mut());
        let len = rows * plan.outputs_padded;
        self.arch.dispatch(SquaredError {
            outputs: &outputs.expect("a trainer has a layer")[..len],
            targets: &self.targets[..len],
            deltas: &mut deltas.expect("a trainer has a layer")[..len],
            width: plan.outputs,
            padded: plan.outputs_padded,
            gradient_scale: 2.0 / (rows * plan.outputs) as f32,
        })
    }

    /// Turns the last layer's deltas into the gradients of all parameters.
    fn backward(&mut self, rows: usize) {
        for (index, plan) in self.plans.iter().enumerate().rev() {
            let (before, from) = self.deltas.split_at_mut(index);
            let deltas = &mut from[0][..rows * plan.outputs_padded];
            let input = (&self.activations[index][..], plan.inputs_padded);
            let outputs = &self.activations[index + 1];
            let (gradients, grid) =
                (&mut self.parameters.gradients, self.grids.get(index + 1).copied());
            plan.weight_gradients(self.arch, gradients, grid, input, outputs, deltas);
            if let Some(before) = before.last_mut() {
                let before = &mut before[..rows * plan.inputs_padded];
                plan.input_deltas(self.arch, &self.turned, deltas, before);
            }
        }
    }

    /// Trains on one batch; returns its sum of squared errors before the step.
    pub(super) fn train(
        &mut self,
        inputs: Rows<'_>,
        targets: Rows<'_>,
        order: &[u32],
        options: &FitOptions,
    ) -> f64 {
        let loss = self.accumulate(inputs, targets, order);
        self.parameters.step(self.arch, options);
        self.turn_weights();
        loss
    }

    /// Computes one batch's gradients; returns its sum of squared errors.
    pub(super) fn accumulate(&mut self, inputs: Rows<'_>, targets: Rows<'_>, order: &[u32]) -> f64 {
        self.load(inputs, targets, order);
        self.forward(order.len());
        let loss = self.loss(order.len());
        self.backward(order.len());
        loss
    }

    /// Mean squared error over the chosen rows, in batches of at most `batch`.
    fn evaluate(&mut self, inputs: Rows<'_>, targets: Rows<'_>, rows: &[u32], batch: usize) -> f64 {
        let mut total = 0.0;
        for order in rows.chunks(batch) {
            self.load(inputs, targets, order);
            self.forward(order.len());
            total += self.loss(order.len());
        }
        total / (rows.len() * targets.width()) as f64
    }

    /// The network with the given parameters, which are laid out as this trainer's.
    fn network(&self, parameters: &[f32]) -> Network {
        Network { layers: self.plans.iter().map(|plan| plan.layer(parameters)).collect() }
    }

    /// The network as it stands.
    pub(super) fn snapshot(&self) -> Network {
        self.network(&self.parameters.values)
    }

    /// Does without vector instructions, for tests.
    #[cfg(test)]
    pub(super) fn use_scalar_instructions(&mut self) {
        self.arch = Arch::Scalar;
    }

    /// Adds to every bias, for tests.
    #[cfg(test)]
    pub(super) fn raise_biases(&mut self, by: f32) {
        for plan in &self.plans {
            for bias in &mut self.parameters.values[plan.bias.clone()][..plan.outputs] {
                *bias += by;
            }
        }
    }

    /// Makes one output of a layer so many times as large and the weights that take it in so many
    /// times smaller, which changes nothing in single precision, for tests.
    #[cfg(test)]
    pub(super) fn stretch(&mut self, layer: usize, output: usize, factor: f32) {
        let values = &mut self.parameters.values;
        let (plan, next) = (&self.plans[layer], &self.plans[layer + 1]);
        let column = values[plan.weights.start..plan.bias.end][output..].iter_mut();
        column.step_by(plan.outputs_padded).for_each(|weight| *weight *= factor);
        let row = &mut values[next.weights.clone()][output * next.outputs_padded..];
        row[..next.outputs_padded].iter_mut().for_each(|weight| *weight /= factor);
    }

    /// The gradients of the last batch in the form of a network, for tests.
    #[cfg(test)]
    pub(super) fn gradients(&self) -> Network {
        self.network(&self.parameters.gradients)
    }
}

pub(super) fn initial(architecture: &Architecture, seed: u64) -> Result<Network, FitError> {
    check_architecture(architecture)?;
    Ok(Trainer::new(architecture, 1, &mut Random::new(seed)).snapshot())
}

/// Uniform from -1 (included) to 1 (excluded), on a grid of 2^-23.
pub(super) fn symmetric(random: &mut Random) -> f32 {
    (random.next_u32() >> 8) as f32 / 8_388_608.0 - 1.0
}

/// Puts `order` into random order (Fisher and Yates).
pub(super) fn shuffle(order: &mut [u32], random: &mut Random) {
    let ends = (1..).take(order.len()).skip(1);
    for (index, end) in (1..order.len()).zip(ends) {
        order.swap(index, random.below(end) as usize);
    }
}

/// The best epoch so far.
pub(super) struct Best {
    pub(super) epoch: usize,
    loss: f64,
    pub(super) parameters: Vec<f32>,
}

pub(super) fn fit(
    architecture: &Architecture,
    inputs: Rows<'_>,
    targets: Rows<'_>,
    options: &FitOptions,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Fitted, FitError> {
    check_options(options)?;
    check_rows(architecture, inputs, targets)?;
    let mut random = Random::new(options.seed);
    let batch = options.batch.min(inputs.len());
    let trainer = Trainer::new(architecture, batch, &mut random);
    let mut tables = Tables { trainer, inputs, targets, options };
    let run = epochs::run(&mut tables, options, &mut random, &mut progress)?;
    Ok(Fitted {
        network: tables.trainer.network(&run.parameters),
        history: run.history,
        best_epoch: run.best_epoch,
        ending: run.ending,
    })
}

/// Fits an autoencoder and brings it into the form that the device runs.
pub(super) fn fit_model(
    architecture: &Architecture,
    rows: Rows<'_>,
    refinement: &Refinement<'_>,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<FittedModel, FitError> {
    let options = refinement.fit;
    check_options(options)?;
    check_rows(architecture, rows, rows)?;
    let mut random = Random::new(options.seed);
    let batch = options.batch.min(rows.len());
    let trainer = Trainer::new(architecture, batch, &mut random);
    let mut tables = Tables { trainer, inputs: rows, targets: rows, options };
    refine::run(&mut tables, refinement, &mut random, progress)
}

impl Refines for Tables<'_> {
    fn table(&self) -> Rows<'_> {
        self.inputs
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.trainer.parameters
    }

    fn renew(&mut self) {
        self.trainer.turn_weights();
    }

    fn set_grids(&mut self, grids: Vec<Grid>) {
        self.trainer.grids = grids;
    }

    fn grids(&self, rows: Rows<'_>) -> Result<Vec<Grid>, FitError> {
        let network = self.trainer.network(self.trainer.parameters.used());
        Ok(activation_grids(&network, rows, Calibration::MinMax)?)
    }

    fn float_model(&self, parameters: &[f32]) -> Result<Model, FitError> {
        Ok(Model::dense(&self.trainer.network(parameters))?)
    }

    fn int8_model(&self, parameters: &[f32]) -> Result<Model, FitError> {
        let network = self.trainer.network(parameters);
        Ok(Model::dense_int8(&quantise(&network, self.inputs, &QuantiseOptions::default())?)?)
    }
}

/// A trainer with the rows that it is to fit.
pub(super) struct Tables<'a> {
    pub(super) trainer: Trainer,
    pub(super) inputs: Rows<'a>,
    pub(super) targets: Rows<'a>,
    pub(super) options: &'a FitOptions,
}

impl Learns for Tables<'_> {
    fn rows(&self) -> usize {
        self.inputs.len()
    }

    fn train(&mut self, order: &[u32]) -> f64 {
        let squares = self.trainer.train(self.inputs, self.targets, order, self.options);
        squares / self.targets.width() as f64
    }

    fn error(&mut self, order: &[u32]) -> f64 {
        let batch = self.options.batch.min(self.inputs.len());
        self.trainer.evaluate(self.inputs, self.targets, order, batch)
    }

    fn parameters(&self) -> &[f32] {
        &self.trainer.parameters.values
    }

    fn largest(&self) -> f32 {
        checks::largest(self.inputs).max(checks::largest(self.targets))
    }
}

/// Keeps the epoch when its validation loss is the best; without validation, keeps the latest.
pub(super) fn remember(
    best: &mut Option<Best>,
    now: Progress,
    parameters: &[f32],
    options: &FitOptions,
) {
    let loss = now.validation_loss.unwrap_or(f64::NEG_INFINITY);
    match best {
        None => {
            *best = Some(Best { epoch: now.epoch, loss, parameters: parameters.to_vec() });
        }
        Some(best)
            if now.validation_loss.is_none() || loss < best.loss - options.improvement_min =>
        {
            best.epoch = now.epoch;
            best.loss = loss;
            best.parameters.copy_from_slice(parameters);
        }
        Some(_) => {}
    }
}
