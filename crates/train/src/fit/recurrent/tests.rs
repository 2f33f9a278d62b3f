use core::ops::ControlFlow;

use super::network::RecurrentLayer;
use super::plan::Plan;
use super::shard::{Piece, Shard};
use super::*;
use crate::random::Random;

/// Smooth rows of `width` columns with a little noise.
fn rows(count: usize, width: usize) -> Vec<f32> {
    let mut random = Random::new(5);
    (0..count * width)
        .map(|index| {
            let (row, column) = ((index / width) as f32, (index % width) as f32);
            (row * 0.4 + column).sin() + 0.05 * random.normal() as f32
        })
        .collect()
}

fn quietly(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn architecture(form: Form, cell: Cell, inputs: usize, encoder: &[usize]) -> RecurrentArchitecture {
    let output = Activation::Linear;
    RecurrentArchitecture { form, cell, inputs, encoder: encoder.to_vec(), steps: 6, output }
}

fn options(epochs: usize) -> RecurrentFitOptions {
    let fit = FitOptions { epochs, batch: 16, learning_rate: 5e-3, ..FitOptions::default() };
    RecurrentFitOptions { fit, clip_norm: Some(1.0) }
}

/// A network in f64, written as plainly as can be, with its parameters in one vector.
struct Plain<'a> {
    network: &'a RecurrentNetwork,
    parameters: Vec<f64>,
}

/// Of each recurrent layer the hidden state and the cell state.
type States = Vec<(Vec<f64>, Vec<f64>)>;

impl<'a> Plain<'a> {
    fn new(network: &'a RecurrentNetwork) -> Self {
        Self { network, parameters: flat(network).into_iter().map(f64::from).collect() }
    }

    fn layers(&self) -> impl Iterator<Item = &'a RecurrentLayer> {
        self.network.encoder.iter().chain(&self.network.decoder)
    }

    fn start(&self) -> States {
        self.layers().map(|layer| (vec![0.0; layer.units], vec![0.0; layer.units])).collect()
    }

    /// Where the parameters of layer `index` begin; behind the last, those of the output.
    fn offset(&self, index: usize) -> usize {
        self.layers().take(index).map(|layer| flat_layer(layer).len()).sum()
    }

    /// One step of layer `index`; returns the new hidden state.
    fn step(&self, index: usize, input: &[f64], state: &mut (Vec<f64>, Vec<f64>)) -> Vec<f64> {
        let layer = self.layers().nth(index).unwrap();
        let (units, rows) = (layer.units, layer.input_bias.len());
        let parameters = &self.parameters[self.offset(index)..];
        let (input_weights, rest) = parameters.split_at(rows * layer.inputs);
        let (recurrent_weights, rest) = rest.split_at(rows * units);
        let (input_bias, rest) = rest.split_at(rows);
        let of_input =
            |row: usize| dot(&input_weights[row * layer.inputs..], input) + input_bias[row];
        let of_state = |row: usize, before: &[f64]| dot(&recurrent_weights[row * units..], before);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let before = state.0.clone();
        for unit in 0..units {
            let sum = |gate: usize| {
                of_input(gate * units + unit) + of_state(gate * units + unit, &before)
            };
            match self.network.cell {
                Cell::Lstm => {
                    state.1[unit] =
                        sigmoid(sum(1)) * state.1[unit] + sigmoid(sum(0)) * sum(2).tanh();
                    state.0[unit] = sigmoid(sum(3)) * state.1[unit].tanh();
                }
                Cell::Gru => {
                    let (reset, update) = (sigmoid(sum(0)), sigmoid(sum(1)));
                    let row = 2 * units + unit;
                    let candidate =
                        (of_input(row) + reset * (of_state(row, &before) + rest[row])).tanh();
                    state.0[unit] = (1.0 - update) * candidate + update * before[unit];
                }
            }
        }
        state.0.clone()
    }

    fn output(&self, input: &[f64]) -> Vec<f64> {
        let output = &self.network.output;
        let weights = &self.parameters[self.offset(self.layers().count())..];
        let bias = &weights[output.weights.len()..];
        let sum = |row: usize| dot(&weights[row * output.inputs..], input) + bias[row];
        let sums = (0..output.outputs).map(sum);
        match output.activation {
            Activation::Tanh => sums.map(f64::tanh).collect(),
            _ => sums.collect(),
        }
    }

    /// Outputs of a sequence, state carried on.
    fn run(&self, inputs: &[Vec<f64>], states: &mut States) -> Vec<Vec<f64>> {
        let encoder_len = self.network.encoder.len();
        let mut tops = Vec::new();
        for input in inputs {
            let mut values = input.clone();
            for (index, state) in states.iter_mut().enumerate().take(encoder_len) {
                values = self.step(index, &values, state);
            }
            tops.push(values);
        }
        if self.network.form == Form::Staggered {
            let code = tops.last().unwrap().clone();
            for top in &mut tops {
                top.clone_from(&code);
                for (index, state) in states.iter_mut().enumerate().skip(encoder_len) {
                    *top = self.step(index, top, state);
                }
            }
        }
        tops.iter().map(|top| self.output(top)).collect()
    }
}

fn dot(weights: &[f64], values: &[f64]) -> f64 {
    weights.iter().zip(values).map(|(weight, value)| weight * value).sum()
}

fn flat_layer(layer: &RecurrentLayer) -> Vec<f32> {
    [&layer.input_weights[..], &layer.recurrent_weights, &layer.input_bias, &layer.recurrent_bias]
        .concat()
}

fn flat(network: &RecurrentNetwork) -> Vec<f32> {
    let layers = network.encoder.iter().chain(&network.decoder);
    let mut all: Vec<f32> = layers.flat_map(flat_layer).collect();
    all.extend(&network.output.weights);
    all.extend(&network.output.bias);
    all
}

/// Which of [`flat`]'s numbers are bound to zero: a GRU's second bias of the reset and update gates.
fn is_held(network: &RecurrentNetwork) -> Vec<bool> {
    let mut held = Vec::new();
    for layer in network.encoder.iter().chain(&network.decoder) {
        let start = held.len();
        held.resize(start + flat_layer(layer).len(), false);
        if network.cell == Cell::Gru {
            let end = held.len() - layer.units;
            held[end - 2 * layer.units..end].fill(true);
        }
    }
    held.resize(flat(network).len(), false);
    held
}

/// The rows of a piece, as inputs or `ahead` as targets.
fn piece_rows(table: Rows<'_>, piece: &Piece, ahead: usize) -> Vec<Vec<f64>> {
    let rows = piece.first + ahead..piece.first + ahead + piece.len;
    rows.map(|row| table.row(row).iter().copied().map(f64::from).collect()).collect()
}

/// Mean squared error of what counts in the pieces, each from its state.
fn plain_loss(plain: &Plain<'_>, table: Rows<'_>, pieces: &[(Piece, States)], ahead: usize) -> f64 {
    let (mut total, mut count) = (0.0, 0);
    for (piece, states) in pieces {
        let outputs = plain.run(&piece_rows(table, piece, 0), &mut states.clone());
        let targets = piece_rows(table, piece, ahead);
        for step in piece.counted.clone() {
            for (output, target) in outputs[step].iter().zip(&targets[step]) {
                total += (output - target) * (output - target);
                count += 1;
            }
        }
    }
    total / f64::from(count)
}

/// Compares every gradient with a central difference of the plain loss, over the second of two chunks
/// when the form carries state.
fn check_gradients(architecture: &RecurrentArchitecture, pieces: &[Piece]) {
    const STEP: f64 = 1e-5;
    const ROWS: usize = 8;
    let values = rows(60, architecture.inputs);
    let table = Rows::new(&values, architecture.inputs).unwrap();
    let plan = Plan::new(architecture);
    let mut parameters = plan.initial(&mut Random::new(3));
    let mut shard = Shard::new(Arch::new(), &plan, ROWS);
    // One step along a gradient, so that biases are not zero.
    let counted: usize = pieces.iter().map(|piece| piece.counted.len()).sum();
    let scale = 2.0 / (counted * architecture.inputs) as f32;
    let ahead = usize::from(architecture.form == Form::Stateful);
    let mut turned = vec![0.0; plan.turned_len];
    let mut run = |parameters: &[f32], pieces: &[Piece], carry: bool| {
        plan.turn(parameters, &mut turned);
        shard.load(&plan, table, pieces, ahead, carry);
        shard.forward(&plan, parameters, scale);
        shard.backward(&plan, &turned);
        let mut gradients = shard.gradients.clone();
        plan.mask(&mut gradients);
        (shard.squares, gradients)
    };
    let (_, gradients) = run(&parameters, pieces, false);
    for (parameter, gradient) in parameters.iter_mut().zip(&gradients) {
        *parameter -= 0.3 * gradient;
    }

    let network = plan.network(&parameters);
    let mut plain = Plain::new(&network);
    let mut from: Vec<_> = pieces.iter().map(|piece| (piece.clone(), plain.start())).collect();
    let (mut squares, mut gradients) = run(&parameters, pieces, false);
    if architecture.form == Form::Stateful {
        for (piece, states) in &mut from {
            plain.run(&piece_rows(table, piece, 0), states);
            piece.first += piece.len;
        }
        let next: Vec<Piece> = from.iter().map(|(piece, _)| piece.clone()).collect();
        (squares, gradients) = run(&parameters, &next, true);
    }
    let exact = plain_loss(&plain, table, &from, ahead);
    let found = squares / (counted * architecture.inputs) as f64;
    assert!((found - exact).abs() < 1e-5 * exact, "{found} is not {exact}");

    let analytic = flat(&plan.network(&gradients));
    for (index, held) in is_held(&network).into_iter().enumerate() {
        if held {
            continue;
        }
        let centre = plain.parameters[index];
        let mut at = |by: f64| {
            plain.parameters[index] = centre + by;
            plain_loss(&plain, table, &from, ahead)
        };
        let numeric = (at(STEP) - at(-STEP)) / (2.0 * STEP);
        plain.parameters[index] = centre;
        let analytic = f64::from(analytic[index]);
        assert!(
            (analytic - numeric).abs() < 1e-6 + 2e-5 * numeric.abs(),
            "{:?} {:?} parameter {index}: {analytic}, numerically {numeric}",
            architecture.form,
            architecture.cell
        );
    }
}

#[test]
fn gradients_of_autoencoders_match_central_differences() {
    let pieces: Vec<Piece> = [0, 22, 47].map(|first| Piece { first, len: 6, counted: 0..6 }).into();
    for cell in [Cell::Lstm, Cell::Gru] {
        for encoder in [&[5][..], &[9, 8], &[10, 3, 2]] {
            check_gradients(&architecture(Form::Staggered, cell, 3, encoder), &pieces);
        }
        let single = architecture(Form::Staggered, cell, 1, &[1]);
        check_gradients(&RecurrentArchitecture { output: Activation::Tanh, ..single }, &pieces);
    }
}

#[test]
fn gradients_of_forecasters_match_central_differences() {
    // Of the first only the last steps count, and the second ends early, as at the end of a stream.
    let pieces = [
        Piece { first: 3, len: 6, counted: 4..6 },
        Piece { first: 20, len: 5, counted: 0..5 },
        Piece { first: 41, len: 6, counted: 0..6 },
    ];
    for cell in [Cell::Lstm, Cell::Gru] {
        check_gradients(&architecture(Form::Stateful, cell, 3, &[5]), &pieces[..1]);
        // With state carried no sequence goes on behind its end, so all have six steps here.
        check_gradients(&architecture(Form::Stateful, cell, 2, &[16, 3]), &pieces[2..]);
    }
}

#[test]
fn steps_behind_the_end_of_a_sequence_change_nothing() {
    let architecture = architecture(Form::Stateful, Cell::Lstm, 2, &[4]);
    let values = rows(60, 2);
    let table = Rows::new(&values, 2).unwrap();
    let plan = Plan::new(&architecture);
    let parameters = plan.initial(&mut Random::new(3));
    let mut turned = vec![0.0; plan.turned_len];
    plan.turn(&parameters, &mut turned);
    let gradients = |before: &[Piece], pieces: &[Piece]| {
        let mut shard = Shard::new(Arch::new(), &plan, 4);
        for pieces in [before, pieces] {
            shard.load(&plan, table, pieces, 1, false);
            shard.forward(&plan, &parameters, 0.1);
            shard.backward(&plan, &turned);
        }
        shard.gradients
    };
    let whole = Piece { first: 30, len: 6, counted: 0..6 };
    let short =
        [Piece { first: 3, len: 4, counted: 2..4 }, Piece { first: 9, len: 0, counted: 0..0 }];
    let fresh = gradients(&[], &short);
    let stale = gradients(&[whole.clone(), whole.clone(), whole], &short);
    assert_eq!(fresh, stale);
}

#[test]
fn threads_and_instruction_sets_do_not_change_a_bit() {
    let values = rows(400, 3);
    let table = Rows::new(&values, 3).unwrap();
    let mut options = options(3);
    options.fit.batch = 21;
    for (form, cell) in [
        (Form::Staggered, Cell::Lstm),
        (Form::Staggered, Cell::Gru),
        (Form::Stateful, Cell::Lstm),
        (Form::Stateful, Cell::Gru),
    ] {
        let architecture = architecture(form, cell, 3, &[11, 4]);
        let fit = |threads: usize, arch: Arch| {
            let starts = [0, 150];
            trainer::fit(&architecture, table, &starts, &options, threads, arch, &mut quietly)
                .unwrap()
        };
        let one = fit(1, Arch::new());
        for threads in [2, 3, 8] {
            assert_eq!(fit(threads, Arch::new()), one, "{form:?} {cell:?} on {threads} threads");
        }
        assert_eq!(fit(1, Arch::Scalar), one, "{form:?} {cell:?} without vectors");
    }
}

#[test]
fn both_forms_learn_and_the_best_epoch_is_kept() {
    let values = rows(1_200, 2);
    let table = Rows::new(&values, 2).unwrap();
    for (form, cell) in [
        (Form::Staggered, Cell::Lstm),
        (Form::Staggered, Cell::Gru),
        (Form::Stateful, Cell::Lstm),
        (Form::Stateful, Cell::Gru),
    ] {
        let architecture = architecture(form, cell, 2, &[8]);
        let fitted = fit_recurrent(&architecture, table, &[0], &options(60), 2, quietly).unwrap();
        let losses: Vec<f64> =
            fitted.history.iter().map(|now| now.validation_loss.unwrap()).collect();
        let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(lowest < 0.1 * losses[0], "{form:?} {cell:?}: from {} to {lowest}", losses[0]);
        assert_eq!(losses[fitted.best_epoch - 1], lowest);
    }
}

#[test]
fn the_kept_weights_have_the_best_validation_loss() {
    let values = rows(300, 2);
    let table = Rows::new(&values, 2).unwrap();
    let mut options = options(200);
    options.fit.learning_rate = 0.1;
    options.fit.patience = Some(3);
    let architecture = architecture(Form::Staggered, Cell::Lstm, 2, &[4]);
    let fitted = fit_recurrent(&architecture, table, &[0], &options, 1, quietly).unwrap();
    assert_eq!(fitted.ending, Ending::Patience);
    assert_eq!(fitted.history.len(), fitted.best_epoch + 3);
    // 99 windows three rows apart, the last fifth of which validates.
    let plain = Plain::new(&fitted.network);
    let pieces: Vec<_> = (79..99)
        .map(|window| (Piece { first: 3 * window, len: 6, counted: 0..6 }, plain.start()))
        .collect();
    let exact = plain_loss(&plain, table, &pieces, 0);
    let kept = fitted.history[fitted.best_epoch - 1].validation_loss.unwrap();
    assert!((kept - exact).abs() < 1e-5 * exact, "{kept} is not {exact}");
}

#[test]
fn clipping_keeps_the_direction_and_bounds_the_norm() {
    let mut gradients = vec![0.0_f32; 16];
    (gradients[1], gradients[9]) = (3.0, -4.0);
    let before = gradients.clone();
    trainer::clip(Arch::new(), &mut gradients, 5.5);
    assert_eq!(gradients, before);
    trainer::clip(Arch::new(), &mut gradients, 1.0);
    assert!((gradients[1] - 0.6).abs() < 1e-6 && (gradients[9] + 0.8).abs() < 1e-6);
}

#[test]
fn illegal_choices_are_named() {
    let values = rows(50, 2);
    let table = Rows::new(&values, 2).unwrap();
    let legal = architecture(Form::Staggered, Cell::Lstm, 2, &[4]);
    let fit = |architecture: &RecurrentArchitecture, options: &RecurrentFitOptions| {
        fit_recurrent(architecture, table, &[0], options, 1, quietly).unwrap_err()
    };
    let name = |error: FitError| match error {
        FitError::Option { option, .. } => option,
        other => panic!("{other}"),
    };
    let none = RecurrentArchitecture { steps: 0, ..legal.clone() };
    assert_eq!(name(fit(&none, &options(1))), "steps");
    let empty = RecurrentArchitecture { encoder: vec![], ..legal.clone() };
    assert_eq!(name(fit(&empty, &options(1))), "encoder");
    let clip = RecurrentFitOptions { clip_norm: Some(0.0), ..options(1) };
    assert_eq!(name(fit(&legal, &clip)), "clip_norm");
    let wide = RecurrentArchitecture { inputs: 3, ..legal.clone() };
    assert!(matches!(fit(&wide, &options(1)), FitError::Width { needed: 3, found: 2, .. }));
    let long = RecurrentArchitecture { steps: 51, ..legal };
    let error = fit(&long, &options(1));
    assert_eq!(error, FitError::RunTooShort { needed: 51, longest: 50 });
    let text = error.to_string();
    assert!(text.contains("51") && text.contains("fewer steps"), "{text}");
}

#[test]
fn every_choice_becomes_a_model_whatever_the_number_of_threads() {
    use stonechat_core::detector::EngineKind;
    let values = rows(200, 2);
    let rows = Rows::new(&values, 2).unwrap();
    for (form, hop) in [(Form::Staggered, 3), (Form::Stateful, 5)] {
        for cell in [Cell::Lstm, Cell::Gru] {
            for (precision, engine) in [
                (Precision::Float32, EngineKind::Recurrent),
                (Precision::Int8, EngineKind::RecurrentInt8),
            ] {
                let fit = options(2).fit;
                let encoder = vec![6, 3];
                let defaults = RecurrentOptions::default();
                let chosen = RecurrentOptions {
                    form,
                    cell,
                    encoder,
                    steps: 6,
                    hop,
                    precision,
                    fit,
                    ..defaults
                };
                let fitted = [1, 2].map(|threads| {
                    let data = TrainingData {
                        rows,
                        run_starts: &[0, 90],
                        labels: None,
                        channels: 2,
                        threads,
                    };
                    chosen.fit(&data, &mut quietly).unwrap()
                });
                assert_eq!(fitted[0].model.engine(), engine);
                assert_eq!(fitted[0].model, fitted[1].model);
                assert_eq!(fitted[0].history.len(), 2);
            }
        }
    }
}

#[test]
fn what_the_core_would_refuse_is_refused_before_training() {
    let values = rows(200, 2);
    let rows = Rows::new(&values, 2).unwrap();
    let data = TrainingData { rows, run_starts: &[0], labels: None, channels: 2, threads: 1 };
    let refusal = |change: fn(&mut RecurrentOptions)| {
        let mut options = RecurrentOptions::default();
        change(&mut options);
        options.fit(&data, &mut |_| panic!("training began")).unwrap_err().to_string()
    };
    assert!(refusal(|o| o.hop = 0).starts_with("hop is 0"));
    assert!(refusal(|o| o.hop = 7).contains("without remainder"));
    assert!(refusal(|o| (o.steps, o.hop) = (130, 2)).contains("1 to 64"));
    assert!(refusal(|o| (o.form, o.hop) = (Form::Stateful, 5_000)).contains("1 to 4096"));
    assert!(refusal(|o| o.encoder = vec![2; 9]).contains("at most 8"));
    assert!(refusal(|o| o.output = Activation::Tanh).contains("int8 form of Tanh"));
    assert!(refusal(|o| o.steps = 400).contains("fewer steps"));
}
