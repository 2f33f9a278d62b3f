//! The load: devices that publish with quality of service 1, in a process of their own.

pub(crate) mod flood;
pub(crate) mod idle;
pub(crate) mod peer;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use stonechat_core::wire::senml::{Record, Value};
use stonechat_core::wire::uplink::{self, MessageId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::Outcome;

/// Makes the program generate load instead.
pub(crate) const FLAG: &str = "--generate-load";
/// As many as a device holds.
const IN_FLIGHT_MAX: usize = stonechat_core::limits::OUTBOX_SLOTS_MAX;
/// Not counted: connections warm up.
const WARM_UP: Duration = Duration::from_millis(500);

/// What to generate.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) broker: SocketAddr,
    pub(crate) devices: usize,
    /// Messages of all devices a second; 0 sends as fast as acknowledgements come.
    pub(crate) per_s: u32,
    pub(crate) span: Duration,
}

/// What was seen.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) acknowledged: u64,
    pub(crate) per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

pub(crate) fn device_name(device: usize) -> String {
    format!("device-{device:04}")
}

impl Load {
    pub(crate) fn to_arguments(&self, token_file: &Path) -> Vec<String> {
        vec![
            FLAG.into(),
            self.broker.to_string(),
            self.devices.to_string(),
            self.per_s.to_string(),
            self.span.as_millis().to_string(),
            token_file.display().to_string(),
        ]
    }
}

/// Generates load as told, and prints a summary.
pub(crate) fn run(arguments: &[String]) -> Outcome<()> {
    let [broker, devices, per_s, span_ms, token_file] = arguments else {
        return Err("broker, devices, rate, span and token file expected".into());
    };
    let load = Load {
        broker: broker.parse()?,
        devices: devices.parse()?,
        per_s: per_s.parse()?,
        span: Duration::from_millis(span_ms.parse()?),
    };
    let tokens = std::fs::read_to_string(token_file)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let summary = runtime.block_on(generate(&load, tokens.lines().map(str::to_owned).collect()))?;
    println!("{}", serde_json::to_string(&summary)?);
    Ok(())
}

async fn generate(load: &Load, tokens: Vec<String>) -> Outcome<Summary> {
    let mut connections = Vec::with_capacity(load.devices);
    for (device, token) in tokens.iter().enumerate().take(load.devices) {
        connections.push(Device::connect(load, device, token).await?);
    }
    let begin = Instant::now() + WARM_UP;
    let end = begin + load.span;
    let pause = (load.per_s > 0)
        .then(|| Duration::from_secs_f64(load.devices as f64 / f64::from(load.per_s)));
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|device| tokio::spawn(device.publish(begin, end, pause)))
        .collect();
    let (mut acknowledged, mut times) = (0, Vec::new());
    for task in tasks {
        let (all, counted) = task.await??;
        acknowledged += all;
        times.extend(counted);
    }
    times.sort_unstable();
    let at = |part: f64| {
        let index = ((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1));
        times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    };
    let per_s = times.len() as f64 / load.span.as_secs_f64();
    Ok(Summary { acknowledged, per_s, p50_ms: at(0.5), p99_ms: at(0.99) })
}

struct Device {
    name: String,
    /// When in the pause it sends, from 0 to 1, so that not all send at once.
    turn: f64,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    sequence: u32,
}

impl Device {
    async fn connect(load: &Load, number: usize, token: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(load.broker).await?;
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = stream.into_split();
        let name = device_name(number);
        let mut rest = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0b1100_0010, 0, 60];
        for text in [name.as_str(), name.as_str(), token] {
            rest.extend((text.len() as u16).to_be_bytes());
            rest.extend(text.as_bytes());
        }
        writer.write_all(&packet(0x10, &rest)).await?;
        let mut answer = [0; 4];
        reader.read_exact(&mut answer).await?;
        if answer != [0x20, 2, 0, 0] {
            return Err(format!("{name} was refused: {answer:?}").into());
        }
        Ok(Self { name, turn: number as f64 / load.devices as f64, reader, writer, sequence: 0 })
    }

    /// Publishes until `end`; returns how many were acknowledged, and the times to
    /// acknowledgement of those sent after `begin`. With a pause the clock of a message runs
    /// from when it was due, not from when there was room for it.
    async fn publish(
        mut self,
        begin: Instant,
        end: Instant,
        pause: Option<Duration>,
    ) -> Outcome<(u64, Vec<Duration>)> {
        let mut due = Instant::now() + pause.unwrap_or_default().mul_f64(self.turn);
        let (mut in_flight, mut times) = (VecDeque::new(), Vec::new());
        let mut acknowledged = 0_u64;
        let (mut received, mut outgoing) = (Vec::<u8>::new(), Vec::new());
        let mut buffer = [0; 1_024];
        loop {
            let now = Instant::now();
            outgoing.clear();
            while in_flight.len() < IN_FLIGHT_MAX && now < end && pause.is_none_or(|_| due <= now) {
                in_flight.push_back(if pause.is_some() { due } else { now });
                due += pause.unwrap_or_default();
                self.push_message(&mut outgoing);
            }
            if !outgoing.is_empty() {
                self.writer.write_all(&outgoing).await?;
            }
            if in_flight.is_empty() && now >= end {
                return Ok((acknowledged, times));
            }
            let room = pause.is_some() && in_flight.len() < IN_FLIGHT_MAX && now < end;
            let read = tokio::select! {
                read = self.reader.read(&mut buffer) => read?,
                () = tokio::time::sleep_until(due.into()), if room => continue,
            };
            if read == 0 {
                return Err("the broker closed a connection".into());
            }
            received.extend(&buffer[..read]);
            let now = Instant::now();
            let whole = received.len() / 4 * 4;
            for answer in received[..whole].chunks(4) {
                if answer[..2] != [0x40, 2] {
                    return Err(format!("not an acknowledgement: {answer:?}").into());
                }
                let sent = in_flight.pop_front().ok_or("acknowledged more than was sent")?;
                acknowledged += 1;
                if sent >= begin && sent < end {
                    times.push(now - sent);
                }
            }
            received.drain(..whole);
        }
    }

    fn push_message(&mut self, outgoing: &mut Vec<u8>) {
        let topic = format!("stonechat/v1/{}/up", self.name);
        let mut payload = [0; 512];
        let base_name = format!("{}/", self.name);
        let id = MessageId { session: 1, sequence: self.sequence };
        let time_s = 1_800_000_000.0 + f64::from(self.sequence) / 10.0;
        let records = [
            ("temperature", "Cel", Value::Number(f64::from(self.sequence % 97) / 4.0)),
            ("score", "", Value::Number(f64::from(0.1 + (self.sequence % 13) as f32))),
            ("threshold", "", Value::Number(20.5)),
            ("anomaly", "", Value::Boolean(false)),
        ];
        let mut len = 0;
        if let Ok(mut pack) = uplink::open(&mut payload, &base_name, time_s, id) {
            for (name, unit, value) in records {
                let _ = pack.push(&Record { name, unit, value, time_s: 0.0 });
            }
            len = pack.close();
        }
        let mut rest = Vec::with_capacity(topic.len() + 4 + len);
        rest.extend((topic.len() as u16).to_be_bytes());
        rest.extend(topic.as_bytes());
        let packet_id = (self.sequence % 65_535 + 1) as u16;
        rest.extend(packet_id.to_be_bytes());
        rest.extend(&payload[..len]);
        outgoing.extend(packet(0x32, &rest));
        self.sequence += 1;
    }
}

/// An MQTT control packet.
fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut len = rest.len();
    loop {
        let low = (len % 128) as u8;
        len /= 128;
        bytes.push(if len > 0 { low | 0x80 } else { low });
        if len == 0 {
            break;
        }
    }
    bytes.extend(rest);
    bytes
}
