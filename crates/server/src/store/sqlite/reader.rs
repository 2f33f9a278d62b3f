//! Queries, on connections of their own.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, Transaction, params};
use tokio::sync::Semaphore;

use super::fleet::Fleet;
use super::load::total;
use super::schema::Location;
use super::writer::EPOCH;
use super::{chunk, summaries};
use crate::limits::SNAPSHOT_RETRY;
use crate::store::downsample::downsample;
use crate::store::{ReadingsQuery, Resolution, Series, StoreError};

/// The connections that read.
#[derive(Debug)]
pub(super) struct Readers {
    location: Location,
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(location: Location, connections_max: usize) -> Arc<Self> {
        let turns = Arc::new(Semaphore::new(connections_max));
        Arc::new(Self { location, idle: Mutex::new(Vec::new()), turns })
    }

    /// Runs a query on a thread that may block.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let readers = self.clone();
        let work = move || {
            let idle = readers.idle.lock().pop();
            let connection = match idle {
                Some(connection) => connection,
                None => readers.location.open_reader()?,
            };
            let result = query(&connection);
            readers.idle.lock().push(connection);
            drop(turn);
            result
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
    }

    /// Closes the connections; later queries fail.
    pub(super) fn close(&self) {
        self.turns.close();
        self.idle.lock().clear();
    }
}

/// Finds readings in chunks and tails.
pub(super) fn readings(
    connection: &Connection,
    location: &Location,
    fleet: &RwLock<Fleet>,
    query: &ReadingsQuery,
) -> Result<Vec<Series>, StoreError> {
    let failed = |e| location.failed(e);
    let (transaction, tails) = snapshot(connection, fleet, query).map_err(failed)?;
    let mut series = Vec::with_capacity(tails.len());
    for (row, mut one) in tails {
        let wanted = match query.resolution(None) {
            Resolution::Raw => Resolution::Raw,
            _ => query.resolution(held_ms(&transaction, row, &one.points).map_err(failed)?),
        };
        let parts = parts(&transaction, row, wanted, query).map_err(failed)?;
        one.points.extend(chunks(&transaction, location, row, &parts, query)?);
        for (resolution, from_ms, to_ms) in parts.summaries {
            let found = summaries::find(&transaction, row, resolution, from_ms, to_ms);
            let found = found.map_err(failed)?;
            // A summary belongs to the part in which it begins.
            let mut found = found.iter().filter(|s| s.start_ms >= from_ms).peekable();
            if found.peek().is_some() {
                one.resolution = one.resolution.max(resolution);
            }
            for summary in found {
                let before = one.points.len();
                one.points.extend(summary.points().filter(|point| query.covers(point.0)));
                one.downsampled |= summary.count > (one.points.len() - before) as u64;
            }
        }
        one.points.sort_by_key(|&(time_ms, _)| time_ms);
        let thinned = downsample(one.points, query.points_max);
        one.points = thinned.0;
        one.downsampled |= thinned.1;
        series.push(one);
    }
    Ok(series)
}

/// Returns the times of a channel's first and last points, to a chunk or a block of summaries.
fn held_ms(
    connection: &Connection,
    channel: i64,
    tail: &[(i64, f64)],
) -> rusqlite::Result<Option<(i64, i64)>> {
    let mut statement = connection.prepare_cached(
        "SELECT * FROM (SELECT start_ms, end_ms FROM chunk WHERE channel = ?1 \
         ORDER BY end_ms LIMIT 1) UNION ALL \
         SELECT * FROM (SELECT start_ms, end_ms FROM chunk WHERE channel = ?1 \
         ORDER BY end_ms DESC LIMIT 1) UNION ALL \
         SELECT * FROM (SELECT block_ms, block_ms FROM summary WHERE channel = ?1 \
         AND resolution = ?2 ORDER BY block_ms LIMIT 1)",
    )?;
    let spans = statement
        .query_map(params![channel, summaries::code(Resolution::Hour)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .chain(tail.iter().map(|&(time_ms, _)| Ok((time_ms, time_ms))));
    let mut held: Option<(i64, i64)> = None;
    for span in spans {
        let (first_ms, last_ms) = span?;
        let (first, last) = held.unwrap_or((first_ms, last_ms));
        held = Some((first.min(first_ms), last.max(last_ms)));
    }
    Ok(held)
}

/// From what the points of a channel are taken, by time.
struct Parts {
    /// Full chunks count from here on; before, summaries stand for them.
    chunks_from_ms: i64,
    /// Each with its first and last time.
    summaries: Vec<(Resolution, i64, i64)>,
}

/// Decides what to read: what is wanted where it is still kept, else what is coarser.
fn parts(
    connection: &Connection,
    channel: i64,
    wanted: Resolution,
    query: &ReadingsQuery,
) -> rusqlite::Result<Parts> {
    let (points_from, minutes_from): (Option<i64>, Option<i64>) = connection
        .prepare_cached("SELECT points_from_ms, minutes_from_ms FROM channel WHERE id = ?1")?
        .query_row([channel], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let next = |resolution: Resolution, time_ms: i64| {
        resolution.start_of(time_ms).saturating_add(resolution.width_ms())
    };
    let minutes_from_ms = minutes_from.map_or(i64::MIN, |ms| next(Resolution::Hour, ms - 1));
    let chunks_from =
        |resolution| points_from.map_or(i64::MIN, |last_ms| next(resolution, last_ms));
    // Minutes from here on, chunks from there on; both begin with a summary of what is coarser.
    let (minutes_from_ms, chunks_from_ms) = match wanted {
        Resolution::Hour => (i64::MAX, i64::MAX),
        Resolution::Minute => (minutes_from_ms, i64::MAX),
        Resolution::Raw if chunks_from(Resolution::Minute) > minutes_from_ms => {
            (minutes_from_ms, chunks_from(Resolution::Minute))
        }
        Resolution::Raw => (chunks_from(Resolution::Hour), chunks_from(Resolution::Hour)),
    };
    let mut summaries = Vec::new();
    let last_before = |from_ms: i64| from_ms.saturating_sub(1).min(query.to_ms);
    if minutes_from_ms > query.from_ms {
        let first_ms = Resolution::Hour.start_of(query.from_ms);
        summaries.push((Resolution::Hour, first_ms, last_before(minutes_from_ms)));
    }
    if chunks_from_ms > minutes_from_ms && chunks_from_ms > query.from_ms {
        let first_ms = Resolution::Minute.start_of(query.from_ms).max(minutes_from_ms);
        summaries.push((Resolution::Minute, first_ms, last_before(chunks_from_ms)));
    }
    summaries.retain(|&(_, from_ms, to_ms)| from_ms <= to_ms);
    Ok(Parts { chunks_from_ms, summaries })
}

/// Takes points out of chunks: of full ones from where they count, of the open one all, as it is
/// in no summary.
fn chunks(
    connection: &Connection,
    location: &Location,
    channel: i64,
    parts: &Parts,
    query: &ReadingsQuery,
) -> Result<Vec<(i64, f64)>, StoreError> {
    let failed = |e| location.failed(e);
    let mut statement = connection
        .prepare_cached(
            "SELECT chunk.body, chunk.id IS channel.open_chunk FROM chunk \
             JOIN channel ON channel.id = chunk.channel \
             WHERE chunk.channel = ?1 AND chunk.end_ms >= ?2 AND chunk.start_ms <= ?3 \
             UNION ALL SELECT chunk.body, 1 FROM channel \
             JOIN chunk ON chunk.id = channel.open_chunk \
             WHERE channel.id = ?1 AND chunk.end_ms >= ?4 AND chunk.end_ms < ?2 \
             AND chunk.start_ms <= ?3",
        )
        .map_err(failed)?;
    let from_ms = parts.chunks_from_ms.max(query.from_ms);
    let mut rows =
        statement.query(params![channel, from_ms, query.to_ms, query.from_ms]).map_err(failed)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let body = row.get_ref(0).map_err(failed)?.as_blob().map_err(|e| failed(e.into()))?;
        let points = chunk::decode(body).map_err(|e| location.damaged(e.to_string()))?;
        let open: bool = row.get(1).map_err(failed)?;
        let from_ms = if open { query.from_ms } else { from_ms };
        found.extend(points.into_iter().filter(|p| p.0 >= from_ms && p.0 <= query.to_ms));
    }
    Ok(found)
}

/// Begins a transaction in which the chunks are those that the tails follow on. Between a commit
/// that moves points and the moment at which the tails show it, they do not; that is short.
fn snapshot<'c>(
    connection: &'c Connection,
    fleet: &RwLock<Fleet>,
    query: &ReadingsQuery,
) -> rusqlite::Result<(Transaction<'c>, Vec<(i64, Series)>)> {
    loop {
        let (epoch, tails) = {
            let fleet = fleet.read();
            (fleet.epoch, tails(&fleet, query))
        };
        let transaction = connection.unchecked_transaction()?;
        if total(&transaction, EPOCH)? == epoch {
            return Ok((transaction, tails));
        }
        drop(transaction);
        std::thread::sleep(SNAPSHOT_RETRY);
    }
}

/// Takes the tails of the channels that are asked for.
fn tails(fleet: &Fleet, query: &ReadingsQuery) -> Vec<(i64, Series)> {
    let Some(device) = fleet.devices.get(query.device.as_str()) else {
        return Vec::new();
    };
    let wanted = |name: &str| query.channels.is_empty() || query.channels.iter().any(|c| c == name);
    let mut found = Vec::new();
    for (name, row) in device.channels.iter().filter(|(name, _)| wanted(name)) {
        let Some(channel) = fleet.channels.get(row) else {
            continue;
        };
        let points = channel.tail.iter().copied().filter(|point| query.covers(point.0)).collect();
        let series = Series {
            channel: name.to_string(),
            unit: channel.unit.to_string(),
            points,
            downsampled: false,
            resolution: Resolution::Raw,
        };
        found.push((*row, series));
    }
    found
}

impl ReadingsQuery {
    fn covers(&self, time_ms: i64) -> bool {
        (self.from_ms..=self.to_ms).contains(&time_ms)
    }
}
