//! The two cells in int8.

use super::nonlinear::{sigmoid, tanh, tanh_of_cell};
use crate::detector::dense_int8::{group_sums, multiply_by_quantised_multiplier};
use crate::detector::format::Requantisation;
use crate::detector::format::recurrent::RecurrentLayerEntry;

/// Powers of two that a cell state's step may be: a range of ±1 to ±32768.
pub(super) const CELL_POWERS: core::ops::RangeInclusive<i32> = -15..=0;

/// The numbers of a layer as a cell reads them.
pub(super) struct CellNumbers<'d> {
    pub(super) entry: &'d RecurrentLayerEntry,
    pub(super) weights: &'d [i8],
    pub(super) bias: &'d [i32],
    /// `[2][gates]`.
    pub(super) requantisation: &'d [Requantisation],
}

/// The state of a layer; `next` is scratch for the new `hidden`.
pub(super) struct CellState<'m> {
    pub(super) hidden: &'m mut [i8],
    pub(super) cells: &'m mut [i16],
    pub(super) next: &'m mut [i8],
}

/// The rounded products of some units' gates, in steps of 2^-12: `[units][gates]`.
struct Products<const ROWS: usize> {
    with_input: [i32; ROWS],
    with_state: [i32; ROWS],
}

/// The part of the weights and biases that is not read yet.
struct Reader<'a, 'd> {
    numbers: &'a CellNumbers<'d>,
    weights: &'d [i8],
    bias: &'d [i32],
}

impl<'a, 'd> Reader<'a, 'd> {
    fn new(numbers: &'a CellNumbers<'d>) -> Self {
        Self { numbers, weights: numbers.weights, bias: numbers.bias }
    }

    /// Computes the products of the next units, as many as have `ROWS` gates.
    #[inline(always)]
    fn products<const GATES: usize, const ROWS: usize>(
        &mut self,
        input: &[i8],
        hidden: &[i8],
    ) -> Products<ROWS> {
        let (of_input, of_state) = self.numbers.requantisation.split_at(GATES);
        Products {
            with_input: self.part::<GATES, ROWS>(input, of_input),
            with_state: self.part::<GATES, ROWS>(hidden, of_state),
        }
    }

    #[inline(always)]
    fn part<const GATES: usize, const ROWS: usize>(
        &mut self,
        from: &[i8],
        factors: &[Requantisation],
    ) -> [i32; ROWS] {
        let nothing = [0; ROWS];
        // Checked when the detector was loaded.
        let Some((weights, rest)) = self.weights.split_at_checked(ROWS * from.len()) else {
            return nothing;
        };
        let Some((bias, bias_rest)) = self.bias.split_first_chunk::<ROWS>() else {
            return nothing;
        };
        (self.weights, self.bias) = (rest, bias_rest);
        let mut sums = group_sums(from, weights.as_chunks().0, bias);
        for (units, factor) in factors.iter().enumerate().take(GATES) {
            for sum in sums.iter_mut().skip(units).step_by(GATES) {
                *sum = saturate(multiply_by_quantised_multiplier(*sum, *factor));
            }
        }
        sums
    }
}

/// One step of an LSTM layer.
pub(super) fn lstm(numbers: &CellNumbers<'_>, input: &[i8], state: CellState<'_>) {
    let CellState { hidden, cells, next } = state;
    let mut reader = Reader::new(numbers);
    let (cell_pairs, last_cell) = cells.as_chunks_mut::<2>();
    let (next_pairs, last_next) = next.as_chunks_mut::<2>();
    for (cells, next) in cell_pairs.iter_mut().zip(next_pairs) {
        let products = reader.products::<4, 8>(input, hidden);
        for unit in 0..2 {
            next[unit] = lstm_unit(numbers.entry, &products, 4 * unit, &mut cells[unit]);
        }
    }
    if let ([cell], [next]) = (last_cell, last_next) {
        let products = reader.products::<4, 4>(input, hidden);
        *next = lstm_unit(numbers.entry, &products, 0, cell);
    }
    hidden.copy_from_slice(next);
}

#[inline(always)]
fn lstm_unit<const ROWS: usize>(
    entry: &RecurrentLayerEntry,
    products: &Products<ROWS>,
    first: usize,
    cell: &mut i16,
) -> i8 {
    let sum =
        |gate| saturate(products.with_input[first + gate] + products.with_state[first + gate]);
    let input_gate = sigmoid(sum(0));
    let forget_gate = sigmoid(sum(1));
    let candidate = tanh(sum(2));
    let output_gate = sigmoid(sum(3));
    let kept = divide_by_power(forget_gate * i32::from(*cell), 15);
    // From steps of 2^-30 to those of the cell.
    let taken = divide_by_power(input_gate * candidate, (30 + entry.cell_power) as u32);
    let sum = saturate(saturate(kept) + saturate(taken));
    *cell = sum as i16;
    let output = output_gate * tanh_of_cell(sum, entry.cell_power);
    requantise_output(entry, output)
}

/// One step of a GRU layer.
pub(super) fn gru(numbers: &CellNumbers<'_>, input: &[i8], state: CellState<'_>) {
    let CellState { hidden, cells, next } = state;
    let mut reader = Reader::new(numbers);
    let (cell_pairs, last_cell) = cells.as_chunks_mut::<2>();
    let (next_pairs, last_next) = next.as_chunks_mut::<2>();
    for (cells, next) in cell_pairs.iter_mut().zip(next_pairs) {
        let products = reader.products::<3, 6>(input, hidden);
        for unit in 0..2 {
            next[unit] = gru_unit(numbers.entry, &products, 3 * unit, &mut cells[unit]);
        }
    }
    if let ([cell], [next]) = (last_cell, last_next) {
        let products = reader.products::<3, 3>(input, hidden);
        *next = gru_unit(numbers.entry, &products, 0, cell);
    }
    hidden.copy_from_slice(next);
}

#[inline(always)]
fn gru_unit<const ROWS: usize>(
    entry: &RecurrentLayerEntry,
    products: &Products<ROWS>,
    first: usize,
    cell: &mut i16,
) -> i8 {
    let Products { with_input, with_state } = products;
    let reset = sigmoid(saturate(with_input[first] + with_state[first]));
    let update = sigmoid(saturate(with_input[first + 1] + with_state[first + 1]));
    let from_state = round_off_15(reset * with_state[first + 2]);
    let candidate = tanh(saturate(with_input[first + 2] + from_state));
    // (1 - z) n + z h as n + z (h - n): the product stays below 2^31, and the result between the two.
    let state = candidate + round_off_15(update * (i32::from(*cell) - candidate));
    *cell = state as i16;
    requantise_output(entry, state)
}

fn round_off_15(x: i32) -> i32 {
    (x + (1 << 14)) >> 15
}

#[inline(always)]
fn requantise_output(entry: &RecurrentLayerEntry, output: i32) -> i8 {
    let mut output = multiply_by_quantised_multiplier(output, entry.output_factor)
        .wrapping_add(entry.output_zero_point);
    // `clamp`, `min` and `max` take more instructions on RV32.
    if output < i32::from(i8::MIN) {
        output = i32::from(i8::MIN);
    }
    if output > i32::from(i8::MAX) {
        output = i32::from(i8::MAX);
    }
    output as i8
}

/// Brings a number into the range of int16.
#[inline(always)]
fn saturate(x: i32) -> i32 {
    if x > i32::from(i16::MAX) {
        return i32::from(i16::MAX);
    }
    if x < i32::from(i16::MIN) {
        return i32::from(i16::MIN);
    }
    x
}

/// Divides by 2 to the power of `bits`, 2 to 31, as [`multiply_by_quantised_multiplier`] does with
/// that factor: to the nearest half first, ties up, then to the nearest whole, ties away from zero.
#[inline(always)]
fn divide_by_power(x: i32, bits: u32) -> i32 {
    let high = (x + 1) >> 1;
    let less = high - i32::from(high < 0);
    ((less >> (bits - 2)) + 1) >> 1
}

#[cfg(test)]
mod tests;
