//! The job as the host lays it into the chip's memory.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `SCHATJOB` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | length of the whole job, this header included |
//! | 16 | 4 | values per sample (channels), 1 to [`CHANNELS_MAX`] |
//! | 20 | 4 | windows per digest block, at least 1 |
//! | 24 | 4 | flags: bit 0 asks for instruction counts |
//! | 28 | 4 | offset of the detector file, a multiple of 16 |
//! | 32 | 4 | length of the detector file in bytes |
//! | 36 | 4 | offset of the samples, a multiple of 16 |
//! | 40 | 4 | number of values (samples times channels), each an f32 |
//! | 44 | 4 | reserved, 0 |
//! | 48 | 8 | FNV-1a of everything after this header |
//! | 56 | 8 | reserved, 0 |
//!
//! All numbers are little-endian.

use core::fmt;

#[cfg(target_endian = "big")]
compile_error!("a job's samples are read in place and are little-endian");

use crate::digest::Digest;
use crate::limits::{CHANNELS_MAX, JOB_BYTES_MAX};

/// Where a job begins.
pub const MAGIC: [u8; 8] = *b"SCHATJOB";
/// The one version of the format.
pub const VERSION: u32 = 1;
/// Length of the header in bytes.
pub const HEADER_BYTES: usize = 64;
/// Both parts begin at a multiple of this many bytes.
pub const ALIGNMENT: usize = 16;

const FLAG_COUNT: u32 = 1;

/// What a job asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Values per sample.
    pub channels: usize,
    /// Windows per digest block.
    pub block_windows: u32,
    /// Whether instructions are counted.
    pub count: bool,
}

/// A checked job.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// What the job asks for.
    pub settings: Settings,
    /// The detector file; as aligned as the job is, up to 16 bytes.
    pub detector: &'a [u8],
    values: &'a [f32],
}

/// Why bytes are no job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobError {
    /// Shorter than its header says, or than a header.
    Truncated,
    /// Another magic number.
    NotAJob,
    /// Another version of the format.
    Version(u32),
    /// A field that is out of its range; its offset in the header.
    Field(usize),
    /// The checksum does not fit.
    Damaged,
    /// The job does not begin at a multiple of four bytes.
    Misaligned,
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "the job is cut short"),
            Self::NotAJob => write!(f, "no job at this address: the magic number is missing"),
            Self::Version(version) => {
                write!(f, "job format {version}, this program reads {VERSION}")
            }
            Self::Field(offset) => write!(f, "the header's field at byte {offset} is out of range"),
            Self::Damaged => write!(f, "the job's checksum does not fit"),
            Self::Misaligned => write!(f, "the job does not begin at a multiple of four bytes"),
        }
    }
}

impl core::error::Error for JobError {}

/// The length of the job whose header this is, before the rest of it is read.
///
/// # Errors
/// Fails for bytes that do not begin a job of this version.
pub fn job_len(header: &[u8; HEADER_BYTES]) -> Result<usize, JobError> {
    if header[..8] != MAGIC {
        return Err(JobError::NotAJob);
    }
    let version = field(header, 8);
    if version != VERSION {
        return Err(JobError::Version(version));
    }
    match usize::try_from(field(header, 12)) {
        Ok(len) if (HEADER_BYTES..=JOB_BYTES_MAX).contains(&len) => Ok(len),
        _ => Err(JobError::Field(12)),
    }
}

impl<'a> Job<'a> {
    /// Checks a job.
    ///
    /// # Errors
    /// Fails for bytes that are no job of this version, are cut short or damaged,
    /// or hold a field out of its range.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, JobError> {
        let header = bytes.first_chunk().ok_or(JobError::Truncated)?;
        let len = job_len(header)?;
        let bytes = bytes.get(..len).ok_or(JobError::Truncated)?;
        let mut digest = Digest::default();
        digest.bytes(&bytes[HEADER_BYTES..]);
        let (low, high) = (field(header, 48), field(header, 52));
        if digest.value() != u64::from(low) | u64::from(high) << 32 {
            return Err(JobError::Damaged);
        }
        let channels = field(header, 16) as usize;
        if !(1..=CHANNELS_MAX).contains(&channels) {
            return Err(JobError::Field(16));
        }
        let block_windows = field(header, 20);
        if block_windows == 0 {
            return Err(JobError::Field(20));
        }
        let flags = field(header, 24);
        if flags & !FLAG_COUNT != 0 {
            return Err(JobError::Field(24));
        }
        let values = field(header, 40) as usize;
        if !values.is_multiple_of(channels) {
            return Err(JobError::Field(40));
        }
        let values_len = values.checked_mul(4).ok_or(JobError::Field(40))?;
        Ok(Self {
            settings: Settings { channels, block_windows, count: flags & FLAG_COUNT != 0 },
            detector: part(bytes, 28, field(header, 32) as usize)?,
            values: bytemuck::try_cast_slice(part(bytes, 36, values_len)?)
                .map_err(|_| JobError::Misaligned)?,
        })
    }

    /// The samples in order, each with as many values as the job has channels.
    pub fn samples(&self) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        self.values.chunks_exact(self.settings.channels)
    }
}

/// A job's layout before it has bytes, for the side that can allocate.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    settings: Settings,
    detector_len: usize,
    values: usize,
    samples_offset: usize,
    len: usize,
}

impl Layout {
    /// Plans a job for a detector file of `detector_len` bytes and `values` numbers.
    ///
    /// # Errors
    /// Fails where a setting is out of its range or the job would be too long.
    pub fn plan(settings: Settings, detector_len: usize, values: usize) -> Result<Self, JobError> {
        if !(1..=CHANNELS_MAX).contains(&settings.channels) {
            return Err(JobError::Field(16));
        }
        if settings.block_windows == 0 {
            return Err(JobError::Field(20));
        }
        if detector_len > JOB_BYTES_MAX {
            return Err(JobError::Field(32));
        }
        if values > JOB_BYTES_MAX / 4 || !values.is_multiple_of(settings.channels) {
            return Err(JobError::Field(40));
        }
        let samples_offset = (HEADER_BYTES + detector_len).next_multiple_of(ALIGNMENT);
        let len = samples_offset + 4 * values;
        if len > JOB_BYTES_MAX {
            return Err(JobError::Field(12));
        }
        Ok(Self { settings, detector_len, values, samples_offset, len })
    }

    /// Length of the whole job in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the job would hold nothing; never, as it has a header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the job into bytes of exactly [`Layout::len`].
    ///
    /// # Errors
    /// Fails where a length is not the planned one.
    pub fn write(&self, out: &mut [u8], detector: &[u8], samples: &[f32]) -> Result<(), JobError> {
        if out.len() != self.len
            || detector.len() != self.detector_len
            || samples.len() != self.values
        {
            return Err(JobError::Truncated);
        }
        out.fill(0);
        out[HEADER_BYTES..][..detector.len()].copy_from_slice(detector);
        let body = out[self.samples_offset..].as_chunks_mut::<4>().0;
        for (bytes, sample) in body.iter_mut().zip(samples) {
            *bytes = sample.to_le_bytes();
        }
        let mut digest = Digest::default();
        digest.bytes(&out[HEADER_BYTES..]);
        out[..8].copy_from_slice(&MAGIC);
        let fields = [
            VERSION,
            self.len as u32,
            self.settings.channels as u32,
            self.settings.block_windows,
            u32::from(self.settings.count) * FLAG_COUNT,
            HEADER_BYTES as u32,
            self.detector_len as u32,
            self.samples_offset as u32,
            self.values as u32,
            0,
            digest.value() as u32,
            (digest.value() >> 32) as u32,
        ];
        for (bytes, field) in out[8..].as_chunks_mut::<4>().0.iter_mut().zip(fields) {
            *bytes = field.to_le_bytes();
        }
        Ok(())
    }
}

fn field(header: &[u8; HEADER_BYTES], offset: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&header[offset..offset + 4]);
    u32::from_le_bytes(bytes)
}

/// The part whose offset stands in the header at `offset_field`.
fn part(job: &[u8], offset_field: usize, len: usize) -> Result<&[u8], JobError> {
    let header = job.first_chunk().ok_or(JobError::Truncated)?;
    let offset = field(header, offset_field) as usize;
    if offset < HEADER_BYTES || !offset.is_multiple_of(ALIGNMENT) {
        return Err(JobError::Field(offset_field));
    }
    let end = offset.checked_add(len).ok_or(JobError::Field(offset_field))?;
    job.get(offset..end).ok_or(JobError::Field(offset_field))
}

#[cfg(test)]
mod tests;
