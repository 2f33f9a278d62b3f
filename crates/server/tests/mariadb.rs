//! The store when what it writes to fails under load: a database that is killed, a disk that is
//! full. What was acknowledged must be there, once and in order, and memory must stay bounded.
#![allow(missing_docs, clippy::print_stdout, reason = "a test that measures")]

mod common;
#[path = "common/mariadb.rs"]
mod mariadb;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Client, id, options, payload, settings};
use mariadb::Mariadb;
use stonechat_core::wire::uplink::MessageId;
use stonechat_server::store::{
    self, Expected, Message, MysqlOptions, MysqlStore, Reading, ReadingsQuery, RecordChange,
    RecordClass, Retention, SqliteStore, Store,
};
use stonechat_server::{DeviceId, Server, Settings};
use tempfile::TempDir;

const SENDERS: u32 = 16;
/// The messages that a sender sends together.
const BURST: u32 = 20;
const BURST_INTERVAL: Duration = Duration::from_millis(40);
/// By how much the process may grow while nothing can be stored.
const GROWTH_MAX_KIB: u64 = 96 * 1024;
const PATIENCE: Duration = Duration::from_secs(180);

/// How long the failure lasts.
fn outage() -> Duration {
    let seconds = std::env::var("STONECHAT_OUTAGE_S").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(5))
}

/// Devices that send without end, and again what was not acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    senders: Vec<tokio::task::JoinHandle<Sent>>,
}

#[derive(Default)]
struct Sent {
    /// The messages that were acknowledged: all up to this one.
    acknowledged: u32,
    /// How often a burst was not.
    refused: u32,
    /// The longest wait for an answer.
    longest: Duration,
}

fn device(number: u32) -> String {
    format!("device-{number}")
}

fn burst(number: u32, from: u32) -> Vec<Message> {
    let message = |sequence: u32| Message {
        device: DeviceId::parse(&device(number)).expect("legal"),
        key: MessageId { session: 1, sequence }.into(),
        received_ms: 1_800_000_000_000 + i64::from(sequence),
        readings: ["a", "b"]
            .map(|channel| Reading {
                channel: Arc::from(channel),
                unit: Arc::from("Cel"),
                time_ms: 1_800_000_000_000 + i64::from(sequence),
                value: f64::from(sequence),
            })
            .to_vec(),
        detector: None,
    };
    (from..from + BURST).map(message).collect()
}

impl Load {
    async fn start(store: &Arc<dyn Store>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut senders = Vec::new();
        for number in 0..SENDERS {
            let change =
                RecordChange::put(RecordClass::Device, device(number), Expected::Absent, "{}");
            store.change_records(vec![change]).await.expect("new device");
            let (store, stop) = (store.clone(), stop.clone());
            senders.push(tokio::spawn(async move {
                let mut sent = Sent::default();
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let answers = store.append_all(burst(number, sent.acknowledged)).await;
                    sent.longest = sent.longest.max(began.elapsed());
                    if answers.iter().all(Result::is_ok) {
                        sent.acknowledged += BURST;
                    } else {
                        sent.refused += 1;
                    }
                    tokio::time::sleep(BURST_INTERVAL).await;
                }
                sent
            }));
        }
        Self { stop, senders }
    }

    async fn stop(self) -> Vec<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for sender in self.senders {
            all.push(sender.await.expect("no panic"));
        }
        let acknowledged: u32 = all.iter().map(|sent| sent.acknowledged).sum();
        let refused: u32 = all.iter().map(|sent| sent.refused).sum();
        let longest = all.iter().map(|sent| sent.longest).max().unwrap_or_default();
        println!("{acknowledged} acknowledged, {refused} bursts refused, longest wait {longest:?}");
        all
    }
}

/// Everything that was acknowledged is there, once and in order.
async fn check(store: &Arc<dyn Store>, all: &[Sent]) {
    for (number, sent) in (0_u32..).zip(all) {
        let query = ReadingsQuery {
            device: device(number),
            channels: vec![],
            from_ms: 0,
            to_ms: i64::MAX,
            points_max: usize::MAX,
        };
        let series = store.readings(query).await.expect("readable");
        assert_eq!(series.len(), 2);
        for one in series {
            let values: Vec<u32> = one.points.iter().map(|point| point.1 as u32).collect();
            let acknowledged = sent.acknowledged as usize;
            assert!(values.len() >= acknowledged, "{} of {acknowledged}", values.len());
            // A burst that was not acknowledged may have been stored in part.
            let expected: Vec<u32> = (0..values.len() as u32).collect();
            assert!(values == expected, "lost, doubled or out of order: device {number}");
        }
    }
}

/// The memory of this process.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("there");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn with_database(folder: &TempDir, url: &str) -> Settings {
    Settings { database: url.parse().expect("legal"), ..settings(folder) }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: cargo xtask test --only mariadb"]
async fn a_killed_database_costs_nothing_that_was_acknowledged() {
    let mut server = Mariadb::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = server.database("livecon_db");
    let store = store::open(&with_database(&folder, &url)).expect("reachable");
    let load = Load::start(&store).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before_kib = resident_kib();
    server.kill();
    tokio::time::sleep(outage()).await;
    let grown_kib = resident_kib().saturating_sub(before_kib);
    let waiting = store.spool().expect("it has one");
    println!("away for {:?}: {waiting:?}, grown by {grown_kib} KiB", outage());
    assert!(waiting.messages > 0, "nothing was acknowledged meanwhile");
    assert!(grown_kib < GROWTH_MAX_KIB, "grown by {grown_kib} KiB");
    let began = Instant::now();
    server.run();
    until("the spool drains under load", || store.spool().is_some_and(|spool| spool.messages == 0))
        .await;
    println!("drained {:?} after the database was started", began.elapsed());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let all = load.stop().await;
    until("the spool drains", || store.spool().is_some_and(|spool| spool.messages == 0)).await;
    check(&store, &all).await;

    // As whoever looks into the database sees it, in the order in which it was stored.
    let acknowledged: u32 = all.iter().map(|sent| sent.acknowledged).sum();
    let rows = "SELECT COUNT(*), COUNT(DISTINCT channel, time_ms) FROM reading";
    assert_eq!(
        server.shell("livecon_db", rows),
        format!("{}\t{}\n", acknowledged * 2, acknowledged * 2)
    );
    let disorder = "SELECT COUNT(*) FROM (SELECT ordinal, LAG(ordinal) OVER (PARTITION BY channel \
        ORDER BY time_ms) AS before_it FROM reading) AS pairs WHERE ordinal <= before_it";
    assert_eq!(server.shell("livecon_db", disorder), "0\n");
    let value = "SELECT value FROM reading JOIN channel ON channel.id = reading.channel \
        JOIN device ON device.id = channel.device WHERE device.name = 'device-3' \
        AND channel.name = 'b' AND time_ms = 1800000000017";
    assert_eq!(server.shell("livecon_db", value), "17\n");
    store.close().await;
}

/// The spool is bounded: beyond, nothing is acknowledged until the database is back.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: cargo xtask test --only mariadb"]
async fn a_full_spool_pushes_back() {
    let mut server = Mariadb::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = server.database("small").parse().expect("legal");
    let spool_bytes_max = 256 * 1024;
    let options = MysqlOptions { spool_bytes_max, ..MysqlOptions::new(url, folder.path()) };
    let store: Arc<dyn Store> = Arc::new(MysqlStore::open(&options).expect("reachable"));
    let load = Load::start(&store).await;
    server.kill();
    until("the spool is full", || store.spool().is_some_and(|spool| spool.refused > 0)).await;
    assert!(store.spool().is_some_and(|spool| spool.bytes <= spool_bytes_max));
    server.run();
    until("the spool drains", || store.spool().is_some_and(|spool| spool.messages == 0)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let all = load.stop().await;
    assert!(all.iter().any(|sent| sent.refused > 0));
    until("the spool drains", || store.spool().is_some_and(|spool| spool.messages == 0)).await;
    check(&store, &all).await;
    store.close().await;
}

/// The whole server: a device's message is acknowledged while the database is away, and a restart
/// of the server loses nothing of the spool.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: cargo xtask test --only mariadb"]
async fn a_server_acknowledges_while_its_database_is_away() {
    let mut mariadb = Mariadb::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = with_database(&folder, &mariadb.database("site"));
    let server = Server::start(settings.clone()).await.expect("free ports");
    let token = server.registry().add(&id("pump")).await.expect("new device");
    let site = common::Site { server, folder };
    let mut client =
        Client::connect(options(&site, "pump", "pump", token.reveal())).await.expect("welcome");
    client.publish("stonechat/v1/pump/up", payload("pump", 0, 0.5)).await.expect("stored");
    mariadb.kill();
    for sequence in 1..50 {
        let sent = payload("pump", sequence, f64::from(sequence));
        client.publish("stonechat/v1/pump/up", sent).await.expect("in the spool");
    }
    // Who connects meanwhile is known from before.
    drop(client);
    let again = Client::connect(options(&site, "pump", "pump", token.reveal())).await;
    let mut client = again.expect("welcome while the database is away");
    client.publish("stonechat/v1/pump/up", payload("pump", 50, 50.0)).await.expect("in the spool");
    drop(client);
    site.server.shutdown().await;
    mariadb.run();
    let server = Server::start(settings).await.expect("free ports");
    until("the spool drains", || server.store().spool().is_some_and(|spool| spool.messages == 0))
        .await;
    let site = common::Site { server, ..site };
    let mut expected = vec![0.5];
    expected.extend((1..=50).map(f64::from));
    assert_eq!(site.values("pump", "a").await, expected);
    site.server.shutdown().await;
}

/// A small disk of a test's own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path, megabytes: u32) -> Self {
        let path = folder.join("disk");
        std::fs::create_dir(&path).expect("new folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "stonechat-test"])
            .arg(&path)
            .status()
            .expect("mount is there");
        assert!(mounted.success(), "a small disk needs root");
        Self(path)
    }

    /// Leaves no byte free.
    fn fill(&self) -> PathBuf {
        use std::io::Write;
        let path = self.0.join("filler");
        let mut filler = std::fs::File::create(&path).expect("room for a name");
        for len in [1 << 16, 1 << 12, 1] {
            while filler.write_all(&vec![1; len]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root for a small disk: cargo xtask test --only mariadb"]
async fn a_full_disk_costs_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = SmallDisk::mount(folder.path(), 96);
    let data = disk.0.join("data");
    let opened = SqliteStore::open(&data, Retention::default()).expect("own folder");
    let store: Arc<dyn Store> = Arc::new(opened);
    let load = Load::start(&store).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before_kib = resident_kib();
    let filler = disk.fill();
    tokio::time::sleep(outage()).await;
    let grown_kib = resident_kib().saturating_sub(before_kib);
    println!("full for {:?}: grown by {grown_kib} KiB", outage());
    assert!(grown_kib < GROWTH_MAX_KIB, "grown by {grown_kib} KiB");
    let stored = store.totals().await.expect("readable while full").messages;
    std::fs::remove_file(filler).expect("there");
    let end = Instant::now() + PATIENCE;
    while store.totals().await.expect("readable").messages <= stored {
        assert!(Instant::now() < end, "it does not recover");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let all = load.stop().await;
    assert!(all.iter().any(|sent| sent.refused > 0), "the disk was never full");
    check(&store, &all).await;
    store.close().await;
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&data, Retention::default()).expect("own folder"));
    check(&store, &all).await;
    store.close().await;
}
