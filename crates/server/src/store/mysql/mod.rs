//! The store in a MySQL or MariaDB database.
//!
//! One thread of each gateway writes: it takes all messages that wait, puts them into the database
//! in one transaction with their alarms, and acknowledges them after the commit. While the database
//! is away it puts them into the [spool](super::spool) and acknowledges them from there; when the
//! database is back, the spool goes first, so that the order of each device's messages stays.
//!
//! Any number of gateways may share a database: the row of a device in `device_state` is locked by
//! who writes for the device, and tells whether what a gateway remembers of it is still so. Readings
//! are rows of their own, for whoever wants to query them; programs that know the tables of older
//! collectors find them as views (`schema.rs`).

mod alarms;
mod batch;
mod fleet;
mod ledger;
mod load;
mod numbers;
mod reader;
mod records;
mod retention;
mod schema;
mod state;
mod statement;
#[cfg(test)]
pub(in crate::store) mod tests;
mod url;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{Connection, MySql, MySqlPool};
use tokio::sync::{OnceCell, broadcast, mpsc, oneshot};

use self::batch::DRAWN_KEY;
use self::fleet::Fleets;
use self::writer::{Command, Writer};
use super::spool::{Gauge, Spool, SpoolStatus};
use super::{
    AlarmsQuery, Appended, ChannelRecord, DeviceRecord, Message, MessageKey, ReadingsQuery, Record,
    RecordChange, RecordClass, Records, Retention, Series, Store, StoreError, Totals,
};
use crate::alarm::{Action, Alarm, Change};
use crate::limits::{
    LIVE_QUEUE_LEN, MYSQL_CONNECT_TIMEOUT, MYSQL_IDLE_TRUSTED, MYSQL_READERS_MAX,
    MYSQL_TRANSACTION_TIMEOUT, SPOOL_BYTES_MAX, WRITER_QUEUE_LEN,
};

pub use self::url::{BadDatabaseUrl, DatabaseUrl};

/// Where the spool is, in the data folder.
const SPOOL_FOLDER: &str = "spool";

/// Where and how the store keeps its data.
#[derive(Clone, Debug)]
pub struct MysqlOptions {
    /// The database.
    pub url: DatabaseUrl,
    /// The data folder, for the spool.
    pub folder: PathBuf,
    /// What is older is deleted.
    pub retention: Retention,
    /// The most bytes that wait on disk while the database is away.
    pub spool_bytes_max: u64,
}

impl MysqlOptions {
    /// Takes a database and a data folder; everything is kept for ever.
    #[must_use]
    pub fn new(url: DatabaseUrl, folder: &Path) -> Self {
        Self {
            url,
            folder: folder.to_owned(),
            retention: Retention::default(),
            spool_bytes_max: SPOOL_BYTES_MAX,
        }
    }
}

/// The store in a MySQL or MariaDB database.
pub struct MysqlStore {
    records: MysqlRecords,
    commands: mpsc::Sender<Command>,
    fleets: Arc<Fleets>,
    gauge: Arc<Gauge>,
    changes: broadcast::Sender<Change>,
    /// What was counted last, for when the database is away.
    totals: Mutex<Option<Totals>>,
}

/// The records of a database, also beside a running server; it connects with the first call.
pub struct MysqlRecords {
    /// The database, or why there is none.
    place: Result<Place, Arc<str>>,
    pool: OnceCell<MySqlPool>,
    /// Whether the first call brings the schema up to date.
    migrates: bool,
}

/// A database, and the name by which it is shown.
#[derive(Clone)]
struct Place {
    options: MySqlConnectOptions,
    shown: Arc<str>,
}

/// Why something in the database failed.
#[derive(Debug)]
enum Failure {
    Sql(sqlx::Error),
    NewerSchema {
        found: i64,
        known: i64,
    },
    /// Another gateway takes too long to bring the schema up to date.
    Busy,
    Damaged(String),
    TimedOut(Duration),
    /// What was asked cannot be; nothing is wrong with the database.
    Refused(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl Failure {
    fn number(&self) -> Option<u16> {
        let Self::Sql(sqlx::Error::Database(error)) = self else {
            return None;
        };
        error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>().map(|error| error.number())
    }

    /// Whether another transaction was in the way: a deadlock, or a lock that was not to be had.
    fn is_conflict(&self) -> bool {
        matches!(self.number(), Some(1205 | 1213))
    }

    /// Whether the database cannot be used now, whatever is asked of it.
    fn is_away(&self) -> bool {
        match self {
            Self::TimedOut(_) | Self::Busy => true,
            Self::Sql(sqlx::Error::Database(_)) => matches!(
                self.number(),
                Some(
                    // No room on its disk, too many connections, access not granted (yet).
                    1021 | 1114 | 1040 | 1203 | 1044 | 1045 | 1049
                    // Not ready in its cluster, shutting down, killed, read-only.
                    | 1047 | 1053 | 1077 | 1079 | 1317 | 1290 | 1836 | 1927 | 4031
                )
            ),
            Self::Sql(error) => matches!(
                error,
                sqlx::Error::Io(_)
                    | sqlx::Error::Tls(_)
                    | sqlx::Error::Protocol(_)
                    | sqlx::Error::PoolTimedOut
                    | sqlx::Error::WorkerCrashed
                    | sqlx::Error::BeginFailed
            ),
            Self::NewerSchema { .. } | Self::Damaged(_) | Self::Refused(_) => false,
        }
    }
}

impl Place {
    fn of(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let shown: Arc<str> = Arc::from(url.to_string());
        let options = url.options().map_err(|error| StoreError::Unavailable {
            database: shown.clone(),
            reason: Arc::from(error.to_string()),
        })?;
        Ok(Self { options, shown })
    }

    /// Connects, for transactions that see what others have committed.
    async fn connect(&self) -> Result<MySqlConnection, Failure> {
        let connect = async {
            let mut connection = MySqlConnection::connect_with(&self.options).await?;
            prepare(&mut connection).await?;
            Ok(connection)
        };
        let connected = tokio::time::timeout(MYSQL_CONNECT_TIMEOUT, connect).await;
        connected.unwrap_or(Err(Failure::TimedOut(MYSQL_CONNECT_TIMEOUT)))
    }

    fn error(&self, failure: Failure) -> StoreError {
        let database = self.shown.clone();
        let away = failure.is_away();
        let reason = |text: String| Arc::from(text);
        match failure {
            Failure::Refused(error) => error,
            Failure::NewerSchema { found, known } => {
                StoreError::NewerDatabase { database, found, known }
            }
            Failure::Damaged(detail) => StoreError::DamagedDatabase { database, detail },
            Failure::Sql(sqlx::Error::PoolClosed) => StoreError::Closed,
            Failure::Sql(error) if away => {
                StoreError::Unavailable { database, reason: reason(error.to_string()) }
            }
            Failure::Sql(error) => {
                StoreError::Remote { database, reason: reason(error.to_string()) }
            }
            Failure::Busy => StoreError::Unavailable {
                database,
                reason: Arc::from("another gateway brings its schema up to date"),
            },
            Failure::TimedOut(after) => StoreError::Unavailable {
                database,
                reason: reason(format!("no answer within {} s", after.as_secs())),
            },
        }
    }
}

/// Sets what every connection needs.
async fn prepare(connection: &mut MySqlConnection) -> sqlx::Result<()> {
    for statement in [
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET SESSION innodb_lock_wait_timeout = 10",
    ] {
        sqlx::raw_sql(statement).execute(&mut *connection).await?;
    }
    Ok(())
}

impl MysqlRecords {
    /// Takes a database, which is connected to with the first call; the schema is brought up to
    /// date then.
    #[must_use]
    pub fn at(url: &DatabaseUrl) -> Self {
        match Place::of(url) {
            Ok(place) => Self { place: Ok(place), pool: OnceCell::new(), migrates: true },
            Err(error) => Self::unusable(error.to_string()),
        }
    }

    /// Takes no database: every call fails, and says why.
    #[must_use]
    pub(super) fn unusable(reason: String) -> Self {
        Self { place: Err(Arc::from(reason)), pool: OnceCell::new(), migrates: false }
    }

    async fn acquire(&self) -> Result<PoolConnection<MySql>, Failure> {
        let refused = |reason: &Arc<str>| {
            Failure::Refused(StoreError::NotCommitted { reason: reason.clone() })
        };
        let place = self.place.as_ref().map_err(refused)?;
        let pool = self.pool.get_or_try_init(|| async {
            let pool = MySqlPoolOptions::new()
                .max_connections(MYSQL_READERS_MAX)
                .acquire_timeout(MYSQL_CONNECT_TIMEOUT)
                .after_connect(|connection, _| Box::pin(async { prepare(connection).await }))
                // One that was used a moment ago need not be asked whether it lives.
                .test_before_acquire(false)
                .before_acquire(|connection, used| {
                    Box::pin(async move {
                        if used.idle_for > MYSQL_IDLE_TRUSTED {
                            connection.ping().await?;
                        }
                        Ok(true)
                    })
                })
                .connect_lazy_with(place.options.clone());
            if self.migrates {
                schema::migrate(&mut *pool.acquire().await?).await?;
            }
            Ok::<_, Failure>(pool)
        });
        Ok(pool.await?.acquire().await?)
    }

    /// Waits for a query, but not for ever.
    async fn finish<T>(
        &self,
        query: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, StoreError> {
        tokio::time::timeout(MYSQL_TRANSACTION_TIMEOUT, query)
            .await
            .unwrap_or(Err(Failure::TimedOut(MYSQL_TRANSACTION_TIMEOUT)))
            .map_err(|failure| match (failure, &self.place) {
                (Failure::Refused(error), _) => error,
                (failure, Ok(place)) => place.error(failure),
                (_, Err(reason)) => StoreError::NotCommitted { reason: reason.clone() },
            })
    }

    async fn close(&self) {
        if let Some(pool) = self.pool.get() {
            pool.close().await;
        }
    }
}

impl MysqlStore {
    /// Opens the store: connects, brings the schema up to date, and looks what waits in the spool.
    /// It blocks until the database answers or a time limit is over.
    ///
    /// # Errors
    /// When the database cannot be reached, a later version wrote it, or the spool is in use.
    pub fn open(options: &MysqlOptions) -> Result<Self, StoreError> {
        let place = Place::of(&options.url)?;
        let folder = options.folder.join(SPOOL_FOLDER);
        let spool = Spool::open(&folder, options.spool_bytes_max)
            .map_err(|source| StoreError::Spool { folder, source })?;
        let gauge = spool.gauge().clone();
        let records =
            MysqlRecords { place: Ok(place.clone()), pool: OnceCell::new(), migrates: false };
        let fleets = Arc::new(Fleets::default());
        let changes = broadcast::Sender::new(LIVE_QUEUE_LEN);
        let (commands, queue) = mpsc::channel(WRITER_QUEUE_LEN);
        Writer::start(place, spool, fleets.clone(), changes.clone(), options.retention, queue)?;
        Ok(Self { records, commands, fleets, gauge, changes, totals: Mutex::default() })
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)
    }

    /// Looks what other gateways wrote, and goes on with what is known when the database is away.
    async fn refresh(&self) -> Result<(), StoreError> {
        let refresh = async { self.fleets.refresh(&self.records).await };
        match self.records.finish(refresh).await {
            Err(StoreError::Unavailable { .. }) if self.fleets.is_known() => Ok(()),
            refreshed => refreshed,
        }
    }
}

#[async_trait]
impl Records for MysqlStore {
    async fn record(&self, class: RecordClass, key: &str) -> Result<Option<Record>, StoreError> {
        self.records.record(class, key).await
    }

    async fn records(
        &self,
        class: RecordClass,
        after_key: &str,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        self.records.records(class, after_key, limit).await
    }

    async fn records_since(&self, revision: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.records.records_since(revision, limit).await
    }

    async fn change_records(&self, changes: Vec<RecordChange>) -> Result<u64, StoreError> {
        let devices = changes.iter().any(|change| change.class == RecordClass::Device);
        let changed = self.records.change_records(changes).await;
        if devices {
            self.fleets.expire();
        }
        changed
    }
}

#[async_trait]
impl Store for MysqlStore {
    async fn append_all(&self, mut messages: Vec<Message>) -> Vec<Result<Appended, StoreError>> {
        let count = messages.len();
        for message in &mut messages {
            // Each receipt of a message without a key counts, but a transaction that is tried again
            // must not store it twice: it gets a key of its own here.
            if message.key == MessageKey::Unkeyed {
                let mut key = [0; 16];
                key[..DRAWN_KEY.len()].copy_from_slice(&DRAWN_KEY);
                if let Err(error) = getrandom::fill(&mut key[DRAWN_KEY.len()..]) {
                    return (0..count).map(|_| Err(StoreError::Random(error))).collect();
                }
                message.key = MessageKey::Digest(key);
            }
        }
        if count == 0 {
            return Vec::new();
        }
        match self.ask(|reply| Command::Append(messages, reply)).await {
            Ok(results) => results,
            Err(_) => (0..count).map(|_| Err(StoreError::Closed)).collect(),
        }
    }

    async fn devices(&self) -> Result<Vec<DeviceRecord>, StoreError> {
        self.refresh().await?;
        Ok(self.fleets.records())
    }

    async fn device(&self, id: &str) -> Result<Option<DeviceRecord>, StoreError> {
        self.refresh().await?;
        Ok(self.fleets.record(id))
    }

    async fn channels(&self, id: &str) -> Result<Vec<ChannelRecord>, StoreError> {
        self.refresh().await?;
        self.fleets.channel_records(id).ok_or_else(|| StoreError::UnknownDevice(id.to_owned()))
    }

    async fn readings(&self, query: ReadingsQuery) -> Result<Vec<Series>, StoreError> {
        self.refresh().await?;
        let channels = self.fleets.channels(&query);
        let read =
            async { reader::readings(&mut *self.records.acquire().await?, channels, &query).await };
        self.records.finish(read).await
    }

    async fn alarms(&self, query: AlarmsQuery) -> Result<Vec<Alarm>, StoreError> {
        let list = async { Ok(alarms::list(&mut *self.records.acquire().await?, &query).await?) };
        self.records.finish(list).await
    }

    async fn alarm(&self, id: i64) -> Result<Option<Alarm>, StoreError> {
        let find = async {
            let found = alarms::find(&mut *self.records.acquire().await?, id).await?;
            Ok(found.map(|(_, alarm)| alarm))
        };
        self.records.finish(find).await
    }

    async fn act(
        &self,
        id: i64,
        action: Action,
        note: Option<String>,
        now_ms: i64,
    ) -> Result<Alarm, StoreError> {
        let acted = self.ask(|reply| Command::Act { id, action, note, now_ms, reply }).await?;
        self.fleets.expire();
        acted
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        let count = async { reader::totals(&mut *self.records.acquire().await?).await };
        let counted = self.records.finish(count).await;
        let mut last = self.totals.lock();
        match (&counted, *last) {
            (Err(StoreError::Unavailable { .. }), Some(last)) => return Ok(last),
            (Ok(totals), _) => *last = Some(*totals),
            (Err(_), _) => {}
        }
        counted
    }

    fn spool(&self) -> Option<SpoolStatus> {
        Some(self.gauge.status())
    }

    fn late_changes(&self) -> Option<broadcast::Receiver<Change>> {
        Some(self.changes.subscribe())
    }

    async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
        self.records.close().await;
    }
}
