//! Convolution networks as `CONV_2D` over tensors of height 1, with `RESIZE_NEAREST_NEIGHBOR` where a
//! layer repeats its input.

use stonechat_core::detector::Geometry;

use super::{
    Operator, Quantisation, TensorType, TfliteError, Writer, check_len, dimension, fused,
    output_name, separate_operator, slot,
};
use crate::network::convolution::{ConvolutionNetwork, QuantisedConvolutionNetwork};
use crate::network::{Activation, NetworkError};

/// `BuiltinOptions.Conv2DOptions`.
const CONV_2D_OPTIONS: u8 = 1;
/// `BuiltinOptions.ResizeNearestNeighborOptions`.
const RESIZE_NEAREST_NEIGHBOR_OPTIONS: u8 = 74;

/// Writes a convolution network in f32 with `[1, 1, length, channels]` in and out: a row of the
/// trainer, `[channels][length]`, has to be turned before.
///
/// # Errors
/// When the network is malformed, has activations other than Linear and `ReLU`, or is too large for
/// the format.
pub fn tflite_convolution_float(network: &ConvolutionNetwork) -> Result<Vec<u8>, TfliteError> {
    network.check()?;
    check_len(4 * network.parameters())?;
    let mut writer = Writer::new();
    let none = Quantisation::default;
    let first = network.layers[0].geometry;
    let kind = TensorType::Float32;
    let shape = [1, 1, first.input_len, first.channels];
    let mut data = writer.tensor("input", &shape, kind, 0, &none());
    let last = network.layers.len() - 1;
    for (index, layer) in network.layers.iter().enumerate() {
        let (geometry, product) = (&layer.geometry, &layer.product);
        check_activation(index, product.activation)?;
        let shape = [product.outputs, 1, geometry.kernel_width, geometry.channels];
        let (weights, bias) = writer.float_constants(index, product, &shape);
        let operator = Operator::ResizeNearestNeighborFloat;
        data = writer.repeated(operator, index, geometry, data, kind, &none());
        let shape = [1, 1, geometry.output_len(), product.outputs];
        let output = writer.tensor(&output_name(index, last), &shape, kind, 0, &none());
        let inputs = [data, weights, bias];
        let operator = Operator::Convolution2dFloat;
        writer.convolution(operator, geometry, inputs, output, product.activation);
        data = output;
    }
    Ok(writer.finish(data))
}

/// Writes an int8 convolution network with `[1, 1, length, channels]` int8 in and out.
///
/// # Errors
/// As [`tflite_convolution_float`].
pub fn tflite_convolution_int8(
    network: &QuantisedConvolutionNetwork,
) -> Result<Vec<u8>, TfliteError> {
    network.check()?;
    let sizes = network.layers.iter().map(|layer| &layer.product);
    check_len(sizes.map(|l| l.weights.len() + 4 * l.bias.len()).sum())?;
    let mut writer = Writer::new();
    let (mut scale, mut zero_point) = (network.input_scale, network.input_zero_point);
    let first = network.layers[0].geometry;
    let kind = TensorType::Int8;
    let shape = [1, 1, first.input_len, first.channels];
    let quantisation = Quantisation::one(&network.input_scale, zero_point);
    let mut data = writer.tensor("input", &shape, kind, 0, &quantisation);
    let last = network.layers.len() - 1;
    for (index, layer) in network.layers.iter().enumerate() {
        let (geometry, product) = (&layer.geometry, &layer.product);
        check_activation(index, product.activation)?;
        let shape = [product.outputs, 1, geometry.kernel_width, geometry.channels];
        let (weights, bias) = writer.quantised_constants(index, product, &shape, scale);
        let operator = Operator::ResizeNearestNeighborInt8;
        let quantisation = Quantisation::one(&scale, zero_point);
        data = writer.repeated(operator, index, geometry, data, kind, &quantisation);
        (scale, zero_point) = (product.output_scale, product.output_zero_point);
        let shape = [1, 1, geometry.output_len(), product.outputs];
        let quantisation = Quantisation::one(&scale, zero_point);
        let output = writer.tensor(&output_name(index, last), &shape, kind, 0, &quantisation);
        let inputs = [data, weights, bias];
        let operator = Operator::Convolution2dInt8;
        writer.convolution(operator, geometry, inputs, output, product.activation);
        data = output;
    }
    Ok(writer.finish(data))
}

/// Only what is fused into `CONV_2D` is written.
fn check_activation(layer: usize, activation: Activation) -> Result<(), TfliteError> {
    if separate_operator(activation).is_none() {
        return Ok(());
    }
    Err(NetworkError::Activation { layer, activation }.into())
}

impl Writer<'_> {
    /// Adds what repeats the places of `data`, where the layer wants that; returns the number of
    /// what the kernel slides over.
    fn repeated(
        &mut self,
        operator: Operator,
        index: usize,
        geometry: &Geometry,
        data: i32,
        kind: TensorType,
        quantisation: &Quantisation<'_>,
    ) -> i32 {
        if geometry.upsampling == 1 {
            return data;
        }
        let size = [1, dimension(geometry.upsampled_len)];
        let size: Vec<u8> = size.into_iter().flat_map(i32::to_le_bytes).collect();
        let name = format!("layer_{index}/size");
        let none = Quantisation::default();
        let size = self.constant(&name, &[2], TensorType::Int32, &size, &none);
        let shape = [1, 1, geometry.upsampled_len, geometry.channels];
        let name = format!("layer_{index}/repeated");
        let output = self.tensor(&name, &shape, kind, 0, quantisation);
        let start = self.builder.start_table();
        let options = self.builder.end_table(start);
        let options = Some((RESIZE_NEAREST_NEIGHBOR_OPTIONS, options));
        self.operator(operator, &[data, size], output, options);
        output
    }

    fn convolution(
        &mut self,
        operator: Operator,
        geometry: &Geometry,
        inputs: [i32; 3],
        output: i32,
        activation: Activation,
    ) {
        let start = self.builder.start_table();
        // Padding SAME is 0, the default.
        self.builder.push_slot(slot(1), dimension(geometry.stride), 0);
        self.builder.push_slot(slot(2), 1, 0);
        self.builder.push_slot(slot(3), fused(activation), 0);
        let options = self.builder.end_table(start);
        self.operator(operator, &inputs, output, Some((CONV_2D_OPTIONS, options)));
    }
}
