//! Lays out networks as [`format`] says.

use stonechat_core::detector::format::convolution::ConvolutionLayerEntry;
use stonechat_core::detector::format::{self, DenseHeader, DenseLayerEntry, Requantisation};
use stonechat_core::detector::{EngineKind, Geometry};

use super::{Model, append, number};
use crate::network::convolution::{
    ConvolutionLayer, ConvolutionNetwork, QuantisedConvolutionNetwork,
};
use crate::network::{Activation, Grid, Layer, Network, NetworkError};
use crate::network::{QuantisedLayer, QuantisedNetwork};
use crate::quantise::activation_table;

impl Model {
    /// Lays out a dense autoencoder in single precision.
    ///
    /// # Errors
    /// If the network does not hold together.
    pub fn dense(network: &Network) -> Result<Self, NetworkError> {
        network.check()?;
        let mut layout = Layout::new::<DenseLayerEntry>(network.layers.len());
        let entries: Vec<_> =
            network.layers.iter().map(|layer| dense_entry(&mut layout.bytes, layer)).collect();
        Ok(Self::new(EngineKind::Dense, layout.finish(FLOAT_HEADER, &entries)))
    }

    /// Lays out a dense autoencoder in int8.
    ///
    /// # Errors
    /// If the network does not hold together.
    pub fn dense_int8(network: &QuantisedNetwork) -> Result<Self, NetworkError> {
        network.check()?;
        let mut layout = Layout::new::<DenseLayerEntry>(network.layers.len());
        let first = Grid { scale: network.input_scale, zero_point: network.input_zero_point };
        let mut grid = first;
        let mut entries = Vec::with_capacity(network.layers.len());
        for layer in &network.layers {
            entries.push(dense_int8_entry(&mut layout.bytes, layer, grid.scale, grid.zero_point));
            grid = layer.output();
        }
        Ok(Self::new(EngineKind::DenseInt8, layout.finish(int8_header(first, grid), &entries)))
    }

    /// Lays out a convolutional autoencoder in single precision.
    ///
    /// # Errors
    /// If the network does not hold together.
    pub fn convolution(network: &ConvolutionNetwork) -> Result<Self, NetworkError> {
        network.check()?;
        let mut layout = Layout::new::<ConvolutionLayerEntry>(network.layers.len());
        let entry = |layer: &ConvolutionLayer| {
            convolution_entry(&layer.geometry, dense_entry(&mut layout.bytes, &layer.product))
        };
        let entries: Vec<_> = network.layers.iter().map(entry).collect();
        Ok(Self::new(EngineKind::Convolution, layout.finish(FLOAT_HEADER, &entries)))
    }

    /// Lays out a convolutional autoencoder in int8.
    ///
    /// # Errors
    /// If the network does not hold together.
    pub fn convolution_int8(network: &QuantisedConvolutionNetwork) -> Result<Self, NetworkError> {
        network.check()?;
        let mut layout = Layout::new::<ConvolutionLayerEntry>(network.layers.len());
        let first = Grid { scale: network.input_scale, zero_point: network.input_zero_point };
        let mut grid = first;
        let mut entries = Vec::with_capacity(network.layers.len());
        for layer in &network.layers {
            let product = &layer.product;
            let entry = dense_int8_entry(&mut layout.bytes, product, grid.scale, grid.zero_point);
            entries.push(convolution_entry(&layer.geometry, entry));
            grid = product.output();
        }
        let bytes = layout.finish(int8_header(first, grid), &entries);
        Ok(Self::new(EngineKind::ConvolutionInt8, bytes))
    }
}

const FLOAT_HEADER: DenseHeader = DenseHeader {
    layer_count: 0,
    input_scale: 0.0,
    input_zero_point: 0,
    output_scale: 0.0,
    output_zero_point: 0,
    reserved: 0,
};

fn int8_header(input: Grid, output: Grid) -> DenseHeader {
    DenseHeader {
        layer_count: 0,
        input_scale: input.scale,
        input_zero_point: input.zero_point,
        output_scale: output.scale,
        output_zero_point: output.zero_point,
        reserved: 0,
    }
}

fn convolution_entry(geometry: &Geometry, product: DenseLayerEntry) -> ConvolutionLayerEntry {
    ConvolutionLayerEntry {
        product,
        channels: number(geometry.channels),
        kernel_width: number(geometry.kernel_width),
        input_len: number(geometry.input_len),
        upsampled_len: number(geometry.upsampled_len),
        stride: u16::try_from(geometry.stride).unwrap_or(u16::MAX),
        upsampling: u16::try_from(geometry.upsampling).unwrap_or(u16::MAX),
    }
}

/// A model as it grows: room for the header and the entries of its layers, then their arrays.
struct Layout {
    bytes: Vec<u8>,
}

impl Layout {
    fn new<E>(layer_count: usize) -> Self {
        Self { bytes: vec![0; size_of::<DenseHeader>() + layer_count * size_of::<E>()] }
    }

    fn finish<E: bytemuck::Pod>(mut self, mut header: DenseHeader, entries: &[E]) -> Vec<u8> {
        header.layer_count = number(entries.len());
        let (start, rest) = self.bytes.split_at_mut(size_of::<DenseHeader>());
        start.copy_from_slice(bytemuck::bytes_of(&header));
        let entries: &[u8] = bytemuck::cast_slice(entries);
        rest[..entries.len()].copy_from_slice(entries);
        self.bytes
    }
}

/// Appends the arrays of a dense layer in single precision and returns its entry.
pub(crate) fn dense_entry(bytes: &mut Vec<u8>, layer: &Layer) -> DenseLayerEntry {
    DenseLayerEntry {
        inputs: number(layer.inputs),
        outputs: number(layer.outputs),
        weights: append(bytes, &layer.weights).offset,
        bias: append(bytes, &layer.bias).offset,
        requantisation: 0,
        activation: activation_number(layer.activation),
        reserved: 0,
        output_zero_point: 0,
        output_minimum: 0,
        output_maximum: 0,
        output_scale: 0.0,
    }
}

/// Appends the arrays of a dense layer in int8 and returns its entry; scale and zero point are those
/// of its input.
pub(crate) fn dense_int8_entry(
    bytes: &mut Vec<u8>,
    layer: &QuantisedLayer,
    scale: f32,
    zero_point: i32,
) -> DenseLayerEntry {
    let sums = layer.sums_grid();
    let least = match layer.activation {
        Activation::Relu => sums.zero_point.max(i32::from(i8::MIN)),
        _ => i32::from(i8::MIN),
    };
    let entry = DenseLayerEntry {
        inputs: number(layer.inputs),
        outputs: number(layer.outputs),
        weights: append(bytes, &packed_weights(layer)).offset,
        bias: append(bytes, &folded_bias(layer, zero_point)).offset,
        requantisation: append(bytes, &requantisation(layer, scale)).offset,
        activation: activation_number(layer.activation),
        reserved: 0,
        output_zero_point: sums.zero_point,
        output_minimum: least,
        output_maximum: i32::from(i8::MAX),
        output_scale: sums.scale,
    };
    // The core looks for the table right behind the factors, whose length needs no padding.
    if let Some(table) = activation_table(layer.activation, sums) {
        append(bytes, &table);
    }
    entry
}

fn activation_number(activation: Activation) -> u16 {
    use stonechat_core::detector::Activation as Core;
    let activation = match activation {
        Activation::Linear => Core::Linear,
        Activation::Relu => Core::Relu,
        Activation::Tanh => Core::Tanh,
        Activation::Logistic => Core::Logistic,
    };
    activation as u16
}

/// Puts the weights into the order in which the kernel reads them.
fn packed_weights(layer: &QuantisedLayer) -> Vec<i8> {
    let mut packed = vec![0; layer.weights.len()];
    for (output, row) in layer.weights.chunks_exact(layer.inputs).enumerate() {
        for (input, weight) in row.iter().enumerate() {
            packed[format::weight_index(layer.inputs, layer.outputs, output, input)] = *weight;
        }
    }
    packed
}

/// Σw(x - z) + b = Σwx + (b - zΣw): the kernel then multiplies int8 by int8.
fn folded_bias(layer: &QuantisedLayer, input_zero_point: i32) -> Vec<i32> {
    let rows = layer.weights.chunks_exact(layer.inputs);
    rows.zip(&layer.bias)
        .map(|(row, bias)| {
            let sum: i32 = row.iter().map(|weight| i32::from(*weight)).sum();
            bias.wrapping_sub(sum.wrapping_mul(input_zero_point))
        })
        .collect()
}

/// The factor of each output, in double precision as TensorFlow Lite computes it.
fn requantisation(layer: &QuantisedLayer, input_scale: f32) -> Vec<Requantisation> {
    let scale = f64::from(layer.sums_grid().scale);
    let last = layer.weight_scales.len() - 1;
    (0..layer.outputs)
        .map(|output| f64::from(layer.weight_scales[output.min(last)]))
        .map(|weight_scale| split_factor(f64::from(input_scale) * weight_scale / scale))
        .collect()
}

/// Splits a factor as TensorFlow Lite's `QuantizeMultiplier` does.
pub(crate) fn split_factor(factor: f64) -> Requantisation {
    if factor == 0.0 {
        return Requantisation::default();
    }
    let mut shift = 0;
    let mut fraction = factor;
    while fraction >= 1.0 {
        fraction /= 2.0;
        shift += 1;
    }
    while fraction < 0.5 {
        fraction *= 2.0;
        shift -= 1;
    }
    let mut multiplier = (fraction * f64::from(1_u32 << 31)).round() as i64;
    if multiplier == 1 << 31 {
        multiplier /= 2;
        shift += 1;
    }
    match shift {
        ..-31 => Requantisation::default(),
        -31..=30 => Requantisation { multiplier: multiplier as i32, shift },
        31.. => Requantisation { multiplier: i32::MAX, shift: 30 },
    }
}
