//! Lays recurrent networks out as the core runs them.

use stonechat_core::detector::format::recurrent::{RecurrentHeader, RecurrentLayerEntry};
use stonechat_core::detector::format::{Requantisation, weight_index};
use stonechat_core::detector::{EngineKind, RecurrentCell, RecurrentForm};

use super::network::{Cell, Form, RecurrentLayer, RecurrentNetwork};
use crate::compile::{Model, append, dense_entry, dense_int8_entry, number, split_factor};
use crate::network::{
    Activation, Network, NetworkError, QuantisedNetwork, check_chain, check_length,
};
use crate::quantise::recurrent::{QuantisedRecurrentLayer, QuantisedRecurrentNetwork};

/// Biases of a unit in single precision.
const BIASES: usize = 4;
/// Gates are computed in steps of 2^-12.
const GATE_SCALE: f64 = 1.0 / 4_096.0;
/// What gates and candidates give has steps of 2^-15.
const UNIT_SCALE: f64 = 1.0 / 32_768.0;

/// Lays out a network in single precision; `hop` vectors from one verdict to the next.
///
/// # Errors
/// If the network does not hold together. Whether the core takes `hop` and the numbers, it says in
/// [`compile`](crate::compile::compile).
pub fn encode(network: &RecurrentNetwork, hop: usize) -> Result<Model, NetworkError> {
    check(network)?;
    let layers = || network.encoder.iter().chain(&network.decoder);
    let mut bytes = room(layers().count());
    let mut entries = Vec::new();
    for layer in layers() {
        entries.push(RecurrentLayerEntry {
            inputs: number(layer.inputs),
            units: number(layer.units),
            weights: append(&mut bytes, &float_weights(layer, network.cell)).offset,
            bias: append(&mut bytes, &float_bias(layer, network.cell)).offset,
            requantisation: 0,
            cell_power: 0,
            output_zero_point: 0,
            output_scale: 0.0,
            output_factor: Requantisation::default(),
        });
    }
    let output = dense_entry(&mut bytes, &network.output);
    let header = RecurrentHeader {
        encoder_count: number(network.encoder.len()),
        decoder_count: number(network.decoder.len()),
        ..header(network.form, network.cell, network.steps, hop)
    };
    write(&mut bytes, &header, &entries, bytemuck::bytes_of(&output));
    Ok(Model::new(EngineKind::Recurrent, bytes))
}

/// Lays out a network in int8; `hop` vectors from one verdict to the next.
///
/// # Errors
/// As [`encode`].
pub fn encode_int8(network: &QuantisedRecurrentNetwork, hop: usize) -> Result<Model, NetworkError> {
    network.check()?;
    let mut bytes = room(network.encoder.len() + network.decoder.len());
    let mut entries = Vec::new();
    let (mut scale, mut zero_point) = (network.input_scale, network.input_zero_point);
    for layer in network.encoder.iter().chain(&network.decoder) {
        entries.push(int8_entry(&mut bytes, layer, network.cell, scale, zero_point));
        (scale, zero_point) = (layer.output_scale, layer.output_zero_point);
    }
    let output = dense_int8_entry(&mut bytes, &network.output, scale, zero_point);
    let header = RecurrentHeader {
        encoder_count: number(network.encoder.len()),
        decoder_count: number(network.decoder.len()),
        input_scale: network.input_scale,
        input_zero_point: network.input_zero_point,
        ..header(network.form, network.cell, network.steps, hop)
    };
    write(&mut bytes, &header, &entries, bytemuck::bytes_of(&output));
    Ok(Model::new(EngineKind::RecurrentInt8, bytes))
}

/// Checks that widths follow one another and that the arrays have their lengths.
pub(crate) fn check(network: &RecurrentNetwork) -> Result<(), NetworkError> {
    let layers = || network.encoder.iter().chain(&network.decoder);
    let widths: Vec<_> = layers().map(|layer| (layer.inputs, layer.units)).collect();
    let output = (network.output.inputs, network.output.outputs);
    check_chain(widths.into_iter().chain([output]).collect::<Vec<_>>().into_iter())?;
    let gates = network.cell.gates();
    for (index, layer) in layers().enumerate() {
        let rows = gates * layer.units;
        let recurrent_rows = if network.cell == Cell::Gru { rows } else { 0 };
        let lengths = [
            ("input_weights", layer.input_weights.len(), rows * layer.inputs),
            ("recurrent_weights", layer.recurrent_weights.len(), rows * layer.units),
            ("input_bias", layer.input_bias.len(), rows),
            ("recurrent_bias", layer.recurrent_bias.len(), recurrent_rows),
        ];
        for (tensor, found, needed) in lengths {
            check_length(index, tensor, found, needed)?;
        }
    }
    Network { layers: vec![network.output.clone()] }.check()
}

fn header(form: Form, cell: Cell, steps: usize, hop: usize) -> RecurrentHeader {
    let form = match form {
        Form::Staggered => RecurrentForm::Staggered,
        Form::Stateful => RecurrentForm::Stateful,
    };
    let cell = match cell {
        Cell::Lstm => RecurrentCell::Lstm,
        Cell::Gru => RecurrentCell::Gru,
    };
    RecurrentHeader {
        form: form as u16,
        cell: cell as u16,
        steps: number(steps),
        hop: number(hop),
        encoder_count: 0,
        decoder_count: 0,
        input_scale: 0.0,
        input_zero_point: 0,
        reserved: 0,
    }
}

/// Leaves room for the header and the entries of so many recurrent layers and the dense one.
fn room(layer_count: usize) -> Vec<u8> {
    let dense = size_of::<stonechat_core::detector::format::DenseLayerEntry>();
    vec![0; size_of::<RecurrentHeader>() + layer_count * size_of::<RecurrentLayerEntry>() + dense]
}

fn write(
    bytes: &mut [u8],
    header: &RecurrentHeader,
    entries: &[RecurrentLayerEntry],
    output: &[u8],
) {
    let start = [bytemuck::bytes_of(header), bytemuck::cast_slice(entries), output].concat();
    bytes[..start.len()].copy_from_slice(&start);
}

/// `[units][gates][inputs + units]` of `[gates * units][inputs]` and `[gates * units][units]`.
fn float_weights(layer: &RecurrentLayer, cell: Cell) -> Vec<f32> {
    let mut weights = Vec::new();
    for unit in 0..layer.units {
        for row in (0..cell.gates()).map(|gate| gate * layer.units + unit) {
            weights.extend_from_slice(&layer.input_weights[row * layer.inputs..][..layer.inputs]);
            weights.extend_from_slice(&layer.recurrent_weights[row * layer.units..][..layer.units]);
        }
    }
    weights
}

/// `[units][4]`, see [`RecurrentLayerEntry::bias`].
fn float_bias(layer: &RecurrentLayer, cell: Cell) -> Vec<f32> {
    let mut biases = Vec::with_capacity(BIASES * layer.units);
    for unit in 0..layer.units {
        let of_input = |gate: usize| layer.input_bias[gate * layer.units + unit];
        let of_state = |gate: usize| layer.recurrent_bias[gate * layer.units + unit];
        biases.extend(match cell {
            Cell::Lstm => [of_input(0), of_input(1), of_input(2), of_input(3)],
            Cell::Gru => {
                [of_input(0) + of_state(0), of_input(1) + of_state(1), of_input(2), of_state(2)]
            }
        });
    }
    biases
}

/// Appends the arrays of an int8 layer and returns its entry; scale and zero point are those of its
/// input.
fn int8_entry(
    bytes: &mut Vec<u8>,
    layer: &QuantisedRecurrentLayer,
    cell: Cell,
    scale: f32,
    zero_point: i32,
) -> RecurrentLayerEntry {
    let (weights, bias) = int8_arrays(layer, cell, zero_point);
    // TensorFlow Lite multiplies the two scales in single precision.
    let factors = |from: f32, scales: &[f32]| -> Vec<Requantisation> {
        scales.iter().map(|weight| split_factor(f64::from(from * weight) / GATE_SCALE)).collect()
    };
    let mut requantisation = factors(scale, &layer.input_weight_scales);
    requantisation.extend(factors(layer.output_scale, &layer.recurrent_weight_scales));
    let product_scale = match cell {
        Cell::Lstm => UNIT_SCALE * UNIT_SCALE,
        Cell::Gru => UNIT_SCALE,
    };
    RecurrentLayerEntry {
        inputs: number(layer.inputs),
        units: number(layer.units),
        weights: append(bytes, &weights).offset,
        bias: append(bytes, &bias).offset,
        requantisation: append(bytes, &requantisation).offset,
        cell_power: layer.cell_power,
        output_zero_point: layer.output_zero_point,
        output_scale: layer.output_scale,
        output_factor: split_factor(product_scale / f64::from(layer.output_scale)),
    }
}

/// Puts weights and biases into the order in which the kernel reads them, with the zero points
/// folded into the biases: Σw(x - z) + b = Σwx + (b - zΣw).
fn int8_arrays(
    layer: &QuantisedRecurrentLayer,
    cell: Cell,
    zero_point: i32,
) -> (Vec<i8>, Vec<i32>) {
    let (mut weights, mut biases) = (Vec::new(), Vec::new());
    let parts = [
        (&layer.input_weights, layer.inputs, &layer.input_bias, zero_point),
        (&layer.recurrent_weights, layer.units, &layer.recurrent_bias, layer.output_zero_point),
    ];
    for (matrices, columns, bias, zero_point) in parts {
        for (gate, matrix) in matrices.chunks_exact(layer.units * columns).enumerate() {
            let mut packed = vec![0; matrix.len()];
            for (unit, row) in matrix.chunks_exact(columns).enumerate() {
                for (column, weight) in row.iter().enumerate() {
                    packed[weight_index(columns, layer.units, unit, column)] = *weight;
                }
                let sum: i32 = row.iter().map(|weight| i32::from(*weight)).sum();
                let bias = bias.get(gate * layer.units + unit).copied().unwrap_or(0);
                biases.push(bias.wrapping_sub(sum.wrapping_mul(zero_point)));
            }
            weights.append(&mut packed);
        }
    }
    debug_assert_eq!(biases.len(), 2 * cell.gates() * layer.units);
    (weights, biases)
}

impl QuantisedRecurrentNetwork {
    /// Checks that widths follow one another and that arrays and scales are as they should be.
    ///
    /// # Errors
    /// The first fault found, as a [`NetworkError`].
    pub fn check(&self) -> Result<(), NetworkError> {
        let layers = || self.encoder.iter().chain(&self.decoder);
        let mut widths: Vec<_> = layers().map(|layer| (layer.inputs, layer.units)).collect();
        widths.push((self.output.inputs, self.output.outputs));
        let dense_layer = layers().count();
        check_chain(widths.into_iter())?;
        let gates = self.cell.gates();
        for (index, layer) in layers().enumerate() {
            let rows = gates * layer.units;
            let recurrent_rows = if self.cell == Cell::Gru { rows } else { 0 };
            let lengths = [
                ("input_weights", layer.input_weights.len(), rows * layer.inputs),
                ("recurrent_weights", layer.recurrent_weights.len(), rows * layer.units),
                ("input_bias", layer.input_bias.len(), rows),
                ("recurrent_bias", layer.recurrent_bias.len(), recurrent_rows),
                ("input_weight_scales", layer.input_weight_scales.len(), gates),
                ("recurrent_weight_scales", layer.recurrent_weight_scales.len(), gates),
            ];
            for (tensor, found, needed) in lengths {
                check_length(index, tensor, found, needed)?;
            }
        }
        if !matches!(self.output.activation, Activation::Linear | Activation::Relu) {
            return Err(NetworkError::Activation {
                layer: dense_layer,
                activation: self.output.activation,
            });
        }
        // The dense layer with the input of the first as its own: scales and zero points are checked.
        QuantisedNetwork {
            input_scale: self.input_scale,
            input_zero_point: self.input_zero_point,
            layers: vec![self.output.clone()],
        }
        .check()
    }
}

#[cfg(test)]
pub(crate) mod tests;
