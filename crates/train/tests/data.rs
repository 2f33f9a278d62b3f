//! Checks against recorded data from outside the project; its folder is named in STONECHAT_RECORDINGS.
//!
//! Run by `cargo xtask test --only data`.

mod lstm;

use std::path::{Path, PathBuf};

use stonechat_train::dataset::{ReadOptions, read, read_intervals};
use stonechat_train::evaluate::{average_precision, roc_auc, volume_under_surface};

fn data() -> PathBuf {
    std::env::var_os("STONECHAT_RECORDINGS")
        .expect("STONECHAT_RECORDINGS names the folder of recordings")
        .into()
}

#[derive(serde::Deserialize)]
struct Golden {
    n: usize,
    window: usize,
    /// First and last row of each labelled interval.
    labels_ranges: Vec<[usize; 2]>,
    scores: Vec<f64>,
    #[serde(rename = "VUS_ROC")]
    vus_roc: f64,
    #[serde(rename = "VUS_PR")]
    vus_pr: f64,
    #[serde(rename = "AUC_ROC")]
    auc_roc: f64,
    #[serde(rename = "AUC_PR")]
    auc_pr: f64,
}

#[test]
#[ignore = "needs real recordings: cargo xtask test --only data"]
fn metrics_equal_those_of_tsb_ad() {
    let text = std::fs::read_to_string(data().join("tsb-ad/metric_golden.json")).unwrap();
    let vectors: Vec<Golden> = serde_json::from_str(&text).unwrap();
    assert_eq!(vectors.len(), 6);
    for (index, vector) in vectors.iter().enumerate() {
        let labels: Vec<bool> = (0..vector.n)
            .map(|row| vector.labels_ranges.iter().any(|[a, b]| (*a..=*b).contains(&row)))
            .collect();
        let volume = volume_under_surface(&vector.scores, &labels, vector.window).unwrap();
        let pairs = [
            ("AUC-ROC", roc_auc(&vector.scores, &labels).unwrap(), vector.auc_roc),
            ("AUC-PR", average_precision(&vector.scores, &labels).unwrap(), vector.auc_pr),
            ("VUS-ROC", volume.roc, vector.vus_roc),
            ("VUS-PR", volume.pr, vector.vus_pr),
        ];
        for (name, found, expected) in pairs {
            assert!(
                (found - expected).abs() < 1e-9,
                "vector {index}: {name} is {found}, expected {expected}"
            );
        }
    }
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Rows as `wc -l` counts them, without the header.
fn lines(path: &Path) -> usize {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.trim().is_empty()).count() - 1
}

#[test]
#[ignore = "needs real recordings: cargo xtask test --only data"]
fn reads_recordings_of_many_origins() {
    // Clocks of loggers stumble; that is theirs to say, and here every row counts.
    let tolerant = ReadOptions { allow_clock_steps: true, ..ReadOptions::default() };
    let with_rate = |rate_hz| ReadOptions { rate_hz: Some(rate_hz), ..tolerant.clone() };
    let folders = [
        ("nab/data", tolerant.clone(), Some(1)),
        ("skab/valve1", tolerant.clone(), Some(8)),
        ("skab/anomaly-free", tolerant.clone(), Some(8)),
        ("fan-accel-esp32", with_rate(200.0), Some(3)),
        ("cwru-bearing", with_rate(12_000.0), Some(1)),
        ("power-1min-harmonics/three_phase", tolerant.clone(), Some(75)),
        // Not every tank has every probe.
        ("water-aquaculture", tolerant.clone(), None),
    ];
    for (folder, options, channels) in folders {
        let found = files(&data().join(folder), "csv");
        assert!(!found.is_empty(), "{folder}");
        for path in found {
            let (recording, report) =
                read(&path, &options).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(recording.rows(), lines(&path), "{}", path.display());
            let found = recording.channels.len();
            assert!(
                channels.is_none_or(|channels| channels == found),
                "{}: {found} channels",
                path.display()
            );
            assert!(recording.rate_hz > 0.0 && report.header);
        }
    }
}

#[test]
#[ignore = "needs real recordings: cargo xtask test --only data"]
fn the_fan_has_a_segment_for_each_clip() {
    let path = data().join("fan-accel-esp32/fan_0_low_0_weight.csv");
    let (recording, _) =
        read(&path, &ReadOptions { rate_hz: Some(200.0), ..ReadOptions::default() }).unwrap();
    assert_eq!(recording.segment_starts.len(), 585);
    assert!(recording.segments().all(|rows| rows.len() == 200));
    assert_eq!(recording.slice_clips(0.0..0.6).segment_starts.len(), 351);
    assert_eq!(recording.slice_clips(0.8..1.0).segment_starts.len(), 117);
}

#[test]
#[ignore = "needs real recordings: cargo xtask test --only data"]
fn nab_labels_the_machine() {
    let path = data().join("nab/data/realKnownCause/machine_temperature_system_failure.csv");
    // Its clock steps back once, which is an error unless it is allowed.
    let message = read(&path, &ReadOptions::default()).unwrap_err().to_string();
    assert!(message.contains("clock goes backwards"), "{message}");
    let options = ReadOptions { allow_clock_steps: true, ..ReadOptions::default() };
    let (mut recording, report) = read(&path, &options).unwrap();
    assert_eq!(
        (recording.rows(), report.clock_steps, recording.segment_starts.len()),
        (22_695, 1, 2)
    );
    let windows = data().join("nab/labels/combined_windows.json");
    let key = path.to_string_lossy();
    let intervals = read_intervals(&windows, &key).unwrap();
    recording.label_intervals(&intervals);
    assert_eq!((intervals.len(), recording.anomalous_rows().len()), (4, 4));
    assert_eq!(
        read_intervals(&windows, "machine_temperature_system_failure.csv").unwrap(),
        intervals
    );
}

#[test]
#[ignore = "needs recorded models: cargo xtask test --only data"]
fn an_int8_lstm_equals_tflm_bit_for_bit() {
    lstm::check_against_tflm(&data().join("models"));
}
