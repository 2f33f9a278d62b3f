//! Sealed frames over TCP into SQLite, from a second process.
//!
//! The load seals all its frames before the clock starts, so that the two processes do not share
//! the cost of sealing; each frame is an uplink message of its own with one reading. The time runs
//! from the first byte to the last acknowledgement.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use stonechat_core::link::frame::{Delimited, Frame, SEALED_HEADER_LEN, delimit, length};
use stonechat_core::link::message::{KEEP_ALIVE, Message, UPLINK};
use stonechat_core::link::{HANDSHAKE_RANDOM_LEN, Handshake, PublicKey, SecretKey, Session};
use stonechat_core::wire::senml::{Record, Value};
use stonechat_core::wire::uplink::{self, MessageId};
use stonechat_server::identity::{DeviceEntry, LinkCredential};
use stonechat_server::settings::Listen;
use stonechat_server::{DeviceId, Server, Settings, sealed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Runtime;
use tokio::sync::Barrier;

use crate::{Outcome, ROUNDS, Row, load, middle, processor_s};

/// Makes the program generate sealed load instead.
pub(crate) const FLAG: &str = "--generate-sealed-load";
const DEVICES: usize = 50;
const FRAMES_PER_DEVICE: u32 = 16_000;
/// Texts that the cipher alone opens for the figure beside.
const RAW_FRAMES: u32 = 1_000_000;
const MESSAGE_LEN_MAX: usize = 256;

#[derive(Debug, Serialize, Deserialize)]
struct Summary {
    acknowledged: u64,
    seconds: f64,
    message_len: usize,
}

/// Measures frames a second, beside the rate of the cipher alone.
pub(crate) fn measure(runtime: &Runtime) -> Outcome<Vec<Row>> {
    let (mut per_s, mut processor_us, mut raw_per_s) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let before_s = processor_s()?;
        let summary = runtime.block_on(server())?;
        processor_us.push((processor_s()? - before_s) * 1e6 / summary.acknowledged as f64);
        per_s.push(summary.acknowledged as f64 / summary.seconds);
        raw_per_s.push(sealed::open_rate(summary.message_len, RAW_FRAMES));
    }
    let raw = middle(raw_per_s);
    let peer = "opened by the cipher alone on one core, frames/s";
    let rows = [
        middle(per_s)
            .map(|value| Row::new("ingest.sealed_per_s", value, "frames/s").beside(peer, raw)),
        middle(processor_us)
            .map(|value| Row::new("ingest.sealed_processor_us_per_frame", value, "us")),
    ];
    Ok(rows.into_iter().flatten().collect())
}

fn secret(device: usize) -> [u8; 32] {
    let mut secret = [0x42; 32];
    // Not at the beginning, whose lowest three bits do not count (RFC 7748 section 5).
    secret[8..16].copy_from_slice(&(device as u64).to_le_bytes());
    secret
}

/// Loads a server of our own, and holds what the load saw against what is stored.
async fn server() -> Outcome<Summary> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let settings = Settings {
        data: folder.path().join("data"),
        http: any,
        mqtt: any,
        sealed: Listen::At(any),
        ..Settings::default()
    };
    let server = Server::start(settings).await?;
    let mut entries = Vec::with_capacity(DEVICES);
    for device in 0..DEVICES {
        let mut entry = DeviceEntry::new(DeviceId::parse(&load::device_name(device))?, 0);
        let public = SecretKey::from_bytes(secret(device)).public();
        entry.link_keys.push(LinkCredential { public, created_ms: 0, expires_ms: None });
        entries.push(entry);
    }
    server.registry().insert_all(&entries).await?;
    let address = server.sealed_addr.ok_or("sealed sessions are off")?;
    let key: String =
        server.keys().link_public().iter().map(|byte| format!("{byte:02x}")).collect();
    let summary = tokio::task::spawn_blocking(move || second_process(address, &key)).await??;
    let stored = server.store().totals().await?.messages;
    server.shutdown().await;
    let expected = DEVICES as u64 * u64::from(FRAMES_PER_DEVICE);
    if stored != expected || summary.acknowledged != expected {
        let seen = summary.acknowledged;
        return Err(format!("sent {expected}, acknowledged {seen}, stored {stored}").into());
    }
    Ok(summary)
}

fn second_process(address: SocketAddr, key: &str) -> Outcome<Summary> {
    let output = Command::new(std::env::current_exe()?)
        .args([FLAG, &address.to_string(), key])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("the load generator failed: {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Generates load as told, and prints a summary.
pub(crate) fn run(arguments: &[String]) -> Outcome<()> {
    let [address, key] = arguments else {
        return Err("address and key expected".into());
    };
    let mut server = [0; 32];
    for (at, byte) in server.iter_mut().enumerate() {
        *byte = u8::from_str_radix(key.get(2 * at..2 * at + 2).ok_or("a short key")?, 16)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let summary = runtime.block_on(generate(address.parse()?, server))?;
    println!("{}", serde_json::to_string(&summary)?);
    Ok(())
}

async fn generate(address: SocketAddr, server: PublicKey) -> Outcome<Summary> {
    let ready = Arc::new(Barrier::new(DEVICES + 1));
    let mut tasks = Vec::new();
    let mut message_len = 0;
    for device in 0..DEVICES {
        let mut device = Device::connect(address, device, &server).await?;
        let stream = device.seal_all()?;
        message_len = device.message_len;
        let ready = ready.clone();
        tasks.push(tokio::spawn(async move {
            ready.wait().await;
            device.send(stream).await
        }));
    }
    ready.wait().await;
    let started = Instant::now();
    let mut acknowledged = 0;
    for task in tasks {
        acknowledged += task.await??;
    }
    Ok(Summary { acknowledged, seconds: started.elapsed().as_secs_f64(), message_len })
}

struct Device {
    name: String,
    session: Session,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    received: Vec<u8>,
    message_len: usize,
}

impl Device {
    async fn connect(address: SocketAddr, number: usize, server: &PublicKey) -> Outcome<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = stream.into_split();
        let mut random = [0; HANDSHAKE_RANDOM_LEN];
        getrandom::fill(&mut random).map_err(|error| error.to_string())?;
        let secret = SecretKey::from_bytes(secret(number));
        let (handshake, hello) = Handshake::start(&secret, server, random)?;
        writer.write_all(&[&length(&hello)[..], &hello].concat()).await?;
        let mut received = Vec::new();
        let welcome = next_frame(&mut reader, &mut received).await?;
        let Frame::Welcome { noise, .. } = Frame::parse(&welcome)? else {
            return Err("the server gives no session".into());
        };
        let session = handshake.finish(noise)?;
        let name = load::device_name(number);
        let mut device = Self { name, session, reader, writer, received, message_len: 0 };
        // Proves the session, so that the server waits while the rest is sealed.
        let mut alive = Vec::new();
        device.push(KEEP_ALIVE, &[], &mut alive)?;
        device.writer.write_all(&alive).await?;
        Ok(device)
    }

    fn push(&mut self, kind: u8, body: &[u8], out: &mut Vec<u8>) -> Outcome<()> {
        let mut frame = [0; MESSAGE_LEN_MAX];
        let (_, len) = self.session.seal(kind, body, &mut frame)?;
        out.extend_from_slice(&length(&frame[..len]));
        out.extend_from_slice(&frame[..len]);
        Ok(())
    }

    fn seal_all(&mut self) -> Outcome<Vec<u8>> {
        let mut stream = Vec::new();
        let base = format!("{}/", self.name);
        let mut buffer = [0; MESSAGE_LEN_MAX];
        for sequence in 0..FRAMES_PER_DEVICE {
            let id = MessageId { session: 1, sequence };
            let time_s = 1.8e9 + f64::from(sequence) * 0.5;
            let mut pack = uplink::open(&mut buffer, &base, time_s, id)?;
            let value = Value::Number(f64::from((f64::from(sequence) * 0.01).sin() as f32));
            pack.push(&Record { name: "temperature", unit: "Cel", value, time_s: 0.0 })?;
            let len = pack.close();
            self.message_len = len + 1;
            self.push(UPLINK, &buffer[..len], &mut stream)?;
        }
        Ok(stream)
    }

    /// Sends everything, and counts what is acknowledged.
    async fn send(self, stream: Vec<u8>) -> Outcome<u64> {
        let Self { mut session, mut reader, mut writer, mut received, .. } = self;
        let sending = async {
            writer.write_all(&stream).await?;
            Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
        };
        let counting = async {
            // The keep-alive is acknowledged, too.
            let mut left = u64::from(FRAMES_PER_DEVICE) + 1;
            while left > 0 {
                let mut frame = next_frame(&mut reader, &mut received).await?;
                let Frame::Sealed { counter, .. } = Frame::parse(&frame)? else {
                    return Err("the server ends the session".into());
                };
                let text = session.open(counter, &mut frame[SEALED_HEADER_LEN..])?;
                if let Message::Acknowledgement(runs) = Message::parse(text)? {
                    left -= runs.iter().map(|(_, len)| u64::from(len)).sum::<u64>();
                }
            }
            Ok(())
        };
        tokio::try_join!(sending, counting)?;
        Ok(u64::from(FRAMES_PER_DEVICE))
    }
}

async fn next_frame(reader: &mut OwnedReadHalf, received: &mut Vec<u8>) -> Outcome<Vec<u8>> {
    loop {
        if let Delimited::Whole(start, end) = delimit(received, 0)? {
            let frame = received[start..end].to_vec();
            received.drain(..end);
            return Ok(frame);
        }
        if reader.read_buf(received).await? == 0 {
            return Err("the server closed the connection".into());
        }
    }
}
