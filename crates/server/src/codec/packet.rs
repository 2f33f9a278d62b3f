//! The 32-byte packet of older tank sensors, as readings that are marked: anyone who has the public key
//! can make such a packet, and claim any device number in it.
//!
//! | channel, after `unauthenticated/` | unit |
//! |---|---|
//! | `air_temperature` | Cel |
//! | `dissolved_oxygen` | mg/L |
//! | `water_temperature` | Cel |
//! | `latitude` | lat |
//! | `longitude` | lon |
//! | `receipt_delay`, the time of receipt less the packet's time | s |

use stonechat_core::wire::packet::Packet;

use super::{CodecError, Decoded, Time};
use crate::settings::UtcOffset;

/// How the channels of readings begin whose sender nobody could make sure of. No other reading may
/// have such a name, so that the mark cannot get lost.
pub const UNAUTHENTICATED_PREFIX: &str = "unauthenticated/";

/// Reads a decrypted packet from a sender whose clock is so far ahead of UTC.
///
/// # Errors
/// What is wrong with it.
pub fn decode(
    payload: &[u8],
    utc_offset: UtcOffset,
    received_ms: i64,
) -> Result<Decoded, CodecError> {
    let packet = Packet::parse(payload)?;
    let time_ms = packet.time.unix_s(utc_offset.seconds()) * 1_000;
    let delay_s = received_ms.saturating_sub(time_ms) as f64 / 1_000.0;
    let mut decoded = Decoded::new(received_ms);
    for (name, unit, value) in [
        ("air_temperature", "Cel", packet.air_temperature_c),
        ("dissolved_oxygen", "mg/L", packet.dissolved_oxygen_mg_per_l),
        ("water_temperature", "Cel", packet.water_temperature_c),
        ("latitude", "lat", packet.position.latitude_deg),
        ("longitude", "lon", packet.position.longitude_deg),
        ("receipt_delay", "s", delay_s),
    ] {
        let channel = format!("{UNAUTHENTICATED_PREFIX}{name}");
        decoded.push(&channel, unit, Time::Own(time_ms), value)?;
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::seen;

    #[test]
    fn all_values_and_both_times_are_kept() {
        let golden = "2404d200002000ff07d000d57779376231686d62703207e9080712093208805c";
        let bytes: Vec<u8> = (0..golden.len() / 2)
            .map(|at| u8::from_str_radix(&golden[at * 2..at * 2 + 2], 16).expect("hexadecimal"))
            .collect();
        // 18:09:50 in Korea is 09:09:50 UTC; it came in 2.5 s later.
        let (time_ms, offset) = (1_754_557_790_000, "+09:00".parse().expect("legal"));
        let decoded = decode(&bytes, offset, time_ms + 2_500).expect("legal");
        let seen = seen(&decoded);
        let channel = |name: &str| {
            let full = format!("unauthenticated/{name}");
            let found = seen.iter().find(|reading| reading.0 == full).expect("there");
            assert_eq!(found.2, time_ms);
            (found.1, found.3)
        };
        assert_eq!(channel("air_temperature"), ("Cel", 25.5));
        assert_eq!(channel("dissolved_oxygen"), ("mg/L", 20.0));
        assert_eq!(channel("water_temperature"), ("Cel", 21.3));
        assert_eq!(channel("receipt_delay"), ("s", 2.5));
        assert!((channel("latitude").1 - 35.179_6).abs() < 1e-5);
        assert!((channel("longitude").1 - 129.075_6).abs() < 1e-5);
        assert_eq!(seen.len(), 6);
        assert!(decode(&bytes[1..], offset, time_ms).is_err());
    }
}
