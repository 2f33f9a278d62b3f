//! Latent mode: a recording as codes of a dense autoencoder, and back.
//!
//! The device sends the output of the narrowest layer instead of its features. That is compression and
//! nothing else: whoever reads the codes can read the measurements.

use stonechat_core::detector::{Detector, Latent};
use thiserror::Error;

use crate::dataset::{ChannelInfo, Recording};
use crate::replay::{ReplayError, replay};

/// A recording cannot be encoded or decoded.
#[derive(Debug, Error)]
pub enum LatentError {
    /// The detector has no code.
    #[error(
        "the detector `{detector}` has no code: its engine is {engine}; train one with --detector dense"
    )]
    NoCode {
        /// The detector's name.
        detector: String,
        /// Its engine.
        engine: &'static str,
    },
    /// The codes have another width.
    #[error(
        "`{recording}` has {found} columns of numbers, but the codes of `{detector}` have {needed}; choose columns with --channels"
    )]
    Width {
        /// The recording's name.
        recording: String,
        /// Columns found.
        found: usize,
        /// The detector's name.
        detector: String,
        /// Columns needed.
        needed: usize,
    },
    /// A code holds no number.
    #[error("`{recording}`, row {row}: {value} is no part of a code; codes are finite numbers")]
    NotFinite {
        /// The recording's name.
        recording: String,
        /// Counted from 1.
        row: usize,
        /// What is there.
        value: f32,
    },
    /// The recording does not fit the detector.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

fn latent<'d>(detector: &Detector<'d>) -> Result<Latent<'d>, LatentError> {
    Latent::of(detector).ok_or_else(|| LatentError::NoCode {
        detector: detector.name().to_owned(),
        engine: detector.engine().kind().name(),
    })
}

/// Returns how many of a detector's layers encode.
///
/// # Errors
/// [`LatentError::NoCode`] where it has no code.
pub fn encoder_layers(detector: &Detector<'_>) -> Result<usize, LatentError> {
    Ok(latent(detector)?.encoder_layers())
}

/// Encodes each window of a recording.
///
/// # Errors
/// [`LatentError`] where the detector has no code or the recording does not fit it.
pub fn encode(detector: &Detector<'_>, recording: &Recording) -> Result<Recording, LatentError> {
    let latent = latent(detector)?;
    let mut memory = vec![0.0; latent.memory_words()];
    let mut code = vec![0.0; latent.code_len()];
    let mut samples = Vec::new();
    let mut time_us = Vec::new();
    replay(detector, recording, |pipeline, window| {
        let features = pipeline.features().iter().zip(detector.scaler());
        let scaled: Vec<f32> = features.map(|(feature, entry)| entry.scale(*feature)).collect();
        if latent.encode(&scaled, &mut code, &mut memory) {
            samples.extend_from_slice(&code);
            time_us.push(recording.time_us[window.row]);
        }
    })?;
    let channels =
        (0..latent.code_len()).map(|index| ChannelInfo::new(&format!("code{index}"), ""));
    Ok(Recording {
        name: format!("codes of {}", recording.name),
        channels: channels.collect(),
        rate_hz: recording.rate_hz / detector.stride() as f64,
        segment_starts: if time_us.is_empty() { Vec::new() } else { vec![0] },
        time_us,
        samples,
        labels: None,
    })
}

/// Decodes codes into features in their own units.
///
/// # Errors
/// [`LatentError`] where the detector has no code, or the codes have another width or are no numbers.
pub fn decode(detector: &Detector<'_>, codes: &Recording) -> Result<Recording, LatentError> {
    let latent = latent(detector)?;
    let width = codes.channels.len();
    if width != latent.code_len() {
        return Err(LatentError::Width {
            recording: codes.name.clone(),
            found: width,
            detector: detector.name().to_owned(),
            needed: latent.code_len(),
        });
    }
    let mut memory = vec![0.0; latent.memory_words()];
    let mut vector = vec![0.0; detector.vector_len()];
    let mut samples = Vec::with_capacity(codes.rows() * vector.len());
    for (row, code) in codes.samples.chunks_exact(width).enumerate() {
        if let Some(value) = code.iter().find(|value| !value.is_finite()) {
            let recording = codes.name.clone();
            return Err(LatentError::NotFinite { recording, row: row + 1, value: *value });
        }
        // The lengths were compared above.
        let _ = latent.decode(code, &mut vector, &mut memory);
        let entries = vector.iter().zip(detector.scaler());
        samples.extend(entries.map(|(scaled, entry)| entry.unscale(*scaled)));
    }
    Ok(Recording {
        name: format!("decoded {}", codes.name),
        channels: columns(detector),
        samples,
        ..codes.clone()
    })
}

/// Names each number of the feature vector: `temperature/samples/0`.
fn columns(detector: &Detector<'_>) -> Vec<ChannelInfo> {
    let channels: Vec<_> = detector.channels().collect();
    let columns = detector.features().flat_map(|feature| {
        let channel = &channels[usize::from(feature.channel)];
        let count = feature.output_len(detector.window_len()).unwrap_or(0);
        let name = format!("{}/{}", channel.name, feature.kind.name());
        let unit = channel.unit;
        (0..count).map(move |index| match count {
            1 => ChannelInfo::new(&name, unit),
            _ => ChannelInfo::new(&format!("{name}/{index}"), unit),
        })
    });
    columns.collect()
}
