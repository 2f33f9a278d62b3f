//! The two cells in int8.
//!
//! A step first rounds the products of each gate with input and state, eight units at a time, and then
//! lets each unit make its output of them.

use super::nonlinear::{sigmoid, tanh, tanh_of_cell};
use crate::detector::dense_int8::{group_sums, multiply_by_quantised_multiplier};
use crate::detector::format::recurrent::RecurrentLayerEntry;
use crate::detector::format::{OUTPUT_GROUP, Requantisation};

/// Powers of two that a cell state's step may be: a range of ±1 to ±32768.
pub(super) const CELL_POWERS: core::ops::RangeInclusive<i32> = -15..=0;

/// Rounded products of a unit: one for each gate of an LSTM; of a GRU two for the candidate.
pub(super) const PRODUCTS: usize = 4;

/// The numbers of a layer as a cell reads them.
pub(super) struct CellNumbers<'d> {
    pub(super) entry: &'d RecurrentLayerEntry,
    pub(super) weights: &'d [i8],
    pub(super) bias: &'d [i32],
    /// `[2][gates]`.
    pub(super) requantisation: &'d [Requantisation],
}

/// The state of a layer.
pub(super) struct CellState<'m> {
    pub(super) hidden: &'m mut [i8],
    pub(super) cells: &'m mut [i16],
    /// `[PRODUCTS][units]` of scratch.
    pub(super) products: &'m mut [i16],
}

/// What a layer takes in.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    /// Its input.
    Numbers(&'a [i8]),
    /// The gates' rounded products with its input, see [`round_products`].
    Products(&'a [i16]),
}

/// Rounds the products of a layer's gates with its input, `[gates][units]`: what does not change from
/// step to step where the input does not.
pub(super) fn round_products(numbers: &CellNumbers<'_>, input: &[i8], products: &mut [i16]) {
    let [with_input, _] = Gates::both(numbers);
    with_input.round_products(input, products, false);
}

impl Input<'_> {
    fn put(self, with_input: Gates<'_>, products: &mut [i16]) {
        match self {
            Self::Numbers(input) => with_input.round_products(input, products, false),
            Self::Products(known) => products.copy_from_slice(known),
        }
    }
}

/// One step of an LSTM layer.
pub(super) fn lstm(numbers: &CellNumbers<'_>, input: Input<'_>, state: CellState<'_>) {
    let CellState { hidden, cells, products } = state;
    let [with_input, with_state] = Gates::both(numbers);
    input.put(with_input, products);
    with_state.round_products(hidden, products, true);
    let [input_gates, forget_gates, candidates, output_gates] = rows(products, hidden.len());
    let gates = input_gates.iter().zip(forget_gates).zip(candidates.iter().zip(output_gates));
    for ((output, cell), ((i, f), (g, o))) in hidden.iter_mut().zip(cells).zip(gates) {
        *output = lstm_unit(numbers.entry, [*i, *f, *g, *o], cell);
    }
}

/// One step of a GRU layer.
pub(super) fn gru(numbers: &CellNumbers<'_>, input: Input<'_>, state: CellState<'_>) {
    let CellState { hidden, cells, products } = state;
    let units = hidden.len();
    let [with_input, with_state] = Gates::both(numbers);
    let (summed, of_state) = products.split_at_mut(3 * units);
    input.put(with_input, summed);
    let [of_gates, of_candidate] = with_state.split(2, units, units);
    of_gates.round_products(hidden, &mut summed[..2 * units], true);
    of_candidate.round_products(hidden, of_state, false);
    let [resets, updates, from_input, from_state] = rows(products, units);
    let gates = resets.iter().zip(updates).zip(from_input.iter().zip(from_state));
    for ((output, cell), ((r, z), (n, m))) in hidden.iter_mut().zip(cells).zip(gates) {
        *output = gru_unit(numbers.entry, [*r, *z, *n, *m], cell);
    }
}

fn rows(products: &[i16], units: usize) -> [&[i16]; PRODUCTS] {
    core::array::from_fn(|row| &products[row * units..][..units])
}

/// Some gates' matrices for the input or for the state.
#[derive(Clone, Copy)]
struct Gates<'d> {
    /// `[gates]` matrices in the order of `weight_index`.
    weights: &'d [i8],
    /// `[gates][units]`.
    bias: &'d [i32],
    /// `[gates]`.
    factors: &'d [Requantisation],
}

impl<'d> Gates<'d> {
    /// Splits a layer's numbers into those for the input and those for the state.
    fn both(numbers: &CellNumbers<'d>) -> [Self; 2] {
        let CellNumbers { entry, weights, bias, requantisation } = *numbers;
        let (inputs, units) = (entry.inputs as usize, entry.units as usize);
        let gates = requantisation.len() / 2;
        Self { weights, bias, factors: requantisation }.split(gates, inputs, units)
    }

    /// Splits off the first gates, whose matrices have so many columns.
    fn split(self, gates: usize, columns: usize, units: usize) -> [Self; 2] {
        // The arrays have these lengths, as was checked when the detector was loaded.
        let (weights, more_weights) = self.weights.split_at(gates * units * columns);
        let (bias, more_bias) = self.bias.split_at(gates * units);
        let (factors, more_factors) = self.factors.split_at(gates);
        [
            Self { weights, bias, factors },
            Self { weights: more_weights, bias: more_bias, factors: more_factors },
        ]
    }

    /// Computes the products of the gates with `from`, rounds them to steps of 2^-12 in int16 and
    /// writes them into `products`, `[gates][units]`, or adds them to what stands there.
    #[inline(never)]
    fn round_products(self, from: &[i8], products: &mut [i16], add: bool) {
        let units = products.len() / self.factors.len();
        let mut weights = self.weights;
        let gates = self.bias.chunks_exact(units).zip(products.chunks_exact_mut(units));
        for ((bias, products), factor) in gates.zip(self.factors) {
            let (bias_groups, last_bias) = bias.as_chunks::<OUTPUT_GROUP>();
            let (groups, last_products) = products.as_chunks_mut::<OUTPUT_GROUP>();
            for (bias, products) in bias_groups.iter().zip(groups) {
                weights = put(from, weights, bias, *factor, products, add);
            }
            let last = last_bias.as_chunks::<1>().0.iter().zip(last_products.as_chunks_mut().0);
            for (bias, product) in last {
                weights = put(from, weights, bias, *factor, product, add);
            }
        }
    }
}

/// Computes the products of `OUTPUTS` units, whose weights `[inputs][OUTPUTS]` come first; returns the
/// weights behind them.
#[inline(always)]
fn put<'d, const OUTPUTS: usize>(
    from: &[i8],
    weights: &'d [i8],
    bias: &[i32; OUTPUTS],
    factor: Requantisation,
    products: &mut [i16; OUTPUTS],
    add: bool,
) -> &'d [i8] {
    // Checked when the detector was loaded.
    let Some((weights, rest)) = weights.split_at_checked(OUTPUTS * from.len()) else {
        return weights;
    };
    let sums = group_sums(from, weights.as_chunks().0, bias);
    // One question for all of them.
    let sums = if factor.shift < 0 {
        sums.map(|sum| multiply_by_quantised_multiplier(sum, factor))
    } else {
        sums.map(|sum| multiply_by_quantised_multiplier(sum, factor))
    };
    if add {
        for (product, sum) in products.iter_mut().zip(sums) {
            *product = saturate(i32::from(*product) + saturate(sum)) as i16;
        }
    } else {
        for (product, sum) in products.iter_mut().zip(sums) {
            *product = saturate(sum) as i16;
        }
    }
    rest
}

/// Makes a unit's output of the sums of its gates, input, forget, candidate and output.
#[inline(always)]
fn lstm_unit(entry: &RecurrentLayerEntry, gates: [i16; 4], cell: &mut i16) -> i8 {
    let [input_gate, forget_gate, candidate, output_gate] = gates.map(i32::from);
    // Gates are below 1, so that neither part leaves int16. From steps of 2^-30 to the cell's.
    let kept = divide_by_power(sigmoid(forget_gate) * i32::from(*cell), 15);
    let taken =
        divide_by_power(sigmoid(input_gate) * tanh(candidate), (30 + entry.cell_power) as u32);
    let sum = saturate(kept + taken);
    *cell = sum as i16;
    let output = sigmoid(output_gate) * tanh_of_cell(sum, entry.cell_power);
    requantise_output(entry, output)
}

/// Makes a unit's output of the sums of its reset and update gates and of the two products of its
/// candidate, with input and with state.
#[inline(always)]
fn gru_unit(entry: &RecurrentLayerEntry, products: [i16; 4], cell: &mut i16) -> i8 {
    let [reset, update, from_input, from_state] = products.map(i32::from);
    let candidate = tanh(from_input + round_off_15(sigmoid(reset) * from_state));
    // (1 - z) n + z h as n + z (h - n): the product stays below 2^31, and the result between the two.
    let state = candidate + round_off_15(sigmoid(update) * (i32::from(*cell) - candidate));
    *cell = state as i16;
    requantise_output(entry, state)
}

#[inline(always)]
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
    // `clamp` takes more instructions on RV32.
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
