//! What is shown of the devices without asking the database each time. This gateway's writer puts
//! its news in after each commit; what other gateways wrote is looked up when somebody asks.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use sqlx::mysql::MySqlConnection;
use sqlx::{Arguments, Row};
use stonechat_core::wire::uplink::{SCORE, THRESHOLD};

use super::batch::Applied;
use super::ledger::{Channel, Entry};
use super::reader::Wanted;
use super::statement::{Rows, Statements};
use super::{Failure, MysqlRecords, load};
use crate::limits::{MYSQL_DEVICES_PER_STATEMENT, MYSQL_FLEET_REFRESH, RECENT_SCORES};
use crate::store::{ChannelRecord, DeviceRecord, ReadingsQuery};

/// The newest scores of many channels; as many as [`RECENT_SCORES`].
const NEWEST: Rows = Rows {
    head: "SELECT channel, time_ms, value FROM (",
    row: "(SELECT channel, time_ms, ordinal, value FROM reading WHERE channel = ? \
          ORDER BY time_ms DESC, ordinal DESC LIMIT 60)",
    between: " UNION ",
    tail: ") AS newest ORDER BY channel, time_ms, ordinal",
};
const _: () = assert!(RECENT_SCORES == 60, "the statement says how many");

/// Every device.
#[derive(Debug, Default)]
pub(super) struct Fleets {
    devices: RwLock<BTreeMap<Arc<str>, View>>,
    /// When the database was looked at last.
    refreshed: Mutex<Option<Instant>>,
    /// One look at a time.
    turn: tokio::sync::Mutex<Statements>,
}

#[derive(Debug, Default)]
struct View {
    row: u32,
    revision: u64,
    last_seen_ms: Option<i64>,
    detector: Option<String>,
    anomalous: bool,
    sensor_fault: bool,
    alarms_open: u32,
    channels: BTreeMap<Arc<str>, Channel>,
    /// `None` until they are read from the database.
    scores: Option<VecDeque<(i64, f64, Option<f64>)>>,
}

impl Fleets {
    /// Tells whether the database was ever looked at.
    pub(super) fn is_known(&self) -> bool {
        self.refreshed.lock().is_some()
    }

    /// Makes the next question look at the database.
    pub(super) fn expire(&self) {
        let mut refreshed = self.refreshed.lock();
        if let Some(at) = *refreshed {
            *refreshed = at.checked_sub(MYSQL_FLEET_REFRESH).or(*refreshed);
        }
    }

    /// Takes in what a transaction of this gateway did.
    pub(super) fn apply(&self, applied: Vec<Applied>) {
        let mut devices = self.devices.write();
        for news in applied {
            let view = devices.entry(news.name).or_default();
            if view.revision >= news.revision {
                continue;
            }
            // What others wrote in between is not among the news, unless they are the whole.
            let gapless = view.revision + 1 == news.revision;
            if !gapless && !news.whole {
                continue;
            }
            view.row = news.row;
            view.revision = news.revision;
            view.last_seen_ms = news.last_seen_ms;
            view.detector = news.detector;
            view.anomalous = news.anomalous;
            view.sensor_fault = news.sensor_fault;
            view.alarms_open = news.alarms_open;
            view.channels.extend(news.channels);
            if !gapless {
                view.scores = None;
            }
            if let Some(scores) = &mut view.scores {
                scores.extend(news.scores);
                let more = scores.len().saturating_sub(RECENT_SCORES);
                scores.drain(..more);
            }
        }
    }

    /// Reads what others wrote since the last look, at most once in a while.
    pub(super) async fn refresh(&self, records: &MysqlRecords) -> Result<(), Failure> {
        let fresh = || self.refreshed.lock().is_some_and(|at| at.elapsed() < MYSQL_FLEET_REFRESH);
        if fresh() {
            return Ok(());
        }
        let mut statements = self.turn.lock().await;
        if fresh() {
            return Ok(());
        }
        let began = Instant::now();
        let mut connection = records.acquire().await?;
        let changed = self.changed(&mut connection).await?;
        for devices in changed.chunks(MYSQL_DEVICES_PER_STATEMENT) {
            let entries = load::entries(&mut connection, &mut statements, devices).await?;
            let mut views = self.devices.write();
            for entry in entries {
                let view = views.entry(entry.name.clone()).or_default();
                if entry.revision.is_some_and(|revision| revision > view.revision) {
                    view.take(entry);
                }
            }
        }
        self.read_scores(&mut connection, &mut statements).await?;
        *self.refreshed.lock() = Some(began);
        Ok(())
    }

    /// Finds the devices that are newer in the database.
    async fn changed(&self, connection: &mut MySqlConnection) -> Result<Vec<u32>, Failure> {
        let rows =
            sqlx::query("SELECT device, revision FROM device_state").fetch_all(connection).await?;
        let known: HashMap<u32, u64> =
            self.devices.read().values().map(|view| (view.row, view.revision)).collect();
        let mut changed = Vec::new();
        for row in rows {
            let (device, revision): (u32, u64) = (row.try_get(0)?, row.try_get(1)?);
            if known.get(&device).is_none_or(|&known| known < revision) {
                changed.push(device);
            }
        }
        Ok(changed)
    }

    /// Reads the newest scores of the devices whose are not known.
    async fn read_scores(
        &self,
        connection: &mut MySqlConnection,
        statements: &mut Statements,
    ) -> Result<(), Failure> {
        let mut unknown = Vec::new();
        {
            let mut views = self.devices.write();
            for (name, view) in views.iter_mut().filter(|(_, view)| view.scores.is_none()) {
                let row = |channel: &str| view.channels.get(channel).map(|c| c.summary.row);
                match row(SCORE) {
                    Some(score) => {
                        unknown.push((name.clone(), view.revision, score, row(THRESHOLD)));
                    }
                    None => view.scores = Some(VecDeque::new()),
                }
            }
        }
        let channels: Vec<u32> = unknown
            .iter()
            .flat_map(|&(_, _, score, threshold)| [Some(score), threshold])
            .flatten()
            .collect();
        let mut points: HashMap<u32, Vec<(i64, f64)>> = HashMap::new();
        for channels in channels.chunks(MYSQL_DEVICES_PER_STATEMENT) {
            let rows = statements.read(connection, &NEWEST, channels, |a, &row| a.add(row)).await?;
            for row in rows {
                let point = (row.try_get(1)?, row.try_get(2)?);
                points.entry(row.try_get(0)?).or_default().push(point);
            }
        }
        let mut views = self.devices.write();
        for (name, revision, score, threshold) in unknown {
            let thresholds = threshold.and_then(|row| points.remove(&row)).unwrap_or_default();
            let thresholds: HashMap<i64, f64> = thresholds.into_iter().collect();
            let scores = points.remove(&score).unwrap_or_default();
            // If there is news meanwhile, the next look reads them.
            if let Some(view) = views.get_mut(&name).filter(|view| view.revision == revision) {
                let point = |(at, score): (i64, f64)| (at, score, thresholds.get(&at).copied());
                view.scores = Some(scores.into_iter().map(point).collect());
            }
        }
        Ok(())
    }

    /// Describes a device.
    pub(super) fn record(&self, id: &str) -> Option<DeviceRecord> {
        self.devices.read().get(id).map(|view| view.record(id))
    }

    /// Describes all devices.
    pub(super) fn records(&self) -> Vec<DeviceRecord> {
        self.devices.read().iter().map(|(id, view)| view.record(id)).collect()
    }

    /// Describes a device's channels.
    pub(super) fn channel_records(&self, id: &str) -> Option<Vec<ChannelRecord>> {
        let devices = self.devices.read();
        let describe = |(name, channel): (&Arc<str>, &Channel)| ChannelRecord {
            name: name.to_string(),
            unit: channel.unit.to_string(),
            latest: channel.summary.latest.map(|(_, value)| value),
            latest_ms: channel.summary.latest.map(|(time_ms, _)| time_ms),
            readings: channel.summary.readings,
        };
        Some(devices.get(id)?.channels.iter().map(describe).collect())
    }

    /// Finds the channels that are asked for.
    pub(super) fn channels(&self, query: &ReadingsQuery) -> Vec<Wanted> {
        let devices = self.devices.read();
        let Some(view) = devices.get(query.device.as_str()) else {
            return Vec::new();
        };
        let wanted =
            |name: &str| query.channels.is_empty() || query.channels.iter().any(|c| c == name);
        let describe = |(name, channel): (&Arc<str>, &Channel)| Wanted {
            row: channel.summary.row,
            name: name.to_string(),
            unit: channel.unit.to_string(),
        };
        view.channels.iter().filter(|(name, _)| wanted(name)).map(describe).collect()
    }
}

impl View {
    fn take(&mut self, entry: Entry) {
        self.row = entry.row;
        self.revision = entry.revision.unwrap_or(0);
        self.last_seen_ms = entry.state.last_seen_ms;
        self.anomalous = entry.state.anomaly.holds;
        self.sensor_fault = entry.state.fault.holds;
        self.alarms_open = entry.alarms_open();
        self.detector = entry.state.detector;
        self.channels = entry.channels;
        self.scores = None;
    }

    fn record(&self, id: &str) -> DeviceRecord {
        let latest =
            |channel: &str| self.channels.get(channel)?.summary.latest.map(|(_, value)| value);
        DeviceRecord {
            id: id.to_owned(),
            last_seen_ms: self.last_seen_ms,
            score: latest(SCORE),
            threshold: latest(THRESHOLD),
            anomalous: self.anomalous,
            sensor_fault: self.sensor_fault,
            detector: self.detector.clone(),
            alarms_open: self.alarms_open,
            recent_scores: self.scores.iter().flatten().copied().collect(),
        }
    }
}
