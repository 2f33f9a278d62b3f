//! The chunk: up to some hundred points of one channel in few bytes, without loss.
//!
//! | part | bytes | content |
//! |---|---|---|
//! | version | 1 | 1 |
//! | kind of values | 1 | 0: 64-bit, 1: 32-bit floats, 2: decimals |
//! | decimal places | 1 | only for decimals: 0 to 6 |
//! | count | varint | number of points |
//! | first time | varint, zigzag | unix milliseconds |
//! | times | varints, zigzag | second differences of the times |
//! | values | | see below |
//!
//! Floats: each value's bits are exclusive-ored with those of the one before; a byte holds the
//! leading zero bytes of the result (high half) and its trailing ones (low half), and the bytes
//! between follow, highest first. Decimals: zigzag varints of the differences of `value * 10^places`.
//! The encoder takes the first kind that gives back every bit.

use super::varint;
use crate::limits::CHUNK_POINTS_MAX;

const VERSION: u8 = 1;
const KIND_F64: u8 = 0;
const KIND_F32: u8 = 1;
const KIND_DECIMAL: u8 = 2;
const PLACES_MAX: u8 = 6;
/// Products below this are exact in a 64-bit float.
const SCALED_ABS_MAX: f64 = 9_007_199_254_740_992.0;

/// A stored chunk cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunk is not readable")]
pub(super) struct Unreadable;

/// Packs points, in their order.
#[must_use]
pub(super) fn encode(points: &[(i64, f64)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + points.len() * 6);
    bytes.push(VERSION);
    let decimals = decimal_places(points);
    let narrow = points.iter().all(|&(_, value)| is_narrow(value));
    match (decimals, narrow) {
        (Some(places), _) => bytes.extend([KIND_DECIMAL, places]),
        (None, true) => bytes.push(KIND_F32),
        (None, false) => bytes.push(KIND_F64),
    }
    varint::push(&mut bytes, points.len() as u64);
    write_times(&mut bytes, points);
    match (decimals, narrow) {
        (Some(places), _) => write_decimals(&mut bytes, points, places),
        (None, true) => {
            write_floats::<4>(&mut bytes, points, |value| u64::from((value as f32).to_bits()));
        }
        (None, false) => write_floats::<8>(&mut bytes, points, f64::to_bits),
    }
    bytes
}

/// Unpacks a chunk.
///
/// # Errors
/// [`Unreadable`] if the bytes are no chunk.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<(i64, f64)>, Unreadable> {
    let mut reader = Reader { bytes };
    if reader.byte()? != VERSION {
        return Err(Unreadable);
    }
    let kind = reader.byte()?;
    let places = if kind == KIND_DECIMAL { reader.byte()? } else { 0 };
    let count = usize::try_from(reader.varint()?).map_err(|_| Unreadable)?;
    if kind > KIND_DECIMAL || places > PLACES_MAX || count > CHUNK_POINTS_MAX {
        return Err(Unreadable);
    }
    let times = reader.times(count)?;
    let values = match kind {
        KIND_DECIMAL => reader.decimals(count, places)?,
        KIND_F32 => reader.floats::<4>(count, |bits| f64::from(f32::from_bits(bits as u32)))?,
        _ => reader.floats::<8>(count, f64::from_bits)?,
    };
    if !reader.bytes.is_empty() {
        return Err(Unreadable);
    }
    Ok(times.into_iter().zip(values).collect())
}

fn is_narrow(value: f64) -> bool {
    f64::from(value as f32).to_bits() == value.to_bits()
}

fn power_of_ten(places: u8) -> f64 {
    [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6][usize::from(places)]
}

fn scaled(value: f64, power: f64) -> Option<i64> {
    let product = (value * power).round();
    let whole = product as i64;
    let exact =
        product.abs() < SCALED_ABS_MAX && (whole as f64 / power).to_bits() == value.to_bits();
    exact.then_some(whole)
}

/// The fewest places with which every value comes back bit by bit.
fn decimal_places(points: &[(i64, f64)]) -> Option<u8> {
    let mut places = 0;
    for &(_, value) in points {
        while scaled(value, power_of_ten(places)).is_none() {
            places += 1;
            if places > PLACES_MAX {
                return None;
            }
        }
    }
    // A value that needed few places may round otherwise with more of them.
    let power = power_of_ten(places);
    points.iter().all(|&(_, value)| scaled(value, power).is_some()).then_some(places)
}

fn write_times(bytes: &mut Vec<u8>, points: &[(i64, f64)]) {
    let (mut previous, mut step) = (0_i64, 0_i64);
    for (index, &(time, _)) in points.iter().enumerate() {
        let next = time.wrapping_sub(previous);
        varint::push_signed(bytes, next.wrapping_sub(step));
        previous = time;
        step = if index == 0 { 0 } else { next };
    }
}

fn write_decimals(bytes: &mut Vec<u8>, points: &[(i64, f64)], places: u8) {
    let power = power_of_ten(places);
    let mut previous = 0;
    for &(_, value) in points {
        let whole = (value * power).round() as i64;
        varint::push_signed(bytes, whole - previous);
        previous = whole;
    }
}

fn write_floats<const WIDTH: usize>(
    bytes: &mut Vec<u8>,
    points: &[(i64, f64)],
    bits_of: impl Fn(f64) -> u64,
) {
    let mut previous = 0;
    for &(_, value) in points {
        let bits = bits_of(value);
        let xor = (bits ^ previous).to_be_bytes();
        let xor = &xor[8 - WIDTH..];
        let leading = xor.iter().take_while(|&&byte| byte == 0).count();
        let trailing = xor[leading..].iter().rev().take_while(|&&byte| byte == 0).count();
        bytes.push((leading << 4 | trailing) as u8);
        bytes.extend(&xor[leading..WIDTH - trailing]);
        previous = bits;
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Unreadable> {
        let (&first, rest) = self.bytes.split_first().ok_or(Unreadable)?;
        self.bytes = rest;
        Ok(first)
    }

    fn varint(&mut self) -> Result<u64, Unreadable> {
        varint::take(&mut self.bytes).ok_or(Unreadable)
    }

    fn zigzag(&mut self) -> Result<i64, Unreadable> {
        varint::take_signed(&mut self.bytes).ok_or(Unreadable)
    }

    fn times(&mut self, count: usize) -> Result<Vec<i64>, Unreadable> {
        let (mut previous, mut step) = (0_i64, 0_i64);
        (0..count)
            .map(|index| {
                let next = self.zigzag()?.wrapping_add(step);
                previous = previous.wrapping_add(next);
                step = if index == 0 { 0 } else { next };
                Ok(previous)
            })
            .collect()
    }

    fn decimals(&mut self, count: usize, places: u8) -> Result<Vec<f64>, Unreadable> {
        let power = power_of_ten(places);
        let mut previous = 0_i64;
        (0..count)
            .map(|_| {
                previous = previous.wrapping_add(self.zigzag()?);
                Ok(previous as f64 / power)
            })
            .collect()
    }

    fn floats<const WIDTH: usize>(
        &mut self,
        count: usize,
        value_of: impl Fn(u64) -> f64,
    ) -> Result<Vec<f64>, Unreadable> {
        let mut previous = 0_u64;
        (0..count)
            .map(|_| {
                let zeros = self.byte()?;
                let (leading, trailing) = (usize::from(zeros >> 4), usize::from(zeros & 15));
                if leading + trailing > WIDTH {
                    return Err(Unreadable);
                }
                let mut xor = [0; 8];
                for place in &mut xor[8 - WIDTH + leading..8 - trailing] {
                    *place = self.byte()?;
                }
                previous ^= u64::from_be_bytes(xor);
                Ok(value_of(previous))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits(points: &[(i64, f64)]) -> Vec<(i64, u64)> {
        points.iter().map(|&(time, value)| (time, value.to_bits())).collect()
    }

    proptest! {
        #[test]
        fn any_point_comes_back_bit_by_bit(
            points in prop::collection::vec((any::<i64>(), any::<u64>()), 0..400)
        ) {
            let points: Vec<_> = points.iter().map(|&(t, v)| (t, f64::from_bits(v))).collect();
            let back = decode(&encode(&points)).expect("own encoding");
            prop_assert_eq!(bits(&back), bits(&points));
        }

        #[test]
        fn decimals_and_floats_come_back(
            values in prop::collection::vec((-100_000_i32..100_000, any::<f32>()), 0..400),
            places in 0_u8..8,
        ) {
            let decimals: Vec<_> = values.iter().enumerate()
                .map(|(i, &(v, _))| (i as i64 * 100, f64::from(v) / 10_f64.powi(i32::from(places))))
                .collect();
            prop_assert_eq!(bits(&decode(&encode(&decimals)).expect("own")), bits(&decimals));
            let floats: Vec<_> = values.iter().enumerate()
                .map(|(i, &(_, v))| (i as i64 * 100, f64::from(v)))
                .collect();
            prop_assert_eq!(bits(&decode(&encode(&floats)).expect("own")), bits(&floats));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_damaged_chunk_never_panics(at in 0_usize..500, byte in any::<u8>(), cut in 0_usize..500) {
            let points: Vec<_> = (0..60).map(|i| (i * 1_000, (i as f64).sin())).collect();
            let mut bytes = encode(&points);
            let len = bytes.len();
            bytes[at % len] = byte;
            let _ = decode(&bytes);
            prop_assert!(decode(&encode(&points)[..cut % len]).is_err());
        }
    }

    #[test]
    fn typical_channels_stay_small() {
        let tenths: Vec<_> = (0..360)
            .map(|i| (1_700_000_000_000 + i * 1_000, (200 + (i % 7)) as f64 / 10.0))
            .collect();
        assert!(encode(&tenths).len() < 360 * 3);
        let noise: Vec<_> = (0..360_u32)
            .map(|i| (i64::from(i) * 1_000, f64::from((f64::from(i) * 0.37).sin() as f32)))
            .collect();
        assert!(encode(&noise).len() < 360 * 7);
        assert_eq!(decode(&[]), Err(Unreadable));
    }
}
