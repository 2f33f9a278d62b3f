//! mosquitto_pub, mosquitto_sub and Eclipse Paho for Python, with certificates and with tokens.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use stonechat_server::identity::authority::new_key;
use stonechat_server::mqtt::Delivery;
use stonechat_server::settings::Listen;
use stonechat_server::{Server, clock};

use crate::common::{PATIENCE, Site, id, settings};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const UP: &str = "stonechat/v1/pump/up/flat-json";

/// A server, and what the device `pump` needs for it, in files.
struct Place {
    site: Site,
    token: String,
    files: PathBuf,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut settings = settings(&folder);
        settings.mqtts = Listen::At("127.0.0.1:0".parse().expect("legal"));
        let server = Server::start(settings).await.expect("free ports");
        let files = folder.path().to_owned();
        let site = Site { server, folder };
        let token = site.add("pump").await.reveal().to_owned();
        let key = new_key().expect("a key");
        let authority = site.server.keys().authority();
        let issued =
            authority.certify_key(&id("pump"), &key, DAY, clock::now_ms()).expect("issued");
        std::fs::write(files.join("ca.pem"), authority.pem()).expect("written");
        std::fs::write(files.join("pump.pem"), &issued.certificate).expect("written");
        std::fs::write(files.join("pump.key"), key.serialize_pem()).expect("written");
        std::fs::write(files.join("token"), &token).expect("written");
        let registry = site.server.registry();
        registry.rotate_certificate(&id("pump"), issued.credential, 0).await.expect("kept");
        Self { site, token, files }
    }

    fn file(&self, name: &str) -> String {
        self.files.join(name).display().to_string()
    }

    fn tls_port(&self) -> u16 {
        self.site.server.mqtts_addr.expect("it listens").port()
    }

    /// The arguments of mosquitto's clients for each way in.
    fn ways(&self) -> Vec<Vec<String>> {
        let plain = self.site.server.mqtt_addr.port().to_string();
        let tls = self.tls_port().to_string();
        let (ca, cert, key) = (self.file("ca.pem"), self.file("pump.pem"), self.file("pump.key"));
        let token = ["-i", "pump", "-u", "pump", "-P", &self.token];
        let ways = [
            [&["-h", "127.0.0.1", "-p", &plain][..], &token].concat(),
            [&["-h", "localhost", "-p", &tls, "--cafile", &ca][..], &token].concat(),
            vec![
                "-h",
                "localhost",
                "-p",
                &tls,
                "--cafile",
                &ca,
                "--cert",
                &cert,
                "--key",
                &key,
                "-i",
                "pump",
            ],
        ];
        ways.iter().map(|way| way.iter().map(ToString::to_string).collect()).collect()
    }
}

async fn run(program: &str, way: &[String], more: &[&str]) -> Output {
    let running = Command::new(program)
        .args(way)
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("installed");
    ended(running).await
}

async fn ended(child: Child) -> Output {
    let waiting = tokio::task::spawn_blocking(move || child.wait_with_output());
    let ended = tokio::time::timeout(PATIENCE, waiting).await.expect("in time");
    ended.expect("ran").expect("its output")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mosquitto-clients: cargo xtask test --only interop"]
async fn mosquitto_pub_stores_what_it_publishes() {
    let place = Place::new().await;
    let mut expected = Vec::new();
    for version in ["mqttv311", "mqttv5"] {
        for way in place.ways() {
            for quality in ["0", "1", "2"] {
                let value = f64::from(expected.len() as u32) + 0.5;
                expected.push(value);
                let text = format!("{{\"temperature\": {value}}}");
                let said = run(
                    "mosquitto_pub",
                    &way,
                    &["-V", version, "-q", quality, "-t", UP, "-m", &text],
                )
                .await;
                assert!(said.status.success(), "{version} {way:?}: {said:?}");
            }
        }
        let plain = &place.ways()[0];
        if version == "mqttv5" {
            // One of version 3.1.1 whose message is not acknowledged tries again for ever.
            let foreign = ["-V", version, "-q", "1", "-t", "stonechat/v1/fan/up", "-m", "{}"];
            let said = run("mosquitto_pub", plain, &foreign).await;
            let told = String::from_utf8_lossy(&said.stderr).into_owned();
            assert!(!said.status.success() || told.contains("Not authorized"), "{said:?}");
        }
        let mut nobody = plain.clone();
        nobody.truncate(4);
        let said = run("mosquitto_pub", &nobody, &["-V", version, "-t", UP, "-m", "{}"]).await;
        assert!(!said.status.success(), "{version}: {said:?}");
    }
    let mut stored = place.site.values("pump", "temperature").await;
    stored.sort_by(f64::total_cmp);
    assert_eq!(stored, expected);
    place.site.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mosquitto-clients: cargo xtask test --only interop"]
async fn mosquitto_sub_hears_what_is_sent_to_the_device() {
    let place = Place::new().await;
    let downlink = place.site.server.downlink();
    for version in ["mqttv311", "mqttv5"] {
        for way in place.ways() {
            let listening = Command::new("mosquitto_sub")
                .args(&way)
                .args(["-V", version, "-q", "1", "-C", "1", "-W", "20", "-v"])
                .args(["-t", "stonechat/v1/pump/down/#"])
                .stdout(Stdio::piped())
                .spawn()
                .expect("installed");
            let sending = async {
                loop {
                    let topic = "stonechat/v1/pump/down/set";
                    match downlink.send(&id("pump"), topic, "on").await {
                        Ok(delivery) => return delivery,
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            };
            let delivery = tokio::time::timeout(PATIENCE, sending).await.expect("in time");
            assert_eq!(delivery, Delivery::Acknowledged);
            let heard = ended(listening).await;
            assert_eq!(String::from_utf8_lossy(&heard.stdout), "stonechat/v1/pump/down/set on\n");
        }
        let foreign = ["-V", version, "-t", "stonechat/v1/#", "-t", "$SYS/#", "-E"];
        let told = run("mosquitto_sub", &place.ways()[0], &foreign).await;
        let text = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(!told.status.success() || text.contains("denied"), "{version}: {told:?}");
    }
    place.site.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with paho-mqtt: cargo xtask test --only interop"]
async fn paho_publishes_with_each_quality_and_hears_a_command() {
    let python = std::env::var("STONECHAT_PYTHON").expect("STONECHAT_PYTHON names a Python");
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/interop/paho_client.py");
    let place = Place::new().await;
    let downlink = place.site.server.downlink();
    let plain = place.site.server.mqtt_addr.port().to_string();
    let tls = place.tls_port().to_string();
    let (ca, cert, key) = (place.file("ca.pem"), place.file("pump.pem"), place.file("pump.key"));
    let token = place.file("token");
    let ways: [Vec<&str>; 3] = [
        vec!["--port", &plain, "--token-file", &token],
        vec!["--port", &tls, "--ca", &ca, "--token-file", &token],
        vec!["--port", &tls, "--ca", &ca, "--cert", &cert, "--key", &key],
    ];
    let mut stored = 0;
    for (version, refused) in [("4", 0x80), ("5", 0x87)] {
        for way in &ways {
            let running = Command::new(&python)
                .arg(&script)
                .args(["--device", "pump", "--version", version])
                .args(way)
                .stdout(Stdio::piped())
                .spawn()
                .expect("it is there");
            let topic = "stonechat/v1/pump/down/set";
            let sending = async {
                // After its messages: it ends once it heard this.
                while place.site.values("pump", "temperature").await.len() < stored + 3
                    || downlink.send(&id("pump"), topic, "on").await.is_err()
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(PATIENCE, sending).await.expect("in time");
            let output = ended(running).await;
            let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            let expected = json!({
                "connected": [false, 0],
                "granted": [1, refused],
                "acknowledged": [true, true, true],
                "heard": [topic, "on", 1],
            });
            assert_eq!(said, expected, "{version} {way:?}");
            stored += 3;
        }
    }
    place.site.server.shutdown().await;
}
