//! SenML, RFC 8428, in its CBOR form, from devices that number no messages.
//!
//! A pack that begins as our own uplink message does is one, and keeps its number.

use stonechat_core::wire::senml::{PackReader, Value};
use stonechat_core::wire::uplink::{DETECTOR, Uplink, UplinkError};

use super::{CodecError, Decoded, senml_json, uplink};

/// Reads a pack.
///
/// # Errors
/// What is wrong with it.
pub fn decode(payload: &[u8], received_ms: i64) -> Result<Decoded, CodecError> {
    match Uplink::parse(payload) {
        Ok(_) => return uplink::decode(payload, received_ms),
        Err(UplinkError::NoSession | UplinkError::NoSequence | UplinkError::BadDevice) => {}
        Err(error) => return Err(error.into()),
    }
    let mut decoded = Decoded::new(received_ms);
    decoded.names_may_begin_with_device = true;
    for record in PackReader::new(payload)? {
        let record = record?;
        let value = match record.value {
            Value::Number(number) => number,
            Value::Boolean(truth) => f64::from(u8::from(truth)),
            Value::Text(text) if record.name == DETECTOR => {
                decoded.set_detector(text)?;
                continue;
            }
            Value::Text(_) | Value::Data(_) => continue,
        };
        let name = format!("{}{}", record.base_name, record.name);
        decoded.push(&name, record.unit, senml_json::time(record.time_s), value)?;
    }
    if decoded.says_nothing() { Err(CodecError::NoReadings) } else { Ok(decoded) }
}

#[cfg(test)]
mod tests {
    use stonechat_core::wire::uplink::MessageId;

    use super::*;
    use crate::codec::tests::{NOW_MS, seen};

    #[test]
    fn a_pack_without_numbers_is_read() {
        // [{-2: "tank:", -3: 1.276020076e9, 0: "t", 1: "Cel", 2: 21.5}, {0: "door", 4: true, 6: -5}],
        // written down by hand (RFC 8949 section 3).
        let mut pack = vec![0x82, 0xa5];
        pack.extend(b"\x21\x65tank:");
        pack.extend([0x22, 0xfb]);
        pack.extend(1.276_020_076e9_f64.to_be_bytes());
        pack.extend(b"\x00\x61t\x01\x63Cel\x02\xf9\x4d\x60");
        pack.extend(b"\xa3\x00\x64door\x04\xf5\x06\x24");
        let decoded = decode(&pack, NOW_MS).expect("legal");
        assert_eq!(decoded.id, None);
        assert_eq!(
            seen(&decoded),
            [("tank:t", "Cel", 1_276_020_076_000, 21.5), ("tank:door", "", 1_276_020_071_000, 1.0)]
        );
        for len in 0..pack.len() {
            assert!(decode(&pack[..len], NOW_MS).is_err(), "cut to {len}");
        }
    }

    #[test]
    fn an_uplink_message_keeps_its_number() {
        let mut buffer = [0; 256];
        let id = MessageId { session: 7, sequence: 3 };
        let pack = stonechat_core::wire::uplink::open(&mut buffer, "pump/", 2e9, id).expect("room");
        let len = pack.close();
        let decoded = decode(&buffer[..len], NOW_MS).expect("legal");
        assert_eq!((decoded.id, decoded.speaker.as_deref()), (Some(id), Some("pump")));
    }

    #[test]
    fn an_empty_pack_says_nothing() {
        assert_eq!(decode(&[0x80], NOW_MS), Err(CodecError::NoReadings));
    }
}
