//! Everything of the server that speaks sealed sessions, as its settings want it.

use std::net::SocketAddr;
use std::sync::Arc;

use super::foreign::{ForeignBroker, ForeignClient, ForeignError};
use super::tcp::SealedListener;
use super::topics::Topics;
use super::{Peers, Responder};
use crate::ingest::Ingest;
use crate::presence::Presence;
use crate::settings::Settings;

/// Why sealed sessions cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// The address cannot be used.
    #[error(
        "cannot listen on {address} for sealed sessions: {source}; choose another with the setting `sealed`"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The foreign broker cannot be used.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
}

/// The listener, the topics and the client of a foreign broker.
pub struct SealedFront {
    listener: Option<SealedListener>,
    topics: Arc<Topics>,
    foreign: Option<ForeignClient>,
}

impl SealedFront {
    /// Starts what the settings ask for.
    ///
    /// # Errors
    /// When an address or a file cannot be used; nothing is left running then.
    pub async fn start(
        settings: &Settings,
        secret: &[u8; 32],
        peers: Arc<dyn Peers>,
        ingest: Arc<Ingest>,
        presence: Arc<Presence>,
    ) -> Result<Self, SealedError> {
        let broker = ForeignBroker::read(
            &settings.foreign_broker,
            &settings.foreign_broker_login,
            &settings.foreign_broker_ca,
        )?;
        let responder = Arc::new(Responder::new(*secret, peers));
        let topics = Arc::new(Topics::new(responder.clone(), ingest.clone()));
        let listener = match settings.sealed.address() {
            Some(address) => Some(
                SealedListener::start(address, responder, ingest, presence)
                    .await
                    .map_err(|source| SealedError::Listen { address, source })?,
            ),
            None => None,
        };
        let foreign = broker.map(|broker| ForeignClient::start(&broker, topics.clone()));
        match foreign.transpose() {
            Ok(foreign) => Ok(Self { listener, topics, foreign }),
            Err(error) => {
                if let Some(listener) = listener {
                    listener.stop().await;
                }
                Err(error.into())
            }
        }
    }

    /// Returns where sealed sessions are served over TCP, if they are.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().map(SealedListener::address)
    }

    /// Returns the sessions on topics, for the own broker.
    #[must_use]
    pub fn topics(&self) -> &Arc<Topics> {
        &self.topics
    }

    /// Takes no more frames in, acknowledges what is being stored, and ends.
    pub async fn stop(self) {
        if let Some(foreign) = self.foreign {
            foreign.stop().await;
        }
        if let Some(listener) = self.listener {
            listener.stop().await;
        }
    }
}
