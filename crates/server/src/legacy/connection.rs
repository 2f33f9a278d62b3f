//! One connection of the port.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use stonechat_core::wire::packet::Packet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::sources::Guest;
use super::stream::{Item, Splitter};
use super::{CIPHERTEXT_LEN, KEY_FAILURE, Shared, count, stopped};
use crate::device::DeviceId;
use crate::ingest::{Arrival, Route};
use crate::limits::{
    LEGACY_CREDIT_PAUSE, LEGACY_IDLE_MAX, LEGACY_ITEM_TIME_MAX, LEGACY_READ_LEN,
    LEGACY_STORE_PAUSE, LEGACY_STORE_TRIES_MAX, LEGACY_WRITE_TIME_MAX,
};

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Truncated,
    Idle,
    Failed,
    /// A stream without frames cannot be found again once a ciphertext is not one.
    Garbage,
    Stopping,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the sender closed it",
            Self::Truncated => "it ended in the middle of a ciphertext",
            Self::Idle => "nothing came for too long",
            Self::Failed => "the connection failed",
            Self::Garbage => "what came was not encrypted with this server's key",
            Self::Stopping => "the server stops",
        })
    }
}

pub(super) struct Connection {
    stream: TcpStream,
    guest: Guest,
    shared: Arc<Shared>,
    ended: watch::Receiver<bool>,
}

/// A packet that is to be stored.
struct Accepted {
    device: DeviceId,
    plain: Vec<u8>,
    digest: [u8; 16],
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        guest: Guest,
        shared: Arc<Shared>,
        ended: watch::Receiver<bool>,
    ) -> Self {
        Self { stream, guest, shared, ended }
    }

    /// Serves it to its end.
    pub(super) async fn serve(mut self) -> End {
        let mut splitter = Splitter::default();
        let mut buffer = vec![0; LEGACY_READ_LEN];
        loop {
            // A sender may be silent for long, but not in the middle of a ciphertext.
            let patience =
                if splitter.is_between_items() { LEGACY_IDLE_MAX } else { LEGACY_ITEM_TIME_MAX };
            let read = tokio::select! {
                () = stopped(&mut self.ended) => return End::Stopping,
                read = timeout(patience, self.stream.read(&mut buffer)) => read,
            };
            let len = match read {
                Err(_) => return self.finish(&splitter, End::Idle),
                Ok(Err(_)) => return self.finish(&splitter, End::Failed),
                Ok(Ok(0)) => return self.finish(&splitter, End::Closed),
                Ok(Ok(len)) => len,
            };
            let mut ciphertexts = Vec::new();
            for item in splitter.push(&buffer[..len]) {
                match item {
                    Item::Ciphertext(ciphertext) => ciphertexts.push(*ciphertext),
                    Item::KeyRequest => {
                        if let Err(end) = self.send_key().await {
                            return end;
                        }
                    }
                }
            }
            if let Err(end) = self.take(ciphertexts).await {
                return end;
            }
        }
    }

    fn finish(&self, splitter: &Splitter, end: End) -> End {
        if splitter.is_between_items() {
            return end;
        }
        count(&self.shared.counters.truncated);
        End::Truncated
    }

    /// Answers a request for the key; a source that is held up gets none.
    async fn send_key(&mut self) -> Result<(), End> {
        let text = if self.guest.take() {
            self.guest.give_back();
            count(&self.shared.counters.keys_sent);
            self.shared.key.public_pem()
        } else {
            KEY_FAILURE
        };
        let mut answer = (text.len() as u32).to_be_bytes().to_vec();
        answer.extend_from_slice(text.as_bytes());
        let written = timeout(LEGACY_WRITE_TIME_MAX, self.stream.write_all(&answer)).await;
        written.ok().and_then(Result::ok).ok_or(End::Failed)
    }

    /// Decrypts and stores. What comes before the first piece of garbage is stored.
    async fn take(&mut self, ciphertexts: Vec<[u8; CIPHERTEXT_LEN]>) -> Result<(), End> {
        let mut pending = Vec::with_capacity(ciphertexts.len());
        let mut end = Ok(());
        for ciphertext in ciphertexts {
            if !self.shared.key.is_in_range(&ciphertext) {
                count(&self.shared.counters.undecryptable);
                end = Err(End::Garbage);
                break;
            }
            self.wait_for_credit().await?;
            let digest = half_digest(&ciphertext);
            pending.push((digest, self.shared.pool.decrypt(ciphertext).await));
        }
        let mut accepted = Vec::with_capacity(pending.len());
        for (digest, pending) in pending {
            let Some(plain) = pending.plain().await else {
                count(&self.shared.counters.undecryptable);
                end = Err(End::Garbage);
                break;
            };
            if let Some(device) = self.device_of(&plain).await {
                self.guest.give_back();
                accepted.push(Accepted { device, plain, digest });
            }
        }
        self.store(accepted).await;
        end
    }

    async fn wait_for_credit(&mut self) -> Result<(), End> {
        while !self.guest.take() {
            tokio::select! {
                () = stopped(&mut self.ended) => return Err(End::Stopping),
                () = sleep(LEGACY_CREDIT_PAUSE) => {}
            }
        }
        Ok(())
    }

    /// Finds the registered device of a packet.
    async fn device_of(&self, plain: &[u8]) -> Option<DeviceId> {
        let Ok(packet) = Packet::parse(plain) else {
            count(&self.shared.counters.malformed);
            return None;
        };
        let number = packet.number;
        let entry = self.shared.directory.seek(|known| known.by_number(number).ok_or(())).await;
        if entry.is_err() {
            count(&self.shared.counters.unregistered);
        }
        entry.ok().map(|entry| entry.id.clone())
    }

    /// Stores packets. Their senders expect no acknowledgement, so that trying again falls to us;
    /// meanwhile nothing more is read, and the sender's system holds back what follows.
    async fn store(&mut self, mut accepted: Vec<Accepted>) {
        for _ in 0..LEGACY_STORE_TRIES_MAX {
            if accepted.is_empty() {
                return;
            }
            let utc_offset = self.shared.utc_offset;
            let mut arrivals = Vec::with_capacity(accepted.len());
            for Accepted { device, plain, digest } in &accepted {
                let route = Route::Packet { digest: *digest, utc_offset };
                arrivals.push(Arrival { device, route, payload: plain });
            }
            let outcomes = self.shared.ingest.take_all(arrivals).await;
            let mut outcomes = outcomes.into_iter();
            accepted.retain(|_| {
                let is_left = outcomes.next().is_some_and(|outcome| outcome.is_err());
                if !is_left {
                    count(&self.shared.counters.taken);
                }
                is_left
            });
            if accepted.is_empty() {
                return;
            }
            tokio::select! {
                () = stopped(&mut self.ended) => break,
                () = sleep(LEGACY_STORE_PAUSE) => {}
            }
        }
        for packet in &accepted {
            count(&self.shared.counters.failed);
            warn!(device = %packet.device, "an old packet was not stored and is lost");
        }
    }
}

fn half_digest(ciphertext: &[u8; CIPHERTEXT_LEN]) -> [u8; 16] {
    crate::ingest::first_half(Sha256::digest(ciphertext).into())
}
