//! The sealed session: what a chip without room for TLS, or behind a foreign broker, speaks to the
//! server. Noise_IK_25519_ChaChaPoly_BLAKE2s (the Noise Protocol Framework, revision 34), the
//! device as initiator, with explicit counters and a replay window.
//!
//! A [`Link`] is the device's side as one state machine without I/O, clock or randomness: the
//! caller passes all three in. The server's side is another implementation; both share the
//! [`frame`]s, the [`message`]s within them, and the [`window`].
//!
//! What it gives: both sides know whom they speak to (the server's static key is pinned in the
//! device, the device's is enrolled at the server); contents are secret, whole and in no way
//! repeatable; a key that is stolen later opens nothing that was recorded before, as the keys of a
//! session come from ephemeral ones that both sides forget. A session is renewed by a fresh
//! handshake after [`SEALED_REKEY_TIME_MS`](crate::limits::SEALED_REKEY_TIME_MS) or
//! [`SEALED_REKEY_FRAMES`](crate::limits::SEALED_REKEY_FRAMES), not by Noise's own `REKEY`:
//! that would only move forward along a one-way function, so that whoever once had a session's key
//! would keep it, while a handshake shuts them out again.
//!
//! A first message of IK can be replayed by anybody who heard it. It therefore carries nothing, and
//! the server acts on nothing before the first frame of the new session opens: only the holder of
//! both the device's static and this handshake's ephemeral key can seal one.

pub mod frame;
mod handshake;
pub mod message;
mod noise;
mod session;
mod state;
pub mod window;

use core::fmt;

pub use handshake::{Handshake, PublicKey, SecretKey};
pub use session::Session;
pub use state::{Acknowledged, Event, Link};

/// Names the protocol and its version; both sides hash it, with the session's number, into the
/// handshake, so that no other version can be spoken into it.
pub const PROLOGUE: [u8; 18] = *b"stonechat sealed 1";
/// The bytes of a key.
pub const KEY_LEN: usize = 32;
/// The bytes of the tag behind every ciphertext.
pub const TAG_LEN: usize = 16;
/// The fresh random bytes that a handshake needs: an ephemeral key and a session's number.
pub const HANDSHAKE_RANDOM_LEN: usize = KEY_LEN + size_of::<u32>();

/// Returns the prologue of a session's handshake: [`PROLOGUE`] and the session's number.
#[must_use]
pub fn prologue(session: u32) -> [u8; PROLOGUE.len() + 4] {
    let mut prologue = [0; PROLOGUE.len() + 4];
    prologue[..PROLOGUE.len()].copy_from_slice(&PROLOGUE);
    prologue[PROLOGUE.len()..].copy_from_slice(&session.to_le_bytes());
    prologue
}

/// Why a frame was not opened, or not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// It is no frame.
    Malformed,
    /// It belongs to no session or handshake that is under way.
    UnknownSession,
    /// It was opened before, or is older than the window.
    Replayed,
    /// It does not open with the session's key: forged, damaged, or of another peer.
    Forged,
    /// The answer to a handshake does not prove that the peer has the pinned key.
    WrongServer,
    /// There is no session; the handshake comes first.
    NoSession,
    /// The session has run for too long or sealed too much; a handshake comes first.
    Exhausted,
    /// The buffer is too short.
    Full,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "no frame of a sealed session",
            Self::UnknownSession => "the frame belongs to no session that is under way",
            Self::Replayed => "the frame was taken in before, or is too old to tell",
            Self::Forged => "the frame does not open with the session's key",
            Self::WrongServer => "the server did not prove that it holds the pinned key",
            Self::NoSession => "there is no session yet",
            Self::Exhausted => "the session is used up and must be renewed",
            Self::Full => "no room for the frame",
        })
    }
}

impl core::error::Error for LinkError {}
