//! Builds the chip's program and runs jobs on the emulated chip.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use stonechat_job::format::Job;

use super::Report;
use super::toolchain::{TARGET, Toolchain, runs};

pub(super) const QEMU: &str = "qemu-system-riscv32";
/// Just the extensions that an ESP32-C3 has, so that any other instruction traps.
pub(super) const CPU: &str = "rv32,a=off,f=off,d=off";
/// Where the linker script of `board-virt` expects the job.
pub(super) const JOB_ADDRESS: &str = "0x84000000";

/// The emulated chip with its program.
pub struct Emulator {
    folder: PathBuf,
}

impl Emulator {
    /// Builds the chip's program.
    ///
    /// # Errors
    /// Fails where a tool is missing (and says what to install) or the build fails.
    pub fn build(root: &Path) -> Result<Self> {
        if !runs(QEMU) {
            bail!("{QEMU} is missing; on Debian run `apt-get install qemu-system-misc`");
        }
        let firmware = root.join("firmware");
        let status = Toolchain::find()?
            .build(&firmware)
            .args(["--package", "board-virt"])
            .status()
            .context("cannot start cargo for the chip")?;
        if !status.success() {
            bail!("board-virt does not build for {TARGET}");
        }
        let folder = firmware.join("target");
        Ok(Self { folder })
    }

    /// One of the chip's programs, an ELF file.
    #[must_use]
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(TARGET).join("release").join(name)
    }

    /// Runs one job; counts are exact where the job asks for them.
    ///
    /// # Errors
    /// Fails where the chip refuses the job, traps, panics, says something else,
    /// or takes longer than `limit` (then it is ended).
    pub fn run(&self, job: &[u8], limit: Duration) -> Result<Report> {
        let count = match Job::parse(job) {
            Ok(job) => job.settings.count,
            // The chip shall get to see damaged jobs, too.
            Err(_) => false,
        };
        let file = JobFile::write(&self.folder, job)?;
        let mut command = Command::new(QEMU);
        command
            .args(["-M", "virt", "-cpu", CPU, "-bios", "none"])
            .args(["-display", "none", "-monitor", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(self.program("board-virt"))
            .arg("-device")
            .arg(format!(
                "loader,file={},addr={JOB_ADDRESS},force-raw=on",
                file.0.display().to_string().replace(',', ",,")
            ));
        if count {
            command.args(["-icount", "shift=0"]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("cannot start {QEMU}"))?;
        Running(child).report(limit)
    }
}

/// A job's file, removed when it is no longer needed.
struct JobFile(PathBuf);

impl JobFile {
    fn write(folder: &Path, job: &[u8]) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("job-{}-{number}.bin", std::process::id()));
        fs::write(&path, job).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for JobFile {
    fn drop(&mut self) {
        // A file that stays behind in the target folder does no harm.
        let _ = fs::remove_file(&self.0);
    }
}

/// A running emulator, ended when it is no longer needed.
struct Running(Child);

impl Running {
    fn report(mut self, limit: Duration) -> Result<Report> {
        let deadline = Instant::now() + limit;
        let output = self.0.stdout.take().context("no output to read")?;
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                // Nobody listens any more once the limit has passed.
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let mut report = Report::default();
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    report.take_in(line.context("the chip's output is not text")?.trim())?
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    bail!("the chip did not finish within {} s", limit.as_secs())
                }
            }
        }
        let status = self.0.wait().context("cannot wait for the emulator")?;
        if !status.success() || !report.is_whole() {
            bail!("the chip stopped before the end of its report ({status})");
        }
        Ok(report)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; both calls then change nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
