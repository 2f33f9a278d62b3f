//! Queries, on connections of their own.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, Transaction, params};
use tokio::sync::Semaphore;

use super::chunk;
use super::fleet::Fleet;
use super::load::total;
use super::schema::Location;
use super::writer::EPOCH;
use crate::limits::SNAPSHOT_RETRY;
use crate::store::downsample::downsample;
use crate::store::{ReadingsQuery, Series, StoreError};

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
        let mut statement = transaction
            .prepare_cached(
                "SELECT body FROM chunk WHERE channel = ?1 AND end_ms >= ?2 AND start_ms <= ?3",
            )
            .map_err(failed)?;
        let mut rows = statement.query(params![row, query.from_ms, query.to_ms]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let body = row.get_ref(0).map_err(failed)?.as_blob().map_err(|e| failed(e.into()))?;
            let points = chunk::decode(body).map_err(|e| location.damaged(e.to_string()))?;
            one.points.extend(points.into_iter().filter(|point| query.covers(point.0)));
        }
        one.points.sort_by_key(|&(time_ms, _)| time_ms);
        (one.points, one.downsampled) = downsample(one.points, query.points_max);
        series.push(one);
    }
    Ok(series)
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
