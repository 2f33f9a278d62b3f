//! Features of the core against NumPy, SciPy and librosa (testdata/make/features.py), and what must
//! hold of every window.

use serde_json::Value;
use stonechat_core::features::{Feature, FeatureKind, Workspace};
use stonechat_core::limits::SENSOR_RANGE_ABS_MAX;
use stonechat_core::window::Window;
use stonechat_train::random::Random;
use stonechat_train::recipe::parse_feature;

/// Computes a list of features of one window, `[channels][window_len]`.
fn compute(
    features: &[Feature],
    samples: &[f32],
    window_len: usize,
    rate_hz: f32,
) -> Vec<Vec<f32>> {
    let mut samples = samples.to_vec();
    let window = Window::complete(&mut samples, window_len);
    let mut memory = vec![0.0; Workspace::words(features.iter().copied(), window_len)];
    let mut workspace = Workspace::new(features.iter().copied(), window_len, rate_hz, &mut memory);
    workspace.begin();
    let mut results = Vec::new();
    for feature in features {
        let len = feature.output_len(window_len).expect("the feature fits the window");
        let mut output = vec![f32::NAN; len];
        feature.compute(&window, rate_hz, &mut workspace, &mut output);
        results.push(output);
    }
    results
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

#[test]
fn golden_vectors_of_numpy_scipy_and_librosa() {
    let cases: Value = serde_json::from_str(include_str!("../../../testdata/features.json"))
        .expect("the file is JSON");
    let mut compared = 0;
    let mut failures = Vec::new();
    for case in cases.as_array().expect("a list of cases") {
        let channels: Vec<Vec<f64>> =
            case["channels"].as_array().into_iter().flatten().map(numbers).collect();
        let window_len = channels[0].len();
        let samples: Vec<f32> = channels.iter().flatten().map(|sample| *sample as f32).collect();
        let rate_hz = case["rate_hz"].as_f64().expect("a rate") as f32;
        let entries = case["features"].as_array().expect("a list of features");
        let features: Vec<Feature> = entries
            .iter()
            .map(|entry| {
                let spelling = entry[0].as_str().expect("a spelling");
                let channel = entry[1].as_u64().expect("a channel") as u16;
                parse_feature(spelling, channel, window_len).expect("the spelling is right")
            })
            .collect();
        let found = compute(&features, &samples, window_len, rate_hz);
        for (entry, found) in entries.iter().zip(found) {
            let (expected, tolerance) = (numbers(&entry[2]), entry[3].as_f64().expect("a number"));
            assert_eq!(found.len(), expected.len(), "{} of {}", entry[0], case["name"]);
            let greatest = expected.iter().fold(1.0_f64, |most, number| most.max(number.abs()));
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                compared += 1;
                let difference = (f64::from(*found) - expected).abs();
                // Single precision rounds even what is exact.
                let allowed = greatest * (tolerance + 1.0e-7);
                if difference > allowed {
                    failures.push(format!(
                        "{}: {}[{index}] is {found}, expected {expected}: {difference:.2e} of {allowed:.2e}",
                        case["name"], entry[0]
                    ));
                }
            }
        }
    }
    assert!(compared >= 1_400, "only {compared} numbers were compared");
    assert!(failures.is_empty(), "{} of {compared}:\n{}", failures.len(), failures.join("\n"));
}

/// Every kind with a parameter that fits the window, on two channels.
fn every_feature(window_len: usize, rate_hz: f32) -> Vec<Feature> {
    let mut features = Vec::new();
    for kind in FeatureKind::ALL {
        let name = kind.name();
        for text in ["", ":1", ":2", ":8:10-90", ":20.5:3:10-90", ":3:4", ":3:4:8:4"] {
            let parsed = parse_feature(&format!("{name}{text}"), 0, window_len);
            features.extend(parsed.ok().filter(|feature| feature.fits(2, window_len, rate_hz)));
        }
    }
    features
}

#[test]
fn what_comes_out_is_finite_whatever_goes_in() {
    let mut random = Random::new(7);
    let greatest = SENSOR_RANGE_ABS_MAX;
    let mut kinds_seen = Vec::new();
    for window_len in [1, 2, 3, 7, 8, 9, 31, 64, 100, 257, 1_024, 1_280] {
        for rate_hz in [1.0e-3, 1.0, 400.0, 6_400.0, f32::MAX] {
            let features = every_feature(window_len, rate_hz);
            kinds_seen.extend(features.iter().map(|feature| feature.kind.name()));
            let mut windows = vec![
                vec![0.0; 2 * window_len],
                vec![0.1; 2 * window_len],
                vec![-greatest; 2 * window_len],
                vec![f32::MIN_POSITIVE / 8.0; 2 * window_len],
            ];
            let mut draw = |value: &mut dyn FnMut(&mut Random, usize) -> f32| -> Vec<f32> {
                (0..2 * window_len).map(|index| value(&mut random, index)).collect()
            };
            windows.push(draw(&mut |_, i| if i % 2 == 0 { greatest } else { -greatest }));
            windows.push(draw(&mut |_, i| if i % 50 == 0 { greatest } else { 0.0 }));
            windows.push(draw(&mut |_, i| if i == 0 { 1.0e-30 } else { 0.0 }));
            windows.push(draw(&mut |random, _| random.between(-1.0e9, 1.0e9) as f32));
            windows.push(draw(&mut |random, _| random.normal() as f32 * 1.0e-20));
            windows.push(draw(&mut |random, _| f32::from_bits(random.next_u32() >> 2)));
            for samples in windows {
                let samples: Vec<f32> =
                    samples.into_iter().map(|x| x.clamp(-greatest, greatest)).collect();
                for (feature, found) in
                    features.iter().zip(compute(&features, &samples, window_len, rate_hz))
                {
                    assert!(
                        found.iter().all(|number| number.is_finite()),
                        "{feature:?} of {window_len} samples at {rate_hz} Hz: {found:?}"
                    );
                }
            }
        }
    }
    for kind in FeatureKind::ALL {
        assert!(kinds_seen.contains(&kind.name()), "{} was never computed", kind.name());
    }
}

/// A constant window has no shape: what is divided by its deviation is 0, not a rounding of it.
#[test]
fn constant_windows_have_no_shape() {
    for value in [0.1_f32, -273.15, 1.0e9, 1.0e-9] {
        for name in [
            "variance",
            "skewness",
            "kurtosis",
            "crest_factor",
            "autocorrelation_peak",
            "zero_crossing_rate",
            "median_abs_deviation",
            "maximum_difference",
            "slope",
            "spectral_centroid",
            "spectral_rolloff",
            "dominant_frequency",
            "band_energy:4",
            "envelope_band_energy:4",
        ] {
            let feature = parse_feature(name, 0, 100).expect("is spelt right");
            let found = compute(&[feature], &[value; 100], 100, 50.0);
            assert!(found[0].iter().all(|number| *number == 0.0), "{name} of {value}: {found:?}");
        }
    }
}

/// A list of features gives what each gives alone: nothing that they share is stale.
#[test]
fn features_in_company_are_as_alone() {
    let (window_len, rate_hz) = (640, 6_400.0);
    let mut random = Random::new(11);
    let samples: Vec<f32> = (0..2 * window_len).map(|_| random.normal() as f32).collect();
    let mut features = every_feature(window_len, rate_hz);
    let others: Vec<Feature> =
        features.iter().map(|feature| Feature { channel: 1, ..*feature }).collect();
    features.extend(others);
    // In random order, each twice.
    let mut order: Vec<Feature> = features.iter().chain(&features).copied().collect();
    for index in (1..order.len()).rev() {
        order.swap(index, random.below(index as u32 + 1) as usize);
    }
    let together = compute(&order, &samples, window_len, rate_hz);
    for (feature, together) in order.iter().zip(together) {
        let alone = &compute(&[*feature], &samples, window_len, rate_hz)[0];
        // The longest transform of a list decides the table of cosines, whose entries are the same.
        assert_eq!(&together, alone, "{feature:?}");
    }
}

/// Total harmonic distortion of clean waves is right to 0.01 points, whatever the fundamental.
#[test]
fn distortion_is_right_at_every_fundamental() {
    let (rate_hz, window_len) = (6_400.0, 1_280);
    let feature = parse_feature("thd", 0, window_len).expect("is spelt right");
    let mut random = Random::new(3);
    for step in 0..=200 {
        let hz = 45.0
            + 0.1 * f64::from(step)
            + random.between(0.0, 0.09).min(65.0 - 45.0 - 0.1 * f64::from(step));
        let distortion = [0.0, 0.01, 0.05, 0.3][step as usize % 4];
        let mut parts = vec![(1.0, 325.0, random.between(-3.1, 3.1))];
        for order in 2..=40 {
            if f64::from(order) * hz < 0.49 * rate_hz && random.uniform() < 0.7 {
                let amplitude = 325.0 * distortion * random.uniform() / f64::from(order).sqrt();
                parts.push((f64::from(order), amplitude, random.between(-3.1, 3.1)));
            }
        }
        let sample = |n: usize| {
            let turn = core::f64::consts::TAU * hz * n as f64 / rate_hz;
            parts.iter().map(|(order, a, phase)| a * (order * turn + phase).cos()).sum::<f64>()
                as f32
        };
        let samples: Vec<f32> = (0..window_len).map(sample).collect();
        let squares: f64 = parts[1..].iter().map(|(_, amplitude, _)| amplitude * amplitude).sum();
        let expected = 100.0 * squares.sqrt() / parts[0].1;
        let found = f64::from(compute(&[feature], &samples, window_len, rate_hz as f32)[0][0]);
        assert!((found - expected).abs() < 0.01, "{hz} Hz: {found} %, not {expected} %");
    }
}
