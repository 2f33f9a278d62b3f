//! The HTTP interface: what users, scripts and the dashboard have alike. The description that
//! `GET /api/v1/openapi.json` gives is made from the code of the routes.

mod access;
mod accounts;
mod alarms;
mod audit;
mod decode;
mod devices;
mod enrol;
mod guard;
mod ingest;
mod live;
mod metrics;
mod openapi;
mod problem;
mod readings;
mod sign_in;
mod status;
#[cfg(test)]
mod tests;
pub(crate) mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, patch, post};

pub use self::devices::Device;
pub use self::guard::{Hosts, Peer};
pub use self::openapi::document;
pub use self::problem::Problem;
use crate::access::Access;
use crate::codec::latent::Decoders;
use crate::dashboard;
use crate::identity::{Directory, Enroller};
use crate::ingest::Ingest;
use crate::legacy;
use crate::limits::REQUEST_BODY_LEN_MAX;
use crate::live::Hub;
use crate::mqtt::Downlink;
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
    /// Who may do what.
    pub access: Arc<Access>,
    /// Whether `/metrics` is open to requests from this computer.
    pub metrics_on_loopback: bool,
    /// Enrols devices that made their own keys, where HTTPS is served.
    pub enroller: Option<Arc<Enroller>>,
    /// Who the devices are.
    pub directory: Arc<Directory>,
    /// Sends to devices that are connected by MQTT.
    pub downlink: Option<Downlink>,
    /// Decodes latent vectors.
    pub decoders: Arc<Decoders>,
    /// Counts what came in as old packets, if they are taken in.
    pub legacy: Option<Arc<legacy::Counters>>,
    /// When the server started, in unix milliseconds.
    pub started_ms: i64,
    /// After how much time without a message a device is silent.
    pub silent_after_ms: i64,
    /// Becomes true when the server ends: streams end then, too.
    pub ending: tokio::sync::watch::Receiver<bool>,
}

/// Builds all routes; `access.rs` says who may use which. API, probes, metrics, and the dashboard for everything else.
pub fn router(context: Context) -> Router {
    let quick = Router::new()
        .route(
            "/api/v1/session",
            get(sign_in::session).post(sign_in::sign_in).delete(sign_in::sign_out),
        )
        .route("/api/v1/session/link", post(sign_in::sign_in_by_link))
        .route("/api/v1/set-up", post(sign_in::set_up))
        .route("/api/v1/account", get(accounts::own))
        .route("/api/v1/account/password", post(accounts::change_password))
        .route("/api/v1/account/sessions", get(accounts::sessions))
        .route("/api/v1/account/sessions/{id}", delete(accounts::end_session))
        .route("/api/v1/accounts", get(accounts::list).post(accounts::add))
        .route("/api/v1/accounts/{name}", patch(accounts::change).delete(accounts::remove))
        .route("/api/v1/tokens", get(tokens::list).post(tokens::add))
        .route("/api/v1/tokens/{id}", delete(tokens::revoke))
        .route("/api/v1/audit", get(audit::list))
        .route("/api/v1/audit/verification", get(audit::verify))
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/devices", get(devices::list))
        .route("/api/v1/devices/{id}", get(devices::one))
        .route("/api/v1/devices/{id}/readings", get(readings::readings).post(ingest::take))
        .route("/api/v1/devices/{id}/commands", post(ingest::command))
        .route("/decode", post(decode::decode))
        .route("/api/v1/alarms", get(alarms::list))
        .route("/api/v1/alarms/{id}", get(alarms::one))
        .route("/api/v1/alarms/{id}/acknowledge", post(alarms::acknowledge))
        .route("/api/v1/alarms/{id}/clear", post(alarms::clear))
        .route("/api/v1/enrol", post(enrol::enrol))
        .route("/api/v1/openapi.json", get(openapi::openapi))
        .route(problem::NO_SUCH_ROUTE, get(problem::no_such_route).fallback(problem::no_such_route))
        .route("/metrics", get(metrics::metrics))
        .route("/health/live", get(status::live))
        .route("/health/ready", get(status::ready))
        .method_not_allowed_fallback(problem::wrong_method)
        .fallback(dashboard::serve)
        .layer(from_fn(guard::timeout));
    quick
        .route("/api/v1/live", get(live::live))
        .layer(DefaultBodyLimit::max(REQUEST_BODY_LEN_MAX))
        .layer(from_fn_with_state(context.clone(), guard::access))
        .layer(from_fn_with_state(context.clone(), guard::hosts))
        .layer(from_fn(guard::headers))
        .with_state(context)
}
