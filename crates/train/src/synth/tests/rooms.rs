//! The room of a DHT11 and the tank: slow quantities and their probes.

use super::*;

#[test]
fn a_dht11_gives_whole_steps_once_a_second() {
    let recording = without(&Dht11Options::default(), 86_400);
    assert_eq!(recording.time_us[1] - recording.time_us[0], 1_000_000);
    assert!(recording.samples.iter().all(|x| x.fract() == 0.0));
    let temperature = column(&recording, "temperature");
    let (low, high) =
        temperature.iter().fold((f64::MAX, f64::MIN), |(l, h), x| (l.min(*x), h.max(*x)));
    assert!(low >= 15.0 && high <= 29.0 && high - low >= 4.0, "{low} {high}");
    // The daily cycle carries most of the variation.
    let daily = amplitude_of_day(&temperature, 1.0);
    assert!((1.5..3.5).contains(&daily), "{daily}");
    let fast = Dht11Options { rate_hz: 2.0, ..Dht11Options::default() };
    let take = Take { seed: 1, rows: 10, start_us: 0, faults: FaultPlan::None };
    assert!(synthesise(&fast, &take).unwrap_err().to_string().contains("rate_hz is 2"));
    // Warm air holds the same vapour with less relative humidity.
    let humidity = column(&recording, "humidity");
    let covariance = temperature
        .iter()
        .zip(&humidity)
        .map(|(t, h)| (t - mean(&temperature)) * (h - mean(&humidity)))
        .sum::<f64>();
    assert!(covariance < 0.0);
    // WMO-No. 8: 23.37 hPa over water at 20 degrees.
    assert!((dht11::saturation_hpa(20.0) - 23.37).abs() < 0.06);
}

/// Amplitude of the wave of one day, over whole days.
fn amplitude_of_day(samples: &[f64], rate_hz: f64) -> f64 {
    let angle = |row: usize| std::f64::consts::TAU * row as f64 / rate_hz / 86_400.0;
    let sum = |wave: fn(f64) -> f64| {
        samples.iter().enumerate().map(|(row, x)| x * wave(angle(row))).sum::<f64>()
    };
    2.0 * sum(f64::cos).hypot(sum(f64::sin)) / samples.len() as f64
}

#[test]
fn each_fault_of_a_dht11_does_what_its_name_says() {
    let options = Dht11Options::default();
    let clean = column(&without(&options, 2_000), "temperature");
    let faulty = |kind| column(&with_fault(&options, 2_000, kind, 1_000..1_120), "temperature");
    let hot = faulty(Dht11Fault::HotAir { size: 9.0 });
    // 48 seconds of a time constant of 20: 91 % of the way; back to 0.25 degrees after 72 more.
    assert!((hot[1_047] - clean[1_047] - 8.2).abs() < 1.2 && hot[1_130] - clean[1_130] <= 1.0);
    let dropout = faulty(Dht11Fault::Dropout { share: 0.5 });
    let dropped = dropout[1_000..1_120].iter().filter(|x| x.is_nan()).count();
    assert!(dropout[1_000].is_nan() && (40..=80).contains(&dropped), "{dropped}");
    let stuck = faulty(Dht11Fault::Stuck);
    assert!(stuck[1_000..1_120].iter().all(|x| *x == clean[999]));
    let drift = faulty(Dht11Fault::Drift { size: 8.0 });
    assert!((drift[1_119] - clean[1_119] - 8.0).abs() <= 1.0);
    let impossible = faulty(Dht11Fault::Impossible { reading: 0.0 });
    assert!(impossible[1_000..1_120].iter().all(|x| *x == 0.0) && impossible[1_120] > 10.0);
}

#[test]
fn oxygen_saturation_is_that_of_the_tables() {
    // USGS Office of Water Quality, table of oxygen solubility in fresh water at 760 mmHg.
    for (celsius, mg_l) in [(0.0, 14.62), (10.0, 11.29), (20.0, 9.09), (25.0, 8.26), (30.0, 7.56)] {
        let found = saturation_mg_l(celsius);
        assert!((found - mg_l).abs() < 0.01, "{celsius}: {found}");
    }
}

const DAY_ROWS: usize = 1_440;

#[test]
fn a_tank_breathes_with_the_day() {
    let recording = without(&TankOptions::default(), 8 * DAY_ROWS);
    assert_eq!(recording.time_us[1] - recording.time_us[0], 60_000_000);
    let oxygen = column(&recording, "dissolved_oxygen");
    let temperature = column(&recording, "water_temperature");
    assert!(oxygen.iter().all(|x| (4.0..14.0).contains(x)));
    assert!(oxygen.iter().all(|x| (x * 100.0 - (x * 100.0).round()).abs() < 1e-3));
    // Daylight raises the oxygen by more than the warmth lowers it.
    assert!(amplitude_of_day(&oxygen, 1.0 / 60.0) > 0.6);
    // Without life in it, water goes to its saturation.
    let lifeless = TankOptions { photosynthesis: 0.0, respiration: 0.0, ..TankOptions::default() };
    let still = column(&without(&lifeless, 8 * DAY_ROWS), "dissolved_oxygen");
    let saturation: Vec<f64> = temperature.iter().map(|t| saturation_mg_l(*t)).collect();
    assert!((mean(&still) - mean(&saturation)).abs() < 0.05);
}

#[test]
fn each_fault_of_a_tank_does_what_its_name_says() {
    let options = TankOptions::default();
    let clean = without(&options, 3_000);
    let (oxygen, temperature) =
        (column(&clean, "dissolved_oxygen"), column(&clean, "water_temperature"));
    let faulty = |kind| with_fault(&options, 3_000, kind, 1_000..1_300);
    let read = |kind, name| column(&faulty(kind), name);
    let probe = Probe::Oxygen;
    let drift = read(TankFault::Drift { probe, size: -2.5 }, "dissolved_oxygen");
    assert!((drift[1_299] - oxygen[1_299] + 2.49).abs() < 0.02 && drift[1_300] == oxygen[1_300]);
    let stuck = read(TankFault::Stuck { probe: Probe::Temperature }, "water_temperature");
    assert!(stuck[1_000..1_300].iter().all(|x| *x == temperature[999]));
    let spike = read(TankFault::Spike { probe, size: 3.0 }, "dissolved_oxygen");
    assert!((spike[1_000] - oxygen[1_000] - 3.0).abs() < 0.02);
    let dropout = read(TankFault::Dropout { probe, share: 0.6 }, "dissolved_oxygen");
    let dropped = dropout.iter().filter(|x| x.is_nan()).count();
    assert!((140..=220).contains(&dropped) && dropout[1_000].is_nan(), "{dropped}");
    let impossible = read(
        TankFault::Impossible { probe: Probe::Temperature, reading: 85.0 },
        "water_temperature",
    );
    assert!(impossible[1_000..1_300].iter().all(|x| *x == 85.0));
    // 1.5 mg/L an hour for 105 minutes, of which a quarter an hour comes back through the surface.
    let demand = read(TankFault::OxygenDemand { rate: 1.5 }, "dissolved_oxygen");
    let lowest = (1_000..1_300).map(|row| demand[row] - oxygen[row]).fold(f64::MAX, f64::min);
    let expected = -1.5 / 0.25 * (1.0 - (-0.25_f64 * 1.75).exp());
    assert!((lowest - expected).abs() < 0.15, "{lowest} {expected}");

    let gap = faulty(TankFault::Gap);
    assert_eq!((gap.rows(), gap.segment_starts.as_slice()), (2_700, &[0, 1_000][..]));
    assert_eq!(gap.time_us[1_000] - gap.time_us[999], 301 * 60_000_000);
    assert_eq!(gap.row(1_000), clean.row(1_300));
    assert!(gap.labels.unwrap().iter().all(|label| !label));
}

#[test]
fn several_gaps_keep_the_rows_in_order() {
    let gap = |start_row| Fault { kind: TankFault::Gap, start_row, rows: 100 };
    let stuck = Fault { kind: TankFault::Stuck { probe: Probe::Oxygen }, start_row: 700, rows: 50 };
    let faults = FaultPlan::Listed(vec![gap(900), stuck, gap(200)]);
    let take = Take { seed: 2, rows: 1_500, start_us: 0, faults };
    let (recording, _) = synthesise(&TankOptions::default(), &take).unwrap();
    assert_eq!(recording.segment_starts, [0, 200, 800]);
    let expected = 600..650;
    assert_eq!(recording.anomalous_rows(), std::slice::from_ref(&expected));
    assert!(recording.time_us.windows(2).all(|pair| pair[0] < pair[1]));
}
