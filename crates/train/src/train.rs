//! Trains a detector: split, features, scaler, fit, quantise, residual gains, threshold, compile.

use core::ops::ControlFlow;

use serde::Serialize;
use stonechat_core::decision::DecisionRule;
use stonechat_core::detector::format::ScalerEntry;
use stonechat_core::detector::{Detector, ScoreRule};
use stonechat_core::features::{Feature, FeatureKind};
use stonechat_core::limits::{
    CHANNELS_MAX, DECISION_WINDOWS_MAX, SENSOR_RANGE_ABS_MAX, SMOOTHING_WINDOWS_MAX, TRACES_MAX,
    WINDOW_LEN_MAX,
};
use thiserror::Error;

use crate::compile::{
    ChannelSpec, CompileError, DetectorFile, DetectorSpec, Model, TraceSpec, compile,
};
use crate::dataset::Recording;
use crate::fit::refine::QuantisationLoss;
use crate::fit::z_score::identity_z_score;
use crate::fit::{Ending, FitError, Progress, TrainingData};
use crate::recipe::{FeatureError, Recipe, parse_features, plain};
use crate::replay::{Replay, ReplayError, replay, window_labels};
use crate::rows::{Rows, RowsError};
use crate::threshold::{Threshold, ThresholdError, threshold};

/// A scaled deviation is never taken smaller than this share of the largest one, so that a channel
/// at rest does not outweigh the others.
const DEVIATION_SHARE_MIN: f32 = 1.0e-3;
/// The deviation of a channel that never changes, in its own unit.
const DEVIATION_OF_CONSTANT: f32 = 1.0;
/// The threshold of detectors that are compiled only to compute features or scores.
const NO_THRESHOLD: f32 = f32::MAX;

/// A trained detector and how it came about.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The detector file.
    pub file: DetectorFile,
    /// The same network in single precision, with a threshold of its own, where the detector is in
    /// int8: evaluating both shows what int8 costs.
    pub float_twin: Option<DetectorFile>,
    /// What was measured on the way.
    pub summary: Summary,
}

/// What training measured.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Windows to fit and validate the model.
    pub fit_windows: usize,
    /// Windows to set the threshold.
    pub calibration_windows: usize,
    /// Samples left out as sensor faults.
    pub sensor_faults: usize,
    /// Windows left out because a label calls them anomalous.
    pub anomalous_windows_left_out: usize,
    /// Channels that never change.
    pub constant_channels: Vec<String>,
    /// The loss of each epoch; empty for models that are not fitted in epochs.
    pub history: Vec<Progress>,
    /// The epoch whose weights were kept.
    pub best_epoch: Option<usize>,
    /// Why fitting ended.
    pub ending: Option<Ending>,
    /// The share of weights that are zero, where pruning was asked for.
    pub pruned_share: Option<f64>,
    /// What int8 costs on held-out rows, where that could be measured.
    pub quantisation: Option<QuantisationLoss>,
    /// The threshold chosen, and what it rests on.
    pub threshold: Threshold,
    /// The greatest score on the calibration data.
    pub calibration_score_max: f64,
    /// Bytes of the detector file.
    pub file_len: usize,
    /// Bytes of memory that it needs on the device.
    pub memory_len: usize,
}

/// Why no detector can be trained.
#[derive(Debug, Error)]
pub enum TrainError {
    /// There are too few windows.
    #[error(
        "`{recording}` has too few rows: {rows} rows with {} gaps give {windows} windows of {window_len} samples for {purpose}, and at least {windows_min} are needed; record longer, or choose a shorter --window", segments.saturating_sub(1)
    )]
    TooFewWindows {
        /// The recording's name.
        recording: String,
        /// Its rows.
        rows: usize,
        /// Its segments.
        segments: usize,
        /// Windows found.
        windows: usize,
        /// Samples in a window.
        window_len: usize,
        /// What they are needed for.
        purpose: &'static str,
        /// Windows needed.
        windows_min: usize,
    },
    /// Every channel is constant: there is nothing to learn.
    #[error(
        "every channel of `{recording}` is constant ({names}); is the sensor connected, and is this the right column?"
    )]
    Constant {
        /// The recording's name.
        recording: String,
        /// The channels.
        names: String,
    },
    /// There are too many channels.
    #[error(
        "`{recording}` has {found} channels, a detector has at most {CHANNELS_MAX}; choose some with --channels"
    )]
    TooManyChannels {
        /// The recording's name.
        recording: String,
        /// Channels found.
        found: usize,
    },
    /// A choice of the recipe is out of bounds.
    #[error("{what} is {value}, but must be {legal}")]
    Choice {
        /// Which choice.
        what: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        legal: String,
    },
    /// A feature is not understood.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// The features hold numbers that are not finite.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// The model cannot be fitted.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The threshold cannot be set.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
    /// The detector cannot be written.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A replay failed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// The threshold of a model that learned from labels: half of the votes.
const MAJORITY: f64 = 0.5;
/// The least windows to fit a model.
const FIT_WINDOWS_MIN: usize = 10;
/// The least windows to set a threshold.
const CALIBRATION_WINDOWS_MIN: usize = 5;

/// Trains a detector from a recording of normal behaviour. Windows that a label calls anomalous are
/// left out.
///
/// `progress` is called after each epoch and may break off, which keeps the best weights so far.
///
/// # Errors
/// [`TrainError`] says what stands in the way and what to do.
pub fn train(
    recording: &Recording,
    recipe: &Recipe,
    progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Trained, TrainError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    train_on(threads, recording, recipe, progress)
}

/// As [`train`], on so many threads at most: the detector file is the same to the byte.
///
/// # Errors
/// As [`train`].
pub fn train_on(
    threads: usize,
    recording: &Recording,
    recipe: &Recipe,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Trained, TrainError> {
    let constant_channels = check(recording, recipe)?;
    let (fit_part, calibration_part) = split(recording, recipe.calibration_share);
    let mut spec = outline(recording, recipe)?;

    let fit_table = feature_table(&spec, &fit_part, recipe.detector.learns_from_labels())?;
    enough(
        recording,
        recipe,
        "fitting",
        fit_table.rows.len() / spec.scaler.len(),
        FIT_WINDOWS_MIN,
    )?;
    spec.scaler = scaler(&fit_table.rows, spec.scaler.len());
    let scaled = scale(&fit_table.rows, &spec.scaler);

    let data = TrainingData {
        rows: Rows::new(&scaled, spec.scaler.len())?,
        channels: recording.channels.len(),
        run_starts: &fit_table.run_starts,
        labels: fit_table.labels.as_deref(),
        threads,
    };
    let fitted = recipe.detector.fit().fit(&data, &mut progress)?;
    let float_twin = match fitted.refined.float_twin {
        Some(model) => {
            let mut spec = spec.clone();
            Some(complete(&mut spec, model, recording, recipe, &fit_part, &calibration_part)?.file)
        }
        None => None,
    };
    let Completed { file, threshold, scores } =
        complete(&mut spec, fitted.model, recording, recipe, &fit_part, &calibration_part)?;
    let detector = file.detector();
    let summary = Summary {
        fit_windows: scaled.len() / spec.scaler.len(),
        calibration_windows: scores.len(),
        sensor_faults: fit_table.faults,
        anomalous_windows_left_out: fit_table.left_out,
        constant_channels,
        history: fitted.history,
        best_epoch: fitted.best_epoch,
        ending: fitted.ending,
        pruned_share: fitted.refined.pruned_share,
        quantisation: fitted.refined.quantisation,
        threshold,
        calibration_score_max: scores.iter().copied().fold(0.0, f64::max),
        file_len: detector.file_len(),
        memory_len: detector.memory_words() * size_of::<u32>(),
    };
    Ok(Trained { file, float_twin, summary })
}

/// A detector file with what its threshold rests on.
struct Completed {
    file: DetectorFile,
    threshold: Threshold,
    scores: Vec<f64>,
}

/// Gives the outline a model, residual gains and a threshold, and compiles it.
fn complete(
    spec: &mut DetectorSpec,
    model: Model,
    recording: &Recording,
    recipe: &Recipe,
    fit_part: &Recording,
    calibration_part: &Recording,
) -> Result<Completed, TrainError> {
    spec.model = model;
    if spec.model.engine().gives_score() {
        spec.score_rule = ScoreRule::Engine;
    }
    if recipe.weigh_residuals && recipe.detector.has_residual_gains() {
        spec.gains = residual_gains(spec, fit_part)?;
    }

    let scores = calibration_scores(spec, calibration_part)?;
    enough(recording, recipe, "the threshold", scores.len(), CALIBRATION_WINDOWS_MIN)?;
    let threshold = if recipe.detector.learns_from_labels() {
        Threshold { value: MAJORITY, scores: scores.len(), tail: None }
    } else {
        threshold(&scores, recipe.threshold_rule())?
    };
    spec.decision_rule = decision_rule(recipe, threshold.value as f32)?;

    Ok(Completed { file: compile(spec)?, threshold, scores })
}

fn check(recording: &Recording, recipe: &Recipe) -> Result<Vec<String>, TrainError> {
    if recording.channels.len() > CHANNELS_MAX {
        return Err(TrainError::TooManyChannels {
            recording: recording.name.clone(),
            found: recording.channels.len(),
        });
    }
    check_choices(recipe)?;
    let constant: Vec<String> =
        recording.constant_channels().into_iter().map(|channel| channel.name.clone()).collect();
    if constant.len() == recording.channels.len() {
        return Err(TrainError::Constant {
            recording: recording.name.clone(),
            names: constant.join(", "),
        });
    }
    Ok(constant)
}

/// Refuses choices out of bounds before any work is done.
fn check_choices(recipe: &Recipe) -> Result<(), TrainError> {
    let require = |is_legal: bool, what, value: &dyn ToString, legal: &str| {
        if is_legal {
            return Ok(());
        }
        Err(TrainError::Choice { what, value: value.to_string(), legal: legal.to_owned() })
    };
    let window_len = recipe.window_len;
    require(
        (1..=WINDOW_LEN_MAX).contains(&window_len),
        "the window",
        &window_len,
        &format!("1 to {WINDOW_LEN_MAX} samples"),
    )?;
    require(
        (1..=window_len).contains(&recipe.stride),
        "the stride",
        &recipe.stride,
        &format!("1 to {window_len} samples, the length of the window"),
    )?;
    require(
        (1..=SMOOTHING_WINDOWS_MAX).contains(&recipe.smoothing),
        "the smoothing",
        &recipe.smoothing,
        &format!("1 to {SMOOTHING_WINDOWS_MAX} windows"),
    )?;
    let share = recipe.calibration_share;
    require(share > 0.0 && share < 1.0, "the calibration share", &share, "above 0 and below 1")?;
    let (raise_count, raise_of) = (recipe.raise_count, recipe.raise_of);
    require(
        (1..=raise_of).contains(&raise_count) && usize::from(raise_of) <= DECISION_WINDOWS_MAX,
        "the raise rule",
        &format!("{raise_count}/{raise_of}"),
        &format!("K/N with K from 1 to N and N up to {DECISION_WINDOWS_MAX}"),
    )?;
    require(
        recipe.clear_share > 0.0 && recipe.clear_share <= 1.0,
        "the clear share",
        &recipe.clear_share,
        "above 0 and at most 1",
    )?;
    require(recipe.clear_count > 0, "the clear count", &recipe.clear_count, "at least 1")
}

fn enough(
    recording: &Recording,
    recipe: &Recipe,
    purpose: &'static str,
    windows: usize,
    windows_min: usize,
) -> Result<(), TrainError> {
    if windows >= windows_min {
        return Ok(());
    }
    Err(TrainError::TooFewWindows {
        recording: recording.name.clone(),
        rows: recording.rows(),
        segments: recording.segment_starts.len(),
        windows,
        window_len: recipe.window_len,
        purpose,
        windows_min,
    })
}

/// Splits in the order of time; where clips are many, between two clips.
fn split(recording: &Recording, calibration_share: f32) -> (Recording, Recording) {
    let rows = recording.rows();
    let wanted = (rows as f64 * (1.0 - f64::from(calibration_share))) as usize;
    let nearest_start = recording
        .segment_starts
        .iter()
        .copied()
        .filter(|start| *start > 0)
        .min_by_key(|start| start.abs_diff(wanted));
    let tolerance = rows / 20;
    let cut = nearest_start.filter(|start| start.abs_diff(wanted) <= tolerance).unwrap_or(wanted);
    (recording.slice_rows(0..cut), recording.slice_rows(cut..rows))
}

/// Lays out everything but what is fitted: identity scaler, a model that reconstructs zero.
fn outline(recording: &Recording, recipe: &Recipe) -> Result<DetectorSpec, TrainError> {
    let names: Vec<String> = recording.channels.iter().map(|c| c.name.clone()).collect();
    let features = parse_features(&recipe.features, &names, recording.rate_hz, recipe.window_len)?;
    let vector_len = features.iter().filter_map(|f| f.output_len(recipe.window_len)).sum();
    let channels = recording.channels.iter().map(|channel| {
        let (minimum, maximum) = sensor_range(&channel.unit);
        ChannelSpec { name: channel.wire_name(), unit: channel.unit.clone(), minimum, maximum }
    });
    let channels: Vec<ChannelSpec> = channels.collect();
    Ok(DetectorSpec {
        name: recipe.name.clone(),
        rate_hz: recording.rate_hz as f32,
        window_len: recipe.window_len,
        stride: recipe.stride,
        traces: traces(&features, &channels, recipe),
        channels,
        features,
        scaler: vec![ScalerEntry { offset: 0.0, gain: 1.0 }; vector_len],
        gains: Vec::new(),
        model: identity_z_score(vector_len, 0.0),
        score_rule: ScoreRule::from(recipe.score),
        smoothing: recipe.smoothing,
        decision_rule: decision_rule(recipe, NO_THRESHOLD)?,
        provenance: provenance(recording, recipe),
    })
}

/// Where the detector comes from, so that it can be made again.
fn provenance(recording: &Recording, recipe: &Recipe) -> String {
    let provenance = serde_json::json!({
        "stonechat": env!("CARGO_PKG_VERSION"),
        "recording": recording.name,
        "rows": recording.rows(),
        "data_crc32": format!("{:08x}", data_checksum(recording)),
        "recipe": plain(recipe),
    });
    provenance.to_string()
}

fn data_checksum(recording: &Recording) -> u32 {
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let mut digest = crc.digest();
    for sample in &recording.samples {
        digest.update(&sample.to_le_bytes());
    }
    digest.finalize()
}

/// What a sensor of a unit can report; wide, for it is to catch broken wires, not anomalies.
fn sensor_range(unit: &str) -> (f32, f32) {
    match unit {
        "Cel" => (-273.15, 2_000.0),
        "%RH" => (0.0, 100.0),
        "m/s2" => (-10_000.0, 10_000.0),
        "Hz" => (0.0, SENSOR_RANGE_ABS_MAX),
        _ => (-SENSOR_RANGE_ABS_MAX, SENSOR_RANGE_ABS_MAX),
    }
}

/// Of samples, what is new in each window is reported; of other features, the number itself.
fn traces(features: &[Feature], channels: &[ChannelSpec], recipe: &Recipe) -> Vec<TraceSpec> {
    let mut traces = Vec::new();
    let mut first = 0;
    for feature in features {
        let len = feature.output_len(recipe.window_len).unwrap_or(0);
        let channel = &channels[usize::from(feature.channel)];
        let is_samples = matches!(feature.kind, FeatureKind::Samples | FeatureKind::CentredSamples);
        let block = if is_samples { feature.parameter as usize } else { recipe.window_len };
        let count = if is_samples { (recipe.stride / block).clamp(1, len) } else { 1 };
        let name = match feature.kind {
            FeatureKind::Samples => channel.name.clone(),
            kind => format!("{}/{}", channel.name, kind.name()),
        };
        let unit = feature.kind.unit().of(&channel.unit).to_string();
        traces.push(TraceSpec { name, unit, first: first + len - count, count, step: block });
        first += len;
    }
    traces.truncate(TRACES_MAX);
    traces
}

fn decision_rule(recipe: &Recipe, threshold: f32) -> Result<DecisionRule, TrainError> {
    let rule = DecisionRule {
        threshold,
        clear_level: threshold * recipe.clear_share,
        raise_count: recipe.raise_count,
        raise_of: recipe.raise_of,
        clear_count: recipe.clear_count,
    };
    if rule.is_legal() {
        return Ok(rule);
    }
    // The choices were checked before, so only the threshold is left.
    Err(TrainError::Choice {
        what: "the threshold",
        value: threshold.to_string(),
        legal: "a finite number".to_owned(),
    })
}

/// Feature vectors of the windows that may be learned from, row by row.
struct FeatureTable {
    rows: Vec<f32>,
    /// The rows before which windows are missing: a gap in the samples, or windows left out.
    run_starts: Vec<usize>,
    /// Which rows are anomalous, where the model learns from that.
    labels: Option<Vec<bool>>,
    faults: usize,
    left_out: usize,
}

fn feature_table(
    spec: &DetectorSpec,
    recording: &Recording,
    learns_from_labels: bool,
) -> Result<FeatureTable, TrainError> {
    let file = compile(spec)?;
    let mut vectors = Vec::new();
    let replay = replay(&file.detector(), recording, |pipeline, _| {
        vectors.extend_from_slice(pipeline.features());
    })?;
    let normal = normal_windows(&file.detector(), recording, &replay);
    let mut table = FeatureTable {
        rows: Vec::with_capacity(vectors.len()),
        run_starts: Vec::new(),
        labels: learns_from_labels.then(Vec::new),
        faults: replay.faults,
        left_out: 0,
    };
    let vector_len = spec.scaler.len();
    let mut row_before = None;
    let windows = replay.windows.iter().zip(&normal);
    for (vector, (window, normal)) in vectors.chunks_exact(vector_len).zip(windows) {
        if let Some(labels) = &mut table.labels {
            labels.push(!normal);
        } else if !normal {
            table.left_out += 1;
            continue;
        }
        if row_before.is_none_or(|row| window.row != row + spec.stride) {
            table.run_starts.push(table.rows.len() / vector_len);
        }
        row_before = Some(window.row);
        table.rows.extend_from_slice(vector);
    }
    Ok(table)
}

fn normal_windows(detector: &Detector<'_>, recording: &Recording, replay: &Replay) -> Vec<bool> {
    let labels = window_labels(recording, replay, detector);
    labels.into_iter().map(|anomalous| !anomalous).collect()
}

/// Scales each feature to mean 0 and deviation 1.
fn scaler(rows: &[f32], width: usize) -> Vec<ScalerEntry> {
    let count = (rows.len() / width) as f64;
    let mut moments = vec![(0.0_f64, 0.0_f64); width];
    for row in rows.chunks_exact(width) {
        for ((sum, _), value) in moments.iter_mut().zip(row) {
            *sum += f64::from(*value) / count;
        }
    }
    for row in rows.chunks_exact(width) {
        for ((mean, variance), value) in moments.iter_mut().zip(row) {
            *variance += (f64::from(*value) - *mean).powi(2) / count;
        }
    }
    let largest = moments.iter().map(|(_, variance)| variance.sqrt() as f32).fold(0.0, f32::max);
    let entry = |(mean, variance): &(f64, f64)| {
        let mut deviation = (variance.sqrt() as f32).max(largest * DEVIATION_SHARE_MIN);
        if deviation == 0.0 {
            deviation = DEVIATION_OF_CONSTANT;
        }
        ScalerEntry { offset: *mean as f32, gain: 1.0 / deviation }
    };
    moments.iter().map(entry).collect()
}

fn scale(rows: &[f32], scaler: &[ScalerEntry]) -> Vec<f32> {
    let entries = scaler.iter().cycle();
    rows.iter().zip(entries).map(|(value, entry)| (value - entry.offset) * entry.gain).collect()
}

/// Returns one over the spread of each residual on the data that the model was fitted to.
fn residual_gains(spec: &DetectorSpec, recording: &Recording) -> Result<Vec<f32>, TrainError> {
    let file = compile(spec)?;
    let width = spec.scaler.len();
    let mut squares = vec![0.0_f64; width];
    let mut count = 0_usize;
    let mut rows = Vec::new();
    let replay = replay(&file.detector(), recording, |pipeline, _| {
        rows.extend_from_slice(pipeline.residuals());
    })?;
    let keep = normal_windows(&file.detector(), recording, &replay);
    for (row, _) in rows.chunks_exact(width).zip(&keep).filter(|(_, keep)| **keep) {
        count += 1;
        for (square, residual) in squares.iter_mut().zip(row) {
            *square += f64::from(*residual).powi(2);
        }
    }
    let spread = |square: &f64| (square / count.max(1) as f64).sqrt() as f32;
    let largest = squares.iter().map(spread).fold(0.0, f32::max);
    // A residual that is always zero says nothing about how large a normal one may be.
    let least = (largest * RESIDUAL_SHARE_MIN).max(RESIDUAL_SPREAD_MIN);
    Ok(squares.iter().map(|square| 1.0 / spread(square).max(least)).collect())
}

/// A residual's spread is never taken smaller than this share of the largest one ...
const RESIDUAL_SHARE_MIN: f32 = 0.1;
/// ... nor than this, in scaled units.
const RESIDUAL_SPREAD_MIN: f32 = 1.0e-3;

fn calibration_scores(spec: &DetectorSpec, recording: &Recording) -> Result<Vec<f64>, TrainError> {
    let file = compile(spec)?;
    let replay = replay(&file.detector(), recording, |_, _| {})?;
    let keep = normal_windows(&file.detector(), recording, &replay);
    let kept = replay.windows.iter().zip(keep).filter(|(_, keep)| *keep);
    Ok(kept.map(|(window, _)| f64::from(window.score)).collect())
}
