//! The life of an alarm, as a pure function; the store keeps it in the transaction of the
//! message that caused it, so that no acknowledged message loses its alarm.
//!
//! | state | condition begins | condition ends | acknowledge | clear |
//! |---|---|---|---|---|
//! | none | open, active | | | |
//! | open, active | | open, inactive | acknowledged, active | cleared |
//! | open, inactive | open, active | | cleared | cleared |
//! | acknowledged, active | | cleared | | cleared |

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an alarm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlarmKind {
    /// The detector's verdict is anomaly.
    Anomaly,
    /// The device rejects samples of a sensor.
    SensorFault,
}

/// Where an alarm is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlarmState {
    /// Nobody has seen it yet.
    Open,
    /// Somebody has seen it, and its cause is still there.
    Acknowledged,
    /// It is over.
    Cleared,
}

/// An alarm.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Alarm {
    /// The number of the alarm.
    pub id: i64,
    /// The device that it is about.
    pub device: String,
    /// What it is about.
    pub kind: AlarmKind,
    /// Where it is in its life.
    pub state: AlarmState,
    /// Whether the condition that opened it still holds.
    pub active: bool,
    /// When it opened, in unix milliseconds.
    pub opened_ms: i64,
    /// When somebody acknowledged it, in unix milliseconds.
    pub acknowledged_ms: Option<i64>,
    /// When it was cleared, in unix milliseconds.
    pub cleared_ms: Option<i64>,
    /// What somebody noted about it.
    pub note: Option<String>,
    /// The score that opened it.
    pub score: Option<f64>,
    /// The threshold that was in force then.
    pub threshold: Option<f64>,
    /// The highest score while it was active.
    pub peak_score: Option<f64>,
}

/// What a message says about one condition of a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// What it is about.
    pub kind: AlarmKind,
    /// Whether the condition holds.
    pub holds: bool,
    /// When, in unix milliseconds.
    pub at_ms: i64,
    /// The score then.
    pub score: Option<f64>,
    /// The threshold then.
    pub threshold: Option<f64>,
    /// The condition held before, too: an alarm that somebody cleared meanwhile stays cleared.
    pub continues: bool,
    /// A later message has come in already: this one may open an alarm, but not end one.
    pub late: bool,
}

/// What somebody does to an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Somebody has seen it.
    Acknowledge,
    /// Somebody says that it is over.
    Clear,
}

/// What became of an alarm.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// There is a new one (its number is yet to be given).
    Opened(Alarm),
    /// Its state or activity is another one.
    Moved(Alarm),
    /// Only its peak is higher.
    Peaked(Alarm),
}

/// Tells what an observation does, given the alarm of the same device and kind that is not yet
/// cleared; `None` if it does nothing.
#[must_use]
pub fn observe(device: &str, current: Option<&Alarm>, seen: &Observation) -> Option<Change> {
    let Some(alarm) = current else {
        let begins = seen.holds && !seen.continues;
        return begins.then(|| Change::Opened(opened(device, seen)));
    };
    if seen.holds {
        let mut next = alarm.clone();
        next.peak_score = higher(alarm.peak_score, seen.score);
        if !alarm.active && !seen.late {
            next.active = true;
            return Some(Change::Moved(next));
        }
        return (next.peak_score != alarm.peak_score).then_some(Change::Peaked(next));
    }
    if seen.late || !alarm.active {
        return None;
    }
    let mut next = alarm.clone();
    next.active = false;
    if next.state == AlarmState::Acknowledged {
        next.state = AlarmState::Cleared;
        next.cleared_ms = Some(seen.at_ms);
    }
    Some(Change::Moved(next))
}

/// Tells what an action does to an alarm.
///
/// # Errors
/// [`AlreadyOver`] if it is cleared, or acknowledged twice.
pub fn act(
    alarm: &Alarm,
    action: Action,
    note: Option<&str>,
    now_ms: i64,
) -> Result<Alarm, AlreadyOver> {
    let mut next = alarm.clone();
    match (action, alarm.state) {
        (_, AlarmState::Cleared) => return Err(AlreadyOver { state: "cleared" }),
        (Action::Acknowledge, AlarmState::Acknowledged) => {
            return Err(AlreadyOver { state: "acknowledged" });
        }
        (Action::Acknowledge, AlarmState::Open) => {
            next.acknowledged_ms = Some(now_ms);
            next.state = AlarmState::Acknowledged;
            if !alarm.active {
                next.state = AlarmState::Cleared;
                next.cleared_ms = Some(now_ms);
            }
        }
        (Action::Clear, _) => {
            next.state = AlarmState::Cleared;
            next.cleared_ms = Some(now_ms);
            next.active = false;
        }
    }
    if let Some(note) = note {
        next.note = Some(note.to_owned());
    }
    Ok(next)
}

/// The alarm is past this action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the alarm is {state} already")]
pub struct AlreadyOver {
    state: &'static str,
}

fn opened(device: &str, seen: &Observation) -> Alarm {
    Alarm {
        id: 0,
        device: device.to_owned(),
        kind: seen.kind,
        state: AlarmState::Open,
        active: !seen.late,
        opened_ms: seen.at_ms,
        acknowledged_ms: None,
        cleared_ms: None,
        note: None,
        score: seen.score,
        threshold: seen.threshold,
        peak_score: seen.score,
    }
}

fn higher(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(holds: bool, score: f64) -> Observation {
        Observation {
            kind: AlarmKind::Anomaly,
            holds,
            at_ms: 1_000,
            score: Some(score),
            threshold: Some(1.0),
            continues: false,
            late: false,
        }
    }

    fn open() -> Alarm {
        match observe("pump", None, &seen(true, 2.0)) {
            Some(Change::Opened(alarm)) => alarm,
            other => panic!("not opened: {other:?}"),
        }
    }

    fn moved(change: Option<Change>) -> Alarm {
        match change {
            Some(Change::Moved(alarm)) => alarm,
            other => panic!("not moved: {other:?}"),
        }
    }

    #[test]
    fn a_normal_verdict_opens_nothing() {
        assert_eq!(observe("pump", None, &seen(false, 0.5)), None);
    }

    #[test]
    fn an_open_alarm_stays_after_its_cause_until_somebody_saw_it() {
        let alarm = open();
        assert_eq!((alarm.state, alarm.active), (AlarmState::Open, true));
        let quiet = moved(observe("pump", Some(&alarm), &seen(false, 0.5)));
        assert_eq!((quiet.state, quiet.active), (AlarmState::Open, false));
        assert_eq!(observe("pump", Some(&quiet), &seen(false, 0.5)), None);
        let again = moved(observe("pump", Some(&quiet), &seen(true, 3.0)));
        assert_eq!((again.state, again.active), (AlarmState::Open, true));
        assert_eq!(again.peak_score, Some(3.0));
        let over = act(&quiet, Action::Acknowledge, Some("seen"), 9).expect("open");
        assert_eq!((over.state, over.cleared_ms), (AlarmState::Cleared, Some(9)));
        assert_eq!(over.note.as_deref(), Some("seen"));
    }

    #[test]
    fn an_acknowledged_alarm_clears_with_its_cause() {
        let known = act(&open(), Action::Acknowledge, None, 5).expect("open");
        assert_eq!((known.state, known.acknowledged_ms), (AlarmState::Acknowledged, Some(5)));
        let over = moved(observe("pump", Some(&known), &seen(false, 0.1)));
        assert_eq!(
            (over.state, over.active, over.cleared_ms),
            (AlarmState::Cleared, false, Some(1_000))
        );
    }

    #[test]
    fn the_peak_only_rises() {
        let alarm = open();
        assert_eq!(observe("pump", Some(&alarm), &seen(true, 1.5)), None);
        match observe("pump", Some(&alarm), &seen(true, 7.0)) {
            Some(Change::Peaked(peaked)) => assert_eq!(peaked.peak_score, Some(7.0)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_late_message_opens_but_never_ends() {
        let late = |holds| Observation { late: true, ..seen(holds, 4.0) };
        match observe("pump", None, &late(true)) {
            Some(Change::Opened(alarm)) => assert!(!alarm.active),
            other => panic!("{other:?}"),
        }
        assert_eq!(observe("pump", Some(&open()), &late(false)), None);
    }

    #[test]
    fn an_alarm_cleared_by_hand_needs_a_new_beginning() {
        let still = Observation { continues: true, ..seen(true, 2.0) };
        assert_eq!(observe("pump", None, &still), None);
    }

    #[test]
    fn what_is_over_stays_over() {
        let over = act(&open(), Action::Clear, None, 7).expect("open");
        assert_eq!(
            (over.state, over.active, over.cleared_ms),
            (AlarmState::Cleared, false, Some(7))
        );
        assert!(act(&over, Action::Acknowledge, None, 8).is_err());
        assert!(act(&over, Action::Clear, None, 8).is_err());
        let known = act(&open(), Action::Acknowledge, None, 5).expect("open");
        assert!(act(&known, Action::Acknowledge, None, 6).is_err());
    }
}
