//! Alarms in the database.

use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{Arguments, AssertSqlSafe, Row};

use super::Failure;
use super::ledger::AlarmMoves;
use super::statement::{Rows, Statements};
use crate::alarm::{Alarm, AlarmKind, AlarmState};
use crate::store::AlarmsQuery;

const SELECT: &str = "SELECT alarm.id, device.name, alarm.kind, alarm.state, alarm.active, \
     alarm.opened_ms, alarm.acknowledged_ms, alarm.cleared_ms, alarm.note, alarm.score, \
     alarm.threshold, alarm.peak_score, alarm.device \
     FROM alarm JOIN device ON device.id = alarm.device";
const NOT_OVER: Rows = Rows {
    head: "SELECT alarm.id, device.name, alarm.kind, alarm.state, alarm.active, alarm.opened_ms, \
           alarm.acknowledged_ms, alarm.cleared_ms, alarm.note, alarm.score, alarm.threshold, \
           alarm.peak_score, alarm.device FROM alarm JOIN device ON device.id = alarm.device \
           WHERE alarm.state IN ('open', 'acknowledged') AND alarm.device IN (",
    row: "?",
    between: ", ",
    tail: ") ORDER BY alarm.id",
};

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

fn from_row(row: &MySqlRow) -> sqlx::Result<Alarm> {
    let kind = match row.try_get(2)? {
        "sensor_fault" => AlarmKind::SensorFault,
        _ => AlarmKind::Anomaly,
    };
    let state = match row.try_get(3)? {
        "open" => AlarmState::Open,
        "acknowledged" => AlarmState::Acknowledged,
        _ => AlarmState::Cleared,
    };
    Ok(Alarm {
        id: row.try_get(0)?,
        device: row.try_get(1)?,
        kind,
        state,
        active: row.try_get(4)?,
        opened_ms: row.try_get(5)?,
        acknowledged_ms: row.try_get(6)?,
        cleared_ms: row.try_get(7)?,
        note: row.try_get(8)?,
        score: row.try_get(9)?,
        threshold: row.try_get(10)?,
        peak_score: row.try_get(11)?,
    })
}

/// Writes the alarms of a transaction, and tells which numbers the new ones got.
pub(super) async fn write(
    connection: &mut MySqlConnection,
    moves: &AlarmMoves,
) -> sqlx::Result<Vec<(i64, i64)>> {
    let mut numbers = Vec::new();
    // The first one that was opened has the highest of the numbers below zero.
    let (new, old): (Vec<_>, Vec<_>) = moves.touched.iter().rev().partition(|(id, _)| **id < 0);
    for (&id, (device, alarm)) in new {
        let added = sqlx::query(
            "INSERT INTO alarm (device, kind, state, active, opened_ms, acknowledged_ms, \
             cleared_ms, note, score, threshold, peak_score) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(device)
        .bind(kind_name(alarm.kind))
        .bind(state_name(alarm.state))
        .bind(alarm.active)
        .bind(alarm.opened_ms)
        .bind(alarm.acknowledged_ms)
        .bind(alarm.cleared_ms)
        .bind(&alarm.note)
        .bind(alarm.score)
        .bind(alarm.threshold)
        .bind(alarm.peak_score)
        .execute(&mut *connection)
        .await?;
        numbers.push((id, i64::try_from(added.last_insert_id()).unwrap_or(i64::MAX)));
    }
    for (_, (_, alarm)) in old {
        update(connection, alarm).await?;
    }
    Ok(numbers)
}

/// Writes what can change of an alarm.
pub(super) async fn update(connection: &mut MySqlConnection, alarm: &Alarm) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE alarm SET state = ?, active = ?, acknowledged_ms = ?, cleared_ms = ?, note = ?, \
         peak_score = ? WHERE id = ?",
    )
    .bind(state_name(alarm.state))
    .bind(alarm.active)
    .bind(alarm.acknowledged_ms)
    .bind(alarm.cleared_ms)
    .bind(&alarm.note)
    .bind(alarm.peak_score)
    .bind(alarm.id)
    .execute(connection)
    .await?;
    Ok(())
}

/// Lists the alarms of some devices that are not over.
pub(super) async fn not_over(
    connection: &mut MySqlConnection,
    statements: &mut Statements,
    devices: &[u32],
) -> Result<Vec<(u32, Alarm)>, Failure> {
    let rows = statements.read(connection, &NOT_OVER, devices, |a, &device| a.add(device)).await?;
    rows.iter().map(|row| Ok((row.try_get(12)?, from_row(row)?))).collect()
}

/// Finds one alarm, and the row of its device.
pub(super) async fn find(
    connection: &mut MySqlConnection,
    id: i64,
) -> sqlx::Result<Option<(u32, Alarm)>> {
    let row = sqlx::query(AssertSqlSafe(format!("{SELECT} WHERE alarm.id = ?")))
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.map(|row| Ok((row.try_get(12)?, from_row(&row)?))).transpose()
}

/// Lists alarms, newest first.
pub(super) async fn list(
    connection: &mut MySqlConnection,
    query: &AlarmsQuery,
) -> sqlx::Result<Vec<Alarm>> {
    let wants = |state| query.states.is_empty() || query.states.contains(&state);
    let rows = sqlx::query(AssertSqlSafe(format!(
        "{SELECT} WHERE ((? AND alarm.state = 'open') OR (? AND alarm.state = 'acknowledged') \
         OR (? AND alarm.state = 'cleared')) AND (? IS NULL OR device.name = ?) \
         AND alarm.id < ? ORDER BY alarm.id DESC LIMIT ?"
    )))
    .bind(wants(AlarmState::Open))
    .bind(wants(AlarmState::Acknowledged))
    .bind(wants(AlarmState::Cleared))
    .bind(&query.device)
    .bind(&query.device)
    .bind(query.before_id.unwrap_or(i64::MAX))
    .bind(u32::try_from(query.limit).unwrap_or(u32::MAX))
    .fetch_all(connection)
    .await?;
    rows.iter().map(from_row).collect()
}
