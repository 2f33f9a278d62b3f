//! Sealed sessions against a whole server: over TCP, on the topics of its own front end, and
//! through mosquitto.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test says what it skips")]

mod common;

use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Client, PATIENCE, Site, id, options, settings};
use parking_lot::Mutex;
use rumqttc::{AsyncClient, Event as MqttEvent, Incoming, MqttOptions, QoS};
use stonechat_core::link::frame::{Delimited, delimit, length, rejected};
use stonechat_core::link::{Event, HANDSHAKE_RANDOM_LEN, Link, PublicKey, SecretKey};
use stonechat_core::wire::senml::Value;
use stonechat_server::Server;
use stonechat_server::settings::Listen;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const PUMP: [u8; 32] = [0x31; 32];
const FAN: [u8; 32] = [0x32; 32];
/// What must never be seen in clear: a name, and the bytes of a coordinate and of a reading.
const SECRET_NAME: &str = "latitude_of_the_well";
const SECRET_VALUE: f64 = 48.137_154;

fn random() -> [u8; HANDSHAKE_RANDOM_LEN] {
    let mut bytes = [0; HANDSHAKE_RANDOM_LEN];
    getrandom::fill(&mut bytes).expect("random numbers");
    bytes
}

/// A server with two devices that have link keys.
async fn sealed_site(foreign_broker: Option<u16>) -> Site {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut settings = settings(&folder);
    settings.sealed = Listen::At("127.0.0.1:0".parse().expect("legal"));
    if let Some(port) = foreign_broker {
        let login = folder.path().join("login");
        std::fs::write(&login, "gateway secret\n").expect("writable");
        settings.foreign_broker = format!("mqtt://127.0.0.1:{port}");
        settings.foreign_broker_login = login;
    }
    let server = Server::start(settings).await.expect("free ports");
    let site = Site { server, folder };
    for (name, secret) in [("pump", PUMP), ("fan", FAN)] {
        site.add(name).await;
        enrol(&site, name, &secret).await;
    }
    site
}

async fn enrol(site: &Site, name: &str, secret: &[u8; 32]) {
    let public = SecretKey::from_bytes(*secret).public();
    let registry = site.server.registry();
    registry.rotate_link_key(&id(name), public, 0).await.expect("registered");
}

fn server_key(site: &Site) -> PublicKey {
    *site.server.keys().link_public()
}

fn reading(device: &str, sequence: u32, value: f64) -> Vec<u8> {
    let records = [(SECRET_NAME, Value::Number(SECRET_VALUE)), ("a", Value::Number(value))];
    common::records(device, sequence, &records)
}

/// A device over TCP.
struct TcpDevice {
    stream: TcpStream,
    link: Link,
    received: Vec<u8>,
}

impl TcpDevice {
    async fn connect(address: SocketAddr, secret: &[u8; 32], server: PublicKey) -> Self {
        let stream = TcpStream::connect(address).await.expect("listening");
        let link = Link::new(SecretKey::from_bytes(*secret), server);
        Self { stream, link, received: Vec::new() }
    }

    async fn established(address: SocketAddr, secret: &[u8; 32], server: PublicKey) -> Self {
        let mut device = Self::connect(address, secret, server).await;
        device.shake_hands().await.expect("enrolled");
        device
    }

    async fn shake_hands(&mut self) -> Result<(), String> {
        let hello = self.link.hello(0, random()).expect("a key");
        self.send(&hello).await?;
        match self.event().await? {
            Event::Established => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    async fn send(&mut self, frame: &[u8]) -> Result<(), String> {
        let bytes = [&length(frame)[..], frame].concat();
        self.stream.write_all(&bytes).await.map_err(|error| error.to_string())
    }

    fn seal(&mut self, sequence: u32, message: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 2_048];
        let len = self.link.seal_message(0, sequence, message, &mut frame).expect("a session");
        frame.truncate(len);
        frame
    }

    async fn frame(&mut self) -> Result<Vec<u8>, String> {
        loop {
            match delimit(&self.received, 0).map_err(|error| error.to_string())? {
                Delimited::Whole(start, end) => {
                    let frame = self.received[start..end].to_vec();
                    self.received.drain(..end);
                    return Ok(frame);
                }
                Delimited::Partial => {
                    let read = timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await;
                    match read.map_err(|_| "nothing came")? {
                        Ok(0) => return Err("closed".into()),
                        Ok(_) => {}
                        Err(error) => return Err(format!("closed: {error}")),
                    }
                }
            }
        }
    }

    async fn event(&mut self) -> Result<Event, String> {
        let mut frame = self.frame().await?;
        self.link.open(0, &mut frame).map_err(|error| error.to_string())
    }

    /// Waits until these messages are acknowledged.
    async fn acknowledged(&mut self, sequences: &[u32]) -> Result<(), String> {
        let mut left = sequences.to_vec();
        while !left.is_empty() {
            if let Event::Acknowledged(done) = self.event().await? {
                left.retain(|sequence| !done.sequences().contains(sequence));
            }
        }
        Ok(())
    }

    /// Waits for the end of the connection and tells whether a rejection came before it.
    async fn ended(mut self) -> bool {
        let mut was_rejected = false;
        loop {
            match self.event().await {
                Ok(Event::Rejected) => was_rejected = true,
                Ok(_) => {}
                Err(error) if error.starts_with("closed") => return was_rejected,
                Err(_) => {}
            }
        }
    }
}

/// Passes a connection on and writes down all of it.
async fn recording_proxy(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let tape = heard.clone();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(to).await else { return };
            let (near, far) = (near.into_split(), far.into_split());
            tokio::spawn(pass(near.0, far.1, tape.clone()));
            tokio::spawn(pass(far.0, near.1, tape.clone()));
        }
    });
    (address, heard)
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    tape: Arc<Mutex<Vec<u8>>>,
) {
    let mut buffer = [0; 4_096];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        tape.lock().extend_from_slice(&buffer[..len]);
        if to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}

/// Fails if anything that only the two ends may know stands in what was heard.
fn assert_sealed(heard: &[u8], also: &[&[u8]]) {
    let value = SECRET_VALUE.to_be_bytes();
    let halves = (21.5_f32).to_be_bytes();
    let names = [SECRET_NAME.as_bytes(), b"session", b"sequence", &value, &halves];
    for secret in names.iter().chain(also) {
        let seen = heard.windows(secret.len()).any(|window| window == *secret);
        assert!(!seen, "{:?} is seen in clear", String::from_utf8_lossy(secret));
    }
    assert!(heard.len() > 400, "too little was heard to tell: {} bytes", heard.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_arrive_once_and_sealed() {
    let site = sealed_site(None).await;
    let address = site.server.sealed_addr.expect("switched on");
    let (proxy, heard) = recording_proxy(address).await;
    let mut pump = TcpDevice::established(proxy, &PUMP, server_key(&site)).await;
    for sequence in 0..3 {
        let frame = pump.seal(sequence, &reading("pump", sequence, 21.5));
        pump.send(&frame).await.expect("connected");
    }
    pump.acknowledged(&[0, 1, 2]).await.expect("stored");
    assert_eq!(site.values("pump", "a").await, [21.5; 3]);
    // Sent again in a new session, it is the same message.
    let mut again = TcpDevice::established(proxy, &PUMP, server_key(&site)).await;
    let frame = again.seal(2, &reading("pump", 2, 21.5));
    again.send(&frame).await.expect("connected");
    again.acknowledged(&[2]).await.expect("a duplicate is acknowledged");
    assert_eq!(site.values("pump", "a").await.len(), 3);
    assert_eq!(site.values("pump", SECRET_NAME).await, [SECRET_VALUE; 3]);
    assert_sealed(&heard.lock(), &[b"pump", b"stonechat"]);
    site.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_rejected_and_learns_no_more() {
    let site = sealed_site(None).await;
    let address = site.server.sealed_addr.expect("switched on");
    let key = server_key(&site);
    // A key that nobody enrolled; a server's key that is another's.
    for (secret, server) in [([0x77; 32], key), (PUMP, SecretKey::from_bytes([9; 32]).public())] {
        let mut stranger = TcpDevice::connect(address, &secret, server).await;
        let hello = stranger.link.hello(0, random()).expect("a key");
        stranger.send(&hello).await.expect("connected");
        let answer = stranger.frame().await.expect("an answer");
        let session = u32::from_le_bytes([hello[2], hello[3], hello[4], hello[5]]);
        assert_eq!(answer, rejected(session), "the same for each of them");
        assert!(stranger.frame().await.is_err(), "and then it is over");
    }
    // A device that speaks for another one in its own session: acknowledged, never stored.
    let mut pump = TcpDevice::established(address, &PUMP, key).await;
    let frame = pump.seal(5, &reading("fan", 5, 1.0));
    pump.send(&frame).await.expect("connected");
    pump.acknowledged(&[5]).await.expect("sending it again is of no use");
    assert!(site.values("fan", "a").await.is_empty());
    // The same frame twice, and a damaged one.
    let frame = pump.seal(6, &reading("pump", 6, 6.0));
    pump.send(&frame).await.expect("connected");
    pump.acknowledged(&[6]).await.expect("stored");
    pump.send(&frame).await.expect("connected");
    pump.ended().await;
    let mut pump = TcpDevice::established(address, &PUMP, key).await;
    let mut frame = pump.seal(7, &reading("pump", 7, 7.0));
    frame[40] ^= 1;
    pump.send(&frame).await.expect("connected");
    pump.ended().await;
    assert_eq!(site.values("pump", "a").await, [6.0]);
    // Another device's key on the connection of the first one.
    let mut pump = TcpDevice::established(address, &PUMP, key).await;
    let mut fan = Link::new(SecretKey::from_bytes(FAN), key);
    let hello = fan.hello(0, random()).expect("a key");
    pump.send(&hello).await.expect("connected");
    pump.ended().await;
    site.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_cut_within_a_second() {
    let site = sealed_site(None).await;
    let address = site.server.sealed_addr.expect("switched on");
    let mut pump = TcpDevice::established(address, &PUMP, server_key(&site)).await;
    let mut fan = TcpDevice::established(address, &FAN, server_key(&site)).await;
    let frame = pump.seal(0, &reading("pump", 0, 1.0));
    pump.send(&frame).await.expect("connected");
    pump.acknowledged(&[0]).await.expect("stored");
    let revoked = Instant::now();
    site.server.registry().revoke(&id("pump")).await.expect("registered");
    pump.ended().await;
    // How long it takes depends on the machine, too; what the server waits does not.
    println!("cut after {:?}", revoked.elapsed());
    assert!(stonechat_server::limits::DIRECTORY_POLL < Duration::from_millis(500));
    let mut again = TcpDevice::connect(address, &PUMP, server_key(&site)).await;
    assert!(again.shake_hands().await.is_err());
    let frame = fan.seal(0, &reading("fan", 0, 1.0));
    fan.send(&frame).await.expect("the other one stays");
    fan.acknowledged(&[0]).await.expect("stored");
    site.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_renewed_on_its_connection() {
    let site = sealed_site(None).await;
    let address = site.server.sealed_addr.expect("switched on");
    let mut pump = TcpDevice::established(address, &PUMP, server_key(&site)).await;
    for sequence in 0..4 {
        let frame = pump.seal(sequence, &reading("pump", sequence, f64::from(sequence)));
        pump.send(&frame).await.expect("connected");
        pump.acknowledged(&[sequence]).await.expect("stored");
        pump.shake_hands().await.expect("a new session");
    }
    assert_eq!(site.values("pump", "a").await, [0.0, 1.0, 2.0, 3.0]);
    site.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_ends_its_own_connection_only() {
    let site = sealed_site(None).await;
    let address = site.server.sealed_addr.expect("switched on");
    let mut pump = TcpDevice::established(address, &PUMP, server_key(&site)).await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 100], &[0; 64], &[6, 0, 1, 2, 3]] {
        let mut stream = TcpStream::connect(address).await.expect("listening");
        stream.write_all(garbage).await.expect("connected");
        stream.shutdown().await.expect("connected");
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it ends");
        assert!(rest.len() <= 8, "a rejection at most: {rest:?}");
    }
    let frame = pump.seal(0, &reading("pump", 0, 1.0));
    pump.send(&frame).await.expect("connected");
    pump.acknowledged(&[0]).await.expect("stored");
    site.server.shutdown().await;
}

/// Frames on MQTT topics, whoever's broker that is.
struct TopicDevice {
    client: AsyncClient,
    events: rumqttc::EventLoop,
    link: Link,
    name: &'static str,
    secret: [u8; 32],
    /// Everything that was published, to be replayed.
    published: Vec<Vec<u8>>,
    started: Instant,
}

impl TopicDevice {
    async fn connect(
        options: MqttOptions,
        name: &'static str,
        secret: [u8; 32],
        server: PublicKey,
    ) -> Self {
        let Client { client, events } = Client::connect(options).await.expect("may connect");
        let link = Link::new(SecretKey::from_bytes(secret), server);
        let published = Vec::new();
        let started = Instant::now();
        let mut device = Self { client, events, link, name, secret, published, started };
        let down = format!("stonechat/v1/{name}/sealed/down");
        device.client.subscribe(down, QoS::AtLeastOnce).await.expect("queued");
        while !matches!(device.poll().await, MqttEvent::Incoming(Incoming::SubAck(_))) {}
        device
    }

    async fn poll(&mut self) -> MqttEvent {
        timeout(PATIENCE, self.events.poll()).await.expect("in time").expect("connected")
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    async fn publish(&mut self, frame: &[u8]) {
        self.published.push(frame.to_vec());
        let up = format!("stonechat/v1/{}/sealed/up", self.name);
        self.client.publish(up, QoS::AtLeastOnce, false, frame).await.expect("queued");
    }

    /// Waits for the next answer that means something.
    async fn event(&mut self) -> Event {
        loop {
            if let MqttEvent::Incoming(Incoming::Publish(publish)) = self.poll().await {
                let mut frame = publish.payload.to_vec();
                if let Ok(event) = self.link.open(self.now_ms(), &mut frame) {
                    return event;
                }
            }
        }
    }

    async fn shake_hands(&mut self) {
        // Whoever shall answer may still be connecting.
        loop {
            let hello = self.link.hello(self.now_ms(), random()).expect("a key");
            self.publish(&hello).await;
            match timeout(Duration::from_secs(1), self.event()).await {
                Ok(event) => {
                    assert_eq!(event, Event::Established);
                    return;
                }
                Err(_) => assert!(self.started.elapsed() < PATIENCE, "nobody answers"),
            }
        }
    }

    async fn send(&mut self, sequence: u32, value: f64) -> Vec<u8> {
        let mut frame = vec![0; 2_048];
        let message = reading(self.name, sequence, value);
        let now_ms = self.now_ms();
        let len = self.link.seal_message(now_ms, sequence, &message, &mut frame).expect("room");
        frame.truncate(len);
        self.publish(&frame).await;
        frame
    }

    async fn acknowledged(&mut self, sequences: &[u32]) {
        let mut left = sequences.to_vec();
        while !left.is_empty() {
            if let Event::Acknowledged(done) = self.event().await {
                left.retain(|sequence| !done.sequences().contains(sequence));
            }
        }
    }

    fn started_anew(&mut self, server: PublicKey) {
        self.link = Link::new(SecretKey::from_bytes(self.secret), server);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_own_front_end_takes_sealed_frames() {
    let site = sealed_site(None).await;
    let token = site.server.registry().rotate(&id("pump")).await.expect("registered");
    let options = options(&site, "pump", "pump", token.reveal());
    let mut pump = TopicDevice::connect(options, "pump", PUMP, server_key(&site)).await;
    pump.shake_hands().await;
    pump.send(0, 20.0).await;
    let second = pump.send(1, 21.5).await;
    pump.acknowledged(&[0, 1]).await;
    // Again, as a broker would that lost the acknowledgement: nothing happens.
    pump.publish(&second).await;
    pump.send(2, 22.0).await;
    pump.acknowledged(&[2]).await;
    assert_eq!(site.values("pump", "a").await, [20.0, 21.5, 22.0]);
    site.server.shutdown().await;
}

struct Mosquitto {
    child: Child,
    port: u16,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Mosquitto {
    /// Starts one, if it is installed.
    fn start(folder: &Path) -> Option<Self> {
        let port = StdListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let config = folder.join("mosquitto.conf");
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\n");
        std::fs::write(&config, text).expect("writable");
        let program = ["/usr/sbin/mosquitto", "mosquitto"].into_iter().find(|program| {
            Command::new(program).arg("-h").stdout(Stdio::null()).status().is_ok()
        })?;
        let child = Command::new(program)
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let broker = Self { child, port };
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(broker)
    }

    fn options(&self, name: &str) -> MqttOptions {
        MqttOptions::new(name, "127.0.0.1", self.port)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_broker_learns_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(broker) = Mosquitto::start(folder.path()) else {
        eprintln!("SKIPPED: mosquitto is not installed");
        return;
    };
    let site = sealed_site(Some(broker.port)).await;
    let key = server_key(&site);
    let (tape, heard) = listener(&broker).await;
    let mut pump = TopicDevice::connect(broker.options("pump"), "pump", PUMP, key).await;
    pump.shake_hands().await;
    let first = pump.send(0, 20.0).await;
    pump.acknowledged(&[0]).await;
    // Lost, doubled, late and out of order: seal three, publish the last first, the first never.
    let mut frames = Vec::new();
    for sequence in 1..4 {
        let mut frame = vec![0; 2_048];
        let message = reading("pump", sequence, 20.0 + f64::from(sequence));
        let len = pump.link.seal_message(0, sequence, &message, &mut frame).expect("room");
        frames.push(frame[..len].to_vec());
    }
    for at in [2, 1, 2, 1, 1] {
        let frame = frames[at].clone();
        pump.publish(&frame).await;
    }
    pump.acknowledged(&[2, 3]).await;
    assert_eq!(site.values("pump", "a").await.len(), 3, "the lost one is missing");
    pump.send(1, 21.0).await;
    pump.acknowledged(&[1]).await;
    // Everything that was ever published comes again, also as the fan's.
    let client = pump.client.clone();
    for frame in pump.published.clone() {
        for device in ["pump", "fan", "nobody"] {
            let up = format!("stonechat/v1/{device}/sealed/up");
            client.publish(up, QoS::AtLeastOnce, false, frame.clone()).await.expect("queued");
        }
    }
    // The session goes on, and the device may even be started anew among the old frames.
    pump.send(4, 24.0).await;
    pump.acknowledged(&[4]).await;
    pump.started_anew(key);
    pump.shake_hands().await;
    pump.publish(&first).await;
    pump.send(5, 25.0).await;
    pump.acknowledged(&[5]).await;
    let mut stored = site.values("pump", "a").await;
    stored.sort_by(f64::total_cmp);
    assert_eq!(stored, [20.0, 21.0, 22.0, 23.0, 24.0, 25.0]);
    assert!(site.values("fan", "a").await.is_empty());
    // A revoked key gets nothing more, though the broker still passes its frames on.
    site.server.registry().revoke(&id("pump")).await.expect("registered");
    pump.send(6, 26.0).await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(site.values("pump", "a").await.len(), 6);
    tape.abort();
    assert_sealed(&heard.lock(), &[]);
    site.server.shutdown().await;
}

/// What anybody at the broker hears.
async fn listener(broker: &Mosquitto) -> (tokio::task::JoinHandle<()>, Arc<Mutex<Vec<u8>>>) {
    let (client, mut events) = AsyncClient::new(broker.options("listener"), 64);
    client.subscribe("#", QoS::AtLeastOnce).await.expect("queued");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let tape = heard.clone();
    let task = tokio::spawn(async move {
        while let Ok(event) = events.poll().await {
            if let MqttEvent::Incoming(Incoming::Publish(publish)) = event {
                tape.lock().extend_from_slice(&publish.payload);
            }
        }
    });
    (task, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_restarted_is_found_again_through_the_broker() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(broker) = Mosquitto::start(folder.path()) else {
        eprintln!("SKIPPED: mosquitto is not installed");
        return;
    };
    let site = sealed_site(Some(broker.port)).await;
    let key = server_key(&site);
    let mut pump = TopicDevice::connect(broker.options("pump"), "pump", PUMP, key).await;
    pump.shake_hands().await;
    pump.send(0, 20.0).await;
    pump.acknowledged(&[0]).await;
    let Site { server, folder: data } = site;
    server.shutdown().await;
    let mut settings = settings(&data);
    settings.foreign_broker = format!("mqtt://127.0.0.1:{}", broker.port);
    let server = Server::start(settings).await.expect("free ports");
    let site = Site { server, folder: data };
    assert_eq!(server_key(&site), key, "the pinned key outlives a restart");
    // The old session is unknown: the device hears so, and asks for a new one.
    let deadline = Instant::now() + PATIENCE;
    while !pump.link.needs_handshake(pump.now_ms()) {
        pump.send(1, 21.0).await;
        let _ = timeout(Duration::from_millis(300), pump.event()).await;
        assert!(Instant::now() < deadline, "no rejection came");
    }
    pump.shake_hands().await;
    pump.send(1, 21.0).await;
    pump.acknowledged(&[1]).await;
    assert_eq!(site.values("pump", "a").await, [20.0, 21.0]);
    site.server.shutdown().await;
}
