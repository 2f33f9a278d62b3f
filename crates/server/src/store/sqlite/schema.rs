//! The database file: its tables, and how connections to it are opened.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction};
use stonechat_core::wire::uplink::MessageId;

use super::{append, body, chunk, summaries};
use crate::limits::{CHECKPOINT_PAGES, DATABASE_BUSY_TIMEOUT, READER_CACHE_KIB, WRITER_CACHE_KIB};
use crate::store::StoreError;

pub(in crate::store) const FILE_NAME: &str = "stonechat.sqlite";
pub(super) const LOCK_NAME: &str = "stonechat.lock";

/// The steps from an empty file to the newest schema; a released one is never changed.
pub(super) const MIGRATIONS: [&str; 4] = [
    "
    CREATE TABLE device (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        token_hash BLOB NOT NULL,
        created_ms INTEGER NOT NULL,
        last_seen_ms INTEGER,
        detector TEXT
    );
    CREATE TABLE channel (
        id INTEGER PRIMARY KEY,
        device INTEGER NOT NULL REFERENCES device (id),
        name TEXT NOT NULL,
        unit TEXT NOT NULL,
        -- Points in chunks, and the message up to which they came from.
        points INTEGER NOT NULL DEFAULT 0,
        compacted_to INTEGER NOT NULL DEFAULT 0,
        open_chunk INTEGER,
        latest_ms INTEGER,
        latest REAL,
        UNIQUE (device, name)
    );
    -- The tail: messages whose readings are not yet in chunks, by appending only.
    CREATE TABLE message (
        id INTEGER PRIMARY KEY,
        device INTEGER NOT NULL,
        session INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        received_ms INTEGER NOT NULL,
        body BLOB NOT NULL
    );
    CREATE TABLE chunk (
        id INTEGER PRIMARY KEY,
        channel INTEGER NOT NULL REFERENCES channel (id),
        start_ms INTEGER NOT NULL,
        end_ms INTEGER NOT NULL,
        points INTEGER NOT NULL,
        body BLOB NOT NULL
    );
    CREATE INDEX chunk_by_channel ON chunk (channel, end_ms);
    CREATE INDEX chunk_by_age ON chunk (end_ms);
    CREATE TABLE session (
        device INTEGER NOT NULL,
        session INTEGER NOT NULL,
        highest INTEGER NOT NULL,
        below INTEGER NOT NULL,
        used_ms INTEGER NOT NULL,
        PRIMARY KEY (device, session)
    ) WITHOUT ROWID;
    CREATE TABLE alarm (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        device INTEGER NOT NULL REFERENCES device (id),
        kind TEXT NOT NULL,
        state TEXT NOT NULL,
        active INTEGER NOT NULL,
        opened_ms INTEGER NOT NULL,
        acknowledged_ms INTEGER,
        cleared_ms INTEGER,
        note TEXT,
        score REAL,
        threshold REAL,
        peak_score REAL
    );
    CREATE INDEX alarm_by_device ON alarm (device);
    CREATE INDEX alarm_by_state ON alarm (state);
    CREATE TABLE total (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    ",
    "
    -- Administrative documents; without body: deleted.
    CREATE TABLE record (
        class TEXT NOT NULL,
        key TEXT NOT NULL,
        revision INTEGER NOT NULL,
        changed_ms INTEGER NOT NULL,
        body TEXT,
        PRIMARY KEY (class, key)
    ) WITHOUT ROWID;
    CREATE INDEX record_by_revision ON record (revision);
    INSERT INTO record (class, key, revision, changed_ms, body)
        SELECT 'device', name, 1, created_ms, json_object('id', name, 'tokens', json_array(
            json_object('hash', lower(hex(token_hash)), 'created_ms', created_ms))) FROM device;
    ALTER TABLE device DROP COLUMN token_hash;
    -- The newest digests of a device's messages, 16 bytes each, oldest first.
    CREATE TABLE digest (device INTEGER PRIMARY KEY, body BLOB NOT NULL);
    ",
    "
    -- The tail: messages whose readings are not yet in chunks, by appending only. A row has the
    -- number of its last message.
    CREATE TABLE batch (
        id INTEGER PRIMARY KEY,
        messages INTEGER NOT NULL,
        body BLOB NOT NULL
    );
    ",
    "
    -- Summaries of the points of full chunks: by minutes (0) or hours (1).
    CREATE TABLE summary (
        id INTEGER PRIMARY KEY,
        channel INTEGER NOT NULL REFERENCES channel (id),
        resolution INTEGER NOT NULL,
        block_ms INTEGER NOT NULL,
        end_ms INTEGER NOT NULL,
        body BLOB NOT NULL
    );
    CREATE UNIQUE INDEX summary_by_channel ON summary (channel, resolution, block_ms);
    CREATE INDEX summary_by_age ON summary (resolution, end_ms);
    -- Up to these times chunks, and summaries by minutes, were deleted.
    ALTER TABLE channel ADD COLUMN points_from_ms INTEGER;
    ALTER TABLE channel ADD COLUMN minutes_from_ms INTEGER;
    DROP INDEX chunk_by_channel;
    CREATE INDEX chunk_by_channel ON chunk (channel, end_ms, start_ms);
    CREATE INDEX alarm_by_end ON alarm (cleared_ms);
    ",
];
/// The schema whose tail had a row for each message.
const SCHEMA_OF_ROWS: usize = 2;
/// The schema that had no summaries.
const SCHEMA_WITHOUT_SUMMARIES: usize = 3;

/// Where the database of a data folder is.
#[derive(Clone, Debug)]
pub(super) struct Location {
    folder: PathBuf,
    pub(super) file: PathBuf,
}

impl Location {
    /// Takes a data folder, and creates it when missing.
    pub(super) fn in_folder(folder: &Path) -> Result<Self, StoreError> {
        let location = Self { folder: folder.to_owned(), file: folder.join(FILE_NAME) };
        create_private(folder).map_err(|source| location.unusable(source))?;
        Ok(location)
    }

    /// Takes a data folder that has a database.
    pub(super) fn existing(folder: &Path) -> Result<Self, StoreError> {
        let location = Self { folder: folder.to_owned(), file: folder.join(FILE_NAME) };
        if location.file.is_file() {
            return Ok(location);
        }
        let text = format!("it has no {FILE_NAME}");
        Err(location.unusable(std::io::Error::new(std::io::ErrorKind::NotFound, text)))
    }

    /// Takes the lock that keeps a second server away, until the file is dropped.
    pub(super) fn lock(&self) -> Result<File, StoreError> {
        let path = self.folder.join(LOCK_NAME);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(|source| self.unusable(source))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: self.folder.clone() }),
            Err(TryLockError::Error(source)) => Err(self.unusable(source)),
        }
    }

    /// Opens the connection that writes, and brings the schema up to date.
    pub(super) fn open_writer(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection =
            Connection::open_with_flags(&self.file, flags).map_err(|e| self.failed(e))?;
        self.configure(&connection, WRITER_CACHE_KIB).map_err(|e| self.failed(e))?;
        self.migrate(&mut connection)?;
        Ok(connection)
    }

    /// Opens the connection that merges the log.
    pub(super) fn open_checkpointer(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(&self.file, flags).map_err(|e| self.failed(e))?;
        self.configure(&connection, READER_CACHE_KIB).map_err(|e| self.failed(e))?;
        Ok(connection)
    }

    /// Opens a connection that only reads.
    pub(super) fn open_reader(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(&self.file, flags).map_err(|e| self.failed(e))?;
        connection.busy_timeout(DATABASE_BUSY_TIMEOUT).map_err(|e| self.failed(e))?;
        connection
            .pragma_update(None, "cache_size", -READER_CACHE_KIB)
            .map_err(|e| self.failed(e))?;
        Ok(connection)
    }

    /// Counts the bytes of the database and its log.
    pub(super) fn bytes(&self) -> u64 {
        let wal = self.folder.join(format!("{FILE_NAME}-wal"));
        [&self.file, &wal]
            .into_iter()
            .filter_map(|path| fs::metadata(path).ok())
            .map(|metadata| metadata.len())
            .sum()
    }

    /// Wraps a failure of the database.
    pub(super) fn failed(&self, source: rusqlite::Error) -> StoreError {
        let path = self.file.clone();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                StoreError::Locked { path }
            }
            _ => StoreError::Database { path, source },
        }
    }

    /// Reports damage.
    pub(super) fn damaged(&self, detail: impl Into<String>) -> StoreError {
        StoreError::Damaged { path: self.file.clone(), detail: detail.into() }
    }

    /// Reports a folder, or a thread, that is not to be had.
    pub(super) fn unusable(&self, source: std::io::Error) -> StoreError {
        StoreError::Folder { path: self.folder.clone(), source }
    }

    fn configure(&self, connection: &Connection, cache_kib: i64) -> rusqlite::Result<()> {
        connection.busy_timeout(DATABASE_BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Each commit reaches the disk: what is acknowledged survives a power cut.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "cache_size", -cache_kib)?;
        connection.pragma_update(None, "temp_store", "MEMORY")
    }

    fn migrate(&self, connection: &mut Connection) -> Result<(), StoreError> {
        let known = MIGRATIONS.len() as i64;
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(|e| self.failed(e))?;
        let found: i64 = transaction
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(|e| self.failed(e))?;
        if found > known || found < 0 {
            return Err(StoreError::NewerSchema { path: self.file.clone(), found, known });
        }
        for (schema, step) in MIGRATIONS.iter().enumerate().skip(found as usize) {
            transaction.execute_batch(step).map_err(|e| self.failed(e))?;
            if schema == SCHEMA_OF_ROWS {
                self.pack_messages(&transaction)?;
            }
            if schema == SCHEMA_WITHOUT_SUMMARIES {
                self.summarise_chunks(&transaction)?;
            }
        }
        if found < known {
            transaction.pragma_update(None, "user_version", known).map_err(|e| self.failed(e))?;
        }
        transaction.commit().map_err(|e| self.failed(e))
    }
}

impl Location {
    /// Moves messages from a row each into batches.
    fn pack_messages(&self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        let failed = |e| self.failed(e);
        let mut statement = transaction
            .prepare(
                "SELECT id, device, session, sequence, received_ms, body FROM message ORDER BY id",
            )
            .map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut packer = body::Packer::default();
        while let Some(row) = rows.next().map_err(failed)? {
            let id: i64 = row.get(0).map_err(failed)?;
            let number = MessageId {
                session: row.get(2).map_err(failed)?,
                sequence: row.get(3).map_err(failed)?,
            };
            let received_ms = row.get(4).map_err(failed)?;
            let bytes = row.get_ref(5).map_err(failed)?.as_blob().map_err(|e| failed(e.into()))?;
            let readings = body::read_plain(bytes, received_ms)
                .ok_or_else(|| self.damaged(format!("message {id} is not readable")))?;
            packer.push(row.get(1).map_err(failed)?, number.into(), received_ms, &readings);
            append::write_batch(transaction, id, &mut packer).map_err(failed)?;
        }
        drop(rows);
        drop(statement);
        transaction.execute_batch("DROP TABLE message").map_err(failed)
    }

    /// Summarises the chunks that are full.
    fn summarise_chunks(&self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        let failed = |e| self.failed(e);
        let mut statement = transaction
            .prepare(
                "SELECT chunk.channel, chunk.body FROM chunk JOIN channel \
                 ON channel.id = chunk.channel WHERE channel.open_chunk IS NOT chunk.id",
            )
            .map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let body = row.get_ref(1).map_err(failed)?.as_blob().map_err(|e| failed(e.into()))?;
            let points = chunk::decode(body).map_err(|e| self.damaged(e.to_string()))?;
            let channel = row.get(0).map_err(failed)?;
            summaries::add(transaction, channel, &points).map_err(failed)?;
        }
        Ok(())
    }
}

/// Creates a folder, and those above it, that only its owner can look into.
fn create_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
