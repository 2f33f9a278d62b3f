//! One-dimensional convolutions in single precision, and what both precisions share.

use bytemuck::from_bytes;

use super::dense::{self, Activation, FloatLayer, float_layer, subtract};
use super::format::convolution::ConvolutionLayerEntry;
use super::format::{DenseHeader, DenseLayerEntry};
use super::{LoadError, Outcome, Work, array};
use crate::limits::{CONVOLUTION_NUMBERS_MAX, CONVOLUTION_STEP_MAX, LAYER_WIDTH_MAX, LAYERS_MAX};

/// The convolutions of a model: checked once, so that running them needs no checks that can fail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Convolutions<'d> {
    pub(super) header: &'d DenseHeader,
    pub(super) entries: &'d [ConvolutionLayerEntry],
    pub(super) model: &'d [u8],
    /// The most numbers between two layers, the network's input and output included.
    pub(super) numbers_max: usize,
    /// The most numbers that a kernel covers.
    pub(super) patch_max: usize,
}

/// How the places of a convolution's output lie over its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Channels in.
    pub channels: usize,
    /// Places that the kernel covers.
    pub kernel_width: usize,
    /// Places of the input.
    pub input_len: usize,
    /// Places of the input after each was repeated and what is over was cut.
    pub upsampled_len: usize,
    /// Places from one output to the next.
    pub stride: usize,
    /// How often each place of the input is repeated.
    pub upsampling: usize,
}

impl Geometry {
    /// Returns the places of the output, which `SAME` padding makes the input's over the stride,
    /// rounded up.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.upsampled_len.div_ceil(self.stride)
    }

    /// Returns the places of padding before the first: half of what the kernels lack, rounded down
    /// (TensorFlow's `SAME`).
    #[must_use]
    pub fn padding(&self) -> usize {
        let covered = (self.output_len() - 1) * self.stride + self.kernel_width;
        covered.saturating_sub(self.upsampled_len) / 2
    }

    /// Returns the place of the input that a tap of the kernel meets at one place of the output, with
    /// [`Geometry::padding`] places before the first; none in the padding.
    #[must_use]
    pub fn source(&self, place: usize, tap: usize, padding: usize) -> Option<usize> {
        let at = (place * self.stride + tap).checked_sub(padding)?;
        (at < self.upsampled_len).then(|| at / self.upsampling)
    }

    /// Returns what the kernel covers at one place of the output: in `source` itself where it lies
    /// there in one piece, otherwise gathered in `patch`, with `outside` in the padding.
    pub(super) fn covered<'a, T: Copy>(
        &self,
        place: usize,
        padding: usize,
        source: &'a [T],
        outside: T,
        patch: &'a mut [T],
    ) -> &'a [T] {
        let channels = self.channels;
        let covered = self.kernel_width * channels;
        if self.upsampling == 1
            && let Some(first) = (place * self.stride).checked_sub(padding)
            && let Some(covered) = source.get(first * channels..first * channels + covered)
        {
            return covered;
        }
        let patch = &mut patch[..covered];
        for (tap, numbers) in patch.chunks_exact_mut(channels).enumerate() {
            match self.source(place, tap, padding) {
                Some(at) => numbers.copy_from_slice(&source[at * channels..(at + 1) * channels]),
                None => numbers.fill(outside),
            }
        }
        patch
    }
}

impl ConvolutionLayerEntry {
    /// Returns how many numbers it gives.
    pub(super) fn outputs(&self) -> u64 {
        u64::from(self.product.outputs) * self.geometry().output_len() as u64
    }

    /// Returns how many numbers are gathered, place by place, from under the kernel.
    pub(super) fn gathered(&self) -> u64 {
        u64::from(self.product.inputs) * self.geometry().output_len() as u64
    }

    /// Returns how its output lies over its input.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        Geometry {
            channels: self.channels as usize,
            kernel_width: self.kernel_width as usize,
            input_len: self.input_len as usize,
            upsampled_len: self.upsampled_len as usize,
            stride: usize::from(self.stride),
            upsampling: usize::from(self.upsampling),
        }
    }
}

impl<'d> Convolutions<'d> {
    /// Reads the layers and checks that lengths and channels follow one another from `vector_len`
    /// to `vector_len`.
    pub(super) fn load(model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        let header_len = size_of::<DenseHeader>();
        let header: &DenseHeader = from_bytes(array::<u8>(model, 0, header_len)?);
        let count = header.layer_count as usize;
        if !(1..=LAYERS_MAX).contains(&count) {
            return Err(LoadError::Model);
        }
        let entries: &[ConvolutionLayerEntry] = array(model, header_len as u32, count)?;
        let first = entries.first().ok_or(LoadError::Model)?;
        let (mut channels, mut len) = (first.channels as usize, first.input_len as usize);
        let (inputs, mut numbers_max, mut patch_max) = (numbers(channels, len)?, vector_len, 0);
        for entry in entries {
            let filters = entry.product.outputs as usize;
            if entry.channels as usize != channels || entry.input_len as usize != len {
                return Err(LoadError::Model);
            }
            check_layer(entry)?;
            Activation::from_number(entry.product.activation).ok_or(LoadError::Model)?;
            (channels, len) = (filters, entry.geometry().output_len());
            numbers_max = numbers_max.max(numbers(channels, len)?);
            patch_max = patch_max.max(entry.product.inputs as usize);
        }
        let fits = inputs == vector_len
            && channels == first.channels as usize
            && len == first.input_len as usize;
        if !fits {
            return Err(LoadError::Model);
        }
        Ok(Self { header, entries, model, numbers_max, patch_max })
    }

    /// The numbers of the input and of the output.
    pub(super) fn vector_len(&self) -> u64 {
        let first = self.entries.first();
        first.map_or(0, |entry| u64::from(entry.channels) * u64::from(entry.input_len))
    }

    pub(super) fn channels(&self) -> usize {
        self.entries.first().map_or(1, |entry| entry.channels as usize)
    }
}

/// The numbers of so many places with so many channels, within bounds.
fn numbers(channels: usize, len: usize) -> Result<usize, LoadError> {
    let count = channels.checked_mul(len).filter(|count| *count <= CONVOLUTION_NUMBERS_MAX);
    count.filter(|count| *count > 0).ok_or(LoadError::Model)
}

fn check_layer(entry: &ConvolutionLayerEntry) -> Result<(), LoadError> {
    let DenseLayerEntry { inputs, outputs, .. } = entry.product;
    let steps = 1..=CONVOLUTION_STEP_MAX;
    let is_legal = (1..=LAYER_WIDTH_MAX).contains(&(outputs as usize))
        && (1..=LAYER_WIDTH_MAX).contains(&(inputs as usize))
        && entry.kernel_width.checked_mul(entry.channels) == Some(inputs)
        && steps.contains(&entry.stride)
        && steps.contains(&entry.upsampling)
        && entry.upsampled_len.div_ceil(u32::from(entry.upsampling)) == entry.input_len;
    if is_legal { Ok(()) } else { Err(LoadError::Model) }
}

/// Copies `[channels][length]` to `[length][channels]`.
pub(super) fn interleave<T>(channels: usize, from: &[f32], to: &mut [T], turn: impl Fn(f32) -> T) {
    let len = from.len() / channels;
    for (channel, numbers) in from.chunks_exact(len).enumerate() {
        for (place, number) in to.chunks_exact_mut(channels).zip(numbers) {
            place[channel] = turn(*number);
        }
    }
}

/// Copies `[length][channels]` to `[channels][length]`.
pub(super) fn separate<T: Copy>(
    channels: usize,
    from: &[T],
    to: &mut [f32],
    turn: impl Fn(T) -> f32,
) {
    let len = to.len() / channels;
    for (channel, numbers) in to.chunks_exact_mut(len).enumerate() {
        for (number, place) in numbers.iter_mut().zip(from.chunks_exact(channels)) {
            *number = turn(place[channel]);
        }
    }
}

/// One-dimensional convolutions in single precision.
#[derive(Clone, Copy, Debug)]
pub struct Convolution<'d> {
    layers: Convolutions<'d>,
}

impl<'d> Convolution<'d> {
    pub(super) fn load(model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        let layers = Convolutions::load(model, vector_len)?;
        for entry in layers.entries {
            let numbers = float_layer(model, &entry.product)?;
            if !numbers.weights.iter().chain(numbers.bias).all(|number| number.is_finite()) {
                return Err(LoadError::Model);
            }
        }
        Ok(Self { layers })
    }

    /// Returns the layers from input to output.
    pub fn layers(&self) -> impl Iterator<Item = (Geometry, FloatLayer<'d>)> + use<'d> {
        let model = self.layers.model;
        // Checked when the detector was loaded.
        self.layers.entries.iter().map_while(move |entry| {
            float_layer(model, &entry.product).ok().map(|layer| (entry.geometry(), layer))
        })
    }

    pub(super) fn memory_words(&self) -> usize {
        2 * self.layers.numbers_max + self.layers.patch_max
    }

    /// Counts what a run computes.
    pub(super) fn work(&self) -> Work {
        let mut work = Work::default();
        for entry in self.layers.entries {
            let outputs = entry.outputs();
            work.float_macs += outputs * u64::from(entry.product.inputs);
            // The bias, and a comparison for ReLU.
            work.float_operations += 2 * outputs;
            if entry.product.activation >= Activation::Tanh as u16 {
                work.float_functions += outputs;
            }
        }
        work.float_operations += self.layers.vector_len();
        work
    }

    pub(super) fn start(&self, _memory: &mut [f32]) {}

    /// Runs the network from `vector` to `reconstruction` and leaves the residuals in `vector`.
    pub(super) fn run(
        &self,
        vector: &mut [f32],
        reconstruction: &mut [f32],
        memory: &mut [f32],
    ) -> Outcome {
        let channels = self.layers.channels();
        let (patch, memory) = memory.split_at_mut(self.layers.patch_max);
        let (mut source, mut target) = memory.split_at_mut(self.layers.numbers_max);
        interleave(channels, vector, source, |number| number);
        for (geometry, layer) in self.layers() {
            let (padding, len) = (geometry.padding(), geometry.output_len());
            let from = &source[..geometry.input_len * geometry.channels];
            let outputs = target.chunks_exact_mut(layer.bias.len()).take(len);
            for (place, output) in outputs.enumerate() {
                dense::layer(geometry.covered(place, padding, from, 0.0, patch), &layer, output);
            }
            core::mem::swap(&mut source, &mut target);
        }
        separate(channels, source, reconstruction, |number| number);
        subtract(vector, reconstruction);
        Outcome::Residuals
    }
}
