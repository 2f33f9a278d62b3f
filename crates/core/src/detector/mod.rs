//! The detector: everything between samples and verdict, in one file.
//!
//! [`Detector::load`] checks every bound once, in one pass and without memory of its own; after
//! that, scoring cannot fail or reach outside the file.

mod convolution;
mod convolution_int8;
mod dense;
mod dense_int8;
mod engine;
mod error;
pub mod format;
mod isolation_forest;
mod latent;
mod learner;
mod mahalanobis;
mod neighbour;
mod one_class;
mod pca;
mod random_forest;
mod recurrent;
mod recurrent_int8;
mod robust_zscore;
mod score;
mod trees;
mod work;
mod zscore;

pub use convolution::{Convolution, Geometry};
pub use convolution_int8::ConvolutionInt8;
pub use dense::{Activation, Dense, FloatLayer};
pub use dense_int8::{DenseInt8, Int8Layer, multiply_by_quantised_multiplier};
pub use engine::{Engine, EngineKind, Outcome};
pub use error::LoadError;
pub use isolation_forest::IsolationForest;
pub use latent::Latent;
pub use learner::Learner;
pub use mahalanobis::Mahalanobis;
pub use neighbour::Neighbour;
pub use one_class::OneClass;
pub use pca::Pca;
pub use random_forest::RandomForest;
pub use recurrent::layers::{RecurrentCell, RecurrentForm};
pub use recurrent::{FloatRecurrentLayer, Recurrent};
pub use recurrent_int8::{Int8RecurrentLayer, RecurrentInt8};
pub use robust_zscore::RobustZScore;
pub use score::ScoreRule;
pub(crate) use score::finite;
pub use work::Work;
pub use zscore::ZScore;

use bytemuck::Pod;

use crate::decision::DecisionRule;
use crate::features::{Feature, FeatureKind, Workspace};
use crate::limits::{
    CHANNELS_MAX, DETECTOR_FILE_LEN_MAX, FEATURE_VECTOR_LEN_MAX, FEATURES_MAX, PROVENANCE_LEN_MAX,
    SENSOR_RANGE_ABS_MAX, SMOOTHING_WINDOWS_MAX, TRACES_MAX, WINDOW_LEN_MAX,
};
use crate::sample::{Quantity, Range};
use format::{ChannelEntry, FeatureEntry, Header, Part, ScalerEntry, TraceEntry};

/// A channel of a detector.
#[derive(Clone, Copy, Debug)]
pub struct Channel<'d> {
    /// The name.
    pub name: &'d str,
    /// The unit; empty for none.
    pub unit: &'d str,
    /// What it measures.
    pub quantity: Quantity,
    /// What the sensor can report.
    pub range: Range,
}

/// Which samples a score speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// How many samples.
    pub len: usize,
    /// How many samples after the last of them the score comes.
    pub delay: usize,
}

/// A run of numbers of the feature vector that is reported beside its reconstruction.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'d> {
    /// The name of the signal.
    pub name: &'d str,
    /// Its unit.
    pub unit: &'d str,
    /// The first index in the feature vector.
    pub first: usize,
    /// How many numbers; the last belongs to the end of the window.
    pub count: usize,
    /// Samples from one number to the next.
    pub step: usize,
}

/// A detector file, checked.
#[derive(Clone, Copy, Debug)]
pub struct Detector<'d> {
    header: &'d Header,
    name: &'d str,
    channels: &'d [ChannelEntry],
    features: &'d [FeatureEntry],
    scaler: &'d [ScalerEntry],
    gains: &'d [f32],
    traces: &'d [TraceEntry],
    provenance: &'d str,
    engine: Engine<'d>,
    score_rule: ScoreRule,
    decision_rule: DecisionRule,
}

impl<'d> Detector<'d> {
    /// Reads a detector file in place.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn load(file: &'d [u8]) -> Result<Self, LoadError> {
        let header = check_envelope(file)?;
        let window_len = bounded(header.window_len, 1, WINDOW_LEN_MAX, LoadError::Window)?;
        bounded(header.stride, 1, window_len, LoadError::Window)?;
        if !(header.rate_hz.is_finite() && header.rate_hz > 0.0) {
            return Err(LoadError::Window);
        }
        let channels: &[ChannelEntry] = entries(file, header.channels)?;
        check_channels(channels)?;
        let features: &[FeatureEntry] = entries(file, header.features)?;
        let vector_len = check_features(features, channels.len(), window_len, header.rate_hz)?;
        if header.vector_len as usize != vector_len {
            return Err(LoadError::Feature);
        }
        let scaler: &[ScalerEntry] = entries(file, header.scaler)?;
        let gains: &[f32] = entries(file, header.gains)?;
        check_scaling(scaler, gains, vector_len)?;
        let traces: &[TraceEntry] = entries(file, header.traces)?;
        check_traces(traces, vector_len, window_len)?;
        let decision_rule = DecisionRule {
            threshold: header.threshold,
            clear_level: header.clear_level,
            raise_count: header.raise_count,
            raise_of: header.raise_of,
            clear_count: header.clear_count,
        };
        if !decision_rule.is_legal() {
            return Err(LoadError::Decision);
        }
        bounded(header.smoothing, 0, SMOOTHING_WINDOWS_MAX, LoadError::Decision)?;
        let provenance = part(file, header.provenance)?;
        if provenance.len() > PROVENANCE_LEN_MAX {
            return Err(LoadError::Text);
        }
        let model = part(file, header.model)?;
        let engine = Engine::load(header.engine, model, vector_len)?;
        let score_rule = ScoreRule::from_number(header.score_rule).ok_or(LoadError::ScoreRule)?;
        if engine.kind().gives_score() != (score_rule == ScoreRule::Engine) {
            return Err(LoadError::ScoreRule);
        }
        Ok(Self {
            header,
            name: identifier(&header.name)?,
            channels,
            features,
            scaler,
            gains,
            traces,
            provenance: text(provenance)?,
            engine,
            score_rule,
            decision_rule,
        })
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &'d str {
        self.name
    }

    /// Returns the file's checksum, which tells detectors of one name apart.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        self.header.checksum
    }

    /// Returns the file's length in bytes.
    #[must_use]
    pub fn file_len(&self) -> usize {
        self.header.file_len as usize
    }

    /// Returns the rate at which the detector expects samples, in hertz.
    #[must_use]
    pub fn rate_hz(&self) -> f32 {
        self.header.rate_hz
    }

    /// Returns the samples in a window.
    #[must_use]
    pub fn window_len(&self) -> usize {
        self.header.window_len as usize
    }

    /// Returns the samples from one window to the next.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.header.stride as usize
    }

    /// Returns which samples a score speaks of.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        let (vectors, delay) = self.engine.history();
        let vectors = vectors + self.smoothing() - 1;
        Coverage {
            len: self.window_len() + (vectors - 1) * self.stride(),
            delay: delay * self.stride(),
        }
    }

    /// Returns the length of the feature vector.
    #[must_use]
    pub fn vector_len(&self) -> usize {
        self.header.vector_len as usize
    }

    /// Returns how many channels a sample has.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// Returns the channels, in the order of a sample's numbers.
    pub fn channels(&self) -> impl ExactSizeIterator<Item = Channel<'d>> + use<'d> {
        self.channels.iter().map(|entry| Channel {
            // Checked by `check_channels`.
            name: text(&entry.name).unwrap_or_default(),
            unit: text(&entry.unit).unwrap_or_default(),
            quantity: Quantity::from_number(entry.quantity),
            range: Range { minimum: entry.minimum, maximum: entry.maximum },
        })
    }

    /// Tells whether the sensor of a channel can have measured the value.
    #[must_use]
    pub(crate) fn admits(&self, channel: usize, value: f32) -> bool {
        self.channels.get(channel).is_some_and(|entry| {
            Range { minimum: entry.minimum, maximum: entry.maximum }.admits(value)
        })
    }

    /// Returns the features, in the order in which they fill the feature vector.
    pub fn features(&self) -> impl ExactSizeIterator<Item = Feature> + Clone + use<'d> {
        self.features.iter().map(feature)
    }

    /// Returns the traces.
    pub fn traces(&self) -> impl ExactSizeIterator<Item = Trace<'d>> + use<'d> {
        self.traces.iter().map(|entry| Trace {
            // Checked by `check_traces`.
            name: text(&entry.name).unwrap_or_default(),
            unit: text(&entry.unit).unwrap_or_default(),
            first: entry.first as usize,
            count: entry.count as usize,
            step: entry.step as usize,
        })
    }

    /// Returns the scaler: one entry for each number of the feature vector.
    #[must_use]
    pub fn scaler(&self) -> &'d [ScalerEntry] {
        self.scaler
    }

    /// Returns the residual gains: one for each number of the feature vector, or none.
    #[must_use]
    pub fn gains(&self) -> &'d [f32] {
        self.gains
    }

    /// Returns the engine.
    #[must_use]
    pub fn engine(&self) -> &Engine<'d> {
        &self.engine
    }

    /// Returns the score rule.
    #[must_use]
    pub fn score_rule(&self) -> ScoreRule {
        self.score_rule
    }

    /// Returns over how many windows scores are smoothed; 1 leaves them as they are.
    ///
    /// The smoothed score is an exponential mean with weight 2 / (n + 1) for the newest score: its
    /// scores are on average as old as those of a plain mean of n.
    #[must_use]
    pub fn smoothing(&self) -> usize {
        (self.header.smoothing as usize).max(1)
    }

    /// Returns the decision rule.
    #[must_use]
    pub fn decision_rule(&self) -> &DecisionRule {
        &self.decision_rule
    }

    /// Returns where the detector comes from: data, seed, versions (JSON).
    #[must_use]
    pub fn provenance(&self) -> &'d str {
        self.provenance
    }

    /// Returns the words (of four bytes) of memory that a pipeline with this detector needs.
    #[must_use]
    pub fn memory_words(&self) -> usize {
        self.channel_count() * self.window_len()
            + 3 * self.vector_len()
            + Workspace::words(self.features(), self.window_len())
            + self.engine.memory_words()
    }
}

fn check_envelope(file: &[u8]) -> Result<&Header, LoadError> {
    let header_bytes = file.get(..size_of::<Header>()).ok_or(LoadError::TooShort)?;
    let header: &Header =
        bytemuck::try_from_bytes(header_bytes).map_err(|_| LoadError::Misaligned)?;
    if header.magic != format::MAGIC {
        return Err(LoadError::NotADetector);
    }
    if header.version != format::VERSION || usize::from(header.header_len) != size_of::<Header>() {
        return Err(LoadError::Version);
    }
    if header.file_len as usize != file.len() || file.len() > DETECTOR_FILE_LEN_MAX {
        return Err(LoadError::Length);
    }
    if format::checksum(file) != header.checksum {
        return Err(LoadError::Checksum);
    }
    Ok(header)
}

fn bounded(value: u32, least: usize, most: usize, error: LoadError) -> Result<usize, LoadError> {
    let value = value as usize;
    if (least..=most).contains(&value) { Ok(value) } else { Err(error) }
}

fn part(file: &[u8], part: Part) -> Result<&[u8], LoadError> {
    slice(file, part.offset, part.len as usize)
}

/// Cuts `len` bytes at `offset` out of `bytes`; offsets are multiples of the alignment.
fn slice(bytes: &[u8], offset: u32, len: usize) -> Result<&[u8], LoadError> {
    let offset = offset as usize;
    if !offset.is_multiple_of(format::ALIGNMENT) {
        return Err(LoadError::Part);
    }
    let end = offset.checked_add(len).ok_or(LoadError::Part)?;
    bytes.get(offset..end).ok_or(LoadError::Part)
}

fn entries<T: Pod>(file: &[u8], place: Part) -> Result<&[T], LoadError> {
    bytemuck::try_cast_slice(part(file, place)?).map_err(|_| LoadError::Part)
}

/// Cuts an array of `count` elements at `offset` out of a model.
fn array<T: Pod>(model: &[u8], offset: u32, count: usize) -> Result<&[T], LoadError> {
    let len = count.checked_mul(size_of::<T>()).ok_or(LoadError::Part)?;
    bytemuck::try_cast_slice(slice(model, offset, len)?).map_err(|_| LoadError::Part)
}

/// Reads text padded with zeros.
fn text(bytes: &[u8]) -> Result<&str, LoadError> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (text, padding) = bytes.split_at(end);
    if padding.iter().any(|byte| *byte != 0) {
        return Err(LoadError::Text);
    }
    core::str::from_utf8(text).map_err(|_| LoadError::Text)
}

/// Reads a name that a message can carry: the characters of RFC 8428 section 4.5.1.
fn identifier(bytes: &[u8]) -> Result<&str, LoadError> {
    let name = text(bytes)?;
    if is_identifier(name) { Ok(name) } else { Err(LoadError::Text) }
}

/// Tells whether a text can name a detector, a channel or a trace: letters, digits and `- : . / _`,
/// the first of them a letter or a digit.
#[must_use]
pub fn is_identifier(name: &str) -> bool {
    name.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-:./_".contains(&c))
}

fn feature(entry: &FeatureEntry) -> Feature {
    Feature {
        // Checked by `check_features`.
        kind: FeatureKind::from_number(entry.kind).unwrap_or(FeatureKind::Samples),
        channel: entry.channel,
        parameter: entry.parameter,
    }
}

fn check_channels(channels: &[ChannelEntry]) -> Result<(), LoadError> {
    if !(1..=CHANNELS_MAX).contains(&channels.len()) {
        return Err(LoadError::Channel);
    }
    for channel in channels {
        identifier(&channel.name)?;
        text(&channel.unit)?;
        let legal = -SENSOR_RANGE_ABS_MAX..=SENSOR_RANGE_ABS_MAX;
        if !legal.contains(&channel.minimum)
            || !legal.contains(&channel.maximum)
            || channel.minimum >= channel.maximum
        {
            return Err(LoadError::Channel);
        }
    }
    Ok(())
}

fn check_features(
    features: &[FeatureEntry],
    channel_count: usize,
    window_len: usize,
    rate_hz: f32,
) -> Result<usize, LoadError> {
    if !(1..=FEATURES_MAX).contains(&features.len()) {
        return Err(LoadError::Feature);
    }
    let mut vector_len = 0;
    for entry in features {
        FeatureKind::from_number(entry.kind).ok_or(LoadError::Feature)?;
        if !feature(entry).fits(channel_count, window_len, rate_hz) {
            return Err(LoadError::Feature);
        }
        vector_len += feature(entry).output_len(window_len).ok_or(LoadError::Feature)?;
        if vector_len > FEATURE_VECTOR_LEN_MAX {
            return Err(LoadError::Feature);
        }
    }
    Ok(vector_len)
}

fn check_scaling(
    scaler: &[ScalerEntry],
    gains: &[f32],
    vector_len: usize,
) -> Result<(), LoadError> {
    let scaler_is_legal = scaler.len() == vector_len
        && scaler
            .iter()
            .all(|entry| entry.offset.is_finite() && entry.gain.is_finite() && entry.gain != 0.0);
    let gains_are_legal = (gains.is_empty() || gains.len() == vector_len)
        && gains.iter().all(|gain| gain.is_finite() && *gain >= 0.0);
    if scaler_is_legal && gains_are_legal { Ok(()) } else { Err(LoadError::Scaler) }
}

fn check_traces(
    traces: &[TraceEntry],
    vector_len: usize,
    window_len: usize,
) -> Result<(), LoadError> {
    if traces.len() > TRACES_MAX {
        return Err(LoadError::Trace);
    }
    for trace in traces {
        identifier(&trace.name)?;
        text(&trace.unit)?;
        let count = bounded(trace.count, 1, vector_len, LoadError::Trace)?;
        let first = bounded(trace.first, 0, vector_len - count, LoadError::Trace)?;
        bounded(trace.step, 1, window_len, LoadError::Trace)?;
        if first + count > vector_len {
            return Err(LoadError::Trace);
        }
    }
    Ok(())
}
