//! Accepts connections, by TCP and by TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::{FrontError, House, connection};
use crate::limits::{MQTT_BACKLOG, MQTT_HANDSHAKE_TIMEOUT};

/// How long to wait when the operating system gives no connection, as there are too many files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Starts to listen.
pub(super) fn bind(address: SocketAddr, setting: &'static str) -> Result<TcpListener, FrontError> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // After a crash the old connections linger; without this the port is taken until they end.
        socket.set_reuseaddr(true)?;
        // Connections inherit it: a device that vanished ends some time, even without keep-alive.
        socket.set_keepalive(true)?;
        socket.bind(address)?;
        socket.listen(MQTT_BACKLOG)
    };
    listen().map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => FrontError::PortInUse { address, setting },
        _ => FrontError::Listen { address, setting, source },
    })
}

/// Accepts connections until the front end stops.
pub(super) async fn accept_all(
    house: Arc<House>,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    mut ended: watch::Receiver<bool>,
) {
    let tls = tls.map(TlsAcceptor::from);
    let stopping = ended.clone();
    let accepting = async {
        loop {
            // Further ones wait in the operating system's queue.
            let Ok(handshake) = house.handshakes.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    admit(&house, stream, peer, tls.as_ref(), handshake, stopping.clone());
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = ended.wait_for(|&ended| ended) => {}
    }
}

/// Serves a connection in a task of its own, unless there are too many.
fn admit(
    house: &Arc<House>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<&TlsAcceptor>,
    handshake: OwnedSemaphorePermit,
    ended: watch::Receiver<bool>,
) {
    let of_source = house.sources.begin(peer.ip(), Instant::now());
    let connection = house.connections.clone().try_acquire_owned();
    let (Some(of_source), Ok(connection)) = (of_source, connection) else {
        house.counters.turned_away.fetch_add(1, Ordering::Relaxed);
        debug!(%peer, "turned a connection away, as there are too many");
        return;
    };
    let _ = stream.set_nodelay(true);
    let handshake = (handshake, of_source);
    let house = house.clone();
    match tls.cloned() {
        None => tokio::spawn(async move {
            connection::serve(house, stream, peer, None, handshake, ended).await;
            drop(connection);
        }),
        Some(tls) => tokio::spawn(async move {
            serve_tls(house, stream, peer, tls, handshake, ended).await;
            drop(connection);
        }),
    };
}

async fn serve_tls<H: Send>(
    house: Arc<House>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: TlsAcceptor,
    handshake: H,
    mut ended: watch::Receiver<bool>,
) {
    // In boxes, so that a connection that is past it does not keep its memory, and is not moved
    // from one state of the task to the next, each with room of its own.
    let accepted = Box::pin(async {
        let accepting = tokio::time::timeout(MQTT_HANDSHAKE_TIMEOUT, tls.accept(stream));
        tokio::select! {
            accepted = accepting => accepted.ok().map(|accepted| accepted.map(Box::new)),
            _ = ended.wait_for(|&ended| ended) => None,
        }
    })
    .await;
    let stream = match accepted {
        Some(Ok(stream)) => stream,
        failed => {
            house.counters.handshakes_failed.fetch_add(1, Ordering::Relaxed);
            let error = failed.and_then(Result::err);
            debug!(%peer, ?error, "a TLS handshake failed");
            return;
        }
    };
    drop(tls);
    let chain = stream.get_ref().1.peer_certificates();
    let certificate = chain.and_then(<[_]>::first).map(|leaf| leaf.to_vec());
    connection::serve(house, stream, peer, certificate, handshake, ended).await;
}
