//! Readings by HTTP, and commands to devices.
#![allow(unused_qualifications, reason = "the macros of utoipa write longer paths than needed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Context, Problem};
use crate::access::Principal;
use crate::codec::thingsboard;
use crate::device::DeviceId;
use crate::identity::{Admission, DeviceEntry};
use crate::ingest::{Arrival, Outcome, Rejection, Route};
use crate::limits::COMMAND_LEN_MAX;
use crate::mqtt::{Delivery, Undelivered};
use crate::store::StoreError;

/// A refusal that says how to prove who one is (RFC 6750).
pub(super) struct Refused(Problem);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let challenge: (HeaderName, HeaderValue) =
            (header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        ([challenge], self.0).into_response()
    }
}

/// Returns the token of a request.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (kind, token) = value.split_once(' ')?;
    kind.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Why a request speaks for no device.
pub(super) enum Denied {
    /// It does not prove that it may.
    Unproven,
    /// It may, but there is no such device that sends in this way.
    Unknown,
}

/// Finds the device for which a request speaks: by the device's own token, or by the API token of
/// a gateway, which speaks for every device that is not shut out. Why it is refused goes to the log.
pub(super) async fn device_of(
    context: &Context,
    principal: &Principal,
    headers: &HeaderMap,
    id: &str,
) -> Result<DeviceId, Denied> {
    if matches!(principal, Principal::Program(_)) {
        let may = |entry: &Arc<DeviceEntry>| !entry.disabled && entry.number.is_none();
        let entry = context.directory.device(id).filter(may).ok_or(Denied::Unknown)?;
        return Ok(entry.id.clone());
    }
    let token = bearer(headers).ok_or(Denied::Unproven)?;
    match context.directory.seek(|known| known.admit_token(id, token.as_bytes())).await {
        Ok(Admission { device, .. }) => Ok(device),
        Err(refusal) => {
            tracing::warn!(device = id, reason = %refusal, "refused readings by HTTP");
            Err(Denied::Unproven)
        }
    }
}

/// Takes readings in; they are stored when this answers 204.
///
/// The body is one message as the content type says: application/senml+json, application/senml+cbor,
/// application/json with one object of numbers, or what the device's entry names. The header
/// `authorization: Bearer TOKEN` holds the device's own token, or an API token that may send.
#[utoipa::path(post, path = "/api/v1/devices/{id}/readings",
    params(("id" = String, Path, description = "The device")), request_body(content_type = "application/senml+json"),
    responses((status = 204, description = "Stored, now or before"),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn take(
    State(context): State<Context>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Response> {
    let device = match device_of(&context, &principal, &headers, &id).await {
        Ok(device) => device,
        Err(Denied::Unproven) => {
            let detail = "no such device, or not its token: `authorization: Bearer TOKEN`";
            return Err(Refused(Problem::new(StatusCode::UNAUTHORIZED, detail)).into_response());
        }
        Err(Denied::Unknown) => {
            return Err(Problem::from(StoreError::UnknownDevice(id)).into_response());
        }
    };
    let body = body.map_err(|rejection| {
        Problem::new(rejection.status(), rejection.body_text()).into_response()
    })?;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let route = Route::Http { content_type: content_type.unwrap_or("") };
    let arrival = Arrival { device: &device, route, payload: &body };
    let prepared =
        context.ingest.prepare(arrival).map_err(|rejection| refuse(&rejection).into_response())?;
    match context.ingest.commit(vec![prepared]).await.pop() {
        Some(Ok(Outcome::Stored | Outcome::Duplicate)) => Ok(StatusCode::NO_CONTENT),
        Some(Ok(Outcome::Rejected)) => {
            Err(Problem::from(StoreError::UnknownDevice(id)).into_response())
        }
        Some(Err(_)) | None => {
            let detail = "the readings are not stored; send them again";
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response())
        }
    }
}

fn refuse(rejection: &Rejection) -> Problem {
    let status = match rejection {
        Rejection::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Rejection::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
        Rejection::ForeignDevice => StatusCode::FORBIDDEN,
        _ => StatusCode::BAD_REQUEST,
    };
    Problem::new(status, rejection.to_string())
}

/// A command to a device.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Command {
    /// What it is to do.
    method: String,
    /// With what.
    #[serde(default)]
    params: Option<Value>,
}

/// How far a command came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Reached {
    /// The device acknowledged it.
    Acknowledged,
    /// It was written to the connection; the device wanted no acknowledgements.
    Written,
}

/// A command that reached its device.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Commanded {
    /// The topic on which it went out.
    topic: String,
    /// How far it came.
    #[schema(inline)]
    delivery: Reached,
}

/// Numbers the commands since the start.
static COMMANDS: AtomicU32 = AtomicU32::new(1);

/// Sends a command to a device that is connected by MQTT and subscribed to
/// `v1/devices/me/rpc/request/+`, as devices of ThingsBoard are.
#[utoipa::path(post, path = "/api/v1/devices/{id}/commands",
    params(("id" = String, Path, description = "The device")), request_body = Command,
    responses((status = 200, body = Commanded), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn command(
    State(context): State<Context>,
    Path(id): Path<String>,
    body: Result<Json<Command>, axum::extract::rejection::JsonRejection>,
) -> Result<Json<Commanded>, Problem> {
    let Json(Command { method, params }) =
        body.map_err(|error| Problem::new(error.status(), error.body_text()))?;
    let entry = context.directory.device(&id).ok_or(StoreError::UnknownDevice(id))?;
    let payload = thingsboard::command(&method, params.as_ref());
    if method.is_empty() || payload.len() > COMMAND_LEN_MAX {
        let detail = format!("a command has a method, and at most {COMMAND_LEN_MAX} bytes");
        return Err(Problem::bad_request(detail));
    }
    let number = COMMANDS.fetch_add(1, Ordering::Relaxed);
    let topic = format!("{}{number}", thingsboard::COMMAND_TOPIC_PREFIX);
    let Some(downlink) = &context.downlink else {
        return Err(undelivered(Undelivered::NotConnected));
    };
    let delivery = downlink.send(&entry.id, &topic, payload).await.map_err(undelivered)?;
    let delivery = match delivery {
        Delivery::Acknowledged => Reached::Acknowledged,
        Delivery::Written => Reached::Written,
    };
    Ok(Json(Commanded { topic, delivery }))
}

fn undelivered(reason: Undelivered) -> Problem {
    let status = match reason {
        Undelivered::Timeout | Undelivered::ConnectionLost => StatusCode::GATEWAY_TIMEOUT,
        Undelivered::QueueFull => StatusCode::TOO_MANY_REQUESTS,
        Undelivered::NotConnected | Undelivered::NotSubscribed | Undelivered::Refused => {
            StatusCode::CONFLICT
        }
    };
    Problem::new(status, reason.to_string())
}
