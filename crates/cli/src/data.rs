//! The arguments that say which recordings a command reads, and how.

use std::ops::Range;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use stonechat_train::dataset::{
    self, ChannelChoice, Choice, Column, ReadOptions, Recording, read_intervals, read_points,
};

use crate::output::{Hinted, Output, counted};

#[derive(Debug, Args)]
#[command(next_help_heading = "Reading recordings")]
pub(crate) struct ReadArgs {
    /// Columns that become channels, by name or number from 1: COLUMN, COLUMN=NAME:UNIT or
    /// COLUMN=:UNIT. Without it, every column of numbers.
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    channels: Vec<ChannelChoice>,
    /// Samples a second; without it, from the time column.
    #[arg(long, value_name = "HZ", allow_negative_numbers = true)]
    rate: Option<f64>,
    /// The time column; `none` if there is none.
    #[arg(long, value_name = "COLUMN")]
    time: Option<String>,
    /// The column whose changes start a new clip, which no window crosses; `none` if there is none.
    #[arg(long, value_name = "COLUMN")]
    clip: Option<String>,
    /// The column of labels, 0 normal and 1 anomalous; `none` if there is none.
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// A JSON file of labelled intervals: {"file.csv": [["start", "end"], ...]}.
    #[arg(long, value_name = "FILE")]
    intervals: Option<PathBuf>,
    /// A file of labelled times, one a line, or JSON as for --intervals.
    #[arg(long, value_name = "FILE", conflicts_with = "intervals")]
    points: Option<PathBuf>,
    /// The character between cells, or `tab`; without it, found out.
    #[arg(long, value_name = "CHARACTER", value_parser = parse_delimiter)]
    delimiter: Option<u8>,
    /// The first row holds no names.
    #[arg(long)]
    no_header: bool,
    /// A clock that goes backwards starts a new clip instead of being an error.
    #[arg(long)]
    allow_clock_steps: bool,
    /// Only these rows, from 0: START..END.
    #[arg(long, value_name = "RANGE", value_parser = parse_rows)]
    rows: Option<Range<usize>>,
}

fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() => Ok(*byte),
        b"tab" | b"\\t" => Ok(b'\t'),
        _ => Err("write one ASCII character, such as ';', or tab".to_owned()),
    }
}

fn parse_rows(text: &str) -> Result<Range<usize>, String> {
    let parse = |part: &str, default| {
        if part.is_empty() { Some(default) } else { part.parse().ok() }
    };
    text.split_once("..")
        .and_then(|(start, end)| Some(parse(start, 0)?..parse(end, usize::MAX)?))
        .filter(|range| range.start < range.end)
        .ok_or_else(|| "write START..END, such as 0..4000 or 4000..".to_owned())
}

/// A file, or a part of one: `FILE` or `FILE@60%..80%`.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    path: PathBuf,
    part: Range<f64>,
}

impl Source {
    /// Returns the name of the file without its folder.
    pub(crate) fn file_name(&self) -> Option<PathBuf> {
        self.path.file_name().map(PathBuf::from)
    }
}

impl std::str::FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let whole = || Self { path: PathBuf::from(text), part: 0.0..1.0 };
        let Some((path, part)) = text.rsplit_once('@').filter(|(_, part)| part.contains(".."))
        else {
            return Ok(whole());
        };
        let percent = |part: &str, default: f64| match part.strip_suffix('%') {
            None if part.is_empty() => Some(default),
            None => None,
            Some(number) => Some(number.parse::<f64>().ok()? / 100.0),
        };
        let (start, end) = part.split_once("..").unwrap_or(("", ""));
        match (percent(start, 0.0), percent(end, 1.0)) {
            (Some(start), Some(end)) if 0.0 <= start && start < end && end <= 1.0 => {
                Ok(Self { path: PathBuf::from(path), part: start..end })
            }
            _ => Err("a part of a file is written FILE@0%..60%, from less to more".to_owned()),
        }
    }
}

impl Source {
    /// Splits the part into its first `share` and the rest.
    pub(crate) fn split(&self, share: f64) -> (Self, Self) {
        let middle = self.part.start + (self.part.end - self.part.start) * share;
        let with = |part| Self { path: self.path.clone(), part };
        (with(self.part.start..middle), with(middle..self.part.end))
    }
}

impl ReadArgs {
    fn options(&self) -> ReadOptions {
        let choice = |name: &Option<String>| match name.as_deref() {
            None => Choice::Detect,
            Some("none") => Choice::Unused,
            Some(name) => Choice::Column(Column::new(name)),
        };
        ReadOptions {
            delimiter: self.delimiter,
            header: self.no_header.then_some(false),
            time: choice(&self.time),
            rate_hz: self.rate,
            channels: self.channels.clone(),
            label: choice(&self.label),
            clip: choice(&self.clip),
            rows: self.rows.clone(),
            allow_clock_steps: self.allow_clock_steps,
            ..ReadOptions::default()
        }
    }

    /// Reads one file, or the named part of it: whole clips where it has clips, else rows.
    pub(crate) fn read(&self, source: &Source, output: &Output) -> anyhow::Result<Recording> {
        let (mut recording, report) = dataset::read(&source.path, &self.options())?;
        let key = source.path.to_string_lossy();
        if let Some(intervals) = &self.intervals {
            recording.label_intervals(&read_intervals(intervals, &key)?);
        }
        if let Some(points) = &self.points {
            let far = recording.label_points(&read_points(points, &key)?);
            if far > 0 {
                output.warn(format!("{far} labelled points lie outside of `{}`", recording.name));
            }
        }
        let missing: usize = report.missing_cells.iter().sum();
        if missing > 0 {
            output.warn(format!(
                "`{}` has {missing} cells without a number: they count as sensor faults",
                recording.name
            ));
        }
        if !report.skipped_columns.is_empty() {
            output.note(format!(
                "`{}`: columns left out: {}",
                recording.name,
                report.skipped_columns.join(", ")
            ));
        }
        let part = if report.clip_column.is_some() {
            recording.slice_clips(source.part.clone())
        } else {
            recording.slice_fraction(source.part.clone())
        };
        if part.rows() == 0 {
            return Err(Hinted::new(
                format!(
                    "`{}` has no rows from {} % to {} % of its {}",
                    source.path.display(),
                    source.part.start * 100.0,
                    source.part.end * 100.0,
                    counted(recording.rows(), "row")
                ),
                "take a larger part of it",
            ));
        }
        Ok(part)
    }

    /// Reads several files of the same channels into one recording.
    pub(crate) fn read_all(
        &self,
        sources: &[Source],
        output: &Output,
    ) -> anyhow::Result<Recording> {
        let Some((first, others)) = sources.split_first() else {
            bail!("name at least one recording")
        };
        let mut recording = self.read(first, output)?;
        for source in others {
            recording.append(&self.read(source, output)?)?;
        }
        Ok(recording)
    }
}

/// Recordings whose windows are labelled normal or anomalous.
#[derive(Debug, Args)]
pub(crate) struct LabelledArgs {
    /// Recordings with their labels; those without any are normal: FILE or FILE@80%..100%.
    #[arg(required = true, value_name = "RECORDING")]
    recordings: Vec<Source>,
    /// Recordings that are anomalous throughout; may be repeated.
    #[arg(long, value_name = "RECORDING")]
    anomalous: Vec<Source>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

impl LabelledArgs {
    /// Puts the recordings together, each with its labels.
    pub(crate) fn recording(&self, output: &Output) -> anyhow::Result<Recording> {
        let mut recording = self.read.read_all(&self.recordings, output)?;
        for source in &self.anomalous {
            let mut anomalous = self.read.read(source, output)?;
            anomalous.label_all(true);
            recording.append(&anomalous)?;
        }
        Ok(recording)
    }
}
