//! The store in one SQLite file.
//!
//! One thread writes: it takes all messages that wait, appends them to the table `batch` (the
//! tail) in one transaction with their alarms, and acknowledges them after the commit has
//! reached the disk. Bit by bit the tail is compacted into chunks of one channel each. Readers
//! merge both.

mod alarms;
mod append;
mod body;
mod checkpoint;
mod chunk;
mod compaction;
mod copy;
mod extract;
mod fleet;
mod ledger;
mod load;
mod reader;
mod records;
mod registry;
mod schema;
mod summaries;
#[cfg(test)]
mod tests;
mod varint;
mod writer;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, mpsc, oneshot};

use self::checkpoint::Checkpointer;
pub(super) use self::copy::{check_database, copy_database, is_database_file, lock_folder};
pub use self::extract::{ExtractQuery, Part, extract};
use self::fleet::Fleet;
use self::reader::Readers;
pub use self::records::RecordsBeside;
pub(super) use self::schema::FILE_NAME;
use self::schema::Location;
use self::writer::{Command, Writer};
use super::{
    AlarmsQuery, Appended, ChannelRecord, DeviceRecord, Message, ReadingsQuery, Record,
    RecordChange, RecordClass, Records, Resolution, Retention, Series, Store, StoreError, Summary,
    Totals,
};
use crate::alarm::{Action, Alarm};
use crate::limits::{READERS_MAX, WRITER_MESSAGES_MAX, WRITER_QUEUE_LEN};

/// The store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    location: Location,
    commands: mpsc::Sender<Command>,
    /// Bounds the messages that wait for the writer.
    room: Arc<Semaphore>,
    fleet: Arc<RwLock<Fleet>>,
    readers: Arc<Readers>,
    /// Apart, so that no long query delays a revocation.
    record_readers: Arc<Readers>,
    lock: Mutex<Option<File>>,
}

impl SqliteStore {
    /// Opens the store of a data folder, and creates both when missing. What is older
    /// than `retention` says is deleted.
    ///
    /// # Errors
    /// When the folder cannot be written, another server uses it, or a later version wrote it.
    pub fn open(folder: &Path, retention: Retention) -> Result<Self, StoreError> {
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
        let readers = Readers::new(location.clone(), READERS_MAX);
        let record_readers = Readers::new(location.clone(), 1);
        let lock = Mutex::new(Some(lock));
        let room = Arc::new(Semaphore::new(WRITER_MESSAGES_MAX));
        Ok(Self { location, commands, room, fleet, readers, record_readers, lock })
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Finds the summaries of a channel's readings that touch a span of time, in its order; the
    /// newest readings may not be among them yet.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn summaries(
        &self,
        device: &str,
        channel: &str,
        resolution: Resolution,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Summary>, StoreError> {
        let row = {
            let fleet = self.fleet.read();
            fleet.devices.get(device).and_then(|device| device.channels.get(channel).copied())
        };
        let location = self.location.clone();
        self.readers
            .run(move |connection| match row {
                Some(row) => summaries::find(connection, row, resolution, from_ms, to_ms)
                    .map_err(|e| location.failed(e)),
                None => Ok(Vec::new()),
            })
            .await
    }

    /// Starts to move the tail into chunks, and returns when the first step is done.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn compact(&self) -> Result<(), StoreError> {
        self.ask(Command::Compact).await
    }
}

#[async_trait]
impl Records for SqliteStore {
    async fn record(&self, class: RecordClass, key: &str) -> Result<Option<Record>, StoreError> {
        let (location, key) = (self.location.clone(), key.to_owned());
        self.record_readers
            .run(move |connection| {
                records::find(connection, class, &key).map_err(|e| location.failed(e))
            })
            .await
    }

    async fn records(
        &self,
        class: RecordClass,
        after_key: &str,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let (location, after_key) = (self.location.clone(), after_key.to_owned());
        self.record_readers
            .run(move |connection| {
                records::list(connection, class, &after_key, limit).map_err(|e| location.failed(e))
            })
            .await
    }

    async fn records_since(&self, revision: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        let location = self.location.clone();
        self.record_readers
            .run(move |connection| {
                records::since(connection, revision, limit).map_err(|e| location.failed(e))
            })
            .await
    }

    async fn change_records(&self, changes: Vec<RecordChange>) -> Result<u64, StoreError> {
        self.ask(|reply| Command::ChangeRecords(changes, reply)).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn append_all(&self, messages: Vec<Message>) -> Vec<Result<Appended, StoreError>> {
        let count = messages.len();
        if count == 0 {
            return Vec::new();
        }
        let closed = || (0..count).map(|_| Err(StoreError::Closed)).collect();
        // Whoever has more than there is room for gets all of it.
        let needed = u32::try_from(count.min(WRITER_MESSAGES_MAX)).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().acquire_many_owned(needed).await else {
            return closed();
        };
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Append(messages, reply, room)).await.is_err() {
            return closed();
        }
        answer.await.unwrap_or_else(|_| closed())
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
        self.record_readers.close();
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
        self.lock.lock().take();
    }
}
