//! Draws every kind of picture from synthetic data, to look at.
//!
//! `cargo run -p stonechat-train --example pictures -- FOLDER`

use std::error::Error;
use std::path::PathBuf;

use stonechat_train::dataset::ReadOptions;
use stonechat_train::evaluate::{Confusion, roc_auc, roc_curve};
use stonechat_train::plot::{
    Picture, RocLine, confusion_matrix, label_spans, reconstruction, roc, score_histogram,
    scores_over_time,
};
use stonechat_train::synth::{FaultPlan, Options, temperature};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("name a folder for the pictures")?);
    std::fs::create_dir_all(&folder)?;
    let save = |name: &str, picture: &Picture| -> Result<(), Box<dyn Error>> {
        std::fs::write(folder.join(format!("{name}.svg")), picture.svg())?;
        std::fs::write(folder.join(format!("{name}.png")), picture.png()?)?;
        Ok(())
    };
    let faults = FaultPlan::Random { count: 6, first_row: 600 };
    let (recording, _) = temperature(&Options { rows: 4_000, faults, ..Options::default() })?;
    let labels = recording.labels.clone().unwrap_or_default();
    let spans = label_spans(&recording);

    // A slow average stands in for a detector.
    let signal = &recording.samples;
    let mut average = signal[0];
    let followed: Vec<f32> = signal
        .iter()
        .map(|value| {
            average += (value - average) * 0.1;
            average
        })
        .collect();
    let scores: Vec<f64> =
        signal.iter().zip(&followed).map(|(a, b)| f64::from((a - b).powi(2)) + 1e-3).collect();
    let threshold = 0.15;

    let channel = &recording.channels[0];
    save(
        "reconstruction",
        &reconstruction("Room 1", channel, &recording.time_us, signal, &followed, &spans)?,
    )?;
    let part = 600..1_400;
    save(
        "reconstruction-zoom",
        &reconstruction(
            "Room 1, first fault",
            channel,
            &recording.time_us[part.clone()],
            &signal[part.clone()],
            &followed[part],
            &spans,
        )?,
    )?;
    save(
        "scores",
        &scores_over_time("Room 1: score", &recording.time_us, &scores, threshold, &spans)?,
    )?;
    save(
        "histogram",
        &score_histogram(
            "machine: scores on machine_temperature_system_failure.csv",
            &scores,
            &labels,
            threshold,
        )?,
    )?;
    let curve = roc_curve(&scores, &labels);
    let area = roc_auc(&scores, &labels).unwrap_or(0.5);
    let reversed: Vec<f64> = scores.iter().map(|score| (score * 1e4) % 1.0).collect();
    let other = roc_curve(&reversed, &labels);
    let curves = [
        RocLine { name: "moving average", points: &curve, area },
        RocLine { name: "noise", points: &other, area: roc_auc(&reversed, &labels).unwrap_or(0.5) },
    ];
    save("roc", &roc("machine: ROC on machine_temperature_system_failure.csv", &curves)?)?;
    save(
        "confusion",
        &confusion_matrix(
            "machine: windows on machine_temperature_system_failure.csv",
            &Confusion::at_threshold(&scores, &labels, threshold),
        ),
    )?;

    if let Some(path) = std::env::args().nth(2) {
        let options = ReadOptions { allow_clock_steps: true, ..ReadOptions::default() };
        let (recording, _) = stonechat_train::dataset::read(path.as_ref(), &options)?;
        let first: Vec<f32> = recording.channel(0).collect();
        let scores: Vec<f64> =
            first.iter().map(|value| f64::from((value - first[0]).abs())).collect();
        let (channel, time_us) = (&recording.channels[0], &recording.time_us);
        save("file", &reconstruction(&recording.name, channel, time_us, &first, &first, &[])?)?;
        save("file-scores", &scores_over_time(&recording.name, time_us, &scores, 40.0, &[])?)?;
    }
    Ok(())
}
