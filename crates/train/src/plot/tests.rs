//! Pictures hold what they should; how they look is for eyes.

use super::axis::{channel_label, power_of_ten};
use super::thin::thin;
use super::*;
use crate::dataset::ChannelInfo;
use crate::evaluate::{Confusion, roc_auc, roc_curve};
use crate::synth::{FaultPlan, Options, temperature};

fn is_png(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.ends_with(b"IEND\xaeB`\x82")
}

#[test]
fn thinning_keeps_every_extreme() {
    let points: Vec<(f64, f64)> =
        (0..100_000).map(|i| (f64::from(i), f64::from((i * 37) % 101))).collect();
    let mut spiked = points;
    spiked[54_321].1 = 1e6;
    spiked[77_777].1 = -1e6;
    let thinned = thin(&spiked, 4_000);
    assert!(thinned.len() <= 4_000 && thinned.len() > 3_000, "{}", thinned.len());
    assert!(thinned.contains(&(54_321.0, 1e6)) && thinned.contains(&(77_777.0, -1e6)));
    assert!(thinned.is_sorted_by(|a, b| a.0 <= b.0));
    assert_eq!(thin(&spiked[..10], 4_000), &spiked[..10]);
}

#[test]
fn labels_carry_units() {
    assert_eq!(channel_label(&ChannelInfo::new("temperature", "Cel")), "temperature, °C");
    assert_eq!(channel_label(&ChannelInfo::new("Current (A)", "A")), "Current (A)");
    assert_eq!(channel_label(&ChannelInfo::new("x", "")), "x");
    assert_eq!(power_of_ten(-2.0), "0.01");
    assert_eq!(power_of_ten(3.0), "1000");
    assert_eq!(power_of_ten(-5.0), "1e-5");
}

#[test]
fn draws_every_picture_as_svg_and_png() {
    let faults = FaultPlan::Random { count: 2, first_row: 500 };
    let (recording, _) =
        temperature(&Options { rows: 1500, faults, ..Options::default() }).unwrap();
    let labels = recording.labels.clone().unwrap();
    let scores: Vec<f64> = labels.iter().map(|&label| if label { 40.0 } else { 0.1 }).collect();
    let spans = label_spans(&recording);
    assert_eq!(spans.len(), 2);
    let channel = &recording.channels[0];
    let curve = roc_curve(&scores, &labels);
    let line = RocLine {
        name: "int8 & <fast> $x$",
        points: &curve,
        area: roc_auc(&scores, &labels).unwrap(),
    };
    let pictures = [
        reconstruction(
            "Room <1>",
            channel,
            &recording.time_us,
            &recording.samples,
            &recording.samples,
            &spans,
        ),
        scores_over_time("Room", &recording.time_us, &scores, 1.0, &spans),
        score_histogram("Scores", &scores, &labels, 1.0),
        roc("ROC", &[line]),
        Ok(confusion_matrix("Verdicts", &Confusion::at_threshold(&scores, &labels, 1.0))),
    ];
    let words: [&[&str]; 5] = [
        &["Room &lt;1&gt;", "temperature, °C", "time, s", "reconstruction", "labelled anomalous"],
        &["score", "threshold", ">0.1<", "time, s"],
        &["share of windows, %", "normal (", "anomalous (", "score (logarithmic)"],
        &["false-alarm rate", "recall", "AUC 1.000", "chance"],
        &["verdict", "label", "100.00 %", "0.00 %"],
    ];
    for (picture, words) in pictures.into_iter().zip(words) {
        let picture = picture.unwrap();
        let svg = picture.svg();
        assert!(svg.starts_with("<svg") || svg.contains("<svg "), "no SVG");
        for word in words {
            assert!(svg.contains(word), "{word} is missing");
        }
        assert!(is_png(&picture.png().unwrap()));
    }
}

#[test]
fn draws_data_with_holes_and_single_values() {
    let channel = ChannelInfo::new("x", "");
    let time_us = [0, 1_000_000, 2_000_000, 9_000_000];
    let signal = [1.0, f32::NAN, 1.0, 1.0];
    assert!(reconstruction("t", &channel, &time_us, &signal, &[1.0; 4], &[]).is_ok());
    assert!(reconstruction("t", &channel, &[5], &[2.0], &[2.0], &[]).is_ok());
    assert!(scores_over_time("t", &[5], &[0.0], 0.0, &[0..3, 4..6]).is_ok());
    assert!(score_histogram("t", &[0.0; 3], &[true, false, true], 0.0).is_ok());
}

#[test]
fn draws_extreme_scores() {
    let no_threshold = f64::from(f32::MAX);
    let time_us: Vec<i64> = (0..4).map(|row| row * 1_000_000).collect();
    let labels = [false, true, false, true];
    for scores in [
        [1e-30, 1e30, 1.0, 2.0],
        [0.0, 0.0, 0.0, no_threshold],
        [-1e30, -1.0, 0.0, 1.0],
        [f64::MIN_POSITIVE, f64::INFINITY, 1.0, f64::NAN],
    ] {
        for threshold in [1.0, no_threshold] {
            let over_time = scores_over_time("t", &time_us, &scores, threshold, &[]).unwrap();
            let histogram = score_histogram("t", &scores, &labels, threshold).unwrap();
            assert!(
                is_png(&over_time.png().unwrap()) && is_png(&histogram.png().unwrap()),
                "{scores:?}"
            );
        }
    }
}

#[test]
fn refuses_what_cannot_be_drawn() {
    let channel = ChannelInfo::new("x", "");
    let is_empty =
        |picture: Result<Picture, PlotError>| matches!(picture, Err(PlotError::Empty { .. }));
    assert!(is_empty(reconstruction("t", &channel, &[], &[], &[], &[])));
    assert!(is_empty(reconstruction("t", &channel, &[1], &[f32::NAN], &[f32::NAN], &[])));
    assert!(is_empty(scores_over_time("t", &[], &[], 1.0, &[])));
    assert!(is_empty(score_histogram("t", &[], &[], 1.0)));
    assert!(is_empty(roc("t", &[])));
    let differing = reconstruction("t", &channel, &[1, 2], &[1.0], &[1.0, 2.0], &[]);
    assert_eq!(
        differing.err(),
        Some(PlotError::Lengths { what: "the signal", found: 1, expected: 2 })
    );
}
