//! The messages between server and device. They travel in a sealed session, over TLS, or wherever
//! else: what counts in them is signed, or proved by the hash tree of what is signed.
//!
//! All numbers are little-endian.
//!
//! | message | offset | bytes | field |
//! |---|---|---|---|
//! | all | 0 | 1 | version, 1 |
//! | | 1 | 1 | type |
//! | keys: type 1, to the device | 2 | n | a key document in its envelope |
//! | offer: type 2, to the device | 2 | n | a manifest in its envelope |
//! | chunk: type 3, to the device | 2 | 8 | release |
//! | | 10 | 4 | number of the chunk, from 0 |
//! | | 14 | 1 | hashes in its proof, p: 0 to 14 |
//! | | 15 | 1 | reserved, 0 |
//! | | 16 | 32 p | the proof, from the leaf upwards |
//! | | 16 + 32 p | 1 to 1,024 | the chunk |
//! | seen: type 4, to the device | 2 | 8 | a release whose end is noted |
//! | cancel: type 5, to the device | 2 | 8 | a release that is called off |
//! | ask: type 6, to the device | | | nothing more: send a status |
//! | status: type 16, to the server | 2 | 1 | component: 0 detector, 1 firmware |
//! | | 3 | 1 | state |
//! | | 4 | 1 | reason why the release did not stay, or 0 |
//! | | 5 | 1 | window: chunks that the server may send before the next status |
//! | | 6 | 8 | the release that the state speaks of; 0 if there never was one |
//! | | 14 | 8 | sequence number that runs |
//! | | 22 | 8 | greatest sequence number that was ever confirmed |
//! | | 30 | 8 | version of the device's key document |
//! | | 38 | 4 | chunks of the release that is on its way, or 0 |
//! | | 42 | 4 | how many of them are missing |
//! | | 46 | 4 | the first that is missing, b; without any, their number |
//! | | 50 | 32 | bit i (bit i mod 8 of byte i / 8) is set when chunk b + i is missing |
//! | | 82 | 8 | the release of the last message that was not taken, or 0 |
//! | | 90 | 1 | the reason, or 0 |
//!
//! Other types are for later versions: who does not know one ignores it.

use super::journal::State;
use super::{Component, Hash, Reason, ReleaseId};
use crate::limits::{RELEASE_CHUNK_LEN, RELEASE_DOCUMENT_LEN_MAX, RELEASE_PROOF_LEN_MAX};

const VERSION: u8 = 1;
const KEYS: u8 = 1;
const OFFER: u8 = 2;
const CHUNK: u8 = 3;
const SEEN: u8 = 4;
const CANCEL: u8 = 5;
const ASK: u8 = 6;
const STATUS: u8 = 16;

const HEADER_LEN: usize = 2;
const CHUNK_HEADER_LEN: usize = 14;
/// The bytes of a status's map of missing chunks.
pub const WANTED_LEN: usize = 32;
/// The bytes of a status.
pub const STATUS_LEN: usize = 91;
/// The bytes of the longest message to a device.
pub const MESSAGE_LEN_MAX: usize = {
    let chunk = CHUNK_HEADER_LEN + 32 * RELEASE_PROOF_LEN_MAX + RELEASE_CHUNK_LEN;
    HEADER_LEN + if chunk > RELEASE_DOCUMENT_LEN_MAX { chunk } else { RELEASE_DOCUMENT_LEN_MAX }
};

/// A message to a device; it borrows from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A key document in its envelope, not looked at yet.
    Keys(&'a [u8]),
    /// A manifest in its envelope, not looked at yet.
    Offer(&'a [u8]),
    /// A chunk.
    Chunk(Chunk<'a>),
    /// The end of a release is noted.
    Seen(ReleaseId),
    /// A release is called off.
    Cancel(ReleaseId),
    /// The server asks for a status.
    Ask,
    /// Of a later version.
    Unknown,
}

/// A chunk on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// The release that it belongs to.
    pub release: ReleaseId,
    /// Its number, from 0.
    pub index: u32,
    /// Its proof, from the leaf upwards.
    pub proof: &'a [Hash],
    /// What it says.
    pub bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Reason::Malformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Reason> {
        Self::read(bytes).ok_or(Reason::Malformed)
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (&[version, kind], rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
        if version != VERSION {
            return None;
        }
        let document = || (1..=RELEASE_DOCUMENT_LEN_MAX).contains(&rest.len()).then_some(rest);
        let release = || rest.try_into().ok().map(ReleaseId);
        Some(match kind {
            KEYS => Self::Keys(document()?),
            OFFER => Self::Offer(document()?),
            CHUNK => Self::Chunk(Chunk::read(rest)?),
            SEEN => Self::Seen(release()?),
            CANCEL => Self::Cancel(release()?),
            ASK => rest.is_empty().then_some(Self::Ask)?,
            _ => Self::Unknown,
        })
    }

    /// Writes the message. Returns its length, or `None` without room or if no message says that;
    /// [`MESSAGE_LEN_MAX`] is room enough.
    #[must_use]
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let (kind, parts): (u8, [&[u8]; 3]) = match self {
            Self::Keys(document) => (KEYS, [document, &[], &[]]),
            Self::Offer(document) => (OFFER, [document, &[], &[]]),
            Self::Chunk(chunk) => {
                let header = chunk.header()?;
                let parts = [&header[..], chunk.proof.as_flattened(), chunk.bytes];
                return write(CHUNK, parts, out);
            }
            Self::Seen(release) => (SEEN, [&release.0, &[], &[]]),
            Self::Cancel(release) => (CANCEL, [&release.0, &[], &[]]),
            Self::Ask => (ASK, [&[], &[], &[]]),
            Self::Unknown => return None,
        };
        write(kind, parts, out)
    }
}

fn write(kind: u8, parts: [&[u8]; 3], out: &mut [u8]) -> Option<usize> {
    let mut len = 0;
    for part in [&[VERSION, kind][..]].into_iter().chain(parts) {
        out.get_mut(len..len + part.len())?.copy_from_slice(part);
        len += part.len();
    }
    Message::parse(&out[..len]).is_ok().then_some(len)
}

impl<'a> Chunk<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<CHUNK_HEADER_LEN>()?;
        let [a, b, c, d, e, f, g, h, i0, i1, i2, i3, proof_len, reserved] = *header;
        let proof_len = usize::from(proof_len);
        let (proof, bytes) = rest.split_at_checked(32 * proof_len)?;
        let legal = reserved == 0
            && proof_len <= RELEASE_PROOF_LEN_MAX
            && (1..=RELEASE_CHUNK_LEN).contains(&bytes.len());
        let release = ReleaseId([a, b, c, d, e, f, g, h]);
        let index = u32::from_le_bytes([i0, i1, i2, i3]);
        legal.then_some(Self { release, index, proof: proof.as_chunks().0, bytes })
    }

    fn header(&self) -> Option<[u8; CHUNK_HEADER_LEN]> {
        let mut header = [0; CHUNK_HEADER_LEN];
        header[..8].copy_from_slice(&self.release.0);
        header[8..12].copy_from_slice(&self.index.to_le_bytes());
        header[12] = self.proof.len().try_into().ok()?;
        Some(header)
    }
}

/// How an updater is, as it tells the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it updates.
    pub component: Component,
    /// Its state.
    pub state: State,
    /// Why the release did not stay.
    pub reason: Option<Reason>,
    /// The chunks that the server may send before the next status.
    pub window: u8,
    /// The release that the state speaks of.
    pub release: ReleaseId,
    /// The sequence number that runs.
    pub running_sequence: u64,
    /// The greatest sequence number that was ever confirmed.
    pub highest_sequence: u64,
    /// The version of the device's key document.
    pub key_version: u64,
    /// The chunks of the release on its way.
    pub chunk_count: u32,
    /// How many of them are missing.
    pub missing: u32,
    /// The first that is missing.
    pub base: u32,
    /// Bit i is set when chunk `base` + i is missing.
    pub wanted: [u8; WANTED_LEN],
    /// The release of the last message that was not taken.
    pub refused: ReleaseId,
    /// Why it was not.
    pub refused_reason: Option<Reason>,
}

impl Status {
    /// Walks through the missing chunks that the status names, in order.
    pub fn wanted(&self) -> impl Iterator<Item = u32> {
        let (base, wanted) = (self.base, self.wanted);
        let bits = (0..8 * WANTED_LEN as u32).filter(move |bit| {
            let byte = wanted[(bit / 8) as usize];
            byte >> (bit % 8) & 1 == 1
        });
        bits.filter_map(move |bit| base.checked_add(bit)).filter(|&index| index < self.chunk_count)
    }

    /// Writes the status as a message.
    #[must_use]
    pub fn write(&self) -> [u8; STATUS_LEN] {
        let mut bytes = [0; STATUS_LEN];
        let number = |reason: Option<Reason>| reason.map_or(0, |reason| reason as u8);
        let head = [VERSION, STATUS, self.component as u8, self.state as u8];
        bytes[..4].copy_from_slice(&head);
        bytes[4..6].copy_from_slice(&[number(self.reason), self.window]);
        bytes[6..14].copy_from_slice(&self.release.0);
        bytes[14..22].copy_from_slice(&self.running_sequence.to_le_bytes());
        bytes[22..30].copy_from_slice(&self.highest_sequence.to_le_bytes());
        bytes[30..38].copy_from_slice(&self.key_version.to_le_bytes());
        bytes[38..42].copy_from_slice(&self.chunk_count.to_le_bytes());
        bytes[42..46].copy_from_slice(&self.missing.to_le_bytes());
        bytes[46..50].copy_from_slice(&self.base.to_le_bytes());
        bytes[50..82].copy_from_slice(&self.wanted);
        bytes[82..90].copy_from_slice(&self.refused.0);
        bytes[90] = number(self.refused_reason);
        bytes
    }

    /// Reads a status.
    ///
    /// # Errors
    /// [`Reason::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        bytes.try_into().ok().and_then(Self::read).ok_or(Reason::Malformed)
    }

    fn read(bytes: &[u8; STATUS_LEN]) -> Option<Self> {
        let [version, kind, component, state, reason, window] = *bytes.first_chunk()?;
        let four = |at: usize| bytes[at..].first_chunk().copied().map(u32::from_le_bytes);
        let eight = |at: usize| bytes[at..].first_chunk::<8>().copied();
        let number = |at: usize| eight(at).map(u64::from_le_bytes);
        if [version, kind] != [VERSION, STATUS] {
            return None;
        }
        Some(Self {
            component: Component::from_number(component.into())?,
            state: State::from_number(state)?,
            reason: parse_reason(reason)?,
            window,
            release: ReleaseId(eight(6)?),
            running_sequence: number(14)?,
            highest_sequence: number(22)?,
            key_version: number(30)?,
            chunk_count: four(38)?,
            missing: four(42)?,
            base: four(46)?,
            wanted: *bytes[50..].first_chunk()?,
            refused: ReleaseId(eight(82)?),
            refused_reason: parse_reason(bytes[90])?,
        })
    }
}

fn parse_reason(number: u8) -> Option<Option<Reason>> {
    if number == 0 { Some(None) } else { Reason::from_number(number).map(Some) }
}
