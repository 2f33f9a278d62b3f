//! The public demo's data, end to end: a detector trained on the synthetic room finds every kind of fault in other
//! rooms and raises no false alarm.

use std::ops::ControlFlow;

use stonechat_core::detector::Detector;
use stonechat_train::dataset::Recording;
use stonechat_train::evaluate::{Report, Subject, Windows};
use stonechat_train::recipe::Recipe;
use stonechat_train::replay::{replay, window_labels};
use stonechat_train::synth::{FaultKind, FaultPlan, Options, temperature};
use stonechat_train::train::train;

fn evaluate(detector: &Detector<'_>, recording: &Recording, normal: &Recording) -> Report {
    let run = replay(detector, recording, |_, _| {}).unwrap();
    let labels = window_labels(recording, &run, detector);
    let last_rows = run.last_rows();
    let scored = run.scored(detector.decision_rule().threshold);
    let windows = Windows { last_rows: &last_rows, len: detector.window_len() };
    let subject = Subject { recording, windows, labels: &labels, volume_window: None };
    Report::new("dense autoencoder", &scored, &subject, normal).unwrap()
}

#[test]
fn every_typical_fault_is_found_without_a_false_alarm() {
    let (normal, _) = temperature(&Options { rows: 12_000, ..Options::default() }).unwrap();
    let trained = train(&normal, &Recipe::synthetic_room(), |_| ControlFlow::Continue(())).unwrap();
    let detector = trained.file.detector();
    let kinds = FaultKind::TYPICAL.len();
    for seed in 2..8 {
        let faults = FaultPlan::Random { count: kinds, first_row: 1_000 };
        let options = Options { seed, rows: 6_000, faults, ..Options::default() };
        let (recording, _) = temperature(&options).unwrap();
        let report = evaluate(&detector, &recording, &normal);
        let [dense, .., z_score] = report.rows.as_slice() else { panic!("no rows") };
        assert_eq!(dense.events.intervals_detected, kinds, "seed {seed}\n{}", report.table());
        assert_eq!(dense.events.false_alarms, 0, "seed {seed}\n{}", report.table());
        // The control cannot see a stuck sensor, so the data do tell detectors apart.
        assert!(z_score.events.intervals_detected < kinds, "seed {seed}\n{}", report.table());

        let (clean, _) =
            temperature(&Options { seed: seed + 100, rows: 20_000, ..Options::default() }).unwrap();
        let report = evaluate(&detector, &clean, &normal);
        assert_eq!(report.rows[0].events.alarms, 0, "seed {seed}\n{}", report.table());
    }
}
