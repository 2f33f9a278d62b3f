//! Recordings: what a sensor measured, with times, labels and gaps, read from CSV or Parquet.

mod assemble;
mod csv_file;
mod error;
mod label;
mod layout;
mod options;
mod parquet_file;
mod parquet_writer;
mod plain_rows;
pub mod time;

use std::ops::Range;
use std::path::Path;

pub use csv_file::{read_csv, read_csv_bytes, write_csv};
pub use error::DatasetError;
pub use label::{Interval, read_intervals, read_points};
pub use options::{ChannelChoice, Choice, Column, ReadOptions, ReadReport};
pub use parquet_file::read_parquet;
pub use parquet_writer::write_parquet;

/// One channel of a recording.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ChannelInfo {
    /// As in the file's header, or as renamed.
    pub name: String,
    /// SenML or UCUM unit such as `Cel` or `m/s2`; empty where unknown.
    pub unit: String,
}

impl ChannelInfo {
    /// Makes a channel.
    #[must_use]
    pub fn new(name: &str, unit: &str) -> Self {
        Self { name: name.to_owned(), unit: unit.to_owned() }
    }

    /// Returns the name with its unit in brackets, as a column is headed; once where the name has it already.
    #[must_use]
    pub fn title(&self) -> String {
        let unit = &self.unit;
        let has_unit = [format!("[{unit}]"), format!("({unit})")]
            .iter()
            .any(|bracketed| self.name.ends_with(bracketed));
        if unit.is_empty() || has_unit {
            self.name.clone()
        } else {
            format!("{} [{unit}]", self.name)
        }
    }

    /// Returns the name with only the characters that RFC 8428 admits in a SenML name; others become `_`.
    #[must_use]
    pub fn wire_name(&self) -> String {
        let admitted =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.' | '/' | '_');
        // A unit in brackets at the end is not part of the name; `V(V) L1` keeps what tells it from `V(V) L2`.
        let bare = [('[', ']'), ('(', ')')].into_iter().find_map(|(open, close)| {
            let (name, _) = self.name.trim().strip_suffix(close)?.rsplit_once(open)?;
            Some(name).filter(|name| !name.trim().is_empty())
        });
        let name: String = bare
            .unwrap_or(&self.name)
            .trim()
            .chars()
            .map(|c| if admitted(c) { c } else { '_' })
            .collect();
        // A SenML name starts with a letter or a digit.
        let name = name.trim_matches('_');
        if name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            name.to_owned()
        } else {
            format!("channel{name}")
        }
    }
}

/// A recording: rows in the order of time, one number a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Where it comes from; for messages, titles and choosing labels.
    pub name: String,
    /// `[channels]`.
    pub channels: Vec<ChannelInfo>,
    /// Rows a second.
    pub rate_hz: f64,
    /// `[rows]`, microseconds since 1970, or from 0 where the file has no clock.
    pub time_us: Vec<i64>,
    /// `[rows][channels]`; NaN where the file has no number.
    pub samples: Vec<f32>,
    /// `[rows]`, true = anomalous; none where nothing is known.
    pub labels: Option<Vec<bool>>,
    /// First row of each clip; a window never crosses one. Starts with 0 unless there are no rows.
    pub segment_starts: Vec<usize>,
}

impl Recording {
    /// Returns the number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.time_us.len()
    }

    /// Returns a row, one number a channel.
    ///
    /// # Panics
    /// Where `row` is not below [`Recording::rows`].
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        let width = self.channels.len();
        &self.samples[row * width..(row + 1) * width]
    }

    /// Returns the numbers of one channel in the order of time; none where there is no such channel.
    pub fn channel(&self, channel: usize) -> impl Iterator<Item = f32> {
        self.samples.iter().skip(channel).step_by(self.channels.len().max(1)).copied()
    }

    /// Returns the rows of each segment in turn.
    pub fn segments(&self) -> impl Iterator<Item = Range<usize>> {
        let ends = self.segment_starts.iter().skip(1).copied().chain([self.rows()]);
        self.segment_starts.iter().copied().zip(ends).map(|(start, end)| start..end)
    }

    /// Returns the time between the first row and the end of the last, without the gaps between segments.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.rows() as f64 / self.rate_hz
    }

    /// Returns the channels whose every number is the same; a detector can learn nothing from them.
    #[must_use]
    pub fn constant_channels(&self) -> Vec<&ChannelInfo> {
        let is_constant = |channel: usize| {
            let mut numbers = self.channel(channel).filter(|x| !x.is_nan());
            let first = numbers.next();
            numbers.all(|x| Some(x) == first)
        };
        (0..self.channels.len())
            .filter(|&channel| is_constant(channel))
            .map(|channel| &self.channels[channel])
            .collect()
    }

    /// Refuses a recording with fewer rows than something needs.
    ///
    /// # Errors
    /// [`DatasetError::TooFewRows`].
    pub fn require_rows(&self, needed: usize) -> Result<(), DatasetError> {
        if self.rows() < needed {
            return Err(DatasetError::TooFewRows {
                file: self.name.clone(),
                rows: self.rows(),
                needed,
            });
        }
        Ok(())
    }

    /// Returns the rows of a range; what lies outside of the recording is left out.
    #[must_use]
    pub fn slice_rows(&self, rows: Range<usize>) -> Self {
        let end = rows.end.min(self.rows());
        let rows = rows.start.min(end)..end;
        let width = self.channels.len();
        let mut segment_starts: Vec<usize> = self
            .segment_starts
            .iter()
            .filter(|&&start| start > rows.start && start < rows.end)
            .map(|start| start - rows.start)
            .collect();
        if !rows.is_empty() {
            segment_starts.insert(0, 0);
        }
        Self {
            name: self.name.clone(),
            channels: self.channels.clone(),
            rate_hz: self.rate_hz,
            time_us: self.time_us[rows.clone()].to_vec(),
            samples: self.samples[rows.start * width..rows.end * width].to_vec(),
            labels: self.labels.as_ref().map(|labels| labels[rows].to_vec()),
            segment_starts,
        }
    }

    /// Returns the rows from the first at or after the start to the last before the end, in microseconds.
    #[must_use]
    pub fn slice_time(&self, time_us: Range<i64>) -> Self {
        let start =
            self.time_us.iter().position(|&time| time >= time_us.start).unwrap_or(self.rows());
        let end =
            self.time_us.iter().rposition(|&time| time < time_us.end).map_or(0, |last| last + 1);
        self.slice_rows(start..end)
    }

    /// Returns a part of the rows in the order of time: `0.0..0.15` is the first 15 %.
    #[must_use]
    pub fn slice_fraction(&self, part: Range<f64>) -> Self {
        let rows = self.rows();
        self.slice_rows(fraction_of(rows, part.start)..fraction_of(rows, part.end))
    }

    /// Returns a part of the clips in their order: `0.0..0.6` is the first 60 % of them.
    #[must_use]
    pub fn slice_clips(&self, part: Range<f64>) -> Self {
        let clips = self.segment_starts.len();
        let row_of = |clip: usize| self.segment_starts.get(clip).copied().unwrap_or(self.rows());
        self.slice_rows(
            row_of(fraction_of(clips, part.start))..row_of(fraction_of(clips, part.end)),
        )
    }

    /// Returns the chosen channels in the given order, by name or by number from 1.
    ///
    /// # Errors
    /// [`DatasetError::MissingColumn`] names the channels that exist.
    pub fn select(&self, columns: &[Column]) -> Result<Self, DatasetError> {
        let names: Vec<&str> = self.channels.iter().map(|channel| channel.name.as_str()).collect();
        let chosen = columns
            .iter()
            .map(|column| {
                column
                    .find(&names)
                    .ok_or_else(|| DatasetError::missing_column(&self.name, column, &names))
            })
            .collect::<Result<Vec<usize>, _>>()?;
        let mut selected = self.clone();
        selected.channels = chosen.iter().map(|&channel| self.channels[channel].clone()).collect();
        selected.samples = (0..self.rows())
            .flat_map(|row| chosen.iter().map(move |&channel| self.row(row)[channel]))
            .collect();
        Ok(selected)
    }

    /// Renames a channel.
    ///
    /// # Errors
    /// [`DatasetError::MissingColumn`] names the channels that exist.
    pub fn rename(&mut self, column: &Column, name: &str) -> Result<(), DatasetError> {
        let names: Vec<&str> = self.channels.iter().map(|channel| channel.name.as_str()).collect();
        let channel = column
            .find(&names)
            .ok_or_else(|| DatasetError::missing_column(&self.name, column, &names))?;
        name.clone_into(&mut self.channels[channel].name);
        Ok(())
    }

    /// Appends another recording of the same channels as further segments.
    ///
    /// One that does not begin after the end of this one, as its clock starts from 0 as well, is moved behind it.
    ///
    /// # Errors
    /// [`DatasetError::ChannelsDiffer`] where names or their order differ.
    pub fn append(&mut self, other: &Self) -> Result<(), DatasetError> {
        let names = |recording: &Self| -> Vec<String> {
            recording.channels.iter().map(|channel| channel.name.clone()).collect()
        };
        if names(self) != names(other) {
            return Err(DatasetError::ChannelsDiffer {
                file: other.name.clone(),
                found: names(other).join(", "),
                expected: names(self).join(", "),
            });
        }
        let offset = self.rows();
        self.labels = match (self.labels.take(), &other.labels) {
            (None, None) => None,
            // Rows without labels beside labelled ones count as normal.
            (mine, theirs) => {
                let mut labels = mine.unwrap_or_else(|| vec![false; offset]);
                labels.extend(theirs.clone().unwrap_or_else(|| vec![false; other.rows()]));
                Some(labels)
            }
        };
        self.segment_starts.extend(other.segment_starts.iter().map(|start| start + offset));
        let period_us = (1e6 / self.rate_hz).round() as i64;
        let shift_us = match (self.time_us.last(), other.time_us.first()) {
            (Some(&end), Some(&start)) if start <= end => end + period_us - start,
            _ => 0,
        };
        self.time_us.extend(other.time_us.iter().map(|time| time + shift_us));
        self.samples.extend(&other.samples);
        Ok(())
    }

    /// Labels every row alike: a file of one state.
    pub fn label_all(&mut self, anomalous: bool) {
        self.labels = Some(vec![anomalous; self.rows()]);
    }

    /// Labels the rows inside the intervals, both ends included, as anomalous and all others as normal.
    pub fn label_intervals(&mut self, intervals: &[Interval]) {
        let is_inside = |time: i64| intervals.iter().any(|interval| interval.contains(time));
        self.labels = Some(self.time_us.iter().map(|&time| is_inside(time)).collect());
    }

    /// Labels the rows nearest to the points as anomalous; returns how many points lie more than a period away from any row.
    pub fn label_points(&mut self, points_us: &[i64]) -> usize {
        let mut labels = vec![false; self.rows()];
        let period_us = (1e6 / self.rate_hz) as i64;
        let mut far = 0;
        for &point in points_us {
            let nearest =
                self.time_us.iter().enumerate().min_by_key(|(_, time)| time.abs_diff(point));
            match nearest {
                Some((row, time)) if time.abs_diff(point) <= period_us.unsigned_abs() => {
                    labels[row] = true;
                }
                _ => far += 1,
            }
        }
        self.labels = Some(labels);
        far
    }

    /// Returns the labelled stretches as rows; none where there are no labels.
    #[must_use]
    pub fn anomalous_rows(&self) -> Vec<Range<usize>> {
        self.labels.as_deref().map(crate::evaluate::runs).unwrap_or_default()
    }
}

/// Reads a recording; the file's name says whether it is Parquet (`.parquet`) or text.
///
/// # Errors
/// [`DatasetError`] says which file, row and column, and what to do.
pub fn read(path: &Path, options: &ReadOptions) -> Result<(Recording, ReadReport), DatasetError> {
    let is_parquet =
        path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"));
    if is_parquet { read_parquet(path, options) } else { read_csv(path, options) }
}

/// Rounds to the nearest whole item, so that 0.6 of 585 is 351 whichever way the product falls.
fn fraction_of(count: usize, part: f64) -> usize {
    ((count as f64 * part.clamp(0.0, 1.0)).round() as usize).min(count)
}

#[cfg(test)]
mod tests;
