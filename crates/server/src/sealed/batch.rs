//! What opened frames say, on its way into the store and back as an acknowledgement.

use stonechat_core::link::message::{Message, RunsWriter};

use super::session::Sealer;
use crate::device::DeviceId;
use crate::ingest::{Arrival, Ingest, Outcome, Prepared, Route};
use crate::store::StoreError;

/// Messages of one session that are stored in one go, and the counters of their frames.
#[derive(Debug, Default)]
pub(super) struct Batch {
    prepared: Vec<Prepared>,
    /// The counters of `prepared`, in the same order.
    counters: Vec<u64>,
    /// Counters of frames that need no storing, or can never be stored.
    done: Vec<u64>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.counters.is_empty() && self.done.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.counters.len()
    }

    /// Takes in what a frame says.
    pub(super) fn push(&mut self, ingest: &Ingest, device: &DeviceId, counter: u64, text: &[u8]) {
        let payload = match Message::parse(text) {
            Ok(Message::Uplink(payload)) => payload,
            // Of a later version, or nonsense from a device that has proved who it is: sending it
            // again is of no use.
            _ => return self.done.push(counter),
        };
        match ingest.prepare(Arrival { device, route: Route::Sealed, payload }) {
            Ok(prepared) => {
                self.prepared.push(prepared);
                self.counters.push(counter);
            }
            Err(_) => self.done.push(counter),
        }
    }

    /// Stores everything, and returns which counters may be acknowledged, and whether that is all.
    pub(super) async fn commit(self, ingest: &Ingest) -> (Vec<u64>, bool) {
        let Self { prepared, counters, mut done } = self;
        let mut whole = true;
        let outcomes = match prepared.is_empty() {
            true => Vec::new(),
            false => ingest.commit(prepared).await,
        };
        let is_done = |outcome: &Result<Outcome, StoreError>| outcome.is_ok();
        for (counter, outcome) in counters.into_iter().zip(&outcomes) {
            if is_done(outcome) {
                done.push(counter);
            } else {
                whole = false;
            }
        }
        done.sort_unstable();
        (done, whole)
    }
}

/// Seals the acknowledgement of some counters, in their order; hands each frame to `send`.
pub(super) fn acknowledge(sealer: &Sealer, counters: &[u64], mut send: impl FnMut(&[u8])) {
    let mut left = counters;
    while !left.is_empty() {
        let mut runs = RunsWriter::default();
        let taken = left.iter().take_while(|counter| runs.push(**counter)).count();
        left = &left[taken..];
        let mut frame = Vec::new();
        // A session that is used up is renewed by the device, which then sends again what it
        // has no acknowledgement of.
        if runs.message().is_some_and(|message| sealer.seal(message, &mut frame).is_ok()) {
            send(&frame);
        }
    }
}
