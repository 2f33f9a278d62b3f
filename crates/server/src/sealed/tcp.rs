//! Sealed sessions over TCP: frames behind their lengths, one connection a device.
//!
//! A connection has two halves. One reads, opens and decodes; the other commits what was read
//! together, acknowledges it and writes. So the next frames are opened while the last ones are
//! being stored, and a store that falls behind makes the reading half wait.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use stonechat_core::link::frame::{Delimited, Frame, delimit, length, rejected};
use stonechat_core::link::{LinkError, PublicKey};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::batch::{Batch, acknowledge};
use super::rate::{Bucket, Buckets, Rate, source};
use super::responder::{Refusal, Responder};
use super::session::{Sealer, Session};
use super::{Peer, Peers};
use crate::clock::now_ms;
use crate::ingest::Ingest;
use crate::limits::{
    SEALED_ACCEPT_PAUSE, SEALED_BATCH_MESSAGES_MAX, SEALED_BATCHES_WAITING_MAX,
    SEALED_CONNECTIONS_MAX, SEALED_CONNECTIONS_PER_SOURCE_MAX, SEALED_HANDSHAKE_TIMEOUT,
    SEALED_HANDSHAKES_AT_ONCE, SEALED_HANDSHAKES_PER_S, SEALED_HANDSHAKES_PER_SOURCE_AT_ONCE,
    SEALED_HANDSHAKES_PER_SOURCE_PER_S, SEALED_IDLE_MAX, SEALED_READ_LEN, SEALED_READ_LEN_MAX,
    SEALED_SOURCES_MAX, SEALED_UNCONFIRMED_MAX, SEALED_WRITE_TIMEOUT, SHUTDOWN_GRACE,
};
use crate::presence::{Connection as Connected, Presence};

const HANDSHAKES: Rate = Rate { per_s: SEALED_HANDSHAKES_PER_S, burst: SEALED_HANDSHAKES_AT_ONCE };
const HANDSHAKES_PER_SOURCE: Rate =
    Rate { per_s: SEALED_HANDSHAKES_PER_SOURCE_PER_S, burst: SEALED_HANDSHAKES_PER_SOURCE_AT_ONCE };

/// A listener for sealed sessions that runs.
pub struct SealedListener {
    address: SocketAddr,
    key: PublicKey,
    ending: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl SealedListener {
    /// Listens.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub async fn start(
        address: SocketAddr,
        responder: Arc<Responder>,
        ingest: Arc<Ingest>,
        presence: Arc<Presence>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (ending, ended) = watch::channel(false);
        let key = *responder.public();
        let site = Arc::new(Site { responder, ingest, presence, doors: Doors::new(), ended });
        let task = tokio::spawn(accept(listener, site));
        Ok(Self { address, key, ending, task })
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the key that devices pin.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Takes no more frames in, acknowledges what is being stored, and ends.
    pub async fn stop(self) {
        self.ending.send_replace(true);
        let abort = self.task.abort_handle();
        if timeout(SHUTDOWN_GRACE, self.task).await.is_err() {
            warn!("some sealed connections took too long and were cut off");
            abort.abort();
        }
    }
}

/// What all connections share.
struct Site {
    responder: Arc<Responder>,
    ingest: Arc<Ingest>,
    presence: Arc<Presence>,
    doors: Doors,
    ended: watch::Receiver<bool>,
}

/// Who may come in, and how often.
struct Doors {
    connections: Arc<Semaphore>,
    unconfirmed: Arc<Semaphore>,
    sources: Mutex<HashMap<IpAddr, usize>>,
    handshakes: Mutex<(Bucket, Buckets<IpAddr>)>,
}

/// Leave to stay connected.
struct Leave {
    _connection: OwnedSemaphorePermit,
    /// Given back when the peer has proved who it is.
    unconfirmed: Option<OwnedSemaphorePermit>,
}

impl Doors {
    fn new() -> Self {
        let all = Bucket::new(HANDSHAKES, Instant::now());
        let each = Buckets::new(HANDSHAKES_PER_SOURCE, SEALED_SOURCES_MAX);
        Self {
            connections: Arc::new(Semaphore::new(SEALED_CONNECTIONS_MAX)),
            unconfirmed: Arc::new(Semaphore::new(SEALED_UNCONFIRMED_MAX)),
            sources: Mutex::new(HashMap::new()),
            handshakes: Mutex::new((all, each)),
        }
    }

    /// Counts a source in, unless there are too many of it or in all.
    fn enter(&self, source: IpAddr) -> Option<Leave> {
        let connection = self.connections.clone().try_acquire_owned().ok()?;
        let unconfirmed = self.unconfirmed.clone().try_acquire_owned().ok()?;
        let mut sources = self.sources.lock();
        let count = sources.entry(source).or_default();
        if *count >= SEALED_CONNECTIONS_PER_SOURCE_MAX {
            return None;
        }
        *count += 1;
        Some(Leave { _connection: connection, unconfirmed: Some(unconfirmed) })
    }

    fn exit(&self, source: IpAddr) {
        let mut sources = self.sources.lock();
        if let Some(count) = sources.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&source);
            }
        }
    }

    fn may_shake_hands(&self, source: IpAddr) -> bool {
        let now = Instant::now();
        let (all, each) = &mut *self.handshakes.lock();
        // The source first, so that one that has had enough takes nothing from the others.
        each.take(source, now) && all.take(HANDSHAKES, now)
    }
}

async fn accept(listener: TcpListener, site: Arc<Site>) {
    let mut ended = site.ended.clone();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ended.wait_for(|&ended| ended) => break,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, address)) => {
                let source = source(address.ip());
                match site.doors.enter(source) {
                    Some(leave) => {
                        let site = site.clone();
                        connections.spawn(async move {
                            serve(&site, stream, address, source, leave).await;
                            site.doors.exit(source);
                        });
                    }
                    None => debug!(%address, "too many sealed connections; one was closed"),
                }
            }
            Err(error) => {
                warn!(%error, "a sealed connection could not be accepted");
                sleep(SEALED_ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Why a connection ended; for the log.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("nothing came for too long")]
    Silent,
    #[error("the peer did not prove in time who it is")]
    Unconfirmed,
    #[error("too many handshakes")]
    TooOften,
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the key of {0} came on the connection of another device")]
    Changed(String),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the store failed")]
    NotStored,
    #[error("the server is stopping")]
    Stopping,
}

impl End {
    /// Tells whether the peer learns that it was rejected; overload is passed over in silence,
    /// so that nobody takes it for a verdict.
    fn is_rejection(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Changed(_) | Self::Link(_))
    }
}

/// What the reading half hands to the writing half.
enum Work {
    Frame(Vec<u8>),
    Commit(Arc<Sealer>, Batch),
}

async fn serve(site: &Site, stream: TcpStream, address: SocketAddr, source: IpAddr, leave: Leave) {
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    let (work, todo) = mpsc::channel(SEALED_BATCHES_WAITING_MAX);
    let (identified, identity) = watch::channel(None);
    let mut inbound =
        Inbound { site, source, current: None, pending: None, named: 0, leave, work, identified };
    let connected = Connected { peer: Some(address), since_ms: now_ms() };
    let both = async {
        // Ends the writing half by dropping the way to it.
        let read = async {
            let end = inbound.run(reader, connected).await;
            inbound.reject(&end).await;
            drop(inbound);
            end
        };
        let write = write(site, writer, todo);
        tokio::pin!(read, write);
        tokio::select! {
            end = &mut read => { write.await.err().unwrap_or(end) }
            Err(end) = &mut write => end,
        }
    };
    let end = tokio::select! {
        end = both => end.to_string(),
        () = revoked(&**site.responder.peers(), identity.clone()) => "its key was revoked".into(),
    };
    let peer = identity.borrow().clone();
    match peer {
        Some(Peer { device, .. }) => {
            site.presence.disconnected(device.as_str(), connected);
            info!(%device, %address, reason = end, "a sealed connection ended");
        }
        None => debug!(%address, reason = end, "a sealed connection ended"),
    }
}

/// Waits until the key of whoever is at the other end no longer holds.
async fn revoked(peers: &dyn Peers, mut identity: watch::Receiver<Option<Peer>>) {
    let mut changes = peers.changes();
    loop {
        if identity.borrow_and_update().as_ref().is_some_and(|peer| !peers.is_current(peer)) {
            return;
        }
        let alive = tokio::select! {
            changed = identity.changed() => changed.is_ok(),
            changed = changes.changed() => changed.is_ok(),
        };
        if !alive {
            // The connection is ending anyway, or nobody can revoke any more.
            std::future::pending::<()>().await;
        }
    }
}

/// The half that reads.
struct Inbound<'s> {
    site: &'s Site,
    source: IpAddr,
    current: Option<Session>,
    pending: Option<Session>,
    /// The session that the last frame named, to be named in a rejection.
    named: u32,
    leave: Leave,
    work: mpsc::Sender<Work>,
    identified: watch::Sender<Option<Peer>>,
}

impl Inbound<'_> {
    async fn run(&mut self, reader: OwnedReadHalf, connected: Connected) -> End {
        let deadline = Instant::now() + SEALED_HANDSHAKE_TIMEOUT;
        let mut ended = self.site.ended.clone();
        let mut stream = Vec::new();
        let mut text = Vec::new();
        loop {
            let patience = match self.current {
                Some(_) => SEALED_IDLE_MAX,
                None => deadline.saturating_duration_since(Instant::now()),
            };
            let read = tokio::select! {
                read = timeout(patience, fill(&reader, &mut stream)) => read,
                _ = ended.wait_for(|&ended| ended) => return End::Stopping,
            };
            match read {
                Ok(Ok(0)) => return End::Closed,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return error.into(),
                Err(_) if self.current.is_some() => return End::Silent,
                Err(_) => return End::Unconfirmed,
            }
            let was_confirmed = self.current.is_some();
            if let Err(end) = self.take(&mut stream, &mut text).await {
                return end;
            }
            if let (false, Some(session)) = (was_confirmed, &self.current) {
                let device = &session.peer().device;
                info!(%device, source = %self.source, "a sealed connection is confirmed");
                self.site.presence.connected(device.as_str(), connected);
            }
        }
    }

    /// Takes the whole frames out of the stream.
    async fn take(&mut self, stream: &mut Vec<u8>, text: &mut Vec<u8>) -> Result<(), End> {
        let (mut at, mut batch) = (0, Batch::default());
        while let Delimited::Whole(start, end) = delimit(stream, at)? {
            let frame = Frame::parse(&stream[start..end])?;
            self.named = frame.session();
            match frame {
                Frame::Hello { session, noise } => {
                    if self.pending_or_current(session).is_some() {
                        return Err(LinkError::Replayed.into());
                    }
                    if !self.site.doors.may_shake_hands(self.source) {
                        return Err(End::TooOften);
                    }
                    let (session, welcome) = self.site.responder.answer(session, noise)?;
                    self.hello(session)?;
                    self.hand(Work::Frame(welcome.to_vec())).await?;
                }
                Frame::Sealed { session, counter, sealed } => {
                    self.confirm(session, &mut batch).await?;
                    let Some(session) = self.pending_or_current(session) else {
                        return Err(LinkError::UnknownSession.into());
                    };
                    text.clear();
                    session.open(counter, sealed, text)?;
                    let device = session.peer().device.clone();
                    self.promote();
                    batch.push(&self.site.ingest, &device, counter, text);
                }
                Frame::Welcome { .. } | Frame::Rejected { .. } => {
                    return Err(LinkError::Malformed.into());
                }
            }
            at = end;
            if batch.len() >= SEALED_BATCH_MESSAGES_MAX {
                self.flush(&mut batch).await?;
            }
        }
        stream.drain(..at);
        self.flush(&mut batch).await
    }

    /// Keeps a new session until it is confirmed.
    fn hello(&mut self, session: Session) -> Result<(), End> {
        let peer = session.peer().clone();
        let other = self.identified.borrow().as_ref().is_some_and(|known| *known != peer);
        if other {
            return Err(End::Changed(peer.device.to_string()));
        }
        self.identified.send_replace(Some(peer));
        self.pending = Some(session);
        Ok(())
    }

    /// Acknowledges what came in the old session before the first frame of a new one is opened.
    async fn confirm(&mut self, session: u32, batch: &mut Batch) -> Result<(), End> {
        let is_new = self.pending.as_ref().is_some_and(|pending| pending.number() == session);
        if is_new { self.flush(batch).await } else { Ok(()) }
    }

    fn pending_or_current(&mut self, number: u32) -> Option<&mut Session> {
        let of = |session: &&mut Session| session.number() == number;
        self.pending.as_mut().filter(of).or_else(|| self.current.as_mut().filter(of))
    }

    /// Puts a session that has proved genuine in the place of the one before.
    fn promote(&mut self) {
        if self.pending.as_ref().is_some_and(Session::is_confirmed) {
            self.current = self.pending.take();
            self.leave.unconfirmed = None;
        }
    }

    async fn flush(&mut self, batch: &mut Batch) -> Result<(), End> {
        let batch = std::mem::take(batch);
        match &self.current {
            Some(session) if !batch.is_empty() => {
                let sealer = session.sealer().clone();
                self.hand(Work::Commit(sealer, batch)).await
            }
            _ => Ok(()),
        }
    }

    async fn hand(&self, work: Work) -> Result<(), End> {
        self.work.send(work).await.map_err(|_| End::Closed)
    }

    /// Tells the peer that it was rejected, if it was.
    async fn reject(&self, end: &End) {
        if end.is_rejection() {
            let _ = self.hand(Work::Frame(rejected(self.named).to_vec())).await;
        }
    }
}

/// Reads what is there, and waits if nothing is; while it waits, it holds no buffer.
async fn fill(reader: &OwnedReadHalf, stream: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        if stream.is_empty() {
            *stream = Vec::new();
        }
        reader.readable().await?;
        stream.reserve(SEALED_READ_LEN);
        let mut read = 0;
        // As much as is there, so that it is stored in one go.
        loop {
            match reader.try_read_buf(stream) {
                Ok(0) => return Ok(read),
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            if stream.len() >= SEALED_READ_LEN_MAX {
                break;
            }
            stream.reserve(SEALED_READ_LEN);
        }
        if read > 0 {
            return Ok(read);
        }
    }
}

/// The half that stores, acknowledges and writes.
async fn write(
    site: &Site,
    mut writer: OwnedWriteHalf,
    mut todo: mpsc::Receiver<Work>,
) -> Result<(), End> {
    while let Some(work) = todo.recv().await {
        let (mut out, mut whole) = (Vec::new(), true);
        match work {
            Work::Frame(frame) => append(&mut out, &frame),
            Work::Commit(sealer, batch) => {
                let counters;
                (counters, whole) = batch.commit(&site.ingest).await;
                acknowledge(&sealer, &counters, |frame| append(&mut out, frame));
            }
        }
        match timeout(SEALED_WRITE_TIMEOUT, writer.write_all(&out)).await {
            Ok(written) => written?,
            Err(_) => return Err(End::Silent),
        }
        if !whole {
            // The device sends again over a new connection what is not acknowledged.
            return Err(End::NotStored);
        }
    }
    let _ = writer.shutdown().await;
    Ok(())
}

fn append(out: &mut Vec<u8>, frame: &[u8]) {
    out.extend_from_slice(&length(frame));
    out.extend_from_slice(frame);
}
