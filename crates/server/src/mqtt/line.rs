//! The bytes of one connection, in and out.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_util::bytes::BytesMut;

use super::packet::{Decoder, Fault, Incoming};
use crate::limits::{MQTT_LINGER, MQTT_READ_LEN, MQTT_WRITE_TIMEOUT};

thread_local! {
    /// What is read goes through one buffer a thread, so that ten thousand connections that
    /// wait hold none.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; MQTT_READ_LEN].into());
}

/// Room that keeps the codec from asking for memory after each packet.
const HEADER_ROOM: usize = 8;

/// The bytes of one connection.
pub(super) struct Line<S> {
    stream: S,
    decoder: Decoder,
    received: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, decoder: Decoder::default(), received: BytesMut::new() }
    }

    /// Reads what is there, or waits for some; 0 at the end. May be dropped while it waits.
    pub(super) async fn read(&mut self) -> io::Result<usize> {
        if self.received.is_empty() {
            self.received = BytesMut::new();
        }
        poll_fn(|context| {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut filled = ReadBuf::new(scratch);
                ready!(Pin::new(&mut self.stream).poll_read(context, &mut filled))?;
                let filled = filled.filled();
                self.received.reserve(filled.len() + HEADER_ROOM);
                self.received.extend_from_slice(filled);
                Poll::Ready(Ok(filled.len()))
            })
        })
        .await
    }

    /// Takes the next packet of what was read.
    pub(super) fn next(&mut self) -> Result<Option<Incoming>, Fault> {
        self.decoder.next(&mut self.received)
    }

    pub(super) fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Writes all of it, within bounded time.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        tokio::time::timeout(MQTT_WRITE_TIMEOUT, writing)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Says that nothing more comes, and lets the client say the same: with unread bytes the
    /// operating system would reset the connection, and the last words could get lost.
    pub(super) async fn close(&mut self) {
        let closing = async {
            self.stream.shutdown().await?;
            while self.read().await? > 0 {
                self.received = BytesMut::new();
            }
            io::Result::Ok(())
        };
        let _ = tokio::time::timeout(MQTT_LINGER, closing).await;
    }
}
