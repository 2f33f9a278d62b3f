//! What clients send, by MQTT 3.1.1 (OASIS, 2014) and MQTT 5.0 (OASIS, 2019), in one shape.
//!
//! The crate `rmqtt-codec` takes packets apart; here stands what it leaves open: whole packets
//! only, bounds before anything is kept, and the rules by which a packet is malformed.

use std::num::NonZeroU16;

use rmqtt_codec::error::DecodeError;
use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::{DisconnectReasonCode, ToReasonCode};
use rmqtt_codec::{v3, v5};
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::Decoder as _;

use crate::limits::{MQTT_CONNECT_LEN_MAX, MQTT_PACKET_LEN_MAX};

/// The version that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.0.
    V5,
}

/// A packet from a client.
#[derive(Debug)]
pub enum Incoming {
    /// It wants in.
    Connect(Box<Connect>),
    /// It publishes.
    Publish(Box<Publish>),
    /// It has a message that was sent to it.
    PublishAck {
        /// Which one.
        packet_id: NonZeroU16,
        /// Whether it took it.
        taken: bool,
    },
    /// It knows that a message of quality 2 arrived, and forgets it.
    PublishRelease {
        /// Which one.
        packet_id: NonZeroU16,
    },
    /// It wants to hear.
    Subscribe {
        /// To be answered under this number.
        packet_id: NonZeroU16,
        /// What, and with which quality at most.
        filters: Vec<(String, QoS)>,
    },
    /// It no longer wants to hear.
    Unsubscribe {
        /// To be answered under this number.
        packet_id: NonZeroU16,
        /// What.
        filters: Vec<String>,
    },
    /// It lives.
    Ping,
    /// It says good-bye.
    Disconnect,
}

/// Who wants in, as it says itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// The version that it speaks.
    pub version: Version,
    /// The client identifier; may be empty.
    pub client_id: String,
    /// The user name.
    pub user_name: Option<String>,
    /// The password.
    pub password: Option<Bytes>,
    /// Where its last will goes.
    pub will_topic: Option<String>,
    /// Whether the last will is to be retained.
    pub will_retained: bool,
    /// The longest pause between its packets in seconds; 0 for any.
    pub keep_alive_s: u16,
    /// How many messages of quality 1 it takes at one time without acknowledging.
    pub receive_max: u16,
    /// The longest packet that it takes; 0 for any.
    pub packet_len_max: u32,
    /// Whether it wants an authentication other than by certificate or token.
    pub enhanced_authentication: bool,
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("user_name", &self.user_name)
            .field("will_topic", &self.will_topic)
            .finish_non_exhaustive()
    }
}

/// Why a client's bytes are no legal packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// They do not begin like MQTT: nothing is answered.
    #[error("no MQTT")]
    NotMqtt,
    /// A version that is not spoken here.
    #[error("MQTT level {0} is not spoken here; 4 (3.1.1) and 5 are")]
    Version(u8),
    /// The packet breaks the format.
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    /// The packet is legal, but not now, or not with this.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// The packet is longer than announced.
    #[error("packet of {0} bytes, too long")]
    TooLong(usize),
    /// Topic aliases are not announced.
    #[error("a topic alias, though none may be used")]
    TopicAlias,
    /// Subscription identifiers are not announced.
    #[error("a subscription identifier, though none may be used")]
    SubscriptionId,
}

impl Fault {
    /// Returns what an MQTT 5 client is told (section 3.14.2.1).
    #[must_use]
    pub fn reason(self) -> DisconnectReasonCode {
        match self {
            Self::NotMqtt | Self::Version(_) | Self::Protocol(_) => {
                DisconnectReasonCode::ProtocolError
            }
            Self::Malformed(_) => DisconnectReasonCode::MalformedPacket,
            Self::TooLong(_) => DisconnectReasonCode::PacketTooLarge,
            Self::TopicAlias => DisconnectReasonCode::TopicAliasInvalid,
            Self::SubscriptionId => DisconnectReasonCode::SubscriptionIdentifiersNotSupported,
        }
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::InvalidProtocol => Self::NotMqtt,
            DecodeError::MaxSizeExceeded { size, .. } => Self::TooLong(size as usize),
            DecodeError::Utf8Error => Self::Malformed("text that is not UTF-8"),
            DecodeError::InvalidLength => Self::Malformed("lengths do not fit"),
            DecodeError::UnsupportedPacketType => Self::Malformed("unknown packet type or flags"),
            DecodeError::InvalidTopicName | DecodeError::InvalidTopicFilter => {
                Self::Protocol("no topic")
            }
            DecodeError::InvalidClientId => Self::Protocol("no client identifier"),
            error => match error.to_reason_code() {
                DisconnectReasonCode::ProtocolError => Self::Protocol("a bit that must not be set"),
                _ => Self::Malformed("a value that is not allowed"),
            },
        }
    }
}

/// Takes the bytes of one client apart.
#[derive(Debug)]
pub struct Decoder {
    codec: Codec,
}

#[derive(Debug)]
enum Codec {
    /// Nothing came yet.
    Unknown,
    V3(v3::Codec),
    V5(v5::Codec),
}

impl Default for Decoder {
    fn default() -> Self {
        Self { codec: Codec::Unknown }
    }
}

impl Decoder {
    /// Takes the next packet from the front of `buffer`, or `None` while it is not whole.
    ///
    /// # Errors
    /// [`Fault`]; nothing after it can be understood.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Incoming>, Fault> {
        let Some((first, frame)) = frame(buffer)? else {
            return Ok(None);
        };
        if matches!(self.codec, Codec::Unknown) {
            if first != CONNECT {
                return Err(Fault::NotMqtt);
            }
            if frame.whole_len() > MQTT_CONNECT_LEN_MAX {
                return Err(Fault::TooLong(frame.whole_len()));
            }
            let Some(codec) = Codec::of(&buffer[frame.header_len..])? else {
                return Ok(None);
            };
            self.codec = codec;
        } else if frame.whole_len() > MQTT_PACKET_LEN_MAX {
            return Err(Fault::TooLong(frame.whole_len()));
        }
        if buffer.len() < frame.whole_len() {
            return Ok(None);
        }
        match &mut self.codec {
            Codec::Unknown => Err(Fault::NotMqtt),
            Codec::V3(codec) => {
                if matches!(first, PING | DISCONNECT) && frame.rest_len > 0 {
                    return Err(Fault::Malformed("a packet without content has some"));
                }
                codec.decode(buffer)?.map(|(packet, _)| of_v3(packet)).transpose()
            }
            Codec::V5(codec) => {
                if first == PING && frame.rest_len > 0 {
                    return Err(Fault::Malformed("a packet without content has some"));
                }
                codec.decode(buffer)?.map(|(packet, _)| of_v5(packet)).transpose()
            }
        }
    }

    /// Returns the version that the client speaks, once that is known.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        match self.codec {
            Codec::Unknown => None,
            Codec::V3(_) => Some(Version::V3),
            Codec::V5(_) => Some(Version::V5),
        }
    }
}

/// Takes a whole stream apart, as a connection does, and counts its packets: for tests and fuzzing.
///
/// # Errors
/// The first [`Fault`].
pub fn packets_of(stream: &[u8]) -> Result<usize, Fault> {
    let (mut decoder, mut buffer, mut packets) = (Decoder::default(), BytesMut::from(stream), 0);
    while decoder.next(&mut buffer)?.is_some() {
        packets += 1;
    }
    Ok(packets)
}

const CONNECT: u8 = 0x10;
const PING: u8 = 0xc0;
const DISCONNECT: u8 = 0xe0;
/// The bytes that a length may take (section 2.2.3 of 3.1.1, 1.5.5 of 5.0).
const LENGTH_BYTES_MAX: usize = 4;

struct Frame {
    /// The first byte and the length.
    header_len: usize,
    /// What follows.
    rest_len: usize,
}

impl Frame {
    fn whole_len(&self) -> usize {
        self.header_len + self.rest_len
    }
}

/// Reads a packet's first byte and its length.
fn frame(buffer: &[u8]) -> Result<Option<(u8, Frame)>, Fault> {
    let Some((&first, rest)) = buffer.split_first() else {
        return Ok(None);
    };
    let mut rest_len = 0;
    for (at, &byte) in rest.iter().take(LENGTH_BYTES_MAX).enumerate() {
        rest_len |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((first, Frame { header_len: at + 2, rest_len })));
        }
    }
    if rest.len() >= LENGTH_BYTES_MAX {
        return Err(Fault::Malformed("a length of more than four bytes"));
    }
    Ok(None)
}

impl Codec {
    /// Finds the version in a CONNECT packet without its header: name and level (section 3.1.2).
    fn of(connect: &[u8]) -> Result<Option<Self>, Fault> {
        const NAME: &[u8] = b"\0\x04MQTT";
        const OLD_NAME: &[u8] = b"\0\x06MQIsdp";
        if connect.starts_with(OLD_NAME) {
            return Err(Fault::Version(3));
        }
        let known = connect.len().min(NAME.len());
        if connect[..known] != NAME[..known] && !OLD_NAME.starts_with(connect) {
            return Err(Fault::NotMqtt);
        }
        match connect.get(NAME.len()) {
            None => Ok(None),
            Some(4) => Ok(Some(Self::V3(v3::Codec::new(MQTT_PACKET_LEN_MAX as u32)))),
            Some(5) => Ok(Some(Self::V5(v5::Codec::new(MQTT_PACKET_LEN_MAX as u32, 0)))),
            Some(&level) => Err(Fault::Version(level)),
        }
    }
}

fn of_v3(packet: v3::Packet) -> Result<Incoming, Fault> {
    match packet {
        v3::Packet::Connect(connect) => {
            let connect = *connect;
            if connect.password.is_some() && connect.username.is_none() {
                return Err(Fault::Malformed("a password without a user name"));
            }
            let (will_topic, will_retained) = match connect.last_will {
                Some(will) => (Some(text(&will.topic)?), will.retain),
                None => (None, false),
            };
            Ok(Incoming::Connect(Box::new(Connect {
                version: Version::V3,
                client_id: text(&connect.client_id)?,
                user_name: connect.username.as_deref().map(text).transpose()?,
                password: connect.password,
                will_topic,
                will_retained,
                keep_alive_s: connect.keep_alive,
                receive_max: u16::MAX,
                packet_len_max: 0,
                enhanced_authentication: false,
            })))
        }
        v3::Packet::Publish(publish) => of_publish(publish),
        v3::Packet::PublishAck { packet_id } => Ok(Incoming::PublishAck { packet_id, taken: true }),
        v3::Packet::PublishRelease { packet_id } => Ok(Incoming::PublishRelease { packet_id }),
        v3::Packet::Subscribe { packet_id, topic_filters } => {
            let filters = topic_filters.iter().map(|(filter, qos)| Ok((text(filter)?, *qos)));
            Ok(Incoming::Subscribe { packet_id, filters: filters.collect::<Result<_, Fault>>()? })
        }
        v3::Packet::Unsubscribe { packet_id, topic_filters } => {
            let filters = topic_filters.iter().map(|filter| text(filter));
            Ok(Incoming::Unsubscribe { packet_id, filters: filters.collect::<Result<_, Fault>>()? })
        }
        v3::Packet::PingRequest => Ok(Incoming::Ping),
        v3::Packet::Disconnect => Ok(Incoming::Disconnect),
        // Nothing is sent with quality 2, so that nothing of it can be answered.
        v3::Packet::ConnectAck(_)
        | v3::Packet::PublishReceived { .. }
        | v3::Packet::PublishComplete { .. }
        | v3::Packet::SubscribeAck { .. }
        | v3::Packet::UnsubscribeAck { .. }
        | v3::Packet::PingResponse => Err(Fault::Protocol("a packet that clients do not send")),
    }
}

fn of_v5(packet: v5::Packet) -> Result<Incoming, Fault> {
    match packet {
        v5::Packet::Connect(connect) => {
            let connect = *connect;
            let (will_topic, will_retained) = match connect.last_will {
                Some(will) => (Some(text(&will.topic)?), will.retain),
                None => (None, false),
            };
            Ok(Incoming::Connect(Box::new(Connect {
                version: Version::V5,
                client_id: text(&connect.client_id)?,
                user_name: connect.username.as_deref().map(text).transpose()?,
                password: connect.password,
                will_topic,
                will_retained,
                keep_alive_s: connect.keep_alive,
                receive_max: connect.receive_max.map_or(u16::MAX, NonZeroU16::get),
                packet_len_max: connect.max_packet_size.map_or(0, std::num::NonZeroU32::get),
                enhanced_authentication: connect.auth_method.is_some(),
            })))
        }
        v5::Packet::Publish(publish) => {
            let properties = publish.properties.as_ref();
            if properties.is_some_and(|properties| properties.topic_alias.is_some()) {
                return Err(Fault::TopicAlias);
            }
            if properties.is_some_and(|properties| !properties.subscription_ids.is_empty()) {
                return Err(Fault::Protocol("a subscription identifier in a client's message"));
            }
            of_publish(publish)
        }
        v5::Packet::PublishAck(ack) => Ok(Incoming::PublishAck {
            packet_id: ack.packet_id,
            taken: u8::from(ack.reason_code) < FAILURE,
        }),
        v5::Packet::PublishRelease(release) => {
            Ok(Incoming::PublishRelease { packet_id: release.packet_id })
        }
        v5::Packet::Subscribe(subscribe) => {
            if subscribe.id.is_some() {
                return Err(Fault::SubscriptionId);
            }
            let filters = subscribe.topic_filters.iter();
            let filters = filters.map(|(filter, options)| Ok((text(filter)?, options.qos)));
            Ok(Incoming::Subscribe {
                packet_id: subscribe.packet_id,
                filters: filters.collect::<Result<_, Fault>>()?,
            })
        }
        v5::Packet::Unsubscribe(unsubscribe) => {
            let filters = unsubscribe.topic_filters.iter().map(|filter| text(filter));
            Ok(Incoming::Unsubscribe {
                packet_id: unsubscribe.packet_id,
                filters: filters.collect::<Result<_, Fault>>()?,
            })
        }
        v5::Packet::PingRequest => Ok(Incoming::Ping),
        v5::Packet::Disconnect(_) => Ok(Incoming::Disconnect),
        v5::Packet::Auth(_) => Err(Fault::Protocol("an authentication that was not begun")),
        v5::Packet::ConnectAck(_)
        | v5::Packet::PublishReceived(_)
        | v5::Packet::PublishComplete(_)
        | v5::Packet::SubscribeAck(_)
        | v5::Packet::UnsubscribeAck(_)
        | v5::Packet::PingResponse => Err(Fault::Protocol("a packet that clients do not send")),
    }
}

/// Reason codes from here on are failures (MQTT 5 section 2.4).
const FAILURE: u8 = 0x80;

fn of_publish(publish: Box<Publish>) -> Result<Incoming, Fault> {
    if publish.dup && publish.qos == QoS::AtMostOnce {
        return Err(Fault::Malformed("a message of quality 0 that is sent again"));
    }
    if publish.topic.is_empty() {
        return Err(Fault::Protocol("no topic"));
    }
    if publish.topic.contains(['#', '+', '\0']) {
        return Err(Fault::Malformed("a wildcard or zero in a topic"));
    }
    Ok(Incoming::Publish(publish))
}

/// Takes a text in which no zero may stand (section 1.5.3 of 3.1.1, 1.5.4 of 5.0).
fn text(text: &str) -> Result<String, Fault> {
    if text.contains('\0') { Err(Fault::Malformed("a zero in a text")) } else { Ok(text.into()) }
}
