//! A session's keys, counters and window.

use core::fmt;

use super::frame::{SEALED_HEADER_LEN, SEALED_OVERHEAD, sealed_header};
use super::noise::{Secret, open, seal};
use super::window::ReplayWindow;
use super::{KEY_LEN, LinkError, TAG_LEN};
use crate::limits::{SEALED_FRAME_LEN_MAX, SEALED_SESSION_FRAMES_MAX};

/// The device's side of a session.
pub struct Session {
    number: u32,
    sending: Secret<KEY_LEN>,
    receiving: Secret<KEY_LEN>,
    next: u64,
    window: ReplayWindow,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("number", &self.number)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(number: u32, sending: Secret<KEY_LEN>, receiving: Secret<KEY_LEN>) -> Self {
        Self { number, sending, receiving, next: 0, window: ReplayWindow::default() }
    }

    /// Returns the session's number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Returns the counter of the next frame to be sealed, which is how many were.
    #[must_use]
    pub fn next_counter(&self) -> u64 {
        self.next
    }

    /// Skips counters, as if so many more frames were sealed: a counter never comes again, but not
    /// each has to come.
    pub fn skip(&mut self, frames: u64) {
        self.next = self.next.saturating_add(frames);
    }

    /// Seals a message of a kind into `out`, and returns the frame's counter and length.
    ///
    /// # Errors
    /// [`LinkError::Exhausted`] after [`SEALED_SESSION_FRAMES_MAX`] frames, [`LinkError::Full`] if
    /// `out` or the longest frame is too short.
    pub fn seal(
        &mut self,
        kind: u8,
        body: &[u8],
        out: &mut [u8],
    ) -> Result<(u64, usize), LinkError> {
        let counter = self.next;
        if counter >= SEALED_SESSION_FRAMES_MAX {
            return Err(LinkError::Exhausted);
        }
        let text_len = 1 + body.len();
        let len = SEALED_OVERHEAD + text_len;
        if len > SEALED_FRAME_LEN_MAX {
            return Err(LinkError::Full);
        }
        let frame = out.get_mut(..len).ok_or(LinkError::Full)?;
        // The counter is spent, whatever happens to the frame.
        self.next += 1;
        let (header, rest) = frame.split_at_mut(SEALED_HEADER_LEN);
        header.copy_from_slice(&sealed_header(self.number, counter));
        let (text, tag) = rest.split_at_mut(text_len);
        text[0] = kind;
        text[1..].copy_from_slice(body);
        seal(&self.sending, counter, &[], text, tag);
        Ok((counter, len))
    }

    /// Opens a sealed frame in place and returns its message.
    ///
    /// # Errors
    /// [`LinkError::Exhausted`], [`LinkError::Replayed`] or [`LinkError::Forged`]; the session goes
    /// on as if the frame had not come.
    pub fn open<'b>(&mut self, counter: u64, sealed: &'b mut [u8]) -> Result<&'b [u8], LinkError> {
        if counter >= SEALED_SESSION_FRAMES_MAX {
            return Err(LinkError::Exhausted);
        }
        if !self.window.is_new(counter) {
            return Err(LinkError::Replayed);
        }
        let len = sealed.len().checked_sub(TAG_LEN).ok_or(LinkError::Malformed)?;
        let (text, tag) = sealed.split_at_mut(len);
        open(&self.receiving, counter, &[], text, tag).map_err(|()| LinkError::Forged)?;
        self.window.mark(counter);
        Ok(text)
    }
}
