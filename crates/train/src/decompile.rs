//! The way back: from a detector file to the network that it was compiled from, for export.

use stonechat_core::detector::format::Requantisation;
use stonechat_core::detector::{
    Activation as CoreActivation, Detector, Engine, FloatLayer, Int8Layer,
};

use crate::network::{Activation, Grid, Layer, Network, QuantisedLayer, QuantisedNetwork};

/// The network of a detector.
#[derive(Clone, Debug, PartialEq)]
pub enum DetectorNetwork {
    /// In single precision.
    Float(Network),
    /// In int8.
    Int8(QuantisedNetwork),
}

/// Returns the network of a detector; none for a detector that has none.
#[must_use]
pub fn decompile(detector: &Detector<'_>) -> Option<DetectorNetwork> {
    match detector.engine() {
        Engine::Dense(dense) => {
            let layers = dense.layers().map(|layer| float_layer(&layer)).collect();
            Some(DetectorNetwork::Float(Network { layers }))
        }
        Engine::DenseInt8(dense) => {
            let (input_scale, input_zero_point) = dense.input_quantisation();
            let (mut scale, mut zero_point) = (input_scale, input_zero_point);
            let mut layers = Vec::new();
            for layer in dense.layers() {
                layers.push(int8_layer(&layer, scale, zero_point));
                (scale, zero_point) = layer.output_quantisation();
            }
            Some(DetectorNetwork::Int8(QuantisedNetwork { input_scale, input_zero_point, layers }))
        }
        _ => None,
    }
}

/// A half of an autoencoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// From the features to the code.
    Encoder,
    /// From the code back.
    Decoder,
}

impl DetectorNetwork {
    /// Returns one half, of which the encoder has so many layers.
    #[must_use]
    pub fn half(self, half: Half, encoder_layers: usize) -> Self {
        fn cut<T>(mut layers: Vec<T>, half: Half, at: usize) -> Vec<T> {
            let decoder = layers.split_off(at.min(layers.len()));
            if half == Half::Encoder { layers } else { decoder }
        }
        match self {
            Self::Float(network) => {
                Self::Float(Network { layers: cut(network.layers, half, encoder_layers) })
            }
            Self::Int8(network) => {
                let last = encoder_layers.checked_sub(1).and_then(|last| network.layers.get(last));
                let (input_scale, input_zero_point) = match (half, last) {
                    (Half::Decoder, Some(layer)) => (layer.output_scale, layer.output_zero_point),
                    _ => (network.input_scale, network.input_zero_point),
                };
                let layers = cut(network.layers, half, encoder_layers);
                Self::Int8(QuantisedNetwork { input_scale, input_zero_point, layers })
            }
        }
    }
}

fn activation(number: u16) -> Activation {
    match CoreActivation::from_number(number) {
        Some(CoreActivation::Relu) => Activation::Relu,
        Some(CoreActivation::Tanh) => Activation::Tanh,
        Some(CoreActivation::Logistic) => Activation::Logistic,
        _ => Activation::Linear,
    }
}

fn float_layer(layer: &FloatLayer<'_>) -> Layer {
    Layer {
        inputs: layer.entry.inputs as usize,
        outputs: layer.entry.outputs as usize,
        weights: layer.weights.to_vec(),
        bias: layer.bias.to_vec(),
        activation: activation(layer.entry.activation),
    }
}

fn int8_layer(layer: &Int8Layer<'_>, input_scale: f32, input_zero_point: i32) -> QuantisedLayer {
    let entry = layer.entry;
    let rows: Vec<Vec<i8>> =
        (0..entry.outputs as usize).map(|output| layer.row(output).collect()).collect();
    let unfold = |(row, bias): (&Vec<i8>, &i32)| {
        let sum: i32 = row.iter().map(|weight| i32::from(*weight)).sum();
        bias.wrapping_add(sum.wrapping_mul(input_zero_point))
    };
    let (output_scale, output_zero_point) = layer.output_quantisation();
    let sums = Grid { scale: entry.output_scale, zero_point: entry.output_zero_point };
    let weight_scale = |factor: &Requantisation| weight_scale(*factor, input_scale, sums.scale);
    let mut weight_scales: Vec<f32> = layer.requantisation.iter().map(weight_scale).collect();
    if layer.requantisation.windows(2).all(|pair| pair[0] == pair[1]) {
        weight_scales.truncate(1);
    }
    QuantisedLayer {
        inputs: entry.inputs as usize,
        outputs: entry.outputs as usize,
        weights: rows.concat(),
        bias: rows.iter().zip(layer.bias).map(unfold).collect(),
        weight_scales,
        output_scale,
        output_zero_point,
        activation: activation(entry.activation),
        sums: (!layer.table.is_empty()).then_some(sums),
    }
}

/// The factor is `input_scale * weight_scale / output_scale` with 31 bits, of which single
/// precision keeps 24: the weights' scale comes back as it was.
fn weight_scale(factor: Requantisation, input_scale: f32, output_scale: f32) -> f32 {
    let multiplier = f64::from(factor.multiplier) * f64::from(factor.shift - 31).exp2();
    (multiplier * f64::from(output_scale) / f64::from(input_scale)) as f32
}
