//! Reads ledger and fleet from the database, at the start and after a failed transaction.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};
use stonechat_core::wire::uplink::{ANOMALY, SCORE, THRESHOLD};

use super::body::{self, TailMessage};
use super::fleet::{ChannelView, DeviceView, Fleet};
use super::ledger::{Channel, Entry, Ledger, Session};
use super::schema::Location;
use super::writer::EPOCH;
use super::{alarms, chunk, records};
use crate::alarm::{AlarmKind, AlarmState};
use crate::limits::RECENT_SCORES;
use crate::store::StoreError;
use crate::store::window::SequenceWindow;

struct Loader<'a> {
    connection: &'a Connection,
    ledger: Ledger,
    fleet: Fleet,
    names: HashMap<i64, Arc<str>>,
    compacted_to: HashMap<i64, i64>,
}

/// Reads everything that the writer and the readers keep in memory.
pub(super) fn load(
    connection: &Connection,
    location: &Location,
) -> Result<(Ledger, Fleet), StoreError> {
    let mut loader = Loader {
        connection,
        ledger: Ledger::default(),
        fleet: Fleet::default(),
        names: HashMap::new(),
        compacted_to: HashMap::new(),
    };
    loader.tables().map_err(|e| location.failed(e))?;
    loader.tail(location)?;
    loader.alarms().map_err(|e| location.failed(e))?;
    loader.recent_scores(location)?;
    Ok((loader.ledger, loader.fleet))
}

/// Reads one counter.
pub(super) fn total(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    let value = connection
        .prepare_cached("SELECT value FROM total WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(value.unwrap_or(0))
}

impl Loader<'_> {
    fn tables(&mut self) -> rusqlite::Result<()> {
        self.ledger.last_message = total(self.connection, "counted_to")?;
        self.ledger.messages = total(self.connection, "messages")? as u64;
        self.ledger.readings = total(self.connection, "readings")? as u64;
        self.ledger.duplicates = total(self.connection, "duplicates")? as u64;
        self.fleet.epoch = total(self.connection, EPOCH)?;
        self.ledger.revision = records::newest_revision(self.connection)?;
        self.devices()?;
        self.channels()?;
        self.sessions()?;
        self.digests()
    }

    fn devices(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(
            "SELECT id, name, last_seen_ms, detector, EXISTS (SELECT 1 FROM record \
                 WHERE class = 'device' AND key = name AND body IS NOT NULL) FROM device",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let name: Arc<str> = Arc::from(row.get_ref(1)?.as_str()?);
            let mut entry = Entry::new(id, name.clone());
            entry.last_seen_ms = row.get(2)?;
            entry.detector = row.get(3)?;
            entry.living = row.get(4)?;
            let view = DeviceView {
                last_seen_ms: entry.last_seen_ms,
                detector: entry.detector.clone(),
                ..DeviceView::default()
            };
            self.ledger.entries.insert(name.clone(), entry);
            self.fleet.devices.insert(name.clone(), view);
            self.names.insert(id, name);
        }
        Ok(())
    }

    fn channels(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(
            "SELECT id, device, name, unit, points, compacted_to, latest_ms, latest FROM channel",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let Some(device) = self.names.get(&row.get(1)?).cloned() else {
                continue;
            };
            let name: Arc<str> = Arc::from(row.get_ref(2)?.as_str()?);
            let unit: Arc<str> = Arc::from(row.get_ref(3)?.as_str()?);
            let mut view = ChannelView::new(unit.clone());
            view.stored = row.get::<_, i64>(4)? as u64;
            view.latest = row.get::<_, Option<i64>>(6)?.zip(row.get(7)?);
            self.compacted_to.insert(id, row.get(5)?);
            self.fleet.channels.insert(id, view);
            if let Some(view) = self.fleet.devices.get_mut(&device) {
                view.channels.insert(name.clone(), id);
            }
            if let Some(entry) = self.ledger.entries.get_mut(&device) {
                entry.channels.insert(name, Channel { row: id, unit });
            }
        }
        Ok(())
    }

    fn sessions(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(
            "SELECT device, session, highest, below, used_ms FROM session ORDER BY used_ms DESC",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let Some(device) = self.names.get(&row.get(0)?) else {
                continue;
            };
            let Some(entry) = self.ledger.entries.get_mut(device) else {
                continue;
            };
            entry.sessions.push(Session {
                number: row.get(1)?,
                window: SequenceWindow::from_parts(row.get(2)?, row.get::<_, i64>(3)? as u64),
                used_ms: row.get(4)?,
            });
        }
        Ok(())
    }

    fn digests(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare("SELECT device, body FROM digest")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let name = self.names.get(&row.get(0)?);
            if let Some(entry) = name.and_then(|name| self.ledger.entries.get_mut(name)) {
                let (digests, _) = row.get_ref(1)?.as_blob()?.as_chunks();
                entry.digests.extend(digests);
            }
        }
        Ok(())
    }

    /// Replays the messages of the tail: what they said is in no other table yet.
    fn tail(&mut self, location: &Location) -> Result<(), StoreError> {
        let failed = |e| location.failed(e);
        let counted_to = self.ledger.last_message;
        let mut statement = self
            .connection
            .prepare("SELECT id, messages, body FROM batch ORDER BY id")
            .map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let last: i64 = row.get(0).map_err(failed)?;
            let count: i64 = row.get(1).map_err(failed)?;
            let bytes = row.get_ref(2).map_err(failed)?.as_blob().map_err(|e| failed(e.into()))?;
            let messages = body::read(bytes)
                .filter(|messages| messages.len() as i64 == count)
                .ok_or_else(|| location.damaged(format!("batch {last} is not readable")))?;
            for (id, message) in (last - count + 1..=last).zip(&messages) {
                self.ledger.last_message = id;
                self.ledger.tail_messages += 1;
                if id > counted_to {
                    self.ledger.messages += 1;
                    self.ledger.readings += message.readings.len() as u64;
                }
                self.replay(id, message);
            }
        }
        self.fleet.messages = self.ledger.messages;
        self.fleet.readings = self.ledger.readings;
        self.fleet.duplicates = self.ledger.duplicates;
        Ok(())
    }

    fn replay(&mut self, id: i64, message: &TailMessage) {
        if let Some(name) = self.names.get(&message.device) {
            if let Some(entry) = self.ledger.entries.get_mut(name) {
                let _ = entry.note(message.key, message.received_ms);
                entry.last_seen_ms = entry.last_seen_ms.max(Some(message.received_ms));
            }
            if let Some(view) = self.fleet.devices.get_mut(name) {
                view.last_seen_ms = view.last_seen_ms.max(Some(message.received_ms));
            }
        }
        for reading in &message.readings {
            // A channel that was compacted already has this reading in a chunk.
            if self.compacted_to.get(&reading.channel).is_some_and(|&to| id > to)
                && let Some(channel) = self.fleet.channels.get_mut(&reading.channel)
            {
                channel.push(reading.time_ms, reading.value);
                self.fleet.tail_readings += 1;
            }
        }
    }

    fn alarms(&mut self) -> rusqlite::Result<()> {
        for alarm in alarms::not_over(self.connection)? {
            let Some(entry) = self.ledger.entries.get_mut(alarm.device.as_str()) else {
                continue;
            };
            if alarm.kind == AlarmKind::SensorFault {
                entry.fault.holds = alarm.active;
            }
            let open = alarm.state == AlarmState::Open;
            if open && let Some(view) = self.fleet.devices.get_mut(alarm.device.as_str()) {
                view.alarms_open += 1;
            }
            let kind = alarm.kind;
            *entry.alarm_mut(kind) = Some(alarm);
        }
        for (name, view) in &mut self.fleet.devices {
            let Some(entry) = self.ledger.entries.get_mut(name) else {
                continue;
            };
            let session = entry.sessions.first().map(|session| session.number);
            let verdict = view
                .channels
                .get(ANOMALY)
                .and_then(|row| self.fleet.channels.get(row))
                .and_then(|channel| channel.latest);
            entry.anomaly.holds = verdict.is_some_and(|(_, value)| value != 0.0);
            entry.anomaly.session = session;
            entry.fault.session = session;
            view.anomalous = entry.anomaly.holds;
            view.sensor_fault = entry.fault.holds;
        }
        Ok(())
    }

    /// Fills the newest scores from the tail, and from the newest chunk where that is short.
    fn recent_scores(&mut self, location: &Location) -> Result<(), StoreError> {
        let newest = |row: i64| -> Result<Vec<(i64, f64)>, StoreError> {
            let tail = self.fleet.channels.get(&row).map_or(&[][..], |channel| &channel.tail);
            let mut points = Vec::new();
            if tail.len() < RECENT_SCORES {
                let bytes: Option<Vec<u8>> = self
                    .connection
                    .prepare_cached(
                        "SELECT body FROM chunk WHERE channel = ?1 ORDER BY end_ms DESC LIMIT 1",
                    )
                    .and_then(|mut s| s.query_row([row], |row| row.get(0)).optional())
                    .map_err(|e| location.failed(e))?;
                if let Some(bytes) = bytes {
                    points = chunk::decode(&bytes).map_err(|e| location.damaged(e.to_string()))?;
                }
            }
            points.extend(tail);
            points.sort_by_key(|&(time_ms, _)| time_ms);
            Ok(points.split_off(points.len().saturating_sub(RECENT_SCORES)))
        };
        let mut found = Vec::new();
        for (name, view) in &self.fleet.devices {
            let Some(&scores) = view.channels.get(SCORE) else {
                continue;
            };
            let thresholds: HashMap<i64, f64> = match view.channels.get(THRESHOLD) {
                Some(&row) => newest(row)?.into_iter().collect(),
                None => HashMap::new(),
            };
            let scores = newest(scores)?;
            found.push((name.clone(), scores, thresholds));
        }
        for (name, scores, thresholds) in found {
            let Some(view) = self.fleet.devices.get_mut(&name) else {
                continue;
            };
            for (time_ms, score) in scores {
                view.push_score(time_ms, score, thresholds.get(&time_ms).copied());
            }
        }
        Ok(())
    }
}
