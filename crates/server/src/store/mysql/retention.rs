//! Deletes what is older than is kept, a little at a time. Readings leave summaries by minutes and
//! hours behind: those of exactly the readings that are gone, so that a graph is made of the
//! readings that are there and the summaries, wherever the border is.

use std::time::{Duration, Instant};

use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{Arguments, Connection, Row};

use super::Failure;
use super::state::State;
use super::statement::{Rows, Statements};
use crate::limits::{
    MYSQL_RETENTION_CHANNELS, MYSQL_RETENTION_INTERVAL, MYSQL_RETENTION_READINGS,
    RETENTION_DELETES_PER_STEP,
};
use crate::store::summary::{merge, summarise};
use crate::store::{Resolution, Retention, Summary};

const KEEP: Rows = Rows {
    head: "INSERT INTO reading_summary (channel, width_ms, start_ms, readings, minimum_ms, \
           minimum, maximum_ms, maximum, last_ms, last, total) VALUES ",
    row: "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    between: ", ",
    tail: " ON DUPLICATE KEY UPDATE readings = VALUES(readings), \
           minimum_ms = VALUES(minimum_ms), minimum = VALUES(minimum), \
           maximum_ms = VALUES(maximum_ms), maximum = VALUES(maximum), \
           last_ms = VALUES(last_ms), last = VALUES(last), total = VALUES(total)",
};

/// Where the search for old data is.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The channel that was looked at last.
    channel: u32,
    /// When the next search may begin; `None` while one is under way.
    rests_until: Option<Instant>,
}

impl Sweep {
    /// Takes a step; tells whether there is more to do at once.
    pub(super) async fn step(
        &mut self,
        connection: &mut MySqlConnection,
        statements: &mut Statements,
        retention: &Retention,
        now_ms: i64,
    ) -> Result<bool, Failure> {
        if *retention == Retention::default()
            || self.rests_until.is_some_and(|until| Instant::now() < until)
        {
            return Ok(false);
        }
        self.rests_until = None;
        let before = |kept: Option<Duration>| {
            kept.map(|kept| now_ms - i64::try_from(kept.as_millis()).unwrap_or(i64::MAX / 2))
        };
        let channels: Vec<(u32, u32)> =
            sqlx::query_as("SELECT id, device FROM channel WHERE id > ? ORDER BY id LIMIT ?")
                .bind(self.channel)
                .bind(MYSQL_RETENTION_CHANNELS)
                .fetch_all(&mut *connection)
                .await?;
        for &(channel, device) in &channels {
            let whole = match before(retention.readings) {
                Some(before_ms) => {
                    summarise_old(connection, statements, device, channel, before_ms).await?
                }
                None => true,
            };
            if !whole {
                return Ok(true);
            }
            for (resolution, kept) in
                [(Resolution::Minute, retention.minutes), (Resolution::Hour, retention.hours)]
            {
                if let Some(before_ms) = before(kept) {
                    delete_summaries(connection, channel, resolution, before_ms).await?;
                }
            }
            self.channel = channel;
        }
        if !channels.is_empty() {
            return Ok(true);
        }
        if let Some(before_ms) = before(retention.alarms)
            && delete_alarms(connection, before_ms).await?
        {
            return Ok(true);
        }
        self.channel = 0;
        self.rests_until = Some(Instant::now() + MYSQL_RETENTION_INTERVAL);
        Ok(false)
    }
}

/// Moves the oldest readings of a channel into summaries; tells whether no old ones are left.
async fn summarise_old(
    connection: &mut MySqlConnection,
    statements: &mut Statements,
    device: u32,
    channel: u32,
    before_ms: i64,
) -> Result<bool, Failure> {
    let oldest: Option<i64> =
        sqlx::query_scalar("SELECT MIN(time_ms) FROM reading WHERE channel = ?")
            .bind(channel)
            .fetch_one(&mut *connection)
            .await?;
    if oldest.is_none_or(|oldest| oldest >= before_ms) {
        return Ok(true);
    }
    let mut transaction = connection.begin().await?;
    let body: Vec<u8> =
        sqlx::query_scalar("SELECT body FROM device_state WHERE device = ? FOR UPDATE")
            .bind(device)
            .fetch_one(&mut *transaction)
            .await?;
    let damaged = || Failure::Damaged(format!("the state of device {device}"));
    let (state, mut summaries) = State::unpack(&body).ok_or_else(damaged)?;
    let rows: Vec<(i64, u32, f64)> = sqlx::query_as(
        "SELECT time_ms, ordinal, value FROM reading WHERE channel = ? AND time_ms < ? \
         ORDER BY time_ms, ordinal LIMIT ?",
    )
    .bind(channel)
    .bind(before_ms)
    .bind(MYSQL_RETENTION_READINGS)
    .fetch_all(&mut *transaction)
    .await?;
    let Some(&(last_ms, last_ordinal, _)) = rows.last() else {
        return Ok(true);
    };
    let points: Vec<(i64, f64)> = rows.iter().map(|row| (row.0, row.2)).collect();
    for resolution in [Resolution::Minute, Resolution::Hour] {
        let new = summarise(resolution, &points);
        let (first_ms, end_ms) = (points[0].0, last_ms);
        let kept = find(&mut transaction, channel, resolution, first_ms, end_ms).await?;
        let merged = merge(kept, &new);
        keep(&mut transaction, statements, channel, resolution, &merged).await?;
    }
    sqlx::query(
        "DELETE FROM reading WHERE channel = ? AND (time_ms < ? OR (time_ms = ? AND ordinal <= ?))",
    )
    .bind(channel)
    .bind(last_ms)
    .bind(last_ms)
    .bind(last_ordinal)
    .execute(&mut *transaction)
    .await?;
    if let Some(summary) = summaries.iter_mut().find(|summary| summary.row == channel) {
        summary.readings = summary.readings.saturating_sub(rows.len() as u64);
    }
    sqlx::query("UPDATE device_state SET body = ?, revision = revision + 1 WHERE device = ?")
        .bind(state.pack(summaries.into_iter()))
        .bind(device)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(rows.len() < MYSQL_RETENTION_READINGS as usize)
}

/// Finds the summaries of a channel that touch a span.
pub(super) async fn find(
    connection: &mut MySqlConnection,
    channel: u32,
    resolution: Resolution,
    from_ms: i64,
    to_ms: i64,
) -> sqlx::Result<Vec<Summary>> {
    let rows = sqlx::query(
        "SELECT start_ms, readings, minimum_ms, minimum, maximum_ms, maximum, last_ms, last, total \
         FROM reading_summary WHERE channel = ? AND width_ms = ? AND start_ms BETWEEN ? AND ? \
         ORDER BY start_ms",
    )
    .bind(channel)
    .bind(resolution.width_ms())
    .bind(resolution.start_of(from_ms))
    .bind(to_ms)
    .fetch_all(connection)
    .await?;
    let summary = |row: &MySqlRow| {
        Ok(Summary {
            start_ms: row.try_get(0)?,
            count: row.try_get(1)?,
            min: (row.try_get(2)?, row.try_get(3)?),
            max: (row.try_get(4)?, row.try_get(5)?),
            last: (row.try_get(6)?, row.try_get(7)?),
            sum: row.try_get(8)?,
        })
    };
    rows.iter().map(summary).collect()
}

async fn keep(
    connection: &mut MySqlConnection,
    statements: &mut Statements,
    channel: u32,
    resolution: Resolution,
    summaries: &[Summary],
) -> sqlx::Result<()> {
    statements
        .write(connection, &KEEP, summaries, |a, summary| {
            a.add(channel)?;
            a.add(resolution.width_ms())?;
            a.add(summary.start_ms)?;
            a.add(summary.count)?;
            for (time_ms, value) in [summary.min, summary.max, summary.last] {
                a.add(time_ms)?;
                a.add(value)?;
            }
            // The database has no infinite numbers.
            a.add(summary.sum.clamp(f64::MIN, f64::MAX))
        })
        .await
}

async fn delete_summaries(
    connection: &mut MySqlConnection,
    channel: u32,
    resolution: Resolution,
    before_ms: i64,
) -> sqlx::Result<()> {
    // Minutes go by whole hours, so that an hour is shown by all of its minutes or by itself.
    sqlx::query("DELETE FROM reading_summary WHERE channel = ? AND width_ms = ? AND start_ms < ?")
        .bind(channel)
        .bind(resolution.width_ms())
        .bind(Resolution::Hour.start_of(before_ms))
        .execute(connection)
        .await?;
    Ok(())
}

/// Deletes some of the alarms that were cleared before a time; tells whether there may be more.
async fn delete_alarms(connection: &mut MySqlConnection, before_ms: i64) -> sqlx::Result<bool> {
    let full = RETENTION_DELETES_PER_STEP.unsigned_abs();
    let deleted =
        sqlx::query("DELETE FROM alarm WHERE state = 'cleared' AND cleared_ms < ? LIMIT ?")
            .bind(before_ms)
            .bind(full)
            .execute(connection)
            .await?;
    Ok(deleted.rows_affected() == full)
}
