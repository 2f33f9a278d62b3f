//! A part of a batch with its buffers: forward and backward through time.
//!
//! All buffers are time-major, `[steps][rows][width]`. The geometry is that of the largest batch;
//! rows that a smaller batch leaves over are computed along but do not count in the loss, so that
//! their gradients are zero.

use core::ops::Range;

use pulp::Arch;

use super::cell::{AddTo, Difference, GruBackward, GruForward, LstmBackward, LstmForward};
use super::network::Cell;
use super::plan::{CellPlan, Plan};
use crate::fit::elementwise::{Activate, ColumnSums, Derive};
use crate::fit::kernel::{Left, Product};
use crate::rows::Rows;

/// The steps of one sequence that a chunk covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Row of the first step's input.
    pub(super) first: usize,
    /// Steps that there are inputs and targets for.
    pub(super) len: usize,
    /// Steps that count in the loss.
    pub(super) counted: Range<usize>,
}

/// What one layer keeps of a chunk.
struct CellBuffers {
    /// `[steps + 1][rows][stride]`: the rows of inputs; the state of step t stands in row t + 1.
    inputs: Vec<f32>,
    /// `[steps][rows][gates]`: sums, then gates, then their gradients.
    gates: Vec<f32>,
    /// `[steps + 1][rows][units]`, LSTM only.
    cells: Vec<f32>,
    /// `[steps][rows][units]`, LSTM only.
    cells_tanh: Vec<f32>,
    /// `[rows][gates]`: the part of the sums that is the same in every step, then its gradient;
    /// repeated layers only.
    repeated: Vec<f32>,
    /// Gradient of the states from above: `[steps][rows][units]`, or `[rows][units]` of the last
    /// step where only the code goes on.
    from_above: Vec<f32>,
    /// `[rows][units]`.
    from_behind: Vec<f32>,
    /// `[rows][units]`.
    carry: Vec<f32>,
}

/// Buffers and gradients of one part of a batch.
pub(super) struct Shard {
    arch: Arch,
    rows: usize,
    cells: Vec<CellBuffers>,
    /// `[steps][rows][outputs]`.
    outputs: Vec<f32>,
    targets: Vec<f32>,
    deltas: Vec<f32>,
    /// `[steps][rows]`: what counts in the loss.
    counted: Vec<bool>,
    /// Laid out as the parameters.
    pub(super) gradients: Vec<f32>,
    /// Sum of squared errors of the last chunk.
    pub(super) squares: f64,
}

impl Shard {
    pub(super) fn new(arch: Arch, plan: &Plan, rows: usize) -> Self {
        let points = plan.steps * rows;
        let last = plan.cells.len() - 1;
        let cells = plan.cells.iter().enumerate().map(|(index, cell)| {
            let lstm = |len: usize| vec![0.0; if plan.cell == Cell::Lstm { len } else { 0 }];
            // The encoder's last layer hands on its last state alone, if a decoder follows.
            let above = if index + 1 == plan.encoder_len && index < last { rows } else { points };
            let (units, gates) = (cell.units_padded, cell.gates_width());
            let mut inputs = vec![0.0; (plan.steps + 1) * rows * cell.stride];
            if !cell.repeated {
                for row in inputs.chunks_exact_mut(cell.stride) {
                    row[cell.bias_row()] = 1.0;
                }
            }
            CellBuffers {
                inputs,
                gates: vec![0.0; points * gates],
                cells: lstm((plan.steps + 1) * rows * units),
                cells_tanh: lstm(points * units),
                repeated: vec![0.0; if cell.repeated { rows * gates } else { 0 }],
                from_above: vec![0.0; above * units],
                from_behind: vec![0.0; rows * units],
                carry: vec![0.0; rows * units],
            }
        });
        let outputs = points * plan.output.outputs_padded;
        Self {
            arch,
            rows,
            cells: cells.collect(),
            outputs: vec![0.0; outputs],
            targets: vec![0.0; outputs],
            deltas: vec![0.0; outputs],
            counted: vec![false; points],
            gradients: vec![0.0; plan.parameters_len],
            squares: 0.0,
        }
    }

    /// Takes the inputs and targets of the pieces, each of which is a row of the shard; targets stand
    /// `ahead` rows behind the inputs. `carry` keeps the state that the last chunk ended with.
    pub(super) fn load(
        &mut self,
        plan: &Plan,
        rows: Rows<'_>,
        pieces: &[Piece],
        ahead: usize,
        carry: bool,
    ) {
        let (width, padded) = (rows.width(), plan.output.outputs_padded);
        let first = &plan.cells[0];
        self.counted.fill(false);
        for (row, piece) in pieces.iter().enumerate() {
            for step in 0..piece.len {
                let point = step * self.rows + row;
                let at = point * first.stride + first.units_padded;
                let input = &mut self.cells[0].inputs[at..at + width];
                copy_row(input, rows.row(piece.first + step));
                let target = &mut self.targets[point * padded..][..width];
                copy_row(target, rows.row(piece.first + step + ahead));
                self.counted[point] = piece.counted.contains(&step);
            }
        }
        for (cell, buffers) in plan.cells.iter().zip(&mut self.cells) {
            buffers.restart(cell, self.rows, carry);
        }
    }

    /// Runs the loaded chunk; afterwards the errors are known.
    pub(super) fn forward(&mut self, plan: &Plan, parameters: &[f32], gradient_scale: f32) {
        for index in 0..plan.cells.len() {
            let (below, here) = self.cells.split_at_mut(index);
            if let Some(below) = below.last() {
                let (cell_below, cell) = (&plan.cells[index - 1], &plan.cells[index]);
                if cell.repeated {
                    here[0]
                        .start_from_code(self.arch, cell, below, cell_below, parameters, self.rows);
                } else {
                    here[0].take_states(cell, below, cell_below, self.rows);
                }
            }
            here[0].forward(self.arch, plan, &plan.cells[index], parameters, self.rows);
        }
        let output = &plan.output;
        let (cell, buffers) = (plan.cells.last(), self.cells.last());
        let cell = cell.expect("a network has a layer");
        Product {
            left: &buffers.expect("a network has a layer").inputs[self.rows * cell.stride..],
            left_stride: cell.stride,
            layout: Left::Plain,
            right: &parameters[output.weights.clone()],
            start: &parameters[output.bias.clone()],
            out: &mut self.outputs,
            width: output.outputs_padded,
            rows: plan.steps * self.rows,
            depth: output.inputs_padded,
        }
        .run(self.arch);
        let values = &mut self.outputs;
        self.arch.dispatch(Activate { activation: output.activation, values });
        self.squares = self.errors(plan, gradient_scale);
    }

    /// Writes the outputs' gradients, zero where nothing counts; returns the sum of squared errors.
    fn errors(&mut self, plan: &Plan, gradient_scale: f32) -> f64 {
        let padded = plan.output.outputs_padded;
        let mut total = 0.0;
        let mut start = 0;
        for run in self.counted.chunk_by(|a, b| a == b) {
            let range = start * padded..(start + run.len()) * padded;
            start += run.len();
            let deltas = &mut self.deltas[range.clone()];
            if run[0] {
                total += self.arch.dispatch(Difference {
                    outputs: &self.outputs[range.clone()],
                    targets: &self.targets[range],
                    deltas,
                    gradient_scale,
                });
            } else {
                deltas.fill(0.0);
            }
        }
        total
    }

    /// Turns the errors into the gradients of all parameters.
    pub(super) fn backward(&mut self, plan: &Plan, turned: &[f32]) {
        self.output_backward(plan, turned);
        for index in (0..plan.cells.len()).rev() {
            let cell = &plan.cells[index];
            let (below, here) = self.cells.split_at_mut(index);
            let here = &mut here[0];
            here.backward(self.arch, plan, cell, turned, self.rows);
            let depth = plan.steps * self.rows;
            Product {
                left: &here.inputs[..depth * cell.stride],
                left_stride: cell.stride,
                layout: Left::Transposed,
                right: &here.gates,
                start: &[],
                out: &mut self.gradients[cell.weights.start..][..cell.stride * cell.gates_width()],
                width: cell.gates_width(),
                rows: cell.stride,
                depth,
            }
            .run(self.arch);
            let Some(below) = below.last_mut() else { continue };
            if cell.repeated {
                let code = below.last_states(&plan.cells[index - 1], self.rows);
                self.arch.dispatch(ColumnSums {
                    values: &here.repeated,
                    out: &mut self.gradients[cell.bias()],
                });
                Product {
                    left: code,
                    left_stride: plan.cells[index - 1].stride,
                    layout: Left::Transposed,
                    right: &here.repeated,
                    start: &[],
                    out: &mut self.gradients[cell.input_weights()],
                    width: cell.gates_width(),
                    rows: cell.input_width,
                    depth: self.rows,
                }
                .run(self.arch);
            }
            let deltas = if cell.repeated { &here.repeated } else { &here.gates };
            Product {
                left: deltas,
                left_stride: cell.gates_width(),
                layout: Left::Plain,
                right: &turned[cell.turned_input.clone()],
                start: &[],
                out: &mut below.from_above,
                width: cell.input_width,
                rows: deltas.len() / cell.gates_width(),
                depth: cell.gates_width(),
            }
            .run(self.arch);
        }
    }

    fn output_backward(&mut self, plan: &Plan, turned: &[f32]) {
        let output = &plan.output;
        let (cell, buffers) = (plan.cells.last(), self.cells.last_mut());
        let (cell, buffers) = cell.zip(buffers).expect("a network has a layer");
        let points = plan.steps * self.rows;
        self.arch.dispatch(Derive {
            activation: output.activation,
            outputs: &self.outputs,
            deltas: &mut self.deltas,
        });
        self.arch.dispatch(ColumnSums {
            values: &self.deltas,
            out: &mut self.gradients[output.bias.clone()],
        });
        Product {
            left: &buffers.inputs[self.rows * cell.stride..],
            left_stride: cell.stride,
            layout: Left::Transposed,
            right: &self.deltas,
            start: &[],
            out: &mut self.gradients[output.weights.clone()],
            width: output.outputs_padded,
            rows: output.inputs_padded,
            depth: points,
        }
        .run(self.arch);
        Product {
            left: &self.deltas,
            left_stride: output.outputs_padded,
            layout: Left::Plain,
            right: &turned[output.turned.clone()],
            start: &[],
            out: &mut buffers.from_above,
            width: output.inputs_padded,
            rows: points,
            depth: output.outputs,
        }
        .run(self.arch);
    }
}

/// Copies a row that is often so short that calling `memcpy` would take longer than the copy.
fn copy_row(to: &mut [f32], from: &[f32]) {
    let (quads, rest) = from.as_chunks::<4>();
    let (to_quads, to_rest) = to.as_chunks_mut::<4>();
    for (to, from) in to_quads.iter_mut().zip(quads) {
        *to = *from;
    }
    match (to_rest, rest) {
        ([a, b, c], [x, y, z]) => (*a, *b, *c) = (*x, *y, *z),
        ([a, b], [x, y]) => (*a, *b) = (*x, *y),
        ([a], [x]) => *a = *x,
        _ => {}
    }
}

impl CellBuffers {
    /// Sets the state before the first step: zero, or what the last chunk ended with.
    fn restart(&mut self, cell: &CellPlan, rows: usize, carry: bool) {
        let units = cell.units_padded;
        let end = self.inputs.len() - rows * cell.stride;
        let (before, last) = self.inputs.split_at_mut(end);
        let states = before.chunks_exact_mut(cell.stride).zip(last.chunks_exact(cell.stride));
        for (state, last) in states.take(rows) {
            if carry {
                state[..units].copy_from_slice(&last[..units]);
            } else {
                state[..units].fill(0.0);
            }
        }
        if !self.cells.is_empty() {
            let end = self.cells.len() - rows * units;
            if carry {
                self.cells.copy_within(end.., 0);
            } else {
                self.cells[..rows * units].fill(0.0);
            }
        }
    }

    /// Rows of the last step's states, a stride apart.
    fn last_states(&self, cell: &CellPlan, rows: usize) -> &[f32] {
        &self.inputs[self.inputs.len() - rows * cell.stride..]
    }

    /// Computes the part of the sums that the code gives to every step.
    fn start_from_code(
        &mut self,
        arch: Arch,
        cell: &CellPlan,
        below: &Self,
        cell_below: &CellPlan,
        parameters: &[f32],
        rows: usize,
    ) {
        Product {
            left: below.last_states(cell_below, rows),
            left_stride: cell_below.stride,
            layout: Left::Plain,
            right: &parameters[cell.input_weights()],
            start: &parameters[cell.bias()],
            out: &mut self.repeated,
            width: cell.gates_width(),
            rows,
            depth: cell.input_width,
        }
        .run(arch);
    }

    /// Copies the states of the layer below into the inputs.
    fn take_states(&mut self, cell: &CellPlan, below: &Self, cell_below: &CellPlan, rows: usize) {
        let states = below.inputs[rows * cell_below.stride..].chunks_exact(cell_below.stride);
        for (input, state) in self.inputs.chunks_exact_mut(cell.stride).zip(states) {
            input[cell.units_padded..cell.bias_row()].copy_from_slice(&state[..cell.input_width]);
        }
    }

    fn forward(
        &mut self,
        arch: Arch,
        plan: &Plan,
        cell: &CellPlan,
        parameters: &[f32],
        rows: usize,
    ) {
        let (units, gates_width) = (cell.units_padded, cell.gates_width());
        let depth = if cell.repeated { units } else { cell.bias_row() };
        let weights = &parameters[cell.weights.start..][..depth * gates_width];
        let (input_len, cells_len) = (rows * cell.stride, rows * units);
        for step in 0..plan.steps {
            let (before, after) = self.inputs.split_at_mut((step + 1) * input_len);
            let (before, state) = (&before[step * input_len..], &mut after[..input_len]);
            let gates = &mut self.gates[step * rows * gates_width..][..rows * gates_width];
            Product {
                left: before,
                left_stride: cell.stride,
                layout: Left::Plain,
                right: weights,
                start: if cell.repeated { &self.repeated } else { &parameters[cell.bias()] },
                out: gates,
                width: gates_width,
                rows,
                depth,
            }
            .run(arch);
            let stride = cell.stride;
            if plan.cell == Cell::Gru {
                arch.dispatch(GruForward { gates, before, state, stride, units });
                continue;
            }
            let (cells_before, cells) = self.cells.split_at_mut((step + 1) * cells_len);
            arch.dispatch(LstmForward {
                gates,
                cells_before: &cells_before[step * cells_len..],
                cells: &mut cells[..cells_len],
                cells_tanh: &mut self.cells_tanh[step * cells_len..][..cells_len],
                state,
                stride,
                units,
            });
        }
    }

    /// Turns the gates into the gradients of their sums, from the last step to the first.
    fn backward(&mut self, arch: Arch, plan: &Plan, cell: &CellPlan, turned: &[f32], rows: usize) {
        let (units, gates_width) = (cell.units_padded, cell.gates_width());
        let (input_len, cells_len) = (rows * cell.stride, rows * units);
        let last_only = self.from_above.len() == cells_len;
        self.repeated.fill(0.0);
        self.carry.fill(0.0);
        self.from_behind.fill(0.0);
        for step in (0..plan.steps).rev() {
            let gates = &mut self.gates[step * rows * gates_width..][..rows * gates_width];
            let from_above: &[f32] = if !last_only {
                &self.from_above[step * cells_len..][..cells_len]
            } else if step + 1 == plan.steps {
                &self.from_above
            } else {
                &[]
            };
            match plan.cell {
                Cell::Lstm => arch.dispatch(LstmBackward {
                    gates,
                    cells_before: &self.cells[step * cells_len..][..cells_len],
                    cells_tanh: &self.cells_tanh[step * cells_len..][..cells_len],
                    from_above,
                    from_behind: &self.from_behind,
                    carry: &mut self.carry,
                    units,
                }),
                Cell::Gru => arch.dispatch(GruBackward {
                    gates,
                    before: &self.inputs[step * input_len..][..input_len],
                    from_above,
                    from_behind: &self.from_behind,
                    carry: &mut self.carry,
                    stride: cell.stride,
                    units,
                }),
            }
            if cell.repeated {
                arch.dispatch(AddTo { sums: &mut self.repeated, values: gates });
            }
            if step == 0 {
                break;
            }
            Product {
                left: gates,
                left_stride: gates_width,
                layout: Left::Plain,
                right: &turned[cell.turned_state.clone()],
                start: &[],
                out: &mut self.from_behind,
                width: units,
                rows,
                depth: gates_width,
            }
            .run(arch);
        }
    }
}
