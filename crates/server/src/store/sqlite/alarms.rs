//! Alarms in the database.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::alarm::{Alarm, AlarmKind, AlarmState};
use crate::store::AlarmsQuery;

const SELECT: &str = "SELECT alarm.id, device.name, kind, state, active, opened_ms, \
     acknowledged_ms, cleared_ms, note, score, threshold, peak_score \
     FROM alarm JOIN device ON device.id = alarm.device";

fn kind_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::Anomaly => "anomaly",
        AlarmKind::SensorFault => "sensor_fault",
    }
}

fn state_name(state: AlarmState) -> &'static str {
    match state {
        AlarmState::Open => "open",
        AlarmState::Acknowledged => "acknowledged",
        AlarmState::Cleared => "cleared",
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Alarm> {
    let kind = match row.get_ref(2)?.as_str()? {
        "sensor_fault" => AlarmKind::SensorFault,
        _ => AlarmKind::Anomaly,
    };
    let state = match row.get_ref(3)?.as_str()? {
        "open" => AlarmState::Open,
        "acknowledged" => AlarmState::Acknowledged,
        _ => AlarmState::Cleared,
    };
    Ok(Alarm {
        id: row.get(0)?,
        device: row.get(1)?,
        kind,
        state,
        active: row.get(4)?,
        opened_ms: row.get(5)?,
        acknowledged_ms: row.get(6)?,
        cleared_ms: row.get(7)?,
        note: row.get(8)?,
        score: row.get(9)?,
        threshold: row.get(10)?,
        peak_score: row.get(11)?,
    })
}

/// Adds an alarm and returns its number.
pub(super) fn insert(
    connection: &Connection,
    device_row: i64,
    alarm: &Alarm,
) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO alarm (device, kind, state, active, opened_ms, score, threshold, peak_score) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .insert(params![
            device_row,
            kind_name(alarm.kind),
            state_name(alarm.state),
            alarm.active,
            alarm.opened_ms,
            alarm.score,
            alarm.threshold,
            alarm.peak_score,
        ])
}

/// Writes what can change of an alarm.
pub(super) fn update(connection: &Connection, alarm: &Alarm) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE alarm SET state = ?2, active = ?3, acknowledged_ms = ?4, cleared_ms = ?5, \
             note = ?6, peak_score = ?7 WHERE id = ?1",
        )?
        .execute(params![
            alarm.id,
            state_name(alarm.state),
            alarm.active,
            alarm.acknowledged_ms,
            alarm.cleared_ms,
            alarm.note,
            alarm.peak_score,
        ])?;
    Ok(())
}

/// Finds one alarm.
pub(super) fn find(connection: &Connection, id: i64) -> rusqlite::Result<Option<Alarm>> {
    connection
        .prepare_cached(&format!("{SELECT} WHERE alarm.id = ?1"))?
        .query_row([id], from_row)
        .optional()
}

/// Lists all alarms that are not over.
pub(super) fn not_over(connection: &Connection) -> rusqlite::Result<Vec<Alarm>> {
    connection
        .prepare(&format!("{SELECT} WHERE state IN ('open', 'acknowledged') ORDER BY alarm.id"))?
        .query_map([], from_row)?
        .collect()
}

/// Lists alarms, newest first.
pub(super) fn list(connection: &Connection, query: &AlarmsQuery) -> rusqlite::Result<Vec<Alarm>> {
    let wants = |state| query.states.is_empty() || query.states.contains(&state);
    connection
        .prepare_cached(&format!(
            "{SELECT} WHERE ((?1 AND state = 'open') OR (?2 AND state = 'acknowledged') \
             OR (?3 AND state = 'cleared')) AND (?4 IS NULL OR device.name = ?4) \
             AND (?5 IS NULL OR alarm.id < ?5) ORDER BY alarm.id DESC LIMIT ?6"
        ))?
        .query_map(
            params![
                wants(AlarmState::Open),
                wants(AlarmState::Acknowledged),
                wants(AlarmState::Cleared),
                query.device,
                query.before_id,
                i64::try_from(query.limit).unwrap_or(i64::MAX),
            ],
            from_row,
        )?
        .collect()
}

/// Counts open and acknowledged alarms.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    connection
        .prepare_cached(
            "SELECT (SELECT count(*) FROM alarm WHERE state = 'open'), \
             (SELECT count(*) FROM alarm WHERE state = 'acknowledged')",
        )?
        .query_row([], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64)))
}

/// Deletes some of the alarms that were cleared before a time; returns how many.
pub(super) fn delete_before(
    connection: &Connection,
    before_ms: i64,
    limit: i64,
) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "DELETE FROM alarm WHERE id IN \
             (SELECT id FROM alarm WHERE state = 'cleared' AND cleared_ms < ?1 LIMIT ?2)",
        )?
        .execute([before_ms, limit])
}
