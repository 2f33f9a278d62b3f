use core::ops::ControlFlow;

use super::trainer::Trainer;
use super::*;
use crate::network::Layer;
use crate::random::Random;

/// Smooth rows of `width` columns that two factors explain.
fn rows(count: usize, width: usize) -> Vec<f32> {
    (0..count * width)
        .map(|index| {
            let (row, column) = ((index / width) as f32, (index % width) as f32);
            (row * 0.7 + column * 0.5).sin() + 0.5 * (row * 0.31 - column).cos()
        })
        .collect()
}

fn quietly(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn options(epochs: usize) -> FitOptions {
    FitOptions { epochs, batch: 16, learning_rate: 5e-3, ..FitOptions::default() }
}

/// A parameter of one layer, moved by a little.
#[derive(Clone, Copy)]
struct Moved {
    layer: usize,
    /// Counts the weights, then the biases.
    parameter: usize,
    by: f64,
}

/// Mean squared error in f64, written as plainly as can be.
fn loss(network: &Network, moved: Option<Moved>, inputs: Rows<'_>, targets: Rows<'_>) -> f64 {
    let mut total = 0.0;
    for (input, target) in inputs.iter().zip(targets.iter()) {
        let mut values: Vec<f64> = input.iter().copied().map(f64::from).collect();
        for (index, layer) in network.layers.iter().enumerate() {
            let moved = moved.filter(|moved| moved.layer == index);
            values = (0..layer.outputs)
                .map(|output| plain_neuron(layer, output, moved, &values))
                .collect();
        }
        let errors = values.iter().zip(target).map(|(y, t)| y - f64::from(*t));
        total += errors.map(|error| error * error).sum::<f64>();
    }
    total / (inputs.len() * targets.width()) as f64
}

fn plain_neuron(layer: &Layer, output: usize, moved: Option<Moved>, values: &[f64]) -> f64 {
    let parameter = |at: usize, value: f32| {
        let moved = moved.filter(|moved| moved.parameter == at);
        f64::from(value) + moved.map_or(0.0, |moved| moved.by)
    };
    let first = output * layer.inputs;
    let weight = |input: usize| parameter(first + input, layer.weights[first + input]);
    let products = values.iter().enumerate().map(|(i, x)| weight(i) * x);
    let sum = products.sum::<f64>() + parameter(layer.weights.len() + output, layer.bias[output]);
    match layer.activation {
        Activation::Linear => sum,
        Activation::Relu => sum.max(0.0),
        Activation::Tanh => sum.tanh(),
        Activation::Logistic => 1.0 / (1.0 + (-sum).exp()),
    }
}

/// Compares every gradient with a central difference of the plain loss.
fn check_gradients(widths: &[usize], hidden: Activation, output: Activation) {
    const BATCH: usize = 13;
    /// So small that hardly any step crosses the bend of a ReLU.
    const STEP: f64 = 1e-7;
    let architecture = Architecture { widths: widths.to_vec(), hidden, output };
    let (first, last) = (widths[0], widths[widths.len() - 1]);
    let (input_values, target_values) = (rows(BATCH, first), rows(BATCH, last));
    let inputs = Rows::new(&input_values, first).unwrap();
    let targets = Rows::new(&target_values, last).unwrap();
    let mut trainer = Trainer::new(&architecture, BATCH, &mut Random::new(3));
    // With biases at zero a layer whose inputs are all zero stands on the bend of its ReLU.
    trainer.raise_biases(0.05);
    let order: Vec<u32> = (0..BATCH as u32).collect();
    let squares = trainer.accumulate(inputs, targets, &order);
    let network = trainer.snapshot();
    let exact = loss(&network, None, inputs, targets);
    let found = squares / (BATCH * last) as f64;
    assert!((found - exact).abs() < 1e-5 * exact, "{found} is not {exact}");

    let gradients = trainer.gradients();
    for (index, layer) in gradients.layers.iter().enumerate() {
        let analytic = layer.weights.iter().chain(&layer.bias);
        for (parameter, analytic) in analytic.enumerate() {
            let at = |by: f64| {
                let layer = index;
                let moved = Moved { layer, parameter, by };
                loss(&network, Some(moved), inputs, targets)
            };
            let numeric = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            assert!(
                (f64::from(*analytic) - numeric).abs() < 1e-6 + 1e-5 * numeric.abs(),
                "{hidden:?} layer {index} parameter {parameter}: {analytic}, numerically {numeric}"
            );
        }
    }
}

#[test]
fn gradients_match_central_differences() {
    for activation in [Activation::Linear, Activation::Relu, Activation::Tanh, Activation::Logistic]
    {
        check_gradients(&[5, 9, 3, 17, 4], activation, Activation::Linear);
        check_gradients(&[16, 32, 8, 16], activation, activation);
        check_gradients(&[1, 1], activation, activation);
    }
}

#[test]
fn one_step_of_adam_moves_each_parameter_by_the_learning_rate() {
    // With bias correction the first step is lr * g / (|g| + epsilon): the sign of g times lr.
    let values = rows(16, 4);
    let table = Rows::new(&values, 4).unwrap();
    let architecture = Architecture::autoencoder(4, &[3]);
    let mut options = options(1);
    options.validation_share = 0.0;
    let start = initial_network(&architecture, options.seed).unwrap();
    let fitted = fit_autoencoder(&architecture, table, &options, quietly).unwrap();
    let pairs = |network: &Network| -> Vec<f32> {
        let layers = network.layers.iter();
        layers.flat_map(|layer| layer.weights.iter().chain(&layer.bias)).copied().collect()
    };
    let (before, after) = (pairs(&start), pairs(&fitted.network));
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    assert!(moved > before.len() / 2, "only {moved} moved");
    for (a, b) in before.iter().zip(&after) {
        let by = (a - b).abs();
        assert!(by == 0.0 || (by - 5e-3).abs() < 1e-5, "moved by {by}");
    }
}

#[test]
fn an_autoencoder_learns_and_the_seed_decides_every_bit() {
    let values = rows(600, 8);
    let table = Rows::new(&values, 8).unwrap();
    let architecture = Architecture::autoencoder(8, &[12, 4]);
    let fitted = fit_autoencoder(&architecture, table, &options(60), quietly).unwrap();
    let first = fitted.history[0].validation_loss.unwrap();
    let best = fitted.history[fitted.best_epoch - 1].validation_loss.unwrap();
    assert!(best < 0.05 * first, "from {first} to {best}");
    fitted.network.check().unwrap();

    let again = fit_autoencoder(&architecture, table, &options(60), quietly).unwrap();
    assert_eq!(again, fitted);
    let other = FitOptions { seed: 1, ..options(60) };
    let other = fit_autoencoder(&architecture, table, &other, quietly).unwrap();
    assert_ne!(other.network, fitted.network);
}

#[test]
fn the_best_epoch_is_restored_and_patience_stops() {
    let values = rows(200, 6);
    let table = Rows::new(&values, 6).unwrap();
    let architecture = Architecture::autoencoder(6, &[8, 2]);
    let impatient = FitOptions { patience: Some(2), learning_rate: 0.1, ..options(400) };
    let fitted = fit_autoencoder(&architecture, table, &impatient, quietly).unwrap();
    assert_eq!(fitted.ending, Ending::Patience);
    assert_eq!(fitted.history.len(), fitted.best_epoch + 2);
    let losses = fitted.history.iter().map(|now| now.validation_loss.unwrap());
    let lowest = losses.fold(f64::INFINITY, f64::min);
    let kept = Rows::new(&values[160 * 6..], 6).unwrap();
    let restored = loss(&fitted.network, None, kept, kept);
    assert!((restored - lowest).abs() < 1e-5 * lowest, "{restored}, {lowest}");
}

#[test]
fn the_callback_sees_each_epoch_and_can_break_off() {
    let values = rows(100, 4);
    let table = Rows::new(&values, 4).unwrap();
    let mut seen = Vec::new();
    let fitted = fit_autoencoder(&Architecture::autoencoder(4, &[2]), table, &options(50), |now| {
        seen.push(now);
        if now.epoch == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(fitted.ending, Ending::Callback);
    assert_eq!(fitted.history, seen);
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_regression_reaches_a_known_line() {
    let inputs: Vec<f32> = (0..400).map(|x| (x as f32 * 0.37).sin()).collect();
    let targets: Vec<f32> = inputs.iter().map(|x| 2.0 * x - 0.5).collect();
    let architecture =
        Architecture { widths: vec![1, 1], hidden: Activation::Relu, output: Activation::Linear };
    let options = FitOptions { patience: None, ..options(300) };
    let fitted = fit_regression(
        &architecture,
        Rows::new(&inputs, 1).unwrap(),
        Rows::new(&targets, 1).unwrap(),
        &options,
        quietly,
    )
    .unwrap();
    let layer = &fitted.network.layers[0];
    assert!((layer.weights[0] - 2.0).abs() < 1e-3, "{layer:?}");
    assert!((layer.bias[0] + 0.5).abs() < 1e-3, "{layer:?}");
}

#[test]
fn a_rate_too_high_says_what_to_change() {
    let values: Vec<f32> = rows(64, 4).iter().map(|x| x * 1e18).collect();
    let table = Rows::new(&values, 4).unwrap();
    let reckless = FitOptions { learning_rate: 1e20, ..options(50) };
    let error = fit_autoencoder(&Architecture::autoencoder(4, &[4]), table, &reckless, quietly)
        .unwrap_err();
    assert!(matches!(error, FitError::Diverged { .. }));
    let text = error.to_string();
    assert!(text.contains("learning rate") && text.contains("scale"), "{text}");
}

#[test]
fn tables_and_options_that_do_not_fit_are_refused() {
    let values = rows(10, 4);
    let table = Rows::new(&values, 4).unwrap();
    let narrow = Rows::new(&values, 2).unwrap();
    let architecture = Architecture::autoencoder(4, &[2]);
    let fit = |inputs, targets, options: &FitOptions| {
        fit_regression(&architecture, inputs, targets, options, quietly).unwrap_err()
    };
    assert!(matches!(fit(narrow, table, &options(1)), FitError::Width { table: "input", .. }));
    assert!(matches!(fit(table, narrow, &options(1)), FitError::Width { table: "target", .. }));
    let fewer = Rows::new(&values[4..], 4).unwrap();
    assert!(matches!(fit(table, fewer, &options(1)), FitError::Pairs { .. }));
    type Change = fn(&mut FitOptions);
    let changes: [(&str, Change); 8] = [
        ("epochs", |o| o.epochs = 0),
        ("batch", |o| o.batch = 0),
        ("learning_rate", |o| o.learning_rate = f32::NAN),
        ("beta1", |o| o.beta1 = 1.0),
        ("beta2", |o| o.beta2 = -0.1),
        ("epsilon", |o| o.epsilon = 0.0),
        ("patience", |o| o.patience = Some(0)),
        ("validation_share", |o| o.validation_share = 1.0),
    ];
    for (name, change) in changes {
        let mut options = options(1);
        change(&mut options);
        match fit(table, table, &options) {
            FitError::Option { option, .. } => assert_eq!(option, name),
            other => panic!("{name}: {other}"),
        }
    }
    let single = Rows::new(&values[..4], 4).unwrap();
    assert!(matches!(fit(single, single, &options(1)), FitError::Split { .. }));
    let empty = Architecture { widths: vec![4], ..architecture.clone() };
    assert_eq!(
        fit_autoencoder(&empty, table, &options(1), quietly),
        Err(FitError::Network(NetworkError::Empty))
    );
}

#[test]
fn rows_name_the_value_that_is_not_finite() {
    let mut values = rows(10, 4);
    values[23] = f32::NAN;
    let error = Rows::new(&values, 4).unwrap_err();
    assert!(error.to_string().starts_with("row 5, column 3 holds NaN"));
    assert!(matches!(Rows::new(&values[..5], 4), Err(RowsError::Ragged { .. })));
    assert!(matches!(Rows::new(&[], 4), Err(RowsError::Empty { .. })));
}

#[test]
fn shuffling_keeps_every_row_and_moves_most() {
    let mut order: Vec<u32> = (0..1000).collect();
    trainer::shuffle(&mut order, &mut Random::new(7));
    let kept = (0..).zip(&order).filter(|(index, value)| index == *value);
    assert!(kept.count() < 10);
    order.sort_unstable();
    assert!(order.iter().copied().eq(0..1000));
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let (input_values, target_values) = (rows(40, 11), rows(40, 5));
    let inputs = Rows::new(&input_values, 11).unwrap();
    let targets = Rows::new(&target_values, 5).unwrap();
    let order: Vec<u32> = (0..40).collect();
    for hidden in [Activation::Relu, Activation::Tanh, Activation::Logistic] {
        let architecture =
            Architecture { widths: vec![11, 37, 9, 5], hidden, output: Activation::Linear };
        let trained = |scalar: bool| {
            let mut trainer = Trainer::new(&architecture, 16, &mut Random::new(11));
            if scalar {
                trainer.use_scalar_instructions();
            }
            for _ in 0..20 {
                for batch in order.chunks(16) {
                    trainer.train(inputs, targets, batch, &options(1));
                }
            }
            trainer.snapshot()
        };
        assert_eq!(trained(true), trained(false), "{hidden:?}");
    }
}
