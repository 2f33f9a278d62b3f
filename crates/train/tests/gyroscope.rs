//! The gyroscope autoencoder of a hobby project, 40 x 3 with LSTM layers of 16, 8, 8 and 16 units, on
//! the synthetic machine: every class of fault, float beside int8.
#![allow(clippy::print_stdout, reason = "figures for whoever runs it by hand")]

use std::ops::ControlFlow;

use serde_json::json;
use stonechat_train::dataset::{Column, Recording};
use stonechat_train::evaluate::roc_auc;
use stonechat_train::fit::dense::Precision;
use stonechat_train::fit::recurrent::RecurrentOptions;
use stonechat_train::recipe::{DetectorChoice, Recipe, ScoreChoice};
use stonechat_train::replay::{replay, window_labels};
use stonechat_train::synth::{Fault, FaultPlan, Generator, MachineOptions, Take, synthesise};
use stonechat_train::train::train;

/// As the gyroscope of the project was read.
const RATE_HZ: f64 = 2_380.0;
const STEPS: usize = 40;
/// Rows of one class's recording: the machine is normal, but for the faults in the second half.
const ROWS: usize = 120_000;
const TRAINING_ROWS: usize = 60_000;
/// Each fault lasts as long, and as much of normal lies before it.
const FAULT_ROWS: usize = 5_000;

/// The recording of one class of fault; without a class, the machine as it is.
fn gyroscope(class: Option<usize>) -> Recording {
    let machine = MachineOptions { rate_hz: RATE_HZ, ..MachineOptions::default() };
    let faults = class.map_or(FaultPlan::None, |class| {
        let (kind, _) = machine.typical().swap_remove(class);
        let starts = (TRAINING_ROWS + FAULT_ROWS..ROWS).step_by(2 * FAULT_ROWS);
        let fault = |start_row| Fault { kind: kind.clone(), start_row, rows: FAULT_ROWS };
        FaultPlan::Listed(starts.map(fault).collect())
    });
    let take = Take { seed: 1, rows: ROWS, start_us: 0, faults };
    let (recording, _) = synthesise(&machine, &take).expect("the options are legal");
    let axes = ["gyro_x", "gyro_y", "gyro_z"].map(Column::new);
    recording.select(&axes).expect("the axes exist")
}

fn recipe(precision: Precision) -> Recipe {
    let mut options =
        RecurrentOptions { steps: STEPS, hop: STEPS, precision, ..RecurrentOptions::default() };
    options.fit.epochs = 60;
    options.fit.learning_rate = 0.003;
    Recipe {
        name: "gyroscope".to_owned(),
        detector: DetectorChoice::Recurrent(options),
        window_len: 1,
        stride: 1,
        score: ScoreChoice::Rms,
        ..Recipe::default()
    }
}

#[test]
fn every_class_of_fault_is_told_from_normal_in_float_and_in_int8() {
    let normal = gyroscope(None).slice_rows(0..TRAINING_ROWS);
    let [float, int8] = [Precision::Float32, Precision::Int8].map(|precision| {
        train(&normal, &recipe(precision), |_| ControlFlow::Continue(())).expect("trains").file
    });
    let classes = MachineOptions::default().typical();
    for (index, (class, _)) in classes.iter().enumerate() {
        let recording = gyroscope(Some(index)).slice_rows(TRAINING_ROWS..ROWS);
        let [float, int8] = [&float, &int8].map(|file| {
            let detector = file.detector();
            let run = replay(&detector, &recording, |_, _| {}).expect("fits");
            let labels = window_labels(&recording, &run, &detector);
            let scores: Vec<f64> = run.windows.iter().map(|w| f64::from(w.score)).collect();
            roc_auc(&scores, &labels).expect("both classes are there")
        });
        let name = serde_json::to_value(class).expect("plain data");
        let race = name["race"].as_str().map(|race| format!("_{race}")).unwrap_or_default();
        let name = format!("gyroscope.{}{race}", name["kind"].as_str().unwrap_or_default());
        for (precision, area) in [("float32", float), ("int8", int8)] {
            let figure = json!({"name": format!("{name}.{precision}.roc_auc"), "value": area});
            println!("{figure}");
        }
        assert!(float >= AREA_MIN && int8 >= AREA_MIN, "{class:?}: float {float}, int8 {int8}");
        assert!((float - int8).abs() <= AREA_DIFFERENCE_MAX, "{class:?}: {float} and {int8}");
    }
}

const AREA_MIN: f64 = 0.98;
const AREA_DIFFERENCE_MAX: f64 = 0.01;
