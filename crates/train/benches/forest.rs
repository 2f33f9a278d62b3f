//! Times the fit of a random forest beside scikit-learn and YDF, and the fit and the scores of an
//! isolation forest beside scikit-learn; the rows are the same for all.
//!
//! `STONECHAT_PYTHON` names a Python with `testdata/oracles/requirements-bench.txt`; without
//! it only our own times are printed. `--json` prints one object a line.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(clippy::print_stderr, reason = "a benchmark says what it leaves out on stderr")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use stonechat_train::evaluate::roc_auc;
use stonechat_train::fit::isolation_forest::{IsolationForestOptions, fit_isolation_forest};
use stonechat_train::fit::random_forest::{RandomForestOptions, fit_classes};
use stonechat_train::random::Random;
use stonechat_train::rows::Rows;

/// Ours; the peers take as many, or fewer where that is faster.
const THREADS: usize = 2;
/// Runs before and again after the peers'.
const RUNS: usize = 3;
const FOREST_ROWS: usize = 100_000;
const FOREST_WIDTH: usize = 20;
const FOREST_TREES: usize = 100;
const ISOLATION_ROWS: usize = 20_000;
const ISOLATION_WIDTH: usize = 8;
const ONE_CLASS: &str = "the rows are all of one class";
/// The bounds on the difference of the areas under the curve.
const FOREST_AUC_TOLERANCE: f64 = 0.002;
const ISOLATION_AUC_TOLERANCE: f64 = 0.01;

fn main() -> Result<(), Box<dyn Error>> {
    let json = std::env::args().any(|argument| argument == "--json");
    for object in random_forest()?.into_iter().chain(isolation_forest()?) {
        if json {
            println!("{object}");
        } else {
            println!("{object:#}");
        }
    }
    Ok(())
}

/// Rows with their classes.
struct Table {
    values: Vec<f32>,
    classes: Vec<u8>,
    width: usize,
}

impl Table {
    fn rows(&self) -> Result<Rows<'_>, Box<dyn Error>> {
        Ok(Rows::new(&self.values, self.width)?)
    }

    /// Writes the rows and the classes to where a peer reads them.
    fn write(&self, name: &str) -> Result<[PathBuf; 2], Box<dyn Error>> {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let paths = ["f32", "u8"].map(|kind| directory.join(format!("{name}.{kind}")));
        let bytes: Vec<u8> = self.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(&paths[0], bytes)?;
        std::fs::write(&paths[1], &self.classes)?;
        Ok(paths)
    }
}

fn random_forest() -> Result<Vec<Value>, Box<dyn Error>> {
    let fit = labelled(FOREST_ROWS, 1);
    let test = labelled(FOREST_ROWS / 2, 2);
    let options = RandomForestOptions {
        trees: FOREST_TREES,
        max_depth: None,
        ..RandomForestOptions::default()
    };
    let mut seconds = f64::INFINITY;
    let mut model = None;
    let mut run = || -> Result<(), Box<dyn Error>> {
        for _ in 0..RUNS {
            let start = Instant::now();
            let fitted = fit_classes(fit.rows()?, &fit.classes, &options, THREADS)?;
            seconds = seconds.min(start.elapsed().as_secs_f64());
            model = Some(fitted);
        }
        Ok(())
    };
    run()?;
    let paths = [fit.write("forest_fit")?, test.write("forest_test")?].concat();
    let peers = peers("random", &paths, FOREST_WIDTH)?;
    run()?;
    let model = model.ok_or("there was no run")?;
    let auc = roc_auc(&model.score(test.rows()?, THREADS)?, &labels(&test)).ok_or(ONE_CLASS)?;
    let ours = Timing { seconds, auc };
    Ok(report("fit/random_forest_100x100000x20", &ours, "fit", &peers, FOREST_AUC_TOLERANCE))
}

fn isolation_forest() -> Result<Vec<Value>, Box<dyn Error>> {
    let table = with_outliers(ISOLATION_ROWS, 3);
    let options = IsolationForestOptions::default();
    let mut ours = [Timing { seconds: f64::INFINITY, auc: 0.0 }; 2];
    let mut run = || -> Result<(), Box<dyn Error>> {
        for _ in 0..3 * RUNS {
            let start = Instant::now();
            let fitted = fit_isolation_forest(table.rows()?, &options, THREADS)?;
            ours[0].seconds = ours[0].seconds.min(start.elapsed().as_secs_f64());
            let start = Instant::now();
            let scored = fitted.score(table.rows()?, THREADS)?;
            ours[1].seconds = ours[1].seconds.min(start.elapsed().as_secs_f64());
            let auc = roc_auc(&scored, &labels(&table)).ok_or(ONE_CLASS)?;
            ours.iter_mut().for_each(|timing| timing.auc = auc);
        }
        Ok(())
    };
    run()?;
    let peers = peers("isolation", &table.write("isolation")?, ISOLATION_WIDTH)?;
    run()?;
    let names = ["fit/isolation_forest_20000x8", "score/isolation_forest_20000x8"];
    let reports = names
        .iter()
        .zip(&ours)
        .zip(["fit", "score"])
        .map(|((name, ours), what)| report(name, ours, what, &peers, ISOLATION_AUC_TOLERANCE));
    Ok(reports.flatten().collect())
}

#[derive(Clone, Copy)]
struct Timing {
    seconds: f64,
    auc: f64,
}

/// One object for each peer, or one for us alone.
fn report(name: &str, ours: &Timing, what: &str, peers: &[Value], tolerance: f64) -> Vec<Value> {
    let alone = json!({ "name": name, "value": ours.seconds, "unit": "s", "auc": ours.auc });
    let mut objects = Vec::new();
    for peer in peers {
        let seconds = peer[what].as_f64();
        let (Some(seconds), Some(auc)) = (seconds, peer["auc"].as_f64()) else { continue };
        let mut object = alone.clone();
        object["peer"] = peer["name"].clone();
        object["peer_value"] = json!(seconds);
        object["peer_auc"] = json!(auc);
        object["ratio"] = json!(seconds / ours.seconds);
        object["auc_within_bound"] = json!(ours.auc >= auc - tolerance);
        objects.push(object);
    }
    if objects.is_empty() { vec![alone] } else { objects }
}

/// Runs the peers; none when no Python with them is named.
fn peers(what: &str, paths: &[PathBuf], width: usize) -> Result<Vec<Value>, Box<dyn Error>> {
    let Some(python) = std::env::var_os("STONECHAT_PYTHON") else {
        eprintln!("no peer: STONECHAT_PYTHON does not name a Python with scikit-learn and YDF");
        return Ok(Vec::new());
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracles/bench_forest.py");
    let output = Command::new(&python)
        .arg(script)
        .args([what, &width.to_string(), &THREADS.to_string(), &FOREST_TREES.to_string()])
        .args(paths)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("bench_forest.py failed; its message is above".into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn labels(table: &Table) -> Vec<bool> {
    table.classes.iter().map(|class| *class != 0).collect()
}

/// Two classes that products, sines and ratios of a few columns tell apart, with a twentieth of the
/// labels turned over.
fn labelled(count: usize, seed: u64) -> Table {
    let mut random = Random::new(seed);
    let mut table =
        Table { values: Vec::new(), classes: Vec::with_capacity(count), width: FOREST_WIDTH };
    for _ in 0..count {
        let row = [(); FOREST_WIDTH].map(|()| random.normal());
        let score = row[0] * row[1]
            + 1.5 * (2.0 * row[2]).sin()
            + row[3].abs()
            + 0.7 * row[4]
            + row[5] * row[6] / (1.0 + row[7] * row[7])
            - 0.8;
        let turned = random.uniform() < 0.05;
        table.classes.push(u8::from((score > 0.0) != turned));
        table.values.extend(row.map(|x| x as f32));
    }
    table
}

/// Rows of three clusters, a twentieth of them scattered.
fn with_outliers(count: usize, seed: u64) -> Table {
    let mut random = Random::new(seed);
    let mut table =
        Table { values: Vec::new(), classes: Vec::with_capacity(count), width: ISOLATION_WIDTH };
    for index in 0..count {
        let scattered = index % 20 == 7;
        let centre = f64::from(random.below(3)) - 1.0;
        for column in 0..ISOLATION_WIDTH {
            let normal = 3.0 * centre * (column as f64 + 1.0).sin() + random.normal();
            let x = if scattered { random.between(-5.0, 5.0) } else { normal };
            table.values.push(x as f32);
        }
        table.classes.push(u8::from(scattered));
    }
    table
}
