//! Compiling and the way back are inverse to one another, to the last bit.

mod common;

use stonechat_train::compile::{DetectorSpec, Model, compile};
use stonechat_train::decompile::{DetectorNetwork, decompile};
use stonechat_train::network::QuantisedNetwork;
use stonechat_train::quantise::{QuantiseOptions, WeightScaling, quantise};
use stonechat_train::random::Random;
use stonechat_train::rows::Rows;

/// The same detector with another model.
fn with_model(model: Model) -> DetectorSpec {
    let file = &common::detectors()[2];
    let detector = file.detector();
    DetectorSpec {
        name: "again".to_owned(),
        rate_hz: detector.rate_hz(),
        window_len: detector.window_len(),
        stride: detector.stride(),
        channels: vec![stonechat_train::compile::ChannelSpec {
            name: "x".to_owned(),
            unit: String::new(),
            minimum: -1.0,
            maximum: 1.0,
        }],
        features: detector.features().collect(),
        scaler: detector.scaler().to_vec(),
        gains: Vec::new(),
        traces: Vec::new(),
        model,
        score_rule: detector.score_rule(),
        smoothing: detector.smoothing(),
        decision_rule: *detector.decision_rule(),
        provenance: String::new(),
    }
}

#[test]
fn float_networks_come_back() {
    let file = &common::detectors()[1];
    let Some(DetectorNetwork::Float(network)) = decompile(&file.detector()) else {
        panic!("no network")
    };
    let again =
        compile(&with_model(Model::dense(&network).expect("holds together"))).expect("compiles");
    assert_eq!(decompile(&again.detector()), Some(DetectorNetwork::Float(network)));
}

#[test]
fn int8_networks_come_back() {
    let float = &common::detectors()[1];
    let Some(DetectorNetwork::Float(network)) = decompile(&float.detector()) else {
        panic!("no network")
    };
    let mut random = Random::new(5);
    let rows: Vec<f32> = (0..16 * 100).map(|_| random.normal() as f32).collect();
    let rows = Rows::new(&rows, 16).expect("finite rows");
    let quantised = |weights| -> QuantisedNetwork {
        let options = QuantiseOptions { weights, ..QuantiseOptions::default() };
        quantise(&network, rows, &options).expect("quantises")
    };
    let per_channel = quantised(WeightScaling::PerChannel);
    let file = compile(&with_model(Model::dense_int8(&per_channel).expect("holds together")))
        .expect("compiles");
    assert_eq!(decompile(&file.detector()), Some(DetectorNetwork::Int8(per_channel)));
    // What comes back from one scale for a tensor computes the same.
    let per_tensor = quantised(WeightScaling::PerTensor);
    let file = compile(&with_model(Model::dense_int8(&per_tensor).expect("holds together")))
        .expect("compiles");
    let Some(DetectorNetwork::Int8(back)) = decompile(&file.detector()) else {
        panic!("no network")
    };
    let again =
        compile(&with_model(Model::dense_int8(&back).expect("holds together"))).expect("compiles");
    assert_eq!(again.bytes(), file.bytes());
}
