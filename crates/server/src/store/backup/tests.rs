//! Backups beside a server that writes, and what becomes of damaged ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use stonechat_core::wire::uplink::MessageId;

use super::*;
use crate::device::DeviceId;
use crate::store::sqlite::{ExtractQuery, Part, extract};
use crate::store::suite::with_device;
use crate::store::{Appended, Message, Reading, Retention, SqliteStore, Store};

const START_MS: i64 = 1_800_000_000_000;

fn message(sequence: u32) -> Message {
    let at = |i: i64| START_MS + i64::from(sequence) * 1_000 + i * 100;
    Message {
        device: DeviceId::parse("pump").expect("legal"),
        key: MessageId { session: 1, sequence }.into(),
        received_ms: at(0),
        readings: (0..10)
            .map(|i| Reading {
                channel: Arc::from("a"),
                unit: Arc::from("Cel"),
                time_ms: at(i),
                value: f64::from(sequence),
            })
            .collect(),
        detector: None,
    }
}

fn open(folder: &Path) -> SqliteStore {
    SqliteStore::open(folder, Retention::default()).expect("own folder")
}

fn all() -> ExtractQuery {
    ExtractQuery { devices: vec![], channels: vec![], from_ms: i64::MIN, to_ms: i64::MAX }
}

fn extracted(folder: &Path, query: &ExtractQuery) -> Vec<(i64, f64)> {
    let mut points = Vec::new();
    let take = |part: Part<'_>| {
        assert_eq!((part.device, part.channel, part.unit), ("pump", "a", "Cel"));
        points.extend_from_slice(part.points);
        Ok::<_, StoreError>(())
    };
    extract(folder, query, take).expect("readable");
    assert!(points.is_sorted_by_key(|point| point.0));
    points
}

fn put_keys(data: &Path) {
    fs::create_dir_all(data.join("keys")).expect("writable");
    fs::write(data.join("keys/link.key"), "secret").expect("writable");
}

fn names(manifest: &Manifest) -> Vec<&str> {
    manifest.files.iter().map(|file| file.name.as_str()).collect()
}

/// What was acknowledged before the backup began is in it; nothing is in it by half.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_beside_a_writing_server_is_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let store = Arc::new(open(&data));
    put_keys(&data);
    with_device(&*store, "pump").await;
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let load = {
        let (store, stop, acknowledged) = (store.clone(), stop.clone(), acknowledged.clone());
        tokio::spawn(async move {
            let mut sequence = 0;
            while !stop.load(Ordering::Acquire) {
                store.append(message(sequence)).await.expect("stored");
                sequence += 1;
                acknowledged.store(sequence, Ordering::Release);
                if sequence % 50 == 0 {
                    store.compact().await.expect("started");
                }
            }
        })
    };
    while acknowledged.load(Ordering::Acquire) < 100 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    for round in 0..3 {
        let before = acknowledged.load(Ordering::Acquire);
        let (from, target) = (data.clone(), folder.path().join(format!("backup-{round}")));
        let to = target.clone();
        let made = tokio::task::spawn_blocking(move || back_up(&from, &to)).await.expect("runs");
        let made = made.expect("made");
        assert_eq!(names(&made), ["keys/link.key", "stonechat.sqlite"]);
        assert_eq!(verify(&target).expect("whole"), made);
        #[cfg(unix)]
        for name in ["keys/link.key", "stonechat.sqlite", MANIFEST] {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(target.join(name)).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let new = folder.path().join(format!("restored-{round}"));
        restore(&target, &new, false).expect("restored");
        let revived = open(&new);
        let stored = revived.totals().await.expect("answer").messages;
        assert!(stored >= u64::from(before), "{stored} of {before}");
        let stored = u32::try_from(stored).expect("few");
        let again = revived.append(message(stored - 1)).await.expect("answer");
        assert_eq!(again, Appended::Duplicate);
        let next = revived.append(message(stored)).await.expect("answer");
        assert!(matches!(next, Appended::New { .. }));
        let points = extracted(&new, &all());
        assert_eq!(points.len(), (stored as usize + 1) * 10);
        revived.close().await;
    }
    // The readings are copied out beside the writing server, each once and in order.
    let before = acknowledged.load(Ordering::Acquire) as usize;
    let from = data.clone();
    let points = tokio::task::spawn_blocking(move || extracted(&from, &all())).await.expect("runs");
    assert!(points.len() >= before * 10 && points.len() % 10 == 0);
    assert!(points.iter().zip(0..).all(|(p, i)| p.0 == START_MS + i * 100), "none left out");
    stop.store(true, Ordering::Release);
    load.await.expect("ran");
    let some = ExtractQuery { from_ms: START_MS + 500, to_ms: START_MS + 1_400, ..all() };
    assert_eq!(extracted(&data, &some).len(), 10);
    let none = ExtractQuery { devices: vec!["fan".into()], ..all() };
    let unknown = extract(&data, &none, |_| Ok::<_, StoreError>(()));
    assert!(matches!(unknown, Err(StoreError::UnknownDevice(_))), "{unknown:?}");
    store.close().await;
}

#[tokio::test]
async fn a_folder_in_use_or_not_empty_is_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (data, target) = (folder.path().join("data"), folder.path().join("backup"));
    assert!(matches!(back_up(&data, &target), Err(BackupError::NoData(_))));
    let store = open(&data);
    put_keys(&data);
    with_device(&store, "pump").await;
    back_up(&data, &target).expect("made");
    assert!(matches!(back_up(&data, &target), Err(BackupError::Exists(_))));
    store.append(message(1)).await.expect("stored");
    assert!(matches!(restore(&target, &data, false), Err(BackupError::NotEmpty(_))));
    let running = restore(&target, &data, true);
    assert!(
        matches!(running, Err(BackupError::Store(StoreError::InUse { .. }))),
        "a server runs there: {running:?}"
    );
    store.close().await;
    let restored = restore(&target, &data, true).expect("restored");
    let kept = restored.kept.expect("put aside");
    let (now, before) = (open(&data), open(&kept));
    assert_eq!(now.totals().await.expect("answer").messages, 0);
    assert_eq!(before.totals().await.expect("answer").messages, 1);
    assert_eq!(fs::read(data.join("keys/link.key")).expect("there"), b"secret");
    now.close().await;
    before.close().await;
    fs::create_dir(folder.path().join("empty")).expect("writable");
    restore(&target, &folder.path().join("empty"), false).expect("an empty folder gives way");
}

#[tokio::test]
async fn a_damaged_backup_changes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (data, target) = (folder.path().join("data"), folder.path().join("backup"));
    let store = open(&data);
    put_keys(&data);
    store.close().await;
    back_up(&data, &target).expect("made");
    let damage = |name: &str, text: Option<&[u8]>| {
        let path = target.join(name);
        let whole = fs::read(&path).expect("there");
        match text {
            Some(text) => fs::write(&path, text).expect("writable"),
            None => fs::remove_file(&path).expect("writable"),
        }
        let refused = restore(&target, &data, true);
        assert!(matches!(refused, Err(BackupError::Damaged { .. })), "{name}: {refused:?}");
        assert!(data.join("keys/link.key").is_file(), "the data folder is as it was");
        fs::write(&path, whole).expect("writable");
        verify(&target).expect("whole again");
    };
    damage("keys/link.key", Some(b"Secret"));
    damage("keys/link.key", None);
    damage("stonechat.sqlite", Some(b"no database"));
    damage(MANIFEST, None);
    damage(MANIFEST, Some(b"{}"));
    let outside = fs::read_to_string(target.join(MANIFEST)).expect("there");
    for name in ["../data/keys/link.key", "/etc/hostname", ""] {
        damage(MANIFEST, Some(outside.replace("keys/link.key", name).as_bytes()));
    }
    // A database that is damaged although its checksum fits.
    let path = target.join("stonechat.sqlite");
    let mut bytes = fs::read(&path).expect("there");
    let len = bytes.len();
    bytes[4_096..len.min(16_384)].fill(0xa5);
    fs::write(&path, &bytes).expect("writable");
    let entry = entry_of(&target, "stonechat.sqlite").expect("readable");
    let mut manifest: Manifest = serde_json::from_str(&outside).expect("own manifest");
    for file in &mut manifest.files {
        if file.name == entry.name {
            *file = entry.clone();
        }
    }
    let text = serde_json::to_string(&manifest).expect("texts");
    fs::write(target.join(MANIFEST), text).expect("writable");
    let refused = restore(&target, &data, true);
    assert!(matches!(refused, Err(BackupError::Damaged { .. })), "{refused:?}");
}
