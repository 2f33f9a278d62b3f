//! The online learner beside its definition in double precision (`testdata/make/learner.py`), and what
//! holds for any signal.

use std::ops::ControlFlow;

use serde::Deserialize;
use stonechat_core::decision::{DecisionRule, Verdict};
use stonechat_core::detector::ScoreRule;
use stonechat_core::detector::format::ScalerEntry;
use stonechat_core::features::{Feature, FeatureKind};
use stonechat_core::limits::SENSOR_RANGE_ABS_MAX;
use stonechat_core::pipeline::Pipeline;
use stonechat_train::compile::{ChannelSpec, DetectorFile, DetectorSpec, compile};
use stonechat_train::dataset::{ChannelInfo, Recording};
use stonechat_train::fit::learner::{Expert, LearnerOptions};
use stonechat_train::recipe::{DetectorChoice, Recipe};
use stonechat_train::train::train;

const LEVEL: Expert =
    Expert::Level { fast_len: 3, slow_len: 50, half_life: 300.0, other_side: 0.25 };
const PREDICTION: Expert = Expert::Prediction {
    block_len: 3,
    order: 4,
    smoothing_len: 2.0,
    forgetting: 0.995,
    half_life: 600.0,
    other_side: 0.5,
};
const DISCORD: Expert =
    Expert::Discord { block_len: 2, pattern_len: 6, history_len: 90, half_life: 400.0 };

fn options(experts: &[Expert]) -> LearnerOptions {
    LearnerOptions {
        warm_up: 40,
        hold_len: 15,
        hold_factor: 1.1,
        memory_bytes_max: 64 * 1024,
        experts: experts.to_vec(),
    }
}

/// A detector that hands samples to the learner as they are.
fn detector(options: &LearnerOptions, channel_count: usize) -> DetectorFile {
    let channel = |index: usize| ChannelSpec {
        name: format!("x{index}"),
        unit: String::new(),
        minimum: -SENSOR_RANGE_ABS_MAX,
        maximum: SENSOR_RANGE_ABS_MAX,
    };
    let feature =
        |channel| Feature { kind: FeatureKind::Samples, channel: channel as u16, parameter: 1 };
    compile(&DetectorSpec {
        name: "learner".to_owned(),
        rate_hz: 1.0,
        window_len: 1,
        stride: 1,
        channels: (0..channel_count).map(channel).collect(),
        features: (0..channel_count).map(feature).collect(),
        scaler: vec![ScalerEntry { offset: 0.0, gain: 1.0 }; channel_count],
        gains: Vec::new(),
        traces: Vec::new(),
        model: options.encode(channel_count),
        score_rule: ScoreRule::Engine,
        smoothing: 1,
        decision_rule: DecisionRule {
            threshold: 0.1,
            clear_level: 0.0,
            raise_count: 1,
            raise_of: 1,
            clear_count: 1,
        },
        provenance: String::new(),
    })
    .unwrap()
}

fn scores(options: &LearnerOptions, rows: &[Vec<f32>]) -> Vec<f32> {
    let file = detector(options, rows[0].len());
    let detector = file.detector();
    let mut memory = vec![0; detector.memory_words()];
    let mut pipeline = Pipeline::new(&detector, &mut memory).unwrap();
    rows.iter().map(|row| pipeline.push(row).unwrap().unwrap().score).collect()
}

fn of_one_channel(values: impl Iterator<Item = f32>) -> Vec<Vec<f32>> {
    values.map(|value| vec![value]).collect()
}

#[derive(Deserialize)]
struct Golden {
    rows: Vec<Vec<f32>>,
    /// Of the level, the prediction and the discord alone.
    expert_scores: Vec<Vec<f32>>,
    /// Of all three.
    scores: Vec<f32>,
}

#[test]
fn scores_are_those_of_the_definition() {
    let text = include_str!("../../../testdata/learner.json");
    let golden: Golden = serde_json::from_str(text).unwrap();
    let all = [LEVEL, PREDICTION, DISCORD];
    let mut cases: Vec<(&[Expert], &[f32])> = vec![(&all, &golden.scores)];
    cases.extend(all.chunks(1).zip(golden.expert_scores.iter().map(Vec::as_slice)));
    for (experts, expected) in cases {
        assert!(expected.iter().filter(|score| **score > 1.1).count() >= 3);
        let found = scores(&options(experts), &golden.rows);
        for (row, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!(
                (found - expected).abs() < 2e-4 * (1.0 + expected),
                "{experts:?}, row {row}: {found}, expected {expected}"
            );
        }
    }
}

#[test]
fn memory_is_what_the_experts_need() {
    // Level: three of a record, two means of three words. Prediction of order 4: three of a record, two of
    // a block, two means of three, three single words, 4 numbers, 4 vectors of 5 and a matrix of 25.
    // Discord: three of a record, two of a block, the count and the history. Three words in common; four for each channel's
    // window and vectors.
    let of_one = 9 + (3 + 2 + 6 + 3 + 4 + 20 + 25) + (3 + 2 + 1 + 90);
    let file = detector(&options(&[LEVEL, PREDICTION, DISCORD]), 2);
    assert_eq!(file.detector().memory_words(), 3 + 2 * of_one + 2 * 4);
}

#[test]
fn histories_are_cut_to_fit() {
    for channel_count in [1, 4, 8, 16] {
        let file = detector(&LearnerOptions::default(), channel_count);
        let bytes = file.detector().memory_words() * size_of::<u32>();
        assert!(bytes <= 64 * 1024, "{channel_count} channels: {bytes} bytes");
    }
}

#[test]
fn a_number_is_judged_by_its_own_past() {
    // The first channel's spike is small beside the second's noise.
    let noise = |row: usize| ((row * 7919) % 101) as f32 / 50.0 - 1.0;
    let rows: Vec<Vec<f32>> = (0..600)
        .map(|row| vec![noise(row) + if row == 500 { 20.0 } else { 0.0 }, 1.0e4 * noise(row + 13)])
        .collect();
    let found = scores(&options(&[LEVEL, PREDICTION, DISCORD]), &rows);
    assert!(found[500] > 2.0, "{}", found[500]);
    assert!(found[300..500].iter().all(|score| *score < 1.5));
}

#[test]
fn what_comes_again_becomes_normal() {
    let rows = of_one_channel((0..900).map(|row| {
        let spike = if row % 90 == 89 { 10.0 } else { 0.0 };
        spike + ((row * 37) % 11) as f32 / 11.0
    }));
    let found = scores(&options(&[LEVEL]), &rows);
    assert!(found[89] > 4.0, "{}", found[89]);
    // A record has faded to 0.81 of itself by the next spike, and the noise adds up to a tenth.
    let later = found[180..].iter().copied().fold(0.0, f32::max);
    assert!(later < 1.1 / 0.81, "{later}");
}

#[test]
fn the_first_change_of_a_constant_is_an_anomaly() {
    let found = scores(
        &options(&[LEVEL]),
        &of_one_channel((0..700).map(|row| if row < 600 { 5.1 } else { 5.2 })),
    );
    assert!(found[40..600].iter().all(|score| *score == 0.0));
    assert!(found[600] > 2.0);
}

#[test]
fn any_signal_gives_finite_scores() {
    let big = SENSOR_RANGE_ABS_MAX;
    let signals: [fn(usize) -> f32; 6] = [
        |_| 0.0,
        |_| 5.1,
        |row| if row % 2 == 0 { SENSOR_RANGE_ABS_MAX } else { -SENSOR_RANGE_ABS_MAX },
        |row| if row < 2_000 { 1.0e-30 } else { SENSOR_RANGE_ABS_MAX },
        |row| if row < 2_000 { 0.0 } else { (row % 3) as f32 * 1.0e-38 },
        |row| 1.0e-3 * 1.01_f32.powi(row as i32),
    ];
    for signal in signals {
        let rows = of_one_channel((0..3_000).map(|row| signal(row).clamp(-big, big)));
        let experts = [LEVEL, PREDICTION, DISCORD];
        let found = scores(&options(&experts), &rows);
        assert!(found.iter().all(|score| score.is_finite() && *score >= 0.0));
        assert_eq!(found, scores(&options(&experts), &rows));
    }
}

#[test]
fn settings_out_of_bounds_are_refused() {
    let of = |expert| options(&[expert]);
    let bad = [
        LearnerOptions { hold_factor: 0.5, ..options(&[LEVEL]) },
        LearnerOptions { hold_factor: f32::NAN, ..options(&[LEVEL]) },
        LearnerOptions { warm_up: u32::MAX, ..options(&[LEVEL]) },
        options(&[]),
        options(&[const { LEVEL }; 17]),
        of(Expert::Level { fast_len: 0, slow_len: 9, half_life: 9.0, other_side: 0.0 }),
        of(Expert::Level { fast_len: 1, slow_len: 0, half_life: 9.0, other_side: 0.0 }),
        of(Expert::Level { fast_len: 1, slow_len: 9, half_life: 0.0, other_side: 0.0 }),
        of(Expert::Level { fast_len: 1, slow_len: 9, half_life: 9.0, other_side: 1.5 }),
        of(Expert::Prediction {
            block_len: 1,
            order: 65,
            smoothing_len: 1.0,
            forgetting: 0.99,
            half_life: 9.0,
            other_side: 0.0,
        }),
        of(Expert::Prediction {
            block_len: 1,
            order: 2,
            smoothing_len: 1.0,
            forgetting: 1.01,
            half_life: 9.0,
            other_side: 0.0,
        }),
        of(Expert::Discord { block_len: 0, pattern_len: 4, history_len: 90, half_life: 9.0 }),
        of(Expert::Discord { block_len: 1, pattern_len: 40, history_len: 90, half_life: 9.0 }),
        of(Expert::Discord { block_len: 1, pattern_len: 0, history_len: 90, half_life: 9.0 }),
        of(Expert::Discord { block_len: 1, pattern_len: 4, history_len: 65_537, half_life: 9.0 }),
    ];
    for options in bad {
        assert!(options.check().is_err(), "{options:?}");
    }
    assert!(LearnerOptions::default().check().is_ok());
}

#[test]
fn a_short_recording_makes_a_detector() {
    let value = |row: usize| 20.0 + (row % 7) as f32;
    let rows = 120;
    let recording = Recording {
        name: "short".to_owned(),
        channels: vec![ChannelInfo::new("temperature", "Cel")],
        rate_hz: 1.0,
        time_us: (0..rows).map(|row| row as i64 * 1_000_000).collect(),
        samples: (0..rows).map(value).collect(),
        labels: None,
        segment_starts: vec![0],
    };
    let recipe = Recipe {
        detector: DetectorChoice::Learner(LearnerOptions::default()),
        window_len: 1,
        raise_count: 1,
        raise_of: 1,
        ..Recipe::default()
    };
    let trained = train(&recording, &recipe, |_| ControlFlow::Continue(())).unwrap();
    assert!(trained.summary.memory_len < 64 * 1024);
    // It learns what is normal where it runs, and that is otherwise than it was.
    let detector = trained.file.detector();
    let mut memory = vec![0; detector.memory_words()];
    let mut pipeline = Pipeline::new(&detector, &mut memory).unwrap();
    for row in 0..1_000 {
        let result = pipeline.push(&[2.0 * value(row)]).unwrap().unwrap();
        // At first a period of seven is news to its means of blocks.
        assert!(row < 600 || result.verdict == Verdict::Normal, "row {row}");
    }
    let result = pipeline.push(&[80.0]).unwrap().unwrap();
    assert_eq!(result.verdict, Verdict::Anomaly);
}
