//! What the writer knows of each device to judge the next message: which messages came in, which
//! channels exist, which conditions hold and which alarms are not yet over. Its changes belong
//! to the transaction under way; when that fails, the ledger is read anew.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use stonechat_core::wire::uplink::MessageId;

use crate::alarm::{Alarm, AlarmKind};
use crate::limits::{DIGESTS_PER_DEVICE_MAX, SESSIONS_PER_DEVICE_MAX};
use crate::store::MessageKey;
use crate::store::window::{Arrival, SequenceWindow};

/// Every device, by identity.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) entries: HashMap<Arc<str>, Entry>,
    /// The number of the newest message.
    pub(super) last_message: i64,
    /// The messages in the tail.
    pub(super) tail_messages: usize,
    pub(super) messages: u64,
    pub(super) readings: u64,
    pub(super) duplicates: u64,
    /// The newest change of a record that the writer has seen.
    pub(super) revision: u64,
}

/// One device.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) row: i64,
    pub(super) name: Arc<str>,
    pub(super) channels: HashMap<Arc<str>, Channel>,
    pub(super) anomaly: Condition,
    pub(super) fault: Condition,
    pub(super) fault_last_ms: i64,
    /// Alarms that are not over: anomaly, sensor fault.
    pub(super) alarms: [Option<Alarm>; 2],
    pub(super) last_seen_ms: Option<i64>,
    pub(super) detector: Option<String>,
    /// Whether sessions or last sight differ from what the database has.
    pub(super) changed: bool,
    /// Newest first.
    pub(super) sessions: Vec<Session>,
    /// Digests of messages that have no number, newest last.
    pub(super) digests: VecDeque<[u8; 16]>,
    /// Whether its record is there.
    pub(super) living: bool,
}

/// A channel.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub(super) row: i64,
    pub(super) unit: Arc<str>,
}

/// A session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session {
    pub(super) number: u32,
    pub(super) window: SequenceWindow,
    pub(super) used_ms: i64,
}

/// Whether something holds, as far as the newest message told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Condition {
    pub(super) holds: bool,
    /// The session that told.
    pub(super) session: Option<u32>,
}

impl Ledger {
    /// Notes that a device's record is there.
    pub(super) fn living(&mut self, row: i64, name: &str) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.living = true;
        } else {
            let name: Arc<str> = Arc::from(name);
            self.entries.insert(name.clone(), Entry::new(row, name));
        }
    }
}

impl Entry {
    pub(super) fn new(row: i64, name: Arc<str>) -> Self {
        Self {
            row,
            name,
            channels: HashMap::new(),
            anomaly: Condition::default(),
            fault: Condition::default(),
            fault_last_ms: i64::MIN,
            alarms: [None, None],
            last_seen_ms: None,
            detector: None,
            changed: false,
            sessions: Vec::new(),
            digests: VecDeque::new(),
            living: true,
        }
    }

    /// Notes a message and tells whether it is new.
    pub(super) fn note(&mut self, key: MessageKey, received_ms: i64) -> Arrival {
        match key {
            MessageKey::Sequence(id) => self.note_number(id, received_ms),
            MessageKey::Digest(digest) => self.note_digest(digest),
            MessageKey::Unkeyed => Arrival::Newest,
        }
    }

    fn note_digest(&mut self, digest: [u8; 16]) -> Arrival {
        if self.digests.contains(&digest) {
            return Arrival::Duplicate;
        }
        if self.digests.len() == DIGESTS_PER_DEVICE_MAX {
            self.digests.pop_front();
        }
        self.digests.push_back(digest);
        self.changed = true;
        Arrival::Newest
    }

    fn note_number(&mut self, id: MessageId, received_ms: i64) -> Arrival {
        let found = self.sessions.iter().position(|session| session.number == id.session);
        let Some(position) = found else {
            let window = SequenceWindow::starting_at(id.sequence);
            let session = Session { number: id.session, window, used_ms: received_ms };
            self.sessions.insert(0, session);
            self.sessions.truncate(SESSIONS_PER_DEVICE_MAX);
            self.changed = true;
            return Arrival::Newest;
        };
        let arrival = self.sessions[position].window.note(id.sequence);
        if arrival == Arrival::Duplicate {
            return arrival;
        }
        self.changed = true;
        self.sessions[position].used_ms = received_ms;
        // A message of an earlier session says nothing about the present.
        if position == 0 { arrival } else { Arrival::Late }
    }

    pub(super) fn alarm_mut(&mut self, kind: AlarmKind) -> &mut Option<Alarm> {
        match kind {
            AlarmKind::Anomaly => &mut self.alarms[0],
            AlarmKind::SensorFault => &mut self.alarms[1],
        }
    }
}
