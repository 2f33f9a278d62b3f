//! Times reading a CSV file of a million rows, beside pandas when it is there.
//!
//! `STONECHAT_PYTHON` names a Python with pandas; without it only our own time is printed. `--json`
//! prints one object a line.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::print_stderr, reason = "a benchmark says what it leaves out on stderr")]

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use stonechat_train::dataset::{ReadOptions, read_csv};
use stonechat_train::random::Random;

const ROWS: usize = 1_000_000;
/// Beside the time.
const COLUMNS: usize = 5;
/// Runs before and again after the peer's.
const RUNS: usize = 3;
/// The sums of all cells may differ by this share: ours are f32, the peer's f64.
const SUM_TOLERANCE: f64 = 1e-6;

fn main() -> Result<(), Box<dyn Error>> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench_rows.csv");
    std::fs::write(&path, rows())?;
    let ours = time(&path)?;
    let peer = peer(&path)?;
    let after = time(&path)?;
    let seconds = ours.0.min(after.0);
    let mut object = json!({
        "name": "csv/million_rows_of_six_columns",
        "value": seconds,
        "unit": "s",
    });
    if let Some(peer) = peer {
        let sum = peer["sum"].as_f64().unwrap_or(f64::NAN);
        let difference = ((ours.1 - sum) / sum).abs();
        if difference.is_nan() || difference > SUM_TOLERANCE {
            return Err(format!("we read other numbers: their sum is {}, not {sum}", ours.1).into());
        }
        let theirs = peer["seconds"].as_f64().unwrap_or(f64::NAN);
        object["peer"] = json!(format!("pandas {}", peer["pandas"].as_str().unwrap_or_default()));
        object["peer_value"] = json!(theirs);
        object["ratio"] = json!(theirs / seconds);
    }
    let json = std::env::args().any(|argument| argument == "--json");
    println!("{}", if json { object.to_string() } else { format!("{object:#}") });
    Ok(())
}

/// The shortest time of some runs and the sum of all samples.
fn time(path: &Path) -> Result<(f64, f64), Box<dyn Error>> {
    let mut best = f64::INFINITY;
    let mut sum = 0.0;
    for _ in 0..RUNS {
        let start = Instant::now();
        let (recording, _) = read_csv(path, &ReadOptions::default())?;
        best = best.min(start.elapsed().as_secs_f64());
        sum = recording.samples.iter().copied().map(f64::from).sum();
    }
    Ok((best, sum))
}

fn peer(path: &Path) -> Result<Option<Value>, Box<dyn Error>> {
    let Some(python) = std::env::var_os("STONECHAT_PYTHON") else {
        eprintln!("no peer: STONECHAT_PYTHON does not name a Python with pandas");
        return Ok(None);
    };
    let has = Command::new(&python).args(["-c", "import pandas"]).stderr(Stdio::null()).status()?;
    if !has.success() {
        eprintln!("no peer: the Python named by STONECHAT_PYTHON has no pandas");
        return Ok(None);
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracles/bench_csv.py");
    let output = Command::new(&python).arg(script).arg(path).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err("bench_csv.py failed; its message is above".into());
    }
    Ok(Some(serde_json::from_slice(&output.stdout)?))
}

/// Seconds and readings as loggers write them, with three decimals.
fn rows() -> String {
    let mut random = Random::new(1);
    let mut text = String::from("time");
    for column in 0..COLUMNS {
        // Writing to a String cannot fail.
        let _ = write!(text, ",channel{column}");
    }
    for row in 0..ROWS {
        let _ = write!(text, "\n{}.{}", row / 10, row % 10);
        for _ in 0..COLUMNS {
            let _ = write!(text, ",{:.3}", 20.0 + 5.0 * random.normal());
        }
    }
    text.push('\n');
    text
}
