//! The text of power meters: meant as JSON, but malformed. What matters are the pairs
//! `"Start register": N` and `"Raw data": N` that follow each other; everything else is passed over.
//!
//! | register | channel | unit | plausible |
//! |---|---|---|---|
//! | 1006 | `current` | A | 0.05 to 5.5 |
//! | 1007 | `active_power` | W | up to 1650 either way, the greatest current at the greatest voltage |
//! | 1009 | `voltage` | V | 10 to 300 |
//! | 1010 | `frequency` | Hz | 45 to 65 |
//!
//! A value that is not plausible is left out and counted on the channel's `sensor_fault`. Other
//! registers are passed over.

use stonechat_core::wire::uplink::SENSOR_FAULT_SUFFIX;

use super::{CodecError, Decoded, NOW};

struct Register {
    number: f64,
    channel: &'static str,
    unit: &'static str,
    min: f64,
    max: f64,
}

const REGISTERS: [Register; 4] = [
    Register { number: 1_006.0, channel: "current", unit: "A", min: 0.05, max: 5.5 },
    Register { number: 1_007.0, channel: "active_power", unit: "W", min: -1_650.0, max: 1_650.0 },
    Register { number: 1_009.0, channel: "voltage", unit: "V", min: 10.0, max: 300.0 },
    Register { number: 1_010.0, channel: "frequency", unit: "Hz", min: 45.0, max: 65.0 },
];
const REGISTER_LABEL: &[u8] = b"\"Start register\"";
const VALUE_LABEL: &[u8] = b"\"Raw data\"";

/// Reads the pairs of a text.
///
/// # Errors
/// When there is none of a known register.
pub fn decode(payload: &[u8], received_ms: i64) -> Result<Decoded, CodecError> {
    let mut decoded = Decoded::new(received_ms);
    let mut implausible = [0_u32; REGISTERS.len()];
    let mut rest = payload;
    while let Some(after) = after(rest, REGISTER_LABEL) {
        rest = after;
        // A value belongs to the register before it, not to that of a later entry.
        let entry = &after[..find(after, REGISTER_LABEL).unwrap_or(after.len())];
        let value = self::after(entry, VALUE_LABEL).and_then(number);
        let (Some(register), Some(value)) = (number(entry), value) else { continue };
        let Some(index) = REGISTERS.iter().position(|known| known.number == register) else {
            continue;
        };
        let Register { channel, unit, min, max, .. } = &REGISTERS[index];
        if (*min..=*max).contains(&value) {
            decoded.push(channel, unit, NOW, value)?;
        } else {
            implausible[index] += 1;
        }
    }
    for (register, count) in REGISTERS.iter().zip(implausible) {
        if count > 0 {
            let channel = format!("{}{SENSOR_FAULT_SUFFIX}", register.channel);
            decoded.push(&channel, "", NOW, f64::from(count))?;
        }
    }
    if decoded.says_nothing() { Err(CodecError::NoReadings) } else { Ok(decoded) }
}

fn find(bytes: &[u8], label: &[u8]) -> Option<usize> {
    bytes.windows(label.len()).position(|window| window == label)
}

fn after<'a>(bytes: &'a [u8], label: &[u8]) -> Option<&'a [u8]> {
    Some(&bytes[find(bytes, label)? + label.len()..])
}

/// Reads the number after a colon.
fn number(bytes: &[u8]) -> Option<f64> {
    let bytes = bytes.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let len = bytes.iter().take_while(|byte| is_part(byte)).count();
    str::from_utf8(&bytes[..len]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::{NOW_MS, seen};

    fn take(text: &str) -> Result<Decoded, CodecError> {
        decode(text.as_bytes(), NOW_MS)
    }

    #[test]
    fn malformed_text_gives_its_registers() {
        // Missing commas, a doubled bracket, an unquoted word, and no end.
        let text = r#"{{"Device": meter-1 "Start register": 1006, "Count" 2, "Raw data": 1.25 }
            {"Start register" : 1009 "Raw data" :231.5,, {"Start register": 1010, "Raw data": 49.98
            {"Start register": 1007, "Raw data": 2.8e2"#;
        assert_eq!(
            seen(&take(text).expect("legal")),
            [
                ("current", "A", NOW_MS, 1.25),
                ("voltage", "V", NOW_MS, 231.5),
                ("frequency", "Hz", NOW_MS, 49.98),
                ("active_power", "W", NOW_MS, 280.0),
            ]
        );
    }

    #[test]
    fn implausible_values_are_counted_and_left_out() {
        let text = r#""Start register": 1006, "Raw data": 5.51
            "Start register": 1006, "Raw data": 0.04  "Start register": 1009, "Raw data": 300
            "Start register": 1010, "Raw data": 1e999"#;
        assert_eq!(
            seen(&take(text).expect("legal")),
            [
                ("voltage", "V", NOW_MS, 300.0),
                ("current/sensor_fault", "", NOW_MS, 2.0),
                ("frequency/sensor_fault", "", NOW_MS, 1.0),
            ]
        );
    }

    #[test]
    fn a_value_is_not_taken_from_a_later_entry() {
        let text = r#""Start register": 1006, "Start register": 1009, "Raw data": 231"#;
        assert_eq!(seen(&take(text).expect("legal")), [("voltage", "V", NOW_MS, 231.0)]);
    }

    #[test]
    fn text_without_known_registers_is_refused() {
        for text in [
            "",
            "{}",
            r#""Start register": 1008, "Raw data": 1"#,
            r#""Start register": x, "Raw data": 1"#,
            r#""Start register": 1006, "Raw data": NaN"#,
            r#""Start register": 1006"#,
            r#""Raw data": 1, "Start register": 1006"#,
        ] {
            assert_eq!(take(text), Err(CodecError::NoReadings), "{text}");
        }
    }
}
