//! Threads that decrypt and do nothing else, so that a flood of ciphertexts takes no time from those who
//! serve other devices: with two cores there is one of them.

use std::io;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::CIPHERTEXT_LEN;
use super::key::PacketKey;
use crate::limits::LEGACY_POOL_QUEUE_LEN;

struct Job {
    ciphertext: [u8; CIPHERTEXT_LEN],
    answer: oneshot::Sender<Option<Vec<u8>>>,
}

/// The threads, and the way to them.
pub struct DecryptPool {
    jobs: mpsc::Sender<Job>,
}

/// A ciphertext on its way.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Option<Vec<u8>>>);

impl Pending {
    /// Waits for the plain text; none if there is none.
    pub async fn plain(self) -> Option<Vec<u8>> {
        self.0.await.ok().flatten()
    }
}

/// Returns how many threads decrypt: as many as leave a core to the others.
#[must_use]
pub fn decrypt_threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}

impl DecryptPool {
    /// Starts so many threads; they end with the pool.
    ///
    /// # Errors
    /// When the operating system has none to give.
    pub fn start(key: &Arc<PacketKey>, threads: usize) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>(LEGACY_POOL_QUEUE_LEN);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let (key, queue) = (key.clone(), queue.clone());
            thread::Builder::new().name("decrypt".into()).spawn(move || {
                loop {
                    // Who waits for the lock waits for a job just as well.
                    let job = queue.lock().blocking_recv();
                    let Some(Job { ciphertext, answer }) = job else { return };
                    // A connection that ended does not want its answer.
                    if !answer.is_closed() {
                        let _ = answer.send(key.decrypt(&ciphertext));
                    }
                }
            })?;
        }
        Ok(Self { jobs })
    }

    /// Hands a ciphertext in; waits while the queue is full.
    pub async fn decrypt(&self, ciphertext: [u8; CIPHERTEXT_LEN]) -> Pending {
        let (answer, pending) = oneshot::channel();
        // The threads live as long as the pool.
        let _ = self.jobs.send(Job { ciphertext, answer }).await;
        Pending(pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legacy::key::tests::{encrypt, key};

    #[tokio::test]
    async fn answers_belong_to_their_ciphertexts() {
        let (key, public) = key();
        let pool = DecryptPool::start(&Arc::new(key), 2).expect("threads");
        let mut pending = Vec::new();
        for number in 0..20_u8 {
            pending.push(pool.decrypt(encrypt(&public, &[number])).await);
            pending.push(pool.decrypt([number; CIPHERTEXT_LEN]).await);
        }
        let mut answers = Vec::new();
        for pending in pending {
            answers.push(pending.plain().await);
        }
        for (number, pair) in answers.chunks(2).enumerate() {
            assert_eq!(pair[0].as_deref(), Some(&[number as u8][..]));
            assert_eq!(pair[1], None);
        }
    }
}
