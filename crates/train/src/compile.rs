//! The compiler: from what was fitted to a detector file that the core runs in place.

use std::path::{Path, PathBuf};

use bytemuck::Pod;
use stonechat_core::decision::DecisionRule;
use stonechat_core::detector::format::{
    self, ChannelEntry, DenseHeader, DenseLayerEntry, FeatureEntry, Header, Part, Requantisation,
    ScalerEntry, TraceEntry, ZScoreHeader,
};
use stonechat_core::detector::{Detector, EngineKind, LoadError, ScoreRule};
use stonechat_core::features::Feature;
use stonechat_core::limits::DETECTOR_FILE_LEN_MAX;
use stonechat_core::sample::Quantity;
use thiserror::Error;

use crate::network::{Activation, Layer, Network, NetworkError, QuantisedLayer, QuantisedNetwork};

/// Everything that a detector file holds.
#[derive(Clone, Debug)]
pub struct DetectorSpec {
    /// The name: letters, digits and `- : . / _`.
    pub name: String,
    /// Samples a second.
    pub rate_hz: f32,
    /// Samples in a window.
    pub window_len: usize,
    /// Samples from one window to the next.
    pub stride: usize,
    /// The numbers of a sample.
    pub channels: Vec<ChannelSpec>,
    /// What is computed from a window.
    pub features: Vec<Feature>,
    /// One entry for each number of the feature vector.
    pub scaler: Vec<ScalerEntry>,
    /// One for each number of the feature vector, or none.
    pub gains: Vec<f32>,
    /// What is reported beside its reconstruction.
    pub traces: Vec<TraceSpec>,
    /// What reconstructs the scaled feature vector.
    pub model: Model,
    /// How residuals become a score.
    pub score_rule: ScoreRule,
    /// Over how many windows scores are smoothed; 1 leaves them as they are.
    pub smoothing: usize,
    /// How scores become a verdict.
    pub decision_rule: DecisionRule,
    /// Where the detector comes from, as JSON.
    pub provenance: String,
}

/// A channel to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelSpec {
    /// The name.
    pub name: String,
    /// The unit.
    pub unit: String,
    /// The least value that is not a sensor fault.
    pub minimum: f32,
    /// The greatest value that is not a sensor fault.
    pub maximum: f32,
}

/// A trace to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSpec {
    /// The name of the signal.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// The first index in the feature vector.
    pub first: usize,
    /// How many numbers.
    pub count: usize,
    /// Samples from one number to the next.
    pub step: usize,
}

/// A fitted model as the detector file holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    engine: EngineKind,
    bytes: Vec<u8>,
}

impl Model {
    /// Takes the model of an engine, laid out as [`format`] says; the core checks it in [`compile`].
    pub(crate) fn new(engine: EngineKind, bytes: Vec<u8>) -> Self {
        Self { engine, bytes }
    }

    /// Lays out running means and deviations.
    #[must_use]
    pub fn z_score(model: &ZScoreModel) -> Self {
        Self::new(EngineKind::ZScore, z_score(model))
    }

    /// Lays out a dense autoencoder in single precision.
    ///
    /// # Errors
    /// If the network does not hold together.
    pub fn dense(network: &Network) -> Result<Self, NetworkError> {
        network.check()?;
        Ok(Self::new(EngineKind::Dense, dense(network)))
    }

    /// Lays out a dense autoencoder in int8.
    ///
    /// # Errors
    /// If the network does not hold together.
    pub fn dense_int8(network: &QuantisedNetwork) -> Result<Self, NetworkError> {
        network.check()?;
        Ok(Self::new(EngineKind::DenseInt8, dense_int8(network)))
    }

    /// Returns which engine runs it.
    #[must_use]
    pub fn engine(&self) -> EngineKind {
        self.engine
    }
}

/// The z-score model; vectors are as long as the feature vector, in scaled units.
#[derive(Clone, Debug)]
pub struct ZScoreModel {
    /// The means at the start.
    pub mean: Vec<f32>,
    /// The variances at the start.
    pub variance: Vec<f32>,
    /// The weight of a new window; 0 for a detector that does not adapt.
    pub alpha: f32,
    /// The least deviation.
    pub minimum_deviation: f32,
    /// Residuals are clipped to this many deviations before they are learned.
    pub clip: f32,
}

/// Why no detector file can be made.
#[derive(Debug, Error)]
pub enum CompileError {
    /// A text is too long for its place.
    #[error("the {what} `{text}` is longer than {len_max} bytes; shorten it")]
    TextTooLong {
        /// Which text.
        what: &'static str,
        /// The text.
        text: String,
        /// The room.
        len_max: usize,
    },
    /// The core would refuse the file.
    #[error("the detector cannot be made: {0}")]
    Rejected(#[from] LoadError),
}

/// Makes a detector file and lets the core check it.
///
/// # Errors
/// What cannot be written, or why the core would refuse it.
pub fn compile(spec: &DetectorSpec) -> Result<DetectorFile, CompileError> {
    let mut file = vec![0; size_of::<Header>()];
    let channels = spec.channels.iter().map(channel_entry).collect::<Result<Vec<_>, _>>()?;
    let traces = spec.traces.iter().map(trace_entry).collect::<Result<Vec<_>, _>>()?;
    let features: Vec<FeatureEntry> = spec.features.iter().map(feature_entry).collect();
    let decision = &spec.decision_rule;
    let mut header = Header {
        magic: format::MAGIC,
        version: format::VERSION,
        header_len: size_of::<Header>() as u16,
        name: padded("detector name", &spec.name)?,
        rate_hz: spec.rate_hz,
        window_len: number(spec.window_len),
        stride: number(spec.stride),
        vector_len: number(spec.scaler.len()),
        engine: spec.model.engine as u16,
        score_rule: spec.score_rule as u16,
        threshold: decision.threshold,
        clear_level: decision.clear_level,
        raise_count: decision.raise_count,
        raise_of: decision.raise_of,
        clear_count: decision.clear_count,
        channels: append(&mut file, &channels),
        features: append(&mut file, &features),
        scaler: append(&mut file, &spec.scaler),
        gains: append(&mut file, &spec.gains),
        traces: append(&mut file, &traces),
        model: Part::default(),
        provenance: Part::default(),
        file_len: 0,
        checksum: 0,
        reserved: 0,
        reserved_decision: 0,
        smoothing: number(spec.smoothing),
        reserved_parts: [0; 7],
    };
    header.model = append(&mut file, &spec.model.bytes);
    header.provenance = append(&mut file, spec.provenance.as_bytes());
    header.file_len = number(file.len());
    file[..size_of::<Header>()].copy_from_slice(bytemuck::bytes_of(&header));
    header.checksum = format::checksum(&file);
    file[..size_of::<Header>()].copy_from_slice(bytemuck::bytes_of(&header));
    Ok(DetectorFile::from_bytes(&file)?)
}

/// Narrows a length; what does not fit becomes a number that the core's checks refuse.
pub(crate) fn number(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Appends an array, pads the file to the alignment and returns where the array stands.
pub(crate) fn append<T: Pod>(file: &mut Vec<u8>, items: &[T]) -> Part {
    let offset = file.len();
    file.extend_from_slice(bytemuck::cast_slice(items));
    let len = file.len() - offset;
    file.resize(file.len().next_multiple_of(format::ALIGNMENT), 0);
    Part { offset: number(offset), len: number(len) }
}

fn padded<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], CompileError> {
    let mut bytes = [0; N];
    let place = bytes.get_mut(..text.len()).ok_or_else(|| CompileError::TextTooLong {
        what,
        text: text.to_owned(),
        len_max: N,
    })?;
    place.copy_from_slice(text.as_bytes());
    Ok(bytes)
}

fn channel_entry(channel: &ChannelSpec) -> Result<ChannelEntry, CompileError> {
    Ok(ChannelEntry {
        name: padded("channel name", &channel.name)?,
        unit: padded("unit", &channel.unit)?,
        minimum: channel.minimum,
        maximum: channel.maximum,
        quantity: Quantity::of_unit(&channel.unit) as u16,
        reserved: [0; 3],
    })
}

fn trace_entry(trace: &TraceSpec) -> Result<TraceEntry, CompileError> {
    Ok(TraceEntry {
        name: padded("trace name", &trace.name)?,
        unit: padded("unit", &trace.unit)?,
        first: number(trace.first),
        count: number(trace.count),
        step: number(trace.step),
    })
}

fn feature_entry(feature: &Feature) -> FeatureEntry {
    FeatureEntry {
        kind: feature.kind as u16,
        channel: feature.channel,
        parameter: feature.parameter,
    }
}

fn z_score(model: &ZScoreModel) -> Vec<u8> {
    let header = ZScoreHeader {
        alpha: model.alpha,
        minimum_deviation: model.minimum_deviation,
        clip: model.clip,
        reserved: 0,
    };
    let mut bytes = bytemuck::bytes_of(&header).to_vec();
    append(&mut bytes, &model.mean);
    append(&mut bytes, &model.variance);
    bytes
}

/// Leaves room for the header and the entries of a network's layers.
fn room_for_layers(layer_count: usize) -> Vec<u8> {
    vec![0; size_of::<DenseHeader>() + layer_count * size_of::<DenseLayerEntry>()]
}

fn write_layers(bytes: &mut [u8], header: &DenseHeader, entries: &[DenseLayerEntry]) {
    let (start, rest) = bytes.split_at_mut(size_of::<DenseHeader>());
    start.copy_from_slice(bytemuck::bytes_of(header));
    let entries: &[u8] = bytemuck::cast_slice(entries);
    rest[..entries.len()].copy_from_slice(entries);
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

fn dense(network: &Network) -> Vec<u8> {
    let mut bytes = room_for_layers(network.layers.len());
    let mut entries = Vec::new();
    for layer in &network.layers {
        entries.push(dense_entry(&mut bytes, layer));
    }
    let header = DenseHeader {
        layer_count: number(network.layers.len()),
        input_scale: 0.0,
        input_zero_point: 0,
        output_scale: 0.0,
        output_zero_point: 0,
        reserved: 0,
    };
    write_layers(&mut bytes, &header, &entries);
    bytes
}

/// Appends the arrays of a dense layer in int8 and returns its entry; scale and zero point are those
/// of its input.
pub(crate) fn dense_int8_entry(
    bytes: &mut Vec<u8>,
    layer: &QuantisedLayer,
    scale: f32,
    zero_point: i32,
) -> DenseLayerEntry {
    let least = match layer.activation {
        Activation::Relu => layer.output_zero_point.max(i32::from(i8::MIN)),
        _ => i32::from(i8::MIN),
    };
    DenseLayerEntry {
        inputs: number(layer.inputs),
        outputs: number(layer.outputs),
        weights: append(bytes, &packed_weights(layer)).offset,
        bias: append(bytes, &folded_bias(layer, zero_point)).offset,
        requantisation: append(bytes, &requantisation(layer, scale)).offset,
        activation: activation_number(layer.activation),
        reserved: 0,
        output_zero_point: layer.output_zero_point,
        output_minimum: least,
        output_maximum: i32::from(i8::MAX),
        output_scale: layer.output_scale,
    }
}

fn dense_int8(network: &QuantisedNetwork) -> Vec<u8> {
    let mut bytes = room_for_layers(network.layers.len());
    let mut entries = Vec::new();
    let (mut scale, mut zero_point) = (network.input_scale, network.input_zero_point);
    for layer in &network.layers {
        entries.push(dense_int8_entry(&mut bytes, layer, scale, zero_point));
        (scale, zero_point) = (layer.output_scale, layer.output_zero_point);
    }
    let header = DenseHeader {
        layer_count: number(network.layers.len()),
        input_scale: network.input_scale,
        input_zero_point: network.input_zero_point,
        output_scale: scale,
        output_zero_point: zero_point,
        reserved: 0,
    };
    write_layers(&mut bytes, &header, &entries);
    bytes
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

fn requantisation(layer: &QuantisedLayer, input_scale: f32) -> Vec<Requantisation> {
    let output_scale = f64::from(layer.output_scale);
    if let [weight_scale] = layer.weight_scales[..] {
        // TensorFlow Lite multiplies the two scales in single precision when the weights have one.
        let factor = split_factor(f64::from(input_scale * weight_scale) / output_scale);
        return vec![factor; layer.outputs];
    }
    layer
        .weight_scales
        .iter()
        .map(|scale| split_factor(f64::from(input_scale) * f64::from(*scale) / output_scale))
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

/// A detector file in memory, aligned as the core wants it and checked by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectorFile {
    words: Vec<u32>,
    len: usize,
}

/// Why a detector file cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file system says no.
    #[error("cannot read the detector `{path}`; `stonechat train` makes one", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// It is not a detector, or damaged.
    #[error("`{path}` is no usable detector; copy it again, or train it anew", path = path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: LoadError,
    },
}

impl DetectorFile {
    /// Takes over a detector file's bytes.
    ///
    /// # Errors
    /// Why the core refuses it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LoadError> {
        if bytes.len() > DETECTOR_FILE_LEN_MAX {
            return Err(LoadError::Length);
        }
        let mut words = vec![0; bytes.len().div_ceil(size_of::<u32>())];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        let file = Self { words, len: bytes.len() };
        Detector::load(file.bytes())?;
        Ok(file)
    }

    /// Reads a detector file.
    ///
    /// # Errors
    /// [`ReadError`] names the file and the reason.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let bytes = std::fs::read(path)
            .map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
        Self::from_bytes(&bytes)
            .map_err(|source| ReadError::Refused { path: path.to_owned(), source })
    }

    /// Returns the bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }

    /// Returns the detector.
    #[must_use]
    pub fn detector(&self) -> Detector<'_> {
        Detector::load(self.bytes()).expect("the file was checked when it was taken over")
    }
}
