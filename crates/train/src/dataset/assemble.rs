//! From read columns to a recording: clock, gaps, segments. CSV and Parquet end here alike.

use std::path::Path;

use super::time::{TimeFormat, format_iso};
use super::{ChannelInfo, DatasetError, ReadOptions, ReadReport, Recording};

/// What a reader has read, before the clock is looked at.
#[derive(Default)]
pub(super) struct Columns {
    pub(super) channels: Vec<ChannelInfo>,
    /// `[rows][channels]`.
    pub(super) samples: Vec<f32>,
    /// `[rows]` where there is a time column.
    pub(super) time_us: Option<Vec<i64>>,
    pub(super) labels: Option<Vec<bool>>,
    /// Rows where the clip column changes, without row 0.
    pub(super) clip_starts: Vec<usize>,
    pub(super) rows: usize,
    /// Rows of readings that stood before the first wanted one, for numbering them by the given rate.
    pub(super) rows_before: usize,
}

/// Makes the recording; `line_of` turns a row into the line of the file, for messages.
pub(super) fn assemble(
    file: &str,
    columns: Columns,
    options: &ReadOptions,
    report: &mut ReadReport,
    line_of: impl Fn(usize) -> u64,
) -> Result<Recording, DatasetError> {
    if columns.rows == 0 {
        let file = file.to_owned();
        let asked_for_some = options.rows.is_some() || options.time_us.is_some();
        return Err(if asked_for_some {
            DatasetError::NoRows { file }
        } else {
            DatasetError::Empty { file }
        });
    }
    if let Some(rate_hz) = options.rate_hz
        && !(rate_hz.is_finite() && rate_hz > 0.0)
    {
        return Err(DatasetError::Rate { rate_hz });
    }
    let (time_us, rate_hz, mut segment_starts) = match columns.time_us {
        Some(time_us) => {
            check_order(file, &time_us, &columns.clip_starts, options, report, line_of)?;
            let rate_hz = options.rate_hz.or_else(|| rate_of(&time_us));
            let rate_hz = rate_hz.ok_or_else(|| too_few_times(file, &time_us))?;
            let gaps = find_gaps(&time_us, rate_hz, options.gap_factor);
            report.gaps = gaps.len();
            (time_us, rate_hz, gaps)
        }
        None => {
            let rate_hz =
                options.rate_hz.ok_or_else(|| DatasetError::NoRate { file: file.to_owned() })?;
            let first = columns.rows_before;
            let time_of = |row: usize| ((first + row) as f64 * 1e6 / rate_hz).round() as i64;
            ((0..columns.rows).map(time_of).collect(), rate_hz, Vec::new())
        }
    };
    segment_starts.extend(&columns.clip_starts);
    segment_starts.push(0);
    segment_starts.sort_unstable();
    segment_starts.dedup();
    report.rows = columns.rows;
    Ok(Recording {
        name: options.name.clone().unwrap_or_else(|| base_name(file)),
        channels: columns.channels,
        rate_hz,
        time_us,
        samples: columns.samples,
        labels: columns.labels,
        segment_starts,
    })
}

fn base_name(file: &str) -> String {
    Path::new(file)
        .file_name()
        .map_or_else(|| file.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Refuses a clock that goes backwards inside a clip; each clip may have a clock of its own.
fn check_order(
    file: &str,
    time_us: &[i64],
    clip_starts: &[usize],
    options: &ReadOptions,
    report: &mut ReadReport,
    line_of: impl Fn(usize) -> u64,
) -> Result<(), DatasetError> {
    for (before, pair) in time_us.windows(2).enumerate() {
        let row = before + 1;
        if pair[0] == pair[1] {
            report.repeated_times += 1;
        }
        if pair[1] >= pair[0] || clip_starts.binary_search(&row).is_ok() {
            continue;
        }
        if !options.allow_clock_steps {
            let is_counted = report.time_format.is_none_or(TimeFormat::is_number);
            let show = |time: i64| {
                if is_counted { format!("{} s", time as f64 / 1e6) } else { format_iso(time) }
            };
            return Err(DatasetError::Backwards {
                file: file.to_owned(),
                row: line_of(row),
                previous: show(pair[0]),
                found: show(pair[1]),
            });
        }
        report.clock_steps += 1;
    }
    Ok(())
}

fn too_few_times(file: &str, time_us: &[i64]) -> DatasetError {
    if time_us.len() < 2 {
        return DatasetError::TooFewRows { file: file.to_owned(), rows: time_us.len(), needed: 2 };
    }
    // Every row has the same time: the clock is no clock.
    DatasetError::NoRate { file: file.to_owned() }
}

/// Returns the rate of the median step of the clock.
fn rate_of(time_us: &[i64]) -> Option<f64> {
    let mut steps: Vec<i64> =
        time_us.windows(2).map(|pair| pair[1] - pair[0]).filter(|&step| step > 0).collect();
    if steps.is_empty() {
        return None;
    }
    let middle = steps.len() / 2;
    let (_, median, _) = steps.select_nth_unstable(middle);
    Some(1e6 / *median as f64)
}

fn find_gaps(time_us: &[i64], rate_hz: f64, gap_factor: f64) -> Vec<usize> {
    let longest_us = 1e6 / rate_hz * gap_factor;
    let is_gap = |pair: &[i64]| pair[1] < pair[0] || (pair[1] - pair[0]) as f64 > longest_us;
    time_us
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| is_gap(pair))
        .map(|(before, _)| before + 1)
        .collect()
}
