//! Queries, on connections of their own.

use futures_util::TryStreamExt;
use sqlx::Row;
use sqlx::mysql::MySqlConnection;

use super::Failure;
use crate::store::downsample::downsample;
use crate::store::{ReadingsQuery, Series, Totals};

/// A channel that is asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) row: u32,
    pub(super) name: String,
    pub(super) unit: String,
}

/// Finds readings.
pub(super) async fn readings(
    connection: &mut MySqlConnection,
    channels: Vec<Wanted>,
    query: &ReadingsQuery,
) -> Result<Vec<Series>, Failure> {
    let mut series = Vec::with_capacity(channels.len());
    for channel in channels {
        let mut rows = sqlx::query(
            "SELECT time_ms, value FROM reading WHERE channel = ? AND time_ms BETWEEN ? AND ? \
             ORDER BY time_ms, ordinal",
        )
        .bind(channel.row)
        .bind(query.from_ms)
        .bind(query.to_ms)
        .fetch(&mut *connection);
        let mut points = Vec::new();
        while let Some(row) = rows.try_next().await? {
            points.push((row.try_get(0)?, row.try_get(1)?));
        }
        let (points, downsampled) = downsample(points, query.points_max);
        series.push(Series { channel: channel.name, unit: channel.unit, points, downsampled });
    }
    Ok(series)
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
