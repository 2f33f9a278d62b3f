//! Recurrent detectors from recording to score: both forms, both cells, float beside int8.

mod common;

use std::ops::ControlFlow;

use stonechat_train::evaluate::roc_auc;
use stonechat_train::fit::FitOptions;
use stonechat_train::fit::dense::Precision;
use stonechat_train::fit::recurrent::RecurrentOptions;
use stonechat_train::fit::recurrent::network::{Cell, Form};
use stonechat_train::recipe::{DetectorChoice, Recipe};
use stonechat_train::replay::{replay, window_labels};
use stonechat_train::train::train;

/// Trains on one recording and returns the area under the ROC curve on another.
fn auc(form: Form, cell: Cell, precision: Precision) -> f64 {
    let options = RecurrentOptions {
        form,
        cell,
        precision,
        encoder: vec![12],
        steps: 20,
        hop: if form == Form::Staggered { 10 } else { 5 },
        fit: FitOptions {
            epochs: 40,
            batch: 16,
            learning_rate: 5e-3,
            seed: 1,
            ..FitOptions::default()
        },
        ..RecurrentOptions::default()
    };
    let recipe = Recipe { window_len: 1, ..common::recipe(DetectorChoice::Recurrent(options)) };
    let trained = train(&common::machine(6_000, 1), &recipe, |_| ControlFlow::Continue(()));
    let file = trained.expect("trains").file;
    let other = common::machine(6_000, 2);
    let replay = replay(&file.detector(), &other, |_, _| {}).expect("they fit");
    let scores: Vec<f32> = replay.windows.iter().map(|window| window.score).collect();
    let labels = window_labels(&other, &replay, &file.detector());
    roc_auc(&scores, &labels).expect("both classes are there")
}

#[test]
fn both_forms_find_bursts_and_int8_loses_little() {
    for form in [Form::Staggered, Form::Stateful] {
        for cell in [Cell::Lstm, Cell::Gru] {
            let float = auc(form, cell, Precision::Float32);
            let int8 = auc(form, cell, Precision::Int8);
            assert!(float > 0.95, "{form:?} {cell:?}: {float}");
            assert!((float - int8).abs() < 0.01, "{form:?} {cell:?}: {float}, in int8 {int8}");
        }
    }
}
