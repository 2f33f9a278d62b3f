//! Rows of finite numbers of one width, as fitting and calibration take them.

use thiserror::Error;

/// A table of f32 in row order, known to hold at least one row and only finite numbers.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    values: &'a [f32],
    width: usize,
}

/// Why values are not a table of finite rows.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum RowsError {
    /// There is no value, or a row has no column.
    #[error("there are no rows: the table holds {values} values in rows of {width}")]
    Empty {
        /// Values given.
        values: usize,
        /// Columns of a row.
        width: usize,
    },
    /// The values do not fill whole rows.
    #[error("{values} values do not fill rows of {width}: the last row is incomplete")]
    Ragged {
        /// Values given.
        values: usize,
        /// Columns of a row.
        width: usize,
    },
    /// A value is infinite or not a number.
    #[error(
        "row {row}, column {column} holds {value}: remove or repair rows that are not finite before fitting"
    )]
    NotFinite {
        /// Counted from 0.
        row: usize,
        /// Counted from 0.
        column: usize,
        /// The offending value.
        value: f32,
    },
}

impl<'a> Rows<'a> {
    /// Reads `values` as rows of `width`, `[rows][width]`.
    ///
    /// # Errors
    /// When there is no row, the last row is incomplete, or a value is not finite.
    pub fn new(values: &'a [f32], width: usize) -> Result<Self, RowsError> {
        if values.is_empty() || width == 0 {
            return Err(RowsError::Empty { values: values.len(), width });
        }
        if !values.len().is_multiple_of(width) {
            return Err(RowsError::Ragged { values: values.len(), width });
        }
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(Self { values, width }),
            Some(index) => Err(RowsError::NotFinite {
                row: index / width,
                column: index % width,
                value: values[index],
            }),
        }
    }

    /// Number of rows, at least 1.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a table is never empty")]
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Columns of a row, at least 1.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Row `index`, counted from 0.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn row(&self, index: usize) -> &'a [f32] {
        &self.values[index * self.width..][..self.width]
    }

    /// The rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [f32]> + use<'a> {
        self.values.chunks_exact(self.width)
    }
}
