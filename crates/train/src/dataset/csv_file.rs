//! Recordings in CSV and its relatives (RFC 4180, with any delimiter).

use std::io::Write;
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder};

use super::assemble::{Columns, assemble};
use super::layout::{Layout, Sample, is_missing, read_label, read_number};
use super::time::{TimeFormat, format_iso};
use super::{DatasetError, ReadOptions, ReadReport, Recording};
use crate::limits::{RECORDING_BYTES_MAX, RECORDING_COLUMNS_MAX, RECORDING_SAMPLE_ROWS};

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
        Rows { file, layout, decimal_comma, options }.read(bytes, delimiter, &mut report)?;
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

struct Rows<'a> {
    file: &'a str,
    layout: Layout,
    decimal_comma: bool,
    options: &'a ReadOptions,
}

impl Rows<'_> {
    /// Reads all wanted rows.
    fn read(
        &self,
        bytes: &[u8],
        delimiter: u8,
        report: &mut ReadReport,
    ) -> Result<(Columns, Lines), DatasetError> {
        let layout = &self.layout;
        let mut columns = Columns { channels: layout.infos.clone(), ..Columns::default() };
        columns.time_us = layout.time.map(|_| Vec::new());
        columns.labels = layout.label.map(|_| Vec::new());
        let mut lines = Lines::default();
        let mut clip: Vec<u8> = Vec::new();
        let mut reader = reader(bytes, delimiter);
        let mut record = ByteRecord::new();
        let csv_error = |source| DatasetError::Csv { file: self.file.to_owned(), source };
        if report.header {
            reader.read_byte_record(&mut record).map_err(csv_error)?;
        }
        let wanted = self.options.rows.clone().unwrap_or(0..usize::MAX);
        let mut index = 0;
        while index < wanted.end && reader.read_byte_record(&mut record).map_err(csv_error)? {
            index += 1;
            if index <= wanted.start {
                columns.rows_before = index;
                continue;
            }
            let line = record.position().map_or(0, |position| line_of(bytes, position));
            self.check_width(&record, line)?;
            if let Some((column, format)) = layout.time {
                let time = format
                    .read(&record[column])
                    .ok_or_else(|| self.time_error(&record, line, column, format))?;
                if self.options.time_us.as_ref().is_some_and(|range| !range.contains(&time)) {
                    continue;
                }
                columns.time_us.get_or_insert_default().push(time);
            }
            if let Some(column) = layout.label {
                let label = read_label(&record[column])
                    .ok_or_else(|| self.label_error(&record, line, column))?;
                columns.labels.get_or_insert_default().push(label);
            }
            if let Some(column) = layout.clip
                && record[column] != clip[..]
            {
                if columns.rows > 0 {
                    columns.clip_starts.push(columns.rows);
                }
                clip = record[column].to_vec();
            }
            self.read_numbers(&record, line, &mut columns.samples, report)?;
            lines.note(columns.rows, line);
            columns.rows += 1;
        }
        Ok((columns, lines))
    }

    fn read_numbers(
        &self,
        record: &ByteRecord,
        line: u64,
        samples: &mut Vec<f32>,
        report: &mut ReadReport,
    ) -> Result<(), DatasetError> {
        for (channel, &column) in self.layout.channels.iter().enumerate() {
            let cell = &record[column];
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

    fn check_width(&self, record: &ByteRecord, row: u64) -> Result<(), DatasetError> {
        let layout = &self.layout;
        // The common case is a full row; the needed columns are looked at only where it is not.
        if record.len() >= layout.names.len() {
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
            .filter(|&column| column >= record.len())
            .min();
        match needed {
            None => Ok(()),
            Some(column) => Err(DatasetError::ShortRow {
                file: self.file.to_owned(),
                row,
                found: record.len(),
                expected: layout.names.len(),
                column: layout.names[column].clone(),
            }),
        }
    }

    fn time_error(
        &self,
        record: &ByteRecord,
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
            found: text_of(&record[column]),
            format: name,
        }
    }

    fn label_error(&self, record: &ByteRecord, row: u64, column: usize) -> DatasetError {
        DatasetError::Label {
            file: self.file.to_owned(),
            row,
            column: self.layout.names[column].clone(),
            found: text_of(&record[column]),
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
