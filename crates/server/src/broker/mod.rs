//! The MQTT broker, as the rest of the server sees it: something that asks a [`Gate`] and can be
//! stopped. Which crate does the work is known in [`embedded`] only.

pub mod embedded;

use std::sync::Arc;

use tracing::{info, warn};

use crate::device::DeviceId;
use crate::identity::Directory;
use crate::ingest::{Arrival, Ingest, Outcome, Route};
use crate::presence::{Connection, Presence};
use crate::topic;

/// Who wants in, as it says itself.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The client identifier.
    pub client_id: &'a str,
    /// The user name.
    pub user_name: Option<&'a str>,
    /// The password.
    pub password: Option<&'a [u8]>,
    /// The topic of its last will.
    pub will_topic: Option<&'a str>,
}

/// What the broker does with a published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Acknowledge it: it is on disk, or can never be.
    Acknowledge,
    /// Close the connection without acknowledging it.
    Close,
}

/// Decides who may do what, and takes messages in.
pub struct Gate {
    directory: Arc<Directory>,
    ingest: Arc<Ingest>,
    presence: Arc<Presence>,
}

impl Gate {
    /// Makes a gate to a store.
    #[must_use]
    pub fn new(directory: Arc<Directory>, ingest: Arc<Ingest>, presence: Arc<Presence>) -> Self {
        Self { directory, ingest, presence }
    }

    /// Tells whether a client is the device that it claims to be. The client learns only that it
    /// was refused; the reason goes to the log.
    pub async fn authenticate(&self, claim: Claim<'_>) -> bool {
        let Err(refused) = self.examine(claim) else {
            return true;
        };
        warn!(client = claim.client_id, reason = refused, "refused a client");
        false
    }

    fn examine(&self, claim: Claim<'_>) -> Result<(), String> {
        let Ok(device) = DeviceId::parse(claim.client_id) else {
            return Err(String::from("the client identifier is no device identity"));
        };
        if claim.user_name != Some(claim.client_id) {
            return Err(String::from("user name and client identifier differ"));
        }
        let Some(password) = claim.password else {
            return Err(String::from("no password"));
        };
        if claim.will_topic.is_some_and(|will| topic::within(&device, will).is_none()) {
            return Err(String::from("the last will's topic is outside the device's prefix"));
        }
        self.directory.admit_token(device.as_str(), password).map(drop).map_err(|r| r.to_string())
    }

    /// Tells whether a client may subscribe: to its own prefix only.
    #[must_use]
    pub fn may_subscribe(&self, client_id: &str, filter: &str) -> bool {
        DeviceId::parse(client_id).is_ok_and(|device| topic::within(&device, filter).is_some())
    }

    /// Takes a message in; it is on disk when this returns [`Verdict::Acknowledge`], unless it
    /// can never be stored.
    pub async fn publish(&self, client_id: &str, topic: &str, payload: &[u8]) -> Verdict {
        let Ok(device) = DeviceId::parse(client_id) else {
            return Verdict::Close;
        };
        if topic::within(&device, topic).is_none() {
            warn!(device = client_id, topic, "refused a message outside the device's prefix");
            return Verdict::Close;
        }
        match self
            .ingest
            .take(Arrival { device: &device, route: Route::Topic(topic), payload })
            .await
        {
            // A message that can never be stored would otherwise come again for ever.
            Ok(Outcome::Stored | Outcome::Duplicate | Outcome::Rejected) => Verdict::Acknowledge,
            Err(_) => Verdict::Close,
        }
    }

    /// Notes that a client is connected.
    pub fn connected(&self, client_id: &str, connection: Connection) {
        info!(device = client_id, "connected");
        self.presence.connected(client_id, connection);
    }

    /// Notes that a connection ended.
    pub fn disconnected(&self, client_id: &str, connection: Connection, reason: &str) {
        info!(device = client_id, reason, "disconnected");
        self.presence.disconnected(client_id, connection);
    }
}
