//! Copies the database as of one moment, and checks such a copy.

use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::schema::{FILE_NAME, LOCK_NAME, Location, MIGRATIONS};
use crate::store::StoreError;

/// Tells whether a file of a data folder is the database's own, which must not be copied as it is.
pub(in crate::store) fn is_database_file(name: &str) -> bool {
    name == LOCK_NAME || name.strip_prefix(FILE_NAME).is_some_and(|rest| !rest.contains('/'))
}

/// Keeps servers away from a data folder until the file is dropped.
pub(in crate::store) fn lock_folder(data: &Path) -> Result<File, StoreError> {
    Location::in_folder(data)?.lock()
}

/// Writes the database of a data folder, packed, into another folder; `false` if there is none.
/// It is all read within one view, however much is written meanwhile; the file is not yet synced.
pub(in crate::store) fn copy_database(data: &Path, target: &Path) -> Result<bool, StoreError> {
    if !data.join(FILE_NAME).is_file() {
        return Ok(false);
    }
    let location = Location::existing(data)?;
    let connection = location.open_writer()?;
    let file = target.join(FILE_NAME);
    connection
        .execute("VACUUM INTO ?1", [file.to_string_lossy()])
        .map_err(|e| location.failed(e))?;
    Ok(true)
}

/// Checks a database file from its first page to its last.
pub(in crate::store) fn check_database(file: &Path) -> Result<(), String> {
    let check = || -> rusqlite::Result<(i64, String)> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags)?;
        let schema = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let found = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        Ok((schema, found))
    };
    let known = MIGRATIONS.len() as i64;
    match check() {
        Ok((schema, _)) if schema > known => {
            Err(format!("its database has schema {schema}, but this version knows only {known}"))
        }
        Ok((_, found)) if found == "ok" => Ok(()),
        Ok((_, found)) => Err(format!("its database is damaged ({found})")),
        Err(error) => Err(format!("its database cannot be read ({error})")),
    }
}
