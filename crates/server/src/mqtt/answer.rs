//! What clients are sent, in the version that they speak.

use std::num::NonZeroU16;

use rmqtt_codec::error::EncodeError;
use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::{
    ConnectAckReason, DisconnectReasonCode, PublishAck2Reason, PublishAckReason,
    SubscribeAckReason, UnsubscribeAckReason,
};
use rmqtt_codec::{v3, v5};
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::Encoder as _;

use super::packet::{Fault, Version};
use crate::limits::{MQTT_IN_FLIGHT_MAX, MQTT_PACKET_LEN_MAX};

/// Why a client does not get in, as far as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is not who it claims to be, or may not do what it announces.
    NotAuthorized,
    /// It wants another way of proving who it is.
    Method,
    /// Its last will is to be retained.
    Retain,
    /// The server ends.
    Unavailable,
    /// Its packet is not legal.
    Fault(Fault),
}

impl Refusal {
    fn reason(self) -> ConnectAckReason {
        match self {
            Self::NotAuthorized => ConnectAckReason::NotAuthorized,
            Self::Method => ConnectAckReason::BadAuthenticationMethod,
            Self::Retain => ConnectAckReason::RetainNotSupported,
            Self::Unavailable => ConnectAckReason::ServerUnavailable,
            Self::Fault(Fault::Version(_)) => ConnectAckReason::UnsupportedProtocolVersion,
            Self::Fault(Fault::TooLong(_)) => ConnectAckReason::PacketTooLarge,
            Self::Fault(Fault::Malformed(_)) => ConnectAckReason::MalformedPacket,
            Self::Fault(_) => ConnectAckReason::ProtocolError,
        }
    }

    /// Version 3.1.1 has few codes (section 3.2.2.3), and none for a packet that is not legal.
    fn old_reason(self) -> Option<v3::ConnectAckReason> {
        match self {
            Self::NotAuthorized | Self::Method | Self::Retain => {
                Some(v3::ConnectAckReason::NotAuthorized)
            }
            Self::Unavailable => Some(v3::ConnectAckReason::ServiceUnavailable),
            Self::Fault(Fault::Version(_)) => {
                Some(v3::ConnectAckReason::UnacceptableProtocolVersion)
            }
            Self::Fault(_) => None,
        }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receipt {
    /// It is stored, or was before.
    Stored,
    /// It can never be stored.
    Rejected,
    /// It may not be published there.
    NotAuthorized,
}

impl Receipt {
    pub(super) fn is_failure(self) -> bool {
        self != Self::Stored
    }

    fn reason(self) -> PublishAckReason {
        match self {
            Self::Stored => PublishAckReason::Success,
            Self::Rejected => PublishAckReason::PayloadFormatInvalid,
            Self::NotAuthorized => PublishAckReason::NotAuthorized,
        }
    }
}

/// What became of a wish to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// Granted with this quality.
    Granted(QoS),
    /// Refused.
    Refused(SubscribeAckReason),
}

/// Collects what one client is sent next.
#[derive(Debug)]
pub(super) struct Answers {
    codec: Codec,
    /// The longest packet that the client takes.
    packet_len_max: usize,
    bytes: BytesMut,
}

#[derive(Debug)]
enum Codec {
    V3(v3::Codec),
    V5(v5::Codec),
}

impl Answers {
    /// Speaks a version; `packet_len_max` of 0 stands for any length. The codec's own bound is
    /// not used: its sums run below zero when the client's is shorter than a header.
    pub(super) fn new(version: Version, packet_len_max: u32) -> Self {
        let codec = match version {
            Version::V3 => Codec::V3(v3::Codec::new(0)),
            Version::V5 => Codec::V5(v5::Codec::new(0, 0)),
        };
        let packet_len_max = match packet_len_max {
            0 => usize::MAX,
            bound => bound as usize,
        };
        Self { codec, packet_len_max, bytes: BytesMut::new() }
    }

    /// Returns what waits.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets what was sent; the memory of a connection that waits goes back.
    pub(super) fn clear(&mut self) {
        self.bytes = BytesMut::new();
    }

    pub(super) fn welcome(&mut self, assigned_id: Option<&str>) {
        self.push(
            || {
                v3::Packet::ConnectAck(v3::ConnectAck {
                    return_code: v3::ConnectAckReason::ConnectionAccepted,
                    session_present: false,
                })
            },
            || {
                v5::Packet::ConnectAck(Box::new(v5::ConnectAck {
                    receive_max: NonZeroU16::new(MQTT_IN_FLIGHT_MAX).unwrap_or(NonZeroU16::MIN),
                    max_packet_size: Some(MQTT_PACKET_LEN_MAX as u32),
                    assigned_client_id: assigned_id.map(Into::into),
                    session_expiry_interval_secs: Some(0),
                    retain_available: false,
                    subscription_identifiers_available: false,
                    shared_subscription_available: false,
                    ..v5::ConnectAck::default()
                }))
            },
        );
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        match &self.codec {
            Codec::V3(_) => {
                let Some(return_code) = refusal.old_reason() else { return };
                let ack = v3::ConnectAck { return_code, session_present: false };
                self.push_v3(v3::Packet::ConnectAck(ack));
            }
            Codec::V5(_) => {
                let reason_code = refusal.reason();
                let ack = v5::ConnectAck { reason_code, ..v5::ConnectAck::default() };
                self.push_v5(v5::Packet::ConnectAck(Box::new(ack)));
            }
        }
    }

    /// Acknowledges a message of quality 1. Version 3.1.1 has no refusals: what can never be
    /// stored would come again for ever.
    pub(super) fn acknowledge(&mut self, packet_id: NonZeroU16, receipt: Receipt) {
        self.push(
            || v3::Packet::PublishAck { packet_id },
            || v5::Packet::PublishAck(publish_ack(packet_id, receipt)),
        );
    }

    /// Acknowledges a message of quality 2 for the first time.
    pub(super) fn receive(&mut self, packet_id: NonZeroU16, receipt: Receipt) {
        self.push(
            || v3::Packet::PublishReceived { packet_id },
            || v5::Packet::PublishReceived(publish_ack(packet_id, receipt)),
        );
    }

    /// Acknowledges a message of quality 2 for the second time.
    pub(super) fn complete(&mut self, packet_id: NonZeroU16, known: bool) {
        let reason_code =
            if known { PublishAck2Reason::Success } else { PublishAck2Reason::PacketIdNotFound };
        self.push(
            || v3::Packet::PublishComplete { packet_id },
            || {
                v5::Packet::PublishComplete(v5::PublishAck2 {
                    packet_id,
                    reason_code,
                    properties: Vec::new(),
                    reason_string: None,
                })
            },
        );
    }

    pub(super) fn subscribed(&mut self, packet_id: NonZeroU16, grants: &[Grant]) {
        let old = |grant: &Grant| match *grant {
            Grant::Granted(qos) => v3::SubscribeReturnCode::Success(qos),
            Grant::Refused(_) => v3::SubscribeReturnCode::Failure,
        };
        let new = |grant: &Grant| match *grant {
            Grant::Granted(QoS::AtMostOnce) => SubscribeAckReason::GrantedQos0,
            Grant::Granted(_) => SubscribeAckReason::GrantedQos1,
            Grant::Refused(reason) => reason,
        };
        self.push(
            || v3::Packet::SubscribeAck { packet_id, status: grants.iter().map(old).collect() },
            || {
                v5::Packet::SubscribeAck(v5::SubscribeAck {
                    packet_id,
                    properties: Vec::new(),
                    reason_string: None,
                    status: grants.iter().map(new).collect(),
                })
            },
        );
    }

    /// Answers which of the subscriptions there were.
    pub(super) fn unsubscribed(&mut self, packet_id: NonZeroU16, existed: &[bool]) {
        let reason = |&existed: &bool| match existed {
            true => UnsubscribeAckReason::Success,
            false => UnsubscribeAckReason::NoSubscriptionExisted,
        };
        self.push(
            || v3::Packet::UnsubscribeAck { packet_id },
            || {
                v5::Packet::UnsubscribeAck(v5::UnsubscribeAck {
                    packet_id,
                    properties: Vec::new(),
                    reason_string: None,
                    status: existed.iter().map(reason).collect(),
                })
            },
        );
    }

    pub(super) fn pong(&mut self) {
        self.push(|| v3::Packet::PingResponse, || v5::Packet::PingResponse);
    }

    /// Says good-bye; in version 3.1.1 servers just close.
    pub(super) fn disconnect(&mut self, reason: DisconnectReasonCode) {
        if matches!(self.codec, Codec::V5(_)) {
            self.push_v5(v5::Packet::Disconnect(v5::Disconnect::new(reason)));
        }
    }

    /// Sends a message, with quality 1 if there is a number for it; `false` if it is longer than
    /// the client takes.
    pub(super) fn publish(
        &mut self,
        topic: &str,
        payload: Bytes,
        packet_id: Option<NonZeroU16>,
    ) -> bool {
        let qos = if packet_id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        let publish = Box::new(Publish {
            dup: false,
            retain: false,
            qos,
            topic: topic.into(),
            packet_id,
            payload,
            properties: None,
        });
        match self.codec {
            Codec::V3(_) => self.push_v3(v3::Packet::Publish(publish)),
            Codec::V5(_) => self.push_v5(v5::Packet::Publish(publish)),
        }
    }

    fn push(&mut self, old: impl FnOnce() -> v3::Packet, new: impl FnOnce() -> v5::Packet) -> bool {
        match self.codec {
            Codec::V3(_) => self.push_v3(old()),
            Codec::V5(_) => self.push_v5(new()),
        }
    }

    fn push_v3(&mut self, packet: v3::Packet) -> bool {
        let Codec::V3(codec) = &mut self.codec else { return false };
        let before = self.bytes.len();
        let encoded = codec.encode(packet, &mut self.bytes);
        self.keep_if(&encoded, before)
    }

    fn push_v5(&mut self, packet: v5::Packet) -> bool {
        let Codec::V5(codec) = &mut self.codec else { return false };
        let before = self.bytes.len();
        let encoded = codec.encode(packet, &mut self.bytes);
        self.keep_if(&encoded, before)
    }

    /// A client that takes only shorter packets goes without (MQTT 5 section 3.1.2.11.4).
    fn keep_if(&mut self, encoded: &Result<(), EncodeError>, before: usize) -> bool {
        let fits = encoded.is_ok() && self.bytes.len() - before <= self.packet_len_max;
        if !fits {
            self.bytes.truncate(before);
        }
        fits
    }
}

fn publish_ack(packet_id: NonZeroU16, receipt: Receipt) -> v5::PublishAck {
    v5::PublishAck {
        packet_id,
        reason_code: receipt.reason(),
        properties: Vec::new(),
        reason_string: None,
    }
}
