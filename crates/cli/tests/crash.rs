//! `kill -9` of the server, twenty times or STONECHAT_KILLS, while fifty devices replay a recording as
//! fast as it is acknowledged.
#![allow(clippy::print_stdout, reason = "figures for whoever runs it by hand")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Folder, Running, Server, free_port, run, run_json, stonechat};

const DEVICES: usize = 50;
/// Unless STONECHAT_KILLS says otherwise.
const KILLS: u64 = 20;
/// Rows of the recording: longer than the devices get to replay before the last kill.
const ROWS: &str = "400000";

#[test]
#[ignore = "takes more than a minute: cargo xtask test --only crash"]
fn what_was_acknowledged_is_stored_exactly_once() {
    let folder = Folder::new("crash");
    run_json(&folder, &["data", "synth", "temperature", "--rows", "2000", "-o", "normal.csv"]);
    run_json(&folder, &["data", "synth", "temperature", "--rows", ROWS, "-o", "long.csv"]);
    let kills =
        std::env::var("STONECHAT_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"));
    run_json(&folder, &["train", "normal.csv", "--epochs", "5", "-o", "room.detector"]);
    let ids: Vec<String> = (0..DEVICES).map(|index| format!("load-{index}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let added = run(&folder, &[&["device", "add", "--data", "data"], &ids[..]].concat());
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    std::fs::write(folder.path().join("credentials"), added.stdout).expect("writable");

    let port = free_port();
    let mut server = Server::start(&folder, port);
    let address = format!("127.0.0.1:{port}");
    let args = [
        "--json",
        "device",
        "run",
        "long.csv",
        "--detector",
        "room.detector",
        "--credentials",
        "credentials",
    ];
    let more = [
        "--server",
        &address,
        "--speed",
        "max",
        "--flush-ms",
        "0",
        "--acknowledged",
        "acknowledged",
    ];
    let fleet = Running::start(&mut stonechat(&folder, &[&args[..], &more[..]].concat()));
    let started = Instant::now();
    let mut sent_again = 0;
    for kill in 0..kills {
        // Not in step with anything: between 0.7 and 2.3 s.
        sleep(Duration::from_millis(700 + kill * 977 % 1_600));
        sent_again += server.api("/status")["duplicates"].as_u64().unwrap_or(0);
        server.kill();
        server = Server::start(&folder, port);
    }
    let seconds = started.elapsed().as_secs_f64();
    fleet.terminate();
    let fleet = fleet.wait();
    assert!(fleet.status.success(), "{}", String::from_utf8_lossy(&fleet.stderr));

    let mut windows = BTreeMap::new();
    for line in String::from_utf8(fleet.stdout).expect("UTF-8").lines() {
        let ran: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(ran["reports_dropped"], 0, "{ran}");
        windows.insert(ran["device"].as_str().expect("a name").to_owned(), ran["windows"].as_u64());
    }
    assert_eq!(windows.len(), DEVICES);
    let acknowledged =
        std::fs::read_to_string(folder.path().join("acknowledged")).expect("the log");
    let acknowledged: BTreeSet<&str> = acknowledged.lines().collect();
    let status = server.api("/status");
    assert_eq!(status["messages_stored"].as_u64(), Some(acknowledged.len() as u64), "{status}");
    for (device, windows) in &windows {
        let stored = server.api(&format!("/devices/{device}"));
        let channels = stored["channels"].as_array().expect("channels");
        let score = channels.iter().find(|channel| channel["name"] == "score").expect("a score");
        assert_eq!(score["readings"].as_u64(), *windows, "{device}");
    }
    println!(
        "{kills} kills, {} messages acknowledged and stored ({:.0} a second), {sent_again} sent again although stored",
        acknowledged.len(),
        acknowledged.len() as f64 / seconds,
    );
}
