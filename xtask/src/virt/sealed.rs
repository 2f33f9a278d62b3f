//! The device's side of the sealed session on the emulated chip, against a test vector.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Row;
use super::emulator::{CPU, Emulator, JOB_ADDRESS, QEMU};

/// The vector that fits the chip's program: its first message has counter 0.
const CASE: &str = "plain";

/// Runs a session on the chip and returns its costs: instructions and bytes of stack of each part.
///
/// # Errors
/// Fails where the chip says another byte than the vector, or cannot be run.
pub(super) fn run(root: &Path, emulator: &Emulator) -> Result<Vec<Row>> {
    let vector = vector(root)?;
    let path = root.join("firmware/target").join(format!("sealed-{}.bin", std::process::id()));
    fs::write(&path, &vector).with_context(|| format!("cannot write {}", path.display()))?;
    let output = Command::new(QEMU)
        .args(["-M", "virt", "-cpu", CPU, "-bios", "none", "-icount", "shift=0"])
        .args(["-display", "none", "-monitor", "none", "-serial", "stdio"])
        .arg("-kernel")
        .arg(emulator.program("sealed"))
        .arg("-device")
        .arg(format!("loader,file={},addr={JOB_ADDRESS},force-raw=on", path.display()))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let _ = fs::remove_file(&path);
    let output = output.with_context(|| format!("cannot start {QEMU}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("the sealed session on the chip differs from its vector: {}", text.trim());
    }
    let mut rows = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[name, value, stack] = words.as_slice() else {
            bail!("the chip says `{line}`");
        };
        let (value, stack): (f64, f64) = (value.parse()?, stack.parse()?);
        if stack == 0.0 {
            rows.push(Row { name: format!("sealed.{name}"), value, unit: "bytes" });
        } else {
            let name = format!("sealed.{name}");
            rows.push(Row { name: format!("{name}_instructions"), value, unit: "instructions" });
            rows.push(Row { name: format!("{name}_stack_bytes"), value: stack, unit: "bytes" });
        }
    }
    Ok(rows)
}

/// Lays a vector out as the chip's program reads it.
fn vector(root: &Path) -> Result<Vec<u8>> {
    let path = root.join("testdata/sealed.json");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let vectors: Value = serde_json::from_str(&text)?;
    let cases = vectors["cases"].as_array().context("the vectors have no cases")?;
    let case = cases.iter().find(|case| case["name"] == CASE).context("the vector is missing")?;
    let field = |value: &Value| bytes(value.as_str().context("a field of the vector is no text")?);
    let session = case["session"].as_u64().context("the session is no number")? as u32;
    let random = [field(&case["device_ephemeral"])?, session.to_le_bytes().to_vec()].concat();
    let parts = [
        field(&case["device_secret"])?,
        field(&case["server_public"])?,
        random,
        field(&case["hello"])?,
        field(&case["welcome"])?,
        field(&case["uplinks"][0]["text"])?,
        field(&case["uplinks"][0]["frame"])?,
        field(&case["acknowledgement"])?,
    ];
    Ok(parts
        .iter()
        .flat_map(|part| [&(part.len() as u16).to_le_bytes()[..], part].concat())
        .collect())
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let byte = |at| Ok(u8::from_str_radix(hex.get(at..at + 2).context("odd digits")?, 16)?);
    (0..hex.len()).step_by(2).map(byte).collect()
}
