//! Fuzzing by libFuzzer, on the stable compiler: our crates alone are built with coverage counters,
//! so that everything else is shared with the release build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail};

use crate::setup::{self, cargo};

/// What a run of one target may take.
#[derive(Clone, Copy, Debug)]
pub enum Effort {
    /// Seconds.
    Seconds(u64),
    /// Executions.
    Runs(u64),
}

/// Seconds for each target in CI.
pub const CI_SECONDS: u64 = 30;
/// The longest input that is tried, in bytes: longer than any message.
const LEN_MAX: usize = 20_000;
/// Megabytes at which a target counts as out of memory.
const MEMORY_MB_MAX: usize = 1_024;
/// Seconds after which one input counts as hanging.
const INPUT_SECONDS_MAX: usize = 10;
const PACKAGES: [(&str, &str); 1] = [("g++", "g++")];

/// Coverage as cargo-fuzz asks for it, and every check of a debug build.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";

/// Returns the names of the targets, out of the table in the program's source.
pub fn targets(root: &Path) -> Result<Vec<String>> {
    let path = root.join("fuzz").join("src").join("main.rs");
    let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let rows = source.lines().filter_map(|line| line.trim().strip_prefix("(\""));
    Ok(rows.filter_map(|row| Some(row.split_once('"')?.0.to_owned())).collect())
}

/// What a target did without failing.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its name.
    pub name: String,
    /// Inputs.
    pub runs: String,
    /// Edges of the control flow that they reached.
    pub edges: String,
}

/// Runs targets, as many at a time as there are processors, and prints a line for each.
pub fn run(root: &Path, names: &[String], effort: Effort) -> Result<Vec<Ran>> {
    let all = targets(root)?;
    if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
        bail!("there is no target `{unknown}`; there are {}", all.join(", "));
    }
    let names = if names.is_empty() { &all } else { names };
    let program = build(root)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let waiting = Mutex::new(names.iter());
    let next = || waiting.lock().ok()?.next();
    let work = || -> Result<Vec<(Ran, Option<String>)>> {
        let mut done = Vec::new();
        while let Some(name) = next() {
            done.push(finish(name, start(root, &program, name, effort)?)?);
        }
        Ok(done)
    };
    let done = thread::scope(|scope| {
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| worker.join().expect("no panic"));
        joined.collect::<Result<Vec<_>>>()
    })?;
    let (all_ran, failed): (Vec<_>, Vec<_>) = done.into_iter().flatten().unzip();
    let failed: Vec<String> = failed.into_iter().flatten().collect();
    if failed.is_empty() { Ok(all_ran) } else { bail!("failed: {}", failed.join(", ")) }
}

/// Waits for a target and prints its line; with the place of its log if it failed.
fn finish(name: &str, (mut child, log): (Child, PathBuf)) -> Result<(Ran, Option<String>)> {
    let status = child.wait()?;
    let text = fs::read_to_string(&log).unwrap_or_default();
    let ran = Ran::of(name, &text);
    println!("{:<22} {:>10} inputs, {:>6} edges", ran.name, ran.runs, ran.edges);
    if status.success() {
        return Ok((ran, None));
    }
    eprintln!("{}", failure(&text));
    Ok((ran, Some(format!("{name} ({})", log.display()))))
}

/// Builds the program; the wrapper adds the flags to our crates, but not to their build scripts.
fn build(root: &Path) -> Result<PathBuf> {
    setup::debian(&PACKAGES)?;
    let folder = setup::target(root).join("fuzz");
    fs::create_dir_all(&folder)?;
    let wrapper = folder.join("rustc.sh");
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in\n*\" build_script_build \"*) exec \"$@\" ;;\n*) exec \"$@\" {FLAGS} ;;\nesac\n"
    );
    fs::write(&wrapper, text)?;
    setup::run(Command::new("chmod").arg("+x").arg(&wrapper))?;
    let arguments = ["build", "--quiet", "--release", "--package", "stonechat-fuzz"];
    setup::run(cargo().current_dir(root).env("RUSTC_WORKSPACE_WRAPPER", &wrapper).args(arguments))?;
    Ok(setup::target(root).join("release").join("stonechat-fuzz"))
}

/// Starts one target over the committed inputs and those found before.
fn start(root: &Path, program: &Path, name: &str, effort: Effort) -> Result<(Child, PathBuf)> {
    let folder = setup::target(root).join("fuzz").join(name);
    let found = folder.join("corpus");
    let failing = folder.join("failing");
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&failing)?;
    let committed = root.join("fuzz").join("corpus").join(name);
    let log = folder.join("log.txt");
    let mut command = Command::new(program);
    command.env("STONECHAT_FUZZ", name).arg(&found);
    if committed.is_dir() {
        command.arg(committed);
    }
    let limit = match effort {
        Effort::Seconds(seconds) => format!("-max_total_time={seconds}"),
        Effort::Runs(runs) => format!("-runs={runs}"),
    };
    command.arg(limit).args([
        format!("-max_len={LEN_MAX}"),
        format!("-rss_limit_mb={MEMORY_MB_MAX}"),
        format!("-timeout={INPUT_SECONDS_MAX}"),
        format!("-artifact_prefix={}/", failing.display()),
        "-print_final_stats=1".to_owned(),
    ]);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log)?)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok((child, log))
}

impl Ran {
    /// Draws the figures out of libFuzzer's last lines.
    fn of(name: &str, log: &str) -> Self {
        let last = |find: &dyn Fn(&str) -> Option<String>| {
            log.lines().rev().find_map(find).unwrap_or("?".to_owned())
        };
        let runs = |line: &str| {
            Some(line.strip_prefix("stat::number_of_executed_units:")?.trim().to_owned())
        };
        let edges = |line: &str| Some(line.split_once(" cov: ")?.1.split(' ').next()?.to_owned());
        Self { name: name.to_owned(), runs: last(&runs), edges: last(&edges) }
    }
}

/// Finds the line that says why a target failed.
fn failure(log: &str) -> &str {
    let says = |line: &&str| line.contains("panicked at") || line.contains("ERROR: ");
    log.lines().find(says).unwrap_or("it said nothing")
}
