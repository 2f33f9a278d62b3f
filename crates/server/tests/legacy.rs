//! The port of the old packets, asked by plain sockets: what is taken in, and what a forger can do.
#![allow(missing_docs, reason = "a test")]

mod common;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use common::{PATIENCE, Site, id, settings};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use stonechat_core::wire::packet::{LocalTime, PACKET_LEN, Packet, Position};
use stonechat_server::clock::now_ms;
use stonechat_server::identity::DeviceEntry;
use stonechat_server::legacy::{CIPHERTEXT_LEN, KEY_REQUEST};
use stonechat_server::settings::Listen;
use stonechat_server::store::ReadingsQuery;
use stonechat_server::{Server, Settings};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const NUMBER: u16 = 1_234;
const OFFSET: &str = "+09:00";

fn legacy_settings(folder: &TempDir) -> Settings {
    Settings {
        legacy: Listen::At("127.0.0.1:0".parse().expect("legal")),
        legacy_utc_offset: OFFSET.parse().expect("legal"),
        ..settings(folder)
    }
}

/// A server with the port open, and the device `tank` of the number 1234.
async fn legacy_site() -> Site {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(legacy_settings(&folder)).await.expect("free ports");
    let tank = DeviceEntry { number: Some(NUMBER), ..DeviceEntry::new(id("tank"), now_ms()) };
    server.registry().insert(tank).await.expect("new device");
    Site { server, folder }
}

async fn connect(site: &Site) -> TcpStream {
    TcpStream::connect(site.server.legacy_addr.expect("open")).await.expect("listening")
}

async fn read_key(stream: &mut TcpStream) -> String {
    let len = timeout(PATIENCE, stream.read_u32()).await.expect("an answer").expect("4 bytes");
    let mut text = vec![0; len as usize];
    timeout(PATIENCE, stream.read_exact(&mut text)).await.expect("an answer").expect("all of it");
    String::from_utf8(text).expect("text")
}

async fn public_key(site: &Site) -> String {
    let mut stream = connect(site).await;
    stream.write_all(KEY_REQUEST).await.expect("open");
    read_key(&mut stream).await
}

async fn encrypting_key(site: &Site) -> OaepPublicEncryptingKey {
    let pem = public_key(site).await;
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).expect("PEM");
    let key = PublicEncryptingKey::from_der(&der).expect("RSA");
    OaepPublicEncryptingKey::new(key).expect("RSA")
}

fn encrypt(key: &OaepPublicEncryptingKey, plain: &[u8]) -> Vec<u8> {
    let mut ciphertext = vec![0; CIPHERTEXT_LEN];
    key.encrypt(&OAEP_SHA1_MGF1SHA1, plain, &mut ciphertext, None).expect("short enough");
    ciphertext
}

/// A packet from now, by a clock nine hours ahead of UTC.
fn packet(number: u16, air_temperature_c: f64) -> [u8; PACKET_LEN] {
    let packet = Packet {
        number,
        air_temperature_c,
        dissolved_oxygen_mg_per_l: 8.25,
        water_temperature_c: 21.3,
        position: Position { latitude_deg: 35.179_6, longitude_deg: 129.075_6 },
        time: LocalTime::from_unix_s(now_ms() / 1_000, 9 * 3_600).expect("this century"),
    };
    packet.write().expect("in range")
}

/// Waits until a condition holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn air(site: &Site) -> Vec<f64> {
    site.values("tank", "unauthenticated/air_temperature").await
}

macro_rules! counted {
    ($site:expr, $counter:ident) => {
        $site
            .server
            .legacy_counters()
            .expect("open")
            .$counter
            .load(std::sync::atomic::Ordering::Relaxed)
    };
}

/// Waits until the server closed a connection.
async fn closed(stream: &mut TcpStream) {
    let mut rest = [0; 16];
    let read = timeout(PATIENCE, stream.read(&mut rest)).await.expect("the server closes it");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn the_port_is_off_unless_switched_on() {
    let site = common::site().await;
    assert_eq!(site.server.legacy_addr, None);
    assert_eq!(Settings::default().legacy, Listen::Off);
    site.server.shutdown().await;
}

#[tokio::test]
async fn the_key_comes_however_the_request_is_cut_and_stays_the_same() {
    let site = legacy_site().await;
    let pem = public_key(&site).await;
    assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{pem}");
    let mut slow = connect(&site).await;
    slow.set_nodelay(true).expect("a socket");
    for byte in KEY_REQUEST {
        slow.write_all(&[*byte]).await.expect("open");
        tokio::task::yield_now().await;
    }
    assert_eq!(read_key(&mut slow).await, pem);
    // Two at once, and a packet right behind.
    let key = encrypting_key(&site).await;
    let joined = [&KEY_REQUEST[..], &KEY_REQUEST[..], &encrypt(&key, &packet(NUMBER, 5.0))];
    slow.write_all(&joined.concat()).await.expect("open");
    assert_eq!(read_key(&mut slow).await, pem);
    assert_eq!(read_key(&mut slow).await, pem);
    until("the packet is stored", async || air(&site).await == [5.0]).await;
    let Site { server, folder } = site;
    server.shutdown().await;
    let server = Server::start(legacy_settings(&folder)).await.expect("free ports");
    let site = Site { server, folder };
    assert_eq!(public_key(&site).await, pem, "the key persists");
    // What was encrypted before the restart still counts.
    let mut stream = connect(&site).await;
    stream.write_all(&encrypt(&key, &packet(NUMBER, 6.0))).await.expect("open");
    until("the packet is stored", async || {
        // Both may be from the same second.
        let seen = air(&site).await;
        seen.len() == 2 && seen.contains(&6.0)
    })
    .await;
    site.server.shutdown().await;
}

#[tokio::test]
async fn packets_are_stored_with_all_values_and_both_times() {
    let site = legacy_site().await;
    let key = encrypting_key(&site).await;
    let before_ms = now_ms() / 1_000 * 1_000;
    let mut bytes = Vec::new();
    for air_temperature_c in [20.0, 20.5, 21.0, -3.5] {
        bytes.extend(encrypt(&key, &packet(NUMBER, air_temperature_c)));
    }
    let mut stream = connect(&site).await;
    // 1,024 bytes in pieces that fit no boundary.
    for piece in bytes.chunks(300) {
        stream.write_all(piece).await.expect("open");
        stream.flush().await.expect("open");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    until("all are stored", async || air(&site).await.len() == 4).await;
    assert_eq!(air(&site).await, [20.0, 20.5, 21.0, -3.5]);
    let value =
        async |channel: &str| site.values("tank", &format!("unauthenticated/{channel}")).await[0];
    assert_eq!(value("dissolved_oxygen").await, 8.25);
    assert_eq!(value("water_temperature").await, 21.3);
    assert!((value("latitude").await - 35.179_6).abs() < 1e-5);
    assert!((value("longitude").await - 129.075_6).abs() < 1e-5);
    let delay_s = value("receipt_delay").await;
    assert!((0.0..20.0).contains(&delay_s), "{delay_s}");
    let query = ReadingsQuery {
        device: "tank".into(),
        channels: vec!["unauthenticated/air_temperature".into()],
        from_ms: before_ms,
        to_ms: now_ms(),
        points_max: 10,
    };
    let series = site.server.store().readings(query).await.expect("readable");
    assert_eq!(series[0].points.len(), 4, "the packet's time, nine hours back from its clock");
    assert_eq!(counted!(site, taken), 4);
    site.server.shutdown().await;
}

#[tokio::test]
async fn a_ciphertext_counts_once_however_often_and_from_wherever_it_comes() {
    let site = legacy_site().await;
    let key = encrypting_key(&site).await;
    let ciphertext = encrypt(&key, &packet(NUMBER, 20.0));
    for _ in 0..3 {
        let mut stream = connect(&site).await;
        stream.write_all(&[ciphertext.as_slice(); 3].concat()).await.expect("open");
    }
    until("all came in", async || counted!(site, taken) == 9).await;
    assert_eq!(air(&site).await, [20.0]);
    // Nor does it count after a restart.
    let Site { server, folder } = site;
    server.shutdown().await;
    let server = Server::start(legacy_settings(&folder)).await.expect("free ports");
    let site = Site { server, folder };
    let mut stream = connect(&site).await;
    stream.write_all(&ciphertext).await.expect("open");
    until("it came in", async || counted!(site, taken) == 1).await;
    assert_eq!(air(&site).await, [20.0]);
    site.server.shutdown().await;
}

#[tokio::test]
async fn only_registered_numbers_count_and_every_reading_is_marked() {
    let site = legacy_site().await;
    // A device with a token has no number, so that no packet can speak for it.
    let pump = site.add("pump").await;
    let key = encrypting_key(&site).await;
    let mut stream = connect(&site).await;
    let mut damaged = packet(NUMBER, 20.0);
    damaged[29] ^= 1;
    for plain in [&packet(NUMBER + 1, 20.0)[..], &packet(0, 20.0), &damaged, b"short", &[0; 200]] {
        stream.write_all(&encrypt(&key, plain)).await.expect("open");
    }
    stream.write_all(&encrypt(&key, &packet(NUMBER, 7.0))).await.expect("open");
    until("the last one is stored", async || counted!(site, taken) == 1).await;
    assert_eq!(counted!(site, unregistered), 2);
    assert_eq!(counted!(site, malformed), 3);
    assert_eq!(air(&site).await, [7.0]);
    let channels = site.server.store().channels("tank").await.expect("readable");
    assert_eq!(channels.len(), 6);
    assert!(channels.iter().all(|channel| channel.name.starts_with("unauthenticated/")));
    assert!(site.server.store().channels("pump").await.expect("readable").is_empty());
    // Nor can a device with a number come in by another door, or one with a token take the mark.
    let tank = common::options(&site, "tank", "tank", pump.reveal());
    assert!(common::Client::connect(tank).await.is_err());
    let own = common::options(&site, "pump", "pump", pump.reveal());
    let mut client = common::Client::connect(own).await.expect("token");
    let name = "unauthenticated/air_temperature";
    let value = stonechat_core::wire::senml::Value::Number(1.0);
    let forged = common::records("pump", 0, &[(name, value)]);
    client.publish("stonechat/v1/pump/up", forged).await.expect("acknowledged and left out");
    assert!(site.server.store().channels("pump").await.expect("readable").is_empty());
    // Shut out, the number counts no more.
    let tank = id("tank");
    let shut_out = site.server.registry().change(&tank, "device.change", |entry| {
        entry.disabled = true;
        Ok(())
    });
    shut_out.await.expect("there");
    stream.write_all(&encrypt(&key, &packet(NUMBER, 8.0))).await.expect("open");
    until("it is refused", async || counted!(site, unregistered) == 3).await;
    assert_eq!(air(&site).await, [7.0]);
    site.server.shutdown().await;
}

#[tokio::test]
async fn garbage_ends_the_connection_and_what_came_before_it_is_stored() {
    let site = legacy_site().await;
    let key = encrypting_key(&site).await;
    let good = encrypt(&key, &packet(NUMBER, 20.0));
    // Above the modulus, whatever that is; and below it, but nothing that was encrypted.
    for (index, garbage) in [[0xff; CIPHERTEXT_LEN], [0x01; CIPHERTEXT_LEN]].iter().enumerate() {
        let mut stream = connect(&site).await;
        stream.write_all(&[&good[..], garbage, &good].concat()).await.expect("open");
        closed(&mut stream).await;
        assert_eq!(counted!(site, undecryptable), index as u64 + 1);
    }
    assert_eq!(air(&site).await, [20.0]);
    let mut stream = connect(&site).await;
    stream.write_all(&good[..255]).await.expect("open");
    drop(stream);
    until("the end is noticed", async || counted!(site, truncated) == 1).await;
    let mut stream = connect(&site).await;
    stream.write_all(&KEY_REQUEST[..17]).await.expect("open");
    drop(stream);
    until("the end is noticed", async || counted!(site, truncated) == 2).await;
    site.server.shutdown().await;
}

#[tokio::test]
async fn a_flood_of_garbage_costs_its_source_its_credit() {
    let site = legacy_site().await;
    let key = encrypting_key(&site).await;
    // Legal ciphertexts of nonsense, so that the connections stay open.
    let nonsense = encrypt(&key, &[0; PACKET_LEN]);
    let flood = nonsense.repeat(400);
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = connect(&site).await;
        let flood = flood.clone();
        streams.push(tokio::spawn(async move { stream.write_all(&flood).await.map(|()| stream) }));
    }
    // 256 at once, then a few each second.
    until("the credit is used up", async || counted!(site, malformed) >= 256).await;
    let mut held_up = connect(&site).await;
    held_up.write_all(KEY_REQUEST).await.expect("open");
    assert_eq!(read_key(&mut held_up).await, "ERROR: PUBLIC_KEY_FAILED");
    let seen = counted!(site, malformed);
    assert!(seen < 400, "{seen} of 1,600 were looked at");
    // The server stops at once all the same.
    site.server.shutdown().await;
    for stream in streams {
        stream.abort();
    }
}

#[tokio::test]
async fn packets_made_by_openssl_are_taken_in() {
    let site = legacy_site().await;
    let pem = public_key(&site).await;
    let key_file = site.folder.path().join("packets.pem");
    std::fs::write(&key_file, pem).expect("a folder");
    let plain = packet(NUMBER, 25.5);
    let mut openssl = Command::new("openssl")
        .args(["pkeyutl", "-encrypt", "-pubin", "-inkey"])
        .arg(&key_file)
        .args(["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    openssl.stdin.take().expect("piped").write_all(&plain).expect("running");
    let ciphertext = openssl.wait_with_output().expect("running").stdout;
    assert_eq!(ciphertext.len(), CIPHERTEXT_LEN);
    let mut stream = connect(&site).await;
    stream.write_all(&ciphertext).await.expect("open");
    until("it is stored", async || air(&site).await == [25.5]).await;
    site.server.shutdown().await;
}
