//! Times the fit of recurrent autoencoders on one thread and on two, beside PyTorch when it is there.
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
use stonechat_train::fit::FitOptions;
use stonechat_train::fit::recurrent::network::{Cell, Form, RecurrentLayer, RecurrentNetwork};
use stonechat_train::fit::recurrent::{
    RecurrentArchitecture, RecurrentFitOptions, fit_recurrent, initial_recurrent,
};
use stonechat_train::network::Activation;
use stonechat_train::rows::Rows;

/// What is fitted: windows of [`STEPS`] vectors of [`AXES`].
struct Case {
    name: &'static str,
    cell: Cell,
    encoder: &'static [usize],
}

const CASES: [Case; 2] = [
    Case { name: "fit/lstm_autoencoder_32x3_16", cell: Cell::Lstm, encoder: &[16] },
    Case { name: "fit/gru_autoencoder_32x3_16", cell: Cell::Gru, encoder: &[16] },
];
const WINDOWS: usize = 5_000;
const STEPS: usize = 32;
const AXES: usize = 3;
const EPOCHS: usize = 5;
const BATCH: usize = 64;
/// Runs before and again after the peer's.
const RUNS: usize = 5;
const THREADS: [usize; 2] = [1, 2];

/// Rows, first weights and order are the same, so the losses of each epoch differ by rounding only.
const LOSS_TOLERANCE: f64 = 0.003;

fn main() -> Result<(), Box<dyn Error>> {
    let json = std::env::args().any(|argument| argument == "--json");
    let values = rows();
    for case in &CASES {
        for object in compare(case, &values)? {
            if json {
                println!("{object}");
            } else {
                println!("{object:#}");
            }
        }
    }
    Ok(())
}

/// Times one case and, when it can run, its peer; one object for each of [`THREADS`].
fn compare(case: &Case, values: &[f32]) -> Result<Vec<Value>, Box<dyn Error>> {
    let architecture = RecurrentArchitecture {
        form: Form::Staggered,
        cell: case.cell,
        inputs: AXES,
        encoder: case.encoder.to_vec(),
        steps: STEPS,
        output: Activation::Linear,
    };
    let fit =
        FitOptions { epochs: EPOCHS, batch: BATCH, validation_share: 0.0, ..FitOptions::default() };
    let options = RecurrentFitOptions { fit, clip_norm: None };
    // The peer runs between two halves of our runs, so that both meet the same machine.
    let before = time(values, &architecture, &options)?;
    let peer = peer(values, &architecture, &options)?;
    let after = time(values, &architecture, &options)?;
    if before[0].losses != before[1].losses {
        return Err("two threads gave other losses than one".into());
    }
    if let Some(peer) = &peer {
        let difference = furthest(&before[0].losses, &peer.losses);
        if difference.is_nan() || difference > LOSS_TOLERANCE {
            return Err(format!(
                "the losses differ by up to {:.2} %, so the times are not comparable: ours {:?}, the peer's {:?}",
                100.0 * difference,
                before[0].losses,
                peer.losses
            )
            .into());
        }
    }
    let object = |index: usize| {
        let seconds = before[index].seconds.min(after[index].seconds);
        let mut object = json!({
            "name": format!("{}_threads_{}", case.name, THREADS[index]),
            "value": seconds,
            "unit": "s",
            "loss": before[index].losses.last(),
        });
        if let Some(peer) = &peer {
            object["peer"] = json!(peer.name);
            object["peer_value"] = json!(peer.seconds);
            object["peer_loss"] = json!(peer.losses.last());
            object["loss_difference_max"] = json!(furthest(&before[index].losses, &peer.losses));
            object["ratio"] = json!(peer.seconds / seconds);
        }
        object
    };
    Ok((0..THREADS.len()).map(object).collect())
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

/// Times the fit for each of [`THREADS`].
fn time(
    values: &[f32],
    architecture: &RecurrentArchitecture,
    options: &RecurrentFitOptions,
) -> Result<Vec<Timing>, Box<dyn Error>> {
    // Each window is a run of its own, so that none overlaps another.
    let run_starts: Vec<usize> = (0..WINDOWS).map(|window| window * STEPS).collect();
    let mut timings = Vec::new();
    for threads in THREADS {
        let mut best =
            Timing { name: "stonechat".into(), seconds: f64::INFINITY, losses: Vec::new() };
        for _ in 0..RUNS {
            let start = Instant::now();
            let rows = Rows::new(values, AXES)?;
            let fitted = fit_recurrent(architecture, rows, &run_starts, options, threads, |_| {
                ControlFlow::Continue(())
            })?;
            best.seconds = best.seconds.min(start.elapsed().as_secs_f64());
            best.losses = fitted.history.iter().map(|now| now.train_loss).collect();
        }
        timings.push(best);
    }
    Ok(timings)
}

/// Runs the same fit in PyTorch; `None` when no Python with it is named.
fn peer(
    values: &[f32],
    architecture: &RecurrentArchitecture,
    options: &RecurrentFitOptions,
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
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let rows_path = scratch.join("bench_recurrent_rows.f32");
    let weights_path = scratch.join("bench_recurrent_weights.f32");
    write(&rows_path, values)?;
    let network = initial_recurrent(architecture, options.fit.seed)?;
    write(&weights_path, &weights(&network))?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracles/bench_recurrent.py");
    let cell = if architecture.cell == Cell::Lstm { "lstm" } else { "gru" };
    let numbers = [WINDOWS, STEPS, AXES, options.fit.epochs, options.fit.batch];
    let output = Command::new(&python)
        .arg(script)
        .args([&rows_path, &weights_path])
        .arg(cell)
        .args(numbers.map(|number| number.to_string()))
        .arg(options.fit.seed.to_string())
        .args(architecture.encoder.iter().map(usize::to_string))
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("bench_recurrent.py failed; its message is above".into());
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let numbers = |key: &str| -> Vec<f64> {
        let list = report[key].as_array();
        list.into_iter().flatten().filter_map(Value::as_f64).collect()
    };
    let text = |key: &str| report[key].as_str().unwrap_or_default();
    Ok(Some(Timing {
        name: format!("PyTorch {}, {}, 1 thread", text("torch"), text("setting")),
        seconds: numbers("seconds").into_iter().fold(f64::INFINITY, f64::min),
        losses: numbers("losses"),
    }))
}

fn write(path: &Path, values: &[f32]) -> std::io::Result<()> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(path, bytes)
}

/// All parameters in a row: of each layer input weights, recurrent weights and biases, then the
/// output's.
fn weights(network: &RecurrentNetwork) -> Vec<f32> {
    let layers = network.encoder.iter().chain(&network.decoder);
    let parts = |layer: &RecurrentLayer| {
        [
            layer.input_weights.clone(),
            layer.recurrent_weights.clone(),
            layer.input_bias.clone(),
            layer.recurrent_bias.clone(),
        ]
        .concat()
    };
    let mut all: Vec<f32> = layers.flat_map(parts).collect();
    all.extend(&network.output.weights);
    all.extend(&network.output.bias);
    all
}

/// Windows of a vibration of changing rate and phase on three axes, with noise.
fn rows() -> Vec<f32> {
    let mut state = 1_u32;
    let mut noise = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0 - 0.5
    };
    let mut values = Vec::with_capacity(WINDOWS * STEPS * AXES);
    for _ in 0..WINDOWS {
        let (rate, phase) = (0.3 + 0.2 * noise(), 6.0 * noise());
        for step in 0..STEPS {
            for axis in 0..AXES {
                let angle = rate * step as f32 + phase + axis as f32;
                values.push(angle.sin() + 0.3 * (2.0 * angle).cos() + 0.2 * noise());
            }
        }
    }
    values
}
