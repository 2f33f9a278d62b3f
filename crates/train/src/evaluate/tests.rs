//! Metrics against values worked out by hand and against those of scikit-learn.

use super::*;
use crate::dataset::{ReadOptions, Recording, read_csv_bytes};

fn close(a: Option<f64>, b: f64) {
    assert!(a.is_some_and(|a| (a - b).abs() < 1e-9), "{a:?} is not {b}");
}

#[test]
fn finds_runs() {
    assert_eq!(runs(&[]), []);
    assert_eq!(runs(&[true, true, false, true]), [0..2, 3..4]);
    assert_eq!(runs(&[false, true, false]), vec![1..2]);
}

#[test]
fn counts_verdicts() {
    let labels = [true, true, true, false, false, false, false, false];
    let confusion =
        Confusion::at_threshold(&[0.9_f32, 0.8, 0.5, 0.6, 0.5, 0.4, 0.3, 0.2], &labels, 0.5);
    // The scores equal to the threshold are not above it.
    let expected =
        Confusion { true_positives: 2, false_positives: 1, true_negatives: 4, false_negatives: 1 };
    assert_eq!(confusion, expected);
    close(confusion.precision(), 2.0 / 3.0);
    close(confusion.recall(), 2.0 / 3.0);
    close(confusion.f1(), 2.0 / 3.0);
    close(confusion.false_alarm_rate(), 0.2);
    close(confusion.missed_alarm_rate(), 1.0 / 3.0);
    close(confusion.accuracy(), 0.75);
    let none = Confusion::of_verdicts(&[false; 2], &[false; 2]);
    assert_eq!((none.precision(), none.recall(), none.f1()), (None, None, None));
    close(Confusion::of_verdicts(&[false], &[true]).f1(), 0.0);
}

#[test]
fn ranks_by_hand() {
    // Pairs (anomalous, normal): 3 of 4 in the right order.
    close(roc_auc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]), 0.75);
    // 1/2 * 1/1 + 1/2 * 2/3.
    close(average_precision(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]), 5.0 / 6.0);
    // One tie between the classes counts half: (1 + 0.5) / 2.
    close(roc_auc(&[1.0_f32, 0.5, 0.5], &[true, true, false]), 0.75);
    // 1/2 * 1 + 1/2 * 2/3: the tied scores are one step.
    close(average_precision(&[1.0_f32, 0.5, 0.5], &[true, true, false]), 5.0 / 6.0);
    close(roc_auc(&[2.0, 2.0, 2.0], &[true, false, false]), 0.5);
    close(average_precision(&[2.0, 2.0, 2.0], &[true, false, false]), 1.0 / 3.0);
    assert_eq!(roc_auc(&[1.0, 2.0], &[true, true]), None);
    assert_eq!(average_precision(&[1.0, 2.0], &[false, false]), None);
    assert_eq!(roc_auc(&[1.0, f64::NAN], &[true, false]), None);
    assert_eq!(roc_auc(&[1.0], &[true, false]), None);
}

#[test]
fn draws_the_roc_curve() {
    let curve = roc_curve(&[0.1, 0.4, 0.4, 0.8], &[false, false, true, true]);
    let points: Vec<(f64, f64)> =
        curve.iter().map(|point| (point.false_alarm_rate, point.recall)).collect();
    assert_eq!(points, [(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)]);
    let thresholds: Vec<f64> = curve.iter().map(|point| point.threshold).collect();
    assert_eq!(thresholds, [f64::INFINITY, 0.8, 0.4, 0.1]);
    assert!(roc_curve(&[1.0], &[true]).is_empty());
}

#[test]
fn volumes_of_clear_cases() {
    let labels: Vec<bool> = (0..300).map(|row| (100..120).contains(&row)).collect();
    // Without a buffer, a perfect ranking has the whole volume.
    let perfect: Vec<f64> = labels.iter().map(|&label| f64::from(u8::from(label))).collect();
    let volume = volume_under_surface(&perfect, &labels, 0).unwrap();
    assert!((volume.roc - 1.0).abs() < 1e-9 && (volume.pr - 1.0).abs() < 1e-9, "{volume:?}");
    // A score that fires ten rows late loses more without buffers than with them.
    let late: Vec<f64> =
        (0..300).map(|row| f64::from(u8::from((110..130).contains(&row)))).collect();
    let (strict, lenient) = (
        volume_under_surface(&late, &labels, 0).unwrap(),
        volume_under_surface(&late, &labels, 40).unwrap(),
    );
    assert!(strict.pr < lenient.pr && lenient.pr < 1.0, "{strict:?} {lenient:?}");
    assert_eq!(volume_under_surface(&late, &[true; 300], 10), None);
    assert_eq!(volume_under_surface(&late, &labels[1..], 10), None);
    assert_eq!(default_volume_window(&labels), 20);
    assert_eq!(default_volume_window(&[true; 500]), 100);
    assert_eq!(default_volume_window(&[false; 5]), 0);
}

/// `testdata/make/metrics.py` writes the file with scikit-learn.
#[test]
fn equals_scikit_learn() {
    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        scores: Vec<f64>,
        labels: Vec<u8>,
        threshold: f64,
        roc_auc: f64,
        average_precision: f64,
        precision: f64,
        recall: f64,
        f1: f64,
        accuracy: f64,
        confusion: [u64; 4],
        roc_curve: Vec<[f64; 2]>,
    }
    let text = include_str!("../../../../testdata/metrics.json");
    let cases: Vec<Case> = serde_json::from_str(text).unwrap();
    assert!(cases.len() >= 4);
    for case in cases {
        let labels: Vec<bool> = case.labels.iter().map(|&label| label == 1).collect();
        let near = |a: Option<f64>, b: f64| {
            assert!(a.is_some_and(|a| (a - b).abs() < 1e-12), "{}: {a:?} is not {b}", case.name);
        };
        near(roc_auc(&case.scores, &labels), case.roc_auc);
        near(average_precision(&case.scores, &labels), case.average_precision);
        let confusion = Confusion::at_threshold(&case.scores, &labels, case.threshold);
        let [true_negatives, false_positives, false_negatives, true_positives] = case.confusion;
        assert_eq!(
            confusion,
            Confusion { true_positives, false_positives, true_negatives, false_negatives }
        );
        near(confusion.precision(), case.precision);
        near(confusion.recall(), case.recall);
        near(confusion.f1(), case.f1);
        near(confusion.accuracy(), case.accuracy);
        let curve = roc_curve(&case.scores, &labels);
        assert_eq!(curve.len(), case.roc_curve.len(), "{}", case.name);
        for (point, [false_alarm_rate, recall]) in curve.iter().zip(case.roc_curve) {
            near(Some(point.false_alarm_rate), false_alarm_rate);
            near(Some(point.recall), recall);
        }
    }
}

#[test]
fn events_by_hand() {
    let labels = [false, true, true, true, false, false, true, true, false, false];
    let verdicts = [false, false, true, true, true, false, false, false, false, true];
    let time_us: Vec<i64> = (0..10).map(|row| row * 60_000_000).collect();
    let events = events(&verdicts, &labels, &time_us, 600.0);
    assert_eq!((events.alarms, events.false_alarms), (2, 1));
    assert_eq!((events.intervals, events.intervals_detected), (2, 1));
    assert_eq!(events.delays_s, [Some(60.0), None]);
    close(events.alarms_per_day, 288.0);
    close(events.false_alarms_per_day, 144.0);
    close(events.median_delay_s(), 60.0);
    let even = Events { delays_s: vec![Some(4.0), None, Some(1.0)], ..Events::default() };
    close(even.median_delay_s(), 2.5);
    assert_eq!(Events::default().median_delay_s(), None);
}

fn ramp(rows: usize) -> Recording {
    let text: String =
        (0..rows).map(|row| format!("{},{}\n", row % 10, -((row % 10) as i64))).collect();
    let options = ReadOptions { rate_hz: Some(1.0), ..ReadOptions::default() };
    read_csv_bytes("ramp.csv", format!("a,b\n{text}").as_bytes(), &options).unwrap().0
}

#[test]
fn frozen_z_score_by_hand() {
    let normal = ramp(100);
    let control = FrozenZScore::fit(&normal).unwrap();
    let mut test = ramp(40);
    test.samples[2 * 35] = 4.5 + 10.0;
    test.samples[2 * 12] = f32::NAN;
    let last_rows = [9, 19, 29, 39];
    let scored = control.score(&test, Windows { last_rows: &last_rows, len: 10 });
    // 0 to 9 has the mean 4.5 and the variance 8.25.
    let deviation = 8.25_f64.sqrt();
    close(scored.threshold, 4.5 / deviation);
    close(Some(scored.scores[0]), 4.5 / deviation);
    close(Some(scored.scores[3]), 10.0 / deviation);
    assert_eq!(scored.verdicts, [false, false, false, true]);
}

#[test]
fn controls_are_what_they_say() {
    let labels: Vec<bool> = (0..1000).map(|row| row % 5 == 0).collect();
    assert_eq!(Confusion::of_verdicts(&never(1000).verdicts, &labels).recall(), Some(0.0));
    assert_eq!(
        Confusion::of_verdicts(&always(1000).verdicts, &labels).false_alarm_rate(),
        Some(1.0)
    );
    let drawn = random(1000, 0.2, 3);
    let share = drawn.verdicts.iter().filter(|&&verdict| verdict).count();
    assert!((150..250).contains(&share), "{share}");
    assert_eq!(drawn, random(1000, 0.2, 3));
    assert!(random(50, 1.0, 1).verdicts.iter().all(|&verdict| verdict));
    assert!(random(50, 0.0, 1).verdicts.iter().all(|&verdict| !verdict));
}

#[test]
fn reports_the_detector_beside_the_controls() {
    let (normal, mut test) = (ramp(200), ramp(100));
    let last_rows: Vec<usize> = (9..100).collect();
    let labels: Vec<bool> = last_rows.iter().map(|row| (40..60).contains(row)).collect();
    let scores: Vec<f64> = labels.iter().map(|&label| if label { 2.0 } else { 0.5 }).collect();
    let detector = Scored { verdicts: labels.clone(), scores, threshold: Some(1.0) };
    test.name = "test part".to_owned();
    let windows = Windows { last_rows: &last_rows, len: 10 };
    let subject = Subject { recording: &test, windows, labels: &labels, volume_window: Some(0) };
    let report = Report::new("autoencoder", &detector, &subject, &normal).unwrap();
    let names: Vec<&str> = report.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["autoencoder", "never", "always", "random", "frozen z-score"]);
    let row = report.detector().unwrap();
    assert_eq!(
        (row.f1, row.roc_auc, row.vus_pr.map(|v| v.round())),
        (Some(1.0), Some(1.0), Some(1.0))
    );
    assert_eq!(report.rows[2].precision, Some(20.0 / 91.0));
    let table = report.table();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "test part: 91 windows, 20 anomalous, 100.0 s of recording");
    assert_eq!(lines.len(), 8);
    assert!(lines[2].ends_with("delay") && lines[4].starts_with("never"), "{table}");
    assert!(
        lines[3..].iter().all(|line| line.chars().count() <= lines[2].chars().count()),
        "{table}"
    );
    let json = serde_json::to_string(&report).unwrap();
    let back: Report = serde_json::from_str(&json).unwrap();
    // serde_json may read the last bit of a number differently.
    assert_eq!((back.table(), back.rows.len()), (table, 5));
}

#[test]
fn refuses_parts_that_do_not_belong_together() {
    let normal = ramp(50);
    let last_rows = [9, 60];
    let windows = Windows { last_rows: &last_rows, len: 10 };
    let subject =
        Subject { recording: &normal, windows, labels: &[false, true], volume_window: None };
    let of = |scores: Vec<f64>| {
        let scored = Scored { verdicts: vec![false; scores.len()], scores, threshold: None };
        Report::new("x", &scored, &subject, &normal).unwrap_err()
    };
    assert_eq!(of(vec![]), EvaluateError::Empty);
    assert_eq!(of(vec![1.0]), EvaluateError::Lengths { scores: 1, what: "labels", found: 2 });
    assert!(matches!(of(vec![1.0, f64::NAN]), EvaluateError::Score { window: 1, .. }));
    assert_eq!(of(vec![1.0, 2.0]), EvaluateError::Row { row: 60, rows: 50 });
}
