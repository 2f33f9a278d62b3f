//! The message of our own devices: SenML in CBOR (RFC 8428 section 6) with session and sequence.

use std::sync::Arc;

use stonechat_core::wire::senml::Value;
use stonechat_core::wire::uplink::{DETECTOR, Uplink};

use super::{CodecError, Decoded, Time, milliseconds};

/// Reads an uplink message.
///
/// # Errors
/// What is wrong with it.
pub fn decode(payload: &[u8], received_ms: i64) -> Result<Decoded, CodecError> {
    let uplink = Uplink::parse(payload)?;
    let mut decoded = Decoded::new(received_ms);
    decoded.speaker = Some(Arc::from(uplink.device));
    decoded.id = Some(uplink.id);
    for record in uplink.readings() {
        let value = match record.value {
            Value::Number(number) => number,
            Value::Boolean(truth) => f64::from(u8::from(truth)),
            Value::Text(text) if record.name == DETECTOR => {
                decoded.detector = Some(text.to_owned());
                continue;
            }
            // Further texts and bytes are for later versions.
            Value::Text(_) | Value::Data(_) => continue,
        };
        let time = Time::Own(milliseconds(record.time_s));
        decoded.push(record.name, record.unit, time, value)?;
    }
    Ok(decoded)
}
