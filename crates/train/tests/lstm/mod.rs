//! An int8 LSTM autoencoder in our runtime, beside what TensorFlow Lite Micro's interpreter gave.

use std::path::Path;

use stonechat_core::decision::DecisionRule;
use stonechat_core::detector::format::ScalerEntry;
use stonechat_core::detector::{Engine, ScoreRule};
use stonechat_core::features::{Feature, FeatureKind};
use stonechat_train::compile::{ChannelSpec, DetectorFile, DetectorSpec, Model, compile};
use stonechat_train::fit::recurrent::encode::encode_int8;
use stonechat_train::fit::recurrent::network::{Cell, Form};
use stonechat_train::network::{Activation, QuantisedLayer};
use stonechat_train::quantise::recurrent::{QuantisedRecurrentLayer, QuantisedRecurrentNetwork};

const FULLY_CONNECTED: i32 = 9;
const UNIDIRECTIONAL_SEQUENCE_LSTM: i32 = 44;

/// Just enough of the flatbuffer format to take a .tflite file apart; a place is an index of a byte.
struct Buffer(Vec<u8>);

impl Buffer {
    fn bytes<const N: usize>(&self, place: usize) -> [u8; N] {
        self.0[place..place + N].try_into().unwrap()
    }

    fn number(&self, place: usize) -> i32 {
        i32::from_le_bytes(self.bytes(place))
    }

    fn follow(&self, place: usize) -> usize {
        place + self.number(place) as usize
    }

    /// Where a field of a table stands.
    fn field(&self, table: usize, index: usize) -> Option<usize> {
        let fields = (table as i64 - i64::from(self.number(table))) as usize;
        let half = |place| usize::from(u16::from_le_bytes(self.bytes(place)));
        let offset = (4 + 2 * index < half(fields)).then(|| half(fields + 4 + 2 * index))?;
        (offset > 0).then_some(table + offset)
    }

    /// Where the elements of a vector stand.
    fn vector(&self, table: usize, index: usize, size: usize) -> Vec<usize> {
        let Some(place) = self.field(table, index) else { return Vec::new() };
        let place = self.follow(place);
        (0..self.number(place) as usize).map(|element| place + 4 + size * element).collect()
    }

    fn tables(&self, table: usize, index: usize) -> Vec<usize> {
        self.vector(table, index, 4).into_iter().map(|place| self.follow(place)).collect()
    }

    fn numbers(&self, table: usize, index: usize) -> Vec<i32> {
        self.vector(table, index, 4).into_iter().map(|place| self.number(place)).collect()
    }
}

struct Tensor {
    shape: Vec<usize>,
    scales: Vec<f32>,
    zero_point: i32,
    data: Vec<u8>,
}

impl Tensor {
    fn int8(&self) -> impl Iterator<Item = i8> {
        self.data.iter().map(|byte| byte.cast_signed())
    }

    fn int32(&self) -> impl Iterator<Item = i32> {
        self.data.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes))
    }
}

/// The operators of a file with the tensors that go in and out.
fn operators(path: &Path) -> Vec<(i32, Vec<Option<Tensor>>)> {
    let file = Buffer(std::fs::read(path).unwrap());
    let model = file.follow(0);
    let graph = file.tables(model, 2)[0];
    let (codes, buffers) = (file.tables(model, 1), file.tables(model, 4));
    let tensors = file.tables(graph, 0);
    let tensor = |index: i32| {
        let table = tensors[usize::try_from(index).ok()?];
        let quantisation = file.field(table, 4).map(|place| file.follow(place)).unwrap();
        let buffer = file.field(table, 2).map_or(0, |place| file.number(place) as usize);
        let floats = file.vector(quantisation, 2, 4).into_iter();
        Some(Tensor {
            shape: file.numbers(table, 0).into_iter().map(|len| len as usize).collect(),
            scales: floats.map(|place| f32::from_le_bytes(file.bytes(place))).collect(),
            zero_point: file.vector(quantisation, 3, 8).first().map_or(0, |at| file.number(*at)),
            data: file.vector(buffers[buffer], 0, 1).into_iter().map(|at| file.0[at]).collect(),
        })
    };
    let operators = file.tables(graph, 3).into_iter();
    operators
        .map(|operator| {
            let code = codes[file.field(operator, 0).map_or(0, |at| file.number(at) as usize)];
            let code = file.field(code, 3).map_or(0, |place| file.number(place));
            let mut places = file.numbers(operator, 1);
            places.extend(file.numbers(operator, 2));
            (code, places.into_iter().map(tensor).collect())
        })
        .collect()
}

/// Reads an LSTM operator: inputs 1 to 4 and 5 to 8 are the gates' matrices, 12 to 15 the biases, 19
/// the cell state.
fn lstm(tensors: &[Option<Tensor>]) -> QuantisedRecurrentLayer {
    let given = |index: usize| tensors[index].as_ref().expect("an operand is missing");
    let all = |first: usize| (first..first + 4).map(given);
    let output = tensors.last().and_then(Option::as_ref).unwrap();
    let cell_power = given(19).scales[0].log2();
    assert_eq!(cell_power.fract(), 0.0);
    QuantisedRecurrentLayer {
        inputs: given(1).shape[1],
        units: given(1).shape[0],
        input_weights: all(1).flat_map(Tensor::int8).collect(),
        recurrent_weights: all(5).flat_map(Tensor::int8).collect(),
        input_weight_scales: all(1).map(|tensor| tensor.scales[0]).collect(),
        recurrent_weight_scales: all(5).map(|tensor| tensor.scales[0]).collect(),
        input_bias: all(12).flat_map(Tensor::int32).collect(),
        recurrent_bias: Vec::new(),
        output_scale: output.scales[0],
        output_zero_point: output.zero_point,
        cell_power: cell_power as i32,
    }
}

fn autoencoder(path: &Path) -> QuantisedRecurrentNetwork {
    let operators = operators(path);
    let input = operators[0].1[0].as_ref().unwrap();
    let mut layers = operators
        .iter()
        .filter(|(code, _)| *code == UNIDIRECTIONAL_SEQUENCE_LSTM)
        .map(|(_, tensors)| lstm(tensors));
    let (encoder, decoder) = (layers.next().unwrap(), layers.next().unwrap());
    let (code, tensors) = operators.last().unwrap();
    let [_, Some(weights), Some(bias), Some(output)] = &tensors[..] else {
        panic!("the dense layer lacks an operand")
    };
    assert_eq!((*code, layers.count()), (FULLY_CONNECTED, 0));
    QuantisedRecurrentNetwork {
        form: Form::Staggered,
        cell: Cell::Lstm,
        steps: input.shape[1],
        input_scale: input.scales[0],
        input_zero_point: input.zero_point,
        encoder: vec![encoder],
        decoder: vec![decoder],
        output: QuantisedLayer {
            inputs: weights.shape[1],
            outputs: weights.shape[0],
            weights: weights.int8().collect(),
            bias: bias.int32().collect(),
            weight_scales: weights.scales.clone(),
            output_scale: output.scales[0],
            output_zero_point: output.zero_point,
            sums: None,
            activation: Activation::Linear,
        },
    }
}

/// A detector that hands each sample to the model as it is.
fn detector(model: Model, width: usize) -> DetectorFile {
    let channel = |index| ChannelSpec {
        name: format!("x{index}"),
        unit: String::new(),
        minimum: -1e6,
        maximum: 1e6,
    };
    let feature =
        |channel| Feature { kind: FeatureKind::Samples, channel: channel as u16, parameter: 1 };
    compile(&DetectorSpec {
        name: "lstm".into(),
        rate_hz: 1.0,
        window_len: 1,
        stride: 1,
        channels: (0..width).map(channel).collect(),
        features: (0..width).map(feature).collect(),
        scaler: vec![ScalerEntry { offset: 0.0, gain: 1.0 }; width],
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
    .unwrap()
}

/// Compares every output of every case, bit for bit.
pub(super) fn check_against_tflm(models: &Path) {
    let name = "bench_lstm_ae_32x3_int8";
    let network = autoencoder(&models.join(format!("{name}.tflite")));
    let (steps, width) = (network.steps, network.output.outputs);
    let file = detector(encode_int8(&network, steps).unwrap(), width);
    let detector = file.detector();
    let Engine::RecurrentInt8(engine) = detector.engine() else {
        panic!("an int8 network gave another engine");
    };
    let mut memory = vec![0; engine.memory_words()];
    let mut different = std::collections::BTreeSet::new();
    for case in 0..8 {
        let read = |what: &str| -> Vec<i8> {
            let path = models.join(format!("golden/{name}/case{case}_{what}.bin"));
            std::fs::read(path).unwrap().into_iter().map(u8::cast_signed).collect()
        };
        let (input, expected) = (read("in0"), read("out0.tflm"));
        assert_eq!((input.len(), expected.len()), (steps * width, steps * width));
        let mut found = vec![0; expected.len()];
        engine.reconstruct_quantised(&input, &mut found, &mut memory);
        assert_eq!(found, expected, "case {case}");
        different.extend(expected);
    }
    assert!(different.len() > 50, "the outputs hardly vary");
}
