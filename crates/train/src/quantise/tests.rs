use super::*;
use crate::network::Activation;

fn layer(
    inputs: usize,
    outputs: usize,
    weights: &[f32],
    bias: &[f32],
    activation: Activation,
) -> Layer {
    Layer { inputs, outputs, weights: weights.to_vec(), bias: bias.to_vec(), activation }
}

fn two_layers() -> Network {
    let waves = |count: usize| -> Vec<f32> { (0..count).map(|i| (i as f32 * 1.7).sin()).collect() };
    Network {
        layers: vec![
            layer(6, 9, &waves(54), &waves(9), Activation::Relu),
            layer(9, 4, &waves(36), &waves(4), Activation::Linear),
        ],
    }
}

fn calibration_values() -> Vec<f32> {
    (0..600).map(|i| (i as f32 * 0.37).sin() * 2.0).collect()
}

#[test]
fn weights_and_biases_are_within_half_a_step() {
    let network = two_layers();
    let values = calibration_values();
    let rows = Rows::new(&values, 6).unwrap();
    for scaling in [WeightScaling::PerChannel, WeightScaling::PerTensor] {
        let options = QuantiseOptions { weights: scaling, ..QuantiseOptions::default() };
        let quantised = quantise(&network, rows, &options).unwrap();
        let mut input_scale = quantised.input_scale;
        for (exact, found) in network.layers.iter().zip(&quantised.layers) {
            let per_channel = scaling == WeightScaling::PerChannel;
            let scales = if per_channel { exact.outputs } else { 1 };
            assert_eq!(found.weight_scales.len(), scales);
            for output in 0..exact.outputs {
                let scale = found.weight_scales[output.min(scales - 1)];
                let range = output * exact.inputs..(output + 1) * exact.inputs;
                for (w, steps) in exact.weights[range.clone()].iter().zip(&found.weights[range]) {
                    assert!((w - f32::from(*steps) * scale).abs() <= 0.501 * scale);
                }
                let bias_scale = input_scale * scale;
                let error = exact.bias[output] - found.bias[output] as f32 * bias_scale;
                assert!(error.abs() <= 0.51 * bias_scale, "bias is off by {error}");
            }
            assert!(found.weights.iter().any(|steps| steps.abs() == 127));
            input_scale = found.output_scale;
        }
    }
}

/// Evaluates a quantised network in real numbers, rounding activations to their grid.
fn simulate(network: &QuantisedNetwork, row: &[f32]) -> Vec<f32> {
    let on_grid = |value: f64, scale: f32, zero: i32| {
        let steps = (value / f64::from(scale)).round() + f64::from(zero);
        (steps.clamp(-128.0, 127.0) - f64::from(zero)) * f64::from(scale)
    };
    let (mut scale, zero) = (network.input_scale, network.input_zero_point);
    let mut values: Vec<f64> = row.iter().map(|x| on_grid(f64::from(*x), scale, zero)).collect();
    for layer in &network.layers {
        let neuron = |output: usize| {
            let weight_scale = layer.weight_scales[output.min(layer.weight_scales.len() - 1)];
            let weight_scale = f64::from(weight_scale);
            let weights = &layer.weights[output * layer.inputs..][..layer.inputs];
            let products = weights.iter().zip(&values).map(|(w, x)| f64::from(*w) * x);
            let bias = f64::from(layer.bias[output]) * f64::from(scale);
            let sum = weight_scale * (products.sum::<f64>() + bias);
            let sum = if layer.activation == Activation::Relu { sum.max(0.0) } else { sum };
            on_grid(sum, layer.output_scale, layer.output_zero_point)
        };
        values = (0..layer.outputs).map(neuron).collect();
        scale = layer.output_scale;
    }
    values.into_iter().map(|value| value as f32).collect()
}

#[test]
fn outputs_stay_within_a_few_steps_of_the_float_network() {
    let network = two_layers();
    let values = calibration_values();
    let rows = Rows::new(&values, 6).unwrap();
    let quantised = quantise(&network, rows, &QuantiseOptions::default()).unwrap();
    let step = quantised.layers[1].output_scale;
    for row in rows.iter() {
        for (exact, found) in network.forward(row).iter().zip(simulate(&quantised, row)) {
            assert!((exact - found).abs() < 3.0 * step, "{exact} became {found}");
        }
    }
}

#[test]
fn a_relu_layer_spends_the_whole_range_above_zero() {
    let values = calibration_values();
    let rows = Rows::new(&values, 6).unwrap();
    let quantised = quantise(&two_layers(), rows, &QuantiseOptions::default()).unwrap();
    assert_eq!(quantised.layers[0].output_zero_point, -128);
    // The input reaches from -2 to 2, so zero stands in the middle.
    assert!(quantised.input_zero_point.abs() <= 1);
    assert!((quantised.input_scale - 4.0 / 255.0).abs() < 1e-4);
}

#[test]
fn a_percentile_leaves_outliers_out() {
    let mut values = calibration_values();
    values[17] = 1000.0;
    let rows = Rows::new(&values, 6).unwrap();
    let network = two_layers();
    let full = quantise(&network, rows, &QuantiseOptions::default()).unwrap();
    assert!(full.input_scale > 3.9);
    let options = QuantiseOptions {
        calibration: Calibration::Percentile(0.01),
        ..QuantiseOptions::default()
    };
    let cut = quantise(&network, rows, &options).unwrap();
    assert!(cut.input_scale < 4.1 / 255.0);
    for share in [0.5, -0.1, f32::NAN] {
        let options = QuantiseOptions {
            calibration: Calibration::Percentile(share),
            ..QuantiseOptions::default()
        };
        let error = quantise(&network, rows, &options).unwrap_err();
        assert!(matches!(error, QuantiseError::Share { .. }));
    }
}

#[test]
fn dead_outputs_and_large_biases_stay_representable() {
    // Output 0 is dead, output 1 has a bias without weights, output 2 a bias beyond its weights.
    let network = Network {
        layers: vec![layer(1, 3, &[0.0, 0.0, 1e-9], &[0.0, 5.0, 7.0], Activation::Linear)],
    };
    let values = [0.5, -1.0, 1.0];
    let rows = Rows::new(&values, 1).unwrap();
    let quantised = quantise(&network, rows, &QuantiseOptions::default()).unwrap();
    let most = quantised.layers[0].bias.iter().map(|bias| bias.abs()).max();
    assert!(most.unwrap() <= BIAS_STEPS_MAX + 64);
    for (exact, found) in [0.0, 5.0, 7.0].iter().zip(simulate(&quantised, &[1.0])) {
        assert!((exact - found).abs() < 0.02, "{exact} became {found}");
    }
    // A layer that is zero for all calibration rows still has a legal grid.
    let dead = Network { layers: vec![layer(1, 1, &[0.0], &[-1.0], Activation::Relu)] };
    quantise(&dead, rows, &QuantiseOptions::default()).unwrap();
}

#[test]
fn what_int8_cannot_hold_is_refused() {
    let values = [1.0, 2.0, 3.0];
    let rows = Rows::new(&values, 1).unwrap();
    let options = QuantiseOptions::default();
    let network =
        |weight, activation| Network { layers: vec![layer(1, 1, &[weight], &[0.0], activation)] };
    assert!(matches!(
        quantise(&network(3e38, Activation::Linear), rows, &options),
        Err(QuantiseError::Range { .. })
    ));
    // Infinity times zero, seen in the first of three rows only, is not a number.
    let overflow = Network {
        layers: vec![
            layer(1, 2, &[3e38, -3e38], &[0.0, 0.0], Activation::Linear),
            layer(2, 1, &[1.0, 1.0], &[0.0], Activation::Linear),
        ],
    };
    let rows_once = [2.0, 0.0, 0.1];
    assert!(matches!(
        quantise(&overflow, Rows::new(&rows_once, 1).unwrap(), &options),
        Err(QuantiseError::Range { .. })
    ));
    assert!(matches!(
        quantise(&two_layers(), rows, &options),
        Err(QuantiseError::Width { found: 1, needed: 6 })
    ));
}

#[test]
fn malformed_networks_are_refused() {
    let values = calibration_values();
    let rows = Rows::new(&values, 6).unwrap();
    let refused = |change: fn(&mut Network)| {
        let mut network = two_layers();
        change(&mut network);
        match quantise(&network, rows, &QuantiseOptions::default()) {
            Err(QuantiseError::Network(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let length = |error| matches!(error, NetworkError::Length { .. });
    assert!(length(refused(|n| n.layers[0].weights.truncate(53))));
    assert!(length(refused(|n| n.layers[1].bias.push(0.0))));
    assert_eq!(refused(|n| n.layers.clear()), NetworkError::Empty);
    assert!(matches!(
        refused(|n| n.layers[1] = layer(8, 1, &[0.0; 8], &[0.0], Activation::Linear)),
        NetworkError::Chain { .. }
    ));
    assert!(matches!(refused(|n| n.layers[0].outputs = 0), NetworkError::Width { .. }));
    assert!(matches!(refused(|n| n.layers[0].outputs = usize::MAX), NetworkError::Width { .. }));
    assert!(matches!(refused(|n| n.layers[0].bias[2] = f32::INFINITY), NetworkError::Value { .. }));
    assert!(matches!(
        refused(|n| n.layers = vec![n.layers[0].clone(); 65]),
        NetworkError::TooDeep { .. }
    ));
}

#[test]
fn tables_are_the_functions_within_a_step() {
    // Bit for bit they are compared in tests/oracles.rs, with TensorFlow Lite Micro itself.
    for scale in [0.000_7, 0.003, 0.02, 0.05, 0.1, 0.33, 1.7] {
        for zero_point in [-128, -17, 0, 90, 127] {
            let grid = Grid { scale, zero_point };
            let value = |steps: i32| f64::from(scale) * f64::from(steps - zero_point);
            let tanh = activation_table(Activation::Tanh, grid).unwrap();
            let logistic = activation_table(Activation::Logistic, grid).unwrap();
            for (steps, (tanh, logistic)) in (-128..).zip(tanh.iter().zip(&logistic)) {
                let x = value(steps);
                let exact = (128.0 * x.tanh()).min(127.0);
                assert!((f64::from(*tanh) - exact).abs() <= 1.0, "tanh({x}) became {tanh}");
                let exact = (256.0 / (1.0 + (-x).exp()) - 128.0).min(127.0);
                let off = (f64::from(*logistic) - exact).abs();
                assert!(off <= 1.0, "logistic({x}) became {logistic}");
            }
        }
    }
    let grid = Grid { scale: 0.1, zero_point: 0 };
    assert_eq!(activation_table(Activation::Linear, grid), None);
    assert_eq!(activation_table(Activation::Relu, grid), None);
}

#[test]
fn smooth_activations_take_the_grids_of_tensorflow_lite() {
    let network = Network {
        layers: vec![
            layer(6, 9, &[0.2; 54], &[0.1; 9], Activation::Tanh),
            layer(9, 4, &[0.1; 36], &[0.0; 4], Activation::Logistic),
        ],
    };
    let values = calibration_values();
    let rows = Rows::new(&values, 6).unwrap();
    let quantised = quantise(&network, rows, &QuantiseOptions::default()).unwrap();
    let outputs: Vec<_> = quantised.layers.iter().map(QuantisedLayer::output).collect();
    assert_eq!(outputs[0], Grid { scale: 1.0 / 128.0, zero_point: 0 });
    assert_eq!(outputs[1], Grid { scale: 1.0 / 256.0, zero_point: -128 });
    // The grid of the weighted sums spans what they were.
    let sums = values.chunks(6).map(|row| 0.2 * row.iter().sum::<f32>() + 0.1);
    let (low, high) = sums.fold((0.0_f32, 0.0_f32), |(l, h), sum| (l.min(sum), h.max(sum)));
    let found = quantised.layers[0].sums.unwrap();
    assert!((found.scale * 255.0 - (high - low)).abs() < 1e-4, "{found:?}");
}
