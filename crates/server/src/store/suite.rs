//! What every store must do; run over each of them.

use std::sync::Arc;
use std::time::Duration;

use stonechat_core::wire::uplink::MessageId;

use super::{
    AlarmsQuery, Appended, Expected, Message, MessageKey, Reading, ReadingsQuery, Record,
    RecordChange, RecordClass, Records, Resolution, Retention, Store, StoreError,
};
use crate::alarm::{Action, AlarmState, Change};
use crate::device::DeviceId;
use crate::limits::{DIGESTS_PER_DEVICE_MAX, RECORD_BODY_LEN_MAX, RECORD_KEY_LEN_MAX};

const START_MS: i64 = 1_800_000_000_000;

/// A store that can be closed and opened again.
pub(super) trait Opener {
    /// Opens it, with what it held before.
    fn open(&self) -> Arc<dyn Store>;
    /// Opens it with what it held before, to delete what is older than is kept.
    fn open_keeping(&self, retention: Retention) -> Arc<dyn Store>;
    /// Takes its records as another program would while it is open.
    fn beside(&self) -> Arc<dyn Records>;
}

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

fn id(name: &str) -> DeviceId {
    DeviceId::parse(name).expect("legal")
}

fn message(device: &str, session: u32, sequence: u32, readings: &[(&str, i64, f64)]) -> Message {
    let reading = |&(channel, after_ms, value): &(&str, i64, f64)| Reading {
        channel: Arc::from(channel),
        unit: Arc::from(if channel == "temperature" { "Cel" } else { "" }),
        time_ms: START_MS + after_ms,
        value,
    };
    Message {
        device: id(device),
        key: MessageId { session, sequence }.into(),
        received_ms: START_MS + i64::from(sequence) * 1_000,
        readings: readings.iter().map(reading).collect(),
        detector: (sequence == 0).then(|| format!("fan {session:08x}")),
    }
}

/// Makes a device known to a store.
pub(super) async fn with_device(store: &(impl Records + ?Sized), name: &str) {
    let change = RecordChange::put(RecordClass::Device, name, Expected::Absent, "{}");
    store.change_records(vec![change]).await.expect("new device");
}

async fn points(store: &Arc<dyn Store>, device: &str, channel: &str) -> Vec<(i64, f64)> {
    let query = ReadingsQuery {
        device: device.into(),
        channels: vec![channel.into()],
        from_ms: START_MS - 1_000_000,
        to_ms: START_MS + 1_000_000_000,
        points_max: usize::MAX,
    };
    let mut series = store.readings(query).await.expect("readable");
    assert!(series.len() <= 1);
    series.pop().map(|series| series.points).unwrap_or_default()
}

/// Runs everything over a store.
pub(super) async fn run(opener: &impl Opener) {
    devices(&opener.open()).await;
    records(opener).await;
    records_beside(opener).await;
    keys(opener).await;
    batches(opener).await;
    stores_once(opener).await;
    late_and_old_messages(&opener.open()).await;
    alarms(opener).await;
    sensor_faults(&opener.open()).await;
    many_points(opener).await;
    too_many_channels(&opener.open()).await;
    wide_spans(opener).await;
    retention(opener).await;
}

async fn devices(store: &Arc<dyn Store>) {
    let unknown = store.append(message("door", 1, 1, &[("a", 0, 1.0)])).await;
    assert!(matches!(unknown, Err(StoreError::UnknownDevice(_))), "{unknown:?}");
    assert!(matches!(store.channels("door").await, Err(StoreError::UnknownDevice(_))));
    assert_eq!(store.device("door").await.expect("answer"), None);
    with_device(&**store, "door").await;
    let record = store.device("door").await.expect("answer").expect("there");
    assert_eq!((record.id.as_str(), record.last_seen_ms, record.anomalous), ("door", None, false));
    store.append(message("door", 1, 1, &[("a", 0, 1.0)])).await.expect("stored");
    // Without its record it sends no more, but what it sent stays.
    let delete = RecordChange::delete(RecordClass::Device, "door", Expected::Any);
    store.change_records(vec![delete]).await.expect("deleted");
    let unknown = store.append(message("door", 1, 2, &[("a", 0, 2.0)])).await;
    assert!(matches!(unknown, Err(StoreError::UnknownDevice(_))), "{unknown:?}");
    assert_eq!(points(store, "door", "a").await, [(START_MS, 1.0)]);
    with_device(&**store, "door").await;
    let again = store.append(message("door", 1, 1, &[("a", 0, 1.0)])).await.expect("answer");
    assert_eq!(again, Appended::Duplicate, "it is the same device as before");
    store.append(message("door", 1, 2, &[("a", 1, 2.0)])).await.expect("known again");
    store.close().await;
    assert!(matches!(store.append(message("door", 1, 3, &[])).await, Err(StoreError::Closed)));
}

/// Puts and deletes records, as a store and beside one.
async fn records(opener: &impl Opener) {
    let store = opener.open();
    let find = async |key: &str| store.record(RecordClass::Account, key).await.expect("answer");
    let put = |key: &str, expected, body: &str| {
        RecordChange::put(RecordClass::Account, key, expected, body)
    };
    assert_eq!(find("ann").await, None);
    let change =
        vec![put("ann", Expected::Absent, "{\"n\": \"ä\"}"), put("bob", Expected::Any, "1")];
    let first = store.change_records(change).await.expect("changed");
    let ann = find("ann").await.expect("there");
    assert_eq!((ann.revision, ann.body.as_deref()), (first, Some("{\"n\": \"ä\"}")));
    assert_eq!(find("ANN").await, None, "keys are told apart by every byte");
    assert_eq!(store.record(RecordClass::Setting, "ann").await.expect("answer"), None);
    // All or none: the second change is not as expected.
    for wrong in [Expected::Absent, Expected::Revision(first + 1)] {
        let change = vec![put("bob", Expected::Any, "2"), put("ann", wrong, "2")];
        let refused = store.change_records(change).await;
        assert!(
            matches!(&refused, Err(StoreError::Conflict { class: RecordClass::Account, key }) if key == "ann"),
            "{refused:?}"
        );
    }
    let missing = store.change_records(vec![put("eve", Expected::Revision(first), "2")]).await;
    assert!(matches!(missing, Err(StoreError::Conflict { .. })), "{missing:?}");
    assert_eq!(find("bob").await.and_then(|bob| bob.body).as_deref(), Some("1"));
    let second = store
        .change_records(vec![put("ann", Expected::Revision(first), "2")])
        .await
        .expect("as expected");
    assert!(second > first);
    let delete = RecordChange::delete(RecordClass::Account, "bob", Expected::Revision(first));
    let third = store.change_records(vec![delete]).await.expect("deleted");
    assert_eq!(find("bob").await, None);
    store.close().await;

    let store = opener.open();
    let keys = |found: Vec<Record>| found.into_iter().map(|r| r.key).collect::<Vec<_>>();
    let since = store.records_since(first, 100).await.expect("answer");
    let seen: Vec<_> = since.iter().map(|r| (r.key.as_str(), r.revision, r.body.clone())).collect();
    assert_eq!(seen, [("ann", second, Some("2".to_owned())), ("bob", third, None)]);
    assert_eq!(store.records_since(third, 100).await.expect("answer"), []);
    let change = ["a", "c", "b"].map(|key| put(key, Expected::Absent, "0")).to_vec();
    let fourth = store.change_records(change).await.expect("absent");
    assert!(fourth > third);
    let whole = store.records_since(third, 1).await.expect("answer");
    assert_eq!(whole.len(), 3, "a change is not cut in two");
    let one = store.records_since(first, 1).await.expect("answer");
    assert_eq!(keys(one), ["ann"]);
    let all = async |after: &str, limit| {
        keys(store.records(RecordClass::Account, after, limit).await.expect("answer"))
    };
    assert_eq!(all("", 100).await, ["a", "ann", "b", "c"]);
    assert_eq!(all("", 2).await, ["a", "ann"]);
    assert_eq!(all("ann", 100).await, ["b", "c"]);
    for (key, body) in [
        ("", "0".to_owned()),
        (&"k".repeat(RECORD_KEY_LEN_MAX + 1), "0".to_owned()),
        ("long", "0".repeat(RECORD_BODY_LEN_MAX + 1)),
    ] {
        let refused = store.change_records(vec![put(key, Expected::Any, &body)]).await;
        assert!(matches!(refused, Err(StoreError::BadRecord { .. })), "{refused:?}");
    }
    let device = RecordChange::put(RecordClass::Device, "no/device", Expected::Any, "{}");
    let refused = store.change_records(vec![device]).await;
    assert!(matches!(refused, Err(StoreError::BadRecord { .. })), "{refused:?}");
    let long =
        put(&"k".repeat(RECORD_KEY_LEN_MAX), Expected::Any, &"0".repeat(RECORD_BODY_LEN_MAX));
    store.change_records(vec![long]).await.expect("the longest");
    store.close().await;
}

/// What another program changes beside a running store is seen by it, and the other way round.
async fn records_beside(opener: &impl Opener) {
    let (store, beside) = (opener.open(), opener.beside());
    with_device(&*beside, "beside").await;
    let found = store.record(RecordClass::Device, "beside").await.expect("answer").expect("there");
    let appear = async {
        while store.device("beside").await.expect("answer").is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, appear).await.expect("appears by itself");
    store.append(message("beside", 1, 1, &[("a", 0, 1.0)])).await.expect("stored");
    with_device(&*beside, "first").await;
    let known = store.append(message("first", 1, 1, &[("a", 0, 1.0)])).await;
    known.expect("known by its first message at the latest");
    let change = RecordChange::put(
        RecordClass::Device,
        "beside",
        Expected::Revision(found.revision),
        "{\"disabled\": true}",
    );
    let revision = store.change_records(vec![change.clone()]).await.expect("as expected");
    let since = beside.records_since(revision - 1, 10).await.expect("answer");
    assert_eq!(since.first().and_then(|r| r.body.as_deref()), Some("{\"disabled\": true}"));
    let late = beside.change_records(vec![change]).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    let listed = beside.records(RecordClass::Device, "bes", 1).await.expect("answer");
    assert_eq!(listed.first().map(|r| r.key.as_str()), Some("beside"));
    let delete = RecordChange::delete(RecordClass::Device, "beside", Expected::Any);
    beside.change_records(vec![delete]).await.expect("deleted");
    assert_eq!(store.record(RecordClass::Device, "beside").await.expect("answer"), None);
    let refused = async {
        let mut sequence = 2;
        while store.append(message("beside", 1, sequence, &[])).await.is_ok() {
            sequence += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("refused before long");
    store.close().await;
}

fn keyed(device: &str, key: MessageKey, at: u32) -> Message {
    let at_ms = i64::from(at);
    Message { key, ..message(device, 1, at, &[("a", at_ms, f64::from(at))]) }
}

fn digest(number: u32) -> MessageKey {
    let mut digest = [7; 16];
    digest[..4].copy_from_slice(&number.to_le_bytes());
    MessageKey::Digest(digest)
}

/// Messages without numbers: known again by a digest, or not at all.
async fn keys(opener: &impl Opener) {
    let store = opener.open();
    with_device(&*store, "digests").await;
    let count = DIGESTS_PER_DEVICE_MAX as u32;
    let all = (0..=count).map(|number| keyed("digests", digest(number), number)).collect();
    let new =
        |appended: &Result<Appended, StoreError>| matches!(appended, Ok(Appended::New { .. }));
    assert!(store.append_all(all).await.iter().all(new));
    for number in [1, count / 2, count] {
        let again = store.append(keyed("digests", digest(number), number)).await;
        assert!(matches!(again, Ok(Appended::Duplicate)), "{number}: {again:?}");
    }
    let twice =
        [keyed("digests", MessageKey::Unkeyed, 5), keyed("digests", MessageKey::Unkeyed, 5)];
    assert!(store.append_all(twice.to_vec()).await.iter().all(new), "each receipt counts");
    store.close().await;

    let store = opener.open();
    for number in [1, count] {
        let again = store.append(keyed("digests", digest(number), number)).await;
        assert!(matches!(again, Ok(Appended::Duplicate)), "{number}: also after opening anew");
    }
    let forgotten = store.append(keyed("digests", digest(0), 0)).await;
    assert!(new(&forgotten), "beyond the newest digests");
    let values = points(&store, "digests", "a").await;
    assert_eq!(values.len(), count as usize + 1 + 2 + 1);
    // The number of a session and a digest are different things.
    let number = MessageId { session: 7, sequence: 0 }.into();
    assert!(new(&store.append(keyed("digests", number, 9)).await));
    store.close().await;
}

/// A batch has an answer for each of its messages, in their order.
async fn batches(opener: &impl Opener) {
    let store = opener.open();
    with_device(&*store, "batch").await;
    assert!(store.append_all(Vec::new()).await.is_empty());
    let batch = vec![
        message("batch", 1, 1, &[("a", 1, 1.0)]),
        message("nobody", 1, 1, &[("a", 1, 1.0)]),
        message("batch", 1, 1, &[("a", 1, 1.0)]),
        message("batch", 1, 2, &[("a", 2, 2.0), ("anomaly", 2, 1.0)]),
        message("batch", 1, 3, &[("a", 3, 3.0), ("anomaly", 3, 0.0)]),
    ];
    let answers = store.append_all(batch).await;
    let alarms = |answer: &Result<Appended, StoreError>| match answer {
        Ok(Appended::New { alarms, .. }) => alarms.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(answers.len(), 5);
    assert_eq!(alarms(&answers[0]), 0);
    assert!(matches!(&answers[1], Err(StoreError::UnknownDevice(name)) if name == "nobody"));
    assert!(matches!(answers[2], Ok(Appended::Duplicate)));
    assert_eq!((alarms(&answers[3]), alarms(&answers[4])), (1, 1), "opened, then moved");
    let expected: Vec<_> = (1..=3).map(|i| (START_MS + i, i as f64)).collect();
    assert_eq!(points(&store, "batch", "a").await, expected);
    let many: Vec<_> = (10..5_010)
        .map(|sequence| message("batch", 1, sequence, &[("a", i64::from(sequence), 0.5)]))
        .collect();
    let answers = store.append_all(many).await;
    assert!(answers.iter().all(|a| matches!(a, Ok(Appended::New { .. }))));
    store.close().await;
    let store = opener.open();
    assert_eq!(points(&store, "batch", "a").await.len(), 5_003);
    store.close().await;
    let closed = store.append_all(vec![message("batch", 1, 9_999, &[]); 2]).await;
    assert!(matches!(closed[..], [Err(StoreError::Closed), Err(StoreError::Closed)]));
}

async fn stores_once(opener: &impl Opener) {
    let store = opener.open();
    with_device(&*store, "once").await;
    let before = store.totals().await.expect("answer");
    let readings = [("temperature", 0, 21.5), ("score", 0, 0.25), ("threshold", 0, 1.0)];
    let first = store.append(message("once", 7, 0, &readings)).await.expect("stored");
    assert_eq!(first, Appended::New { alarms: vec![], rejected_readings: 0 });
    let again = store.append(message("once", 7, 0, &readings)).await.expect("answer");
    assert_eq!(again, Appended::Duplicate);
    // The same number in another session is another message.
    let other = store.append(message("once", 8, 0, &[("temperature", 500, 22.0)])).await;
    assert!(matches!(other, Ok(Appended::New { .. })));
    store.close().await;

    let store = opener.open();
    let again = store.append(message("once", 7, 0, &readings)).await.expect("answer");
    assert_eq!(again, Appended::Duplicate, "also after opening anew");
    assert_eq!(
        points(&store, "once", "temperature").await,
        [(START_MS, 21.5), (START_MS + 500, 22.0)]
    );
    let record = store.device("once").await.expect("answer").expect("there");
    assert_eq!((record.score, record.threshold), (Some(0.25), Some(1.0)));
    assert_eq!(record.recent_scores, [(START_MS, 0.25, Some(1.0))]);
    assert_eq!(record.detector.as_deref(), Some("fan 00000008"));
    let channels = store.channels("once").await.expect("answer");
    let named: Vec<_> =
        channels.iter().map(|c| (&*c.name, &*c.unit, c.latest, c.readings)).collect();
    assert_eq!(
        named,
        [
            ("score", "", Some(0.25), 1),
            ("temperature", "Cel", Some(22.0), 2),
            ("threshold", "", Some(1.0), 1)
        ]
    );
    let after = store.totals().await.expect("answer");
    assert_eq!(after.messages - before.messages, 2);
    assert_eq!(after.readings - before.readings, 4);
    assert_eq!(after.duplicates - before.duplicates, 2);
    store.close().await;
}

async fn late_and_old_messages(store: &Arc<dyn Store>) {
    with_device(&**store, "late").await;
    for sequence in [5, 3, 4, 70, 6] {
        let stored = store
            .append(message(
                "late",
                1,
                sequence,
                &[("a", i64::from(sequence), f64::from(sequence))],
            ))
            .await
            .expect("answer");
        assert!(matches!(stored, Appended::New { .. }), "{sequence}");
    }
    for sequence in [3, 4, 5, 6, 70, 2] {
        let again = store.append(message("late", 1, sequence, &[("a", 0, 0.0)])).await;
        assert!(matches!(again, Ok(Appended::Duplicate)), "{sequence}");
    }
    let values: Vec<_> = points(store, "late", "a").await.iter().map(|point| point.1).collect();
    assert_eq!(values, [3.0, 4.0, 5.0, 6.0, 70.0]);
    store.close().await;
}

async fn verdict(store: &Arc<dyn Store>, sequence: u32, anomaly: bool, score: f64) -> Vec<Change> {
    let at = i64::from(sequence) * 1_000;
    let readings = [
        ("anomaly", at, f64::from(u8::from(anomaly))),
        ("score", at, score),
        ("threshold", at, 1.0),
    ];
    match store.append(message("alarmed", 1, sequence, &readings)).await.expect("stored") {
        Appended::New { alarms, .. } => alarms,
        Appended::Duplicate => panic!("not a duplicate"),
    }
}

async fn alarms(opener: &impl Opener) {
    let store = opener.open();
    with_device(&*store, "alarmed").await;
    assert_eq!(verdict(&store, 1, false, 0.5).await, []);
    let opened = match verdict(&store, 2, true, 3.0).await.as_slice() {
        [Change::Opened(alarm)] => alarm.clone(),
        other => panic!("not opened: {other:?}"),
    };
    assert_eq!((opened.score, opened.threshold), (Some(3.0), Some(1.0)));
    assert_eq!(opened.opened_ms, START_MS + 2_000);
    assert!(matches!(verdict(&store, 3, true, 5.0).await.as_slice(), [Change::Peaked(_)]));
    let record = store.device("alarmed").await.expect("answer").expect("there");
    assert_eq!((record.anomalous, record.alarms_open), (true, 1));
    store.close().await;

    let store = opener.open();
    let record = store.device("alarmed").await.expect("answer").expect("there");
    assert_eq!((record.anomalous, record.alarms_open), (true, 1), "also after opening anew");
    assert_eq!(verdict(&store, 4, true, 2.0).await, [], "still the same alarm");
    let seen = store
        .act(opened.id, Action::Acknowledge, Some("looking".into()), START_MS + 9)
        .await
        .expect("open");
    assert_eq!((seen.state, seen.active), (AlarmState::Acknowledged, true));
    assert_eq!(seen.peak_score, Some(5.0));
    let twice = store.act(opened.id, Action::Acknowledge, None, START_MS + 10).await;
    assert!(matches!(twice, Err(StoreError::AlreadyOver(_))), "{twice:?}");
    let record = store.device("alarmed").await.expect("answer").expect("there");
    assert_eq!((record.anomalous, record.alarms_open), (true, 0));
    assert!(matches!(verdict(&store, 5, false, 0.1).await.as_slice(), [Change::Moved(_)]));
    let over = store.alarm(opened.id).await.expect("answer").expect("there");
    assert_eq!((over.state, over.cleared_ms), (AlarmState::Cleared, Some(START_MS + 5_000)));
    assert_eq!(over.note.as_deref(), Some("looking"));

    assert_eq!(verdict(&store, 6, true, 2.0).await.len(), 1, "a new alarm");
    let query = |states: &[AlarmState], before_id| AlarmsQuery {
        states: states.to_vec(),
        device: Some("alarmed".into()),
        before_id,
        limit: 10,
    };
    let all = store.alarms(query(&[], None)).await.expect("answer");
    assert_eq!(all.len(), 2);
    assert!(all[0].id > all[1].id, "newest first");
    let open = store.alarms(query(&[AlarmState::Open], None)).await.expect("answer");
    assert_eq!(open.iter().map(|alarm| alarm.id).collect::<Vec<_>>(), [all[0].id]);
    let rest = store.alarms(query(&[], Some(all[0].id))).await.expect("answer");
    assert_eq!(rest.iter().map(|alarm| alarm.id).collect::<Vec<_>>(), [all[1].id]);

    // Cleared by hand, it stays so while the same anomaly goes on.
    store.act(all[0].id, Action::Clear, None, START_MS).await.expect("open");
    assert_eq!(verdict(&store, 7, true, 2.0).await, []);
    assert_eq!(verdict(&store, 8, false, 0.0).await, []);
    assert_eq!(verdict(&store, 9, true, 2.0).await.len(), 1);
    let unknown = store.act(i64::MAX, Action::Clear, None, START_MS).await;
    assert!(matches!(unknown, Err(StoreError::UnknownAlarm(_))));
    store.close().await;
}

async fn sensor_faults(store: &Arc<dyn Store>) {
    with_device(&**store, "faulty").await;
    let mut sent = 0;
    let mut send = async |after_s: u32, rejected: f64| {
        sent += 1;
        let mut message =
            message("faulty", 1, sent, &[("a/sensor_fault", i64::from(after_s), rejected)]);
        message.received_ms = START_MS + i64::from(after_s) * 1_000;
        if rejected == 0.0 {
            message.readings.clear();
        }
        match store.append(message).await.expect("stored") {
            Appended::New { alarms, .. } => alarms,
            Appended::Duplicate => panic!("not a duplicate"),
        }
    };
    assert!(matches!(send(1, 3.0).await.as_slice(), [Change::Opened(_)]));
    assert_eq!(send(2, 0.0).await, [], "too early to say that it is over");
    assert_eq!(send(5, 1.0).await, []);
    assert_eq!(send(14, 0.0).await, []);
    match send(15, 0.0).await.as_slice() {
        [Change::Moved(alarm)] => {
            assert_eq!((alarm.active, alarm.state), (false, AlarmState::Open));
        }
        other => panic!("{other:?}"),
    }
    assert!(!store.device("faulty").await.expect("answer").expect("there").sensor_fault);
    store.close().await;
}

async fn many_points(opener: &impl Opener) {
    let store = opener.open();
    with_device(&*store, "many").await;
    let mut expected = Vec::new();
    for sequence in 1..=100 {
        let readings: Vec<_> = (0..10)
            .map(|i| {
                let at = i64::from(sequence) * 1_000 + i * 100;
                ("temperature", at, (at as f64).sin())
            })
            .collect();
        expected.extend(readings.iter().map(|&(_, at, value)| (START_MS + at, value)));
        store.append(message("many", 1, sequence, &readings)).await.expect("stored");
    }
    assert_eq!(points(&store, "many", "temperature").await, expected, "from the tail");
    store.close().await;

    let store = opener.open();
    assert_eq!(points(&store, "many", "temperature").await, expected, "from chunks");
    let early = ("temperature", 50, -1.0);
    store.append(message("many", 1, 101, &[early])).await.expect("stored");
    expected.insert(0, (START_MS + 50, -1.0));
    assert_eq!(points(&store, "many", "temperature").await, expected, "from both");
    store.close().await;

    let store = opener.open();
    assert_eq!(points(&store, "many", "temperature").await, expected, "from refilled chunks");
    let query = ReadingsQuery {
        device: "many".into(),
        channels: vec![],
        from_ms: START_MS + 20_000,
        to_ms: START_MS + 40_000,
        points_max: 50,
    };
    let series = store.readings(query).await.expect("readable").remove(0);
    assert!(series.downsampled && series.points.len() <= 50);
    assert!(series.points.iter().all(|p| (START_MS + 20_000..=START_MS + 40_000).contains(&p.0)));
    store.close().await;
}

async fn too_many_channels(store: &Arc<dyn Store>) {
    with_device(&**store, "wide").await;
    let names: Vec<String> = (0..300).map(|i| format!("c{i:03}")).collect();
    let readings: Vec<_> = names.iter().map(|name| (name.as_str(), 0, 1.0)).collect();
    let appended = store.append(message("wide", 1, 1, &readings)).await.expect("stored");
    let expected = Appended::New { alarms: vec![], rejected_readings: 300 - 256 };
    assert_eq!(appended, expected);
    assert_eq!(store.channels("wide").await.expect("answer").len(), 256);
    store.close().await;
}

/// A span of days with few points shows every peak, whatever it is read from.
async fn wide_spans(opener: &impl Opener) {
    const STEP_MS: i64 = 100_000;
    let store = opener.open();
    with_device(&*store, "days").await;
    let value = |i: i64| if i == 1_234 { 1e6 } else { ((i * 7_919) % 1_000) as f64 };
    let messages = (0..40).map(|sequence| {
        let readings: Vec<_> = (0..100)
            .map(|i| i64::from(sequence) * 100 + i)
            .map(|i| ("a", i * STEP_MS, value(i)))
            .collect();
        message("days", 1, sequence, &readings)
    });
    assert!(store.append_all(messages.collect()).await.iter().all(Result::is_ok));
    store.close().await;
    let store = opener.open();
    let late = message("days", 1, 41, &[("a", 50 * STEP_MS + 1, -1e6)]);
    store.append(late).await.expect("stored");
    for points_max in [4, 20, 100, 1_000] {
        let query = ReadingsQuery {
            device: "days".into(),
            channels: vec!["a".into()],
            from_ms: START_MS,
            to_ms: START_MS + 4_000 * STEP_MS,
            points_max,
        };
        let series = store.readings(query).await.expect("readable").remove(0);
        assert!(series.downsampled && series.points.len() <= points_max);
        assert!(series.points.is_sorted_by_key(|point| point.0));
        assert!(series.points.contains(&(START_MS + 1_234 * STEP_MS, 1e6)), "{points_max}");
        assert!(series.points.contains(&(START_MS + 50 * STEP_MS + 1, -1e6)), "{points_max}");
        let measured = |&(time_ms, v): &(i64, f64)| {
            let i = (time_ms - START_MS) / STEP_MS;
            v == -1e6 || (v == value(i) && (time_ms - START_MS) % STEP_MS == 0)
        };
        assert!(series.points.iter().all(measured), "only what was measured is shown");
    }
    // Of a span that is wider than what was measured, all is shown that there is room for.
    let query = ReadingsQuery {
        device: "days".into(),
        channels: vec!["a".into()],
        from_ms: 0,
        to_ms: i64::MAX,
        points_max: 10_000,
    };
    let series = store.readings(query).await.expect("readable").remove(0);
    assert_eq!((series.points.len(), series.downsampled), (4_001, false));
    store.close().await;
}

/// What is older than is kept goes, each class by itself; summaries outlive the readings.
async fn retention(opener: &impl Opener) {
    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
    let day = Some(Duration::from_secs(24 * 60 * 60));
    let now_ms = crate::clock::now_ms();
    // The readings begin with a minute, so that it is known how many minutes they touch.
    let old_ms = (now_ms - 3 * DAY_MS) / 3_600_000 * 3_600_000;
    let store = opener.open();
    with_device(&*store, "old").await;
    let reading = |channel: &str, time_ms, value| Reading {
        channel: Arc::from(channel),
        unit: Arc::from(""),
        time_ms,
        value,
    };
    let at = |sequence, readings| {
        let key = MessageId { session: 1, sequence }.into();
        Message { device: id("old"), key, received_ms: now_ms, readings, detector: None }
    };
    let ten_minutes = (0..600).map(|i| reading("a", old_ms + i * 1_000, i as f64)).collect();
    let verdicts =
        |time_ms| vec![reading("anomaly", time_ms, 1.0), reading("anomaly", time_ms + 1, 0.0)];
    let messages =
        vec![at(1, ten_minutes), at(2, verdicts(old_ms)), at(3, vec![reading("b", now_ms, -1.0)])];
    assert!(store.append_all(messages).await.iter().all(Result::is_ok));
    let query = AlarmsQuery { device: Some("old".into()), limit: 10, ..AlarmsQuery::default() };
    let alarm = store.alarms(query.clone()).await.expect("answer").remove(0);
    store.act(alarm.id, Action::Clear, None, old_ms).await.unwrap_or(alarm);
    let open = at(4, vec![reading("anomaly", old_ms + 5_000, 1.0)]);
    store.append(open).await.expect("stored");
    store.close().await;

    let kept = Retention { readings: day, alarms: day, ..Retention::default() };
    let store = opener.open_keeping(kept);
    let gone = async {
        loop {
            let channels = store.channels("old").await.expect("answer");
            let readings =
                |name: &str| channels.iter().find(|c| c.name == name).map(|c| c.readings);
            let alarms = store.alarms(query.clone()).await.expect("answer").len();
            if readings("a") == Some(0) && alarms == 1 {
                assert_eq!(readings("b"), Some(1));
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("deleted before long");
    let ask = async |store: &Arc<dyn Store>| {
        let query = ReadingsQuery {
            device: "old".into(),
            channels: vec!["a".into()],
            from_ms: old_ms,
            to_ms: now_ms,
            points_max: usize::MAX,
        };
        store.readings(query).await.expect("readable").remove(0)
    };
    let series = ask(&store).await;
    assert_eq!((series.resolution, series.downsampled), (Resolution::Minute, true));
    let mut expected: Vec<(i64, f64)> = Vec::new();
    for minute in 0..10 {
        for second in [minute * 60, minute * 60 + 59] {
            expected.push((old_ms + second * 1_000, second as f64));
        }
    }
    assert_eq!(series.points, expected);
    store.close().await;

    let kept = Retention { readings: day, minutes: day, ..Retention::default() };
    let store = opener.open_keeping(kept);
    let coarse = async {
        while ask(&store).await.resolution != Resolution::Hour {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, coarse).await.expect("deleted before long");
    let extremes = [(old_ms, 0.0), (old_ms + 599_000, 599.0)];
    assert_eq!(ask(&store).await.points, extremes);
    store.close().await;
}
