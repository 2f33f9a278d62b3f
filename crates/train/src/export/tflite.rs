//! Writes TensorFlow Lite files (schema version 3, file identifier `TFL3`) of dense and convolution
//! networks.
//!
//! The tables are built without generated code; the numbers of their fields are those of
//! `tensorflow/compiler/mlir/lite/schema/schema.fbs`:
//!
//! | table | fields used here |
//! |---|---|
//! | Model | 0 version, 1 operator_codes, 2 subgraphs, 3 description, 4 buffers |
//! | OperatorCode | 0 deprecated_builtin_code, 2 version, 3 builtin_code |
//! | SubGraph | 0 tensors, 1 inputs, 2 outputs, 3 operators, 4 name |
//! | Tensor | 0 shape, 1 type, 2 buffer, 3 name, 4 quantization |
//! | QuantizationParameters | 2 scale, 3 zero_point, 6 quantized_dimension |
//! | Operator | 0 opcode_index, 1 inputs, 2 outputs, 3 builtin_options_type, 4 builtin_options |
//! | FullyConnectedOptions | 0 fused_activation_function |
//! | Conv2DOptions | 0 padding, 1 stride_w, 2 stride_h, 3 fused_activation_function |
//! | ResizeNearestNeighborOptions | 0 align_corners, 1 half_pixel_centers |
//! | Buffer | 0 data |

mod convolution;

use flatbuffers::{FlatBufferBuilder, TableFinishedWIPOffset, VOffsetT, WIPOffset};
use thiserror::Error;

pub use convolution::{tflite_convolution_float, tflite_convolution_int8};

use crate::limits::TFLITE_LEN_MAX;
use crate::network::{Activation, Layer, Network, NetworkError, QuantisedLayer, QuantisedNetwork};

/// Version of the schema.
const SCHEMA_VERSION: u32 = 3;
const FILE_IDENTIFIER: &str = "TFL3";
/// Interpreters read weights in place and want them aligned to this.
const BUFFER_ALIGNMENT: usize = 16;

/// `BuiltinOptions.FullyConnectedOptions`.
const FULLY_CONNECTED_OPTIONS: u8 = 8;
/// `ActivationFunctionType.RELU`; NONE is 0, the default.
const FUSED_RELU: i8 = 1;

/// Why no file can be written.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum TfliteError {
    /// The network is not well formed.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The file would be larger than the format allows.
    #[error("the file would hold {len} bytes of weights; a .tflite file takes {TFLITE_LEN_MAX}")]
    TooLarge {
        /// Bytes of weights and biases.
        len: usize,
    },
}

/// `TensorType`.
#[derive(Clone, Copy)]
#[repr(i8)]
enum TensorType {
    Float32 = 0,
    Int32 = 2,
    Int8 = 9,
}

/// `BuiltinOperator`, with the version from which on it does what is asked of it here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    FullyConnectedFloat,
    FullyConnectedInt8,
    Convolution2dFloat,
    Convolution2dInt8,
    ResizeNearestNeighborFloat,
    ResizeNearestNeighborInt8,
    Logistic,
    Tanh,
}

impl Operator {
    fn code_and_version(self) -> (i8, i32) {
        match self {
            Self::FullyConnectedFloat => (9, 1),
            Self::FullyConnectedInt8 => (9, 4),
            Self::Convolution2dFloat => (3, 1),
            Self::Convolution2dInt8 => (3, 3),
            Self::ResizeNearestNeighborFloat => (97, 1),
            Self::ResizeNearestNeighborInt8 => (97, 2),
            Self::Logistic => (14, 1),
            Self::Tanh => (28, 1),
        }
    }
}

type Table = WIPOffset<TableFinishedWIPOffset>;

/// Scales and zero point of a tensor; without scales it is not quantised.
#[derive(Default)]
struct Quantisation<'a> {
    scales: &'a [f32],
    zero_point: i32,
}

impl<'a> Quantisation<'a> {
    fn one(scale: &'a f32, zero_point: i32) -> Self {
        Self { scales: core::slice::from_ref(scale), zero_point }
    }
}

/// Builds one file; lists grow in the order in which the file numbers their entries.
struct Writer<'b> {
    builder: FlatBufferBuilder<'b>,
    buffers: Vec<Table>,
    tensors: Vec<Table>,
    operators: Vec<Table>,
    codes: Vec<Operator>,
}

/// Writes a network in f32 with `[1, inputs]` in and `[1, outputs]` out.
///
/// `ReLU` is fused into its layer; tanh and logistic become operators of their own.
///
/// # Errors
/// When the network is malformed or too large for the format.
pub fn tflite_float(network: &Network) -> Result<Vec<u8>, TfliteError> {
    network.check()?;
    check_len(4 * network.parameters())?;
    let mut writer = Writer::new();
    let none = Quantisation::default;
    let mut data = writer.activation("input", network.inputs(), TensorType::Float32, &none());
    let last = network.layers.len() - 1;
    for (index, layer) in network.layers.iter().enumerate() {
        let shape = [layer.outputs, layer.inputs];
        let (weights, bias) = writer.float_constants(index, layer, &shape);
        let separate = separate_operator(layer.activation);
        let name = output_name(index, last);
        let sums_name = if separate.is_some() { sums_name(index) } else { name.clone() };
        let sums = writer.activation(&sums_name, layer.outputs, TensorType::Float32, &none());
        writer.fully_connected(
            Operator::FullyConnectedFloat,
            [data, weights, bias],
            sums,
            layer.activation,
        );
        data = sums;
        if let Some(operator) = separate {
            data = writer.activation(&name, layer.outputs, TensorType::Float32, &none());
            writer.operator(operator, &[sums], data, None);
        }
    }
    Ok(writer.finish(data))
}

/// Writes an int8 network with `[1, inputs]` int8 in and `[1, outputs]` int8 out.
///
/// `ReLU` is fused into its layer; tanh and logistic become operators of their own.
///
/// # Errors
/// When the network is malformed or too large for the format.
pub fn tflite_int8(network: &QuantisedNetwork) -> Result<Vec<u8>, TfliteError> {
    network.check()?;
    let sizes = network.layers.iter();
    check_len(sizes.map(|l| l.weights.len() + 4 * l.bias.len()).sum())?;
    let mut writer = Writer::new();
    let (mut scale, mut zero_point) = (network.input_scale, network.input_zero_point);
    let quantisation = Quantisation::one(&network.input_scale, zero_point);
    let mut data = writer.activation("input", network.inputs(), TensorType::Int8, &quantisation);
    let last = network.layers.len() - 1;
    for (index, layer) in network.layers.iter().enumerate() {
        let (weights, bias) =
            writer.quantised_constants(index, layer, &[layer.outputs, layer.inputs], scale);
        (scale, zero_point) = (layer.output_scale, layer.output_zero_point);
        let name = output_name(index, last);
        let separate = separate_operator(layer.activation);
        let sums_name = if separate.is_some() { sums_name(index) } else { name.clone() };
        let grid = layer.sums_grid();
        let quantisation = Quantisation::one(&grid.scale, grid.zero_point);
        let sums = writer.activation(&sums_name, layer.outputs, TensorType::Int8, &quantisation);
        writer.fully_connected(
            Operator::FullyConnectedInt8,
            [data, weights, bias],
            sums,
            layer.activation,
        );
        data = sums;
        if let Some(operator) = separate {
            let quantisation = Quantisation::one(&scale, zero_point);
            data = writer.activation(&name, layer.outputs, TensorType::Int8, &quantisation);
            writer.operator(operator, &[sums], data, None);
        }
    }
    Ok(writer.finish(data))
}

/// What a layer's activation becomes where it cannot be fused.
fn separate_operator(activation: Activation) -> Option<Operator> {
    match activation {
        Activation::Linear | Activation::Relu => None,
        Activation::Tanh => Some(Operator::Tanh),
        Activation::Logistic => Some(Operator::Logistic),
    }
}

fn sums_name(index: usize) -> String {
    format!("layer_{index}/sums")
}

impl Writer<'_> {
    fn new() -> Self {
        let mut writer = Self {
            builder: FlatBufferBuilder::new(),
            buffers: Vec::new(),
            tensors: Vec::new(),
            operators: Vec::new(),
            codes: Vec::new(),
        };
        // Buffer 0 is empty by convention; tensors that are computed refer to it.
        let start = writer.builder.start_table();
        let empty = writer.builder.end_table(start);
        writer.buffers.push(empty);
        writer
    }

    /// Adds a tensor that is computed, `[1, width]`; returns its number.
    fn activation(
        &mut self,
        name: &str,
        width: usize,
        kind: TensorType,
        quantisation: &Quantisation<'_>,
    ) -> i32 {
        self.tensor(name, &[1, width], kind, 0, quantisation)
    }

    /// Adds a tensor with data; returns its number.
    fn constant(
        &mut self,
        name: &str,
        shape: &[usize],
        kind: TensorType,
        data: &[u8],
        quantisation: &Quantisation<'_>,
    ) -> i32 {
        // The file is built from its end: padding goes in before, so that the first byte of the
        // data is a multiple of the alignment away from the end.
        self.pad(data.len());
        let vector = self.builder.create_vector(data);
        let start = self.builder.start_table();
        self.builder.push_slot_always(slot(0), vector);
        let table = self.builder.end_table(start);
        self.buffers.push(table);
        let buffer = index_of_last(&self.buffers);
        self.tensor(name, shape, kind, buffer, quantisation)
    }

    /// Adds a layer's int8 weights of a shape and its int32 bias; returns their numbers.
    fn quantised_constants(
        &mut self,
        index: usize,
        layer: &QuantisedLayer,
        shape: &[usize],
        input_scale: f32,
    ) -> (i32, i32) {
        let name = format!("layer_{index}/weights");
        let quantisation = Quantisation { scales: &layer.weight_scales, zero_point: 0 };
        let bytes: Vec<u8> = layer.weights.iter().map(|w| w.cast_unsigned()).collect();
        let weights = self.constant(&name, shape, TensorType::Int8, &bytes, &quantisation);
        let scales = layer.weight_scales.iter().map(|scale| input_scale * scale);
        let name = format!("layer_{index}/bias");
        let quantisation = Quantisation { scales: &scales.collect::<Vec<f32>>(), zero_point: 0 };
        let bytes: Vec<u8> = layer.bias.iter().flat_map(|b| b.to_le_bytes()).collect();
        let shape = [layer.outputs];
        let bias = self.constant(&name, &shape, TensorType::Int32, &bytes, &quantisation);
        (weights, bias)
    }

    /// Adds a layer's weights of a shape and its bias in f32; returns their numbers.
    fn float_constants(&mut self, index: usize, layer: &Layer, shape: &[usize]) -> (i32, i32) {
        let none = Quantisation::default;
        let (weights, bias) = (little_endian(&layer.weights), little_endian(&layer.bias));
        let name = format!("layer_{index}/weights");
        let weights = self.constant(&name, shape, TensorType::Float32, &weights, &none());
        let name = format!("layer_{index}/bias");
        let bias = self.constant(&name, &[layer.outputs], TensorType::Float32, &bias, &none());
        (weights, bias)
    }

    fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        kind: TensorType,
        buffer: i32,
        quantisation: &Quantisation<'_>,
    ) -> i32 {
        let shape: Vec<i32> = shape.iter().copied().map(dimension).collect();
        let shape = self.builder.create_vector(&shape);
        let name = self.builder.create_string(name);
        let quantisation = self.quantisation(quantisation);
        let start = self.builder.start_table();
        self.builder.push_slot_always(slot(0), shape);
        self.builder.push_slot(slot(1), kind as i8, 0);
        self.builder.push_slot(slot(2), buffer.cast_unsigned(), 0_u32);
        self.builder.push_slot_always(slot(3), name);
        if let Some(quantisation) = quantisation {
            self.builder.push_slot_always(slot(4), quantisation);
        }
        let table = self.builder.end_table(start);
        self.tensors.push(table);
        index_of_last(&self.tensors)
    }

    fn quantisation(&mut self, quantisation: &Quantisation<'_>) -> Option<Table> {
        let count = quantisation.scales.len();
        if count == 0 {
            return None;
        }
        let scales = self.builder.create_vector(quantisation.scales);
        let zero_points = vec![i64::from(quantisation.zero_point); count];
        let zero_points = self.builder.create_vector(&zero_points);
        let start = self.builder.start_table();
        self.builder.push_slot_always(slot(2), scales);
        self.builder.push_slot_always(slot(3), zero_points);
        // Channels lie along dimension 0, which is the default of field 6.
        Some(self.builder.end_table(start))
    }

    fn fully_connected(
        &mut self,
        operator: Operator,
        inputs: [i32; 3],
        output: i32,
        activation: Activation,
    ) {
        let start = self.builder.start_table();
        self.builder.push_slot(slot(0), fused(activation), 0);
        let options = self.builder.end_table(start);
        self.operator(operator, &inputs, output, Some((FULLY_CONNECTED_OPTIONS, options)));
    }

    fn operator(
        &mut self,
        operator: Operator,
        inputs: &[i32],
        output: i32,
        options: Option<(u8, Table)>,
    ) {
        let known = self.codes.iter().position(|code| *code == operator);
        let opcode = known.unwrap_or_else(|| {
            self.codes.push(operator);
            self.codes.len() - 1
        });
        let inputs = self.builder.create_vector(inputs);
        let outputs = self.builder.create_vector(&[output]);
        let start = self.builder.start_table();
        self.builder.push_slot(slot(0), dimension(opcode).cast_unsigned(), 0_u32);
        self.builder.push_slot_always(slot(1), inputs);
        self.builder.push_slot_always(slot(2), outputs);
        if let Some((kind, options)) = options {
            self.builder.push_slot(slot(3), kind, 0_u8);
            self.builder.push_slot_always(slot(4), options);
        }
        let table = self.builder.end_table(start);
        self.operators.push(table);
    }

    fn operator_codes(&mut self) -> Vec<Table> {
        let mut tables = Vec::new();
        for operator in &self.codes {
            let (code, version) = operator.code_and_version();
            let start = self.builder.start_table();
            self.builder.push_slot(slot(0), code, 0);
            self.builder.push_slot(slot(2), version, 1);
            self.builder.push_slot(slot(3), i32::from(code), 0);
            tables.push(self.builder.end_table(start));
        }
        tables
    }

    /// Closes the file, with tensor 0 as its input.
    fn finish(mut self, output: i32) -> Vec<u8> {
        let tensors = self.builder.create_vector(&self.tensors);
        let inputs = self.builder.create_vector(&[0_i32]);
        let outputs = self.builder.create_vector(&[output]);
        let operators = self.builder.create_vector(&self.operators);
        let name = self.builder.create_string("main");
        let start = self.builder.start_table();
        self.builder.push_slot_always(slot(0), tensors);
        self.builder.push_slot_always(slot(1), inputs);
        self.builder.push_slot_always(slot(2), outputs);
        self.builder.push_slot_always(slot(3), operators);
        self.builder.push_slot_always(slot(4), name);
        let subgraph = self.builder.end_table(start);

        let codes = self.operator_codes();
        let codes = self.builder.create_vector(&codes);
        let subgraphs = self.builder.create_vector(&[subgraph]);
        let description = concat!("Stonechat ", env!("CARGO_PKG_VERSION"));
        let description = self.builder.create_string(description);
        let buffers = self.builder.create_vector(&self.buffers);
        let start = self.builder.start_table();
        self.builder.push_slot(slot(0), SCHEMA_VERSION, 0_u32);
        self.builder.push_slot_always(slot(1), codes);
        self.builder.push_slot_always(slot(2), subgraphs);
        self.builder.push_slot_always(slot(3), description);
        self.builder.push_slot_always(slot(4), buffers);
        let model = self.builder.end_table(start);
        // The length as a whole must be a multiple of the alignment too: what was aligned from the
        // end is then aligned from the start. Root offset and identifier still follow.
        self.pad(size_of::<u32>() + FILE_IDENTIFIER.len());
        self.builder.finish(model, Some(FILE_IDENTIFIER));
        self.builder.finished_data().to_vec()
    }

    /// Adds zeros so that after `following` more bytes the file has a multiple of the alignment.
    fn pad(&mut self, following: usize) {
        let len = self.builder.unfinished_data().len() + following;
        for _ in len..len.next_multiple_of(BUFFER_ALIGNMENT) {
            self.builder.push(0_u8);
        }
    }
}

fn fused(activation: Activation) -> i8 {
    if activation == Activation::Relu { FUSED_RELU } else { 0 }
}

/// The place of field `field` in a table's index.
fn slot(field: VOffsetT) -> VOffsetT {
    4 + 2 * field
}

fn output_name(index: usize, last: usize) -> String {
    if index == last { "output".into() } else { format!("layer_{index}") }
}

fn index_of_last(tables: &[Table]) -> i32 {
    dimension(tables.len() - 1)
}

fn dimension(value: usize) -> i32 {
    i32::try_from(value).expect("a checked network has widths and layers far below 2^31")
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn check_len(len: usize) -> Result<(), TfliteError> {
    if len > TFLITE_LEN_MAX {
        return Err(TfliteError::TooLarge { len });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Layer;

    /// Reads a table of a finished file: the position of field `field`, if present.
    fn field(file: &[u8], table: usize, field: usize) -> Option<usize> {
        let vtable = table.wrapping_add_signed(-(read_i32(file, table) as isize));
        let len = usize::from(u16::from_le_bytes([file[vtable], file[vtable + 1]]));
        let at = 4 + 2 * field;
        if at >= len {
            return None;
        }
        let offset = u16::from_le_bytes([file[vtable + at], file[vtable + at + 1]]);
        (offset != 0).then(|| table + usize::from(offset))
    }

    fn read_i32(file: &[u8], at: usize) -> i32 {
        i32::from_le_bytes(file[at..at + 4].try_into().unwrap())
    }

    fn follow(file: &[u8], at: usize) -> usize {
        at + read_i32(file, at) as usize
    }

    fn network() -> Network {
        let values = |count: usize| (0..count).map(|i| i as f32 * 0.25 - 1.0).collect();
        let layer = |inputs, outputs, activation| Layer {
            inputs,
            outputs,
            weights: values(inputs * outputs),
            bias: values(outputs),
            activation,
        };
        Network {
            layers: vec![
                layer(3, 5, Activation::Relu),
                layer(5, 7, Activation::Tanh),
                layer(7, 3, Activation::Logistic),
            ],
        }
    }

    #[test]
    fn every_buffer_is_aligned_and_holds_its_weights() {
        let network = network();
        let file = tflite_float(&network).unwrap();
        assert_eq!(&file[4..8], b"TFL3");
        assert_eq!(file.len() % BUFFER_ALIGNMENT, 0);
        let model = follow(&file, 0);
        assert_eq!(read_i32(&file, field(&file, model, 0).unwrap()), 3);
        let buffers = follow(&file, field(&file, model, 4).unwrap());
        assert_eq!(read_i32(&file, buffers), 7);
        let tensors = |layer: &Layer| [layer.weights.clone(), layer.bias.clone()];
        let expected: Vec<Vec<f32>> = network.layers.iter().flat_map(tensors).collect();
        for (index, expected) in (1..).zip(expected) {
            let table = follow(&file, buffers + 4 + 4 * index);
            let data = follow(&file, field(&file, table, 0).unwrap());
            assert_eq!((data + 4) % BUFFER_ALIGNMENT, 0, "buffer {index}");
            assert_eq!(read_i32(&file, data) as usize, 4 * expected.len());
            assert_eq!(file[data + 4..][..4 * expected.len()], little_endian(&expected));
        }
        let first = follow(&file, buffers + 4);
        assert_eq!(field(&file, first, 0), None, "buffer 0 is empty");
    }

    #[test]
    fn malformed_networks_are_refused() {
        let mut malformed = network();
        malformed.layers[1].bias.pop();
        assert!(matches!(
            tflite_float(&malformed),
            Err(TfliteError::Network(NetworkError::Length { layer: 1, .. }))
        ));
        let quantised = |change: fn(&mut QuantisedLayer)| {
            let mut layer = QuantisedLayer {
                inputs: 2,
                outputs: 3,
                weights: vec![1; 6],
                bias: vec![0; 3],
                weight_scales: vec![0.5; 3],
                output_scale: 1.0,
                output_zero_point: 0,
                activation: Activation::Linear,
                sums: None,
            };
            change(&mut layer);
            let network =
                QuantisedNetwork { input_scale: 1.0, input_zero_point: 0, layers: vec![layer] };
            tflite_int8(&network)
        };
        assert!(quantised(|_| {}).is_ok());
        assert!(quantised(|l| l.weight_scales = vec![0.5]).is_ok());
        assert!(quantised(|l| l.weight_scales = vec![0.5; 2]).is_err());
        assert!(quantised(|l| l.weight_scales = vec![]).is_err());
        assert!(quantised(|l| l.weight_scales[1] = 0.0).is_err());
        assert!(quantised(|l| l.weights[0] = -128).is_err());
        assert!(quantised(|l| l.weights.push(0)).is_err());
        assert!(quantised(|l| l.output_scale = f32::NAN).is_err());
        assert!(quantised(|l| l.output_zero_point = 128).is_err());
        assert!(quantised(|l| l.activation = Activation::Tanh).is_err());
    }
}
