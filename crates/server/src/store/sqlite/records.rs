//! Records in the database.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::registry;
use super::schema::Location;
use crate::clock::now_ms;
use crate::limits::RECORD_DELETIONS_KEPT;
use crate::store::{Expected, Record, RecordChange, RecordClass, Records, StoreError};

const SELECT: &str = "SELECT class, key, revision, body FROM record";

/// Finds a record that is there.
pub(super) fn find(
    connection: &Connection,
    class: RecordClass,
    key: &str,
) -> rusqlite::Result<Option<Record>> {
    connection
        .prepare_cached(&format!("{SELECT} WHERE class = ?1 AND key = ?2 AND body IS NOT NULL"))?
        .query_row(params![class.as_str(), key], from_row)
        .optional()
        .map(Option::flatten)
}

/// Lists the records of a class after a key.
pub(super) fn list(
    connection: &Connection,
    class: RecordClass,
    after_key: &str,
    limit: usize,
) -> rusqlite::Result<Vec<Record>> {
    connection
        .prepare_cached(&format!(
            "{SELECT} WHERE class = ?1 AND key > ?2 AND body IS NOT NULL ORDER BY key LIMIT ?3"
        ))?
        .query_map(params![class.as_str(), after_key, clamp(limit)], from_row)?
        .filter_map(Result::transpose)
        .collect()
}

/// Lists what changed after a revision.
pub(super) fn since(
    connection: &Connection,
    revision: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Record>> {
    connection
        .prepare_cached(&format!(
            "{SELECT} WHERE revision > ?1 AND revision <= coalesce(\
             (SELECT revision FROM record WHERE revision > ?1 ORDER BY revision LIMIT 1 OFFSET ?2), \
             {max}) ORDER BY revision, class, key",
            max = i64::MAX
        ))?
        .query_map(params![signed(revision), clamp(limit.max(1) - 1)], from_row)?
        .filter_map(Result::transpose)
        .collect()
}

/// Makes changes within the connection's transaction; the caller rolls back when the database
/// fails, and need not for other errors, as those come before the first change.
pub(super) fn change(
    connection: &Connection,
    location: &Location,
    changes: &[RecordChange],
    now_ms: i64,
) -> Result<u64, StoreError> {
    let failed = |e| location.failed(e);
    for change in changes {
        change.check()?;
        let found = find(connection, change.class, &change.key).map_err(failed)?;
        let met = match change.expected {
            Expected::Any => true,
            Expected::Absent => found.is_none(),
            Expected::Revision(revision) => found.is_some_and(|f| f.revision == revision),
        };
        if !met {
            return Err(StoreError::Conflict { class: change.class, key: change.key.clone() });
        }
    }
    let newest = newest_revision(connection).map_err(failed)?;
    if changes.is_empty() {
        return Ok(newest);
    }
    write(connection, changes, newest + 1, now_ms).map_err(failed)
}

fn write(
    connection: &Connection,
    changes: &[RecordChange],
    revision: u64,
    now_ms: i64,
) -> rusqlite::Result<u64> {
    for change in changes {
        connection
            .prepare_cached(
                "INSERT INTO record (class, key, revision, changed_ms, body) \
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (class, key) \
                 DO UPDATE SET revision = ?3, changed_ms = ?4, body = ?5",
            )?
            .execute(params![
                change.class.as_str(),
                change.key,
                signed(revision),
                now_ms,
                change.body
            ])?;
        if change.class == RecordClass::Device && change.body.is_some() {
            registry::put(connection, &change.key, now_ms)?;
        }
    }
    // The newest change is never among these, so that revisions never repeat.
    connection
        .prepare_cached("DELETE FROM record WHERE revision < ?1 AND body IS NULL")?
        .execute([signed(revision.saturating_sub(RECORD_DELETIONS_KEPT))])?;
    Ok(revision)
}

/// Returns the number of the newest change; 0 if there was none yet.
pub(super) fn newest_revision(connection: &Connection) -> rusqlite::Result<u64> {
    let newest: Option<i64> = connection
        .prepare_cached("SELECT max(revision) FROM record")?
        .query_row([], |row| row.get(0))?;
    Ok(newest.unwrap_or(0).max(0).cast_unsigned())
}

/// A class that a later version wrote is passed over.
fn from_row(row: &Row<'_>) -> rusqlite::Result<Option<Record>> {
    let Some(class) = RecordClass::parse(row.get_ref(0)?.as_str()?) else {
        return Ok(None);
    };
    let revision = row.get::<_, i64>(2)?.max(0).cast_unsigned();
    Ok(Some(Record { class, key: row.get(1)?, revision, body: row.get(3)? }))
}

fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn clamp(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The records of a data folder, without taking the whole store; a server may run there.
#[derive(Clone, Debug)]
pub struct RecordsBeside {
    folder: Arc<Path>,
    opened: Arc<Mutex<Option<(Location, Connection)>>>,
}

impl RecordsBeside {
    /// Takes a data folder, which is created with the first call when missing.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self { folder: Arc::from(folder), opened: Arc::default() }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Location, &mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let own = self.clone();
        let work = move || {
            let mut opened = own.opened.lock();
            let (location, connection) = match &mut *opened {
                Some(opened) => opened,
                none => {
                    let location = Location::in_folder(&own.folder)?;
                    let connection = location.open_writer()?;
                    none.insert((location, connection))
                }
            };
            work(location, connection)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
    }
}

#[async_trait]
impl Records for RecordsBeside {
    async fn record(&self, class: RecordClass, key: &str) -> Result<Option<Record>, StoreError> {
        let key = key.to_owned();
        self.run(move |location, connection| {
            find(connection, class, &key).map_err(|e| location.failed(e))
        })
        .await
    }

    async fn records(
        &self,
        class: RecordClass,
        after_key: &str,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let after_key = after_key.to_owned();
        self.run(move |location, connection| {
            list(connection, class, &after_key, limit).map_err(|e| location.failed(e))
        })
        .await
    }

    async fn records_since(&self, revision: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.run(move |location, connection| {
            since(connection, revision, limit).map_err(|e| location.failed(e))
        })
        .await
    }

    async fn change_records(&self, changes: Vec<RecordChange>) -> Result<u64, StoreError> {
        self.run(move |location, connection| {
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(|e| location.failed(e))?;
            let revision = change(&transaction, location, &changes, now_ms())?;
            transaction.commit().map_err(|e| location.failed(e))?;
            Ok(revision)
        })
        .await
    }
}
