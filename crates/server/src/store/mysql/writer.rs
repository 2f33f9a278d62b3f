//! The one thread that writes. It takes what waits, does it in one transaction, and tells each
//! sender only after the commit; while the database is away, after the spool has it on disk.
//!
//! | the spool | the database | messages go |
//! |---|---|---|
//! | empty | answers | to the database; if that fails, the same ones to the spool |
//! | not empty | away | to the spool |
//! | not empty | back | to the spool, while its oldest ones go to the database |

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use sqlx::mysql::MySqlConnection;
use sqlx::{Connection, Row};
use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::{error, info, warn};

use super::batch::{self, Outcome};
use super::fleet::Fleets;
use super::ledger::Ledger;
use super::retention::Sweep;
use super::statement::Statements;
use super::{Failure, Place, alarms, schema};
use crate::alarm::{self, Action, Alarm, Change};
use crate::clock::now_ms;
use crate::limits::{
    MYSQL_BATCH_MESSAGES_MAX, MYSQL_BATCH_READINGS_MAX, MYSQL_CONFLICT_TRIES, MYSQL_PROBE_INTERVAL,
    MYSQL_TRANSACTION_TIMEOUT, SPOOL_DRAIN_MESSAGES, WRITER_TICK,
};
use crate::store::spool::Spool;
use crate::store::{Appended, Message, Retention, StoreError};

type Results = Vec<Result<Appended, StoreError>>;

/// What the writer can be asked.
pub(super) enum Command {
    Append(Vec<Message>, oneshot::Sender<Results>),
    Act {
        id: i64,
        action: Action,
        note: Option<String>,
        now_ms: i64,
        reply: oneshot::Sender<Result<Alarm, StoreError>>,
    },
    Close(oneshot::Sender<()>),
}

/// Messages of one sender, in a batch.
struct Part {
    messages: usize,
    reply: oneshot::Sender<Results>,
}

/// What is done in one go.
#[derive(Default)]
struct Work {
    messages: Vec<Message>,
    parts: Vec<Part>,
    readings: usize,
    /// What comes after the messages.
    then: Option<Command>,
}

pub(super) struct Writer {
    place: Place,
    spool: Spool,
    fleets: Arc<Fleets>,
    changes: broadcast::Sender<Change>,
    retention: Retention,
    connection: Option<MySqlConnection>,
    ledger: Ledger,
    statements: Statements,
    /// Whether the database has failed and was not seen to answer since.
    away: bool,
    /// Set by the task that looks whether the database is back.
    back: Arc<AtomicBool>,
    sweep: Sweep,
    /// Whether more is to be deleted at once.
    sweeping: bool,
}

/// Connects, and brings the schema up to date.
async fn connect(place: &Place) -> Result<MySqlConnection, Failure> {
    let mut connection = place.connect().await?;
    schema::migrate(&mut connection).await?;
    Ok(connection)
}

impl Writer {
    /// Connects, and starts the thread, which ends with [`Command::Close`] or when no sender is
    /// left. It has a runtime of its own, so that waiting for the disk holds nobody else up.
    pub(super) fn start(
        place: Place,
        spool: Spool,
        fleets: Arc<Fleets>,
        changes: broadcast::Sender<Change>,
        retention: Retention,
        commands: mpsc::Receiver<Command>,
    ) -> Result<(), StoreError> {
        let unusable = |database: &Place, error: std::io::Error| StoreError::Unavailable {
            database: database.shown.clone(),
            reason: Arc::from(format!("no thread for it: {error}")),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| unusable(&place, error))?;
        let (opened, answer) = std::sync::mpsc::channel();
        let shown = place.clone();
        let work = move || {
            runtime.block_on(async {
                let connection = match connect(&place).await {
                    Ok(connection) => connection,
                    Err(failure) => {
                        // The spool is free for the next one when the answer is there.
                        drop(spool);
                        return drop(opened.send(Err(place.error(failure))));
                    }
                };
                let mut writer = Self {
                    place,
                    spool,
                    fleets,
                    changes,
                    retention,
                    connection: Some(connection),
                    ledger: Ledger::default(),
                    statements: Statements::default(),
                    away: false,
                    back: Arc::default(),
                    sweep: Sweep::default(),
                    sweeping: false,
                };
                // Whoever opens the store still waits for the answer.
                let _ = opened.send(Ok(()));
                let done = writer.run(commands).await;
                // The spool is free again here, too.
                drop(writer);
                if let Some(done) = done {
                    let _ = done.send(());
                }
            });
        };
        thread::Builder::new()
            .name("store-writer".into())
            .spawn(work)
            .map_err(|error| unusable(&shown, error))?;
        answer.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// Works until it is told to close; returns who told.
    async fn run(&mut self, mut commands: mpsc::Receiver<Command>) -> Option<oneshot::Sender<()>> {
        loop {
            let work = self.take(&mut commands).await?;
            let (messages, parts) = (work.messages, work.parts);
            if !messages.is_empty() {
                self.append(messages, parts).await;
            }
            match work.then {
                Some(Command::Close(done)) => {
                    commands.close();
                    if let Some(connection) = self.connection.take() {
                        let _ = connection.close().await;
                    }
                    return Some(done);
                }
                Some(Command::Act { id, action, note, now_ms, reply }) => {
                    let acted = self.act(id, action, note.as_deref(), now_ms).await;
                    let _ = reply.send(acted);
                }
                Some(Command::Append(..)) | None => {}
            }
            self.drain().await;
            self.retain().await;
        }
    }

    /// Takes what waits; without anything to do it waits itself, for a tick at most. `None` when
    /// all senders are gone.
    async fn take(&self, commands: &mut mpsc::Receiver<Command>) -> Option<Work> {
        let mut work = Work::default();
        let draining = !self.spool.is_empty() && !self.away;
        let patience = match (draining || self.sweeping, self.away) {
            (true, _) => Duration::ZERO,
            (false, true) => MYSQL_PROBE_INTERVAL,
            (false, false) => WRITER_TICK,
        };
        let mut next = match tokio::time::timeout(patience, commands.recv()).await {
            Ok(None) => return None,
            Ok(first) => first,
            Err(_) => None,
        };
        while let Some(command) = next {
            match command {
                Command::Append(messages, reply) => {
                    work.parts.push(Part { messages: messages.len(), reply });
                    work.readings += messages.iter().map(|m| m.readings.len()).sum::<usize>();
                    work.messages.extend(messages);
                }
                other => {
                    work.then = Some(other);
                    break;
                }
            }
            let full = work.messages.len() >= MYSQL_BATCH_MESSAGES_MAX
                || work.readings >= MYSQL_BATCH_READINGS_MAX;
            next = if full { None } else { commands.try_recv().ok() };
        }
        Some(work)
    }

    /// Stores messages in the database, or else in the spool, and answers.
    async fn append(&mut self, messages: Vec<Message>, parts: Vec<Part>) {
        if self.spool.is_empty() && !self.away {
            match self.transact(&messages, false).await {
                Ok(outcome) => {
                    self.fleets.apply(outcome.applied);
                    return answer(parts, outcome.results);
                }
                Err(failure) if failure.is_away() || failure.is_conflict() => self.leave(failure),
                Err(failure) if parts.len() > 1 => {
                    warn!(error = %self.place.error(failure), "a transaction failed; each sender's messages are tried alone");
                    return self.append_alone(messages, parts).await;
                }
                Err(failure) => return self.refuse(parts, failure),
            }
        }
        self.put_in_spool(&messages, parts);
    }

    /// Stores each sender's messages in a transaction of their own, so that those which the
    /// database does not take keep nobody else's out.
    async fn append_alone(&mut self, mut messages: Vec<Message>, parts: Vec<Part>) {
        for part in parts {
            let own: Vec<Message> = messages.drain(..part.messages).collect();
            Box::pin(self.append(own, vec![part])).await;
        }
    }

    fn refuse(&self, parts: Vec<Part>, failure: Failure) {
        let reason: Arc<str> = Arc::from(self.place.error(failure).to_string());
        error!(%reason, "a transaction failed; its messages are not acknowledged");
        for part in parts {
            let error = || StoreError::NotCommitted { reason: reason.clone() };
            let _ = part.reply.send((0..part.messages).map(|_| Err(error())).collect());
        }
    }

    /// What is in the spool counts as stored; whether it opens alarms is seen when it reaches the
    /// database.
    fn put_in_spool(&mut self, messages: &[Message], parts: Vec<Part>) {
        match self.spool.push_all(messages) {
            Ok(()) => {
                let stored = || Appended::New { alarms: Vec::new(), rejected_readings: 0 };
                let results = messages.iter().map(|_| Ok(stored())).collect();
                answer(parts, results);
            }
            Err(error) => {
                let reason: Arc<str> = Arc::from(format!("the database is away, and {error}"));
                error!(%reason, "messages are not acknowledged");
                for part in parts {
                    let error = || StoreError::NotCommitted { reason: reason.clone() };
                    let _ = part.reply.send((0..part.messages).map(|_| Err(error())).collect());
                }
            }
        }
    }

    /// Runs a transaction, again if another gateway's was in the way.
    async fn transact(
        &mut self,
        messages: &[Message],
        acknowledged: bool,
    ) -> Result<Outcome, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            let done = self.transact_once(messages, acknowledged).await;
            if let Err(failure) = done {
                // Whatever was changed in memory did not happen, and an answer of the connection
                // may still be under way.
                self.connection = None;
                for message in messages {
                    self.ledger.entries.remove(message.device.as_str());
                }
                if failure.is_conflict() && tries < MYSQL_CONFLICT_TRIES {
                    continue;
                }
                return Err(failure);
            }
            return done;
        }
    }

    async fn transact_once(
        &mut self,
        messages: &[Message],
        acknowledged: bool,
    ) -> Result<Outcome, Failure> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.place.connect().await?),
        };
        let run =
            batch::run(connection, &mut self.statements, &mut self.ledger, messages, acknowledged);
        tokio::time::timeout(MYSQL_TRANSACTION_TIMEOUT, run)
            .await
            .unwrap_or(Err(Failure::TimedOut(MYSQL_TRANSACTION_TIMEOUT)))
    }

    /// Notes that the database is away, and looks in the background when it is back.
    fn leave(&mut self, failure: Failure) {
        if !self.away {
            let error = self.place.error(failure);
            warn!(%error, "the database is away; messages go to the spool");
        }
        self.away = true;
        self.connection = None;
        self.back.store(false, Ordering::Relaxed);
        let (place, back) = (self.place.clone(), Arc::downgrade(&self.back));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(MYSQL_PROBE_INTERVAL).await;
                let Some(back) = back.upgrade() else {
                    return;
                };
                if let Ok(connection) = place.connect().await {
                    let _ = connection.close().await;
                    back.store(true, Ordering::Relaxed);
                    return;
                }
            }
        });
    }

    /// Brings some of the spool into the database.
    async fn drain(&mut self) {
        if self.away && self.back.swap(false, Ordering::Relaxed) {
            info!("the database is back");
            self.away = false;
        }
        if self.away || self.spool.is_empty() {
            return;
        }
        let (messages, position) = match self.spool.peek(SPOOL_DRAIN_MESSAGES) {
            Ok(found) => found,
            Err(error) => {
                error!(%error, "the spool cannot be read");
                tokio::time::sleep(WRITER_TICK).await;
                return;
            }
        };
        match self.transact(&messages, true).await {
            Ok(outcome) => self.drained(&messages, outcome),
            Err(failure) if failure.is_away() || failure.is_conflict() => {
                return self.leave(failure);
            }
            Err(failure) => {
                warn!(error = %self.place.error(failure), "a transaction failed; the spool's messages are tried one by one");
                if !self.drain_alone(&messages).await {
                    return;
                }
            }
        }
        if let Err(error) = self.spool.consume(position) {
            error!(%error, "the spool cannot be written; its messages go to the database again");
        } else if self.spool.is_empty() {
            info!("the spool is empty again");
        }
    }

    /// Brings messages into the database one by one; tells whether it was there to the end.
    async fn drain_alone(&mut self, messages: &[Message]) -> bool {
        for message in messages {
            let alone = std::slice::from_ref(message);
            match self.transact(alone, true).await {
                Ok(outcome) => self.drained(alone, outcome),
                Err(failure) if failure.is_away() || failure.is_conflict() => {
                    self.leave(failure);
                    return false;
                }
                Err(failure) => {
                    let error = self.place.error(failure);
                    error!(device = %message.device, %error, "the database does not take a message; it is set aside");
                    if let Err(error) = self.spool.set_aside(message) {
                        error!(%error, "the message cannot be set aside");
                        return false;
                    }
                }
            }
        }
        true
    }

    fn drained(&self, messages: &[Message], outcome: Outcome) {
        self.fleets.apply(outcome.applied);
        for (message, result) in messages.iter().zip(outcome.results) {
            match result {
                Ok(Appended::New { alarms, .. }) => {
                    for change in alarms {
                        // Nobody may listen.
                        let _ = self.changes.send(change);
                    }
                }
                Ok(Appended::Duplicate) => {}
                Err(error) => {
                    warn!(device = %message.device, %error, "a message of the spool was dropped");
                }
            }
        }
    }

    async fn act(
        &mut self,
        id: i64,
        action: Action,
        note: Option<&str>,
        now_ms: i64,
    ) -> Result<Alarm, StoreError> {
        let acted = async {
            let connection = match &mut self.connection {
                Some(connection) => connection,
                none => none.insert(self.place.connect().await?),
            };
            let act = act(connection, id, action, note, now_ms);
            tokio::time::timeout(MYSQL_TRANSACTION_TIMEOUT, act)
                .await
                .unwrap_or(Err(Failure::TimedOut(MYSQL_TRANSACTION_TIMEOUT)))
        };
        let acted = acted.await;
        if !matches!(acted, Ok(_) | Err(Failure::Refused(_))) {
            self.connection = None;
        }
        acted.map_err(|failure| self.place.error(failure))
    }

    /// Deletes some of what is older than is kept.
    async fn retain(&mut self) {
        if self.away || !self.spool.is_empty() {
            return;
        }
        let Some(connection) = &mut self.connection else {
            return;
        };
        let step = self.sweep.step(connection, &mut self.statements, &self.retention, now_ms());
        let stepped = tokio::time::timeout(MYSQL_TRANSACTION_TIMEOUT, step)
            .await
            .unwrap_or(Err(Failure::TimedOut(MYSQL_TRANSACTION_TIMEOUT)));
        match stepped {
            Ok(more) => self.sweeping = more,
            Err(failure) => {
                self.connection = None;
                self.sweeping = false;
                let error = self.place.error(failure);
                warn!(%error, "what is older than is kept could not be deleted now");
            }
        }
    }
}

/// Acknowledges or clears an alarm in one transaction; who writes for the device takes turns.
async fn act(
    connection: &mut MySqlConnection,
    id: i64,
    action: Action,
    note: Option<&str>,
    now_ms: i64,
) -> Result<Alarm, Failure> {
    let unknown = || Failure::Refused(StoreError::UnknownAlarm(id));
    let mut transaction = connection.begin().await?;
    let (device, _) = alarms::find(&mut transaction, id).await?.ok_or_else(unknown)?;
    let row = sqlx::query("SELECT revision FROM device_state WHERE device = ? FOR UPDATE")
        .bind(device)
        .fetch_one(&mut *transaction)
        .await?;
    let revision: u64 = row.try_get(0)?;
    let (_, alarm) = alarms::find(&mut transaction, id).await?.ok_or_else(unknown)?;
    let next =
        alarm::act(&alarm, action, note, now_ms).map_err(|over| Failure::Refused(over.into()))?;
    alarms::update(&mut transaction, &next).await?;
    sqlx::query("UPDATE device_state SET revision = ? WHERE device = ?")
        .bind(revision + 1)
        .bind(device)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(next)
}

/// Gives each sender its answers. Whoever asked may be gone; then nobody needs them.
fn answer(parts: Vec<Part>, results: Results) {
    let mut results = results.into_iter();
    for part in parts {
        let _ = part.reply.send(results.by_ref().take(part.messages).collect());
    }
}
