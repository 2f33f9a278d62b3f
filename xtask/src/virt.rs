//! The emulated chip: rv32imc under `qemu-system-riscv32 -M virt`.
//!
//! [`test`] demands that the chip and the host agree bit for bit on features,
//! scores and verdicts; [`bench`] counts the chip's instructions and bytes.

mod cases;
mod elf;
mod emulator;
mod report;
mod toolchain;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use stonechat_job::format::{Layout, Settings};

pub use report::Report;

use emulator::Emulator;

/// Windows that the chip and the host must agree on, for each detector.
const WINDOWS: u32 = 10_000;
/// Windows whose instructions are counted.
const WINDOWS_COUNTED: u32 = 200;
/// Windows to a digest, so that a difference can be located.
const BLOCK_WINDOWS: u32 = 100;
/// How long one job may take on the emulated chip.
const JOB_LIMIT: Duration = Duration::from_secs(300);

/// One measured figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// `detector.quantity`.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
}

/// Runs the part `virt` of the tests: equal bits on the host and on the chip.
///
/// Returns one line for each detector, saying what was compared.
///
/// # Errors
/// Fails where the chip's program cannot be built or run, and for the first
/// detector whose digests differ.
pub fn test(root: &Path) -> Result<Vec<String>> {
    let emulator = Emulator::build(root)?;
    let mut lines = Vec::new();
    for case in cases::all(WINDOWS)? {
        let job = job(&case.detector, case.channels, &case.samples, false)?;
        let host = Report::on_host(&job)?;
        case.check(&host.total)?;
        let chip = emulator.run(&job, JOB_LIMIT)?;
        host.compare(&chip)
            .with_context(|| format!("detector {}", case.name))?;
        lines.push(format!(
            "{}: {} windows equal, {} anomalies, {} faults, digest {:016x}",
            case.name,
            chip.total.windows,
            chip.total.anomalies,
            chip.total.faults,
            chip.total.digest
        ));
    }
    Ok(lines)
}

/// Counts instructions and bytes on the chip.
///
/// # Errors
/// Fails where the chip's program cannot be built or run.
pub fn bench(root: &Path) -> Result<Vec<Row>> {
    let emulator = Emulator::build(root)?;
    let mut rows = Vec::new();
    for case in cases::all(WINDOWS_COUNTED)? {
        let job = job(&case.detector, case.channels, &case.samples, true)?;
        let chip = emulator.run(&job, JOB_LIMIT)?;
        // Counting must not change what is computed.
        Report::on_host(&job)?
            .compare(&chip)
            .with_context(|| format!("detector {}", case.name))?;
        rows.extend(chip.rows(&case.name));
    }
    rows.push(Row {
        name: "board_virt.flash_bytes".into(),
        value: elf::flash_bytes(emulator.program())? as f64,
        unit: "bytes",
    });
    Ok(rows)
}

/// Runs one detector file over samples (in the order of the samples, channels
/// interleaved) on the emulated chip, and demands that the host agrees.
///
/// # Errors
/// Fails where the chip's program cannot be built or run, for a detector that is
/// refused, and where the chip and the host differ.
pub fn run_job(
    root: &Path,
    detector: &[u8],
    channels: usize,
    samples: &[f32],
    count: bool,
) -> Result<Report> {
    let job = job(detector, channels, samples, count)?;
    let chip = Emulator::build(root)?.run(&job, JOB_LIMIT)?;
    Report::on_host(&job)?.compare(&chip)?;
    Ok(chip)
}

fn job(detector: &[u8], channels: usize, samples: &[f32], count: bool) -> Result<Vec<u8>> {
    let settings = Settings {
        channels,
        block_windows: BLOCK_WINDOWS,
        count,
    };
    let layout = Layout::plan(settings, detector.len(), samples.len())?;
    let mut bytes = vec![0; layout.len()];
    layout.write(&mut bytes, detector, samples)?;
    Ok(bytes)
}
