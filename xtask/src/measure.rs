//! Writes `docs/measurements.md` and the README's table from what was measured in this run, so that
//! no figure is typed by hand.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::Value;

use crate::bench::{self, Name};
use crate::{fuzz, setup, test};

/// Where the README's table stands.
const TABLE_BEGIN: &str = "<!-- measured: cargo xtask measure -->";
const TABLE_END: &str = "<!-- end of measured -->";
/// Rows of the README: the figure's name and what it says to a reader.
const README_ROWS: &[(&str, &str)] = &[
    ("demo.detected", "Faults found in the demo's minute"),
    ("demo.false_alarms", "False alarms in that minute"),
    ("fan.roc_auc", "Fan vibration, int8: ROC AUC"),
    ("fan.false_alarm_rate", "Fan vibration, int8: false-alarm rate"),
    ("nab.standard", "Numenta Anomaly Benchmark, standard (best published 74.85)"),
    ("nab.ram_bytes", "RAM of the detector that scored it"),
    ("skab.valve1.f1", "SKAB valve1: F1 (best published with FAR below 20 %: 0.755)"),
    ("ucr.accuracy", "UCR archive, ten series: anomaly located"),
    ("power.meter", "Power meter, later rows: faults found"),
    (
        "gyroscope.speed_change.int8.roc_auc",
        "Gyroscope LSTM in int8, hardest of five faults: ROC AUC",
    ),
    ("fit/dense_autoencoder_16_32_16_8", "Training the autoencoder 16-32-16-8-16-32-16"),
    ("fit/lstm_autoencoder_32x3_16_threads_1", "Training the LSTM autoencoder 32 x 3, one thread"),
    ("fit/random_forest_100x100000x20", "Training a random forest, 100 trees, 100,000 x 20"),
    (
        "dense16_int8.engine_instructions",
        "The int8 autoencoder 16-32-16-8-16-32-16 on emulated rv32imc",
    ),
    ("ingest.stored_per_s", "Messages acknowledged once they are on disk, a second"),
    (
        "ingest.ack_p99_ms",
        "99th percentile of the acknowledgement at 10,000 a second of 1,000 devices",
    ),
    ("ingest.idle_tls_kb", "Memory of an idle connection within TLS, of 10,000"),
    ("store.mariadb_readings_per_s", "Readings into MariaDB, a second"),
    ("store.sqlite_bytes_per_reading", "A reading on disk, in SQLite"),
    ("ingest.sealed_per_s", "Sealed frames into SQLite, a second"),
    ("ingest.rsa_per_s", "Old RSA packets, a second"),
    ("crash.kills", "`kill -9` under full load"),
    ("program.bytes", "The program, dashboard included"),
    ("server.idle_bytes", "Memory of the idle server"),
];

/// How the figures of the four controls begin.
const CONTROLS_BEGIN: &str = "never ";

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The demo's minute.
    Demo,
    /// The real recordings.
    Recordings,
    /// NAB, SKAB and UCR.
    Benchmarks,
    /// The power meter's forest.
    Meter,
    /// Tests that print what they find.
    Tests,
    /// `cargo xtask bench train`.
    Train,
    /// `cargo xtask bench device`.
    Device,
    /// `cargo xtask bench ingest`.
    Ingest,
    /// The stores alone.
    Store,
    /// Ten million inputs for each decoder.
    Fuzz,
    /// Two hundred times `kill -9`.
    Crash,
    /// The program's size and idle memory.
    Program,
}

#[derive(Clone)]
struct Row {
    name: String,
    figure: String,
    peer: String,
    command: String,
    commit: String,
}

/// Measures the named parts, or all of them, and puts the figures in the place of those of the same
/// name; with `cold_build` also a release build from nothing.
pub fn run(root: &Path, parts: &[Part], cold_build: bool) -> Result<()> {
    let commit =
        said(Command::new("git").current_dir(root).args(["rev-parse", "--short", "HEAD"]))?;
    let program = setup::program(root)?;
    let mut document = Document::read(root)?;
    let parts = if parts.is_empty() && !cold_build { Part::value_variants() } else { parts };
    for part in parts {
        let rows = measure(root, &program, *part)?;
        // What is measured stays, whatever the next part meets.
        document.put(rows, commit.trim());
        document.write(root)?;
    }
    if cold_build {
        document.put(vec![build_time(root)?], commit.trim());
        document.write(root)?;
    }
    Ok(())
}

fn measure(root: &Path, program: &Path, part: Part) -> Result<Vec<Row>> {
    let benched = |name: Name, label: &str| {
        let command = format!("cargo xtask bench {label}");
        let rows = bench::measure(root, name)?;
        Ok(rows.iter().map(|row| bench_row(row, &command)).collect())
    };
    match part {
        Part::Demo => demo(program),
        Part::Recordings => recordings(root, program),
        Part::Benchmarks => benchmarks(root, program),
        Part::Meter => Ok(vec![meter(root, program)?]),
        Part::Tests => tested(root),
        Part::Train => benched(Name::Train, "train"),
        Part::Device => benched(Name::Device, "device"),
        Part::Ingest => benched(Name::Ingest, "ingest"),
        Part::Store => stored(root),
        Part::Fuzz => fuzzed(root),
        Part::Crash => Ok(vec![crashed(root)?]),
        Part::Program => {
            let bytes = fs::metadata(program)?.len();
            let command = "ls -l target/release/stonechat";
            Ok(vec![row("program.bytes", bytes, "bytes", command), idle(program)?])
        }
    }
}

/// Takes what the tests named after the stores print.
fn stored(root: &Path) -> Result<Vec<Row>> {
    setup::debian(test::MARIADB_PACKAGES)?;
    let mut tests = setup::cargo();
    let args = ["test", "--quiet", "--release", "--package", "stonechat-server", "--lib"];
    tests.current_dir(root).args(args).args(["--", "store::measure", "--ignored"]);
    let rows = bench::rows(tests.args(["--nocapture", "--test-threads=1"]))?;
    Ok(rows.iter().map(|row| bench_row(row, "cargo xtask measure store")).collect())
}

/// The inputs for each decoder.
const FUZZ_RUNS: u64 = 10_000_000;

fn fuzzed(root: &Path) -> Result<Vec<Row>> {
    let targets = fuzz::run(root, &[], fuzz::Effort::Runs(FUZZ_RUNS))?;
    let row = |target: &fuzz::Ran| {
        let figure = format!("{} inputs, {} edges, no failure", target.runs, target.edges);
        let command = format!("cargo xtask fuzz {} --runs {FUZZ_RUNS}", target.name);
        row(&format!("fuzz.{}", target.name), figure, "", &command)
    };
    Ok(targets.iter().map(row).collect())
}

/// How often the server is killed.
const KILLS: &str = "200";

fn crashed(root: &Path) -> Result<Row> {
    let mut test = setup::cargo();
    let args = ["test", "--quiet", "--release", "--package", "stonechat", "--test", "crash", "--"];
    test.current_dir(root).env("STONECHAT_KILLS", KILLS).args(args);
    let output = said(test.args(["--ignored", "--nocapture"]))?;
    let figure = output.lines().find(|line| line.contains(" kills, ")).context("no figures")?;
    let command = format!(
        "STONECHAT_KILLS={KILLS} cargo test --release -p stonechat --test crash -- --ignored --nocapture"
    );
    Ok(row("crash.kills", figure, "", &command))
}

fn row(name: &str, value: impl std::fmt::Display, unit: &str, command: &str) -> Row {
    Row {
        name: name.to_owned(),
        figure: format!("{value} {unit}").trim().to_owned(),
        peer: String::new(),
        command: command.to_owned(),
        commit: String::new(),
    }
}

fn bench_row(measured: &Value, command: &str) -> Row {
    let text = |key: &str| measured[key].as_str().unwrap_or_default().to_owned();
    let peer = match measured["peer"].as_str() {
        Some(peer) => format!(
            "{peer} {} (ratio {})",
            number(&measured["peer_value"]),
            number(&measured["ratio"])
        ),
        None => String::new(),
    };
    let mut row = row(&text("name"), number(&measured["value"]), &text("unit"), command);
    row.peer = peer;
    row
}

/// Writes a number with four digits that count, or whole.
fn number(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if number.fract() == 0.0 || number.abs() >= 1_000.0 => format!("{number:.0}"),
        Some(number) => {
            let digits = (3 - number.abs().log10().floor() as i32).clamp(0, 8) as usize;
            format!("{number:.digits$}")
        }
        None => value.to_string(),
    }
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("`{}` failed: {}", setup::shown(command), output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs the program in `folder` and returns the last object that it prints.
fn asked(program: &Path, folder: &Path, args: &[&str]) -> Result<Value> {
    let output =
        said(Command::new(program).current_dir(folder).args(["--json", "--quiet"]).args(args))?;
    let last = output.lines().last().context("the program printed nothing")?;
    Ok(serde_json::from_str(last)?)
}

fn demo(program: &Path) -> Result<Vec<Row>> {
    let args = ["demo", "--seconds", "60", "--headless", "--http", "127.0.0.1:0"];
    let summary = asked(program, Path::new("."), &args)?;
    let command = "cargo xtask demo -- --seconds 60 --headless --json";
    let detected =
        format!("{} of {}", summary["anomalies_detected"], summary["anomalies_injected"]);
    Ok(vec![
        row("demo.detected", detected, "faults", command),
        row("demo.false_alarms", &summary["false_alarms"], "", command),
        row("demo.readings_stored", &summary["readings_stored"], "readings", command),
    ])
}

/// Trains and evaluates on the real recordings, as the tests of the part `data` do.
fn recordings(root: &Path, program: &Path) -> Result<Vec<Row>> {
    let Some(data) = test::data_folder(root) else {
        return Ok(Vec::new());
    };
    let folder = setup::target(root).join("measure");
    fs::create_dir_all(&folder)?;
    let file = |path: &str| data.join(path).display().to_string();
    let fan = |state: &str| file(&format!("fan-accel-esp32/fan_0_{state}_weight.csv"));
    let mut rows = Vec::new();

    let (training, normal) = (fan("low_0") + "@0%..60%", fan("low_0") + "@80%..100%");
    let recipe = [
        "--rate",
        "200",
        "--window",
        "200",
        "--features",
        "standard_deviation,peak_to_peak",
        "--encoder",
        "8,3",
    ];
    asked(program, &folder, &[&["train", &training, "-o", "fan.detector"], &recipe[..]].concat())?;
    let others = ["low_1", "med_0", "med_1", "high_0", "high_1", "off_0"].map(fan);
    let mut evaluate =
        vec!["evaluate", "fan.detector", &normal, "--rate", "200", "--trained-on", &training];
    for other in &others {
        evaluate.extend(["--anomalous", other]);
    }
    rows.extend(evaluation("fan", &asked(program, &folder, &evaluate)?));

    let machine = file("nab/data/realKnownCause/machine_temperature_system_failure.csv");
    let labels = file("nab/labels/combined_windows.json");
    let (training, rest) = (format!("{machine}@0%..15%"), format!("{machine}@15%..100%"));
    let reading = ["--intervals", &labels, "--allow-clock-steps"];
    let recipe =
        ["--window", "288", "--stride", "1", "--features", "samples:6", "--encoder", "8,3"];
    asked(
        program,
        &folder,
        &[&["train", &training, "-o", "machine.detector"], &recipe[..], &reading[..]].concat(),
    )?;
    let evaluate = ["evaluate", "machine.detector", &rest, "--trained-on", &training];
    rows.extend(evaluation(
        "machine",
        &asked(program, &folder, &[&evaluate[..], &reading[..]].concat())?,
    ));
    Ok(rows)
}

/// The detector's figures, each beside those of the four controls.
fn evaluation(name: &str, report: &Value) -> Vec<Row> {
    let command = "cargo xtask test --only data";
    let methods: Vec<&Value> = report["rows"].as_array().into_iter().flatten().collect();
    let Some((detector, controls)) = methods.split_first() else {
        return Vec::new();
    };
    let figure = |of: &Value, key: &str| match key {
        "intervals_detected" => format!("{} of {}", of["events"][key], of["events"]["intervals"]),
        "alarms_per_day" => number(&of["events"][key]),
        _ => number(&of[key]),
    };
    let keys = [
        ("roc_auc", ""),
        ("average_precision", ""),
        ("vus_pr", ""),
        ("f1", ""),
        ("false_alarm_rate", ""),
        ("missed_alarm_rate", ""),
        ("intervals_detected", ""),
        ("alarms_per_day", "a day"),
        ("median_delay_s", "s"),
    ];
    let measured = keys.map(|(key, unit)| {
        let beside = |control: &&Value| {
            format!("{} {}", control["name"].as_str().unwrap_or("?"), figure(control, key))
        };
        let mut row = row(&format!("{name}.{key}"), figure(detector, key), unit, command);
        row.peer = controls.iter().map(beside).collect::<Vec<_>>().join(", ");
        row
    });
    measured.into()
}

/// Runs the public benchmarks, which writes `docs/benchmarks.md`, and takes their main figures.
fn benchmarks(root: &Path, program: &Path) -> Result<Vec<Row>> {
    let Some(data) = test::data_folder(root) else {
        return Ok(Vec::new());
    };
    let page = root.join("docs").join("benchmarks.md").display().to_string();
    let run = |name: &str, folder: &str| {
        let folder = data.join(folder).display().to_string();
        asked(program, root, &["bench", name, &folder, "-o", &page])
    };
    let mut rows = Vec::new();
    let nab = run("nab", "nab")?;
    let command = "stonechat bench nab NAB";
    for (index, profile) in ["standard", "low_fp", "low_fn"].iter().enumerate() {
        let score = |entry: &str| &nab[entry]["marks"][index]["normalised"];
        let name = format!("nab.{profile}");
        let mut row = row(&name, number(score("learner")), "of 100", command);
        row.peer = format!("windowed Gaussian {}", number(score("control")));
        rows.push(row);
    }
    rows.push(row("nab.ram_bytes", &nab["memory_len"], "bytes", command));
    let skab = run("skab", "skab")?;
    let groups = skab["groups"].as_array().into_iter().flatten();
    for group in groups.filter(|group| group["name"] == "valve1") {
        for key in ["f1", "false_alarm_rate", "missed_alarm_rate", "mean_roc_auc"] {
            let name = format!("skab.valve1.{key}");
            let command = "stonechat bench skab SKAB";
            let mut row = row(&name, number(&group["detector"][key]), "", command);
            let controls = group["controls"].as_array().into_iter().flatten();
            let beside = controls.map(|control| {
                format!("{} {}", control["name"].as_str().unwrap_or("?"), number(&control[key]))
            });
            row.peer = beside.collect::<Vec<_>>().join(", ");
            rows.push(row);
        }
    }
    let ucr = run("ucr", "ucr-iot/series")?;
    let command = "stonechat bench ucr SERIES";
    rows.push(row("ucr.accuracy", number(&ucr["summaries"][0]["accuracy"]), "", command));
    rows.push(row("ucr.vus_pr", number(&ucr["summaries"][0]["mean_volume_pr"]), "", command));
    Ok(rows)
}

/// Judges the power meter's forest on made-up rows after those that it learned from.
fn meter(root: &Path, program: &Path) -> Result<Row> {
    let folder = setup::target(root).join("measure");
    fs::create_dir_all(&folder)?;
    let synth = ["data", "synth", "meter", "--rows", "4000", "--faults", "20%", "-o", "meter.csv"];
    asked(program, &folder, &synth)?;
    let judged = asked(program, &folder, &["data", "power", "meter.csv", "--report", "meter"])?;
    let confusion = &judged["forest"]["confusion"];
    let count = |key: &str| confusion[key].as_u64().unwrap_or(0);
    let (found, missed) = (count("true_positives"), count("false_negatives"));
    let (false_alarms, calm) = (count("false_positives"), count("true_negatives"));
    let figure = format!(
        "{found} of {} faults, {false_alarms} of {} normal rows called faulty",
        found + missed,
        false_alarms + calm
    );
    let command = "stonechat data synth meter --rows 4000 --faults 20% -o meter.csv; stonechat data power meter.csv --report meter";
    Ok(row("power.meter", figure, "", command))
}

/// Takes the figures that tests print, one object a line.
fn tested(root: &Path) -> Result<Vec<Row>> {
    let data = test::data_folder(root);
    let mut rows = Vec::new();
    // Without the recordings, the tests that need them are left out.
    for name in MEASURING_TESTS.into_iter().take(if data.is_some() { 2 } else { 1 }) {
        let mut test = setup::cargo();
        let args = ["test", "--quiet", "--release", "--package", "stonechat-train", "--test", name];
        test.current_dir(root).args(args).args(["--", "--nocapture", "--include-ignored"]);
        if let Some(data) = &data {
            test.env("STONECHAT_RECORDINGS", data);
        }
        let command = format!("cargo test -p stonechat-train --test {name} -- --nocapture");
        rows.extend(bench::rows(&mut test)?.iter().map(|row| bench_row(row, &command)));
    }
    Ok(rows)
}

/// Tests that print what they find.
const MEASURING_TESTS: [&str; 2] = ["gyroscope", "power_data"];

/// How long the server is left alone before its memory is read.
const IDLE: Duration = Duration::from_secs(3);

fn idle(program: &Path) -> Result<Row> {
    let folder = std::env::temp_dir().join(format!("stonechat-idle-{}", std::process::id()));
    let mut server = Command::new(program)
        .args(["--quiet", "serve", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--data"])
        .arg(&folder)
        .stdout(Stdio::null())
        .spawn()?;
    std::thread::sleep(IDLE);
    let status = fs::read_to_string(format!("/proc/{}/status", server.id()));
    server.kill()?;
    server.wait()?;
    let _ = fs::remove_dir_all(&folder);
    let status = status.context("memory is read from /proc: this needs Linux")?;
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = resident.trim().trim_end_matches("kB").trim().parse()?;
    Ok(row(
        "server.idle_bytes",
        kilobytes * 1_024,
        "bytes",
        "stonechat serve; grep VmRSS /proc/PID/status",
    ))
}

fn build_time(root: &Path) -> Result<Row> {
    let target = setup::target(root).join("cold");
    let _ = fs::remove_dir_all(&target);
    let begun = Instant::now();
    let args = ["build", "--quiet", "--release", "--package", "stonechat", "--target-dir"];
    setup::run(setup::cargo().current_dir(root).args(args).arg(&target))?;
    let seconds = begun.elapsed().as_secs();
    fs::remove_dir_all(&target)?;
    Ok(row("build.cold_seconds", seconds, "s", "cargo build --release --package stonechat"))
}

/// `docs/measurements.md`.
struct Document {
    rows: Vec<Row>,
}

impl Document {
    /// Reads the rows that are there.
    fn read(root: &Path) -> Result<Self> {
        let path = root.join("docs").join("measurements.md");
        let text = fs::read_to_string(path).unwrap_or_default();
        let rows = text.lines().filter_map(|line| {
            let cells: Vec<&str> =
                line.strip_prefix("| `")?.strip_suffix(" |")?.split(" | ").collect();
            let [name, figure, peer, command, commit] = cells[..] else { return None };
            Some(Row {
                name: name.trim_end_matches('`').to_owned(),
                figure: figure.to_owned(),
                peer: peer.to_owned(),
                command: command.trim_matches('`').to_owned(),
                commit: commit.to_owned(),
            })
        });
        Ok(Self { rows: rows.collect() })
    }

    /// Puts rows in the place of those of the same name, new ones at the end. A figure that stands
    /// beside several peers has several rows.
    fn put(&mut self, rows: Vec<Row>, commit: &str) {
        for group in rows.chunk_by(|a, b| a.name == b.name) {
            let name = &group[0].name;
            let at = self.rows.iter().position(|old| old.name == *name);
            self.rows.retain(|old| old.name != *name);
            let at = at.unwrap_or(self.rows.len());
            let stamped = group.iter().map(|row| Row { commit: commit.to_owned(), ..row.clone() });
            self.rows.splice(at..at, stamped);
        }
    }

    /// Writes the document, and the README's table from it.
    fn write(&self, root: &Path) -> Result<()> {
        fs::create_dir_all(root.join("docs"))?;
        fs::write(root.join("docs").join("measurements.md"), self.text()?)?;
        readme(root)
    }

    fn text(&self) -> Result<String> {
        let mut text = String::from("# Measurements\n\n");
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model =
            cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
        let cores = std::thread::available_parallelism()?;
        let date = said(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
        writeln!(
            text,
            "Written by `cargo xtask measure`, last on {}, on {cores} cores of {}; each row names the \
             commit that it was measured at. Instructions are counted on the emulated chip (`minstret` \
             under `-icount shift=0`): not cycles. Times and rates are indicative, as the machine is \
             shared; ratios are from one run.\n",
            date.trim(),
            model.trim_start_matches([':', ' ', '\t'])
        )?;
        text.push_str("| figure | value | beside | command | commit |\n|---|---|---|---|---|\n");
        for Row { name, figure, peer, command, commit } in &self.rows {
            writeln!(text, "| `{name}` | {figure} | {peer} | `{command}` | {commit} |")?;
        }
        text.push_str(NOTES);
        Ok(text)
    }
}

const NOTES: &str = "
Shown by tests rather than figures:

- Equal bits on host and emulated chip over 10,000 windows a detector, and over 1,000 for a trained one of every kind: `cargo xtask test --only virt`.
- Every acknowledged message stored exactly once, whenever the server is killed: `cargo xtask test --only crash`.
- int8 equal to TensorFlow Lite Micro bit for bit, float within 1e-5: `cargo xtask test --only oracles`.
- The metrics equal to scikit-learn's and TSB-AD's: `cargo xtask test --only oracles --only data`.
- Charts, alarms and acknowledging in Chromium: `cargo xtask test --only browser`.

How the recordings were used: `fan` trains on the first 60 % of the clips of the fan at low speed,
sets its threshold on a part of them, and is evaluated on the last 20 % as normal and on six other
states as anomalous. `machine` trains on the first 15 % of the stream without its labelled windows
and runs over the rest in the order of time; its window is a day in means of half an hour. Several
lengths were looked at on this recording before that one was kept, so its figures flatter it a little.
";

/// Replaces the README's table, between the two marks, by rows of `docs/measurements.md`.
pub fn readme(root: &Path) -> Result<()> {
    let measured = fs::read_to_string(root.join("docs").join("measurements.md"))?;
    let path = root.join("README.md");
    let text = fs::read_to_string(&path)?;
    let (before, rest) =
        text.split_once(TABLE_BEGIN).context("the README has no mark for the table")?;
    let (_, after) = rest.split_once(TABLE_END).context("the README has no end of the table")?;
    let mut table = String::from("\n| what | measured | beside | command |\n|---|---|---|---|\n");
    for (name, says) in README_ROWS {
        let start = format!("| `{name}` | ");
        let row = measured.lines().find_map(|line| line.strip_prefix(&start));
        let cells: Vec<&str> = row.unwrap_or_default().split(" | ").collect();
        let [figure, beside, command, _] = cells[..] else {
            eprintln!("not measured: {name}");
            continue;
        };
        // The controls fill a table of their own; here a peer has room, not four of them.
        let peer = if beside.starts_with(CONTROLS_BEGIN) { "" } else { beside };
        writeln!(table, "| {says} | {figure} | {peer} | {command} |")?;
    }
    fs::write(&path, format!("{before}{TABLE_BEGIN}{table}{TABLE_END}{after}"))?;
    Ok(())
}
