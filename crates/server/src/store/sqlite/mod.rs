//! The store in one SQLite file.
//!
//! One thread writes: it takes all messages that wait, appends them to the table `message` (the
//! tail) in one transaction with their alarms, and acknowledges them after the commit has
//! reached the disk. Bit by bit the tail is compacted into chunks of one channel each. Readers
//! merge both.

mod alarms;
mod append;
mod body;
mod checkpoint;
mod chunk;
mod compaction;
mod fleet;
mod ledger;
mod load;
mod reader;
mod registry;
mod schema;
#[cfg(test)]
mod tests;
mod varint;
mod writer;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};

use self::checkpoint::Checkpointer;
use self::fleet::Fleet;
use self::reader::Readers;
use self::schema::Location;
use self::writer::{Command, Writer};
use super::{
    AlarmsQuery, Appended, ChannelRecord, DeviceRecord, Message, ReadingsQuery, Series, Store,
    StoreError, Totals,
};
use crate::alarm::{Action, Alarm};
use crate::clock::now_ms;
use crate::device::{DeviceId, TokenHash};
use crate::limits::WRITER_QUEUE_LEN;

/// The store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    location: Location,
    commands: mpsc::Sender<Command>,
    fleet: Arc<RwLock<Fleet>>,
    readers: Arc<Readers>,
    lock: Mutex<Option<File>>,
}

impl SqliteStore {
    /// Opens the store of a data folder, and creates both when missing. Readings older than
    /// `retention` are deleted.
    ///
    /// # Errors
    /// When the folder cannot be written, another server uses it, or a later version wrote it.
    pub fn open(folder: &Path, retention: Option<Duration>) -> Result<Self, StoreError> {
        let location = Location::in_folder(folder)?;
        let lock = location.lock()?;
        let connection = location.open_writer()?;
        let (ledger, fleet) = load::load(&connection, &location)?;
        let fleet = Arc::new(RwLock::new(fleet));
        let checkpointer = Checkpointer::start(&location)?;
        let (commands, queue) = mpsc::channel(WRITER_QUEUE_LEN);
        Writer::new(connection, location.clone(), fleet.clone(), ledger, checkpointer, retention)
            .spawn(queue)
            .map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
        let readers = Readers::new(location.clone());
        Ok(Self { location, commands, fleet, readers, lock: Mutex::new(Some(lock)) })
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Starts to move the tail into chunks, and returns when the first step is done.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn compact(&self) -> Result<(), StoreError> {
        self.ask(Command::Compact).await
    }
}

/// Adds a device without taking the whole store, for use beside a running server.
///
/// # Errors
/// As [`SqliteStore::open`], or if the device exists and is not to be replaced.
pub fn put_device_beside(
    folder: &Path,
    id: &DeviceId,
    hash: TokenHash,
    replace: bool,
) -> Result<(), StoreError> {
    let location = Location::in_folder(folder)?;
    let connection = location.open_writer()?;
    registry::put(&connection, id, hash, replace, now_ms())
        .map_err(|e| location.failed(e))?
        .map(drop)
        .ok_or_else(|| StoreError::DeviceExists(id.clone()))
}

/// Lists the registered devices without taking the whole store.
///
/// # Errors
/// As [`SqliteStore::open`].
pub fn devices_beside(folder: &Path) -> Result<Vec<String>, StoreError> {
    let location = Location::in_folder(folder)?;
    let connection = location.open_writer()?;
    let devices = registry::all(&connection).map_err(|e| location.failed(e))?;
    Ok(devices.into_iter().map(|(_, name)| name).collect())
}

#[async_trait]
impl Store for SqliteStore {
    async fn append(&self, message: Message) -> Result<Appended, StoreError> {
        self.ask(|reply| Command::Append(message, reply)).await
    }

    async fn put_device(
        &self,
        id: DeviceId,
        hash: TokenHash,
        replace: bool,
    ) -> Result<(), StoreError> {
        self.ask(|reply| Command::PutDevice(id, hash, replace, reply)).await
    }

    async fn token_hash(&self, id: &DeviceId) -> Result<Option<TokenHash>, StoreError> {
        let (location, id) = (self.location.clone(), id.clone());
        let query = move |connection: &rusqlite::Connection| {
            registry::token_hash(connection, &id).map_err(|e| location.failed(e))
        };
        self.readers.run(query).await
    }

    async fn devices(&self) -> Result<Vec<DeviceRecord>, StoreError> {
        Ok(self.fleet.read().records())
    }

    async fn device(&self, id: &str) -> Result<Option<DeviceRecord>, StoreError> {
        Ok(self.fleet.read().record(id))
    }

    async fn channels(&self, id: &str) -> Result<Vec<ChannelRecord>, StoreError> {
        let records = self.fleet.read().channel_records(id);
        records.ok_or_else(|| StoreError::UnknownDevice(id.to_owned()))
    }

    async fn readings(&self, query: ReadingsQuery) -> Result<Vec<Series>, StoreError> {
        let (location, fleet) = (self.location.clone(), self.fleet.clone());
        self.readers
            .run(move |connection| reader::readings(connection, &location, &fleet, &query))
            .await
    }

    async fn alarms(&self, query: AlarmsQuery) -> Result<Vec<Alarm>, StoreError> {
        let location = self.location.clone();
        self.readers
            .run(move |connection| alarms::list(connection, &query).map_err(|e| location.failed(e)))
            .await
    }

    async fn alarm(&self, id: i64) -> Result<Option<Alarm>, StoreError> {
        let location = self.location.clone();
        self.readers
            .run(move |connection| alarms::find(connection, id).map_err(|e| location.failed(e)))
            .await
    }

    async fn act(
        &self,
        id: i64,
        action: Action,
        note: Option<String>,
        now_ms: i64,
    ) -> Result<Alarm, StoreError> {
        self.ask(|reply| Command::Act { id, action, note, now_ms, reply }).await
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        let location = self.location.clone();
        let count = move |connection: &rusqlite::Connection| {
            let counts = alarms::count(connection).map_err(|e| location.failed(e))?;
            Ok((counts, location.bytes()))
        };
        let ((alarms_open, alarms_acknowledged), storage_bytes) = self.readers.run(count).await?;
        let fleet = self.fleet.read();
        Ok(Totals {
            devices: fleet.devices.len() as u64,
            messages: fleet.messages,
            readings: fleet.readings,
            duplicates: fleet.duplicates,
            alarms_open,
            alarms_acknowledged,
            storage_bytes,
        })
    }

    async fn close(&self) {
        self.readers.close();
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
        self.lock.lock().take();
    }
}
