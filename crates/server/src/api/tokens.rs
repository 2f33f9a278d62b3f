//! API tokens of programs.
#![allow(unused_qualifications, reason = "the macros of utoipa write longer paths than needed")]

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::sign_in::read;
use super::{Context, Problem};
use crate::access::{NewToken, Origin, Principal, Scope, TokenSummary};
use crate::clock::now_ms;
use crate::limits::{API_TOKEN_LIFE_DAYS, API_TOKEN_LIFE_DAYS_MAX};

/// The API tokens by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct TokenList {
    /// The tokens.
    tokens: Vec<TokenSummary>,
}

/// An API token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenRequest {
    /// What it is to be called.
    name: String,
    /// What it may do.
    scopes: Vec<Scope>,
    /// For how many days it holds; 90 unless said otherwise, 0 for ever.
    #[serde(default)]
    days: Option<u32>,
}

/// A new API token. Its text cannot be read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct MadeToken {
    /// What a program sends: `authorization: Bearer …`.
    token: String,
    #[serde(flatten)]
    summary: TokenSummary,
}

/// Returns when a token ends that holds for so many days, 0 for ever.
pub(crate) fn end_ms(days: u32, now_ms: i64) -> Option<i64> {
    let days = i64::from(days.min(API_TOKEN_LIFE_DAYS_MAX));
    (days > 0).then(|| now_ms + days * 24 * 60 * 60 * 1_000)
}

/// Lists the API tokens.
#[utoipa::path(get, path = "/api/v1/tokens", responses(
    (status = 200, body = TokenList), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(State(context): State<Context>) -> Result<Json<TokenList>, Problem> {
    Ok(Json(TokenList { tokens: context.access.tokens().await? }))
}

/// Makes an API token.
#[utoipa::path(post, path = "/api/v1/tokens", request_body = TokenRequest, responses(
    (status = 201, body = MadeToken), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn add(
    State(context): State<Context>,
    Extension(principal): Extension<Principal>,
    Extension(origin): Extension<Origin>,
    body: Bytes,
) -> Result<(StatusCode, Json<MadeToken>), Problem> {
    let TokenRequest { name, scopes, days } = read(&body)?;
    let now_ms = now_ms();
    let expires_ms = end_ms(days.unwrap_or(API_TOKEN_LIFE_DAYS), now_ms);
    let new = NewToken { name, scopes, expires_ms };
    let actor = principal.actor(&origin);
    let (token, summary) = context.access.add_token(&actor, Some(&principal), new, now_ms).await?;
    Ok((StatusCode::CREATED, Json(MadeToken { token, summary })))
}

/// Revokes an API token.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", params(("id" = String, Path, description = "The token's identity or name")), responses(
    (status = 204), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn revoke(
    State(context): State<Context>,
    Extension(principal): Extension<Principal>,
    Extension(origin): Extension<Origin>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    context.access.revoke_token(&principal.actor(&origin), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
