//! The emulated chip: rv32imc under `qemu-system-riscv32 -M virt`.
//!
//! [`test`] demands that the chip and the host agree bit for bit on features,
//! scores and verdicts; [`bench`] counts the chip's instructions and bytes.

mod cases;
mod elf;
mod emulator;
mod kinds;
mod report;
mod sealed;
mod toolchain;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use stonechat_job::format::{Layout, Settings};

pub use report::Report;

use emulator::Emulator;

/// Windows that the chip and the host must agree on, for each detector.
const WINDOWS: u32 = 10_000;
/// As many for a trained detector of each kind.
const WINDOWS_OF_A_KIND: u32 = 1_000;
/// Windows whose instructions are counted.
const WINDOWS_COUNTED: u32 = 200;
/// Windows to a digest, so that a difference can be located.
const BLOCK_WINDOWS: u32 = 100;
/// How long one job may take on the emulated chip.
const JOB_LIMIT: Duration = Duration::from_secs(1_200);

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
/// Fails where the chip's program cannot be built or run, takes what is damaged, and for the first
/// detector whose digests differ.
pub fn test(root: &Path) -> Result<Vec<String>> {
    job_tests(root)?;
    let emulator = Emulator::build(root)?;
    refusals(&emulator)?;
    let mut lines = Vec::new();
    for case in cases::all(WINDOWS)? {
        let chip = compare(&emulator, &case, false)?;
        case.check(&chip.total)?;
        lines.push(compared(&case, &chip));
    }
    let mut wrong_costs = false;
    for kind in kinds::trained(root, WINDOWS_OF_A_KIND)? {
        let chip = compare(&emulator, &kind.case, true)?;
        kind.case.check(&chip.total)?;
        let cost = kind.cost(&chip);
        lines.push(format!("{}; {cost}", compared(&kind.case, &chip)));
        wrong_costs |= !cost.is_right();
    }
    for row in sealed::run(root, &emulator)? {
        lines.push(format!("{} {} {}", row.name, row.value, row.unit));
    }
    if wrong_costs {
        bail!("modelled costs are wrong:\n{}", lines.join("\n"));
    }
    Ok(lines)
}

/// Demands that chip and host agree on every bit of a case; returns the chip's report.
fn compare(emulator: &Emulator, case: &cases::Case, count: bool) -> Result<Report> {
    let job = job(&case.detector, case.channels, &case.samples, count)?;
    let host = Report::on_host(&job)?;
    let chip = emulator.run(&job, JOB_LIMIT)?;
    host.compare(&chip).with_context(|| format!("detector {}", case.name))?;
    Ok(chip)
}

fn compared(case: &cases::Case, chip: &Report) -> String {
    let total = chip.total;
    format!(
        "{}: {} windows equal, {} anomalies, {} faults, digest {:016x}",
        case.name, total.windows, total.anomalies, total.faults, total.digest
    )
}

/// Counts instructions and bytes on the chip.
///
/// `NAME.engine_instructions` is what interpreters are asked for, an int8 network from int8 to
/// int8; `NAME.window_instructions` is everything from the sample to the verdict.
/// `NAME.flash_bytes` is the program `inference` (start, loader, every engine) with the detector
/// file, `NAME.ram_bytes` working memory, state and stack.
///
/// # Errors
/// Fails where the chip's program cannot be built or run.
pub fn bench(root: &Path) -> Result<Vec<Row>> {
    let emulator = Emulator::build(root)?;
    let program_bytes = elf::flash_bytes(&emulator.program("inference"))?;
    let mut rows = Vec::new();
    let mut cases = cases::all(WINDOWS_COUNTED)?;
    cases.extend(cases::more_shapes(WINDOWS_COUNTED)?);
    cases.extend(kinds::trained(root, WINDOWS_COUNTED)?.into_iter().map(|kind| kind.case));
    for case in cases {
        // Counting must not change what is computed.
        let chip = compare(&emulator, &case, true)?;
        rows.extend(chip.rows(&case.name, program_bytes));
    }
    rows.extend(sealed::run(root, &emulator)?);
    Ok(rows)
}

/// Runs the tests of the code that both sides share; it belongs to the workspace of the firmware.
fn job_tests(root: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let status = Command::new(cargo)
        .args(["test", "--quiet", "--package", "stonechat-job"])
        .current_dir(root.join("firmware"))
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("the tests of stonechat-job failed");
    }
    Ok(())
}

/// Demands that the chip refuses what is damaged, and that a difference of one bit is seen; without
/// this the comparisons above could be blind.
fn refusals(emulator: &Emulator) -> Result<()> {
    let cases = cases::all(WINDOWS_COUNTED)?;
    let Some(case) = cases.first() else {
        bail!("there is no case");
    };
    let whole = job(&case.detector, case.channels, &case.samples, false)?;
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    let cut = &case.detector[..case.detector.len() - 4];
    let refused = [
        ("a damaged job", damaged, "checksum"),
        ("a cut detector", job(cut, case.channels, &case.samples, false)?, "detector is refused"),
    ];
    for (what, job, reason) in refused {
        match emulator.run(&job, JOB_LIMIT) {
            Ok(_) => bail!("the chip took {what}"),
            Err(error) if error.to_string().contains(reason) => {}
            Err(error) => bail!("the chip refused {what} for another reason: {error}"),
        }
    }
    let mut samples = case.samples.clone();
    samples[0] = f32::from_bits(samples[0].to_bits() ^ 1);
    let other = job(&case.detector, case.channels, &samples, false)?;
    if Report::on_host(&whole)?.compare(&emulator.run(&other, JOB_LIMIT)?).is_ok() {
        bail!("the comparison does not see that a sample differs in its lowest bit");
    }
    Ok(())
}

fn job(detector: &[u8], channels: usize, samples: &[f32], count: bool) -> Result<Vec<u8>> {
    let settings = Settings { channels, block_windows: BLOCK_WINDOWS, count };
    let layout = Layout::plan(settings, detector.len(), samples.len())?;
    let mut bytes = vec![0; layout.len()];
    layout.write(&mut bytes, detector, samples)?;
    Ok(bytes)
}
