//! The audit log, for admins.
#![allow(unused_qualifications, reason = "the macros of utoipa write longer paths than needed")]

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::readings::Query;
use super::{Context, Problem};
use crate::access::audit::{Entry, Verification};
use crate::limits::{AUDIT_PAGE, AUDIT_PAGE_MAX};

/// Some of the audit log, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct AuditPage {
    /// The entries.
    entries: Vec<Entry>,
    /// What to pass as `before` for older ones, if there are more.
    next: Option<u64>,
}

/// Which entries are asked for.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuestion {
    /// Only entries before this one.
    before: Option<u64>,
    /// The most entries, 100 unless asked otherwise, at most 500.
    limit: Option<usize>,
}

/// Lists what was done, newest first.
#[utoipa::path(get, path = "/api/v1/audit", params(AuditQuestion), responses(
    (status = 200, body = AuditPage), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(context): State<Context>,
    Query(question): Query<AuditQuestion>,
) -> Result<Json<AuditPage>, Problem> {
    let limit = question.limit.unwrap_or(AUDIT_PAGE).clamp(1, AUDIT_PAGE_MAX);
    let mut entries = context.access.audit().list(question.before, limit + 1).await?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next = if more { entries.last().map(|entry| entry.sequence) } else { None };
    Ok(Json(AuditPage { entries, next }))
}

/// Checks whether an entry was changed, removed, inserted or moved.
#[utoipa::path(get, path = "/api/v1/audit/verification", responses(
    (status = 200, body = Verification), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn verify(State(context): State<Context>) -> Result<Json<Verification>, Problem> {
    Ok(Json(context.access.audit().verify(None).await?))
}
