//! LSTM and GRU in single precision.
//!
//! What streaming is about ([`stream`]) and how a model is laid out ([`layers`]) is shared with the
//! int8 engine.

mod cell;
pub(super) mod layers;
pub(super) mod stream;

use super::dense::{FloatLayer, float_layer, layer};
use super::format::recurrent::RecurrentLayerEntry;
use super::{LoadError, Outcome, Work, array};
use crate::limits::RECURRENT_WEIGHT_ABS_MAX;
use cell::CellNumbers;
use layers::{Layout, RecurrentCell, RecurrentForm};
use stream::Network;

/// LSTM (Hochreiter and Schmidhuber 1997, "Long Short-Term Memory", with the forget gate of Gers,
/// Schmidhuber and Cummins 2000, "Learning to Forget") or GRU (Cho et al. 2014, "Learning Phrase
/// Representations using RNN Encoder-Decoder") in single precision, as autoencoder or forecaster.
///
/// It takes one vector after the other; see [`RecurrentForm`] for when it gives residuals. They are
/// the root mean square, for each number of the vector, of what the network misses over a window.
#[derive(Clone, Copy, Debug)]
pub struct Recurrent<'d> {
    layout: Layout<'d>,
}

/// The numbers of one recurrent layer in single precision.
#[derive(Clone, Copy, Debug)]
pub struct FloatRecurrentLayer<'d> {
    /// Widths.
    pub entry: &'d RecurrentLayerEntry,
    /// `[units][gates][inputs + units]`.
    pub weights: &'d [f32],
    /// `[units][4]`, see [`RecurrentLayerEntry::bias`].
    pub bias: &'d [f32],
}

fn recurrent_layer<'d>(
    model: &'d [u8],
    entry: &'d RecurrentLayerEntry,
    cell: RecurrentCell,
) -> Result<FloatRecurrentLayer<'d>, LoadError> {
    let (inputs, units) = (entry.inputs as usize, entry.units as usize);
    Ok(FloatRecurrentLayer {
        entry,
        weights: array(model, entry.weights, cell.gates() * units * (inputs + units))?,
        bias: array(model, entry.bias, cell::BIASES * units)?,
    })
}

impl<'d> Recurrent<'d> {
    pub(super) fn load(model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        let layout = Layout::load(model, vector_len)?;
        let legal =
            |numbers: &[f32]| numbers.iter().all(|number| number.abs() <= RECURRENT_WEIGHT_ABS_MAX);
        for entry in layout.encoder.iter().chain(layout.decoder) {
            let numbers = recurrent_layer(model, entry, layout.cell)?;
            if !legal(numbers.weights) || !legal(numbers.bias) {
                return Err(LoadError::Model);
            }
        }
        let output = float_layer(model, layout.output)?;
        if legal(output.weights) && legal(output.bias) {
            Ok(Self { layout })
        } else {
            Err(LoadError::Model)
        }
    }

    /// Returns how the network meets a stream.
    #[must_use]
    pub fn form(&self) -> RecurrentForm {
        self.layout.form
    }

    /// Returns the cell of every layer.
    #[must_use]
    pub fn cell(&self) -> RecurrentCell {
        self.layout.cell
    }

    /// Returns the vectors in a window, and those from one verdict to the next.
    #[must_use]
    pub fn steps_and_hop(&self) -> (usize, usize) {
        (self.layout.steps, self.layout.hop)
    }

    /// Returns the layers from vector to code.
    pub fn encoder(&self) -> impl Iterator<Item = FloatRecurrentLayer<'d>> + use<'d> {
        self.stack(self.layout.encoder)
    }

    /// Returns the layers from code to vector; none in a forecaster.
    pub fn decoder(&self) -> impl Iterator<Item = FloatRecurrentLayer<'d>> + use<'d> {
        self.stack(self.layout.decoder)
    }

    /// Returns the dense layer to the vector.
    pub fn output(&self) -> Option<FloatLayer<'d>> {
        // Checked when the detector was loaded.
        float_layer(self.layout.model, self.layout.output).ok()
    }

    pub(super) fn history(&self) -> (usize, usize) {
        self.layout.history()
    }

    fn stack(
        &self,
        entries: &'d [RecurrentLayerEntry],
    ) -> impl Iterator<Item = FloatRecurrentLayer<'d>> + use<'d> {
        let Layout { model, cell, .. } = self.layout;
        // Checked when the detector was loaded.
        entries.iter().map_while(move |entry| recurrent_layer(model, entry, cell).ok())
    }

    pub(super) fn memory_words(&self) -> usize {
        stream::memory_words(self)
    }

    /// Counts what a run computes on average.
    pub(super) fn work(&self) -> Work {
        let mut step = Work::default();
        let (functions, divisions) = match self.layout.cell {
            RecurrentCell::Lstm => (5, 3),
            RecurrentCell::Gru => (3, 2),
        };
        for numbers in self.encoder().chain(self.decoder()) {
            let units = u64::from(numbers.entry.units);
            step.float_macs += numbers.weights.len() as u64;
            step.float_functions += functions * units;
            step.float_divisions += divisions * units;
            // Biases, the one in σ, and the products of gates.
            step.float_operations += 12 * units;
        }
        if let Some(output) = self.output() {
            step.float_macs += output.weights.len() as u64;
            step.float_operations += 2 * output.bias.len() as u64;
        }
        stream::work(&self.layout, step)
    }

    pub(super) fn start(&self, memory: &mut [f32]) {
        stream::start(self, bytemuck::cast_slice_mut(memory));
    }

    pub(super) fn run(
        &self,
        vector: &mut [f32],
        reconstruction: &mut [f32],
        memory: &mut [f32],
    ) -> Outcome {
        stream::run(self, vector, reconstruction, bytemuck::cast_slice_mut(memory))
    }

    /// Returns the scaled vector that the last reconstruction belongs to.
    pub(super) fn source<'m>(&self, memory: &'m [f32]) -> &'m [f32] {
        stream::source(self, memory)
    }

    /// Runs the autoencoder over a window at once: `[steps][vector_len]` in and out, in scaled units.
    /// `memory` has as many words as a pipeline with it lends. A forecaster leaves `output` as it is.
    pub fn reconstruct(&self, window: &[f32], output: &mut [f32], memory: &mut [u32]) {
        if memory.len() >= self.memory_words() {
            stream::reconstruct(self, window, output, memory);
        }
    }

    /// Takes one step of a stack; `state` is that of its layers one behind the other.
    fn step(
        &self,
        entries: &'d [RecurrentLayerEntry],
        input: &[f32],
        state: &mut [u32],
        scratch: &mut [u32],
    ) {
        let next: &mut [f32] = bytemuck::cast_slice_mut(scratch);
        let mut states: &mut [f32] = bytemuck::cast_slice_mut(state);
        let mut below: &[f32] = input;
        for numbers in self.stack(entries) {
            let units = numbers.entry.units as usize;
            let (state, rest) = states.split_at_mut(self.layout.cell.float_state_len(units));
            let cell_numbers = CellNumbers { weights: numbers.weights, bias: numbers.bias };
            match self.layout.cell {
                RecurrentCell::Lstm => {
                    let (hidden, cells) = state.split_at_mut(units);
                    cell::lstm(&cell_numbers, below, hidden, cells, &mut next[..units]);
                }
                RecurrentCell::Gru => cell::gru(&cell_numbers, below, state, &mut next[..units]),
            }
            below = &state[..units];
            states = rest;
        }
    }

    /// Cuts the outputs of a stack's last layer out of its state.
    fn outputs<'m>(&self, entries: &[RecurrentLayerEntry], state: &'m [u32]) -> &'m [f32] {
        let Some(last) = entries.last() else { return &[] };
        let units = last.units as usize;
        let start = state.len() - self.layout.cell.float_state_len(units);
        bytemuck::cast_slice(&state[start..start + units])
    }

    fn dense(&self, from: &[f32], output: &mut [f32]) {
        if let Some(numbers) = self.output() {
            layer(from, &numbers, output);
        }
    }
}

impl Network for Recurrent<'_> {
    fn layout(&self) -> &Layout<'_> {
        &self.layout
    }

    fn state_words(&self, entries: &[RecurrentLayerEntry]) -> usize {
        entries.iter().map(|entry| self.layout.cell.float_state_len(entry.units as usize)).sum()
    }

    fn code_words(&self) -> usize {
        self.layout.code_units()
    }

    fn scratch_words(&self) -> usize {
        self.layout.units_max()
    }

    fn restart(&self, _entries: &[RecurrentLayerEntry], state: &mut [u32]) {
        state.fill(0);
    }

    fn encode(&self, vector: &[f32], state: &mut [u32], scratch: &mut [u32]) {
        self.step(self.layout.encoder, vector, state, scratch);
    }

    fn code(&self, state: &[u32], code: &mut [u32]) {
        let outputs: &[u32] = bytemuck::cast_slice(self.outputs(self.layout.encoder, state));
        code.copy_from_slice(outputs);
    }

    fn decode(&self, code: &[u32], state: &mut [u32], output: &mut [f32], scratch: &mut [u32]) {
        self.step(self.layout.decoder, bytemuck::cast_slice(code), state, scratch);
        self.dense(self.outputs(self.layout.decoder, state), output);
    }

    fn forecast(&self, state: &[u32], output: &mut [f32], _scratch: &mut [u32]) {
        self.dense(self.outputs(self.layout.encoder, state), output);
    }
}
