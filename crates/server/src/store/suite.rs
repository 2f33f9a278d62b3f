//! What every store must do; run over each of them.

use std::sync::Arc;

use stonechat_core::wire::uplink::MessageId;

use super::{AlarmsQuery, Appended, Message, Reading, ReadingsQuery, Store, StoreError};
use crate::alarm::{Action, AlarmState, Change};
use crate::device::{DeviceId, Token};

const START_MS: i64 = 1_800_000_000_000;

/// A store that can be closed and opened again.
pub(super) trait Opener {
    /// Opens it, with what it held before.
    fn open(&self) -> Arc<dyn Store>;
}

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
        id: MessageId { session, sequence },
        received_ms: START_MS + i64::from(sequence) * 1_000,
        readings: readings.iter().map(reading).collect(),
        detector: (sequence == 0).then(|| format!("fan {session:08x}")),
    }
}

async fn with_device(store: &Arc<dyn Store>, name: &str) {
    let hash = Token::draw().expect("random").hash();
    store.put_device(id(name), hash, false).await.expect("new device");
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
    stores_once(opener).await;
    late_and_old_messages(&opener.open()).await;
    alarms(opener).await;
    sensor_faults(&opener.open()).await;
    many_points(opener).await;
    too_many_channels(&opener.open()).await;
}

async fn devices(store: &Arc<dyn Store>) {
    let (one, other) = (Token::draw().expect("random"), Token::draw().expect("random"));
    store.put_device(id("door"), one.hash(), false).await.expect("new");
    let twice = store.put_device(id("door"), other.hash(), false).await;
    assert!(matches!(twice, Err(StoreError::DeviceExists(_))), "{twice:?}");
    assert_eq!(store.token_hash(&id("door")).await.expect("there"), Some(one.hash()));
    store.put_device(id("door"), other.hash(), true).await.expect("replaced");
    assert_eq!(store.token_hash(&id("door")).await.expect("there"), Some(other.hash()));
    assert_eq!(store.token_hash(&id("none")).await.expect("answer"), None);
    let record = store.device("door").await.expect("answer").expect("there");
    assert_eq!((record.last_seen_ms, record.anomalous), (None, false));
    assert!(matches!(store.channels("none").await, Err(StoreError::UnknownDevice(_))));
    let unknown = store.append(message("none", 1, 1, &[("a", 0, 1.0)])).await;
    assert!(matches!(unknown, Err(StoreError::UnknownDevice(_))), "{unknown:?}");
    store.close().await;
    assert!(matches!(store.append(message("door", 1, 1, &[])).await, Err(StoreError::Closed)));
}

async fn stores_once(opener: &impl Opener) {
    let store = opener.open();
    with_device(&store, "once").await;
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
    with_device(store, "late").await;
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
    with_device(&store, "alarmed").await;
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
    with_device(store, "faulty").await;
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
    with_device(&store, "many").await;
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
    with_device(store, "wide").await;
    let names: Vec<String> = (0..300).map(|i| format!("c{i:03}")).collect();
    let readings: Vec<_> = names.iter().map(|name| (name.as_str(), 0, 1.0)).collect();
    let appended = store.append(message("wide", 1, 1, &readings)).await.expect("stored");
    let expected = Appended::New { alarms: vec![], rejected_readings: 300 - 256 };
    assert_eq!(appended, expected);
    assert_eq!(store.channels("wide").await.expect("answer").len(), 256);
    store.close().await;
}
