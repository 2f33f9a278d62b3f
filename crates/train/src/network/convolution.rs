//! One-dimensional convolution networks: in f32 as fitted, and in int8 as exported.

use stonechat_core::detector::Geometry;
use stonechat_core::limits::CONVOLUTION_NUMBERS_MAX;

use super::{Activation, Layer, NetworkError, QuantisedLayer, check_scales, check_zero_point};
use crate::limits::{NETWORK_LAYERS_MAX, NETWORK_WIDTH_MAX};

/// The form of a convolutional autoencoder.
///
/// Each encoder layer halves the places (stride 2, rounded up); each decoder layer doubles them by
/// repeating each place before it convolves, and ends at the places of the encoder layer that it
/// mirrors. All but the last layer have `ReLU`; padding is `SAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvolutionForm {
    /// Channels of the input and the output.
    pub channels: usize,
    /// Numbers of each channel.
    pub len: usize,
    /// Filters of the encoder's layers.
    pub filters: Vec<usize>,
    /// Places that a kernel covers.
    pub kernel_width: usize,
}

/// One convolution: at each place of its output a dense layer of what its kernel covers.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvolutionLayer {
    /// How its output lies over its input.
    pub geometry: Geometry,
    /// Weights are `[filters][kernel_width][channels]`, as TensorFlow Lite's `CONV_2D` wants them.
    pub product: Layer,
}

/// A chain of convolutions in f32. Rows are `[channels][length]`, what lies between the layers is
/// `[length][channels]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvolutionNetwork {
    /// In the order in which data pass through them.
    pub layers: Vec<ConvolutionLayer>,
}

/// One int8 convolution with the arithmetic of TensorFlow Lite's `CONV_2D`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantisedConvolutionLayer {
    /// How its output lies over its input.
    pub geometry: Geometry,
    /// Weights are `[filters][kernel_width][channels]`, with one scale a filter.
    pub product: QuantisedLayer,
}

/// A chain of int8 convolutions; each layer's output is the next one's input.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantisedConvolutionNetwork {
    /// Real value of one step of an input.
    pub input_scale: f32,
    /// The int8 value that means 0.0 in the input, -128..=127.
    pub input_zero_point: i32,
    /// In the order in which data pass through them.
    pub layers: Vec<QuantisedConvolutionLayer>,
}

impl ConvolutionForm {
    /// Checks that there are layers and that every number is within limits.
    ///
    /// # Errors
    /// The first fault found, as a [`NetworkError`].
    pub fn check(&self) -> Result<(), NetworkError> {
        let layers = self.layers().into_iter();
        check_shapes(layers.map(|(geometry, filters, _)| {
            (geometry, geometry.kernel_width.saturating_mul(geometry.channels), filters)
        }))
    }

    /// Returns geometry, filters and activation of each layer.
    #[must_use]
    pub fn layers(&self) -> Vec<(Geometry, usize, Activation)> {
        let (mut channels, mut len) = (self.channels, self.len);
        let mut layers = Vec::with_capacity(2 * self.filters.len());
        let mut lens = Vec::with_capacity(self.filters.len());
        let layer = |channels, input_len, upsampled_len, stride, upsampling| Geometry {
            channels,
            kernel_width: self.kernel_width,
            input_len,
            upsampled_len,
            stride,
            upsampling,
        };
        for filters in &self.filters {
            let geometry = layer(channels, len, len, 2, 1);
            layers.push((geometry, *filters, Activation::Relu));
            lens.push((channels, len));
            (channels, len) = (*filters, geometry.output_len());
        }
        for (index, (filters, output_len)) in lens.into_iter().enumerate().rev() {
            let activation = if index == 0 { Activation::Linear } else { Activation::Relu };
            layers.push((layer(channels, len, output_len, 1, 2), filters, activation));
            (channels, len) = (filters, output_len);
        }
        layers
    }
}

impl ConvolutionNetwork {
    /// Numbers in a row of input and of output; 0 without layers.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.geometry.input_len * layer.geometry.channels)
    }

    /// Number of weights and biases.
    #[must_use]
    pub fn parameters(&self) -> usize {
        let sizes = self.layers.iter().map(|layer| &layer.product);
        sizes.map(|product| product.weights.len() + product.bias.len()).sum()
    }

    /// Checks lengths and widths, and that every number is finite.
    ///
    /// # Errors
    /// The first fault found, as a [`NetworkError`].
    pub fn check(&self) -> Result<(), NetworkError> {
        let shapes = self.layers.iter();
        check_shapes(shapes.map(|l| (l.geometry, l.product.inputs, l.product.outputs)))?;
        self.layers.iter().enumerate().try_for_each(|(index, layer)| layer.product.check(index))
    }

    /// Runs one row `[channels][length]` through the layers in plain f32, and shows `see` the input
    /// as `[length][channels]` and then what [`Layer::sums`] or the activation gave of each layer.
    ///
    /// For calibration; scores come from the core's engine.
    pub(crate) fn visit(&self, row: &[f32], mut see: impl FnMut(usize, &[f32])) -> Vec<f32> {
        let channels = self.layers[0].geometry.channels;
        let mut values = interleaved(row, channels);
        see(0, &values);
        for (index, layer) in self.layers.iter().enumerate() {
            let mut sums = layer.sums(&values);
            let has_grid = layer.product.activation.fixed_grid().is_some();
            if has_grid {
                see(index + 1, &sums);
            }
            layer.product.activate(&mut sums);
            if !has_grid {
                see(index + 1, &sums);
            }
            values = sums;
        }
        interleaved(&values, values.len() / channels)
    }

    /// Runs one row through the layers; see [`ConvolutionNetwork::visit`].
    ///
    /// # Panics
    /// When `row` is not as long as the network's input or the network fails
    /// [`ConvolutionNetwork::check`].
    #[must_use]
    pub fn forward(&self, row: &[f32]) -> Vec<f32> {
        assert_eq!(row.len(), self.inputs(), "a row must be as long as the input");
        self.visit(row, |_, _| {})
    }
}

impl ConvolutionLayer {
    fn sums(&self, input: &[f32]) -> Vec<f32> {
        let Geometry { channels, kernel_width, .. } = self.geometry;
        let padding = self.geometry.padding();
        let mut sums = Vec::with_capacity(self.geometry.output_len() * self.product.outputs);
        let mut patch = vec![0.0; kernel_width * channels];
        for place in 0..self.geometry.output_len() {
            for (tap, numbers) in patch.chunks_exact_mut(channels).enumerate() {
                match self.geometry.source(place, tap, padding) {
                    Some(at) => numbers.copy_from_slice(&input[at * channels..][..channels]),
                    None => numbers.fill(0.0),
                }
            }
            sums.extend(self.product.sums(&patch));
        }
        sums
    }
}

impl QuantisedConvolutionNetwork {
    /// Numbers in a row of input and of output; 0 without layers.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.geometry.input_len * layer.geometry.channels)
    }

    /// Checks lengths, widths, scales, zero points and activations.
    ///
    /// # Errors
    /// The first fault found, as a [`NetworkError`].
    pub fn check(&self) -> Result<(), NetworkError> {
        let shapes = self.layers.iter();
        check_shapes(shapes.map(|l| (l.geometry, l.product.inputs, l.product.outputs)))?;
        check_scales(0, "input_scale", &[self.input_scale])?;
        check_zero_point(0, "input_zero_point", self.input_zero_point)?;
        self.layers.iter().enumerate().try_for_each(|(index, layer)| layer.product.check(index))
    }
}

/// Checks that a chain of convolutions is not empty, within limits and ends as it begins.
fn check_shapes(
    layers: impl ExactSizeIterator<Item = (Geometry, usize, usize)>,
) -> Result<(), NetworkError> {
    let count = layers.len();
    if count == 0 {
        return Err(NetworkError::Empty);
    }
    if count > NETWORK_LAYERS_MAX {
        return Err(NetworkError::TooDeep { layers: count });
    }
    let (mut first, mut before) = (0, None);
    for (layer, (geometry, inputs, outputs)) in layers.enumerate() {
        let Geometry { channels, kernel_width, input_len, upsampled_len, .. } = geometry;
        let (stride, upsampling) = (geometry.stride, geometry.upsampling);
        let widths = 1..=NETWORK_WIDTH_MAX;
        let is_legal = widths.contains(&inputs)
            && widths.contains(&outputs)
            && stride > 0
            && upsampling > 0
            && kernel_width.checked_mul(channels) == Some(inputs)
            && upsampled_len.div_ceil(upsampling) == input_len
            && (1..=CONVOLUTION_NUMBERS_MAX).contains(&input_len.saturating_mul(channels));
        if !is_legal {
            return Err(NetworkError::Width { layer, inputs, outputs });
        }
        let here = input_len * channels;
        if let Some((previous_channels, previous_len)) = before
            && (previous_channels, previous_len) != (channels, input_len)
        {
            let previous = previous_channels * previous_len;
            return Err(NetworkError::Chain { layer, inputs: here, previous });
        }
        if layer == 0 {
            first = here;
        }
        before = Some((outputs, geometry.output_len()));
    }
    let last = before.map_or(0, |(channels, len)| channels * len);
    if last == first {
        return Ok(());
    }
    Err(NetworkError::Chain { layer: count, inputs: first, previous: last })
}

/// Copies `[rows][columns]` with so many rows to `[columns][rows]`.
pub(crate) fn interleaved(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows;
    (0..columns).flat_map(|column| values[column..].iter().step_by(columns)).copied().collect()
}
