//! Times features over many windows, beside NumPy and SciPy vectorised over the same windows.
//!
//! `STONECHAT_PYTHON` names a Python with `testdata/oracles/requirements-features.txt`; without it
//! only our own times are printed. `--json` prints one object a line.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::print_stderr, reason = "a benchmark says what it leaves out on stderr")]

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use stonechat_core::features::{Feature, Workspace};
use stonechat_core::window::Window;
use stonechat_train::recipe::parse_feature;

/// What is computed of one shape of windows.
struct Case {
    spellings: &'static [&'static str],
    window_len: usize,
    windows: usize,
    rate_hz: f32,
}

const CASES: [Case; 3] = [
    Case {
        spellings: &[
            "mean",
            "variance",
            "standard_deviation",
            "rms",
            "minimum",
            "peak_to_peak",
            "slope",
            "skewness",
            "kurtosis",
            "crest_factor",
            "zero_crossing_rate",
            "median_abs_deviation",
            "autocorrelation_peak",
            "maximum_difference",
            "band_energy:8",
            "spectral_centroid",
            "spectral_rolloff",
            "spectral_flatness",
            "dominant_frequency",
            "envelope_band_energy:8",
            "log_mel:40:1024:512",
            "mfcc:13:40:1024:512",
        ],
        window_len: 1_024,
        windows: 250,
        rate_hz: 6_600.0,
    },
    // The features of MLPerf Tiny's anomaly detector.
    Case {
        spellings: &["log_mel:128:1024:512"],
        window_len: 3_072,
        windows: 60,
        rate_hz: 16_000.0,
    },
    Case {
        spellings: &["thd:40", "harmonics:40", "fundamental_frequency", "mains_rms"],
        window_len: 1_280,
        windows: 60,
        rate_hz: 6_400.0,
    },
];

/// Runs before and again after the peer's.
const RUNS: usize = 40;
/// The means of ours and the peer's may differ by this share: the peer works in single precision too.
const TOLERANCE: f64 = 2.0e-3;

fn main() -> Result<(), Box<dyn Error>> {
    let json = std::env::args().any(|argument| argument == "--json");
    for case in &CASES {
        let samples = samples(case);
        for spelling in case.spellings {
            let object = compare(case, spelling, &samples)?;
            if json {
                println!("{object}");
            } else {
                let text = |key: &str| object[key].as_f64().unwrap_or(f64::NAN);
                println!(
                    "{:<46} {:>8.2} us/window  peer {:>8.2}  ratio {:>6.2}",
                    object["name"].as_str().unwrap_or_default(),
                    text("value"),
                    text("peer_value"),
                    text("ratio")
                );
            }
        }
    }
    Ok(())
}

/// Times one feature and, when it can run, its peer.
fn compare(case: &Case, spelling: &str, samples: &[f32]) -> Result<Value, Box<dyn Error>> {
    let feature = parse_feature(spelling, 0, case.window_len)?;
    let mut samples = samples.to_vec();
    // The peer runs between two halves of our runs, so that both meet the same machine.
    let (mut seconds, mean) = time(case, feature, &mut samples);
    let peer = peer(case, spelling, &samples)?;
    seconds = seconds.min(time(case, feature, &mut samples).0);
    let micros = |seconds: f64| 1.0e6 * seconds / case.windows as f64;
    let mut object = json!({
        "name": format!("features/{spelling}/{}", case.window_len),
        "value": micros(seconds),
        "unit": "us/window",
    });
    if let Some(peer) = peer {
        let difference = (mean - peer.mean).abs() / peer.mean.abs().max(1.0e-6);
        if difference.is_nan() || difference > TOLERANCE {
            return Err(format!(
                "{spelling}: the mean is {mean}, the peer's {}, so the times are not comparable",
                peer.mean
            )
            .into());
        }
        object["peer"] = json!(peer.name);
        object["peer_value"] = json!(micros(peer.seconds));
        object["ratio"] = json!(peer.seconds / seconds);
    }
    Ok(object)
}

/// Returns the shortest time over all windows, and the mean of what came out.
fn time(case: &Case, feature: Feature, samples: &mut [f32]) -> (f64, f64) {
    let list = || std::iter::once(feature);
    let mut memory = vec![0.0; Workspace::words(list(), case.window_len)];
    let mut workspace = Workspace::new(list(), case.window_len, case.rate_hz, &mut memory);
    let len = feature.output_len(case.window_len).expect("the feature was parsed for the window");
    let mut outputs = vec![0.0; len * case.windows];
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let start = Instant::now();
        let windows = samples.chunks_exact_mut(case.window_len);
        for (samples, output) in windows.zip(outputs.chunks_exact_mut(len)) {
            let window = Window::complete(samples, case.window_len);
            workspace.begin();
            feature.compute(&window, case.rate_hz, &mut workspace, output);
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    let sum: f64 = outputs.iter().map(|output| f64::from(*output)).sum();
    (best, sum / outputs.len() as f64)
}

struct Peer {
    name: String,
    seconds: f64,
    mean: f64,
}

/// Computes the same in NumPy and SciPy; `None` when no Python with them is named.
fn peer(case: &Case, spelling: &str, samples: &[f32]) -> Result<Option<Peer>, Box<dyn Error>> {
    let Some(python) = std::env::var_os("STONECHAT_PYTHON") else {
        eprintln!("no peer: STONECHAT_PYTHON does not name a Python with NumPy and SciPy");
        return Ok(None);
    };
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench_features.f32");
    let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    std::fs::write(&path, bytes)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracles/bench_features.py");
    let output = Command::new(&python)
        .arg(script)
        .arg(&path)
        .args([case.window_len.to_string(), case.rate_hz.to_string(), spelling.to_owned()])
        // As ours, one thread.
        .envs([("OPENBLAS_NUM_THREADS", "1"), ("OMP_NUM_THREADS", "1")])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("bench_features.py failed; its message is above".into());
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let number = |key: &str| report[key].as_f64().unwrap_or(f64::NAN);
    Ok(Some(Peer {
        name: report["peer"].as_str().unwrap_or_default().to_owned(),
        seconds: number("seconds"),
        mean: number("mean"),
    }))
}

/// Mains at 49.7 Hz with harmonics, a higher tone and noise.
fn samples(case: &Case) -> Vec<f32> {
    let mut state = 1_u32;
    let mut noise = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0 - 0.5
    };
    let sample = |n: usize| {
        let turn = std::f64::consts::TAU * 49.7 * n as f64 / f64::from(case.rate_hz);
        let wave = turn.sin() + 0.1 * (3.0 * turn).sin() + 0.05 * (7.0 * turn + 1.0).sin();
        wave as f32 + 0.2 * noise() + 0.05
    };
    (0..case.windows * case.window_len).map(sample).collect()
}
