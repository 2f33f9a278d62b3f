use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::{Spool, SpoolError};
use crate::device::DeviceId;
use crate::store::{Message, MessageKey, Reading};

const ROOM: u64 = 1 << 20;

fn message(number: u8) -> Message {
    let reading = Reading {
        channel: Arc::from("temperature"),
        unit: Arc::from("Cel"),
        time_ms: i64::from(number),
        value: f64::from(number),
    };
    Message {
        device: DeviceId::parse("pump").expect("legal"),
        key: MessageKey::Digest([number; 16]),
        received_ms: i64::from(number),
        readings: vec![reading],
        detector: None,
    }
}

fn messages(numbers: std::ops::Range<u8>) -> Vec<Message> {
    numbers.map(message).collect()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn open(folder: &Path) -> Spool {
    Spool::open(folder, ROOM).expect("own folder")
}

fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .expect("there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "spool"))
        .collect();
    found.sort();
    found
}

fn drain(spool: &mut Spool, at_a_time: usize) -> Vec<Message> {
    let mut all = Vec::new();
    while !spool.is_empty() {
        let (some, position) = spool.peek(at_a_time).expect("readable");
        assert!(!some.is_empty() && some.len() <= at_a_time);
        all.extend(some);
        spool.consume(position).expect("writable");
    }
    all
}

#[test]
fn what_goes_in_comes_out_in_order() {
    let folder = folder();
    let mut spool = open(folder.path());
    assert!(spool.is_empty());
    spool.push_all(&messages(0..3)).expect("room");
    let (first, position) = spool.peek(2).expect("readable");
    assert_eq!(first, messages(0..2));
    assert_eq!(spool.peek(2).expect("readable").0, first, "looking takes nothing");
    spool.push_all(&messages(3..5)).expect("room");
    spool.consume(position).expect("writable");
    let status = spool.gauge().status();
    assert_eq!((status.messages, status.spooled, status.drained), (3, 5, 2));
    assert_eq!(drain(&mut spool, 2), messages(2..5));
    let status = spool.gauge().status();
    assert_eq!((status.messages, status.bytes, status.drained), (0, 0, 5));
    assert!(segments(folder.path()).is_empty(), "an empty spool has no files");
    spool.push_all(&messages(5..6)).expect("room");
    assert_eq!(drain(&mut spool, 9), messages(5..6));
}

#[test]
fn it_survives_a_restart_with_what_was_not_consumed() {
    let folder = folder();
    let mut spool = open(folder.path());
    spool.push_all(&messages(0..10)).expect("room");
    let (_, position) = spool.peek(4).expect("readable");
    spool.consume(position).expect("writable");
    drop(spool);
    let mut spool = open(folder.path());
    assert_eq!(spool.gauge().status().messages, 6);
    spool.push_all(&messages(10..12)).expect("room");
    drop(spool);
    assert_eq!(drain(&mut open(folder.path()), 5), messages(4..12));
    assert!(open(folder.path()).is_empty());
}

#[test]
fn a_crash_in_the_middle_of_a_write_loses_only_that_write() {
    let whole = folder();
    open(whole.path()).push_all(&messages(0..3)).expect("room");
    let segment = segments(whole.path()).remove(0);
    let bytes = std::fs::read(&segment).expect("there");
    let each = bytes.len() / 3;
    for cut in 0..=bytes.len() {
        let folder = folder();
        let copy = folder.path().join(segment.file_name().expect("a file"));
        std::fs::write(copy, &bytes[..cut]).expect("writable");
        let mut spool = open(folder.path());
        let complete = (cut / each) as u8;
        spool.push_all(&messages(7..8)).expect("room");
        let mut expected = messages(0..complete);
        expected.push(message(7));
        assert_eq!(drain(&mut spool, 100), expected, "cut at {cut}");
        let files = std::fs::read_dir(folder.path()).expect("there");
        let damaged = |name: &str| name.ends_with(".damaged");
        let kept =
            files.filter(|f| damaged(&f.as_ref().expect("entry").file_name().to_string_lossy()));
        assert_eq!(kept.count(), 0, "a torn write is no damage");
    }
}

#[test]
fn a_damaged_frame_is_kept_aside_and_the_rest_comes_out() {
    let folder = folder();
    open(folder.path()).push_all(&messages(0..3)).expect("room");
    let segment = segments(folder.path()).remove(0);
    let mut bytes = std::fs::read(&segment).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).expect("writable");
    let mut spool = open(folder.path());
    spool.push_all(&messages(7..8)).expect("room");
    assert_eq!(drain(&mut spool, 100), [message(0), message(7)]);
    assert!(segment.with_extension("spool.damaged").exists());
}

#[test]
fn a_full_spool_refuses_and_takes_again_when_drained() {
    let folder = folder();
    let mut spool = Spool::open(folder.path(), 200).expect("own folder");
    spool.push_all(&messages(0..2)).expect("room");
    let full = spool.push_all(&messages(2..4));
    assert!(matches!(full, Err(SpoolError::Full { bytes_max: 200 })), "{full:?}");
    assert_eq!(spool.gauge().status().refused, 2);
    assert_eq!(drain(&mut spool, 1), messages(0..2));
    spool.push_all(&messages(2..4)).expect("room again");
    assert_eq!(drain(&mut spool, 9), messages(2..4));
}

#[test]
fn a_second_server_is_told_that_the_spool_is_in_use() {
    let folder = folder();
    let spool = open(folder.path());
    assert!(matches!(Spool::open(folder.path(), ROOM), Err(SpoolError::InUse)));
    drop(spool);
    open(folder.path());
}

#[test]
fn many_segments_come_out_in_order() {
    let folder = folder();
    let mut long = message(1);
    long.readings = vec![long.readings[0].clone(); 50_000];
    let mut spool = Spool::open(folder.path(), 1 << 30).expect("own folder");
    let mut expected = Vec::new();
    for number in 0..20_u8 {
        long.key = MessageKey::Digest([number; 16]);
        spool.push_all(std::iter::once(&long)).expect("room");
        expected.push(long.key);
    }
    assert!(segments(folder.path()).len() > 1);
    drop(spool);
    let mut spool = Spool::open(folder.path(), 1 << 30).expect("own folder");
    let keys: Vec<_> = drain(&mut spool, 3).iter().map(|message| message.key).collect();
    assert_eq!(keys, expected);
}
