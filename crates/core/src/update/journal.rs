//! What an updater must not forget: one record for each step, the newest of which counts.
//!
//! Two blocks of flash take up to 64 records of 64 bytes each. When one is full, the other is
//! erased and goes on: the newest record is never in what is erased. A record that a power cut has
//! torn fails its checksum, and the one before it counts.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic, `SCUJ` |
//! | 4 | 4 | number, from 1; the greatest is the newest |
//! | 8 | 1 | version, 1 |
//! | 9 | 1 | state ([`State`]) |
//! | 10 | 1 | the slot that runs, 0 or 1 |
//! | 11 | 1 | reason ([`Reason`](super::Reason)), or 0 |
//! | 12 | 1 | starts while on trial |
//! | 13 | 3 | reserved, 0 |
//! | 16 | 8 | the release that the state speaks of |
//! | 24 | 8 | its sequence number |
//! | 32 | 8 | the greatest sequence number that was ever confirmed |
//! | 40 | 20 | reserved, 0xff |
//! | 60 | 4 | CRC-32 (ISO-HDLC) of the bytes 0 to 59 |

use embedded_storage::nor_flash::MultiwriteNorFlash;

use super::slots::{CRC, Region, equals};
use super::{Reason, ReleaseId};
use crate::limits::UPDATE_JOURNAL_RECORDS_MAX;

const RECORD_LEN: usize = 64;
const CRC_OFFSET: usize = RECORD_LEN - 4;
const MAGIC: [u8; 4] = *b"SCUJ";
const VERSION: u8 = 1;

/// What an updater is at. The numbers are in flash and on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Nothing is under way.
    #[default]
    Idle = 0,
    /// Chunks are coming.
    Receiving = 1,
    /// All chunks are there; the image is hashed.
    Verifying = 2,
    /// The image is whole; the device may switch.
    Staged = 3,
    /// The new release runs until it is found healthy.
    Trial = 4,
    /// It was found healthy and stays; to be reported.
    Confirmed = 5,
    /// It did not stay, and the one before runs again; to be reported.
    RolledBack = 6,
    /// It was given up before it ever ran; to be reported.
    Refused = 7,
}

impl State {
    /// Every state, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Idle,
        Self::Receiving,
        Self::Verifying,
        Self::Staged,
        Self::Trial,
        Self::Confirmed,
        Self::RolledBack,
        Self::Refused,
    ];

    /// Reads its number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Tells whether a release is on its way into the slot that does not run.
    #[must_use]
    pub fn is_arriving(self) -> bool {
        matches!(self, Self::Receiving | Self::Verifying | Self::Staged)
    }

    /// Tells whether a release has come to its end, which is to be reported.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Confirmed | Self::RolledBack | Self::Refused)
    }
}

/// All that an updater remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) state: State,
    /// The slot that runs.
    pub(super) active: u8,
    pub(super) reason: Option<Reason>,
    /// Starts while on trial.
    pub(super) boots: u8,
    pub(super) release: ReleaseId,
    pub(super) sequence: u64,
    /// The greatest sequence number that was ever confirmed.
    pub(super) highest: u64,
}

impl Record {
    fn write(&self, number: u32) -> [u8; RECORD_LEN] {
        let mut bytes = [0xff; RECORD_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&number.to_le_bytes());
        let reason = self.reason.map_or(0, |reason| reason as u8);
        bytes[8..13].copy_from_slice(&[VERSION, self.state as u8, self.active, reason, self.boots]);
        bytes[13..16].fill(0);
        bytes[16..24].copy_from_slice(&self.release.0);
        bytes[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.highest.to_le_bytes());
        let crc = CRC.checksum(&bytes[..CRC_OFFSET]);
        bytes[CRC_OFFSET..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8; RECORD_LEN]) -> Option<(u32, Self)> {
        let crc = CRC.checksum(&bytes[..CRC_OFFSET]).to_le_bytes();
        if bytes[..4] != MAGIC || bytes[CRC_OFFSET..] != crc {
            return None;
        }
        let eight = |at: usize| bytes[at..].first_chunk::<8>().copied().unwrap_or_default();
        let number = bytes[4..].first_chunk::<4>().copied().map(u32::from_le_bytes)?;
        let [version, state, active, reason, boots] = *bytes[8..].first_chunk::<5>()?;
        let reason = if reason == 0 { None } else { Some(Reason::from_number(reason)?) };
        let record = Self {
            state: State::from_number(state)?,
            active,
            reason,
            boots,
            release: ReleaseId(eight(16)),
            sequence: u64::from_le_bytes(eight(24)),
            highest: u64::from_le_bytes(eight(32)),
        };
        (version == VERSION && active <= 1).then_some((number, record))
    }
}

/// Where the next record goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Journal {
    blocks: [Region; 2],
    /// The block of the newest record.
    block: usize,
    /// The place behind the last one in that block that is not blank.
    next: u32,
    /// The number of the newest record.
    number: u32,
}

impl Journal {
    /// Finds the newest record; without any, a new journal begins.
    pub(super) fn load<F: MultiwriteNorFlash>(
        blocks: [Region; 2],
        flash: &mut F,
    ) -> Result<(Self, Option<Record>), Reason> {
        // Without a record the first block counts as full: the other is erased before it is used.
        let mut journal = Self { blocks, block: 0, next: u32::MAX, number: 0 };
        let mut newest = None;
        for block in 0..blocks.len() {
            let mut used = 0;
            let mut best = None;
            for place in 0..journal.places(block) {
                let mut bytes = [0; RECORD_LEN];
                flash.read(journal.address(block, place), &mut bytes).map_err(|_| Reason::Flash)?;
                if bytes != [0xff; RECORD_LEN] {
                    used = place + 1;
                }
                let parsed = Record::parse(&bytes);
                best = parsed.filter(|parsed| parsed.0 > journal.number).or(best);
                journal.number = best.map_or(journal.number, |best| best.0);
            }
            if best.is_some() {
                newest = best.map(|best| best.1);
                (journal.block, journal.next) = (block, used);
            }
        }
        Ok((journal, newest))
    }

    /// Writes a record behind the newest one.
    pub(super) fn append<F: MultiwriteNorFlash>(
        &mut self,
        flash: &mut F,
        record: &Record,
    ) -> Result<(), Reason> {
        if self.next >= self.places(self.block) {
            let other = 1 - self.block;
            self.blocks[other].erase(flash)?;
            (self.block, self.next) = (other, 0);
        }
        let at = self.address(self.block, self.next);
        let number = self.number.checked_add(1).ok_or(Reason::Flash)?;
        // Place and number are used up even if writing fails: what is there may be whole.
        self.next += 1;
        self.number = number;
        let bytes = record.write(number);
        flash.write(at, &bytes).map_err(|_| Reason::Flash)?;
        if !equals(flash, at, &bytes)? {
            return Err(Reason::Flash);
        }
        Ok(())
    }

    fn places(&self, block: usize) -> u32 {
        (self.blocks[block].len / RECORD_LEN as u32).min(UPDATE_JOURNAL_RECORDS_MAX)
    }

    fn address(&self, block: usize, place: u32) -> u32 {
        self.blocks[block].start + place * RECORD_LEN as u32
    }
}
