//! Who is connected: one connection a device, a later one takes over.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rmqtt_codec::types::QoS;
use tokio::sync::{Notify, oneshot};
use tokio_util::bytes::Bytes;

use super::ending::Ending;
use crate::device::DeviceId;
use crate::identity::{Admission, Directory};
use crate::limits::{MQTT_DOWNLINK_TIMEOUT, MQTT_QUEUE_LEN_MAX};
use crate::presence::Connection;
use crate::topic;

/// One connection, as the others see it.
pub(super) struct Session {
    pub(super) admission: Admission,
    pub(super) connection: Connection,
    /// Rings when something below changed.
    bell: Notify,
    desk: Mutex<Desk>,
}

#[derive(Default)]
struct Desk {
    ending: Option<Ending>,
    subscriptions: Vec<(String, QoS)>,
    outgoing: VecDeque<Outgoing>,
}

/// A message to a device.
pub(super) struct Outgoing {
    pub(super) topic: Arc<str>,
    pub(super) payload: Bytes,
    /// Whether the device acknowledges it.
    pub(super) acknowledged: bool,
    pub(super) done: oneshot::Sender<Result<Delivery, Undelivered>>,
}

/// A message reached a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The device acknowledged it.
    Acknowledged,
    /// It was written to the connection; the device subscribed without acknowledgements.
    Written,
}

/// Why a message did not reach a device, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// The device is not connected by MQTT.
    #[error("the device is not connected")]
    NotConnected,
    /// It hears nothing on this topic.
    #[error("the device has not subscribed to this topic")]
    NotSubscribed,
    /// Too many messages wait for it.
    #[error("too many messages wait for the device")]
    QueueFull,
    /// It said that it does not take the message.
    #[error("the device refused the message, or takes only shorter ones")]
    Refused,
    /// The connection ended before; the message may have arrived.
    #[error("the connection ended before the device acknowledged")]
    ConnectionLost,
    /// Nothing came back in time; the message may have arrived.
    #[error("the device did not acknowledge within {} s", MQTT_DOWNLINK_TIMEOUT.as_secs())]
    Timeout,
}

impl Session {
    pub(super) fn new(admission: Admission, connection: Connection) -> Arc<Self> {
        Arc::new(Self { admission, connection, bell: Notify::new(), desk: Mutex::default() })
    }

    pub(super) fn device(&self) -> &DeviceId {
        &self.admission.device
    }

    /// Ends the connection; the first reason counts.
    pub(super) fn end(&self, ending: Ending) {
        self.desk.lock().ending.get_or_insert(ending);
        self.bell.notify_one();
    }

    /// Returns why the connection is to end, if it is.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.desk.lock().ending
    }

    /// Waits until something changed; to be followed by a look at all of it.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Waits until the connection is to end for a reason other than the server's own end.
    pub(super) async fn cut(&self) -> Ending {
        loop {
            if let Some(ending) = self.ending()
                && ending != Ending::Stopping
            {
                return ending;
            }
            self.rung().await;
        }
    }

    /// Subscribes; `false` if there are too many already.
    pub(super) fn subscribe(&self, filter: String, qos: QoS, bound: usize) -> bool {
        let mut desk = self.desk.lock();
        if let Some(known) = desk.subscriptions.iter_mut().find(|(known, _)| *known == filter) {
            known.1 = qos;
            return true;
        }
        let room = desk.subscriptions.len() < bound;
        if room {
            desk.subscriptions.push((filter, qos));
        }
        room
    }

    /// Tells whether there was such a subscription.
    pub(super) fn unsubscribe(&self, filter: &str) -> bool {
        let mut desk = self.desk.lock();
        let before = desk.subscriptions.len();
        desk.subscriptions.retain(|(known, _)| known != filter);
        desk.subscriptions.len() < before
    }

    /// Takes the next message to the device.
    pub(super) fn next_outgoing(&self) -> Option<Outgoing> {
        let mut desk = self.desk.lock();
        let next = desk.outgoing.pop_front();
        if desk.outgoing.is_empty() {
            desk.outgoing = VecDeque::new();
        }
        next
    }

    pub(super) fn post(
        &self,
        topic: &str,
        payload: Bytes,
    ) -> Result<oneshot::Receiver<Result<Delivery, Undelivered>>, Undelivered> {
        let mut desk = self.desk.lock();
        if desk.ending.is_some() {
            return Err(Undelivered::NotConnected);
        }
        let heard = desk.subscriptions.iter().filter(|(filter, _)| topic::matches(filter, topic));
        // Where several match, one message with the highest quality goes out (section 3.3.5).
        let Some(quality) = heard.map(|&(_, qos)| qos).max() else {
            return Err(Undelivered::NotSubscribed);
        };
        if desk.outgoing.len() >= MQTT_QUEUE_LEN_MAX {
            return Err(Undelivered::QueueFull);
        }
        let (done, outcome) = oneshot::channel();
        let acknowledged = quality > QoS::AtMostOnce;
        desk.outgoing.push_back(Outgoing { topic: topic.into(), payload, acknowledged, done });
        drop(desk);
        self.bell.notify_one();
        Ok(outcome)
    }
}

/// All connections.
#[derive(Default)]
pub(super) struct Sessions {
    by_device: RwLock<HashMap<DeviceId, Arc<Session>>>,
    stopping: AtomicBool,
}

impl Sessions {
    /// Takes a connection in and ends an earlier one of the same device; `false` if the server
    /// ends.
    pub(super) fn enter(&self, session: &Arc<Session>) -> bool {
        let earlier = {
            let mut by_device = self.by_device.write();
            if self.stopping.load(Ordering::Acquire) {
                return false;
            }
            by_device.insert(session.device().clone(), session.clone())
        };
        if let Some(earlier) = earlier {
            earlier.end(Ending::TakenOver);
        }
        true
    }

    /// Forgets a connection, unless another took over; nothing more goes out on it.
    pub(super) fn leave(&self, session: &Arc<Session>, ending: Ending) {
        let unsent = {
            let mut desk = session.desk.lock();
            desk.ending.get_or_insert(ending);
            std::mem::take(&mut desk.outgoing)
        };
        drop(unsent);
        let mut by_device = self.by_device.write();
        if by_device.get(session.device()).is_some_and(|known| Arc::ptr_eq(known, session)) {
            by_device.remove(session.device());
        }
    }

    /// Ends the connections whose identity is no longer good.
    pub(super) fn cut_stale(&self, directory: &Directory) {
        for session in self.by_device.read().values() {
            if !directory.is_current(&session.admission) {
                session.end(Ending::Revoked);
            }
        }
    }

    /// Ends all of them, and lets no further one in.
    pub(super) fn stop(&self) {
        let by_device = self.by_device.write();
        self.stopping.store(true, Ordering::Release);
        for session in by_device.values() {
            session.end(Ending::Stopping);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.by_device.read().len()
    }

    fn of(&self, device: &DeviceId) -> Option<Arc<Session>> {
        self.by_device.read().get(device).cloned()
    }
}

/// Sends messages to connected devices.
#[derive(Clone)]
pub struct Downlink {
    sessions: Arc<Sessions>,
}

impl Downlink {
    pub(super) fn new(sessions: Arc<Sessions>) -> Self {
        Self { sessions }
    }

    /// Sends a message to a device, and waits until it has it: acknowledged where the device
    /// subscribed with quality 1 or 2, else written to its connection.
    ///
    /// # Errors
    /// [`Undelivered`]. Nothing is kept for later.
    pub async fn send(
        &self,
        device: &DeviceId,
        topic: &str,
        payload: impl Into<Vec<u8>>,
    ) -> Result<Delivery, Undelivered> {
        let session = self.sessions.of(device).ok_or(Undelivered::NotConnected)?;
        let outcome = session.post(topic, Bytes::from(payload.into()))?;
        wait(outcome, MQTT_DOWNLINK_TIMEOUT).await
    }
}

async fn wait(
    outcome: oneshot::Receiver<Result<Delivery, Undelivered>>,
    patience: Duration,
) -> Result<Delivery, Undelivered> {
    match tokio::time::timeout(patience, outcome).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Undelivered::ConnectionLost),
        Err(_) => Err(Undelivered::Timeout),
    }
}
