//! Times the fit of a 16-32-16-8-16-32-16 autoencoder, beside PyTorch when it is there.
//!
//! `STONECHAT_PYTHON` names a Python with `testdata/oracles/requirements-bench.txt`; without it only
//! our own time is printed. `--json` prints one object a line.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(
    clippy::print_stderr,
    reason = "a benchmark says what it leaves out on stderr"
)]

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use stonechat_train::fit::{Architecture, FitOptions, fit_autoencoder};
use stonechat_train::rows::Rows;

const ROWS: usize = 20_000;
const WIDTH: usize = 16;
const RUNS: usize = 9;
/// The two losses differ by rounding only, as rows, first weights and order are the same.
const LOSS_TOLERANCE: f64 = 0.003;

fn main() -> Result<(), Box<dyn Error>> {
    let json = std::env::args().any(|argument| argument == "--json");
    let values = rows(ROWS, WIDTH);
    let architecture = Architecture::autoencoder(WIDTH, &[32, 16, 8]);
    let options = FitOptions {
        epochs: 20,
        batch: 64,
        validation_share: 0.0,
        ..FitOptions::default()
    };
    // The peer runs between two halves of our runs, so that both meet the same machine.
    let mut ours = time(&values, &architecture, &options)?;
    let peer = peer(&values, &architecture, &options)?;
    let after = time(&values, &architecture, &options)?;
    ours.seconds = ours.seconds.min(after.seconds);

    let mut object = json!({
        "name": "fit/dense_autoencoder_16_32_16_8",
        "value": ours.seconds,
        "unit": "s",
        "loss": ours.loss,
    });
    if let Some(peer) = peer {
        let difference = (ours.loss - peer.loss).abs() / peer.loss;
        if difference > LOSS_TOLERANCE {
            return Err(format!(
                "the losses differ by {:.2} %: ours {}, the peer's {}; the times are not comparable",
                100.0 * difference,
                ours.loss,
                peer.loss
            )
            .into());
        }
        object["peer"] = json!(peer.name);
        object["peer_value"] = json!(peer.seconds);
        object["peer_loss"] = json!(peer.loss);
        object["ratio"] = json!(peer.seconds / ours.seconds);
    }
    if json {
        println!("{object}");
    } else {
        println!("{object:#}");
    }
    Ok(())
}

/// A fit's shortest time and its training loss in the last epoch.
struct Timing {
    name: String,
    seconds: f64,
    loss: f64,
}

fn time(
    values: &[f32],
    architecture: &Architecture,
    options: &FitOptions,
) -> Result<Timing, Box<dyn Error>> {
    let mut best = Timing {
        name: "stonechat".into(),
        seconds: f64::INFINITY,
        loss: f64::NAN,
    };
    for _ in 0..RUNS {
        let start = Instant::now();
        let rows = Rows::new(values, WIDTH)?;
        let fitted = fit_autoencoder(architecture, rows, options, |_| ControlFlow::Continue(()))?;
        best.seconds = best.seconds.min(start.elapsed().as_secs_f64());
        best.loss = fitted.history.last().ok_or("no epoch was run")?.train_loss;
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
    if !Command::new(&python)
        .args(["-c", "import torch"])
        .stderr(Stdio::null())
        .status()?
        .success()
    {
        eprintln!("no peer: the Python named by STONECHAT_PYTHON has no PyTorch");
        return Ok(None);
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench_fit_rows.f32");
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    std::fs::write(&path, bytes)?;
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/oracles/bench_fit.py"
    );
    let output = Command::new(&python)
        .arg(script)
        .arg(&path)
        .args([ROWS, options.epochs, options.batch].map(|number| number.to_string()))
        .arg(options.seed.to_string())
        .args(architecture.widths.iter().map(usize::to_string))
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("bench_fit.py failed; its message is above".into());
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let seconds = report["seconds"].as_array().ok_or("no seconds")?;
    Ok(Some(Timing {
        name: format!(
            "PyTorch {}, fused Adam, 1 thread",
            report["torch"].as_str().unwrap_or_default()
        ),
        seconds: seconds
            .iter()
            .filter_map(Value::as_f64)
            .fold(f64::INFINITY, f64::min),
        loss: report["loss"].as_f64().ok_or("no loss")?,
    }))
}

/// Rows in which four random factors explain every column but for a little noise.
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
            values.push(0.5 * mix + 0.1 * noise());
        }
    }
    values
}
