//! The compiler: from what was fitted to a detector file that the core runs in place.

mod network;

use std::path::{Path, PathBuf};

use bytemuck::Pod;
use stonechat_core::decision::DecisionRule;
use stonechat_core::detector::format::{
    self, ChannelEntry, FeatureEntry, Header, Part, ScalerEntry, TraceEntry, ZScoreHeader,
};
use stonechat_core::detector::{Detector, EngineKind, LoadError, ScoreRule};
use stonechat_core::features::Feature;
use stonechat_core::limits::DETECTOR_FILE_LEN_MAX;
use stonechat_core::sample::Quantity;
use thiserror::Error;

pub(crate) use network::{dense_entry, dense_int8_entry, split_factor};

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

    /// Returns which engine runs it.
    #[must_use]
    pub fn engine(&self) -> EngineKind {
        self.engine
    }

    /// Returns the model as it stands in the detector file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
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
