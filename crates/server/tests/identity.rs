//! Who is who over TLS: each end against the wrong other end. Foreign programs (openssl, curl) are
//! the other end wherever they can be.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::{Site, id, settings};
use stonechat_server::identity::authority::{new_key, request};
use stonechat_server::identity::client::{self, ClientError};
use stonechat_server::identity::enrol::permit;
use stonechat_server::identity::hex::Key32;
use stonechat_server::identity::keys::new_link_key;
use stonechat_server::identity::{DeviceEntry, EnrolRequest, Ticket};
use stonechat_server::settings::Listen;
use stonechat_server::{Server, Settings};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A server with both TLS listeners.
async fn site() -> Site {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(secure(&folder)).await.expect("free ports");
    Site { server, folder }
}

fn secure(folder: &tempfile::TempDir) -> Settings {
    let any = "127.0.0.1:0".parse().expect("legal");
    Settings { https: Listen::At(any), mqtts: Listen::At(any), ..settings(folder) }
}

impl Site {
    fn key_file(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join("keys").join(name)
    }

    /// Where HTTPS and MQTT over TLS are served.
    fn tls(&self) -> [String; 2] {
        [self.server.https_addr, self.server.mqtts_addr].map(|it| it.expect("on").to_string())
    }
}

/// Runs a program that has to be installed (`apt-packages.txt` of the tests names it).
async fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let program = program.to_owned();
    tokio::task::spawn_blocking(move || {
        command.output().unwrap_or_else(|error| panic!("{program} does not run: {error}"))
    })
    .await
    .expect("no panic")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain")
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_trusts_the_servers_authority_and_no_other() {
    let site = site().await;
    let other = self::site().await;
    let port = site.server.https_addr.expect("HTTPS is on").port();
    for name in ["localhost", "127.0.0.1"] {
        let url = format!("https://{name}:{port}/health/live");
        let own = site.key_file("ca.crt");
        let answer = run("curl", &["-sS", "--fail", "--cacert", text(&own), &url]).await;
        assert!(answer.status.success(), "{}", said(&answer));
        let foreign = other.key_file("ca.crt");
        let answer = run("curl", &["-sS", "--fail", "--cacert", text(&foreign), &url]).await;
        // 60: the peer's certificate cannot be authenticated.
        assert_eq!(answer.status.code(), Some(60), "{}", said(&answer));
    }
    site.server.shutdown().await;
    other.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_older_than_tls_1_3_is_spoken() {
    let site = site().await;
    let authority = site.key_file("ca.crt");
    for address in site.tls() {
        let shake = async |version: &str| {
            let authority = text(&authority);
            let arguments = ["s_client", "-connect", &address, "-CAfile", authority, version];
            run("openssl", &[&arguments[..], &["-verify_return_error"]].concat()).await
        };
        let newest = shake("-tls1_3").await;
        assert!(newest.status.success() && said(&newest).contains("TLSv1.3"), "{}", said(&newest));
        for version in ["-tls1_2", "-tls1_1", "-tls1"] {
            let older = shake(version).await;
            assert!(!older.status.success(), "{version}: {}", said(&older));
            if version == "-tls1_2" {
                assert!(said(&older).contains("alert protocol version"), "{}", said(&older));
            }
        }
    }
    site.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_verifies_what_the_authority_makes() {
    let site = site().await;
    let (authority, server) = (site.key_file("ca.crt"), site.key_file("server.crt"));
    let verify = async |purpose: &str, name: &[&str]| {
        let fixed = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", text(&authority)];
        run("openssl", &[&fixed[..], name, &[text(&server)]].concat()).await
    };
    for name in
        [["-verify_hostname", "localhost"], ["-verify_ip", "127.0.0.1"], ["-verify_ip", "::1"]]
    {
        let outcome = verify("sslserver", &name).await;
        assert!(outcome.status.success(), "{name:?}: {}", said(&outcome));
    }
    assert!(!verify("sslserver", &["-verify_hostname", "evil.example"]).await.status.success());
    // The server's certificate is no device's.
    assert!(!verify("sslclient", &[]).await.status.success());
    site.server.shutdown().await;
}

/// What a device does to enrol, with a key that it just made.
fn asked(name: &str, token: &str) -> EnrolRequest {
    let key = new_key().expect("made");
    let (_, link_public) = new_link_key().expect("random");
    EnrolRequest {
        device: id(name),
        token: token.to_owned(),
        certificate_request: Some(request(&id(name), &key).expect("made")),
        link_key: Some(Key32(link_public)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_enrols_one_device_once() {
    let site = site().await;
    let url = format!("https://localhost:{}", site.server.https_addr.expect("on").port());
    let (registry, keys) = (site.server.registry(), site.server.keys());
    for name in ["pump", "fan"] {
        registry.insert(DeviceEntry::new(id(name), 0)).await.expect("free");
    }
    let ticket = permit(registry, keys, &id("pump"), HOUR).await.expect("registered");
    let enrol =
        async |request: &EnrolRequest| client::enrol(&url, request, ticket.authority_sha256).await;
    let refused = |outcome| matches!(outcome, Err(ClientError::Refused { .. }));
    // Another device's ticket, a guessed one, and an unknown device look alike from outside.
    assert!(refused(enrol(&asked("fan", &ticket.token)).await));
    assert!(refused(enrol(&asked("pump", "guessed")).await));
    assert!(refused(enrol(&asked("nobody", &ticket.token)).await));
    // A request that names another device in its certificate does not use the ticket up.
    let foreign = EnrolRequest { device: id("pump"), ..asked("fan", &ticket.token) };
    assert!(refused(enrol(&foreign).await));

    let request = asked("pump", &ticket.token);
    let enrolled = enrol(&request).await.expect("permitted");
    assert_eq!(enrolled.authority, keys.authority().pem());
    assert_eq!(enrolled.server_link_key.0, *keys.link_public());
    assert_eq!(enrolled.addresses.https.as_deref(), Some(url.as_str()));
    let entry = registry.entry(&id("pump")).await.expect("there");
    assert_eq!(entry.certificates.len(), 1);
    assert_eq!(Some(Key32(entry.link_keys[0].public)), request.link_key);
    assert!(refused(enrol(&request).await), "twice");
    assert!(refused(enrol(&asked("pump", &ticket.token)).await), "by another");

    let noted = site.server.access().audit().list(None, 10).await.expect("readable");
    let noted: Vec<_> = noted.iter().map(|entry| (&*entry.act, &*entry.who)).collect();
    assert_eq!(noted, [("device.enrol", "device:pump")], "once, with who it was");

    // The certificate is good for openssl, too, and only as a client's.
    let file = site.folder.path().join("pump.crt");
    std::fs::write(&file, enrolled.certificate.expect("asked for")).expect("writable");
    let authority = site.key_file("ca.crt");
    let verify = async |purpose: &str| {
        let fixed = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", text(&authority)];
        run("openssl", &[&fixed[..], &[text(&file)]].concat()).await
    };
    let outcome = verify("sslclient").await;
    assert!(outcome.status.success(), "{}", said(&outcome));
    assert!(!verify("sslserver").await.status.success());
    site.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_used_by_the_quickest_only() {
    let site = site().await;
    let url = format!("https://localhost:{}", site.server.https_addr.expect("on").port());
    let registry = site.server.registry();
    registry.insert(DeviceEntry::new(id("pump"), 0)).await.expect("free");
    let ticket = permit(registry, site.server.keys(), &id("pump"), HOUR).await.expect("there");
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (url, ticket) = (url.clone(), ticket.clone());
        tasks.push(tokio::spawn(async move {
            let request = asked("pump", &ticket.token);
            client::enrol(&url, &request, ticket.authority_sha256).await.is_ok()
        }));
    }
    let mut enrolled = 0;
    for task in tasks {
        enrolled += usize::from(task.await.expect("no panic"));
    }
    assert_eq!(enrolled, 1);
    let entry = registry.entry(&id("pump")).await.expect("there");
    assert_eq!((entry.certificates.len(), entry.link_keys.len()), (1, 1));
    site.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_enrols_at_the_server_of_its_ticket_only() {
    let (site, other) = (site().await, site().await);
    let registry = site.server.registry();
    registry.insert(DeviceEntry::new(id("pump"), 0)).await.expect("free");
    let ticket = permit(registry, site.server.keys(), &id("pump"), HOUR).await.expect("there");
    let request = asked("pump", &ticket.token);
    let at = async |url: &str| client::enrol(url, &request, ticket.authority_sha256).await;
    let port = |site: &Site| site.server.https_addr.expect("on").port();
    let wrong = at(&format!("https://localhost:{}", port(&other))).await;
    assert!(matches!(wrong, Err(ClientError::WrongServer { .. })), "{wrong:?}");
    // The right server under a name that its certificate does not have.
    let misnamed = at(&format!("https://127.0.0.2:{}", port(&site))).await;
    assert!(!matches!(misnamed, Ok(_) | Err(ClientError::Refused { .. })), "{misnamed:?}");
    // Unencrypted, a ticket is not even read.
    let plain = format!("http://{}/api/v1/enrol", site.server.http_addr);
    let body = serde_json::to_string(&request).expect("texts");
    let json = "content-type: application/json";
    let answer = run("curl", &["-sS", "-H", json, "-d", &body, &plain]).await;
    assert!(said(&answer).contains("HTTPS"), "{}", said(&answer));
    at(&format!("https://localhost:{}", port(&site))).await.expect("still unused");
    site.server.shutdown().await;
    other.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_ends() {
    let site = site().await;
    let url = format!("https://localhost:{}", site.server.https_addr.expect("on").port());
    let (registry, keys) = (site.server.registry(), site.server.keys());
    registry.insert(DeviceEntry::new(id("pump"), 0)).await.expect("free");
    let enrol = async |ticket: &Ticket| {
        client::enrol(&url, &asked("pump", &ticket.token), ticket.authority_sha256).await
    };
    let over = permit(registry, keys, &id("pump"), Duration::ZERO).await.expect("there");
    assert!(enrol(&over).await.is_err());
    let first = permit(registry, keys, &id("pump"), HOUR).await.expect("there");
    let second = permit(registry, keys, &id("pump"), HOUR).await.expect("there");
    assert!(enrol(&first).await.is_err(), "a new ticket ends the one before");
    registry.revoke(&id("pump")).await.expect("there");
    assert!(enrol(&second).await.is_err(), "the device is shut out");
    site.server.shutdown().await;
}
