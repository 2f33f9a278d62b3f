//! Batches forward and backward through convolutions: what each kernel covers is laid out as a row
//! (im2col), so that the products are those of dense layers.

use pulp::Arch;
use stonechat_core::detector::Geometry;

use super::super::checks;
use super::super::elementwise::SquaredError;
use super::super::epochs::Learns;
use super::super::kernel::padded;
use super::super::layer::Plan;
use super::super::parameters::Parameters;
use super::super::refine::Refines;
use super::super::rounding::Round;
use super::{FitError, FitOptions};
use crate::compile::Model;
use crate::network::Grid;
use crate::network::convolution::{ConvolutionForm, ConvolutionLayer, ConvolutionNetwork};
use crate::quantise::{Calibration, activation_grids, quantise_convolution};
use crate::random::Random;
use crate::rows::Rows;

/// Where a tap lies in the padding.
const OUTSIDE: u32 = u32::MAX;

/// A layer: its product, and which numbers each kernel covers.
struct Convolution {
    geometry: Geometry,
    /// Its inputs are the numbers that a kernel covers, its outputs the filters.
    plan: Plan,
    /// `[places of the output][kernel_width]`: the place of the input, or [`OUTSIDE`].
    taps: Vec<u32>,
}

impl Convolution {
    fn output_len(&self) -> usize {
        self.geometry.output_len()
    }
}

/// Parameters and the buffers of one batch. Between the layers numbers stand as
/// `[batch][length][channels padded]`.
pub(super) struct ConvolutionTrainer {
    arch: Arch,
    layers: Vec<Convolution>,
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
    /// Lays out the layers and draws their weights.
    pub(super) fn new(form: &ConvolutionForm, batch: usize, random: &mut Random) -> Self {
        let mut layers: Vec<Convolution> = Vec::new();
        for (geometry, filters, activation) in form.layers() {
            let inputs = geometry.kernel_width * geometry.channels;
            let before = layers.last().map(|layer| &layer.plan);
            let plan = Plan::behind(before, inputs, filters, activation);
            layers.push(Convolution { geometry, plan, taps: taps(&geometry) });
        }
        let places = |layer: &Convolution| batch * layer.output_len();
        let outputs = |layer: &Convolution| vec![0.0; places(layer) * layer.plan.outputs_padded];
        let covered = |layer: &Convolution| vec![0.0; places(layer) * layer.plan.inputs];
        let input = vec![0.0; batch * form.len * padded(form.channels)];
        let widest = layers.iter().map(|layer| places(layer) * layer.plan.inputs_padded).max();
        let (parameters_len, turned_len) = layers.last().map_or((0, 0), |layer| layer.plan.ends());
        let matrices = layers.iter().map(|layer| layer.plan.matrix()).collect();
        let mut parameters = Parameters::new(parameters_len, matrices);
        layers.iter().for_each(|layer| layer.plan.initialise(&mut parameters.values, random));
        let mut trainer = Self {
            arch: Arch::new(),
            parameters,
            grids: Vec::new(),
            turned: vec![0.0; turned_len],
            targets: input.clone(),
            activations: core::iter::once(input).chain(layers.iter().map(outputs)).collect(),
            patches: layers.iter().map(covered).collect(),
            deltas: layers.iter().map(outputs).collect(),
            patch_deltas: vec![0.0; widest.unwrap_or(0)],
            layers,
        };
        trainer.turn_weights();
        trainer
    }

    /// Brings the turned weights up to date; the first layer needs none.
    fn turn_weights(&mut self) {
        for layer in self.layers.iter().skip(1) {
            layer.plan.turn(self.parameters.used(), &mut self.turned);
        }
    }

    /// Copies the chosen rows into the batch's input, `[length][channels]` each.
    fn load(&mut self, rows: Rows<'_>, order: &[u32]) {
        let Geometry { channels, input_len, .. } = self.layers[0].geometry;
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
        for (index, layer) in self.layers.iter().enumerate() {
            let (before, after) = self.activations.split_at_mut(index + 1);
            let places = rows * layer.output_len();
            let patches = &mut self.patches[index][..places * layer.plan.inputs];
            gather(layer, &before[index], patches);
            let out = &mut after[0][..places * layer.plan.outputs_padded];
            let input = (&*patches, layer.plan.inputs);
            let grid = self.grids.get(index + 1).copied();
            layer.plan.forward(self.arch, &self.parameters, grid, input, out);
        }
    }

    /// Writes the last layer's deltas and returns the batch's sum of squared errors.
    fn loss(&mut self, rows: usize) -> f64 {
        let layer = self.layers.last().expect("a network has a layer");
        let plan = &layer.plan;
        let numbers = rows * layer.output_len();
        let len = numbers * plan.outputs_padded;
        let (outputs, deltas) = (self.activations.last(), self.deltas.last_mut());
        self.arch.dispatch(SquaredError {
            outputs: &outputs.expect("a network has a layer")[..len],
            targets: &self.targets[..len],
            deltas: &mut deltas.expect("a network has a layer")[..len],
            width: plan.outputs,
            padded: plan.outputs_padded,
            gradient_scale: 2.0 / (numbers * plan.outputs) as f32,
        })
    }

    /// Turns the last layer's deltas into the gradients of all parameters.
    fn backward(&mut self, rows: usize) {
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let plan = &layer.plan;
            let (before, from) = self.deltas.split_at_mut(index);
            let places = rows * layer.output_len();
            let deltas = &mut from[0][..places * plan.outputs_padded];
            let input = (&self.patches[index][..], plan.inputs);
            let outputs = &self.activations[index + 1];
            let (gradients, grid) =
                (&mut self.parameters.gradients, self.grids.get(index + 1).copied());
            plan.weight_gradients(self.arch, gradients, grid, input, outputs, deltas);
            if let Some(before) = before.last_mut() {
                let patch_deltas = &mut self.patch_deltas[..places * plan.inputs_padded];
                plan.input_deltas(self.arch, &self.turned, deltas, patch_deltas);
                scatter(layer, patch_deltas, before, rows);
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
        let layer = |layer: &Convolution| ConvolutionLayer {
            geometry: layer.geometry,
            product: layer.plan.layer(parameters),
        };
        ConvolutionNetwork { layers: self.layers.iter().map(layer).collect() }
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
        for Convolution { plan, .. } in &self.layers {
            for bias in &mut self.parameters.values[plan.bias.clone()][..plan.outputs] {
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
fn gather(layer: &Convolution, input: &[f32], patches: &mut [f32]) {
    let Geometry { channels, input_len, .. } = layer.geometry;
    let stride = padded(channels);
    let rows = input.chunks_exact(input_len * stride);
    let patches = patches.chunks_exact_mut(layer.output_len() * layer.plan.inputs);
    for (input, patches) in rows.zip(patches) {
        for (tap, to) in layer.taps.iter().zip(patches.chunks_exact_mut(channels)) {
            if *tap == OUTSIDE {
                to.fill(0.0);
            } else {
                to.copy_from_slice(&input[*tap as usize * stride..][..channels]);
            }
        }
    }
}

/// Adds up the gradients of each number over the kernels that cover it.
fn scatter(layer: &Convolution, patch_deltas: &[f32], before: &mut [f32], rows: usize) {
    let Geometry { channels, input_len, .. } = layer.geometry;
    let stride = padded(channels);
    let len = input_len * stride;
    let before = &mut before[..rows * len];
    before.fill(0.0);
    let patches = patch_deltas.chunks_exact(layer.output_len() * layer.plan.inputs_padded);
    for (deltas, patches) in before.chunks_exact_mut(len).zip(patches) {
        let places = patches.chunks_exact(layer.plan.inputs_padded);
        let taps = layer.taps.chunks_exact(layer.geometry.kernel_width);
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
