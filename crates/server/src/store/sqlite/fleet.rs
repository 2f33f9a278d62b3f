//! What readers see of the devices without asking the database: newest values, and the tail of
//! each channel that is not yet in chunks. It changes only after a commit.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use stonechat_core::wire::uplink::{SCORE, THRESHOLD};

use crate::limits::RECENT_SCORES;
use crate::store::{ChannelRecord, DeviceRecord};

/// Every device and channel.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    pub(super) devices: BTreeMap<Arc<str>, DeviceView>,
    pub(super) channels: HashMap<i64, ChannelView>,
    /// The readings in all tails.
    pub(super) tail_readings: usize,
    /// The number of the commit that last moved points into chunks or deleted chunks: readers
    /// hold it against the database's, so that no reading is in both or in neither.
    pub(super) epoch: i64,
    pub(super) messages: u64,
    pub(super) readings: u64,
    pub(super) duplicates: u64,
}

/// A device.
#[derive(Debug, Default)]
pub(super) struct DeviceView {
    pub(super) last_seen_ms: Option<i64>,
    pub(super) detector: Option<String>,
    pub(super) anomalous: bool,
    pub(super) sensor_fault: bool,
    pub(super) alarms_open: u32,
    pub(super) recent_scores: VecDeque<(i64, f64, Option<f64>)>,
    /// Channel rows by name.
    pub(super) channels: BTreeMap<Arc<str>, i64>,
}

/// A channel.
#[derive(Debug)]
pub(super) struct ChannelView {
    pub(super) unit: Arc<str>,
    pub(super) latest: Option<(i64, f64)>,
    /// The points in chunks.
    pub(super) stored: u64,
    /// The points not yet in chunks, as they came in.
    pub(super) tail: Vec<(i64, f64)>,
}

impl ChannelView {
    pub(super) fn new(unit: Arc<str>) -> Self {
        Self { unit, latest: None, stored: 0, tail: Vec::new() }
    }

    /// Appends a point to the tail.
    pub(super) fn push(&mut self, time_ms: i64, value: f64) {
        self.tail.push((time_ms, value));
        if self.latest.is_none_or(|(latest_ms, _)| time_ms >= latest_ms) {
            self.latest = Some((time_ms, value));
        }
    }
}

impl DeviceView {
    pub(super) fn push_score(&mut self, time_ms: i64, score: f64, threshold: Option<f64>) {
        if self.recent_scores.len() == RECENT_SCORES {
            self.recent_scores.pop_front();
        }
        self.recent_scores.push_back((time_ms, score, threshold));
    }
}

impl Fleet {
    /// Describes a device.
    pub(super) fn record(&self, id: &str) -> Option<DeviceRecord> {
        self.devices.get(id).map(|view| self.record_of(id, view))
    }

    /// Describes all devices.
    pub(super) fn records(&self) -> Vec<DeviceRecord> {
        self.devices.iter().map(|(id, view)| self.record_of(id, view)).collect()
    }

    fn record_of(&self, id: &str, view: &DeviceView) -> DeviceRecord {
        let latest = |channel: &str| {
            let row = view.channels.get(channel)?;
            self.channels.get(row)?.latest.map(|(_, value)| value)
        };
        DeviceRecord {
            id: id.to_owned(),
            last_seen_ms: view.last_seen_ms,
            score: latest(SCORE),
            threshold: latest(THRESHOLD),
            anomalous: view.anomalous,
            sensor_fault: view.sensor_fault,
            detector: view.detector.clone(),
            alarms_open: view.alarms_open,
            recent_scores: view.recent_scores.iter().copied().collect(),
        }
    }

    /// Describes a device's channels.
    pub(super) fn channel_records(&self, id: &str) -> Option<Vec<ChannelRecord>> {
        let view = self.devices.get(id)?;
        let describe = |(name, row): (&Arc<str>, &i64)| {
            let channel = self.channels.get(row)?;
            Some(ChannelRecord {
                name: name.to_string(),
                unit: channel.unit.to_string(),
                latest: channel.latest.map(|(_, value)| value),
                latest_ms: channel.latest.map(|(time_ms, _)| time_ms),
                readings: channel.stored + channel.tail.len() as u64,
            })
        };
        Some(view.channels.iter().filter_map(describe).collect())
    }
}
