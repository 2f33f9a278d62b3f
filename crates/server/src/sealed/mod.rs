//! The server's side of sealed sessions ([`stonechat_core::link`] is the device's and has the byte
//! tables): frames come in over TCP ([`tcp`]) or on MQTT topics ([`topics`]), of our own broker or
//! of a foreign one ([`foreign`]). A [`responder`] answers handshakes and knows by its static key
//! which device it is; a [`session`] opens frames; what they say is taken in as one batch and
//! acknowledged by one sealed acknowledgement after the commit.
//!
//! The peer of a refused handshake or frame learns "rejected" and nothing else; why is in the log.

mod batch;
mod crypto;
pub mod foreign;
mod front;
mod rate;
pub mod responder;
pub mod session;
pub mod tcp;
pub mod topics;

use stonechat_core::link::PublicKey;
use tokio::sync::watch;

use crate::device::DeviceId;
use crate::identity::Directory;

pub use self::crypto::open_rate;
pub use self::front::{SealedError, SealedFront};
pub use self::responder::Responder;

/// A device that proved to have an enrolled key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Which one.
    pub device: DeviceId,
    /// Its static key.
    pub key: PublicKey,
}

/// Who may have sealed sessions.
pub trait Peers: Send + Sync + 'static {
    /// Finds the device to which a static key belongs now.
    fn by_link_key(&self, key: &PublicKey) -> Option<Peer>;
    /// Tells whether there is such a device that has a key at all, so that nothing is kept of
    /// others.
    fn has_link_key(&self, device: &DeviceId) -> bool;
    /// Changes whenever keys may have been enrolled or revoked.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Tells whether a device's key still holds.
    fn is_current(&self, peer: &Peer) -> bool {
        self.by_link_key(&peer.key).is_some_and(|current| current.device == peer.device)
    }
}

impl Peers for Directory {
    fn by_link_key(&self, key: &PublicKey) -> Option<Peer> {
        self.by_link_key(key).map(|admission| Peer { device: admission.device, key: *key })
    }

    fn has_link_key(&self, device: &DeviceId) -> bool {
        self.device(device.as_str()).is_some_and(|entry| !entry.link_keys.is_empty())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes()
    }
}

#[cfg(test)]
mod tests;
