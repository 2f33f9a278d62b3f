//! Why a connection ends.

use std::fmt;

use rmqtt_codec::v5::DisconnectReasonCode;

use super::packet::Fault;

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The client closed it, or the network did.
    Closed,
    /// The client said good-bye.
    GoodBye,
    /// Nothing came for longer than announced.
    Silent,
    /// The client does not take what it is sent.
    Stuck,
    /// What came is not legal.
    Fault(Fault),
    /// A topic on which the device may not publish.
    ForeignTopic,
    /// A message to be retained.
    Retain,
    /// More messages in flight than announced.
    TooManyInFlight,
    /// The same device connected again.
    TakenOver,
    /// Its certificate or token is no longer good.
    Revoked,
    /// The store failed.
    NotStored,
    /// The server ends.
    Stopping,
}

impl Ending {
    /// Tells whether the client broke the rules.
    pub(super) fn is_fault(self) -> bool {
        matches!(self, Self::Fault(_) | Self::ForeignTopic | Self::Retain | Self::TooManyInFlight)
    }

    /// Returns what an MQTT 5 client is told (section 3.14.2.1); nothing where nobody listens.
    pub(super) fn reason(self) -> Option<DisconnectReasonCode> {
        Some(match self {
            Self::Closed | Self::GoodBye | Self::Stuck | Self::Fault(Fault::NotMqtt) => {
                return None;
            }
            Self::Silent => DisconnectReasonCode::KeepAliveTimeout,
            Self::Fault(fault) => fault.reason(),
            Self::ForeignTopic | Self::Revoked => DisconnectReasonCode::NotAuthorized,
            Self::Retain => DisconnectReasonCode::RetainNotSupported,
            Self::TooManyInFlight => DisconnectReasonCode::ReceiveMaximumExceeded,
            Self::TakenOver => DisconnectReasonCode::SessionTakenOver,
            Self::NotStored => DisconnectReasonCode::ServerBusy,
            Self::Stopping => DisconnectReasonCode::ServerShuttingDown,
        })
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Closed => "the client closed the connection",
            Self::GoodBye => "the client said good-bye",
            Self::Silent => "nothing came for one and a half times the keep-alive",
            Self::Stuck => "the client takes nothing",
            Self::Fault(fault) => return fault.fmt(f),
            Self::ForeignTopic => "a message outside the device's topics",
            Self::Retain => "a retained message, though none are kept",
            Self::TooManyInFlight => "more messages in flight than announced",
            Self::TakenOver => "another connection of the device took over",
            Self::Revoked => "the device's certificate or token is no longer good",
            Self::NotStored => "the store failed",
            Self::Stopping => "the server ends",
        };
        f.write_str(text)
    }
}
