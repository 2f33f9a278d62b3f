//! MQTT within TLS 1.3, by certificate and by token: who gets in, who is cut off, and that nobody
//! on the way reads along.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use stonechat_server::identity::authority::{Issued, new_key};
use stonechat_server::identity::tls::{Trust, client_config};
use stonechat_server::settings::Listen;
use stonechat_server::{Server, clock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::common::{PATIENCE, Site, id, payload, settings};
use crate::raw::{BOTH, Hello, Raw, Version};

const NOT_AUTHORIZED: u8 = 0x87;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const UP: &str = "stonechat/v1/pump/up";

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

async fn site() -> Site {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut settings = settings(&folder);
    settings.mqtts = Listen::At("127.0.0.1:0".parse().expect("legal"));
    Site { server: Server::start(settings).await.expect("free ports"), folder }
}

fn address(site: &Site) -> std::net::SocketAddr {
    site.server.mqtts_addr.expect("it listens")
}

/// Makes a key and a certificate of the site's authority, which the registry does not know yet.
fn issue(site: &Site, name: &str, from_ms: i64, validity: Duration) -> (Issued, Identity) {
    let key = new_key().expect("a key");
    let authority = site.server.keys().authority();
    let issued = authority.certify_key(&id(name), &key, validity, from_ms).expect("issued");
    let chain = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("PEM");
    (issued, (vec![chain], key))
}

/// Gives a device a certificate; its former ones end after a time.
async fn certify(site: &Site, name: &str, overlap_ms: i64) -> Identity {
    let (issued, identity) = issue(site, name, clock::now_ms(), DAY);
    let registry = site.server.registry();
    registry.rotate_certificate(&id(name), issued.credential, overlap_ms).await.expect("kept");
    identity
}

fn again(identity: &Identity) -> Identity {
    (identity.0.clone(), identity.1.clone_key())
}

async fn handshake(
    site: &Site,
    to: std::net::SocketAddr,
    identity: Option<Identity>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let trust = Trust::Authority(site.server.keys().authority().certificate().clone());
    let config = client_config(&trust, identity).expect("legal");
    let name = ServerName::try_from("localhost").expect("legal");
    TlsConnector::from(config).connect(name, TcpStream::connect(to).await?).await
}

async fn open(site: &Site, version: Version, identity: Option<Identity>) -> Raw {
    let stream = handshake(site, address(site), identity).await.expect("the right server");
    Raw::over(stream, version)
}

/// Tells whether a client gets in at all; with TLS 1.3 it learns of a bad certificate only when
/// it reads.
async fn gets_in(site: &Site, identity: &Identity) -> bool {
    let Ok(stream) = handshake(site, address(site), Some(again(identity))).await else {
        return false;
    };
    Raw::over(stream, Version::V5).connect(&Hello::default()).await == Some(0)
}

fn hello(client_id: &str, user_name: Option<&str>) -> Hello {
    Hello {
        client_id: client_id.into(),
        user_name: user_name.map(Into::into),
        keep_alive_s: 30,
        ..Hello::default()
    }
}

#[tokio::test]
async fn the_certificate_says_who_a_device_is() {
    let site = site().await;
    let token = site.add("pump").await;
    let fan_token = site.add("fan").await;
    let pump = certify(&site, "pump", 0).await;
    let with = |client_id: &str, user_name, password: &str| Hello {
        password: Some(password.into()),
        ..hello(client_id, user_name)
    };
    let matrix = [
        (hello("pump", None), true),
        (hello("", None), true),
        (hello("pump", Some("pump")), true),
        (hello("fan", None), false),
        (hello("", Some("fan")), false),
        (hello("fan", Some("pump")), false),
        // A token changes nothing: the certificate was shown.
        (with("fan", Some("fan"), fan_token.reveal()), false),
        (with("", Some("fan"), fan_token.reveal()), false),
    ];
    for version in BOTH {
        for (number, (hello, allowed)) in matrix.iter().enumerate() {
            let mut raw = open(&site, version, Some(again(&pump))).await;
            let refused = if version == Version::V3 { 5 } else { NOT_AUTHORIZED };
            let expected = if *allowed { 0 } else { refused };
            assert_eq!(raw.connect(hello).await, Some(expected), "{version:?} {number}");
        }
        // Without a certificate the token counts, and nothing is let in without either.
        let mut raw = open(&site, version, None).await;
        assert_eq!(raw.connect(&Hello::token("pump", token.reveal())).await, Some(0));
        let mut raw = open(&site, version, None).await;
        assert_ne!(raw.connect(&hello("pump", Some("pump"))).await, Some(0));
    }
    let mut raw = open(&site, Version::V5, Some(pump)).await;
    assert_eq!(raw.connect(&hello("", None)).await, Some(0));
    assert_eq!(raw.store(UP, 1, &payload("pump", 1, 7.0)).await, Some(0));
    assert_eq!(
        raw.store("stonechat/v1/fan/up", 2, &payload("fan", 1, 7.0)).await,
        Some(NOT_AUTHORIZED)
    );
    assert_eq!(site.values("pump", "a").await, [7.0]);
    assert!(site.values("fan", "a").await.is_empty());
    site.server.shutdown().await;
}

#[tokio::test]
async fn only_a_living_certificate_of_the_own_authority_counts() {
    let (site, other) = (site().await, site().await);
    site.add("pump").await;
    other.add("pump").await;
    let good = certify(&site, "pump", 0).await;
    assert!(gets_in(&site, &good).await);
    let foreign = certify(&other, "pump", 0).await;
    assert!(!gets_in(&site, &foreign).await, "another authority's");
    let (_, unknown) = issue(&site, "pump", clock::now_ms(), DAY);
    assert!(!gets_in(&site, &unknown).await, "never recorded");
    let (_, nobody) = issue(&site, "nobody", clock::now_ms(), DAY);
    assert!(!gets_in(&site, &nobody).await, "of no device");
    let (issued, stale) = issue(&site, "pump", clock::now_ms() - 3 * 86_400_000, DAY);
    let registry = site.server.registry();
    registry.rotate_certificate(&id("pump"), issued.credential, 60_000).await.expect("kept");
    assert!(!gets_in(&site, &stale).await, "run out");
    assert!(gets_in(&site, &good).await, "still within the overlap");
    // A certificate is nothing without its key.
    let stolen = (good.0.clone(), foreign.1.clone_key());
    let trust = Trust::Authority(site.server.keys().authority().certificate().clone());
    assert!(client_config(&trust, Some(stolen)).is_err());
    other.server.shutdown().await;
    site.server.shutdown().await;
}

#[tokio::test]
async fn rotation_overlaps_and_revocation_cuts() {
    let site = site().await;
    site.add("pump").await;
    let first = certify(&site, "pump", 0).await;
    let mut old = open(&site, Version::V5, Some(again(&first))).await;
    assert_eq!(old.connect(&hello("", None)).await, Some(0));
    let second = certify(&site, "pump", 60_000).await;
    old.ping().await;
    assert!(gets_in(&site, &first).await && gets_in(&site, &second).await);
    // The other ones took over; now the newest is revoked while it is in use.
    let mut live = open(&site, Version::V5, Some(again(&second))).await;
    assert_eq!(live.connect(&hello("", None)).await, Some(0));
    live.ping().await;
    site.server.registry().revoke(&id("pump")).await.expect("revoked");
    assert_eq!(live.end().await, Some(NOT_AUTHORIZED));
    assert!(!gets_in(&site, &first).await && !gets_in(&site, &second).await);
    site.server.shutdown().await;
}

/// A ClientHello of TLS 1.2 (RFC 5246 section 7.4.1.2), put together by hand.
#[tokio::test]
async fn nothing_older_than_tls_1_3_is_spoken() {
    let site = site().await;
    let extensions = [
        [0, 10, 0, 4, 0, 2, 0, 23].as_slice(),
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 6, 0, 4, 4, 3, 8, 4],
    ]
    .concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut handshake = vec![1, 0];
    handshake.extend((body.len() as u16).to_be_bytes());
    handshake.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend((handshake.len() as u16).to_be_bytes());
    record.extend(handshake);
    let mut stream = TcpStream::connect(address(&site)).await.expect("it listens");
    stream.write_all(&record).await.expect("sent");
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end");
    // A fatal alert, protocol_version (RFC 8446 section 6).
    assert_eq!((answer[0], &answer[3..]), (21, &[0, 2, 2, 70][..]));
    // And no plain MQTT.
    let mut raw = Raw::open(address(&site), Version::V3).await;
    raw.hello(&hello("pump", None)).await;
    let mut stream = TcpStream::connect(site.server.mqtt_addr).await.expect("it listens");
    stream.write_all(&record).await.expect("sent");
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end");
    assert!(answer.is_empty());
    site.server.shutdown().await;
}

/// A proxy on the way sees lengths and times, but no name, topic, token or value.
#[tokio::test]
async fn who_listens_on_the_way_reads_nothing() {
    let site = site().await;
    let token = site.add("pump").await;
    let pump = certify(&site, "pump", 0).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let proxy_address = proxy.local_addr().expect("bound");
    let (target, record) = (address(&site), seen.clone());
    let proxying = tokio::spawn(async move {
        loop {
            let (near, _) = proxy.accept().await.expect("accepts");
            let far = TcpStream::connect(target).await.expect("it listens");
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            for (mut from, mut to) in [(near_in, far_out), (far_in, near_out)] {
                let record = record.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 4_096];
                    while let Ok(read @ 1..) = from.read(&mut buffer).await {
                        record.lock().extend_from_slice(&buffer[..read]);
                        if to.write_all(&buffer[..read]).await.is_err() {
                            return;
                        }
                    }
                    let _ = to.shutdown().await;
                });
            }
        }
    });
    for (number, identity) in [Some(pump), None].into_iter().enumerate() {
        let stream = handshake(&site, proxy_address, identity).await.expect("the right server");
        let mut raw = Raw::over(stream, Version::V5);
        assert_eq!(raw.connect(&Hello::token("pump", token.reveal())).await, Some(0));
        let bytes = payload("pump", number as u32, 1_234.5);
        assert_eq!(raw.store(UP, 1, &bytes).await, Some(0));
        let (seen, value) = (seen.lock(), 1_234.5_f64.to_be_bytes());
        let short = 1_234.5_f32.to_be_bytes();
        assert!(seen.len() > 1_000, "the proxy was used");
        let plain: [&[u8]; 5] =
            [b"pump", b"stonechat/v1", b"MQTT", token.reveal().as_bytes(), &bytes[..8]];
        for secret in plain.into_iter().chain([&value[..], &short[..]]) {
            let found = seen.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{} in clear", String::from_utf8_lossy(secret));
        }
    }
    proxying.abort();
    assert_eq!(site.values("pump", "a").await.len(), 2);
    site.server.shutdown().await;
}
