//! The device's half of the handshake, Noise IK as initiator.

use core::fmt;

use noise_protocol::{HandshakeState, U8Array, patterns};
use x25519_dalek::StaticSecret;

use super::frame::{HELLO_LEN, HELLO_NOISE_LEN, WELCOME_NOISE_LEN, hello};
use super::noise::{Blake2s, ChaChaPoly, Secret, X25519};
use super::{HANDSHAKE_RANDOM_LEN, KEY_LEN, LinkError, Session, prologue};

/// A public key of Curve25519.
pub type PublicKey = [u8; KEY_LEN];

/// A secret key of Curve25519; it is neither printed nor compared, and wiped when dropped.
#[derive(Clone)]
pub struct SecretKey(Secret<KEY_LEN>);

impl SecretKey {
    /// Takes 32 random bytes as a key.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(Secret(bytes))
    }

    /// Returns the public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        x25519_dalek::PublicKey::from(&StaticSecret::from(self.0.0)).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// A handshake whose answer is awaited.
pub struct Handshake {
    session: u32,
    state: HandshakeState<X25519, ChaChaPoly, Blake2s>,
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Handshake {
    /// Starts a handshake with the server that has the pinned key, and returns the hello to be
    /// sent. `random` is fresh for each handshake: whoever knows it reads the session.
    ///
    /// # Errors
    /// [`LinkError::WrongServer`] if the pinned key is no usable key at all.
    pub fn start(
        device: &SecretKey,
        server: &PublicKey,
        random: [u8; HANDSHAKE_RANDOM_LEN],
    ) -> Result<(Self, [u8; HELLO_LEN]), LinkError> {
        let random = Secret(random);
        let (ephemeral, session) = random.0.split_at(KEY_LEN);
        let session = session.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte));
        let mut state = HandshakeState::new(
            patterns::noise_ik(),
            true,
            prologue(session),
            Some(Secret(device.0.0)),
            Some(Secret::from_slice(ephemeral)),
            Some(*server),
            None,
        );
        let mut noise = [0; HELLO_NOISE_LEN];
        state.write_message(&[], &mut noise).map_err(|_| LinkError::WrongServer)?;
        Ok((Self { session, state }, hello(session, &noise)))
    }

    /// Returns the number of the session to be.
    #[must_use]
    pub fn session(&self) -> u32 {
        self.session
    }

    /// Takes the server's answer and returns the session.
    ///
    /// # Errors
    /// [`LinkError::WrongServer`] if whoever answered does not have the pinned key.
    pub fn finish(mut self, noise: &[u8; WELCOME_NOISE_LEN]) -> Result<Session, LinkError> {
        self.state.read_message(noise, &mut []).map_err(|_| LinkError::WrongServer)?;
        let (to_server, to_device) = self.state.get_ciphers();
        Ok(Session::new(self.session, to_server.extract().0, to_device.extract().0))
    }
}
