//! Recordings and detectors that several tests use.
#![allow(dead_code, reason = "each test uses some of it")]

use std::ops::ControlFlow;

use stonechat_train::compile::DetectorFile;
use stonechat_train::dataset::{ChannelInfo, Recording};
use stonechat_train::fit::convolution::ConvolutionOptions;
use stonechat_train::fit::covariance::{MahalanobisOptions, PcaOptions};
use stonechat_train::fit::dense::{DenseOptions, Precision};
use stonechat_train::fit::neighbour::NeighbourOptions;
use stonechat_train::fit::robust_zscore::RobustZScoreOptions;
use stonechat_train::fit::z_score::ZScoreOptions;
use stonechat_train::random::Random;
use stonechat_train::recipe::{DetectorChoice, Recipe};
use stonechat_train::train::train;

/// A sine of two seconds at 10 Hz with some noise, in one channel.
pub(crate) fn sine(rows: usize, seed: u64) -> Recording {
    let mut random = Random::new(seed);
    let value = |row: usize, noise: f64| (22.0 + (row as f64 * 0.314).sin() + 0.02 * noise) as f32;
    Recording {
        name: "sine".to_owned(),
        channels: vec![ChannelInfo::new("temperature", "Cel")],
        rate_hz: 10.0,
        time_us: (0..rows as i64).map(|row| row * 100_000).collect(),
        samples: (0..rows).map(|row| value(row, random.normal())).collect(),
        labels: None,
        segment_starts: vec![0],
    }
}

/// Two channels that belong together, with labelled bursts.
pub(crate) fn machine(rows: usize, seed: u64) -> Recording {
    let mut random = Random::new(seed);
    let mut samples = Vec::with_capacity(2 * rows);
    let mut labels = Vec::with_capacity(rows);
    for row in 0..rows {
        let anomalous = row % 400 >= 340;
        let swing = (row as f64 * 0.41).sin() + 0.3 * (row as f64 * 1.13).sin();
        let noise = if anomalous { 0.8 } else { 0.05 };
        samples.push((20.0 + 3.0 * swing + noise * random.normal()) as f32);
        samples.push((5.0 - 1.5 * swing + noise * random.normal()) as f32);
        labels.push(anomalous);
    }
    Recording {
        name: "made up".to_owned(),
        channels: vec![ChannelInfo::new("temperature", "Cel"), ChannelInfo::new("current", "A")],
        rate_hz: 10.0,
        time_us: (0..rows as i64).map(|row| row * 100_000).collect(),
        samples,
        labels: Some(labels),
        segment_starts: vec![0],
    }
}

/// A small recipe.
pub(crate) fn recipe(detector: DetectorChoice) -> Recipe {
    Recipe { name: "test".to_owned(), detector, window_len: 16, ..Recipe::default() }
}

/// A small dense autoencoder that trains in a moment.
pub(crate) fn dense(precision: Precision) -> DetectorChoice {
    let mut options = DenseOptions { encoder: vec![8, 3], precision, ..DenseOptions::default() };
    options.fit.epochs = 30;
    DetectorChoice::Dense(options)
}

/// A small convolutional autoencoder that trains in a moment.
pub(crate) fn convolution(precision: Precision) -> DetectorChoice {
    let mut options =
        ConvolutionOptions { filters: vec![9, 2], precision, ..ConvolutionOptions::default() };
    options.fit.epochs = 15;
    DetectorChoice::Convolution(options)
}

/// A trained detector of each engine.
pub(crate) fn detectors() -> Vec<DetectorFile> {
    let recording = sine(1_000, 1);
    [
        DetectorChoice::ZScore(ZScoreOptions::default()),
        dense(Precision::Float32),
        dense(Precision::Int8),
        DetectorChoice::RobustZScore(RobustZScoreOptions { alpha: 0.05 }),
        DetectorChoice::Mahalanobis(MahalanobisOptions::default()),
        DetectorChoice::Pca(PcaOptions::default()),
        DetectorChoice::Neighbour(NeighbourOptions { vectors: 8 }),
        convolution(Precision::Float32),
        convolution(Precision::Int8),
    ]
    .map(|detector| {
        train(&recording, &recipe(detector), |_| ControlFlow::Continue(())).expect("trains").file
    })
    .into()
}
