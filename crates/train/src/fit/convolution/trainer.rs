//! Batches forward and backward through convolutions: what each kernel covers is laid out as a row
//! (im2col), so that the products are those of dense layers.

use core::ops::Range;

use pulp::Arch;
use stonechat_core::detector::Geometry;

use super::super::checks;
use super::super::elementwise::{ColumnSums, Derive, SquaredError};
use super::super::epochs::Learns;
use super::super::kernel::{Left, Product, padded};
use super::super::parameters::{Matrix, Parameters};
use super::super::refine::Refines;
use super::super::rounding::{Round, activate, stop};
use super::super::trainer::symmetric;
use super::{FitError, FitOptions};
use crate::compile::Model;
use crate::network::convolution::{ConvolutionForm, ConvolutionLayer, ConvolutionNetwork};
use crate::network::{Activation, Grid, Layer};
use crate::quantise::{Calibration, activation_grids, quantise_convolution};
use crate::random::Random;
use crate::rows::Rows;

/// Where a tap lies in the padding.
const OUTSIDE: u32 = u32::MAX;

/// Where one layer's numbers lie in the flat vectors of a trainer.
struct Plan {
    geometry: Geometry,
    /// Numbers that a kernel covers.
    inputs: usize,
    filters: usize,
    inputs_padded: usize,
    filters_padded: usize,
    activation: Activation,
    /// `[inputs][filters_padded]` in the parameters.
    weights: Range<usize>,
    /// `[filters_padded]` in the parameters.
    bias: Range<usize>,
    /// `[filters][inputs_padded]` in the turned weights.
    turned: Range<usize>,
    /// `[places of the output][kernel_width]`: the place of the input, or [`OUTSIDE`].
    taps: Vec<u32>,
}

impl Plan {
    fn output_len(&self) -> usize {
        self.geometry.output_len()
    }
}

/// Parameters and the buffers of one batch. Between the layers numbers stand as
/// `[batch][length][channels padded]`.
pub(super) struct ConvolutionTrainer {
    arch: Arch,
    plans: Vec<Plan>,
    parameters: Parameters,
    /// Of the input and of each layer, while the network learns to live with rounding.
    grids: Vec<Grid>,
    /// The weights once more with filters as rows, for the way back.
    turned: Vec<f32>,
    /// `activations[0]` is the batch's input, `activations[l + 1]` the output of layer l.
    activations: Vec<Vec<f32>>,
    /// `patches[l]`: what the kernels of layer l cover, `[batch][length][inputs]`.
    patches: Vec<Vec<f32>>,
    /// `deltas[l]`: the loss's gradient at the output of layer l.
    deltas: Vec<Vec<f32>>,
    /// The batch's input before any rounding.
    targets: Vec<f32>,
    /// The loss's gradient at the patches of one layer, `[batch][length][inputs_padded]`.
    patch_deltas: Vec<f32>,
}

impl ConvolutionTrainer {
    /// Lays out the layers and draws their weights: He for ReLU, Glorot otherwise, both uniform;
    /// biases start at zero.
    pub(super) fn new(form: &ConvolutionForm, batch: usize, random: &mut Random) -> Self {
        let mut plans: Vec<Plan> = Vec::new();
        let (mut parameters_len, mut turned_len) = (0, 0);
        for (geometry, filters, activation) in form.layers() {
            let inputs = geometry.kernel_width * geometry.channels;
            let (inputs_padded, filters_padded) = (padded(inputs), padded(filters));
            let weights = parameters_len..parameters_len + inputs * filters_padded;
            let bias = weights.end..weights.end + filters_padded;
            let turned = turned_len..turned_len + filters * inputs_padded;
            (parameters_len, turned_len) = (bias.end, turned.end);
            let taps = taps(&geometry);
            plans.push(Plan {
                geometry,
                inputs,
                filters,
                inputs_padded,
                filters_padded,
                activation,
                weights,
                bias,
                turned,
                taps,
            });
        }
        let outputs = |plan: &Plan| vec![0.0; batch * plan.output_len() * plan.filters_padded];
        let input = vec![0.0; batch * form.len * padded(form.channels)];
        let covered = |plan: &Plan| vec![0.0; batch * plan.output_len() * plan.inputs];
        let matrix = |plan: &Plan| Matrix {
            weights: plan.weights.clone(),
            outputs: plan.filters,
            stride: plan.filters_padded,
        };
        let widest = plans.iter().map(|plan| plan.output_len() * plan.inputs_padded).max();
        let mut trainer = Self {
            arch: Arch::new(),
            parameters: Parameters::new(parameters_len, plans.iter().map(matrix).collect()),
            grids: Vec::new(),
            turned: vec![0.0; turned_len],
            targets: input.clone(),
            activations: core::iter::once(input).chain(plans.iter().map(outputs)).collect(),
            patches: plans.iter().map(covered).collect(),
            deltas: plans.iter().map(outputs).collect(),
            patch_deltas: vec![0.0; batch * widest.unwrap_or(0)],
            plans,
        };
        trainer.initialise(random);
        trainer
    }

    fn initialise(&mut self, random: &mut Random) {
        for plan in &self.plans {
            let (inputs, filters) = (plan.inputs as f32, plan.filters as f32);
            let bound = match plan.activation {
                Activation::Relu => (6.0 / inputs).sqrt(),
                _ => (6.0 / (inputs + filters)).sqrt(),
            };
            let weights = &mut self.parameters.values[plan.weights.clone()];
            let rows = weights.chunks_exact_mut(plan.filters_padded);
            for weight in rows.flat_map(|row| &mut row[..plan.filters]) {
                *weight = bound * symmetric(random);
            }
        }
        self.turn_weights();
    }

    /// Copies the weights with rows and columns exchanged.
    fn turn_weights(&mut self) {
        for plan in &self.plans {
            let weights = &self.parameters.used()[plan.weights.clone()];
            let turned = &mut self.turned[plan.turned.clone()];
            for (filter, row) in turned.chunks_exact_mut(plan.inputs_padded).enumerate() {
                let column = weights[filter..].iter().step_by(plan.filters_padded);
                for (to, from) in row.iter_mut().zip(column) {
                    *to = *from;
                }
            }
        }
    }

    /// Copies the chosen rows into the batch's input, `[length][channels]` each.
    fn load(&mut self, rows: Rows<'_>, order: &[u32]) {
        let Geometry { channels, input_len, .. } = self.plans[0].geometry;
        let stride = padded(channels);
        let inputs = self.targets.chunks_exact_mut(input_len * stride);
        for (input, index) in inputs.zip(order) {
            let row = rows.row(*index as usize);
            for (channel, numbers) in row.chunks_exact(input_len).enumerate() {
                for (place, number) in input.chunks_exact_mut(stride).zip(numbers) {
                    place[channel] = *number;
                }
            }
        }
        self.activations[0].copy_from_slice(&self.targets);
    }

    fn forward(&mut self, rows: usize) {
        if let Some(grid) = self.grids.first() {
            self.arch.dispatch(Round { grid: *grid, values: &mut self.activations[0] });
        }
        for (index, plan) in self.plans.iter().enumerate() {
            let (before, after) = self.activations.split_at_mut(index + 1);
            let places = rows * plan.output_len();
            let patches = &mut self.patches[index][..places * plan.inputs];
            gather(plan, &before[index], patches);
            let out = &mut after[0][..places * plan.filters_padded];
            Product {
                left: patches,
                left_stride: plan.inputs,
                layout: Left::Plain,
                right: &self.parameters.used()[plan.weights.clone()],
                start: &self.parameters.used()[plan.bias.clone()],
                out,
                width: plan.filters_padded,
                rows: places,
                depth: plan.inputs,
            }
            .run(self.arch);
            activate(self.arch, plan.activation, self.grids.get(index + 1).copied(), out);
        }
    }

    /// Writes the last layer's deltas and returns the batch's sum of squared errors.
    fn loss(&mut self, rows: usize) -> f64 {
        let plan = self.plans.last().expect("a network has a layer");
        let numbers = rows * plan.output_len();
        let len = numbers * plan.filters_padded;
        let (outputs, deltas) = (self.activations.last(), self.deltas.last_mut());
        self.arch.dispatch(SquaredError {
            outputs: &outputs.expect("a network has a layer")[..len],
            targets: &self.targets[..len],
            deltas: &mut deltas.expect("a network has a layer")[..len],
            width: plan.filters,
            padded: plan.filters_padded,
            gradient_scale: 2.0 / (numbers * plan.filters) as f32,
        })
    }

    /// Turns the last layer's deltas into the gradients of all parameters.
    fn backward(&mut self, rows: usize) {
        for (index, plan) in self.plans.iter().enumerate().rev() {
            let (before, from) = self.deltas.split_at_mut(index);
            let places = rows * plan.output_len();
            let deltas = &mut from[0][..places * plan.filters_padded];
            let outputs = &self.activations[index + 1];
            let (activation, grid) = (plan.activation, self.grids.get(index + 1).copied());
            stop(self.arch, activation, grid, outputs, deltas);
            self.arch.dispatch(Derive { activation, outputs, deltas });
            self.arch.dispatch(ColumnSums {
                values: deltas,
                out: &mut self.parameters.gradients[plan.bias.clone()],
            });
            Product {
                left: &self.patches[index][..places * plan.inputs],
                left_stride: plan.inputs,
                layout: Left::Transposed,
                right: deltas,
                start: &[],
                out: &mut self.parameters.gradients[plan.weights.clone()],
                width: plan.filters_padded,
                rows: plan.inputs,
                depth: places,
            }
            .run(self.arch);
            if let Some(before) = before.last_mut() {
                let patch_deltas = &mut self.patch_deltas[..places * plan.inputs_padded];
                Product {
                    left: deltas,
                    left_stride: plan.filters_padded,
                    layout: Left::Plain,
                    right: &self.turned[plan.turned.clone()],
                    start: &[],
                    out: &mut *patch_deltas,
                    width: plan.inputs_padded,
                    rows: places,
                    depth: plan.filters,
                }
                .run(self.arch);
                scatter(plan, patch_deltas, before, rows);
            }
        }
    }

    /// Trains on one batch; returns its sum of squared errors before the step.
    pub(super) fn train(&mut self, rows: Rows<'_>, order: &[u32], options: &FitOptions) -> f64 {
        let loss = self.accumulate(rows, order);
        self.parameters.step(self.arch, options);
        self.turn_weights();
        loss
    }

    /// Computes one batch's gradients; returns its sum of squared errors.
    pub(super) fn accumulate(&mut self, rows: Rows<'_>, order: &[u32]) -> f64 {
        self.load(rows, order);
        self.forward(order.len());
        let loss = self.loss(order.len());
        self.backward(order.len());
        loss
    }

    /// The sum of squared errors of a batch.
    fn squares(&mut self, rows: Rows<'_>, order: &[u32]) -> f64 {
        self.load(rows, order);
        self.forward(order.len());
        self.loss(order.len())
    }

    /// The network with the given parameters, which are laid out as this trainer's.
    pub(super) fn network(&self, parameters: &[f32]) -> ConvolutionNetwork {
        let layer = |plan: &Plan| {
            let weights = &parameters[plan.weights.clone()];
            let column = |filter: usize| weights[filter..].iter().step_by(plan.filters_padded);
            let product = Layer {
                inputs: plan.inputs,
                outputs: plan.filters,
                weights: (0..plan.filters).flat_map(column).copied().collect(),
                bias: parameters[plan.bias.clone()][..plan.filters].to_vec(),
                activation: plan.activation,
            };
            ConvolutionLayer { geometry: plan.geometry, product }
        };
        ConvolutionNetwork { layers: self.plans.iter().map(layer).collect() }
    }

    /// The network as it stands, for tests.
    #[cfg(test)]
    pub(super) fn snapshot(&self) -> ConvolutionNetwork {
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
            for bias in &mut self.parameters.values[plan.bias.clone()][..plan.filters] {
                *bias += by;
            }
        }
    }

    /// The gradients of the last batch in the form of a network, for tests.
    #[cfg(test)]
    pub(super) fn gradients(&self) -> ConvolutionNetwork {
        self.network(&self.parameters.gradients)
    }
}

fn taps(geometry: &Geometry) -> Vec<u32> {
    let padding = geometry.padding();
    let places = 0..geometry.output_len();
    let taps = places.flat_map(|place| (0..geometry.kernel_width).map(move |tap| (place, tap)));
    taps.map(|(place, tap)| {
        let source = geometry.source(place, tap, padding);
        source.and_then(|at| u32::try_from(at).ok()).unwrap_or(OUTSIDE)
    })
    .collect()
}

/// Lays out what the kernels cover.
fn gather(plan: &Plan, input: &[f32], patches: &mut [f32]) {
    let Geometry { channels, input_len, .. } = plan.geometry;
    let stride = padded(channels);
    let rows = input.chunks_exact(input_len * stride);
    let patches = patches.chunks_exact_mut(plan.output_len() * plan.inputs);
    for (input, patches) in rows.zip(patches) {
        for (tap, to) in plan.taps.iter().zip(patches.chunks_exact_mut(channels)) {
            if *tap == OUTSIDE {
                to.fill(0.0);
            } else {
                to.copy_from_slice(&input[*tap as usize * stride..][..channels]);
            }
        }
    }
}

/// Adds up the gradients of each number over the kernels that cover it.
fn scatter(plan: &Plan, patch_deltas: &[f32], before: &mut [f32], rows: usize) {
    let Geometry { channels, input_len, .. } = plan.geometry;
    let stride = padded(channels);
    let len = input_len * stride;
    let before = &mut before[..rows * len];
    before.fill(0.0);
    let patches = patch_deltas.chunks_exact(plan.output_len() * plan.inputs_padded);
    for (deltas, patches) in before.chunks_exact_mut(len).zip(patches) {
        let places = patches.chunks_exact(plan.inputs_padded);
        let taps = plan.taps.chunks_exact(plan.geometry.kernel_width);
        for (taps, patch) in taps.zip(places) {
            for (tap, from) in taps.iter().zip(patch.chunks_exact(channels)) {
                if *tap == OUTSIDE {
                    continue;
                }
                let to = &mut deltas[*tap as usize * stride..][..channels];
                for (delta, from) in to.iter_mut().zip(from) {
                    *delta += from;
                }
            }
        }
    }
}

/// A trainer with the rows that it is to reproduce.
pub(super) struct Learner<'a> {
    pub(super) trainer: ConvolutionTrainer,
    pub(super) rows: Rows<'a>,
    pub(super) options: &'a FitOptions,
}

impl Learns for Learner<'_> {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn train(&mut self, order: &[u32]) -> f64 {
        self.trainer.train(self.rows, order, self.options) / self.rows.width() as f64
    }

    fn error(&mut self, order: &[u32]) -> f64 {
        let batch = self.options.batch.min(self.rows.len());
        let squares: f64 =
            order.chunks(batch).map(|chosen| self.trainer.squares(self.rows, chosen)).sum();
        squares / (order.len() * self.rows.width()) as f64
    }

    fn parameters(&self) -> &[f32] {
        &self.trainer.parameters.values
    }

    fn largest(&self) -> f32 {
        checks::largest(self.rows)
    }
}

impl Refines for Learner<'_> {
    fn table(&self) -> Rows<'_> {
        self.rows
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
        Ok(Model::convolution(&self.trainer.network(parameters))?)
    }

    fn int8_model(&self, parameters: &[f32]) -> Result<Model, FitError> {
        let network = self.trainer.network(parameters);
        let quantised = quantise_convolution(&network, self.rows, Calibration::MinMax)?;
        Ok(Model::convolution_int8(&quantised)?)
    }
}
