//! A frame of the spool: one message.
//!
//! | part | bytes | content |
//! |---|---|---|
//! | length | 4 | bytes of the body, little-endian |
//! | checksum | 4 | CRC-32 (ISO-HDLC) of length and body |
//! | body | length | see below |
//!
//! | part of the body | type | content |
//! |---|---|---|
//! | version | u8 | 1 |
//! | device | text | identity |
//! | kind of key | u8 | 0: session and sequence, 1: digest |
//! | key | 2 u32, or 16 bytes | |
//! | received | i64 | unix milliseconds |
//! | detector | u8, then text if that is 1 | |
//! | readings | u32 | how many follow |
//! | each reading | text, text, i64, f64 | channel, unit, unix milliseconds, value |

use std::sync::Arc;

use stonechat_core::wire::uplink::MessageId;

use super::packed::{Packer, Unpacker};
use crate::device::DeviceId;
use crate::limits::SPOOL_FRAME_LEN_MAX;
use crate::store::{Message, MessageKey, Reading};

const VERSION: u8 = 1;
/// The bytes before the body.
pub(super) const HEADER_LEN: usize = 8;
/// Two empty texts, a time and a value.
const READING_LEN_MIN: usize = 20;

/// What stands at a place of a segment.
#[derive(Debug)]
pub(super) enum Found {
    /// A message, and the length of its frame.
    Message(Box<Message>, usize),
    /// The bytes end here, or within a frame.
    End,
    /// The bytes are no frame.
    Damaged,
}

/// Appends a message's frame; `None` if it would be longer than a frame may be.
pub(super) fn push(out: &mut Vec<u8>, message: &Message) -> Option<()> {
    let start = out.len();
    let mut packer = Packer(std::mem::take(out));
    packer.0.extend_from_slice(&[0; HEADER_LEN]);
    pack(&mut packer, message);
    *out = packer.0;
    let len = out.len() - start - HEADER_LEN;
    let Some(stored) = u32::try_from(len).ok().filter(|_| len <= SPOOL_FRAME_LEN_MAX) else {
        out.truncate(start);
        return None;
    };
    out[start..start + 4].copy_from_slice(&stored.to_le_bytes());
    let sum = checksum(&[&stored.to_le_bytes(), &out[start + HEADER_LEN..]]);
    out[start + 4..start + HEADER_LEN].copy_from_slice(&sum.to_le_bytes());
    Some(())
}

/// Reads the frame at the beginning of the bytes.
pub(super) fn read(bytes: &[u8]) -> Found {
    let mut unpacker = Unpacker(bytes);
    let (Some(len), Some(sum)) = (unpacker.u32(), unpacker.u32()) else {
        return Found::End;
    };
    let body_len = len as usize;
    if body_len > SPOOL_FRAME_LEN_MAX || body_len == 0 {
        return Found::Damaged;
    }
    let Some(body) = unpacker.bytes(body_len) else {
        return Found::End;
    };
    if checksum(&[&len.to_le_bytes(), body]) != sum {
        return Found::Damaged;
    }
    match unpack(body) {
        Some(message) => Found::Message(Box::new(message), HEADER_LEN + body_len),
        None => Found::Damaged,
    }
}

fn pack(packer: &mut Packer, message: &Message) {
    packer.u8(VERSION);
    packer.text(message.device.as_str());
    match message.key {
        MessageKey::Sequence(id) => {
            packer.u8(0);
            packer.u32(id.session);
            packer.u32(id.sequence);
        }
        MessageKey::Digest(digest) => {
            packer.u8(1);
            packer.0.extend_from_slice(&digest);
        }
        MessageKey::Unkeyed => packer.u8(2),
    }
    packer.i64(message.received_ms);
    packer.option(message.detector.as_deref(), Packer::text);
    packer.count(message.readings.len());
    for reading in &message.readings {
        packer.text(&reading.channel);
        packer.text(&reading.unit);
        packer.i64(reading.time_ms);
        packer.f64(reading.value);
    }
}

fn unpack(body: &[u8]) -> Option<Message> {
    let mut unpacker = Unpacker(body);
    if unpacker.u8()? != VERSION {
        return None;
    }
    let device = DeviceId::parse(unpacker.text()?).ok()?;
    let key = match unpacker.u8()? {
        0 => {
            MessageKey::Sequence(MessageId { session: unpacker.u32()?, sequence: unpacker.u32()? })
        }
        1 => MessageKey::Digest(unpacker.array()?),
        2 => MessageKey::Unkeyed,
        _ => return None,
    };
    let received_ms = unpacker.i64()?;
    let detector = unpacker.option(|unpacker| unpacker.text().map(str::to_owned))?;
    let count = unpacker.count(READING_LEN_MIN)?;
    let mut readings = Vec::with_capacity(count);
    for _ in 0..count {
        readings.push(Reading {
            channel: Arc::from(unpacker.text()?),
            unit: Arc::from(unpacker.text()?),
            time_ms: unpacker.i64()?,
            value: unpacker.f64()?,
        });
    }
    let message = Message { device, key, received_ms, readings, detector };
    unpacker.0.is_empty().then_some(message)
}

/// CRC-32 (ISO-HDLC) over parts as if they were one.
fn checksum(parts: &[&[u8]]) -> u32 {
    const TABLE: [u32; 256] = table();
    let step = |sum: u32, &byte: &u8| sum >> 8 ^ TABLE[usize::from(sum as u8 ^ byte)];
    !parts.iter().flat_map(|part| part.iter()).fold(u32::MAX, step)
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The check value of the catalogue of parametrised CRC algorithms.
    #[test]
    fn the_checksum_is_that_of_the_catalogue() {
        assert_eq!(checksum(&[b"123456789"]), 0xcbf4_3926);
        assert_eq!(checksum(&[b"1234", b"", b"56789"]), 0xcbf4_3926);
    }

    fn message(key: MessageKey) -> Message {
        let reading = |channel: &str, unit: &str, value| Reading {
            channel: Arc::from(channel),
            unit: Arc::from(unit),
            time_ms: -5,
            value,
        };
        Message {
            device: DeviceId::parse("pump-7").expect("legal"),
            key,
            received_ms: 1_800_000_000_000,
            readings: vec![reading("température", "Cel", 21.25), reading("", "", f64::MIN)],
            detector: Some("fan 1".into()),
        }
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let id = MessageId { session: 7, sequence: u32::MAX };
        for key in [MessageKey::Sequence(id), MessageKey::Digest([9; 16]), MessageKey::Unkeyed] {
            let mut bytes = vec![1, 2, 3];
            push(&mut bytes, &message(key)).expect("short");
            match read(&bytes[3..]) {
                Found::Message(back, len) => {
                    assert_eq!((*back, len), (message(key), bytes.len() - 3));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_message_that_is_too_long_leaves_nothing() {
        let mut long = message(MessageKey::Unkeyed);
        long.readings = vec![long.readings[0].clone(); SPOOL_FRAME_LEN_MAX / READING_LEN_MIN];
        let mut bytes = vec![1];
        assert_eq!(push(&mut bytes, &long), None);
        assert_eq!(bytes, [1]);
    }

    proptest! {
        /// Every shortened frame is an end, every changed one is damaged or an end; none panics.
        #[test]
        fn damage_is_noticed(at in 0_usize..120, bit in 0_u8..8) {
            let mut bytes = Vec::new();
            push(&mut bytes, &message(MessageKey::Unkeyed)).expect("short");
            let at = at % bytes.len();
            prop_assert!(matches!(read(&bytes[..at]), Found::End));
            bytes[at] ^= 1 << bit;
            prop_assert!(!matches!(read(&bytes), Found::Message(..)));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = unpack(&bytes);
        }
    }
}
