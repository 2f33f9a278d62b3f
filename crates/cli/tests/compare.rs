//! Comparing detectors, choosing one, and latent mode, seen from outside.

mod support;

use serde_json::Value;
use support::{Folder, run, run_json};

/// Kinds that are fitted in a moment.
const KINDS: &str = "z-score,mahalanobis,pca,random-forest";

fn synthesise(folder: &Folder, faults: &str) {
    let args = ["data", "synth", "temperature", "--rows", "6000", "--faults", faults];
    run_json(folder, &[&args[..], &["-o", "room.csv"]].concat());
}

fn refusal(folder: &Folder, args: &[&str]) -> String {
    let output = run(folder, args);
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

#[test]
fn the_chosen_detector_is_one_of_the_table_and_can_be_used() {
    let folder = Folder::new("compare-auto");
    synthesise(&folder, "6");
    let args = ["compare", "room.csv", "--detector", KINDS, "--budget", "rp2040", "--auto"];
    let more = ["-o", "chosen.detector", "--html", "page.html"];
    let comparison = &run_json(&folder, &[&args[..], &more].concat())[0];
    assert_eq!(comparison["made_up"], false);
    let candidates = comparison["candidates"].as_array().expect("a list");
    assert_eq!(candidates.len(), 4);
    for candidate in candidates.iter().filter(|c| c["outcome"] == "measured") {
        let number = |key: &str| candidate[key].as_f64().expect(key);
        assert!(number("flash_bytes") > 0.0 && number("ram_bytes") > 0.0, "{candidate}");
        assert!(candidate["cost"]["per_sample"].as_f64() > Some(0.0), "{candidate}");
        assert_eq!(candidate["controls"].as_array().map(Vec::len), Some(4));
        assert_eq!(candidate["excess"], Value::Array(Vec::new()));
    }
    let chosen = comparison["chosen"]["name"].as_str().expect("one is chosen");
    assert!(candidates.iter().any(|candidate| candidate["name"] == chosen));
    let page = std::fs::read_to_string(folder.path().join("page.html")).expect("is written");
    assert!(page.contains("<svg") && page.contains(chosen) && page.contains("frozen z-score"));
    let inspected = &run_json(&folder, &["inspect", "chosen.detector"])[0];
    assert_eq!(inspected["name"], chosen);
}

#[test]
fn without_labels_faults_are_made_up_and_the_forest_says_what_it_needs() {
    let folder = Folder::new("compare-unlabelled");
    synthesise(&folder, "0");
    let args = ["compare", "room.csv", "--detector", KINDS];
    let comparison = &run_json(&folder, &args)[0];
    assert_eq!(comparison["made_up"], true);
    let forest = &comparison["candidates"][3];
    assert_eq!(forest["outcome"], "failed");
    assert!(forest["reason"].as_str().is_some_and(|reason| reason.contains("anomal")), "{forest}");
}

#[test]
fn what_cannot_be_is_refused_with_a_remedy() {
    let folder = Folder::new("compare-errors");
    synthesise(&folder, "6");
    let compare = ["compare", "room.csv", "--detector", "z-score,pca"];
    let tiny = ["--budget", "flash=100,ram=100,rate=100", "--auto"];
    let said = refusal(&folder, &[&compare[..], &tiny].concat());
    for part in ["no detector fits", "z-score: flash", "pca: flash", "instructions a second"] {
        assert!(said.contains(part), "{said}");
    }
    let said = refusal(&folder, &["compare", "room.csv", "--budget", "esp33"]);
    assert!(
        said.contains("esp33") && said.contains("esp32c3") && said.contains("flash="),
        "{said}"
    );
    let said = refusal(&folder, &["train", "room.csv", "--detector", "forest"]);
    assert!(said.contains("`forest`") && said.contains("random-forest"), "{said}");
    let said = refusal(&folder, &["train", "room.csv", "--detector", "pca", "--set", "trees=5"]);
    assert!(said.contains("`trees`") && said.contains("variance_share"), "{said}");
    let said =
        refusal(&folder, &["train", "room.csv", "--detector", "pca", "--set", "components=x"]);
    assert!(said.contains("`components`") && said.contains('x'), "{said}");
}

#[test]
fn every_kind_is_listed_with_its_settings() {
    let folder = Folder::new("compare-kinds");
    let kinds = run_json(&folder, &["detectors"]);
    assert_eq!(kinds.len(), 12);
    let forest = kinds.iter().find(|kind| kind["kind"] == "random-forest").expect("is listed");
    assert_eq!(forest["settings"]["trees"], 100);
    // Written as a person would: not 0.8999999761581421.
    let dense = kinds.iter().find(|kind| kind["kind"] == "dense").expect("is listed");
    assert_eq!(dense["settings"]["fit"]["beta1"], 0.9);
}

#[test]
fn codes_are_decoded_to_what_was_measured() {
    let folder = Folder::new("compare-latent");
    synthesise(&folder, "0");
    let train = ["train", "room.csv", "--window", "8", "--encoder", "6,2", "--epochs", "40"];
    run_json(&folder, &[&train[..], &["--precision", "float32", "-o", "room.detector"]].concat());
    let encode = ["latent", "encode", "room.detector", "room.csv", "-o", "codes.csv"];
    assert_eq!(run_json(&folder, &encode)[0]["columns"], 2);
    let decode = ["latent", "decode", "room.detector", "codes.csv", "-o", "decoded.csv"];
    let decoded = &run_json(&folder, &decode)[0];
    assert_eq!((&decoded["columns"], &decoded["rows"]), (&8.into(), &5_993.into()));
    let columns = |file: &str, column: usize| -> Vec<f64> {
        let text = std::fs::read_to_string(folder.path().join(file)).expect("is written");
        let cell = |line: &str| line.split(',').nth(column).and_then(|cell| cell.parse().ok());
        text.lines().filter_map(cell).collect()
    };
    // The window's last sample stands in the last column.
    let (measured, back) = (columns("room.csv", 1), columns("decoded.csv", 8));
    let errors = measured[7..].iter().zip(&back).map(|(a, b)| (a - b).abs());
    let mean = errors.sum::<f64>() / back.len() as f64;
    assert!(mean < 0.5, "off by {mean} degrees on average");

    for part in ["encoder", "decoder"] {
        let file = format!("{part}.tflite");
        run_json(&folder, &["export", "room.detector", "--part", part, "-o", &file]);
        let bytes = std::fs::read(folder.path().join(file)).expect("is written");
        assert_eq!(&bytes[4..8], b"TFL3");
    }
    let said = refusal(&folder, &["latent", "decode", "room.detector", "room.csv", "-o", "x.csv"]);
    assert!(said.contains("have 2") && said.contains("--channels"), "{said}");
}
