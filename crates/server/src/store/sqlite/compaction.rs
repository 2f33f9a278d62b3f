//! Moves the tail into chunks, in small steps that ride along with the writer's transactions.
//!
//! 1. For each channel with a tail: fill its open chunk, add further ones, and note in the
//!    channel's row up to which message it is done.
//! 2. Write down which messages came in, as the tail alone knew it so far.
//! 3. Delete the messages.
//!
//! After a crash between the steps, the next start replays the remaining messages, leaving out
//! the channels that are done.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLock;
use rusqlite::{Connection, OptionalExtension, params};

use super::fleet::Fleet;
use super::ledger::Ledger;
use super::writer::put_total;
use super::{chunk, summaries};
use crate::limits::{
    CHUNK_POINTS, COMPACT_AGE, COMPACT_DELETES_PER_STEP, COMPACT_MESSAGES_MAX,
    COMPACT_READINGS_MAX, COMPACT_READINGS_MIN, COMPACT_READINGS_PER_CHANNEL,
    COMPACT_READINGS_PER_STEP, RETENTION_DELETES_PER_STEP,
};

/// A compaction, or the wait for one.
#[derive(Debug)]
pub(super) struct Compaction {
    stage: Stage,
    /// Channels written in the transaction under way, with the points taken.
    written: Vec<(i64, usize)>,
    /// Channels that lost chunks in the transaction under way, with the points.
    dropped: Vec<(i64, u64)>,
    last: Instant,
}

#[derive(Debug)]
enum Stage {
    Idle,
    Channels { rows: Vec<i64>, to: i64 },
    Sessions { to: i64 },
    Deletes { to: i64 },
}

impl Default for Compaction {
    fn default() -> Self {
        Self { stage: Stage::Idle, written: Vec::new(), dropped: Vec::new(), last: Instant::now() }
    }
}

struct OpenChunk {
    row: i64,
    points: Vec<(i64, f64)>,
}

impl Compaction {
    pub(super) fn under_way(&self) -> bool {
        !matches!(self.stage, Stage::Idle)
    }

    /// Tells whether the tail is long or old enough.
    pub(super) fn due(&self, ledger: &Ledger, fleet: &Arc<RwLock<Fleet>>) -> bool {
        if ledger.tail_messages == 0 || self.under_way() {
            return false;
        }
        let fleet = fleet.read();
        let enough = (fleet.channels.len() * COMPACT_READINGS_PER_CHANNEL)
            .clamp(COMPACT_READINGS_MIN, COMPACT_READINGS_MAX);
        fleet.tail_readings >= enough
            || ledger.tail_messages >= COMPACT_MESSAGES_MAX
            || self.last.elapsed() >= COMPACT_AGE
    }

    pub(super) fn start(&mut self, ledger: &Ledger, fleet: &Arc<RwLock<Fleet>>) {
        let fleet = fleet.read();
        let with_tail = fleet.channels.iter().filter(|(_, channel)| !channel.tail.is_empty());
        let mut rows: Vec<i64> = with_tail.map(|(&row, _)| row).collect();
        // Rows that lie side by side in the database are written together.
        rows.sort_unstable();
        self.stage = Stage::Channels { rows, to: ledger.last_message };
        self.last = Instant::now();
    }

    /// Tells whether the transaction under way changed chunks.
    pub(super) fn changed_chunks(&self) -> bool {
        !self.written.is_empty() || !self.dropped.is_empty()
    }

    /// Does one step, so large that the tail shrinks while `arrived` readings come in; the tails
    /// that the fleet shows reach up to message `shown_to`.
    pub(super) fn step(
        &mut self,
        connection: &Connection,
        ledger: &mut Ledger,
        fleet: &Arc<RwLock<Fleet>>,
        shown_to: i64,
        arrived: usize,
    ) -> rusqlite::Result<()> {
        let enough = COMPACT_READINGS_PER_STEP + 2 * arrived;
        self.stage = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => Stage::Idle,
            Stage::Channels { mut rows, to } => {
                let mut done = 0;
                while done < enough
                    && let Some(row) = rows.pop()
                {
                    // A channel costs something however few readings it has.
                    done += COMPACT_READINGS_PER_CHANNEL;
                    done += self.compact_channel(connection, fleet, row, shown_to)?;
                }
                if rows.is_empty() { Stage::Sessions { to } } else { Stage::Channels { rows, to } }
            }
            Stage::Sessions { to } => {
                write_sessions(connection, ledger)?;
                Stage::Deletes { to }
            }
            Stage::Deletes { to } => {
                let (batches, messages) = delete_batches(connection, to)?;
                ledger.tail_messages = ledger.tail_messages.saturating_sub(messages);
                if batches as i64 == COMPACT_DELETES_PER_STEP {
                    Stage::Deletes { to }
                } else {
                    Stage::Idle
                }
            }
        };
        Ok(())
    }

    /// Shows the readers what was committed.
    pub(super) fn committed(&mut self, fleet: &mut Fleet) {
        for (row, points) in self.written.drain(..) {
            if let Some(channel) = fleet.channels.get_mut(&row) {
                channel.tail.drain(..points);
                channel.tail.shrink_to(CHUNK_POINTS);
                channel.stored += points as u64;
                fleet.tail_readings -= points;
            }
        }
        for (row, points) in self.dropped.drain(..) {
            if let Some(channel) = fleet.channels.get_mut(&row) {
                channel.stored = channel.stored.saturating_sub(points);
            }
        }
    }

    fn compact_channel(
        &mut self,
        connection: &Connection,
        fleet: &Arc<RwLock<Fleet>>,
        row: i64,
        shown_to: i64,
    ) -> rusqlite::Result<usize> {
        let (tail, latest) = match fleet.read().channels.get(&row) {
            Some(channel) if !channel.tail.is_empty() => (channel.tail.clone(), channel.latest),
            _ => return Ok(0),
        };
        let taken = tail.len();
        let open = open_chunk(connection, row)?;
        let open_row = open.as_ref().map(|open| open.row);
        let mut points = open.map(|open| open.points).unwrap_or_default();
        points.extend(tail);
        points.sort_by_key(|&(time_ms, _)| time_ms);
        let left_open = write_chunks(connection, row, open_row, &points)?;
        connection
            .prepare_cached(
                "UPDATE channel SET points = points + ?2, open_chunk = ?3, latest_ms = ?4, \
                 latest = ?5, compacted_to = max(compacted_to, ?6) WHERE id = ?1",
            )?
            .execute(params![
                row,
                taken as i64,
                left_open,
                latest.map(|(time_ms, _)| time_ms),
                latest.map(|(_, value)| value),
                shown_to,
            ])?;
        self.written.push((row, taken));
        Ok(taken)
    }

    /// Deletes some of the chunks that end before a time; returns how many.
    pub(super) fn delete_before(
        &mut self,
        connection: &Connection,
        before_ms: i64,
    ) -> rusqlite::Result<usize> {
        let old: Vec<(i64, i64, i64, i64)> = connection
            .prepare_cached(
                "SELECT id, channel, points, end_ms FROM chunk WHERE end_ms < ?1 LIMIT ?2",
            )?
            .query_map([before_ms, RETENTION_DELETES_PER_STEP], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for &(id, channel, points, end_ms) in &old {
            // An open chunk is in no summary yet.
            if let Some(open) = open_chunk(connection, channel)?.filter(|open| open.row == id) {
                summaries::add(connection, channel, &open.points)?;
            }
            connection.prepare_cached("DELETE FROM chunk WHERE id = ?1")?.execute([id])?;
            connection
                .prepare_cached(
                    "UPDATE channel SET points = max(0, points - ?2), \
                     open_chunk = nullif(open_chunk, ?3), \
                     points_from_ms = max(coalesce(points_from_ms, ?4), ?4) WHERE id = ?1",
                )?
                .execute([channel, points, id, end_ms])?;
            self.dropped.push((channel, points as u64));
        }
        Ok(old.len())
    }
}

/// Finds the chunk that still has room; one that cannot be read is left alone for good.
fn open_chunk(connection: &Connection, channel: i64) -> rusqlite::Result<Option<OpenChunk>> {
    let found: Option<(i64, Vec<u8>)> = connection
        .prepare_cached(
            "SELECT chunk.id, chunk.body FROM channel JOIN chunk ON chunk.id = channel.open_chunk \
             WHERE channel.id = ?1",
        )?
        .query_row([channel], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.and_then(|(row, body)| {
        let points = chunk::decode(&body).ok()?;
        Some(OpenChunk { row, points })
    }))
}

/// Writes points in chunks, the first of them over the open one; returns the one left open.
fn write_chunks(
    connection: &Connection,
    channel: i64,
    mut open_row: Option<i64>,
    points: &[(i64, f64)],
) -> rusqlite::Result<Option<i64>> {
    let mut left_open = None;
    for piece in points.chunks(CHUNK_POINTS) {
        let (Some(first), Some(last)) = (piece.first(), piece.last()) else {
            continue;
        };
        let body = chunk::encode(piece);
        let row = match open_row.take() {
            Some(row) => {
                connection
                    .prepare_cached(
                        "UPDATE chunk SET start_ms = ?2, end_ms = ?3, points = ?4, body = ?5 \
                         WHERE id = ?1",
                    )?
                    .execute(params![row, first.0, last.0, piece.len() as i64, body])?;
                row
            }
            None => connection
                .prepare_cached(
                    "INSERT INTO chunk (channel, start_ms, end_ms, points, body) \
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .insert(params![channel, first.0, last.0, piece.len() as i64, body])?,
        };
        left_open = (piece.len() < CHUNK_POINTS).then_some(row);
        if left_open.is_none() {
            summaries::add(connection, channel, piece)?;
        }
    }
    Ok(left_open)
}

/// Writes down what only the tail and the ledger know.
fn write_sessions(connection: &Connection, ledger: &mut Ledger) -> rusqlite::Result<()> {
    for entry in ledger.entries.values_mut().filter(|entry| entry.changed) {
        connection.prepare_cached("DELETE FROM session WHERE device = ?1")?.execute([entry.row])?;
        for session in &entry.sessions {
            let (highest, below) = session.window.parts();
            connection
                .prepare_cached(
                    "INSERT INTO session (device, session, highest, below, used_ms) \
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    entry.row,
                    session.number,
                    highest,
                    below as i64,
                    session.used_ms
                ])?;
        }
        if !entry.digests.is_empty() {
            let body: Vec<u8> = entry.digests.iter().flatten().copied().collect();
            connection
                .prepare_cached(
                    "INSERT INTO digest (device, body) VALUES (?1, ?2) \
                     ON CONFLICT (device) DO UPDATE SET body = ?2",
                )?
                .execute(params![entry.row, body])?;
        }
        connection
            .prepare_cached("UPDATE device SET last_seen_ms = ?2 WHERE id = ?1")?
            .execute(params![entry.row, entry.last_seen_ms])?;
        entry.changed = false;
    }
    put_total(connection, "counted_to", ledger.last_message)?;
    put_total(connection, "messages", ledger.messages as i64)?;
    put_total(connection, "readings", ledger.readings as i64)?;
    put_total(connection, "duplicates", ledger.duplicates as i64)
}

/// Deletes some of the batches up to a message; returns how many, and their messages.
fn delete_batches(connection: &Connection, to: i64) -> rusqlite::Result<(usize, usize)> {
    let some: Vec<(i64, i64)> = connection
        .prepare_cached("SELECT id, messages FROM batch WHERE id <= ?1 ORDER BY id LIMIT ?2")?
        .query_map([to, COMPACT_DELETES_PER_STEP], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    if let Some(&(last, _)) = some.last() {
        connection.prepare_cached("DELETE FROM batch WHERE id <= ?1")?.execute([last])?;
    }
    let messages: i64 = some.iter().map(|&(_, messages)| messages).sum();
    Ok((some.len(), usize::try_from(messages).unwrap_or(0)))
}
