//! A device that speaks sealed sessions, as a user runs it.

mod support;

use support::{Folder, Server, free_port, run, run_json, until_refused};

const RUN: [&str; 10] = [
    "device",
    "run",
    "normal.csv",
    "--detector",
    "room.detector",
    "--link",
    "sealed",
    "--speed",
    "max",
    "--bundle",
];

#[test]
fn a_device_reports_over_a_sealed_link_to_the_server_whose_key_it_pins_and_to_no_other() {
    let folder = Folder::new("sealed");
    let sealed = format!("sealed = \"127.0.0.1:{}\"\n", free_port());
    std::fs::write(folder.path().join("stonechat.toml"), sealed).expect("writable");
    run_json(&folder, &["data", "synth", "temperature", "--rows", "2000", "-o", "normal.csv"]);
    run_json(&folder, &["train", "normal.csv", "--epochs", "2", "-o", "room.detector"]);
    let add = ["device", "add", "pump", "--data", "data", "--host", "127.0.0.1", "-o", "pump.toml"];
    let added = run(&folder, &add);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let server = Server::start(&folder, free_port());

    let ran = run_json(&folder, &[&RUN[..], &["pump.toml"]].concat());
    assert_eq!(ran[0]["all_acknowledged"], true, "{ran:?}");
    let sent = ran[0]["messages"].as_u64().expect("a count");
    assert!(sent > 10, "{ran:?}");
    assert_eq!(server.api("/status")["messages_stored"].as_u64(), Some(sent));

    // Another key than the server's: nothing is sent, and the program says why and ends.
    let bundle = std::fs::read_to_string(folder.path().join("pump.toml")).expect("readable");
    let at = bundle.find("[server]").expect("a section");
    let (before, section) = bundle.split_at(at);
    let at = section.find("link_key = \"").expect("a key") + "link_key = \"".len();
    let other = format!("{before}{}09{}", &section[..at], &section[at + 2..]);
    assert_ne!(other, bundle);
    std::fs::write(folder.path().join("other.toml"), other).expect("writable");
    refused(&folder, "other.toml");

    // A key that was revoked.
    let revoked = run(&folder, &["device", "revoke", "pump", "--data", "data"]);
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    until_refused(|| run(&folder, &[&RUN[..], &["pump.toml"]].concat()));
    let stored = || server.api("/status")["messages_stored"].as_u64();
    let before = stored();
    refused(&folder, "pump.toml");
    assert_eq!(stored(), before);
}

fn refused(folder: &Folder, bundle: &str) {
    let output = run(folder, &[&RUN[..], &[bundle]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("gives the device `pump` no sealed session"), "{said}");
    assert!(said.contains("hint:"), "{said}");
}
