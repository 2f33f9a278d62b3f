//! The port of the old packets: RSA ciphertexts of 32-byte packets over plain TCP.
//!
//! | from | bytes |
//! |---|---|
//! | sender | `REQUEST_PUBLIC_KEY`, 18 ASCII characters, mostly on a connection of its own |
//! | server | length, u32 big-endian; then the public key as PEM, or `ERROR: PUBLIC_KEY_FAILED` |
//! | sender | ciphertexts of 256 bytes, RSA-2048-OAEP with SHA-1, one after the other, never acknowledged |
//!
//! Anyone who has the public key can make a packet of any device number, and the key itself comes
//! without proof of who sends it. So the port is off unless it is switched on, takes registered numbers
//! only, and marks every reading as unauthenticated. What can be held against a forger is held: a
//! ciphertext counts once, and who sends garbage waits.
//!
//! The key persists, as senders keep the one that they fetched first.

mod connection;
mod key;
mod pool;
pub mod sender;
mod sources;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, warn};

use self::connection::Connection;
pub use self::key::{BadPacketKey, PacketKey};
pub use self::pool::{DecryptPool, decrypt_threads};
use self::sources::Sources;
pub use self::stream::{Item, Splitter};
use crate::identity::Directory;
use crate::ingest::Ingest;
use crate::limits::{LEGACY_ACCEPT_PAUSE, LEGACY_CONNECTIONS_MAX, LEGACY_STOP_GRACE};
use crate::settings::UtcOffset;

/// The bytes of a ciphertext.
pub const CIPHERTEXT_LEN: usize = 256;
/// The request for the public key.
pub const KEY_REQUEST: &[u8; 18] = b"REQUEST_PUBLIC_KEY";
/// What is sent instead of the key.
pub const KEY_FAILURE: &str = "ERROR: PUBLIC_KEY_FAILED";

/// What became of what came in on the port.
#[derive(Debug, Default)]
pub struct Counters {
    /// Packets of registered numbers that were taken in, for the first time or again.
    pub taken: AtomicU64,
    /// Ciphertexts that no sender can have made with the key.
    pub undecryptable: AtomicU64,
    /// Decrypted, but no packets.
    pub malformed: AtomicU64,
    /// Packets whose number is not registered.
    pub unregistered: AtomicU64,
    /// Packets that could not be stored.
    pub failed: AtomicU64,
    /// Connections that ended in the middle of a ciphertext.
    pub truncated: AtomicU64,
    /// Connections that were refused, as there were too many.
    pub refused: AtomicU64,
    /// How often the public key was handed out.
    pub keys_sent: AtomicU64,
}

/// Counts one more.
fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What the connections share.
struct Shared {
    key: Arc<PacketKey>,
    pool: DecryptPool,
    sources: Arc<Sources>,
    directory: Arc<Directory>,
    ingest: Arc<Ingest>,
    utc_offset: UtcOffset,
    counters: Arc<Counters>,
}

/// The port, open.
#[derive(Debug)]
pub struct Legacy {
    counters: Arc<Counters>,
    ending: watch::Sender<bool>,
    accepting: Option<JoinHandle<()>>,
}

impl Drop for Legacy {
    fn drop(&mut self) {
        self.ending.send_replace(true);
    }
}

impl Legacy {
    /// Serves a listener.
    ///
    /// # Errors
    /// When the operating system gives no threads.
    pub fn start(
        listener: TcpListener,
        key: PacketKey,
        directory: Arc<Directory>,
        ingest: Arc<Ingest>,
        utc_offset: UtcOffset,
    ) -> std::io::Result<Self> {
        let key = Arc::new(key);
        let counters = Arc::new(Counters::default());
        let shared = Shared {
            pool: DecryptPool::start(&key, decrypt_threads())?,
            key,
            sources: Arc::default(),
            directory,
            ingest,
            utc_offset,
            counters: counters.clone(),
        };
        let (ending, ended) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, Arc::new(shared), ended));
        Ok(Self { counters, ending, accepting: Some(accepting) })
    }

    /// Returns what became of what came in.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Stops accepting, and ends the connections once what they have read is stored.
    pub async fn stop(mut self) {
        self.ending.send_replace(true);
        let Some(accepting) = self.accepting.take() else { return };
        let abort = accepting.abort_handle();
        if tokio::time::timeout(LEGACY_STOP_GRACE, accepting).await.is_err() {
            abort.abort();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, ended: watch::Receiver<bool>) {
    let mut ending = ended.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopped(&mut ending) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    admit(stream, peer, &shared, &ended, &mut connections);
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection of old packets");
                    tokio::time::sleep(LEGACY_ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Waits until the server stops.
async fn stopped(ended: &mut watch::Receiver<bool>) {
    let _ = ended.wait_for(|&ended| ended).await;
}

fn admit(
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    ended: &watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
) {
    let guest = (connections.len() < LEGACY_CONNECTIONS_MAX)
        .then(|| Sources::enter(&shared.sources, peer.ip()))
        .flatten();
    let Some(guest) = guest else {
        count(&shared.counters.refused);
        debug!(%peer, "too many connections of old packets");
        return;
    };
    let connection = Connection::new(stream, guest, shared.clone(), ended.clone());
    connections.spawn(async move {
        let report = connection.serve().await;
        debug!(%peer, %report, "a connection of old packets ended");
    });
}
