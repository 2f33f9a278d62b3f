//! One's own account and sessions, and, for admins, everybody's accounts.
#![allow(unused_qualifications, reason = "the macros of utoipa write longer paths than needed")]

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::sign_in::{person, read};
use super::{Context, Problem};
use crate::access::{AccountSummary, Origin, Principal, Role, SessionSummary};
use crate::clock::now_ms;

/// The accounts by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct AccountList {
    /// The accounts.
    accounts: Vec<AccountSummary>,
}

/// One's own sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct SessionList {
    /// The sessions, the present one first.
    sessions: Vec<SessionSummary>,
}

/// Another password for oneself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordChange {
    /// The present one.
    present: String,
    /// The new one: at least 12 characters.
    new: String,
}

/// An account to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAccount {
    /// Its name, of a-z, 0-9, and `- _ . @` between them.
    name: String,
    /// What it may do.
    role: Role,
    /// Its password: at least 12 characters.
    password: String,
}

/// What is to change of an account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountChange {
    /// Another role, if it is to change.
    role: Option<Role>,
    /// Another password, if it is to change; the account's sessions end then.
    password: Option<String>,
}

/// Describes one's own account.
#[utoipa::path(get, path = "/api/v1/account", responses(
    (status = 200, body = AccountSummary), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn own(
    State(context): State<Context>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<AccountSummary>, Problem> {
    Ok(Json(context.access.account(&person(&principal)?.account).await?))
}

/// Changes one's own password; one's other sessions end.
#[utoipa::path(post, path = "/api/v1/account/password", request_body = PasswordChange, responses(
    (status = 200, body = AccountSummary), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn change_password(
    State(context): State<Context>,
    Extension(principal): Extension<Principal>,
    Extension(origin): Extension<Origin>,
    body: Bytes,
) -> Result<Json<AccountSummary>, Problem> {
    let PasswordChange { present, new } = read(&body)?;
    let (access, person) = (&context.access, person(&principal)?);
    let actor = principal.actor(&origin);
    access.change_own_password(&actor, person, &present, &new).await?;
    Ok(Json(access.account(&person.account).await?))
}

/// Lists one's own sessions.
#[utoipa::path(get, path = "/api/v1/account/sessions", responses(
    (status = 200, body = SessionList), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn sessions(
    State(context): State<Context>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<SessionList>, Problem> {
    let sessions = context.access.sessions(person(&principal)?, now_ms()).await?;
    Ok(Json(SessionList { sessions }))
}

/// Ends one of one's own sessions.
#[utoipa::path(delete, path = "/api/v1/account/sessions/{id}", params(("id" = String, Path, description = "The session")), responses(
    (status = 204), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn end_session(
    State(context): State<Context>,
    Extension(principal): Extension<Principal>,
    Extension(origin): Extension<Origin>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let actor = principal.actor(&origin);
    context.access.end_session(&actor, person(&principal)?, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the accounts.
#[utoipa::path(get, path = "/api/v1/accounts", responses(
    (status = 200, body = AccountList), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(State(context): State<Context>) -> Result<Json<AccountList>, Problem> {
    Ok(Json(AccountList { accounts: context.access.accounts().await? }))
}

/// Makes an account.
#[utoipa::path(post, path = "/api/v1/accounts", request_body = NewAccount, responses(
    (status = 201, body = AccountSummary), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn add(
    State(context): State<Context>,
    Extension(principal): Extension<Principal>,
    Extension(origin): Extension<Origin>,
    body: Bytes,
) -> Result<(StatusCode, Json<AccountSummary>), Problem> {
    let NewAccount { name, role, password } = read(&body)?;
    let actor = principal.actor(&origin);
    let account = context.access.add_account(&actor, &name, role, &password).await?;
    Ok((StatusCode::CREATED, Json(account)))
}

/// Changes the role or the password of an account.
#[utoipa::path(patch, path = "/api/v1/accounts/{name}", request_body = AccountChange,
    params(("name" = String, Path, description = "The account")), responses(
    (status = 200, body = AccountSummary), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn change(
    State(context): State<Context>,
    Extension(principal): Extension<Principal>,
    Extension(origin): Extension<Origin>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<AccountSummary>, Problem> {
    let AccountChange { role, password } = read(&body)?;
    let (access, actor) = (&context.access, principal.actor(&origin));
    if let Some(password) = password {
        // Who changes his own password here stays signed in.
        let keep = person(&principal).ok().map(|person| person.session.as_str());
        access.set_password(&actor, &name, &password, keep).await?;
    }
    match role {
        Some(role) => Ok(Json(access.set_role(&actor, &name, role).await?)),
        None => Ok(Json(access.account(&name).await?)),
    }
}

/// Removes an account, with its sessions and the tokens that it made.
#[utoipa::path(delete, path = "/api/v1/accounts/{name}", params(("name" = String, Path, description = "The account")), responses(
    (status = 204), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn remove(
    State(context): State<Context>,
    Extension(principal): Extension<Principal>,
    Extension(origin): Extension<Origin>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    context.access.remove_account(&principal.actor(&origin), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
