//! What each command does when all is well, seen from outside: its JSON, its files, its exit code.

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use support::{Folder, Server, free_port, run, run_json, stonechat, until_refused};

/// Rows of the recording with faults, and how many faults.
const FAULTY_ROWS: u64 = 2_500;
const FAULTS: usize = 3;

/// Runs the program with `--json` and demands that each line is an object with the schema's number.
fn json(folder: &Folder, args: &[&str]) -> Vec<Value> {
    let lines = run_json(folder, args);
    assert!(!lines.is_empty(), "{args:?} said nothing");
    assert!(lines.iter().all(|line| line["schema"] == 1), "{args:?}: {lines:?}");
    lines
}

/// Makes `normal.csv` and `faulty.csv` up.
fn synthesise(folder: &Folder) -> Value {
    let normal = ["data", "synth", "temperature", "--rows", "2000", "-o"];
    json(folder, &[&normal[..], &["normal.csv"]].concat());
    let faulty = ["data", "synth", "temperature", "--rows", "2500", "--seed"];
    let more = ["2", "--faults", "3", "-o", "faulty.csv"];
    json(folder, &[&faulty[..], &more].concat()).remove(0)
}

/// Trains `room.detector` and returns what the program says about it.
fn train(folder: &Folder, more: &[&str]) -> Value {
    // Of the kinds, only networks have epochs.
    let epochs: &[&str] = if more.contains(&"--detector") { &[] } else { &["--epochs", "4"] };
    let args = [&["train", "normal.csv"], epochs].concat();
    let trained = json(folder, &[&args[..], more].concat());
    assert_eq!(trained.len(), 1);
    trained.into_iter().next().expect("one")
}

fn read(folder: &Folder, name: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(folder.path().join(name)).expect("the file was written")
}

fn read_text(folder: &Folder, name: impl AsRef<Path>) -> String {
    String::from_utf8(read(folder, name)).expect("UTF-8")
}

#[test]
fn synth_writes_a_recording_and_its_faults() {
    let folder = Folder::new("commands-synth");
    let made = synthesise(&folder);
    assert_eq!(made["rows"], FAULTY_ROWS);
    let faults = made["faults"].as_array().expect("a list");
    assert_eq!(faults.len(), FAULTS);
    let sidecar: Value =
        serde_json::from_slice(&read(&folder, "faulty.csv.faults.json")).expect("JSON");
    assert_eq!(sidecar["faults"], made["faults"]);
    assert_eq!((&sidecar["kind"], &sidecar["seed"]), (&"temperature".into(), &2.into()));
    let normal: Value =
        serde_json::from_slice(&read(&folder, "normal.csv.faults.json")).expect("JSON");
    assert_eq!(normal["faults"].as_array().map(Vec::len), Some(0));
    // The labels in the recording are the faults' rows.
    let anomalous: u64 = faults.iter().filter_map(|fault| fault["rows"].as_u64()).sum();
    let labelled =
        read_text(&folder, "faulty.csv").lines().filter(|line| line.ends_with(",1")).count();
    assert_eq!(labelled as u64, anomalous);
    let same = synthesise(&Folder::new("commands-synth-again"));
    assert_eq!(same, made, "one seed, one recording");
}

#[test]
fn import_says_what_was_found_and_writes_it() {
    let folder = Folder::new("commands-import");
    let rows: String = (0..50).map(|row| format!("{row};{},5;x\n", 20 + row % 3)).collect();
    let log = folder.path().join("log.csv");
    std::fs::write(log, format!("number;Temp;note\n{rows}")).expect("writable");
    let import = |file: &str, more: &[&str]| {
        json(&folder, &[&["data", "import", file], more].concat()).remove(0)
    };
    let choice = ["--channels", "Temp=temperature:Cel", "--rate", "0.5", "-o"];
    let written = import("log.csv", &[&choice[..], &["room.parquet"]].concat());
    assert_eq!(written["file"], "room.parquet");
    assert_eq!(written["rows"], 50);
    assert_eq!(written["rate_hz"], 0.5);
    assert_eq!(written["channels"][0]["name"], "temperature");
    assert_eq!(written["channels"][0]["unit"], "Cel");
    assert_eq!(written["channels"][0]["minimum"], 20.5);
    assert_eq!(written["channels"][0]["maximum"], 22.5);
    // What was written reads back the same, in either format, again and again.
    for (from, to) in
        [("room.parquet", "room.csv"), ("room.csv", "again.csv"), ("again.csv", "again.parquet")]
    {
        let read = import(from, &["-o", to]);
        for key in ["rows", "rate_hz", "seconds", "segments"] {
            assert_eq!(read[key], written[key], "{from}: {key}");
        }
        assert_eq!(read["channels"][0]["unit"], "Cel", "{from}");
        assert_eq!(read["channels"][0]["mean"], written["channels"][0]["mean"]);
    }
    assert_eq!(read(&folder, "room.csv"), read(&folder, "again.csv"));
}

#[test]
fn train_writes_the_same_bytes_for_the_same_seed() {
    let folder = Folder::new("commands-train");
    synthesise(&folder);
    let first = train(&folder, &["-o", "./room.detector"]);
    assert_eq!(first["detector"], "room");
    assert_eq!(first["history"].as_array().map(Vec::len), Some(4));
    assert_eq!(first["ending"], "epochs");
    assert!(first["threshold"]["value"].as_f64() > first["calibration_score_max"].as_f64());
    let bytes = read(&folder, "room.detector");
    assert_eq!(first["file_len"], bytes.len());
    let again = train(&folder, &["-o", "again.detector", "--name", "room"]);
    assert_eq!(again["history"], first["history"]);
    assert_eq!(read(&folder, "again.detector"), bytes);
    train(&folder, &["-o", "other.detector", "--name", "room", "--seed", "2"]);
    assert_ne!(read(&folder, "other.detector"), bytes);
    // Without a name, the detector is called like the recording.
    assert_eq!(train(&folder, &[])["file"], "normal.detector");
}

#[test]
fn inspect_shows_what_train_chose() {
    let folder = Folder::new("commands-inspect");
    synthesise(&folder);
    let choices = ["--window", "16", "--stride", "4", "--features", "mean,samples:4"];
    let decision = ["--raise", "3/5", "--clear-count", "7", "--clear-share", "0.5"];
    let model = ["--encoder", "3", "--precision", "float32", "--score", "maximum"];
    let args = [&choices[..], &decision, &model, &["-o", "room.detector"]].concat();
    let trained = train(&folder, &args);
    let shown = json(&folder, &["inspect", "room.detector"]).remove(0);
    assert_eq!(shown["name"], "room");
    assert_eq!(shown["engine"], "dense autoencoder, float32");
    assert_eq!(shown["window_len"], 16);
    assert_eq!(shown["stride"], 4);
    assert_eq!(shown["rate_hz"], 10.0);
    assert_eq!(shown["channels"][0]["name"], "temperature");
    assert_eq!(shown["channels"][0]["unit"], "Cel");
    assert_eq!(shown["features"][0], "temperature/mean");
    assert_eq!(shown["features"][1], "temperature/samples:4");
    assert_eq!(shown["vector_len"], 1 + 16 / 4);
    assert_eq!(shown["raise"], "3/5");
    assert_eq!(shown["clear_count"], 7);
    let threshold = shown["threshold"].as_f64().expect("a number");
    assert_eq!(shown["clear_level"].as_f64(), Some(threshold / 2.0));
    let chosen = trained["threshold"]["value"].as_f64().expect("a number");
    assert_eq!(threshold as f32, chosen as f32);
    for key in ["file_len", "memory_len"] {
        assert_eq!(shown[key], trained[key], "{key}");
    }
    assert_eq!(shown["provenance"]["recording"], "normal.csv");
    assert_eq!(shown["provenance"]["rows"], 2_000);
    assert_eq!(shown["provenance"]["recipe"]["detector"]["encoder"][0], 3);
}

#[test]
fn evaluate_puts_the_controls_beside_the_detector() {
    let folder = Folder::new("commands-evaluate");
    synthesise(&folder);
    let z_score = ["--detector", "z-score", "-o", "room.detector"];
    train(&folder, &[&z_score[..], &["--margin", "1"]].concat());
    let args = ["evaluate", "room.detector", "faulty.csv", "--trained-on", "normal.csv"];
    let report = json(&folder, &[&args[..], &["--plots", "plots"]].concat()).remove(0);
    assert_eq!(report["detector"], "room");
    assert_eq!(report["windows"], FAULTY_ROWS - 31);
    let rows = report["rows"].as_array().expect("a list");
    let names: Vec<&str> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(names, ["room", "never", "always", "random", "frozen z-score"]);
    for row in rows {
        for key in [
            "precision",
            "recall",
            "f1",
            "false_alarm_rate",
            "missed_alarm_rate",
            "roc_auc",
            "average_precision",
            "vus_pr",
            "events",
            "median_delay_s",
        ] {
            assert!(row.get(key).is_some(), "{} lacks {key}", row["name"]);
        }
    }
    assert!(rows[0]["events"]["intervals_detected"].as_u64() > Some(0));
    assert!(folder.path().join("plots/score.svg").exists());

    let verdict = |recording: &str| {
        let args = ["evaluate", "room.detector", recording, "--trained-on", "normal.csv"];
        run(&folder, &[&args[..], &["--fail-on-anomaly"]].concat())
    };
    assert_eq!(verdict("faulty.csv").status.code(), Some(1), "anomalies are an honest no");
    let normal = verdict("normal.csv");
    assert_eq!(normal.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&normal.stdout).contains("frozen z-score"));
}

#[test]
fn plot_writes_pictures() {
    let folder = Folder::new("commands-plot");
    synthesise(&folder);
    let samples = ["--detector", "z-score", "--features", "samples"];
    train(&folder, &[&samples[..], &["-o", "room.detector"]].concat());
    for (format, ending) in [("svg", ".svg"), ("png", ".png")] {
        let args = ["plot", "room.detector", "faulty.csv", "--format", format];
        let written = json(&folder, &[&args[..], &["-o", "pictures"]].concat());
        let files: BTreeSet<&str> =
            written.iter().filter_map(|line| line["file"].as_str()).collect();
        let expected = ["confusion", "histogram", "roc", "score", "signal-temperature"];
        let expected: BTreeSet<String> =
            expected.iter().map(|name| format!("pictures/{name}{ending}")).collect();
        assert_eq!(files, expected.iter().map(String::as_str).collect());
        for file in files {
            match format {
                "svg" => check_svg(&read_text(&folder, file)),
                _ => check_png(&read(&folder, file)),
            }
        }
    }
}

/// Demands one root element, each tag closed, and something drawn.
fn check_svg(text: &str) {
    assert!(text.starts_with("<svg "), "{}", &text[..text.len().min(80)]);
    assert!(text.contains("xmlns=\"http://www.w3.org/2000/svg\""));
    let mut open = Vec::new();
    for tag in text.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("a tag ends");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') && !tag.starts_with('!') {
            open.push(tag.split_whitespace().next().expect("a name"));
        }
    }
    assert_eq!(open, Vec::<&str>::new(), "every element is closed");
    assert!(text.matches("<text").count() > 3, "axes have labels");
}

/// Demands the signature, a size, and the last chunk.
fn check_png(bytes: &[u8]) {
    assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"));
    assert_eq!(&bytes[12..16], b"IHDR");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
    assert!(number(16) >= 400 && number(20) >= 200, "{} x {}", number(16), number(20));
    assert_eq!(&bytes[bytes.len() - 8..bytes.len() - 4], b"IEND");
}

#[test]
fn export_writes_each_format_beside_the_detector() {
    let folder = Folder::new("commands-export");
    synthesise(&folder);
    for precision in ["int8", "float32"] {
        train(&folder, &["--precision", precision, "-o", "room.detector"]);
        let export = |format: &str, file: &str| {
            let args = ["export", "room.detector", "--format", format];
            let written = json(&folder, &args).remove(0);
            assert_eq!(written["file"], file);
            let bytes = read(&folder, file);
            assert_eq!(written["bytes"], bytes.len());
            bytes
        };
        let tflite = export("tflite", "room.tflite");
        assert_eq!(&tflite[4..8], b"TFL3", "{precision}");
        assert_eq!(c_array(&export("c-header", "room_model.h")), tflite);
        let detector = export("detector-header", "room_detector.h");
        assert_eq!(c_array(&detector), read(&folder, "room.detector"));
    }
}

/// Reads the bytes of the array in a C header.
fn c_array(header: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(header).expect("UTF-8");
    let (_, rest) = text.split_once("= {").expect("an array");
    let (inside, _) = rest.split_once('}').expect("its end");
    let numbers = inside.split(',').map(str::trim).filter(|number| !number.is_empty());
    numbers
        .map(|number| {
            u8::from_str_radix(number.trim_start_matches("0x"), 16).expect("a hexadecimal byte")
        })
        .collect()
}

#[test]
fn a_device_raises_an_alarm_at_the_server() {
    let folder = Folder::new("commands-device");
    synthesise(&folder);
    let z_score = ["--detector", "z-score", "-o", "room.detector"];
    train(&folder, &[&z_score[..], &["--margin", "1"]].concat());
    let added = run(&folder, &["device", "add", "--data", "data", "pump-7", "fan-1"]);
    assert!(added.status.success());
    std::fs::write(folder.path().join("credentials"), added.stdout).expect("writable");
    let listed = json(&folder, &["device", "list", "--data", "data"]);
    let listed: Vec<&str> = listed.iter().filter_map(|line| line["device"].as_str()).collect();
    assert_eq!(listed, ["fan-1", "pump-7"]);

    let port = free_port();
    let server = Server::start(&folder, port);
    let address = format!("127.0.0.1:{port}");
    let replay = |recording: &str, more: &[&str]| {
        let args = ["--json", "device", "run", recording, "--detector", "room.detector"];
        let to = ["--credentials", "credentials", "--server", &address, "--speed", "max"];
        run(&folder, &[&args[..], &to, more].concat())
    };
    let log = ["--acknowledged", "acknowledged", "--fail-on-anomaly"];
    let output = replay("faulty.csv", &log);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let ran: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(ran.len(), 2, "each line of the credentials is a device");
    let mut messages = 0;
    for device in &ran {
        assert_eq!(device["schema"], 1);
        assert_eq!(device["samples"], FAULTY_ROWS);
        assert_eq!(device["windows"], FAULTY_ROWS - 31);
        assert_eq!(device["reports_dropped"], 0);
        assert_eq!(device["all_acknowledged"], true);
        assert!(device["anomalies_raised"].as_u64() > Some(0));
        messages += device["messages"].as_u64().expect("a number");
    }
    assert_eq!(read_text(&folder, "acknowledged").lines().count() as u64, messages);
    let status = server.api("/status");
    assert_eq!(status["messages_stored"], messages);
    let alarms = server.api("/alarms");
    let devices: BTreeSet<&str> = alarms["alarms"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|alarm| alarm["device"].as_str())
        .collect();
    assert_eq!(devices, BTreeSet::from(["fan-1", "pump-7"]));

    let calm = replay("normal.csv@0%..20%", &["--fail-on-anomaly"]);
    assert_eq!(calm.status.code(), Some(0), "{}", String::from_utf8_lossy(&calm.stdout));
    // A token is worth nothing once there is a new one.
    let rotated = ["device", "add", "--data", "data", "--new-token", "pump-7"];
    assert!(run(&folder, &rotated).status.success());
    until_refused(|| replay("normal.csv@0%..20%", &[]));
}

#[test]
fn settings_come_from_the_strongest_layer() {
    let folder = Folder::new("commands-config");
    let origins = |configure: &dyn Fn(&mut std::process::Command), args: &[&str]| {
        let mut command = stonechat(&folder, &[&["--json", "config", "show"], args].concat());
        configure(&mut command);
        let output = command.output().expect("the program starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let http = |shown: &Value| {
        let settings = shown["settings"].as_array().expect("a list");
        let setting = settings.iter().find(|setting| setting["key"] == "http");
        let setting = setting.expect("a setting");
        let text = |key: &str| setting[key].as_str().expect("text").to_owned();
        (text("value"), text("from"))
    };
    let plain = |_: &mut std::process::Command| {};
    let layer = |port: &str, from: &str| (format!("127.0.0.1:{port}"), from.to_owned());

    assert_eq!(http(&origins(&plain, &[])), layer("8080", "default"));
    std::fs::create_dir(folder.path().join("stonechat")).expect("writable");
    let user = folder.path().join("stonechat/config.toml");
    std::fs::write(&user, "http = \"127.0.0.1:7001\"\n").expect("writable");
    let from = user.display().to_string();
    assert_eq!(http(&origins(&plain, &[])), layer("7001", &from));
    let project = folder.path().join("stonechat.toml");
    std::fs::write(&project, "http = \"127.0.0.1:7002\"\n").expect("writable");
    assert_eq!(http(&origins(&plain, &[])), layer("7002", "stonechat.toml"));
    let named = folder.path().join("named.toml");
    std::fs::write(&named, "http = \"127.0.0.1:7003\"\n").expect("writable");
    let shown = origins(&plain, &["--config", "named.toml"]);
    assert_eq!(http(&shown), layer("7003", "named.toml"));
    let environment = |command: &mut std::process::Command| {
        command.env("STONECHAT_HTTP", "127.0.0.1:7004");
        command.env("STONECHAT_SILENT_AFTER_S", "9");
    };
    let shown = origins(&environment, &[]);
    assert_eq!(http(&shown), layer("7004", "environment"));
    let shown = origins(&environment, &["--http", "127.0.0.1:7005"]);
    assert_eq!(http(&shown), layer("7005", "flag"));
}

#[test]
fn the_template_is_a_settings_file_with_the_defaults() {
    let folder = Folder::new("commands-template");
    let template = run(&folder, &["config", "template"]);
    let template = String::from_utf8(template.stdout).expect("UTF-8");
    assert!(template.lines().all(|line| line.starts_with("# ")), "{template}");
    let defaults = json(&folder, &["config", "show"]);
    // With the marks taken away, each line sets what is the default anyway.
    let lines = template.lines().skip(1).map(|line| line.trim_start_matches("# "));
    let settings = lines.collect::<Vec<_>>().join("\n");
    std::fs::write(folder.path().join("stonechat.toml"), settings).expect("writable");
    let shown = json(&folder, &["config", "show"]);
    let pairs = |shown: &Value, from: &str| {
        let settings = shown["settings"].as_array().expect("a list").clone();
        assert!(settings.iter().all(|setting| setting["from"] == from), "{shown}");
        settings
            .into_iter()
            .map(|setting| (setting["key"].clone(), setting["value"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(pairs(&shown[0], "stonechat.toml"), pairs(&defaults[0], "default"));
}

#[test]
fn completions_know_the_commands() {
    let folder = Folder::new("commands-completions");
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&folder, &["completions", shell]);
        assert!(output.status.success());
        let script = String::from_utf8(output.stdout).expect("UTF-8");
        for word in ["evaluate", "fail-on-anomaly", "synth"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn every_command_explains_itself() {
    let folder = Folder::new("commands-help");
    for command in [
        "demo",
        "serve",
        "train",
        "evaluate",
        "plot",
        "export",
        "inspect",
        "data",
        "data import",
        "data synth",
        "data capture",
        "data power",
        "device",
        "device add",
        "device list",
        "device show",
        "device change",
        "device rotate",
        "device certify",
        "device revoke",
        "device delete",
        "device enrol",
        "device import",
        "device run",
        "keys",
        "keys show",
        "keys replace",
        "config",
        "config show",
        "config template",
        "completions",
    ] {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let output = run(&folder, &words);
        assert_eq!(output.status.code(), Some(0), "{command}");
        let help = String::from_utf8(output.stdout).expect("UTF-8");
        let (_, example) = help.split_once("Example").expect("an example");
        assert!(example.contains(&format!("stonechat {command}")), "{command}: {help}");
        assert!(output.stderr.is_empty(), "{command}");
    }
}
