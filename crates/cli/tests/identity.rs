//! Devices with bundles, against a whole server: TLS both ways, enrolment, rotation, revocation.

mod support;

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Folder, Running, free_port, run, run_json, stonechat};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server with TLS listeners on ports of its own.
struct Site {
    folder: Folder,
    mqtts: u16,
    https: u16,
    server: Option<Running>,
}

impl Site {
    fn new(name: &str) -> Self {
        let site = Self {
            folder: Folder::new(name),
            mqtts: free_port(),
            https: free_port(),
            server: None,
        };
        let (mqtts, https, mqtt) = (site.mqtts, site.https, free_port());
        let settings = format!(
            "data = \"data\"\nhttp = \"127.0.0.1:0\"\nmqtt = \"127.0.0.1:{mqtt}\"\n\
             mqtts = \"127.0.0.1:{mqtts}\"\nhttps = \"127.0.0.1:{https}\"\n"
        );
        std::fs::write(site.path("stonechat.toml"), settings).expect("writable");
        site
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the server, and waits until it listens.
    fn start(&mut self) {
        self.server = Some(Running::start(&mut stonechat(&self.folder, &["--quiet", "serve"])));
        let begun = Instant::now();
        for port in [self.mqtts, self.https] {
            while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
                assert!(begun.elapsed() < PATIENCE, "the server does not start");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// Makes a detector and a recording for devices to run.
    fn train(&self) {
        let synth = ["data", "synth", "temperature", "--rows", "2000", "-o", "normal.csv"];
        run_json(&self.folder, &synth);
        let train = ["train", "normal.csv", "--detector", "z-score", "-o", "room.detector"];
        run_json(&self.folder, &train);
    }

    /// Runs a device to the end of the recording.
    fn replay(&self, bundle: &str, more: &[&str]) -> Output {
        let args = ["--json", "device", "run", "normal.csv", "--detector", "room.detector"];
        let to = ["--speed", "max", "--bundle", bundle];
        run(&self.folder, &[&args[..], &to[..], more].concat())
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Demands an error of the environment, and returns what was said.
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{}", said(output));
    said(output)
}

#[cfg(unix)]
#[test]
fn a_bundle_is_secret_and_never_overwritten() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new("identity-bundle");
    let add = ["device", "add", "pump-7", "-o", "pump-7.toml", "--flash", "pump-7.bin"];
    run_json(&site.folder, &[&add[..], &["--group", "hall", "--tag", "old"]].concat());
    for name in ["pump-7.toml", "pump-7.bin", "data/keys/ca.key", "data/keys/link.key"] {
        let mode = std::fs::metadata(site.path(name)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let text = std::fs::read_to_string(site.path("pump-7.toml")).expect("there");
    let bundle: toml::Table = text.parse().expect("TOML");
    assert_eq!(bundle["device"].as_str(), Some("pump-7"));
    let mqtts = format!("localhost:{}", site.mqtts);
    assert_eq!(bundle["server"]["mqtts"].as_str(), Some(mqtts.as_str()));

    // The image says the same.
    let image = std::fs::read(site.path("pump-7.bin")).expect("there");
    assert_eq!(image.len(), 4_096);
    let flashed = stonechat_core::provision::Provision::parse(&image).expect("whole");
    assert_eq!((flashed.device, flashed.mqtts), ("pump-7", Some(mqtts.as_str())));
    assert_eq!(flashed.token, bundle["credentials"]["token"].as_str());

    // What the store keeps is worth nothing to who reads it.
    let secret = flashed.token.expect("a token").as_bytes();
    let mut files = 0;
    for file in std::fs::read_dir(site.path("data")).expect("there") {
        let path = file.expect("readable").path();
        if path.is_file() {
            let bytes = std::fs::read(&path).expect("readable");
            assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{path:?}");
            files += 1;
        }
    }
    assert!(files > 0, "there is a database");
    let again = ["device", "rotate", "pump-7", "-o", "pump-7.toml"];
    assert!(refused(&run(&site.folder, &again)).contains("is there already"));
    let twice = ["device", "add", "pump-7", "-o", "other.toml"];
    assert!(refused(&run(&site.folder, &twice)).contains("registered already"));
    assert!(!site.path("other.toml").exists());
    assert_eq!(std::fs::read_to_string(site.path("pump-7.toml")).expect("there"), text);
}

#[test]
fn devices_are_shown_changed_and_deleted() {
    let site = Site::new("identity-change");
    let list = |more: &[&str]| {
        let listed = run_json(&site.folder, &[&["device", "list"], more].concat());
        let id = |line: &Value| line["device"].as_str().expect("a name").to_owned();
        listed.iter().map(id).collect::<Vec<_>>().join(" ")
    };
    std::fs::write(site.path("devices.csv"), "id,group,tags\na,hall,old\nb,hall\nc,,old,x\n")
        .expect("writable");
    run_json(&site.folder, &["device", "import", "devices.csv", "-o", "bundles", "--flash"]);
    for name in ["a.toml", "b.bin", "c.toml"] {
        assert!(site.path("bundles").join(name).exists(), "{name}");
    }
    assert_eq!(list(&[]), "a b c");
    assert_eq!(list(&["--group", "hall"]), "a b");
    assert_eq!(list(&["--tag", "old"]), "a c");
    run_json(
        &site.folder,
        &["device", "change", "b", "--add-tag", "old", "--remove-group", "hall"],
    );
    assert_eq!(list(&["--tag", "old"]), "a b c");
    assert_eq!(list(&["--group", "hall"]), "a");

    let show = |id: &str| run_json(&site.folder, &["device", "show", id]).remove(0);
    let count = |id: &str| show(id)["credentials"].as_array().expect("a list").len();
    assert_eq!(count("a"), 3);
    let overlap = ["device", "rotate", "a", "--overlap", "24h", "-o", "a2.toml"];
    run_json(&site.folder, &overlap);
    assert_eq!(count("a"), 6);
    let name = show("a")["credentials"][0]["name"].as_str().expect("a name").to_owned();
    run_json(&site.folder, &["device", "revoke", "a", "--credential", &name[..12]]);
    assert_eq!(count("a"), 5);
    run_json(&site.folder, &["device", "revoke", "a"]);
    assert_eq!((count("a"), &show("a")["disabled"]), (0, &true.into()));

    let asked = run(&site.folder, &["device", "delete", "b"]);
    assert!(refused(&asked).contains("--yes"));
    run_json(&site.folder, &["device", "delete", "b", "--yes"]);
    assert_eq!(list(&[]), "a c");
    assert!(refused(&run(&site.folder, &["device", "show", "b"])).contains("no device `b`"));
    // All of a file is registered, or nothing.
    std::fs::write(site.path("more.csv"), "d\ne\nc\n").expect("writable");
    refused(&run(&site.folder, &["device", "import", "more.csv", "-o", "more"]));
    assert_eq!(list(&[]), "a c");
    assert!(!site.path("more/d.toml").exists());
}

#[test]
fn a_device_speaks_tls_to_its_own_server_only() {
    let (mut site, mut other) = (Site::new("identity-run"), Site::new("identity-other"));
    site.train();
    let add = |name: &str, kind: &str| {
        let file = format!("{name}.toml");
        run_json(&site.folder, &["device", "add", name, "-o", &file, "--with", kind]);
    };
    add("by-certificate", "certificate");
    add("by-token", "token");
    site.start();
    other.start();
    for bundle in ["by-certificate.toml", "by-token.toml"] {
        let ran = site.replay(bundle, &[]);
        assert!(ran.status.success(), "{bundle}: {}", said(&ran));
    }
    // Another server at the address, with keys of its own: a final error, and nothing was sent.
    let elsewhere = format!("localhost:{}", other.mqtts);
    let wrong = refused(&site.replay("by-token.toml", &["--server", &elsewhere]));
    assert!(wrong.contains("is not the one that the device `by-token` trusts"), "{wrong}");
    assert!(wrong.contains("UnknownIssuer"), "{wrong}");
    // The right server under a name that its certificate does not have.
    let misnamed = format!("127.0.0.2:{}", site.mqtts);
    assert_eq!(site.replay("by-token.toml", &["--server", &misnamed]).status.code(), Some(2));

    for id in ["by-certificate", "by-token"] {
        run_json(&site.folder, &["device", "revoke", id]);
    }
    std::thread::sleep(Duration::from_secs(1));
    for bundle in ["by-certificate.toml", "by-token.toml"] {
        let said = refused(&site.replay(bundle, &[]));
        assert!(said.contains("refuses the device"), "{bundle}: {said}");
    }
}

#[test]
fn a_running_device_is_cut_off_when_it_is_revoked() {
    let mut site = Site::new("identity-cut");
    site.train();
    run_json(&site.folder, &["device", "add", "pump", "-o", "pump.toml"]);
    site.start();
    let args = ["device", "run", "--synth", "1", "--detector", "room.detector"];
    let more = ["--bundle", "pump.toml", "--speed", "100"];
    let device = Running::start(&mut stonechat(&site.folder, &[&args[..], &more[..]].concat()));
    // Connected by now, or only on its way: it is refused either way.
    std::thread::sleep(Duration::from_secs(2));
    run_json(&site.folder, &["device", "revoke", "pump"]);
    // It is cut, tries again, and is refused for good.
    let ended = device.wait();
    assert!(refused(&ended).contains("refuses the device `pump`"), "{}", said(&ended));
}

#[test]
fn a_device_enrols_with_keys_that_never_leave_it() {
    let mut site = Site::new("identity-enrol");
    site.train();
    site.start();
    let ticket = run_json(&site.folder, &["device", "enrol", "pump"]).remove(0);
    let ticket = ticket["ticket"].as_str().expect("a ticket").to_owned();
    std::fs::write(site.path("ticket"), &ticket).expect("writable");
    let url = format!("https://localhost:{}", site.https);
    let enrol = |file: &str, url: &str| {
        let args =
            ["device", "enrol", "pump", "--token-file", "ticket", "--server", url, "-o", file];
        run(&site.folder, &args)
    };
    let done = enrol("pump.toml", &url);
    assert!(done.status.success(), "{}", said(&done));
    let twice = refused(&enrol("again.toml", &url));
    assert!(twice.contains("wrong, used, or too old"), "{twice}");
    assert!(!site.path("again.toml").exists(), "no file without secrets");
    let ran = site.replay("pump.toml", &[]);
    assert!(ran.status.success(), "{}", said(&ran));
    // A request made elsewhere is certified, too.
    let key = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"];
    let to = ["-subj", "/CN=pump", "-keyout", "pump.key", "-out", "pump.csr"];
    let openssl = std::process::Command::new("openssl")
        .current_dir(site.folder.path())
        .args([&key[..], &to[..]].concat())
        .output()
        .expect("openssl is installed");
    assert!(openssl.status.success(), "{}", said(&openssl));
    let certified = run_json(&site.folder, &["device", "certify", "pump", "--csr", "pump.csr"]);
    assert!(certified[0]["certificate"].as_str().expect("PEM").contains("BEGIN CERTIFICATE"));
    let foreign = run(&site.folder, &["device", "certify", "fan", "--csr", "pump.csr"]);
    assert!(refused(&foreign).contains("names `pump`, not the device `fan`"));
}
