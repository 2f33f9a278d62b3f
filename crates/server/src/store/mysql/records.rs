//! Records in the database.

use async_trait::async_trait;
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Connection, Row};

use super::{Failure, MysqlRecords};
use crate::clock::now_ms;
use crate::limits::{MYSQL_CONFLICT_TRIES, RECORD_DELETIONS_KEPT};
use crate::store::{Expected, Record, RecordChange, RecordClass, Records, StoreError};

const SELECT: &str = "SELECT class, name, revision, body FROM record";

/// A class that a later version wrote is passed over.
fn from_row(row: &MySqlRow) -> sqlx::Result<Option<Record>> {
    let Some(class) = RecordClass::parse(row.try_get(0)?) else {
        return Ok(None);
    };
    let key = String::from_utf8_lossy(row.try_get(1)?).into_owned();
    Ok(Some(Record { class, key, revision: row.try_get(2)?, body: row.try_get(3)? }))
}

fn from_rows(rows: &[MySqlRow]) -> sqlx::Result<Vec<Record>> {
    rows.iter().filter_map(|row| from_row(row).transpose()).collect()
}

async fn since(
    connection: &mut MySqlConnection,
    revision: u64,
    limit: u64,
) -> sqlx::Result<Vec<Record>> {
    // A change is never cut in two: the revision of the last one within the limit comes whole.
    let last: Option<u64> = sqlx::query_scalar(
        "SELECT revision FROM record WHERE revision > ? ORDER BY revision LIMIT 1 OFFSET ?",
    )
    .bind(revision)
    .bind(limit.saturating_sub(1))
    .fetch_optional(&mut *connection)
    .await?;
    let rows = sqlx::query(AssertSqlSafe(format!(
        "{SELECT} WHERE revision > ? AND revision <= ? ORDER BY revision, class, name"
    )))
    .bind(revision)
    .bind(last.unwrap_or(u64::MAX))
    .fetch_all(connection)
    .await?;
    from_rows(&rows)
}

/// Makes changes in one transaction; the counter's row makes all gateways take turns.
async fn change(
    connection: &mut MySqlConnection,
    changes: &[RecordChange],
) -> Result<Result<u64, StoreError>, Failure> {
    let mut transaction = connection.begin().await?;
    let newest: u64 =
        sqlx::query_scalar("SELECT value FROM counter WHERE name = 'record_revision' FOR UPDATE")
            .fetch_one(&mut *transaction)
            .await?;
    for change in changes {
        let found: Option<u64> = sqlx::query_scalar(
            "SELECT revision FROM record WHERE class = ? AND name = ? AND body IS NOT NULL",
        )
        .bind(change.class.as_str())
        .bind(change.key.as_bytes())
        .fetch_optional(&mut *transaction)
        .await?;
        let met = match change.expected {
            Expected::Any => true,
            Expected::Absent => found.is_none(),
            Expected::Revision(revision) => found == Some(revision),
        };
        if !met {
            let (class, key) = (change.class, change.key.clone());
            return Ok(Err(StoreError::Conflict { class, key }));
        }
    }
    if changes.is_empty() {
        return Ok(Ok(newest));
    }
    let revision = newest + 1;
    for change in changes {
        write(&mut transaction, change, revision).await?;
    }
    sqlx::query("UPDATE counter SET value = ? WHERE name = 'record_revision'")
        .bind(revision)
        .execute(&mut *transaction)
        .await?;
    sqlx::query("DELETE FROM record WHERE revision < ? AND body IS NULL")
        .bind(revision.saturating_sub(RECORD_DELETIONS_KEPT))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Ok(revision))
}

async fn write(
    connection: &mut MySqlConnection,
    change: &RecordChange,
    revision: u64,
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO record (class, name, revision, changed_ms, body) VALUES (?, ?, ?, ?, ?) \
         ON DUPLICATE KEY UPDATE revision = VALUES(revision), changed_ms = VALUES(changed_ms), \
         body = VALUES(body)",
    )
    .bind(change.class.as_str())
    .bind(change.key.as_bytes())
    .bind(revision)
    .bind(now_ms())
    .bind(&change.body)
    .execute(&mut *connection)
    .await?;
    if change.class != RecordClass::Device {
        return Ok(());
    }
    if change.body.is_some() {
        sqlx::query(
            "INSERT INTO device (name, created_ms) VALUES (?, ?) ON DUPLICATE KEY UPDATE id = id",
        )
        .bind(&change.key)
        .bind(now_ms())
        .execute(&mut *connection)
        .await?;
    }
    // Other gateways look at the device anew, as its revision is another one.
    sqlx::query(
        "INSERT INTO device_state \
         (device, revision, living, messages, readings, duplicates, last_seen_ms, body) \
         SELECT id, 1, ?, 0, 0, 0, NULL, '' FROM device WHERE name = ? \
         ON DUPLICATE KEY UPDATE revision = device_state.revision + 1, living = VALUES(living)",
    )
    .bind(change.body.is_some())
    .bind(&change.key)
    .execute(connection)
    .await?;
    Ok(())
}

#[async_trait]
impl Records for MysqlRecords {
    async fn record(&self, class: RecordClass, key: &str) -> Result<Option<Record>, StoreError> {
        let find = async {
            let row = sqlx::query(AssertSqlSafe(format!(
                "{SELECT} WHERE class = ? AND name = ? AND body IS NOT NULL"
            )))
            .bind(class.as_str())
            .bind(key.as_bytes())
            .fetch_optional(&mut *self.acquire().await?)
            .await?;
            Ok(row.map(|row| from_row(&row)).transpose()?.flatten())
        };
        self.finish(find).await
    }

    async fn records(
        &self,
        class: RecordClass,
        after_key: &str,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let list = async {
            let rows = sqlx::query(AssertSqlSafe(format!(
                "{SELECT} WHERE class = ? AND name > ? AND body IS NOT NULL ORDER BY name LIMIT ?"
            )))
            .bind(class.as_str())
            .bind(after_key.as_bytes())
            .bind(limit as u64)
            .fetch_all(&mut *self.acquire().await?)
            .await?;
            Ok(from_rows(&rows)?)
        };
        self.finish(list).await
    }

    async fn records_since(&self, revision: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        let list = async { Ok(since(&mut *self.acquire().await?, revision, limit as u64).await?) };
        self.finish(list).await
    }

    async fn change_records(&self, changes: Vec<RecordChange>) -> Result<u64, StoreError> {
        for change in &changes {
            change.check()?;
        }
        let change = async {
            let mut tries = 0;
            loop {
                tries += 1;
                match change(&mut *self.acquire().await?, &changes).await {
                    Err(failure) if failure.is_conflict() && tries < MYSQL_CONFLICT_TRIES => {}
                    done => return done,
                }
            }
        };
        self.finish(change).await?
    }
}
