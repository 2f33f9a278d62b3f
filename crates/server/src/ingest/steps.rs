//! The steps before the store, which need nothing but the arrival and the time.

use sha2::{Digest, Sha256};
use stonechat_core::limits::MESSAGE_LEN_MAX;

use super::{Arrival, Route};
use crate::codec::packet::{self, UNAUTHENTICATED_PREFIX};
use crate::codec::{self, Codec, CodecError, Decoded};
use crate::device::DeviceId;
use crate::limits::{CLOCK_AHEAD_MAX_MS, CLOCK_EARLIEST_MS};
use crate::settings::UtcOffset;
use crate::store::{Message, MessageKey, Reading};
use crate::topic;

/// Why a payload can never be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Nothing is taken in on this topic.
    #[error(
        "nothing is taken in on this topic; readings go to stonechat/v1/DEVICE/up, or to stonechat/v1/DEVICE/up/CODEC"
    )]
    Topic,
    /// No codec has this content type.
    #[error(
        "no codec for this content type; send application/senml+json, application/senml+cbor or application/json"
    )]
    ContentType,
    /// It is too long.
    #[error("the message is longer than {MESSAGE_LEN_MAX} bytes")]
    TooLong,
    /// The codec cannot read it.
    #[error(transparent)]
    Undecodable(#[from] CodecError),
    /// It names another device than the one that is connected.
    #[error("the message speaks for another device than the one that is connected")]
    ForeignDevice,
    /// It uses names that only old packets have.
    #[error("channel names beginning with `{UNAUTHENTICATED_PREFIX}` are for old packets only")]
    ReservedName,
}

struct Opened<'a> {
    arrival: Arrival<'a>,
}

struct Identified<'a> {
    device: &'a DeviceId,
    language: Language,
    payload: &'a [u8],
}

/// How the payload is to be read.
#[derive(Clone, Copy)]
enum Language {
    Codec(&'static Codec),
    Packet { digest: [u8; 16], utc_offset: UtcOffset },
}

struct Understood<'a> {
    device: &'a DeviceId,
    language: Language,
    payload: &'a [u8],
    decoded: Decoded,
}

/// A message that is ready to be stored.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) message: Message,
    /// The device has no clock, so that the times are the server's.
    pub(super) clock_replaced: bool,
}

/// Walks an arrival to the store's door; `chosen` is the codec that the device's entry names.
pub(super) fn message(
    arrival: Arrival<'_>,
    chosen: Option<&'static Codec>,
    now_ms: i64,
) -> Result<Checked, Rejection> {
    let opened = open(arrival)?;
    let identified = identify(&opened, chosen)?;
    let understood = decode(&identified, now_ms)?;
    check(understood, now_ms)
}

/// Looks at length only.
fn open(arrival: Arrival<'_>) -> Result<Opened<'_>, Rejection> {
    if arrival.payload.len() > MESSAGE_LEN_MAX {
        Err(Rejection::TooLong)
    } else {
        Ok(Opened { arrival })
    }
}

/// Holds the topic against the connection's identity, and finds the codec.
fn identify<'a>(
    opened: &Opened<'a>,
    chosen: Option<&'static Codec>,
) -> Result<Identified<'a>, Rejection> {
    let Arrival { device, route, payload } = opened.arrival;
    let of_device = || chosen.unwrap_or_else(codec::standard);
    let codec = match route {
        Route::Packet { digest, utc_offset } => {
            let language = Language::Packet { digest, utc_offset };
            return Ok(Identified { device, language, payload });
        }
        Route::Sealed => of_device(),
        Route::Topic(topic) => match topic::within(device, topic) {
            Some("up") => of_device(),
            Some(rest) => {
                rest.strip_prefix("up/").and_then(codec::named).ok_or(Rejection::Topic)?
            }
            None => codec::on_topic(topic).ok_or(Rejection::Topic)?,
        },
        Route::Http { content_type } => {
            codec::of_content_type(content_type, chosen).ok_or(Rejection::ContentType)?
        }
    };
    Ok(Identified { device, language: Language::Codec(codec), payload })
}

/// Parses the payload to its last byte.
fn decode<'a>(identified: &Identified<'a>, now_ms: i64) -> Result<Understood<'a>, Rejection> {
    let Identified { device, language, payload } = *identified;
    let decoded = match language {
        Language::Codec(codec) => (codec.decode)(payload, now_ms)?,
        Language::Packet { utc_offset, .. } => packet::decode(payload, utc_offset, now_ms)?,
    };
    Ok(Understood { device, language, payload, decoded })
}

/// Holds the message against the connection's identity, the limits and the clock.
fn check(understood: Understood<'_>, now_ms: i64) -> Result<Checked, Rejection> {
    let Understood { device, language, payload, mut decoded } = understood;
    if decoded.speaker.as_deref().is_some_and(|speaker| speaker != device.as_str()) {
        return Err(Rejection::ForeignDevice);
    }
    let key = key(&decoded, language, payload);
    let detector = decoded.detector.take();
    let strip = decoded.names_may_begin_with_device;
    let mut readings = decoded.into_readings();
    if strip {
        leave_out_device(&mut readings, device);
    }
    let may_be_reserved = matches!(language, Language::Packet { .. });
    let is_reserved = |reading: &Reading| reading.channel.starts_with(UNAUTHENTICATED_PREFIX);
    if !may_be_reserved && readings.iter().any(is_reserved) {
        return Err(Rejection::ReservedName);
    }
    let clock_replaced = replace_clock(&mut readings, now_ms);
    let message = Message { device: device.clone(), key, received_ms: now_ms, readings, detector };
    Ok(Checked { message, clock_replaced })
}

/// Finds out what makes the message the same when it is sent again: its number; else its bytes, where
/// each reading brings its time; else nothing, as two equal receipts are two measurements.
fn key(decoded: &Decoded, language: Language, payload: &[u8]) -> MessageKey {
    let codec = match language {
        Language::Packet { digest, .. } => return MessageKey::Digest(digest),
        Language::Codec(codec) => codec,
    };
    if let Some(id) = decoded.id {
        return MessageKey::Sequence(id);
    }
    if !decoded.has_own_times() {
        return MessageKey::Unkeyed;
    }
    let mut hash = Sha256::new();
    hash.update(codec.name.as_bytes());
    hash.update([0]);
    hash.update(payload);
    MessageKey::Digest(first_half(hash.finalize().into()))
}

/// Shortens a digest to what the store keeps.
pub(crate) fn first_half(hash: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

/// Turns `pump/temperature` of the device `pump` into `temperature`.
fn leave_out_device(readings: &mut [Reading], device: &DeviceId) {
    for reading in readings {
        let rest = reading.channel.strip_prefix(device.as_str());
        let name = rest.and_then(|rest| rest.strip_prefix('/'));
        if let Some(name) = name.filter(|name| codec::is_channel_name(name)) {
            reading.channel = name.into();
        }
    }
}

/// Moves the readings of a device without a clock so that the newest one is from now; their
/// distances stay.
fn replace_clock(readings: &mut [Reading], now_ms: i64) -> bool {
    let Some(newest) = readings.iter().map(|reading| reading.time_ms).max() else {
        return false;
    };
    let Some(oldest) = readings.iter().map(|reading| reading.time_ms).min() else {
        return false;
    };
    let latest = now_ms.saturating_add(CLOCK_AHEAD_MAX_MS);
    if oldest >= CLOCK_EARLIEST_MS && newest <= latest {
        return false;
    }
    for reading in readings {
        let age_ms = newest.saturating_sub(reading.time_ms);
        reading.time_ms = now_ms.saturating_sub(age_ms).clamp(CLOCK_EARLIEST_MS, latest);
    }
    true
}

#[cfg(test)]
mod tests;
