//! Devices and their tokens in the database.

use rusqlite::{Connection, OptionalExtension, params};

use crate::device::{DeviceId, TokenHash};

/// Adds a device, or replaces its token; returns its row, or `None` if it exists and is not to
/// be replaced.
pub(super) fn put(
    connection: &Connection,
    id: &DeviceId,
    hash: TokenHash,
    replace: bool,
    now_ms: i64,
) -> rusqlite::Result<Option<i64>> {
    if let Some(row) = row(connection, id.as_str())? {
        if !replace {
            return Ok(None);
        }
        connection
            .prepare_cached("UPDATE device SET token_hash = ?2 WHERE id = ?1")?
            .execute(params![row, hash.as_bytes()])?;
        return Ok(Some(row));
    }
    connection
        .prepare_cached("INSERT INTO device (name, token_hash, created_ms) VALUES (?1, ?2, ?3)")?
        .insert(params![id.as_str(), hash.as_bytes(), now_ms])
        .map(Some)
}

/// Lists all devices, row and name.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<(i64, String)>> {
    connection
        .prepare_cached("SELECT id, name FROM device ORDER BY name")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Finds a device's row.
pub(super) fn row(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM device WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// Finds the hash of a device's token.
pub(super) fn token_hash(
    connection: &Connection,
    id: &DeviceId,
) -> rusqlite::Result<Option<TokenHash>> {
    connection
        .prepare_cached("SELECT token_hash FROM device WHERE name = ?1")?
        .query_row([id.as_str()], |row| row.get(0).map(TokenHash::from_bytes))
        .optional()
}
