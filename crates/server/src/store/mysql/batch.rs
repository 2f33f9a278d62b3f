//! What one transaction does with messages: lock their devices, deduplicate, store, alarm.
//!
//! The rows of the devices are locked first, in the order of their numbers, so that several
//! gateways take turns for each device and never wait for each other in a circle.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use sqlx::mysql::MySqlConnection;
use sqlx::{Arguments, Connection, Row};
use stonechat_core::wire::uplink::{SCORE, THRESHOLD};

use super::ledger::{AlarmMoves, Channel, Entry, Ledger, alarm_mut, by_time};
use super::state::Summary;
use super::statement::{Rows, Statements};
use super::{Failure, alarms, load};
use crate::alarm::Change;
use crate::limits::{CHANNELS_PER_DEVICE_MAX, DIGESTS_PER_DEVICE_MAX};
use crate::store::window::Arrival;
use crate::store::{Appended, Message, MessageKey, Reading, StoreError};

const FIND: Rows = Rows {
    head: "SELECT id, name FROM device WHERE name IN (",
    row: "?",
    between: ", ",
    tail: ")",
};
const LOCK: Rows = Rows {
    head: "SELECT device, revision, living FROM device_state WHERE device IN (",
    row: "?",
    between: ", ",
    tail: ") ORDER BY device FOR UPDATE",
};
const DIGESTS: Rows = Rows {
    head: "SELECT device, digest, number FROM message_digest WHERE ",
    row: "(device = ? AND digest = ?)",
    between: " OR ",
    tail: "",
};
const ADD_DIGESTS: Rows = Rows {
    head: "INSERT INTO message_digest (device, digest, number) VALUES ",
    row: "(?, ?, ?)",
    between: ", ",
    tail: " ON DUPLICATE KEY UPDATE number = VALUES(number)",
};
const ADD_READINGS: Rows = Rows {
    head: "INSERT INTO reading (channel, time_ms, ordinal, value) VALUES ",
    row: "(?, ?, ?, ?)",
    between: ", ",
    tail: "",
};
const KEEP_STATES: Rows = Rows {
    head: "INSERT INTO device_state (device, revision, living, messages, readings, duplicates, \
           last_seen_ms, body) VALUES ",
    row: "(?, ?, TRUE, ?, ?, ?, ?, ?)",
    between: ", ",
    tail: " ON DUPLICATE KEY UPDATE revision = VALUES(revision), messages = VALUES(messages), \
           readings = VALUES(readings), duplicates = VALUES(duplicates), \
           last_seen_ms = VALUES(last_seen_ms), body = VALUES(body)",
};

/// How a key begins that was drawn for a message without one. A digest that happens to begin so is
/// remembered all the same.
pub(super) const DRAWN_KEY: [u8; 4] = *b"\0one";

/// Where the numbers of such keys begin; each has that of its message.
const DRAWN_FROM: u64 = 1 << 63;

/// What became of the messages, in their order, and what the fleet learns.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) results: Vec<Result<Appended, StoreError>>,
    pub(super) applied: Vec<Applied>,
}

/// What the fleet learns of a device.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) name: Arc<str>,
    pub(super) row: u32,
    pub(super) revision: u64,
    pub(super) last_seen_ms: Option<i64>,
    pub(super) detector: Option<String>,
    pub(super) anomalous: bool,
    pub(super) sensor_fault: bool,
    pub(super) alarms_open: u32,
    /// The channels with news; all of them if `whole`.
    pub(super) channels: Vec<(Arc<str>, Channel)>,
    /// Scores in the order in which they came.
    pub(super) scores: Vec<(i64, f64, Option<f64>)>,
    /// Whether another gateway wrote for the device before.
    pub(super) whole: bool,
}

struct ReadingRow {
    channel: u32,
    time_ms: i64,
    ordinal: u32,
    value: f64,
}

/// A transaction under way.
struct Batch<'a> {
    ledger: &'a mut Ledger,
    acknowledged: bool,
    moves: AlarmMoves,
    readings: Vec<ReadingRow>,
    /// Digests that are stored, by device, and which of the device's digests each is.
    digests: HashMap<(u32, [u8; 16]), u64>,
    new_digests: Vec<(u32, [u8; 16], u64)>,
    touched: BTreeMap<Arc<str>, Touched>,
}

#[derive(Default)]
struct Touched {
    whole: bool,
    channels: BTreeSet<Arc<str>>,
    scores: Vec<(i64, f64, Option<f64>)>,
}

/// Stores messages in one transaction; `acknowledged` if somebody has been told already that they
/// are stored.
pub(super) async fn run(
    connection: &mut MySqlConnection,
    statements: &mut Statements,
    ledger: &mut Ledger,
    messages: &[Message],
    acknowledged: bool,
) -> Result<Outcome, Failure> {
    find(connection, statements, ledger, messages).await?;
    let mut transaction = connection.begin().await?;
    let reloaded = lock(&mut transaction, statements, ledger, messages).await?;
    let mut batch = Batch {
        ledger,
        acknowledged,
        moves: AlarmMoves::default(),
        readings: Vec::new(),
        digests: HashMap::new(),
        new_digests: Vec::new(),
        touched: BTreeMap::new(),
    };
    for name in reloaded {
        batch.touched.insert(name, Touched { whole: true, ..Touched::default() });
    }
    batch.find_digests(&mut transaction, statements, messages).await?;
    let mut outcome = Outcome::default();
    for message in messages {
        outcome.results.push(batch.take(&mut transaction, message).await?);
    }
    batch.write(&mut transaction, statements, &mut outcome).await?;
    transaction.commit().await?;
    Ok(outcome)
}

/// Learns the rows of devices that the ledger does not know yet.
async fn find(
    connection: &mut MySqlConnection,
    statements: &mut Statements,
    ledger: &mut Ledger,
    messages: &[Message],
) -> Result<(), Failure> {
    let unknown: BTreeSet<&str> = messages
        .iter()
        .map(|message| message.device.as_str())
        .filter(|name| !ledger.entries.contains_key(*name))
        .collect();
    let unknown: Vec<&str> = unknown.into_iter().collect();
    let rows = statements.read(connection, &FIND, &unknown, |a, name| a.add(*name)).await?;
    for row in rows {
        let name: Arc<str> = Arc::from(row.try_get::<&str, _>(1)?);
        let row = row.try_get(0)?;
        ledger.entries.entry(name.clone()).or_insert_with(|| Entry::new(row, name));
    }
    Ok(())
}

/// Locks the devices, and reads those anew that another gateway wrote for; returns their names.
async fn lock(
    connection: &mut MySqlConnection,
    statements: &mut Statements,
    ledger: &mut Ledger,
    messages: &[Message],
) -> Result<Vec<Arc<str>>, Failure> {
    let known = messages.iter().filter_map(|message| ledger.entries.get(message.device.as_str()));
    let by_row: HashMap<u32, Arc<str>> =
        known.map(|entry| (entry.row, entry.name.clone())).collect();
    let mut devices: Vec<u32> = by_row.keys().copied().collect();
    devices.sort_unstable();
    let rows = statements.read(connection, &LOCK, &devices, |a, &device| a.add(device)).await?;
    let mut stale = Vec::new();
    for row in rows {
        let (device, revision, living): (u32, u64, bool) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let name = by_row.get(&device);
        let Some(entry) = name.and_then(|name| ledger.entries.get_mut(name)) else {
            continue;
        };
        entry.living = living;
        if entry.revision != Some(revision) {
            stale.push(device);
        }
    }
    if stale.is_empty() {
        return Ok(Vec::new());
    }
    let mut names = Vec::with_capacity(stale.len());
    for entry in load::entries(connection, statements, &stale).await? {
        names.push(entry.name.clone());
        ledger.entries.insert(entry.name.clone(), entry);
    }
    Ok(names)
}

impl Batch<'_> {
    async fn find_digests(
        &mut self,
        connection: &mut MySqlConnection,
        statements: &mut Statements,
        messages: &[Message],
    ) -> Result<(), Failure> {
        let digest = |message: &Message| match message.key {
            MessageKey::Digest(digest) => {
                let entry = self.ledger.entries.get(message.device.as_str())?;
                Some((entry.row, digest))
            }
            _ => None,
        };
        let wanted: Vec<(u32, [u8; 16])> = messages.iter().filter_map(digest).collect();
        let rows = statements
            .read(connection, &DIGESTS, &wanted, |a, (device, digest)| {
                a.add(*device)?;
                a.add(&digest[..])
            })
            .await?;
        for row in rows {
            let digest: &[u8] = row.try_get(1)?;
            if let Ok(digest) = digest.try_into() {
                self.digests.insert((row.try_get(0)?, digest), row.try_get(2)?);
            }
        }
        Ok(())
    }

    /// Takes one message in.
    async fn take(
        &mut self,
        connection: &mut MySqlConnection,
        message: &Message,
    ) -> Result<Result<Appended, StoreError>, Failure> {
        let name = message.device.as_str();
        let Some(entry) = self.ledger.entries.get_mut(name).filter(|entry| entry.living) else {
            return Ok(Err(StoreError::UnknownDevice(name.to_owned())));
        };
        let arrival = match message.key {
            MessageKey::Sequence(id) => {
                entry.note_number(id, message.received_ms, self.acknowledged)
            }
            MessageKey::Digest(digest) => {
                // A key that was drawn for one receipt pushes no digest out of memory.
                let drawn = digest.starts_with(&DRAWN_KEY);
                let number =
                    if drawn { DRAWN_FROM + entry.state.messages } else { entry.state.digests + 1 };
                let kept = number.saturating_sub(DIGESTS_PER_DEVICE_MAX as u64);
                let known = self.digests.get(&(entry.row, digest));
                if known.is_some_and(|&known| drawn || known >= kept) {
                    Arrival::Duplicate
                } else {
                    entry.state.digests += u64::from(!drawn);
                    self.digests.insert((entry.row, digest), number);
                    self.new_digests.push((entry.row, digest, number));
                    Arrival::Newest
                }
            }
            MessageKey::Unkeyed => Arrival::Newest,
        };
        let touched = self.touched.entry(entry.name.clone()).or_default();
        if arrival == Arrival::Duplicate {
            entry.state.duplicates += 1;
            return Ok(Ok(Appended::Duplicate));
        }
        let mut rejected = 0;
        for reading in &message.readings {
            let Some((name, channel)) = channel(connection, entry, reading).await? else {
                rejected += 1;
                continue;
            };
            let summary = &mut channel.summary;
            summary.readings += 1;
            if summary.latest.is_none_or(|(latest_ms, _)| reading.time_ms >= latest_ms) {
                summary.latest = Some((reading.time_ms, reading.value));
            }
            let row = summary.row;
            if !touched.channels.contains(&name) {
                touched.channels.insert(name);
            }
            entry.state.readings += 1;
            self.readings.push(ReadingRow {
                channel: row,
                time_ms: reading.time_ms,
                // It only orders readings of one channel and time; wrapping after four thousand
                // million readings of the device does no harm.
                ordinal: entry.state.readings as u32,
                value: reading.value,
            });
        }
        entry.state.messages += 1;
        entry.state.last_seen_ms = entry.state.last_seen_ms.max(Some(message.received_ms));
        if message.detector.is_some() {
            entry.state.detector.clone_from(&message.detector);
        }
        touched.note_scores(message);
        let alarms = entry.judge(message, arrival, &mut self.moves);
        Ok(Ok(Appended::New { alarms, rejected_readings: rejected }))
    }

    /// Writes what the messages came to.
    async fn write(
        mut self,
        connection: &mut MySqlConnection,
        statements: &mut Statements,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let numbers: HashMap<i64, i64> =
            alarms::write(connection, &self.moves).await?.into_iter().collect();
        if !numbers.is_empty() {
            self.number_alarms(&numbers, outcome);
        }
        statements
            .write(connection, &ADD_READINGS, &self.readings, |a, reading| {
                a.add(reading.channel)?;
                a.add(reading.time_ms)?;
                a.add(reading.ordinal)?;
                a.add(reading.value)
            })
            .await?;
        statements
            .write(connection, &ADD_DIGESTS, &self.new_digests, |a, (device, digest, number)| {
                a.add(*device)?;
                a.add(&digest[..])?;
                a.add(*number)
            })
            .await?;
        self.forget_digests(connection).await?;
        self.keep_states(connection, statements).await?;
        outcome.applied = self.applied();
        Ok(())
    }

    /// Gives alarms the numbers that the database gave them.
    fn number_alarms(&mut self, numbers: &HashMap<i64, i64>, outcome: &mut Outcome) {
        let number = |id: &mut i64| {
            if let Some(&given) = numbers.get(id) {
                *id = given;
            }
        };
        for result in &mut outcome.results {
            if let Ok(Appended::New { alarms, .. }) = result {
                alarms.iter_mut().for_each(|change: &mut Change| number(&mut alarm_mut(change).id));
            }
        }
        for name in self.touched.keys() {
            if let Some(entry) = self.ledger.entries.get_mut(name) {
                entry.alarms.iter_mut().flatten().for_each(|alarm| number(&mut alarm.id));
            }
        }
    }

    /// Deletes the digests that are no longer remembered, now and then.
    async fn forget_digests(&self, connection: &mut MySqlConnection) -> Result<(), Failure> {
        const SLACK: u64 = DIGESTS_PER_DEVICE_MAX as u64 / 4;
        let due = self.new_digests.iter().filter(|(_, digest, number)| {
            let drawn = *number >= DRAWN_FROM;
            if drawn { u64::from(digest[15]) % SLACK == 0 } else { number % SLACK == 0 }
        });
        for &(device, _, number) in due {
            let from = if number >= DRAWN_FROM { DRAWN_FROM } else { 0 };
            let to = number.saturating_sub(DIGESTS_PER_DEVICE_MAX as u64).max(from);
            sqlx::query(
                "DELETE FROM message_digest WHERE device = ? AND number >= ? AND number < ?",
            )
            .bind(device)
            .bind(from)
            .bind(to)
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
    }

    async fn keep_states(
        &mut self,
        connection: &mut MySqlConnection,
        statements: &mut Statements,
    ) -> Result<(), Failure> {
        let mut rows = Vec::with_capacity(self.touched.len());
        for name in self.touched.keys() {
            let Some(entry) = self.ledger.entries.get_mut(name).filter(|entry| entry.living) else {
                continue;
            };
            let revision = entry.revision.map_or(1, |revision| revision + 1);
            entry.revision = Some(revision);
            let summaries = entry.channels.values().map(|channel| channel.summary);
            let summaries: Vec<Summary> = summaries.collect();
            let (row, body) = (entry.row, entry.state.pack(summaries.into_iter()));
            let state = &entry.state;
            let counts = (state.messages, state.readings, state.duplicates);
            rows.push((row, revision, counts, state.last_seen_ms, body));
        }
        // Locked in this order, so that it cannot meet another gateway's the wrong way round.
        rows.sort_unstable_by_key(|row| row.0);
        statements
            .write(connection, &KEEP_STATES, &rows, |a, (device, revision, counts, seen, body)| {
                a.add(*device)?;
                a.add(*revision)?;
                a.add(counts.0)?;
                a.add(counts.1)?;
                a.add(counts.2)?;
                a.add(*seen)?;
                a.add(&body[..])
            })
            .await?;
        Ok(())
    }

    fn applied(self) -> Vec<Applied> {
        let mut applied = Vec::with_capacity(self.touched.len());
        for (name, touched) in self.touched {
            let Some(entry) = self.ledger.entries.get(&name) else {
                continue;
            };
            let channel = |(name, channel): (&Arc<str>, &Channel)| {
                let wanted = touched.whole || touched.channels.contains(name);
                wanted.then(|| (name.clone(), channel.clone()))
            };
            applied.push(Applied {
                row: entry.row,
                revision: entry.revision.unwrap_or(0),
                last_seen_ms: entry.state.last_seen_ms,
                detector: entry.state.detector.clone(),
                anomalous: entry.state.anomaly.holds,
                sensor_fault: entry.state.fault.holds,
                alarms_open: entry.alarms_open(),
                channels: entry.channels.iter().filter_map(channel).collect(),
                scores: touched.scores,
                whole: touched.whole,
                name,
            });
        }
        applied
    }
}

impl Touched {
    fn note_scores(&mut self, message: &Message) {
        if !message.readings.iter().any(|reading| &*reading.channel == SCORE) {
            return;
        }
        let thresholds = by_time(message, THRESHOLD);
        let scores = message.readings.iter().filter(|reading| &*reading.channel == SCORE);
        let point = |reading: &Reading| {
            (reading.time_ms, reading.value, thresholds.get(&reading.time_ms).copied())
        };
        self.scores.extend(scores.map(point));
    }
}

/// Finds or makes a channel; `None` if the device has too many, or the value is no number, which
/// the database could not hold.
async fn channel<'e>(
    connection: &mut MySqlConnection,
    entry: &'e mut Entry,
    reading: &Reading,
) -> Result<Option<(Arc<str>, &'e mut Channel)>, Failure> {
    if !reading.value.is_finite() {
        return Ok(None);
    }
    // The database does not tell names apart by spaces at their ends.
    let trimmed = reading.channel.trim_end_matches(' ');
    let name = if trimmed.len() == reading.channel.len() {
        reading.channel.clone()
    } else {
        Arc::from(trimmed)
    };
    let known =
        entry.channels.get(&name).map(|channel| (channel.summary.row, channel.unit.clone()));
    match known {
        Some((row, unit)) if unit != reading.unit => {
            sqlx::query("UPDATE channel SET unit = ? WHERE id = ?")
                .bind(&*reading.unit)
                .bind(row)
                .execute(connection)
                .await?;
        }
        Some(_) => {}
        None if entry.channels.len() >= CHANNELS_PER_DEVICE_MAX => return Ok(None),
        None => {
            let added = sqlx::query("INSERT INTO channel (device, name, unit) VALUES (?, ?, ?)")
                .bind(entry.row)
                .bind(&*name)
                .bind(&*reading.unit)
                .execute(connection)
                .await?;
            let row = u32::try_from(added.last_insert_id())
                .map_err(|_| Failure::Damaged("the numbers of channels are used up".into()))?;
            let summary = Summary { row, ..Summary::default() };
            let channel = Channel { unit: reading.unit.clone(), summary };
            entry.channels.insert(name.clone(), channel);
        }
    }
    let Some(channel) = entry.channels.get_mut(&name) else {
        return Ok(None);
    };
    if channel.unit != reading.unit {
        channel.unit = reading.unit.clone();
    }
    Ok(Some((name, channel)))
}
