//! What the codecs on JSON share.

use serde_json::Value;

use super::CodecError;

/// Unix times above this are milliseconds: as seconds they would lie beyond the year 5000.
const SECONDS_MAX: f64 = 1.0e11;

/// Parses a text to its last byte.
pub(super) fn parse(payload: &[u8]) -> Result<Value, CodecError> {
    serde_json::from_slice(payload).map_err(|error| CodecError::Json {
        reason: if error.is_eof() { "it ends too early" } else { "it is malformed" },
        line: error.line(),
        column: error.column(),
    })
}

/// Returns a number, or a truth value as 0 or 1.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
        _ => None,
    }
}

/// Returns the milliseconds of a unix time in seconds or, from 10^11 on, in milliseconds.
pub(super) fn unix_ms(time: f64) -> i64 {
    if time.abs() < SECONDS_MAX { super::milliseconds(time) } else { time.round() as i64 }
}
