//! What the columns of a file mean: given by the user, or found by name and by the first rows.

use super::options::unit_in_name;
use super::time::TimeFormat;
use super::{ChannelInfo, Choice, Column, DatasetError, ReadOptions, ReadReport};
use crate::limits::RECORDING_CHANNELS_MAX;

const TIME_NAMES: [&str; 7] =
    ["time", "timestamp", "datetime", "date", "date_time", "ts", "unix_time"];
const LABEL_NAMES: [&str; 5] = ["label", "anomaly", "is_anomaly", "anomalous", "label_anomaly"];
const CLIP_NAMES: [&str; 4] = ["clip", "clip_id", "segment", "segment_id"];
/// Columns that tell about the labels; as a channel they would give the answer away.
const LABEL_COMPANIONS: [&str; 2] = ["changepoint", "anomaly_type"];

/// What each column of a file is for, as indices of columns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) names: Vec<String>,
    pub(super) time: Option<(usize, TimeFormat)>,
    pub(super) label: Option<usize>,
    pub(super) clip: Option<usize>,
    pub(super) channels: Vec<usize>,
    pub(super) infos: Vec<ChannelInfo>,
}

/// The first rows of a file, by which columns are recognised: `[rows][columns]`.
pub(super) struct Sample<'a> {
    pub(super) rows: Vec<Vec<&'a [u8]>>,
    pub(super) decimal_comma: bool,
}

impl<'a> Sample<'a> {
    fn column(&self, column: usize) -> Vec<&'a [u8]> {
        self.rows
            .iter()
            .filter_map(|row| row.get(column).copied())
            .filter(|cell| !is_missing(cell))
            .collect()
    }

    fn is_number(&self, column: usize) -> bool {
        let cells = self.column(column);
        // One number is enough: text further down is then an error that names its row, not a column left out.
        cells.is_empty() || cells.iter().any(|cell| read_number(cell, self.decimal_comma).is_some())
    }
}

impl Layout {
    /// Decides what the columns mean and notes it in the report.
    pub(super) fn decide(
        file: &str,
        names: Vec<String>,
        sample: &Sample<'_>,
        options: &ReadOptions,
        report: &mut ReadReport,
    ) -> Result<Self, DatasetError> {
        let label = choose(file, &names, &options.label, || find_by_name(&names, &LABEL_NAMES))?;
        let clip = choose(file, &names, &options.clip, || find_by_name(&names, &CLIP_NAMES))?;
        let time = Self::decide_time(file, &names, sample, options)?;
        report.time_column = time.map(|(column, _)| names[column].clone());
        report.time_format = time.map(|(_, format)| format);
        report.label_column = label.map(|column| names[column].clone());
        report.clip_column = clip.map(|column| names[column].clone());

        let mut layout = Self { names, time, label, clip, channels: Vec::new(), infos: Vec::new() };
        if options.channels.is_empty() {
            layout.find_channels(sample, report);
        } else {
            layout.take_channels(file, options)?;
        }
        if layout.channels.is_empty() {
            let delimiter = report.delimiter.unwrap_or(',');
            return Err(DatasetError::NoChannels { file: file.to_owned(), delimiter });
        }
        if layout.channels.len() > RECORDING_CHANNELS_MAX {
            return Err(DatasetError::TooLarge {
                file: file.to_owned(),
                what: "channels",
                found: layout.channels.len() as u64,
                limit: RECORDING_CHANNELS_MAX as u64,
            });
        }
        report.missing_cells = vec![0; layout.channels.len()];
        Ok(layout)
    }

    fn decide_time(
        file: &str,
        names: &[String],
        sample: &Sample<'_>,
        options: &ReadOptions,
    ) -> Result<Option<(usize, TimeFormat)>, DatasetError> {
        let format_of = |column: usize| {
            let (name, cells) = (&names[column], sample.column(column));
            // Where one cell is broken, the first one decides, and reading then names the broken one.
            let detect = || {
                TimeFormat::detect(name, &cells)
                    .or_else(|| TimeFormat::detect(name, &cells[..cells.len().min(1)]))
            };
            options.time_format.or_else(detect)
        };
        let found = || {
            let is_clock =
                |column: &usize| is_time_name(&names[*column]) && format_of(*column).is_some();
            let by_name = (0..names.len()).find(is_clock);
            // A column of numbers could be anything; only written dates are recognised without a name.
            by_name.or_else(|| {
                (0..names.len())
                    .find(|column| format_of(*column).is_some_and(|format| !format.is_number()))
            })
        };
        let Some(column) = choose(file, names, &options.time, found)? else {
            return Ok(None);
        };
        // Where nothing fits, reading the first row as ISO gives the error that names row and column.
        Ok(Some((column, format_of(column).unwrap_or(TimeFormat::Iso))))
    }

    fn find_channels(&mut self, sample: &Sample<'_>, report: &mut ReadReport) {
        let special = [self.time.map(|(column, _)| column), self.label, self.clip];
        for (column, name) in self.names.iter().enumerate() {
            let is_companion = self.label.is_some()
                && LABEL_COMPANIONS.contains(&name.to_ascii_lowercase().as_str());
            // What pandas writes as the first column: row numbers without a name.
            let is_index = column == 0 && name.is_empty();
            if special.contains(&Some(column)) {
                continue;
            }
            if is_companion || is_index || !sample.is_number(column) {
                report.skipped_columns.push(name.clone());
                continue;
            }
            self.channels.push(column);
            self.infos.push(ChannelInfo::new(name, unit_in_name(name)));
        }
    }

    fn take_channels(&mut self, file: &str, options: &ReadOptions) -> Result<(), DatasetError> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        for choice in &options.channels {
            let column = choice.column.find(&names);
            let column =
                column.ok_or_else(|| DatasetError::missing_column(file, &choice.column, &names))?;
            let name = choice.name.as_deref().unwrap_or(names[column]);
            let unit = choice.unit.as_deref().unwrap_or_else(|| unit_in_name(names[column]));
            self.channels.push(column);
            self.infos.push(ChannelInfo::new(name, unit));
        }
        Ok(())
    }
}

fn choose(
    file: &str,
    names: &[String],
    choice: &Choice,
    find: impl FnOnce() -> Option<usize>,
) -> Result<Option<usize>, DatasetError> {
    let given = |column: &Column| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        column.find(&names).ok_or_else(|| DatasetError::missing_column(file, column, &names))
    };
    match choice {
        Choice::Detect => Ok(find()),
        Choice::Unused => Ok(None),
        Choice::Column(column) => given(column).map(Some),
    }
}

fn find_by_name(names: &[String], wanted: &[&str]) -> Option<usize> {
    names.iter().position(|name| wanted.contains(&name.trim().to_ascii_lowercase().as_str()))
}

/// Accepts `timestamp`, and with a unit `time_ms`, `Time (s)`, `timestamp [us]`.
fn is_time_name(name: &str) -> bool {
    let name = name.trim().to_ascii_lowercase();
    let stem = name.split(['(', '[']).next().unwrap_or_default().trim();
    let stem = ["_s", "_ms", "_us", "_ns", "_utc"]
        .iter()
        .find_map(|unit| stem.strip_suffix(unit))
        .unwrap_or(stem);
    TIME_NAMES.contains(&stem)
}

/// Tells whether a cell stands for "no reading".
pub(super) fn is_missing(cell: &[u8]) -> bool {
    let cell = cell.trim_ascii();
    cell.is_empty()
        || [&b"nan"[..], b"na", b"n/a", b"null", b"none"]
            .iter()
            .any(|word| cell.eq_ignore_ascii_case(word))
}

/// Reads a number; with `decimal_comma` also `1,5`.
#[inline]
pub(super) fn read_number(cell: &[u8], decimal_comma: bool) -> Option<f32> {
    if let Ok(value) = fast_float2::parse(cell) {
        return Some(value);
    }
    let cell = cell.trim_ascii();
    if decimal_comma && cell.contains(&b',') {
        let dotted: Vec<u8> =
            cell.iter().map(|&byte| if byte == b',' { b'.' } else { byte }).collect();
        return fast_float2::parse(&dotted).ok();
    }
    fast_float2::parse(cell).ok()
}

/// Reads a label.
pub(super) fn read_label(cell: &[u8]) -> Option<bool> {
    let cell = cell.trim_ascii();
    if let Ok(value) = fast_float2::parse::<f64, _>(cell) {
        return [0.0, 1.0].contains(&value).then_some(value == 1.0);
    }
    let is = |words: &[&str]| words.iter().any(|word| cell.eq_ignore_ascii_case(word.as_bytes()));
    if is(&["true", "yes", "anomaly", "anomalous", "abnormal"]) {
        return Some(true);
    }
    is(&["false", "no", "normal"]).then_some(false)
}
