//! What the store achieves, printed: `cargo test --release -p stonechat-server --lib \
//! store::sqlite::measure -- --ignored --nocapture --test-threads 1`.
#![allow(clippy::print_stdout, reason = "these tests exist to print")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use stonechat_core::wire::uplink::MessageId;

use super::SqliteStore;
use crate::device::DeviceId;
use crate::store::suite::with_device;
use crate::store::{Appended, Message, Reading, ReadingsQuery, Retention, Store};

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

    async fn run(&self, folder: &Path) -> Arc<SqliteStore> {
        let store = SqliteStore::open(folder, Retention::default()).expect("own folder");
        let store = Arc::new(store);
        let ids: Vec<DeviceId> = (0..DEVICES)
            .map(|i| DeviceId::parse(&format!("device-{i:04}")).expect("legal"))
            .collect();
        for id in &ids {
            with_device(&*store, id.as_str()).await;
        }
        let names: Vec<Arc<str>> =
            (0..self.channels).map(|i| Arc::from(format!("channel{i}"))).collect();
        // Built beforehand: only the store is measured.
        let mut queues: Vec<Vec<Vec<Message>>> = (0..self.callers).map(|_| Vec::new()).collect();
        let rounds = self.messages / DEVICES;
        for (caller, queue) in queues.iter_mut().enumerate() {
            let own = ids.iter().skip(caller).step_by(self.callers);
            let mut all = Vec::new();
            for sequence in 0..rounds {
                let round = own.clone().map(|id| self.message(id, &names, sequence as u32));
                all.extend(round);
            }
            let mut all = all.into_iter();
            loop {
                let batch: Vec<_> = all.by_ref().take(self.batch).collect();
                if batch.is_empty() {
                    break;
                }
                queue.push(batch);
            }
        }
        let (started, before_s) = (Instant::now(), processor_s());
        let mut tasks = Vec::new();
        for queue in queues {
            let store = store.clone();
            tasks.push(tokio::spawn(async move {
                for batch in queue {
                    let answers = store.append_all(batch).await;
                    assert!(answers.iter().all(|a| matches!(a, Ok(Appended::New { .. }))));
                }
            }));
        }
        for task in tasks {
            task.await.expect("runs");
        }
        let (stored, tail) = (started.elapsed(), store.fleet.read().tail_readings);
        store.close().await;
        let (compacted, spent_s) = (started.elapsed(), processor_s() - before_s);
        let messages = (rounds * DEVICES) as f64;
        let rows = messages * self.readings as f64;
        let bytes = file_len(folder, "stonechat.sqlite") + file_len(folder, "stonechat.sqlite-wal");
        let (free, page) = free_pages(folder);
        println!(
            "{} readings a message, {} messages a call, {} callers, {messages} messages",
            self.readings, self.batch, self.callers
        );
        println!("  stored     {:>12.0} messages/s", messages / stored.as_secs_f64());
        println!(
            "  stored     {:>12.0} readings/s, {tail} left in the tail",
            rows / stored.as_secs_f64()
        );
        println!("  compacted  {:>12.0} readings/s, all of them", rows / compacted.as_secs_f64());
        println!("  processor  {:>12.3} us/message", spent_s * 1e6 / messages);
        println!(
            "  on disk    {:>12.2} bytes/reading; {:.2} of them in free pages",
            bytes as f64 / rows,
            (free * page) as f64 / rows
        );
        store
    }
}

fn file_len(folder: &Path, name: &str) -> u64 {
    std::fs::metadata(folder.join(name)).map_or(0, |metadata| metadata.len())
}

fn free_pages(folder: &Path) -> (u64, u64) {
    let connection = Connection::open(folder.join("stonechat.sqlite")).expect("there");
    let pragma = |name: &str| {
        let text = format!("PRAGMA {name}");
        connection.query_row(&text, [], |row| row.get::<_, i64>(0)).expect("known").cast_unsigned()
    };
    (pragma("freelist_count"), pragma("page_size"))
}

/// The processor time of this process so far, in seconds (proc(5), in hundredths of a second).
fn processor_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn folder() -> tempfile::TempDir {
    // Beside the build, on a real disk: a temporary folder may be in memory.
    tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("writable")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures; for quiet machines and release builds"]
async fn one_reading_a_message() {
    let folder = folder();
    let load = Load { channels: 1, readings: 1, batch: 1_000, callers: 4, messages: 3_000_000 };
    load.run(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures; for quiet machines and release builds"]
async fn many_readings_a_message() {
    let folder = folder();
    let load = Load { channels: 4, readings: 32, batch: 100, callers: 4, messages: 300_000 };
    load.run(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures; for quiet machines and release builds"]
async fn the_newest_thousand_points() {
    let folder = folder();
    let load = Load { channels: 4, readings: 32, batch: 100, callers: 4, messages: 200_000 };
    load.run(folder.path()).await;
    let store = SqliteStore::open(folder.path(), Retention::default()).expect("own folder");
    let last = i64::from(200_000 / DEVICES as u32 - 1) * 1_000 + START_MS + 70;
    let mut times = Vec::new();
    for i in 0..1_000 {
        let query = ReadingsQuery {
            device: format!("device-{:04}", i * 7 % DEVICES),
            channels: vec!["channel0".into()],
            from_ms: last - 125_000 + 1,
            to_ms: i64::MAX,
            points_max: 1_000,
        };
        let started = Instant::now();
        let series = store.readings(query).await.expect("readable");
        times.push(started.elapsed());
        assert_eq!(series[0].points.len(), 1_000);
    }
    times.sort_unstable();
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    println!("newest 1,000 points: p50 {:.0} us, p99 {:.0} us", us(times[500]), us(times[990]));
    store.close().await;
}
