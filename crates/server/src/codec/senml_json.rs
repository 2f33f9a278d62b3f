//! SenML, RFC 8428, in its JSON form, with base fields; and the times of both forms.

use serde_json::{Map, Value};
use stonechat_core::wire::uplink::DETECTOR;

use super::{CodecError, Decoded, Time, json, milliseconds};

/// Times below 2^28 are relative to the time of receipt (RFC 8428 section 4.5.3).
const RELATIVE_TIME_LIMIT_S: f64 = 268_435_456.0;
/// The highest version that is read (RFC 8428 section 4.4).
const VERSION_MAX: f64 = 10.0;

const SHAPE: CodecError =
    CodecError::Shape("send a SenML pack: an array of objects (RFC 8428 section 5)");

/// Reads a pack.
///
/// # Errors
/// What is wrong with it.
pub fn decode(payload: &[u8], received_ms: i64) -> Result<Decoded, CodecError> {
    let Value::Array(records) = json::parse(payload)? else { return Err(SHAPE) };
    let mut decoded = Decoded::new(received_ms);
    decoded.names_may_begin_with_device = true;
    let mut base = Base::default();
    for record in &records {
        let Value::Object(fields) = record else { return Err(SHAPE) };
        base.take(fields)?;
        add(fields, &base, &mut decoded)?;
    }
    if decoded.says_nothing() { Err(CodecError::NoReadings) } else { Ok(decoded) }
}

/// Returns when a reading is from: unix seconds, or seconds relative to the receipt.
pub(super) fn time(time_s: f64) -> Time {
    if time_s.abs() < RELATIVE_TIME_LIMIT_S {
        Time::Received { ago_ms: milliseconds(-time_s) }
    } else {
        Time::Own(milliseconds(time_s))
    }
}

/// The base fields in force (RFC 8428 section 4.1): each holds until another takes its place.
#[derive(Default)]
struct Base {
    name: String,
    time_s: f64,
    unit: String,
    value: f64,
}

impl Base {
    fn take(&mut self, fields: &Map<String, Value>) -> Result<(), CodecError> {
        for (label, value) in fields {
            match label.as_str() {
                "bn" => text(value)?.clone_into(&mut self.name),
                "bu" => text(value)?.clone_into(&mut self.unit),
                "bt" => self.time_s = number(value)?,
                "bv" => self.value = number(value)?,
                "bver" if number(value)? > VERSION_MAX => return Err(CodecError::Unsupported),
                // A label ending in an underscore must be understood (RFC 8428 section 4.4).
                label if label.ends_with('_') => return Err(CodecError::Unsupported),
                _ => {}
            }
        }
        Ok(())
    }
}

fn add(fields: &Map<String, Value>, base: &Base, decoded: &mut Decoded) -> Result<(), CodecError> {
    let own_name = fields.get("n").map_or(Ok(""), text)?;
    let name = format!("{}{own_name}", base.name);
    let own_unit = fields.get("u").map_or(Ok(""), text)?;
    let unit = if own_unit.is_empty() { base.unit.as_str() } else { own_unit };
    let time_s = fields.get("t").map_or(Ok(0.0), number)? + base.time_s;
    if !time_s.is_finite() {
        return Err(CodecError::NotFinite);
    }
    let values = ["v", "vb", "vs", "vd"].map(|label| fields.get(label));
    let value = match values {
        [Some(value), None, None, None] => number(value)? + base.value,
        [None, Some(Value::Bool(truth)), None, None] => f64::from(u8::from(*truth)),
        [None, None, Some(value), None] => {
            let text = text(value)?;
            return if own_name == DETECTOR { decoded.set_detector(text) } else { Ok(()) };
        }
        [None, None, None, Some(value)] => return text(value).map(|_| ()),
        // Sums are not kept, but a record may have nothing else (RFC 8428 section 4.2).
        [None, None, None, None] if fields.contains_key("s") => return Ok(()),
        _ => return Err(CodecError::Shape("a SenML record needs exactly one value")),
    };
    decoded.push(&name, unit, time(time_s), value)
}

fn text(value: &Value) -> Result<&str, CodecError> {
    value.as_str().ok_or(CodecError::Shape("a SenML name, unit or text must be a text"))
}

fn number(value: &Value) -> Result<f64, CodecError> {
    let number = value.as_f64().filter(|number| number.is_finite());
    number.ok_or(CodecError::Shape("a SenML value or time must be a number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::{NOW_MS, seen};

    fn take(text: &str) -> Result<Decoded, CodecError> {
        decode(text.as_bytes(), NOW_MS)
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 8428 section 5.1.1.
        let single = r#"[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]"#;
        let decoded = take(single).expect("legal");
        assert_eq!(seen(&decoded), [("urn:dev:ow:10e2073a01080063", "Cel", NOW_MS, 23.1)]);
        assert!(!decoded.has_own_times());
        // Section 5.1.2, second pack: base fields, and times before the base time.
        let pack = r#"[
            {"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,
             "n":"voltage","u":"V","v":120.1},
            {"n":"current","t":-5,"v":1.2},
            {"n":"current","t":-4,"v":1.3},
            {"n":"current","v":1.7}]"#;
        let decoded = take(pack).expect("legal");
        let voltage = "urn:dev:ow:10e2073a0108006:voltage";
        let current = "urn:dev:ow:10e2073a0108006:current";
        // The resolved records of section 5.1.4 have these times.
        assert_eq!(
            seen(&decoded),
            [
                (voltage, "V", 1_276_020_076_001, 120.1),
                (current, "A", 1_276_020_071_001, 1.2),
                (current, "A", 1_276_020_072_001, 1.3),
                (current, "A", 1_276_020_076_001, 1.7),
            ]
        );
        assert!(decoded.has_own_times());
        // Section 5.1.5: several kinds of value; texts and bytes are passed over.
        let kinds = r#"[{"bn":"urn:dev:ow:10e2073a01080063:","n":"temp","u":"Cel","v":23.1},
            {"n":"label","vs":"Machine Room"},{"n":"open","vb":false},
            {"n":"nfc-reader","vd":"aGkgCg"}]"#;
        let names: Vec<_> = seen(&take(kinds).expect("legal"))
            .into_iter()
            .map(|(name, _, _, value)| (name.to_owned(), value))
            .collect();
        let prefix = "urn:dev:ow:10e2073a01080063:";
        assert_eq!(names, [(format!("{prefix}temp"), 23.1), (format!("{prefix}open"), 0.0)]);
    }

    #[test]
    fn relative_times_count_from_the_receipt() {
        let decoded = take(r#"[{"bn":"a","t":-1.5,"v":1},{"v":2,"bv":10}]"#).expect("legal");
        assert_eq!(seen(&decoded), [("a", "", NOW_MS - 1_500, 1.0), ("a", "", NOW_MS, 12.0)]);
    }

    #[test]
    fn what_is_no_pack_is_refused() {
        for text in [
            "{}",
            "[1]",
            "[]",
            r#"[{"n":"a"}]"#,
            r#"[{"v":1}]"#,
            r#"[{"n":"a","v":1,"vb":true}]"#,
            r#"[{"n":"a","v":"1"}]"#,
            r#"[{"n":"a","v":true}]"#,
            r#"[{"n":"a","vb":1}]"#,
            r#"[{"n":1,"v":1}]"#,
            r#"[{"n":"a","v":1,"t":"now"}]"#,
            r#"[{"n":"a","v":1,"bver":11}]"#,
            r#"[{"n":"a","v":1,"secret_":1}]"#,
            r#"[{"n":"a","v":1e308,"bv":1e308}]"#,
            r#"[{"n":"a","v":1,"t":1e308,"bt":1e308}]"#,
            r#"[{"n":"a b","v":1}]"#,
            r#"[{"n":"a","v":1}"#,
        ] {
            assert!(take(text).is_err(), "{text}");
        }
    }
}
