//! A server on free ports with a folder of its own, and a device to speak to it.
#![allow(dead_code, reason = "each test uses some of it")]

use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use stonechat_core::wire::senml::{Record, Value};
use stonechat_core::wire::uplink::{self, MessageId};
use stonechat_server::store::ReadingsQuery;
use stonechat_server::{DeviceId, Running, Server, Settings, Token};
use tempfile::TempDir;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Site {
    pub(crate) server: Running,
    pub(crate) folder: TempDir,
}

pub(crate) fn settings(folder: &TempDir) -> Settings {
    let any = "127.0.0.1:0".parse().expect("legal");
    Settings { data: folder.path().join("data"), http: any, mqtt: any, ..Settings::default() }
}

pub(crate) async fn site() -> Site {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(settings(&folder)).await.expect("free ports");
    Site { server, folder }
}

pub(crate) fn id(name: &str) -> DeviceId {
    DeviceId::parse(name).expect("legal")
}

impl Site {
    pub(crate) async fn add(&self, name: &str) -> Token {
        self.server.registry().add(&id(name)).await.expect("new device")
    }

    pub(crate) async fn rotate(&self, name: &str) -> Token {
        self.server.registry().rotate(&id(name)).await.expect("there")
    }

    pub(crate) async fn values(&self, device: &str, channel: &str) -> Vec<f64> {
        let query = ReadingsQuery {
            device: device.into(),
            channels: vec![channel.into()],
            from_ms: 0,
            to_ms: i64::MAX,
            points_max: usize::MAX,
        };
        let series = self.server.store().readings(query).await.expect("readable");
        series.into_iter().flat_map(|series| series.points).map(|point| point.1).collect()
    }
}

/// An uplink message with one reading of the channel `a`.
pub(crate) fn payload(device: &str, sequence: u32, value: f64) -> Vec<u8> {
    records(device, sequence, &[("a", Value::Number(value))])
}

pub(crate) fn records(device: &str, sequence: u32, records: &[(&str, Value<'_>)]) -> Vec<u8> {
    let mut buffer = [0; 2_048];
    let base_name = format!("{device}/");
    let now_s = stonechat_server::clock::now_ms() as f64 / 1_000.0;
    let message = MessageId { session: 1, sequence };
    let mut pack = uplink::open(&mut buffer, &base_name, now_s, message).expect("room");
    for &(name, value) in records {
        pack.push(&Record { name, unit: "", value, time_s: 0.0 }).expect("room");
    }
    let len = pack.close();
    buffer[..len].to_vec()
}

pub(crate) struct Client {
    pub(crate) client: AsyncClient,
    pub(crate) events: EventLoop,
}

pub(crate) fn options(site: &Site, client_id: &str, user: &str, password: &str) -> MqttOptions {
    let mqtt = site.server.mqtt_addr;
    let mut options = MqttOptions::new(client_id, mqtt.ip().to_string(), mqtt.port());
    options.set_credentials(user, password);
    options.set_keep_alive(Duration::from_secs(30));
    options
}

impl Client {
    /// Connects, or tells why not.
    pub(crate) async fn connect(options: MqttOptions) -> Result<Self, String> {
        let (client, events) = AsyncClient::new(options, 64);
        let mut client = Self { client, events };
        loop {
            if let Event::Incoming(Packet::ConnAck(_)) = client.next().await? {
                return Ok(client);
            }
        }
    }

    /// Waits for the next event; an error when the connection ends.
    pub(crate) async fn next(&mut self) -> Result<Event, String> {
        tokio::time::timeout(PATIENCE, self.events.poll())
            .await
            .map_err(|_| "nothing happened".to_owned())?
            .map_err(|error| error.to_string())
    }

    /// Publishes and waits for the acknowledgement.
    pub(crate) async fn publish(&mut self, topic: &str, payload: Vec<u8>) -> Result<(), String> {
        self.client
            .publish(topic, QoS::AtLeastOnce, false, payload)
            .await
            .map_err(|error| error.to_string())?;
        loop {
            if let Event::Incoming(Packet::PubAck(_)) = self.next().await? {
                return Ok(());
            }
        }
    }

    /// Subscribes and returns the answer's code: the granted quality, or 0x80 and above.
    pub(crate) async fn subscribe(&mut self, filter: &str) -> Result<bool, String> {
        self.client.subscribe(filter, QoS::AtLeastOnce).await.map_err(|error| error.to_string())?;
        loop {
            if let Event::Incoming(Packet::SubAck(ack)) = self.next().await? {
                let granted = |code: &_| matches!(code, rumqttc::SubscribeReasonCode::Success(_));
                return Ok(ack.return_codes.iter().all(granted));
            }
        }
    }
}
