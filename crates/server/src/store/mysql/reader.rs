//! Queries, on connections of their own.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use sqlx::mysql::MySqlConnection;
use sqlx::{Connection, Row};

use super::{Failure, retention};
use crate::limits::MYSQL_SUMMARISE_READINGS;
use crate::store::downsample::downsample;
use crate::store::summary::{merge, summarise};
use crate::store::{ReadingsQuery, Resolution, Series, Summary, Totals};

/// A channel that is asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) row: u32,
    pub(super) name: String,
    pub(super) unit: String,
}

/// Finds readings: those that are there, and the summaries of those that are gone.
pub(super) async fn readings(
    connection: &mut MySqlConnection,
    channels: Vec<Wanted>,
    query: &ReadingsQuery,
) -> Result<Vec<Series>, Failure> {
    // Readings become summaries under way; both are seen as they were at one moment.
    let begin = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION READ ONLY";
    let mut transaction = connection.begin_with(begin).await?;
    let mut series = Vec::with_capacity(channels.len());
    for channel in channels {
        let mut one = Series {
            channel: channel.name,
            unit: channel.unit,
            points: Vec::new(),
            downsampled: false,
            resolution: Resolution::Raw,
        };
        let resolution = match query.resolution(None) {
            Resolution::Raw => Resolution::Raw,
            _ => query.resolution(held_ms(&mut transaction, channel.row).await?),
        };
        summaries(&mut transaction, channel.row, resolution, query, &mut one).await?;
        rows(&mut transaction, channel.row, resolution, query, &mut one).await?;
        one.points.sort_by_key(|&(time_ms, _)| time_ms);
        let (points, thinned) = downsample(one.points, query.points_max);
        one.points = points;
        one.downsampled |= thinned;
        series.push(one);
    }
    transaction.commit().await?;
    Ok(series)
}

/// Returns the times of a channel's first and last readings, those included that are gone.
async fn held_ms(
    connection: &mut MySqlConnection,
    channel: u32,
) -> Result<Option<(i64, i64)>, Failure> {
    let row = sqlx::query(
        "SELECT MIN(first_ms), MAX(last_ms) FROM ( \
         SELECT MIN(time_ms) AS first_ms, MAX(time_ms) AS last_ms FROM reading \
         WHERE channel = ? UNION ALL \
         SELECT MIN(start_ms), MAX(start_ms) FROM reading_summary \
         WHERE channel = ? AND width_ms = ?) AS held",
    )
    .bind(channel)
    .bind(channel)
    .bind(Resolution::Hour.width_ms())
    .fetch_one(connection)
    .await?;
    let (first_ms, last_ms): (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(first_ms.zip(last_ms))
}

/// Adds the points that stand for readings which are gone.
async fn summaries(
    connection: &mut MySqlConnection,
    channel: u32,
    resolution: Resolution,
    query: &ReadingsQuery,
    series: &mut Series,
) -> Result<(), Failure> {
    let (from_ms, to_ms) = (query.from_ms, query.to_ms);
    let hours = retention::find(connection, channel, Resolution::Hour, from_ms, to_ms).await?;
    if hours.is_empty() {
        return Ok(());
    }
    let minutes = if resolution == Resolution::Hour {
        Vec::new()
    } else {
        retention::find(connection, channel, Resolution::Minute, from_ms, to_ms).await?
    };
    let by_minutes: BTreeSet<i64> =
        minutes.iter().map(|minute| Resolution::Hour.start_of(minute.start_ms)).collect();
    let hours: Vec<Summary> =
        hours.into_iter().filter(|hour| !by_minutes.contains(&hour.start_ms)).collect();
    for (resolution, found) in [(Resolution::Minute, minutes), (Resolution::Hour, hours)] {
        series.show(resolution, &found, query);
    }
    Ok(())
}

/// Adds readings that are there, themselves or summarised under way, so that a long time takes
/// little memory.
async fn rows(
    connection: &mut MySqlConnection,
    channel: u32,
    resolution: Resolution,
    query: &ReadingsQuery,
    series: &mut Series,
) -> Result<(), Failure> {
    let mut rows = sqlx::query(
        "SELECT time_ms, value FROM reading WHERE channel = ? AND time_ms BETWEEN ? AND ? \
         ORDER BY time_ms, ordinal",
    )
    .bind(channel)
    .bind(query.from_ms)
    .bind(query.to_ms)
    .fetch(connection);
    let mut points: Vec<(i64, f64)> = Vec::new();
    let mut found: Vec<Summary> = Vec::new();
    while let Some(row) = rows.try_next().await? {
        points.push((row.try_get(0)?, row.try_get(1)?));
        if resolution != Resolution::Raw && points.len() == MYSQL_SUMMARISE_READINGS {
            found = merge(found, &summarise(resolution, &points));
            points.clear();
        }
    }
    if resolution == Resolution::Raw {
        series.points.extend(points);
    } else {
        let found = merge(found, &summarise(resolution, &points));
        series.show(resolution, &found, query);
    }
    Ok(())
}

impl Series {
    fn show(&mut self, resolution: Resolution, summaries: &[Summary], query: &ReadingsQuery) {
        if !summaries.is_empty() {
            self.resolution = self.resolution.max(resolution);
        }
        for summary in summaries {
            let before = self.points.len();
            let span_ms = query.from_ms..=query.to_ms;
            self.points.extend(summary.points().filter(|point| span_ms.contains(&point.0)));
            self.downsampled |= summary.count > (self.points.len() - before) as u64;
        }
    }
}

/// Counts what is there.
pub(super) async fn totals(connection: &mut MySqlConnection) -> Result<Totals, Failure> {
    let row = sqlx::query(
        "SELECT COUNT(*), CAST(COALESCE(SUM(messages), 0) AS UNSIGNED), \
         CAST(COALESCE(SUM(readings), 0) AS UNSIGNED), \
         CAST(COALESCE(SUM(duplicates), 0) AS UNSIGNED), \
         (SELECT COUNT(*) FROM alarm WHERE state = 'open'), \
         (SELECT COUNT(*) FROM alarm WHERE state = 'acknowledged'), \
         (SELECT CAST(COALESCE(SUM(data_length + index_length), 0) AS UNSIGNED) \
         FROM information_schema.tables WHERE table_schema = DATABASE()) FROM device_state",
    )
    .fetch_one(connection)
    .await?;
    let count = |column: usize| -> Result<u64, Failure> {
        Ok(row.try_get::<i64, _>(column)?.max(0).cast_unsigned())
    };
    Ok(Totals {
        devices: count(0)?,
        messages: row.try_get(1)?,
        readings: row.try_get(2)?,
        duplicates: row.try_get(3)?,
        alarms_open: count(4)?,
        alarms_acknowledged: count(5)?,
        storage_bytes: row.try_get(6)?,
    })
}
