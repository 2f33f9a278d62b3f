//! What devices speak: one file a codec, and one line in [`CODECS`].
//!
//! A codec is a plain function of the payload and the time of receipt. It neither knows nor asks who
//! sent the payload; [`crate::ingest`] holds what comes out against the connection's identity, the
//! clock and the limits.

pub mod uplink;

use std::fmt;
use std::sync::Arc;

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
pub static CODECS: &[Codec] =
    &[Codec { name: "uplink", topics: &[], content_types: &[], decode: uplink::decode }];

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
    /// There are too many readings.
    #[error("more than {READINGS_PER_MESSAGE_MAX} readings in one message")]
    TooManyReadings,
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(of_content_type("", None), None);
    }
}
