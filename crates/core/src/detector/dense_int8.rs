//! Dense layers in int8, after the TensorFlow Lite 8-bit quantisation specification, with the
//! rounding of TensorFlow Lite Micro (gemmlowp: round to nearest twice).

use core::ops::Range;

use super::dense::{Activation, Layers, subtract};
use super::format::{
    ACTIVATION_TABLE_LEN, DenseHeader, DenseLayerEntry, OUTPUT_GROUP, Requantisation, weight_index,
};
use super::{LoadError, Outcome, Work, array};

/// Dense layers in int8.
#[derive(Clone, Copy, Debug)]
pub struct DenseInt8<'d> {
    layers: Layers<'d>,
}

/// The numbers of one int8 layer.
#[derive(Clone, Copy, Debug)]
pub struct Int8Layer<'d> {
    /// Widths, activation, zero point and bounds.
    pub entry: &'d DenseLayerEntry,
    /// In the order of [`weight_index`].
    pub weights: &'d [i8],
    /// `[outputs]`, with the input's zero point folded in.
    pub bias: &'d [i32],
    /// `[outputs]`.
    pub requantisation: &'d [Requantisation],
    /// What tanh or logistic makes of each weighted sum from -128 to 127; empty for other
    /// activations, which are bounds.
    pub table: &'d [i8],
}

impl<'d> Int8Layer<'d> {
    /// Tells whether zero point, bounds, scale and factors are in their ranges.
    pub(super) fn is_legal(&self) -> bool {
        let entry = self.entry;
        is_int8(entry.output_zero_point)
            && is_int8(entry.output_minimum)
            && is_int8(entry.output_maximum)
            && entry.output_minimum <= entry.output_maximum
            && is_scale(entry.output_scale)
            && self.requantisation.iter().all(requantisation_is_legal)
    }

    /// Returns the weights of one output, in the order of the inputs.
    pub fn row(&self, output: usize) -> impl Iterator<Item = i8> + use<'d> {
        let Self { entry, weights, .. } = *self;
        let (inputs, outputs) = (entry.inputs as usize, entry.outputs as usize);
        (0..inputs).filter_map(move |input| {
            weights.get(weight_index(inputs, outputs, output, input)).copied()
        })
    }
}

impl Int8Layer<'_> {
    /// Returns scale and zero point of the output. TensorFlow Lite gives tanh and logistic theirs.
    #[must_use]
    pub fn output_quantisation(&self) -> (f32, i32) {
        match Activation::from_number(self.entry.activation) {
            Some(Activation::Tanh) => (1.0 / 128.0, 0),
            Some(Activation::Logistic) => (1.0 / 256.0, -128),
            _ => (self.entry.output_scale, self.entry.output_zero_point),
        }
    }
}

fn is_int8(number: i32) -> bool {
    i8::try_from(number).is_ok()
}

fn is_scale(scale: f32) -> bool {
    scale.is_finite() && scale > 0.0
}

/// Checks scales and zero points of a network's input and output.
pub(super) fn check_header(header: &DenseHeader) -> Result<(), LoadError> {
    let is_legal = is_scale(header.input_scale)
        && is_scale(header.output_scale)
        && is_int8(header.input_zero_point)
        && is_int8(header.output_zero_point);
    if is_legal { Ok(()) } else { Err(LoadError::Model) }
}

pub(super) fn int8_layer<'d>(
    model: &'d [u8],
    entry: &'d DenseLayerEntry,
) -> Result<Int8Layer<'d>, LoadError> {
    let (inputs, outputs) = (entry.inputs as usize, entry.outputs as usize);
    let requantisation: &[Requantisation] = array(model, entry.requantisation, outputs)?;
    let table = match Activation::from_number(entry.activation).ok_or(LoadError::Model)? {
        Activation::Linear | Activation::Relu => &[],
        Activation::Tanh | Activation::Logistic => {
            let behind = entry.requantisation.checked_add(size_of_val(requantisation) as u32);
            array(model, behind.ok_or(LoadError::Part)?, ACTIVATION_TABLE_LEN)?
        }
    };
    Ok(Int8Layer {
        entry,
        weights: array(model, entry.weights, inputs * outputs)?,
        bias: array(model, entry.bias, outputs)?,
        requantisation,
        table,
    })
}

impl<'d> DenseInt8<'d> {
    pub(super) fn load(model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        let layers = Layers::load(model, vector_len)?;
        check_header(layers.header)?;
        for entry in layers.entries {
            if !int8_layer(model, entry)?.is_legal() {
                return Err(LoadError::Model);
            }
        }
        Ok(Self { layers })
    }

    /// Returns scale and zero point of the input.
    #[must_use]
    pub fn input_quantisation(&self) -> (f32, i32) {
        (self.layers.header.input_scale, self.layers.header.input_zero_point)
    }

    /// Returns the layers from input to output.
    pub fn layers(&self) -> impl Iterator<Item = Int8Layer<'d>> + use<'d> {
        let model = self.layers.model;
        // Checked when the detector was loaded.
        self.layers.entries.iter().map_while(move |entry| int8_layer(model, entry).ok())
    }

    /// Returns the words of memory that a run needs.
    #[must_use]
    pub fn memory_words(&self) -> usize {
        2 * self.half_words()
    }

    fn half_words(&self) -> usize {
        let first = self.layers.entries.first().map_or(0, |entry| entry.inputs as usize);
        self.layers.width_max.max(first).div_ceil(4)
    }

    pub(super) fn work(&self) -> Work {
        let mut work = Work::default();
        for entry in self.layers.entries {
            work.int8_macs += u64::from(entry.inputs) * u64::from(entry.outputs);
            work.requantised += u64::from(entry.outputs);
        }
        // Into int8 a division and a rounding, back a product, then the residual.
        let count = self.layers.vector_len() as u64;
        work.float_divisions += count;
        work.float_operations += 4 * count;
        work
    }

    pub(super) fn start(&self, _memory: &mut [f32]) {}

    /// Runs the network from `vector` to `reconstruction`, both in scaled units, and leaves the
    /// residuals in `vector`.
    pub(super) fn run(
        &self,
        vector: &mut [f32],
        reconstruction: &mut [f32],
        memory: &mut [f32],
    ) -> Outcome {
        let header = self.layers.header;
        let all = 0..self.layers.entries.len();
        let outputs = self.run_layers(all, bytemuck::cast_slice_mut(memory), |quantised| {
            quantise(vector, header.input_scale, header.input_zero_point, quantised);
        });
        for (output, quantised) in reconstruction.iter_mut().zip(outputs) {
            let steps = i32::from(*quantised) - header.output_zero_point;
            *output = steps as f32 * header.output_scale;
        }
        subtract(vector, reconstruction);
        Outcome::Residuals
    }

    /// Runs the network from int8 to int8, as an interpreter's input and output tensors hold them.
    /// `memory` has as many words as the pipeline lends; `inputs` and `outputs` have the length of
    /// the feature vector, what is longer stays as it is.
    pub fn run_quantised(&self, inputs: &[i8], outputs: &mut [i8], memory: &mut [u32]) {
        if memory.len() < self.memory_words() {
            return;
        }
        let all = 0..self.layers.entries.len();
        let result = self.run_layers(all, bytemuck::cast_slice_mut(memory), |quantised| {
            for (quantised, input) in quantised.iter_mut().zip(inputs) {
                *quantised = *input;
            }
        });
        for (output, result) in outputs.iter_mut().zip(result) {
            *output = *result;
        }
    }

    /// Runs some of the layers from `inputs` to `outputs`, both in the units that the numbers between
    /// those layers have in single precision.
    pub(super) fn run_part(
        &self,
        layers: Range<usize>,
        inputs: &[f32],
        outputs: &mut [f32],
        memory: &mut [f32],
    ) {
        let (scale, zero_point) = self.quantisation_before(layers.start);
        let (output_scale, output_zero_point) = self.quantisation_before(layers.end);
        let result = self.run_layers(layers, bytemuck::cast_slice_mut(memory), |quantised| {
            quantise(inputs, scale, zero_point, quantised);
        });
        for (output, quantised) in outputs.iter_mut().zip(result) {
            *output = (i32::from(*quantised) - output_zero_point) as f32 * output_scale;
        }
    }

    fn quantisation_before(&self, layer: usize) -> (f32, i32) {
        let before = layer.checked_sub(1).and_then(|index| self.layers().nth(index));
        before.map_or(self.input_quantisation(), |layer| layer.output_quantisation())
    }

    /// As [`Layers::code`].
    pub(super) fn code(&self) -> (usize, usize) {
        self.layers.code()
    }

    /// Lets `fill` write the input, runs some of the layers between the two halves of `memory` in
    /// turn, and returns the half that holds the output.
    fn run_layers<'m>(
        &self,
        layers: Range<usize>,
        memory: &'m mut [i8],
        fill: impl FnOnce(&mut [i8]),
    ) -> &'m [i8] {
        let (mut source, mut target) = memory.split_at_mut(4 * self.half_words());
        fill(source);
        for numbers in self.layers().take(layers.end).skip(layers.start) {
            layer(&source[..numbers.entry.inputs as usize], &numbers, target);
            core::mem::swap(&mut source, &mut target);
        }
        source
    }
}

/// Quantises as TensorFlow Lite's QUANTIZE does: round half away from zero, then clamp.
pub(super) fn quantise(inputs: &[f32], scale: f32, zero_point: i32, outputs: &mut [i8]) {
    for (input, output) in inputs.iter().zip(outputs) {
        *output = quantise_one(*input, scale, zero_point);
    }
}

/// Quantises as TensorFlow Lite's QUANTIZE does: round half away from zero, then clamp.
pub(super) fn quantise_one(input: f32, scale: f32, zero_point: i32) -> i8 {
    let steps = libm::roundf(input / scale);
    // The cast saturates, and a scaled feature is never NaN.
    let quantised = (steps as i32).saturating_add(zero_point);
    quantised.clamp(i32::from(i8::MIN), i32::from(i8::MAX)) as i8
}

/// Computes eight outputs at once where there are as many: an input is then loaded once for all of
/// them, while their sums stay in registers.
pub(super) fn layer(from: &[i8], numbers: &Int8Layer<'_>, to: &mut [i8]) {
    sums(from, numbers, to);
    if numbers.table.is_empty() {
        return;
    }
    for output in &mut to[..numbers.entry.outputs as usize] {
        let index = output.cast_unsigned() ^ 0x80;
        *output = numbers.table.get(usize::from(index)).copied().unwrap_or(*output);
    }
}

fn sums(from: &[i8], numbers: &Int8Layer<'_>, to: &mut [i8]) {
    let entry = numbers.entry;
    let (bias, last_bias) = numbers.bias.as_chunks::<OUTPUT_GROUP>();
    let (factors, last_factors) = numbers.requantisation.as_chunks::<OUTPUT_GROUP>();
    let (outputs, last_outputs) = to[..entry.outputs as usize].as_chunks_mut::<OUTPUT_GROUP>();
    let mut weights = numbers.weights;
    for ((bias, factors), outputs) in bias.iter().zip(factors).zip(outputs) {
        // Checked when the detector was loaded.
        let Some((group, rest)) = weights.split_at_checked(OUTPUT_GROUP * from.len()) else {
            return;
        };
        weights = rest;
        let sums = group_sums(from, group.as_chunks().0, bias);
        for index in 0..OUTPUT_GROUP {
            outputs[index] = requantise(sums[index], factors[index], entry);
        }
    }
    let rows = weights.chunks_exact(from.len()).zip(last_bias);
    let outputs = last_factors.iter().zip(last_outputs);
    for ((row, bias), (factor, output)) in rows.zip(outputs) {
        let mut sum = *bias;
        for (weight, input) in row.iter().zip(from) {
            sum = sum.wrapping_add(i32::from(*weight) * i32::from(*input));
        }
        *output = requantise(sum, *factor, entry);
    }
}

/// Adds products to the bias of some outputs; `weights` is `[inputs][OUTPUTS]`. Unrolling over inputs,
/// too, would take more registers than RV32 has.
#[inline(always)]
pub(super) fn group_sums<const OUTPUTS: usize>(
    from: &[i8],
    weights: &[[i8; OUTPUTS]],
    bias: &[i32; OUTPUTS],
) -> [i32; OUTPUTS] {
    let mut sums = *bias;
    for (input, weights) in from.iter().zip(weights) {
        for (sum, weight) in sums.iter_mut().zip(weights) {
            *sum = sum.wrapping_add(i32::from(*weight) * i32::from(*input));
        }
    }
    sums
}

#[inline(always)]
fn requantise(sum: i32, factor: Requantisation, entry: &DenseLayerEntry) -> i8 {
    let mut output =
        multiply_by_quantised_multiplier(sum, factor).wrapping_add(entry.output_zero_point);
    // `clamp`, `min` and `max` take more instructions on RV32.
    if output < entry.output_minimum {
        output = entry.output_minimum;
    }
    if output > entry.output_maximum {
        output = entry.output_maximum;
    }
    output as i8
}

/// Tells whether [`multiply_by_quantised_multiplier`] takes the factor.
pub(super) fn requantisation_is_legal(factor: &Requantisation) -> bool {
    factor.multiplier >= 0 && (-31..=30).contains(&factor.shift)
}

/// Multiplies by `multiplier * 2^(shift - 31)`, rounding as TensorFlow Lite Micro does:
/// gemmlowp's saturating rounding doubling high multiplication, then a rounding shift.
///
/// Needs a multiplier that is not negative and a shift from -31 to 30, which the loader checks.
#[inline(always)]
#[must_use]
pub fn multiply_by_quantised_multiplier(x: i32, factor: Requantisation) -> i32 {
    if factor.shift >= 0 {
        return doubling_high_multiply(x.wrapping_shl(factor.shift as u32), factor.multiplier);
    }
    let high = doubling_high_multiply(x, factor.multiplier);
    // To the nearest with ties away from zero: one less for a negative number, then half of it
    // rounded up. Nothing overflows, as |high| is below 2^31 - 1.
    let less = high - i32::from(high < 0);
    ((less >> (!factor.shift & 31)) + 1) >> 1
}

/// gemmlowp adds to `a * b` the nudge 2^30 (for a negative product 1 - 2^30) and divides by 2^31
/// towards zero. With `b` not negative both come to the floor of `(a * b + 2^30) / 2^31`.
#[inline(always)]
fn doubling_high_multiply(a: i32, b: i32) -> i32 {
    let product = i64::from(a) * i64::from(b.cast_unsigned() << 1);
    ((product >> 32) as i32).wrapping_add((product as u32 >> 31) as i32)
}

#[cfg(test)]
mod tests;
