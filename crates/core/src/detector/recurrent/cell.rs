//! The two cells in single precision.

use crate::detector::Activation;

/// Biases of a unit: one for each gate of an LSTM; of a GRU two for the candidate.
pub(super) const BIASES: usize = 4;

/// The numbers of a layer as a cell reads them.
pub(super) struct CellNumbers<'d> {
    /// `[units][gates][inputs + units]`.
    pub(super) weights: &'d [f32],
    /// `[units][4]`.
    pub(super) bias: &'d [f32],
}

/// One step of an LSTM layer; `next` is scratch for the new `hidden`.
///
/// With i, f, o = σ(W x + U h + b) and g = tanh(W x + U h + b): c ← f c + i g, h ← o tanh(c).
pub(super) fn lstm(
    numbers: &CellNumbers<'_>,
    input: &[f32],
    hidden: &mut [f32],
    cells: &mut [f32],
    next: &mut [f32],
) {
    let columns = input.len() + hidden.len();
    let mut rows = numbers.weights.chunks_exact(columns);
    let (biases, _) = numbers.bias.as_chunks::<BIASES>();
    for ((cell, next), biases) in cells.iter_mut().zip(&mut *next).zip(biases) {
        let mut gates = *biases;
        for gate in &mut gates {
            let (of_input, of_state) = rows.next().unwrap_or(&[]).split_at(input.len());
            // Sums in the order of the columns and adds the bias last.
            *gate += products(of_state, hidden, products(of_input, input, 0.0));
        }
        let [input_gate, forget_gate, candidate, output_gate] = gates;
        *cell = sigmoid(forget_gate) * *cell + sigmoid(input_gate) * tanh(candidate);
        *next = sigmoid(output_gate) * tanh(*cell);
    }
    hidden.copy_from_slice(next);
}

/// One step of a GRU layer with the reset gate after the product, as PyTorch and cuDNN have it;
/// `next` is scratch for the new `hidden`.
///
/// With r, z = σ(W x + U h + b) and n = tanh(W x + b + r (U h + b')): h ← (1 - z) n + z h.
pub(super) fn gru(numbers: &CellNumbers<'_>, input: &[f32], hidden: &mut [f32], next: &mut [f32]) {
    let columns = input.len() + hidden.len();
    let mut rows = numbers.weights.chunks_exact(columns);
    let (biases, _) = numbers.bias.as_chunks::<BIASES>();
    for ((before, next), biases) in hidden.iter().zip(&mut *next).zip(biases) {
        let [mut reset, mut update, of_input_bias, of_state_bias] = *biases;
        for gate in [&mut reset, &mut update] {
            let (of_input, of_state) = rows.next().unwrap_or(&[]).split_at(input.len());
            *gate += products(of_state, hidden, products(of_input, input, 0.0));
        }
        let (of_input, of_state) = rows.next().unwrap_or(&[]).split_at(input.len());
        let from_input = products(of_input, input, 0.0) + of_input_bias;
        let from_state = products(of_state, hidden, 0.0) + of_state_bias;
        let candidate = tanh(from_input + sigmoid(reset) * from_state);
        let update = sigmoid(update);
        *next = (1.0 - update) * candidate + update * before;
    }
    hidden.copy_from_slice(next);
}

fn products(weights: &[f32], inputs: &[f32], start: f32) -> f32 {
    let mut sum = start;
    for (weight, input) in weights.iter().zip(inputs) {
        sum += weight * input;
    }
    sum
}

fn sigmoid(x: f32) -> f32 {
    Activation::Logistic.apply(x)
}

fn tanh(x: f32) -> f32 {
    Activation::Tanh.apply(x)
}
