//! Mains and meter: against EN 50160 and against the distortion measured from the waveform.

use super::*;

const RATE_HZ: f64 = 6_400.0;
/// Relative amplitudes in percent that EN 50160 admits at low voltage, by order.
const LIMITS: [(u32, f64); 14] = [
    (2, 2.0),
    (3, 5.0),
    (4, 1.0),
    (5, 6.0),
    (7, 5.0),
    (9, 1.5),
    (11, 3.5),
    (13, 3.0),
    (15, 0.5),
    (17, 2.0),
    (19, 1.5),
    (21, 0.5),
    (23, 1.5),
    (25, 1.5),
];

/// A grid whose frequency does not wander, so that sums over whole periods are exact.
fn steady() -> MainsOptions {
    MainsOptions { frequency_wander: 0.0, ..MainsOptions::default() }
}

/// Distortion in percent from a waveform whose fundamental is known.
fn thd_percent(samples: &[f64], fundamental_hz: f64) -> f64 {
    let harmonic = |order: u32| amplitude(samples, RATE_HZ, f64::from(order) * fundamental_hz);
    100.0 * (2..=40).map(|order| harmonic(order).powi(2)).sum::<f64>().sqrt() / harmonic(1)
}

/// Frequency by the rising zero crossings of the waveform, averaged over 16 samples against its harmonics.
fn frequency_hz(samples: &[f64], rate_hz: f64) -> f64 {
    let smooth: Vec<f64> = samples.windows(16).map(mean).collect();
    let crossings: Vec<f64> = smooth
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| pair[0] < 0.0 && pair[1] >= 0.0)
        .map(|(index, pair)| index as f64 + pair[0] / (pair[0] - pair[1]))
        .collect();
    (crossings.len() - 1) as f64 / (crossings[crossings.len() - 1] - crossings[0]) * rate_hz
}

#[test]
fn a_quiet_grid_keeps_to_the_standard() {
    let recording = without(&MainsOptions::default(), 64_000);
    for name in ["voltage_l1", "voltage_l2", "voltage_l3"] {
        let samples = column(&recording, name);
        assert!((rms(&samples) - 230.0).abs() < 5.0, "{name}");
        let found_hz = frequency_hz(&samples, RATE_HZ);
        assert!((found_hz - 50.0).abs() < 0.5, "{found_hz}");
        for period in samples.chunks_exact(1_280) {
            assert!((rms(period) / 230.0 - 1.0).abs() < 0.1);
            let first = amplitude(period, RATE_HZ, 50.0);
            for (order, limit) in LIMITS {
                let percent = 100.0 * amplitude(period, RATE_HZ, f64::from(order) * 50.0) / first;
                assert!(percent < limit, "{name} {order}: {percent}");
            }
            let thd = thd_percent(period, 50.0);
            assert!((1.5..4.5).contains(&thd), "{thd}");
        }
    }
}

#[test]
fn three_phases_stand_a_third_apart_and_the_current_lags() {
    let recording = without(&steady(), 6_400);
    let phase = |name: &str| {
        let samples = column(&recording, name);
        let angle = |row: usize| std::f64::consts::TAU * 50.0 * row as f64 / RATE_HZ;
        let sum = |wave: fn(f64) -> f64| {
            samples.iter().enumerate().map(|(row, x)| x * wave(angle(row))).sum::<f64>()
        };
        sum(f64::cos).atan2(sum(f64::sin)).to_degrees()
    };
    let apart = |a: &str, b: &str| (phase(a) - phase(b)).rem_euclid(360.0);
    assert!((apart("voltage_l1", "voltage_l2") - 120.0).abs() < 0.2);
    assert!((apart("voltage_l2", "voltage_l3") - 120.0).abs() < 0.2);
    // The angle whose cosine is 0.93.
    assert!((apart("voltage_l1", "current_l1") - 21.57).abs() < 0.5);
    assert!((rms(&column(&recording, "current_l2")) - 8.0).abs() < 1.5);
}

#[test]
fn each_event_is_what_the_standard_calls_it() {
    let options = steady();
    let clean = without(&options, 19_200);
    let event = |kind| with_fault(&options, 19_200, kind, 6_400..12_800);
    let during =
        |recording: &Recording, name: &str| column(recording, name)[6_400..12_800].to_vec();
    let relative = |recording: &Recording, name: &str| {
        rms(&during(recording, name)) / rms(&during(&clean, name))
    };
    let sag = event(MainsFault::Sag { residual: 0.6, phase: 0 });
    assert!((relative(&sag, "voltage_l3") - 0.6).abs() < 1e-3);
    let swell = event(MainsFault::Swell { ratio: 1.2, phase: 2 });
    assert!((relative(&swell, "voltage_l2") - 1.2).abs() < 1e-3);
    assert_eq!(during(&swell, "voltage_l1"), during(&clean, "voltage_l1"));
    let interruption = event(MainsFault::Interruption { residual: 0.01 });
    assert!(relative(&interruption, "voltage_l1") < 0.05);
    assert!(rms(&during(&interruption, "current_l1")) < 0.2);

    let distorted = event(MainsFault::Harmonics { thd_percent: 11.0 });
    let thd = thd_percent(&during(&distorted, "voltage_l1")[..1_280], 50.0);
    // The third and others of the background come on top.
    assert!((11.0..11.3).contains(&thd), "{thd}");
    let flicker = event(MainsFault::Flicker { depth: 0.04, frequency_hz: 8.8 });
    let periods: Vec<f64> =
        during(&flicker, "voltage_l1").chunks_exact(128).map(rms).map(|v| v / 230.0).collect();
    let (low, high) = periods.iter().fold((f64::MAX, f64::MIN), |(l, h), x| (l.min(*x), h.max(*x)));
    assert!((high - low - 0.04).abs() < 0.01, "{low} {high}");
    let transient = event(MainsFault::Transient {
        peak_v: 250.0,
        frequency_hz: 900.0,
        decay_s: 0.004,
        phase: 1,
    });
    let added: Vec<f64> = during(&transient, "voltage_l1")
        .iter()
        .zip(during(&clean, "voltage_l1"))
        .map(|(with, without)| with - without)
        .collect();
    assert!((added[0] - 250.0).abs() < 0.1 && added[128].abs() < 5.0);
    // Half a period of 900 Hz later: the other way, a little smaller.
    let turned = -250.0 * (-1.0_f64 / 1_800.0 / 0.004).exp();
    assert!(added[3] < 0.9 * turned && added[3] > 1.05 * turned, "{} {turned}", added[3]);
    let slow = event(MainsFault::Frequency { deviation_hz: -1.2 });
    let middle = &during(&slow, "voltage_l1")[1_280..5_120];
    assert!((frequency_hz(middle, RATE_HZ) - 48.8).abs() < 0.03);
}

#[test]
fn a_meter_states_the_distortion_of_its_waveform() {
    let options = MeterOptions::default();
    let faults = [
        Fault { kind: MeterFault::Harmonics { thd_percent: 12.0 }, start_row: 40, rows: 5 },
        Fault { kind: MeterFault::Frequency { deviation_hz: 2.0 }, start_row: 60, rows: 5 },
        Fault { kind: MeterFault::Sag { residual: 0.5 }, start_row: 80, rows: 5 },
    ];
    let rows = meter_rows(&options, &Scene { seed: 4, rows: 100, faults: &faults });
    for (number, row) in rows.iter().enumerate() {
        let samples: Vec<f64> = row.voltage_v.iter().map(|v| f64::from(*v)).collect();
        assert_eq!(samples.len(), 1_280);
        let measured = thd_percent(&samples, f64::from(row.frequency_hz));
        assert!((measured - f64::from(row.thd_percent)).abs() < 0.02, "{number}: {measured}");
        assert!((rms(&samples) / f64::from(row.voltage_rms_v) - 1.0).abs() < 0.006);
        let found_hz = frequency_hz(&samples, RATE_HZ);
        assert!((found_hz - f64::from(row.frequency_hz)).abs() < 0.1, "{found_hz}");
        assert!(row.power_w <= 1.01 * row.voltage_rms_v * row.current_a);
    }
    // Distorted minutes state more than normal ones, unlike the pipeline that this one replaces.
    assert!(rows[42].thd_percent > 11.9 && rows[..40].iter().all(|row| row.thd_percent < 5.0));
}

#[test]
fn a_meters_file_has_the_documented_columns() {
    let request =
        Request { rows: Some(50), faults: FaultPlan::Share(0.2), ..Request::new(Kind::Meter, 1) };
    let made = generate(&request).unwrap();
    let path = std::env::temp_dir().join(format!("stonechat-meter-{}.csv", std::process::id()));
    made.write(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some("Time,Voltage_L1,Current_L1,Active_Power_L1,THD_Voltage_L1,Frequency,target")
    );
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len(), 50);
    assert!(lines[0].starts_with("2024-01-01 00:00:00,\"["), "{}", &lines[0][..40]);
    assert!(lines[49].starts_with("2024-01-01 00:49:00,"));
    assert_eq!(lines.iter().filter(|line| line.ends_with(",1")).count(), 10);
    let array = lines[7].split('"').nth(1).unwrap();
    let waveform: Vec<f32> = serde_json::from_str(array).unwrap();
    assert_eq!(Some(&waveform), made.waveforms.as_ref().map(|waveforms| &waveforms[7]));
}
