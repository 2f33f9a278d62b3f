//! The messages of one row of the tail, as stored until they are compacted.
//!
//! | part | bytes | content |
//! |---|---|---|
//! | device | varint | row of the device |
//! | kind of key | 1 | 0: session and sequence, 1: digest, 2: none |
//! | key | 2 varints, 16 or 0 | session and sequence, or digest |
//! | reception | varint, zigzag | unix milliseconds after the message before; after 0 for the first |
//! | count | varint | number of readings |
//! | readings | | see below |
//!
//! Each reading: channel row (varint), time after the message's reception in milliseconds
//! (zigzag varint), value (8 bytes, little-endian float).

use stonechat_core::wire::uplink::MessageId;

use super::varint;
use crate::store::MessageKey;

const KEY_SEQUENCE: u8 = 0;
const KEY_DIGEST: u8 = 1;
const KEY_NONE: u8 = 2;
/// The fewest bytes of a reading.
const READING_LEN_MIN: usize = 10;

/// One reading in the tail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TailReading {
    /// The row of the channel.
    pub(super) channel: i64,
    /// Unix milliseconds.
    pub(super) time_ms: i64,
    /// The value.
    pub(super) value: f64,
}

/// One message in the tail.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TailMessage {
    /// The row of the device.
    pub(super) device: i64,
    /// What makes it the same message.
    pub(super) key: MessageKey,
    /// Unix milliseconds.
    pub(super) received_ms: i64,
    /// What it says.
    pub(super) readings: Vec<TailReading>,
}

/// Packs messages.
#[derive(Debug, Default)]
pub(super) struct Packer {
    bytes: Vec<u8>,
    messages: usize,
    previous_ms: i64,
}

impl Packer {
    /// Appends a message.
    pub(super) fn push(
        &mut self,
        device: i64,
        key: MessageKey,
        received_ms: i64,
        readings: &[TailReading],
    ) {
        let bytes = &mut self.bytes;
        varint::push(bytes, device.cast_unsigned());
        match key {
            MessageKey::Sequence(id) => {
                bytes.push(KEY_SEQUENCE);
                varint::push(bytes, id.session.into());
                varint::push(bytes, id.sequence.into());
            }
            MessageKey::Digest(digest) => {
                bytes.push(KEY_DIGEST);
                bytes.extend(digest);
            }
            MessageKey::Unkeyed => bytes.push(KEY_NONE),
        }
        varint::push_signed(bytes, received_ms.wrapping_sub(self.previous_ms));
        varint::push(bytes, readings.len() as u64);
        for reading in readings {
            varint::push(bytes, reading.channel.cast_unsigned());
            varint::push_signed(bytes, reading.time_ms.wrapping_sub(received_ms));
            bytes.extend(reading.value.to_le_bytes());
        }
        self.previous_ms = received_ms;
        self.messages += 1;
    }

    /// Counts the bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Counts the messages.
    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    /// Returns the bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Begins anew, and keeps the room.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.messages = 0;
        self.previous_ms = 0;
    }
}

/// Reads all messages; `None` if the bytes are damaged.
pub(super) fn read(mut body: &[u8]) -> Option<Vec<TailMessage>> {
    let (mut messages, mut previous_ms) = (Vec::new(), 0_i64);
    while !body.is_empty() {
        let device = i64::try_from(varint::take(&mut body)?).ok()?;
        let key = key(&mut body)?;
        let received_ms = previous_ms.wrapping_add(varint::take_signed(&mut body)?);
        previous_ms = received_ms;
        let count = usize::try_from(varint::take(&mut body)?).ok()?;
        if count > body.len() / READING_LEN_MIN {
            return None;
        }
        let readings =
            (0..count).map(|_| reading(&mut body, received_ms)).collect::<Option<_>>()?;
        messages.push(TailMessage { device, key, received_ms, readings });
    }
    Some(messages)
}

fn key(body: &mut &[u8]) -> Option<MessageKey> {
    let (&kind, rest) = body.split_first()?;
    *body = rest;
    match kind {
        KEY_SEQUENCE => {
            let session = u32::try_from(varint::take(body)?).ok()?;
            let sequence = u32::try_from(varint::take(body)?).ok()?;
            Some(MessageKey::Sequence(MessageId { session, sequence }))
        }
        KEY_DIGEST => {
            let (digest, rest) = body.split_first_chunk()?;
            *body = rest;
            Some(MessageKey::Digest(*digest))
        }
        KEY_NONE => Some(MessageKey::Unkeyed),
        _ => None,
    }
}

fn reading(body: &mut &[u8], received_ms: i64) -> Option<TailReading> {
    let channel = i64::try_from(varint::take(body)?).ok()?;
    let after_ms = varint::take_signed(body)?;
    let (value, rest) = body.split_first_chunk()?;
    *body = rest;
    let time_ms = received_ms.wrapping_add(after_ms);
    Some(TailReading { channel, time_ms, value: f64::from_le_bytes(*value) })
}

/// Reads the readings of a message as the first schemas stored them, one after the other.
pub(super) fn read_plain(mut body: &[u8], received_ms: i64) -> Option<Vec<TailReading>> {
    let mut readings = Vec::with_capacity(body.len() / READING_LEN_MIN);
    while !body.is_empty() {
        readings.push(reading(&mut body, received_ms)?);
    }
    Some(readings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_key() -> impl Strategy<Value = MessageKey> {
        prop_oneof![
            (any::<u32>(), any::<u32>()).prop_map(|(session, sequence)| MessageId {
                session,
                sequence
            }
            .into()),
            any::<[u8; 16]>().prop_map(MessageKey::Digest),
            Just(MessageKey::Unkeyed),
        ]
    }

    fn any_reading() -> impl Strategy<Value = TailReading> {
        (0_i64..i64::MAX, any::<i64>(), -1e300_f64..1e300)
            .prop_map(|(channel, time_ms, value)| TailReading { channel, time_ms, value })
    }

    fn any_message() -> impl Strategy<Value = TailMessage> {
        let readings = prop::collection::vec(any_reading(), 0..20);
        (0_i64..i64::MAX, any_key(), any::<i64>(), readings).prop_map(
            |(device, key, received_ms, readings)| TailMessage {
                device,
                key,
                received_ms,
                readings,
            },
        )
    }

    fn pack(messages: &[TailMessage]) -> Packer {
        let mut packer = Packer::default();
        for message in messages {
            packer.push(message.device, message.key, message.received_ms, &message.readings);
        }
        packer
    }

    proptest! {
        #[test]
        fn messages_come_back(messages in prop::collection::vec(any_message(), 0..10)) {
            let mut packer = pack(&messages);
            prop_assert_eq!(packer.messages(), messages.len());
            prop_assert_eq!(read(packer.bytes()), Some(messages.clone()));
            packer.clear();
            prop_assert_eq!(packer.len(), 0);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes);
            let _ = read_plain(&bytes, 0);
        }

        #[test]
        fn a_cut_body_is_noticed(message in any_message(), cut in any::<prop::sample::Index>()) {
            let packer = pack(&[message]);
            let cut = cut.index(packer.len());
            prop_assert!(cut == 0 || read(&packer.bytes()[..cut]).is_none());
        }
    }
}
