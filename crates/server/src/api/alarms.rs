//! Alarms: look at them, acknowledge them, clear them.
#![allow(unused_qualifications, reason = "the macros of utoipa write longer paths than needed")]

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Context;
use super::problem::Problem;
use super::readings::{Query, only, repeated, single};
use crate::alarm::{Action, Alarm, AlarmState};
use crate::clock::now_ms;
use crate::limits::{ALARMS_PAGE, ALARMS_PAGE_MAX, NOTE_LEN_MAX};
use crate::store::{AlarmsQuery, StoreError};

/// Some of the alarms, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct AlarmPage {
    /// The alarms.
    alarms: Vec<Alarm>,
    /// What to pass as `after` for more, if there are more.
    next: Option<String>,
}

/// Which alarms are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes the parameters; repeated names are read by hand")]
pub(super) struct AlarmsQuestion {
    /// A state; may be repeated. Without any: all states.
    #[param(inline)]
    state: Option<Vec<AlarmState>>,
    /// Only alarms of this device.
    device: Option<String>,
    /// Only alarms after this one of the page before.
    after: Option<i64>,
    /// The most alarms, 100 unless asked otherwise, at most 500.
    limit: Option<usize>,
}

/// What somebody says about an alarm.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Note {
    /// At most 500 characters.
    #[schema(max_length = 500)]
    note: Option<String>,
}

fn state(text: &str) -> Result<AlarmState, Problem> {
    match text {
        "open" => Ok(AlarmState::Open),
        "acknowledged" => Ok(AlarmState::Acknowledged),
        "cleared" => Ok(AlarmState::Cleared),
        _ => Err(Problem::bad_request(format!(
            "`state={text}` is none of open, acknowledged, cleared"
        ))),
    }
}

/// Lists alarms, newest first.
#[utoipa::path(get, path = "/api/v1/alarms", params(AlarmsQuestion), responses(
    (status = 200, body = AlarmPage), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(context): State<Context>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<AlarmPage>, Problem> {
    only(&pairs, &["state", "device", "after", "limit"])?;
    let limit = single(&pairs, "limit")?.unwrap_or(ALARMS_PAGE).clamp(1, ALARMS_PAGE_MAX);
    let query = AlarmsQuery {
        states: repeated(&pairs, "state").map(state).collect::<Result<_, _>>()?,
        device: repeated(&pairs, "device").last().map(str::to_owned),
        before_id: single(&pairs, "after")?,
        limit: limit + 1,
    };
    let mut alarms = context.store.alarms(query).await?;
    let more = alarms.len() > limit;
    alarms.truncate(limit);
    let next = if more { alarms.last().map(|alarm| alarm.id.to_string()) } else { None };
    Ok(Json(AlarmPage { alarms, next }))
}

/// Describes an alarm.
#[utoipa::path(get, path = "/api/v1/alarms/{id}", params(("id" = i64, Path, description = "The alarm")), responses(
    (status = 200, body = Alarm), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn one(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Alarm>, Problem> {
    let id = number(&id)?;
    let alarm = context.store.alarm(id).await?.ok_or(StoreError::UnknownAlarm(id))?;
    Ok(Json(alarm))
}

/// Notes that somebody has seen an alarm.
#[utoipa::path(post, path = "/api/v1/alarms/{id}/acknowledge", request_body = Note,
    params(("id" = i64, Path, description = "The alarm")), responses(
    (status = 200, body = Alarm), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn acknowledge(
    State(context): State<Context>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Alarm>, Problem> {
    act(&context, &id, Action::Acknowledge, &body).await
}

/// Ends an alarm by hand.
#[utoipa::path(post, path = "/api/v1/alarms/{id}/clear", request_body = Note,
    params(("id" = i64, Path, description = "The alarm")), responses(
    (status = 200, body = Alarm), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn clear(
    State(context): State<Context>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Alarm>, Problem> {
    act(&context, &id, Action::Clear, &body).await
}

async fn act(
    context: &Context,
    id: &str,
    action: Action,
    body: &[u8],
) -> Result<Json<Alarm>, Problem> {
    let id = number(id)?;
    let Note { note } = if body.is_empty() {
        Note::default()
    } else {
        serde_json::from_slice(body).map_err(|error| Problem::bad_request(error.to_string()))?
    };
    if note.as_ref().is_some_and(|note| note.chars().count() > NOTE_LEN_MAX) {
        let detail = format!("a note has at most {NOTE_LEN_MAX} characters");
        return Err(Problem::bad_request(detail));
    }
    let alarm = context.store.act(id, action, note, now_ms()).await?;
    context.hub.alarm(&alarm);
    context.presence.changed(&alarm.device);
    Ok(Json(alarm))
}

fn number(id: &str) -> Result<i64, Problem> {
    id.parse().map_err(|_| Problem::not_found(format!("there is no alarm {id:?}")))
}
