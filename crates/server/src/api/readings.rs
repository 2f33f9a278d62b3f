//! Readings of a device, and the parsing of questions: names may be repeated.
#![allow(unused_qualifications, reason = "the macros of utoipa write longer paths than needed")]

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Context;
use super::problem::Problem;
use crate::clock::now_ms;
use crate::ingest::UNAUTHENTICATED_PREFIX;
use crate::limits::{POINTS, POINTS_MAX, QUERY_CHANNELS_MAX, READINGS_SPAN_MS};
use crate::store::{self, ReadingsQuery, Resolution, StoreError};

/// Reads the question of a request; errors are problems.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Query::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Query(question)| Self(question))
            .map_err(|error| Problem::bad_request(error.body_text()))
    }
}

/// Takes all values of one name out of a question.
pub(super) fn repeated<'q>(
    pairs: &'q [(String, String)],
    name: &'q str,
) -> impl Iterator<Item = &'q str> {
    pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Takes the last value of one name out of a question.
pub(super) fn single<T: std::str::FromStr>(
    pairs: &[(String, String)],
    name: &str,
) -> Result<Option<T>, Problem> {
    let parse = |text: &str| {
        let wrong = || Problem::bad_request(format!("`{name}={text}` is not a whole number"));
        text.parse().map_err(|_| wrong())
    };
    repeated(pairs, name).last().map(parse).transpose()
}

/// Refuses names that mean nothing, as a misspelt one would be ignored otherwise.
pub(super) fn only(pairs: &[(String, String)], known: &[&str]) -> Result<(), Problem> {
    match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        Some((name, _)) => Err(Problem::bad_request(format!(
            "`{name}` means nothing here; known are {}",
            known.join(", ")
        ))),
        None => Ok(()),
    }
}

/// Which readings are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes the parameters; repeated names are read by hand")]
pub(super) struct ReadingsQuestion {
    /// A channel; may be repeated. Without any: all channels.
    channel: Option<Vec<String>>,
    /// The first time, in unix milliseconds. Without: ten minutes before `to_ms`.
    from_ms: Option<i64>,
    /// The last time, in unix milliseconds. Without: now.
    to_ms: Option<i64>,
    /// The most points of each channel, 1000 unless asked otherwise, at most 10000.
    max_points: Option<usize>,
}

/// The readings of one channel.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct Series {
    /// The channel's name.
    channel: String,
    /// Its unit.
    unit: Option<String>,
    /// Unix milliseconds and value, in the order of time.
    #[schema(value_type = Vec<Vec<f64>>)]
    points: Vec<(i64, f64)>,
    /// Whether only each bucket's minimum and maximum are shown.
    downsampled: bool,
    /// Of which readings points are shown: of all (`raw`), or, in a wide span or after the others
    /// were deleted, of the least and the greatest of each `minute` or `hour`.
    resolution: &'static str,
    /// False where nobody could make sure who sent the readings: anyone could forge them.
    authenticated: bool,
}

/// Readings of some channels.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct Readings {
    /// The first time, in unix milliseconds.
    from_ms: i64,
    /// The last time, in unix milliseconds.
    to_ms: i64,
    /// One for each channel that exists.
    series: Vec<Series>,
}

impl From<store::Series> for Series {
    fn from(series: store::Series) -> Self {
        Self {
            authenticated: !series.channel.starts_with(UNAUTHENTICATED_PREFIX),
            channel: series.channel,
            unit: (!series.unit.is_empty()).then_some(series.unit),
            points: series.points,
            downsampled: series.downsampled,
            resolution: match series.resolution {
                Resolution::Raw => "raw",
                Resolution::Minute => "minute",
                Resolution::Hour => "hour",
            },
        }
    }
}

/// Finds readings of a device.
#[utoipa::path(get, path = "/api/v1/devices/{id}/readings",
    params(("id" = String, Path, description = "The device"), ReadingsQuestion), responses(
    (status = 200, body = Readings), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn readings(
    State(context): State<Context>,
    Path(id): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Readings>, Problem> {
    only(&pairs, &["channel", "from_ms", "to_ms", "max_points"])?;
    let channels: Vec<String> = repeated(&pairs, "channel").map(str::to_owned).collect();
    if channels.len() > QUERY_CHANNELS_MAX {
        let detail = format!("at most {QUERY_CHANNELS_MAX} channels at once");
        return Err(Problem::bad_request(detail));
    }
    let to_ms = single(&pairs, "to_ms")?.unwrap_or_else(now_ms);
    let from_ms =
        single(&pairs, "from_ms")?.unwrap_or_else(|| to_ms.saturating_sub(READINGS_SPAN_MS));
    if from_ms > to_ms {
        return Err(Problem::bad_request("`from_ms` is after `to_ms`"));
    }
    let points_max = single(&pairs, "max_points")?.unwrap_or(POINTS).clamp(1, POINTS_MAX);
    if context.store.device(&id).await?.is_none() {
        return Err(StoreError::UnknownDevice(id).into());
    }
    let query = ReadingsQuery { device: id, channels, from_ms, to_ms, points_max };
    let series = context.store.readings(query).await?;
    let series = series.into_iter().map(Series::from).collect();
    Ok(Json(Readings { from_ms, to_ms, series }))
}
