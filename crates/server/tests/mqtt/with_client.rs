//! Who may connect, publish and subscribe, asked with a real MQTT client over loopback.

use std::time::Duration;

use crate::common::{Client, options, payload, site};
use rumqttc::{Event, LastWill, Packet, QoS};

#[tokio::test]
async fn only_a_device_with_its_token_gets_in() {
    let site = site().await;
    let pump = site.add("pump").await;
    let fan = site.add("fan").await;
    let matrix = [
        ("pump", "pump", pump.reveal(), true),
        ("pump", "pump", fan.reveal(), false),
        ("pump", "pump", "", false),
        ("pump", "fan", fan.reveal(), false),
        ("fan", "pump", pump.reveal(), false),
        ("pump2", "pump2", pump.reveal(), false),
        ("pump/up", "pump/up", pump.reveal(), false),
        ("#", "#", pump.reveal(), false),
        ("pump", "", pump.reveal(), false),
    ];
    for (client, user, password, expected) in matrix {
        let connected = Client::connect(options(&site, client, user, password)).await;
        assert_eq!(connected.is_ok(), expected, "{client} {user}");
    }
    let mut anonymous = rumqttc::MqttOptions::new(
        "pump",
        site.server.mqtt_addr.ip().to_string(),
        site.server.mqtt_addr.port(),
    );
    anonymous.set_keep_alive(Duration::from_secs(30));
    assert!(Client::connect(anonymous).await.is_err(), "without name and password");

    let rotated = site.server.registry().rotate(&crate::common::id("pump")).await.expect("there");
    let old = Client::connect(options(&site, "pump", "pump", pump.reveal())).await;
    assert!(old.is_err(), "the old token is worth nothing");
    Client::connect(options(&site, "pump", "pump", rotated.reveal())).await.expect("new token");
    site.server.shutdown().await;
}

#[tokio::test]
async fn a_device_publishes_under_its_own_prefix_only() {
    let site = site().await;
    let pump = site.add("pump").await;
    site.add("fan").await;
    let mut sequence = 0;
    for topic in [
        "stonechat/v1/fan/up",
        "stonechat/v1/pump2/up",
        "stonechat/v1/up",
        "$SYS/broker",
        "up",
        "/stonechat/v1/pump/up",
    ] {
        let mut client =
            Client::connect(options(&site, "pump", "pump", pump.reveal())).await.expect("token");
        sequence += 1;
        let answer = client.publish(topic, payload("pump", sequence, 1.0)).await;
        assert!(answer.is_err(), "{topic}: the connection must end without acknowledgement");
    }
    let mut client =
        Client::connect(options(&site, "pump", "pump", pump.reveal())).await.expect("token");
    client.publish("stonechat/v1/pump/up", payload("pump", 99, 7.0)).await.expect("own topic");
    assert_eq!(site.values("pump", "a").await, [7.0]);
    assert!(site.values("fan", "a").await.is_empty());
    site.server.shutdown().await;
}

#[tokio::test]
async fn a_device_subscribes_under_its_own_prefix_only() {
    let site = site().await;
    let pump = site.add("pump").await;
    let filters = [
        ("stonechat/v1/pump/down", true),
        ("stonechat/v1/pump/#", true),
        ("stonechat/v1/fan/down", false),
        ("stonechat/v1/+/down", false),
        ("stonechat/v1/#", false),
        ("stonechat/v1/pump+/down", false),
        ("#", false),
        ("+/+/+/+", false),
        ("$SYS/#", false),
        ("$share/all/stonechat/v1/pump/up", false),
        ("$share/all/#", false),
    ];
    for (filter, expected) in filters {
        let mut client =
            Client::connect(options(&site, "pump", "pump", pump.reveal())).await.expect("token");
        // A refusal is either an answer or the end of the connection.
        let granted = client.subscribe(filter).await.unwrap_or(false);
        assert_eq!(granted, expected, "{filter}");
    }
    site.server.shutdown().await;
}

#[tokio::test]
async fn a_last_will_is_neither_stored_nor_a_way_to_others() {
    let site = site().await;
    let pump = site.add("pump").await;
    let fan = site.add("fan").await;
    let mut foreign = options(&site, "pump", "pump", pump.reveal());
    let will = |topic: &str, bytes| LastWill::new(topic, bytes, QoS::AtLeastOnce, false);
    foreign.set_last_will(will("stonechat/v1/fan/down", payload("fan", 1, 6.0)));
    assert!(Client::connect(foreign).await.is_err(), "a will on a foreign topic");

    let mut listener =
        Client::connect(options(&site, "fan", "fan", fan.reveal())).await.expect("token");
    assert!(listener.subscribe("stonechat/v1/fan/#").await.expect("answer"));
    let mut own = options(&site, "pump", "pump", pump.reveal());
    own.set_last_will(will("stonechat/v1/pump/up", payload("pump", 1, 6.0)));
    let client = Client::connect(own).await.expect("own will");
    drop(client);
    // The next connection comes after the will of the one before.
    let mut client =
        Client::connect(options(&site, "pump", "pump", pump.reveal())).await.expect("token");
    client.publish("stonechat/v1/pump/up", payload("pump", 2, 7.0)).await.expect("stored");
    assert_eq!(site.values("pump", "a").await, [7.0]);
    let heard = tokio::time::timeout(Duration::from_millis(300), async {
        loop {
            if let Ok(Event::Incoming(Packet::Publish(publish))) = listener.next().await {
                return publish;
            }
        }
    });
    assert!(heard.await.is_err(), "another device heard something");
    site.server.shutdown().await;
}

#[tokio::test]
async fn what_is_acknowledged_is_in_the_database_once() {
    let site = site().await;
    let pump = site.add("pump").await;
    let mut client =
        Client::connect(options(&site, "pump", "pump", pump.reveal())).await.expect("token");
    for sequence in 0..200 {
        let bytes = payload("pump", sequence, f64::from(sequence));
        client.publish("stonechat/v1/pump/up", bytes.clone()).await.expect("acknowledged");
        assert_eq!(site.values("pump", "a").await.len(), sequence as usize + 1);
        if sequence % 10 == 0 {
            client.publish("stonechat/v1/pump/up", bytes).await.expect("acknowledged again");
        }
    }
    assert_eq!(site.values("pump", "a").await.len(), 200);
    let totals = site.server.store().totals().await.expect("answer");
    assert_eq!((totals.messages, totals.duplicates), (200, 20));
    site.server.shutdown().await;
}

#[tokio::test]
async fn what_can_never_be_stored_is_acknowledged_and_counted() {
    let site = site().await;
    let pump = site.add("pump").await;
    let mut client =
        Client::connect(options(&site, "pump", "pump", pump.reveal())).await.expect("token");
    let garbage =
        [vec![], vec![0xff; 100], b"{}".to_vec(), payload("fan", 1, 1.0), vec![0x9f; 5_000]];
    for bytes in garbage {
        client.publish("stonechat/v1/pump/up", bytes).await.expect("acknowledged");
    }
    client.publish("stonechat/v1/pump/down", payload("pump", 1, 1.0)).await.expect("acknowledged");
    client.publish("stonechat/v1/pump/up", payload("pump", 1, 1.0)).await.expect("acknowledged");
    assert_eq!(site.values("pump", "a").await, [1.0]);
    let too_long = vec![0; 64 * 1024];
    assert!(client.publish("stonechat/v1/pump/up", too_long).await.is_err(), "beyond any packet");
    site.server.shutdown().await;
}

/// When the store fails, the connection ends without acknowledgement; later it works again.
#[tokio::test]
async fn what_could_not_be_stored_is_not_acknowledged() {
    let site = site().await;
    let pump = site.add("pump").await;
    let connect = async || {
        Client::connect(options(&site, "pump", "pump", pump.reveal())).await.expect("token")
    };
    let database = site.folder.path().join("data/stonechat.sqlite");
    let other = rusqlite::Connection::open(database).expect("there");
    other.busy_timeout(Duration::from_secs(5)).expect("set");
    other.execute_batch("ALTER TABLE batch RENAME TO gone").expect("renamed");
    let bytes = payload("pump", 1, 5.0);
    let answer = connect().await.publish("stonechat/v1/pump/up", bytes.clone()).await;
    assert!(answer.is_err(), "acknowledged although nothing is stored");
    other.execute_batch("ALTER TABLE gone RENAME TO batch").expect("renamed");
    connect().await.publish("stonechat/v1/pump/up", bytes).await.expect("stored now");
    assert_eq!(site.values("pump", "a").await, [5.0]);
    site.server.shutdown().await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let site = site().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut settings = crate::common::settings(&folder);
    settings.mqtt = site.server.mqtt_addr;
    let error = stonechat_server::Server::start(settings.clone()).await.err().expect("in use");
    assert_eq!(
        error.to_string(),
        format!(
            "port in use: {}; stop what listens there, or choose another with --mqtt",
            site.server.mqtt_addr
        )
    );
    settings.mqtt = "127.0.0.1:0".parse().expect("legal");
    settings.http = site.server.http_addr;
    let error = stonechat_server::Server::start(settings.clone()).await.err().expect("in use");
    assert!(error.to_string().contains("--http"), "{error}");
    settings.http = "127.0.0.1:0".parse().expect("legal");
    let second = stonechat_server::Server::start(settings).await.expect("nothing was left behind");
    second.shutdown().await;
    let addresses = (site.server.mqtt_addr, site.server.http_addr);
    site.server.shutdown().await;
    for address in [addresses.0, addresses.1] {
        assert!(tokio::net::TcpStream::connect(address).await.is_err(), "{address} still answers");
    }
}
