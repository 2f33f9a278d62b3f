//! One-dimensional convolutions in int8: `CONV_2D` of the TensorFlow Lite 8-bit quantisation
//! specification, with the rounding of TensorFlow Lite Micro.

use super::convolution::{Convolutions, Geometry, interleave, separate};
use super::dense::subtract;
use super::dense_int8::{self, Int8Layer, check_header, int8_layer, quantise_one};
use super::{LoadError, Outcome, Work};

/// One-dimensional convolutions in int8.
#[derive(Clone, Copy, Debug)]
pub struct ConvolutionInt8<'d> {
    layers: Convolutions<'d>,
}

impl<'d> ConvolutionInt8<'d> {
    pub(super) fn load(model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        let layers = Convolutions::load(model, vector_len)?;
        check_header(layers.header)?;
        for entry in layers.entries {
            if !int8_layer(model, &entry.product)?.is_legal() {
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
    pub fn layers(&self) -> impl Iterator<Item = (Geometry, Int8Layer<'d>)> + use<'d> {
        let model = self.layers.model;
        // Checked when the detector was loaded.
        self.layers.entries.iter().map_while(move |entry| {
            int8_layer(model, &entry.product).ok().map(|layer| (entry.geometry(), layer))
        })
    }

    /// Returns the words of memory that a run needs.
    #[must_use]
    pub fn memory_words(&self) -> usize {
        2 * self.half_words() + self.patch_words()
    }

    fn half_words(&self) -> usize {
        self.layers.numbers_max.div_ceil(4)
    }

    fn patch_words(&self) -> usize {
        self.layers.patch_max.div_ceil(4)
    }

    /// Counts what a run computes.
    pub(super) fn work(&self) -> Work {
        let mut work = Work::default();
        for entry in self.layers.entries {
            work.int8_macs += entry.outputs() * u64::from(entry.product.inputs);
            work.requantised += entry.outputs();
            work.integer_steps += entry.gathered() / 3;
        }
        // Into int8 a division and a rounding, back a product, then the residual.
        let count = self.layers.vector_len();
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
        let channels = self.layers.channels();
        let outputs = self.run_layers(bytemuck::cast_slice_mut(memory), |quantised| {
            interleave(channels, vector, quantised, |input| {
                quantise_one(input, header.input_scale, header.input_zero_point)
            });
        });
        separate(channels, outputs, reconstruction, |output| {
            (i32::from(output) - header.output_zero_point) as f32 * header.output_scale
        });
        subtract(vector, reconstruction);
        Outcome::Residuals
    }

    /// Runs the network from int8 to int8, both as `[length][channels]`, as an interpreter's input
    /// and output tensors hold them. `memory` has as many words as the pipeline lends; what is
    /// longer than the feature vector stays as it is.
    pub fn run_quantised(&self, inputs: &[i8], outputs: &mut [i8], memory: &mut [u32]) {
        if memory.len() < self.memory_words() {
            return;
        }
        let result = self.run_layers(bytemuck::cast_slice_mut(memory), |quantised| {
            for (quantised, input) in quantised.iter_mut().zip(inputs) {
                *quantised = *input;
            }
        });
        for (output, result) in outputs.iter_mut().zip(result) {
            *output = *result;
        }
    }

    /// Lets `fill` write the input, runs the layers between the two halves of `memory` in turn, and
    /// returns the half that holds the output.
    fn run_layers<'m>(&self, memory: &'m mut [i8], fill: impl FnOnce(&mut [i8])) -> &'m [i8] {
        let (patch, memory) = memory.split_at_mut(4 * self.patch_words());
        let (mut source, mut target) = memory.split_at_mut(4 * self.half_words());
        fill(source);
        // Outside of the input stands zero, which in int8 is the zero point.
        let mut outside = self.layers.header.input_zero_point as i8;
        for (geometry, layer) in self.layers() {
            let (padding, len) = (geometry.padding(), geometry.output_len());
            let from = &source[..geometry.input_len * geometry.channels];
            let outputs = target.chunks_exact_mut(layer.bias.len()).take(len);
            for (place, output) in outputs.enumerate() {
                let covered = geometry.covered(place, padding, from, outside, patch);
                dense_int8::layer(covered, &layer, output);
            }
            outside = layer.output_quantisation().1 as i8;
            core::mem::swap(&mut source, &mut target);
        }
        source
    }
}
