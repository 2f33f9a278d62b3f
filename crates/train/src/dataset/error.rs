//! What can be wrong with a recording's file.

use thiserror::Error;

use super::Column;

/// What is wrong with a recording, where, and what to do about it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The file cannot be read or written.
    #[error("cannot open `{file}`")]
    File {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// There are no bytes, or nothing below the header.
    #[error("`{file}` is empty: it has no rows of readings; is it the right file?")]
    Empty {
        /// The file.
        file: String,
    },
    /// None of its rows is among those that are wanted.
    #[error("`{file}` has no rows in the part that was asked for; choose other rows")]
    NoRows {
        /// The file.
        file: String,
    },
    /// The file is larger than [`crate::limits::RECORDING_BYTES_MAX`] or has too many columns or channels.
    #[error(
        "`{file}` has {found} {what}, more than the {limit} that one recording may have; split it"
    )]
    TooLarge {
        /// The file.
        file: String,
        /// Bytes, columns or channels.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many there may be.
        limit: u64,
    },
    /// The file is not in UTF-8 or ASCII.
    #[error("`{file}` is encoded in UTF-16; save it as UTF-8")]
    Encoding {
        /// The file.
        file: String,
    },
    /// The file is no CSV.
    #[error("`{file}` is not readable as CSV")]
    Csv {
        /// The file.
        file: String,
        /// Why.
        source: csv::Error,
    },
    /// The file is no Parquet, or of a kind that is not read.
    #[error("`{file}` is not readable as Parquet")]
    Parquet {
        /// The file.
        file: String,
        /// Why.
        source: parquet::errors::ParquetError,
    },
    /// A file of labels is not what it should be.
    #[error("`{file}` is not readable as labels: expected {expected}")]
    Json {
        /// The file.
        file: String,
        /// The shape.
        expected: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A column that was asked for does not exist.
    #[error("`{file}` has no column {column:?}; it has {existing}")]
    MissingColumn {
        /// The file.
        file: String,
        /// The column that was asked for.
        column: String,
        /// Those that exist.
        existing: String,
    },
    /// No column holds numbers.
    #[error(
        "`{file}` has no column of numbers; is the delimiter {delimiter:?} right? --delimiter sets it"
    )]
    NoChannels {
        /// The file.
        file: String,
        /// As given or found.
        delimiter: char,
    },
    /// A cell of a number column holds something else.
    #[error(
        "`{file}`, row {row}, column {column:?}: expected a number, found {found:?}; correct the cell or leave it empty"
    )]
    Text {
        /// The file.
        file: String,
        /// Line of the file, from 1.
        row: u64,
        /// The column's name.
        column: String,
        /// The cell.
        found: String,
    },
    /// A row ends before a column that is needed.
    #[error(
        "`{file}`, row {row}: {found} cells, but the header has {expected} and column {column:?} is needed"
    )]
    ShortRow {
        /// The file.
        file: String,
        /// Line of the file, from 1.
        row: u64,
        /// Cells in this row.
        found: usize,
        /// Columns.
        expected: usize,
        /// The first column that is needed and not there.
        column: String,
    },
    /// A cell of the time column is no time.
    #[error(
        "`{file}`, row {row}, column {column:?}: {found:?} is no time in the format {format}; correct it or give the format"
    )]
    Time {
        /// The file.
        file: String,
        /// Line of the file, from 1.
        row: u64,
        /// The column's name.
        column: String,
        /// The cell.
        found: String,
        /// As given or found.
        format: &'static str,
    },
    /// A label is neither normal nor anomalous.
    #[error("`{file}`, row {row}, column {column:?}: {found:?} is no label; use 0 or 1")]
    Label {
        /// The file.
        file: String,
        /// Line of the file, from 1.
        row: u64,
        /// The column's name.
        column: String,
        /// The cell.
        found: String,
    },
    /// The clock goes backwards.
    #[error(
        "`{file}`, row {row}: the clock goes backwards, from {previous} to {found}; sort the rows, or permit it with --allow-clock-steps"
    )]
    Backwards {
        /// The file.
        file: String,
        /// Line of the file, from 1.
        row: u64,
        /// Time of the row before.
        previous: String,
        /// Time of this row.
        found: String,
    },
    /// Neither a clock nor a rate is known.
    #[error(
        "`{file}` has no time column; name it with --time, or give the rate in hertz with --rate"
    )]
    NoRate {
        /// The file.
        file: String,
    },
    /// The rate is not a positive number.
    #[error("the rate is {rate_hz}, but must be a number of hertz above 0")]
    Rate {
        /// As given.
        rate_hz: f64,
    },
    /// There are not enough rows.
    #[error(
        "`{file}` has {rows} rows, but {needed} are needed; record for longer or choose a shorter window"
    )]
    TooFewRows {
        /// The file.
        file: String,
        /// How many there are.
        rows: usize,
        /// How many there must be.
        needed: usize,
    },
    /// Two recordings have different channels.
    #[error(
        "`{file}` has the channels {found}, but {expected} are expected; choose or rename its columns"
    )]
    ChannelsDiffer {
        /// The file.
        file: String,
        /// Its channels.
        found: String,
        /// Those of the recording before.
        expected: String,
    },
    /// A file of labels has none for this recording.
    #[error("`{file}` has no labels for {key:?}; it has {existing}")]
    MissingKey {
        /// The file of labels.
        file: String,
        /// What was looked for.
        key: String,
        /// Some of those that exist.
        existing: String,
    },
    /// A file of labels holds something that is no time.
    #[error("`{file}`: {found:?} is no time; write it as 2014-04-01 00:05:00")]
    LabelTime {
        /// The file of labels.
        file: String,
        /// What stands there.
        found: String,
    },
}

impl DatasetError {
    pub(super) fn missing_column(file: &str, column: &Column, existing: &[&str]) -> Self {
        Self::MissingColumn {
            file: file.to_owned(),
            column: column.to_string(),
            existing: existing.join(", "),
        }
    }

    /// Moves the line that an error names behind the lines of the file that were read apart.
    pub(super) fn after_lines(mut self, lines: u64) -> Self {
        if let Self::Text { row, .. }
        | Self::ShortRow { row, .. }
        | Self::Time { row, .. }
        | Self::Label { row, .. } = &mut self
        {
            *row += lines;
        }
        self
    }
}
