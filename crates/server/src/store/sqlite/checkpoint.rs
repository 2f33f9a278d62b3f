//! Moves the write-ahead log into the database on a thread of its own, so that no message waits
//! for it.
//!
//! The thread moves what is in the log when it begins. What was added meanwhile is little, so
//! the writer moves that itself; then the log is all moved, and SQLite writes it from its
//! beginning again. Without this last step it would grow for as long as messages come in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use rusqlite::Connection;
use tracing::warn;

use super::schema::Location;
use crate::limits::CHECKPOINT_TRANSACTIONS;
use crate::store::StoreError;

const CHECKPOINT: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// The thread, and when it is its turn.
#[derive(Debug)]
pub(super) struct Checkpointer {
    begin: SyncSender<()>,
    done: Arc<AtomicBool>,
    under_way: bool,
    transactions: u32,
}

impl Checkpointer {
    /// Starts the thread, which ends when this is dropped.
    pub(super) fn start(location: &Location) -> Result<Self, StoreError> {
        let connection = location.open_checkpointer()?;
        let (begin, turns) = sync_channel::<()>(1);
        let done = Arc::new(AtomicBool::new(false));
        let tell = done.clone();
        let work = move || {
            while turns.recv().is_ok() {
                checkpoint(&connection);
                tell.store(true, Ordering::Release);
            }
        };
        thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(work)
            .map_err(|source| location.unusable(source))?;
        Ok(Self { begin, done, under_way: false, transactions: 0 })
    }

    /// Counts a transaction, and does what is due after it.
    pub(super) fn committed(&mut self, writer: &Connection) {
        self.transactions += 1;
        if self.under_way {
            if self.done.swap(false, Ordering::Acquire) {
                self.under_way = false;
                checkpoint(writer);
            }
        } else if self.transactions >= CHECKPOINT_TRANSACTIONS {
            self.transactions = 0;
            // If the thread has ended, SQLite's own checkpoints bound the log.
            self.under_way = self.begin.try_send(()).is_ok();
        }
    }
}

fn checkpoint(connection: &Connection) {
    if let Err(error) = connection.execute_batch(CHECKPOINT) {
        warn!(%error, "the database's log could not be merged; it is tried again");
    }
}
