//! The HTTP interface: what users, scripts and the dashboard have alike. The description that
//! `GET /api/v1/openapi.json` gives is made from the code of the routes.

mod alarms;
mod devices;
mod guard;
mod live;
mod metrics;
mod openapi;
mod problem;
mod readings;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

pub use self::devices::Device;
pub use self::guard::Hosts;
pub use self::openapi::document;
pub use self::problem::Problem;
use crate::dashboard;
use crate::ingest::Ingest;
use crate::limits::REQUEST_BODY_LEN_MAX;
use crate::live::Hub;
use crate::presence::Presence;
use crate::store::Store;

/// What the routes stand on.
#[derive(Clone)]
pub struct Context {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// What happens now.
    pub hub: Hub,
    /// Who is connected.
    pub presence: Arc<Presence>,
    /// Counts what came in.
    pub ingest: Arc<Ingest>,
    /// Counts what was refused by MQTT.
    pub mqtt: Arc<crate::mqtt::Counters>,
    /// By which names browsers may address the server.
    pub hosts: Arc<Hosts>,
    /// When the server started, in unix milliseconds.
    pub started_ms: i64,
    /// After how much time without a message a device is silent.
    pub silent_after_ms: i64,
    /// Becomes true when the server ends: streams end then, too.
    pub ending: tokio::sync::watch::Receiver<bool>,
}

/// Builds all routes: API, probes, metrics, and the dashboard for everything else.
pub fn router(context: Context) -> Router {
    let quick = Router::new()
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/devices", get(devices::list))
        .route("/api/v1/devices/{id}", get(devices::one))
        .route("/api/v1/devices/{id}/readings", get(readings::readings))
        .route("/api/v1/alarms", get(alarms::list))
        .route("/api/v1/alarms/{id}", get(alarms::one))
        .route("/api/v1/alarms/{id}/acknowledge", post(alarms::acknowledge))
        .route("/api/v1/alarms/{id}/clear", post(alarms::clear))
        .route("/api/v1/openapi.json", get(openapi::openapi))
        .route("/api/{*rest}", get(problem::no_such_route).fallback(problem::no_such_route))
        .route("/metrics", get(metrics::metrics))
        .route("/health/live", get(status::live))
        .route("/health/ready", get(status::ready))
        .method_not_allowed_fallback(problem::wrong_method)
        .fallback(dashboard::serve)
        .layer(from_fn(guard::timeout));
    quick
        .route("/api/v1/live", get(live::live))
        .layer(DefaultBodyLimit::max(REQUEST_BODY_LEN_MAX))
        .layer(from_fn_with_state(context.clone(), guard::hosts))
        .layer(from_fn(guard::headers))
        .with_state(context)
}
