//! What the stores achieve, one JSON object a line: `cargo xtask measure store`.
#![allow(clippy::print_stdout, reason = "these tests exist to print")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::json;
use stonechat_core::wire::uplink::MessageId;

use super::mysql::tests::Site;
use super::sqlite::SqliteStore;
use super::suite::{Opener, with_device};
use super::{Appended, Message, Reading, ReadingsQuery, Retention, Store};
use crate::device::DeviceId;

const START_MS: i64 = 1_800_000_000_000;
const DEVICES: usize = 1_000;

/// A load: so many readings a message, so many messages a call, so many callers.
struct Load {
    channels: usize,
    readings: usize,
    batch: usize,
    callers: usize,
    messages: usize,
}

impl Load {
    /// The values are what sensors give: tenths of degrees, and noise as 32-bit floats.
    fn message(&self, device: &DeviceId, names: &[Arc<str>], sequence: u32) -> Message {
        let start_ms = START_MS + i64::from(sequence) * 1_000;
        let unit: Arc<str> = Arc::from("Cel");
        let readings = (0..self.readings).map(|i| {
            let (channel, step) = (i % self.channels, (i / self.channels) as i64);
            let phase = f64::from(sequence) * 0.1 + i as f64;
            let value = match channel % 2 {
                0 => (210.0 + 30.0 * phase.sin()).round() / 10.0,
                _ => f64::from((phase.sin() + (phase * 7.3).cos()) as f32),
            };
            let time_ms = start_ms + step * 10;
            Reading { channel: names[channel].clone(), unit: unit.clone(), time_ms, value }
        });
        Message {
            device: device.clone(),
            key: MessageId { session: 1, sequence }.into(),
            received_ms: start_ms + 7,
            readings: readings.collect(),
            detector: None,
        }
    }

    fn names(&self) -> Vec<Arc<str>> {
        (0..self.channels).map(|i| Arc::from(format!("channel{i}"))).collect()
    }

    /// The messages of one caller, in calls; each device's come in their order.
    fn calls(&self, ids: &[DeviceId], caller: usize) -> Vec<Vec<Message>> {
        let names = self.names();
        let own: Vec<&DeviceId> = ids.iter().skip(caller).step_by(self.callers).collect();
        let rounds = 0..(self.messages / DEVICES) as u32;
        let mut all = rounds
            .flat_map(|sequence| own.iter().map(move |id| (sequence, *id)))
            .map(|(sequence, id)| self.message(id, &names, sequence));
        let call =
            || Some(all.by_ref().take(self.batch).collect()).filter(|c: &Vec<_>| !c.is_empty());
        std::iter::from_fn(call).collect()
    }

    /// Stores all of it and returns the readings stored a second.
    async fn run(&self, store: &Arc<dyn Store>) -> f64 {
        let ids: Vec<DeviceId> = (0..DEVICES).map(id).collect();
        for id in &ids {
            with_device(&**store, id.as_str()).await;
        }
        // Built beforehand: only the store is measured.
        let queues: Vec<_> = (0..self.callers).map(|caller| self.calls(&ids, caller)).collect();
        let started = Instant::now();
        let mut tasks = Vec::new();
        for queue in queues {
            let store = store.clone();
            tasks.push(tokio::spawn(async move {
                for call in queue {
                    let answers = store.append_all(call).await;
                    assert!(answers.iter().all(|a| matches!(a, Ok(Appended::New { .. }))));
                }
            }));
        }
        for task in tasks {
            task.await.expect("runs");
        }
        self.readings_in_all() / started.elapsed().as_secs_f64()
    }

    fn readings_in_all(&self) -> f64 {
        (self.messages * self.readings) as f64
    }
}

fn id(index: usize) -> DeviceId {
    DeviceId::parse(&format!("device-{index:04}")).expect("legal")
}

fn print(name: &str, value: f64, unit: &str) {
    // On a line of its own, whatever the test harness wrote before.
    println!("\n{}", json!({ "name": format!("store.{name}"), "value": value, "unit": unit }));
}

/// Asks for the newest 1,000 points of many channels, one after the other, and prints what that
/// takes.
async fn newest(store: &dyn Store, load: &Load, name: &str) {
    const POINTS: usize = 1_000;
    let each = load.readings / load.channels;
    let rounds = (load.messages / DEVICES) as i64;
    let from_ms = START_MS + (rounds - (POINTS / each) as i64) * 1_000;
    let to_ms = START_MS + rounds * 1_000;
    let mut times = Vec::new();
    for i in 0..1_000 {
        let query = ReadingsQuery {
            device: id(i * 7 % DEVICES).to_string(),
            channels: vec!["channel0".into()],
            from_ms,
            to_ms,
            points_max: POINTS,
        };
        let started = Instant::now();
        let series = store.readings(query).await.expect("readable");
        times.push(started.elapsed());
        assert_eq!((series[0].points.len(), series[0].downsampled), (POINTS, false));
    }
    times.sort_unstable();
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    print(&format!("{name}_newest_1000_p50_us"), us(times[500]), "us");
    print(&format!("{name}_newest_1000_p99_us"), us(times[990]), "us");
}

/// Bytes of the database in `folder`, those of its free pages taken away.
fn bytes_in_use(folder: &Path) -> u64 {
    let connection = Connection::open(folder.join("stonechat.sqlite")).expect("there");
    let pragma = |name: &str| {
        let text = format!("PRAGMA {name}");
        connection.query_row(&text, [], |row| row.get::<_, i64>(0)).expect("known").cast_unsigned()
    };
    (pragma("page_count") - pragma("freelist_count")) * pragma("page_size")
}

async fn sqlite(load: &Load, name: &str) {
    // Beside the build, on a real disk: a temporary folder may be in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("writable");
    let open = || -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(folder.path(), Retention::default()).expect("own folder"))
    };
    let store = open();
    print(&format!("{name}_readings_per_s"), load.run(&store).await, "readings/s");
    // What is closed is compacted.
    store.close().await;
    drop(store);
    let file = std::fs::metadata(folder.path().join("stonechat.sqlite")).expect("there").len();
    let readings = load.readings_in_all();
    print(&format!("{name}_bytes_per_reading"), file as f64 / readings, "bytes");
    let in_use = bytes_in_use(folder.path()) as f64;
    print(&format!("{name}_bytes_in_use_per_reading"), in_use / readings, "bytes");
    if load.readings > 1 {
        let store = open();
        newest(&*store, load, name).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo xtask measure store"]
async fn sqlite_one_reading_a_message() {
    let load = Load { channels: 1, readings: 1, batch: 1_000, callers: 4, messages: 3_000_000 };
    sqlite(&load, "sqlite_single").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo xtask measure store"]
async fn sqlite_many_readings_a_message() {
    let load = Load { channels: 4, readings: 32, batch: 100, callers: 4, messages: 300_000 };
    sqlite(&load, "sqlite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, which needs MariaDB: cargo xtask measure store"]
async fn mariadb_many_readings_a_message() {
    let site = Site::new();
    let store = site.open();
    let load = Load { channels: 4, readings: 20, batch: 1_000, callers: 4, messages: 200_000 };
    print("mariadb_readings_per_s", load.run(&store).await, "readings/s");
    assert!(store.spool().is_some_and(|spool| spool.spooled == 0), "the database kept up");
    newest(&*store, &load, "mariadb").await;
    store.close().await;
}
