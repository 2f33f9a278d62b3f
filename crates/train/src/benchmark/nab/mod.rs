//! The Numenta Anomaly Benchmark (NAB) 1.1: 58 streams, 116 labelled windows, one pass in the order of
//! time, one threshold for all.

mod corpus;
mod score;
mod windowed_gaussian;

use std::path::PathBuf;

pub use corpus::{Corpus, Published, Stream};
pub use score::{
    Mark, Profile, ScoredRow, THRESHOLD_OF_NONE, at_threshold, best_threshold, probation,
    scored_rows,
};
use thiserror::Error;
pub use windowed_gaussian::scores as windowed_gaussian_scores;

/// The benchmark cannot be run.
#[derive(Debug, Error)]
pub enum NabError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}; name the folder that holds data, labels, config and results, as in github.com/numenta/NAB", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not the JSON that it should be.
    #[error("{} is not what NAB has there: {source}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A stream is not a table of `timestamp,value`.
    #[error("{} is not a table of timestamp,value: {source}", file.display())]
    Csv {
        /// The file.
        file: PathBuf,
        /// Why.
        source: csv::Error,
    },
    /// A time is not understood.
    #[error("{}: the time `{text}` is not understood; NAB writes 2014-04-01 00:00:00", file.display())]
    Time {
        /// The file.
        file: PathBuf,
        /// What stands there.
        text: String,
    },
    /// A profile is missing.
    #[error("{} has no profile `{profile}`", file.display())]
    Profile {
        /// The file.
        file: PathBuf,
        /// The profile.
        profile: &'static str,
    },
    /// A window's end is not a row.
    #[error(
        "a labelled window of {stream} begins or ends at a time that the stream does not have; do data and labels come from the same version of NAB?"
    )]
    Window {
        /// The stream.
        stream: String,
    },
}

/// Scores detections on some streams of a corpus under each profile, with the best threshold of each.
///
/// `scores` has for each stream one number a row.
#[must_use]
pub fn marks(corpus: &Corpus, scores: &[Vec<f64>]) -> [Mark; 3] {
    let (rows, window_count) = all_rows(&corpus.streams, scores);
    corpus.profiles.map(|profile| best_threshold(&rows, window_count, &profile))
}

/// Returns the rows that count of many streams, and how many windows these have.
fn all_rows(streams: &[Stream], scores: &[Vec<f64>]) -> (Vec<ScoredRow>, usize) {
    let mut rows = Vec::new();
    let mut window_count = 0;
    for (stream, scores) in streams.iter().zip(scores) {
        rows.extend(scored_rows(stream, scores, window_count as u32));
        window_count += stream.windows.len();
    }
    (rows, window_count)
}
