//! The machine and its sound, by their spectra.

use super::*;

const RATE_HZ: f64 = 6_600.0;
/// Four seconds: a Hann window tells tones apart that differ by 0.5 Hz.
const ROWS: usize = 26_400;

/// A machine whose speed and load do not wander, so that its lines are sharp.
fn steady() -> MachineOptions {
    MachineOptions { speed_wander: 0.0, load_wander: 0.0, ..MachineOptions::default() }
}

fn strongest(samples: &[f64], rate_hz: f64, low_hz: f64, high_hz: f64, step_hz: f64) -> f64 {
    let steps = ((high_hz - low_hz) / step_hz) as usize;
    (0..=steps)
        .map(|step| low_hz + step as f64 * step_hz)
        .max_by(|a, b| amplitude(samples, rate_hz, *a).total_cmp(&amplitude(samples, rate_hz, *b)))
        .unwrap()
}

#[test]
fn a_bearing_has_the_published_orders() {
    // Case Western Reserve University publishes for the 6205-2RS: inner 5.4152, outer 3.5848, cage 0.39828 and ball
    // 4.7135, which counts both races.
    let bearing = Bearing::default();
    assert!((bearing.inner_order() - 5.4152).abs() < 2e-3);
    assert!((bearing.outer_order() - 3.5848).abs() < 2e-3);
    assert!((bearing.cage_order() - 0.39828).abs() < 2e-4);
    assert!((2.0 * bearing.ball_order() - 4.7135).abs() < 4e-3);
}

#[test]
fn a_machine_stands_upright_and_turns_at_its_speed() {
    let recording = without(&steady(), ROWS);
    assert_eq!((recording.rate_hz, recording.channels.len()), (RATE_HZ, 6));
    let gravity = ["accel_x", "accel_y", "accel_z"].map(|name| mean(&column(&recording, name)));
    let norm = gravity.iter().map(|x| x * x).sum::<f64>().sqrt();
    assert!((norm - 9.80665).abs() < 0.02 && gravity[2] > 9.7, "{gravity:?}");
    for name in ["accel_y", "accel_z", "gyro_y", "gyro_z"] {
        let samples = column(&recording, name);
        let centred: Vec<f64> = samples.iter().map(|x| x - mean(&samples)).collect();
        let peak_hz = strongest(&centred[..13_200], RATE_HZ, 12.0, 66.0, 0.4);
        assert!((peak_hz - 29.2).abs() < 0.41, "{name}: {peak_hz}");
    }
    let first = amplitude(&column(&recording, "accel_y"), RATE_HZ, 29.2);
    assert!((first - 0.5).abs() < 0.02, "{first}");
    // Sixteen bits over 8 g and 500 degrees a second.
    let is_step = |samples: Vec<f64>, step: f64| {
        samples.iter().all(|x| ((x / step) - (x / step).round()).abs() < 0.01)
    };
    assert!(is_step(column(&recording, "accel_z"), 8.0 * 9.80665 / 32_768.0));
    assert!(is_step(column(&recording, "gyro_x"), 500_f64.to_radians() / 32_768.0));
}

#[test]
fn imbalance_raises_the_first_radial_order_alone() {
    let (clean, faulty) = (
        without(&steady(), ROWS),
        with_fault(&steady(), ROWS, MachineFault::Imbalance { gain: 3.0 }, 0..ROWS),
    );
    let gain = |name: &str, hz: f64| {
        amplitude(&column(&faulty, name), RATE_HZ, hz)
            / amplitude(&column(&clean, name), RATE_HZ, hz)
    };
    assert!((gain("accel_y", 29.2) - 3.0).abs() < 0.1);
    assert!((gain("gyro_z", 29.2) - 3.0).abs() < 0.1);
    assert!((gain("accel_y", 58.4) - 1.0).abs() < 0.02);
    assert!((gain("accel_x", 29.2) - 1.0).abs() < 0.02);
}

#[test]
fn looseness_makes_half_orders_and_cuts_one_side_off() {
    let fault = MachineFault::Looseness { level: 0.6, truncation: 0.6 };
    let (clean, faulty) = (without(&steady(), ROWS), with_fault(&steady(), ROWS, fault, 0..ROWS));
    let vertical = |recording| column(recording, "accel_z");
    for hz in [14.6, 43.8, 73.0] {
        let before = amplitude(&vertical(&clean), RATE_HZ, hz);
        let after = amplitude(&vertical(&faulty), RATE_HZ, hz);
        assert!(after > 8.0 * before, "{hz}: {before} {after}");
    }
    // Without noise: how far up against how far down.
    let quiet = MachineOptions { noise: 0.0, accel_noise_ug: 0.0, ..steady() };
    let sides = |samples: Vec<f64>| {
        let centre = mean(&samples);
        let up = samples.iter().fold(f64::MIN, |most, x| most.max(x - centre));
        let down = samples.iter().fold(f64::MIN, |most, x| most.max(centre - x));
        up / down
    };
    let fault = MachineFault::Looseness { level: 0.6, truncation: 0.4 };
    let (clean, faulty) = (without(&quiet, 6_600), with_fault(&quiet, 6_600, fault, 0..6_600));
    let (before, after) = (sides(vertical(&clean)), sides(vertical(&faulty)));
    assert!((0.7..1.3).contains(&before) && after < 0.85 * before, "{before} {after}");
}

/// The envelope of what rings around a frequency: shifted to zero, averaged over 20 samples.
fn envelope(samples: &[f64], frequency_hz: f64) -> Vec<f64> {
    let centre = mean(samples);
    let shifted = samples.iter().enumerate().map(|(index, x)| {
        let angle = std::f64::consts::TAU * frequency_hz * index as f64 / RATE_HZ;
        ((x - centre) * angle.cos(), (x - centre) * angle.sin())
    });
    let shifted: Vec<(f64, f64)> = shifted.collect();
    let block = |part: &[(f64, f64)]| {
        let (re, im) = part.iter().fold((0.0, 0.0), |(re, im), (a, b)| (re + a, im + b));
        re.hypot(im)
    };
    let envelope: Vec<f64> = shifted.chunks_exact(20).map(block).collect();
    let centre = mean(&envelope);
    envelope.iter().map(|x| x - centre).collect()
}

#[test]
fn bearing_impulses_ring_at_the_pass_frequencies() {
    let spectrum = |race| {
        let fault = MachineFault::Bearing { race, impulse: 2.0, slip: 0.002 };
        let recording = with_fault(&steady(), ROWS, fault, 0..ROWS);
        let envelope = envelope(&column(&recording, "accel_z"), 2_100.0);
        move |hz: f64| amplitude(&envelope, RATE_HZ / 20.0, hz)
    };
    let clean = envelope(&column(&without(&steady(), ROWS), "accel_z"), 2_100.0);
    // 3.5848 and 5.4152 turns of 29.2 Hz.
    let (bpfo_hz, bpfi_hz) = (104.68, 158.12);
    let outer = spectrum(Race::Outer);
    let floor = amplitude(&clean, RATE_HZ / 20.0, bpfo_hz);
    assert!(outer(bpfo_hz) > 10.0 * floor);
    assert!(outer(bpfo_hz) > 5.0 * outer(bpfo_hz - 29.2).max(outer(bpfo_hz + 15.0)));
    // The place on the inner race passes the load once a turn: sidebands at the shaft's frequency.
    let inner = spectrum(Race::Inner);
    let quiet = inner(bpfi_hz + 12.0).max(inner(bpfi_hz - 41.0));
    for hz in [29.2, bpfi_hz - 29.2, bpfi_hz] {
        assert!(inner(hz) > 5.0 * quiet, "{hz}: {} {quiet}", inner(hz));
    }
}

#[test]
fn a_slow_rate_shows_no_mode_that_it_cannot() {
    let slow = MachineOptions { rate_hz: 833.0, ..steady() };
    let fault = MachineFault::Bearing { race: Race::Outer, impulse: 2.0, slip: 0.01 };
    let samples = column(&with_fault(&slow, 8_330, fault, 0..8_330), "gyro_y");
    // Without the filter the high mode would appear at 2 x 833 + 434 = 2100 Hz folded to 399.
    let (rocking, folded) = (amplitude(&samples, 833.0, 310.0), amplitude(&samples, 833.0, 399.0));
    assert!(deviation(&samples) > 0.005 && folded < 0.004, "{rocking} {folded}");
}

#[test]
fn a_speed_change_moves_the_lines_and_their_size() {
    let fault = MachineFault::SpeedChange { ratio: 1.2 };
    let recording = with_fault(&steady(), 3 * ROWS, fault, ROWS..2 * ROWS);
    let samples = column(&recording, "accel_y");
    let middle = &samples[ROWS + ROWS / 10..2 * ROWS - ROWS / 10];
    let centred: Vec<f64> = middle.iter().map(|x| x - mean(middle)).collect();
    assert!((strongest(&centred, RATE_HZ, 25.0, 45.0, 0.2) - 35.04).abs() < 0.15);
    // Centrifugal force grows with the square of the speed.
    let (before, during) =
        (amplitude(&samples[..ROWS], RATE_HZ, 29.2), amplitude(middle, RATE_HZ, 35.04));
    assert!((during / before - 1.44).abs() < 0.03, "{before} {during}");
    assert!((amplitude(&samples[2 * ROWS..], RATE_HZ, 29.2) / before - 1.0).abs() < 0.03);
}

#[test]
fn a_machine_hums_and_its_air_follows_the_shaft() {
    let options = SoundOptions { wander: 0.0, ..SoundOptions::default() };
    let rate_hz = options.rate_hz;
    let samples = column(&without(&options, 64_000), "sound");
    for (hz, level) in [(100.0, 0.06), (200.0, 0.033), (300.0, 0.018)] {
        let found = amplitude(&samples, rate_hz, hz);
        assert!((found / level - 1.0).abs() < 0.1, "{hz}: {found}");
    }
    // The air's loudness: the envelope of the differences, in blocks of 2 ms.
    let power: Vec<f64> = samples
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).powi(2))
        .collect::<Vec<_>>()
        .chunks_exact(32)
        .map(mean)
        .collect();
    let centred: Vec<f64> = power.iter().map(|x| x - mean(&power)).collect();
    let depth = amplitude(&centred, rate_hz / 32.0, 24.6) / mean(&power);
    // (1 + 0.25 sin)² swings by half; the differences hold the hum as well.
    assert!((0.3..0.6).contains(&depth), "{depth}");
}

#[test]
fn each_fault_of_a_sound_is_heard_where_it_belongs() {
    let options = SoundOptions { wander: 0.0, ..SoundOptions::default() };
    let rate_hz = options.rate_hz;
    let clean = column(&without(&options, 64_000), "sound");
    let faulty = |fault| column(&with_fault(&options, 64_000, fault, 0..64_000), "sound");
    let added = |fault| -> Vec<f64> {
        faulty(fault).iter().zip(&clean).map(|(with, without)| with - without).collect()
    };
    let squeal = added(SoundFault::Squeal { frequency_hz: 3_150.0, level_pa: 0.03 });
    let band =
        (3_050..3_250).step_by(2).map(|hz| amplitude(&squeal, rate_hz, f64::from(hz)).powi(2));
    assert!(band.sum::<f64>() > 0.0 && (rms(&squeal) - 0.0225).abs() < 0.002, "{}", rms(&squeal));
    let knock = added(SoundFault::Knock { turns: 2.0, frequency_hz: 820.0, level_pa: 0.5 });
    // A knock every two turns of 24.6 Hz: twelve a second.
    let loud: Vec<f64> = knock.chunks_exact(160).map(rms).collect();
    let onsets = loud.windows(2).filter(|pair| pair[0] < 0.05 && pair[1] >= 0.05).count();
    assert!((44..=54).contains(&onsets), "{onsets}");
    let hiss = added(SoundFault::Hiss { above_hz: 3_000.0, level_pa: 0.05 });
    assert!((rms(&hiss) - 0.05).abs() < 0.003, "{}", rms(&hiss));
    let band_rms = |low: u32, high: u32| {
        let tones = (low..high).step_by(100).map(|hz| amplitude(&hiss, rate_hz, f64::from(hz)));
        rms(&tones.collect::<Vec<_>>())
    };
    assert!(band_rms(5_000, 7_000) > 10.0 * band_rms(200, 700));
    let hum = faulty(SoundFault::HumChange { gain: 2.0, pitch: 0.9 });
    let middle = &hum[16_000..48_000];
    assert!((amplitude(middle, rate_hz, 90.0) / 0.12 - 1.0).abs() < 0.1);
    assert!(amplitude(middle, rate_hz, 100.0) < 0.01);
}
