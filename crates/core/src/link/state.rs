//! The device's side of a sealed link as one state machine: handshakes and their repetition,
//! sealing, opening, and which messages an acknowledgement frees.

use super::frame::{Frame, HELLO_LEN, SEALED_HEADER_LEN};
use super::message::{KEEP_ALIVE, Message, Runs, UPLINK};
use super::{HANDSHAKE_RANDOM_LEN, Handshake, LinkError, PublicKey, SecretKey, Session};
use crate::limits::{
    OUTBOX_SLOTS_MAX, SEALED_HANDSHAKE_WAIT_MAX_MS, SEALED_HANDSHAKE_WAIT_MS, SEALED_REKEY_FRAMES,
    SEALED_REKEY_TIME_MS, SEALED_SESSION_TIME_MAX_MS,
};

/// What a frame of the server brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is a new session. What was not acknowledged goes out again
    /// ([`Device::disconnected`](crate::device::Device::disconnected)), and a first frame,
    /// if only a keep-alive, tells the server that the session is genuine.
    Established,
    /// Messages are done with.
    Acknowledged(Acknowledged),
    /// The server takes nothing in from this device: it does not know the device's key, or is not
    /// the server whose key is pinned. Anybody on the way can say so; go on with handshakes
    /// unless it stays so.
    Rejected,
    /// Nothing that a device needs to act on.
    Ignored,
}

/// The messages that an acknowledgement frees, by the sequences that [`Link::seal_message`] got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    sequences: [u32; OUTBOX_SLOTS_MAX],
    len: usize,
}

impl Acknowledged {
    /// Returns the sequences.
    #[must_use]
    pub fn sequences(&self) -> &[u32] {
        &self.sequences[..self.len]
    }
}

struct Established {
    session: Session,
    since_ms: u64,
    /// The server says that it does not know this session.
    doubtful: bool,
}

struct Pending {
    handshake: Handshake,
    since_ms: u64,
}

/// The device's side of a sealed link.
pub struct Link {
    device: SecretKey,
    server: PublicKey,
    established: Option<Established>,
    pending: Option<Pending>,
    /// Handshakes in a row without an answer.
    attempts: u32,
    last_attempt_ms: Option<u64>,
    /// Counter and sequence of messages that are not acknowledged.
    in_flight: [Option<(u64, u32)>; OUTBOX_SLOTS_MAX],
}

impl core::fmt::Debug for Link {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let session = self.established.as_ref().map(|established| &established.session);
        f.debug_struct("Link").field("session", &session).finish_non_exhaustive()
    }
}

impl Link {
    /// Makes the link of a device with its own key and the pinned one of the server.
    #[must_use]
    pub fn new(device: SecretKey, server: PublicKey) -> Self {
        Self {
            device,
            server,
            established: None,
            pending: None,
            attempts: 0,
            last_attempt_ms: None,
            in_flight: [None; OUTBOX_SLOTS_MAX],
        }
    }

    /// Tells whether a handshake is due: there is no session, or it is to be renewed, and the last
    /// attempt was long enough ago. Times are milliseconds of any clock that does not go back.
    #[must_use]
    pub fn needs_handshake(&self, now_ms: u64) -> bool {
        let wanted = self.established.as_ref().is_none_or(|established| {
            established.doubtful
                || established.session.next_counter() >= SEALED_REKEY_FRAMES
                || now_ms.saturating_sub(established.since_ms) >= SEALED_REKEY_TIME_MS
        });
        wanted
            && self.last_attempt_ms.is_none_or(|last_ms| {
                let doublings = self.attempts.saturating_sub(1).min(16);
                let wait_ms = SEALED_HANDSHAKE_WAIT_MS << doublings;
                now_ms.saturating_sub(last_ms) >= wait_ms.min(SEALED_HANDSHAKE_WAIT_MAX_MS)
            })
    }

    /// Starts a handshake and returns the hello to be sent; a session that is there goes on until
    /// the answer comes. `random` must be fresh each time.
    ///
    /// # Errors
    /// [`LinkError::WrongServer`] if the pinned key is no usable key at all.
    pub fn hello(
        &mut self,
        now_ms: u64,
        random: [u8; HANDSHAKE_RANDOM_LEN],
    ) -> Result<[u8; HELLO_LEN], LinkError> {
        let (handshake, hello) = Handshake::start(&self.device, &self.server, random)?;
        self.pending = Some(Pending { handshake, since_ms: now_ms });
        self.attempts = self.attempts.saturating_add(1);
        self.last_attempt_ms = Some(now_ms);
        Ok(hello)
    }

    /// Tells whether messages can be sealed.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.established.is_some()
    }

    /// Ends session and handshake, after the connection that carried them was lost.
    pub fn disconnected(&mut self) {
        (self.established, self.pending) = (None, None);
        (self.attempts, self.last_attempt_ms) = (0, None);
        self.in_flight = [None; OUTBOX_SLOTS_MAX];
    }

    /// Seals an uplink message; `sequence` names it in the acknowledgement. Returns the frame's
    /// length.
    ///
    /// # Errors
    /// [`LinkError::NoSession`], [`LinkError::Exhausted`] or [`LinkError::Full`].
    pub fn seal_message(
        &mut self,
        now_ms: u64,
        sequence: u32,
        message: &[u8],
        out: &mut [u8],
    ) -> Result<usize, LinkError> {
        let slot = self.slot(sequence).ok_or(LinkError::Full)?;
        let (counter, len) = self.seal(now_ms, UPLINK, message, out)?;
        self.in_flight[slot] = Some((counter, sequence));
        Ok(len)
    }

    /// Seals a frame that says nothing but that the device is there. Returns its length.
    ///
    /// # Errors
    /// As [`Link::seal_message`].
    pub fn seal_keep_alive(&mut self, now_ms: u64, out: &mut [u8]) -> Result<usize, LinkError> {
        Ok(self.seal(now_ms, KEEP_ALIVE, &[], out)?.1)
    }

    /// Takes a frame of the server in; it is opened in place.
    ///
    /// # Errors
    /// Why it means nothing; over MQTT such frames are ignored, over TCP they end the connection.
    /// [`LinkError::WrongServer`] stands out: whoever answered the handshake is not the server
    /// whose key is pinned.
    pub fn open(&mut self, now_ms: u64, frame: &mut [u8]) -> Result<Event, LinkError> {
        match Frame::parse(frame)? {
            Frame::Welcome { session, noise } => {
                let expected =
                    self.pending.take_if(|pending| pending.handshake.session() == session);
                let Pending { handshake, since_ms } = expected.ok_or(LinkError::UnknownSession)?;
                let session = handshake.finish(noise)?;
                // From the hello on: the server counts from then, too.
                self.established = Some(Established { session, since_ms, doubtful: false });
                self.in_flight = [None; OUTBOX_SLOTS_MAX];
                self.attempts = 0;
                Ok(Event::Established)
            }
            Frame::Sealed { session, counter, .. } => {
                let established = self
                    .established
                    .as_mut()
                    .filter(|established| established.session.number() == session)
                    .ok_or(LinkError::UnknownSession)?;
                if now_ms.saturating_sub(established.since_ms) >= SEALED_SESSION_TIME_MAX_MS {
                    return Err(LinkError::Exhausted);
                }
                let text = established.session.open(counter, &mut frame[SEALED_HEADER_LEN..])?;
                match Message::parse(text)? {
                    Message::Acknowledgement(runs) => {
                        Ok(Event::Acknowledged(acknowledge(&mut self.in_flight, &runs)))
                    }
                    _ => Ok(Event::Ignored),
                }
            }
            Frame::Rejected { session } => self.rejected(session),
            Frame::Hello { .. } => Err(LinkError::Malformed),
        }
    }

    fn rejected(&mut self, session: u32) -> Result<Event, LinkError> {
        let of_handshake =
            self.pending.take_if(|pending| pending.handshake.session() == session).is_some();
        let established =
            self.established.as_mut().filter(|established| established.session.number() == session);
        match established {
            _ if of_handshake => Ok(Event::Rejected),
            // It may have been restarted, or somebody else says so: the session goes on until
            // a handshake has told.
            Some(established) => {
                established.doubtful = true;
                Ok(Event::Ignored)
            }
            None => Err(LinkError::UnknownSession),
        }
    }

    fn seal(
        &mut self,
        now_ms: u64,
        kind: u8,
        body: &[u8],
        out: &mut [u8],
    ) -> Result<(u64, usize), LinkError> {
        let established = self.established.as_mut().ok_or(LinkError::NoSession)?;
        if now_ms.saturating_sub(established.since_ms) >= SEALED_SESSION_TIME_MAX_MS {
            return Err(LinkError::Exhausted);
        }
        established.session.seal(kind, body, out)
    }

    /// Finds the place of a message in flight: its own if it was sent before, else an empty one.
    fn slot(&self, sequence: u32) -> Option<usize> {
        let own = |slot: &Option<(u64, u32)>| slot.is_some_and(|(_, sent)| sent == sequence);
        self.in_flight
            .iter()
            .position(own)
            .or_else(|| self.in_flight.iter().position(Option::is_none))
    }
}

fn acknowledge(
    in_flight: &mut [Option<(u64, u32)>; OUTBOX_SLOTS_MAX],
    runs: &Runs<'_>,
) -> Acknowledged {
    let mut acknowledged = Acknowledged { sequences: [0; OUTBOX_SLOTS_MAX], len: 0 };
    for slot in in_flight {
        if let Some((_, sequence)) = slot.take_if(|(counter, _)| runs.contains(*counter)) {
            acknowledged.sequences[acknowledged.len] = sequence;
            acknowledged.len += 1;
        }
    }
    acknowledged
}
