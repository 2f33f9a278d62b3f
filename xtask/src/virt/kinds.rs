//! A trained detector of every kind, made by the example `kinds` of stonechat-train.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::cases::Case;
use super::report::Report;
use crate::setup::{self, cargo};

/// A modelled cost may differ from the counted one by this share, up or down.
const TOLERANCE: f64 = 0.25;

/// The kind that costs the more the longer it runs, up to what is modelled.
const BOUNDED: &str = "learner";

/// What `stonechat compare` says that a detector costs, in instructions.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Cost {
    per_sample: f64,
}

/// A trained detector with samples and its modelled cost.
pub(super) struct Kind {
    pub(super) case: Case,
    cost: Cost,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    channels: usize,
    cost: Cost,
}

/// Trains one detector of each kind and makes samples for at least `windows` windows.
///
/// # Errors
/// Fails where one cannot be trained.
pub(super) fn trained(root: &Path, windows: u32) -> Result<Vec<Kind>> {
    let folder = setup::target(root).join("virt-kinds");
    let example = ["run", "--quiet", "--package", "stonechat-train", "--example", "kinds", "--"];
    setup::run(cargo().current_dir(root).args(example).arg(&folder).arg(windows.to_string()))?;
    let index = fs::read_to_string(folder.join("index.json"))?;
    let entries: Vec<Entry> = serde_json::from_str(&index).context("the index of the kinds")?;
    let kind = |entry: Entry| {
        let read = |ending| fs::read(folder.join(format!("{}.{ending}", entry.name)));
        let samples = read("samples")?;
        let samples = samples.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let samples = samples.collect();
        let case = Case {
            detector: read("detector")?,
            channels: entry.channels,
            samples,
            windows,
            name: entry.name,
        };
        Ok(Kind { case, cost: entry.cost })
    };
    entries.into_iter().map(kind).collect()
}

impl Kind {
    /// Holds the modelled cost against the counted instructions.
    pub(super) fn cost(&self, chip: &Report) -> Compared {
        Compared {
            modelled: self.cost.per_sample,
            counted: chip.instructions_per_sample(),
            is_bound: self.case.name == BOUNDED,
        }
    }
}

/// Instructions a sample, modelled and counted.
pub(super) struct Compared {
    modelled: f64,
    counted: f64,
    is_bound: bool,
}

impl Compared {
    fn ratio(&self) -> f64 {
        self.modelled / self.counted
    }

    /// Tells whether they differ by no more than [`TOLERANCE`]; a bound must only not be exceeded.
    pub(super) fn is_right(&self) -> bool {
        self.is_bound && self.ratio() >= 1.0
            || (1.0 - TOLERANCE..=1.0 + TOLERANCE).contains(&self.ratio())
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { modelled, counted, .. } = self;
        let ratio = self.ratio();
        write!(
            f,
            "modelled {modelled:.0} instructions a sample, counted {counted:.0} (ratio {ratio:.2})"
        )
    }
}
