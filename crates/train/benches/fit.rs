//! Times the fit of a small and a large autoencoder, beside PyTorch when it is there.
//!
//! `STONECHAT_PYTHON` names a Python with `testdata/oracles/requirements-bench.txt`; without it only
//! our own time is printed. `--json` prints one object a line.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::print_stderr, reason = "a benchmark says what it leaves out on stderr")]

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use stonechat_train::fit::{Architecture, FitOptions, fit_autoencoder};
use stonechat_train::rows::Rows;

/// What is fitted.
struct Case {
    name: &'static str,
    rows: usize,
    width: usize,
    encoder: &'static [usize],
    epochs: usize,
    /// Epochs, from the first, whose losses must agree.
    epochs_compared: usize,
    /// Runs before and again after the peer's.
    runs: usize,
}

const CASES: [Case; 2] = [
    Case {
        name: "fit/dense_autoencoder_16_32_16_8",
        rows: 20_000,
        width: 16,
        encoder: &[32, 16, 8],
        epochs: 20,
        epochs_compared: 20,
        runs: 9,
    },
    // The form of MLPerf Tiny's anomaly detector: here the products take nearly all the time.
    Case {
        name: "fit/dense_autoencoder_640_128_128_128_128_8",
        rows: 2_048,
        width: 640,
        encoder: &[128, 128, 128, 128, 8],
        epochs: 5,
        // Ten ReLU layers double a rounding's effect within a few steps: PyTorch in f64 leaves
        // PyTorch in f32 by 5 % in the second epoch, and agrees with us there to six digits.
        epochs_compared: 1,
        runs: 3,
    },
];

/// Rows, first weights and order are the same, so the losses of each epoch differ by rounding only;
/// late in the fit that grows, as a rounding decides which side of a ReLU's bend a value falls on.
const LOSS_TOLERANCE: f64 = 0.003;

fn main() -> Result<(), Box<dyn Error>> {
    let json = std::env::args().any(|argument| argument == "--json");
    for case in &CASES {
        let object = compare(case)?;
        if json {
            println!("{object}");
        } else {
            println!("{object:#}");
        }
    }
    Ok(())
}

/// Times one case and, when it can run, its peer.
fn compare(case: &Case) -> Result<Value, Box<dyn Error>> {
    let values = rows(case.rows, case.width);
    let architecture = Architecture::autoencoder(case.width, case.encoder);
    let options = FitOptions {
        epochs: case.epochs,
        batch: 64,
        validation_share: 0.0,
        ..FitOptions::default()
    };
    // The peer runs between two halves of our runs, so that both meet the same machine.
    let mut ours = time(case, &values, &architecture, &options)?;
    let peer = peer(&values, &architecture, &options)?;
    let after = time(case, &values, &architecture, &options)?;
    ours.seconds = ours.seconds.min(after.seconds);

    let mut object = json!({
        "name": case.name,
        "value": ours.seconds,
        "unit": "s",
        "loss": ours.losses.last(),
    });
    if let Some(peer) = peer {
        let compared = |losses: &[f64]| losses[..case.epochs_compared.min(losses.len())].to_vec();
        let difference = furthest(&compared(&ours.losses), &compared(&peer.losses));
        if difference.is_nan() || difference > LOSS_TOLERANCE {
            return Err(format!(
                "the losses differ by up to {:.2} %, so the times are not comparable: ours {:?}, the peer's {:?}",
                100.0 * difference,
                ours.losses,
                peer.losses
            )
            .into());
        }
        object["peer"] = json!(peer.name);
        object["peer_value"] = json!(peer.seconds);
        object["peer_loss"] = json!(peer.losses.last());
        object["loss_difference_max"] = json!(difference);
        object["ratio"] = json!(peer.seconds / ours.seconds);
    }
    Ok(object)
}

/// A fit's shortest time and its training loss in each epoch.
struct Timing {
    name: String,
    seconds: f64,
    losses: Vec<f64>,
}

/// The greatest relative difference of two lists; not a number when their lengths differ.
fn furthest(ours: &[f64], theirs: &[f64]) -> f64 {
    if ours.len() != theirs.len() {
        return f64::NAN;
    }
    let pairs = ours.iter().zip(theirs);
    pairs.map(|(a, b)| (a - b).abs() / b).fold(0.0, |most, difference| {
        if difference > most || difference.is_nan() { difference } else { most }
    })
}

fn time(
    case: &Case,
    values: &[f32],
    architecture: &Architecture,
    options: &FitOptions,
) -> Result<Timing, Box<dyn Error>> {
    let mut best = Timing { name: "stonechat".into(), seconds: f64::INFINITY, losses: Vec::new() };
    for _ in 0..case.runs {
        let start = Instant::now();
        let rows = Rows::new(values, case.width)?;
        let fitted = fit_autoencoder(architecture, rows, options, |_| ControlFlow::Continue(()))?;
        best.seconds = best.seconds.min(start.elapsed().as_secs_f64());
        best.losses = fitted.history.iter().map(|now| now.train_loss).collect();
    }
    Ok(best)
}

/// Runs the same fit in PyTorch; `None` when no Python with it is named.
fn peer(
    values: &[f32],
    architecture: &Architecture,
    options: &FitOptions,
) -> Result<Option<Timing>, Box<dyn Error>> {
    let Some(python) = std::env::var_os("STONECHAT_PYTHON") else {
        eprintln!("no peer: STONECHAT_PYTHON does not name a Python with PyTorch");
        return Ok(None);
    };
    if !Command::new(&python).args(["-c", "import torch"]).stderr(Stdio::null()).status()?.success()
    {
        eprintln!("no peer: the Python named by STONECHAT_PYTHON has no PyTorch");
        return Ok(None);
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench_fit_rows.f32");
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(&path, bytes)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracles/bench_fit.py");
    let output = Command::new(&python)
        .arg(script)
        .arg(&path)
        .args(
            [values.len() / architecture.widths[0], options.epochs, options.batch]
                .map(|number| number.to_string()),
        )
        .arg(options.seed.to_string())
        .args(architecture.widths.iter().map(usize::to_string))
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("bench_fit.py failed; its message is above".into());
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let numbers = |key: &str| -> Vec<f64> {
        let list = report[key].as_array();
        list.into_iter().flatten().filter_map(Value::as_f64).collect()
    };
    Ok(Some(Timing {
        name: format!(
            "PyTorch {}, fused Adam, 1 thread",
            report["torch"].as_str().unwrap_or_default()
        ),
        seconds: numbers("seconds").into_iter().fold(f64::INFINITY, f64::min),
        losses: numbers("losses"),
    }))
}

/// Rows in which four random factors explain every column but for the noise.
fn rows(count: usize, width: usize) -> Vec<f32> {
    let mut state = 1_u32;
    let mut noise = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0 - 0.5
    };
    let mut values = Vec::with_capacity(count * width);
    for _ in 0..count {
        let factors = [(); 4].map(|()| 6.0 * noise());
        for column in 0..width {
            let c = column as f32;
            let mix = factors[0] * (c * 0.3).sin()
                + factors[1] * (c * 0.7).cos()
                + (factors[2] + c * 0.2).sin()
                + (factors[3] * (c * 0.5).sin()).tanh();
            values.push(0.5 * mix + 0.5 * noise());
        }
    }
    values
}
