//! What sealed frames say.
//!
//! | message | offset | bytes | field |
//! |---|---|---|---|
//! | uplink, device to server | 0 | 1 | 1 |
//! | | 1 | all | an uplink message ([`uplink`](crate::wire::uplink)) |
//! | acknowledgement, server to device | 0 | 1 | 2 |
//! | | 1 | 1 | number of runs, 1 to 64 |
//! | | 2 + 10 i | 8 | first counter of run i |
//! | | 10 + 10 i | 2 | counters in run i, from 1 |
//! | keep-alive, device to server | 0 | 1 | 3 |
//!
//! An acknowledgement names counters of sealed frames that came from the device: what they say is
//! on disk, or can never be. Other first bytes are for later versions; a device ignores them, the
//! server acknowledges and ignores them.

use super::LinkError;
use crate::limits::SEALED_ACKNOWLEDGED_RUNS_MAX;

/// The first byte of an uplink.
pub const UPLINK: u8 = 1;
/// The first byte of an acknowledgement.
pub const ACKNOWLEDGEMENT: u8 = 2;
/// The first byte of a keep-alive.
pub const KEEP_ALIVE: u8 = 3;

const RUN_LEN: usize = 10;
/// The bytes of the longest acknowledgement.
pub const ACKNOWLEDGEMENT_LEN_MAX: usize = 2 + RUN_LEN * SEALED_ACKNOWLEDGED_RUNS_MAX;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Readings.
    Uplink(&'a [u8]),
    /// Frames are done with.
    Acknowledgement(Runs<'a>),
    /// The peer is there.
    KeepAlive,
    /// Of a later version.
    Unknown,
}

impl<'a> Message<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`LinkError::Malformed`] if it is none.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, LinkError> {
        let (kind, rest) = bytes.split_first().ok_or(LinkError::Malformed)?;
        match *kind {
            UPLINK => Ok(Self::Uplink(rest)),
            ACKNOWLEDGEMENT => Runs::parse(rest).map(Self::Acknowledgement),
            KEEP_ALIVE if rest.is_empty() => Ok(Self::KeepAlive),
            KEEP_ALIVE => Err(LinkError::Malformed),
            _ => Ok(Self::Unknown),
        }
    }
}

/// Runs of counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs<'a> {
    runs: &'a [[u8; RUN_LEN]],
}

impl<'a> Runs<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, LinkError> {
        let (count, rest) = bytes.split_first().ok_or(LinkError::Malformed)?;
        let (runs, odd) = rest.as_chunks::<RUN_LEN>();
        let legal = (1..=SEALED_ACKNOWLEDGED_RUNS_MAX).contains(&runs.len())
            && runs.len() == usize::from(*count)
            && odd.is_empty();
        if legal { Ok(Self { runs }) } else { Err(LinkError::Malformed) }
    }

    /// Walks through the runs: first counter, and how many.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u16)> + use<'a> {
        self.runs.iter().map(|run| {
            let [a, b, c, d, e, f, g, h, i, j] = *run;
            (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u16::from_le_bytes([i, j]))
        })
    }

    /// Tells whether a counter is named.
    #[must_use]
    pub fn contains(&self, counter: u64) -> bool {
        self.iter().any(|(first, len)| counter.wrapping_sub(first) < u64::from(len))
    }
}

/// Gathers counters into the runs of an acknowledgement.
#[derive(Clone, Debug)]
pub struct RunsWriter {
    bytes: [u8; ACKNOWLEDGEMENT_LEN_MAX],
    runs: usize,
    first: u64,
    len: u16,
}

impl Default for RunsWriter {
    fn default() -> Self {
        let mut bytes = [0; ACKNOWLEDGEMENT_LEN_MAX];
        bytes[0] = ACKNOWLEDGEMENT;
        Self { bytes, runs: 0, first: 0, len: 0 }
    }
}

impl RunsWriter {
    /// Adds a counter; false if it needs an acknowledgement of its own. Counters in their order
    /// need the fewest runs.
    #[must_use]
    pub fn push(&mut self, counter: u64) -> bool {
        if self.len > 0 && self.len < u16::MAX && counter == self.first + u64::from(self.len) {
            self.len += 1;
        } else if self.runs == SEALED_ACKNOWLEDGED_RUNS_MAX {
            return false;
        } else {
            self.runs += 1;
            (self.first, self.len) = (counter, 1);
        }
        let at = 2 + RUN_LEN * (self.runs - 1);
        self.bytes[at..at + 8].copy_from_slice(&self.first.to_le_bytes());
        self.bytes[at + 8..at + RUN_LEN].copy_from_slice(&self.len.to_le_bytes());
        true
    }

    /// Returns the message, or `None` without a counter.
    pub fn message(&mut self) -> Option<&[u8]> {
        // No more than SEALED_ACKNOWLEDGED_RUNS_MAX, which a byte holds.
        self.bytes[1] = self.runs as u8;
        (self.runs > 0).then(|| &self.bytes[..2 + RUN_LEN * self.runs])
    }
}
