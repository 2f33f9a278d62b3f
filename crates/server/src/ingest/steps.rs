//! The steps before the store, which need nothing but the packet and the time.

use std::sync::Arc;

use stonechat_core::limits::MESSAGE_LEN_MAX;
use stonechat_core::wire::senml::Value;
use stonechat_core::wire::uplink::{DETECTOR, Uplink, UplinkError};

use crate::device::DeviceId;
use crate::limits::{CHANNEL_NAME_LEN_MAX, CLOCK_AHEAD_MAX_MS, CLOCK_EARLIEST_MS, UNIT_LEN_MAX};
use crate::store::{Message, Reading};
use crate::topic;

/// What a connected device published.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Who the broker knows it to be.
    pub device: &'a DeviceId,
    /// Where it published.
    pub topic: &'a str,
    /// What it published.
    pub payload: &'a [u8],
}

/// Why a packet can never be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Nothing is taken in on this topic.
    #[error("nothing is taken in on this topic; uplink messages go to stonechat/v1/DEVICE/up")]
    Topic,
    /// It is too long.
    #[error("the message is longer than {MESSAGE_LEN_MAX} bytes")]
    TooLong,
    /// It is no uplink message.
    #[error("no uplink message: {0}")]
    Undecodable(#[from] UplinkError),
    /// It names another device than the one that is connected.
    #[error("the message speaks for another device than the one that is connected")]
    ForeignDevice,
    /// A channel's name or unit is too long.
    #[error("a channel's name or unit is too long")]
    LongName,
}

struct Opened<'a> {
    packet: Packet<'a>,
}

struct Identified<'a> {
    device: &'a DeviceId,
    payload: &'a [u8],
}

struct Decoded<'a> {
    device: &'a DeviceId,
    uplink: Uplink<'a>,
}

/// A message that is ready to be stored.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) message: Message,
    /// The device has no clock, so that the times are the server's.
    pub(super) clock_replaced: bool,
}

/// Walks a packet to the store's door.
pub(super) fn message(packet: Packet<'_>, now_ms: i64) -> Result<Checked, Rejection> {
    let opened = open(packet)?;
    let identified = identify(&opened)?;
    let decoded = decode(&identified)?;
    check(&decoded, now_ms)
}

/// Looks at length only.
fn open(packet: Packet<'_>) -> Result<Opened<'_>, Rejection> {
    if packet.payload.len() > MESSAGE_LEN_MAX {
        Err(Rejection::TooLong)
    } else {
        Ok(Opened { packet })
    }
}

/// Holds the topic against the connection's identity.
fn identify<'a>(opened: &Opened<'a>) -> Result<Identified<'a>, Rejection> {
    let Packet { device, topic, payload } = opened.packet;
    if topic::is_uplink(device, topic) {
        Ok(Identified { device, payload })
    } else {
        Err(Rejection::Topic)
    }
}

/// Parses the payload to its last byte.
fn decode<'a>(identified: &Identified<'a>) -> Result<Decoded<'a>, Rejection> {
    let uplink = Uplink::parse(identified.payload)?;
    Ok(Decoded { device: identified.device, uplink })
}

/// Holds the message against the connection's identity, the limits and the clock.
fn check(decoded: &Decoded<'_>, now_ms: i64) -> Result<Checked, Rejection> {
    if decoded.uplink.device != decoded.device.as_str() {
        return Err(Rejection::ForeignDevice);
    }
    let mut readings = Vec::new();
    let mut detector = None;
    let no_unit: Arc<str> = Arc::from("");
    for record in decoded.uplink.readings() {
        let value = match record.value {
            Value::Number(number) => number,
            Value::Boolean(truth) => f64::from(u8::from(truth)),
            Value::Text(text) if record.name == DETECTOR => {
                detector = Some(text.to_owned());
                continue;
            }
            // Further texts and bytes are for later versions.
            Value::Text(_) | Value::Data(_) => continue,
        };
        if record.name.len() > CHANNEL_NAME_LEN_MAX || record.unit.len() > UNIT_LEN_MAX {
            return Err(Rejection::LongName);
        }
        let unit = if record.unit.is_empty() { no_unit.clone() } else { Arc::from(record.unit) };
        let time_ms = (record.time_s * 1_000.0).round() as i64;
        readings.push(Reading { channel: Arc::from(record.name), unit, time_ms, value });
    }
    let clock_replaced = replace_clock(&mut readings, now_ms);
    let message = Message {
        device: decoded.device.clone(),
        id: decoded.uplink.id,
        received_ms: now_ms,
        readings,
        detector,
    };
    Ok(Checked { message, clock_replaced })
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
mod tests {
    use proptest::prelude::*;
    use stonechat_core::wire::senml::Record;
    use stonechat_core::wire::uplink::{self, MessageId};

    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn payload(base_name: &str, base_time_s: f64, records: &[(&str, Value<'_>, f64)]) -> Vec<u8> {
        let mut buffer = [0; 1_024];
        let id = MessageId { session: 7, sequence: 3 };
        let mut pack = uplink::open(&mut buffer, base_name, base_time_s, id).expect("room");
        for &(name, value, time_s) in records {
            pack.push(&Record { name, unit: "Cel", value, time_s }).expect("room");
        }
        let len = pack.close();
        buffer[..len].to_vec()
    }

    fn take(topic: &str, payload: &[u8]) -> Result<Checked, Rejection> {
        let device = DeviceId::parse("pump").expect("legal");
        message(Packet { device: &device, topic, payload }, NOW_MS)
    }

    #[test]
    fn a_message_becomes_readings() {
        let base_s = NOW_MS as f64 / 1_000.0;
        let records = [
            ("temperature", Value::Number(21.5), -1.0),
            ("anomaly", Value::Boolean(true), 0.0),
            ("detector", Value::Text("fan 12ab"), 0.0),
        ];
        let bytes = payload("pump/", base_s, &records);
        let Checked { message, clock_replaced } =
            take("stonechat/v1/pump/up", &bytes).expect("legal");
        assert!(!clock_replaced);
        assert_eq!(message.id, MessageId { session: 7, sequence: 3 });
        assert_eq!(message.detector.as_deref(), Some("fan 12ab"));
        let seen: Vec<_> =
            message.readings.iter().map(|r| (&*r.channel, r.time_ms, r.value)).collect();
        assert_eq!(seen, [("temperature", NOW_MS - 1_000, 21.5), ("anomaly", NOW_MS, 1.0)]);
    }

    #[test]
    fn a_device_without_clock_gets_the_servers() {
        let records = [("a", Value::Number(1.0), 10.0), ("a", Value::Number(2.0), 12.0)];
        let bytes = payload("pump/", 0.0, &records);
        let Checked { message, clock_replaced } =
            take("stonechat/v1/pump/up", &bytes).expect("legal");
        assert!(clock_replaced);
        let times: Vec<_> = message.readings.iter().map(|r| r.time_ms).collect();
        assert_eq!(times, [NOW_MS - 2_000, NOW_MS]);
    }

    #[test]
    fn foreign_names_and_topics_are_rejected() {
        let own = payload("pump/", 2e9, &[]);
        let foreign = payload("fan/", 2e9, &[]);
        assert_eq!(take("stonechat/v1/pump/down", &own).err(), Some(Rejection::Topic));
        assert_eq!(take("stonechat/v1/fan/up", &own).err(), Some(Rejection::Topic));
        assert_eq!(take("stonechat/v1/pump/up", &foreign).err(), Some(Rejection::ForeignDevice));
        let long = vec![0; MESSAGE_LEN_MAX + 1];
        assert_eq!(take("stonechat/v1/pump/up", &long).err(), Some(Rejection::TooLong));
    }

    proptest! {
        #[test]
        fn garbage_is_rejected_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = take("stonechat/v1/pump/up", &bytes);
        }

        #[test]
        fn a_damaged_message_never_panics(at in 0_usize..1_000, byte in any::<u8>()) {
            let mut bytes = payload("pump/", 1e300, &[("a", Value::Number(1.0), -1e300)]);
            let len = bytes.len();
            bytes[at % len] = byte;
            let _ = take("stonechat/v1/pump/up", &bytes);
        }
    }
}
