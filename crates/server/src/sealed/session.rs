//! The server's side of a session: opens frames and seals answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use snow::StatelessTransportState;
use stonechat_core::limits::{SEALED_SESSION_FRAMES_MAX, SEALED_SESSION_TIME_MAX_MS};
use stonechat_core::link::frame::{SEALED_HEADER_LEN, sealed_header};
use stonechat_core::link::window::ReplayWindow;
use stonechat_core::link::{LinkError, TAG_LEN};

use super::Peer;

/// A session: its half that opens frames.
pub struct Session {
    sealer: Arc<Sealer>,
    peer: Peer,
    window: ReplayWindow,
    since: Instant,
    confirmed: bool,
}

/// The half of a session that seals answers.
pub struct Sealer {
    number: u32,
    transport: StatelessTransportState,
    next: AtomicU64,
}

impl Session {
    pub(super) fn new(number: u32, peer: Peer, transport: StatelessTransportState) -> Self {
        let sealer = Sealer { number, transport, next: AtomicU64::new(0) };
        Self {
            sealer: Arc::new(sealer),
            peer,
            window: ReplayWindow::default(),
            since: Instant::now(),
            confirmed: false,
        }
    }

    /// Returns the session's number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.sealer.number
    }

    /// Returns who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Returns the half that seals.
    #[must_use]
    pub fn sealer(&self) -> &Arc<Sealer> {
        &self.sealer
    }

    /// Tells whether the peer has proved, by a frame that opened, that this handshake was its own
    /// and not the replay of an old one.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Tells whether the session is too old to be used.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.since.elapsed() >= Duration::from_millis(SEALED_SESSION_TIME_MAX_MS)
    }

    /// Opens a frame's ciphertext and appends its message to `text`.
    ///
    /// # Errors
    /// Why it means nothing; the session goes on as if the frame had not come.
    pub fn open(
        &mut self,
        counter: u64,
        sealed: &[u8],
        text: &mut Vec<u8>,
    ) -> Result<(), LinkError> {
        if counter >= SEALED_SESSION_FRAMES_MAX || self.is_over() {
            return Err(LinkError::Exhausted);
        }
        if !self.window.is_new(counter) {
            return Err(LinkError::Replayed);
        }
        let len = sealed.len().checked_sub(TAG_LEN).ok_or(LinkError::Malformed)?;
        let start = text.len();
        text.resize(start + len, 0);
        if self.sealer.transport.read_message(counter, sealed, &mut text[start..]).is_err() {
            text.truncate(start);
            return Err(LinkError::Forged);
        }
        self.window.mark(counter);
        self.confirmed = true;
        Ok(())
    }
}

impl Sealer {
    /// Seals a message and appends the frame to `out`.
    ///
    /// # Errors
    /// [`LinkError::Exhausted`] if the session is used up.
    pub fn seal(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), LinkError> {
        let counter = self.next.fetch_add(1, Ordering::Relaxed);
        if counter >= SEALED_SESSION_FRAMES_MAX {
            return Err(LinkError::Exhausted);
        }
        out.extend_from_slice(&sealed_header(self.number, counter));
        let start = out.len();
        out.resize(start + message.len() + TAG_LEN, 0);
        let sealed = self.transport.write_message(counter, message, &mut out[start..]);
        if sealed.is_err() {
            out.truncate(start - SEALED_HEADER_LEN);
            return Err(LinkError::Full);
        }
        Ok(())
    }
}
