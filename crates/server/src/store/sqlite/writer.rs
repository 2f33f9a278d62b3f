//! The one thread that writes. It takes what waits, does it in one transaction, and tells each
//! sender only after the commit.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{RwLock, RwLockWriteGuard};
use rusqlite::{Connection, params};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tracing::{error, info, warn};

use super::append::{self, Applied};
use super::body::Packer;
use super::checkpoint::Checkpointer;
use super::compaction::Compaction;
use super::fleet::Fleet;
use super::ledger::Ledger;
use super::load::load;
use super::schema::Location;
use super::{alarms, records, registry, summaries};
use crate::alarm::{self, Action, Alarm, AlarmState};
use crate::clock::now_ms;
use crate::limits::{
    BATCH_MESSAGES_MAX, EFFECTS_PER_LOCK, RETENTION_DELETES_PER_STEP, WRITER_FAILURE_PAUSE,
    WRITER_TICK,
};
use crate::store::{
    Appended, Message, RecordChange, RecordClass, Resolution, Retention, StoreError,
};

/// The counter of commits that changed chunks.
pub(super) const EPOCH: &str = "chunk_epoch";

pub(super) type AppendReply = oneshot::Sender<Vec<Result<Appended, StoreError>>>;
type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer can be asked.
pub(super) enum Command {
    Append(Vec<Message>, AppendReply, OwnedSemaphorePermit),
    ChangeRecords(Vec<RecordChange>, Reply<u64>),
    Act { id: i64, action: Action, note: Option<String>, now_ms: i64, reply: Reply<Alarm> },
    Compact(Reply<()>),
    Close(oneshot::Sender<()>),
}

impl Command {
    /// Counts its messages, at least one.
    fn weight(&self) -> usize {
        if let Self::Append(messages, ..) = self { messages.len().max(1) } else { 1 }
    }
}

/// An answer that waits for the commit.
enum Answer {
    Append(AppendReply, Vec<Result<Appended, StoreError>>),
    Done(Reply<()>, Result<(), StoreError>),
    Changed(Reply<u64>, Result<u64, StoreError>),
    Act(Reply<Alarm>, Result<Alarm, StoreError>),
}

/// What the fleet learns after the commit.
enum Effect {
    Applied(Applied),
    Added(Arc<str>),
    AlarmSeen(Arc<str>),
}

pub(super) struct Writer {
    connection: Connection,
    location: Location,
    fleet: Arc<RwLock<Fleet>>,
    ledger: Ledger,
    /// Messages of the transaction under way that are not yet in the database.
    packer: Packer,
    compaction: Compaction,
    checkpointer: Checkpointer,
    retention: Retention,
    /// Set when the last transaction failed and the ledger could not be read anew since.
    stale: bool,
    retention_due: Instant,
    /// When to look next whether another process registered devices.
    refresh_due: Instant,
    /// Another number when another process has changed the database.
    data_version: i64,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        location: Location,
        fleet: Arc<RwLock<Fleet>>,
        ledger: Ledger,
        checkpointer: Checkpointer,
        retention: Retention,
    ) -> Self {
        Self {
            connection,
            location,
            fleet,
            ledger,
            checkpointer,
            packer: Packer::default(),
            compaction: Compaction::default(),
            retention,
            stale: false,
            retention_due: Instant::now(),
            refresh_due: Instant::now(),
            data_version: 0,
        }
    }

    /// Starts the thread, which ends with [`Command::Close`] or when no sender is left.
    pub(super) fn spawn(mut self, mut commands: mpsc::Receiver<Command>) -> std::io::Result<()> {
        let work = move || {
            let mut batch = Vec::new();
            loop {
                let closing = match self.take(&mut commands, &mut batch) {
                    Some(closing) => closing,
                    None => break,
                };
                self.commit(std::mem::take(&mut batch));
                if let Some(done) = closing {
                    commands.close();
                    self.finish();
                    let _ = done.send(());
                    break;
                }
            }
        };
        thread::Builder::new().name("store-writer".into()).spawn(work).map(drop)
    }

    /// Fills a batch with what waits; while a compaction is under way it does not block.
    /// Returns `None` when all senders are gone, and the sender of a close command if there was one.
    fn take(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        batch: &mut Vec<Command>,
    ) -> Option<Option<oneshot::Sender<()>>> {
        let mut messages = 0;
        let busy = self.compaction.under_way();
        let mut next = if busy { None } else { Some(blocking_next(commands)?) };
        loop {
            match next.take() {
                Some(Some(Command::Close(done))) => return Some(Some(done)),
                Some(Some(command)) => {
                    messages += command.weight();
                    batch.push(command);
                }
                Some(None) => return Some(None),
                None => {}
            }
            if messages >= BATCH_MESSAGES_MAX {
                return Some(None);
            }
            match commands.try_recv() {
                Ok(command) => next = Some(Some(command)),
                Err(TryRecvError::Empty) => return Some(None),
                Err(TryRecvError::Disconnected) if batch.is_empty() => return None,
                Err(TryRecvError::Disconnected) => return Some(None),
            }
        }
    }

    /// Does a batch in one transaction, with a step of whatever else is due, and answers.
    fn commit(&mut self, batch: Vec<Command>) {
        if self.stale {
            self.reload();
        }
        let (mut answers, mut effects) = (Vec::with_capacity(batch.len()), Vec::new());
        let outcome = if self.stale {
            for command in batch {
                refuse(command, &mut answers);
            }
            Err("the database could not be read after a failure".to_owned())
        } else {
            self.transaction(batch, &mut answers, &mut effects).map_err(|e| e.to_string())
        };
        match outcome {
            Ok(committed) => {
                for answer in answers {
                    answer.send();
                }
                if committed {
                    self.checkpointer.committed(&self.connection);
                }
            }
            Err(reason) => {
                error!(reason, "a transaction failed; its messages are not acknowledged");
                let reason: Arc<str> = Arc::from(reason);
                for answer in answers {
                    answer.fail(&reason);
                }
                // A full disk fails every transaction: what waits is tried again at leisure.
                thread::sleep(WRITER_FAILURE_PAUSE);
                if self.stale {
                    self.compaction = Compaction::default();
                }
            }
        }
    }

    /// Tells whether there was anything to do.
    fn transaction(
        &mut self,
        batch: Vec<Command>,
        answers: &mut Vec<Answer>,
        effects: &mut Vec<Effect>,
    ) -> rusqlite::Result<bool> {
        let retention_due =
            self.retention != Retention::default() && self.retention_due <= Instant::now();
        let age_due = self.compaction.due(&self.ledger, &self.fleet);
        let forced = batch.iter().any(|command| matches!(command, Command::Compact(_)));
        if (age_due || forced) && !self.compaction.under_way() {
            self.compaction.start(&self.ledger, &self.fleet);
        }
        if batch.is_empty() && !self.compaction.under_way() && !retention_due {
            return self.refresh().map(|()| false);
        }
        let begun = self.refresh().and_then(|()| self.connection.execute_batch("BEGIN IMMEDIATE"));
        if let Err(error) = begun {
            for command in batch {
                refuse(command, answers);
            }
            return Err(error);
        }
        let done = self.work(batch, answers, effects, retention_due);
        if let Err(error) = done {
            // The failure itself is what counts; a failed rollback shows at the next start.
            let _ = self.connection.execute_batch("ROLLBACK");
            self.packer.clear();
            self.stale = true;
            return Err(error);
        }
        if let Err(error) = self.connection.execute_batch("COMMIT") {
            let _ = self.connection.execute_batch("ROLLBACK");
            self.stale = true;
            return Err(error);
        }
        let mut fleet = self.fleet.write();
        if self.compaction.changed_chunks() {
            fleet.epoch += 1;
            self.compaction.committed(&mut fleet);
        }
        for (index, effect) in effects.drain(..).enumerate() {
            if index % EFFECTS_PER_LOCK == EFFECTS_PER_LOCK - 1 {
                RwLockWriteGuard::bump(&mut fleet);
            }
            effect.apply(&mut fleet);
        }
        fleet.messages = self.ledger.messages;
        fleet.readings = self.ledger.readings;
        fleet.duplicates = self.ledger.duplicates;
        Ok(true)
    }

    fn work(
        &mut self,
        batch: Vec<Command>,
        answers: &mut Vec<Answer>,
        effects: &mut Vec<Effect>,
        retention_due: bool,
    ) -> rusqlite::Result<()> {
        let (shown_to, mut failure) = (self.ledger.last_message, None);
        let readings_before = self.ledger.readings;
        for command in batch {
            if failure.is_some() {
                refuse(command, answers);
            } else if let Err(error) = self.one(command, answers, effects) {
                failure = Some(error);
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        append::write_batch(&self.connection, self.ledger.last_message, &mut self.packer)?;
        let arrived = (self.ledger.readings - readings_before) as usize;
        let (connection, ledger) = (&self.connection, &mut self.ledger);
        self.compaction.step(connection, ledger, &self.fleet, shown_to, arrived)?;
        if retention_due {
            self.retain()?;
        }
        if self.compaction.changed_chunks() {
            put_total(&self.connection, EPOCH, self.fleet.read().epoch + 1)?;
        }
        Ok(())
    }

    fn one(
        &mut self,
        command: Command,
        answers: &mut Vec<Answer>,
        effects: &mut Vec<Effect>,
    ) -> rusqlite::Result<()> {
        match command {
            Command::Append(messages, reply, _room) => {
                self.append(&messages, reply, answers, effects)
            }
            Command::ChangeRecords(changes, reply) => {
                let result = records::change(&self.connection, &self.location, &changes, now_ms());
                if result.is_ok() {
                    effects.extend(self.devices_changed(&changes)?);
                }
                settle(result, reply, answers, Answer::Changed, |revision| revision)
            }
            Command::Act { id, action, note, now_ms, reply } => {
                let result = self.act(id, action, note.as_deref(), now_ms);
                settle(result, reply, answers, Answer::Act, |(alarm, was_open)| {
                    if was_open {
                        effects.push(Effect::AlarmSeen(Arc::from(alarm.device.as_str())));
                    }
                    alarm
                })
            }
            Command::Compact(reply) => {
                answers.push(Answer::Done(reply, Ok(())));
                Ok(())
            }
            Command::Close(done) => {
                let _ = done.send(());
                Ok(())
            }
        }
    }

    fn append(
        &mut self,
        messages: &[Message],
        reply: AppendReply,
        answers: &mut Vec<Answer>,
        effects: &mut Vec<Effect>,
    ) -> rusqlite::Result<()> {
        let (mut results, mut failure) = (Vec::with_capacity(messages.len()), None);
        for message in messages {
            match append::append(&self.connection, &mut self.ledger, &mut self.packer, message) {
                Ok((appended, applied)) => {
                    effects.extend(applied.map(Effect::Applied));
                    results.push(Ok(appended));
                }
                Err(error) => {
                    failure = ends_transaction(&error);
                    results.push(Err(error));
                }
            }
            if failure.is_some() {
                results.resize_with(messages.len(), || Err(StoreError::Closed));
                break;
            }
        }
        answers.push(Answer::Append(reply, results));
        failure.map_or(Ok(()), Err)
    }

    /// Takes in the devices whose records changed.
    fn devices_changed(&mut self, changes: &[RecordChange]) -> rusqlite::Result<Vec<Effect>> {
        let mut effects = Vec::new();
        for change in changes.iter().filter(|change| change.class == RecordClass::Device) {
            if change.body.is_none() {
                if let Some(entry) = self.ledger.entries.get_mut(change.key.as_str()) {
                    entry.living = false;
                }
            } else if let Some(row) = registry::row(&self.connection, &change.key)? {
                self.ledger.living(row, &change.key);
                effects.push(Effect::Added(Arc::from(change.key.as_str())));
            }
        }
        Ok(effects)
    }

    /// Takes in the devices that another process registered, at most once a tick.
    fn refresh(&mut self) -> rusqlite::Result<()> {
        if Instant::now() < self.refresh_due {
            return Ok(());
        }
        self.refresh_due = Instant::now() + WRITER_TICK;
        let version = self.connection.query_row("PRAGMA data_version", [], |row| row.get(0))?;
        if std::mem::replace(&mut self.data_version, version) == version {
            return Ok(());
        }
        let newest = records::newest_revision(&self.connection)?;
        if newest <= self.ledger.revision {
            return Ok(());
        }
        let changed = registry::changed_since(&self.connection, self.ledger.revision)?;
        self.ledger.revision = newest;
        let mut fleet = self.fleet.write();
        for registry::Changed { row, name, living } in changed {
            self.ledger.living(row, &name);
            if !living && let Some(entry) = self.ledger.entries.get_mut(name.as_str()) {
                entry.living = false;
            }
            fleet.devices.entry(Arc::from(name)).or_default();
        }
        Ok(())
    }

    fn act(
        &mut self,
        id: i64,
        action: Action,
        note: Option<&str>,
        now_ms: i64,
    ) -> Result<(Alarm, bool), StoreError> {
        let alarm = alarms::find(&self.connection, id)
            .map_err(|e| self.location.failed(e))?
            .ok_or(StoreError::UnknownAlarm(id))?;
        let next = alarm::act(&alarm, action, note, now_ms)?;
        alarms::update(&self.connection, &next).map_err(|e| self.location.failed(e))?;
        if let Some(entry) = self.ledger.entries.get_mut(next.device.as_str()) {
            let over = next.state == AlarmState::Cleared;
            *entry.alarm_mut(next.kind) = (!over).then(|| next.clone());
        }
        Ok((next, alarm.state == AlarmState::Open))
    }

    /// Deletes some of what is older than is kept, class by class.
    fn retain(&mut self) -> rusqlite::Result<()> {
        let (now_ms, limit) = (now_ms(), RETENTION_DELETES_PER_STEP);
        let before = |kept: Option<Duration>| {
            let kept_ms = i64::try_from(kept?.as_millis()).unwrap_or(i64::MAX / 2);
            Some(now_ms - kept_ms)
        };
        let Retention { readings, minutes, hours, alarms: closed } = self.retention;
        let mut most = 0;
        if let Some(before_ms) = before(readings) {
            most = most.max(self.compaction.delete_before(&self.connection, before_ms)?);
        }
        let connection = &self.connection;
        for (kept, resolution) in [(minutes, Resolution::Minute), (hours, Resolution::Hour)] {
            if let Some(before_ms) = before(kept) {
                let deleted = summaries::delete_before(connection, resolution, before_ms, limit)?;
                most = most.max(deleted);
            }
        }
        if let Some(before_ms) = before(closed) {
            most = most.max(alarms::delete_before(connection, before_ms, limit)?);
        }
        let more = most as i64 == limit;
        self.retention_due = Instant::now() + if more { WRITER_TICK } else { 60 * WRITER_TICK };
        Ok(())
    }

    fn reload(&mut self) {
        match load(&self.connection, &self.location) {
            Ok((ledger, fleet)) => {
                info!("the database is readable again");
                self.ledger = ledger;
                *self.fleet.write() = fleet;
                self.stale = false;
            }
            Err(error) => warn!(%error, "the database cannot be read"),
        }
    }

    /// Puts the tail into chunks and the log into the database, so that the next start is quick.
    fn finish(&mut self) {
        if !self.stale {
            self.compaction.start(&self.ledger, &self.fleet);
            while self.compaction.under_way() {
                self.commit(Vec::new());
                if self.stale {
                    return;
                }
            }
        }
        if let Err(error) = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            warn!(%error, "the database's log could not be merged; the next start does it");
        }
    }
}

/// Waits for a command, but no longer than a tick; `None` when all senders are gone.
fn blocking_next(commands: &mut mpsc::Receiver<Command>) -> Option<Option<Command>> {
    // Receivers of tokio have no timeout of their own outside a runtime.
    let deadline = Instant::now() + WRITER_TICK;
    let waker = std::task::Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    loop {
        match commands.poll_recv(&mut context) {
            std::task::Poll::Ready(Some(command)) => return Some(Some(command)),
            std::task::Poll::Ready(None) => return None,
            std::task::Poll::Pending => {}
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Some(None);
        }
        thread::park_timeout(left);
    }
}

struct Unpark(thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Sorts a result: a database failure ends the transaction, anything else is the answer.
fn settle<T, U>(
    result: Result<T, StoreError>,
    reply: Reply<U>,
    answers: &mut Vec<Answer>,
    answer: impl Fn(Reply<U>, Result<U, StoreError>) -> Answer,
    then: impl FnOnce(T) -> U,
) -> rusqlite::Result<()> {
    match result {
        Ok(value) => answers.push(answer(reply, Ok(then(value)))),
        Err(error) => {
            let failure = ends_transaction(&error);
            answers.push(answer(reply, Err(error)));
            return failure.map_or(Ok(()), Err);
        }
    }
    Ok(())
}

/// Tells whether an error is the database's, so that nothing of the transaction can stay.
fn ends_transaction(error: &StoreError) -> Option<rusqlite::Error> {
    let ends = matches!(error, StoreError::Database { .. } | StoreError::Locked { .. });
    ends.then(|| rusqlite::Error::ToSqlConversionFailure(error.to_string().into()))
}

fn refuse(command: Command, answers: &mut Vec<Answer>) {
    match command {
        Command::Append(messages, reply, _) => {
            let results = messages.iter().map(|_| Err(StoreError::Closed)).collect();
            answers.push(Answer::Append(reply, results));
        }
        Command::ChangeRecords(_, reply) => {
            answers.push(Answer::Changed(reply, Err(StoreError::Closed)));
        }
        Command::Compact(reply) => answers.push(Answer::Done(reply, Err(StoreError::Closed))),
        Command::Act { reply, .. } => answers.push(Answer::Act(reply, Err(StoreError::Closed))),
        Command::Close(done) => drop(done),
    }
}

impl Answer {
    /// Whoever asked may be gone; then nobody needs the answer.
    fn send(self) {
        match self {
            Self::Append(reply, results) => drop(reply.send(results)),
            Self::Done(reply, result) => drop(reply.send(result)),
            Self::Changed(reply, result) => drop(reply.send(result)),
            Self::Act(reply, result) => drop(reply.send(result)),
        }
    }

    fn fail(self, reason: &Arc<str>) {
        let error = || StoreError::NotCommitted { reason: reason.clone() };
        match self {
            Self::Append(reply, results) => {
                drop(reply.send(results.iter().map(|_| Err(error())).collect()));
            }
            Self::Done(reply, _) => drop(reply.send(Err(error()))),
            Self::Changed(reply, _) => drop(reply.send(Err(error()))),
            Self::Act(reply, _) => drop(reply.send(Err(error()))),
        }
    }
}

impl Effect {
    fn apply(self, fleet: &mut Fleet) {
        match self {
            Self::Applied(applied) => applied.apply(fleet),
            Self::Added(name) => {
                fleet.devices.entry(name).or_default();
            }
            Self::AlarmSeen(name) => {
                if let Some(view) = fleet.devices.get_mut(&name) {
                    view.alarms_open = view.alarms_open.saturating_sub(1);
                }
            }
        }
    }
}

/// Writes counters.
pub(super) fn put_total(connection: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO total (name, value) VALUES (?1, ?2) \
             ON CONFLICT (name) DO UPDATE SET value = ?2",
        )?
        .execute(params![name, value])?;
    Ok(())
}
