//! What the program says about bad input: exit code 2, nothing on stdout, and a message that names
//! what is wrong, where, and what to do.

mod support;

use std::net::TcpListener;
use std::process::Output;

use support::{Folder, Server, free_port, run, run_json, stonechat};

/// Demands that the program refuses, and that it says exactly this.
#[track_caller]
fn refuses(folder: &Folder, args: &[&str], expected: &str) {
    assert_eq!(refusal(run(folder, args)), expected, "{args:?}");
}

/// Demands exit code 2 and an empty stdout; returns stderr.
#[track_caller]
fn refusal(output: Output) -> String {
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{said}");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(printed, "", "{said}");
    said.trim_end().to_owned()
}

fn write(folder: &Folder, name: &str, text: impl AsRef<[u8]>) {
    std::fs::write(folder.path().join(name), text).expect("the folder can be written");
}

/// A signal that does not repeat within a thousand rows.
fn level(row: usize) -> f64 {
    20.0 + (row * 7_919 % 1_009) as f64 / 1_000.0
}

/// Writes a recording of one channel without a clock.
fn write_levels(folder: &Folder, name: &str, rows: usize) {
    let rows: String = (0..rows).map(|row| format!("{}\n", level(row))).collect();
    write(folder, name, format!("level\n{rows}"));
}

/// Writes `normal.csv` and trains `room.detector` on it, at 10 Hz.
fn train_room(folder: &Folder) {
    write_levels(folder, "normal.csv", 400);
    let args = ["train", "normal.csv", "--rate", "10", "--detector", "z-score"];
    run_json(folder, &[&args[..], &["-o", "room.detector"]].concat());
}

#[test]
fn recordings_without_readings() {
    let folder = Folder::new("errors-empty");
    write(&folder, "empty.csv", "");
    write(&folder, "header.csv", "time,level\n");
    write_levels(&folder, "normal.csv", 400);
    refuses(
        &folder,
        &["train", "empty.csv"],
        "error: `empty.csv` is empty: it has no rows of readings; is it the right file?",
    );
    refuses(
        &folder,
        &["train", "header.csv"],
        "error: `header.csv` is empty: it has no rows of readings; is it the right file?",
    );
    refuses(
        &folder,
        &["train", "nowhere.csv"],
        "error: cannot open `nowhere.csv`\n  because: No such file or directory (os error 2)",
    );
    refuses(
        &folder,
        &["train", "normal.csv", "--rate", "10", "--rows", "9000.."],
        "error: `normal.csv` has no rows in the part that was asked for; choose other rows",
    );
    refuses(
        &folder,
        &["train", "normal.csv@0%..0.1%", "--rate", "10"],
        "error: `normal.csv` has no rows from 0 % to 0.1 % of its 400 rows\nhint: take a larger part of it",
    );
}

#[test]
fn text_in_a_number_column() {
    let folder = Folder::new("errors-text");
    write(
        &folder,
        "text.csv",
        "time,level\n2026-01-01 00:00:00,20\n2026-01-01 00:00:01,21\n2026-01-01 00:00:02,high\n",
    );
    for command in [&["train"][..], &["data", "import"]] {
        refuses(
            &folder,
            &[command, &["text.csv"]].concat(),
            "error: `text.csv`, row 4, column \"level\": expected a number, found \"high\"; correct the cell or leave it empty",
        );
    }
}

#[test]
fn too_few_rows_for_one_window() {
    let folder = Folder::new("errors-few");
    write_levels(&folder, "few.csv", 20);
    train_room(&folder);
    refuses(
        &folder,
        &["train", "few.csv", "--rate", "10"],
        "error: `few.csv` has too few rows: 20 rows with 0 gaps give 0 windows of 32 samples for fitting, and at least 10 are needed; record longer, or choose a shorter --window",
    );
    let args = ["few.csv", "--rate", "10"];
    refuses(
        &folder,
        &[&["evaluate", "room.detector", "--trained-on", "normal.csv"], &args[..]].concat(),
        "error: cannot evaluate `room`\n  because: there is no window to evaluate; the recording is shorter than one window",
    );
    refuses(
        &folder,
        &[&["plot", "room.detector"], &args[..]].concat(),
        "error: there is nothing to draw: no samples",
    );
}

#[test]
fn a_constant_channel() {
    let folder = Folder::new("errors-constant");
    write(&folder, "rest.csv", format!("level,door\n{}", "21.5,0\n".repeat(400)));
    let rows: String = (0..400).map(|row| format!("{},0\n", level(row))).collect();
    write(&folder, "door.csv", format!("level,door\n{rows}"));
    refuses(
        &folder,
        &["train", "rest.csv", "--rate", "10"],
        "error: every channel of `rest.csv` is constant (level, door); is the sensor connected, and is this the right column?",
    );
    let args = ["--quiet", "train", "door.csv", "--rate", "10"];
    let output = run(&folder, &[&args[..], &["--detector", "z-score"]].concat());
    assert!(output.status.success(), "one channel at rest is no error");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "warning: the channel `door` never changes in this recording; leave it out with --channels unless that is normal\n"
    );
}

#[test]
fn columns_that_do_not_exist() {
    let folder = Folder::new("errors-columns");
    write(&folder, "log.csv", "time,level,note\n2026-01-01 00:00:00,20,a\n");
    for option in ["--channels", "--time", "--label", "--clip"] {
        refuses(
            &folder,
            &["data", "import", "log.csv", option, "humidity"],
            "error: `log.csv` has no column \"humidity\"; it has time, level, note",
        );
    }
    refuses(
        &folder,
        &["data", "import", "log.csv", "--delimiter", ";"],
        "error: `log.csv` has no column of numbers; is the delimiter ';' right? --delimiter sets it",
    );
}

#[test]
fn clocks_and_rates() {
    let folder = Folder::new("errors-clocks");
    let time = |second: usize| format!("2026-01-01 00:00:{second:02},{}\n", level(second));
    let rows: String = [0, 1, 2, 1, 2, 3].map(time).concat();
    write(&folder, "back.csv", format!("time,level\n{rows}"));
    write_levels(&folder, "level.csv", 40);
    refuses(
        &folder,
        &["data", "import", "back.csv"],
        "error: `back.csv`, row 5: the clock goes backwards, from 2026-01-01T00:00:02Z to 2026-01-01T00:00:01Z; sort the rows, or permit it with --allow-clock-steps",
    );
    let imported = run_json(&folder, &["data", "import", "back.csv", "--allow-clock-steps"]);
    assert_eq!(imported[0]["segments"], 2);
    refuses(
        &folder,
        &["data", "import", "level.csv"],
        "error: `level.csv` has no time column; name it with --time, or give the rate in hertz with --rate",
    );
    refuses(
        &folder,
        &["data", "import", "level.csv", "--rate", "-3"],
        "error: the rate is -3, but must be a number of hertz above 0",
    );
}

#[test]
fn detectors_that_are_missing_or_damaged() {
    let folder = Folder::new("errors-detector");
    train_room(&folder);
    let whole = std::fs::read(folder.path().join("room.detector")).expect("it was written");
    refuses(
        &folder,
        &["inspect", "none.detector"],
        "error: cannot read the detector `none.detector`; `stonechat train` makes one\n  because: No such file or directory (os error 2)",
    );
    let damaged = "error: `damaged.detector` is no usable detector; copy it again, or train it anew\n  because: ";
    let refuses_bytes = |bytes: &[u8], reason: &str| {
        write(&folder, "damaged.detector", bytes);
        refuses(&folder, &["inspect", "damaged.detector"], &format!("{damaged}{reason}"));
    };
    for len in [0, 1, 100] {
        refuses_bytes(&whole[..len], "too short to be a detector file");
    }
    for len in [whole.len() / 2, whole.len() - 4, whole.len() - 1] {
        refuses_bytes(
            &whole[..len],
            "the file's length is not the one it names: it was cut or extended",
        );
    }
    let flipped = |place: usize| {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        bytes
    };
    refuses_bytes(&flipped(0), "not a detector file");
    for place in [whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        refuses_bytes(&flipped(place), "the checksum does not match: the file was damaged");
    }
    let normal = ["normal.csv", "--rate", "10"];
    let expected = format!("{damaged}the checksum does not match: the file was damaged");
    for args in [
        &[&["evaluate", "damaged.detector", "--trained-on", "normal.csv"], &normal[..]].concat()[..],
        &[&["plot", "damaged.detector"], &normal[..]].concat(),
        &["export", "damaged.detector"],
        &[&["device", "run", "--detector", "damaged.detector"], &normal[..]].concat(),
    ] {
        refuses(&folder, args, &expected);
    }
}

#[test]
fn recordings_that_do_not_fit_the_detector() {
    let folder = Folder::new("errors-fit");
    train_room(&folder);
    let rows: String = (0..400).map(|row| format!("{},1\n", level(row))).collect();
    write(&folder, "two.csv", format!("level,door\n{rows}"));
    write(&folder, "credentials", "room abc\n");
    let channels = "error: the number of channels differs: the detector `room` needs 1, the recording `two.csv` has 2 (level, door); choose columns with --channels";
    let rate = "error: the rate differs: the detector `room` was made for 10 Hz, the recording `normal.csv` has 5 Hz; give the right --rate, or train again";
    let commands = [
        &["plot", "room.detector"][..],
        &["evaluate", "room.detector", "--trained-on", "normal.csv"],
        &["device", "run", "--detector", "room.detector", "--credentials", "credentials"],
    ];
    for command in commands {
        refuses(&folder, &[command, &["two.csv", "--rate", "10"]].concat(), channels);
        refuses(&folder, &[command, &["normal.csv", "--rate", "5"]].concat(), rate);
    }
}

#[test]
fn ports_that_are_in_use() {
    let folder = Folder::new("errors-ports");
    let other = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let taken = other.local_addr().expect("bound").to_string();
    let free = "127.0.0.1:0";
    refuses(
        &folder,
        &["--quiet", "serve", "--http", &taken, "--mqtt", free],
        &format!(
            "error: port in use: {taken}; stop what listens there, or choose another with --http"
        ),
    );
    refuses(
        &folder,
        &["--quiet", "serve", "--http", free, "--mqtt", &taken],
        &format!(
            "error: port in use: {taken}; stop what listens there, or choose another with --mqtt"
        ),
    );
}

#[test]
fn data_folders_that_cannot_be_used() {
    let folder = Folder::new("errors-data");
    write(&folder, "plain", "a file, not a folder");
    for command in [&["serve"][..], &["device", "add", "pump-7"]] {
        refuses(
            &folder,
            &[command, &["--data", "plain/data"]].concat(),
            "error: cannot use the data folder plain/data: Not a directory (os error 20); make it writable, or choose another with --data",
        );
        // The reason differs with who asks.
        let said = refusal(run(&folder, &[command, &["--data", "/proc/stonechat"]].concat()));
        assert!(
            said.starts_with("error: cannot use the data folder /proc/stonechat: ")
                && said.ends_with("; make it writable, or choose another with --data"),
            "{said}"
        );
    }
    refuses(
        &folder,
        &["device", "list", "--data", "none"],
        "error: there is no data folder `none`\nhint: `stonechat serve` and `stonechat device add` make it; name another with --data",
    );
    assert!(!folder.path().join("none").exists(), "listing makes nothing");
}

#[test]
fn a_data_folder_in_use_by_another_server() {
    let folder = Folder::new("errors-in-use");
    let _server = Server::start(&folder, free_port());
    let free = "127.0.0.1:0";
    refuses(
        &folder,
        &["--quiet", "serve", "--data", "data", "--http", free, "--mqtt", free],
        "error: the data folder data is in use by another server; stop that one, or choose another folder with --data",
    );
}

#[test]
fn identities_of_devices() {
    let folder = Folder::new("errors-identities");
    run_json(&folder, &["device", "add", "pump-7"]);
    refuses(
        &folder,
        &["device", "add", "pump-7"],
        "error: the device `pump-7` is registered already\nhint: give it new credentials with `stonechat device rotate`, or a new token with --new-token; or choose another identity",
    );
    refuses(
        &folder,
        &["device", "add", "pump 7"],
        "error: `pump 7` is no device's identity\n  because: a device identity has 1 to 64 characters out of A-Z, a-z, 0-9, - and _",
    );
}

/// The arguments of a device that replays `normal.csv`.
fn device_run<'a>(server: &'a str, credentials: &'a str) -> Vec<&'a str> {
    let args = [
        "device",
        "run",
        "normal.csv",
        "--rate",
        "10",
        "--speed",
        "max",
        "--detector",
        "room.detector",
    ];
    let more = ["--server", server, "--credentials", credentials];
    [&args[..], &more[..]].concat()
}

#[test]
fn credentials_that_are_malformed() {
    let folder = Folder::new("errors-credentials");
    train_room(&folder);
    let hint = "hint: `stonechat device add ID` prints such a line";
    for (credentials, expected) in [
        ("", format!("error: the credentials are empty\n{hint}")),
        (
            "pump-7\n",
            format!("error: line 1 of the credentials is not `ID TOKEN`\n{hint}"),
        ),
        (
            "pump-7 abc\n\npump-8 abc def\n",
            format!("error: line 3 of the credentials is not `ID TOKEN`\n{hint}"),
        ),
        (
            "pump-7 abc\npump-7 def\n",
            "error: the credentials name the device `pump-7` twice; remove the older line"
                .to_owned(),
        ),
        (
            "pump/7 abc\n",
            "error: line 1 of the credentials: `pump/7` is no device's identity\n  because: a device identity has 1 to 64 characters out of A-Z, a-z, 0-9, - and _"
                .to_owned(),
        ),
    ] {
        write(&folder, "credentials", credentials);
        refuses(&folder, &device_run("127.0.0.1:1", "credentials"), &expected);
    }
    refuses(
        &folder,
        &device_run("127.0.0.1:1", "none"),
        "error: cannot read the credentials `none`\n  because: No such file or directory (os error 2)",
    );
    refuses(
        &folder,
        &device_run("127.0.0.1:1", "none")[..11],
        "error: the device has no credentials\nhint: `stonechat device add ID -o FILE` makes them; name the file with --bundle",
    );
}

#[test]
fn servers_that_refuse_or_are_not_there() {
    let folder = Folder::new("errors-server");
    train_room(&folder);
    write(&folder, "credentials", "pump-7 wrong\n");
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    refuses(
        &folder,
        &device_run(&address, "credentials"),
        &format!(
            "error: cannot reach the server at {address}: Connection refused (os error 111)\nhint: is it running, and is that its MQTT address? `stonechat serve` prints it"
        ),
    );
    refuses(
        &folder,
        &device_run("nonsense", "credentials"),
        "error: --server is `nonsense`, but must be HOST:PORT\nhint: `stonechat serve` prints its MQTT address",
    );
    run_json(&folder, &["device", "add", "pump-7", "--data", "data"]);
    let _server = Server::start(&folder, port);
    let said = refusal(run(&folder, &device_run(&address, "credentials")));
    assert!(
        said.starts_with(&format!("error: the server at {address} refuses the device `pump-7`"))
            && said.contains("\nhint: ")
            && said.contains("stonechat device add"),
        "{said}"
    );
}

#[test]
fn options_that_are_spelled_wrong() {
    let folder = Folder::new("errors-options");
    write_levels(&folder, "normal.csv", 400);
    let help = "\n\nFor more information, try '--help'.";
    for (args, expected) in [
        (
            ["--rows", "5"],
            "invalid value '5' for '--rows <RANGE>': write START..END, such as 0..4000 or 4000..",
        ),
        (
            ["--rows", "9..3"],
            "invalid value '9..3' for '--rows <RANGE>': write START..END, such as 0..4000 or 4000..",
        ),
        (["--raise", "2of3"], "invalid value '2of3' for '--raise <K/N>': write K/N, such as 2/3"),
        (
            ["--delimiter", "||"],
            "invalid value '||' for '--delimiter <CHARACTER>': write one ASCII character, such as ';', or tab",
        ),
    ] {
        let args = [&["train", "normal.csv"][..], &args].concat();
        refuses(&folder, &args, &format!("error: {expected}{help}"));
    }
    for part in ["@60..", "@60%..40%", "@-1%..40%", "@0%..140%"] {
        let recording = format!("normal.csv{part}");
        refuses(
            &folder,
            &["train", &recording],
            &format!(
                "error: invalid value '{recording}' for '<RECORDING>...': a part of a file is written FILE@0%..60%, from less to more{help}"
            ),
        );
    }
}

#[test]
fn choices_of_the_recipe_out_of_bounds() {
    let folder = Folder::new("errors-recipe");
    write_levels(&folder, "normal.csv", 400);
    for (option, value, expected) in [
        (
            "--features",
            "sampels",
            "there is no feature `sampels`; there are samples, mean, variance, standard_deviation, rms, minimum, maximum, peak_to_peak, slope, rolling_mean, centred_samples, skewness, kurtosis, crest_factor, zero_crossing_rate, median_abs_deviation, autocorrelation_peak, maximum_difference, band_energy, spectral_centroid, spectral_rolloff, spectral_flatness, dominant_frequency, log_mel, mfcc, envelope_band_energy, envelope_amplitude, fundamental_frequency, harmonics, thd, mains_rms, active_power, reactive_power, apparent_power, power_factor",
        ),
        (
            "--features",
            "samples:5",
            "the feature `samples:5` does not fit a window of 32 samples: its number of samples must divide the window",
        ),
        (
            "--features",
            "rolling_mean",
            "the feature `rolling_mean` does not fit a window of 32 samples: name the samples to average, no more than the window has, such as rolling_mean:8",
        ),
        ("--window", "0", "the window is 0, but must be 1 to 65536 samples"),
        (
            "--stride",
            "33",
            "the stride is 33, but must be 1 to 32 samples, the length of the window",
        ),
        (
            "--raise",
            "4/3",
            "the raise rule is 4/3, but must be K/N with K from 1 to N and N up to 32",
        ),
        ("--clear-share", "1.5", "the clear share is 1.5, but must be above 0 and at most 1"),
        ("--clear-count", "0", "the clear count is 0, but must be at least 1"),
        ("--calibration", "1", "the calibration share is 1, but must be above 0 and below 1"),
        ("--alpha", "2", "alpha is 2, but must be from 0 to 1"),
        ("--epochs", "0", "epochs is 0, but must be at least 1"),
        ("--batch", "0", "batch is 0, but must be 1 to 65536"),
        ("--quantile", "1.5", "quantile is 1.5, but must be above 0 and at most 1"),
        (
            "--quantile",
            "0.999",
            "50 normal scores are too few for the 0.999 quantile; 1000 are needed: hold out more normal data, or lower the quantile",
        ),
        (
            "--risk",
            "0.001",
            "50 normal scores are too few for a tail above the 0.95 quantile; 401 are needed: hold out more normal data, or use the quantile rule",
        ),
    ] {
        let args = ["train", "normal.csv", "--rate", "10", option, value];
        let args = if option == "--epochs" || args.contains(&"--batch") {
            args.to_vec()
        } else {
            [&args[..], &["--detector", "z-score"]].concat()
        };
        refuses(&folder, &args, &format!("error: {expected}"));
    }
}

#[test]
fn settings_that_are_unknown_or_malformed() {
    let folder = Folder::new("errors-settings");
    let every = "hint: `stonechat config template` prints every setting with its default";
    let address = "hint: write an address and a port, such as 127.0.0.1:8080";
    for (file, expected) in [
        (
            "htpp = \"127.0.0.1:80\"",
            "error: the settings file `stonechat.toml` has an unknown key `htpp`\nhint: known keys are allowed_hosts, audit_days, data, database, database_file, foreign_broker, foreign_broker_ca, foreign_broker_login, http, https, legacy, legacy_utc_offset, metrics_on_loopback, mqtt, mqtts, retention_alarms_days, retention_days, retention_hours_days, retention_minutes_days, sealed, silent_after_s, trusted_proxies; `stonechat config template` prints them with their defaults".to_owned(),
        ),
        (
            "http = \"80\"",
            format!("error: the setting `http` in `stonechat.toml` is \"80\": invalid socket address syntax\n{address}"),
        ),
        (
            "silent_after_s = -1",
            format!("error: the setting `silent_after_s` in `stonechat.toml` is -1: invalid value: integer `-1`, expected a whole number\n{every}"),
        ),
    ] {
        write(&folder, "stonechat.toml", file);
        for command in [&["serve"][..], &["config", "show"], &["device", "list"]] {
            refuses(&folder, command, &expected);
        }
    }
    write(&folder, "stonechat.toml", "http = ");
    let said = refusal(run(&folder, &["config", "show"]));
    assert!(
        said.starts_with("error: the settings file `stonechat.toml` is not TOML\n  because: TOML parse error at line 1"),
        "{said}"
    );
    write(&folder, "stonechat.toml", "");
    refuses(
        &folder,
        &["config", "show", "--mqtt", "localhost:1883"],
        &format!(
            "error: the flag --mqtt is \"localhost:1883\": invalid socket address syntax\n{address}"
        ),
    );
    let mut shown = stonechat(&folder, &["config", "show"]);
    shown.env("STONECHAT_SILENT_AFTER_S", "soon");
    assert_eq!(
        refusal(shown.output().expect("the program starts")),
        "error: the environment variable STONECHAT_SILENT_AFTER_S is `soon`: string values must be quoted, expected literal string\nhint: write it as in the settings file, such as 60"
    );
    refuses(
        &folder,
        &["config", "show", "--config", "none.toml"],
        "error: cannot read the settings file `none.toml`\n  because: No such file or directory (os error 2)",
    );
}

#[test]
fn labels_that_do_not_belong() {
    let folder = Folder::new("errors-labels");
    train_room(&folder);
    write(
        &folder,
        "labels.json",
        r#"{"other.csv": [["2026-01-01 00:00:00", "2026-01-01 00:01:00"]]}"#,
    );
    write(&folder, "points.txt", "2026-01-01 00:00:05\nsoon\n");
    let args = ["plot", "room.detector", "normal.csv", "--rate", "10"];
    refuses(
        &folder,
        &[&args[..], &["--intervals", "labels.json"]].concat(),
        "error: `labels.json` has no labels for \"normal.csv\"; it has other.csv",
    );
    refuses(
        &folder,
        &[&args[..], &["--points", "points.txt"]].concat(),
        "error: `points.txt`: \"soon\" is no time; write it as 2014-04-01 00:05:00",
    );
}

#[test]
fn results_that_cannot_be_written() {
    let folder = Folder::new("errors-output");
    train_room(&folder);
    write(&folder, "plain", "a file, not a folder");
    let hint = "hint: make it, or name another file with --output";
    refuses(
        &folder,
        &["train", "normal.csv", "--rate", "10", "-o", "none/x.detector"],
        &format!("error: cannot write `none/x.detector`: there is no folder `none`\n{hint}"),
    );
    refuses(
        &folder,
        &["export", "room.detector", "-o", "plain/x.h"],
        &format!("error: cannot write `plain/x.h`: there is no folder `plain`\n{hint}"),
    );
    refuses(
        &folder,
        &["export", "room.detector"],
        "error: the detector `room` has no network: its engine is z-score\nhint: export it with --format detector-header, or train one with --detector dense",
    );
    refuses(
        &folder,
        &["plot", "room.detector", "normal.csv", "--rate", "10", "-o", "plain"],
        "error: cannot make the folder `plain`\n  because: File exists (os error 17)",
    );
    refuses(
        &folder,
        &["data", "synth", "temperature", "-o", "none/room.csv"],
        &format!("error: cannot write `none/room.csv`: there is no folder `none`\n{hint}"),
    );
    refuses(
        &folder,
        &["data", "synth", "temperature", "--rows", "100", "--faults", "5", "-o", "room.csv"],
        "error: 5 faults need at least 1440 rows from row 500 on, but there are 100",
    );
}

#[test]
#[cfg(target_os = "linux")]
fn results_for_a_full_disk() {
    let folder = Folder::new("errors-full");
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let add = ["--quiet", "device", "add", "pump-7"];
    for args in [&["completions", "bash"][..], &add, &["config", "show"]] {
        let mut command = stonechat(&folder, args);
        command.stdout(full.try_clone().expect("a handle"));
        assert_eq!(
            refusal(command.output().expect("the program starts")),
            "error: cannot write the results to standard output: No space left on device (os error 28)\nhint: make room, or send them elsewhere; then run the command again",
            "{args:?}"
        );
    }
}
