//! What this store alone must do, beside the suite for every store. Each test has a MariaDB server
//! of its own.

#[path = "../../../tests/common/mariadb.rs"]
mod mariadb;

use std::sync::Arc;
use std::time::Duration;

use stonechat_core::wire::uplink::MessageId;
use tempfile::TempDir;

use self::mariadb::Mariadb;
use super::{MysqlOptions, MysqlRecords, MysqlStore};
use crate::alarm::{Action, AlarmState, Change};
use crate::device::DeviceId;
use crate::store::suite::{self, Opener, with_device};
use crate::store::{
    AlarmsQuery, Appended, Expected, Message, MessageKey, Reading, ReadingsQuery, RecordChange,
    RecordClass, Records, Retention, Store, StoreError,
};

pub(in crate::store) struct Site {
    server: Mariadb,
    database: String,
    folder: TempDir,
}

impl Site {
    pub(in crate::store) fn new() -> Self {
        let server = Mariadb::start();
        let database = "suite".to_owned();
        server.database(&database);
        Self { server, database, folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn options(&self) -> MysqlOptions {
        let url = self.server.url(&self.database).parse().expect("legal");
        MysqlOptions::new(url, self.folder.path())
    }

    fn store(&self) -> MysqlStore {
        MysqlStore::open(&self.options()).expect("reachable")
    }

    /// Another gateway on the same database.
    fn other(&self, folder: &TempDir) -> MysqlStore {
        let options = MysqlOptions { folder: folder.path().to_owned(), ..self.options() };
        MysqlStore::open(&options).expect("reachable")
    }
}

impl Opener for Site {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.store())
    }

    fn open_keeping(&self, retention: Retention) -> Arc<dyn Store> {
        let options = MysqlOptions { retention, ..self.options() };
        Arc::new(MysqlStore::open(&options).expect("reachable"))
    }

    fn beside(&self) -> Arc<dyn Records> {
        Arc::new(MysqlRecords::at(&self.options().url))
    }
}

fn message(sequence: u32, values: &[(&str, f64)]) -> Message {
    let time_ms = 1_800_000_000_000 + i64::from(sequence);
    let reading = |&(channel, value): &(&str, f64)| Reading {
        channel: Arc::from(channel),
        unit: Arc::from("Cel"),
        time_ms,
        value,
    };
    Message {
        device: DeviceId::parse("pump").expect("legal"),
        key: MessageId { session: 1, sequence }.into(),
        received_ms: time_ms,
        readings: values.iter().map(reading).collect(),
        detector: None,
    }
}

async fn values(store: &MysqlStore, channel: &str) -> Vec<f64> {
    let query = ReadingsQuery {
        device: "pump".into(),
        channels: vec![channel.into()],
        from_ms: 0,
        to_ms: i64::MAX,
        points_max: usize::MAX,
    };
    let found = store.readings(query).await.expect("readable");
    found.first().map(|series| series.points.iter().map(|p| p.1).collect()).unwrap_or_default()
}

fn is_new(appended: &Result<Appended, StoreError>) -> bool {
    matches!(appended, Ok(Appended::New { .. }))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: cargo xtask test --only mariadb"]
async fn does_what_every_store_must() {
    suite::run(&Site::new()).await;
}

/// Another gateway's writes are seen before the next message of the same device is judged.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: cargo xtask test --only mariadb"]
async fn several_gateways_store_once_and_keep_one_view() {
    let site = Site::new();
    let (here, there) = (site.store(), TempDir::new().expect("a temporary folder"));
    let there = site.other(&there);
    with_device(&here, "pump").await;
    for sequence in 0..50 {
        let (first, second) = if sequence % 2 == 0 { (&here, &there) } else { (&there, &here) };
        let sent = message(sequence, &[("a", f64::from(sequence)), ("anomaly", 1.0)]);
        assert!(is_new(&first.append(sent.clone()).await), "{sequence}");
        let again = second.append(sent).await.expect("answer");
        assert_eq!(again, Appended::Duplicate, "{sequence}");
    }
    let expected: Vec<f64> = (0..50).map(f64::from).collect();
    assert_eq!(values(&here, "a").await, expected);
    assert_eq!(values(&there, "a").await, expected);
    let alarms = there.alarms(AlarmsQuery { limit: 9, ..AlarmsQuery::default() }).await;
    let alarms = alarms.expect("answer");
    assert_eq!(alarms.len(), 1, "one anomaly, whoever was told of it");
    here.act(alarms[0].id, Action::Clear, None, 1).await.expect("open");
    assert!(is_new(&there.append(message(50, &[("anomaly", 1.0)])).await));
    let open = there.alarms(AlarmsQuery {
        states: vec![AlarmState::Open],
        limit: 9,
        ..AlarmsQuery::default()
    });
    assert_eq!(open.await.expect("answer"), [], "cleared by hand at the other gateway");
    let seen = async |store: &MysqlStore| {
        while store.device("pump").await.expect("answer").expect("there").alarms_open > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        store.channels("pump").await.expect("answer")
    };
    assert_eq!(seen(&here).await, seen(&there).await);
    here.close().await;
    there.close().await;
}

/// Both write for the same devices at the same time, each message sent to both.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: cargo xtask test --only mariadb"]
async fn gateways_race_without_losing_or_doubling() {
    let site = Site::new();
    let folder = TempDir::new().expect("a temporary folder");
    let stores = [Arc::new(site.store()), Arc::new(site.other(&folder))];
    let devices: Vec<String> = (0..8).map(|number| format!("d{number}")).collect();
    for device in &devices {
        with_device(&*stores[0], device).await;
    }
    let mut tasks = Vec::new();
    for (which, store) in stores.iter().enumerate() {
        for device in &devices {
            let (store, device) = (store.clone(), DeviceId::parse(device).expect("legal"));
            tasks.push(tokio::spawn(async move {
                let mut new = 0;
                for sequence in 0..100 {
                    let sent = Message {
                        device: device.clone(),
                        ..message(sequence, &[("a", f64::from(sequence)), (["b", "c"][which], 1.0)])
                    };
                    match store.append(sent).await.expect("stored") {
                        Appended::New { .. } => new += 1,
                        Appended::Duplicate => {}
                    }
                }
                new
            }));
        }
    }
    let mut new = 0;
    for task in tasks {
        new += task.await.expect("no panic");
    }
    assert_eq!(new, 8 * 100);
    let totals = stores[0].totals().await.expect("answer");
    assert_eq!((totals.messages, totals.duplicates), (800, 800));
    let count = "SELECT COUNT(*), COUNT(DISTINCT channel, time_ms) FROM reading";
    assert_eq!(site.server.shell("suite", count), "1600\t1600\n");
    stores[0].close().await;
    stores[1].close().await;
}

/// A gateway's spool holds older messages of a device than another one stored meanwhile.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: cargo xtask test --only mariadb"]
async fn older_messages_of_another_gateways_spool_are_not_taken_for_duplicates() {
    let mut site = Site::new();
    let here = site.store();
    with_device(&here, "pump").await;
    assert!(is_new(&here.append(message(0, &[("a", 0.0)])).await));
    site.server.kill();
    for sequence in 1..200 {
        let sent = message(sequence, &[("a", f64::from(sequence))]);
        assert!(is_new(&here.append(sent).await), "{sequence}");
    }
    assert_eq!(here.spool().map(|spool| spool.messages), Some(199));
    here.close().await;
    site.server.run();
    let folder = TempDir::new().expect("a temporary folder");
    let there = site.other(&folder);
    for sequence in 200..300 {
        let sent = message(sequence, &[("a", f64::from(sequence))]);
        assert!(is_new(&there.append(sent).await), "{sequence}");
    }
    let here = site.store();
    empty(&here).await;
    assert!(matches!(here.append(message(100, &[])).await, Ok(Appended::Duplicate)));
    let expected: Vec<f64> = (0..300).map(f64::from).collect();
    assert_eq!(values(&there, "a").await, expected);
    here.close().await;
    there.close().await;
}

/// Waits until the spool is empty.
async fn empty(store: &MysqlStore) {
    let wait = async {
        while store.spool().is_some_and(|spool| spool.messages > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("drained");
}

/// What came in while the database was away opens its alarms afterwards, and is told then.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: cargo xtask test --only mariadb"]
async fn alarms_of_the_spool_are_told_late() {
    let mut site = Site::new();
    let store = site.store();
    with_device(&store, "pump").await;
    store.append(message(0, &[("anomaly", 0.0)])).await.expect("stored");
    let mut changes = store.late_changes().expect("it has a spool");
    assert!(store.device("pump").await.is_ok_and(|device| device.is_some()));
    site.server.kill();
    let unkeyed = Message { key: MessageKey::Unkeyed, ..message(1, &[("a", 1.0)]) };
    let appended = store.append_all(vec![
        message(1, &[("anomaly", 1.0), ("score", 3.0)]),
        message(1, &[("anomaly", 1.0), ("score", 3.0)]),
        unkeyed.clone(),
        unkeyed,
    ]);
    assert!(appended.await.iter().all(is_new), "on disk; that one is a duplicate is seen later");
    assert!(matches!(
        store.alarms(AlarmsQuery::default()).await,
        Err(StoreError::Unavailable { .. })
    ));
    assert!(store.device("pump").await.is_ok_and(|device| device.is_some()), "as last known");
    site.server.run();
    let change = tokio::time::timeout(Duration::from_secs(60), changes.recv()).await;
    assert!(matches!(change, Ok(Ok(Change::Opened(_)))), "{change:?}");
    empty(&store).await;
    let totals = store.totals().await.expect("answer");
    assert_eq!((totals.messages, totals.duplicates), (4, 1), "each receipt without a key counts");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: cargo xtask test --only mariadb"]
async fn refuses_what_it_cannot_use_without_telling_the_password() {
    let site = Site::new();
    site.store().close().await;
    let told = |opened: Result<MysqlStore, StoreError>| {
        let error = opened.map(drop).expect_err("unusable");
        let text = format!("{error} {error:?}");
        assert!(!text.contains("p@ss") && !text.contains("p%40ss"), "{text}");
        error
    };
    let open = |url: String| {
        let url = url.parse().expect("legal");
        MysqlStore::open(&MysqlOptions { url, ..site.options() })
    };
    let missing = told(open(site.server.url("missing")));
    assert!(matches!(missing, StoreError::Unavailable { .. }), "{missing}");
    let denied = told(open(site.server.url("suite").replace("stonechat:", "stonechat:wrong")));
    assert!(matches!(denied, StoreError::Unavailable { .. }), "{denied}");
    site.server.shell("suite", "INSERT INTO schema_version VALUES (99)");
    let newer = told(open(site.server.url("suite")));
    assert!(matches!(newer, StoreError::NewerDatabase { found: 99, .. }), "{newer}");
    assert!(format!("{:?}", site.options()).contains("***"));
}

/// An older reader's queries, with the shell that it would use.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: cargo xtask test --only mariadb"]
async fn older_readers_find_their_tables() {
    let site = Site::new();
    let store = site.store();
    let body = r#"{"number": 1234}"#;
    let change = RecordChange::put(RecordClass::Device, "pump", Expected::Any, body);
    store.change_records(vec![change]).await.expect("new");
    let marked = |name: &str| format!("unauthenticated/{name}");
    let names =
        ["air_temperature", "dissolved_oxygen", "water_temperature", "latitude", "longitude"];
    let numbers = [-12.25, 20.0, 21.3, 35.1796, 129.0756];
    let names: Vec<String> = names.iter().map(|name| marked(name)).collect();
    let pairs: Vec<(&str, f64)> = names.iter().map(String::as_str).zip(numbers).collect();
    store.append(message(7, &pairs)).await.expect("stored");
    store.append(message(8, &pairs[1..2])).await.expect("stored");
    // 1,800,000,000 is 2027-01-15 08:00:00 UTC, by `date -u -d @1800000000`.
    let results = "SET time_zone = '+09:00'; \
        SELECT device_id, value_type_id, sensor_value, alarm_state, error_state, location, measured_at \
        FROM sensor_result WHERE device_id = '1234' ORDER BY sensor_id, measured_at, result_id";
    let place = "35.179600,129.075600\t2027-01-15 08:00:00";
    assert_eq!(
        site.server.shell("suite", results),
        format!(
            "1234\t1\t-12.2500\t0\t0\t{place}\n1234\t2\t20.0000\t0\t0\t{place}\n\
             1234\t2\t20.0000\t0\t0\tNULL\t2027-01-15 08:00:00\n\
             1234\t3\t21.3000\t0\t0\t{place}\n"
        )
    );
    let sensors = "SELECT device_id, sensor_type_id, sensor_min, sensor_max, resolution, alarm_min \
        FROM sensor_info ORDER BY sensor_type_id";
    assert_eq!(
        site.server.shell("suite", sensors),
        "1234\t1\t-40.0000\t125.0000\t0.1000\tNULL\n1234\t2\t0.0000\t60.0000\t0.0100\tNULL\n\
         1234\t3\t0.0000\t100.0000\t0.1000\tNULL\n"
    );
    let join = "SELECT COUNT(*), COUNT(DISTINCT result_id), MAX(CHAR_LENGTH(result_id)) \
        FROM sensor_result JOIN sensor_info USING (sensor_id)";
    assert_eq!(site.server.shell("suite", join), "4\t4\t16\n");
    let columns = |table: &str| {
        site.server.shell("suite", &format!(
            "SELECT GROUP_CONCAT(column_name ORDER BY ordinal_position) \
             FROM information_schema.columns WHERE table_schema = 'suite' AND table_name = '{table}'"
        ))
    };
    assert_eq!(
        columns("sensor_result"),
        "result_id,device_id,sensor_id,value_type_id,sensor_value,alarm_state,error_state,\
         location,measured_at\n"
    );
    assert_eq!(
        columns("sensor_info"),
        "sensor_id,device_id,sensor_type_id,sensor_name,alarm_min,alarm_max,sensor_min,\
         sensor_max,resolution,registered_at\n"
    );
    store.close().await;
}
