//! The files of SKAB, in two steps: first the sensors, and the labels only against scores that exist.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use stonechat_core::decision::Verdict;

use super::{SkabError, SkabOptions};
use crate::dataset::{ChannelInfo, Recording};
use crate::evaluate::{FrozenZScore, Scored, Windows};
use crate::replay::replay;
use crate::train::train;

/// What a file of SKAB is headed, but for the two columns of labels.
const SENSORS: [(&str, &str); 8] = [
    ("Accelerometer1RMS", "m/s2"),
    ("Accelerometer2RMS", "m/s2"),
    ("Current", "A"),
    ("Pressure", ""),
    ("Temperature", "Cel"),
    ("Thermocouple", "Cel"),
    ("Voltage", "V"),
    ("Volume Flow RateRMS", ""),
];
const LABEL: &str = "anomaly";
/// The files have about a row a second.
const RATE_HZ: f64 = 1.0;

/// The sensors of one file. Its labels are out of reach: [`Unlabelled::score`] gives what
/// [`ScoredFile::labels`] is a method of.
#[derive(Clone, Debug)]
pub struct Unlabelled {
    path: PathBuf,
    name: String,
    recording: Recording,
}

/// Scores and verdicts of one file, after which its labels may be read.
#[derive(Clone, Debug)]
pub struct ScoredFile {
    path: PathBuf,
    name: String,
    training_rows: usize,
    threshold: f64,
    scored: Scored,
    frozen: Scored,
}

impl Unlabelled {
    /// Reads the sensors of a file; `name` is how reports call it.
    ///
    /// # Errors
    /// What is wrong with the file, and where.
    pub fn read(path: &Path, name: &str) -> Result<Self, SkabError> {
        let mut reader = reader(path)?;
        let columns = SENSORS.map(|(sensor, _)| column(&mut reader, path, sensor));
        let columns = columns.into_iter().collect::<Result<Vec<usize>, _>>()?;
        let mut samples = Vec::new();
        for (index, record) in reader.records().enumerate() {
            let record = record.map_err(|source| csv_error(path, source))?;
            for (column, (sensor, _)) in columns.iter().zip(SENSORS) {
                samples.push(number(path, index, sensor, record.get(*column))?);
            }
        }
        let rows = samples.len() / SENSORS.len();
        Ok(Self {
            path: path.to_owned(),
            name: name.to_owned(),
            recording: Recording {
                name: name.to_owned(),
                channels: SENSORS.map(|(sensor, unit)| ChannelInfo::new(sensor, unit)).to_vec(),
                rate_hz: RATE_HZ,
                // The clock is irregular and three files have a gap of a minute; the protocol judges
                // every row, so the rows are one run.
                time_us: (0..rows as i64).map(|row| row * 1_000_000).collect(),
                samples,
                labels: None,
                segment_starts: vec![0],
            },
        })
    }

    /// Fits a detector to the first rows and scores all the others.
    ///
    /// # Errors
    /// If the file is too short or no detector can be trained.
    pub fn score(self, options: &SkabOptions) -> Result<ScoredFile, SkabError> {
        let (rows, training_rows) = (self.recording.rows(), options.training_rows);
        if rows <= training_rows {
            return Err(SkabError::TooShort { file: self.path, rows, training_rows });
        }
        let normal = self.recording.slice_rows(0..training_rows);
        let failed = |source| SkabError::Train { file: self.path.clone(), source };
        let trained = train(&normal, &options.recipe, |_| ControlFlow::Continue(()));
        let trained = trained.map_err(failed)?;
        let detector = trained.file.detector();
        let replay = replay(&detector, &self.recording, |_, _| {})
            .map_err(|source| failed(source.into()))?;
        // A row without a window of its own (a sensor fault before it) keeps what was said last.
        let mut windows = replay.windows.iter().peekable();
        let (mut score, mut verdict) = (0.0, false);
        let mut scored = Scored::default();
        for row in 0..rows {
            while let Some(window) = windows.next_if(|window| window.row <= row) {
                score = f64::from(window.score);
                verdict = window.verdict == Verdict::Anomaly;
            }
            if row >= training_rows {
                scored.scores.push(score);
                scored.verdicts.push(verdict);
            }
        }
        let test_rows: Vec<usize> = (training_rows..rows).collect();
        let frozen = FrozenZScore::fit(&normal)
            .map_err(|source| SkabError::Control { file: self.path.clone(), source })?
            .score(&self.recording, Windows { last_rows: &test_rows, len: 1 });
        Ok(ScoredFile {
            path: self.path,
            name: self.name,
            training_rows,
            threshold: trained.summary.threshold.value,
            scored,
            frozen,
        })
    }
}

impl ScoredFile {
    /// Returns the file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns scores and verdicts of the rows after those of the training.
    #[must_use]
    pub fn scored(&self) -> &Scored {
        &self.scored
    }

    /// Returns what the z-score frozen after the training rows says of the same rows.
    #[must_use]
    pub fn frozen(&self) -> &Scored {
        &self.frozen
    }

    /// Returns the threshold that the training rows gave.
    #[must_use]
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// Reads the labels of the rows that were scored.
    ///
    /// # Errors
    /// If there are none, or not one for each score.
    pub fn labels(&self) -> Result<Vec<bool>, SkabError> {
        let mut reader = reader(&self.path)?;
        let column = column(&mut reader, &self.path, LABEL)?;
        let mut labels = Vec::with_capacity(self.scored.scores.len());
        for (index, record) in reader.records().enumerate().skip(self.training_rows) {
            let record = record.map_err(|source| csv_error(&self.path, source))?;
            labels.push(number(&self.path, index, LABEL, record.get(column))? != 0.0);
        }
        if labels.len() == self.scored.scores.len() {
            return Ok(labels);
        }
        Err(SkabError::Changed { file: self.path.clone() })
    }
}

fn reader(path: &Path) -> Result<csv::Reader<std::fs::File>, SkabError> {
    csv::ReaderBuilder::new()
        .delimiter(b';')
        .from_path(path)
        .map_err(|source| csv_error(path, source))
}

fn csv_error(path: &Path, source: csv::Error) -> SkabError {
    SkabError::Csv { file: path.to_owned(), source }
}

fn column(
    reader: &mut csv::Reader<std::fs::File>,
    path: &Path,
    name: &'static str,
) -> Result<usize, SkabError> {
    let headers = reader.headers().map_err(|source| csv_error(path, source))?;
    let found = headers.iter().position(|header| header.trim() == name);
    found.ok_or_else(|| SkabError::Column { file: path.to_owned(), column: name })
}

fn number(
    path: &Path,
    index: usize,
    column: &'static str,
    text: Option<&str>,
) -> Result<f32, SkabError> {
    let text = text.unwrap_or_default().trim();
    text.parse().map_err(|_| SkabError::Number {
        file: path.to_owned(),
        // The header is line 1.
        line: index + 2,
        column,
        text: text.to_owned(),
    })
}
