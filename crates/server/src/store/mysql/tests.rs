//! What this store alone must do, beside the suite for every store. Each test has a MariaDB server
//! of its own.

#[path = "../../../tests/common/mariadb.rs"]
mod mariadb;

use std::sync::Arc;

use stonechat_core::wire::uplink::MessageId;
use tempfile::TempDir;

use self::mariadb::Mariadb;
use super::{MysqlOptions, MysqlRecords, MysqlStore};
use crate::device::DeviceId;
use crate::store::suite::{self, Opener, with_device};
use crate::store::{Appended, Message, Reading, ReadingsQuery, Records, Store, StoreError};

struct Site {
    server: Mariadb,
    database: String,
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
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

    fn beside(&self) -> Arc<dyn Records> {
        Arc::new(MysqlRecords::at(&self.options().url).expect("legal"))
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
#[ignore = "needs MariaDB: cargo xtask test mariadb"]
async fn does_what_every_store_must() {
    suite::run(&Site::new()).await;
}
