//! Where messages, readings, devices and alarms are kept, behind one interface.

pub mod backup;
mod downsample;
#[cfg(test)]
mod measure;
pub mod mysql;
pub mod record;
mod spool;
pub mod sqlite;
#[cfg(test)]
mod suite;
mod summary;
mod window;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use stonechat_core::wire::uplink::MessageId;

use crate::alarm::{Action, Alarm, AlarmState, AlreadyOver, Change};
use crate::device::DeviceId;
use crate::settings::Settings;

pub use mysql::{DatabaseUrl, MysqlOptions, MysqlRecords, MysqlStore};
pub use record::{Expected, Record, RecordChange, RecordClass, Records};
pub use spool::{SpoolError, SpoolStatus};
pub use sqlite::SqliteStore;
pub use summary::{Resolution, Summary};

/// One value of one channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The channel's name.
    pub channel: Arc<str>,
    /// The unit; empty for none.
    pub unit: Arc<str>,
    /// Unix milliseconds.
    pub time_ms: i64,
    /// The value; a truth value is 0 or 1.
    pub value: f64,
}

/// What makes a message the same when it is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKey {
    /// Its number within a session of the device.
    Sequence(MessageId),
    /// A digest of its bytes: the same ones are stored once, as long as they are among the
    /// newest [`DIGESTS_PER_DEVICE_MAX`](crate::limits::DIGESTS_PER_DEVICE_MAX) of the device.
    Digest([u8; 16]),
    /// Nothing: each receipt is another message.
    Unkeyed,
}

impl From<MessageId> for MessageKey {
    fn from(id: MessageId) -> Self {
        Self::Sequence(id)
    }
}

impl MessageKey {
    /// Returns the device's session, if the message tells.
    #[must_use]
    pub(crate) fn session(self) -> Option<u32> {
        match self {
            Self::Sequence(id) => Some(id.session),
            Self::Digest(_) | Self::Unkeyed => None,
        }
    }
}

/// For how long each class of data is kept; `None` keeps it for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Readings as they came in.
    pub readings: Option<Duration>,
    /// Their summaries by minutes.
    pub minutes: Option<Duration>,
    /// Their summaries by hours.
    pub hours: Option<Duration>,
    /// Alarms, from the time they were cleared.
    pub alarms: Option<Duration>,
}

/// A message that was decoded and checked, ready to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who sent it.
    pub device: DeviceId,
    /// What makes it the same message when it is sent again.
    pub key: MessageKey,
    /// When it came in, in unix milliseconds.
    pub received_ms: i64,
    /// What it says, in its own order.
    pub readings: Vec<Reading>,
    /// The detector that the device runs, if it says so.
    pub detector: Option<String>,
}

/// What became of a message; it is on disk.
#[derive(Clone, Debug, PartialEq)]
pub enum Appended {
    /// It was stored before.
    Duplicate,
    /// It is stored now.
    New {
        /// The alarms that it opened or moved.
        alarms: Vec<Change>,
        /// The readings that were left out, as the device has too many channels.
        rejected_readings: usize,
    },
}

/// A device with its newest values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceRecord {
    /// Its identity.
    pub id: String,
    /// When the newest message came in.
    pub last_seen_ms: Option<i64>,
    /// The newest score.
    pub score: Option<f64>,
    /// The newest threshold.
    pub threshold: Option<f64>,
    /// Whether the newest verdict is anomaly.
    pub anomalous: bool,
    /// Whether it rejects samples.
    pub sensor_fault: bool,
    /// The detector that it runs.
    pub detector: Option<String>,
    /// Its alarms that are open and not acknowledged.
    pub alarms_open: u32,
    /// Its newest scores: unix milliseconds, score, threshold.
    pub recent_scores: Vec<(i64, f64, Option<f64>)>,
}

/// A channel with its newest value.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelRecord {
    /// Its name.
    pub name: String,
    /// Its unit; empty for none.
    pub unit: String,
    /// Its newest value.
    pub latest: Option<f64>,
    /// The time of that value, in unix milliseconds.
    pub latest_ms: Option<i64>,
    /// How many readings are kept.
    pub readings: u64,
}

/// Which readings are asked for.
#[derive(Clone, Debug)]
pub struct ReadingsQuery {
    /// The device.
    pub device: String,
    /// The channels; none stands for all of them.
    pub channels: Vec<String>,
    /// The first time, in unix milliseconds.
    pub from_ms: i64,
    /// The last time, in unix milliseconds.
    pub to_ms: i64,
    /// The most points of each channel.
    pub points_max: usize,
}

impl ReadingsQuery {
    /// Chooses what the points are taken from: by the span of time that is asked for, and, where it is
    /// known, by when the channel's first and last points were.
    fn resolution(&self, held_ms: Option<(i64, i64)>) -> Resolution {
        let (first_ms, last_ms) = held_ms.unwrap_or((self.from_ms, self.to_ms));
        let span_ms = self.to_ms.min(last_ms).saturating_sub(self.from_ms.max(first_ms));
        Resolution::for_span(span_ms, self.points_max)
    }
}

/// The readings of one channel, in the order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The channel's name.
    pub channel: String,
    /// Its unit; empty for none.
    pub unit: String,
    /// Unix milliseconds and value.
    pub points: Vec<(i64, f64)>,
    /// Whether only each bucket's minimum and maximum are shown.
    pub downsampled: bool,
    /// The coarsest summaries of which points are shown.
    pub resolution: Resolution,
}

/// Which alarms are asked for, newest first.
#[derive(Clone, Debug, Default)]
pub struct AlarmsQuery {
    /// The states; none stands for all of them.
    pub states: Vec<AlarmState>,
    /// The device, if only one's.
    pub device: Option<String>,
    /// Only alarms with lower numbers.
    pub before_id: Option<i64>,
    /// The most alarms.
    pub limit: usize,
}

/// What the store holds in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Registered devices.
    pub devices: u64,
    /// Messages ever stored.
    pub messages: u64,
    /// Readings ever stored.
    pub readings: u64,
    /// Messages that came in again.
    pub duplicates: u64,
    /// Open alarms.
    pub alarms_open: u64,
    /// Acknowledged alarms.
    pub alarms_acknowledged: u64,
    /// Bytes on disk.
    pub storage_bytes: u64,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data folder cannot be used.
    #[error(
        "cannot use the data folder {path}: {source}; make it writable, or choose another with --data"
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another server uses the data folder.
    #[error(
        "the data folder {path} is in use by another server; stop that one, or choose another folder with --data"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A later version wrote the database.
    #[error(
        "the database {path} has schema {found}, but this version knows schemas up to {known}; install a newer stonechat, or choose another folder with --data"
    )]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema that is known here.
        known: i64,
    },
    /// Another process holds the database.
    #[error("the database {path} is locked by another process; close what has it open")]
    Locked {
        /// The database file.
        path: PathBuf,
    },
    /// The database failed.
    #[error("the database {path} failed: {source}")]
    Database {
        /// The database file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A stored chunk cannot be read.
    #[error("the database {path} is damaged: {detail}; restore it from a backup")]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The file with the address of a database is of no use.
    #[error("cannot take the address of a database from {path}: {reason}")]
    DatabaseFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A database elsewhere cannot be used now.
    #[error(
        "the database {database} cannot be used: {reason}; bring it back, or look at `database` in the settings"
    )]
    Unavailable {
        /// The database, without password.
        database: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// A database elsewhere did not do what it was asked.
    #[error("the database {database} failed: {reason}")]
    Remote {
        /// The database, without password.
        database: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// A later version wrote a database elsewhere.
    #[error(
        "the database {database} has schema {found}, but this version knows schemas up to {known}; install a newer stonechat, or name another database"
    )]
    NewerDatabase {
        /// The database, without password.
        database: Arc<str>,
        /// Its schema.
        found: i64,
        /// The newest schema that is known here.
        known: i64,
    },
    /// Something in a database elsewhere cannot be read.
    #[error("the database {database} is damaged: {detail}; restore it from a backup")]
    DamagedDatabase {
        /// The database, without password.
        database: Arc<str>,
        /// What is wrong.
        detail: String,
    },
    /// The spool cannot take messages while the database is away.
    #[error("not stored, as the database is away and {source}")]
    Spool {
        /// Its folder.
        folder: PathBuf,
        /// Why.
        source: SpoolError,
    },
    /// The transaction that held this message failed; nothing of it is stored.
    #[error("not stored, as the transaction failed: {reason}")]
    NotCommitted {
        /// Why.
        reason: Arc<str>,
    },
    /// The operating system gave no random numbers.
    #[error("no random numbers for a token: {0}")]
    Random(getrandom::Error),
    /// A device with this identity is registered already.
    #[error("the device {0} exists already; to replace its token, rotate it")]
    DeviceExists(DeviceId),
    /// A record is not as expected: somebody else changed it meanwhile.
    #[error("the {class} record `{key}` was changed meanwhile; look at it again")]
    Conflict {
        /// Its class.
        class: RecordClass,
        /// Its key.
        key: String,
    },
    /// A record can not be stored.
    #[error("the {class} record `{key}` can not be stored: {detail}")]
    BadRecord {
        /// Its class.
        class: RecordClass,
        /// Its key.
        key: String,
        /// What is wrong with it.
        detail: String,
    },
    /// No such device is registered.
    #[error("there is no device {0}; add it first")]
    UnknownDevice(String),
    /// There is no such alarm.
    #[error("there is no alarm {0}")]
    UnknownAlarm(i64),
    /// The alarm is past this.
    #[error(transparent)]
    AlreadyOver(#[from] AlreadyOver),
    /// The store is shut down.
    #[error("the store is closed")]
    Closed,
}

/// What every store can do.
#[async_trait]
pub trait Store: Records {
    /// Stores messages exactly once each, in their order, with the alarms that follow from them;
    /// they are on disk when this returns. There is an answer for each message.
    async fn append_all(&self, messages: Vec<Message>) -> Vec<Result<Appended, StoreError>>;

    /// Stores one message, as [`Store::append_all`] does.
    async fn append(&self, message: Message) -> Result<Appended, StoreError> {
        self.append_all(vec![message]).await.pop().unwrap_or(Err(StoreError::Closed))
    }

    /// Lists all devices, in the order of their identities.
    async fn devices(&self) -> Result<Vec<DeviceRecord>, StoreError>;
    /// Finds a device.
    async fn device(&self, id: &str) -> Result<Option<DeviceRecord>, StoreError>;
    /// Lists a device's channels, in the order of their names.
    async fn channels(&self, id: &str) -> Result<Vec<ChannelRecord>, StoreError>;
    /// Finds readings.
    async fn readings(&self, query: ReadingsQuery) -> Result<Vec<Series>, StoreError>;

    /// Finds alarms, newest first.
    async fn alarms(&self, query: AlarmsQuery) -> Result<Vec<Alarm>, StoreError>;
    /// Finds an alarm.
    async fn alarm(&self, id: i64) -> Result<Option<Alarm>, StoreError>;
    /// Acknowledges or clears an alarm.
    async fn act(
        &self,
        id: i64,
        action: Action,
        note: Option<String>,
        now_ms: i64,
    ) -> Result<Alarm, StoreError>;

    /// Counts what is there.
    async fn totals(&self) -> Result<Totals, StoreError>;
    /// Tells what waits on disk for the database, if the store has a spool.
    fn spool(&self) -> Option<SpoolStatus> {
        None
    }
    /// Tells the changes of alarms by messages that were acknowledged before the database had
    /// them, if that can be.
    fn late_changes(&self) -> Option<tokio::sync::broadcast::Receiver<Change>> {
        None
    }
    /// Writes what is left and closes; later calls fail.
    async fn close(&self);
}

/// Opens the store that the settings name: the one in the data folder, or a database elsewhere.
///
/// # Errors
/// When it cannot be used.
pub fn open(settings: &Settings) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match settings.database_url()? {
        None => Arc::new(SqliteStore::open(&settings.data, settings.retention())?),
        Some(url) => {
            let retention = settings.retention();
            let options = MysqlOptions { retention, ..MysqlOptions::new(url, &settings.data) };
            Arc::new(MysqlStore::open(&options)?)
        }
    })
}

/// Returns the records of the settings' store for use beside a running server; nothing is opened
/// before the first call.
#[must_use]
pub fn records_beside(settings: &Settings) -> Arc<dyn Records> {
    match settings.database_url() {
        Ok(None) => Arc::new(sqlite::RecordsBeside::in_folder(&settings.data)),
        Ok(Some(url)) => Arc::new(MysqlRecords::at(&url)),
        Err(error) => Arc::new(MysqlRecords::unusable(error.to_string())),
    }
}
