//! A trial of models without labels: who tells held-out rows from the same rows disturbed?

use stonechat_core::decision::DecisionRule;
use stonechat_core::detector::ScoreRule;
use stonechat_core::detector::format::ScalerEntry;
use stonechat_core::features::{Feature, FeatureKind};
use stonechat_core::limits::SENSOR_RANGE_ABS_MAX;
use stonechat_core::pipeline::Pipeline;

use super::FitOptions;
use crate::compile::{ChannelSpec, DetectorFile, DetectorSpec, Model, compile};
use crate::evaluate::roc_auc;
use crate::limits::TRIAL_ROWS_MAX;
use crate::random::Random;
use crate::rows::Rows;

/// The AUC of the network in single precision at which models are compared.
const FLOAT_AUC: f64 = 0.9;
/// The least disturbance that is tried, in scaled units, and the factors up from there.
const AMPLITUDE_MIN: f32 = 1.0e-3;
const AMPLITUDE_FACTOR: f32 = 1.4;
const AMPLITUDES: i32 = 40;
/// The share of the rows, from the end, that are held out where training held out none.
const HELD_OUT_SHARE: usize = 5;
/// A residual's spread is never taken smaller than this share of the largest.
const SPREAD_SHARE_MIN: f32 = 0.1;
const SPREAD_MIN: f32 = 1.0e-3;
/// A stream of its own, so that the trial changes nothing of training.
const STREAM: u64 = 0x7269_616c;

/// Rows to tell apart.
pub(super) struct Trial {
    width: usize,
    /// Rows of the training, from which each model's usual residuals are taken.
    usual: Vec<f32>,
    held_out: Vec<f32>,
    disturbed: Vec<f32>,
    float_auc: f64,
}

impl Trial {
    /// Finds the disturbance at which the network in single precision reaches [`FLOAT_AUC`]; none if
    /// there is no such disturbance.
    pub(super) fn new(rows: Rows<'_>, options: &FitOptions, float: &Model) -> Option<Self> {
        let wanted = (rows.len() as f64 * f64::from(options.validation_share)).round() as usize;
        let held_out = if wanted == 0 { rows.len() / HELD_OUT_SHARE } else { wanted };
        let first = rows.len() - held_out.min(rows.len());
        let chosen = |from: usize, to: usize| -> Vec<f32> {
            let every = (to - from).div_ceil(TRIAL_ROWS_MAX).max(1);
            (from..to).step_by(every).flat_map(|index| rows.row(index)).copied().collect()
        };
        let mut trial = Self {
            width: rows.width(),
            usual: chosen(0, first),
            held_out: chosen(first, rows.len()),
            disturbed: Vec::new(),
            float_auc: 0.0,
        };
        for step in 0..AMPLITUDES {
            let amplitude = AMPLITUDE_MIN * AMPLITUDE_FACTOR.powi(step);
            trial.disturbed = disturbed(&trial.held_out, trial.width, amplitude, options.seed);
            trial.float_auc = trial.auc(float)?;
            if trial.float_auc >= FLOAT_AUC {
                return Some(trial);
            }
        }
        None
    }

    /// The AUC of the network in single precision.
    pub(super) fn float_auc(&self) -> f64 {
        self.float_auc
    }

    /// The AUC with which a model tells the rows from the disturbed ones, by its score in the core;
    /// none if the core refuses the model.
    pub(super) fn auc(&self, model: &Model) -> Option<f64> {
        let gains = gains(&detector(model, self.width, Vec::new())?, &self.usual, self.width)?;
        let file = detector(model, self.width, gains)?;
        let mut scores = scores(&file, &self.held_out);
        let mut labels = vec![false; scores.len()];
        scores.extend(self::scores(&file, &self.disturbed));
        labels.resize(scores.len(), true);
        roc_auc(&scores, &labels)
    }
}

/// Disturbs each row: a spike, a shift of a quarter, or noise, in turn.
fn disturbed(rows: &[f32], width: usize, amplitude: f32, seed: u64) -> Vec<f32> {
    let mut random = Random::stream(seed, STREAM);
    let mut values = rows.to_vec();
    for (index, row) in values.chunks_exact_mut(width).enumerate() {
        let sign = if random.below(2) == 0 { amplitude } else { -amplitude };
        let at = random.below(u32::try_from(width).unwrap_or(u32::MAX)) as usize;
        match index % 3 {
            // One number stands for all the others that noise would move.
            0 => row[at] += sign * (width as f32).sqrt(),
            1 => {
                let len = width.div_ceil(4);
                let first = at.min(width - len);
                row[first..first + len].iter_mut().for_each(|x| *x += 2.0 * sign);
            }
            _ => row.iter_mut().for_each(|x| *x += amplitude * random.normal() as f32),
        }
    }
    values
}

/// A detector that hands each window of one channel to the model as it is.
fn detector(model: &Model, width: usize, gains: Vec<f32>) -> Option<DetectorFile> {
    compile(&DetectorSpec {
        name: "trial".into(),
        rate_hz: 1.0,
        window_len: width,
        stride: width,
        channels: vec![ChannelSpec {
            name: "x".into(),
            unit: String::new(),
            minimum: -SENSOR_RANGE_ABS_MAX,
            maximum: SENSOR_RANGE_ABS_MAX,
        }],
        features: vec![Feature { kind: FeatureKind::Samples, channel: 0, parameter: 1 }],
        scaler: vec![ScalerEntry { offset: 0.0, gain: 1.0 }; width],
        gains,
        traces: Vec::new(),
        model: model.clone(),
        score_rule: ScoreRule::RootMeanSquare,
        smoothing: 1,
        decision_rule: DecisionRule {
            threshold: f32::MAX,
            clear_level: f32::MAX,
            raise_count: 1,
            raise_of: 1,
            clear_count: 1,
        },
        provenance: String::new(),
    })
    .ok()
}

/// One over the usual magnitude of each residual, as training weighs residuals.
fn gains(file: &DetectorFile, rows: &[f32], width: usize) -> Option<Vec<f32>> {
    let mut squares = vec![0.0_f64; width];
    run(file, rows, |pipeline, _| {
        for (square, residual) in squares.iter_mut().zip(pipeline.residuals()) {
            *square += f64::from(*residual).powi(2);
        }
    });
    let count = (rows.len() / width).max(1) as f64;
    let spreads: Vec<f32> = squares.iter().map(|square| (square / count).sqrt() as f32).collect();
    let largest = spreads.iter().copied().fold(0.0, f32::max);
    let least = (largest * SPREAD_SHARE_MIN).max(SPREAD_MIN);
    Some(spreads.into_iter().map(|spread| 1.0 / spread.max(least)).collect())
}

fn scores(file: &DetectorFile, rows: &[f32]) -> Vec<f32> {
    let mut scores = Vec::new();
    run(file, rows, |_, score| scores.push(score));
    scores
}

/// Pushes rows through a detector of one channel and shows the pipeline after each.
fn run(file: &DetectorFile, rows: &[f32], mut show: impl FnMut(&Pipeline<'_, '_>, f32)) {
    let detector = file.detector();
    let mut memory = vec![0; detector.memory_words()];
    let Ok(mut pipeline) = Pipeline::new(&detector, &mut memory) else {
        return;
    };
    for sample in rows {
        if let Ok(Some(result)) = pipeline.push(&[*sample]) {
            show(&pipeline, result.score);
        }
    }
}
