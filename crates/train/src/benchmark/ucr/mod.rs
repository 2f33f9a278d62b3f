//! Series of the UCR Time Series Anomaly Archive (Wu and Keogh 2021, "Current time series anomaly detection
//! benchmarks are flawed and are creating the illusion of progress"): a normal part to train on, then
//! exactly one anomaly.
//!
//! Protocol: the row with the greatest score after the training part is right within 100 rows of the
//! anomaly; beside it the volume under the surface (VUS-PR) over the whole series as TSB-AD measures it.
//! The place of the anomaly is looked up when the scores exist, which [`Unlabelled`] makes sure of.

mod data;
mod period;
mod report;

use std::path::{Path, PathBuf};

pub use data::{ScoredSeries, Unlabelled};
pub use period::period;
pub use report::{SeriesReport, Summary, UcrReport};
use serde::Serialize;
use thiserror::Error;

use crate::fit::covariance::PcaOptions;
use crate::fit::neighbour::NeighbourOptions;
use crate::fit::z_score::ZScoreOptions;
use crate::recipe::{DetectorChoice, Recipe};
use crate::train::TrainError;

/// What to run.
#[derive(Clone, Debug, Serialize)]
pub struct UcrOptions {
    /// The detector, for all series the same.
    pub recipe: Recipe,
    /// Whether window and smoothing are as long as the dominant period of the training part. Then the
    /// last two periods of that part, and a few rows, are kept for the threshold, which plays no part here.
    pub window_is_period: bool,
}

impl Default for UcrOptions {
    /// The nearest of 256 windows of one period, smoothed over one period.
    ///
    /// About 370 detectors were tried in a prototype on ten of the series, and this is the plainest of
    /// those that did well. 48 of them were neighbours chosen to lie far apart, with windows of half a
    /// period to two: top-1 accuracy 0.4 to 0.7, VUS-PR 0.21 to 0.48. 72 were principal components and
    /// Mahalanobis distances: 0.1 to 0.6, and 0.04 to 0.27.
    fn default() -> Self {
        let detector = DetectorChoice::Neighbour(NeighbourOptions { vectors: 256 });
        let recipe = Recipe { name: "ucr".to_owned(), detector, ..Recipe::default() };
        Self { recipe, window_is_period: true }
    }
}

/// Detectors that are measured beside the one that is asked for.
fn beside() -> [(&'static str, UcrOptions); 2] {
    let ucr = |detector, window_len, window_is_period| {
        let mut options = UcrOptions { window_is_period, ..UcrOptions::default() };
        options.recipe.detector = detector;
        options.recipe.window_len = window_len;
        options
    };
    let frozen = DetectorChoice::ZScore(ZScoreOptions { alpha: 0.0 });
    let components = DetectorChoice::Pca(PcaOptions { variance_share: 0.95, components: None });
    [("frozen z-score", ucr(frozen, 1, false)), ("principal components", ucr(components, 1, true))]
}

/// The benchmark cannot be run.
#[derive(Debug, Error)]
pub enum UcrError {
    /// The folder has no series.
    #[error(
        "{} has no files named NAME_TRAIN_BEGIN_END.txt, neither itself nor in a folder `series`; name the folder of the UCR anomaly archive", folder.display()
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
    /// A file's name does not say what it should.
    #[error("{} is not named NAME_TRAIN_BEGIN_END.txt, with numbers that fit its rows", file.display())]
    Name {
        /// The file.
        file: PathBuf,
    },
    /// Something is no number.
    #[error("{} line {line}: `{text}` is not a number", file.display())]
    Number {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// There is nothing to train on or to judge.
    #[error("{} has {rows} rows, of which its name gives {training_rows} to train on; both parts need some", file.display())]
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
}

/// Runs the benchmark over every series of a folder.
///
/// # Errors
/// [`UcrError`] names the file and what is wrong.
pub fn run(folder: &Path, options: &UcrOptions) -> Result<UcrReport, UcrError> {
    let mut all = Vec::new();
    for path in text_files(folder)? {
        all.push(Unlabelled::read(&path)?);
    }
    let measure = |options: &UcrOptions| -> Result<Vec<SeriesReport>, UcrError> {
        all.iter().map(|series| report::series(&series.score(options)?)).collect()
    };
    let series = measure(options)?;
    let mut summaries = vec![Summary::new("Stonechat", &series)];
    for (name, options) in beside() {
        summaries.push(Summary::new(name, &measure(&options)?));
    }
    Ok(UcrReport {
        schema: report::SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        options: options.clone(),
        series,
        summaries,
    })
}

/// Returns the text files of a folder, or of its folder `series`, in the order of their names.
fn text_files(folder: &Path) -> Result<Vec<PathBuf>, UcrError> {
    let inner = folder.join("series");
    let place = if inner.is_dir() { inner } else { folder.to_owned() };
    let failed = |source| UcrError::Read { path: place.clone(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&place).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(UcrError::NoFiles { folder: folder.to_owned() });
    }
    Ok(files)
}
