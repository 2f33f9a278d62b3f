//! Recordings in CSV and its relatives (RFC 4180, with any delimiter).

use core::ops::ControlFlow;
use std::io::Write;
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder};

use super::assemble::{Columns, assemble};
use super::layout::{Layout, Sample, is_missing, read_label, read_number};
use super::time::{TimeFormat, format_iso};
use super::{DatasetError, ReadOptions, ReadReport, Recording};
use crate::limits::{
    RECORDING_BYTES_MAX, RECORDING_COLUMNS_MAX, RECORDING_PART_BYTES_MIN, RECORDING_SAMPLE_ROWS,
};

/// Delimiters that are recognised; another must be given.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// Reads a CSV file.
///
/// # Errors
/// [`DatasetError`] says which file, row and column, and what to do.
pub fn read_csv(
    path: &Path,
    options: &ReadOptions,
) -> Result<(Recording, ReadReport), DatasetError> {
    let file = path.display().to_string();
    let open = || -> std::io::Result<Vec<u8>> {
        // Checked before reading, so that a file beyond the limit does not fill the memory first.
        if std::fs::metadata(path)?.len() > RECORDING_BYTES_MAX {
            return Err(std::io::Error::new(
                std::io::ErrorKind::FileTooLarge,
                format!("it has more than {RECORDING_BYTES_MAX} bytes; split it"),
            ));
        }
        std::fs::read(path)
    };
    match open() {
        Ok(bytes) => read_csv_bytes(&file, &bytes, options),
        Err(source) => Err(DatasetError::File { file, source }),
    }
}

/// Reads the bytes of a CSV file; `file` is its name in messages.
///
/// # Errors
/// As [`read_csv`].
pub fn read_csv_bytes(
    file: &str,
    bytes: &[u8],
    options: &ReadOptions,
) -> Result<(Recording, ReadReport), DatasetError> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(DatasetError::Encoding { file: file.to_owned() });
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut report = ReadReport::default();
    let delimiter = options.delimiter.unwrap_or_else(|| find_delimiter(bytes));
    report.delimiter = Some(char::from(delimiter));

    let mut first_rows = first_records(file, bytes, delimiter)?;
    let Some(first) = first_rows.first() else {
        return Err(DatasetError::Empty { file: file.to_owned() });
    };
    if first.len() > RECORDING_COLUMNS_MAX {
        return Err(DatasetError::TooLarge {
            file: file.to_owned(),
            what: "columns",
            found: first.len() as u64,
            limit: RECORDING_COLUMNS_MAX as u64,
        });
    }
    report.header = options.header.unwrap_or_else(|| is_header(first));
    let names: Vec<String> = if report.header {
        first.iter().map(|cell| String::from_utf8_lossy(cell.trim_ascii()).into_owned()).collect()
    } else {
        (1..=first.len()).map(|number| format!("column{number}")).collect()
    };
    if report.header {
        first_rows.remove(0);
    }
    let decimal_comma = delimiter != b','
        && options
            .decimal_comma
            .unwrap_or_else(|| first_rows.iter().flatten().any(is_decimal_comma));
    let rows: Vec<Vec<&[u8]>> = first_rows.iter().map(|record| record.iter().collect()).collect();
    let sample = Sample { rows, decimal_comma };
    let layout = Layout::decide(file, names, &sample, options, &mut report)?;
    let (columns, lines) =
        Rows { file, layout, decimal_comma, options }.read_all(bytes, delimiter, &mut report)?;
    let recording = assemble(file, columns, options, &mut report, |row| lines.line(row))?;
    Ok((recording, report))
}

fn reader(bytes: &[u8], delimiter: u8) -> csv::Reader<&[u8]> {
    ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(bytes)
}

fn first_records(file: &str, bytes: &[u8], delimiter: u8) -> Result<Vec<ByteRecord>, DatasetError> {
    let records = reader(bytes, delimiter).into_byte_records().take(RECORDING_SAMPLE_ROWS);
    records
        .collect::<Result<_, _>>()
        .map_err(|source| DatasetError::Csv { file: file.to_owned(), source })
}

/// Finds the delimiter that cuts the first lines into the most, equally many cells.
fn find_delimiter(bytes: &[u8]) -> u8 {
    let cells = |delimiter: u8| {
        let counts: Vec<usize> = reader(bytes, delimiter)
            .into_byte_records()
            .take(RECORDING_SAMPLE_ROWS)
            .map_while(Result::ok)
            .map(|record| record.len())
            .collect();
        // The least count: a comma in one row's text does not make commas the delimiter.
        counts.into_iter().min().unwrap_or(0)
    };
    // `max_by_key` takes the last of equals, so the likeliest delimiter stands last.
    DELIMITERS.into_iter().rev().max_by_key(|&delimiter| cells(delimiter)).unwrap_or(b',')
}

/// A row of names has no cell that is a number, a time or missing altogether.
fn is_header(record: &ByteRecord) -> bool {
    let is_name = |cell: &[u8]| {
        read_number(cell, true).is_none()
            && [TimeFormat::Iso, TimeFormat::DayFirst, TimeFormat::MonthFirst]
                .iter()
                .all(|f| f.read(cell).is_none())
    };
    // pandas leaves the name of the index empty.
    let mut named = record.iter().filter(|cell| !cell.trim_ascii().is_empty()).peekable();
    named.peek().is_some() && named.all(is_name)
}

fn is_decimal_comma(cell: &[u8]) -> bool {
    cell.iter().filter(|&&byte| byte == b',').count() == 1
        && fast_float2::parse::<f32, _>(cell.trim_ascii()).is_err()
        && read_number(cell, true).is_some()
}

/// Lines of the taken rows: from the first one on usually one a row, so only the exceptions are kept.
#[derive(Default)]
struct Lines {
    /// (row, line minus row) from that row on.
    steps: Vec<(usize, u64)>,
}

impl Lines {
    fn note(&mut self, row: usize, line: u64) {
        let offset = line.saturating_sub(row as u64);
        if self.steps.last().is_none_or(|&(_, last)| last != offset) {
            self.steps.push((row, offset));
        }
    }

    fn line(&self, row: usize) -> u64 {
        let step = self.steps.partition_point(|&(first, _)| first <= row);
        row as u64 + step.checked_sub(1).map_or(0, |step| self.steps[step].1)
    }
}

/// What has been read so far.
struct Reading {
    columns: Columns,
    lines: Lines,
    clip: Vec<u8>,
    /// Records seen, beside the header.
    index: usize,
    /// Whether the header still comes.
    header: bool,
}

/// Tells whether lines and delimiters mean what they seem to: no quotes, no line ends but `\n` and
/// `\r\n`.
fn is_plain(bytes: &[u8]) -> bool {
    memchr::memchr(b'"', bytes).is_none()
        && memchr::memchr_iter(b'\r', bytes).all(|at| bytes.get(at + 1) == Some(&b'\n'))
}

/// Cuts at line ends into as many parts as there are processors, each of some size.
fn parts_of(bytes: &[u8]) -> Vec<&[u8]> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let count = threads.min(bytes.len() / RECORDING_PART_BYTES_MIN).max(1);
    let mut parts = Vec::with_capacity(count);
    let mut rest = bytes;
    for left in (2..=count).rev() {
        let middle = rest.len() / left;
        let Some(end) = memchr::memchr(b'\n', &rest[middle..]) else { break };
        let (part, others) = rest.split_at(middle + end + 1);
        parts.push(part);
        rest = others;
    }
    parts.push(rest);
    parts
}

fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Calls `take` with the cells and the line of each record that is not empty, until it breaks off.
fn for_each_plain_record<'b>(
    bytes: &'b [u8],
    delimiter: u8,
    mut take: impl FnMut(&[&'b [u8]], u64) -> Result<ControlFlow<()>, DatasetError>,
) -> Result<(), DatasetError> {
    let mut cells: Vec<&[u8]> = Vec::new();
    let (mut rest, mut line) = (bytes, 0);
    while !rest.is_empty() {
        line += 1;
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let (record, others) = rest.split_at(end);
        rest = others.get(1..).unwrap_or_default();
        let record = record.strip_suffix(b"\r").unwrap_or(record);
        if record.is_empty() {
            continue;
        }
        cells.clear();
        let mut start = 0;
        for at in memchr::memchr_iter(delimiter, record) {
            cells.push(&record[start..at]);
            start = at + 1;
        }
        cells.push(&record[start..]);
        if take(&cells, line)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Appends what a later part gave.
fn append(all: &mut (Columns, Lines), (mut columns, lines): (Columns, Lines), lines_before: u64) {
    let (first, first_lines) = all;
    for (row, offset) in lines.steps {
        let row = row + first.rows;
        // The line of that row is the part's line and those before it.
        let line = (row - first.rows) as u64 + offset + lines_before;
        first_lines.note(row, line);
    }
    first.samples.append(&mut columns.samples);
    if let (Some(all), Some(mut part)) = (&mut first.time_us, columns.time_us) {
        all.append(&mut part);
    }
    if let (Some(all), Some(mut part)) = (&mut first.labels, columns.labels) {
        all.append(&mut part);
    }
    first.rows += columns.rows;
}

struct Rows<'a> {
    file: &'a str,
    layout: Layout,
    decimal_comma: bool,
    options: &'a ReadOptions,
}

impl Rows<'_> {
    /// Reads all wanted rows: plain text in parts side by side, where rows do not depend on those
    /// before them.
    fn read_all(
        &self,
        bytes: &[u8],
        delimiter: u8,
        report: &mut ReadReport,
    ) -> Result<(Columns, Lines), DatasetError> {
        let is_plain = is_plain(bytes);
        let is_free = self.options.rows.is_none() && self.layout.clip.is_none();
        let parts = if is_plain && is_free { parts_of(bytes) } else { vec![bytes] };
        let (first, others) = parts.split_first().expect("there is at least one part");
        std::thread::scope(|scope| {
            let others: Vec<_> = others
                .iter()
                .map(|part| {
                    let mut own = ReadReport { header: false, ..report.clone() };
                    scope.spawn(move || {
                        let read = self.read(part, delimiter, is_plain, &mut own);
                        read.map(|read| (read, own.missing_cells))
                    })
                })
                .collect();
            let mut lines_before = count_lines(first);
            let mut all = self.read(first, delimiter, is_plain, report)?;
            for (part, reading) in parts.iter().skip(1).zip(others) {
                let read = reading.join().expect("reading does not panic");
                let (read, missing) = read.map_err(|error| error.after_lines(lines_before))?;
                for (sum, missing) in report.missing_cells.iter_mut().zip(missing) {
                    *sum += missing;
                }
                append(&mut all, read, lines_before);
                lines_before += count_lines(part);
            }
            Ok(all)
        })
    }

    /// Reads the wanted rows of some bytes; lines are counted from their start.
    fn read(
        &self,
        bytes: &[u8],
        delimiter: u8,
        is_plain: bool,
        report: &mut ReadReport,
    ) -> Result<(Columns, Lines), DatasetError> {
        let mut columns = Columns { channels: self.layout.infos.clone(), ..Columns::default() };
        columns.time_us = self.layout.time.map(|_| Vec::new());
        columns.labels = self.layout.label.map(|_| Vec::new());
        let mut reading = Reading {
            columns,
            lines: Lines::default(),
            clip: Vec::new(),
            index: 0,
            header: report.header,
        };
        if is_plain {
            for_each_plain_record(bytes, delimiter, |cells, line| {
                self.take(cells, line, &mut reading, report)
            })?;
            return Ok((reading.columns, reading.lines));
        }
        let mut reader = reader(bytes, delimiter);
        let mut record = ByteRecord::new();
        let csv_error = |source| DatasetError::Csv { file: self.file.to_owned(), source };
        while reader.read_byte_record(&mut record).map_err(csv_error)? {
            let line = record.position().map_or(0, |position| line_of(bytes, position));
            let cells: Vec<&[u8]> = record.iter().collect();
            if self.take(&cells, line, &mut reading, report)?.is_break() {
                break;
            }
        }
        Ok((reading.columns, reading.lines))
    }

    /// Takes one record in; breaks off behind the last one that is wanted.
    fn take(
        &self,
        cells: &[&[u8]],
        line: u64,
        reading: &mut Reading,
        report: &mut ReadReport,
    ) -> Result<ControlFlow<()>, DatasetError> {
        if core::mem::take(&mut reading.header) {
            return Ok(ControlFlow::Continue(()));
        }
        let (layout, columns) = (&self.layout, &mut reading.columns);
        let wanted = self.options.rows.clone().unwrap_or(0..usize::MAX);
        if reading.index >= wanted.end {
            return Ok(ControlFlow::Break(()));
        }
        reading.index += 1;
        if reading.index <= wanted.start {
            columns.rows_before = reading.index;
            return Ok(ControlFlow::Continue(()));
        }
        self.check_width(cells, line)?;
        if let Some((column, format)) = layout.time {
            let time = format
                .read(cells[column])
                .ok_or_else(|| self.time_error(cells, line, column, format))?;
            if self.options.time_us.as_ref().is_some_and(|range| !range.contains(&time)) {
                return Ok(ControlFlow::Continue(()));
            }
            columns.time_us.get_or_insert_default().push(time);
        }
        if let Some(column) = layout.label {
            let label =
                read_label(cells[column]).ok_or_else(|| self.label_error(cells, line, column))?;
            columns.labels.get_or_insert_default().push(label);
        }
        if let Some(column) = layout.clip
            && cells[column] != &reading.clip[..]
        {
            if columns.rows > 0 {
                columns.clip_starts.push(columns.rows);
            }
            reading.clip = cells[column].to_vec();
        }
        self.read_numbers(cells, line, &mut columns.samples, report)?;
        reading.lines.note(columns.rows, line);
        columns.rows += 1;
        Ok(ControlFlow::Continue(()))
    }

    fn read_numbers(
        &self,
        cells: &[&[u8]],
        line: u64,
        samples: &mut Vec<f32>,
        report: &mut ReadReport,
    ) -> Result<(), DatasetError> {
        for (channel, &column) in self.layout.channels.iter().enumerate() {
            let cell = cells[column];
            let value = match read_number(cell, self.decimal_comma) {
                Some(value) if value.is_finite() => value,
                None if !is_missing(cell) => {
                    return Err(DatasetError::Text {
                        file: self.file.to_owned(),
                        row: line,
                        column: self.layout.names[column].clone(),
                        found: text_of(cell),
                    });
                }
                _ => {
                    report.missing_cells[channel] += 1;
                    f32::NAN
                }
            };
            samples.push(value);
        }
        Ok(())
    }

    fn check_width(&self, cells: &[&[u8]], row: u64) -> Result<(), DatasetError> {
        let layout = &self.layout;
        // The common case is a full row; the needed columns are looked at only where it is not.
        if cells.len() >= layout.names.len() {
            return Ok(());
        }
        let special = layout
            .time
            .map(|(column, _)| column)
            .into_iter()
            .chain(layout.label)
            .chain(layout.clip);
        let needed = special
            .chain(layout.channels.iter().copied())
            .filter(|&column| column >= cells.len())
            .min();
        match needed {
            None => Ok(()),
            Some(column) => Err(DatasetError::ShortRow {
                file: self.file.to_owned(),
                row,
                found: cells.len(),
                expected: layout.names.len(),
                column: layout.names[column].clone(),
            }),
        }
    }

    fn time_error(
        &self,
        cells: &[&[u8]],
        row: u64,
        column: usize,
        format: TimeFormat,
    ) -> DatasetError {
        let name = TimeFormat::NAMES
            .iter()
            .find(|(_, other)| *other == format)
            .map_or("", |(name, _)| name);
        DatasetError::Time {
            file: self.file.to_owned(),
            row,
            column: self.layout.names[column].clone(),
            found: text_of(cells[column]),
            format: name,
        }
    }

    fn label_error(&self, cells: &[&[u8]], row: u64, column: usize) -> DatasetError {
        DatasetError::Label {
            file: self.file.to_owned(),
            row,
            column: self.layout.names[column].clone(),
            found: text_of(cells[column]),
        }
    }
}

/// Returns the line on which a record stands; the reader's position still has the empty lines before it.
fn line_of(bytes: &[u8], position: &csv::Position) -> u64 {
    let rest = bytes.get(position.byte() as usize..).unwrap_or_default();
    let empty = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    position.line() + empty.filter(|&&byte| byte == b'\n').count() as u64
}

fn text_of(cell: &[u8]) -> String {
    String::from_utf8_lossy(cell).chars().take(40).collect()
}

/// Writes a recording as CSV: `time`, the channels (a unit in brackets), `label` and `clip` where there are any.
///
/// # Errors
/// [`DatasetError::File`] where the file cannot be written.
pub fn write_csv(path: &Path, recording: &Recording) -> Result<(), DatasetError> {
    let write = || -> std::io::Result<()> {
        let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
        let clips = recording.segment_starts.len() > 1;
        write!(out, "time")?;
        for channel in &recording.channels {
            let cell = channel.title();
            let is_plain = !cell.contains([',', '"', '\n', '\r']);
            if is_plain {
                write!(out, ",{cell}")?;
            } else {
                write!(out, ",\"{}\"", cell.replace('"', "\"\""))?;
            }
        }
        writeln!(
            out,
            "{}{}",
            if recording.labels.is_some() { ",label" } else { "" },
            if clips { ",clip" } else { "" }
        )?;
        for (clip, rows) in recording.segments().enumerate() {
            for row in rows {
                write!(out, "{}", format_iso(recording.time_us[row]))?;
                for value in recording.row(row) {
                    if value.is_nan() {
                        write!(out, ",")?;
                    } else {
                        write!(out, ",{value}")?;
                    }
                }
                if let Some(labels) = &recording.labels {
                    write!(out, ",{}", u8::from(labels[row]))?;
                }
                if clips {
                    write!(out, ",{clip}")?;
                }
                writeln!(out)?;
            }
        }
        out.flush()
    };
    write().map_err(|source| DatasetError::File { file: path.display().to_string(), source })
}
