//! SKAB and the UCR archive: the marks on the real data, whose folder is named in STONECHAT_RECORDINGS (run by
//! `cargo xtask test --only data`), and the readers on small made-up folders.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use stonechat_train::benchmark::{skab, ucr};
use stonechat_train::fit::neighbour::NeighbourOptions;
use stonechat_train::random::Random;
use stonechat_train::recipe::DetectorChoice;

fn data() -> PathBuf {
    std::env::var_os("STONECHAT_RECORDINGS")
        .expect("STONECHAT_RECORDINGS names the folder of recordings")
        .into()
}

#[test]
#[ignore = "needs real recordings: cargo xtask test --only data"]
fn skab_valve1_reaches_its_marks() {
    let report = skab::run(&data().join("skab"), &skab::SkabOptions::default()).unwrap();
    let valve1 = report.group("valve1").expect("its files are there");
    assert_eq!(valve1.files.len(), 16);
    // 18,160 rows, 400 of each file for training.
    assert_eq!(valve1.detector.confusion.total(), 18_160 - 16 * 400);
    let ours = &valve1.detector;
    assert!(ours.f1.unwrap() >= 0.76, "{ours:?}");
    assert!(ours.false_alarm_rate.unwrap() <= 0.2, "{ours:?}");
    assert!(ours.mean_roc_auc.unwrap() >= 0.82, "{ours:?}");
    let best_control = valve1.controls.iter().filter_map(|line| line.f1).fold(0.0, f64::max);
    assert!(ours.f1.unwrap() > best_control + 0.05, "{best_control}");
    // The published verdicts give what was published of these files.
    let conv = valve1.published.iter().find(|line| line.name == "Conv AE").unwrap();
    assert!((conv.f1.unwrap() - 0.755).abs() < 0.001, "{conv:?}");
    assert!((conv.false_alarm_rate.unwrap() - 0.144).abs() < 0.001, "{conv:?}");
    assert!((conv.missed_alarm_rate.unwrap() - 0.3184).abs() < 0.001, "{conv:?}");
}

#[test]
#[ignore = "needs real recordings: cargo xtask test --only data"]
fn ucr_reaches_its_marks() {
    let report = ucr::run(&data().join("ucr-iot"), &ucr::UcrOptions::default()).unwrap();
    let ours = report.summary();
    assert!(report.series.len() >= 10);
    assert!(ours.accuracy >= 0.6, "{ours:?}");
    assert!(ours.mean_volume_pr >= 0.3, "{ours:?}");
}

/// An empty folder of its own for each test.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("stonechat-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

const HEADER: &str = "datetime;Accelerometer1RMS;Accelerometer2RMS;Current;Pressure;Temperature;Thermocouple;Voltage;Volume Flow RateRMS;anomaly;changepoint";

/// Eight noisy sensors, of which one leaves its place in the labelled rows.
fn skab_text(rows: usize, anomaly: std::ops::Range<usize>) -> String {
    let mut random = Random::new(rows as u64);
    let mut text = format!("{HEADER}\n");
    for row in 0..rows {
        write!(text, "2020-03-09 10:00:{:02}", row % 60).unwrap();
        let is_anomalous = anomaly.contains(&row);
        for sensor in 0..8 {
            let shift = if is_anomalous && sensor == 3 { 12.0 } else { 0.0 };
            write!(text, ";{}", 20.0 + f64::from(sensor) + shift + random.normal()).unwrap();
        }
        writeln!(text, ";{}.0;0.0", u8::from(is_anomalous)).unwrap();
    }
    text
}

fn write_skab(folder: &Path, group: &str, file: &str, text: &str) -> PathBuf {
    std::fs::create_dir_all(folder.join(group)).unwrap();
    let path = folder.join(group).join(file);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn skab_adds_up_its_files_and_the_controls_are_what_they_must_be() {
    let folder = folder("skab");
    for (file, rows, anomaly) in [("10.csv", 700, 500..600), ("2.csv", 650, 450..500)] {
        write_skab(&folder, "valve2", file, &skab_text(rows, anomaly));
    }
    std::fs::create_dir_all(folder.join("published_predictions")).unwrap();
    let half = |name: &str, rows: usize| {
        format!("{name};{}{}\n", "1".repeat(rows / 2), "0".repeat(rows / 2))
    };
    let text = half("valve2/2.csv", 250) + &half("valve2/10.csv", 300);
    std::fs::write(folder.join("published_predictions/A_detector.txt"), text).unwrap();
    // Verdicts on other files say nothing of these.
    std::fs::write(folder.join("published_predictions/B.txt"), "valve1/0.csv;01\n").unwrap();

    let report = skab::run(&folder, &skab::SkabOptions::default()).unwrap();
    let group = report.group("valve2").unwrap();
    assert!(report.groups.len() == 1 && report.group("valve1").is_none());
    let names: Vec<&str> = group.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["valve2/2.csv", "valve2/10.csv"]);
    assert_eq!(group.detector.confusion.total(), 250 + 300);
    assert!(group.detector.mean_roc_auc.unwrap() > 0.95, "{:?}", group.detector);
    assert!(group.detector.f1.unwrap() > 0.8, "{:?}", group.detector);
    let [never, always, random, frozen] = &group.controls[..] else { panic!("{group:?}") };
    assert_eq!((never.f1, never.false_alarm_rate), (Some(0.0), Some(0.0)));
    // 150 of 550 rows are anomalous.
    assert_eq!(always.f1, Some(2.0 * 150.0 / (550.0 + 150.0)));
    assert!(random.f1.unwrap() < 0.5 && frozen.mean_roc_auc.unwrap() > 0.95);
    let [published] = &group.published[..] else { panic!("{:?}", group.published) };
    // Rows 400 to 524 of one file, 50 of them anomalous, and 400 to 549 of the other, again 50.
    assert_eq!((published.name.as_str(), published.confusion.true_positives), ("A detector", 100));
    assert_eq!(published.confusion.false_positives, 75 + 100);
    let page = report.markdown();
    assert!(page.contains("| always | 0.429 | 100.00 | 0.00 | 0.500 |"), "{page}");
    assert!(page.contains("| A detector (published verdicts) |"), "{page}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["groups"][0]["files"][1]["name"], "valve2/10.csv");
}

#[test]
fn skab_scores_do_not_depend_on_labels_and_labels_come_after_scores() {
    let folder = folder("skab-labels");
    let options = skab::SkabOptions::default();
    let text = skab_text(600, 450..500);
    let path = write_skab(&folder, "valve1", "0.csv", &text);
    let scored = skab::Unlabelled::read(&path, "valve1/0.csv").unwrap().score(&options).unwrap();
    // Labels that are no labels disturb nothing before they are asked for.
    let blinded = text.replace(";0.0;0.0\n", ";?;?\n").replace(";1.0;0.0\n", ";?;?\n");
    let path = write_skab(&folder, "valve1", "1.csv", &blinded);
    let blind = skab::Unlabelled::read(&path, "valve1/1.csv").unwrap().score(&options).unwrap();
    assert_eq!(scored.scored(), blind.scored());
    assert_eq!(scored.labels().unwrap().iter().filter(|label| **label).count(), 50);
    let message = blind.labels().unwrap_err().to_string();
    assert!(message.contains("line 402, column `anomaly`: `?` is not a number"), "{message}");
    std::fs::write(&path, format!("{HEADER}\n")).unwrap();
    assert!(blind.labels().unwrap_err().to_string().contains("changed"));
}

#[test]
fn broken_skab_folders_are_refused_with_file_line_and_remedy() {
    let folder = folder("skab-broken");
    let run = || skab::run(&folder, &skab::SkabOptions::default()).unwrap_err().to_string();
    assert!(run().contains("valve1, valve2 and other"), "{}", run());
    let text = skab_text(450, 420..430);
    for (broken, expected) in [
        (skab_text(400, 0..0), "has 400 rows"),
        (text.replace(";Current;", ";Courant;"), "no column `Current`"),
        (text.replacen(":07;", ":07;x", 1), "line 9, column `Accelerometer1RMS`: `x"),
        (text.replacen(";0.0;0.0\n", ";0.0\n", 1), "not a table"),
        (text.replace(";anomaly;", ";label;"), "no column `anomaly`"),
    ] {
        let path = write_skab(&folder, "other", "3.csv", &broken);
        let message = run();
        assert!(message.contains(expected), "{message}");
        assert!(message.contains(&path.display().to_string()), "{message}");
    }
}

/// A wave with a period of 40 rows, one of whose crests is missing.
fn ucr_text(rows: usize, anomaly: std::ops::Range<usize>) -> String {
    let mut random = Random::new(5);
    let value = |row: usize, noise: f64| {
        let wave = (row as f64 * std::f64::consts::TAU / 40.0).sin();
        if anomaly.contains(&row) { 0.05 * noise } else { wave + 0.05 * noise }
    };
    (0..rows).map(|row| format!("  {}\n", value(row, random.normal()))).collect()
}

#[test]
fn ucr_finds_a_missing_crest_by_one_period() {
    let folder = folder("ucr");
    std::fs::create_dir_all(folder.join("series")).unwrap();
    let text = ucr_text(2_400, 1_700..1_720);
    std::fs::write(folder.join("series/a_wave_1000_1700_1720.txt"), &text).unwrap();
    // The same numbers said to be anomalous elsewhere are located alike, which is wrong then.
    std::fs::write(folder.join("series/other_1000_2100_2100.txt"), &text).unwrap();
    let mut options = ucr::UcrOptions::default();
    options.recipe.detector = DetectorChoice::Neighbour(NeighbourOptions { vectors: 64 });
    let report = ucr::run(&folder, &options).unwrap();
    let [wave, other] = &report.series[..] else { panic!("{:?}", report.series) };
    assert_eq!((wave.name.as_str(), wave.window_len), ("a_wave", 40));
    assert!((1_690..1_730).contains(&wave.location), "{wave:?}");
    assert!(wave.is_right && wave.volume_pr.unwrap() > 0.8, "{wave:?}");
    assert_eq!(other.location, wave.location);
    assert_eq!((other.anomaly_begin, other.anomaly_end, other.is_right), (2_100, 2_101, false));
    assert_eq!(report.summary().accuracy, 0.5);
    let names: Vec<&str> = report.summaries.iter().map(|summary| summary.name.as_str()).collect();
    assert_eq!(names, ["Stonechat", "frozen z-score", "principal components"]);
    assert!(report.markdown().contains("| a_wave | 40 |"), "{}", report.markdown());
}

#[test]
fn broken_ucr_folders_are_refused_with_file_line_and_remedy() {
    let folder = folder("ucr-broken");
    let run = || ucr::run(&folder, &ucr::UcrOptions::default()).unwrap_err().to_string();
    assert!(run().contains("NAME_TRAIN_BEGIN_END.txt"), "{}", run());
    for (name, text, expected) in [
        ("wave.txt", ucr_text(900, 0..0), "not named NAME_TRAIN_BEGIN_END"),
        ("wave_x_700_720.txt", ucr_text(900, 0..0), "not named NAME_TRAIN_BEGIN_END"),
        ("wave_900_920_930.txt", ucr_text(900, 0..0), "has 900 rows"),
        ("wave_600_700_720.txt", "1.0\ntwo\n".to_owned(), "line 2: `two` is not a number"),
        // Anomalies outside of the part that is judged.
        ("wave_600_500_520.txt", ucr_text(900, 0..0), "numbers that fit its rows"),
        ("wave_600_700_901.txt", ucr_text(900, 0..0), "numbers that fit its rows"),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        let message = run();
        assert!(message.contains(expected) && message.contains(name), "{message}");
        std::fs::remove_file(&path).unwrap();
    }
}
