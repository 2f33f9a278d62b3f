//! The tests, in parts.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::Value;

use crate::fuzz;
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
    /// The clients of others: mosquitto's and Eclipse Paho for Python.
    Interop,
    /// The store over a MariaDB server of the test's own, which is killed under load; a full disk.
    Mariadb,
    /// Twenty times `kill -9` of the server under load.
    Crash,
    /// Ever new bytes for every decoder, 30 s each.
    Fuzz,
    /// The dashboard in headless Chromium.
    Browser,
    /// The real recordings of the folder STONECHAT_RECORDINGS.
    Data,
}

impl Part {
    fn about(self) -> String {
        self.to_possible_value()
            .and_then(|value| value.get_help().map(ToString::to_string))
            .unwrap_or_default()
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
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
    let parts = if only.is_empty() { Part::value_variants() } else { only };
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
        lines.push(format!("{:<10} {line} ({} s)", part.name(), started.elapsed().as_secs()));
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

/// Crates that must not come in, not even by way of others; deny.toml says why.
const BANNED: [&str; 1] = ["rsa"];

fn check_banned(root: &Path) -> Result<()> {
    let lock = std::fs::read_to_string(root.join("Cargo.lock"))?;
    match BANNED.iter().find(|name| lock.contains(&format!("\nname = \"{name}\"\n"))) {
        None => Ok(()),
        Some(name) => bail!("the crate `{name}` is banned (deny.toml), but Cargo.lock has it"),
    }
}

/// Checks dependencies, formatting and lints, then runs every test.
pub fn ci(root: &Path) -> Result<()> {
    check_banned(root)?;
    setup::run(cargo().current_dir(root).args(["fmt", "--all", "--check"]))?;
    setup::run(cargo().current_dir(root.join("firmware")).args(["fmt", "--all", "--check"]))?;
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
    setup::run(cargo().current_dir(root.join("firmware")).args(firmware_lint))?;
    setup::dashboard(root)?;
    let lint = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
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
        Part::Mariadb => mariadb(root),
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
        Part::Fuzz => {
            fuzz::run(root, &[], fuzz::Effort::Seconds(fuzz::CI_SECONDS))?;
            Ok(Verdict::Passed)
        }
        Part::Interop => interop(root),
        Part::Browser => browser(root),
        Part::Data => data(root),
    }
}

fn unit(root: &Path) -> Result<Verdict> {
    setup::debian(&[("cc", "gcc")])?;
    setup::dashboard(root)?;
    setup::run(
        Command::new("npm").current_dir(root.join("web")).args(["--silent", "run", "check"]),
    )?;
    setup::run(cargo().current_dir(root).args(["test", "--quiet", "--workspace"]))?;
    Ok(Verdict::Passed)
}

/// The clients that are held against the server, as pairs of program and Debian package.
const INTEROP_PACKAGES: &[(&str, &str)] =
    &[("mosquitto_pub", "mosquitto-clients"), ("mosquitto_sub", "mosquitto-clients")];
/// The Python packages that are held against the server.
const INTEROP_REQUIREMENTS: &str = "testdata/interop/requirements.txt";

fn interop(root: &Path) -> Result<Verdict> {
    setup::debian(INTEROP_PACKAGES)?;
    let python = setup::python(root, "interop", &[INTEROP_REQUIREMENTS])?;
    let test = ["test", "--quiet", "--package", "stonechat-server", "--test", "interop"];
    let only = ["--", "--ignored"];
    setup::run(cargo().current_dir(root).env("STONECHAT_PYTHON", python).args(test).args(only))?;
    Ok(Verdict::Passed)
}

/// What the tests of the store over MariaDB need from Debian.
pub const MARIADB_PACKAGES: &[(&str, &str)] =
    &[("mariadbd", "mariadb-server"), ("mariadb-install-db", "mariadb-server")];

/// How long the database is away, and the disk full.
const OUTAGE_SECONDS: &str = "30";

fn mariadb(root: &Path) -> Result<Verdict> {
    setup::debian(MARIADB_PACKAGES)?;
    // Each test runs a database server of its own.
    let options = ["--ignored", "--test-threads=1", "--nocapture"];
    let test = ["test", "--quiet", "--package", "stonechat-server"];
    let mut suite = cargo();
    suite.current_dir(root).args(test).args(["--lib", "store::mysql::tests", "--"]);
    suite.args(options);
    setup::run(&mut suite)?;
    let mut outages = cargo();
    outages.current_dir(root).env("STONECHAT_OUTAGE_S", OUTAGE_SECONDS);
    outages.args(test).args(["--test", "mariadb", "--"]).args(options);
    if setup::is_root() {
        setup::run(&mut outages)?;
        return Ok(Verdict::Passed);
    }
    setup::run(outages.args(["--skip", "a_full_disk"]))?;
    Ok(Verdict::Skipped("the full disk only: a small disk needs root; all else passed".to_owned()))
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
        "--test",
        "forest",
    ];
    let only = ["--", "--ignored"];
    setup::run(cargo().current_dir(root).env("STONECHAT_PYTHON", python).args(test).args(only))?;
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
    setup::debian(BROWSER_PACKAGES)?;
    let program = setup::program(root)?;
    let mut demo = Command::new(&program);
    demo.args(["demo", "--headless", "--json", "--seconds", BROWSER_DEMO_SECONDS]);
    demo.args(["--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"]);
    let (_demo, started) = start(&mut demo)?;
    setup::run(&mut dashboard_test(root, "test", "screenshots", &started)?)?;
    access_in_browser(root, &program)?;
    Ok(Verdict::Passed)
}

/// Sets up a new server in the browser: accounts, roles, tokens, the audit log.
fn access_in_browser(root: &Path, program: &Path) -> Result<()> {
    let folder = setup::target(root).join("access");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let mut serve = Command::new(program);
    serve.current_dir(&folder).args(["--quiet", "--json", "serve", "--data", "data"]);
    serve.args(["--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"]);
    let (_server, started) = start(&mut serve)?;
    setup::run(&mut dashboard_test(root, "test:access", "screenshots-access", &started)?)
}

/// What the dashboard's tests need from Debian.
const BROWSER_PACKAGES: &[(&str, &str)] =
    &[("chromium", "chromium"), ("/usr/share/fonts/truetype/dejavu", "fonts-dejavu-core")];

/// Starts a program that says in its first line, as JSON, where it listens.
fn start(command: &mut Command) -> Result<(Running, Value)> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("the output is piped")?;
    let running = Running(child);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let started =
        serde_json::from_str(&line).with_context(|| format!("the first line is `{line}`"))?;
    Ok((running, started))
}

/// The dashboard's tests against a server that has started.
fn dashboard_test(
    root: &Path,
    script: &str,
    screenshots: &str,
    started: &Value,
) -> Result<Command> {
    let url = started["url"].as_str().context("the first line names the address")?;
    let folder = setup::target(root).join(screenshots);
    std::fs::create_dir_all(&folder)?;
    eprintln!("screenshots go to {}", folder.display());
    let mut test = Command::new("npm");
    test.current_dir(root.join("web"))
        .env("STONECHAT_URL", url)
        .env("STONECHAT_SCREENSHOTS", folder);
    // The link of a demo, or that of a server which nobody set up yet.
    for (key, variable) in
        [("sign_in_url", "STONECHAT_SIGN_IN_URL"), ("set_up_url", "STONECHAT_SET_UP_URL")]
    {
        if let Some(link) = started[key].as_str() {
            test.env(variable, link);
        }
    }
    test.args(["--silent", "run", script]);
    Ok(test)
}

/// The folder of real recordings: STONECHAT_RECORDINGS, else beside the checkout.
pub fn data_folder(root: &Path) -> Option<PathBuf> {
    let named = std::env::var_os("STONECHAT_RECORDINGS").map(PathBuf::from);
    named
        .or_else(|| Some(root.parent()?.join("shared").join("data")))
        .filter(|folder| folder.is_dir())
}

/// The tests on real recordings and public benchmarks.
const DATA_TESTS: [&str; 4] = ["data", "benchmark_nab", "benchmark_skab_ucr", "power_data"];

fn data(root: &Path) -> Result<Verdict> {
    let Some(folder) = data_folder(root) else {
        return Ok(Verdict::Skipped(
            "no recordings; name their folder in STONECHAT_RECORDINGS".to_owned(),
        ));
    };
    let program = setup::program(root)?;
    let test =
        ["test", "--quiet", "--release", "--package", "stonechat", "--package", "stonechat-train"];
    let mut command = cargo();
    command.current_dir(root).env("STONECHAT_RECORDINGS", &folder).args(test);
    for name in DATA_TESTS {
        command.args(["--test", name]);
    }
    setup::run(command.args(["--", "--ignored"]))?;
    fan_in_browser(root, &program, &folder)?;
    Ok(Verdict::Passed)
}

/// How many times as fast as recorded the normal fan is replayed for the browser.
const FAN_SPEED: &str = "8";

/// Replays a real fan, first as it should be and then with a coin on a blade, and looks at the alarm
/// in the browser.
fn fan_in_browser(root: &Path, program: &Path, data: &Path) -> Result<()> {
    setup::debian(BROWSER_PACKAGES)?;
    let folder = setup::target(root).join("fan");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let stonechat = |args: &[&str]| {
        let mut command = Command::new(program);
        command.current_dir(&folder).arg("--quiet").args(args);
        command
    };
    let file = |state: &str| {
        data.join(format!("fan-accel-esp32/fan_0_{state}_weight.csv")).display().to_string()
    };
    let (training, normal) = (file("low_0") + "@0%..60%", file("low_0") + "@80%..100%");
    let recipe =
        ["--rate", "200", "--window", "200", "--features", "standard_deviation,peak_to_peak"];
    setup::run(&mut stonechat(
        &[&["train", &training, "-o", "fan.detector"], &recipe[..]].concat(),
    ))?;
    let added = stonechat(&["device", "add", "--data", "data", "fan-1"]).output()?;
    std::fs::write(folder.join("credentials"), added.stdout)?;
    let serve =
        ["--json", "serve", "--data", "data", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"];
    let (_server, started) = start(&mut stonechat(&serve))?;
    let mqtt = started["mqtt"].as_str().context("the first line names the MQTT address")?;
    let device = |recording: &str, speed: &str| {
        let device = ["device", "run", recording, "--rate", "200", "--detector", "fan.detector"];
        let more = ["--credentials", "credentials", "--server", mqtt, "--speed", speed];
        stonechat(&[&device[..], &more[..]].concat())
    };
    setup::run(&mut device(&normal, FAN_SPEED))?;
    // The coin's recording goes on while the browser looks.
    let mut coin = device(&file("low_1"), "1");
    let _coin = Running(coin.stdout(Stdio::null()).spawn()?);
    setup::run(&mut dashboard_test(root, "test:server", "screenshots-fan", &started)?)
}
