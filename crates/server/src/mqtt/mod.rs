//! The MQTT front end, for devices: MQTT 3.1.1 and 5.0, by TCP and by TLS 1.3.
//!
//! It is no broker between clients: what a device publishes goes to [`ingest`](crate::ingest) and
//! to nobody else, and what a device hears is sent by the server ([`Downlink`]). What a device may
//! do stands in [`topic`](crate::topic). What was decided where the standards leave a choice:
//!
//! | subject | here |
//! |---|---|
//! | identity | the client certificate if one was shown, else user name and token; client identifier and user name, where given, must be the device's |
//! | acknowledgement | after the commit, in order; if the store fails, the connection ends without one |
//! | quality 2 inbound | PUBREC after the commit; a message that is sent again before PUBREL is not stored again |
//! | quality outbound | at most 1 |
//! | retained messages | never kept; 3.1.1: the message counts as any other; 5.0: announced, and the connection ends |
//! | last wills | on own topics only; they reach nobody, and are never stored |
//! | sessions | end with the connection; "session present" is always 0 |
//! | topic aliases, subscription identifiers, shared subscriptions | none; announced in 5.0 |
//! | a topic that is not the device's | 5.0: refused in the acknowledgement; 3.1.1, and quality 0: the connection ends |
//! | a message that can never be stored | 5.0: refused in the acknowledgement; 3.1.1: acknowledged, or it would come again for ever |
//!
//! The way of a connection: [`listener`] accepts, [`door`] finds out who it is, [`connection`]
//! talks by way of [`line`](self::line), [`packet`] and [`answer`]; [`sessions`] knows all of them.

mod answer;
mod connection;
mod door;
mod ending;
mod line;
mod listener;
pub mod packet;
mod sessions;
mod sources;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{Semaphore, watch};
use tracing::warn;

use self::sessions::Sessions;
pub use self::sessions::{Delivery, Downlink, Undelivered};
use self::sources::Sources;
use crate::identity::Directory;
use crate::ingest::Ingest;
use crate::limits::{MQTT_CONNECTIONS_MAX, MQTT_HANDSHAKES_MAX, MQTT_STOP_GRACE};
use crate::presence::Presence;
use crate::sealed::topics::Topics;

/// Why the front end does not run.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// Another program has the port.
    #[error("port in use: {address}; stop what listens there, or choose another with --{setting}")]
    PortInUse {
        /// The address.
        address: SocketAddr,
        /// What sets it.
        setting: &'static str,
    },
    /// The address cannot be used.
    #[error("cannot listen on {address}: {source}; choose another with --{setting}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What sets it.
        setting: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// Where the front end listens.
#[derive(Clone, Debug)]
pub struct Doors {
    /// Plain TCP: only where nobody listens in.
    pub plain: SocketAddr,
    /// TLS 1.3.
    pub tls: Option<(SocketAddr, Arc<rustls::ServerConfig>)>,
}

/// How often a bound was hit.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that were closed at once, as there are too many, or too many of one source.
    pub turned_away: AtomicU64,
    /// Handshakes that failed: no TLS, no MQTT, or too slow.
    pub handshakes_failed: AtomicU64,
    /// Clients that are not who they claim to be.
    pub refused: AtomicU64,
    /// Connections that ended as the client broke the rules.
    pub faults: AtomicU64,
}

/// What all connections share.
struct House {
    directory: Arc<Directory>,
    ingest: Arc<Ingest>,
    presence: Arc<Presence>,
    sealed: Arc<Topics>,
    sessions: Arc<Sessions>,
    sources: Arc<Sources>,
    handshakes: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    counters: Arc<Counters>,
}

/// A front end that runs.
pub struct Front {
    plain: SocketAddr,
    tls: Option<SocketAddr>,
    house: Arc<House>,
    ending: watch::Sender<bool>,
}

impl Front {
    /// Starts listening.
    ///
    /// # Errors
    /// When an address cannot be used; nothing is left listening then.
    pub fn start(
        doors: Doors,
        directory: Arc<Directory>,
        ingest: Arc<Ingest>,
        presence: Arc<Presence>,
        sealed: Arc<Topics>,
    ) -> Result<Self, FrontError> {
        let plain = listener::bind(doors.plain, "mqtt")?;
        if !doors.plain.ip().is_loopback() {
            warn!(address = %doors.plain, "MQTT without TLS beyond this machine: whoever is on the way reads tokens and readings; devices elsewhere belong on --mqtts");
        }
        let tls = match doors.tls {
            Some((address, config)) => Some((listener::bind(address, "mqtts")?, config)),
            None => None,
        };
        let house = Arc::new(House {
            directory,
            ingest,
            presence,
            sealed,
            sessions: Arc::default(),
            sources: Arc::default(),
            handshakes: Arc::new(Semaphore::new(MQTT_HANDSHAKES_MAX)),
            connections: Arc::new(Semaphore::new(MQTT_CONNECTIONS_MAX)),
            counters: Arc::default(),
        });
        let (ending, ended) = watch::channel(false);
        let plain_address = plain.local_addr().unwrap_or(doors.plain);
        tokio::spawn(listener::accept_all(house.clone(), plain, None, ended.clone()));
        let tls_address = tls.as_ref().and_then(|(listener, _)| listener.local_addr().ok());
        if let Some((listener, config)) = tls {
            let house = house.clone();
            tokio::spawn(listener::accept_all(house, listener, Some(config), ended.clone()));
        }
        tokio::spawn(cut_stale(house.clone(), ended));
        Ok(Self { plain: plain_address, tls: tls_address, house, ending })
    }

    /// Returns where it listens without TLS.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.plain
    }

    /// Returns where it listens with TLS.
    #[must_use]
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls
    }

    /// Counts the devices that are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.house.sessions.count()
    }

    /// Returns how often a bound was hit.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.house.counters
    }

    /// Returns what sends messages to devices.
    #[must_use]
    pub fn downlink(&self) -> Downlink {
        Downlink::new(self.house.sessions.clone())
    }

    /// Stops listening, answers what is under way, and ends every connection.
    pub async fn stop(self) {
        self.ending.send_replace(true);
        self.house.sessions.stop();
        let all = self.house.connections.acquire_many(MQTT_CONNECTIONS_MAX as u32);
        if tokio::time::timeout(MQTT_STOP_GRACE, all).await.is_err() {
            warn!("some devices' connections took too long to end");
        }
    }
}

/// Ends connections whose identity was revoked or ran out, as soon as the directory knows.
async fn cut_stale(house: Arc<House>, mut ended: watch::Receiver<bool>) {
    let mut changes = house.directory.changes();
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            _ = ended.wait_for(|&ended| ended) => return,
        }
        house.sessions.cut_stale(&house.directory);
    }
}
