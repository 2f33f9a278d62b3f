//! The shell of a device that speaks sealed sessions: over TCP, or through an MQTT broker, which
//! may be somebody else's.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rumqttc::{
    AsyncClient, Event as MqttEvent, Incoming, MqttOptions, QoS, TlsConfiguration, Transport,
};
use stonechat_core::device::Device;
use stonechat_core::limits::SEALED_FRAME_LEN_MAX;
use stonechat_core::link::frame::{Delimited, SEALED_OVERHEAD, delimit, length};
use stonechat_core::link::{Event, HANDSHAKE_RANDOM_LEN, Link, LinkError, PublicKey, SecretKey};
use stonechat_server::sealed::foreign::{ForeignBroker, client_tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::bundle;
use crate::cmd::device::split_address;
use crate::output::Hinted;
use crate::shell;
use crate::shell::{KEEP_ALIVE, RECONNECT_WAIT_MAX, RECONNECT_WAIT_MIN, Uplink, micros};

/// Rejections in a row after which a device gives up. One proves nothing: anybody on the way can
/// say "rejected".
const REJECTIONS_MAX: u32 = 3;
/// What is not acknowledged for this long is sent again.
const RESEND_AFTER: Duration = Duration::from_secs(5);
/// Frames that wait for the carrier, each way.
const FRAMES_WAITING_MAX: usize = 64;
/// The longest topic of a device, with the packet's header.
const TOPIC_LEN_MAX: usize = 256;

/// How a device speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// MQTT, over TLS where there is a bundle.
    Mqtt,
    /// A sealed session: for chips without TLS, and through brokers of others.
    Sealed,
}

/// What the command line says about sealed links.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How the device speaks to the server.
    #[arg(long, value_enum, value_name = "LINK", default_value = "mqtt")]
    link: Kind,
    /// The MQTT broker that carries a sealed link instead of TCP: mqtt://HOST:PORT or mqtts://HOST:PORT.
    #[arg(long, value_name = "URL", conflicts_with = "server")]
    broker: Option<String>,
    /// The file with `USER PASSWORD` for that broker.
    #[arg(long, value_name = "FILE", requires = "broker")]
    broker_login: Option<PathBuf>,
    /// The file of the certificates (PEM) that sign that broker's, for mqtts://.
    #[arg(long, value_name = "FILE", requires = "broker")]
    broker_ca: Option<PathBuf>,
}

impl Args {
    /// Tells whether the link is to be sealed.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.link == Kind::Sealed
    }

    /// Connects as a bundle says, or to another address of the same server, or through a broker.
    pub(crate) fn link(
        &self,
        path: &Path,
        server: Option<&(String, u16)>,
    ) -> anyhow::Result<shell::Link> {
        let bundle = bundle::read(path)?;
        let secret = bundle.credentials.link_key.as_ref().ok_or_else(|| {
            Hinted::new(
                format!("the bundle `{}` holds no key for a sealed link", path.display()),
                "`stonechat device rotate ID -o FILE` makes one that does",
            )
        })?;
        let none = PathBuf::new();
        let broker = match &self.broker {
            Some(url) => ForeignBroker::read(
                url,
                self.broker_login.as_ref().unwrap_or(&none),
                self.broker_ca.as_ref().unwrap_or(&none),
            )?,
            None => None,
        };
        let named = bundle.server.addresses.sealed.as_deref().map(split_address).transpose()?;
        let place = broker.as_ref().map(|broker| (broker.host.clone(), broker.port));
        let (host, port) = place.or(server.cloned()).or(named).ok_or_else(|| {
            Hinted::new(
                format!("the bundle `{}` names no address for sealed links", path.display()),
                "name it with --server, or set `sealed` in the server's settings and make a new bundle",
            )
        })?;
        let device = SecretKey::from_bytes(secret.0);
        let sealed = Sealed { device, server: bundle.server.link_key.0, broker };
        let id = bundle.device.as_str().to_owned();
        Ok(shell::Link { host, port, id, token: None, tls: None, sealed: Some(sealed) })
    }
}

/// The keys of a sealed link, and the broker that carries it, if not TCP.
#[derive(Clone)]
pub(crate) struct Sealed {
    pub(crate) device: SecretKey,
    pub(crate) server: PublicKey,
    pub(crate) broker: Option<ForeignBroker>,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("server", &self.server).finish_non_exhaustive()
    }
}

/// What a carrier brings.
pub(crate) enum Arrival {
    /// Frames can go out.
    Up,
    /// A frame came in.
    Frame(Vec<u8>),
}

type Arrivals = mpsc::Receiver<Result<Arrival, String>>;

/// What carries frames, for as long as one connection lasts.
struct Carrier {
    way: Way,
    arrivals: Arrivals,
    task: JoinHandle<()>,
    is_up: bool,
}

enum Way {
    Tcp(mpsc::Sender<Vec<u8>>),
    Mqtt { client: AsyncClient, up: String },
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Carrier {
    /// Connects after `wait`, in a task of its own.
    fn open(place: &shell::Link, sealed: &Sealed, wait: Duration) -> anyhow::Result<Self> {
        let (arrived, arrivals) = mpsc::channel(FRAMES_WAITING_MAX);
        let (way, task) = match &sealed.broker {
            Some(broker) => open_mqtt(broker, &place.id, wait, arrived)?,
            None => {
                let (frames, outgoing) = mpsc::channel(FRAMES_WAITING_MAX);
                let address = (place.host.clone(), place.port);
                let task = tokio::spawn(async move {
                    sleep(wait).await;
                    let reason = carry_tcp(address, outgoing, &arrived).await;
                    let _ = arrived.send(Err(reason)).await;
                });
                (Way::Tcp(frames), task)
            }
        };
        Ok(Self { way, arrivals, task, is_up: false })
    }

    /// Tells whether another frame can go out now.
    fn has_room(&self) -> bool {
        self.is_up
            && match &self.way {
                Way::Tcp(frames) => frames.capacity() > 0,
                Way::Mqtt { .. } => true,
            }
    }

    /// Sends a frame; one that finds no room is lost, as any may be.
    fn send(&self, frame: Vec<u8>) {
        let sent = match &self.way {
            Way::Tcp(frames) => frames.try_send(frame).is_ok(),
            Way::Mqtt { client, up } => {
                client.try_publish(up, QoS::AtLeastOnce, false, frame).is_ok()
            }
        };
        if !sent {
            tracing::debug!("a frame found no room and is sent again later");
        }
    }
}

/// Carries frames over TCP until the connection ends; says why.
async fn carry_tcp(
    address: (String, u16),
    mut outgoing: mpsc::Receiver<Vec<u8>>,
    arrived: &mpsc::Sender<Result<Arrival, String>>,
) -> String {
    let mut stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    let _ = stream.set_nodelay(true);
    let (mut reader, mut writer) = stream.split();
    let mut received = Vec::new();
    if arrived.send(Ok(Arrival::Up)).await.is_err() {
        return String::new();
    }
    loop {
        tokio::select! {
            frame = outgoing.recv() => {
                let Some(frame) = frame else { return String::new() };
                let bytes = [&length(&frame)[..], &frame].concat();
                if let Err(error) = writer.write_all(&bytes).await {
                    return error.to_string();
                }
            }
            read = reader.read_buf(&mut received) => match read {
                Ok(0) => return "the server closed the connection".to_owned(),
                Ok(_) => loop {
                    match delimit(&received, 0) {
                        Ok(Delimited::Whole(start, end)) => {
                            let frame = received[start..end].to_vec();
                            received.drain(..end);
                            if arrived.send(Ok(Arrival::Frame(frame))).await.is_err() {
                                return String::new();
                            }
                        }
                        Ok(Delimited::Partial) => break,
                        Err(error) => return error.to_string(),
                    }
                },
                Err(error) => return error.to_string(),
            },
        }
    }
}

fn open_mqtt(
    broker: &ForeignBroker,
    id: &str,
    wait: Duration,
    arrived: mpsc::Sender<Result<Arrival, String>>,
) -> anyhow::Result<(Way, JoinHandle<()>)> {
    let mut options = MqttOptions::new(id, &broker.host, broker.port);
    if let Some((user, password)) = &broker.login {
        options.set_credentials(user, password);
    }
    if let Some(authority) = &broker.tls {
        let tls = TlsConfiguration::Rustls(client_tls(authority)?);
        options.set_transport(Transport::tls_with_config(tls));
    }
    options.set_keep_alive(KEEP_ALIVE);
    let packet_len_max = SEALED_FRAME_LEN_MAX + TOPIC_LEN_MAX;
    options.set_max_packet_size(packet_len_max, packet_len_max);
    let (client, mut events) = AsyncClient::new(options, FRAMES_WAITING_MAX);
    let way = Way::Mqtt { client: client.clone(), up: format!("stonechat/v1/{id}/sealed/up") };
    let down = format!("stonechat/v1/{id}/sealed/down");
    let task = tokio::spawn(async move {
        sleep(wait).await;
        loop {
            let arrival = match events.poll().await {
                Ok(MqttEvent::Incoming(Incoming::ConnAck(_))) => {
                    let _ = client.try_subscribe(&down, QoS::AtLeastOnce);
                    continue;
                }
                Ok(MqttEvent::Incoming(Incoming::SubAck(_))) => Ok(Arrival::Up),
                Ok(MqttEvent::Incoming(Incoming::Publish(publish))) => {
                    Ok(Arrival::Frame(publish.payload.to_vec()))
                }
                Ok(_) => continue,
                Err(error) => Err(error.to_string()),
            };
            let is_lost = arrival.is_err();
            if arrived.send(arrival).await.is_err() || is_lost {
                break;
            }
        }
    });
    Ok((way, task))
}

/// What changes while a device runs.
pub(crate) struct Session<'l> {
    place: &'l shell::Link,
    sealed: &'l Sealed,
    link: Link,
    carrier: Carrier,
    started: Instant,
    /// How long to wait before the next connection.
    wait: Duration,
    /// When the server was last heard of.
    heard: Instant,
    /// When something was last sent.
    sent: Instant,
    /// Since when nothing was acknowledged that should be.
    unanswered: Option<Instant>,
    rejections: u32,
}

impl<'l> Session<'l> {
    pub(crate) fn new(place: &'l shell::Link, sealed: &'l Sealed) -> anyhow::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            place,
            sealed,
            link: Link::new(sealed.device.clone(), sealed.server),
            carrier: Carrier::open(place, sealed, Duration::ZERO)?,
            started: now,
            wait: RECONNECT_WAIT_MIN,
            heard: now,
            sent: now,
            unanswered: None,
            rejections: 0,
        })
    }

    fn now_ms(&self) -> u64 {
        micros(self.started.elapsed()) / 1_000
    }

    fn keep_alive(&mut self) {
        let mut frame = vec![0; 1 + SEALED_OVERHEAD];
        if self.link.seal_keep_alive(self.now_ms(), &mut frame).is_ok() {
            self.carrier.send(frame);
        }
        self.sent = Instant::now();
    }

    fn refused(&self) -> anyhow::Error {
        let id = &self.place.id;
        let place = match &self.sealed.broker {
            Some(broker) => format!("behind the broker {}:{}", broker.host, broker.port),
            None => format!("at {}:{}", self.place.host, self.place.port),
        };
        Hinted::new(
            format!(
                "the server {place} gives the device `{id}` no sealed session: it is not the server whose key the device pins, or it does not know the device's key (any more)"
            ),
            format!(
                "nothing was sent to it; mind the address, or make a new bundle: `stonechat device rotate {id} -o FILE`"
            ),
        )
    }
}

impl Uplink for Session<'_> {
    type Event = Result<Arrival, String>;

    async fn event(&mut self) -> Self::Event {
        let arrival = self.carrier.arrivals.recv().await;
        arrival.unwrap_or_else(|| Err("the carrier ended".to_owned()))
    }

    /// Takes in what the carrier brings, and returns the messages that are acknowledged.
    fn take(
        &mut self,
        arrival: Self::Event,
        device: &mut Device<'_, '_>,
    ) -> anyhow::Result<Vec<u32>> {
        match arrival {
            Ok(Arrival::Up) => self.carrier.is_up = true,
            Ok(Arrival::Frame(mut frame)) => match self.link.open(self.now_ms(), &mut frame) {
                Ok(Event::Established) => {
                    (self.rejections, self.wait) = (0, RECONNECT_WAIT_MIN);
                    self.heard = Instant::now();
                    device.disconnected();
                    self.unanswered = None;
                    // Proves to the server that the handshake was no replay.
                    self.keep_alive();
                }
                Ok(Event::Acknowledged(done)) => {
                    self.heard = Instant::now();
                    self.unanswered = None;
                    done.sequences().iter().for_each(|sequence| device.acknowledge(*sequence));
                    if !device.is_drained() {
                        self.unanswered = Some(self.heard);
                    }
                    return Ok(done.sequences().to_vec());
                }
                Ok(Event::Rejected) | Err(LinkError::WrongServer) => {
                    self.rejections += 1;
                    if self.rejections >= REJECTIONS_MAX {
                        return Err(self.refused());
                    }
                }
                Ok(Event::Ignored) => {}
                Err(error) => tracing::debug!(%error, "a frame means nothing"),
            },
            Err(reason) => {
                tracing::debug!(device = self.place.id, reason, "the connection is lost");
                self.link.disconnected();
                device.disconnected();
                self.unanswered = None;
                self.carrier = Carrier::open(self.place, self.sealed, self.wait)?;
                self.wait = (self.wait * 2).min(RECONNECT_WAIT_MAX);
            }
        }
        Ok(Vec::new())
    }

    /// Sends what is due: a handshake, messages, or that the device is there.
    fn send(&mut self, device: &mut Device<'_, '_>) -> anyhow::Result<()> {
        let now_ms = self.now_ms();
        if self.carrier.is_up && self.link.needs_handshake(now_ms) {
            let mut random = [0; HANDSHAKE_RANDOM_LEN];
            getrandom::fill(&mut random)
                .map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
            let hello = self.link.hello(now_ms, random).map_err(|_| self.refused())?;
            self.carrier.send(hello.to_vec());
        }
        if self.unanswered.is_some_and(|since| since.elapsed() > RESEND_AFTER) {
            device.disconnected();
            self.unanswered = None;
        }
        while self.link.is_established() && self.carrier.has_room() {
            let Some(transmit) = device.transmit() else { break };
            let mut frame = vec![0; transmit.payload.len() + 1 + SEALED_OVERHEAD];
            let sealed =
                self.link.seal_message(now_ms, transmit.sequence, transmit.payload, &mut frame);
            // A session that is used up is being renewed; the message goes out again then.
            let Ok(len) = sealed else { break };
            frame.truncate(len);
            self.carrier.send(frame);
            self.sent = Instant::now();
            self.unanswered.get_or_insert(self.sent);
        }
        if self.sent.elapsed() > KEEP_ALIVE {
            self.keep_alive();
        }
        Ok(())
    }

    fn outage(&self) -> Duration {
        self.heard.elapsed()
    }

    async fn close(self) {}
}
