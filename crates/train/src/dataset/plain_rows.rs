//! CSV without quotes: lines and delimiters mean what they seem to, so that it can be cut into parts
//! that are read side by side, and a row of short numbers is read in one pass.

use super::ReadOptions;
use super::layout::Layout;
use crate::limits::RECORDING_PART_BYTES_MIN;

/// Tells whether lines and delimiters mean what they seem to: no quotes, no line ends but `\n` and
/// `\r\n`.
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    memchr::memchr(b'"', bytes).is_none()
        && memchr::memchr_iter(b'\r', bytes).all(|at| bytes.get(at + 1) == Some(&b'\n'))
}

/// Tells into how many parts some bytes are cut: one a processor, each of some size.
pub(super) fn part_count(len: usize) -> usize {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    threads.min(len / RECORDING_PART_BYTES_MIN).max(1)
}

/// Cuts at line ends.
pub(super) fn parts_of(bytes: &[u8]) -> Vec<&[u8]> {
    let count = part_count(bytes.len());
    let mut parts = Vec::with_capacity(count);
    let mut rest = bytes;
    for left in (2..=count).rev() {
        let middle = rest.len() / left;
        let Some(end) = memchr::memchr(b'\n', &rest[middle..]) else { break };
        let (part, others) = rest.split_at(middle + end + 1);
        parts.push(part);
        rest = others;
    }
    parts.push(rest);
    parts
}

/// Splits off the first line, without its end.
pub(super) fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    let (line, rest) = bytes.split_at(end);
    (line.strip_suffix(b"\r").unwrap_or(line), rest.get(1..).unwrap_or_default())
}

/// What a column is read as.
#[derive(Clone, Copy)]
enum Target {
    /// A time in units of this many microseconds.
    Time(f64),
    /// A channel, by its position in a sample.
    Channel(usize),
    Skipped,
}

/// How a row of nothing but numbers is read; rows that are not of this kind are left to the slow way.
pub(super) struct NumberRow {
    /// In the order of the file.
    targets: Vec<Target>,
    delimiter: u8,
}

impl NumberRow {
    /// Tells how, if all that is wanted of the rows are numbers.
    pub(super) fn of(layout: &Layout, options: &ReadOptions, delimiter: u8) -> Option<Self> {
        let all_rows = options.rows.is_none() && options.time_us.is_none();
        if layout.label.is_some() || layout.clip.is_some() || !all_rows {
            return None;
        }
        let mut targets = vec![Target::Skipped; layout.names.len()];
        if let Some((column, format)) = layout.time {
            targets[column] = Target::Time(format.unit_us()?);
        }
        for (channel, &column) in layout.channels.iter().enumerate() {
            targets[column] = Target::Channel(channel);
        }
        Some(Self { targets, delimiter })
    }

    /// Reads the first line of `bytes` into a sample; returns its time, 0 without a time column, and the
    /// bytes read, or `None` if there is anything but short numbers.
    pub(super) fn read(&self, bytes: &[u8], sample: &mut [f32]) -> Option<(i64, usize)> {
        let (mut at, mut time_us) = (0, 0);
        let last = self.targets.len() - 1;
        for (column, &target) in self.targets.iter().enumerate() {
            let (number, len) = Decimal::read(&bytes[at..])?;
            at += len;
            match target {
                Target::Time(unit_us) => time_us = (number.to_f64()? * unit_us).round() as i64,
                Target::Channel(channel) => sample[channel] = number.to_f32()?,
                Target::Skipped => {}
            }
            if column < last {
                if *bytes.get(at)? != self.delimiter {
                    return None;
                }
                at += 1;
            }
        }
        match bytes.get(at..)? {
            [] => Some((time_us, at)),
            [b'\n', ..] => Some((time_us, at + 1)),
            [b'\r', b'\n', ..] => Some((time_us, at + 2)),
            _ => None,
        }
    }
}

/// A short decimal number: digits, and how many of them stand behind the point.
struct Decimal {
    digits: u64,
    decimals: usize,
    is_negative: bool,
}

impl Decimal {
    /// Reads digits with at most one point up to the first other byte, and returns how many bytes.
    fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        /// So many digits are an integer that an f64 holds.
        const DIGITS_MAX: usize = 15;
        let is_negative = bytes.first() == Some(&b'-');
        let start = usize::from(is_negative);
        let (mut digits, mut at) = (0_u64, start);
        let mut take_digits = |at: &mut usize| {
            let first = *at;
            while let Some(digit) = bytes.get(*at).map(|byte| byte.wrapping_sub(b'0'))
                && digit <= 9
            {
                // Longer numbers are refused below, before a sum that wrapped is looked at.
                digits = digits.wrapping_mul(10).wrapping_add(u64::from(digit));
                *at += 1;
            }
            *at - first
        };
        let whole = take_digits(&mut at);
        let mut decimals = 0;
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            decimals = take_digits(&mut at);
        }
        let count = whole + decimals;
        (1..=DIGITS_MAX).contains(&count).then_some((Self { digits, decimals, is_negative }, at))
    }

    /// Returns the nearest f64: both numbers are exact, so that the division rounds once.
    fn to_f64(&self) -> Option<f64> {
        const POWERS: [f64; 16] =
            [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
        let value = self.digits as f64 / POWERS.get(self.decimals)?;
        Some(if self.is_negative { -value } else { value })
    }

    /// Returns the nearest f32, if both numbers are exact in it (Clinger, "How to read floating point
    /// numbers accurately", 1990).
    fn to_f32(&self) -> Option<f32> {
        const DIGITS_END: u64 = 1 << 24;
        const POWERS: [f32; 11] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];
        if self.digits > DIGITS_END {
            return None;
        }
        let value = self.digits as f32 / POWERS.get(self.decimals)?;
        Some(if self.is_negative { -value } else { value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn read(text: &str) -> Option<(f64, Option<f32>, usize)> {
        let (number, len) = Decimal::read(text.as_bytes())?;
        Some((number.to_f64()?, number.to_f32(), len))
    }

    #[test]
    fn odd_numbers_are_left_to_the_slow_way() {
        for odd in ["", "-", ".", "-.", "+1", "nan", " 1", "1234567890123456", "x"] {
            assert_eq!(read(odd), None, "{odd:?}");
        }
        assert_eq!(read("1e5").map(|number| number.2), Some(1), "the rest is seen by the caller");
        assert_eq!(read("16777217"), Some((16_777_217.0, None, 8)));
        assert_eq!(read("-0.0").map(|number| number.0.to_bits()), Some((-0.0_f64).to_bits()));
    }

    #[test]
    fn numbers_equal_those_of_the_standard_library() {
        let mut random = Random::new(1);
        let mut short = 0;
        for _ in 0..100_000 {
            let decimals = random.below(8) as usize;
            let scale = 10.0_f64.powi(random.below(7) as i32);
            let text = format!("{:.decimals$}", random.normal() * scale);
            let (wide, narrow, len) = read(&text).expect("at most fifteen digits");
            assert_eq!(len, text.len());
            assert_eq!(Ok(wide), text.parse(), "{text}");
            if let Some(narrow) = narrow {
                assert_eq!(Ok(narrow), text.parse(), "{text}");
                short += 1;
            }
        }
        assert!(short > 10_000, "hardly any was short: {short}");
    }
}
