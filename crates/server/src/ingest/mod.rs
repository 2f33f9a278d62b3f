//! The way of a message: open, identify, decode, check, then (in one transaction of the store)
//! deduplicate, store and alarm, and last publish live. Each step returns the next one's type.

mod steps;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{debug, error, info};

pub use self::steps::Rejection;
pub(crate) use self::steps::first_half;
use crate::alarm::{AlarmKind, Change};
use crate::clock::now_ms;
pub use crate::codec::packet::UNAUTHENTICATED_PREFIX;
use crate::codec::{self, Codec};
use crate::device::DeviceId;
use crate::identity::Directory;
use crate::live::Hub;
use crate::presence::Presence;
use crate::settings::UtcOffset;
use crate::store::{Appended, Message, Store, StoreError};

/// What came in, from whom and on which way.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Who the front end made sure that it is.
    pub device: &'a DeviceId,
    /// On which way it came in.
    pub route: Route<'a>,
    /// What came in.
    pub payload: &'a [u8],
}

/// On which way something came in; with the device's entry, it decides on the codec.
#[derive(Clone, Copy, Debug)]
pub enum Route<'a> {
    /// By MQTT, on this topic. The front end has made sure that the device may publish there.
    Topic(&'a str),
    /// In a sealed session, whatever carries it.
    Sealed,
    /// By HTTP.
    Http {
        /// The body's content type.
        content_type: &'a str,
    },
    /// As an old packet, decrypted; nobody knows who made it.
    Packet {
        /// Of the ciphertext: the same one is stored once.
        digest: [u8; 16],
        /// The offset of the sender's clock.
        utc_offset: UtcOffset,
    },
}

/// Knows which codecs the devices' entries name.
pub trait CodecChoice: Send + Sync + 'static {
    /// Returns the codec that a device's entry names, if it names one.
    fn codec(&self, device: &DeviceId) -> Option<&'static Codec>;
}

/// Devices whose entries name no codec.
#[derive(Clone, Copy, Debug)]
pub struct NoChoice;

impl CodecChoice for NoChoice {
    fn codec(&self, _device: &DeviceId) -> Option<&'static Codec> {
        None
    }
}

impl CodecChoice for Directory {
    fn codec(&self, id: &DeviceId) -> Option<&'static Codec> {
        self.device(id.as_str())?.codec.as_deref().and_then(codec::named)
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is on disk.
    Stored,
    /// It was on disk before.
    Duplicate,
    /// It can never be stored, so that sending it again is of no use.
    Rejected,
}

/// How many messages came to what.
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

/// A message that is checked and can be stored.
#[derive(Debug)]
pub struct Prepared(Message);

/// Takes messages in.
pub struct Ingest {
    store: Arc<dyn Store>,
    hub: Hub,
    presence: Arc<Presence>,
    choice: Arc<dyn CodecChoice>,
    counters: Counters,
}

impl Ingest {
    /// Makes the way into a store, for devices whose entries name no codec.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, hub: Hub, presence: Arc<Presence>) -> Self {
        let choice = Arc::new(NoChoice);
        Self { store, hub, presence, choice, counters: Counters::default() }
    }

    /// Asks this one for the codecs that the devices' entries name.
    #[must_use]
    pub fn with_choice(self, choice: Arc<dyn CodecChoice>) -> Self {
        Self { choice, ..self }
    }

    /// Returns how many messages came to what.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes a message in; what it says is on disk when this returns [`Outcome::Stored`].
    ///
    /// # Errors
    /// When the store fails: the message must not be acknowledged, so that the device sends it again.
    pub async fn take(&self, arrival: Arrival<'_>) -> Result<Outcome, StoreError> {
        match self.prepare(arrival) {
            Ok(prepared) => {
                let mut outcomes = self.commit(vec![prepared]).await;
                outcomes.pop().unwrap_or(Err(StoreError::Closed))
            }
            Err(_) => Ok(Outcome::Rejected),
        }
    }

    /// Takes messages in, in their order and in one go; says of each what [`Ingest::take`] says.
    pub async fn take_all(&self, arrivals: Vec<Arrival<'_>>) -> Vec<Result<Outcome, StoreError>> {
        let mut prepared = Vec::with_capacity(arrivals.len());
        let is_good: Vec<bool> = arrivals
            .into_iter()
            .map(|arrival| self.prepare(arrival).map(|message| prepared.push(message)).is_ok())
            .collect();
        let mut committed = self.commit(prepared).await.into_iter();
        let outcome = |is_good: bool| match is_good {
            true => committed.next().unwrap_or(Err(StoreError::Closed)),
            false => Ok(Outcome::Rejected),
        };
        is_good.into_iter().map(outcome).collect()
    }

    /// Walks a message to the store's door.
    ///
    /// # Errors
    /// Why it can never be stored; it is counted as rejected.
    pub fn prepare(&self, arrival: Arrival<'_>) -> Result<Prepared, Rejection> {
        match steps::message(arrival, self.choice.codec(arrival.device), now_ms()) {
            Ok(checked) => {
                count(&self.counters.clock_replaced, u64::from(checked.clock_replaced));
                Ok(Prepared(checked.message))
            }
            Err(rejection) => {
                self.reject(arrival.device, &rejection);
                Err(rejection)
            }
        }
    }

    /// Stores what is prepared, in its order and in one go, and publishes what is new.
    pub async fn commit(&self, prepared: Vec<Prepared>) -> Vec<Result<Outcome, StoreError>> {
        let watched = self.hub.watchers() > 0;
        let noted = prepared.iter().map(|Prepared(message)| {
            let readings = if watched { message.readings.clone() } else { Vec::new() };
            (message.device.clone(), readings)
        });
        let noted: Vec<_> = noted.collect();
        let messages = prepared.into_iter().map(|Prepared(message)| message).collect();
        let appended = self.store.append_all(messages).await;
        let mut outcomes = Vec::with_capacity(noted.len());
        for ((device, readings), appended) in noted.into_iter().zip(appended) {
            outcomes.push(match appended {
                Ok(Appended::Duplicate) => {
                    count(&self.counters.duplicates, 1);
                    Ok(Outcome::Duplicate)
                }
                Ok(Appended::New { alarms, rejected_readings }) => {
                    count(&self.counters.stored, 1);
                    count(&self.counters.rejected_readings, rejected_readings as u64);
                    self.hub.readings(device.as_str(), &readings);
                    self.presence.changed(device.as_str());
                    self.publish_alarms(&alarms);
                    Ok(Outcome::Stored)
                }
                Err(error @ StoreError::UnknownDevice(_)) => {
                    self.reject(&device, &error);
                    Ok(Outcome::Rejected)
                }
                Err(error) => {
                    count(&self.counters.failed, 1);
                    error!(%device, %error, "a message was not stored");
                    Err(error)
                }
            });
        }
        outcomes
    }

    /// Tells those who watch what became of alarms.
    pub(crate) fn publish_alarms(&self, changes: &[Change]) {
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

    fn reject(&self, device: &DeviceId, reason: &dyn std::error::Error) {
        count(&self.counters.rejected, 1);
        debug!(%device, %reason, "rejected a message");
    }
}

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
