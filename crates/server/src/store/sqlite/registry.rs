//! The rows of devices. A device is known as long as its record is there.

use rusqlite::{Connection, OptionalExtension, params};

/// Makes the row of a device, if there is none.
pub(super) fn put(connection: &Connection, name: &str, now_ms: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO device (name, created_ms) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING",
        )?
        .execute(params![name, now_ms])
        .map(drop)
}

/// A device whose record changed.
pub(super) struct Changed {
    pub(super) row: i64,
    pub(super) name: String,
    pub(super) living: bool,
}

/// Lists the devices whose records changed after a revision.
pub(super) fn changed_since(
    connection: &Connection,
    revision: u64,
) -> rusqlite::Result<Vec<Changed>> {
    connection
        .prepare_cached(
            "SELECT device.id, device.name, record.body IS NOT NULL FROM record \
             JOIN device ON device.name = record.key \
             WHERE record.class = 'device' AND record.revision > ?1",
        )?
        .query_map([i64::try_from(revision).unwrap_or(i64::MAX)], |row| {
            Ok(Changed { row: row.get(0)?, name: row.get(1)?, living: row.get(2)? })
        })?
        .collect()
}

/// Finds the row of a device whose record is there.
pub(super) fn row(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(
            "SELECT device.id FROM device JOIN record ON record.key = device.name \
             WHERE record.class = 'device' AND record.key = ?1 AND record.body IS NOT NULL",
        )?
        .query_row([name], |row| row.get(0))
        .optional()
}
