//! Trains a small detector of every kind and writes it with samples to run it on: what the emulated
//! chip is compared with, `cargo xtask test --only virt`.
//!
//! `cargo run -p stonechat-train --example kinds -- FOLDER WINDOWS` writes, for each kind,
//! `NAME.detector` and `NAME.samples` (f32, little-endian, channels interleaved), and `index.json`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::error::Error;
use std::ops::ControlFlow;
use std::path::PathBuf;

use serde_json::{Value, json};
use stonechat_core::detector::{Detector, Engine};
use stonechat_train::cost::cost;
use stonechat_train::recipe::{DetectorChoice, Recipe};
use stonechat_train::threshold::ThresholdRule;
use stonechat_train::train::train;

/// Samples in a window, and from one window to the next.
const WINDOW_LEN: usize = 16;
const STRIDE: usize = 4;
/// Rows to train on.
const TRAINING_ROWS: usize = 3_000;
/// Samples between two that no sensor can have measured; a prime, so that they fall anywhere.
const FAULT_PERIOD: usize = 1_009;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("name a folder")?);
    let windows: usize = arguments.next().ok_or("name a number of windows")?.parse()?;
    std::fs::create_dir_all(&folder)?;
    let training = common::machine(TRAINING_ROWS, 1);
    let mut index = Vec::new();
    for (name, mut detector) in choices()? {
        let (window_len, stride) = detector.lay_out(Some(WINDOW_LEN), Some(STRIDE));
        let recipe = Recipe {
            name: name.clone(),
            features: detector.usual_features(),
            detector,
            window_len,
            stride,
            // Low, so that both verdicts come.
            threshold: ThresholdRule::Quantile { quantile: 0.9, margin: 0.0 },
            ..Recipe::default()
        };
        let trained = train(&training, &recipe, |_| ControlFlow::Continue(()))
            .map_err(|error| format!("{name}: {error}"))?;
        let detector = trained.file.detector();
        let mut samples = common::machine(rows_of(&detector, windows), 2).samples;
        let width = training.channels.len();
        for sample in samples.chunks_exact_mut(width).skip(FAULT_PERIOD).step_by(FAULT_PERIOD) {
            sample[0] = f32::NAN;
        }
        let samples: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        std::fs::write(folder.join(format!("{name}.detector")), trained.file.bytes())?;
        std::fs::write(folder.join(format!("{name}.samples")), samples)?;
        index.push(json!({"name": name, "channels": width, "cost": cost(&detector)}));
    }
    std::fs::write(folder.join("index.json"), Value::from(index).to_string())?;
    Ok(())
}

/// Kind, name and settings: every kind, networks in both precisions, recurrent ones in both forms and
/// cells.
const CHOICES: [(&str, &str, &str); 17] = [
    ("z-score", "zscore_adaptive", "alpha=0.02"),
    ("robust-z-score", "robust_zscore", "alpha=0.02"),
    ("mahalanobis", "mahalanobis", ""),
    ("pca", "pca", ""),
    ("dense", "dense_trained_int8", "encoder=[8,3] fit.epochs=20"),
    ("recurrent", "lstm_int8", "fit.epochs=5"),
    ("recurrent", "lstm_float", "fit.epochs=5 precision=\"float32\""),
    ("recurrent", "gru_int8", "fit.epochs=5 cell=\"gru\""),
    ("recurrent", "lstm_stateful_int8", "fit.epochs=5 form=\"stateful\""),
    (
        "recurrent",
        "gru_stateful_float",
        "fit.epochs=5 form=\"stateful\" cell=\"gru\" precision=\"float32\"",
    ),
    ("convolution", "convolution_int8", "fit.epochs=10"),
    ("convolution", "convolution_float", "fit.epochs=10 precision=\"float32\""),
    ("random-forest", "random_forest", "trees=20"),
    ("isolation-forest", "isolation_forest", "trees=20"),
    ("one-class", "one_class", ""),
    ("neighbour", "neighbour", ""),
    ("learner", "learner", "warm_up=50"),
];

fn choices() -> Result<Vec<(String, DetectorChoice)>, Box<dyn Error>> {
    let choice = |(kind, name, settings): (&str, &str, &str)| {
        let mut choice = DetectorChoice::of_kind(kind)?;
        for setting in settings.split_whitespace() {
            let (setting, value) = setting.split_once('=').ok_or("a setting is NAME=VALUE")?;
            choice.set(setting, serde_json::from_str(value)?)?;
        }
        Ok((name.to_owned(), choice))
    };
    CHOICES.into_iter().map(choice).collect()
}

/// So many rows give so many results, with room for what sensor faults cost.
fn rows_of(detector: &Detector<'_>, windows: usize) -> usize {
    let coverage = detector.coverage();
    let is_recurrent = matches!(detector.engine(), Engine::Recurrent(_) | Engine::RecurrentInt8(_));
    let spacing = if is_recurrent { STRIDE } else { 1 };
    let rows = windows * detector.stride() * spacing + coverage.len + coverage.delay;
    // A fault costs what had been gathered, and a forecaster warms up once more.
    let lost = 2 * (coverage.len + coverage.delay + WINDOW_LEN);
    rows + (rows / FAULT_PERIOD + 1) * lost
}
