//! How fast messages are taken in: acknowledged only when they are on disk.
//!
//! `cargo bench -p stonechat-server --bench ingest -- --json` prints one JSON object a line.
//! The load comes from a second process, by a hand-made MQTT 3.1.1 client with up to 16 messages
//! in flight for each device. Beside it runs mosquitto, if it is installed, under the same load:
//! it acknowledges from memory and stores nothing.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its results")]

mod load;

use std::error::Error;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use stonechat_core::wire::uplink::MessageId;
use stonechat_server::store::{Message, Reading, Retention, SqliteStore, Store};
use stonechat_server::{DeviceId, Server, Settings};

use crate::load::{Load, Summary};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const DEVICES: usize = 50;
/// Offered load at which the acknowledgement is timed.
const OFFERED_PER_S: u32 = 30_000;
const SPAN: Duration = Duration::from_secs(3);
/// Each is measured so often, in turn with the peer; the middle value counts.
const ROUNDS: usize = 3;
const STORE_MESSAGES: u32 = 60_000;
const STORE_READINGS: usize = 32;

/// What the rounds showed.
#[derive(Default)]
struct Rounds {
    full: Vec<Summary>,
    full_peer: Vec<Summary>,
    paced: Vec<Summary>,
    paced_peer: Vec<Summary>,
    processor_us: Vec<f64>,
    rows_per_s: Vec<f64>,
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == load::FLAG) {
        return load::run(&arguments[1..]);
    }
    let value_of = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1)?.parse::<u32>().ok()
    };
    let devices = value_of("--devices").map_or(DEVICES, |devices| devices as usize);
    let offered = value_of("--offered").unwrap_or(OFFERED_PER_S);
    let runtime = tokio::runtime::Runtime::new()?;
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        rounds.full_peer.extend(peer(devices, 0)?);
        let before_s = processor_s()?;
        let full = runtime.block_on(server(devices, 0))?;
        let spent_us = (processor_s()? - before_s) * 1e6;
        rounds.processor_us.push(spent_us / full.acknowledged as f64);
        rounds.full.push(full);
        rounds.paced_peer.extend(peer(devices, offered)?);
        rounds.paced.push(runtime.block_on(server(devices, offered))?);
        rounds.rows_per_s.push(runtime.block_on(rows_per_s())?);
    }
    let json = arguments.iter().any(|argument| argument == "--json");
    report(rounds, offered, json);
    Ok(())
}

fn report(rounds: Rounds, offered: u32, json: bool) {
    let of = |summaries: &[Summary], value: fn(&Summary) -> f64| {
        middle(summaries.iter().map(value).collect())
    };
    let (per_s, p50, p99) = (|s: &Summary| s.per_s, |s: &Summary| s.p50_ms, |s: &Summary| s.p99_ms);
    let Rounds { full, full_peer, paced, paced_peer, processor_us, rows_per_s } = rounds;
    let lines = [
        ("ingest.stored_per_s", of(&full, per_s), "messages/s", of(&full_peer, per_s)),
        ("ingest.full_load_ack_p99_ms", of(&full, p99), "ms", of(&full_peer, p99)),
        ("ingest.processor_us_per_message", middle(processor_us), "us", None),
        ("ingest.offered_per_s", Some(f64::from(offered)), "messages/s", None),
        ("ingest.paced_per_s", of(&paced, per_s), "messages/s", of(&paced_peer, per_s)),
        ("ingest.ack_p50_ms", of(&paced, p50), "ms", of(&paced_peer, p50)),
        ("ingest.ack_p99_ms", of(&paced, p99), "ms", of(&paced_peer, p99)),
        ("store.rows_per_s", middle(rows_per_s), "readings/s", None),
    ];
    for (name, value, unit, peer_value) in lines {
        let Some(value) = value else { continue };
        if json {
            print_json(name, value, unit, peer_value);
        } else {
            let beside = peer_value.map_or(String::new(), |peer| format!("   mosquitto {peer:.3}"));
            println!("{name:<34} {value:>14.3} {unit}{beside}");
        }
    }
}

fn print_json(name: &str, value: f64, unit: &str, peer_value: Option<f64>) {
    let mut line = json!({ "name": name, "value": value, "unit": unit });
    if let Some(peer_value) = peer_value {
        line["peer"] = json!("mosquitto (in memory, stores nothing)");
        line["peer_value"] = json!(peer_value);
        line["ratio"] = json!(value / peer_value);
    }
    println!("{line}");
}

fn middle(mut values: Vec<f64>) -> Option<f64> {
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

/// Loads a server of our own, and holds what the load saw against what is stored.
async fn server(devices: usize, per_s: u32) -> Outcome<Summary> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let settings =
        Settings { data: folder.path().join("data"), http: any, mqtt: any, ..Settings::default() };
    let server = Server::start(settings).await?;
    let mut tokens = Vec::with_capacity(devices);
    for device in 0..devices {
        let id = DeviceId::parse(&load::device_name(device))?;
        tokens.push(server.registry().add(&id).await?.reveal().to_owned());
    }
    let load = Load { broker: server.mqtt_addr, devices, per_s, span: SPAN };
    let token_file = folder.path().join("tokens");
    std::fs::write(&token_file, tokens.join("\n"))?;
    let summary = tokio::task::spawn_blocking(move || second_process(&load, &token_file)).await??;
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
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let config = folder.path().join("mosquitto.conf");
    let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n");
    std::fs::write(&config, text)?;
    let program = if Path::new("/usr/sbin/mosquitto").is_file() {
        "/usr/sbin/mosquitto"
    } else {
        "mosquitto"
    };
    let spawned = Command::new(program)
        .arg("-c")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = spawned else {
        eprintln!("mosquitto is not installed; running without a peer");
        return Ok(None);
    };
    let _guard = Stop(child);
    let broker = SocketAddr::from(([127, 0, 0, 1], port));
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(broker).is_err() {
        if Instant::now() > deadline {
            return Err("mosquitto does not listen".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let token_file = folder.path().join("tokens");
    std::fs::write(&token_file, vec!["none"; devices].join("\n"))?;
    second_process(&Load { broker, devices, per_s, span: SPAN }, &token_file).map(Some)
}

struct Stop(Child);

impl Drop for Stop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
