//! Convolutional autoencoders, from the file to the core's reconstruction.

mod common;

use std::ops::ControlFlow;

use serde::Deserialize;
use stonechat_core::decision::DecisionRule;
use stonechat_core::detector::format::ScalerEntry;
use stonechat_core::detector::{EngineKind, ScoreRule};
use stonechat_core::features::{Feature, FeatureKind};
use stonechat_core::pipeline::Pipeline;
use stonechat_train::compile::{ChannelSpec, DetectorFile, DetectorSpec, Model, compile};
use stonechat_train::fit::dense::Precision;
use stonechat_train::network::Layer;
use stonechat_train::network::convolution::{
    ConvolutionForm, ConvolutionLayer, ConvolutionNetwork,
};
use stonechat_train::quantise::{Calibration, quantise_convolution};
use stonechat_train::rows::Rows;
use stonechat_train::train::train;

/// A network and rows with what NumPy makes of them: see testdata/make/convolution.py.
#[derive(Deserialize)]
struct Case {
    channels: usize,
    length: usize,
    filters: Vec<usize>,
    kernel_width: usize,
    weights: Vec<Vec<f32>>,
    biases: Vec<Vec<f32>>,
    rows: Vec<Vec<f32>>,
    reconstructions: Vec<Vec<f32>>,
}

impl Case {
    fn all() -> Vec<Self> {
        let text = include_str!("../../../testdata/convolution.json");
        serde_json::from_str(text).expect("the committed file is read")
    }

    fn network(&self) -> ConvolutionNetwork {
        let form = ConvolutionForm {
            channels: self.channels,
            len: self.length,
            filters: self.filters.clone(),
            kernel_width: self.kernel_width,
        };
        let numbers = self.weights.iter().zip(&self.biases);
        let layers = form.layers().into_iter().zip(numbers);
        let layer = |((geometry, outputs, activation), (weights, bias)): ((_, _, _), (_, _))| {
            let geometry: stonechat_core::detector::Geometry = geometry;
            let (weights, bias): (&Vec<f32>, &Vec<f32>) = (weights, bias);
            let inputs = geometry.kernel_width * geometry.channels;
            let (weights, bias) = (weights.clone(), bias.clone());
            ConvolutionLayer {
                geometry,
                product: Layer { inputs, outputs, weights, bias, activation },
            }
        };
        ConvolutionNetwork { layers: layers.map(layer).collect() }
    }

    /// A detector that hands windows of all channels to the model as they are.
    fn detector(&self, model: Model) -> DetectorFile {
        let channel = |index| ChannelSpec {
            name: format!("x{index}"),
            unit: String::new(),
            minimum: -1e6,
            maximum: 1e6,
        };
        let feature = |channel| Feature { kind: FeatureKind::Samples, channel, parameter: 1 };
        compile(&DetectorSpec {
            name: "convolution".into(),
            rate_hz: 1.0,
            window_len: self.length,
            stride: self.length,
            channels: (0..self.channels).map(channel).collect(),
            features: (0..self.channels as u16).map(feature).collect(),
            scaler: vec![ScalerEntry { offset: 0.0, gain: 1.0 }; self.channels * self.length],
            gains: Vec::new(),
            traces: Vec::new(),
            model,
            score_rule: ScoreRule::MeanSquared,
            smoothing: 1,
            decision_rule: DecisionRule {
                threshold: 1.0,
                clear_level: 0.5,
                raise_count: 1,
                raise_of: 1,
                clear_count: 1,
            },
            provenance: "{}".into(),
        })
        .expect("compiles")
    }

    /// The reconstruction of each row, `[channels][length]`.
    fn reconstruct(&self, file: &DetectorFile) -> Vec<Vec<f32>> {
        let detector = file.detector();
        let mut memory = vec![0; detector.memory_words()];
        let mut pipeline = Pipeline::new(&detector, &mut memory).expect("the memory is enough");
        let mut outputs = Vec::new();
        for row in &self.rows {
            for place in 0..self.length {
                let sample: Vec<f32> = row[place..].iter().step_by(self.length).copied().collect();
                if pipeline.push(&sample).expect("in range").is_some() {
                    let indices = 0..row.len();
                    let numbers = indices.map(|at| pipeline.reconstruction(at).expect("exists"));
                    outputs.push(numbers.collect());
                }
            }
        }
        outputs
    }
}

#[test]
fn the_core_reconstructs_as_numpy_does() {
    for case in Case::all() {
        let file = case.detector(Model::convolution(&case.network()).expect("holds together"));
        let found = case.reconstruct(&file);
        assert_eq!(found.len(), case.reconstructions.len());
        for (found, expected) in found.iter().flatten().zip(case.reconstructions.iter().flatten()) {
            assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
        }
    }
}

#[test]
fn int8_stays_within_a_few_steps() {
    for case in Case::all() {
        let network = case.network();
        let values = case.rows.concat();
        let rows = Rows::new(&values, case.channels * case.length).expect("finite rows");
        let quantised =
            quantise_convolution(&network, rows, Calibration::MinMax).expect("quantises");
        let steps: f32 = quantised.layers.iter().map(|layer| layer.product.output_scale).sum();
        let file = case.detector(Model::convolution_int8(&quantised).expect("holds together"));
        let found = case.reconstruct(&file);
        for (found, exact) in found.iter().flatten().zip(case.reconstructions.iter().flatten()) {
            assert!((found - exact).abs() < 4.0 * steps, "{found} is not {exact}");
        }
    }
}

#[test]
fn both_precisions_train_from_a_recording() {
    let recording = common::sine(1_000, 1);
    for (precision, kind) in [
        (Precision::Float32, EngineKind::Convolution),
        (Precision::Int8, EngineKind::ConvolutionInt8),
    ] {
        let recipe = common::recipe(common::convolution(precision));
        let trained = train(&recording, &recipe, |_| ControlFlow::Continue(())).expect("trains");
        assert_eq!(trained.file.detector().engine().kind(), kind);
        // Beside an int8 detector stands the same network in single precision.
        let twin = trained.float_twin.map(|file| file.detector().engine().kind());
        let is_int8 = kind == EngineKind::ConvolutionInt8;
        assert_eq!(twin, is_int8.then_some(EngineKind::Convolution));
        assert_eq!(trained.summary.quantisation.is_some(), is_int8);
        let losses: Vec<f64> =
            trained.summary.history.iter().filter_map(|now| now.validation_loss).collect();
        assert!(losses[losses.len() - 1] < 0.5 * losses[0], "{losses:?}");
    }
}
