//! What this store alone must do, beside the suite for every store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use rusqlite::Connection;
use stonechat_core::wire::uplink::MessageId;
use tempfile::TempDir;

use super::{RecordsBeside, SqliteStore};
use crate::device::DeviceId;
use crate::store::suite::{self, Opener};
use crate::store::{
    Appended, Message, Reading, ReadingsQuery, RecordClass, Records, Resolution, Retention, Store,
    StoreError,
};

struct Folder(TempDir);

impl Opener for Folder {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(self.0.path(), Retention::default()).expect("own folder"))
    }

    fn open_keeping(&self, retention: Retention) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(self.0.path(), retention).expect("own folder"))
    }

    fn beside(&self) -> Arc<dyn Records> {
        Arc::new(RecordsBeside::in_folder(self.0.path()))
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn database(folder: &Path) -> PathBuf {
    folder.join("stonechat.sqlite")
}

fn pump() -> DeviceId {
    DeviceId::parse("pump").expect("legal")
}

fn message(sequence: u32) -> Message {
    let time_ms = 1_800_000_000_000 + i64::from(sequence);
    let reading = |channel: &str, value| Reading {
        channel: Arc::from(channel),
        unit: Arc::from(""),
        time_ms,
        value,
    };
    Message {
        device: pump(),
        key: MessageId { session: 1, sequence }.into(),
        received_ms: time_ms,
        readings: (0..20).map(|i| reading(&format!("c{i}"), f64::from(sequence))).collect(),
        detector: None,
    }
}

async fn add_pump(store: &SqliteStore) {
    suite::with_device(store, "pump").await;
}

async fn count(store: &SqliteStore, channel: &str) -> usize {
    let query = ReadingsQuery {
        device: "pump".into(),
        channels: vec![channel.into()],
        from_ms: 0,
        to_ms: i64::MAX,
        points_max: usize::MAX,
    };
    store.readings(query).await.expect("readable").first().map_or(0, |series| series.points.len())
}

#[tokio::test]
async fn does_what_every_store_must() {
    suite::run(&Folder(folder())).await;
}

#[tokio::test]
async fn a_second_server_is_told_that_the_folder_is_in_use() {
    let folder = folder();
    let store = SqliteStore::open(folder.path(), Retention::default()).expect("own folder");
    let second = SqliteStore::open(folder.path(), Retention::default());
    assert!(matches!(second, Err(StoreError::InUse { .. })), "{second:?}");
    store.close().await;
    SqliteStore::open(folder.path(), Retention::default()).expect("free again");
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let folder = folder();
    SqliteStore::open(folder.path(), Retention::default()).expect("own folder").close().await;
    let connection = Connection::open(database(folder.path())).expect("there");
    connection.pragma_update(None, "user_version", 99).expect("writable");
    drop(connection);
    let newer = SqliteStore::open(folder.path(), Retention::default()).expect_err("newer");
    assert!(matches!(newer, StoreError::NewerSchema { found: 99, .. }), "{newer}");
}

/// Waits for the lock in vain, so that it takes as long as the limit says.
#[tokio::test]
async fn a_locked_database_is_named() {
    let folder = folder();
    SqliteStore::open(folder.path(), Retention::default()).expect("own folder").close().await;
    let other = Connection::open(database(folder.path())).expect("there");
    other.execute_batch("BEGIN EXCLUSIVE").expect("lock");
    let error = SqliteStore::open(folder.path(), Retention::default()).expect_err("locked");
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").expect("writable");
    let error =
        SqliteStore::open(&file.join("data"), Retention::default()).expect_err("not a folder");
    assert!(error.to_string().contains("--data"), "{error}");
}

#[test]
fn a_file_that_is_no_database_is_named() {
    let folder = folder();
    std::fs::write(database(folder.path()), [b'x'; 4_096]).expect("writable");
    let error = SqliteStore::open(folder.path(), Retention::default()).expect_err("no database");
    assert!(error.to_string().contains("stonechat.sqlite"), "{error}");
}

/// Messages come in while the tail is compacted step by step; a reader sees each reading once.
#[tokio::test]
async fn a_compaction_under_way_neither_loses_nor_doubles_readings() {
    let folder = folder();
    let store = SqliteStore::open(folder.path(), Retention::default()).expect("own folder");
    add_pump(&store).await;
    for sequence in 0..500 {
        if sequence % 100 == 99 {
            store.compact().await.expect("compacted");
        }
        let appended = store.append(message(sequence)).await.expect("stored");
        assert!(matches!(appended, Appended::New { .. }));
        for channel in ["c0", "c7", "c19"] {
            assert_eq!(count(&store, channel).await, sequence as usize + 1, "{channel}");
        }
    }
    store.close().await;
}

/// The files are copied while a compaction is under way, as a power cut would leave them.
#[tokio::test]
async fn a_crash_during_compaction_neither_loses_nor_doubles_readings() {
    let folder = folder();
    let store = SqliteStore::open(folder.path(), Retention::default()).expect("own folder");
    add_pump(&store).await;
    let mut between = 0;
    for sequence in 0..300_u32 {
        store.append(message(sequence)).await.expect("stored");
        if sequence % 10 != 9 {
            continue;
        }
        store.compact().await.expect("started");
        let copy = self::folder();
        {
            // With a transaction open, the writer cannot commit while the files are copied.
            let holder = Connection::open(database(folder.path())).expect("there");
            holder.busy_timeout(std::time::Duration::from_secs(5)).expect("set");
            holder.execute_batch("BEGIN IMMEDIATE").expect("lock");
            for name in ["stonechat.sqlite", "stonechat.sqlite-wal"] {
                std::fs::copy(folder.path().join(name), copy.path().join(name)).expect("copied");
            }
            let left: i64 = holder
                .query_row("SELECT count(*) FROM batch", [], |row| row.get(0))
                .expect("readable");
            let compacted: i64 = holder
                .query_row(
                    "SELECT count(*) FROM channel WHERE compacted_to = ?1",
                    [sequence + 1],
                    |row| row.get(0),
                )
                .expect("readable");
            between += u32::from(left > 0 && compacted > 0);
        }
        let revived = SqliteStore::open(copy.path(), Retention::default()).expect("revived");
        for channel in ["c0", "c7", "c19"] {
            assert_eq!(count(&revived, channel).await, sequence as usize + 1, "{channel}");
        }
        let again = revived.append(message(sequence)).await.expect("answer");
        assert_eq!(again, Appended::Duplicate);
        let totals = revived.totals().await.expect("answer");
        assert_eq!(totals.messages, u64::from(sequence) + 1);
        assert_eq!(totals.readings, (u64::from(sequence) + 1) * 20);
        revived.close().await;
    }
    assert!(between > 0, "no copy caught a compaction half done");
    store.close().await;
}

/// What can not be committed is not acknowledged, and works again once the cause is gone.
#[tokio::test]
async fn a_failed_transaction_is_not_acknowledged() {
    let folder = folder();
    let store = SqliteStore::open(folder.path(), Retention::default()).expect("own folder");
    add_pump(&store).await;
    store.append(message(1)).await.expect("stored");
    let other = Connection::open(database(folder.path())).expect("there");
    other.busy_timeout(std::time::Duration::from_secs(5)).expect("set");
    other.execute_batch("ALTER TABLE batch RENAME TO gone").expect("renamed");
    let failed = store.append(message(2)).await;
    assert!(matches!(failed, Err(StoreError::NotCommitted { .. })), "{failed:?}");
    assert_eq!(count(&store, "c0").await, 1);
    other.execute_batch("ALTER TABLE gone RENAME TO batch").expect("renamed");
    let stored = store.append(message(2)).await.expect("works again");
    assert!(matches!(stored, Appended::New { .. }), "not a duplicate: it was not stored before");
    assert_eq!(count(&store, "c0").await, 2);
    store.close().await;
}

/// Another process holds the write lock for longer than is waited: not acknowledged, not lost.
#[tokio::test]
async fn a_lock_held_by_another_process_is_survived() {
    let folder = folder();
    let store = SqliteStore::open(folder.path(), Retention::default()).expect("own folder");
    add_pump(&store).await;
    let other = Connection::open(database(folder.path())).expect("there");
    other.execute_batch("BEGIN IMMEDIATE").expect("lock");
    let failed = store.append(message(1)).await;
    assert!(matches!(failed, Err(StoreError::NotCommitted { .. })), "{failed:?}");
    other.execute_batch("ROLLBACK").expect("free again");
    let stored = store.append(message(1)).await.expect("works again");
    assert!(matches!(stored, Appended::New { .. }), "{stored:?}");
    store.close().await;
}

/// Merging the log keeps it from growing without end.
#[tokio::test]
async fn the_log_stays_bounded() {
    // In memory where there is such a folder, as waiting for the disk shows nothing here.
    let folder = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| folder());
    let store = SqliteStore::open(folder.path(), Retention::default()).expect("own folder");
    add_pump(&store).await;
    let log = folder.path().join("stonechat.sqlite-wal");
    let mut sizes = Vec::new();
    for sequence in 0..=6 * crate::limits::CHECKPOINT_TRANSACTIONS {
        let mut short = message(sequence);
        short.readings.truncate(1);
        store.append(short).await.expect("stored");
        if sequence % crate::limits::CHECKPOINT_TRANSACTIONS == 0 {
            sizes.push(std::fs::metadata(&log).expect("there").len());
        }
    }
    // The file keeps the length it once had, so it has to stop growing.
    let (early, late) = (sizes[3], sizes[6]);
    assert!(late < early + early / 2, "{sizes:?}");
    store.close().await;
}

fn points_message(sequence: u32, points: &[(i64, f64)]) -> Message {
    let (channel, unit): (Arc<str>, Arc<str>) = (Arc::from("c0"), Arc::from(""));
    let reading = |&(time_ms, value): &(i64, f64)| Reading {
        channel: channel.clone(),
        unit: unit.clone(),
        time_ms,
        value,
    };
    Message { readings: points.iter().map(reading).collect(), ..message(sequence) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Points come in any order over four days, in two parts that each fill whole chunks.
    #[test]
    fn summaries_equal_a_naive_computation(
        seconds in prop::collection::vec((0_i64..345_600, -1_000_i32..1_000), 360 * 4),
        first_chunks in 1_usize..4,
    ) {
        let start_ms = 1_800_000_000_000 / 86_400_000 * 86_400_000;
        let points: Vec<_> =
            seconds.iter().map(|&(s, v)| (start_ms + s * 1_000, f64::from(v))).collect();
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        runtime.block_on(async {
            let folder = folder();
            let (first, second) = points.split_at(first_chunks * 360);
            for (sequence, part) in [(1, first), (2, second)] {
                let store = SqliteStore::open(folder.path(), Retention::default()).expect("own");
                if sequence == 1 {
                    add_pump(&store).await;
                }
                store.append(points_message(sequence, part)).await.expect("stored");
                store.close().await;
            }
            let store = SqliteStore::open(folder.path(), Retention::default()).expect("own");
            for resolution in [Resolution::Minute, Resolution::Hour] {
                let found = store.summaries("pump", "c0", resolution, 0, i64::MAX).await;
                let found = found.expect("readable");
                let (mut counted, width_ms) = (0, resolution.width_ms());
                for summary in found {
                    let within = points.iter().filter(|p| p.0.div_euclid(width_ms) * width_ms == summary.start_ms);
                    let values: Vec<f64> = within.map(|p| p.1).collect();
                    assert_eq!(summary.count, values.len() as u64);
                    assert_eq!(summary.min.1, values.iter().copied().fold(f64::MAX, f64::min));
                    assert_eq!(summary.max.1, values.iter().copied().fold(f64::MIN, f64::max));
                    assert_eq!(summary.sum, values.iter().sum::<f64>());
                    assert_eq!(summary.mean(), summary.sum / values.len() as f64);
                    assert!(points.contains(&summary.min) && points.contains(&summary.max));
                    counted += summary.count;
                }
                assert_eq!(counted, points.len() as u64, "each point once");
            }
            store.close().await;
        });
    }
}

/// A database of the first version keeps its devices and their tokens.
#[tokio::test]
async fn the_first_versions_tokens_become_records() {
    let folder = folder();
    let connection = Connection::open(database(folder.path())).expect("new");
    connection.execute_batch(super::schema::MIGRATIONS[0]).expect("the first schema");
    connection.pragma_update(None, "user_version", 1).expect("writable");
    connection
        .execute_batch(
            "INSERT INTO device VALUES (3, 'pump', x'00ff17', 42, NULL, NULL);
             INSERT INTO channel (id, device, name, unit) VALUES (5, 3, 'c0', '');
             INSERT INTO message VALUES (1, 3, 1, 7, 1000, x'05000000000000000840');",
        )
        .expect("as the first version wrote it");
    drop(connection);
    let store = SqliteStore::open(folder.path(), Retention::default()).expect("own folder");
    let record = store.record(RecordClass::Device, "pump").await.expect("answer").expect("there");
    let body: serde_json::Value =
        serde_json::from_str(record.body.as_deref().expect("living")).expect("JSON");
    let expected =
        serde_json::json!({"id": "pump", "tokens": [{"hash": "00ff17", "created_ms": 42}]});
    assert_eq!((record.revision, body), (1, expected));
    assert_eq!(count(&store, "c0").await, 1);
    let again = store.append(message(7)).await.expect("known");
    assert_eq!(again, Appended::Duplicate);
    store.close().await;
}
