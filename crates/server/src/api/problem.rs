//! Errors as RFC 9457 describes them, `application/problem+json`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tracing::error;
use utoipa::ToSchema;

use crate::store::StoreError;

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is; `about:blank` says no more than the status.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong here, and what to do.
    detail: String,
    /// When to try again, in seconds, for the header `Retry-After`.
    #[serde(skip)]
    retry_after_s: Option<i64>,
}

impl Problem {
    /// Makes one.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            retry_after_s: None,
        }
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after_ms(self, wait_ms: i64) -> Self {
        Self { retry_after_s: Some((wait_ms.max(1) + 999) / 1_000), ..self }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after_s = self.retry_after_s;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"stonechat\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::UnknownAlarm(_) | StoreError::UnknownDevice(_) => {
                Self::not_found(error.to_string())
            }
            StoreError::AlreadyOver(_) | StoreError::DeviceExists(_) => {
                Self::new(StatusCode::CONFLICT, error.to_string())
            }
            StoreError::Closed => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down")
            }
            StoreError::Unavailable { .. } => {
                error!(%error, "a request failed");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the database is away; what devices send is kept meanwhile",
                )
            }
            other => {
                // Paths and database messages are for the log only.
                error!(error = %other, "a request failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the store failed; the log says why")
            }
        }
    }
}

/// Stands for every address under `/api/` that is none of a route.
pub(super) const NO_SUCH_ROUTE: &str = "/api/{*rest}";

pub(super) async fn no_such_route(uri: Uri) -> Problem {
    let detail = format!("there is nothing at {}; see /api/v1/openapi.json", uri.path());
    Problem::not_found(detail)
}

pub(super) async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this method is not for this address; see /api/v1/openapi.json",
    )
}
