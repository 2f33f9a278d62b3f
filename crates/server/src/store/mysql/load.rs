//! Reads what the database remembers of devices.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{Arguments, Row};

use super::Failure;
use super::alarms;
use super::ledger::{Channel, Entry};
use super::state::{State, Summary};
use super::statement::{Rows, Statements};

const DEVICES: Rows = Rows {
    head: "SELECT state.device, device.name, state.revision, state.living, state.messages, \
           state.readings, state.duplicates, state.last_seen_ms, state.body \
           FROM device_state AS state JOIN device ON device.id = state.device \
           WHERE state.device IN (",
    row: "?",
    between: ", ",
    tail: ")",
};
const CHANNELS: Rows = Rows {
    head: "SELECT id, device, name, unit FROM channel WHERE device IN (",
    row: "?",
    between: ", ",
    tail: ")",
};

/// Reads the entries of some devices.
pub(super) async fn entries(
    connection: &mut MySqlConnection,
    statements: &mut Statements,
    devices: &[u32],
) -> Result<Vec<Entry>, Failure> {
    let mut entries: BTreeMap<u32, Entry> = BTreeMap::new();
    let mut summaries: HashMap<u32, Summary> = HashMap::new();
    let rows = statements.read(connection, &DEVICES, devices, |a, &device| a.add(device)).await?;
    for row in rows {
        let (entry, channels) = entry(&row)?;
        summaries.extend(channels.into_iter().map(|channel| (channel.row, channel)));
        entries.insert(entry.row, entry);
    }
    let rows = statements.read(connection, &CHANNELS, devices, |a, &device| a.add(device)).await?;
    for row in rows {
        let (id, device): (u32, u32) = (row.try_get(0)?, row.try_get(1)?);
        let Some(entry) = entries.get_mut(&device) else {
            continue;
        };
        let fresh = Summary { row: id, ..Summary::default() };
        let channel = Channel {
            unit: Arc::from(row.try_get::<&str, _>(3)?),
            summary: summaries.get(&id).copied().unwrap_or(fresh),
        };
        entry.channels.insert(Arc::from(row.try_get::<&str, _>(2)?), channel);
    }
    for (device, alarm) in alarms::not_over(connection, statements, devices).await? {
        if let Some(entry) = entries.get_mut(&device) {
            let kind = alarm.kind;
            *entry.alarm_mut(kind) = Some(alarm);
        }
    }
    Ok(entries.into_values().collect())
}

fn entry(row: &MySqlRow) -> Result<(Entry, Vec<Summary>), Failure> {
    let mut entry = Entry::new(row.try_get(0)?, Arc::from(row.try_get::<&str, _>(1)?));
    entry.revision = Some(row.try_get(2)?);
    entry.living = row.try_get(3)?;
    let (state, channels) = State::unpack(row.try_get(8)?)
        .ok_or_else(|| Failure::Damaged(format!("the state of device {}", entry.name)))?;
    entry.state = State {
        messages: row.try_get(4)?,
        readings: row.try_get(5)?,
        duplicates: row.try_get(6)?,
        last_seen_ms: row.try_get(7)?,
        ..state
    };
    Ok((entry, channels))
}
