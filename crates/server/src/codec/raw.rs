//! A block of raw samples, little-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | `SCRW` |
//! | 4 | 1 | version, 1 |
//! | 5 | 1 | samples are 0: int16, 1: float32 |
//! | 6 | 1 | channels, 1 to 16 |
//! | 7 | 1 | 0 |
//! | 8 | 4 | rows, u32, at least 1 |
//! | 12 | 4 | rate in Hz, float32, above 0 |
//! | 16 | 4 | scale, float32, by which each sample is multiplied; not 0 |
//! | 20 | 8 | time of the first row in unix microseconds, i64; 0: the last row is from the receipt |
//! | 28 | | for each channel: length of its name, u8, name, length of its unit, u8, unit |
//! | | | the samples, row by row, one of each channel; nothing follows |

use stonechat_core::limits::CHANNELS_MAX;

use super::{CodecError, Decoded, Time};
use crate::limits::READINGS_PER_MESSAGE_MAX;

const MAGIC: [u8; 4] = *b"SCRW";
const VERSION: u8 = 1;

const TRUNCATED: CodecError = CodecError::Shape("the block of samples ends too early");

/// Reads a block.
///
/// # Errors
/// What is wrong with it.
pub fn decode(payload: &[u8], received_ms: i64) -> Result<Decoded, CodecError> {
    let mut reader = Reader { rest: payload };
    let header = Header::read(&mut reader)?;
    let mut channels = Vec::with_capacity(header.channels);
    for _ in 0..header.channels {
        channels.push((reader.text()?, reader.text()?));
    }
    let rows = reader.rest.chunks_exact(header.row_len());
    if rows.len() != header.rows || !rows.remainder().is_empty() {
        return Err(CodecError::Shape("the block of samples has another length than it says"));
    }
    let mut decoded = Decoded::new(received_ms);
    for (index, row) in rows.enumerate() {
        let time = header.time(index);
        for ((name, unit), sample) in channels.iter().zip(row.chunks_exact(header.sample_len)) {
            let value = match *sample {
                [low, high] => f64::from(i16::from_le_bytes([low, high])),
                [a, b, c, d] => f64::from(f32::from_le_bytes([a, b, c, d])),
                _ => return Err(TRUNCATED),
            };
            decoded.push(name, unit, time, value * header.scale)?;
        }
    }
    Ok(decoded)
}

struct Header {
    sample_len: usize,
    channels: usize,
    rows: usize,
    rate_hz: f64,
    scale: f64,
    start_us: i64,
}

impl Header {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        if reader.array()? != MAGIC {
            return Err(CodecError::Shape("a block of samples begins with SCRW"));
        }
        let [version, format, channels, reserved] = reader.array()?;
        if version != VERSION || reserved != 0 {
            return Err(CodecError::Unsupported);
        }
        let sample_len = match format {
            0 => 2,
            1 => 4,
            _ => return Err(CodecError::Unsupported),
        };
        let channels = usize::from(channels);
        let rows = u32::from_le_bytes(reader.array()?) as usize;
        let header = Self {
            sample_len,
            channels,
            rows,
            rate_hz: f64::from(f32::from_le_bytes(reader.array()?)),
            scale: f64::from(f32::from_le_bytes(reader.array()?)),
            start_us: i64::from_le_bytes(reader.array()?),
        };
        if !(1..=CHANNELS_MAX).contains(&channels) || rows == 0 {
            return Err(CodecError::Shape("a block has 1 to 16 channels and at least one row"));
        }
        if rows > READINGS_PER_MESSAGE_MAX / channels {
            return Err(CodecError::TooManyReadings);
        }
        let is_rate = header.rate_hz.is_finite() && header.rate_hz > 0.0;
        if !is_rate || !header.scale.is_finite() || header.scale == 0.0 {
            return Err(CodecError::Shape("rate and scale must be finite and not 0"));
        }
        Ok(header)
    }

    fn row_len(&self) -> usize {
        self.channels * self.sample_len
    }

    fn time(&self, row: usize) -> Time {
        let milliseconds = |rows: usize| (rows as f64 / self.rate_hz * 1_000.0).round() as i64;
        if self.start_us == 0 {
            Time::Received { ago_ms: milliseconds(self.rows - 1 - row) }
        } else {
            Time::Own(self.start_us.div_euclid(1_000).saturating_add(milliseconds(row)))
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(*array)
    }

    fn text(&mut self) -> Result<&'a str, CodecError> {
        let [len] = self.array()?;
        let (text, rest) = self.rest.split_at_checked(usize::from(len)).ok_or(TRUNCATED)?;
        self.rest = rest;
        str::from_utf8(text).map_err(|_| CodecError::BadName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::{NOW_MS, seen};

    /// Two channels at 100 Hz; the samples follow.
    fn block(format: u8, rows: u32, scale: f32, start_us: i64, samples: &[u8]) -> Vec<u8> {
        let mut bytes = b"SCRW".to_vec();
        bytes.extend([1, format, 2, 0]);
        bytes.extend(rows.to_le_bytes());
        bytes.extend(100.0_f32.to_le_bytes());
        bytes.extend(scale.to_le_bytes());
        bytes.extend(start_us.to_le_bytes());
        bytes.extend(b"\x01x\x04m/s2\x01y\x00");
        bytes.extend(samples);
        bytes
    }

    #[test]
    fn whole_numbers_are_scaled() {
        let samples: Vec<u8> =
            [1_i16, -2, 32_767, -32_768].iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let bytes = block(0, 2, 0.5, 1_754_557_790_250_999, &samples);
        let decoded = decode(&bytes, NOW_MS).expect("legal");
        assert_eq!(
            seen(&decoded),
            [
                ("x", "m/s2", 1_754_557_790_250, 0.5),
                ("y", "", 1_754_557_790_250, -1.0),
                ("x", "m/s2", 1_754_557_790_260, 16_383.5),
                ("y", "", 1_754_557_790_260, -16_384.0),
            ]
        );
        assert!(decoded.has_own_times());
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len], NOW_MS).is_err(), "cut to {len}");
        }
        assert!(decode(&[bytes.as_slice(), &[0]].concat(), NOW_MS).is_err(), "a byte more");
    }

    #[test]
    fn without_a_time_the_last_row_is_from_the_receipt() {
        let samples: Vec<u8> =
            [1.5_f32, 2.5, 3.5, 4.5].iter().flat_map(|s| s.to_le_bytes()).collect();
        let decoded = decode(&block(1, 2, 1.0, 0, &samples), NOW_MS).expect("legal");
        let times: Vec<_> = decoded.readings().iter().map(|reading| reading.time_ms).collect();
        assert_eq!(times, [NOW_MS - 10, NOW_MS - 10, NOW_MS, NOW_MS]);
        assert!(!decoded.has_own_times());
    }

    #[test]
    fn nonsense_in_the_header_is_refused() {
        let samples = [0; 8];
        let good = block(0, 2, 1.0, 0, &samples);
        assert!(decode(&good, NOW_MS).is_ok());
        let nan = f32::NAN.to_le_bytes();
        for (at, bytes) in [
            (0, &b"X"[..]),
            (4, &[2]),
            (5, &[2]),
            (6, &[0]),
            (6, &[17]),
            (7, &[1]),
            (8, &[0, 0, 0, 0]),
            (8, &[1, 0, 0, 0]),
            (8, &[255, 255, 255, 255]),
            (12, &[0, 0, 0, 0]),
            (12, &[0, 0, 128, 191]),
            (12, &nan),
            (16, &nan),
            (16, &[0, 0, 0, 0]),
            (28, &[255]),
            (29, b"/"),
            (29, b"\xff"),
        ] {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            assert!(decode(&bad, NOW_MS).is_err(), "{bytes:?} at {at}");
        }
        let infinite: Vec<u8> = [f32::INFINITY; 4].iter().flat_map(|s| s.to_le_bytes()).collect();
        assert_eq!(decode(&block(1, 2, 1.0, 0, &infinite), NOW_MS), Err(CodecError::NotFinite));
    }
}
