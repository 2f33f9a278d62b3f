//! The synthetic room: the same from a seed, physically plausible, with faults where the labels say.

mod grid;
mod kinds;
mod rooms;
mod rotating;

use super::*;

/// Amplitude of a tone by a single-frequency Fourier sum under a Hann window.
fn amplitude(samples: &[f64], rate_hz: f64, frequency_hz: f64) -> f64 {
    let (mut re, mut im, mut weight) = (0.0, 0.0, 0.0);
    for (index, sample) in samples.iter().enumerate() {
        let window =
            0.5 - 0.5 * (std::f64::consts::TAU * index as f64 / samples.len() as f64).cos();
        let angle = std::f64::consts::TAU * frequency_hz * index as f64 / rate_hz;
        re += window * sample * angle.cos();
        im += window * sample * angle.sin();
        weight += window;
    }
    2.0 * re.hypot(im) / weight
}

/// Samples of one channel.
fn column(recording: &Recording, name: &str) -> Vec<f64> {
    let channel = recording.channels.iter().position(|channel| channel.name == name).unwrap();
    recording.channel(channel).map(f64::from).collect()
}

fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len() as f64
}

fn rms(samples: &[f64]) -> f64 {
    mean(&samples.iter().map(|x| x * x).collect::<Vec<_>>()).sqrt()
}

fn deviation(samples: &[f64]) -> f64 {
    let centre = mean(samples);
    rms(&samples.iter().map(|x| x - centre).collect::<Vec<_>>())
}

/// A recording with one fault from `start_row` on.
fn with_fault<G: Generator>(
    generator: &G,
    rows: usize,
    kind: G::Fault,
    fault: std::ops::Range<usize>,
) -> Recording {
    let (start_row, len) = (fault.start, fault.len());
    let faults = FaultPlan::Listed(vec![Fault { kind, start_row, rows: len }]);
    synthesise(generator, &Take { seed: 5, rows, start_us: 0, faults }).unwrap().0
}

fn without<G: Generator>(generator: &G, rows: usize) -> Recording {
    let take = Take { seed: 5, rows, start_us: 0, faults: FaultPlan::None };
    synthesise(generator, &take).unwrap().0
}

fn normal(seed: u64, rows: usize) -> Recording {
    temperature(&Options { seed, rows, ..Options::default() }).unwrap().0
}

/// A digest of the readings' bits (FNV-1a).
fn digest(samples: &[f32]) -> u64 {
    let bytes = samples.iter().flat_map(|x| x.to_bits().to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn a_seed_gives_the_same_bits() {
    let (a, b, c) = (normal(3, 2000), normal(3, 2000), normal(4, 2000));
    assert_eq!(digest(&a.samples), digest(&b.samples));
    assert_ne!(digest(&a.samples), digest(&c.samples));
    assert_eq!(a.time_us[10] - a.time_us[0], 1_000_000);
}

#[test]
fn the_room_stays_in_its_band_and_cycles() {
    let recording = normal(1, 10 * 1440);
    let (low, high) =
        recording.samples.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
    assert!(low > 19.5 && high < 22.5, "{low} {high}");
    assert!(recording.samples.iter().all(|x| (x / 0.0625).fract() == 0.0));
    // The heating cycle is of the order of a window of 32 samples: turns of a smoothed curve.
    let smooth: Vec<f32> =
        recording.samples.windows(9).map(|part| part.iter().sum::<f32>() / 9.0).collect();
    let swings = smooth.windows(33).filter(|part| {
        let (l, h) = part.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
        h - l > 0.4
    });
    assert!(swings.count() > smooth.len() * 9 / 10);
    assert!(recording.labels.unwrap().iter().all(|label| !label));
}

#[test]
fn faults_are_where_the_labels_say() {
    let plan = FaultPlan::Random { count: 12, first_row: 1000 };
    let options = Options { seed: 5, rows: 8000, faults: plan, ..Options::default() };
    let (recording, faults) = temperature(&options).unwrap();
    assert_eq!(faults.len(), 12);
    let labelled = recording.anomalous_rows();
    let expected: Vec<_> =
        faults.iter().map(|fault| fault.start_row..fault.start_row + fault.rows).collect();
    assert_eq!(labelled, expected);
    assert!(faults[0].start_row >= 1000);
    // Outside the faults the readings are those of the same seed without faults, but for what the faults drew.
    let clean = normal(5, 8000);
    assert_eq!(clean.samples[..faults[0].start_row], recording.samples[..faults[0].start_row]);
    for fault in &faults {
        let rows = fault.start_row..fault.start_row + fault.rows;
        let changed =
            rows.clone().filter(|&row| recording.samples[row] != clean.samples[row]).count();
        assert!(changed * 4 >= fault.rows, "{fault:?}: {changed}");
    }
}

#[test]
fn each_fault_does_what_its_name_says() {
    let listed = |kind: FaultKind| {
        let faults = FaultPlan::Listed(vec![Fault { kind, start_row: 100, rows: 40 }]);
        temperature(&Options { rows: 200, faults, ..Options::default() }).unwrap().0.samples
    };
    let clean = normal(1, 200).samples;
    let step = listed(FaultKind::Step { size: -3.0 });
    assert!((100..140).all(|row| step[row] == clean[row] - 3.0) && step[140] == clean[140]);
    let spike = listed(FaultKind::Spike { size: 6.0 });
    assert!(spike[100] == clean[100] + 6.0 && spike[139] < clean[139] + 0.3);
    let drift = listed(FaultKind::Drift { size: 5.0 });
    assert!(drift[100] == clean[100] && drift[139] > clean[139] + 4.5);
    let stuck = listed(FaultKind::Stuck);
    assert!((100..140).all(|row| stuck[row] == clean[99]));
    let dropout = listed(FaultKind::Dropout { reading: f32::NAN });
    let dropped = dropout.iter().filter(|x| x.is_nan()).count();
    assert!((10..=30).contains(&dropped), "{dropped}");
    let wave = listed(FaultKind::Oscillation { size: 1.5, period: 4 });
    assert!(
        wave[100] == clean[100] + 1.5
            && wave[102] == clean[102] - 1.5
            && wave[104] == clean[104] + 1.5
    );
}

#[test]
fn a_source_takes_faults_at_run_time() {
    let mut source = TemperatureSource::new(9, TemperatureOptions::default());
    let before: Vec<f32> = source.by_ref().take(50).collect();
    assert!(before.iter().all(|x| (19.0..23.0).contains(x)));
    let (kind, rows) = FaultKind::typical("step").unwrap();
    source.inject(kind, rows);
    let during: Vec<f32> = source.by_ref().take(rows).collect();
    assert!(during.iter().all(|x| *x < 19.5) && !source.is_faulty());
    source.inject(kind, 10);
    assert_eq!(source.fault(), Some(kind));
    source.end_fault();
    assert!(source.next_sample() > 19.0);
    assert_eq!(FaultKind::typical("fire"), None);
}

#[test]
fn refuses_what_cannot_be_computed() {
    let rows = Options { rows: 0, ..Options::default() };
    assert_eq!(temperature(&rows).unwrap_err(), SynthError::Rows { rows: 0 });
    let crowded = Options {
        rows: 500,
        faults: FaultPlan::Random { count: 6, first_row: 0 },
        ..Options::default()
    };
    assert!(
        temperature(&crowded).unwrap_err().to_string().contains("6 faults need at least 1728 rows")
    );
    let mut still = Options::default();
    still.sensor.rate_hz = 0.0;
    assert!(temperature(&still).unwrap_err().to_string().contains("rate_hz is 0"));
}

#[test]
fn options_and_faults_survive_json() {
    let fault =
        Fault { kind: FaultKind::Oscillation { size: 1.5, period: 6 }, start_row: 10, rows: 5 };
    let json = serde_json::to_string(&fault).unwrap();
    assert_eq!(json, r#"{"kind":"oscillation","size":1.5,"period":6,"start_row":10,"rows":5}"#);
    assert_eq!(serde_json::from_str::<Fault>(&json).unwrap(), fault);
    let options = Options { faults: FaultPlan::Listed(vec![fault]), ..Options::default() };
    let json = serde_json::to_string(&options).unwrap();
    assert_eq!(serde_json::from_str::<Options>(&json).unwrap(), options);
}
