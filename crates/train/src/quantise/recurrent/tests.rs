use super::*;
use crate::evaluate::roc_auc;
use crate::fit::recurrent::encode::tests::{
    Verdict, assert_streams_equal_windows, detector, random_network, stream, waves,
};
use crate::fit::recurrent::encode::{encode, encode_int8};
use crate::quantise::WeightScaling;
use crate::random::Random;

fn quantised(network: &RecurrentNetwork, values: &[f32]) -> QuantisedRecurrentNetwork {
    let rows = Rows::new(values, network.output.outputs).unwrap();
    quantise_recurrent(network, rows, &[0], &QuantiseOptions::default()).unwrap()
}

#[test]
fn int8_lanes_equal_whole_windows_bit_for_bit() {
    for cell in [Cell::Lstm, Cell::Gru] {
        for hop in [12, 4, 1] {
            let layers: [&[usize]; 2] = [&[5, 3], &[4, 2]];
            let network = random_network(Form::Staggered, cell, 12, 3, layers, 7);
            let values = waves(240, 3, 8);
            let int8 = quantised(&network, &values);
            let file = detector(encode_int8(&int8, hop).unwrap(), 3).unwrap();
            assert_streams_equal_windows(&file, &waves(120, 3, 9));
        }
    }
}

fn root_mean_square(values: impl Iterator<Item = f32> + Clone) -> f32 {
    (values.clone().map(|x| x * x).sum::<f32>() / values.count() as f32).sqrt()
}

/// The verdicts of both arithmetics over a stream like the one that was calibrated with.
fn both(network: &RecurrentNetwork, width: usize) -> [Vec<Verdict>; 2] {
    let int8 = quantised(network, &waves(400, width, 1));
    let models = [encode(network, network.steps), encode_int8(&int8, network.steps)];
    models
        .map(|model| stream(&detector(model.unwrap(), width).unwrap(), &waves(400, width, 2), &[]))
}

#[test]
fn int8_follows_the_float_network() {
    for (form, decoder) in [(Form::Staggered, &[6, 8][..]), (Form::Stateful, &[][..])] {
        for cell in [Cell::Lstm, Cell::Gru] {
            let network = random_network(form, cell, 16, 2, [&[8, 6], decoder], 3);
            let [float, int8] = both(&network, 2);
            assert_eq!(float.len(), int8.len());
            let pairs = float.iter().zip(&int8);
            let apart = pairs.flat_map(|(a, b)| {
                a.reconstruction.iter().zip(&b.reconstruction).map(|(a, b)| a - b)
            });
            let signal = float.iter().flat_map(|verdict| verdict.reconstruction.iter().copied());
            let (apart, signal) = (root_mean_square(apart), root_mean_square(signal));
            assert!(apart < 0.03 * signal, "{form:?} {cell:?}: {apart} of {signal}");
        }
    }
}

/// The network by hand of a sine's forecast: x(t + 1) = 2 cos(w) x(t) - x(t - 1) needs two units that
/// stay where tanh is straight; their gates stand open or shut.
fn forecaster_of_sines(w: f32) -> RecurrentNetwork {
    const OPEN: f32 = 6.0;
    const SMALL: f32 = 0.05;
    let units = 2;
    let mut input_weights = vec![0.0; 4 * units];
    let mut recurrent_weights = vec![0.0; 4 * units * units];
    let mut input_bias = vec![0.0; 4 * units];
    for unit in 0..units {
        input_bias[unit] = OPEN;
        input_bias[units + unit] = -OPEN;
        input_bias[3 * units + unit] = OPEN;
    }
    // Unit 0 takes the input, unit 1 what unit 0 had.
    input_weights[2 * units] = SMALL;
    recurrent_weights[(2 * units + 1) * units] = 1.0;
    RecurrentNetwork {
        form: Form::Stateful,
        cell: Cell::Lstm,
        steps: 8,
        encoder: vec![RecurrentLayer {
            inputs: 1,
            units,
            input_weights,
            recurrent_weights,
            input_bias,
            recurrent_bias: Vec::new(),
        }],
        decoder: Vec::new(),
        output: crate::network::Layer {
            inputs: units,
            outputs: 1,
            weights: vec![2.0 * w.cos() / SMALL, -1.0 / SMALL],
            bias: vec![0.0],
            activation: crate::network::Activation::Linear,
        },
    }
}

#[test]
fn int8_detects_as_the_float_network_does() {
    const W: f64 = 0.3;
    let network = forecaster_of_sines(W as f32);
    let mut random = Random::new(4);
    // Bursts of noise upon a sine, every other block of eight.
    let mut wave = |count: usize, burst: f64| -> Vec<f32> {
        (0..count)
            .map(|t| {
                let noise = if (t / 8) % 2 == 1 { burst } else { 0.02 };
                ((W * t as f64).sin() + noise * random.normal()) as f32
            })
            .collect()
    };
    let (normal, mixed) = (wave(800, 0.02), wave(8_000, 0.06));
    let models = [
        encode(&network, network.steps).unwrap(),
        encode_int8(&quantised(&network, &normal), network.steps).unwrap(),
    ];
    let [float, int8] = models.map(|model| {
        let verdicts = stream(&detector(model, 1).unwrap(), &mixed, &[]);
        let scores: Vec<f64> = verdicts.iter().map(|v| f64::from(v.residuals[0])).collect();
        let labels: Vec<bool> = verdicts.iter().map(|v| (v.at / 8) % 2 == 1).collect();
        roc_auc(&scores, &labels).unwrap()
    });
    assert!(float > 0.9 && float < 0.999, "{float}");
    assert!((float - int8).abs() < 0.01, "{float} in f32, {int8} in int8");
}

#[test]
fn scales_are_those_of_tensorflow_lite() {
    assert_eq!(
        [0.0, 0.7, 1.0, 1.01, 2.0, 5.0, 1.0e9].map(cell_power),
        [-15, -15, -15, -14, -14, -12, 0]
    );
    let network = random_network(Form::Staggered, Cell::Lstm, 4, 2, [&[3], &[3]], 5);
    let options =
        QuantiseOptions { weights: WeightScaling::PerTensor, ..QuantiseOptions::default() };
    let values = waves(64, 2, 6);
    let rows = Rows::new(&values, 2).unwrap();
    let int8 = quantise_recurrent(&network, rows, &[0, 32], &options).unwrap();
    let layer = &int8.encoder[0];
    assert_eq!((layer.input_weight_scales.len(), int8.output.weight_scales.len()), (4, 1));
    for (gate, scale) in layer.recurrent_weight_scales.iter().enumerate() {
        let matrix = &network.encoder[0].recurrent_weights[gate * 9..][..9];
        let greatest = matrix.iter().fold(0.0_f32, |most, weight| most.max(weight.abs()));
        assert_eq!(*scale, greatest / 127.0);
        assert!(layer.recurrent_weights[gate * 9..][..9].iter().any(|w| w.abs() == 127));
    }
    let short = quantise_recurrent(&network, Rows::new(&values[..6], 2).unwrap(), &[0], &options);
    assert_eq!(short.unwrap_err(), QuantiseError::Short { longest: 3, steps: 4 });
}
