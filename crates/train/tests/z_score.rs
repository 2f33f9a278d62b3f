//! The running z-score: it follows what drifts slowly, and does not learn that an anomaly is normal.

mod common;

use std::ops::ControlFlow;

use stonechat_core::decision::Verdict;
use stonechat_train::compile::DetectorFile;
use stonechat_train::dataset::Recording;
use stonechat_train::fit::z_score::ZScoreOptions;
use stonechat_train::recipe::{DetectorChoice, Recipe};
use stonechat_train::replay::replay;
use stonechat_train::train::train;

fn detector(alpha: f32) -> DetectorFile {
    let recipe = Recipe {
        features: vec!["mean".to_owned(), "standard_deviation".to_owned()],
        ..common::recipe(DetectorChoice::ZScore(ZScoreOptions { alpha }))
    };
    let trained = train(&common::sine(4_000, 1), &recipe, |_| ControlFlow::Continue(()));
    trained.expect("trains").file
}

/// Adds to each sample what `change` gives for its row.
fn changed(rows: usize, change: impl Fn(usize) -> f32) -> Recording {
    let mut recording = common::sine(rows, 2);
    for (row, sample) in recording.samples.iter_mut().enumerate() {
        *sample += change(row);
    }
    recording
}

fn anomalous_windows(file: &DetectorFile, recording: &Recording) -> usize {
    let replay = replay(&file.detector(), recording, |_, _| {}).expect("they fit");
    replay.windows.iter().filter(|window| window.verdict == Verdict::Anomaly).count()
}

#[test]
fn a_slow_drift_is_followed_by_the_adaptive_form_alone() {
    // Five degrees over 2,000 s, of which the mean over a window varies by some tenths.
    let drift = changed(20_000, |row| row as f32 * 0.000_25);
    assert_eq!(anomalous_windows(&detector(0.01), &drift), 0);
    assert!(anomalous_windows(&detector(0.0), &drift) > 10_000);
}

#[test]
fn a_step_is_found_by_both_and_stays_anomalous_for_a_while() {
    let step = changed(3_000, |row| if row >= 1_500 { 5.0 } else { 0.0 });
    // The adaptive form forgets with a time constant of 100 windows, the frozen one never.
    for (alpha, least) in [(0.0, 1_400), (0.01, 30)] {
        let found = anomalous_windows(&detector(alpha), &step);
        assert!(found > least, "alpha {alpha}: {found} windows");
    }
    let normal = changed(3_000, |_| 0.0);
    for alpha in [0.0, 0.01] {
        assert_eq!(anomalous_windows(&detector(alpha), &normal), 0, "alpha {alpha}");
    }
}
