//! The way of a message: open, identify, decode, check, then (in one transaction of the store)
//! deduplicate, store and alarm, and last publish live. Each step returns the next one's type.

mod steps;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{debug, error, info};

pub use self::steps::{Packet, Rejection};
use crate::alarm::{AlarmKind, Change};
use crate::clock::now_ms;
use crate::live::Hub;
use crate::presence::Presence;
use crate::store::{Appended, Store, StoreError};

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is on disk.
    Stored,
    /// It was on disk before.
    Duplicate,
    /// It can never be stored, so that sending it again is of no use.
    Rejected,
}

/// How many packets came to what.
#[derive(Debug, Default)]
pub struct Counters {
    /// Stored.
    pub stored: AtomicU64,
    /// Came in again.
    pub duplicates: AtomicU64,
    /// Can never be stored.
    pub rejected: AtomicU64,
    /// Could not be stored now.
    pub failed: AtomicU64,
    /// Readings left out, as their device has too many channels.
    pub rejected_readings: AtomicU64,
    /// Messages whose clock was replaced by the server's.
    pub clock_replaced: AtomicU64,
}

/// Takes messages in.
pub struct Ingest {
    store: Arc<dyn Store>,
    hub: Hub,
    presence: Arc<Presence>,
    counters: Counters,
}

impl Ingest {
    /// Makes the way into a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, hub: Hub, presence: Arc<Presence>) -> Self {
        Self { store, hub, presence, counters: Counters::default() }
    }

    /// Returns how many packets came to what.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes a packet in; what it says is on disk when this returns [`Outcome::Stored`].
    ///
    /// # Errors
    /// When the store fails: the packet must not be acknowledged, so that the device sends it again.
    pub async fn take(&self, packet: Packet<'_>) -> Result<Outcome, StoreError> {
        let message = match steps::message(packet, now_ms()) {
            Ok(checked) => {
                count(&self.counters.clock_replaced, u64::from(checked.clock_replaced));
                checked.message
            }
            Err(rejection) => return Ok(self.reject(packet, &rejection.to_string())),
        };
        let device = message.device.clone();
        let watched = self.hub.watchers() > 0;
        let readings = if watched { message.readings.clone() } else { Vec::new() };
        let appended = match self.store.append(message).await {
            Ok(appended) => appended,
            Err(error @ StoreError::UnknownDevice(_)) => {
                return Ok(self.reject(packet, &error.to_string()));
            }
            Err(error) => {
                count(&self.counters.failed, 1);
                error!(device = %device, %error, "a message was not stored");
                return Err(error);
            }
        };
        let Appended::New { alarms, rejected_readings } = appended else {
            count(&self.counters.duplicates, 1);
            return Ok(Outcome::Duplicate);
        };
        count(&self.counters.stored, 1);
        count(&self.counters.rejected_readings, rejected_readings as u64);
        self.hub.readings(device.as_str(), &readings);
        self.presence.changed(device.as_str());
        self.publish_alarms(&alarms);
        Ok(Outcome::Stored)
    }

    fn publish_alarms(&self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Opened(alarm) | Change::Moved(alarm) => {
                    let kind = match alarm.kind {
                        AlarmKind::Anomaly => "anomaly",
                        AlarmKind::SensorFault => "sensor fault",
                    };
                    info!(device = alarm.device, id = alarm.id, kind, state = ?alarm.state, active = alarm.active, "alarm");
                    self.hub.alarm(alarm);
                }
                // Peaks rise with nearly every window; who asks for the alarm sees them.
                Change::Peaked(_) => {}
            }
        }
    }

    fn reject(&self, packet: Packet<'_>, reason: &str) -> Outcome {
        count(&self.counters.rejected, 1);
        debug!(device = packet.device.as_str(), topic = packet.topic, reason, "rejected a message");
        Outcome::Rejected
    }
}

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
