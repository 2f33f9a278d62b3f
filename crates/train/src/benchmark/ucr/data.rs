//! The series of the archive, in two steps: first the numbers, and the anomaly only against scores that exist.

use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use stonechat_core::detector::Coverage;

use super::{UcrError, UcrOptions, period};
use crate::dataset::{ChannelInfo, Recording};
use crate::limits::THRESHOLD_SCORES_MIN;
use crate::replay::replay;
use crate::train::train;

/// The archive names no rates; a detector is made for one.
const RATE_HZ: f64 = 1.0;

/// The numbers of one series. Where its anomaly is stands in the file's name and is out of reach:
/// [`Unlabelled::score`] gives what [`ScoredSeries::anomaly`] is a method of.
#[derive(Clone, Debug)]
pub struct Unlabelled {
    path: PathBuf,
    name: String,
    training_rows: usize,
    recording: Recording,
}

/// The scores of one series, after which its anomaly may be looked up.
#[derive(Clone, Debug)]
pub struct ScoredSeries {
    path: PathBuf,
    name: String,
    training_rows: usize,
    window_len: usize,
    volume_window: usize,
    file_len: usize,
    memory_len: usize,
    scores: Vec<f64>,
}

impl Unlabelled {
    /// Reads a series: a number a line, in a file named `NAME_TRAIN_BEGIN_END.txt`.
    ///
    /// # Errors
    /// What is wrong with the file, and where.
    pub fn read(path: &Path) -> Result<Self, UcrError> {
        let [name, training_rows, _, _] = name_parts(path)?;
        let training_rows: usize =
            training_rows.parse().map_err(|_| UcrError::Name { file: path.to_owned() })?;
        let text = std::fs::read_to_string(path)
            .map_err(|source| UcrError::Read { path: path.to_owned(), source })?;
        let mut samples = Vec::new();
        for (index, line) in text.lines().enumerate() {
            // Some files have several numbers in a line.
            for number in line.split_whitespace() {
                samples.push(number.parse().map_err(|_| UcrError::Number {
                    file: path.to_owned(),
                    line: index + 1,
                    text: number.to_owned(),
                })?);
            }
        }
        let rows = samples.len();
        if training_rows == 0 || rows <= training_rows {
            return Err(UcrError::TooShort { file: path.to_owned(), rows, training_rows });
        }
        Ok(Self {
            path: path.to_owned(),
            name: name.clone(),
            training_rows,
            recording: Recording {
                name,
                channels: vec![ChannelInfo::new("value", "")],
                rate_hz: RATE_HZ,
                time_us: (0..rows as i64).map(|row| row * 1_000_000).collect(),
                samples,
                labels: None,
                segment_starts: vec![0],
            },
        })
    }

    /// Fits a detector to the training part and scores every row of the series.
    ///
    /// # Errors
    /// If no detector can be trained.
    pub fn score(&self, options: &UcrOptions) -> Result<ScoredSeries, UcrError> {
        let normal = self.recording.slice_rows(0..self.training_rows);
        let mut recipe = options.recipe.clone();
        if options.window_is_period {
            recipe.window_len = period(&normal.samples);
            recipe.smoothing = recipe.window_len;
            // No threshold is judged here: training keeps no more rows for it than it has to.
            let kept = 2 * recipe.window_len + THRESHOLD_SCORES_MIN;
            recipe.calibration_share = kept as f32 / self.training_rows.max(2 * kept) as f32;
        }
        let failed = |source| UcrError::Train { file: self.path.clone(), source };
        let trained = train(&normal, &recipe, |_| ControlFlow::Continue(())).map_err(failed)?;
        let detector = trained.file.detector();
        let replay = replay(&detector, &self.recording, |_, _| {})
            .map_err(|source| failed(source.into()))?;
        // A score speaks of many rows: it is given to the one in their middle, as TSB-AD does. The rows
        // before the first and after the last of these get the first and the last score.
        let Coverage { len, delay } = detector.coverage();
        let mut scores = Vec::with_capacity(self.recording.rows());
        let mut last = 0.0;
        for window in &replay.windows {
            let middle = window.row - delay - (len.min(window.row + 1 - delay) - 1) / 2;
            last = f64::from(window.score);
            if middle >= scores.len() {
                scores.resize(middle + 1, last);
            }
            scores[middle] = last;
        }
        scores.resize(self.recording.rows(), last);
        Ok(ScoredSeries {
            path: self.path.clone(),
            name: self.name.clone(),
            training_rows: self.training_rows,
            window_len: recipe.window_len,
            volume_window: period(&self.recording.samples),
            file_len: detector.file_len(),
            memory_len: detector.memory_words() * size_of::<u32>(),
            scores,
        })
    }
}

impl ScoredSeries {
    /// Returns the name of the series.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns a score for each row.
    #[must_use]
    pub fn scores(&self) -> &[f64] {
        &self.scores
    }

    /// Returns the length of the detector's window.
    #[must_use]
    pub fn window_len(&self) -> usize {
        self.window_len
    }

    /// Returns the longest buffer of the volume under the surface: the period of the whole series.
    #[must_use]
    pub fn volume_window(&self) -> usize {
        self.volume_window
    }

    /// Returns the bytes of the detector file, and of the memory that it needs.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        (self.file_len, self.memory_len)
    }

    /// Returns the row after the training part with the greatest score, the first of several.
    #[must_use]
    pub fn location(&self) -> usize {
        let best = |best: usize, row: usize| {
            if self.scores[row] > self.scores[best] { row } else { best }
        };
        (self.training_rows..self.scores.len()).fold(self.training_rows, best)
    }

    /// Looks up where the anomaly is.
    ///
    /// # Errors
    /// If the file's name does not say, or names rows that the series does not have.
    pub fn anomaly(&self) -> Result<Range<usize>, UcrError> {
        let [_, _, begin, end] = name_parts(&self.path)?;
        let (begin, end) = (begin.parse::<usize>().ok(), end.parse::<usize>().ok());
        begin
            .zip(end)
            // An anomaly of one row has the same begin and end in some names.
            .map(|(begin, end)| begin..end.max(begin + 1))
            .filter(|rows| rows.start >= self.training_rows && rows.end <= self.scores.len())
            .ok_or_else(|| UcrError::Name { file: self.path.clone() })
    }
}

/// Splits a file's name into name, training rows, begin and end.
fn name_parts(path: &Path) -> Result<[String; 4], UcrError> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut parts: Vec<String> = stem.rsplitn(4, '_').map(str::to_owned).collect();
    parts.reverse();
    parts.try_into().map_err(|_| UcrError::Name { file: path.to_owned() })
}
