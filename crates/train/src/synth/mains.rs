//! Three-phase mains as a power analyser samples it: three voltages and three currents.
//!
//! The background keeps to EN 50160 (voltage within 10 %, 50 Hz within 1 %, each harmonic within its limit, total
//! harmonic distortion up to order 40 at most 8 %), with a little flicker and wander. The events are those of EN 50160
//! and IEEE 1159: dip, swell, interruption, distortion, flicker, oscillatory transient, frequency.

use libm::{cos, exp, sqrt};

use super::generator::{Generator, Scene, positive, share, within};
use super::plan::Cursor;
use super::signal::{Converter, TAU, Wander, trapezoid};
use super::waveform::{Harmonics, ORDER_MAX, distorted};
use super::{Fault, SynthError};
use crate::dataset::ChannelInfo;
use crate::random::Random;

const PHASES: usize = 3;
/// Highest frequency that the analyser's filter passes, as a share of the rate.
const PASS_SHARE: f64 = 0.45;
/// The voltage's harmonics, as shares of the fundamental: a quiet low-voltage grid, each well below EN 50160's limit.
pub(super) const VOLTAGE_HARMONICS: [(usize, f64); 12] = [
    (2, 0.001),
    (3, 0.009),
    (5, 0.021),
    (7, 0.013),
    (9, 0.003),
    (11, 0.006),
    (13, 0.004),
    (15, 0.001),
    (17, 0.002),
    (19, 0.0015),
    (23, 0.001),
    (25, 0.001),
];
/// The current's harmonics: rectifiers among motors.
const CURRENT_HARMONICS: [(usize, f64); 7] =
    [(3, 0.09), (5, 0.07), (7, 0.045), (9, 0.02), (11, 0.02), (13, 0.012), (17, 0.006)];

/// The grid, the load and the analyser.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MainsOptions {
    /// Samples a second.
    pub rate_hz: f64,
    /// Voltage between phase and neutral, root mean square.
    pub voltage_v: f64,
    /// The grid's frequency.
    pub mains_hz: f64,
    /// Current of each phase, root mean square.
    pub current_a: f64,
    /// Power factor of the fundamental (displacement), lagging.
    pub power_factor: f64,
    /// Multiplies the background's harmonics.
    pub distortion: f64,
    /// Depth of the background's flicker, as a share of the voltage.
    pub flicker: f64,
    /// Standard deviation of the frequency, in Hz.
    pub frequency_wander: f64,
    /// Standard deviation of the load, as a share of the current.
    pub load_wander: f64,
    /// Standard deviation of the noise of a voltage; a current's is a hundredth of its range in volts.
    pub noise_v: f64,
    /// Greatest voltage that the converter reads.
    pub voltage_range_v: f64,
    /// Greatest current that the converter reads.
    pub current_range_a: f64,
}

impl Default for MainsOptions {
    fn default() -> Self {
        Self {
            rate_hz: 6_400.0,
            voltage_v: 230.0,
            mains_hz: 50.0,
            current_a: 8.0,
            power_factor: 0.93,
            distortion: 1.0,
            flicker: 0.0015,
            frequency_wander: 0.015,
            load_wander: 0.05,
            noise_v: 0.1,
            voltage_range_v: 1_500.0,
            current_range_a: 60.0,
        }
    }
}

/// An event of the grid. Where it has a `phase`, 1 to 3 is that phase alone and 0 all of them.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum MainsFault {
    /// A voltage dip: 5 to 90 % of the voltage remain.
    Sag {
        /// Remaining voltage, as a share.
        residual: f64,
        /// Which phase.
        phase: usize,
    },
    /// Too much voltage.
    Swell {
        /// Voltage as a share.
        ratio: f64,
        /// Which phase.
        phase: usize,
    },
    /// No voltage on any phase: less than 5 % of it remains.
    Interruption {
        /// Remaining voltage, as a share.
        residual: f64,
    },
    /// A distorting load: harmonics 5, 7, 11 and 13 alone have this distortion.
    Harmonics {
        /// In percent; EN 50160 admits 8 in all.
        thd_percent: f64,
    },
    /// A load that switches on and off: the voltage jumps up and down.
    Flicker {
        /// Difference of the two levels, as a share of the voltage.
        depth: f64,
        /// Full periods a second; the eye is most sensitive at 8.8.
        frequency_hz: f64,
    },
    /// A switched capacitor: a ringing on top of the voltage, once, at the first row.
    Transient {
        /// Its height.
        peak_v: f64,
        /// Of the ringing.
        frequency_hz: f64,
        /// Time in which it falls to 37 %, in seconds.
        decay_s: f64,
        /// Which phase.
        phase: usize,
    },
    /// The grid's frequency is off; the change takes a tenth of the event at both ends.
    Frequency {
        /// By so much, in Hz.
        deviation_hz: f64,
    },
}

impl MainsFault {
    /// Tells whether the event acts on a phase, counted from 0.
    fn hits(&self, index: usize) -> bool {
        match self {
            Self::Sag { phase, .. } | Self::Swell { phase, .. } | Self::Transient { phase, .. } => {
                *phase == 0 || *phase == index + 1
            }
            _ => true,
        }
    }
}

impl Generator for MainsOptions {
    type Fault = MainsFault;

    fn rate_hz(&self) -> f64 {
        self.rate_hz
    }

    fn seconds(&self) -> f64 {
        60.0
    }

    fn check(&self) -> Result<(), SynthError> {
        within("mains_hz", self.mains_hz, 45.0, 65.0)?;
        within("rate_hz", self.rate_hz, 4.0 * self.mains_hz, 200_000.0)?;
        within("power_factor", self.power_factor, 0.05, 1.0)?;
        within("distortion", self.distortion, 0.0, 2.0)?;
        within("flicker", self.flicker, 0.0, 0.1)?;
        within("frequency_wander", self.frequency_wander, 0.0, 1.0)?;
        within("load_wander", self.load_wander, 0.0, 0.3)?;
        let positives = [
            ("voltage_v", self.voltage_v),
            ("current_a", self.current_a),
            ("voltage_range_v", self.voltage_range_v),
            ("current_range_a", self.current_range_a),
        ];
        positives.into_iter().try_for_each(|(name, value)| positive(name, value))
    }

    fn check_fault(&self, fault: &MainsFault) -> Result<(), SynthError> {
        if let MainsFault::Sag { phase, .. }
        | MainsFault::Swell { phase, .. }
        | MainsFault::Transient { phase, .. } = fault
        {
            within("phase", *phase as f64, 0.0, 3.0)?;
        }
        match *fault {
            MainsFault::Sag { residual, .. } => within("residual", residual, 0.05, 0.9),
            MainsFault::Swell { ratio, .. } => within("ratio", ratio, 1.1, 3.0),
            MainsFault::Interruption { residual } => within("residual", residual, 0.0, 0.05),
            MainsFault::Harmonics { thd_percent } => within("thd_percent", thd_percent, 0.1, 100.0),
            MainsFault::Flicker { depth, frequency_hz } => {
                share("depth", depth)?;
                within("frequency_hz", frequency_hz, 0.1, 35.0)
            }
            MainsFault::Transient { frequency_hz, decay_s, .. } => {
                positive("decay_s", decay_s)?;
                within("frequency_hz", frequency_hz, 1.0, PASS_SHARE * self.rate_hz)
            }
            MainsFault::Frequency { deviation_hz } => {
                within("deviation_hz", deviation_hz, -10.0, 10.0)
            }
        }
    }

    fn channels(&self) -> Vec<ChannelInfo> {
        let voltage = ["voltage_l1", "voltage_l2", "voltage_l3"].map(|name| (name, "V"));
        let current = ["current_l1", "current_l2", "current_l3"].map(|name| (name, "A"));
        voltage.iter().chain(&current).map(|(name, unit)| ChannelInfo::new(name, unit)).collect()
    }

    fn typical(&self) -> Vec<(MainsFault, f64)> {
        let frequency_hz = 900_f64.min(0.4 * self.rate_hz);
        vec![
            (MainsFault::Sag { residual: 0.6, phase: 0 }, 0.5),
            (MainsFault::Swell { ratio: 1.2, phase: 1 }, 0.5),
            (MainsFault::Interruption { residual: 0.01 }, 0.4),
            (MainsFault::Harmonics { thd_percent: 11.0 }, 1.5),
            (MainsFault::Flicker { depth: 0.04, frequency_hz: 8.8 }, 1.5),
            (MainsFault::Transient { peak_v: 250.0, frequency_hz, decay_s: 0.004, phase: 2 }, 0.02),
            (MainsFault::Frequency { deviation_hz: -1.2 }, 1.5),
        ]
    }

    fn render(&self, scene: &Scene<'_, MainsFault>) -> Vec<f32> {
        let mut mains = Mains::new(self, scene.seed);
        let mut cursor = Cursor::new(scene.faults);
        let mut samples = Vec::with_capacity(scene.rows * 2 * PHASES);
        for _ in 0..scene.rows {
            samples.extend(mains.next_sample(cursor.next_row()));
        }
        samples
    }
}

struct Mains<'a> {
    options: &'a MainsOptions,
    random: Random,
    /// In turns.
    angle: f64,
    flicker_angle: f64,
    frequency: Wander,
    level: Wander,
    load: [Wander; PHASES],
    distortion: Wander,
    /// Small differences of the phases, as shares of the voltage.
    unbalance: [f64; PHASES],
    voltage: Harmonics,
    current: Harmonics,
    /// How far the current lags, in turns.
    lag: f64,
    converters: [Converter; 2],
}

impl<'a> Mains<'a> {
    fn new(options: &'a MainsOptions, seed: u64) -> Self {
        let mut random = Random::stream(seed, 2);
        let step_s = 1.0 / options.rate_hz;
        let voltage = Harmonics::new(&VOLTAGE_HARMONICS, || random.uniform());
        let current = Harmonics::new(&CURRENT_HARMONICS, || random.uniform());
        Self {
            angle: random.uniform(),
            flicker_angle: random.uniform(),
            frequency: Wander::new(options.frequency_wander, 20.0, step_s, &mut random),
            level: Wander::new(0.003, 10.0, step_s, &mut random),
            load: std::array::from_fn(|_| {
                Wander::new(options.load_wander, 5.0, step_s, &mut random)
            }),
            distortion: Wander::new(0.06, 15.0, step_s, &mut random),
            unbalance: std::array::from_fn(|_| random.between(-0.005, 0.005)),
            voltage: voltage.scaled(options.distortion),
            current,
            lag: libm::acos(options.power_factor) / TAU,
            converters: [
                Converter::new(options.voltage_range_v),
                Converter::new(options.current_range_a),
            ],
            random,
            options,
        }
    }

    fn next_sample(&mut self, acting: Option<(&Fault<MainsFault>, usize)>) -> [f32; 2 * PHASES] {
        let options = self.options;
        let deviation_hz = match acting {
            Some((Fault { kind: MainsFault::Frequency { deviation_hz }, rows, .. }, at)) => {
                deviation_hz * trapezoid(at, *rows, 0.1)
            }
            _ => 0.0,
        };
        let mains_hz = options.mains_hz + self.frequency.next(&mut self.random) + deviation_hz;
        self.angle += mains_hz / options.rate_hz;
        self.flicker_angle += 8.8 / options.rate_hz;
        let flicker = options.flicker / 2.0 * libm::sin(TAU * self.flicker_angle);
        let level = 1.0 + flicker + self.level.next(&mut self.random);
        let gain = 1.0 + self.distortion.next(&mut self.random);
        let order_max = ((PASS_SHARE * options.rate_hz / mains_hz) as usize).min(ORDER_MAX);
        let distorting = match acting {
            Some((Fault { kind: MainsFault::Harmonics { thd_percent }, .. }, _)) => {
                Some(self.voltage.with(&distorted(thd_percent / 100.0 / gain)))
            }
            _ => None,
        };
        let voltage = distorting.as_ref().unwrap_or(&self.voltage);
        let mut sample = [0.0; 2 * PHASES];
        for phase in 0..PHASES {
            let turns = self.angle - phase as f64 / 3.0;
            let hit = acting.filter(|(fault, _)| fault.kind.hits(phase));
            let (factor, extra) =
                hit.map_or((1.0, 0.0), |(fault, at)| disturb(&fault.kind, at, options.rate_hz));
            let peak = sqrt(2.0) * options.voltage_v * level * (1.0 + self.unbalance[phase]);
            let noise = options.noise_v * self.random.normal();
            let volts = peak * factor * voltage.at(turns, gain, order_max) + extra + noise;
            let load = 1.0 + self.load[phase].next(&mut self.random);
            // The load takes what current the voltage drives; a transient passes it by.
            let peak = sqrt(2.0) * options.current_a * level * load * factor;
            let noise = 1e-4 * options.current_range_a * self.random.normal();
            let amperes = peak * self.current.at(turns - self.lag, 1.0, order_max) + noise;
            sample[phase] = self.converters[0].read(volts);
            sample[PHASES + phase] = self.converters[1].read(amperes);
        }
        sample
    }
}

/// Returns what an event multiplies a voltage by and adds to it.
fn disturb(fault: &MainsFault, at: usize, rate_hz: f64) -> (f64, f64) {
    let seconds = at as f64 / rate_hz;
    match *fault {
        MainsFault::Sag { residual, .. } | MainsFault::Interruption { residual } => (residual, 0.0),
        MainsFault::Swell { ratio, .. } => (ratio, 0.0),
        MainsFault::Flicker { depth, frequency_hz } => {
            let turns = seconds * frequency_hz;
            let up = turns - turns.floor() < 0.5;
            (1.0 + if up { depth / 2.0 } else { -depth / 2.0 }, 0.0)
        }
        MainsFault::Transient { peak_v, frequency_hz, decay_s, .. } => {
            (1.0, peak_v * exp(-seconds / decay_s) * cos(TAU * frequency_hz * seconds))
        }
        MainsFault::Harmonics { .. } | MainsFault::Frequency { .. } => (1.0, 0.0),
    }
}
