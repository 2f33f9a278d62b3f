//! The server as a whole.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::devices::{DeviceState, state_of};
use super::{Context, Problem};
use crate::clock::now_ms;

/// The server as a whole. Counts of messages and readings are those ever stored.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Status {
    /// The server's version.
    version: &'static str,
    /// When it started, in unix milliseconds.
    started_ms: i64,
    /// Registered devices.
    devices: u64,
    /// Connected devices.
    devices_online: u64,
    /// Devices whose newest verdict is anomaly.
    devices_anomalous: u64,
    /// Alarms that nobody has seen.
    alarms_open: u64,
    /// Alarms that somebody has seen and whose cause is still there.
    alarms_acknowledged: u64,
    /// Messages.
    messages_stored: u64,
    /// Readings.
    readings_stored: u64,
    /// Messages that came in again.
    duplicates: u64,
    /// Messages since the start that could never be stored.
    rejected: u64,
    /// Bytes on disk.
    storage_bytes: u64,
}

pub(super) async fn collect(context: &Context) -> Result<Status, Problem> {
    let totals = context.store.totals().await?;
    let devices = context.store.devices().await?;
    let now_ms = now_ms();
    let anomalous = |device: &&crate::store::DeviceRecord| {
        state_of(device, now_ms, context.silent_after_ms) == DeviceState::Anomaly
    };
    let counters = context.ingest.counters();
    Ok(Status {
        version: env!("CARGO_PKG_VERSION"),
        started_ms: context.started_ms,
        devices: totals.devices,
        devices_online: context.presence.online() as u64,
        devices_anomalous: devices.iter().filter(anomalous).count() as u64,
        alarms_open: totals.alarms_open,
        alarms_acknowledged: totals.alarms_acknowledged,
        messages_stored: totals.messages,
        readings_stored: totals.readings,
        duplicates: totals.duplicates,
        rejected: counters.rejected.load(std::sync::atomic::Ordering::Relaxed),
        storage_bytes: totals.storage_bytes,
    })
}

/// Describes the server as a whole.
#[utoipa::path(get, path = "/api/v1/status", responses(
    (status = 200, body = Status), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn status(State(context): State<Context>) -> Result<Json<Status>, Problem> {
    collect(&context).await.map(Json)
}

/// Tells that the process is alive.
#[utoipa::path(get, path = "/health/live", responses((status = 200)))]
pub(super) async fn live() -> &'static str {
    "live\n"
}

/// Tells whether the store answers.
#[utoipa::path(get, path = "/health/ready", responses((status = 200), (status = 503)))]
pub(super) async fn ready(State(context): State<Context>) -> (StatusCode, &'static str) {
    match context.store.totals().await {
        Ok(_) => (StatusCode::OK, "ready\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n"),
    }
}
