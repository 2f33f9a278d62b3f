//! The two sides of the sealed session against each other and against vectors from elsewhere.

mod forgery;
mod simulation;
mod vectors;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use stonechat_core::link::frame::{Frame, HELLO_NOISE_LEN};
use stonechat_core::link::{HANDSHAKE_RANDOM_LEN, Link, PublicKey, SecretKey};
use tokio::sync::watch;

use super::responder::Refusal;
use super::session::Session;
use super::{Peer, Peers, Responder};
use crate::device::DeviceId;

pub(super) const SERVER_SECRET: [u8; 32] = [0x5e; 32];
pub(super) const PUMP_SECRET: [u8; 32] = [0x11; 32];
pub(super) const FAN_SECRET: [u8; 32] = [0x22; 32];

/// Keys that can be enrolled and revoked.
pub(super) struct KeyRing {
    keys: Mutex<HashMap<PublicKey, DeviceId>>,
    changes: watch::Sender<u64>,
}

impl KeyRing {
    pub(super) fn new() -> Arc<Self> {
        let ring = Self { keys: Mutex::default(), changes: watch::channel(0).0 };
        ring.enrol("pump", &PUMP_SECRET);
        ring.enrol("fan", &FAN_SECRET);
        Arc::new(ring)
    }

    pub(super) fn enrol(&self, device: &str, secret: &[u8; 32]) {
        self.keys.lock().insert(public(secret), id(device));
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn revoke(&self, secret: &[u8; 32]) {
        self.keys.lock().remove(&public(secret));
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Peers for KeyRing {
    fn by_link_key(&self, key: &PublicKey) -> Option<Peer> {
        let device = self.keys.lock().get(key)?.clone();
        Some(Peer { device, key: *key })
    }

    fn has_link_key(&self, device: &DeviceId) -> bool {
        self.keys.lock().values().any(|known| known == device)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

pub(super) fn id(name: &str) -> DeviceId {
    DeviceId::parse(name).expect("legal")
}

pub(super) fn public(secret: &[u8; 32]) -> PublicKey {
    SecretKey::from_bytes(*secret).public()
}

pub(super) fn responder(peers: Arc<KeyRing>) -> Responder {
    Responder::new(SERVER_SECRET, peers)
}

/// A device that pins the server's key.
pub(super) fn link(secret: &[u8; 32]) -> Link {
    Link::new(SecretKey::from_bytes(*secret), public(&SERVER_SECRET))
}

pub(super) fn noise_of(hello: &[u8]) -> (u32, &[u8; HELLO_NOISE_LEN]) {
    match Frame::parse(hello) {
        Ok(Frame::Hello { session, noise }) => (session, noise),
        other => panic!("not a hello: {other:?}"),
    }
}

pub(super) fn answer(responder: &Responder, hello: &[u8]) -> Result<(Session, Vec<u8>), Refusal> {
    let (session, noise) = noise_of(hello);
    responder.answer(session, noise).map(|(session, welcome)| (session, welcome.to_vec()))
}

/// Shakes hands; `seed` makes the session another one.
pub(super) fn established(responder: &Responder, secret: &[u8; 32], seed: u8) -> (Link, Session) {
    let mut link = link(secret);
    let hello = link.hello(0, [seed; HANDSHAKE_RANDOM_LEN]).expect("a key");
    let (session, mut welcome) = answer(responder, &hello).expect("enrolled");
    link.open(0, &mut welcome).expect("the server's own answer");
    (link, session)
}

pub(super) fn open(session: &mut Session, frame: &[u8]) -> Result<Vec<u8>, String> {
    match Frame::parse(frame) {
        Ok(Frame::Sealed { session: number, counter, sealed }) if number == session.number() => {
            let mut text = Vec::new();
            session.open(counter, sealed, &mut text).map_err(|error| error.to_string())?;
            Ok(text)
        }
        other => Err(format!("{other:?}")),
    }
}
