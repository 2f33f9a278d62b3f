//! Latent mode: what the device encodes is what the pipeline reconstructs once it is decoded.

mod common;

use std::ops::ControlFlow;

use stonechat_core::detector::Detector;
use stonechat_train::compile::DetectorFile;
use stonechat_train::dataset::Recording;
use stonechat_train::fit::dense::Precision;
use stonechat_train::latent::{LatentError, decode, encode};
use stonechat_train::recipe::{DetectorChoice, Recipe};
use stonechat_train::replay::replay;
use stonechat_train::train::train;

fn trained(precision: Precision) -> DetectorFile {
    let recipe = common::recipe(common::dense(precision));
    train(&common::sine(1_000, 1), &recipe, |_| ControlFlow::Continue(())).expect("trains").file
}

fn reconstructions(detector: &Detector<'_>, recording: &Recording) -> Vec<f32> {
    let mut all = Vec::new();
    let observe = |pipeline: &stonechat_core::pipeline::Pipeline<'_, '_>| {
        (0..detector.vector_len())
            .map(|index| pipeline.reconstruction(index).expect("exists"))
            .collect::<Vec<_>>()
    };
    replay(detector, recording, |pipeline, _| all.extend(observe(pipeline))).expect("fits");
    all
}

#[test]
fn a_decoded_code_is_the_reconstruction_of_the_pipeline_bit_by_bit() {
    for precision in [Precision::Float32, Precision::Int8] {
        let file = trained(precision);
        let detector = file.detector();
        let recording = common::sine(300, 2);
        let codes = encode(&detector, &recording).expect("has a code");
        assert_eq!(codes.channels.len(), 3);
        let decoded = decode(&detector, &codes).expect("fits");
        assert_eq!(decoded.channels.len(), detector.vector_len());
        assert_eq!(decoded.samples, reconstructions(&detector, &recording), "{precision:?}");
    }
}

#[test]
fn a_code_may_be_wider_than_what_is_measured() {
    // One temperature in two numbers, as the older latent-vector service had it: 1-32-16-2-16-32-1.
    let mut choice = common::dense(Precision::Float32);
    if let DetectorChoice::Dense(options) = &mut choice {
        options.encoder = vec![32, 16, 2];
    }
    let recipe = Recipe {
        window_len: 1,
        stride: 1,
        features: vec!["samples:1".to_owned()],
        ..common::recipe(choice)
    };
    let trained = train(&common::sine(1_000, 1), &recipe, |_| ControlFlow::Continue(()));
    let file = trained.expect("trains").file;
    let detector = file.detector();
    let recording = common::sine(300, 2);
    let codes = encode(&detector, &recording).expect("has a code");
    assert_eq!(codes.channels.len(), 2);
    let decoded = decode(&detector, &codes).expect("fits");
    assert_eq!(decoded.samples, reconstructions(&detector, &recording));
}

#[test]
fn what_is_no_code_is_refused_with_its_place() {
    let file = trained(Precision::Float32);
    let detector = file.detector();
    let mut codes = encode(&detector, &common::sine(100, 2)).expect("has a code");
    codes.samples[7] = f32::NAN;
    let error = decode(&detector, &codes).expect_err("NaN is no code");
    assert!(matches!(error, LatentError::NotFinite { row: 3, .. }), "{error}");
    let error = decode(&detector, &common::sine(100, 2)).expect_err("one column is no code");
    assert!(error.to_string().contains("have 3"), "{error}");
    let z_score = &common::detectors()[0];
    let error = encode(&z_score.detector(), &common::sine(100, 2)).expect_err("has no code");
    assert!(matches!(error, LatentError::NoCode { .. }), "{error}");
}
