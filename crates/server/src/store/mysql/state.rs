//! What the database remembers of a device beside its readings, packed in one column, so that a
//! message costs one row of it.
//!
//! | part | type | content |
//! |---|---|---|
//! | version | u8 | 1 |
//! | detector | u8, then text if that is 1 | |
//! | anomaly | u8, u8, then u32 if that is 1 | whether it holds, the session that told |
//! | sensor fault | u8, u8, then u32 if that is 1 | the same |
//! | sensor fault last | i64 | when it was last told, in unix milliseconds |
//! | digests | u64 | how many there ever were |
//! | sessions | u32 | how many follow, newest first |
//! | each session | u32, i64, u32, then pairs of u32 | number, last use, runs of sequence numbers |
//! | channels | u32 | how many follow |
//! | each channel | u32, u64, u8, then i64 and f64 if that is 1 | row, readings, newest one |

use super::numbers::Numbers;
use crate::limits::SEQUENCE_RUNS_MAX;
use crate::store::spool::packed::{Packer, Unpacker};

const VERSION: u8 = 1;

/// What is remembered of a device.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    pub(super) messages: u64,
    pub(super) readings: u64,
    pub(super) duplicates: u64,
    pub(super) last_seen_ms: Option<i64>,
    pub(super) detector: Option<String>,
    pub(super) anomaly: Condition,
    pub(super) fault: Condition,
    pub(super) fault_last_ms: i64,
    pub(super) digests: u64,
    /// Newest first.
    pub(super) sessions: Vec<Session>,
}

/// Whether something holds, as far as the newest message told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) holds: bool,
    /// The session that told.
    pub(super) session: Option<u32>,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) number: u32,
    pub(super) used_ms: i64,
    pub(super) numbers: Numbers,
}

/// What is remembered of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Summary {
    pub(super) row: u32,
    pub(super) readings: u64,
    /// The newest time, and the value then.
    pub(super) latest: Option<(i64, f64)>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            messages: 0,
            readings: 0,
            duplicates: 0,
            last_seen_ms: None,
            detector: None,
            anomaly: Condition::default(),
            fault: Condition::default(),
            fault_last_ms: i64::MIN,
            digests: 0,
            sessions: Vec::new(),
        }
    }
}

impl State {
    /// Packs what has no column of its own.
    pub(super) fn pack(&self, channels: impl ExactSizeIterator<Item = Summary>) -> Vec<u8> {
        let mut packer = Packer(Vec::with_capacity(128));
        packer.u8(VERSION);
        packer.option(self.detector.as_deref(), Packer::text);
        for condition in [self.anomaly, self.fault] {
            packer.u8(u8::from(condition.holds));
            packer.option(condition.session, Packer::u32);
        }
        packer.i64(self.fault_last_ms);
        packer.u64(self.digests);
        packer.count(self.sessions.len());
        for session in &self.sessions {
            packer.u32(session.number);
            packer.i64(session.used_ms);
            packer.count(session.numbers.runs().len());
            for &(first, last) in session.numbers.runs() {
                packer.u32(first);
                packer.u32(last);
            }
        }
        packer.count(channels.len());
        for channel in channels {
            packer.u32(channel.row);
            packer.u64(channel.readings);
            packer.option(channel.latest, |packer, (time_ms, value)| {
                packer.i64(time_ms);
                packer.f64(value);
            });
        }
        packer.0
    }

    /// Reads what was packed; `None` if it is damaged. An empty body is a new device's.
    pub(super) fn unpack(body: &[u8]) -> Option<(Self, Vec<Summary>)> {
        let mut state = Self::default();
        let mut channels = Vec::new();
        if body.is_empty() {
            return Some((state, channels));
        }
        let mut unpacker = Unpacker(body);
        if unpacker.u8()? != VERSION {
            return None;
        }
        state.detector = unpacker.option(|unpacker| unpacker.text().map(str::to_owned))?;
        for condition in [&mut state.anomaly, &mut state.fault] {
            condition.holds = unpacker.u8()? != 0;
            condition.session = unpacker.option(Unpacker::u32)?;
        }
        state.fault_last_ms = unpacker.i64()?;
        state.digests = unpacker.u64()?;
        for _ in 0..unpacker.count(16)? {
            let (number, used_ms) = (unpacker.u32()?, unpacker.i64()?);
            let mut runs = Vec::new();
            for _ in 0..unpacker.count(8)?.min(SEQUENCE_RUNS_MAX) {
                runs.push((unpacker.u32()?, unpacker.u32()?));
            }
            let numbers = Numbers::from_runs(runs)?;
            state.sessions.push(Session { number, used_ms, numbers });
        }
        for _ in 0..unpacker.count(13)? {
            channels.push(Summary {
                row: unpacker.u32()?,
                readings: unpacker.u64()?,
                latest: unpacker.option(|unpacker| Some((unpacker.i64()?, unpacker.f64()?)))?,
            });
        }
        unpacker.0.is_empty().then_some((state, channels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn comes_back_as_it_was() {
        let mut numbers = Numbers::starting_at(5);
        numbers.note(9, false);
        let state = State {
            detector: Some("fan".into()),
            anomaly: Condition { holds: true, session: Some(7) },
            fault_last_ms: -1,
            digests: 12,
            sessions: vec![Session { number: 7, used_ms: 1, numbers }],
            ..State::default()
        };
        let channels = vec![
            Summary { row: 3, readings: 4, latest: Some((5, -0.5)) },
            Summary { row: 4, readings: 0, latest: None },
        ];
        let body = state.pack(channels.clone().into_iter());
        assert_eq!(State::unpack(&body), Some((state, channels)));
        for cut in 1..body.len() {
            assert_eq!(State::unpack(&body[..cut]), None, "{cut}");
        }
        assert_eq!(State::unpack(&[]), Some((State::default(), vec![])));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = State::unpack(&bytes);
            bytes.insert(0, VERSION);
            let _ = State::unpack(&bytes);
        }
    }
}
