//! The one task runner: what a person runs, CI runs.
//!
//! `cargo xtask demo`, `cargo xtask test`, `cargo xtask ci`, `cargo xtask bench`.

mod bench;
mod demo;
mod fuzz;
mod measure;
mod setup;
mod test;
mod virt;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Builds, tests and measures Stonechat.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build the dashboard and the program, and start the demo.
    Demo {
        /// Arguments of `stonechat demo`, after `--`.
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Build the dashboard and the program, and install it as `cargo install` does.
    Install,
    /// Install what tests need and run them.
    Test {
        /// Only print the parts.
        #[arg(long)]
        list: bool,
        /// Run one part; may be repeated.
        #[arg(long, value_name = "PART")]
        only: Vec<test::Part>,
    },
    /// Check formatting and lints, then run every test.
    Ci,
    /// Feed outside bytes, ever new ones, to every decoder.
    Fuzz {
        /// The targets; all of them without it.
        names: Vec<String>,
        /// Only print the targets.
        #[arg(long)]
        list: bool,
        /// Seconds for each.
        #[arg(long, default_value_t = fuzz::CI_SECONDS, conflicts_with = "runs")]
        seconds: u64,
        /// Executions of each.
        #[arg(long)]
        runs: Option<u64>,
    },
    /// Measure, beside peers where they can be had.
    Bench {
        /// What to measure; everything without it.
        names: Vec<bench::Name>,
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Measure and write docs/measurements.md and the README's table.
    Measure {
        /// What to measure anew; everything without it.
        parts: Vec<measure::Part>,
        /// Also time a release build from nothing.
        #[arg(long)]
        cold_build: bool,
        /// Measure nothing; only bring the README's table up to docs/measurements.md.
        #[arg(long)]
        table_only: bool,
    },
}

fn main() -> Result<()> {
    let root = root()?;
    match Cli::parse().task {
        Task::Demo { args } => demo::run(&root, &args),
        Task::Install => demo::install(&root),
        Task::Test { list: true, .. } => {
            test::list();
            Ok(())
        }
        Task::Test { only, .. } => test::run(&root, &only),
        Task::Ci => test::ci(&root),
        Task::Fuzz { list: true, .. } => {
            fuzz::targets(&root)?.iter().for_each(|name| println!("{name}"));
            Ok(())
        }
        Task::Fuzz { names, seconds, runs, .. } => {
            let effort = runs.map_or(fuzz::Effort::Seconds(seconds), fuzz::Effort::Runs);
            fuzz::run(&root, &names, effort).map(drop)
        }
        Task::Bench { names, json } => bench::run(&root, &names, json),
        Task::Measure { table_only: true, .. } => measure::readme(&root),
        Task::Measure { parts, cold_build, .. } => measure::run(&root, &parts, cold_build),
    }
}

/// The folder of the workspace.
fn root() -> Result<PathBuf> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).context("xtask stands in the workspace's folder")
}
