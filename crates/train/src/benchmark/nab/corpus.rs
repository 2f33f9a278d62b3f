//! The corpus: streams, labelled windows, profiles and the published scoreboard.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::NabError;
use super::score::Profile;
use crate::dataset::Interval;
use crate::dataset::time::TimeFormat;

/// The labelled windows, below the benchmark's folder.
const WINDOWS: &str = "labels/combined_windows.json";
/// What a profile pays and takes.
const PROFILES: &str = "config/profiles.json";
/// The published scoreboard.
const RESULTS: &str = "results/final_results.json";

/// One file of the corpus.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Category and file, such as `realTweets/Twitter_volume_AAPL.csv`.
    pub name: String,
    /// The moment of each row, in microseconds since 1970.
    pub time_us: Vec<i64>,
    /// The value of each row.
    pub values: Vec<f64>,
    /// The labelled windows in the order of time; both ends are rows of the stream.
    pub windows: Vec<Interval>,
}

impl Stream {
    /// Returns the part of the name before the slash.
    #[must_use]
    pub fn category(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }
}

/// The benchmark as it lies on disk.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// The streams in the order of their names.
    pub streams: Vec<Stream>,
    /// The profiles: standard, reward low FP rate, reward low FN rate.
    pub profiles: [Profile; 3],
    /// The published scoreboard, best standard score first.
    pub published: Vec<Published>,
}

/// A line of the published scoreboard.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The detector, as the scoreboard spells it.
    pub detector: String,
    /// Its scores in the order of [`Corpus::profiles`].
    pub scores: [f64; 3],
}

#[derive(Deserialize)]
struct ProfileFile {
    #[serde(rename = "CostMatrix")]
    cost_matrix: CostMatrix,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CostMatrix {
    tp_weight: f64,
    fn_weight: f64,
    fp_weight: f64,
}

#[derive(Deserialize)]
struct Scores {
    standard: f64,
    #[serde(rename = "reward_low_FP_rate")]
    low_false_positives: f64,
    #[serde(rename = "reward_low_FN_rate")]
    low_false_negatives: f64,
}

#[derive(Deserialize)]
struct Row {
    timestamp: String,
    value: f64,
}

impl Corpus {
    /// Reads a folder laid out as `numenta/NAB` is.
    ///
    /// # Errors
    /// [`NabError`] names the file that is missing or not understood.
    pub fn read(folder: &Path) -> Result<Self, NabError> {
        let windows_path = folder.join(WINDOWS);
        let windows: BTreeMap<String, Vec<(String, String)>> = read_json(&windows_path)?;
        let mut streams = Vec::with_capacity(windows.len());
        for (name, pairs) in windows {
            let windows = pairs.iter().map(|(start, end)| {
                Ok(Interval {
                    start_us: moment(&windows_path, start)?,
                    end_us: moment(&windows_path, end)?,
                })
            });
            let windows = windows.collect::<Result<Vec<_>, NabError>>()?;
            streams.push(read_stream(&folder.join("data").join(&name), name, windows)?);
        }
        Ok(Self {
            streams,
            profiles: read_profiles(&folder.join(PROFILES))?,
            published: read_published(&folder.join(RESULTS))?,
        })
    }
}

fn read_stream(path: &Path, name: String, windows: Vec<Interval>) -> Result<Stream, NabError> {
    let unreadable = |source| NabError::Csv { file: path.to_owned(), source };
    let mut reader = csv::Reader::from_path(path).map_err(unreadable)?;
    let mut stream = Stream { name, time_us: Vec::new(), values: Vec::new(), windows };
    for row in reader.deserialize() {
        let row: Row = row.map_err(unreadable)?;
        stream.time_us.push(moment(path, &row.timestamp)?);
        stream.values.push(row.value);
    }
    for end in stream.windows.iter().flat_map(|window| [window.start_us, window.end_us]) {
        if !stream.time_us.contains(&end) {
            return Err(NabError::Window { stream: stream.name });
        }
    }
    Ok(stream)
}

fn moment(file: &Path, text: &str) -> Result<i64, NabError> {
    TimeFormat::Iso
        .read(text.as_bytes())
        .ok_or_else(|| NabError::Time { file: file.to_owned(), text: text.to_owned() })
}

fn read_profiles(path: &Path) -> Result<[Profile; 3], NabError> {
    let mut file: BTreeMap<String, ProfileFile> = read_json(path)?;
    let mut profile = |key: &'static str, name: &'static str| -> Result<Profile, NabError> {
        let matrix = file
            .remove(key)
            .ok_or_else(|| NabError::Profile { file: path.to_owned(), profile: key })?
            .cost_matrix;
        Ok(Profile {
            name,
            true_positive: matrix.tp_weight,
            false_negative: matrix.fn_weight,
            false_positive: matrix.fp_weight,
        })
    };
    Ok([
        profile("standard", "standard")?,
        profile("reward_low_FP_rate", "low FP")?,
        profile("reward_low_FN_rate", "low FN")?,
    ])
}

fn read_published(path: &Path) -> Result<Vec<Published>, NabError> {
    let file: BTreeMap<String, Scores> = read_json(path)?;
    let line = |(detector, scores): (String, Scores)| Published {
        detector,
        scores: [scores.standard, scores.low_false_positives, scores.low_false_negatives],
    };
    let mut published: Vec<Published> = file.into_iter().map(line).collect();
    published.sort_by(|a, b| b.scores[0].total_cmp(&a.scores[0]));
    Ok(published)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, NabError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| NabError::Read { file: PathBuf::from(path), source })?;
    serde_json::from_str(&text).map_err(|source| NabError::Json { file: path.to_owned(), source })
}
