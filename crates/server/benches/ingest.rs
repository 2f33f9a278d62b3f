//! How fast messages are taken in: acknowledged only when they are on disk.
//!
//! `cargo bench -p stonechat-server --bench ingest -- --json` prints one JSON object a line.
//! The load comes from a second process, by a hand-made MQTT 3.1.1 client with up to 16 messages
//! in flight for each device. Beside it runs mosquitto, if it is installed, under the same load:
//! it acknowledges from memory and stores nothing.
//!
//! Words such as `stored ack idle` after `--` measure only that; see [`MEASUREMENTS`].
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its results")]

mod legacy;
mod load;
mod sealed;

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use stonechat_core::wire::uplink::MessageId;
use stonechat_server::settings::Listen;
use stonechat_server::store::{Message, Reading, Retention, SqliteStore, Store};
use stonechat_server::{DeviceId, Server, Settings};
use tokio::runtime::Runtime;

use crate::load::flood::Flood;
use crate::load::peer::Mosquitto;
use crate::load::{Load, Summary};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Devices under full load.
const DEVICES: usize = 50;
/// Devices whose acknowledgements are timed, and what all of them offer.
const PACED_DEVICES: usize = 1_000;
const PACED_PER_S: u32 = 10_000;
/// Fewer devices that offer more.
const BUSY_PER_S: u32 = 30_000;
/// Connections that do nothing.
const IDLE_CONNECTIONS: usize = 10_000;
const SPAN: Duration = Duration::from_secs(3);
/// Each is measured so often, in turn with the peer; the middle value counts.
const ROUNDS: usize = 3;
const STORE_MESSAGES: u32 = 60_000;
const STORE_READINGS: usize = 32;

type Measure = fn(&Runtime) -> Outcome<Vec<Row>>;

/// What is measured under which word: one line each, and one function that returns rows.
const MEASUREMENTS: &[(&str, Measure)] = &[
    // First, as it looks at this process's memory.
    ("idle", idle),
    ("stored", stored),
    ("ack", ack),
    ("garbage", garbage),
    ("rows", rows),
    ("sealed", sealed::measure),
    ("rsa", legacy::measure),
];

/// A figure, beside a peer's.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) peer: Option<(&'static str, f64)>,
}

impl Row {
    pub(crate) fn new(name: &'static str, value: f64, unit: &'static str) -> Self {
        Self { name, value, unit, peer: None }
    }

    pub(crate) fn beside(self, peer: &'static str, value: Option<f64>) -> Self {
        Self { peer: value.map(|value| (peer, value)), ..self }
    }
}

const PEER: &str = "mosquitto (in memory, stores nothing)";

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(load::FLAG) => return load::run(&arguments[1..]),
        Some(load::flood::FLAG) => return load::flood::run(&arguments[1..]),
        Some(load::idle::FLAG) => return load::idle::run(&arguments[1..]),
        Some(sealed::FLAG) => return sealed::run(&arguments[1..]),
        Some(legacy::FLAG) => return legacy::run(&arguments[1..]),
        _ => {}
    }
    let runtime = Runtime::new()?;
    let json = arguments.iter().any(|argument| argument == "--json");
    let named = |word: &str| arguments.iter().any(|argument| argument == word);
    let all = MEASUREMENTS.iter().all(|(word, _)| !named(word));
    for (word, measure) in MEASUREMENTS {
        if all || named(word) {
            measure(&runtime)?.iter().for_each(|row| print(row, json));
        }
    }
    Ok(())
}

fn print(row: &Row, json: bool) {
    let Row { name, value, unit, peer } = row;
    if !json {
        let beside = peer.map_or(String::new(), |(_, value)| format!("   beside {value:.3}"));
        println!("{name:<34} {value:>14.3} {unit}{beside}");
        return;
    }
    let mut line = json!({ "name": name, "value": value, "unit": unit });
    if let Some((peer, peer_value)) = peer {
        line["peer"] = json!(peer);
        line["peer_value"] = json!(peer_value);
        line["ratio"] = json!(value / peer_value);
    }
    println!("{line}");
}

fn idle(runtime: &Runtime) -> Outcome<Vec<Row>> {
    let idle = runtime.block_on(load::idle::measure(IDLE_CONNECTIONS))?;
    Ok(vec![
        Row::new("ingest.idle_tls_kb", idle.ours_kb, "KiB/connection")
            .beside("mosquitto with TLS", idle.peer_kb),
        Row::new("ingest.handshakes_per_s", idle.handshakes_per_s, "handshakes/s"),
    ])
}

fn stored(runtime: &Runtime) -> Outcome<Vec<Row>> {
    let (mut full, mut full_peer, mut processor_us) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        full_peer.extend(peer(DEVICES, 0)?);
        let before_s = processor_s()?;
        let summary = runtime.block_on(server(DEVICES, 0, false))?;
        let spent_us = (processor_s()? - before_s) * 1e6;
        processor_us.push(spent_us / summary.acknowledged as f64);
        full.push(summary);
    }
    let of = |value: fn(&Summary) -> f64, name, unit| {
        let peer = middle(full_peer.iter().map(value));
        Some(Row::new(name, middle(full.iter().map(value))?, unit).beside(PEER, peer))
    };
    let rows = [
        of(|summary| summary.per_s, "ingest.stored_per_s", "messages/s"),
        of(|summary| summary.p99_ms, "ingest.full_load_ack_p99_ms", "ms"),
        middle(processor_us).map(|us| Row::new("ingest.processor_us_per_message", us, "us")),
    ];
    Ok(rows.into_iter().flatten().collect())
}

fn ack(runtime: &Runtime) -> Outcome<Vec<Row>> {
    let mut rows = paced(
        runtime,
        PACED_DEVICES,
        PACED_PER_S,
        ["ingest.paced_per_s", "ingest.ack_p50_ms", "ingest.ack_p99_ms"],
    )?;
    rows.extend(paced(
        runtime,
        DEVICES,
        BUSY_PER_S,
        ["ingest.busy_per_s", "ingest.busy_ack_p50_ms", "ingest.busy_ack_p99_ms"],
    )?);
    Ok(rows)
}

fn paced(
    runtime: &Runtime,
    devices: usize,
    per_s: u32,
    names: [&'static str; 3],
) -> Outcome<Vec<Row>> {
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        peers.extend(peer(devices, per_s)?);
        ours.push(runtime.block_on(server(devices, per_s, false))?);
    }
    let values: [fn(&Summary) -> f64; 3] =
        [|summary| summary.per_s, |summary| summary.p50_ms, |summary| summary.p99_ms];
    let units = ["messages/s", "ms", "ms"];
    let rows = names.into_iter().zip(values).zip(units).filter_map(|((name, value), unit)| {
        let peer = middle(peers.iter().map(value));
        Some(Row::new(name, middle(ours.iter().map(value))?, unit).beside(PEER, peer))
    });
    Ok(rows.collect())
}

/// How far garbage on the port of the old packets moves what devices see by MQTT.
fn garbage(runtime: &Runtime) -> Outcome<Vec<Row>> {
    let (mut quiet, mut flooded) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.push(runtime.block_on(server(PACED_DEVICES, PACED_PER_S, false))?.p99_ms);
        flooded.push(runtime.block_on(server(PACED_DEVICES, PACED_PER_S, true))?.p99_ms);
    }
    let (quiet, flooded) = (middle(quiet), middle(flooded));
    let row = flooded.map(|flooded| {
        Row::new("ingest.garbage_ack_p99_ms", flooded, "ms").beside("without garbage", quiet)
    });
    Ok(row.into_iter().collect())
}

fn rows(runtime: &Runtime) -> Outcome<Vec<Row>> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(runtime.block_on(rows_per_s())?);
    }
    let row = middle(rounds).map(|per_s| Row::new("store.rows_per_s", per_s, "readings/s"));
    Ok(row.into_iter().collect())
}

fn middle(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The processor time of this process so far, in seconds (proc(5), in hundredths of a second).
fn processor_s() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

/// Loads a server of our own, and holds what the load saw against what is stored; with `garbage`
/// the port of the old packets is flooded meanwhile.
async fn server(devices: usize, per_s: u32, garbage: bool) -> Outcome<Summary> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let legacy = if garbage { Listen::At(any) } else { Listen::Off };
    let data = folder.path().join("data");
    let settings = Settings { data, http: any, mqtt: any, legacy, ..Settings::default() };
    let server = Server::start(settings).await?;
    let mut tokens = Vec::with_capacity(devices);
    for device in 0..devices {
        let id = DeviceId::parse(&load::device_name(device))?;
        tokens.push(server.registry().add(&id).await?.reveal().to_owned());
    }
    let load = Load { broker: server.mqtt_addr, devices, per_s, span: SPAN };
    let token_file = folder.path().join("tokens");
    std::fs::write(&token_file, tokens.join("\n"))?;
    let flood = server.legacy_addr.map(Flood::start).transpose()?;
    let summary = tokio::task::spawn_blocking(move || second_process(&load, &token_file)).await??;
    drop(flood);
    let stored = server.store().totals().await?.messages;
    server.shutdown().await;
    let acknowledged = summary.acknowledged;
    if stored < acknowledged {
        return Err(format!("acknowledged {acknowledged} messages but stored {stored}").into());
    }
    Ok(summary)
}

fn second_process(load: &Load, token_file: &Path) -> Outcome<Summary> {
    let output = Command::new(std::env::current_exe()?)
        .args(load.to_arguments(token_file))
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("the load generator failed: {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Loads mosquitto in the same way, if it is there.
fn peer(devices: usize, per_s: u32) -> Outcome<Option<Summary>> {
    let Some(mosquitto) = Mosquitto::start(None)? else {
        return Ok(None);
    };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let token_file = folder.path().join("tokens");
    std::fs::write(&token_file, vec!["none"; devices].join("\n"))?;
    let load = Load { broker: mosquitto.address, devices, per_s, span: SPAN };
    second_process(&load, &token_file).map(Some)
}

/// Appends directly to the store, from as many tasks as there are devices.
async fn rows_per_s() -> Outcome<f64> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let store = Arc::new(SqliteStore::open(folder.path(), Retention::default())?);
    let channels: Vec<Arc<str>> = (0..4).map(|i| Arc::from(format!("channel{i}"))).collect();
    let unit: Arc<str> = Arc::from("Cel");
    let started = Instant::now();
    let mut tasks = Vec::new();
    for device in 0..DEVICES {
        let id = DeviceId::parse(&load::device_name(device))?;
        stonechat_server::Registry::of(store.clone()).add(&id).await?;
        let (store, channels, unit) = (store.clone(), channels.clone(), unit.clone());
        tasks.push(tokio::spawn(async move {
            for sequence in 0..STORE_MESSAGES / DEVICES as u32 {
                let received_ms = 1_800_000_000_000 + i64::from(sequence) * 800;
                let readings = (0..STORE_READINGS).map(|i| Reading {
                    channel: channels[i % channels.len()].clone(),
                    unit: unit.clone(),
                    time_ms: received_ms + (i / channels.len()) as i64 * 100,
                    value: f64::from((f64::from(sequence) * 0.1 + i as f64).sin() as f32),
                });
                let message = Message {
                    device: id.clone(),
                    key: MessageId { session: 1, sequence }.into(),
                    received_ms,
                    readings: readings.collect(),
                    detector: None,
                };
                store.append(message).await?;
            }
            Ok::<(), stonechat_server::store::StoreError>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    // What is left in the tail is compacted within the measured time, too.
    store.close().await;
    let rows = f64::from(STORE_MESSAGES) * STORE_READINGS as f64;
    Ok(rows / started.elapsed().as_secs_f64())
}
