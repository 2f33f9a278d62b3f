//! Where the parameters of a recurrent network lie in one flat vector, and their way in and out.
//!
//! A cell's row of inputs is `[state | input | 1 | zeros]`, so that one product gives all gates and one
//! product the gradients of all weights and the bias. A gate's units are padded to whole lanes;
//! padding stays zero through every step, as its inputs, weights and gradients are zero.

use core::ops::Range;

use super::RecurrentArchitecture;
use super::network::{Cell, Form, RecurrentLayer, RecurrentNetwork};
use crate::fit::kernel::padded;
use crate::fit::trainer::symmetric;
use crate::network::{Activation, Layer};
use crate::random::Random;

/// Blocks of units in a row of gates: LSTM input, forget, candidate, output; GRU reset, update,
/// candidate from the input, candidate from the state.
pub(super) const BLOCKS: usize = 4;
/// The forget gate starts open (Jozefowicz et al. 2015, section 2.2).
const FORGET_BIAS: f32 = 1.0;
/// The rows of a product with the left factor transposed are computed in groups of this many.
const ROW_GROUP: usize = 4;

/// Where the numbers of one recurrent layer lie.
#[derive(Clone, Debug)]
pub(super) struct CellPlan {
    pub(super) inputs: usize,
    pub(super) units: usize,
    pub(super) units_padded: usize,
    /// Values that an input takes in a row: padded when another layer gives it.
    pub(super) input_width: usize,
    /// The input is the same in every step: the code, given to the decoder's first layer.
    pub(super) repeated: bool,
    /// Values of a row of inputs, `[state | input | 1 | zeros]`; only the state when repeated.
    pub(super) stride: usize,
    /// `[state, input, bias, zeros][BLOCKS * units_padded]` in the parameters.
    pub(super) weights: Range<usize>,
    /// `[BLOCKS * units_padded][units_padded]` in the turned weights.
    pub(super) turned_state: Range<usize>,
    /// `[BLOCKS * units_padded][input_width]` in the turned weights; empty where no gradient goes.
    pub(super) turned_input: Range<usize>,
}

impl CellPlan {
    pub(super) fn gates_width(&self) -> usize {
        BLOCKS * self.units_padded
    }

    /// Row of the bias in the weights.
    pub(super) fn bias_row(&self) -> usize {
        self.units_padded + self.input_width
    }

    /// The bias in the parameters.
    pub(super) fn bias(&self) -> Range<usize> {
        let start = self.weights.start + self.bias_row() * self.gates_width();
        start..start + self.gates_width()
    }

    /// The weights of the state in the parameters.
    pub(super) fn state_weights(&self) -> Range<usize> {
        let start = self.weights.start;
        start..start + self.units_padded * self.gates_width()
    }

    /// The weights of the input in the parameters.
    pub(super) fn input_weights(&self) -> Range<usize> {
        let start = self.state_weights().end;
        start..start + self.input_width * self.gates_width()
    }
}

/// Where the numbers of the dense output lie.
#[derive(Clone, Debug)]
pub(super) struct OutputPlan {
    pub(super) inputs: usize,
    pub(super) inputs_padded: usize,
    pub(super) outputs: usize,
    pub(super) outputs_padded: usize,
    pub(super) activation: Activation,
    /// `[inputs_padded][outputs_padded]` in the parameters.
    pub(super) weights: Range<usize>,
    /// `[outputs_padded]` in the parameters.
    pub(super) bias: Range<usize>,
    /// `[outputs][inputs_padded]` in the turned weights.
    pub(super) turned: Range<usize>,
}

/// Where everything lies.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) form: Form,
    pub(super) cell: Cell,
    pub(super) steps: usize,
    pub(super) encoder_len: usize,
    /// The encoder's layers, then the decoder's.
    pub(super) cells: Vec<CellPlan>,
    pub(super) output: OutputPlan,
    pub(super) parameters_len: usize,
    pub(super) turned_len: usize,
}

impl Plan {
    pub(super) fn new(architecture: &RecurrentArchitecture) -> Self {
        let mut cells: Vec<CellPlan> = Vec::new();
        let (mut parameters_len, mut turned_len) = (0, 0);
        let encoder_len = architecture.encoder.len();
        for units in architecture.units() {
            let before = cells.last();
            let inputs = before.map_or(architecture.inputs, |before| before.units);
            let input_width = before.map_or(inputs, |before| before.units_padded);
            let units_padded = padded(units);
            let repeated = cells.len() == encoder_len;
            let rows = (units_padded + input_width + 1).next_multiple_of(ROW_GROUP);
            let gates_width = BLOCKS * units_padded;
            let turned_state = turned_len..turned_len + gates_width * units_padded;
            let input_len = if before.is_some() { gates_width * input_width } else { 0 };
            let turned_input = turned_state.end..turned_state.end + input_len;
            let weights = parameters_len..parameters_len + rows * gates_width;
            parameters_len = weights.end;
            turned_len = turned_input.end;
            cells.push(CellPlan {
                inputs,
                units,
                units_padded,
                input_width,
                repeated,
                stride: if repeated { units_padded } else { rows },
                weights,
                turned_state,
                turned_input,
            });
        }
        let inputs = cells.last().map_or(0, |cell| cell.units);
        let (inputs_padded, outputs) = (padded(inputs), architecture.inputs);
        let outputs_padded = padded(outputs);
        let weights = parameters_len..parameters_len + inputs_padded * outputs_padded;
        let bias = weights.end..weights.end + outputs_padded;
        let turned = turned_len..turned_len + outputs * inputs_padded;
        Self {
            form: architecture.form,
            cell: architecture.cell,
            steps: architecture.steps,
            encoder_len,
            cells,
            parameters_len: bias.end,
            turned_len: turned.end,
            output: OutputPlan {
                inputs,
                inputs_padded,
                outputs,
                outputs_padded,
                activation: architecture.output,
                weights,
                bias,
                turned,
            },
        }
    }

    /// Draws the weights: Glorot, uniform; biases are zero but for the forget gate's.
    pub(super) fn initial(&self, random: &mut Random) -> Vec<f32> {
        let mut parameters = vec![0.0; self.parameters_len];
        for cell in &self.cells {
            let fan_out = cell.units as f32;
            let mut draw = |fan_in: usize, len: usize| -> Vec<f32> {
                let bound = (6.0 / (fan_in as f32 + fan_out)).sqrt();
                (0..len).map(|_| bound * symmetric(random)).collect()
            };
            let gated_units = self.cell.gates() * cell.units;
            let mut layer = RecurrentLayer {
                inputs: cell.inputs,
                units: cell.units,
                input_weights: draw(cell.inputs, gated_units * cell.inputs),
                recurrent_weights: draw(cell.units, gated_units * cell.units),
                input_bias: vec![0.0; gated_units],
                recurrent_bias: Vec::new(),
            };
            match self.cell {
                Cell::Lstm => layer.input_bias[cell.units..2 * cell.units].fill(FORGET_BIAS),
                Cell::Gru => layer.recurrent_bias = vec![0.0; gated_units],
            }
            self.write_layer(cell, &layer, &mut parameters);
        }
        let output = &self.output;
        let bound = (6.0 / (output.inputs + output.outputs) as f32).sqrt();
        let weights = &mut parameters[output.weights.clone()];
        for row in weights.chunks_exact_mut(output.outputs_padded).take(output.inputs) {
            row[..output.outputs].fill_with(|| bound * symmetric(random));
        }
        parameters
    }

    /// The places of a gate's numbers: the block for the input and the block for the state.
    fn blocks(&self, gate: usize) -> (usize, usize) {
        match (self.cell, gate) {
            (Cell::Gru, 2) => (2, 3),
            _ => (gate, gate),
        }
    }

    fn write_layer(&self, cell: &CellPlan, layer: &RecurrentLayer, parameters: &mut [f32]) {
        let weights = &mut parameters[cell.weights.clone()];
        self.visit(cell, |part, at| {
            let from = match part {
                Part::Input(index) => layer.input_weights[index],
                Part::State(index) => layer.recurrent_weights[index],
                Part::InputBias(index) => layer.input_bias[index],
                Part::StateBias(index) => layer.recurrent_bias[index],
            };
            weights[at] = from;
        });
    }

    fn read_layer(&self, cell: &CellPlan, parameters: &[f32]) -> RecurrentLayer {
        let weights = &parameters[cell.weights.clone()];
        let gated_units = self.cell.gates() * cell.units;
        let recurrent_biases = if self.cell == Cell::Gru { gated_units } else { 0 };
        let mut layer = RecurrentLayer {
            inputs: cell.inputs,
            units: cell.units,
            input_weights: vec![0.0; gated_units * cell.inputs],
            recurrent_weights: vec![0.0; gated_units * cell.units],
            input_bias: vec![0.0; gated_units],
            recurrent_bias: vec![0.0; recurrent_biases],
        };
        self.visit(cell, |part, at| {
            let to = match part {
                Part::Input(index) => &mut layer.input_weights[index],
                Part::State(index) => &mut layer.recurrent_weights[index],
                Part::InputBias(index) => &mut layer.input_bias[index],
                Part::StateBias(index) => &mut layer.recurrent_bias[index],
            };
            *to = weights[at];
        });
        layer
    }

    /// Names every number of a layer and its place in the layer's weights. The reset and update gates
    /// of a GRU have one bias between them, the input's; the state's stays zero.
    fn visit(&self, cell: &CellPlan, mut each: impl FnMut(Part, usize)) {
        let width = cell.gates_width();
        for gate in 0..self.cell.gates() {
            let (input_block, state_block) = self.blocks(gate);
            for unit in 0..cell.units {
                let row = gate * cell.units + unit;
                let input_column = input_block * cell.units_padded + unit;
                let state_column = state_block * cell.units_padded + unit;
                for input in 0..cell.inputs {
                    let at = (cell.units_padded + input) * width + input_column;
                    each(Part::Input(row * cell.inputs + input), at);
                }
                for state in 0..cell.units {
                    each(Part::State(row * cell.units + state), state * width + state_column);
                }
                each(Part::InputBias(row), cell.bias_row() * width + input_column);
                if input_block != state_block {
                    each(Part::StateBias(row), cell.bias_row() * width + state_column);
                }
            }
        }
    }

    /// Clears the gradients of weights that a GRU does not have: of the state to the candidate's part
    /// from the input, and the other way round.
    pub(super) fn mask(&self, gradients: &mut [f32]) {
        if self.cell == Cell::Lstm {
            return;
        }
        for cell in &self.cells {
            let units = cell.units_padded;
            let rows = gradients[cell.weights.clone()].chunks_exact_mut(cell.gates_width());
            for (index, row) in rows.take(cell.bias_row()).enumerate() {
                let block = if index < units { 2 } else { 3 };
                row[block * units..][..units].fill(0.0);
            }
        }
    }

    /// Copies the weights with rows and columns exchanged, for the way back.
    pub(super) fn turn(&self, parameters: &[f32], turned: &mut [f32]) {
        for cell in &self.cells {
            let width = cell.gates_width();
            let state = &parameters[cell.state_weights()];
            exchange(state, width, width, &mut turned[cell.turned_state.clone()]);
            if !cell.turned_input.is_empty() {
                let input = &parameters[cell.input_weights()];
                exchange(input, width, width, &mut turned[cell.turned_input.clone()]);
            }
        }
        let output = &self.output;
        let weights = &parameters[output.weights.clone()];
        let turned = &mut turned[output.turned.clone()];
        exchange(weights, output.outputs_padded, output.outputs, turned);
    }

    /// The network with the given parameters.
    pub(super) fn network(&self, parameters: &[f32]) -> RecurrentNetwork {
        let read = |cell: &CellPlan| self.read_layer(cell, parameters);
        let (encoder, decoder) = self.cells.split_at(self.encoder_len);
        let output = &self.output;
        let weights = &parameters[output.weights.clone()];
        let column = |column: usize| {
            weights[column..].iter().step_by(output.outputs_padded).take(output.inputs)
        };
        RecurrentNetwork {
            form: self.form,
            cell: self.cell,
            steps: self.steps,
            encoder: encoder.iter().map(read).collect(),
            decoder: decoder.iter().map(read).collect(),
            output: Layer {
                inputs: output.inputs,
                outputs: output.outputs,
                weights: (0..output.outputs).flat_map(column).copied().collect(),
                bias: parameters[output.bias.clone()][..output.outputs].to_vec(),
                activation: output.activation,
            },
        }
    }
}

/// A number of a layer, by its index in the arrays of a [`RecurrentLayer`].
enum Part {
    Input(usize),
    State(usize),
    InputBias(usize),
    StateBias(usize),
}

/// `to[column][row] = from[row][column]` for the first `columns`; `from` has rows of `width`.
fn exchange(from: &[f32], width: usize, columns: usize, to: &mut [f32]) {
    let rows = from.len() / width;
    for (column, to) in to.chunks_exact_mut(rows).take(columns).enumerate() {
        for (to, from) in to.iter_mut().zip(from[column..].iter().step_by(width)) {
            *to = *from;
        }
    }
}
