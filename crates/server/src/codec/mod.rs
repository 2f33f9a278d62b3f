//! What devices speak: one file a codec, and one line in [`CODECS`].
//!
//! A codec is a plain function of the payload and the time of receipt. It neither knows nor asks who
//! sent the payload; [`crate::ingest`] holds what comes out against the connection's identity, the
//! clock and the limits.

pub mod flat_json;
mod json;
pub mod latent;
pub mod packet;
pub mod power_meter;
pub mod raw;
pub mod senml_cbor;
pub mod senml_json;
pub mod thingsboard;
pub mod uplink;

use std::fmt;
use std::sync::Arc;

use stonechat_core::limits::SENML_TEXT_LEN_MAX;
use stonechat_core::wire::packet::PacketError;
use stonechat_core::wire::senml::DecodeError;
use stonechat_core::wire::uplink::{MessageId, UplinkError};

use crate::limits::{CHANNEL_NAME_LEN_MAX, READINGS_PER_MESSAGE_MAX, UNIT_LEN_MAX};
use crate::store::Reading;

/// A way to write readings down.
pub struct Codec {
    /// How topics and device entries name it.
    pub name: &'static str,
    /// The topics outside a device's own prefix on which it is spoken.
    pub topics: &'static [&'static str],
    /// The content types by which HTTP names it.
    pub content_types: &'static [&'static str],
    /// Reads a payload that came in at some unix millisecond.
    pub decode: fn(&[u8], i64) -> Result<Decoded, CodecError>,
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Codec").field(&self.name).finish()
    }
}

impl PartialEq for Codec {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// Every codec. Where several fit a topic or a content type, the first one is meant, unless the
/// device's entry names another.
#[rustfmt::skip]
pub static CODECS: &[Codec] = &[
    Codec { name: "uplink", topics: &[], content_types: &[], decode: uplink::decode },
    Codec { name: "senml-cbor", topics: &[], content_types: &["application/senml+cbor"], decode: senml_cbor::decode },
    Codec { name: "senml-json", topics: &[], content_types: &["application/senml+json"], decode: senml_json::decode },
    Codec { name: "flat-json", topics: &[], content_types: &["application/json"], decode: flat_json::decode },
    Codec { name: "thingsboard", topics: &[thingsboard::TELEMETRY_TOPIC], content_types: &["application/json"], decode: thingsboard::telemetry },
    Codec { name: "thingsboard-attributes", topics: &[thingsboard::ATTRIBUTES_TOPIC], content_types: &["application/json"], decode: thingsboard::attributes },
    Codec { name: "power-meter", topics: &[], content_types: &["text/plain", "application/json"], decode: power_meter::decode },
    Codec { name: "raw", topics: &[], content_types: &["application/octet-stream"], decode: raw::decode },
];

/// What devices speak of which nothing else is said.
#[must_use]
pub fn standard() -> &'static Codec {
    &CODECS[0]
}

/// Finds a codec by its name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Codec> {
    CODECS.iter().find(|codec| codec.name == name)
}

/// Finds the codec of a topic outside the devices' own prefixes.
#[must_use]
pub fn on_topic(topic: &str) -> Option<&'static Codec> {
    CODECS.iter().find(|codec| codec.topics.contains(&topic))
}

/// Finds the codec of a content type, such as `application/json; charset=utf-8`.
#[must_use]
pub fn of_content_type(
    content_type: &str,
    chosen: Option<&'static Codec>,
) -> Option<&'static Codec> {
    let essence = content_type.split(';').next().unwrap_or("").trim();
    let speaks =
        |codec: &&Codec| codec.content_types.iter().any(|kind| kind.eq_ignore_ascii_case(essence));
    chosen.filter(speaks).or_else(|| CODECS.iter().find(speaks))
}

/// What a payload says.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The device for which it claims to speak, if it names one.
    pub speaker: Option<Arc<str>>,
    /// Its number, if it has one.
    pub id: Option<MessageId>,
    /// The detector that the device runs, if it says so.
    pub detector: Option<String>,
    /// Whether the device's identity and a slash before a channel's name are to be left out.
    pub names_may_begin_with_device: bool,
    received_ms: i64,
    timed_by_receipt: bool,
    readings: Vec<Reading>,
}

impl Decoded {
    /// Starts with nothing, for a payload that came in at some unix millisecond.
    #[must_use]
    pub fn new(received_ms: i64) -> Self {
        Self {
            speaker: None,
            id: None,
            detector: None,
            names_may_begin_with_device: false,
            received_ms,
            timed_by_receipt: false,
            readings: Vec::new(),
        }
    }

    /// Returns when the payload came in, in unix milliseconds.
    #[must_use]
    pub fn received_ms(&self) -> i64 {
        self.received_ms
    }

    /// Adds a reading.
    ///
    /// # Errors
    /// When its value is not finite, its name or unit is not legal, or there are too many.
    pub fn push(
        &mut self,
        channel: &str,
        unit: &str,
        time: Time,
        value: f64,
    ) -> Result<(), CodecError> {
        if !value.is_finite() {
            return Err(CodecError::NotFinite);
        }
        if !is_channel_name(channel) {
            return Err(CodecError::BadName);
        }
        if unit.len() > UNIT_LEN_MAX || unit.chars().any(char::is_control) {
            return Err(CodecError::BadUnit);
        }
        if self.readings.len() >= READINGS_PER_MESSAGE_MAX {
            return Err(CodecError::TooManyReadings);
        }
        let time_ms = match time {
            Time::Own(time_ms) => time_ms,
            Time::Received { ago_ms } => {
                self.timed_by_receipt = true;
                self.received_ms.saturating_sub(ago_ms)
            }
        };
        let (channel, unit) = (self.shared_name(channel), self.shared_unit(unit));
        self.readings.push(Reading { channel, unit, time_ms, value });
        Ok(())
    }

    /// Notes the detector that the device runs.
    ///
    /// # Errors
    /// When its name is too long.
    pub fn set_detector(&mut self, text: &str) -> Result<(), CodecError> {
        if text.len() > SENML_TEXT_LEN_MAX {
            return Err(DecodeError::TextTooLong.into());
        }
        self.detector = Some(text.to_owned());
        Ok(())
    }

    /// Tells whether there is nothing to be stored.
    #[must_use]
    pub fn says_nothing(&self) -> bool {
        self.readings.is_empty() && self.detector.is_none()
    }

    /// Tells whether each reading brought its own time, so that the same payload sent again says
    /// nothing new.
    #[must_use]
    pub fn has_own_times(&self) -> bool {
        !self.timed_by_receipt && !self.readings.is_empty()
    }

    /// Returns the readings in their own order.
    #[must_use]
    pub fn readings(&self) -> &[Reading] {
        &self.readings
    }

    /// Hands the readings out.
    #[must_use]
    pub fn into_readings(self) -> Vec<Reading> {
        self.readings
    }

    /// The channels of a message come round and round, so that a name is mostly among the last ones.
    fn shared_name(&self, name: &str) -> Arc<str> {
        const LOOK_BACK: usize = 8;
        let mut newest = self.readings.iter().rev().take(LOOK_BACK);
        newest
            .find(|reading| &*reading.channel == name)
            .map_or_else(|| Arc::from(name), |reading| reading.channel.clone())
    }

    fn shared_unit(&self, unit: &str) -> Arc<str> {
        match self.readings.last() {
            Some(last) if &*last.unit == unit => last.unit.clone(),
            _ => Arc::from(unit),
        }
    }
}

/// When a reading is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Its own unix milliseconds.
    Own(i64),
    /// So many milliseconds before it came in.
    Received {
        /// Milliseconds; negative for later.
        ago_ms: i64,
    },
}

/// The time of a reading that comes without one.
pub const NOW: Time = Time::Received { ago_ms: 0 };

/// Turns seconds into milliseconds; what is beyond the range of the result is cut off.
#[must_use]
pub fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1_000.0).round() as i64
}

/// Tells whether a text may name a channel: RFC 8428 section 4.5.1, with a bound on its length.
#[must_use]
pub fn is_channel_name(text: &str) -> bool {
    let first_is_legal = text.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b':' | b'.' | b'/' | b'_');
    first_is_legal && text.len() <= CHANNEL_NAME_LEN_MAX && text.bytes().all(legal)
}

/// Why a payload cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// It is no uplink message.
    #[error("no uplink message: {0}")]
    Uplink(#[from] UplinkError),
    /// It is no packet.
    #[error("{0}")]
    Packet(#[from] PacketError),
    /// It is no SenML.
    #[error("{0}")]
    Senml(#[from] DecodeError),
    /// A value is NaN or infinite.
    #[error("a value is not finite")]
    NotFinite,
    /// A name is no channel name.
    #[error(
        "a channel's name is empty, longer than {CHANNEL_NAME_LEN_MAX} bytes, does not begin with a letter or digit, or has a character outside A-Z a-z 0-9 - : . / _"
    )]
    BadName,
    /// A unit is too long.
    #[error("a unit is longer than {UNIT_LEN_MAX} bytes or has control characters")]
    BadUnit,
    /// It is no JSON, or a number in it is too large.
    #[error("no JSON: {reason}, line {line} column {column}")]
    Json {
        /// What is wrong.
        reason: &'static str,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// It is well written, but no message of this codec.
    #[error("{0}")]
    Shape(&'static str),
    /// It needs something that is not supported here.
    #[error("it needs a feature or a version that is not supported")]
    Unsupported,
    /// It has no reading.
    #[error("there is no reading in it")]
    NoReadings,
    /// There are too many readings.
    #[error("more than {READINGS_PER_MESSAGE_MAX} readings in one message")]
    TooManyReadings,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) const NOW_MS: i64 = 1_800_000_000_000;

    /// Channel, unit, unix milliseconds, value.
    pub(super) fn seen(decoded: &Decoded) -> Vec<(&str, &str, i64, f64)> {
        let readings = decoded.readings().iter();
        readings.map(|r| (&*r.channel, &*r.unit, r.time_ms, r.value)).collect()
    }

    #[test]
    fn names_units_values_and_counts_are_bounded() {
        let mut decoded = Decoded::new(5_000);
        assert_eq!(decoded.push("a", "", NOW, f64::NAN), Err(CodecError::NotFinite));
        assert_eq!(decoded.push("a", "", NOW, f64::INFINITY), Err(CodecError::NotFinite));
        for name in ["", "/a", "a b", "ä", "=1+1", &"x".repeat(CHANNEL_NAME_LEN_MAX + 1)] {
            assert_eq!(decoded.push(name, "", NOW, 1.0), Err(CodecError::BadName), "{name:?}");
        }
        let long = "x".repeat(UNIT_LEN_MAX + 1);
        assert_eq!(decoded.push("a", &long, NOW, 1.0), Err(CodecError::BadUnit));
        assert_eq!(decoded.push("a", "\n", NOW, 1.0), Err(CodecError::BadUnit));
        for _ in 0..READINGS_PER_MESSAGE_MAX {
            decoded.push("a", "°C", Time::Own(7), 1.0).expect("room");
        }
        assert_eq!(decoded.push("a", "", NOW, 1.0), Err(CodecError::TooManyReadings));
        assert!(decoded.has_own_times());
    }

    #[test]
    fn readings_without_times_get_the_receipts() {
        let mut decoded = Decoded::new(5_000);
        assert!(!decoded.has_own_times(), "nothing has no times");
        decoded.push("a", "", Time::Own(7), 1.0).expect("legal");
        assert!(decoded.has_own_times());
        decoded.push("a", "", Time::Received { ago_ms: 2_000 }, 1.0).expect("legal");
        assert!(!decoded.has_own_times());
        let times: Vec<_> = decoded.readings().iter().map(|reading| reading.time_ms).collect();
        assert_eq!(times, [7, 3_000]);
        assert!(Arc::ptr_eq(&decoded.readings()[0].channel, &decoded.readings()[1].channel));
    }

    #[test]
    fn names_topics_and_content_types_are_found() {
        for (at, codec) in CODECS.iter().enumerate() {
            assert_eq!(named(codec.name), Some(codec));
            assert!(CODECS[..at].iter().all(|other| other.name != codec.name), "{codec:?}");
        }
        assert_eq!(named(""), None);
        assert_eq!(on_topic("v1/devices/me"), None);
        assert_eq!(on_topic("v1/devices/me/telemetry"), named("thingsboard"));
        assert_eq!(of_content_type("", None), None);
        assert_eq!(of_content_type("text/html", named("raw")), None);
        let json = "Application/JSON; charset=utf-8";
        assert_eq!(of_content_type(json, None), named("flat-json"));
        assert_eq!(of_content_type(json, named("thingsboard")), named("thingsboard"));
        assert_eq!(of_content_type(json, named("raw")), named("flat-json"));
    }

    fn samples() -> Vec<Vec<u8>> {
        let mut buffer = [0; 256];
        let id = MessageId { session: 7, sequence: 3 };
        let mut pack =
            stonechat_core::wire::uplink::open(&mut buffer, "pump/", 2e9, id).expect("room");
        let value = stonechat_core::wire::senml::Value::Number(1.5);
        let record =
            stonechat_core::wire::senml::Record { name: "a", unit: "Cel", value, time_s: -1.0 };
        pack.push(&record).expect("room");
        let len = pack.close();
        let mut samples = vec![buffer[..len].to_vec()];
        let texts = [
            r#"[{"bn":"pump/","bt":2e9,"n":"a","u":"Cel","v":1.5},{"n":"b","t":-5,"vb":true}]"#,
            r#"{"temperature":21.5,"time":1754557790}"#,
            r#"{"ts":1754557790250,"values":{"a":1}}"#,
            r#"{"Start register": 1006, "Raw data": 1.25"#,
        ];
        samples.extend(texts.map(|text| text.as_bytes().to_vec()));
        let mut block = b"SCRW\x01\x00\x01\x00\x02\0\0\0".to_vec();
        block.extend(100.0_f32.to_le_bytes());
        block.extend(1.0_f32.to_le_bytes());
        block.extend([0; 8]);
        block.extend(b"\x01x\x00\x01\x02\x03\x04");
        samples.push(block);
        samples
    }

    #[test]
    fn each_sample_is_read_by_some_codec() {
        for sample in samples() {
            let read = CODECS.iter().any(|codec| (codec.decode)(&sample, NOW_MS).is_ok());
            assert!(read, "{:?}", String::from_utf8_lossy(&sample));
        }
    }

    /// Whatever comes out of a codec keeps the bounds.
    fn holds(payload: &[u8]) {
        for codec in CODECS {
            let Ok(decoded) = (codec.decode)(payload, NOW_MS) else { continue };
            assert!(decoded.readings().len() <= READINGS_PER_MESSAGE_MAX);
            for reading in decoded.readings() {
                assert!(reading.value.is_finite() && is_channel_name(&reading.channel));
                assert!(reading.unit.len() <= UNIT_LEN_MAX);
            }
        }
    }

    proptest! {
        #[test]
        fn garbage_keeps_the_bounds(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            holds(&bytes);
        }

        #[test]
        fn damage_keeps_the_bounds(
            which in 0_usize..6,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            len in any::<prop::sample::Index>(),
        ) {
            let mut payload = samples().swap_remove(which);
            for (at, byte) in damage {
                let at = at.index(payload.len());
                payload[at] = byte;
            }
            holds(&payload);
            holds(&payload[..len.index(payload.len())]);
        }

        #[test]
        fn flat_readings_survive(value in prop::num::f64::NORMAL, time_s in 0_u32..2_000_000_000) {
            let text = format!("{{\"a\": {value:e}, \"time\": {time_s}}}");
            let decoded = flat_json::decode(text.as_bytes(), NOW_MS).expect("legal");
            let &[(name, _, time_ms, read)] = &seen(&decoded)[..] else { panic!("one reading") };
            prop_assert_eq!((name, time_ms), ("a", i64::from(time_s) * 1_000));
            prop_assert_eq!(read.to_bits(), value.to_bits());
        }
    }
}
