//! The device API of ThingsBoard over MQTT.
//!
//! Telemetry comes on `v1/devices/me/telemetry` in three shapes: `{"temperature": 21.5}`; an array of such
//! objects; and `{"ts": 1754557790250, "values": {"temperature": 21.5}}` with unix milliseconds, alone or
//! in an array. Attributes come on `v1/devices/me/attributes` in the first shape; their channels begin
//! with `attribute/`. Numbers and truth values are readings; texts, nulls and anything nested are
//! passed over.
//!
//! Commands go out on `v1/devices/me/rpc/request/NUMBER` as `{"method": "setState", "params": true}`.

use serde_json::{Map, Value};

use super::{CodecError, Decoded, NOW, Time, json};

/// The topic of telemetry.
pub const TELEMETRY_TOPIC: &str = "v1/devices/me/telemetry";
/// The topic of attributes.
pub const ATTRIBUTES_TOPIC: &str = "v1/devices/me/attributes";
/// How the topics of commands begin; a number follows.
pub const COMMAND_TOPIC_PREFIX: &str = "v1/devices/me/rpc/request/";
/// How the channels of attributes begin.
const ATTRIBUTE_PREFIX: &str = "attribute/";

const SHAPE: CodecError = CodecError::Shape(
    "send an object of values, {\"ts\": milliseconds, \"values\": {..}}, or an array of these",
);

/// Reads telemetry.
///
/// # Errors
/// What is wrong with it.
pub fn telemetry(payload: &[u8], received_ms: i64) -> Result<Decoded, CodecError> {
    let mut decoded = Decoded::new(received_ms);
    match json::parse(payload)? {
        Value::Array(parts) => {
            for part in &parts {
                add_part(part, &mut decoded)?;
            }
        }
        part => add_part(&part, &mut decoded)?,
    }
    Ok(decoded)
}

/// Reads attributes.
///
/// # Errors
/// What is wrong with them.
pub fn attributes(payload: &[u8], received_ms: i64) -> Result<Decoded, CodecError> {
    let Value::Object(values) = json::parse(payload)? else { return Err(SHAPE) };
    let mut decoded = Decoded::new(received_ms);
    add_values(&values, ATTRIBUTE_PREFIX, NOW, &mut decoded)?;
    Ok(decoded)
}

fn add_part(part: &Value, decoded: &mut Decoded) -> Result<(), CodecError> {
    let Value::Object(fields) = part else { return Err(SHAPE) };
    match (fields.get("ts"), fields.get("values")) {
        (Some(Value::Number(time_ms)), Some(Value::Object(values))) => {
            let time_ms = time_ms.as_f64().ok_or(CodecError::NotFinite)?;
            add_values(values, "", Time::Own(time_ms.round() as i64), decoded)
        }
        (_, Some(Value::Object(_))) => Err(SHAPE),
        _ => add_values(fields, "", NOW, decoded),
    }
}

fn add_values(
    values: &Map<String, Value>,
    prefix: &str,
    time: Time,
    decoded: &mut Decoded,
) -> Result<(), CodecError> {
    for (name, value) in values {
        if let Some(value) = json::number(value) {
            decoded.push(&format!("{prefix}{name}"), "", time, value)?;
        }
    }
    Ok(())
}

/// Returns the payload of a command; a missing parameter is an empty object, as the clients expect.
#[must_use]
pub fn command(method: &str, parameters: Option<&Value>) -> Vec<u8> {
    let none = Value::Object(Map::new());
    serde_json::json!({ "method": method, "params": parameters.unwrap_or(&none) })
        .to_string()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::{NOW_MS, seen};

    #[test]
    fn telemetry_is_read_in_its_three_shapes() {
        let take = |text: &str| telemetry(text.as_bytes(), NOW_MS).expect("legal");
        let plain = take(r#"{"temperature": 21.5, "humidity": 40, "on": true, "mode": "auto"}"#);
        let expected = [
            ("humidity", "", NOW_MS, 40.0),
            ("on", "", NOW_MS, 1.0),
            ("temperature", "", NOW_MS, 21.5),
        ];
        assert_eq!(seen(&plain), expected);
        assert!(!plain.has_own_times());
        let array = take(r#"[{"a": 1}, {"b": 2, "deep": {"c": 3}}]"#);
        assert_eq!(seen(&array), [("a", "", NOW_MS, 1.0), ("b", "", NOW_MS, 2.0)]);
        let timed = take(r#"{"ts": 1754557790250, "values": {"a": 1}}"#);
        assert_eq!(seen(&timed), [("a", "", 1_754_557_790_250, 1.0)]);
        assert!(timed.has_own_times());
        let both = take(r#"[{"ts": 1754557790250, "values": {"a": 1}}, {"a": 2}]"#);
        assert_eq!(seen(&both), [("a", "", 1_754_557_790_250, 1.0), ("a", "", NOW_MS, 2.0)]);
        assert!(!both.has_own_times());
        assert!(take(r#"{"mode": "auto"}"#).says_nothing(), "texts alone are no fault");
    }

    #[test]
    fn attributes_have_channels_of_their_own() {
        let decoded = attributes(br#"{"interval": 5, "firmware": "1.2"}"#, NOW_MS).expect("legal");
        assert_eq!(seen(&decoded), [("attribute/interval", "", NOW_MS, 5.0)]);
        assert!(attributes(b"[]", NOW_MS).is_err());
    }

    #[test]
    fn other_shapes_are_refused() {
        for text in [
            "1",
            "[1]",
            "[[]]",
            r#"{"values": {"a": 1}}"#,
            r#"{"ts": "now", "values": {"a": 1}}"#,
            r#"{"a": 1e999}"#,
            r#"{"a b": 1}"#,
        ] {
            assert!(telemetry(text.as_bytes(), NOW_MS).is_err(), "{text}");
        }
    }

    #[test]
    fn commands_have_method_and_parameters() {
        assert_eq!(
            command("setState", Some(&Value::Bool(true))),
            br#"{"method":"setState","params":true}"#
        );
        assert_eq!(command("reboot", None), br#"{"method":"reboot","params":{}}"#);
    }
}
