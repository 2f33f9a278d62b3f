//! Recordings in CSV and its relatives (RFC 4180, with any delimiter).

use core::ops::ControlFlow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder};

use super::assemble::{Columns, assemble};
use super::layout::{Layout, Sample, is_missing, read_label, read_number};
use super::plain_rows::{NumberRow, is_plain, part_count, parts_of, split_line};
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
        read_side_by_side(path)
    };
    match open() {
        Ok(bytes) => read_csv_bytes(&file, &bytes, options),
        Err(source) => Err(DatasetError::File { file, source }),
    }
}

/// Reads a file by as many threads as it is parsed by: half of the time goes into the memory's first use.
fn read_side_by_side(path: &Path) -> std::io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    let len = usize::try_from(metadata.len()).unwrap_or(0);
    let part_len = len.div_ceil(part_count(len));
    // A pipe has no length and no second reader.
    if !metadata.is_file() || part_len == len {
        return std::fs::read(path);
    }
    let mut bytes = vec![0; len];
    std::thread::scope(|scope| {
        let read = |(part, bytes): (usize, &mut [u8])| {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start((part * part_len) as u64))?;
            file.read_exact(bytes)
        };
        let parts = bytes.chunks_mut(part_len).enumerate();
        let reading: Vec<_> = parts.map(|part| scope.spawn(move || read(part))).collect();
        reading.into_iter().try_for_each(|part| part.join().expect("reading does not panic"))
    })?;
    Ok(bytes)
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
    part: Part,
    clip: Vec<u8>,
    /// Records seen, beside the header.
    index: usize,
    /// Whether the header still comes.
    header: bool,
}

/// What was read of some bytes.
struct Part {
    columns: Columns,
    lines: Lines,
    /// By channel.
    missing_cells: Vec<usize>,
    /// Lines in all, taken or not.
    line_count: u64,
}

impl Part {
    /// Takes in a row of nothing but numbers and returns its bytes; `None` if it is of another kind.
    fn take_numbers(&mut self, numbers: &NumberRow, bytes: &[u8]) -> Option<usize> {
        let Self { columns, lines, line_count, .. } = self;
        let before = columns.samples.len();
        columns.samples.resize(before + columns.channels.len(), 0.0);
        let Some((time_us, len)) = numbers.read(bytes, &mut columns.samples[before..]) else {
            columns.samples.truncate(before);
            return None;
        };
        if let Some(times) = &mut columns.time_us {
            times.push(time_us);
        }
        lines.note(columns.rows, *line_count);
        columns.rows += 1;
        Some(len)
    }

    /// Appends the part behind this one.
    fn append(&mut self, mut next: Self) {
        let Self { columns, lines, missing_cells, line_count } = self;
        for (row, offset) in next.lines.steps {
            // The line of that row is the part's line and those before it.
            lines.note(row + columns.rows, row as u64 + offset + *line_count);
        }
        columns.samples.append(&mut next.columns.samples);
        if let (Some(all), Some(mut part)) = (&mut columns.time_us, next.columns.time_us) {
            all.append(&mut part);
        }
        if let (Some(all), Some(mut part)) = (&mut columns.labels, next.columns.labels) {
            all.append(&mut part);
        }
        columns.rows += next.columns.rows;
        *line_count += next.line_count;
        for (sum, missing) in missing_cells.iter_mut().zip(next.missing_cells) {
            *sum += missing;
        }
    }
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
        let is_free = self.options.rows.is_none() && self.layout.clip.is_none();
        let parts = if is_free { parts_of(bytes) } else { vec![bytes] };
        let all = match self.read_parts(&parts, bytes.len(), delimiter, report.header) {
            Some(read) => read?,
            None => self.read_quoted(bytes, delimiter, report.header)?,
        };
        report.missing_cells = all.missing_cells;
        Ok((all.columns, all.lines))
    }

    /// Reads parts of plain text side by side; `None` if one of them is not plain.
    fn read_parts(
        &self,
        parts: &[&[u8]],
        len: usize,
        delimiter: u8,
        has_header: bool,
    ) -> Option<Result<Part, DatasetError>> {
        let read = |part: &[u8], header: bool, room_for: usize| {
            is_plain(part).then(|| self.read_plain(part, delimiter, header, room_for))
        };
        let (first, others) = parts.split_first()?;
        std::thread::scope(|scope| {
            let others: Vec<_> = others
                .iter()
                .map(|part| scope.spawn(move || read(part, false, part.len())))
                .collect();
            // The others are appended to the first one, which has room for all.
            let mut all = read(first, has_header, len)?;
            for reading in others {
                let next = reading.join().expect("reading does not panic")?;
                all = all.and_then(|mut all| {
                    all.append(next.map_err(|error| error.after_lines(all.line_count))?);
                    Ok(all)
                });
            }
            Some(all)
        })
    }

    /// Starts a part with room for the rows of so many bytes, by the length of its first line.
    fn start(&self, bytes: &[u8], header: bool, room_for: usize) -> Reading {
        let (mut line, rest) = split_line(bytes);
        if header {
            line = split_line(rest).0;
        }
        // A little more than the first line tells, as others may be shorter.
        let rows = (room_for / (line.len() + 1)).min(room_for / 2) * 9 / 8;
        let mut columns = Columns { channels: self.layout.infos.clone(), ..Columns::default() };
        columns.samples.reserve(rows * self.layout.channels.len());
        columns.time_us = self.layout.time.map(|_| Vec::with_capacity(rows));
        columns.labels = self.layout.label.map(|_| Vec::with_capacity(rows));
        let missing_cells = vec![0; self.layout.channels.len()];
        Reading {
            part: Part { columns, lines: Lines::default(), missing_cells, line_count: 0 },
            clip: Vec::new(),
            index: 0,
            header,
        }
    }

    /// Reads the wanted rows of plain text; lines are counted from its start.
    fn read_plain(
        &self,
        bytes: &[u8],
        delimiter: u8,
        header: bool,
        room_for: usize,
    ) -> Result<Part, DatasetError> {
        let mut reading = self.start(bytes, header, room_for);
        let numbers = NumberRow::of(&self.layout, self.options, delimiter);
        let mut cells: Vec<&[u8]> = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            reading.part.line_count += 1;
            let quick = numbers.as_ref().filter(|_| !reading.header);
            if let Some(len) = quick.and_then(|numbers| reading.part.take_numbers(numbers, rest)) {
                rest = &rest[len..];
                continue;
            }
            let (record, others) = split_line(rest);
            rest = others;
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
            if self.take(&cells, reading.part.line_count, &mut reading)?.is_break() {
                break;
            }
        }
        Ok(reading.part)
    }

    /// Reads the wanted rows of text that may have quotes.
    fn read_quoted(&self, bytes: &[u8], delimiter: u8, header: bool) -> Result<Part, DatasetError> {
        let mut reading = self.start(bytes, header, 0);
        let mut reader = reader(bytes, delimiter);
        let mut record = ByteRecord::new();
        let csv_error = |source| DatasetError::Csv { file: self.file.to_owned(), source };
        while reader.read_byte_record(&mut record).map_err(csv_error)? {
            let line = record.position().map_or(0, |position| line_of(bytes, position));
            let cells: Vec<&[u8]> = record.iter().collect();
            if self.take(&cells, line, &mut reading)?.is_break() {
                break;
            }
        }
        Ok(reading.part)
    }

    /// Takes one record in; breaks off behind the last one that is wanted.
    fn take(
        &self,
        cells: &[&[u8]],
        line: u64,
        reading: &mut Reading,
    ) -> Result<ControlFlow<()>, DatasetError> {
        if core::mem::take(&mut reading.header) {
            return Ok(ControlFlow::Continue(()));
        }
        let layout = &self.layout;
        let Part { columns, lines, missing_cells, .. } = &mut reading.part;
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
        self.read_numbers(cells, line, &mut columns.samples, missing_cells)?;
        lines.note(columns.rows, line);
        columns.rows += 1;
        Ok(ControlFlow::Continue(()))
    }

    fn read_numbers(
        &self,
        cells: &[&[u8]],
        line: u64,
        samples: &mut Vec<f32>,
        missing_cells: &mut [usize],
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
                    missing_cells[channel] += 1;
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
        let mut out = std::io::BufWriter::new(File::create(path)?);
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
