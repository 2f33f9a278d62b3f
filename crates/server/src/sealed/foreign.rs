//! Sealed sessions through somebody else's MQTT broker: this server is one of its clients.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, MqttOptions, Publish, QoS,
    TlsConfiguration, Transport,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use stonechat_core::limits::SEALED_FRAME_LEN_MAX;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::topics::{FILTER, Topics, device_of, down_of};
use crate::device::DeviceId;
use crate::limits::{
    FOREIGN_BATCH_FRAMES_MAX, FOREIGN_KEEP_ALIVE, FOREIGN_QUEUE_LEN, FOREIGN_RETRY_MAX,
    FOREIGN_RETRY_MIN, FOREIGN_TOPIC_LEN_MAX,
};

/// Where the broker is and how to sign in.
#[derive(Clone, PartialEq, Eq)]
pub struct ForeignBroker {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it is reached by TLS, and the file of the certificates that it is held against.
    pub tls: Option<PathBuf>,
    /// User name and password.
    pub login: Option<(String, String)>,
}

/// Why a foreign broker cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// The address is none.
    #[error("`{0}` is no broker; write mqtt://HOST:PORT, mqtts://HOST:PORT or off")]
    Url(String),
    /// For TLS, nothing says whose certificates to trust.
    #[error("mqtts:// needs foreign_broker_ca, a file of the certificates that sign the broker's")]
    NoAuthority,
    /// A file cannot be read.
    #[error("cannot read `{path}`: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The login's file has another shape.
    #[error("`{0}` must hold one line: USER PASSWORD")]
    Login(PathBuf),
    /// The authority's file holds no certificate.
    #[error("`{0}` holds no certificate that can be used")]
    Authority(PathBuf),
}

impl ForeignBroker {
    /// Reads `mqtt://HOST[:PORT]` or `mqtts://HOST[:PORT]`, with the file of its login and the file
    /// of its authority, which may be empty; `off` is none.
    ///
    /// # Errors
    /// What is wrong, and with which of them.
    pub fn read(url: &str, login: &Path, authority: &Path) -> Result<Option<Self>, ForeignError> {
        if url == "off" {
            return Ok(None);
        }
        let bad = || ForeignError::Url(url.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
        let (is_tls, standard) = match scheme {
            "mqtt" => (false, 1883),
            "mqtts" => (true, 8883),
            _ => return Err(bad()),
        };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse().map_err(|_| bad())?)
            }
            _ => (rest, standard),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(bad());
        }
        if is_tls && authority.as_os_str().is_empty() {
            return Err(ForeignError::NoAuthority);
        }
        let login = if login.as_os_str().is_empty() { None } else { Some(read_login(login)?) };
        Ok(Some(Self {
            host: host.to_owned(),
            port,
            tls: is_tls.then(|| authority.to_path_buf()),
            login,
        }))
    }
}

fn read_login(path: &Path) -> Result<(String, String), ForeignError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ForeignError::File { path: path.to_path_buf(), source })?;
    let mut words = text.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(user), Some(password), None) => Ok((user.to_owned(), password.to_owned())),
        _ => Err(ForeignError::Login(path.to_path_buf())),
    }
}

/// Makes the TLS of a client: 1.3 only, aws-lc, and only these authorities.
///
/// # Errors
/// When the file cannot be read or holds no certificate.
pub fn client_tls(authority: &Path) -> Result<Arc<rustls::ClientConfig>, ForeignError> {
    let unusable = || ForeignError::Authority(authority.to_path_buf());
    let bytes = std::fs::read(authority)
        .map_err(|source| ForeignError::File { path: authority.to_path_buf(), source })?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        roots.add(certificate.map_err(|_| unusable())?).map_err(|_| unusable())?;
    }
    if roots.is_empty() {
        return Err(unusable());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| unusable())?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// A client of a foreign broker that runs.
pub struct ForeignClient {
    client: AsyncClient,
    tasks: [JoinHandle<()>; 2],
}

impl ForeignClient {
    /// Starts a client; it connects, and connects again, by itself.
    ///
    /// # Errors
    /// When the files for TLS cannot be used.
    pub fn start(broker: &ForeignBroker, topics: Arc<Topics>) -> Result<Self, ForeignError> {
        let mut options = MqttOptions::new(client_id(), &broker.host, broker.port);
        options.set_keep_alive(FOREIGN_KEEP_ALIVE);
        options.set_clean_session(true);
        let packet_len_max = SEALED_FRAME_LEN_MAX + FOREIGN_TOPIC_LEN_MAX;
        options.set_max_packet_size(packet_len_max, packet_len_max);
        if let Some((user, password)) = &broker.login {
            options.set_credentials(user, password);
        }
        if let Some(authority) = &broker.tls {
            let config = client_tls(authority)?;
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
        }
        let (client, events) = AsyncClient::new(options, FOREIGN_QUEUE_LEN);
        let (frames, arrived) = mpsc::channel(FOREIGN_QUEUE_LEN);
        let tasks = [
            tokio::spawn(listen(events, client.clone(), frames)),
            tokio::spawn(answer(arrived, client.clone(), topics)),
        ];
        Ok(Self { client, tasks })
    }

    /// Says farewell and ends.
    pub async fn stop(self) {
        let _ = self.client.disconnect().await;
        let [listening, answering] = self.tasks;
        let abort = listening.abort_handle();
        if tokio::time::timeout(Duration::from_secs(1), listening).await.is_err() {
            abort.abort();
        }
        answering.abort();
    }
}

/// A name of our own, as a second client of the same name would throw the first one out.
fn client_id() -> String {
    let mut random = [0; 8];
    // Without randomness, the process's number tells two servers of one host apart.
    if getrandom::fill(&mut random).is_err() {
        random = u64::from(std::process::id()).to_le_bytes();
    }
    format!("stonechat-{:016x}", u64::from_le_bytes(random))
}

/// Subscribes, listens, and connects again.
async fn listen(mut events: EventLoop, client: AsyncClient, frames: mpsc::Sender<Publish>) {
    let mut wait = FOREIGN_RETRY_MIN;
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                info!("connected to the foreign broker");
                wait = FOREIGN_RETRY_MIN;
                if client.try_subscribe(FILTER, QoS::AtLeastOnce).is_err() {
                    warn!("cannot subscribe at the foreign broker: its queue is full");
                }
            }
            // While the queue is full nothing more is read: the broker holds it back, or drops it,
            // and the device sends it again.
            Ok(Event::Incoming(Incoming::Publish(publish))) => {
                if frames.send(publish).await.is_err() {
                    return;
                }
            }
            Ok(
                Event::Incoming(Incoming::Disconnect)
                | Event::Outgoing(rumqttc::Outgoing::Disconnect),
            ) => {
                return;
            }
            Ok(_) => {}
            Err(ConnectionError::RequestsDone) => return,
            Err(error) => {
                warn!(%error, "the foreign broker cannot be reached");
                sleep(wait).await;
                wait = (wait * 2).min(FOREIGN_RETRY_MAX);
            }
        }
    }
}

/// Takes in together what has come, and publishes the answers.
async fn answer(mut arrived: mpsc::Receiver<Publish>, client: AsyncClient, topics: Arc<Topics>) {
    let mut publishes = Vec::new();
    while arrived.recv_many(&mut publishes, FOREIGN_BATCH_FRAMES_MAX).await > 0 {
        let frames: Vec<(DeviceId, &[u8])> = publishes
            .iter()
            .filter_map(|publish| Some((device_of(&publish.topic)?, &publish.payload[..])))
            .collect();
        for (device, frame) in topics.take_all(&frames).await {
            // The client's queue is short while it is not connected; the device asks again.
            if client.try_publish(down_of(&device), QoS::AtLeastOnce, false, frame).is_err() {
                debug!(%device, "an answer through the foreign broker was dropped");
            }
        }
        publishes.clear();
    }
}
