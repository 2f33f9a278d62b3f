//! What the writer remembers of the devices: a copy of what the database has, good as long as the
//! revision is the same. Its changes belong to the transaction under way; when that fails, they
//! are forgotten.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use stonechat_core::wire::uplink::{ANOMALY, MessageId, SCORE, SENSOR_FAULT_SUFFIX, THRESHOLD};

use super::numbers::Numbers;
use super::state::{Condition, Session, State, Summary};
use crate::alarm::{Alarm, AlarmKind, AlarmState, Change, Observation, observe};
use crate::limits::{SENSOR_FAULT_QUIET_MS, SESSIONS_PER_DEVICE_MAX};
use crate::store::Message;
use crate::store::window::Arrival;

/// Every device that this gateway has written for, by identity.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) entries: HashMap<Arc<str>, Entry>,
}

/// One device.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) row: u32,
    pub(super) name: Arc<str>,
    /// Which revision of the database this is; `None` if it is not known to be one.
    pub(super) revision: Option<u64>,
    /// Whether its record is there.
    pub(super) living: bool,
    pub(super) state: State,
    pub(super) channels: BTreeMap<Arc<str>, Channel>,
    /// Alarms that are not over: anomaly, sensor fault.
    pub(super) alarms: [Option<Alarm>; 2],
}

/// A channel.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub(super) unit: Arc<str>,
    pub(super) summary: Summary,
}

/// The alarms that a transaction opens or changes.
#[derive(Debug, Default)]
pub(super) struct AlarmMoves {
    /// The last state of each by its number; below zero until the database gives one.
    pub(super) touched: BTreeMap<i64, (u32, Alarm)>,
    next: i64,
}

impl Entry {
    pub(super) fn new(row: u32, name: Arc<str>) -> Self {
        Self {
            row,
            name,
            revision: None,
            living: true,
            state: State::default(),
            channels: BTreeMap::new(),
            alarms: [None, None],
        }
    }

    /// Notes the number of a message and tells whether it is new; `acknowledged` if a gateway has
    /// said so already that it is stored.
    pub(super) fn note_number(
        &mut self,
        id: MessageId,
        received_ms: i64,
        acknowledged: bool,
    ) -> Arrival {
        let sessions = &mut self.state.sessions;
        let Some(position) = sessions.iter().position(|session| session.number == id.session)
        else {
            let numbers = Numbers::starting_at(id.sequence);
            let session = Session { number: id.session, used_ms: received_ms, numbers };
            sessions.insert(0, session);
            sessions.truncate(SESSIONS_PER_DEVICE_MAX);
            return Arrival::Newest;
        };
        let arrival = sessions[position].numbers.note(id.sequence, acknowledged);
        if arrival == Arrival::Duplicate {
            return arrival;
        }
        sessions[position].used_ms = received_ms;
        // A message of an earlier session says nothing about the present.
        if position == 0 { arrival } else { Arrival::Late }
    }

    /// Walks through what a message says about the device's conditions.
    pub(super) fn judge(
        &mut self,
        message: &Message,
        arrival: Arrival,
        moves: &mut AlarmMoves,
    ) -> Vec<Change> {
        let (late, session) = (arrival == Arrival::Late, message.key.session());
        let (mut changes, mut rejected_at) = (Vec::new(), None);
        let verdicts = message.readings.iter().any(|reading| &*reading.channel == ANOMALY);
        let scores = if verdicts { by_time(message, SCORE) } else { HashMap::new() };
        let thresholds = if verdicts { by_time(message, THRESHOLD) } else { HashMap::new() };
        for reading in &message.readings {
            if &*reading.channel == ANOMALY {
                let seen = Observation {
                    kind: AlarmKind::Anomaly,
                    holds: reading.value != 0.0,
                    at_ms: reading.time_ms,
                    score: scores.get(&reading.time_ms).copied(),
                    threshold: thresholds.get(&reading.time_ms).copied(),
                    continues: self.state.anomaly.continues(session),
                    late,
                };
                self.observe(session, &seen, moves, &mut changes);
            } else if reading.channel.ends_with(SENSOR_FAULT_SUFFIX) && reading.value > 0.0 {
                rejected_at = rejected_at.max(Some(reading.time_ms));
            }
        }
        let fault = Observation {
            kind: AlarmKind::SensorFault,
            holds: rejected_at.is_some(),
            at_ms: rejected_at.unwrap_or(message.received_ms),
            score: None,
            threshold: None,
            continues: self.state.fault.continues(session),
            late,
        };
        if fault.holds {
            self.state.fault_last_ms = self.state.fault_last_ms.max(message.received_ms);
        }
        let quiet_ms = message.received_ms.saturating_sub(self.state.fault_last_ms);
        if fault.holds || (self.state.fault.holds && quiet_ms >= SENSOR_FAULT_QUIET_MS) {
            self.observe(session, &fault, moves, &mut changes);
        }
        changes
    }

    /// Moves the alarm of one condition, and keeps the condition.
    fn observe(
        &mut self,
        session: Option<u32>,
        seen: &Observation,
        moves: &mut AlarmMoves,
        changes: &mut Vec<Change>,
    ) {
        if !seen.late {
            let condition = Condition { holds: seen.holds, session };
            match seen.kind {
                AlarmKind::Anomaly => self.state.anomaly = condition,
                AlarmKind::SensorFault => self.state.fault = condition,
            }
        }
        let (name, row) = (self.name.clone(), self.row);
        let current = self.alarm_mut(seen.kind);
        let Some(mut change) = observe(&name, current.as_ref(), seen) else {
            return;
        };
        let alarm = alarm_mut(&mut change);
        if alarm.id == 0 {
            moves.next -= 1;
            alarm.id = moves.next;
        }
        moves.touched.insert(alarm.id, (row, alarm.clone()));
        *current = (alarm.state != AlarmState::Cleared).then(|| alarm.clone());
        changes.push(change);
    }

    pub(super) fn alarm_mut(&mut self, kind: AlarmKind) -> &mut Option<Alarm> {
        match kind {
            AlarmKind::Anomaly => &mut self.alarms[0],
            AlarmKind::SensorFault => &mut self.alarms[1],
        }
    }

    /// Counts the alarms that nobody has seen.
    pub(super) fn alarms_open(&self) -> u32 {
        let open = |alarm: &&Alarm| alarm.state == AlarmState::Open;
        self.alarms.iter().flatten().filter(open).count() as u32
    }
}

impl Condition {
    fn continues(self, session: Option<u32>) -> bool {
        self.holds && self.session == session
    }
}

/// Returns the alarm that a change is about.
pub(super) fn alarm_mut(change: &mut Change) -> &mut Alarm {
    match change {
        Change::Opened(alarm) | Change::Moved(alarm) | Change::Peaked(alarm) => alarm,
    }
}

/// The values of one channel of a message by their times.
pub(super) fn by_time(message: &Message, channel: &str) -> HashMap<i64, f64> {
    message
        .readings
        .iter()
        .filter(|reading| &*reading.channel == channel)
        .map(|reading| (reading.time_ms, reading.value))
        .collect()
}
