//! Float engines against NumPy, and streams against whole windows.

use stonechat_core::decision::DecisionRule;
use stonechat_core::detector::format::ScalerEntry;
use stonechat_core::detector::{Coverage, Engine, ScoreRule};
use stonechat_core::features::{Feature, FeatureKind};
use stonechat_core::pipeline::Pipeline;

use super::*;
use crate::compile::{ChannelSpec, CompileError, DetectorFile, DetectorSpec, compile};
use crate::network::{Activation, Layer};
use crate::random::Random;

/// Offset and gain of every feature of [`detector`]: the pipeline's units are not the engine's.
const SCALER: ScalerEntry = ScalerEntry { offset: 3.0, gain: 0.5 };

/// A detector that hands each sample to the model.
pub(crate) fn detector(model: Model, width: usize) -> Result<DetectorFile, CompileError> {
    compile(&DetectorSpec {
        name: "recurrent".into(),
        rate_hz: 1.0,
        window_len: 1,
        stride: 1,
        channels: (0..width)
            .map(|index| ChannelSpec {
                name: format!("x{index}"),
                unit: String::new(),
                minimum: -1e6,
                maximum: 1e6,
            })
            .collect(),
        features: (0..width)
            .map(|channel| Feature {
                kind: FeatureKind::Samples,
                channel: channel as u16,
                parameter: 1,
            })
            .collect(),
        scaler: vec![SCALER; width],
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
}

/// What a stream of scaled vectors gave at one vector.
#[derive(Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) at: usize,
    pub(crate) residuals: Vec<f32>,
    pub(crate) reconstruction: Vec<f32>,
    pub(crate) source: Vec<f32>,
}

/// Unscales a stream, pushes it through a pipeline, with a gap before each index of `gaps`, and
/// collects what comes out, scaled again.
pub(crate) fn stream(file: &DetectorFile, vectors: &[f32], gaps: &[usize]) -> Vec<Verdict> {
    let detector = file.detector();
    let width = detector.vector_len();
    let mut memory = vec![0; detector.memory_words()];
    let mut pipeline = Pipeline::new(&detector, &mut memory).unwrap();
    let mut verdicts = Vec::new();
    let scale = |value: f32| (value - SCALER.offset) * SCALER.gain;
    for (at, vector) in vectors.chunks_exact(width).enumerate() {
        if gaps.contains(&at) {
            pipeline.reset_window();
        }
        let sample: Vec<f32> = vector.iter().map(|x| x / SCALER.gain + SCALER.offset).collect();
        if pipeline.push(&sample).unwrap().is_some() {
            verdicts.push(Verdict {
                at,
                residuals: pipeline.residuals().to_vec(),
                reconstruction: (0..width)
                    .map(|index| scale(pipeline.reconstruction(index).unwrap()))
                    .collect(),
                source: pipeline.features().iter().map(|x| scale(*x)).collect(),
            });
        }
    }
    verdicts
}

#[derive(serde::Deserialize)]
struct Case {
    form: Form,
    cell: Cell,
    steps: usize,
    hop: usize,
    encoder: Vec<LayerOfCase>,
    decoder: Vec<LayerOfCase>,
    output_weights: Vec<f32>,
    output_bias: Vec<f32>,
    stream: Vec<f32>,
    verdicts: Vec<VerdictOfCase>,
}

#[derive(serde::Deserialize)]
struct LayerOfCase {
    inputs: usize,
    units: usize,
    input_weights: Vec<f32>,
    recurrent_weights: Vec<f32>,
    input_bias: Vec<f32>,
    recurrent_bias: Vec<f32>,
}

#[derive(serde::Deserialize)]
struct VerdictOfCase {
    at: usize,
    residuals: Vec<f32>,
    reconstruction: Vec<f32>,
    source: Vec<f32>,
}

impl Case {
    fn network(&self) -> RecurrentNetwork {
        let stack = |layers: &[LayerOfCase]| {
            layers
                .iter()
                .map(|layer| RecurrentLayer {
                    inputs: layer.inputs,
                    units: layer.units,
                    input_weights: layer.input_weights.clone(),
                    recurrent_weights: layer.recurrent_weights.clone(),
                    input_bias: layer.input_bias.clone(),
                    recurrent_bias: layer.recurrent_bias.clone(),
                })
                .collect()
        };
        RecurrentNetwork {
            form: self.form,
            cell: self.cell,
            steps: self.steps,
            encoder: stack(&self.encoder),
            decoder: stack(&self.decoder),
            output: Layer {
                inputs: self.output_weights.len() / self.output_bias.len(),
                outputs: self.output_bias.len(),
                weights: self.output_weights.clone(),
                bias: self.output_bias.clone(),
                activation: Activation::Linear,
            },
        }
    }
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../../../../../testdata/recurrent.json")).unwrap()
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 5e-6, "{what}: {found} for {expected}");
    }
}

#[test]
fn streams_give_what_numpy_computes() {
    let cases = cases();
    assert_eq!(cases.len(), 5);
    for (index, case) in cases.iter().enumerate() {
        let width = case.output_bias.len();
        let file = detector(encode(&case.network(), case.hop).unwrap(), width).unwrap();
        let found = stream(&file, &case.stream, &[]);
        let at: Vec<usize> = case.verdicts.iter().map(|verdict| verdict.at).collect();
        assert_eq!(found.iter().map(|verdict| verdict.at).collect::<Vec<_>>(), at, "case {index}");
        assert!(at.len() >= 3);
        for (found, expected) in found.iter().zip(&case.verdicts) {
            let what = format!("case {index}, vector {}", expected.at);
            assert_close(&found.residuals, &expected.residuals, &what);
            assert_close(&found.reconstruction, &expected.reconstruction, &what);
            assert_close(&found.source, &expected.source, &what);
        }
    }
}

/// A network of random weights.
pub(crate) fn random_network(
    form: Form,
    cell: Cell,
    steps: usize,
    width: usize,
    [encoder, decoder]: [&[usize]; 2],
    seed: u64,
) -> RecurrentNetwork {
    let mut random = Random::new(seed);
    let mut draw = |count: usize| -> Vec<f32> {
        (0..count).map(|_| random.between(-0.8, 0.8) as f32).collect()
    };
    let mut below = width;
    let mut stack = |units: &[usize]| -> Vec<RecurrentLayer> {
        units
            .iter()
            .map(|units| {
                let (rows, inputs) = (cell.gates() * units, below);
                below = *units;
                RecurrentLayer {
                    inputs,
                    units: *units,
                    input_weights: draw(rows * inputs),
                    recurrent_weights: draw(rows * units),
                    input_bias: draw(rows),
                    recurrent_bias: if cell == Cell::Gru { draw(rows) } else { Vec::new() },
                }
            })
            .collect()
    };
    let (encoder, decoder) = (stack(encoder), stack(decoder));
    let output = Layer {
        inputs: below,
        outputs: width,
        weights: draw(width * below),
        bias: draw(width),
        activation: Activation::Linear,
    };
    RecurrentNetwork { form, cell, steps, encoder, decoder, output }
}

/// Slow waves with noise, `[count][width]`.
pub(crate) fn waves(count: usize, width: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let mut values = Vec::with_capacity(count * width);
    for row in 0..count {
        for column in 0..width {
            let phase = 0.3 * row as f64 + 1.3 * column as f64;
            values.push((1.2 * phase.sin() + 0.1 * random.normal()) as f32);
        }
    }
    values
}

/// Residuals and last vector of each window of the stream, reconstructed at once.
pub(crate) fn at_once(file: &DetectorFile, vectors: &[f32]) -> Vec<Verdict> {
    let detector = file.detector();
    let width = detector.vector_len();
    let mut memory = vec![0; detector.memory_words()];
    // As the pipeline sees them.
    let scaled: Vec<f32> = vectors
        .iter()
        .map(|x| (x / SCALER.gain + SCALER.offset - SCALER.offset) * SCALER.gain)
        .collect();
    let (steps, hop) = match detector.engine() {
        Engine::Recurrent(engine) => engine.steps_and_hop(),
        Engine::RecurrentInt8(engine) => engine.steps_and_hop(),
        _ => panic!("not recurrent"),
    };
    let mut verdicts = Vec::new();
    for first in (0..=vectors.len() / width - 2 * steps).step_by(hop) {
        let window = &scaled[first * width..][..steps * width];
        let mut output = vec![0.0; steps * width];
        match detector.engine() {
            Engine::Recurrent(engine) => engine.reconstruct(window, &mut output, &mut memory),
            Engine::RecurrentInt8(engine) => engine.reconstruct(window, &mut output, &mut memory),
            _ => panic!("not recurrent"),
        }
        let mut squares = vec![0.0; width];
        for (index, (x, y)) in window.iter().zip(&output).enumerate() {
            squares[index % width] += (x - y) * (x - y);
        }
        verdicts.push(Verdict {
            at: first + 2 * steps - 1,
            residuals: squares.iter().map(|sum: &f32| (sum / steps as f32).sqrt()).collect(),
            reconstruction: output[output.len() - width..].to_vec(),
            source: window[window.len() - width..].to_vec(),
        });
    }
    verdicts
}

/// Bit by bit, but for what went through the pipeline's units and back.
pub(crate) fn assert_streams_equal_windows(file: &DetectorFile, vectors: &[f32]) {
    let (found, expected) = (stream(file, vectors, &[]), at_once(file, vectors));
    assert_eq!(found.len(), expected.len());
    assert!(found.len() > 3);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.at, expected.at);
        assert_eq!(found.residuals, expected.residuals, "at {}", found.at);
        assert_close(&found.reconstruction, &expected.reconstruction, "reconstruction");
        assert_close(&found.source, &expected.source, "source");
    }
}

#[test]
fn staggered_lanes_equal_whole_windows_bit_for_bit() {
    for cell in [Cell::Lstm, Cell::Gru] {
        for hop in [12, 6, 4, 1] {
            let layers: [&[usize]; 2] = [&[5, 3], &[3, 4]];
            let network = random_network(Form::Staggered, cell, 12, 3, layers, 7);
            let file = detector(encode(&network, hop).unwrap(), 3).unwrap();
            assert_streams_equal_windows(&file, &waves(120, 3, 8));
            assert_eq!(file.detector().coverage(), Coverage { len: 12, delay: 12 });
        }
    }
}

#[test]
fn after_a_gap_all_starts_anew() {
    for (form, decoder) in [(Form::Staggered, &[4][..]), (Form::Stateful, &[][..])] {
        let network = random_network(form, Cell::Lstm, 8, 2, [&[4], decoder], 3);
        let file = detector(encode(&network, 4).unwrap(), 2).unwrap();
        let vectors = waves(90, 2, 4);
        let gap = 37;
        let found = stream(&file, &vectors, &[gap]);
        let mut expected = stream(&file, &vectors[..2 * gap], &[]);
        let mut rest = stream(&file, &vectors[2 * gap..], &[]);
        rest.iter_mut().for_each(|verdict| verdict.at += gap);
        expected.append(&mut rest);
        assert_eq!(found, expected);
    }
}

#[test]
fn a_forecaster_speaks_of_its_hop() {
    let network = random_network(Form::Stateful, Cell::Gru, 8, 2, [&[4], &[]], 3);
    let file = detector(encode(&network, 5).unwrap(), 2).unwrap();
    assert_eq!(file.detector().coverage(), Coverage { len: 5, delay: 0 });
}

#[test]
fn what_does_not_fit_is_refused() {
    let good = random_network(Form::Staggered, Cell::Lstm, 8, 2, [&[4], &[3]], 1);
    assert!(encode(&good, 8).is_ok_and(|model| detector(model, 2).is_ok()));
    // A hop that is no divisor of the window, none at all, and more lanes than there may be.
    for hop in [3, 0, 16] {
        assert!(detector(encode(&good, hop).unwrap(), 2).is_err(), "hop {hop}");
    }
    let long = RecurrentNetwork { steps: 128, ..good.clone() };
    assert!(detector(encode(&long, 1).unwrap(), 2).is_err());
    assert!(detector(encode(&good, 8).unwrap(), 3).is_err());
    let stateful = RecurrentNetwork { form: Form::Stateful, ..good.clone() };
    assert!(detector(encode(&stateful, 8).unwrap(), 2).is_err());
    let bare = RecurrentNetwork { decoder: Vec::new(), ..good.clone() };
    assert!(encode(&bare, 8).is_err() || detector(encode(&bare, 8).unwrap(), 2).is_err());
    let mut huge = good.clone();
    huge.encoder[0].recurrent_weights[5] = 2.0e6;
    assert!(detector(encode(&huge, 8).unwrap(), 2).is_err());
    huge.encoder[0].recurrent_weights[5] = f32::NAN;
    assert!(detector(encode(&huge, 8).unwrap(), 2).is_err());
    let mut short = good;
    short.encoder[0].input_bias.pop();
    assert!(matches!(encode(&short, 8), Err(NetworkError::Length { layer: 0, .. })));
}

/// A forger can make the checksum right; then the loader's checks alone stand between him and the
/// device.
#[test]
fn a_forged_model_is_refused_or_runs_within_its_bounds() {
    use stonechat_core::detector::format;

    let mut random = Random::new(11);
    let (mut refused, mut ran) = (0, 0);
    for cell in [Cell::Lstm, Cell::Gru] {
        for (form, decoder) in [(Form::Staggered, &[3][..]), (Form::Stateful, &[][..])] {
            let network = random_network(form, cell, 8, 2, [&[4], decoder], 3);
            let values = waves(64, 2, 4);
            let rows = crate::rows::Rows::new(&values, 2).unwrap();
            let options = crate::quantise::QuantiseOptions::default();
            let int8 =
                crate::quantise::recurrent::quantise_recurrent(&network, rows, &[0], &options);
            let models = [encode(&network, 4), encode_int8(&int8.unwrap(), 4)];
            for file in models.map(|model| detector(model.unwrap(), 2).unwrap()) {
                let bytes = file.bytes();
                let header: &format::Header =
                    bytemuck::from_bytes(&bytes[..size_of::<format::Header>()]);
                // The header and the entries of the layers, and then anything in the model.
                let model = header.model.offset as usize;
                let places = [200, header.model.len as usize];
                for turn in 0..2_000 {
                    let mut bytes = bytes.to_vec();
                    let place = random.below(places[turn % 2] as u32) as usize;
                    let values = [0, 1, 127, 128, 255, random.next_u32() as u8];
                    bytes[model + place] = values[random.below(6) as usize];
                    let checksum = format::checksum(&bytes);
                    bytes[format::CHECKSUM_OFFSET..][..4].copy_from_slice(&checksum.to_le_bytes());
                    let Ok(forged) = DetectorFile::from_bytes(&bytes) else {
                        refused += 1;
                        continue;
                    };
                    ran += 1;
                    let forged = forged.detector();
                    let mut memory = vec![0; forged.memory_words()];
                    let mut pipeline = Pipeline::new(&forged, &mut memory).unwrap();
                    for sample in values_of(&mut random).chunks_exact(2) {
                        if let Ok(Some(result)) = pipeline.push(sample) {
                            assert!(result.score.is_finite());
                        }
                    }
                }
            }
        }
    }
    assert!(refused > 500 && ran > 500, "{refused} refused, {ran} ran: the test must see both");
}

/// Samples far beyond what the network was quantised for.
fn values_of(random: &mut Random) -> Vec<f32> {
    (0..2 * 40).map(|_| random.between(-1e5, 1e5) as f32).collect()
}
