//! Recordings in Apache Parquet: flat files of any origin.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::assemble::{Columns, assemble};
use super::layout::{Layout, Sample, read_label, read_number};
use super::parquet_writer::{NAME_KEY, RATE_KEY, UNITS_KEY};
use super::time::{TimeFormat, format_iso};
use super::{DatasetError, ReadOptions, ReadReport, Recording};
use crate::limits::{RECORDING_BYTES_MAX, RECORDING_COLUMNS_MAX, RECORDING_SAMPLE_ROWS};

/// Rows read at once.
const BATCH_ROWS: usize = 65_536;

/// The cells of one column, whatever their type in the file.
enum Cells {
    Real(Vec<Option<f64>>),
    Whole(Vec<Option<i64>>),
    /// Microseconds since 1970.
    Moment(Vec<Option<i64>>),
    Truth(Vec<Option<bool>>),
    Text(Vec<Option<Vec<u8>>>),
    /// A type that is no reading, such as a nested one.
    Other,
}

impl Cells {
    fn len(&self) -> usize {
        match self {
            Self::Real(cells) => cells.len(),
            Self::Whole(cells) | Self::Moment(cells) => cells.len(),
            Self::Truth(cells) => cells.len(),
            Self::Text(cells) => cells.len(),
            Self::Other => 0,
        }
    }

    /// Returns the cell as it would stand in a CSV file, so that columns are recognised alike; empty where there is none.
    fn text(&self, row: usize) -> Vec<u8> {
        let written = match self {
            Self::Real(cells) => cell(cells, row).map(|value| value.to_string()),
            Self::Whole(cells) => cell(cells, row).map(|value| value.to_string()),
            Self::Moment(cells) => cell(cells, row).map(|&value| format_iso(value)),
            Self::Truth(cells) => cell(cells, row).map(|value| value.to_string()),
            Self::Text(cells) => return cell(cells, row).cloned().unwrap_or_default(),
            Self::Other => Some("?".to_owned()),
        };
        written.unwrap_or_default().into_bytes()
    }

    /// Returns the cell as a number: NaN where it is missing, none where it is something else.
    fn number(&self, row: usize) -> Option<f32> {
        // In a damaged file a column may end before the others.
        if row >= self.len() {
            return None;
        }
        match self {
            Self::Real(cells) => Some(cell(cells, row).map_or(f32::NAN, |&value| value as f32)),
            Self::Whole(cells) => Some(cell(cells, row).map_or(f32::NAN, |&value| value as f32)),
            Self::Truth(cells) => {
                Some(cell(cells, row).map_or(f32::NAN, |&value| f32::from(u8::from(value))))
            }
            Self::Text(cells) => {
                cell(cells, row).map_or(Some(f32::NAN), |text| read_number(text, false))
            }
            Self::Moment(_) | Self::Other => None,
        }
    }

    fn time(&self, row: usize, format: TimeFormat) -> Option<i64> {
        match self {
            Self::Moment(cells) => cell(cells, row).copied(),
            _ => format.read(&self.text(row)),
        }
    }
}

fn cell<V>(cells: &[Option<V>], row: usize) -> Option<&V> {
    cells.get(row)?.as_ref()
}

/// Reads a Parquet file.
///
/// # Errors
/// [`DatasetError`] says which file, row and column, and what to do.
pub fn read_parquet(
    path: &Path,
    options: &ReadOptions,
) -> Result<(Recording, ReadReport), DatasetError> {
    let file = path.display().to_string();
    let opened = File::open(path).and_then(|opened| Ok((opened.metadata()?.len(), opened)));
    let (bytes, opened) =
        opened.map_err(|source| DatasetError::File { file: file.clone(), source })?;
    if bytes == 0 {
        return Err(DatasetError::Empty { file });
    }
    let too_large =
        |what, found, limit| DatasetError::TooLarge { file: file.clone(), what, found, limit };
    if bytes > RECORDING_BYTES_MAX {
        return Err(too_large("bytes", bytes, RECORDING_BYTES_MAX));
    }
    let (names, cells, notes) = decode(
        opened,
        |width| {
            let limit = RECORDING_COLUMNS_MAX;
            (width <= limit)
                .then_some(())
                .ok_or_else(|| too_large("columns", width as u64, limit as u64))
        },
        |source| DatasetError::Parquet { file: file.clone(), source },
    )?;
    table(&file, names, &cells, &notes, options)
}

/// Decodes all columns.
///
/// The `parquet` crate panics on some damaged files, which are outside input like any other: a panic there becomes an
/// error. Nothing that it was working on is used afterwards.
fn decode(
    opened: File,
    check_width: impl Fn(usize) -> Result<(), DatasetError>,
    parquet_error: impl Fn(ParquetError) -> DatasetError,
) -> Result<(Vec<String>, Vec<Cells>, Notes), DatasetError> {
    let work = || {
        let reader = SerializedFileReader::new(opened).map_err(&parquet_error)?;
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        check_width(schema.num_columns())?;
        let cells = read_cells(&reader).map_err(&parquet_error)?;
        let names = schema.columns().iter().map(|column| column.path().string()).collect();
        Ok((names, cells, Notes::read(&reader)))
    };
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(parquet_error(ParquetError::General("the file is damaged".to_owned())))
    })
}

/// What our own writer left in the file's metadata.
#[derive(Default)]
struct Notes {
    name: Option<String>,
    rate_hz: Option<f64>,
    units: Vec<String>,
}

impl Notes {
    fn read(reader: &SerializedFileReader<File>) -> Self {
        let mut notes = Self::default();
        for KeyValue { key, value } in
            reader.metadata().file_metadata().key_value_metadata().into_iter().flatten()
        {
            let Some(value) = value else { continue };
            match key.as_str() {
                NAME_KEY => notes.name = Some(value.clone()),
                RATE_KEY => notes.rate_hz = value.parse().ok(),
                UNITS_KEY => notes.units = serde_json::from_str(value).unwrap_or_default(),
                _ => {}
            }
        }
        notes
    }
}

fn read_cells(reader: &SerializedFileReader<File>) -> Result<Vec<Cells>, ParquetError> {
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let mut table: Vec<Cells> = Vec::with_capacity(schema.num_columns());
    for (index, descriptor) in schema.columns().iter().enumerate() {
        if descriptor.max_rep_level() > 0 {
            table.push(Cells::Other);
            continue;
        }
        let mut column: Option<Cells> = None;
        for group in 0..reader.num_row_groups() {
            let part =
                read_column(reader.get_row_group(group)?.get_column_reader(index)?, descriptor)?;
            column = Some(match (column, part) {
                (Some(Cells::Real(mut all)), Cells::Real(part)) => {
                    all.extend(part);
                    Cells::Real(all)
                }
                (Some(Cells::Whole(mut all)), Cells::Whole(part)) => {
                    all.extend(part);
                    Cells::Whole(all)
                }
                (Some(Cells::Moment(mut all)), Cells::Moment(part)) => {
                    all.extend(part);
                    Cells::Moment(all)
                }
                (Some(Cells::Truth(mut all)), Cells::Truth(part)) => {
                    all.extend(part);
                    Cells::Truth(all)
                }
                (Some(Cells::Text(mut all)), Cells::Text(part)) => {
                    all.extend(part);
                    Cells::Text(all)
                }
                (_, part) => part,
            });
        }
        table.push(column.unwrap_or(Cells::Other));
    }
    Ok(table)
}

fn read_column(reader: ColumnReader, descriptor: &ColumnDescriptor) -> Result<Cells, ParquetError> {
    let text = |bytes: &[u8]| bytes.to_vec();
    Ok(match reader {
        ColumnReader::FloatColumnReader(reader) => {
            Cells::Real(read_all(reader, descriptor, |&v| f64::from(v))?)
        }
        ColumnReader::DoubleColumnReader(reader) => {
            Cells::Real(read_all(reader, descriptor, |&v| v)?)
        }
        ColumnReader::BoolColumnReader(reader) => {
            Cells::Truth(read_all(reader, descriptor, |&v| v)?)
        }
        ColumnReader::Int32ColumnReader(reader) => match descriptor.logical_type_ref() {
            Some(LogicalType::Date) => {
                Cells::Moment(read_all(reader, descriptor, |&v| i64::from(v) * 86_400_000_000)?)
            }
            _ => Cells::Whole(read_all(reader, descriptor, |&v| i64::from(v))?),
        },
        ColumnReader::Int64ColumnReader(reader) => match timestamp_unit(descriptor) {
            Some(TimeUnit::MILLIS) => {
                Cells::Moment(read_all(reader, descriptor, |&v| v.saturating_mul(1000))?)
            }
            Some(TimeUnit::MICROS) => Cells::Moment(read_all(reader, descriptor, |&v| v)?),
            Some(TimeUnit::NANOS) => {
                Cells::Moment(read_all(reader, descriptor, |&v| v.div_euclid(1000))?)
            }
            None => Cells::Whole(read_all(reader, descriptor, |&v| v)?),
        },
        // The Int96 timestamps of old Spark and Impala files.
        ColumnReader::Int96ColumnReader(reader) => {
            Cells::Moment(read_all(reader, descriptor, |v| v.to_micros())?)
        }
        ColumnReader::ByteArrayColumnReader(reader) => {
            Cells::Text(read_all(reader, descriptor, |v| text(v.data()))?)
        }
        ColumnReader::FixedLenByteArrayColumnReader(_) => Cells::Other,
    })
}

fn timestamp_unit(descriptor: &ColumnDescriptor) -> Option<TimeUnit> {
    match (descriptor.logical_type_ref(), descriptor.converted_type()) {
        (Some(LogicalType::Timestamp(stamp)), _) => Some(stamp.unit),
        (None, ConvertedType::TIMESTAMP_MILLIS) => Some(TimeUnit::MILLIS),
        (None, ConvertedType::TIMESTAMP_MICROS) => Some(TimeUnit::MICROS),
        _ => None,
    }
}

fn read_all<T: DataType, V>(
    mut reader: ColumnReaderImpl<T>,
    descriptor: &ColumnDescriptor,
    convert: impl Fn(&T::T) -> V,
) -> Result<Vec<Option<V>>, ParquetError> {
    let present = descriptor.max_def_level();
    let mut cells = Vec::new();
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    loop {
        levels.clear();
        values.clear();
        let definitions = (present > 0).then_some(&mut levels);
        let (records, _, _) = reader.read_records(BATCH_ROWS, definitions, None, &mut values)?;
        if records == 0 {
            return Ok(cells);
        }
        let mut values = values.iter().map(&convert);
        if present == 0 {
            cells.extend(values.map(Some));
        } else {
            cells.extend(levels.iter().map(
                |&level| {
                    if level == present { values.next() } else { None }
                },
            ));
        }
    }
}

fn table(
    file: &str,
    names: Vec<String>,
    cells: &[Cells],
    notes: &Notes,
    options: &ReadOptions,
) -> Result<(Recording, ReadReport), DatasetError> {
    let mut report = ReadReport { header: true, ..ReadReport::default() };
    let total = cells.iter().map(Cells::len).max().unwrap_or(0);
    if total == 0 {
        return Err(DatasetError::Empty { file: file.to_owned() });
    }
    // A column of another length is one that is not read, or was cut off.
    let readable = |column: &Cells| column.len() == total;
    let text_of = |column: &Cells, row: usize| {
        if readable(column) { column.text(row) } else { b"?".to_vec() }
    };
    let first: Vec<Vec<Vec<u8>>> = (0..total.min(RECORDING_SAMPLE_ROWS))
        .map(|row| cells.iter().map(|column| text_of(column, row)).collect())
        .collect();
    let rows = first.iter().map(|row| row.iter().map(Vec::as_slice).collect()).collect();
    let mut layout =
        Layout::decide(file, names, &Sample { rows, decimal_comma: false }, options, &mut report)?;
    if options.channels.is_empty() && notes.units.len() == layout.infos.len() {
        for (info, unit) in layout.infos.iter_mut().zip(&notes.units) {
            unit.clone_into(&mut info.unit);
        }
    }

    let mut columns = Columns { channels: layout.infos.clone(), ..Columns::default() };
    columns.time_us = layout.time.map(|_| Vec::new());
    columns.labels = layout.label.map(|_| Vec::new());
    let wanted = options.rows.clone().unwrap_or(0..total);
    columns.rows_before = wanted.start.min(total);
    let mut taken = Vec::new();
    for row in columns.rows_before..wanted.end.min(total) {
        if take_row(file, &layout, cells, row, options, &mut columns, &mut report)? {
            // Compared with the row taken before, as rows between may have been left out.
            if let (Some(clip), Some(&before)) = (layout.clip, taken.last())
                && cells[clip].text(row) != cells[clip].text(before)
            {
                columns.clip_starts.push(columns.rows - 1);
            }
            taken.push(row);
        }
    }
    let mut options = options.clone();
    options.rate_hz = options.rate_hz.or(notes.rate_hz);
    options.name = options.name.or_else(|| notes.name.clone());
    let recording = assemble(file, columns, &options, &mut report, |row| taken[row] as u64 + 1)?;
    Ok((recording, report))
}

/// Takes one row, unless its time is not wanted; rows are numbered from 1 in messages.
fn take_row(
    file: &str,
    layout: &Layout,
    cells: &[Cells],
    row: usize,
    options: &ReadOptions,
    columns: &mut Columns,
    report: &mut ReadReport,
) -> Result<bool, DatasetError> {
    let found = |column: usize| {
        String::from_utf8_lossy(&cells[column].text(row)).chars().take(40).collect()
    };
    let (line, named) = (row as u64 + 1, |column: usize| layout.names[column].clone());
    let file = || file.to_owned();
    if let Some((column, format)) = layout.time {
        let time = cells[column].time(row, format).ok_or_else(|| DatasetError::Time {
            file: file(),
            row: line,
            column: named(column),
            found: found(column),
            format: TimeFormat::NAMES
                .iter()
                .find(|(_, other)| *other == format)
                .map_or("", |(name, _)| name),
        })?;
        if options.time_us.as_ref().is_some_and(|range| !range.contains(&time)) {
            return Ok(false);
        }
        columns.time_us.get_or_insert_default().push(time);
    }
    if let Some(column) = layout.label {
        let label = read_label(&cells[column].text(row)).ok_or_else(|| DatasetError::Label {
            file: file(),
            row: line,
            column: named(column),
            found: found(column),
        })?;
        columns.labels.get_or_insert_default().push(label);
    }
    for (channel, &column) in layout.channels.iter().enumerate() {
        let number = cells[column].number(row);
        let mut value = number.ok_or_else(|| DatasetError::Text {
            file: file(),
            row: line,
            column: named(column),
            found: found(column),
        })?;
        if !value.is_finite() {
            report.missing_cells[channel] += 1;
            value = f32::NAN;
        }
        columns.samples.push(value);
    }
    columns.rows += 1;
    Ok(true)
}
