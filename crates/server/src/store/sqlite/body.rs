//! The readings of one message in the tail, as stored until they are compacted.
//!
//! Each reading: channel row (varint), time after the message's reception in milliseconds
//! (zigzag varint), value (8 bytes, little-endian float).

use super::varint;

/// One reading in the tail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TailReading {
    /// The row of the channel.
    pub(super) channel: i64,
    /// Unix milliseconds.
    pub(super) time_ms: i64,
    /// The value.
    pub(super) value: f64,
}

/// Appends a reading.
pub(super) fn push(body: &mut Vec<u8>, received_ms: i64, reading: TailReading) {
    varint::push(body, reading.channel as u64);
    varint::push_signed(body, reading.time_ms.wrapping_sub(received_ms));
    body.extend(reading.value.to_le_bytes());
}

/// Reads all readings; `None` if the bytes are damaged.
pub(super) fn read(mut body: &[u8], received_ms: i64) -> Option<Vec<TailReading>> {
    let mut readings = Vec::with_capacity(body.len() / 10);
    while !body.is_empty() {
        let channel = i64::try_from(varint::take(&mut body)?).ok()?;
        let after_ms = varint::take_signed(&mut body)?;
        let (value, rest) = body.split_first_chunk()?;
        body = rest;
        let time_ms = received_ms.wrapping_add(after_ms);
        readings.push(TailReading { channel, time_ms, value: f64::from_le_bytes(*value) });
    }
    Some(readings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn readings_come_back(
            readings in prop::collection::vec((0_i64..i64::MAX, any::<i64>(), -1e300_f64..1e300), 0..50),
            received_ms in any::<i64>(),
        ) {
            let readings: Vec<_> = readings.into_iter()
                .map(|(channel, time_ms, value)| TailReading { channel, time_ms, value })
                .collect();
            let mut body = Vec::new();
            for &reading in &readings {
                push(&mut body, received_ms, reading);
            }
            prop_assert_eq!(read(&body, received_ms), Some(readings));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes, 0);
        }
    }
}
