//! Answers handshakes: Noise IK as responder.

use std::sync::Arc;

use snow::params::NoiseParams;
use stonechat_core::link::frame::{HELLO_NOISE_LEN, WELCOME_LEN, WELCOME_NOISE_LEN, welcome};
use stonechat_core::link::{PublicKey, SecretKey, prologue};

use super::crypto::Accelerated;
use super::session::Session;
use super::{Peer, Peers};

const PROTOCOL: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";

/// Why a handshake is refused; for the log, not for the peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The hello does not open with the server's key.
    #[error("the hello is damaged, or meant for a server with another key")]
    Unreadable,
    /// Nobody, or nobody any more, has enrolled this key.
    #[error("no device has enrolled the key {0}, or it was revoked")]
    UnknownKey(String),
    /// The key belongs to another device than the topic.
    #[error("the topic is another device's than the key, which is {0}'s")]
    ForeignTopic(String),
}

/// Answers handshakes with the server's static key.
pub struct Responder {
    secret: [u8; 32],
    public: PublicKey,
    peers: Arc<dyn Peers>,
    params: NoiseParams,
}

impl Responder {
    /// Makes a responder of the server's static secret key.
    ///
    /// # Panics
    /// Never: the protocol's name is a constant that is tested.
    #[must_use]
    pub fn new(secret: [u8; 32], peers: Arc<dyn Peers>) -> Self {
        let params = PROTOCOL.parse().expect("a protocol that this build has");
        Self { secret, public: SecretKey::from_bytes(secret).public(), peers, params }
    }

    /// Returns the key that devices pin.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Returns who may have sessions.
    #[must_use]
    pub fn peers(&self) -> &Arc<dyn Peers> {
        &self.peers
    }

    /// Answers a hello: the session, which is not confirmed yet, and the welcome to be sent.
    ///
    /// # Errors
    /// Why there is none.
    pub fn answer(
        &self,
        session: u32,
        hello: &[u8; HELLO_NOISE_LEN],
    ) -> Result<(Session, [u8; WELCOME_LEN]), Refusal> {
        self.answer_with(session, hello, None)
    }

    /// Answers with a given ephemeral key if there is one, for test vectors.
    pub(super) fn answer_with(
        &self,
        session: u32,
        hello: &[u8; HELLO_NOISE_LEN],
        ephemeral: Option<&[u8; 32]>,
    ) -> Result<(Session, [u8; WELCOME_LEN]), Refusal> {
        let unreadable = |_| Refusal::Unreadable;
        let prologue = prologue(session);
        let mut builder = snow::Builder::with_resolver(self.params.clone(), Box::new(Accelerated))
            .local_private_key(&self.secret)
            .and_then(|builder| builder.prologue(&prologue))
            .map_err(unreadable)?;
        if let Some(ephemeral) = ephemeral {
            builder = builder.fixed_ephemeral_key_for_testing_only(ephemeral);
        }
        let mut state = builder.build_responder().map_err(unreadable)?;
        state.read_message(hello, &mut []).map_err(unreadable)?;
        let key: PublicKey = state
            .get_remote_static()
            .and_then(|key| key.try_into().ok())
            .ok_or(Refusal::Unreadable)?;
        let peer = self.peers.by_link_key(&key);
        let peer: Peer = peer.ok_or_else(|| Refusal::UnknownKey(hex(&key)))?;
        let mut noise = [0; WELCOME_NOISE_LEN];
        state.write_message(&[], &mut noise).map_err(unreadable)?;
        let transport = state.into_stateless_transport_mode().map_err(unreadable)?;
        Ok((Session::new(session, peer, transport), welcome(session, &noise)))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
