//! Two slots of a component in flash, and what else stands there.
//!
//! A slot is an image and, behind it in its last erase blocks (at least 4,096 bytes), a trailer:
//!
//! | offset in the trailer | bytes | field |
//! |---|---|---|
//! | 0 | 32 + n | the release's manifest in its envelope, as a *document* |
//! | 2,048 | 2,048 | bit i (bit i mod 8 of byte i / 8) is cleared when chunk i is there |
//!
//! A document, as key documents are kept, too:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic, `SCDC` |
//! | 4 | 4 | length, n |
//! | 8 | 4 | CRC-32 (ISO-HDLC) of the document |
//! | 12 | 20 | 0xff |
//! | 32 | n | the document |
//!
//! Everything is written in units of 32 bytes, which every flash's own unit divides; what is
//! written again only clears further bits.

use core::ops::Range;

use embedded_storage::nor_flash::MultiwriteNorFlash;

use super::Reason;
use crate::limits::{
    RELEASE_CHUNK_LEN, RELEASE_DOCUMENT_LEN_MAX, RELEASE_PROOF_LEN_MAX, UPDATE_FLASH_UNIT_LEN,
};

const UNIT: usize = UPDATE_FLASH_UNIT_LEN;
const DOCUMENT_MAGIC: [u8; 4] = *b"SCDC";
const MARKS_OFFSET: u32 = 2_048;
const TRAILER_LEN: u32 = MARKS_OFFSET + (1 << RELEASE_PROOF_LEN_MAX) / 8;
const UNIT_BITS: u32 = UNIT as u32 * 8;

pub(super) const CRC: crc::Crc<u32, crc::Table<1>> =
    crc::Crc::<u32, crc::Table<1>>::new(&crc::CRC_32_ISO_HDLC);

/// A part of the flash: whole erase blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where it starts, in bytes.
    pub start: u32,
    /// Its length in bytes.
    pub len: u32,
}

impl Region {
    fn range(&self) -> Option<Range<u32>> {
        Some(self.start..self.start.checked_add(self.len)?)
    }

    pub(super) fn erase<F: MultiwriteNorFlash>(&self, flash: &mut F) -> Result<(), Reason> {
        let Range { start, end } = self.range().ok_or(Reason::Flash)?;
        flash.erase(start, end).map_err(|_| Reason::Flash)
    }
}

/// Tells whether regions lie within the flash, consist of whole erase blocks, and share none; and
/// whether the flash is one that updates can use.
pub(super) fn are_legal<F: MultiwriteNorFlash>(flash: &F, regions: &[Region]) -> bool {
    let sizes = UNIT.is_multiple_of(F::READ_SIZE)
        && UNIT.is_multiple_of(F::WRITE_SIZE)
        && F::ERASE_SIZE.is_multiple_of(RELEASE_CHUNK_LEN);
    let capacity = u32::try_from(flash.capacity()).unwrap_or(u32::MAX);
    let fits = |region: &Region| {
        region.len > 0
            && region.start.is_multiple_of(F::ERASE_SIZE as u32)
            && region.len.is_multiple_of(F::ERASE_SIZE as u32)
            && region.range().is_some_and(|range| range.end <= capacity)
    };
    let apart = |a: &Region, b: &Region| match (a.range(), b.range()) {
        (Some(a), Some(b)) => a.end <= b.start || b.end <= a.start,
        _ => false,
    };
    let pairs = regions.iter().enumerate().all(|(i, a)| regions[..i].iter().all(|b| apart(a, b)));
    sizes && regions.iter().all(fits) && pairs
}

/// Where one component lives in flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Two blocks for the journal; of each, 4,096 bytes are used at most.
    pub journal: [Region; 2],
    /// The two slots.
    pub slots: [Region; 2],
}

impl Layout {
    /// Tells whether a flash can hold it: every region consists of whole erase blocks, none shares
    /// one with another, and a slot has room for more than its trailer.
    #[must_use]
    pub fn fits<F: MultiwriteNorFlash>(&self, flash: &F) -> bool {
        let [a, b] = self.journal;
        let [c, d] = self.slots;
        are_legal(flash, &[a, b, c, d]) && c.len.min(d.len) > trailer_len::<F>()
    }

    pub(super) fn slot<F: MultiwriteNorFlash>(&self, index: usize) -> Slot {
        let Region { start, len } = self.slots[index & 1];
        let image_len = len.saturating_sub(trailer_len::<F>());
        Slot { image: Region { start, len: image_len }, trailer: start + image_len }
    }
}

fn trailer_len<F: MultiwriteNorFlash>() -> u32 {
    TRAILER_LEN.next_multiple_of(F::ERASE_SIZE as u32)
}

/// One slot: where its image and its trailer stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) image: Region,
    trailer: u32,
}

impl Slot {
    /// Makes the slot empty, and stores the manifest of what is to come.
    pub(super) fn begin<F: MultiwriteNorFlash>(
        &self,
        flash: &mut F,
        manifest: &[u8],
    ) -> Result<(), Reason> {
        // The image is erased block by block as its chunks come: to erase it whole takes too long.
        let trailer = Region { start: self.trailer, len: trailer_len::<F>() };
        trailer.erase(flash)?;
        write_document(flash, self.trailer, manifest)
    }

    /// Reads the manifest of what is in the slot.
    pub(super) fn manifest<'b, F: MultiwriteNorFlash>(
        &self,
        flash: &mut F,
        buffer: &'b mut [u8; RELEASE_DOCUMENT_LEN_MAX],
    ) -> Result<Option<&'b [u8]>, Reason> {
        read_document(flash, self.trailer, buffer)
    }

    /// Writes a chunk, reads it again, and marks it.
    pub(super) fn write_chunk<F: MultiwriteNorFlash>(
        &self,
        flash: &mut F,
        index: u32,
        bytes: &[u8],
    ) -> Result<(), Reason> {
        let offset = index * RELEASE_CHUNK_LEN as u32;
        let block_len = F::ERASE_SIZE as u32;
        let block = offset / block_len * block_len;
        let first = block / RELEASE_CHUNK_LEN as u32;
        let beside = first..first + block_len / RELEASE_CHUNK_LEN as u32;
        // The first chunk of a block erases it, whatever a broken attempt left there. Later ones
        // may overwrite the torn writing of the same chunk, which only clears bits.
        if self.missing_in(flash, beside.clone())? == beside.end - beside.start {
            Region { start: self.image.start + block, len: block_len }.erase(flash)?;
        }
        let at = self.image.start + offset;
        write_padded(flash, at, bytes)?;
        if !equals(flash, at, bytes)? {
            return Err(Reason::Flash);
        }
        self.mark(flash, index)
    }

    fn mark<F: MultiwriteNorFlash>(&self, flash: &mut F, index: u32) -> Result<(), Reason> {
        let (at, mut unit) = self.marks(flash, index)?;
        let bit = index % UNIT_BITS;
        unit[(bit / 8) as usize] &= !(1 << (bit % 8));
        flash.write(at, &unit).map_err(|_| Reason::Flash)
    }

    /// Reads the unit of marks that a chunk's is in, and says where it stands.
    fn marks<F: MultiwriteNorFlash>(
        &self,
        flash: &mut F,
        index: u32,
    ) -> Result<(u32, [u8; UNIT]), Reason> {
        let at = self.trailer + MARKS_OFFSET + index / UNIT_BITS * UNIT as u32;
        let mut unit = [0; UNIT];
        flash.read(at, &mut unit).map_err(|_| Reason::Flash)?;
        Ok((at, unit))
    }

    /// Calls `each` with the number of every missing chunk of a range, in order, while it returns
    /// true.
    pub(super) fn each_missing<F: MultiwriteNorFlash>(
        &self,
        flash: &mut F,
        range: Range<u32>,
        mut each: impl FnMut(u32) -> bool,
    ) -> Result<(), Reason> {
        let mut index = range.start;
        while index < range.end {
            let (_, unit) = self.marks(flash, index)?;
            let end = (index / UNIT_BITS + 1) * UNIT_BITS;
            while index < end.min(range.end) {
                let bit = index % UNIT_BITS;
                if unit[(bit / 8) as usize] >> (bit % 8) & 1 == 1 && !each(index) {
                    return Ok(());
                }
                index += 1;
            }
        }
        Ok(())
    }

    /// Counts the missing chunks of a range.
    pub(super) fn missing_in<F: MultiwriteNorFlash>(
        &self,
        flash: &mut F,
        range: Range<u32>,
    ) -> Result<u32, Reason> {
        let mut count = 0;
        self.each_missing(flash, range, |_| {
            count += 1;
            true
        })?;
        Ok(count)
    }
}

/// Writes a document into erased flash.
pub(super) fn write_document<F: MultiwriteNorFlash>(
    flash: &mut F,
    at: u32,
    document: &[u8],
) -> Result<(), Reason> {
    let len = u32::try_from(document.len()).map_err(|_| Reason::TooBig)?;
    let mut header = [0xff; UNIT];
    header[..4].copy_from_slice(&DOCUMENT_MAGIC);
    header[4..8].copy_from_slice(&len.to_le_bytes());
    header[8..12].copy_from_slice(&CRC.checksum(document).to_le_bytes());
    write_padded(flash, at + UNIT as u32, document)?;
    flash.write(at, &header).map_err(|_| Reason::Flash)
}

/// Reads a document; `None` if there is no whole one.
pub(super) fn read_document<'b, F: MultiwriteNorFlash>(
    flash: &mut F,
    at: u32,
    buffer: &'b mut [u8; RELEASE_DOCUMENT_LEN_MAX],
) -> Result<Option<&'b [u8]>, Reason> {
    let mut header = [0; UNIT];
    flash.read(at, &mut header).map_err(|_| Reason::Flash)?;
    let [m0, m1, m2, m3, l0, l1, l2, l3, c0, c1, c2, c3, ..] = header;
    let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if [m0, m1, m2, m3] != DOCUMENT_MAGIC || len > buffer.len() {
        return Ok(None);
    }
    let whole = len.next_multiple_of(UNIT);
    flash.read(at + UNIT as u32, &mut buffer[..whole]).map_err(|_| Reason::Flash)?;
    let document = &buffer[..len];
    let legal = CRC.checksum(document) == u32::from_le_bytes([c0, c1, c2, c3]);
    Ok(legal.then_some(document))
}

/// Writes bytes, and 0xff up to the end of the last unit.
fn write_padded<F: MultiwriteNorFlash>(flash: &mut F, at: u32, bytes: &[u8]) -> Result<(), Reason> {
    let (whole, rest) = bytes.split_at(bytes.len() / UNIT * UNIT);
    if !whole.is_empty() {
        flash.write(at, whole).map_err(|_| Reason::Flash)?;
    }
    if !rest.is_empty() {
        let mut last = [0xff; UNIT];
        last[..rest.len()].copy_from_slice(rest);
        flash.write(at + whole.len() as u32, &last).map_err(|_| Reason::Flash)?;
    }
    Ok(())
}

/// Tells whether the flash holds these bytes.
pub(super) fn equals<F: MultiwriteNorFlash>(
    flash: &mut F,
    at: u32,
    bytes: &[u8],
) -> Result<bool, Reason> {
    let mut unit = [0; UNIT];
    for (index, expected) in (0_u32..).zip(bytes.chunks(UNIT)) {
        flash.read(at + index * UNIT as u32, &mut unit).map_err(|_| Reason::Flash)?;
        if unit[..expected.len()] != *expected {
            return Ok(false);
        }
    }
    Ok(true)
}
