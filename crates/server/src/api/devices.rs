//! Devices and their newest values.
#![allow(unused_qualifications, reason = "the macros of utoipa write longer paths than needed")]

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Context;
use super::problem::Problem;
use super::readings::Query;
use crate::clock::now_ms;
use crate::ingest::UNAUTHENTICATED_PREFIX;
use crate::limits::{DEVICES_PAGE, DEVICES_PAGE_MAX, SEARCH_LEN_MAX};
use crate::store::{ChannelRecord, DeviceRecord, StoreError};

/// What is to be said of a device first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// Its newest verdict is normal.
    Normal,
    /// Its newest verdict is anomaly.
    Anomaly,
    /// It rejects samples of a sensor.
    SensorFault,
    /// It has sent nothing for some time.
    Silent,
    /// It has never sent anything.
    NeverSeen,
}

/// A device with its newest values.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Device {
    /// Its identity.
    pub id: String,
    /// What is to be said of it first.
    pub state: DeviceState,
    /// Whether it is connected.
    pub online: bool,
    /// When its newest message came in, in unix milliseconds.
    pub last_seen_ms: Option<i64>,
    /// Its newest score.
    pub score: Option<f64>,
    /// Its newest threshold.
    pub threshold: Option<f64>,
    /// The detector that it runs.
    pub detector: Option<String>,
    /// Its alarms that nobody has seen.
    pub alarms_open: u32,
    /// Its newest scores: unix milliseconds, score, threshold. Left out in live events.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Vec<Option<f64>>>>)]
    pub recent_scores: Option<Vec<(i64, f64, Option<f64>)>>,
}

/// A channel with its newest value.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct Channel {
    /// Its name.
    name: String,
    /// Its unit.
    unit: Option<String>,
    /// Its newest value.
    latest: Option<f64>,
    /// The time of that value, in unix milliseconds.
    latest_ms: Option<i64>,
    /// How many readings are kept.
    readings: u64,
    /// False where nobody could make sure who sent the readings: anyone could forge them.
    authenticated: bool,
}

/// A device with its channels.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct DeviceWithChannels {
    #[serde(flatten)]
    device: Device,
    /// Its channels, by name.
    channels: Vec<Channel>,
}

/// Some of the devices, by identity.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct DevicePage {
    /// The devices.
    devices: Vec<Device>,
    /// What to pass as `after` for more, if there are more.
    next: Option<String>,
    /// How many devices fit the question.
    total: usize,
}

/// Which devices are asked for.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DevicesQuestion {
    /// A part of the identity, in any case.
    search: Option<String>,
    /// Only devices in this state.
    #[param(inline)]
    state: Option<DeviceState>,
    /// Only devices after this identity.
    after: Option<String>,
    /// The most devices; at most 500.
    limit: Option<usize>,
}

/// Judges a device: silence first, as an old verdict says nothing about the present.
pub(super) fn state_of(device: &DeviceRecord, now_ms: i64, silent_after_ms: i64) -> DeviceState {
    match device.last_seen_ms {
        None => DeviceState::NeverSeen,
        Some(seen_ms) if now_ms.saturating_sub(seen_ms) > silent_after_ms => DeviceState::Silent,
        Some(_) if device.anomalous => DeviceState::Anomaly,
        Some(_) if device.sensor_fault => DeviceState::SensorFault,
        Some(_) => DeviceState::Normal,
    }
}

impl Device {
    /// Describes a device as of now.
    pub(crate) fn of(record: DeviceRecord, context: &Context, now_ms: i64) -> Self {
        Self {
            state: state_of(&record, now_ms, context.silent_after_ms),
            online: context.presence.is_online(&record.id),
            id: record.id,
            last_seen_ms: record.last_seen_ms,
            score: record.score,
            threshold: record.threshold,
            detector: record.detector,
            alarms_open: record.alarms_open,
            recent_scores: Some(record.recent_scores),
        }
    }

    /// Leaves out what live events do not carry.
    pub(crate) fn without_scores(self) -> Self {
        Self { recent_scores: None, ..self }
    }
}

impl From<ChannelRecord> for Channel {
    fn from(record: ChannelRecord) -> Self {
        Self {
            authenticated: !record.name.starts_with(UNAUTHENTICATED_PREFIX),
            name: record.name,
            unit: (!record.unit.is_empty()).then_some(record.unit),
            latest: record.latest,
            latest_ms: record.latest_ms,
            readings: record.readings,
        }
    }
}

/// Lists devices by identity.
#[utoipa::path(get, path = "/api/v1/devices", params(DevicesQuestion), responses(
    (status = 200, body = DevicePage), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(context): State<Context>,
    Query(question): Query<DevicesQuestion>,
) -> Result<Json<DevicePage>, Problem> {
    let search = question.search.unwrap_or_default().to_ascii_lowercase();
    if search.len() > SEARCH_LEN_MAX {
        return Err(Problem::bad_request(format!("`search` has at most {SEARCH_LEN_MAX} bytes")));
    }
    let limit = question.limit.unwrap_or(DEVICES_PAGE).clamp(1, DEVICES_PAGE_MAX);
    let now_ms = now_ms();
    let fits = |record: &DeviceRecord| {
        let state = state_of(record, now_ms, context.silent_after_ms);
        question.state.is_none_or(|wanted| wanted == state)
            && record.id.to_ascii_lowercase().contains(&search)
    };
    let mut fitting = context.store.devices().await?;
    fitting.retain(fits);
    let total = fitting.len();
    if let Some(after) = &question.after {
        fitting.retain(|record| record.id > *after);
    }
    let more = fitting.len() > limit;
    fitting.truncate(limit);
    let next = if more { fitting.last().map(|record| record.id.clone()) } else { None };
    let devices = fitting.into_iter().map(|record| Device::of(record, &context, now_ms)).collect();
    Ok(Json(DevicePage { devices, next, total }))
}

/// Describes a device and its channels.
#[utoipa::path(get, path = "/api/v1/devices/{id}", params(("id" = String, Path, description = "The device")), responses(
    (status = 200, body = DeviceWithChannels), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn one(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<DeviceWithChannels>, Problem> {
    let record = context.store.device(&id).await?.ok_or(StoreError::UnknownDevice(id))?;
    let channels = context.store.channels(&record.id).await?;
    let device = Device::of(record, &context, now_ms());
    let channels = channels.into_iter().map(Channel::from).collect();
    Ok(Json(DeviceWithChannels { device, channels }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_outweighs_an_old_verdict() {
        let mut record = DeviceRecord { anomalous: true, ..DeviceRecord::default() };
        assert_eq!(state_of(&record, 10_000, 1_000), DeviceState::NeverSeen);
        record.last_seen_ms = Some(9_500);
        assert_eq!(state_of(&record, 10_000, 1_000), DeviceState::Anomaly);
        record.sensor_fault = true;
        assert_eq!(state_of(&record, 10_000, 1_000), DeviceState::Anomaly);
        record.anomalous = false;
        assert_eq!(state_of(&record, 10_000, 1_000), DeviceState::SensorFault);
        assert_eq!(state_of(&record, 10_501, 1_000), DeviceState::Silent);
    }
}
