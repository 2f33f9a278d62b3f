//! Devices that show the keys that they made themselves, by a one-time permission.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use tracing::error;

use super::{Context, Peer, Problem};
use crate::identity::{EnrolError, EnrolRequest, Enrolled, IdentityError};

/// The other end of a request that came over the server's own TLS listener.
pub(super) struct OverTls(SocketAddr);

impl<S: Send + Sync> FromRequestParts<S> for OverTls {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match parts.extensions.get::<ConnectInfo<Peer>>() {
            Some(ConnectInfo(peer)) if peer.https => Ok(Self(peer.address)),
            // The ticket would have been seen on its way; a proxy is not what it pins, either.
            _ => Err(Problem::bad_request(
                "devices enrol over the server's own HTTPS address (`https` in its settings)",
            )),
        }
    }
}

/// Enrols a device that shows its own keys, over HTTPS; its ticket is used up.
#[utoipa::path(post, path = "/api/v1/enrol", request_body = EnrolRequest, responses(
    (status = 200, body = Enrolled), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn enrol(
    OverTls(from): OverTls,
    State(context): State<Context>,
    request: Result<Json<EnrolRequest>, JsonRejection>,
) -> Result<Json<Enrolled>, Problem> {
    let Json(request) = request.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let enroller = context.enroller.ok_or(EnrolError::Refused)?;
    Ok(Json(enroller.enrol(&request, from.ip()).await?))
}

impl From<EnrolError> for Problem {
    fn from(error: EnrolError) -> Self {
        match error {
            EnrolError::Refused => {
                Self::new(StatusCode::FORBIDDEN, EnrolError::Refused.to_string())
            }
            // Which devices there are, and whose keys are whose, is nobody's business here.
            EnrolError::Identity(IdentityError::Unknown(_) | IdentityError::Taken { .. }) => {
                Self::new(StatusCode::FORBIDDEN, EnrolError::Refused.to_string())
            }
            EnrolError::Identity(IdentityError::Store(error)) => error.into(),
            EnrolError::Identity(error) => {
                error!(%error, "an enrolment failed");
                let detail = "the enrolment failed; the log says why";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
            }
            error @ (EnrolError::NoKey | EnrolError::Authority(_)) => {
                Self::bad_request(error.to_string())
            }
        }
    }
}
