//! Sealed sessions on MQTT topics: a device publishes frames on `stonechat/v1/DEVICE/sealed/up` and
//! hears the answers on `stonechat/v1/DEVICE/sealed/down`.
//!
//! The broker between may be somebody else's: it may drop, repeat, reorder, hold back or make up
//! frames, and all it gets from it is that frames are lost. Its acknowledgements mean nothing here;
//! only the sealed one does. It sees the device's identity in the topic, how long frames are, and
//! when they come.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use stonechat_core::link::LinkError;
use stonechat_core::link::frame::{Frame, HELLO_NOISE_LEN, rejected};
use tracing::{debug, info};

use super::batch::{Batch, acknowledge};
use super::rate::{Bucket, Buckets, Rate};
use super::responder::{Refusal, Responder};
use super::session::{Sealer, Session};
use crate::device::DeviceId;
use crate::ingest::Ingest;
use crate::limits::{
    SEALED_HANDSHAKES_AT_ONCE, SEALED_HANDSHAKES_PER_DEVICE_AT_ONCE,
    SEALED_HANDSHAKES_PER_DEVICE_PER_S, SEALED_HANDSHAKES_PER_S, SEALED_PENDING_PER_DEVICE_MAX,
    SEALED_PRUNE_INTERVAL, SEALED_REJECTIONS_PER_DEVICE_PER_S, SEALED_SOURCES_MAX,
};

/// The filter under which the frames of all devices come.
pub const FILTER: &str = "stonechat/v1/+/sealed/up";
/// What follows a device's own prefix where it sends frames.
pub const UP: &str = "sealed/up";
/// What follows a device's own prefix where it hears answers.
pub const DOWN: &str = "sealed/down";

const HANDSHAKES: Rate = Rate { per_s: SEALED_HANDSHAKES_PER_S, burst: SEALED_HANDSHAKES_AT_ONCE };
const HANDSHAKES_PER_DEVICE: Rate =
    Rate { per_s: SEALED_HANDSHAKES_PER_DEVICE_PER_S, burst: SEALED_HANDSHAKES_PER_DEVICE_AT_ONCE };
const REJECTIONS: Rate = Rate { per_s: SEALED_REJECTIONS_PER_DEVICE_PER_S, burst: 1.0 };

/// Returns the device whose frames come on a topic.
#[must_use]
pub fn device_of(topic: &str) -> Option<DeviceId> {
    let device = topic.strip_prefix("stonechat/v1/")?.strip_suffix("/sealed/up")?;
    DeviceId::parse(device).ok()
}

/// Returns the topic on which a device hears answers.
#[must_use]
pub fn down_of(device: &DeviceId) -> String {
    format!("stonechat/v1/{device}/{DOWN}")
}

/// The sessions of all devices on topics.
pub struct Topics {
    responder: Arc<Responder>,
    ingest: Arc<Ingest>,
    state: Mutex<State>,
}

struct State {
    devices: HashMap<DeviceId, Sessions>,
    handshakes: Bucket,
    handshakes_per_device: Buckets<DeviceId>,
    rejections: Buckets<DeviceId>,
    pruned: Instant,
}

#[derive(Default)]
struct Sessions {
    current: Option<Session>,
    /// Not confirmed yet. Anybody may bring old hellos up again: the newest few are kept, beside
    /// the current session, which goes on until one of them proves genuine.
    pending: VecDeque<Session>,
}

/// A frame for a device.
pub type Answer = (DeviceId, Vec<u8>);

/// Messages of the sessions to which the frames of one call belonged.
#[derive(Default)]
struct Batches {
    places: HashMap<(DeviceId, u32), usize>,
    batches: Vec<(DeviceId, Arc<Sealer>, Batch)>,
}

impl Topics {
    /// Makes the sessions' table; it is empty.
    #[must_use]
    pub fn new(responder: Arc<Responder>, ingest: Arc<Ingest>) -> Self {
        let now = Instant::now();
        let state = State {
            devices: HashMap::new(),
            handshakes: Bucket::new(HANDSHAKES, now),
            handshakes_per_device: Buckets::new(HANDSHAKES_PER_DEVICE, SEALED_SOURCES_MAX),
            rejections: Buckets::new(REJECTIONS, SEALED_SOURCES_MAX),
            pruned: now,
        };
        Self { responder, ingest, state: Mutex::new(state) }
    }

    /// Takes frames in that came on devices' topics, in their order, and returns the answers. What
    /// they say is stored as one batch before it is acknowledged.
    pub async fn take_all(&self, frames: &[(DeviceId, &[u8])]) -> Vec<Answer> {
        self.take_all_at(frames, Instant::now()).await
    }

    pub(super) async fn take_all_at(
        &self,
        frames: &[(DeviceId, &[u8])],
        now: Instant,
    ) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut batches = Batches::default();
        {
            let state = &mut *self.state.lock();
            let mut text = Vec::new();
            for (device, frame) in frames {
                let taken = self.take(state, device, frame, &mut text, &mut batches, now);
                answers.extend(taken.map(|answer| (device.clone(), answer)));
            }
        }
        let committed = batches.batches.into_iter().map(|(device, sealer, batch)| async {
            (device, sealer, batch.commit(&self.ingest).await.0)
        });
        for (device, sealer, counters) in futures_util::future::join_all(committed).await {
            acknowledge(&sealer, &counters, |frame| answers.push((device.clone(), frame.to_vec())));
        }
        answers
    }

    /// Takes one frame in; what it says waits in `batches`.
    fn take(
        &self,
        state: &mut State,
        device: &DeviceId,
        frame: &[u8],
        text: &mut Vec<u8>,
        batches: &mut Batches,
        now: Instant,
    ) -> Option<Vec<u8>> {
        match Frame::parse(frame) {
            Ok(Frame::Hello { session, noise }) => self.hello(state, device, session, noise, now),
            Ok(Frame::Sealed { session, counter, sealed }) => {
                match self.open(state, device, session, counter, sealed, text) {
                    Ok(sealer) => {
                        let batch = batches.of(device, session, sealer);
                        batch.push(&self.ingest, device, counter, text);
                        None
                    }
                    Err(reason @ (LinkError::UnknownSession | LinkError::Exhausted)) => {
                        // After a restart of ours the device must learn that it has to start over.
                        debug!(%device, session, %reason, "a sealed frame was ignored");
                        self.rejection(state, device, session, now)
                    }
                    Err(reason) => {
                        debug!(%device, session, %reason, "a sealed frame was ignored");
                        None
                    }
                }
            }
            // Our own answers come back where the filter is too wide.
            Ok(Frame::Welcome { .. } | Frame::Rejected { .. }) => None,
            Err(reason) => {
                debug!(%device, %reason, "a sealed frame was ignored");
                None
            }
        }
    }

    fn hello(
        &self,
        state: &mut State,
        device: &DeviceId,
        session: u32,
        noise: &[u8; HELLO_NOISE_LEN],
        now: Instant,
    ) -> Option<Vec<u8>> {
        if !self.responder.peers().has_link_key(device) {
            debug!(%device, "a handshake on the topic of no such device was refused");
            return Some(rejected(session).to_vec());
        }
        let known = |sessions: &Sessions| sessions.knows(session);
        if state.devices.get(device).is_some_and(known) {
            // Doubled on its way, or said again by somebody else: the first answer counts, and
            // no session may be pushed aside by its own hello.
            debug!(%device, session, "a hello came again and was ignored");
            return None;
        }
        if !state.handshakes_per_device.take(device.clone(), now)
            || !state.handshakes.take(HANDSHAKES, now)
        {
            // In silence, so that nobody takes it for a verdict.
            debug!(%device, "too many handshakes; one was ignored");
            return None;
        }
        state.prune(now);
        let answered = self.responder.answer(session, noise).and_then(|(session, welcome)| {
            let own = session.peer().device == *device;
            let foreign = || Refusal::ForeignTopic(session.peer().device.to_string());
            if own { Ok((session, welcome)) } else { Err(foreign()) }
        });
        match answered {
            Ok((session, welcome)) => {
                let sessions = state.devices.entry(device.clone()).or_default();
                if sessions.pending.len() >= SEALED_PENDING_PER_DEVICE_MAX {
                    sessions.pending.pop_front();
                }
                sessions.pending.push_back(session);
                Some(welcome.to_vec())
            }
            Err(reason) => {
                info!(%device, %reason, "a sealed handshake was refused");
                Some(rejected(session).to_vec())
            }
        }
    }

    fn open(
        &self,
        state: &mut State,
        device: &DeviceId,
        number: u32,
        counter: u64,
        sealed: &[u8],
        text: &mut Vec<u8>,
    ) -> Result<Arc<Sealer>, LinkError> {
        let sessions = state.devices.get_mut(device).ok_or(LinkError::UnknownSession)?;
        text.clear();
        let of = |session: &Session| session.number() == number;
        let opened = if let Some(at) = sessions.pending.iter().position(of) {
            sessions.pending[at].open(counter, sealed, text)?;
            // It has proved genuine: what was before, and what else was asked for, is over.
            let session = sessions.pending.remove(at);
            sessions.pending.clear();
            info!(%device, "a sealed session on topics is confirmed");
            sessions.current = session;
            sessions.current.as_mut()
        } else {
            let current = sessions.current.as_mut().filter(|session| of(session));
            let session = current.ok_or(LinkError::UnknownSession)?;
            session.open(counter, sealed, text)?;
            Some(session)
        };
        let session = opened.ok_or(LinkError::UnknownSession)?;
        if !self.responder.peers().is_current(session.peer()) {
            info!(%device, "a sealed session ended, as its key was revoked");
            state.devices.remove(device);
            return Err(LinkError::UnknownSession);
        }
        Ok(session.sealer().clone())
    }

    fn rejection(
        &self,
        state: &mut State,
        device: &DeviceId,
        session: u32,
        now: Instant,
    ) -> Option<Vec<u8>> {
        let known = self.responder.peers().has_link_key(device);
        let may = known && state.rejections.take(device.clone(), now);
        may.then(|| rejected(session).to_vec())
    }
}

impl Sessions {
    fn knows(&self, number: u32) -> bool {
        self.current.iter().chain(&self.pending).any(|session| session.number() == number)
    }
}

impl State {
    /// Forgets sessions that are over.
    fn prune(&mut self, now: Instant) {
        if now.saturating_duration_since(self.pruned) < SEALED_PRUNE_INTERVAL {
            return;
        }
        self.pruned = now;
        self.devices.retain(|_, sessions| {
            sessions.pending.retain(|session| !session.is_over());
            if sessions.current.as_ref().is_some_and(Session::is_over) {
                sessions.current = None;
            }
            sessions.current.is_some() || !sessions.pending.is_empty()
        });
    }
}

impl Batches {
    fn of(&mut self, device: &DeviceId, session: u32, sealer: Arc<Sealer>) -> &mut Batch {
        let next = self.batches.len();
        let place = *self.places.entry((device.clone(), session)).or_insert(next);
        if place == next {
            self.batches.push((device.clone(), sealer, Batch::default()));
        }
        &mut self.batches[place].2
    }
}
