use core::ops::Range;

use bytemuck::from_bytes;

use super::format::{DenseHeader, DenseLayerEntry};
use super::{LoadError, Outcome, Work, array};
use crate::limits::{LAYER_WIDTH_MAX, LAYERS_MAX};

/// What a layer applies to each output; numbers are those of the detector file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[non_exhaustive]
pub enum Activation {
    /// The output as it is.
    Linear = 0,
    /// max(0, x).
    Relu = 1,
    /// Hyperbolic tangent.
    Tanh = 2,
    /// 1 / (1 + e^-x).
    Logistic = 3,
}

impl Activation {
    /// Returns the activation with a number of the detector file.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        [Self::Linear, Self::Relu, Self::Tanh, Self::Logistic].get(usize::from(number)).copied()
    }

    /// Applies it to one number.
    #[must_use]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::Linear => x,
            Self::Relu => {
                if x > 0.0 {
                    x
                } else {
                    0.0
                }
            }
            Self::Tanh => libm::tanhf(x),
            Self::Logistic => 1.0 / (1.0 + libm::expf(-x)),
        }
    }
}

/// The layers of a model: checked once, so that running them needs no checks that can fail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layers<'d> {
    pub(super) header: &'d DenseHeader,
    pub(super) entries: &'d [DenseLayerEntry],
    pub(super) model: &'d [u8],
    /// The widest layer's output.
    pub(super) width_max: usize,
}

impl<'d> Layers<'d> {
    /// Reads the layers and checks that widths follow one another from `vector_len` to `vector_len`.
    pub(super) fn load(model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        let header_len = size_of::<DenseHeader>();
        let header: &DenseHeader = from_bytes(array::<u8>(model, 0, header_len)?);
        let count = header.layer_count as usize;
        if !(1..=LAYERS_MAX).contains(&count) {
            return Err(LoadError::Model);
        }
        let entries: &[DenseLayerEntry] = array(model, header_len as u32, count)?;
        let mut width = vector_len;
        let mut width_max = 0;
        for entry in entries {
            let (inputs, outputs) = (entry.inputs as usize, entry.outputs as usize);
            if inputs != width
                || !(1..=LAYER_WIDTH_MAX).contains(&outputs)
                || inputs > LAYER_WIDTH_MAX
            {
                return Err(LoadError::Model);
            }
            Activation::from_number(entry.activation).ok_or(LoadError::Model)?;
            width = outputs;
            width_max = width_max.max(outputs);
        }
        if width != vector_len {
            return Err(LoadError::Model);
        }
        Ok(Self { header, entries, model, width_max })
    }
}

impl Layers<'_> {
    /// Returns the length of the vectors at both ends.
    pub(super) fn vector_len(&self) -> usize {
        self.entries.first().map_or(0, |entry| entry.inputs as usize)
    }

    /// Returns after how many layers, but the last, the vector is shortest, and how long it is
    /// there; zeros where there is one layer only.
    pub(super) fn code(&self) -> (usize, usize) {
        let inner = &self.entries[..self.entries.len().saturating_sub(1)];
        let outputs = inner.iter().map(|entry| entry.outputs as usize).enumerate();
        let shortest = outputs.min_by_key(|(_, outputs)| *outputs);
        shortest.map_or((0, 0), |(index, outputs)| (index + 1, outputs))
    }
}

/// Dense layers in single precision.
#[derive(Clone, Copy, Debug)]
pub struct Dense<'d> {
    layers: Layers<'d>,
}

impl<'d> Dense<'d> {
    pub(super) fn load(model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        let layers = Layers::load(model, vector_len)?;
        for entry in layers.entries {
            let numbers = float_layer(model, entry)?;
            if !numbers.weights.iter().chain(numbers.bias).all(|number| number.is_finite()) {
                return Err(LoadError::Model);
            }
        }
        Ok(Self { layers })
    }

    /// Returns the layers from input to output.
    pub fn layers(&self) -> impl Iterator<Item = FloatLayer<'d>> + use<'d> {
        let model = self.layers.model;
        // Checked when the detector was loaded.
        self.layers.entries.iter().map_while(move |entry| float_layer(model, entry).ok())
    }

    pub(super) fn memory_words(&self) -> usize {
        2 * self.layers.width_max
    }

    pub(super) fn work(&self) -> Work {
        let mut work = Work::default();
        for layer in self.layers() {
            let (inputs, outputs) = (u64::from(layer.entry.inputs), u64::from(layer.entry.outputs));
            work.float_macs += inputs * outputs;
            // The bias, and a comparison for ReLU.
            work.float_operations += 2 * outputs;
            if layer.entry.activation >= Activation::Tanh as u16 {
                work.float_functions += outputs;
            }
        }
        work.float_operations += self.layers.vector_len() as u64;
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
        self.run_layers(0..self.layers.entries.len(), vector, reconstruction, memory);
        subtract(vector, reconstruction);
        Outcome::Residuals
    }

    /// Runs some of the layers.
    pub(super) fn run_layers(
        &self,
        layers: Range<usize>,
        inputs: &[f32],
        outputs: &mut [f32],
        memory: &mut [f32],
    ) {
        let (mut source, mut target) = memory.split_at_mut(self.layers.width_max);
        let last = layers.end.saturating_sub(1);
        for (index, numbers) in self.layers().enumerate().take(layers.end).skip(layers.start) {
            let from: &[f32] = if index == layers.start {
                inputs
            } else {
                &source[..numbers.entry.inputs as usize]
            };
            let to: &mut [f32] = if index == last { &mut *outputs } else { &mut *target };
            layer(from, &numbers, to);
            core::mem::swap(&mut source, &mut target);
        }
    }

    /// As [`Layers::code`].
    pub(super) fn code(&self) -> (usize, usize) {
        self.layers.code()
    }
}

/// Turns a vector into the residuals of its reconstruction.
pub(super) fn subtract(vector: &mut [f32], reconstruction: &[f32]) {
    for (number, reconstructed) in vector.iter_mut().zip(reconstruction) {
        *number -= reconstructed;
    }
}

/// The numbers of one layer in single precision.
#[derive(Clone, Copy, Debug)]
pub struct FloatLayer<'d> {
    /// Widths and activation.
    pub entry: &'d DenseLayerEntry,
    /// `[outputs][inputs]`.
    pub weights: &'d [f32],
    /// `[outputs]`.
    pub bias: &'d [f32],
}

pub(super) fn float_layer<'d>(
    model: &'d [u8],
    entry: &'d DenseLayerEntry,
) -> Result<FloatLayer<'d>, LoadError> {
    let (inputs, outputs) = (entry.inputs as usize, entry.outputs as usize);
    Ok(FloatLayer {
        entry,
        weights: array(model, entry.weights, inputs * outputs)?,
        bias: array(model, entry.bias, outputs)?,
    })
}

/// Computes one layer's outputs.
pub(super) fn layer(from: &[f32], numbers: &FloatLayer<'_>, to: &mut [f32]) {
    // Checked when the detector was loaded.
    let activation =
        Activation::from_number(numbers.entry.activation).unwrap_or(Activation::Linear);
    let rows = numbers.weights.chunks_exact(from.len());
    for ((row, bias), output) in rows.zip(numbers.bias).zip(to) {
        // Sums in the order of the inputs and adds the bias last, as TensorFlow Lite does.
        let mut sum = 0.0;
        for (weight, input) in row.iter().zip(from) {
            sum += weight * input;
        }
        *output = activation.apply(sum + bias);
    }
}
