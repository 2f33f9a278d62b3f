//! One layer of weights in the flat vectors of a trainer, and its three products: forward, the
//! gradient of its weights, and the gradient of its input. Dense layers have rows of a batch as
//! their left factor, convolutions what their kernels cover (im2col).

use core::ops::Range;

use pulp::Arch;

use super::elementwise::{ColumnSums, Derive};
use super::kernel::{Left, Product, padded};
use super::parameters::{Matrix, Parameters};
use super::rounding::{activate, stop};
use super::trainer::symmetric;
use crate::network::{Activation, Grid, Layer};
use crate::random::Random;

/// Where one layer's numbers lie.
pub(super) struct Plan {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) inputs_padded: usize,
    pub(super) outputs_padded: usize,
    activation: Activation,
    /// `[inputs][outputs_padded]` in the parameters.
    pub(super) weights: Range<usize>,
    /// `[outputs_padded]` in the parameters.
    pub(super) bias: Range<usize>,
    /// `[outputs][inputs_padded]` in the turned weights.
    turned: Range<usize>,
}

impl Plan {
    /// Lays a layer out behind another one.
    pub(super) fn behind(
        before: Option<&Self>,
        inputs: usize,
        outputs: usize,
        activation: Activation,
    ) -> Self {
        let (inputs_padded, outputs_padded) = (padded(inputs), padded(outputs));
        let (start, turned_start) = before.map_or((0, 0), |plan| (plan.bias.end, plan.turned.end));
        let weights = start..start + inputs * outputs_padded;
        let bias = weights.end..weights.end + outputs_padded;
        let turned = turned_start..turned_start + outputs * inputs_padded;
        Self { inputs, outputs, inputs_padded, outputs_padded, activation, weights, bias, turned }
    }

    /// Draws the weights: He for ReLU, Glorot otherwise, both uniform. Biases start at zero.
    pub(super) fn initialise(&self, parameters: &mut [f32], random: &mut Random) {
        let (inputs, outputs) = (self.inputs as f32, self.outputs as f32);
        let bound = match self.activation {
            Activation::Relu => (6.0 / inputs).sqrt(),
            _ => (6.0 / (inputs + outputs)).sqrt(),
        };
        let rows = parameters[self.weights.clone()].chunks_exact_mut(self.outputs_padded);
        for weight in rows.flat_map(|row| &mut row[..self.outputs]) {
            *weight = bound * symmetric(random);
        }
    }

    /// Copies the weights with rows and columns exchanged, for the way back.
    pub(super) fn turn(&self, parameters: &[f32], turned: &mut [f32]) {
        let weights = &parameters[self.weights.clone()];
        let rows = turned[self.turned.clone()].chunks_exact_mut(self.inputs_padded);
        for (output, row) in rows.enumerate() {
            let column = weights[output..].iter().step_by(self.outputs_padded);
            for (to, from) in row.iter_mut().zip(column) {
                *to = *from;
            }
        }
    }

    /// The layer with the given parameters.
    pub(super) fn layer(&self, parameters: &[f32]) -> Layer {
        let weights = &parameters[self.weights.clone()];
        let column = |output: usize| weights[output..].iter().step_by(self.outputs_padded);
        Layer {
            inputs: self.inputs,
            outputs: self.outputs,
            weights: (0..self.outputs).flat_map(column).copied().collect(),
            bias: parameters[self.bias.clone()][..self.outputs].to_vec(),
            activation: self.activation,
        }
    }

    /// Computes `out`, `[rows][outputs_padded]`, from rows of `stride` numbers.
    pub(super) fn forward(
        &self,
        arch: Arch,
        parameters: &Parameters,
        grid: Option<Grid>,
        (left, stride): (&[f32], usize),
        out: &mut [f32],
    ) {
        Product {
            left,
            left_stride: stride,
            layout: Left::Plain,
            right: &parameters.used()[self.weights.clone()],
            start: &parameters.used()[self.bias.clone()],
            width: self.outputs_padded,
            rows: out.len() / self.outputs_padded,
            depth: self.inputs,
            out: &mut *out,
        }
        .run(arch);
        activate(arch, self.activation, grid, out);
    }

    /// Turns the loss's gradient at the output into that at the sums, and that into the gradients of
    /// weights and biases. `outputs` and the input are those of the way forward.
    pub(super) fn weight_gradients(
        &self,
        arch: Arch,
        gradients: &mut [f32],
        grid: Option<Grid>,
        (left, stride): (&[f32], usize),
        outputs: &[f32],
        deltas: &mut [f32],
    ) {
        stop(arch, self.activation, grid, outputs, deltas);
        arch.dispatch(Derive { activation: self.activation, outputs, deltas });
        arch.dispatch(ColumnSums { values: deltas, out: &mut gradients[self.bias.clone()] });
        let rows = deltas.len() / self.outputs_padded;
        Product {
            left: &left[..rows * stride],
            left_stride: stride,
            layout: Left::Transposed,
            right: deltas,
            start: &[],
            out: &mut gradients[self.weights.clone()],
            width: self.outputs_padded,
            rows: self.inputs,
            depth: rows,
        }
        .run(arch);
    }

    /// Computes the loss's gradient at the input, `[rows][inputs_padded]`.
    pub(super) fn input_deltas(&self, arch: Arch, turned: &[f32], deltas: &[f32], out: &mut [f32]) {
        Product {
            left: deltas,
            left_stride: self.outputs_padded,
            layout: Left::Plain,
            right: &turned[self.turned.clone()],
            start: &[],
            width: self.inputs_padded,
            rows: out.len() / self.inputs_padded,
            depth: self.outputs,
            out,
        }
        .run(arch);
    }

    /// Where pruning and rounding find the weights.
    pub(super) fn matrix(&self) -> Matrix {
        let weights = self.weights.clone();
        Matrix { weights, outputs: self.outputs, stride: self.outputs_padded }
    }

    /// The parameters, and the turned weights, of all layers up to this one.
    pub(super) fn ends(&self) -> (usize, usize) {
        (self.bias.end, self.turned.end)
    }
}
