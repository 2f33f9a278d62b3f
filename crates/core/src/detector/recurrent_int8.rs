//! LSTM and GRU in int8.
//!
//! The LSTM is TensorFlow Lite Micro's `UNIDIRECTIONAL_SEQUENCE_LSTM` with int8 weights and
//! activations and an int16 cell state, bit for bit: products rounded to int16 steps of 2^-12
//! apiece, a table-driven σ and tanh, a cell state whose step is a power of two. TensorFlow Lite has
//! no GRU of its own; this one is built of the same pieces, with a state of int16 steps of 2^-15
//! beside the int8 outputs so that small updates are not rounded away.

mod cell;
mod nonlinear;

use super::dense::Activation;
use super::dense_int8::{Int8Layer, int8_layer, layer, quantise, requantisation_is_legal};
use super::format::Requantisation;
use super::format::recurrent::RecurrentLayerEntry;
use super::recurrent::layers::{Layout, RecurrentCell, RecurrentForm};
use super::recurrent::stream::{self, Network};
use super::{LoadError, Outcome, Work, array};
use cell::{CellNumbers, CellState, Input};

/// LSTM or GRU in int8, otherwise as [`Recurrent`](super::Recurrent).
#[derive(Clone, Copy, Debug)]
pub struct RecurrentInt8<'d> {
    layout: Layout<'d>,
}

/// The numbers of one recurrent layer in int8.
#[derive(Clone, Copy, Debug)]
pub struct Int8RecurrentLayer<'d> {
    /// Widths, scales and zero point.
    pub entry: &'d RecurrentLayerEntry,
    /// `[gates]` matrices for the input, then `[gates]` for the state, see
    /// [`RecurrentLayerEntry::weights`].
    pub weights: &'d [i8],
    /// `[2][gates][units]`, with the zero points folded in.
    pub bias: &'d [i32],
    /// `[2][gates]`: of the products with the input, then with the state.
    pub requantisation: &'d [Requantisation],
}

impl<'d> From<Int8RecurrentLayer<'d>> for CellNumbers<'d> {
    fn from(layer: Int8RecurrentLayer<'d>) -> Self {
        let Int8RecurrentLayer { entry, weights, bias, requantisation } = layer;
        Self { entry, weights, bias, requantisation }
    }
}

fn recurrent_layer<'d>(
    model: &'d [u8],
    entry: &'d RecurrentLayerEntry,
    cell: RecurrentCell,
) -> Result<Int8RecurrentLayer<'d>, LoadError> {
    let (inputs, units, gates) = (entry.inputs as usize, entry.units as usize, cell.gates());
    Ok(Int8RecurrentLayer {
        entry,
        weights: array(model, entry.weights, gates * units * (inputs + units))?,
        bias: array(model, entry.bias, 2 * gates * units)?,
        requantisation: array(model, entry.requantisation, 2 * gates)?,
    })
}

/// Words of the int8 outputs of a layer.
fn output_words(units: usize) -> usize {
    units.div_ceil(4)
}

/// Words of a layer's state: its int8 outputs, then its int16 cells.
fn layer_words(units: usize) -> usize {
    output_words(units) + units.div_ceil(2)
}

impl<'d> RecurrentInt8<'d> {
    pub(super) fn load(model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        let layout = Layout::load(model, vector_len)?;
        let int8 = i32::from(i8::MIN)..=i32::from(i8::MAX);
        let scale_is_legal = |scale: f32| scale.is_finite() && scale > 0.0;
        let mut legal = scale_is_legal(layout.header.input_scale)
            && int8.contains(&layout.header.input_zero_point);
        for entry in layout.encoder.iter().chain(layout.decoder) {
            let numbers = recurrent_layer(model, entry, layout.cell)?;
            legal &= int8.contains(&entry.output_zero_point)
                && scale_is_legal(entry.output_scale)
                && cell::CELL_POWERS.contains(&entry.cell_power)
                && requantisation_is_legal(&entry.output_factor)
                && numbers.requantisation.iter().all(requantisation_is_legal);
        }
        let output = int8_layer(model, layout.output)?;
        legal &= matches!(
            Activation::from_number(output.entry.activation),
            Some(Activation::Linear | Activation::Relu)
        ) && output.is_legal();
        if legal { Ok(Self { layout }) } else { Err(LoadError::Model) }
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

    /// Returns scale and zero point of the input.
    #[must_use]
    pub fn input_quantisation(&self) -> (f32, i32) {
        (self.layout.header.input_scale, self.layout.header.input_zero_point)
    }

    /// Returns the layers from vector to code.
    pub fn encoder(&self) -> impl Iterator<Item = Int8RecurrentLayer<'d>> + use<'d> {
        self.stack(self.layout.encoder)
    }

    /// Returns the layers from code to vector; none in a forecaster.
    pub fn decoder(&self) -> impl Iterator<Item = Int8RecurrentLayer<'d>> + use<'d> {
        self.stack(self.layout.decoder)
    }

    /// Returns the dense layer to the vector.
    pub fn output(&self) -> Option<Int8Layer<'d>> {
        // Checked when the detector was loaded.
        int8_layer(self.layout.model, self.layout.output).ok()
    }

    pub(super) fn history(&self) -> (usize, usize) {
        self.layout.history()
    }

    fn stack(
        &self,
        entries: &'d [RecurrentLayerEntry],
    ) -> impl Iterator<Item = Int8RecurrentLayer<'d>> + use<'d> {
        let Layout { model, cell, .. } = self.layout;
        // Checked when the detector was loaded.
        entries.iter().map_while(move |entry| recurrent_layer(model, entry, cell).ok())
    }

    /// Returns the words of memory that a run needs.
    #[must_use]
    pub fn memory_words(&self) -> usize {
        stream::memory_words(self)
    }

    /// Counts what a run computes on average.
    pub(super) fn work(&self) -> Work {
        let mut step = Work::default();
        let tables = match self.layout.cell {
            RecurrentCell::Lstm => 5,
            RecurrentCell::Gru => 3,
        };
        for numbers in self.encoder().chain(self.decoder()) {
            let units = u64::from(numbers.entry.units);
            step.int8_macs += numbers.weights.len() as u64;
            // Both products of each gate, and the output.
            step.requantised += numbers.bias.len() as u64 + units;
            // Two entries, a line between them, and the sums that saturate.
            step.integer_steps += 4 * tables * units;
        }
        // The products with the code are computed once a window.
        let of_code = self.products_of_code() as u64;
        step.int8_macs -= of_code * self.layout.code_units() as u64;
        step.requantised -= of_code;
        let count = self.layout.vector_len as u64;
        step.int8_macs += count * u64::from(self.layout.output.inputs);
        step.requantised += count;
        // Into int8 a division and a rounding, back a product.
        step.float_divisions += count;
        step.float_operations += 3 * count;
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
    /// `memory` has as many words as [`RecurrentInt8::memory_words`] says. A forecaster leaves
    /// `output` as it is.
    pub fn reconstruct(&self, window: &[f32], output: &mut [f32], memory: &mut [u32]) {
        if memory.len() >= self.memory_words() {
            stream::reconstruct(self, window, output, memory);
        }
    }

    /// Runs the autoencoder over a window at once from int8 to int8, as an interpreter's input and
    /// output tensors hold them, otherwise as [`RecurrentInt8::reconstruct`].
    pub fn reconstruct_quantised(&self, window: &[i8], output: &mut [i8], memory: &mut [u32]) {
        let Layout { vector_len, steps, form, encoder, decoder, .. } = self.layout;
        if memory.len() < self.memory_words() || form != RecurrentForm::Staggered {
            return;
        }
        let (scratch, rest) = memory.split_at_mut(self.scratch_words());
        let (code, rest) = rest.split_at_mut(self.code_words());
        let (encoder_state, rest) = rest.split_at_mut(self.state_words(encoder));
        let decoder_state = &mut rest[..self.state_words(decoder)];
        self.restart(encoder, encoder_state);
        self.restart(decoder, decoder_state);
        for vector in window.chunks_exact(vector_len).take(steps) {
            self.step(encoder, Input::Numbers(vector), encoder_state, scratch);
        }
        self.code(encoder_state, code);
        for vector in output.chunks_exact_mut(vector_len).take(steps) {
            self.step(decoder, self.known(code), decoder_state, scratch);
            self.dense(self.outputs(decoder, decoder_state), vector);
        }
    }

    /// The code's products with the gates of the decoder's first layer.
    fn known<'m>(&self, code: &'m [u32]) -> Input<'m> {
        Input::Products(&bytemuck::cast_slice(code)[..self.products_of_code()])
    }

    fn products_of_code(&self) -> usize {
        let units = self.layout.decoder.first().map_or(0, |entry| entry.units as usize);
        self.layout.cell.gates() * units
    }

    /// Takes one step of a stack; `state` is that of its layers one behind the other.
    fn step(
        &self,
        entries: &'d [RecurrentLayerEntry],
        input: Input<'_>,
        state: &mut [u32],
        scratch: &mut [u32],
    ) {
        let products: &mut [i16] = bytemuck::cast_slice_mut(scratch);
        let mut states = state;
        let mut below = input;
        for numbers in self.stack(entries) {
            let entry = numbers.entry;
            let units = entry.units as usize;
            let (state, rest) = states.split_at_mut(layer_words(units));
            let (hidden, cells) = state.split_at_mut(output_words(units));
            let hidden: &mut [i8] = &mut bytemuck::cast_slice_mut(hidden)[..units];
            let cells: &mut [i16] = &mut bytemuck::cast_slice_mut(cells)[..units];
            let cell_numbers = CellNumbers::from(numbers);
            let products = &mut products[..cell::PRODUCTS * units];
            let cell_state = CellState { hidden: &mut *hidden, cells, products };
            match self.layout.cell {
                RecurrentCell::Lstm => cell::lstm(&cell_numbers, below, cell_state),
                RecurrentCell::Gru => cell::gru(&cell_numbers, below, cell_state),
            }
            below = Input::Numbers(hidden);
            states = rest;
        }
    }

    /// Cuts the outputs of a stack's last layer out of its state.
    fn outputs<'m>(&self, entries: &[RecurrentLayerEntry], state: &'m [u32]) -> &'m [i8] {
        let Some(last) = entries.last() else { return &[] };
        let units = last.units as usize;
        let start = state.len() - layer_words(units);
        &bytemuck::cast_slice(&state[start..])[..units]
    }

    fn dense(&self, from: &[i8], output: &mut [i8]) {
        if let Some(numbers) = self.output() {
            layer(from, &numbers, output);
        }
    }

    /// Runs the dense layer and writes its outputs in scaled units.
    fn scaled_output(&self, from: &[i8], output: &mut [f32], scratch: &mut [u32]) {
        let quantised: &mut [i8] = bytemuck::cast_slice_mut(scratch);
        self.dense(from, quantised);
        let entry = self.layout.output;
        for (output, quantised) in output.iter_mut().zip(quantised) {
            let steps = i32::from(*quantised) - entry.output_zero_point;
            *output = steps as f32 * entry.output_scale;
        }
    }
}

impl Network for RecurrentInt8<'_> {
    fn layout(&self) -> &Layout<'_> {
        &self.layout
    }

    fn state_words(&self, entries: &[RecurrentLayerEntry]) -> usize {
        entries.iter().map(|entry| layer_words(entry.units as usize)).sum()
    }

    /// The code comes to the decoder at every step, and so do its products with the first layer's
    /// gates: they are kept in its stead.
    fn code_words(&self) -> usize {
        self.products_of_code().div_ceil(2)
    }

    /// The quantised vector, and the int16 products of the widest layer.
    fn scratch_words(&self) -> usize {
        self.layout.vector_len.div_ceil(4) + cell::PRODUCTS * self.layout.units_max().div_ceil(2)
    }

    fn restart(&self, entries: &[RecurrentLayerEntry], state: &mut [u32]) {
        let mut states = state;
        for entry in entries {
            let units = entry.units as usize;
            let (state, rest) = states.split_at_mut(layer_words(units));
            let (hidden, cells) = state.split_at_mut(output_words(units));
            // Checked when the detector was loaded: it is an int8.
            bytemuck::cast_slice_mut::<u32, i8>(hidden).fill(entry.output_zero_point as i8);
            cells.fill(0);
            states = rest;
        }
    }

    fn encode(&self, vector: &[f32], state: &mut [u32], scratch: &mut [u32]) {
        let header = self.layout.header;
        let (input, scratch) = scratch.split_at_mut(vector.len().div_ceil(4));
        let input: &mut [i8] = &mut bytemuck::cast_slice_mut(input)[..vector.len()];
        quantise(vector, header.input_scale, header.input_zero_point, input);
        self.step(self.layout.encoder, Input::Numbers(input), state, scratch);
    }

    fn code(&self, state: &[u32], code: &mut [u32]) {
        let outputs = self.outputs(self.layout.encoder, state);
        let products: &mut [i16] = bytemuck::cast_slice_mut(code);
        if let Some(numbers) = self.decoder().next() {
            let products = &mut products[..self.products_of_code()];
            cell::round_products(&CellNumbers::from(numbers), outputs, products);
        }
    }

    fn decode(&self, code: &[u32], state: &mut [u32], output: &mut [f32], scratch: &mut [u32]) {
        self.step(self.layout.decoder, self.known(code), state, scratch);
        self.scaled_output(self.outputs(self.layout.decoder, state), output, scratch);
    }

    fn forecast(&self, state: &[u32], output: &mut [f32], scratch: &mut [u32]) {
        self.scaled_output(self.outputs(self.layout.encoder, state), output, scratch);
    }
}
