//! What each route needs: the one table that the guard enforces, that the OpenAPI document shows,
//! and that the tests go through.
//!
//! A new route is three lines: its `.route(…)` in `mod.rs`, its name in `openapi.rs`, and its row
//! here. A route without a row answers 403, and a test names it. A row says:
//! - method and path as `.route(…)` has it;
//! - what the caller must be allowed to ([`Need`]); a route that checks a device's own token by
//!   itself has [`Need::Ingest`] and takes `Extension<Principal>`: a `Program` there is a gateway
//!   that may send for every device, `Anonymous` must prove itself to the route;
//! - for acts of people, the name under which the guard notes them in the audit log with the path
//!   as subject ([`Row::act`]); routes that note by themselves, and devices' messages, have none;
//! - how often ([`Row::pace`]), if not as often as usual.

use axum::http::Method;

use super::Problem;
use crate::access::{AccessError, Need, Pace, UnknownName};
use crate::limits::{
    PACE_OF_ONE, PACE_OF_READINGS_OF_ONE, PACE_OF_READINGS_OF_SOURCE, PACE_OF_SECRETS_OF_ONE,
    PACE_OF_SECRETS_OF_SOURCE, PACE_OF_SOURCE,
};

/// What one route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) need: Need,
    /// Under which name the guard notes what is done by it.
    pub(super) act: Option<&'static str>,
    pub(super) frequency: Frequency,
}

/// How often a route may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Frequency {
    /// By probes: without a limit.
    Free,
    /// By people and programs.
    Usual,
    /// With passwords, links and one-time tokens.
    Secrets,
    /// With readings.
    Readings,
}

impl Frequency {
    /// Returns how often one session, token or device may ask.
    pub(super) fn of_one(self) -> Option<Pace> {
        match self {
            Self::Free => None,
            Self::Usual => Some(PACE_OF_ONE),
            Self::Secrets => Some(PACE_OF_SECRETS_OF_ONE),
            Self::Readings => Some(PACE_OF_READINGS_OF_ONE),
        }
    }

    /// Returns how often may be asked from one source, whoever asks.
    pub(super) fn of_source(self) -> Option<Pace> {
        match self {
            Self::Free => None,
            Self::Usual => Some(PACE_OF_SOURCE),
            Self::Secrets => Some(PACE_OF_SECRETS_OF_SOURCE),
            Self::Readings => Some(PACE_OF_READINGS_OF_SOURCE),
        }
    }
}

impl Row {
    const fn new(method: &'static str, path: &'static str, need: Need) -> Self {
        Self { method, path, need, act: None, frequency: Frequency::Usual }
    }

    /// Has the guard note what is done by this route.
    const fn act(self, act: &'static str) -> Self {
        Self { act: Some(act), ..self }
    }

    const fn pace(self, frequency: Frequency) -> Self {
        Self { frequency, ..self }
    }

    /// Tells whether it changes nothing.
    pub(super) fn only_reads(&self) -> bool {
        self.method == "GET"
    }
}

const fn get(path: &'static str, need: Need) -> Row {
    Row::new("GET", path, need)
}

const fn post(path: &'static str, need: Need) -> Row {
    Row::new("POST", path, need)
}

const fn patch(path: &'static str, need: Need) -> Row {
    Row::new("PATCH", path, need)
}

const fn delete(path: &'static str, need: Need) -> Row {
    Row::new("DELETE", path, need)
}

/// Every route.
pub(super) const ROUTES: &[Row] = &[
    get("/health/live", Need::Nothing).pace(Frequency::Free),
    get("/health/ready", Need::Nothing).pace(Frequency::Free),
    get("/metrics", Need::Metrics),
    // Signing in; `sign_in.rs` notes these by itself.
    get("/api/v1/session", Need::Nothing),
    post("/api/v1/session", Need::Nothing).pace(Frequency::Secrets),
    delete("/api/v1/session", Need::Person),
    post("/api/v1/session/link", Need::Nothing).pace(Frequency::Secrets),
    post("/api/v1/set-up", Need::Nothing).pace(Frequency::Secrets),
    // One's own account.
    get("/api/v1/account", Need::Person),
    post("/api/v1/account/password", Need::Person).pace(Frequency::Secrets),
    get("/api/v1/account/sessions", Need::Person),
    delete("/api/v1/account/sessions/{id}", Need::Person),
    // Administration of access; `accounts.rs` and `tokens.rs` note these by themselves.
    get("/api/v1/accounts", Need::Admin),
    post("/api/v1/accounts", Need::Admin),
    patch("/api/v1/accounts/{name}", Need::Admin),
    delete("/api/v1/accounts/{name}", Need::Admin),
    get("/api/v1/tokens", Need::Admin),
    post("/api/v1/tokens", Need::Admin),
    delete("/api/v1/tokens/{id}", Need::Admin),
    get("/api/v1/audit", Need::Admin),
    get("/api/v1/audit/verification", Need::Admin),
    // A one-time ticket speaks for the device; `enrol.rs` notes what it did.
    post("/api/v1/enrol", Need::Nothing).pace(Frequency::Secrets),
    // Devices, readings, alarms.
    get("/api/v1/openapi.json", Need::Read),
    get("/api/v1/status", Need::Read),
    get("/api/v1/live", Need::Read),
    get("/api/v1/devices", Need::Read),
    get("/api/v1/devices/{id}", Need::Read),
    get("/api/v1/devices/{id}/readings", Need::Read),
    post("/api/v1/devices/{id}/readings", Need::Ingest).pace(Frequency::Readings),
    post("/decode", Need::Ingest).pace(Frequency::Readings),
    post("/api/v1/devices/{id}/commands", Need::Operate).act("device.command"),
    get("/api/v1/alarms", Need::Read),
    get("/api/v1/alarms/{id}", Need::Read),
    post("/api/v1/alarms/{id}/acknowledge", Need::Operate).act("alarm.acknowledge"),
    post("/api/v1/alarms/{id}/clear", Need::Operate).act("alarm.clear"),
];

/// What is asked for, as far as the table knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A route.
    Row(&'static Row),
    /// The path is a route's, but not with this method.
    OtherMethod,
    /// Somebody forgot the row.
    Nothing,
}

/// Finds the row of a route.
pub(super) fn find(method: &Method, path: &str) -> Found {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let mut of_path = ROUTES.iter().filter(|row| row.path == path).peekable();
    if of_path.peek().is_none() {
        return Found::Nothing;
    }
    of_path.find(|row| row.method == method).map_or(Found::OtherMethod, Found::Row)
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        use axum::http::StatusCode as Status;
        let status = match error {
            AccessError::Store(error) => return error.into(),
            AccessError::Random(_) | AccessError::Hash(_) | AccessError::Damaged => {
                tracing::error!(%error, "access control failed");
                let detail = "the access control failed; the log says why";
                return Self::new(Status::INTERNAL_SERVER_ERROR, detail);
            }
            AccessError::Busy => {
                return Self::new(Status::TOO_MANY_REQUESTS, error.to_string())
                    .retry_after_ms(1_000);
            }
            AccessError::Limited(limited) => {
                return Self::new(Status::TOO_MANY_REQUESTS, error.to_string())
                    .retry_after_ms(limited.retry_after_ms);
            }
            AccessError::BadName
            | AccessError::PasswordLength
            | AccessError::PasswordGuessable
            | AccessError::NoScope => Status::BAD_REQUEST,
            AccessError::WrongPassword | AccessError::LinkInvalid => Status::FORBIDDEN,
            AccessError::UnknownAccount(_)
            | AccessError::UnknownSession
            | AccessError::UnknownToken(_) => Status::NOT_FOUND,
            AccessError::AccountExists(_)
            | AccessError::LastAdmin
            | AccessError::TooMany(_)
            | AccessError::TokenExists(_)
            | AccessError::Changed => Status::CONFLICT,
        };
        Self::new(status, error.to_string())
    }
}

impl From<UnknownName> for Problem {
    fn from(error: UnknownName) -> Self {
        Self::bad_request(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_found_by_method_and_path() {
        let row = |method, path| match find(&method, path) {
            Found::Row(row) => Some(row.need),
            _ => None,
        };
        assert_eq!(row(Method::GET, "/api/v1/status"), Some(Need::Read));
        assert_eq!(row(Method::HEAD, "/api/v1/status"), Some(Need::Read));
        assert_eq!(find(&Method::POST, "/api/v1/status"), Found::OtherMethod);
        assert_eq!(find(&Method::GET, "/api/v1/forgotten"), Found::Nothing);
    }

    #[test]
    fn no_route_has_two_rows_and_no_open_one_changes_devices_or_accounts() {
        for (index, row) in ROUTES.iter().enumerate() {
            let same = |other: &&Row| (other.method, other.path) == (row.method, row.path);
            assert!(!ROUTES[index + 1..].iter().any(|other| same(&other)), "{row:?}");
            if row.need == Need::Nothing && !row.only_reads() {
                assert_eq!(row.frequency, Frequency::Secrets, "{row:?}");
            }
        }
    }
}
