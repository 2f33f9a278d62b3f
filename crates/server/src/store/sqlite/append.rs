//! What one message does within the writer's transaction: deduplicate, store, alarm.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, params};
use stonechat_core::wire::uplink::{ANOMALY, SCORE, SENSOR_FAULT_SUFFIX, THRESHOLD};

use super::body::{Packer, TailReading};
use super::fleet::{ChannelView, Fleet};
use super::ledger::{Channel, Condition, Entry, Ledger};
use super::{alarms, registry};
use crate::alarm::{AlarmKind, AlarmState, Change, Observation, observe};
use crate::limits::{CHANNELS_PER_DEVICE_MAX, SENSOR_FAULT_QUIET_MS, TAIL_ROW_LEN};
use crate::store::window::Arrival;
use crate::store::{Appended, Message, Reading, StoreError};

/// What the fleet learns of a message once it is committed.
#[derive(Debug)]
pub(super) struct Applied {
    device: Arc<str>,
    received_ms: i64,
    readings: Vec<TailReading>,
    new_channels: Vec<(Arc<str>, Channel)>,
    scores: Vec<(i64, f64, Option<f64>)>,
    detector: Option<String>,
    anomalous: bool,
    sensor_fault: bool,
    alarms_open: u32,
}

type Outcome = (Appended, Option<Applied>);

/// Stores a message unless it was stored before, and moves the device's alarms.
pub(super) fn append(
    connection: &Connection,
    ledger: &mut Ledger,
    packer: &mut Packer,
    message: &Message,
) -> Result<Outcome, StoreError> {
    let failed = |source| StoreError::Database { path: "stonechat.sqlite".into(), source };
    let known = ledger.entries.get(message.device.as_str()).is_some_and(|entry| entry.living);
    if !known {
        // Another process may have registered it.
        let row = registry::row(connection, message.device.as_str()).map_err(failed)?;
        let row = row.ok_or_else(|| StoreError::UnknownDevice(message.device.to_string()))?;
        ledger.living(row, message.device.as_str());
    }
    let Some(entry) = ledger.entries.get_mut(message.device.as_str()) else {
        return Err(StoreError::UnknownDevice(message.device.to_string()));
    };
    let arrival = entry.note(message.key, message.received_ms);
    if arrival == Arrival::Duplicate {
        ledger.duplicates += 1;
        return Ok((Appended::Duplicate, None));
    }
    let id = ledger.last_message + 1;
    let stored = store(connection, entry, packer, message, id).map_err(failed)?;
    let changes = move_alarms(connection, entry, message, arrival).map_err(failed)?;
    ledger.last_message = id;
    ledger.tail_messages += 1;
    ledger.messages += 1;
    ledger.readings += stored.readings.len() as u64;
    let appended = Appended::New { alarms: changes, rejected_readings: stored.rejected };
    Ok((appended, Some(applied(entry, message, stored))))
}

struct Stored {
    readings: Vec<TailReading>,
    new_channels: Vec<(Arc<str>, Channel)>,
    rejected: usize,
}

fn store(
    connection: &Connection,
    entry: &mut Entry,
    packer: &mut Packer,
    message: &Message,
    id: i64,
) -> rusqlite::Result<Stored> {
    let mut stored = Stored {
        readings: Vec::with_capacity(message.readings.len()),
        new_channels: Vec::new(),
        rejected: 0,
    };
    for reading in &message.readings {
        let Some(channel) = channel(connection, entry, reading, id, &mut stored.new_channels)?
        else {
            stored.rejected += 1;
            continue;
        };
        let reading = TailReading { channel, time_ms: reading.time_ms, value: reading.value };
        stored.readings.push(reading);
    }
    packer.push(entry.row, message.key, message.received_ms, &stored.readings);
    if packer.len() >= TAIL_ROW_LEN {
        write_batch(connection, id, packer)?;
    }
    entry.last_seen_ms = entry.last_seen_ms.max(Some(message.received_ms));
    if message.detector.is_some() && message.detector != entry.detector {
        connection
            .prepare_cached("UPDATE device SET detector = ?2 WHERE id = ?1")?
            .execute(params![entry.row, message.detector])?;
        entry.detector.clone_from(&message.detector);
    }
    Ok(stored)
}

/// Writes packed messages, of which `last` is the number of the last one.
pub(super) fn write_batch(
    connection: &Connection,
    last: i64,
    packer: &mut Packer,
) -> rusqlite::Result<()> {
    if packer.messages() > 0 {
        connection
            .prepare_cached("INSERT INTO batch (id, messages, body) VALUES (?1, ?2, ?3)")?
            .execute(params![last, packer.messages() as i64, packer.bytes()])?;
        packer.clear();
    }
    Ok(())
}

/// Finds or makes the row of a channel; `None` if the device has too many.
fn channel(
    connection: &Connection,
    entry: &mut Entry,
    reading: &Reading,
    message_id: i64,
    new: &mut Vec<(Arc<str>, Channel)>,
) -> rusqlite::Result<Option<i64>> {
    if let Some(channel) = entry.channels.get_mut(&reading.channel) {
        if channel.unit != reading.unit {
            connection
                .prepare_cached("UPDATE channel SET unit = ?2 WHERE id = ?1")?
                .execute(params![channel.row, reading.unit])?;
            channel.unit = reading.unit.clone();
            new.push((reading.channel.clone(), channel.clone()));
        }
        return Ok(Some(channel.row));
    }
    if entry.channels.len() >= CHANNELS_PER_DEVICE_MAX {
        return Ok(None);
    }
    let row = connection
        .prepare_cached(
            "INSERT INTO channel (device, name, unit, compacted_to) VALUES (?1, ?2, ?3, ?4)",
        )?
        .insert(params![entry.row, reading.channel, reading.unit, message_id - 1])?;
    let channel = Channel { row, unit: reading.unit.clone() };
    entry.channels.insert(reading.channel.clone(), channel.clone());
    new.push((reading.channel.clone(), channel));
    Ok(Some(row))
}

/// Walks through what the message says about the device's conditions.
fn move_alarms(
    connection: &Connection,
    entry: &mut Entry,
    message: &Message,
    arrival: Arrival,
) -> rusqlite::Result<Vec<Change>> {
    let late = arrival == Arrival::Late;
    let mut changes = Vec::new();
    let mut rejected_at = None;
    let verdicts = message.readings.iter().any(|reading| &*reading.channel == ANOMALY);
    let scores = if verdicts { by_time(message, SCORE) } else { HashMap::new() };
    let thresholds = if verdicts { by_time(message, THRESHOLD) } else { HashMap::new() };
    for reading in &message.readings {
        if &*reading.channel == ANOMALY {
            let observation = Observation {
                kind: AlarmKind::Anomaly,
                holds: reading.value != 0.0,
                at_ms: reading.time_ms,
                score: scores.get(&reading.time_ms).copied(),
                threshold: thresholds.get(&reading.time_ms).copied(),
                continues: continues(entry.anomaly, message.key.session()),
                late,
            };
            note(connection, entry, message.key.session(), &observation, &mut changes)?;
        } else if reading.channel.ends_with(SENSOR_FAULT_SUFFIX) && reading.value > 0.0 {
            rejected_at = rejected_at.max(Some(reading.time_ms));
        }
    }
    let fault = Observation {
        kind: AlarmKind::SensorFault,
        holds: rejected_at.is_some(),
        at_ms: rejected_at.unwrap_or(message.received_ms),
        score: None,
        threshold: None,
        continues: continues(entry.fault, message.key.session()),
        late,
    };
    if fault.holds {
        entry.fault_last_ms = entry.fault_last_ms.max(message.received_ms);
    }
    let quiet_ms = message.received_ms.saturating_sub(entry.fault_last_ms);
    if fault.holds || (entry.fault.holds && quiet_ms >= SENSOR_FAULT_QUIET_MS) {
        note(connection, entry, message.key.session(), &fault, &mut changes)?;
    }
    Ok(changes)
}

fn continues(condition: Condition, session: Option<u32>) -> bool {
    condition.holds && condition.session == session
}

fn by_time(message: &Message, channel: &str) -> HashMap<i64, f64> {
    message
        .readings
        .iter()
        .filter(|reading| &*reading.channel == channel)
        .map(|reading| (reading.time_ms, reading.value))
        .collect()
}

/// Moves the alarm of one condition, and keeps the condition.
fn note(
    connection: &Connection,
    entry: &mut Entry,
    session: Option<u32>,
    observation: &Observation,
    changes: &mut Vec<Change>,
) -> rusqlite::Result<()> {
    if !observation.late {
        let condition = Condition { holds: observation.holds, session };
        match observation.kind {
            AlarmKind::Anomaly => entry.anomaly = condition,
            AlarmKind::SensorFault => entry.fault = condition,
        }
    }
    let (row, name) = (entry.row, entry.name.clone());
    let current = entry.alarm_mut(observation.kind);
    let Some(mut change) = observe(&name, current.as_ref(), observation) else {
        return Ok(());
    };
    match &mut change {
        Change::Opened(alarm) => alarm.id = alarms::insert(connection, row, alarm)?,
        Change::Moved(alarm) | Change::Peaked(alarm) => alarms::update(connection, alarm)?,
    }
    let alarm = match &change {
        Change::Opened(alarm) | Change::Moved(alarm) | Change::Peaked(alarm) => alarm,
    };
    *current = (alarm.state != AlarmState::Cleared).then(|| alarm.clone());
    changes.push(change);
    Ok(())
}

fn applied(entry: &Entry, message: &Message, stored: Stored) -> Applied {
    let thresholds = by_time(message, THRESHOLD);
    let scores = message
        .readings
        .iter()
        .filter(|reading| &*reading.channel == SCORE)
        .map(|reading| (reading.time_ms, reading.value, thresholds.get(&reading.time_ms).copied()))
        .collect();
    let open = |alarm: &&crate::alarm::Alarm| alarm.state == AlarmState::Open;
    Applied {
        device: entry.name.clone(),
        received_ms: message.received_ms,
        readings: stored.readings,
        new_channels: stored.new_channels,
        scores,
        detector: message.detector.clone(),
        anomalous: entry.anomaly.holds,
        sensor_fault: entry.fault.holds,
        alarms_open: entry.alarms.iter().flatten().filter(open).count() as u32,
    }
}

impl Applied {
    /// Shows the message to the readers.
    pub(super) fn apply(self, fleet: &mut Fleet) {
        let view = fleet.devices.entry(self.device).or_default();
        view.last_seen_ms = view.last_seen_ms.max(Some(self.received_ms));
        view.anomalous = self.anomalous;
        view.sensor_fault = self.sensor_fault;
        view.alarms_open = self.alarms_open;
        if self.detector.is_some() {
            view.detector = self.detector;
        }
        for (time_ms, score, threshold) in self.scores {
            view.push_score(time_ms, score, threshold);
        }
        for (name, channel) in self.new_channels {
            view.channels.insert(name, channel.row);
            fleet
                .channels
                .entry(channel.row)
                .and_modify(|view| view.unit = channel.unit.clone())
                .or_insert_with(|| ChannelView::new(channel.unit.clone()));
        }
        for reading in self.readings {
            if let Some(channel) = fleet.channels.get_mut(&reading.channel) {
                channel.push(reading.time_ms, reading.value);
                fleet.tail_readings += 1;
            }
        }
    }
}
