//! Statements for many rows at once, of few lengths, so that each is prepared once.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use sqlx::mysql::{MySqlArguments, MySqlConnection, MySqlRow};
use sqlx::{Arguments, AssertSqlSafe};

use crate::limits::MYSQL_ROWS_PER_STATEMENT;

/// The lengths, in rows.
const LENGTHS: [usize; 6] = [MYSQL_ROWS_PER_STATEMENT, 256, 64, 16, 4, 1];

/// A statement with a part for each row between its head and its tail.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Rows {
    pub(super) head: &'static str,
    pub(super) row: &'static str,
    pub(super) between: &'static str,
    pub(super) tail: &'static str,
}

/// The texts of the statements.
#[derive(Debug, Default)]
pub(super) struct Statements(HashMap<(&'static str, usize), Arc<str>>);

impl Statements {
    fn text(&mut self, rows: &Rows, len: usize) -> Arc<str> {
        let make = || {
            let mut text = rows.head.to_owned();
            for index in 0..len {
                let between = if index == 0 { "" } else { rows.between };
                // Writing to a string cannot fail.
                let _ = write!(text, "{between}{}", rows.row);
            }
            text.push_str(rows.tail);
            Arc::from(text)
        };
        self.0.entry((rows.head, len)).or_insert_with(make).clone()
    }

    /// Writes all items.
    pub(super) async fn write<T>(
        &mut self,
        connection: &mut MySqlConnection,
        rows: &Rows,
        items: &[T],
        mut bind: impl FnMut(&mut MySqlArguments, &T) -> Result<(), sqlx::error::BoxDynError>,
    ) -> sqlx::Result<()> {
        let mut left = items;
        while let Some(&len) = LENGTHS.iter().find(|&&len| len <= left.len()) {
            let (now, later) = left.split_at(len);
            left = later;
            let mut arguments = MySqlArguments::default();
            arguments.reserve(len * 8, len * 64);
            for item in now {
                bind(&mut arguments, item).map_err(sqlx::Error::Encode)?;
            }
            let text = AssertSqlSafe(self.text(rows, len));
            sqlx::query_with(text, arguments).execute(&mut *connection).await?;
        }
        Ok(())
    }

    /// Reads what there is for all items; the last item may be asked for more than once.
    pub(super) async fn read<T>(
        &mut self,
        connection: &mut MySqlConnection,
        rows: &Rows,
        items: &[T],
        mut bind: impl FnMut(&mut MySqlArguments, &T) -> Result<(), sqlx::error::BoxDynError>,
    ) -> sqlx::Result<Vec<MySqlRow>> {
        let mut found = Vec::new();
        for chunk in items.chunks(LENGTHS[1]) {
            let len = LENGTHS.iter().rev().find(|&&len| len >= chunk.len()).copied();
            let len = len.unwrap_or(LENGTHS[1]);
            let mut arguments = MySqlArguments::default();
            for index in 0..len {
                let item = &chunk[index.min(chunk.len() - 1)];
                bind(&mut arguments, item).map_err(sqlx::Error::Encode)?;
            }
            let text = AssertSqlSafe(self.text(rows, len));
            found.extend(sqlx::query_with(text, arguments).fetch_all(&mut *connection).await?);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_repeats_its_rows() {
        let rows = Rows { head: "INSERT t VALUES ", row: "(?, ?)", between: ", ", tail: ";" };
        let mut statements = Statements::default();
        assert_eq!(&*statements.text(&rows, 1), "INSERT t VALUES (?, ?);");
        assert_eq!(&*statements.text(&rows, 3), "INSERT t VALUES (?, ?), (?, ?), (?, ?);");
    }
}
