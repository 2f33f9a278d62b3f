//! Quantises a recurrent network to int8 after training, as TensorFlow Lite does an LSTM.
//!
//! Weights are symmetric with one scale for each gate's matrix; inputs and outputs of a layer
//! asymmetric int8; the cell state int16 with a power of two as its step; what goes into σ and tanh
//! int16 in steps of 2^-12. Source: TensorFlow Lite's `UNIDIRECTIONAL_SEQUENCE_LSTM` with int8
//! activations and int16 cells. A GRU is quantised likewise.

use stonechat_core::detector::Activation;

use super::{Calibration, Grid, QuantiseError, QuantiseOptions, Seen};
use super::{check_share, quantise_layer, weight_scale, weight_steps};
use crate::fit::recurrent::encode::check;
use crate::fit::recurrent::network::{Cell, Form, RecurrentLayer, RecurrentNetwork};
use crate::limits::CALIBRATION_VALUES_MAX;
use crate::network::QuantisedLayer;
use crate::rows::Rows;

/// Powers of two that the step of a cell state may be: it then reaches to ±1 at least.
const CELL_POWERS: core::ops::RangeInclusive<i32> = -15..=0;
/// A cell state is int16.
const CELL_BITS: i32 = 15;

/// A recurrent layer in int8.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantisedRecurrentLayer {
    /// Numbers in.
    pub inputs: usize,
    /// Units, and so numbers out.
    pub units: usize,
    /// `[gates * units][inputs]`, symmetric: -127..=127 with zero point 0.
    pub input_weights: Vec<i8>,
    /// `[gates * units][units]`, likewise.
    pub recurrent_weights: Vec<i8>,
    /// `[gates]`: one scale for each gate's matrix.
    pub input_weight_scales: Vec<f32>,
    /// `[gates]`.
    pub recurrent_weight_scales: Vec<f32>,
    /// `[gates * units]`, at the scale `input scale * weight scale`.
    pub input_bias: Vec<i32>,
    /// `[gates * units]` at the scale `output scale * weight scale` in a [`Cell::Gru`]; empty in a
    /// [`Cell::Lstm`].
    pub recurrent_bias: Vec<i32>,
    /// Real value of one step of an output.
    pub output_scale: f32,
    /// The int8 value that means 0.0 in the output.
    pub output_zero_point: i32,
    /// One step of the cell state is 2 to the power of this; 0 in a [`Cell::Gru`].
    pub cell_power: i32,
}

/// A recurrent network in int8.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantisedRecurrentNetwork {
    /// How it meets a stream.
    pub form: Form,
    /// The cell of every layer.
    pub cell: Cell,
    /// Vectors in a window.
    pub steps: usize,
    /// Real value of one step of an input.
    pub input_scale: f32,
    /// The int8 value that means 0.0 in the input.
    pub input_zero_point: i32,
    /// From the vector on.
    pub encoder: Vec<QuantisedRecurrentLayer>,
    /// From the code on; empty for a forecaster.
    pub decoder: Vec<QuantisedRecurrentLayer>,
    /// From the last layer's outputs to the vector.
    pub output: QuantisedLayer,
}

/// Quantises `network`, with the ranges of its activations over the calibration rows: windows of an
/// autoencoder, each from zero state, or for a forecaster the whole of each run.
///
/// `run_starts` are the rows that begin a run without a gap; the first is 0. Give rows like those the
/// network will see: the training rows, or a part of them.
///
/// # Errors
/// When the network is malformed, its output layer has an activation other than Linear and `ReLU`,
/// no run is as long as a window, or the rows do not fit the network or drive it out of range.
pub fn quantise_recurrent(
    network: &RecurrentNetwork,
    calibration: Rows<'_>,
    run_starts: &[usize],
    options: &QuantiseOptions,
) -> Result<QuantisedRecurrentNetwork, QuantiseError> {
    check(network)?;
    let width = network.output.outputs;
    if calibration.width() != width {
        return Err(QuantiseError::Width { found: calibration.width(), needed: width });
    }
    check_share(options.calibration)?;
    let ranges = observe(network, calibration, run_starts, options.calibration)?;
    let grid = |index: usize| ranges.values[index].clone().grid(index, options.calibration);
    let input = grid(0)?;
    let mut below = input;
    let mut layers = Vec::new();
    for (index, layer) in network.encoder.iter().chain(&network.decoder).enumerate() {
        let output = grid(index + 1)?;
        let cell_power = match network.cell {
            Cell::Lstm => cell_power(ranges.cells[index]),
            Cell::Gru => 0,
        };
        layers.push(quantise_recurrent_layer(layer, network.cell, below, output, cell_power));
        below = output;
    }
    let output = grid(layers.len() + 1)?;
    let decoder = layers.split_off(network.encoder.len());
    let quantised = QuantisedRecurrentNetwork {
        form: network.form,
        cell: network.cell,
        steps: network.steps,
        input_scale: input.scale,
        input_zero_point: input.zero_point,
        encoder: layers,
        decoder,
        output: quantise_layer(&network.output, below, output, options.weights),
    };
    quantised.check()?;
    Ok(quantised)
}

/// What activations were over the calibration rows.
struct Ranges {
    /// The input, each layer's outputs, and those of the dense layer.
    values: Vec<Seen>,
    /// The greatest magnitude of each layer's cells.
    cells: Vec<f32>,
    /// How many vectors to pass over before one is kept for a percentile.
    every: usize,
}

fn observe(
    network: &RecurrentNetwork,
    rows: Rows<'_>,
    run_starts: &[usize],
    calibration: Calibration,
) -> Result<Ranges, QuantiseError> {
    let layers = || network.encoder.iter().chain(&network.decoder);
    let widest = layers().map(|layer| layer.units).max().unwrap_or(1).max(rows.width());
    let mut ranges = Ranges {
        values: vec![Seen::default(); layers().count() + 2],
        cells: vec![0.0; layers().count()],
        every: match calibration {
            Calibration::MinMax => usize::MAX,
            Calibration::Percentile(_) => {
                rows.len().div_ceil((CALIBRATION_VALUES_MAX / widest).max(1))
            }
        },
    };
    let ends = run_starts.iter().skip(1).copied().chain([rows.len()]);
    let mut longest = 0;
    for (start, end) in run_starts.iter().copied().zip(ends) {
        longest = longest.max(end.saturating_sub(start));
        match network.form {
            Form::Staggered => {
                for first in (start..end).step_by(network.steps) {
                    if first + network.steps <= end {
                        ranges.take_window(network, rows, first..first + network.steps);
                    }
                }
            }
            Form::Stateful => ranges.take_run(network, rows, start..end),
        }
    }
    if longest < network.steps {
        return Err(QuantiseError::Short { longest, steps: network.steps });
    }
    Ok(ranges)
}

impl Ranges {
    fn take_window(
        &mut self,
        network: &RecurrentNetwork,
        rows: Rows<'_>,
        window: core::ops::Range<usize>,
    ) {
        let mut encoder = State::of(&network.encoder);
        let mut code = Vec::new();
        for index in window.clone() {
            self.take(0, index, rows.row(index));
            code = self.step(
                &network.encoder,
                network.cell,
                &mut encoder,
                rows.row(index),
                (0, index),
            );
        }
        let mut decoder = State::of(&network.decoder);
        let first = network.encoder.len();
        for index in window {
            let last =
                self.step(&network.decoder, network.cell, &mut decoder, &code, (first, index));
            self.take(self.values.len() - 1, index, &network.output.forward(&last));
        }
    }

    fn take_run(
        &mut self,
        network: &RecurrentNetwork,
        rows: Rows<'_>,
        run: core::ops::Range<usize>,
    ) {
        let mut state = State::of(&network.encoder);
        for index in run {
            self.take(0, index, rows.row(index));
            let last =
                self.step(&network.encoder, network.cell, &mut state, rows.row(index), (0, index));
            self.take(self.values.len() - 1, index, &network.output.forward(&last));
        }
    }

    /// Takes a step of a stack whose first layer is the network's layer `first`, and returns its
    /// outputs.
    fn step(
        &mut self,
        layers: &[RecurrentLayer],
        cell: Cell,
        states: &mut [State],
        input: &[f32],
        (first, row): (usize, usize),
    ) -> Vec<f32> {
        let mut below = input.to_vec();
        for (index, (layer, state)) in layers.iter().zip(states).enumerate() {
            state.step(layer, cell, &below);
            below.clone_from(&state.hidden);
            self.take(first + index + 1, row, &below);
            let cells = &mut self.cells[first + index];
            *cells = state.cells.iter().fold(*cells, |most, cell| most.max(cell.abs()));
        }
        below
    }

    fn take(&mut self, place: usize, row: usize, values: &[f32]) {
        self.values[place].take(values, row.is_multiple_of(self.every));
    }
}

/// The state of a layer in single precision.
struct State {
    hidden: Vec<f32>,
    cells: Vec<f32>,
}

impl State {
    fn of(layers: &[RecurrentLayer]) -> Vec<Self> {
        let zero = |layer: &RecurrentLayer| vec![0.0; layer.units];
        layers.iter().map(|layer| Self { hidden: zero(layer), cells: zero(layer) }).collect()
    }

    fn step(&mut self, layer: &RecurrentLayer, cell: Cell, input: &[f32]) {
        let product = |weights: &[f32], row: usize, numbers: &[f32]| -> f32 {
            let weights = &weights[row * numbers.len()..][..numbers.len()];
            weights.iter().zip(numbers).fold(0.0, |sum, (weight, number)| sum + weight * number)
        };
        let sigmoid = |x| Activation::Logistic.apply(x);
        let tanh = |x| Activation::Tanh.apply(x);
        let mut next = Vec::with_capacity(layer.units);
        for unit in 0..layer.units {
            let row = |gate| gate * layer.units + unit;
            let of_input = |gate| {
                product(&layer.input_weights, row(gate), input) + layer.input_bias[row(gate)]
            };
            let of_state = |gate| product(&layer.recurrent_weights, row(gate), &self.hidden);
            match cell {
                Cell::Lstm => {
                    let gate = |gate| of_input(gate) + of_state(gate);
                    let kept = sigmoid(gate(1)) * self.cells[unit];
                    self.cells[unit] = kept + sigmoid(gate(0)) * tanh(gate(2));
                    next.push(sigmoid(gate(3)) * tanh(self.cells[unit]));
                }
                Cell::Gru => {
                    let of_state = |gate| of_state(gate) + layer.recurrent_bias[row(gate)];
                    let reset = sigmoid(of_input(0) + of_state(0));
                    let update = sigmoid(of_input(1) + of_state(1));
                    let candidate = tanh(of_input(2) + reset * of_state(2));
                    next.push((1.0 - update) * candidate + update * self.hidden[unit]);
                }
            }
        }
        self.hidden = next;
    }
}

/// The power of two that lets int16 reach to `greatest`.
fn cell_power(greatest: f32) -> i32 {
    let reach = |power: &i32| f64::from(power + CELL_BITS).exp2() >= f64::from(greatest);
    CELL_POWERS.into_iter().find(reach).unwrap_or(*CELL_POWERS.end())
}

fn quantise_recurrent_layer(
    layer: &RecurrentLayer,
    cell: Cell,
    input: Grid,
    output: Grid,
    cell_power: i32,
) -> QuantisedRecurrentLayer {
    let of_input = Matrices::new(
        &layer.input_weights,
        &layer.input_bias,
        cell.gates(),
        layer.inputs,
        input.scale,
    );
    let of_state = Matrices::new(
        &layer.recurrent_weights,
        &layer.recurrent_bias,
        cell.gates(),
        layer.units,
        output.scale,
    );
    QuantisedRecurrentLayer {
        inputs: layer.inputs,
        units: layer.units,
        input_weights: of_input.weights,
        recurrent_weights: of_state.weights,
        input_weight_scales: of_input.scales,
        recurrent_weight_scales: of_state.scales,
        input_bias: of_input.bias,
        recurrent_bias: of_state.bias,
        output_scale: output.scale,
        output_zero_point: output.zero_point,
        cell_power,
    }
}

/// The quantised matrices of a layer's gates, of its input or of its state.
struct Matrices {
    weights: Vec<i8>,
    bias: Vec<i32>,
    scales: Vec<f32>,
}

impl Matrices {
    /// `weights` is `[gates * units][columns]`, `bias` `[gates * units]` or empty.
    fn new(weights: &[f32], bias: &[f32], gates: usize, columns: usize, input_scale: f32) -> Self {
        let mut matrices = Self { weights: Vec::new(), bias: Vec::new(), scales: Vec::new() };
        let units = weights.len() / columns / gates;
        for (gate, weights) in weights.chunks_exact(units * columns).enumerate() {
            let bias = bias.get(gate * units..(gate + 1) * units).unwrap_or(&[]);
            let greatest = bias.iter().fold(0.0_f32, |most, bias| most.max(bias.abs()));
            let scale = weight_scale(weights, greatest, input_scale);
            matrices.weights.extend(weights.iter().map(|weight| weight_steps(*weight, scale)));
            let step = f64::from(input_scale) * f64::from(scale);
            let steps = |bias: &f32| (f64::from(*bias) / step).round() as i32;
            matrices.bias.extend(bias.iter().map(steps));
            matrices.scales.push(scale);
        }
        matrices
    }
}

#[cfg(test)]
mod tests;
