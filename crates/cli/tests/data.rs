//! Real recordings, from the folder that STONECHAT_RECORDINGS names, through the whole program.
#![allow(clippy::print_stdout, reason = "figures for whoever runs it by hand")]

mod support;

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Folder, Server, free_port, run, run_json, stonechat};

/// The share of clips to train on, and the part that is evaluated as normal.
const FAN_TRAINING: &str = "@0%..60%";
const FAN_NORMAL: &str = "@80%..100%";
const FAN_ANOMALOUS: [&str; 6] = ["low_1", "med_0", "med_1", "high_0", "high_1", "off_0"];

fn data(path: &str) -> String {
    let folder = std::env::var("STONECHAT_RECORDINGS")
        .expect("STONECHAT_RECORDINGS names the folder of recordings");
    format!("{folder}/{path}")
}

fn fan(state: &str) -> String {
    data(&format!("fan-accel-esp32/fan_0_{state}_weight.csv"))
}

/// Trains on the fan at low speed, as the README does.
fn train_fan(folder: &Folder) {
    let normal = fan("low_0") + FAN_TRAINING;
    let features = "standard_deviation,peak_to_peak";
    let args = [
        "train",
        &normal,
        "--rate",
        "200",
        "--window",
        "200",
        "--features",
        features,
        "--encoder",
        "8,3",
    ];
    let trained = run_json(folder, &[&args[..], &["-o", "fan.detector"]].concat());
    assert_eq!(trained[0]["fit_windows"], 281);
}

fn detector_row(report: &Value) -> &Value {
    &report["rows"][0]
}

#[test]
#[ignore = "needs real recordings: cargo xtask test --only data"]
fn the_fan_is_told_from_every_other_state_at_int8() {
    let folder = Folder::new("data-fan");
    train_fan(&folder);
    let inspected = run_json(&folder, &["inspect", "fan.detector"]);
    assert_eq!(inspected[0]["engine"], "dense autoencoder, int8");
    let (normal, training) = (fan("low_0") + FAN_NORMAL, fan("low_0") + FAN_TRAINING);
    let anomalous = FAN_ANOMALOUS.map(fan);
    let mut args =
        vec!["evaluate", "fan.detector", &normal, "--rate", "200", "--trained-on", &training];
    for path in &anomalous {
        args.extend(["--anomalous", path]);
    }
    let report = &run_json(&folder, &args)[0];
    println!("{}", serde_json::to_string(detector_row(report)).expect("JSON"));
    assert_eq!(report["windows"], 1_017);
    let number = |key: &str| detector_row(report)[key].as_f64().expect(key);
    assert!(number("roc_auc") >= 0.99, "{report}");
    assert!(number("false_alarm_rate") <= 0.01, "{report}");
    assert!(number("missed_alarm_rate") <= 0.05, "{report}");
}

#[test]
#[ignore = "needs real recordings: cargo xtask test --only data"]
fn a_coin_on_the_fan_opens_an_alarm_in_the_server() {
    let folder = Folder::new("data-replay");
    train_fan(&folder);
    let added = run(&folder, &["device", "add", "--data", "data", "fan-1"]);
    std::fs::write(folder.path().join("credentials"), added.stdout).expect("writable");
    let port = free_port();
    let server = Server::start(&folder, port);
    let address = format!("127.0.0.1:{port}");
    let replay = |recording: &str| {
        let args =
            ["--json", "device", "run", recording, "--rate", "200", "--detector", "fan.detector"];
        let more = ["--credentials", "credentials", "--server", &address, "--speed", "max"];
        let run =
            stonechat(&folder, &[&args[..], &more[..]].concat()).stderr(Stdio::inherit()).output();
        let run = run.expect("the program starts");
        assert!(run.status.success());
        serde_json::from_slice::<Value>(&run.stdout).expect("JSON")
    };
    let normal = replay(&(fan("low_0") + FAN_NORMAL));
    assert_eq!(normal["anomalies_raised"], 0, "{normal}");
    assert_eq!(server.api("/alarms")["alarms"].as_array().map(Vec::len), Some(0));
    let coin = replay(&fan("low_1"));
    assert_eq!(coin["all_acknowledged"], true);
    let begun = Instant::now();
    loop {
        let alarms = server.api("/alarms?state=open");
        let alarms = alarms["alarms"].as_array().expect("a list");
        if let [alarm] = &alarms[..] {
            assert_eq!((&alarm["device"], &alarm["kind"]), (&"fan-1".into(), &"anomaly".into()));
            assert!(alarm["peak_score"].as_f64() > alarm["threshold"].as_f64(), "{alarm}");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "no alarm: {alarms:?}");
        sleep(Duration::from_millis(50));
    }
}

/// The machine's failures in the order of time, once by the evaluation and once as a device that
/// reports to a server: both raise the same anomalies. The figures are for `docs/measurements.md`.
#[test]
#[ignore = "needs real recordings: cargo xtask test --only data"]
fn the_machine_is_watched_in_the_order_of_time() {
    let folder = Folder::new("data-machine");
    let recording = data("nab/data/realKnownCause/machine_temperature_system_failure.csv");
    let labels = data("nab/labels/combined_windows.json");
    let (training, rest) = (format!("{recording}@0%..15%"), format!("{recording}@15%..100%"));
    let reading = ["--intervals", &labels, "--allow-clock-steps"];
    // A day, in means of half an hour.
    let recipe =
        ["--window", "288", "--stride", "1", "--features", "samples:6", "--encoder", "8,3"];
    run_json(
        &folder,
        &[&["train", &training, "-o", "machine.detector"], &recipe[..], &reading[..]].concat(),
    );
    let evaluate = ["evaluate", "machine.detector", &rest, "--trained-on", &training];
    let report = &run_json(&folder, &[&evaluate[..], &reading[..]].concat())[0];
    for row in report["rows"].as_array().expect("rows") {
        println!("{row}");
    }
    assert_eq!(report["rows"].as_array().map(Vec::len), Some(5), "the detector and four controls");
    let events = &detector_row(report)["events"];
    assert!(events["intervals_detected"].as_u64() >= Some(2), "{events}");

    let added = run(&folder, &["device", "add", "--data", "data", "machine"]);
    std::fs::write(folder.path().join("credentials"), added.stdout).expect("writable");
    let port = free_port();
    let _server = Server::start(&folder, port);
    let address = format!("127.0.0.1:{port}");
    let device =
        ["device", "run", &rest, "--detector", "machine.detector", "--credentials", "credentials"];
    let more = ["--server", &address, "--speed", "max", "--allow-clock-steps"];
    let ran = &run_json(&folder, &[&device[..], &more[..]].concat())[0];
    assert_eq!(ran["windows"], report["windows"]);
    assert_eq!(ran["anomalies_raised"], events["alarms"]);
}
