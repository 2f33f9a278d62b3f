//! The Numenta Anomaly Benchmark (NAB) 1.1: 58 streams, 116 labelled windows, one pass in the order of
//! time, one threshold for all.
//!
//! [`run`] lets the online learner score every stream through the core's pipeline, as a device would,
//! and scores it as NAB does.

mod corpus;
mod report;
mod score;
mod windowed_gaussian;

use std::path::{Path, PathBuf};

pub use corpus::{Corpus, Published, Stream};
pub use report::{Category, Entry, NabReport, PublishedEntry};
pub use score::{
    Mark, Profile, ScoredRow, THRESHOLD_OF_NONE, at_threshold, best_threshold, probation,
    scored_rows,
};
use stonechat_core::decision::DecisionRule;
use stonechat_core::detector::format::ScalerEntry;
use stonechat_core::detector::{Detector, ScoreRule};
use stonechat_core::features::{Feature, FeatureKind};
use stonechat_core::limits::SENSOR_RANGE_ABS_MAX;
use stonechat_core::pipeline::Pipeline;
use thiserror::Error;
pub use windowed_gaussian::scores as windowed_gaussian_scores;

use crate::compile::{ChannelSpec, CompileError, DetectorFile, DetectorSpec, compile};
use crate::fit::FitError;
use crate::fit::learner::LearnerOptions;

/// Values of the corpus are taken times this, so that all of them are within what a scaled feature may
/// be; the learner does not care for units.
const VALUE_GAIN: f32 = 1.0e-3;
/// Most streams have a value every five minutes; the learner does not look at the clock.
const RATE_HZ: f32 = 1.0 / 300.0;

/// How to run the benchmark.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NabOptions {
    /// The detector, the same for all streams.
    pub learner: LearnerOptions,
}

/// The benchmark cannot be run.
#[derive(Debug, Error)]
pub enum NabError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}; name the folder that holds data, labels, config and results, as in github.com/numenta/NAB", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not the JSON that it should be.
    #[error("{} is not what NAB has there: {source}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A stream is not a table of `timestamp,value`.
    #[error("{} is not a table of timestamp,value: {source}", file.display())]
    Csv {
        /// The file.
        file: PathBuf,
        /// Why.
        source: csv::Error,
    },
    /// A time is not understood.
    #[error("{}: the time `{text}` is not understood; NAB writes 2014-04-01 00:00:00", file.display())]
    Time {
        /// The file.
        file: PathBuf,
        /// What stands there.
        text: String,
    },
    /// A profile is missing.
    #[error("{} has no profile `{profile}`", file.display())]
    Profile {
        /// The file.
        file: PathBuf,
        /// The profile.
        profile: &'static str,
    },
    /// A window's end is not a row.
    #[error(
        "a labelled window of {stream} begins or ends at a time that the stream does not have; do data and labels come from the same version of NAB?"
    )]
    Window {
        /// The stream.
        stream: String,
    },
    /// A setting of the learner is outside its range.
    #[error(transparent)]
    Settings(#[from] FitError),
    /// The detector cannot be made.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

/// Runs the benchmark in a folder laid out as `numenta/NAB` is.
///
/// # Errors
/// [`NabError`] names the file that is missing or not understood, or the setting out of range.
pub fn run(folder: &Path, options: &NabOptions) -> Result<NabReport, NabError> {
    let corpus = Corpus::read(folder)?;
    let file = learner_file(&options.learner)?;
    let detector = file.detector();
    let scores: Vec<Vec<f64>> =
        corpus.streams.iter().map(|stream| learner_scores(&detector, stream)).collect();
    let control: Vec<Vec<f64>> =
        corpus.streams.iter().map(|stream| windowed_gaussian_scores(&stream.values)).collect();
    let learner_marks = marks(&corpus, &scores);
    let published = corpus
        .published
        .iter()
        .map(|line| PublishedEntry { detector: line.detector.clone(), scores: line.scores });
    Ok(NabReport {
        streams: corpus.streams.len(),
        values: corpus.streams.iter().map(|stream| stream.values.len()).sum(),
        windows: corpus.streams.iter().map(|stream| stream.windows.len()).sum(),
        profiles: corpus.profiles.map(|profile| profile.name),
        published: published.collect(),
        categories: categories(&corpus, &scores, learner_marks[0].threshold),
        split: [split(&corpus, &scores, 0), split(&corpus, &scores, 1)],
        learner: Entry { detector: "Stonechat learner".to_owned(), marks: learner_marks },
        control: Entry { detector: "windowedGaussian".to_owned(), marks: marks(&corpus, &control) },
        memory_len: detector.memory_words() * size_of::<u32>(),
        file_len: detector.file_len(),
        settings: serde_json::to_value(&options.learner).expect("settings are plain data"),
    })
}

/// Makes the detector file that [`run`] lets score the streams.
///
/// # Errors
/// [`NabError::Settings`] or [`NabError::Compile`].
pub fn learner_file(options: &LearnerOptions) -> Result<DetectorFile, NabError> {
    options.check()?;
    Ok(compile(&DetectorSpec {
        name: "nab-learner".to_owned(),
        rate_hz: RATE_HZ,
        window_len: 1,
        stride: 1,
        channels: vec![ChannelSpec {
            name: "value".to_owned(),
            unit: String::new(),
            minimum: -SENSOR_RANGE_ABS_MAX,
            maximum: SENSOR_RANGE_ABS_MAX,
        }],
        features: vec![Feature { kind: FeatureKind::Samples, channel: 0, parameter: 1 }],
        scaler: vec![ScalerEntry { offset: 0.0, gain: VALUE_GAIN }],
        gains: Vec::new(),
        traces: Vec::new(),
        model: options.encode(1),
        score_rule: ScoreRule::Engine,
        smoothing: 1,
        decision_rule: DecisionRule {
            threshold: 0.0,
            clear_level: 0.0,
            raise_count: 1,
            raise_of: 1,
            clear_count: 1,
        },
        provenance: String::new(),
    })?)
}

/// Lets a detector of one channel score a stream; NAB takes scores from 0 to 1, so that a score s
/// becomes s / (1 + s). A value that no sensor can have measured
/// scores 0.
#[must_use]
pub fn learner_scores(detector: &Detector<'_>, stream: &Stream) -> Vec<f64> {
    let mut memory = vec![0; detector.memory_words()];
    let mut pipeline =
        Pipeline::new(detector, &mut memory).expect("the memory has the size asked for");
    let score = |value: &f64| {
        let score = match pipeline.push(&[*value as f32]) {
            Ok(Some(result)) => f64::from(result.score),
            Ok(None) | Err(_) => 0.0,
        };
        score / (1.0 + score)
    };
    stream.values.iter().map(score).collect()
}

fn categories(corpus: &Corpus, scores: &[Vec<f64>], threshold: f64) -> Vec<Category> {
    let profile = &corpus.profiles[0];
    let streams = corpus.streams.iter().zip(scores);
    let mut pairs: Vec<(&Stream, &Vec<f64>)> = streams.collect();
    pairs.sort_by_key(|(stream, _)| stream.category());
    let category = |group: &[(&Stream, &Vec<f64>)]| {
        let (rows, windows) = all_rows(group.iter().map(|(stream, s)| (*stream, s.as_slice())));
        let mark = at_threshold(&rows, windows, profile, threshold);
        Category {
            category: group[0].0.category().to_owned(),
            streams: group.len(),
            windows,
            windows_detected: mark.windows_detected,
            false_positives: mark.false_positives,
            score: (windows > 0).then_some(mark.normalised),
        }
    };
    pairs.chunk_by(|a, b| a.0.category() == b.0.category()).map(category).collect()
}

/// Scores every other stream, from the first (`half` 0) or the second (1) on, with the threshold that is
/// best for those between.
fn split(corpus: &Corpus, scores: &[Vec<f64>], half: usize) -> [f64; 3] {
    let rows_of = |half: usize| {
        let streams = corpus.streams.iter().zip(scores.iter().map(Vec::as_slice));
        all_rows(streams.skip(half).step_by(2))
    };
    let (chosen_on, chosen_windows) = rows_of(1 - half);
    let (rows, windows) = rows_of(half);
    corpus.profiles.map(|profile| {
        let threshold = best_threshold(&chosen_on, chosen_windows, &profile).threshold;
        at_threshold(&rows, windows, &profile, threshold).normalised
    })
}

/// Scores detections under each profile, with the best threshold of each.
///
/// `scores` has for each stream one number a row.
#[must_use]
pub fn marks(corpus: &Corpus, scores: &[Vec<f64>]) -> [Mark; 3] {
    let (rows, windows) = all_rows(corpus.streams.iter().zip(scores.iter().map(Vec::as_slice)));
    corpus.profiles.map(|profile| best_threshold(&rows, windows, &profile))
}

/// Returns the rows that count of many streams, and how many windows these have.
fn all_rows<'a>(streams: impl Iterator<Item = (&'a Stream, &'a [f64])>) -> (Vec<ScoredRow>, usize) {
    let mut rows = Vec::new();
    let mut windows = 0;
    for (stream, scores) in streams {
        rows.extend(scored_rows(stream, scores, windows as u32));
        windows += stream.windows.len();
    }
    (rows, windows)
}
