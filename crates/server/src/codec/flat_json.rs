//! One JSON object of readings: `{"temperature": 21.5, "door": false, "time": 1754557790}`.
//!
//! `time` is optional: unix seconds with any fraction, or milliseconds from 10^11 on. Numbers and truth
//! values are readings; the text `detector` names the running detector; further texts and nulls are
//! passed over; anything nested is an error.

use serde_json::Value;
use stonechat_core::wire::uplink::DETECTOR;

use super::{CodecError, Decoded, NOW, Time, json};

const TIME: &str = "time";

/// Reads one object.
///
/// # Errors
/// What is wrong with it.
pub fn decode(payload: &[u8], received_ms: i64) -> Result<Decoded, CodecError> {
    const SHAPE: CodecError = CodecError::Shape(
        "send one object of numbers and truth values, such as {\"temperature\": 21.5}",
    );
    let Value::Object(fields) = json::parse(payload)? else { return Err(SHAPE) };
    let time = match fields.get(TIME) {
        None | Some(Value::Null) => NOW,
        Some(Value::Number(number)) => {
            Time::Own(json::unix_ms(number.as_f64().ok_or(CodecError::NotFinite)?))
        }
        Some(_) => return Err(CodecError::Shape("`time` must be a number: unix seconds")),
    };
    let mut decoded = Decoded::new(received_ms);
    for (name, value) in &fields {
        match value {
            _ if name == TIME => {}
            Value::Number(_) | Value::Bool(_) => {
                let value = json::number(value).ok_or(CodecError::NotFinite)?;
                decoded.push(name, "", time, value)?;
            }
            Value::String(text) if name == DETECTOR => decoded.set_detector(text)?,
            Value::String(_) | Value::Null => {}
            Value::Array(_) | Value::Object(_) => return Err(SHAPE),
        }
    }
    if decoded.says_nothing() { Err(CodecError::NoReadings) } else { Ok(decoded) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::{NOW_MS, seen};

    fn take(text: &str) -> Result<Decoded, CodecError> {
        decode(text.as_bytes(), NOW_MS)
    }

    #[test]
    fn an_object_becomes_readings() {
        let decoded = take(r#"{"temperature": 21.5, "door": true, "note": "x", "gone": null}"#)
            .expect("legal");
        assert_eq!(seen(&decoded), [("door", "", NOW_MS, 1.0), ("temperature", "", NOW_MS, 21.5)]);
        assert!(!decoded.has_own_times());
        for time in ["1754557790.25", "1754557790250"] {
            let decoded = take(&format!(r#"{{"time": {time}, "a": -1e3}}"#)).expect("legal");
            assert_eq!(seen(&decoded), [("a", "", 1_754_557_790_250, -1_000.0)]);
            assert!(decoded.has_own_times());
        }
    }

    #[test]
    fn other_shapes_are_refused() {
        for text in ["", "1", "[]", "null", r#"{"a": 1"#, r#"{"a": NaN}"#, r#"{"a": 1e999}"#] {
            assert!(take(text).is_err(), "{text}");
        }
        assert_eq!(take("{}"), Err(CodecError::NoReadings));
        assert_eq!(take(r#"{"a": "21.5"}"#), Err(CodecError::NoReadings));
        assert_eq!(take(r#"{"a b": 1}"#), Err(CodecError::BadName));
        for text in [r#"{"a": {"b": 1}}"#, r#"{"a": [1]}"#, r#"{"time": "now", "a": 1}"#] {
            assert!(matches!(take(text), Err(CodecError::Shape(_))), "{text}");
        }
        let deep = format!("{{\"a\": {}1{}}}", "[".repeat(5_000), "]".repeat(5_000));
        assert!(take(&deep).is_err(), "depth is bounded");
    }
}
