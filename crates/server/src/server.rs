//! A whole server: store, MQTT, HTTP.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::{Bound, Range};
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tracing::{info, warn};

use crate::access::{Access, Actor};
use crate::alarm::Change;
use crate::api::{self, Context, Device, Hosts, Peer};
use crate::clock::now_ms;
use crate::codec::latent::Decoders;
use crate::identity::listener::TlsListener;
use crate::identity::tls::{ClientCertificates, server_config};
use crate::identity::{Addresses, Directory, Enroller, KeyError, Ports, Registry, ServerKeys};
use crate::ingest::Ingest;
use crate::legacy::{self, BadPacketKey, Legacy, PacketKey};
use crate::limits::{
    ACCESS_SWEEP_INTERVAL, LIVE_DEVICE_INTERVAL, LIVE_DEVICES_PER_INTERVAL, LIVE_SILENCE_CHECK_MS,
    SHUTDOWN_GRACE,
};
use crate::live::Hub;
use crate::mqtt::{Doors, Downlink, Front, FrontError};
use crate::presence::Presence;
use crate::sealed::{SealedError, SealedFront};
use crate::settings::Settings;
use crate::store::{self, Store, StoreError};

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server's own keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The front end for devices cannot listen.
    #[error(transparent)]
    Mqtt(#[from] FrontError),
    /// Sealed sessions cannot be served.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// The key of the old packets cannot be used.
    #[error(transparent)]
    PacketKey(#[from] BadPacketKey),
    /// The operating system gives no threads.
    #[error("cannot start threads: {0}")]
    Threads(std::io::Error),
    /// Another program has the HTTP port.
    #[error("port in use: {0}; stop what listens there, or choose another with --{1}")]
    PortInUse(SocketAddr, &'static str),
    /// The HTTP address cannot be used.
    #[error("cannot listen on {address}: {source}; choose another with --{setting}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The setting that names it.
        setting: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// Starts servers.
#[derive(Debug)]
pub struct Server;

/// A server that runs.
pub struct Running {
    /// Where HTTP is served.
    pub http_addr: SocketAddr,
    /// Where HTTPS is served, if it is.
    pub https_addr: Option<SocketAddr>,
    /// Where devices connect by MQTT.
    pub mqtt_addr: SocketAddr,
    /// Where devices connect by MQTT within TLS.
    pub mqtts_addr: Option<SocketAddr>,
    /// Where sealed sessions are served over TCP, if they are.
    pub sealed_addr: Option<SocketAddr>,
    /// Where old packets are taken in, if they are.
    pub legacy_addr: Option<SocketAddr>,
    legacy: Option<Legacy>,
    registry: Registry,
    keys: Arc<ServerKeys>,
    store: Arc<dyn Store>,
    front: Front,
    sealed: SealedFront,
    access: Arc<Access>,
    ending: watch::Sender<bool>,
    http: JoinHandle<()>,
    https: Option<JoinHandle<()>>,
    ticker: JoinHandle<()>,
    sweeper: JoinHandle<()>,
}

impl Server {
    /// Opens the store, starts the MQTT front end, serves HTTP.
    ///
    /// # Errors
    /// When the data folder or an address cannot be used; nothing is left running then.
    pub async fn start(settings: Settings) -> Result<Running, StartError> {
        let (listener, http_addr) = listen(settings.http, "http").await?;
        let https = match settings.https.address() {
            Some(address) => Some(listen(address, "https").await?),
            None => None,
        };
        let legacy = match settings.legacy.address() {
            Some(address) => Some(listen(address, "legacy").await?),
            None => None,
        };
        let legacy_addr = legacy.as_ref().map(|(_, address)| *address);
        let https_addr = https.as_ref().map(|(_, address)| *address);
        let store = store::open(&settings)?;
        let (hub, presence) = (Hub::default(), Arc::new(Presence::default()));
        let started = async {
            let (directory, keys) = identify(&settings, &store).await?;
            let ingest = Ingest::new(store.clone(), hub.clone(), presence.clone());
            let ingest = Arc::new(ingest.with_choice(directory.clone()));
            let legacy = open_legacy(&settings, legacy, &keys, &directory, &ingest)?;
            let https_listener = https_listener(https, &keys)?;
            let doors = doors(&settings, &keys)?;
            let (secret, peers) = (keys.link_secret(), directory.clone());
            let sealed =
                SealedFront::start(&settings, secret, peers, ingest.clone(), presence.clone())
                    .await?;
            let topics = sealed.topics().clone();
            let (directory_, ingest_, presence_) =
                (directory.clone(), ingest.clone(), presence.clone());
            let front = match Front::start(doors, directory_, ingest_, presence_, topics) {
                Ok(front) => front,
                Err(error) => {
                    sealed.stop().await;
                    return Err(error.into());
                }
            };
            Ok((directory, keys, ingest, legacy, https_listener, sealed, front))
        };
        let (directory, keys, ingest, legacy, https_listener, sealed, front) = match started.await {
            Ok(started) => started,
            Err(error) => {
                store.close().await;
                return Err(error);
            }
        };
        let access = Arc::new(Access::new(store.clone()));
        let (mqtt_addr, mqtts_addr) = (front.address(), front.tls_address());
        let sealed_addr = sealed.address();
        let registry = Registry::within(store.clone(), directory.clone());
        let host = settings.allowed_hosts.first().map_or("localhost", String::as_str);
        let [mqtts, https_port, sealed_port] = [mqtts_addr, https_addr, sealed_addr]
            .map(|address| address.map(|address| address.port()));
        let ports = Ports { mqtts, https: https_port, sealed: sealed_port };
        if let Err(error) = ports.announce(&*store).await {
            warn!(%error, "bundles that are made now will not know where this server speaks");
        }
        let addresses = Addresses::at(host, ports);
        let enroller = Enroller::new(registry.clone(), keys.clone(), addresses);
        let (ending, ended) = watch::channel(false);
        let context = Context {
            store: store.clone(),
            hub,
            presence,
            ingest,
            mqtt: front.counters().clone(),
            hosts: Arc::new(Hosts::new(settings.allowed_hosts).behind(settings.trusted_proxies)),
            access: access.clone(),
            metrics_on_loopback: settings.metrics_on_loopback,
            enroller: https_addr.map(|_| Arc::new(enroller)),
            directory,
            downlink: Some(front.downlink()),
            decoders: Arc::new(Decoders::of(&settings.data)),
            legacy: legacy.as_ref().map(|legacy| legacy.counters().clone()),
            started_ms: now_ms(),
            silent_after_ms: i64::from(settings.silent_after_s) * 1_000,
            ending: ended,
        };
        let ticker = tokio::spawn(publish_devices(context.clone()));
        let sweeper = tokio::spawn(sweep(access.clone(), settings.audit_days));
        if let Some(changes) = store.late_changes() {
            tokio::spawn(publish_late_alarms(context.ingest.clone(), changes));
        }
        let https = https_listener.map(|listener| tokio::spawn(serve(listener, context.clone())));
        let http = tokio::spawn(serve(listener, context));
        let data = settings.data.display();
        info!(%http_addr, ?https_addr, %mqtt_addr, ?mqtts_addr, ?sealed_addr, %data, "started");
        Ok(Running {
            http_addr,
            https_addr,
            mqtt_addr,
            mqtts_addr,
            sealed_addr,
            legacy_addr,
            legacy,
            registry,
            keys,
            store,
            front,
            sealed,
            access,
            ending,
            http,
            https,
            ticker,
            sweeper,
        })
    }
}

impl Running {
    /// Returns the devices and their tokens.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns the server's own keys.
    #[must_use]
    pub fn keys(&self) -> &Arc<ServerKeys> {
        &self.keys
    }

    /// Counts the devices that are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.front.connected()
    }

    /// Returns what sends messages to devices that are connected by MQTT.
    #[must_use]
    pub fn downlink(&self) -> Downlink {
        self.front.downlink()
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Returns what became of old packets, if they are taken in.
    #[must_use]
    pub fn legacy_counters(&self) -> Option<&legacy::Counters> {
        self.legacy.as_ref().map(|legacy| &**legacy.counters())
    }

    /// Returns accounts, sessions, tokens and the audit log.
    #[must_use]
    pub fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// Stops taking connections, ends those that are there, and closes the store; every message
    /// that was acknowledged is on disk anyway.
    pub async fn shutdown(self) {
        info!("stopping");
        self.front.stop().await;
        self.sealed.stop().await;
        if let Some(legacy) = self.legacy {
            legacy.stop().await;
        }
        self.ending.send_replace(true);
        self.ticker.abort();
        self.sweeper.abort();
        let serving: Vec<_> = std::iter::once(self.http).chain(self.https).collect();
        let aborts: Vec<_> = serving.iter().map(JoinHandle::abort_handle).collect();
        if tokio::time::timeout(SHUTDOWN_GRACE, join_all(serving)).await.is_err() {
            warn!("some requests took too long and were cut off");
            aborts.iter().for_each(AbortHandle::abort);
        }
        self.store.close().await;
        info!("stopped");
    }
}

/// Opens what says who is who: the devices, and the server's own keys.
async fn identify(
    settings: &Settings,
    store: &Arc<dyn Store>,
) -> Result<(Arc<Directory>, Arc<ServerKeys>), StartError> {
    let directory = Directory::start(store.clone()).await?;
    let keys = ServerKeys::open(&settings.data, &settings.allowed_hosts, &**store).await?;
    let keys = Arc::new(keys);
    tokio::spawn(crate::identity::keys::keep_renewed(Arc::downgrade(&keys)));
    Ok((directory, keys))
}

/// Opens the port of the old packets, if it is switched on.
fn open_legacy(
    settings: &Settings,
    bound: Option<(TcpListener, SocketAddr)>,
    keys: &ServerKeys,
    directory: &Arc<Directory>,
    ingest: &Arc<Ingest>,
) -> Result<Option<Legacy>, StartError> {
    let Some((listener, address)) = bound else {
        return Ok(None);
    };
    warn!(%address, "taking in old packets, which anyone can forge; their readings are marked");
    let key = PacketKey::from_pkcs8(keys.packets_key())?;
    let (directory, ingest) = (directory.clone(), ingest.clone());
    Legacy::start(listener, key, directory, ingest, settings.legacy_utc_offset)
        .map(Some)
        .map_err(StartError::Threads)
}

/// Makes the HTTPS listener, if there is to be one.
fn https_listener(
    bound: Option<(TcpListener, SocketAddr)>,
    keys: &ServerKeys,
) -> Result<Option<TlsListener>, StartError> {
    let Some((listener, address)) = bound else {
        return Ok(None);
    };
    let config =
        server_config(keys, ClientCertificates::None, &[b"http/1.1"]).map_err(KeyError::from)?;
    TlsListener::start(listener, config).map(Some).map_err(|source| StartError::Listen {
        address,
        setting: "https",
        source,
    })
}

/// Puts together where devices come in by MQTT.
fn doors(settings: &Settings, keys: &ServerKeys) -> Result<Doors, KeyError> {
    let tls = match settings.mqtts.address() {
        Some(address) => Some((address, server_config(keys, ClientCertificates::Optional, &[])?)),
        None => None,
    };
    Ok(Doors { plain: settings.mqtt, tls })
}

async fn listen(
    address: SocketAddr,
    setting: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = TcpListener::bind(address).await;
    let bound = bound.and_then(|listener| listener.local_addr().map(|local| (listener, local)));
    bound.map_err(|source| {
        if source.kind() == std::io::ErrorKind::AddrInUse {
            StartError::PortInUse(address, setting)
        } else {
            StartError::Listen { address, setting, source }
        }
    })
}

async fn serve<L>(listener: L, context: Context)
where
    L: Listener,
    L::Addr: std::fmt::Debug,
    Peer: for<'a> Connected<IncomingStream<'a, L>>,
{
    let mut ending = context.ending.clone();
    let ended = async move {
        let _ = ending.wait_for(|&ending| ending).await;
    };
    let app = api::router(context).into_make_service_with_connect_info::<Peer>();
    let served = axum::serve(listener, app).with_graceful_shutdown(ended).await;
    if let Err(error) = served {
        tracing::error!(%error, "HTTP ended");
    }
}

/// Removes, now and then, sessions and links that are over, and old audit entries.
async fn sweep(access: Arc<Access>, audit_days: u32) {
    let mut interval = tokio::time::interval(ACCESS_SWEEP_INTERVAL);
    loop {
        interval.tick().await;
        let now_ms = now_ms();
        if let Err(error) = access.sweep(now_ms).await {
            warn!(%error, "sessions that are over could not be removed");
        }
        if audit_days > 0 {
            let before_ms = now_ms - i64::from(audit_days) * 24 * 60 * 60 * 1_000;
            if let Err(error) = access.audit().prune(before_ms, &Actor::server()).await {
                warn!(%error, "old audit entries could not be removed");
            }
        }
    }
}

/// Publishes alarms that were found when messages of the spool reached the database.
async fn publish_late_alarms(ingest: Arc<Ingest>, mut changes: broadcast::Receiver<Change>) {
    loop {
        match changes.recv().await {
            Ok(change) => ingest.publish_alarms(&[change]),
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                warn!(
                    missed,
                    "alarms of the spool were not published; the list of alarms has them"
                );
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Publishes devices with news, and those that fell silent, to live clients at a bounded rate.
async fn publish_devices(context: Context) {
    let mut interval = tokio::time::interval(LIVE_DEVICE_INTERVAL);
    let (mut pending, mut last) = (BTreeSet::new(), String::new());
    let mut checked_ms = now_ms();
    loop {
        interval.tick().await;
        let changed = context.presence.take_changed();
        let now_ms = now_ms();
        if context.hub.watchers() == 0 {
            pending.clear();
            checked_ms = now_ms;
            continue;
        }
        pending.extend(changed);
        if now_ms - checked_ms >= LIVE_SILENCE_CHECK_MS {
            pending.extend(fell_silent(&context, checked_ms..now_ms).await);
            checked_ms = now_ms;
        }
        for id in next_devices(&mut pending, &mut last) {
            // A device that the store does not know yet has no news to tell.
            if let Ok(Some(record)) = context.store.device(&id).await {
                let device = Device::of(record, &context, now_ms).without_scores();
                context.hub.publish("device", &id, &device);
            }
        }
    }
}

/// Finds the devices whose time ran out within a span.
async fn fell_silent(context: &Context, span_ms: Range<i64>) -> Vec<String> {
    let devices = context.store.devices().await.unwrap_or_default();
    let ran_out = |seen_ms: i64| span_ms.contains(&(seen_ms + context.silent_after_ms));
    let silent = devices.into_iter().filter(|record| record.last_seen_ms.is_some_and(ran_out));
    silent.map(|record| record.id).collect()
}

/// Takes the next devices in turn, no more than live clients can follow.
fn next_devices(pending: &mut BTreeSet<String>, last: &mut String) -> Vec<String> {
    let after = pending.range::<str, _>((Bound::Excluded(last.as_str()), Bound::Unbounded));
    let mut taken: Vec<String> = after.take(LIVE_DEVICES_PER_INTERVAL).cloned().collect();
    let room = LIVE_DEVICES_PER_INTERVAL - taken.len();
    let before = pending.range::<str, _>((Bound::Unbounded, Bound::Included(last.as_str())));
    taken.extend(before.take(room).cloned());
    for id in &taken {
        pending.remove(id);
    }
    if let Some(id) = taken.last() {
        last.clone_from(id);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_gets_its_turn() {
        let all: Vec<String> =
            (0..LIVE_DEVICES_PER_INTERVAL * 2 + 10).map(|i| format!("device-{i:05}")).collect();
        let (mut pending, mut last) = (BTreeSet::new(), String::new());
        let mut served = BTreeSet::new();
        for _ in 0..3 {
            // All of them have news again each time.
            pending.extend(all.iter().cloned());
            let taken = next_devices(&mut pending, &mut last);
            assert_eq!(taken.len(), LIVE_DEVICES_PER_INTERVAL);
            served.extend(taken);
        }
        assert_eq!(served.len(), all.len());
    }
}
