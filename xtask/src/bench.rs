//! Measurements, beside peers in the same run where they can be had.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::setup::{self, cargo, shown};
use crate::{test, virt};

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// Training, features and reading, beside PyTorch, scikit-learn, YDF, SciPy and pandas.
    Train,
    /// Instructions, flash and memory on the emulated chip.
    Device,
    /// Messages stored a second and the latency of acknowledgements, beside mosquitto.
    Ingest,
}

/// What training consists of, each beside its fastest peers: dense and recurrent networks (PyTorch),
/// forests (scikit-learn, YDF), features (NumPy, SciPy), CSV (pandas).
const TRAINING_BENCHES: [&str; 5] = ["fit", "recurrent", "forest", "features", "csv"];

/// Runs the named measurements, or all of them.
pub fn run(root: &Path, names: &[Name], json: bool) -> Result<()> {
    let names = if names.is_empty() { Name::value_variants() } else { names };
    for name in names {
        for row in measure(root, *name)? {
            if json { println!("{row}") } else { println!("{}", text(&row)) }
        }
    }
    Ok(())
}

/// Runs one measurement and returns its rows.
pub fn measure(root: &Path, name: Name) -> Result<Vec<Value>> {
    match name {
        Name::Train => {
            let python =
                setup::python(root, "bench", &["testdata/oracles/requirements-bench.txt"])?;
            let mut all = Vec::new();
            for name in TRAINING_BENCHES {
                let mut command = bench(root, "stonechat-train", name);
                let measured = rows(command.env("STONECHAT_PYTHON", &python))?;
                measured.iter().for_each(|row| eprintln!("{row}"));
                all.extend(measured);
            }
            Ok(all)
        }
        Name::Device => {
            setup::debian(test::VIRT_PACKAGES)?;
            let row =
                |row: virt::Row| json!({"name": row.name, "value": row.value, "unit": row.unit});
            Ok(virt::bench(root)?.into_iter().map(row).collect())
        }
        Name::Ingest => {
            setup::debian(&[("mosquitto", "mosquitto")])?;
            rows(&mut bench(root, "stonechat-server", "ingest"))
        }
    }
}

fn bench(root: &Path, package: &str, name: &str) -> Command {
    let mut command = cargo();
    command.current_dir(root).args([
        "bench",
        "--quiet",
        "--package",
        package,
        "--bench",
        name,
        "--",
        "--json",
    ]);
    command
}

/// Runs a command and reads its objects, one a line.
pub(crate) fn rows(command: &mut Command) -> Result<Vec<Value>> {
    let output = command.stderr(Stdio::inherit()).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("`{}` failed: {}", shown(command), output.status);
    }
    let lines = String::from_utf8(output.stdout)?;
    let objects = lines.lines().filter(|line| line.starts_with('{'));
    let parse = |line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"));
    let rows = objects.map(parse).collect::<Result<Vec<Value>>>()?;
    if rows.is_empty() {
        bail!("`{}` measured nothing", shown(command));
    }
    Ok(rows)
}

fn text(row: &Value) -> String {
    let own = format!(
        "{:<40} {:>14} {}",
        row["name"].as_str().unwrap_or_default(),
        row["value"],
        row["unit"].as_str().unwrap_or_default()
    );
    match row["peer"].as_str() {
        Some(peer) => format!("{own}   {peer} {} (ratio {})", row["peer_value"], row["ratio"]),
        None => own,
    }
}
