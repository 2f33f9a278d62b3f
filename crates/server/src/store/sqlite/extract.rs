//! Copies readings out of a data folder, also beside a running server: one view of the database,
//! channel by channel in the order of time, without holding more than a few chunks.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::Connection;

use super::schema::Location;
use super::{body, chunk};
use crate::store::StoreError;

/// Which readings are copied.
#[derive(Clone, Debug)]
pub struct ExtractQuery {
    /// The devices; none stands for all of them.
    pub devices: Vec<String>,
    /// The channels; none stands for all of them.
    pub channels: Vec<String>,
    /// The first time, in unix milliseconds.
    pub from_ms: i64,
    /// The last time, in unix milliseconds.
    pub to_ms: i64,
}

/// Some readings of one channel.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The device.
    pub device: &'a str,
    /// The channel.
    pub channel: &'a str,
    /// Its unit; empty for none.
    pub unit: &'a str,
    /// Unix milliseconds and value, in the order of time, from the part before on.
    pub points: &'a [(i64, f64)],
}

struct Channel {
    row: i64,
    device: String,
    name: String,
    unit: String,
    compacted_to: i64,
}

/// Hands out the readings of a data folder part by part.
///
/// # Errors
/// When there is no database, it fails, or `take` does.
pub fn extract<E: From<StoreError>>(
    folder: &Path,
    query: &ExtractQuery,
    mut take: impl FnMut(Part<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let location = Location::existing(folder)?;
    let connection = location.open_writer()?;
    let failed = |e| location.failed(e);
    // All is read within this one view, whatever is written meanwhile.
    let view = connection.unchecked_transaction().map_err(failed)?;
    let channels = channels(&view, query).map_err(failed)?;
    for name in &query.devices {
        if !channels.iter().any(|channel| channel.device == *name) {
            known(&view, &location, name)?;
        }
    }
    let mut tails = tails(&view, &location, &channels)?;
    for channel in &channels {
        let tail = tails.remove(&channel.row).unwrap_or_default();
        each_part(&view, &location, channel, tail, query, &mut take)?;
    }
    Ok(())
}

fn channels(view: &Connection, query: &ExtractQuery) -> rusqlite::Result<Vec<Channel>> {
    let mut statement = view.prepare(
        "SELECT channel.id, device.name, channel.name, channel.unit, channel.compacted_to \
         FROM channel JOIN device ON device.id = channel.device \
         ORDER BY device.name, channel.name",
    )?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let channel = Channel {
            row: row.get(0)?,
            device: row.get(1)?,
            name: row.get(2)?,
            unit: row.get(3)?,
            compacted_to: row.get(4)?,
        };
        let wanted = |names: &[String], name: &String| names.is_empty() || names.contains(name);
        if wanted(&query.devices, &channel.device) && wanted(&query.channels, &channel.name) {
            found.push(channel);
        }
    }
    Ok(found)
}

/// Tells a device without readings from one that does not exist.
fn known(view: &Connection, location: &Location, name: &str) -> Result<(), StoreError> {
    let found = view
        .query_row("SELECT EXISTS (SELECT 1 FROM device WHERE name = ?1)", [name], |row| row.get(0))
        .map_err(|e| location.failed(e))?;
    if found { Ok(()) } else { Err(StoreError::UnknownDevice(name.to_owned())) }
}

/// Takes what is in no chunk yet, by channel.
fn tails(
    view: &Connection,
    location: &Location,
    channels: &[Channel],
) -> Result<HashMap<i64, Vec<(i64, f64)>>, StoreError> {
    let failed = |e| location.failed(e);
    let compacted: HashMap<i64, i64> = channels.iter().map(|c| (c.row, c.compacted_to)).collect();
    let mut tails: HashMap<i64, Vec<(i64, f64)>> = HashMap::new();
    let mut statement =
        view.prepare("SELECT id, messages, body FROM batch ORDER BY id").map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let last: i64 = row.get(0).map_err(failed)?;
        let count: i64 = row.get(1).map_err(failed)?;
        let bytes = row.get_ref(2).map_err(failed)?.as_blob().map_err(|e| failed(e.into()))?;
        let messages = body::read(bytes)
            .ok_or_else(|| location.damaged(format!("batch {last} is not readable")))?;
        for (id, message) in (last - count + 1..).zip(messages) {
            for reading in message.readings {
                if compacted.get(&reading.channel).is_some_and(|&to| id > to) {
                    let tail = tails.entry(reading.channel).or_default();
                    tail.push((reading.time_ms, reading.value));
                }
            }
        }
    }
    Ok(tails)
}

/// Merges a channel's chunks, which overlap where readings came in late, with its tail.
fn each_part<E: From<StoreError>>(
    view: &Connection,
    location: &Location,
    channel: &Channel,
    tail: Vec<(i64, f64)>,
    query: &ExtractQuery,
    take: &mut impl FnMut(Part<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |e| location.failed(e);
    let chunks: Vec<(i64, i64)> = view
        .prepare_cached(
            "SELECT id, start_ms FROM chunk WHERE channel = ?1 AND end_ms >= ?2 \
             AND start_ms <= ?3 ORDER BY start_ms",
        )
        .and_then(|mut statement| {
            let key = (channel.row, query.from_ms, query.to_ms);
            statement.query_map(key, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .map_err(failed)?;
    let covers = |point: &(i64, f64)| (query.from_ms..=query.to_ms).contains(&point.0);
    let mut waiting: Vec<(i64, f64)> = tail.into_iter().filter(covers).collect();
    waiting.sort_by_key(|&(time_ms, _)| time_ms);
    let mut give = |points: &[(i64, f64)]| {
        let Channel { device, name, unit, .. } = channel;
        if points.is_empty() {
            return Ok(());
        }
        take(Part { device, channel: name, unit, points })
    };
    for (id, start_ms) in chunks {
        // No later chunk has anything from before this one's beginning.
        let ready = waiting.partition_point(|&(time_ms, _)| time_ms < start_ms);
        give(&waiting[..ready])?;
        waiting.drain(..ready);
        let bytes: Vec<u8> = view
            .prepare_cached("SELECT body FROM chunk WHERE id = ?1")
            .and_then(|mut statement| statement.query_row([id], |row| row.get(0)))
            .map_err(failed)?;
        let points = chunk::decode(&bytes).map_err(|e| location.damaged(e.to_string()))?;
        waiting.extend(points.into_iter().filter(covers));
        waiting.sort_by_key(|&(time_ms, _)| time_ms);
    }
    give(&waiting)
}
