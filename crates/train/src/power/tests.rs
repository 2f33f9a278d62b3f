//! The power meter's way: from broken text to rows, from waveforms to a forest's verdicts.

use super::capture::{Capture, Form, parse, stamp};
use super::meter::{measure, read};
use super::process::{Issue, process};
use super::report::{forest_options, judge, judge_minutes};
use super::*;
use crate::fit::random_forest::RandomForestOptions;
use crate::synth::{FaultPlan, Kind, Request, generate};

#[test]
fn readings_are_found_in_broken_text() {
    let well = br#"{"Start register": 1006, "Raw data": 1.25}"#;
    assert_eq!(parse(well), (vec![(1006, 1.25)], Form::WellFormed));
    type Case = (&'static [u8], &'static [(u32, f64)]);
    let broken: [Case; 7] = [
        // No braces; a comma too many; single quotes; escaped; reversed; two at once; a cut tail after the number.
        (br#""Start register": 1006, "Raw data": 2"#, &[(1006, 2.0)]),
        (br#"{"Start register": 1009,, "Raw data": 229.5,}"#, &[(1009, 229.5)]),
        (b"{'Start register': '1010', 'Raw data': '49.98'}", &[(1010, 49.98)]),
        (br#"{\"Start register\": 1007, \"Raw data\": -3e2"#, &[(1007, -300.0)]),
        (br#"x"Raw data" : 7 ; "Start register" : 1006"#, &[(1006, 7.0)]),
        (
            br#"{"Start register":1006,"Raw data":1}{"Start register":1009,"Raw data":230}"#,
            &[(1006, 1.0), (1009, 230.0)],
        ),
        (b"\xff\xfe{\"Start register\": 1006, \"Raw data\": 4.5 V", &[(1006, 4.5)]),
    ];
    for (text, expected) in broken {
        assert_eq!(parse(text), (expected.to_vec(), Form::Malformed), "{text:?}");
    }
    let unreadable: [&[u8]; 7] = [
        b"",
        b"hello",
        br#"{"Start register": 1006}"#,
        br#"{"Start register": , "Raw data": 5}"#,
        br#"{"Start register": 10.5, "Raw data": 5}"#,
        br#"{"Raw data": nan, "Start register": 1006"#,
        &[b'1'; 70_000],
    ];
    for text in unreadable {
        assert_eq!(parse(text), (vec![], Form::Unreadable), "{:?}", &text[..text.len().min(40)]);
    }
    // The whole reading of a half-broken message counts, and the message as unreadable.
    let half = br#"{"Start register": 1006, "Raw data": 5}, {"Start register": 1007"#;
    assert_eq!(parse(half), (vec![(1006, 5.0)], Form::Unreadable));
}

fn folder(name: &str) -> std::path::PathBuf {
    let folder =
        std::env::temp_dir().join(format!("stonechat-power-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_capture_is_written_in_three_shapes_and_read_again() {
    let mut capture = Capture::default();
    let messages: [&[u8]; 6] = [
        br#"{"Start register": 1006, "Raw data": 1.5}"#,
        br#"{"Start register": 1009, "Raw data": 231}"#,
        br#"{"Start register": 1010 "Raw data": 50.01"#,
        b"garbage",
        br#"{"Start register": 1006, "Raw data": 1.75}"#,
        br#"{"Start register": 2000, "Raw data": 3}"#,
    ];
    for (second, message) in messages.iter().enumerate() {
        capture.push(Some(1_700_000_000_000_000 + second as i64 * 1_000_000), message);
    }
    assert_eq!(
        (capture.counts.messages, capture.counts.malformed, capture.counts.unreadable),
        (6, 1, 1)
    );
    // 1,700,000,000 s is 2023-11-14T22:13:20Z.
    let stamp = stamp(1_700_000_000_000_000);
    assert_eq!(stamp, "20231114221320");
    let folder = folder("shapes");
    let files = capture.write(&folder, &stamp).unwrap();
    let names: Vec<_> =
        files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "mqtt_all_messages_20231114221320.csv",
            "mqtt_messages_1006_20231114221320.csv",
            "mqtt_messages_1009_20231114221320.csv",
            "mqtt_messages_1010_20231114221320.csv",
            "mqtt_messages_2000_20231114221320.csv",
            "mqtt_register_counts_20231114221320.csv",
        ]
    );
    let text = |index: usize| std::fs::read_to_string(&files[index]).unwrap();
    assert!(text(0).starts_with("Start register,Raw data,Time\n1006,1.5,2023-11-14T22:13:20"));
    assert_eq!(text(1), "Start register,Raw data\n1006,1.5\n1006,1.75\n");
    assert_eq!(text(5), "Start register,Count\n1006,2\n1009,1\n1010,1\n2000,1\n");
    let again = Capture::read(&files[0]).unwrap();
    assert_eq!(again.readings, capture.readings);
    // A text with a message a line gives the same numbers.
    let log = folder.join("messages.txt");
    std::fs::write(&log, messages.join(&b'\n')).unwrap();
    let lines = Capture::read(&log).unwrap();
    assert_eq!((lines.counts, lines.readings.len()), (capture.counts, 5));
    std::fs::write(&log, "nothing\n").unwrap();
    assert!(Capture::read(&log).unwrap_err().to_string().contains("holds no reading"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn rows_carry_flags_where_a_limit_is_passed() {
    let mut capture = Capture::default();
    let mut say = |register: u32, raw: f64| {
        capture.push(
            None,
            format!("{{\"Start register\": {register}, \"Raw data\": {raw}}}").as_bytes(),
        );
    };
    // A whole round; one with both limits touched; one too high; one too low and without power; one lone reading.
    let rounds = [
        [(1006, 1.5), (1009, 230.0), (1007, 310.0), (1010, 50.0)],
        [(1006, 5.5), (1009, 300.0), (1007, 310.0), (1010, 65.0)],
        [(1006, 5.51), (1009, 301.0), (1007, 310.0), (1010, 65.1)],
        [(1006, 0.04), (1009, 9.0), (1234, 310.0), (1010, 44.0)],
    ];
    for (register, raw) in rounds.into_iter().flatten() {
        say(register, raw);
    }
    say(1006, 0.05);
    let processed = process(&capture, |_| 1.0);
    assert_eq!((processed.rows.len(), processed.unknown), (5, 1));
    let flags =
        |row: usize| (processed.rows[row].current_issue(), processed.rows[row].voltage_issue());
    assert_eq!(flags(0), (Issue::Normal, Issue::Normal));
    assert_eq!(flags(1), (Issue::Normal, Issue::Normal));
    assert_eq!(flags(2), (Issue::Over, Issue::Over));
    assert_eq!(flags(3), (Issue::Under, Issue::Under));
    assert_eq!(flags(4), (Issue::Normal, Issue::Missing));
    let issues = processed.issues();
    assert_eq!((issues.current_over, issues.current_under, issues.frequency), (1, 1, 2));
    assert_eq!(issues.anomalous, 2);
    // Registers in thousandths.
    let scaled = process(&capture, |register| if register == 1006 { 1e-3 } else { 1.0 });
    assert_eq!(scaled.rows[0].current_issue(), Issue::Under);
    let folder = folder("process");
    let file = folder.join("processed.csv");
    processed.write(&file).unwrap();
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        "Raw data_Current,Current_Issue,Raw data_Voltage,Voltage_Issue,Active_Power,Frequency\n\
         1.5,Normal,230,Normal,310,50\n\
         5.5,Normal,300,Normal,310,65\n\
         5.51,Over,301,Over,310,65.1\n\
         0.04,Under,9,Under,,44\n\
         0.05,Normal,,Missing,,\n"
    );
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_forest_finds_what_is_wrong_in_later_minutes() {
    // The issue's mark: recall at least 0.95 at a false-alarm rate of at most 1 % on rows after those of the training.
    let folder = folder("forest");
    let file = folder.join("meter.csv");
    let (mut found, mut alarms, mut anomalous, mut normal) = (0, 0, 0, 0);
    for seed in 1..=4 {
        let request = Request {
            rows: Some(4_000),
            faults: FaultPlan::Share(0.2),
            options: [("samples".to_owned(), 640.into())].into_iter().collect(),
            ..Request::new(Kind::Meter, seed)
        };
        let made = generate(&request).unwrap();
        made.write(&file).unwrap();
        let minutes = read(&file).unwrap();
        assert_eq!(minutes.len(), 4_000);
        let measured = measure(&minutes, 6_400.0).unwrap();
        // The distortion that the generator put in, by the waveform's own harmonics.
        let errors = measured.iter().enumerate().map(|(row, measured)| {
            f64::from((measured.thd_percent - made.recording.row(row)[3]).abs())
        });
        let mut errors: Vec<f64> = errors.collect();
        errors.sort_unstable_by(f64::total_cmp);
        assert!(errors[errors.len() / 2] < 0.01, "{}", errors[errors.len() / 2]);
        assert!(errors[errors.len() - 1] < 0.1, "{}", errors[errors.len() - 1]);

        let labels: Vec<bool> = minutes.iter().map(|minute| minute.anomalous).collect();
        let judged = judge_minutes(&measured, &labels, &forest_options(seed), 2).unwrap();
        assert_eq!(judged.split.test_rows, 1_200);
        let recall = judged.confusion.recall().unwrap();
        let rate = judged.confusion.false_alarm_rate().unwrap();
        assert!(recall >= 0.95 && rate <= 0.01, "seed {seed}\n{}", judged.text());
        assert_eq!(judged.always_normal.recall(), Some(0.0));
        assert!(judged.roc_auc > 0.98);
        found += judged.confusion.true_positives;
        alarms += judged.confusion.false_positives;
        anomalous += judged.confusion.true_positives + judged.confusion.false_negatives;
        normal += judged.confusion.true_negatives + judged.confusion.false_positives;
        judged.pictures().unwrap();
        let table = folder.join("table.csv");
        meter::write(&table, &minutes, &measured).unwrap();
        let (recording, _) = crate::dataset::read(&table, &Default::default()).unwrap();
        assert_eq!((recording.rows(), recording.channels.len()), (4_000, 6));
        assert_eq!(recording.labels.unwrap(), labels);
    }
    assert!(found * 100 >= anomalous * 95 && alarms * 100 <= normal);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_meters_file_that_is_wrong_names_row_and_column() {
    let folder = folder("wrong");
    let file = folder.join("meter.csv");
    let header = "Time,Voltage_L1,Current_L1,Active_Power_L1,THD_Voltage_L1,Frequency,target";
    let refused = |text: &str| {
        std::fs::write(&file, text).unwrap();
        read(&file).unwrap_err().to_string()
    };
    let good = "2024-01-01 00:00:00,\"[1, 2]\",1,2,3,50,0";
    let waveform = refused(&format!("{header}\n{good}\n2024,\"[1, x]\",1,2,3,50,0\n"));
    assert!(waveform.contains("row 2, column `Voltage_L1`: `[1, x]`"), "{waveform}");
    let target = refused(&format!("{header}\n2024,\"[1, 2]\",1,2,3,50,7\n"));
    assert!(target.contains("column `target`: `7` is not 0 or 1"), "{target}");
    let column = refused("Time,Current_L1\n1,2\n");
    assert!(column.contains("no column `Active_Power_L1`"), "{column}");
    std::fs::write(&file, format!("{header}\n{good}\n")).unwrap();
    let minutes = read(&file).unwrap();
    let short = measure(&minutes, 6_400.0).unwrap_err().to_string();
    assert!(short.contains("row 1: a waveform of 2 samples"), "{short}");
    let labels = vec![true; 200];
    let single = judge(&vec![1.0; 200], 1, &labels, &RandomForestOptions::default(), 1);
    assert_eq!(
        single.unwrap_err().to_string(),
        "the training rows are all anomalous; normal and anomalous ones are needed in each part"
    );
    let few = judge(&[1.0; 9], 1, &[true; 9], &RandomForestOptions::default(), 1);
    assert!(few.unwrap_err().to_string().contains("record at least 100"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn mixtures_lie_between_the_states_they_join() {
    let mains = appliance::Mains {
        vectors: vec![0.0, 1.0, 10.0, 2.0],
        width: 2,
        watts: vec![0.0, 2_000.0],
        appliances: 1,
    };
    let mixed = appliance::with_mixtures(&mains, 100.0, 50, 1);
    assert_eq!((mixed.watts.len(), mixed.vectors.len()), (102, 204));
    for (vector, watts) in mixed.vectors.chunks(2).zip(&mixed.watts) {
        // Both columns and the power are the same share of the way.
        assert!((vector[0] / 10.0 - watts / 2_000.0).abs() < 1e-4);
        assert!((vector[1] - 1.0 - watts / 2_000.0).abs() < 1e-4);
    }
    assert_eq!(mixed.is_on(0, 100.0)[..2], [false, true]);
}
