//! Power meters: what they say over MQTT, what it means, and a forest that tells faults from normal use.
//!
//! A [`capture`] takes readings from malformed text, [`process`] joins them into rows with flags, [`meter`] reads a
//! meter's file with waveforms and measures distortion through the core, [`report`] fits a random forest and says how
//! good it is, and [`appliance`] makes the rows in which an appliance is switched.

pub mod appliance;
pub mod capture;
pub mod meter;
pub mod process;
pub mod report;
#[cfg(test)]
mod tests;

use thiserror::Error;

/// Why a meter's data cannot be used.
#[derive(Debug, Error)]
pub enum PowerError {
    /// A file cannot be read or written.
    #[error("cannot use the file `{file}`")]
    File {
        /// Which one.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is no CSV.
    #[error("cannot read the file `{file}`")]
    Csv {
        /// Which one.
        file: String,
        /// Row and column.
        source: csv::Error,
    },
    /// A column is missing.
    #[error("`{file}` has no column `{column}`; its columns are {existing}")]
    Column {
        /// Which file.
        file: String,
        /// The column.
        column: &'static str,
        /// Those that exist.
        existing: String,
    },
    /// A cell does not hold what its column says.
    #[error("`{file}`, row {row}, column `{column}`: `{found}` is not {expected}")]
    Cell {
        /// Which file.
        file: String,
        /// Row of data, from 1.
        row: usize,
        /// The column.
        column: &'static str,
        /// The beginning of what stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// A file holds no readings.
    #[error("`{file}` holds no reading with `Start register` and `Raw data`")]
    Empty {
        /// Which one.
        file: String,
    },
    /// A waveform cannot be measured.
    #[error(
        "row {row}: a waveform of {samples} samples at {rate_hz} Hz holds too little of the mains; three periods of 45 Hz and four samples a period are needed"
    )]
    Waveform {
        /// Row of data, from 1.
        row: usize,
        /// Its samples.
        samples: usize,
        /// Samples a second.
        rate_hz: f32,
    },
    /// There are too few rows to learn from, to set the threshold and to test.
    #[error("{rows} rows are too few; record at least {needed}")]
    TooFewRows {
        /// Rows found.
        rows: usize,
        /// Rows needed.
        needed: usize,
    },
    /// A part of the rows lacks one of the two classes.
    #[error("the {part} rows are all {class}; normal and anomalous ones are needed in each part")]
    SingleClass {
        /// Which part.
        part: &'static str,
        /// Normal or anomalous.
        class: &'static str,
    },
    /// A number is not finite.
    #[error(transparent)]
    Rows(#[from] crate::rows::RowsError),
    /// The forest cannot be fitted.
    #[error(transparent)]
    Fit(#[from] crate::fit::FitError),
    /// The core refuses the forest.
    #[error(transparent)]
    Forest(#[from] crate::fit::tree::ForestError),
    /// A picture cannot be drawn.
    #[error(transparent)]
    Plot(#[from] crate::plot::PlotError),
}

impl PowerError {
    fn file(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::File { file: path.display().to_string(), source }
    }

    fn csv(path: &std::path::Path, source: csv::Error) -> Self {
        Self::Csv { file: path.display().to_string(), source }
    }
}
