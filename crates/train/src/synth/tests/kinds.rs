//! What every kind of recording keeps: one seed, one recording; labels where the faults are; all in the sidecar.

use serde_json::{Map, json};

use super::*;

/// Long enough for one fault of each kind; slower than usual where that is fast.
fn request(kind: Kind, count: usize) -> Request {
    let rate_hz = match kind {
        Kind::Machine => Some(1_000.0),
        Kind::Sound => Some(2_000.0),
        Kind::Mains => Some(1_000.0),
        _ => None,
    };
    let options = rate_hz.map(|rate_hz| ("rate_hz".to_owned(), json!(rate_hz)));
    let rows = match kind {
        Kind::Machine | Kind::Mains | Kind::Sound => Some(60_000),
        _ => None,
    };
    let faults = match count {
        0 => FaultPlan::None,
        _ => FaultPlan::Random { count, first_row: 500 },
    };
    let options = options.into_iter().collect();
    Request { faults, rows, options, ..Request::new(kind, 3) }
}

/// Bits, so that NaN equals itself.
fn bits(samples: &[f32]) -> Vec<u32> {
    samples.iter().map(|sample| sample.to_bits()).collect()
}

#[test]
fn a_seed_gives_the_same_bits_of_every_kind() {
    for kind in Kind::ALL {
        let short = |seed| Request { rows: Some(3_000), ..Request::new(kind, seed) };
        let made = |seed| generate(&short(seed)).unwrap().recording.samples;
        assert_eq!(digest(&made(3)), digest(&made(3)), "{kind:?}");
        assert_ne!(digest(&made(3)), digest(&made(4)), "{kind:?}");
        assert_eq!(Kind::named(kind.name()), Ok(kind));
    }
}

#[test]
fn labels_are_where_the_readings_differ_from_the_faultless_ones() {
    for kind in Kind::ALL {
        let count = kind.faults().len();
        let clean = generate(&request(kind, 0)).unwrap().recording;
        // A gap takes rows away; the tank's own test looks at it.
        let made = generate(&request(kind, count)).unwrap();
        let faulty = &made.recording;
        assert_eq!(made.sidecar.faults.len(), count);
        let width = clean.channels.len();
        let row_at = |time: i64| clean.time_us.binary_search(&time).unwrap();
        let mut end_before_us = i64::MIN;
        for fault in &made.sidecar.faults {
            assert!(fault.start_us > end_before_us, "{kind:?} {fault:?}");
            end_before_us = fault.end_us;
            let rows = fault.start_row..fault.start_row + fault.rows;
            assert!(faulty.labels.as_ref().unwrap()[rows.clone()].iter().all(|label| *label));
            let changed = rows.clone().filter(|&row| {
                bits(faulty.row(row)) != bits(clean.row(row_at(faulty.time_us[row])))
            });
            // A sensor that drops or sticks may agree with the truth now and then.
            assert!(changed.count() * 3 >= fault.rows, "{kind:?} {fault:?}");
        }
        let labelled: usize = made.sidecar.faults.iter().map(|fault| fault.rows).sum();
        let labels = faulty.labels.as_ref().unwrap();
        assert_eq!(labels.iter().filter(|label| **label).count(), labelled, "{kind:?}");
        // Nothing changes before the first fault, and outside of faults nothing does but for phases and slow tails.
        let first = made.sidecar.faults[0].start_row;
        assert_eq!(
            bits(&clean.samples[..first * width]),
            bits(&faulty.samples[..first * width]),
            "{kind:?}"
        );
        let lasting = ["speed_change", "hum_change", "frequency", "oxygen_demand", "hot_air"];
        // The room of the demo lets its faults draw from its own noise.
        let is_lasting =
            |name: &str| kind == Kind::Temperature || name == "gap" || lasting.contains(&name);
        let unlasting = made.sidecar.faults.iter().take_while(|fault| !is_lasting(&fault.kind));
        if let Some(last) = unlasting.last() {
            let next = made.sidecar.faults.iter().find(|fault| fault.start_row > last.start_row);
            let rows =
                last.start_row + last.rows..next.map_or(faulty.rows(), |next| next.start_row);
            let same = rows.clone().filter(|&row| clean.row(row) == faulty.row(row)).count();
            assert_eq!(same, rows.len(), "{kind:?} after {last:?}");
        }
    }
}

#[test]
fn listed_faults_take_the_typical_parameters_they_leave_out() {
    let listed = |kind| FaultPlan::Listed(vec![Fault { kind, start_row: 600, rows: 200 }]);
    let made = |faults, options: serde_json::Value| {
        let options = options.as_object().cloned().unwrap_or_default();
        generate(&Request { rows: Some(2_000), options, faults, ..Request::new(Kind::Machine, 1) })
    };
    let faults = listed(json!({"kind": "bearing", "race": "inner"}));
    let sidecar =
        made(faults, json!({"shaft_hz": 20.0, "bearing": {"balls": 8.0}})).unwrap().sidecar;
    let [fault] = &sidecar.faults[..] else { panic!("one fault") };
    assert_eq!((fault.start_row, fault.rows), (600, 200));
    assert_eq!(fault.parameters["race"], "inner");
    assert_eq!(fault.parameters["slip"], 0.01);
    assert_eq!(sidecar.options["shaft_hz"], 20.0);
    assert_eq!(sidecar.options["bearing"]["pitch_mm"], 39.04);
    // 8 balls at 20 Hz: 80 (1 - 7.94 / 39.04) a second on the outer race.
    assert!((sidecar.derived["bpfo_hz"].as_f64().unwrap() - 63.73).abs() < 0.01);

    let refused = |faults, options| made(faults, options).unwrap_err().to_string();
    let unknown = refused(listed(json!({"kind": "fire"})), json!({}));
    assert_eq!(
        unknown,
        "there is no kind of fault `fire`; choose one of imbalance, looseness, bearing, speed_change"
    );
    let wrong = refused(listed(json!({"kind": "bearing", "wear": 1})), json!({}));
    assert!(
        wrong.contains("parameters of the fault `bearing`") && wrong.contains("wear"),
        "{wrong}"
    );
    let option = refused(FaultPlan::None, json!({"shaft": 1}));
    assert!(option.contains("unknown field `shaft`"), "{option}");
    let fast = refused(FaultPlan::None, json!({"rate_hz": 9e3}));
    assert_eq!(fast, "rate_hz is 9000; it must lie between 1 and 6667");
    let gain = refused(listed(json!({"kind": "imbalance", "gain": 0.5})), json!({}));
    assert!(gain.contains("gain is 0.5"), "{gain}");
    let late = FaultPlan::Listed(vec![Fault {
        kind: json!({"kind": "imbalance"}),
        start_row: 1_900,
        rows: 200,
    }]);
    assert!(refused(late, json!({})).contains("does not fit into 2000 rows"));
    assert_eq!(
        Kind::named("weather").unwrap_err().to_string(),
        "there is no kind of recording `weather`; choose one of temperature, dht11, machine, sound, tank, mains, meter"
    );
}

#[test]
fn a_share_of_the_rows_is_faulty() {
    let faults = FaultPlan::Share(0.2);
    let made = generate(&Request { faults, ..Request::new(Kind::Meter, 9) }).unwrap();
    let labels = made.recording.labels.unwrap();
    assert_eq!((labels.len(), labels.iter().filter(|label| **label).count()), (1_000, 200));
    let kinds: std::collections::HashSet<_> =
        made.sidecar.faults.iter().map(|fault| fault.kind.clone()).collect();
    assert_eq!(kinds.len(), 6);
    let most = Request { faults: FaultPlan::Share(0.6), ..Request::new(Kind::Meter, 9) };
    assert!(generate(&most).unwrap_err().to_string().contains("choose a share from 0 to 0.5"));
}

#[test]
fn the_sidecar_makes_the_same_recording_again() {
    let request = Request {
        rows: Some(20_000),
        options: Map::from_iter([("shaft_hz".to_owned(), json!(24.0))]),
        ..request(Kind::Sound, 0)
    };
    let fault = Fault { kind: json!({"kind": "hiss"}), start_row: 4_000, rows: 900 };
    let made = generate(&Request { faults: FaultPlan::Listed(vec![fault]), ..request }).unwrap();
    let text = serde_json::to_string(&made.sidecar).unwrap();
    let sidecar: Sidecar = serde_json::from_str(&text).unwrap();
    assert_eq!(sidecar, made.sidecar);
    let listed = sidecar.faults.iter().map(|fault| {
        let mut kind = fault.parameters.clone();
        kind.insert("kind".to_owned(), json!(fault.kind));
        Fault { kind: kind.into(), start_row: fault.start_row, rows: fault.rows }
    });
    let again = generate(&Request {
        kind: sidecar.kind,
        seed: sidecar.seed,
        rows: Some(sidecar.rows),
        start_us: Some(sidecar.start_us),
        options: sidecar.options.as_object().cloned().unwrap(),
        faults: FaultPlan::Listed(listed.collect()),
    });
    assert_eq!(again.unwrap(), made);
}
