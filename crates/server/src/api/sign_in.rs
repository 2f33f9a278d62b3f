//! Signing in and out, and the set-up of the first account.
#![allow(unused_qualifications, reason = "the macros of utoipa write longer paths than needed")]

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::guard::cookie_name;
use super::{Context, Problem};
use crate::access::{AccessError, Origin, Person, Principal, Role, SignedIn};
use crate::clock::now_ms;
use crate::limits::SESSION_LIFE_MS;

/// Who is signed in, if anybody is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct SessionState {
    /// The account.
    account: Option<String>,
    /// What it may do.
    role: Option<Role>,
    /// When the session ends at the latest, in unix milliseconds.
    expires_ms: Option<i64>,
    /// Whether there is no account at all yet: the set-up link makes the first one.
    set_up_needed: bool,
}

/// A name and a password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignIn {
    /// The account.
    name: String,
    /// Its password.
    password: String,
}

/// The secret of a link.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkSecret {
    /// What stands behind the `#` of the link.
    link: String,
}

/// The first account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetUp {
    /// What stands behind the `#` of the set-up link.
    link: String,
    /// The account's name.
    name: String,
    /// Its password: at least 12 characters.
    password: String,
}

impl SessionState {
    fn of(person: Option<&Person>, set_up_needed: bool) -> Self {
        Self {
            account: person.map(|person| person.account.clone()),
            role: person.map(|person| person.role),
            expires_ms: person.map(|person| person.expires_ms),
            set_up_needed,
        }
    }
}

/// Reads the JSON of a request.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::bad_request(error.to_string()))
}

/// Takes the person who is signed in; the table lets nobody else in here.
pub(super) fn person(principal: &Principal) -> Result<&Person, Problem> {
    match principal {
        Principal::Person(person) => Ok(person),
        _ => Err(Problem::new(StatusCode::FORBIDDEN, "this is for people who are signed in")),
    }
}

fn agent(headers: &HeaderMap) -> &str {
    headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("")
}

/// Answers with who is signed in now, and gives the browser its session.
fn enter(signed_in: &SignedIn, origin: &Origin, headers: &HeaderMap) -> Response {
    let state = SessionState::of(Some(&signed_in.person), false);
    let life_s = SESSION_LIFE_MS / 1_000;
    let cookie = set_cookie(origin, headers, signed_in.credential.reveal(), life_s);
    ([(header::SET_COOKIE, cookie)], Json(state)).into_response()
}

fn set_cookie(origin: &Origin, headers: &HeaderMap, value: &str, life_s: i64) -> HeaderValue {
    let name = cookie_name(origin, headers);
    let secure = if origin.https { "; Secure" } else { "" };
    let text =
        format!("{name}={value}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::from_str(&text).expect("made of letters, digits and signs")
}

/// Tells who is signed in.
#[utoipa::path(get, path = "/api/v1/session", responses(
    (status = 200, body = SessionState), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn session(
    State(context): State<Context>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<SessionState>, Problem> {
    if let Principal::Person(person) = &principal {
        return Ok(Json(SessionState::of(Some(person), false)));
    }
    let set_up_needed = !context.access.has_accounts().await?;
    Ok(Json(SessionState::of(None, set_up_needed)))
}

/// Signs in by name and password; the session comes as a cookie.
#[utoipa::path(post, path = "/api/v1/session", request_body = SignIn, responses(
    (status = 200, body = SessionState), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn sign_in(
    State(context): State<Context>,
    Extension(principal): Extension<Principal>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let SignIn { name, password } = read(&body)?;
    let earlier = person(&principal).ok();
    let agent = agent(&headers);
    let access = &context.access;
    let signed_in = access.sign_in(&name, &password, &origin, agent, earlier, now_ms()).await?;
    Ok(enter(&signed_in, &origin, &headers))
}

/// Signs in by the link that a demo prints.
#[utoipa::path(post, path = "/api/v1/session/link", request_body = LinkSecret, responses(
    (status = 200, body = SessionState), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn sign_in_by_link(
    State(context): State<Context>,
    Extension(principal): Extension<Principal>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let LinkSecret { link } = read(&body)?;
    let earlier = person(&principal).ok();
    let agent = agent(&headers);
    let signed_in =
        context.access.sign_in_by_link(&link, &origin, agent, earlier, now_ms()).await?;
    Ok(enter(&signed_in, &origin, &headers))
}

/// Makes the first account, an admin, with the set-up link, and signs in. The link is gone then.
#[utoipa::path(post, path = "/api/v1/set-up", request_body = SetUp, responses(
    (status = 200, body = SessionState), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn set_up(
    State(context): State<Context>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let SetUp { link, name, password } = read(&body)?;
    let agent = agent(&headers);
    let signed_in =
        context.access.set_up(&link, &name, &password, &origin, agent, now_ms()).await?;
    Ok(enter(&signed_in, &origin, &headers))
}

/// Signs out.
#[utoipa::path(delete, path = "/api/v1/session", responses(
    (status = 200, body = SessionState), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn sign_out(
    State(context): State<Context>,
    Extension(principal): Extension<Principal>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let actor = principal.actor(&origin);
    match context.access.sign_out(&actor, person(&principal)?).await {
        Ok(()) | Err(AccessError::UnknownSession) => {}
        Err(error) => return Err(error.into()),
    }
    let gone = set_cookie(&origin, &headers, "", 0);
    let state = SessionState::of(None, false);
    Ok(([(header::SET_COOKIE, gone)], Json(state)).into_response())
}
