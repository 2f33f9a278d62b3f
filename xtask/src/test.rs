//! The tests, in parts.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::setup::{self, cargo};
use crate::virt;

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Every Rust test that needs nothing but Rust, and the dashboard's type check.
    Unit,
    /// Metrics and exported models against scikit-learn, TensorFlow Lite Micro and LiteRT.
    Oracles,
    /// Features, scores and verdicts on the emulated chip, bit by bit.
    Virt,
    /// Twenty times `kill -9` of the server under load.
    Crash,
    /// The dashboard in headless Chromium.
    Browser,
    /// The real recordings of the folder STONECHAT_DATA.
    Data,
}

impl Part {
    fn about(self) -> String {
        self.to_possible_value()
            .and_then(|value| value.get_help().map(ToString::to_string))
            .unwrap_or_default()
    }

    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

/// Prints the parts.
pub fn list() {
    for part in Part::value_variants() {
        println!("{:<10} {}", part.name(), part.about());
    }
}

enum Verdict {
    Passed,
    Skipped(String),
}

/// Runs the named parts, or all of them, and reports each.
pub fn run(root: &Path, only: &[Part]) -> Result<()> {
    let parts = if only.is_empty() {
        Part::value_variants()
    } else {
        only
    };
    let mut lines = Vec::new();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for part in parts {
        eprintln!("== {}: {}", part.name(), part.about());
        let started = Instant::now();
        let line = match run_part(root, *part) {
            Ok(Verdict::Passed) => {
                passed += 1;
                "passed".to_owned()
            }
            Ok(Verdict::Skipped(reason)) => {
                skipped += 1;
                format!("skipped: {reason}")
            }
            Err(error) => {
                failed += 1;
                format!("FAILED: {error:#}")
            }
        };
        lines.push(format!(
            "{:<10} {line} ({} s)",
            part.name(),
            started.elapsed().as_secs()
        ));
    }
    for line in lines {
        println!("{line}");
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed > 0 {
        bail!("{failed} parts failed");
    }
    Ok(())
}

/// Checks formatting and lints, then runs every test.
pub fn ci(root: &Path) -> Result<()> {
    setup::run(cargo().current_dir(root).args(["fmt", "--all", "--check"]))?;
    setup::run(
        cargo()
            .current_dir(root.join("firmware"))
            .args(["fmt", "--all", "--check"]),
    )?;
    let firmware_lint = [
        "clippy",
        "--quiet",
        "--package",
        "stonechat-job",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    setup::run(
        cargo()
            .current_dir(root.join("firmware"))
            .args(firmware_lint),
    )?;
    setup::dashboard(root)?;
    let lint = [
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    setup::run(cargo().current_dir(root).args(lint))?;
    run(root, &[])
}

fn run_part(root: &Path, part: Part) -> Result<Verdict> {
    match part {
        Part::Unit => unit(root),
        Part::Oracles => oracles(root),
        Part::Virt => {
            setup::debian(VIRT_PACKAGES)?;
            for line in virt::test(root)? {
                println!("{line}");
            }
            Ok(Verdict::Passed)
        }
        Part::Crash => {
            let test = [
                "test",
                "--quiet",
                "--release",
                "--package",
                "stonechat",
                "--test",
                "crash",
                "--",
                "--ignored",
            ];
            setup::run(cargo().current_dir(root).args(test))?;
            Ok(Verdict::Passed)
        }
        Part::Browser => browser(root),
        Part::Data => data(root),
    }
}

fn unit(root: &Path) -> Result<Verdict> {
    setup::debian(&[("cc", "gcc")])?;
    setup::dashboard(root)?;
    setup::run(
        Command::new("npm")
            .current_dir(root.join("web"))
            .args(["--silent", "run", "check"]),
    )?;
    setup::run(
        cargo()
            .current_dir(root)
            .args(["test", "--quiet", "--workspace"]),
    )?;
    Ok(Verdict::Passed)
}

/// The Python packages of the oracles.
pub const ORACLE_REQUIREMENTS: &str = "testdata/oracles/requirements.txt";

fn oracles(root: &Path) -> Result<Verdict> {
    let python = setup::python(root, "oracles", &[ORACLE_REQUIREMENTS])?;
    let test = [
        "test",
        "--quiet",
        "--package",
        "stonechat-train",
        "--test",
        "oracles",
        "--",
        "--ignored",
    ];
    setup::run(
        cargo()
            .current_dir(root)
            .env("STONECHAT_PYTHON", python)
            .args(test),
    )?;
    Ok(Verdict::Passed)
}

/// What the emulated chip needs from Debian where rustup has no bare-metal target.
pub const VIRT_PACKAGES: &[(&str, &str)] = &[
    ("qemu-system-riscv32", "qemu-system-misc"),
    ("/usr/bin/rustc", "rustc-web"),
    ("/usr/bin/cargo", "cargo-web"),
    ("ld.lld", "lld"),
    ("/usr/share/doc/rust-web-src", "rust-web-src"),
];

/// Ends a process when it goes out of scope.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long the demo of the browser test lives at most.
const BROWSER_DEMO_SECONDS: &str = "180";

fn browser(root: &Path) -> Result<Verdict> {
    setup::debian(&[
        ("chromium", "chromium"),
        ("/usr/share/fonts/truetype/dejavu", "fonts-dejavu-core"),
    ])?;
    let program = setup::program(root)?;
    let mut demo = Command::new(program)
        .args([
            "demo",
            "--headless",
            "--json",
            "--seconds",
            BROWSER_DEMO_SECONDS,
        ])
        .args(["--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = demo.stdout.take().context("the demo's output is piped")?;
    let _demo = Running(demo);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let started: serde_json::Value = serde_json::from_str(&line)
        .with_context(|| format!("the demo's first line is `{line}`"))?;
    let url = started["url"]
        .as_str()
        .context("the demo's first line names its address")?;
    let screenshots = root.join("target").join("screenshots");
    std::fs::create_dir_all(&screenshots)?;
    setup::run(
        Command::new("npm")
            .current_dir(root.join("web"))
            .env("STONECHAT_URL", url)
            .env("STONECHAT_SCREENSHOTS", &screenshots)
            .args(["--silent", "test"]),
    )?;
    eprintln!("screenshots are in {}", screenshots.display());
    Ok(Verdict::Passed)
}

/// The folder of real recordings: STONECHAT_DATA, else beside the checkout.
pub fn data_folder(root: &Path) -> Option<PathBuf> {
    let named = std::env::var_os("STONECHAT_DATA").map(PathBuf::from);
    named
        .or_else(|| Some(root.parent()?.join("shared").join("data")))
        .filter(|folder| folder.is_dir())
}

fn data(root: &Path) -> Result<Verdict> {
    let Some(folder) = data_folder(root) else {
        return Ok(Verdict::Skipped(
            "no recordings; name their folder in STONECHAT_DATA".to_owned(),
        ));
    };
    setup::program(root)?;
    let test = [
        "test",
        "--quiet",
        "--release",
        "--package",
        "stonechat",
        "--package",
        "stonechat-train",
    ];
    let only = ["--test", "data", "--", "--ignored"];
    setup::run(
        cargo()
            .current_dir(root)
            .env("STONECHAT_DATA", folder)
            .args(test)
            .args(only),
    )?;
    Ok(Verdict::Passed)
}
