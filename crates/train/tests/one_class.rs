//! The one-class SVM beside scikit-learn's (testdata/make/one_class.py), and its form for the device.

use std::ops::ControlFlow;

use stonechat_core::detector::OneClass;
use stonechat_train::evaluate::roc_auc;
use stonechat_train::fit::one_class::{OneClassMachine, OneClassModel, OneClassOptions};
use stonechat_train::fit::{Fit, FitError, TrainingData};
use stonechat_train::random::Random;
use stonechat_train::rows::Rows;

#[derive(serde::Deserialize)]
struct Golden {
    name: String,
    nu: f64,
    gamma: f64,
    rows: Vec<Vec<f32>>,
    probes: Vec<Vec<f32>>,
    labels: Vec<bool>,
    support: Vec<usize>,
    coefficients: Vec<f64>,
    rho: f64,
    decisions: Vec<f64>,
    auc: f64,
}

fn goldens() -> Vec<Golden> {
    serde_json::from_str(include_str!("../../../testdata/one_class.json")).expect("committed")
}

fn close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs();
        assert!(difference <= tolerance, "{what}[{index}]: {found}, not {expected}");
    }
}

#[test]
fn support_vectors_and_auc_are_those_of_scikit_learn() {
    for golden in goldens() {
        let values = golden.rows.concat();
        let rows = Rows::new(&values, golden.rows[0].len()).expect("finite");
        let machine =
            OneClassMachine::of_rows(rows, golden.nu, golden.gamma, 1e-9).expect("is legal");
        assert_eq!(machine.support, golden.support, "{}", golden.name);
        // LIBSVM keeps its kernel in single precision, as we do.
        close(&machine.coefficients, &golden.coefficients, 1e-4, &golden.name);
        close(&[machine.rho], &[golden.rho], 1e-5, &golden.name);
        let decisions: Vec<f64> = golden.probes.iter().map(|row| machine.decision(row)).collect();
        close(&decisions, &golden.decisions, 1e-5, &golden.name);
        let scores: Vec<f64> = decisions.iter().map(|decision| -decision).collect();
        let auc = roc_auc(&scores, &golden.labels).expect("both labels");
        assert!((auc - golden.auc).abs() < 1e-9, "{}: {auc}", golden.name);
    }
}

#[test]
fn the_form_for_the_device_ranks_as_the_exact_one() {
    for golden in goldens() {
        let values = golden.rows.concat();
        let rows = Rows::new(&values, golden.rows[0].len()).expect("finite");
        let machine =
            OneClassMachine::of_rows(rows, golden.nu, golden.gamma, 1e-3).expect("is legal");
        let model = OneClassModel::project(&machine, rows, 512, &mut Random::new(5));
        let encoded = model.expect("rows are alike").encode();
        let mut words = vec![0_u32; encoded.bytes().len().div_ceil(4)];
        bytemuck::cast_slice_mut(&mut words)[..encoded.bytes().len()]
            .copy_from_slice(encoded.bytes());
        let engine = OneClass::load(bytemuck::cast_slice(&words), rows.width()).expect("is legal");
        let mut memory = vec![0; engine.memory_words()];
        let scores: Vec<f32> =
            golden.probes.iter().map(|row| engine.score(row, &mut memory)).collect();
        let auc = roc_auc(&scores, &golden.labels).expect("both labels");
        assert!((auc - golden.auc).abs() < 0.04, "{}: {auc}, not {}", golden.name, golden.auc);
        // What is like no row has next to no similarity, however far away.
        for far in [30.0, -1e6, f32::MAX] {
            assert_eq!(engine.score(&vec![far; rows.width()], &mut memory), 1.0, "{far}");
        }
        let mut random = Random::new(9);
        for _ in 0..200 {
            // About as far out as rows go, but where none is: the kernel gives 1, and so many random
            // features leave a noise of some tenths.
            let axis = random.below(rows.width() as u32) as usize;
            let mut row = vec![0.0; rows.width()];
            row[axis] = random.between(7.0, 12.0) as f32;
            let score = engine.score(&row, &mut memory);
            assert!(score > 0.5 && score < 1.5, "{}: {score} of {row:?}", golden.name);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_choices_are_bounded() {
    let golden = &goldens()[0];
    let values = golden.rows.concat();
    let fit = |options: &OneClassOptions, threads| {
        let rows = Rows::new(&values, 2)?;
        let data = TrainingData { rows, channels: 1, run_starts: &[0], labels: None, threads };
        options
            .fit(&data, &mut |_| ControlFlow::Continue(()))
            .map(|fitted| fitted.model.bytes().to_vec())
    };
    let options = OneClassOptions { features: 64, ..OneClassOptions::default() };
    let bytes = fit(&options, 1).expect("is legal");
    assert_eq!(bytes, fit(&options, 2).expect("is legal"));
    assert_ne!(bytes, fit(&OneClassOptions { seed: 1, ..options.clone() }, 1).expect("is legal"));
    for wrong in [
        OneClassOptions { nu: 0.0, ..options.clone() },
        OneClassOptions { nu: 1.5, ..options.clone() },
        OneClassOptions { gamma: Some(0.0), ..options.clone() },
        OneClassOptions { features: 0, ..options.clone() },
        OneClassOptions { features: 5_000, ..options.clone() },
    ] {
        assert!(matches!(fit(&wrong, 1), Err(FitError::Option { .. })), "{wrong:?}");
    }
}
