//! Frames, as they travel in an MQTT message, or over TCP behind their length (two bytes).
//!
//! All numbers are little-endian. The session's number is drawn by the device for each handshake;
//! it tells the sessions of one device apart where frames can be lost, repeated or late.
//!
//! | frame | offset | bytes | field |
//! |---|---|---|---|
//! | all | 0 | 1 | version, 1 |
//! | | 1 | 1 | type |
//! | | 2 | 4 | session's number |
//! | hello, type 1, 102 bytes, device to server | 6 | 32 | ephemeral public key |
//! | | 38 | 32 + 16 | device's static public key, sealed |
//! | | 86 | 16 | tag of the empty payload |
//! | welcome, type 2, 54 bytes, server to device | 6 | 32 | ephemeral public key |
//! | | 38 | 16 | tag of the empty payload |
//! | sealed, type 3, 31 bytes and more, both ways | 6 | 8 | counter, from 0, the nonce |
//! | | 14 | 1 and more | a [`message`](super::message), sealed |
//! | | end - 16 | 16 | tag |
//! | rejected, type 4, 6 bytes, server to device | | | nothing more: why is in the server's log |
//!
//! Hello and welcome are the two messages of Noise IK with empty payloads. A sealed frame's
//! additional data is empty: version and type are fixed, another session has another key, and the
//! counter is the nonce, so that no byte can change and the frame still open.

use super::{LinkError, TAG_LEN};
use crate::limits::SEALED_FRAME_LEN_MAX;

/// The version of the frames.
pub const VERSION: u8 = 1;
/// The bytes before a frame over TCP: its length.
pub const LENGTH_LEN: usize = 2;
/// The bytes of a frame's version, type and session.
pub const HEADER_LEN: usize = 6;
/// The bytes of Noise IK's first message with an empty payload.
pub const HELLO_NOISE_LEN: usize = 96;
/// The bytes of Noise IK's second message with an empty payload.
pub const WELCOME_NOISE_LEN: usize = 48;
/// The bytes of a hello.
pub const HELLO_LEN: usize = HEADER_LEN + HELLO_NOISE_LEN;
/// The bytes of a welcome.
pub const WELCOME_LEN: usize = HEADER_LEN + WELCOME_NOISE_LEN;
/// The bytes of a sealed frame before its ciphertext.
pub const SEALED_HEADER_LEN: usize = HEADER_LEN + 8;
/// The bytes of a sealed frame besides what it says.
pub const SEALED_OVERHEAD: usize = SEALED_HEADER_LEN + TAG_LEN;
/// The bytes of a rejection.
pub const REJECTED_LEN: usize = HEADER_LEN;

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const SEALED: u8 = 3;
const REJECTED: u8 = 4;

/// A frame, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A device asks for a session.
    Hello {
        /// The session's number.
        session: u32,
        /// Noise IK's first message.
        noise: &'a [u8; HELLO_NOISE_LEN],
    },
    /// The server answers.
    Welcome {
        /// The session's number.
        session: u32,
        /// Noise IK's second message.
        noise: &'a [u8; WELCOME_NOISE_LEN],
    },
    /// A sealed message.
    Sealed {
        /// The session's number.
        session: u32,
        /// Counts the frames of one direction.
        counter: u64,
        /// Ciphertext and tag, at least a byte and a tag.
        sealed: &'a [u8],
    },
    /// The server takes nothing in from here.
    Rejected {
        /// The session's number.
        session: u32,
    },
}

impl<'a> Frame<'a> {
    /// Takes a frame apart.
    ///
    /// # Errors
    /// [`LinkError::Malformed`] if it is none.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, LinkError> {
        if bytes.len() > SEALED_FRAME_LEN_MAX {
            return Err(LinkError::Malformed);
        }
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(LinkError::Malformed)?;
        let [version, kind, session @ ..] = *header;
        if version != VERSION {
            return Err(LinkError::Malformed);
        }
        let session = u32::from_le_bytes(session);
        match kind {
            HELLO => {
                let noise = rest.try_into().map_err(|_| LinkError::Malformed)?;
                Ok(Self::Hello { session, noise })
            }
            WELCOME => {
                let noise = rest.try_into().map_err(|_| LinkError::Malformed)?;
                Ok(Self::Welcome { session, noise })
            }
            SEALED => {
                let (counter, sealed) = rest.split_first_chunk().ok_or(LinkError::Malformed)?;
                if sealed.len() <= TAG_LEN {
                    return Err(LinkError::Malformed);
                }
                Ok(Self::Sealed { session, counter: u64::from_le_bytes(*counter), sealed })
            }
            REJECTED if rest.is_empty() => Ok(Self::Rejected { session }),
            _ => Err(LinkError::Malformed),
        }
    }

    /// Returns the session's number.
    #[must_use]
    pub fn session(&self) -> u32 {
        match *self {
            Self::Hello { session, .. }
            | Self::Welcome { session, .. }
            | Self::Sealed { session, .. }
            | Self::Rejected { session } => session,
        }
    }
}

/// Returns the hello of a session.
#[must_use]
pub fn hello(session: u32, noise: &[u8; HELLO_NOISE_LEN]) -> [u8; HELLO_LEN] {
    let mut frame = [0; HELLO_LEN];
    frame[..HEADER_LEN].copy_from_slice(&header(HELLO, session));
    frame[HEADER_LEN..].copy_from_slice(noise);
    frame
}

/// Returns the welcome of a session.
#[must_use]
pub fn welcome(session: u32, noise: &[u8; WELCOME_NOISE_LEN]) -> [u8; WELCOME_LEN] {
    let mut frame = [0; WELCOME_LEN];
    frame[..HEADER_LEN].copy_from_slice(&header(WELCOME, session));
    frame[HEADER_LEN..].copy_from_slice(noise);
    frame
}

/// Returns the rejection of a session.
#[must_use]
pub fn rejected(session: u32) -> [u8; REJECTED_LEN] {
    header(REJECTED, session)
}

/// Returns what stands before the ciphertext of a sealed frame.
#[must_use]
pub fn sealed_header(session: u32, counter: u64) -> [u8; SEALED_HEADER_LEN] {
    let mut frame = [0; SEALED_HEADER_LEN];
    frame[..HEADER_LEN].copy_from_slice(&header(SEALED, session));
    frame[HEADER_LEN..].copy_from_slice(&counter.to_le_bytes());
    frame
}

fn header(kind: u8, session: u32) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = session.to_le_bytes();
    [VERSION, kind, a, b, c, d]
}

/// What stands at the beginning of a stream of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimited {
    /// A whole frame: its place in the stream; the next one begins at its end.
    Whole(usize, usize),
    /// The frame's end is still to come.
    Partial,
}

/// Finds the next frame of a stream, `from` bytes after its beginning.
///
/// # Errors
/// [`LinkError::Malformed`] for a length that no frame has: the stream cannot be followed on.
pub fn delimit(stream: &[u8], from: usize) -> Result<Delimited, LinkError> {
    let rest = stream.get(from..).unwrap_or(&[]);
    let Some((length, rest)) = rest.split_first_chunk::<LENGTH_LEN>() else {
        return Ok(Delimited::Partial);
    };
    let length = usize::from(u16::from_le_bytes(*length));
    if !(HEADER_LEN..=SEALED_FRAME_LEN_MAX).contains(&length) {
        return Err(LinkError::Malformed);
    }
    if rest.len() < length {
        return Ok(Delimited::Partial);
    }
    let start = from + LENGTH_LEN;
    Ok(Delimited::Whole(start, start + length))
}

/// Returns the length that goes before a frame over TCP.
#[must_use]
pub fn length(frame: &[u8]) -> [u8; LENGTH_LEN] {
    // No frame is longer than SEALED_FRAME_LEN_MAX, which 16 bits hold.
    (frame.len() as u16).to_le_bytes()
}
