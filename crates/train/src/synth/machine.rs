//! A rotating machine as an inertial sensor on its housing reads it: three axes of acceleration and of angular rate.
//!
//! The shaft lies along x, z points up. What repeats with the shaft comes as orders of its rotation; the amplitude of
//! each grows with the square of the speed, as a rotating mass's does. Two modes of the housing ring: a high one that
//! the accelerometer sees, and a rocking one that the gyroscope sees as well. A mode or an order above what the rate
//! can show is left out, as the sensor's own filter does. The converter has 16 bits.
//!
//! Source of the bearing's frequencies and of its impulses with slip: R. B. Randall, J. Antoni, "Rolling element bearing
//! diagnostics: a tutorial", Mech. Syst. Signal Process. 25 (2011) 485-520, section 2, equations 1 to 4.

use libm::{cos, pow, sin, sqrt};

use super::generator::{Generator, Scene, positive, within};
use super::plan::Cursor;
use super::signal::{Converter, Ringing, TAU, Wander, trapezoid};
use super::{Fault, SynthError};
use crate::dataset::ChannelInfo;
use crate::random::Random;

const GRAVITY: f64 = 9.806_65;
const AXES: usize = 6;
/// Highest frequency that the sensor's filter passes, as a share of the rate.
const PASS_SHARE: f64 = 0.45;
/// Highest rate of the sensor.
const RATE_HZ_MAX: f64 = 6_667.0;

/// A rolling element bearing.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bearing {
    /// Number of balls or rollers.
    pub balls: f64,
    /// Diameter of a ball, in mm.
    pub ball_mm: f64,
    /// Diameter of the circle of the balls' centres, in mm.
    pub pitch_mm: f64,
    /// Angle of contact, in degrees.
    pub contact_degrees: f64,
}

impl Default for Bearing {
    /// A deep-groove ball bearing of series 6205.
    fn default() -> Self {
        Self { balls: 9.0, ball_mm: 7.94, pitch_mm: 39.04, contact_degrees: 0.0 }
    }
}

impl Bearing {
    fn ratio(&self) -> f64 {
        self.ball_mm / self.pitch_mm * cos(self.contact_degrees.to_radians())
    }

    /// Returns how often balls pass a place of the outer race, a turn of the shaft: BPFO = n/2 (1 - d/D cos φ).
    #[must_use]
    pub fn outer_order(&self) -> f64 {
        self.balls / 2.0 * (1.0 - self.ratio())
    }

    /// Returns how often balls pass a place of the inner race, a turn of the shaft: BPFI = n/2 (1 + d/D cos φ).
    #[must_use]
    pub fn inner_order(&self) -> f64 {
        self.balls / 2.0 * (1.0 + self.ratio())
    }

    /// Returns how often the cage turns, a turn of the shaft: FTF = 1/2 (1 - d/D cos φ).
    #[must_use]
    pub fn cage_order(&self) -> f64 {
        (1.0 - self.ratio()) / 2.0
    }

    /// Returns how often a ball turns, a turn of the shaft: BSF = D/2d (1 - (d/D cos φ)²).
    #[must_use]
    pub fn ball_order(&self) -> f64 {
        let ratio = self.ratio();
        self.pitch_mm / (2.0 * self.ball_mm) * (1.0 - ratio * ratio)
    }
}

/// The machine and the sensor on it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MachineOptions {
    /// Samples a second, at most 6667.
    pub rate_hz: f64,
    /// Turns of the shaft a second.
    pub shaft_hz: f64,
    /// Standard deviation of the speed, as a share of it.
    pub speed_wander: f64,
    /// Standard deviation of the load, as a share of all amplitudes.
    pub load_wander: f64,
    /// Amplitude of the first order's radial acceleration, in m/s²; the other orders follow it.
    pub vibration: f64,
    /// The mains' frequency: the motor hums at twice that.
    pub mains_hz: f64,
    /// The bearing.
    pub bearing: Bearing,
    /// Frequency of the housing's high mode.
    pub resonance_hz: f64,
    /// Its damping, as a share of the critical one.
    pub resonance_damping: f64,
    /// Frequency of the mode in which the housing rocks on its mount.
    pub rocking_hz: f64,
    /// Its damping.
    pub rocking_damping: f64,
    /// Standard deviation of the modes' steady noise, in m/s².
    pub noise: f64,
    /// Noise density of the accelerometer, in µg/√Hz.
    pub accel_noise_ug: f64,
    /// Noise density of the gyroscope, in millidegrees a second/√Hz.
    pub gyro_noise_mdps: f64,
    /// Greatest acceleration that the sensor reads, in g.
    pub accel_range_g: f64,
    /// Greatest angular rate that the sensor reads, in degrees a second.
    pub gyro_range_dps: f64,
}

impl Default for MachineOptions {
    fn default() -> Self {
        Self {
            rate_hz: 6_600.0,
            shaft_hz: 29.2,
            speed_wander: 0.002,
            load_wander: 0.04,
            vibration: 0.5,
            mains_hz: 50.0,
            bearing: Bearing::default(),
            resonance_hz: 2_100.0,
            resonance_damping: 0.03,
            rocking_hz: 310.0,
            rocking_damping: 0.05,
            noise: 0.12,
            accel_noise_ug: 75.0,
            gyro_noise_mdps: 5.0,
            accel_range_g: 8.0,
            gyro_range_dps: 500.0,
        }
    }
}

/// A race of the bearing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Race {
    /// The one that stands still: each ball strikes alike.
    Outer,
    /// The one that turns: balls strike harder while the place is under load.
    Inner,
}

/// What goes wrong with the machine.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum MachineFault {
    /// A mass off the axis: the first order's radial amplitude is `gain` times what it was.
    Imbalance {
        /// At least 1.
        gain: f64,
    },
    /// A foot or bearing seat that is loose: half orders, multiple orders, and a motion cut off on one side.
    Looseness {
        /// Amplitude of the half order, in m/s²; the others follow it.
        level: f64,
        /// Where the upward motion is cut off, as a share of its amplitude.
        truncation: f64,
    },
    /// A damaged place of a race: an impulse with each ball that passes, which makes both modes ring.
    Bearing {
        /// Where the damage is.
        race: Race,
        /// Height of an impulse's ringing, in m/s².
        impulse: f64,
        /// Standard deviation of the time between impulses, as a share: the balls slip.
        slip: f64,
    },
    /// The shaft turns at another speed; the change takes a twentieth of the fault at both ends.
    SpeedChange {
        /// New speed as a share of the old one.
        ratio: f64,
    },
}

/// An order of the shaft: multiple of its frequency, share of the first order's amplitude on each axis.
/// Acceleration counts in m/s², angular rate in rad/s for a vibration of 1 m/s².
type Order = (f64, [f64; AXES]);

const ORDERS: [Order; 6] = [
    (1.0, [0.10, 1.00, 0.80, 0.015, 0.060, 0.075]),
    (2.0, [0.24, 0.32, 0.26, 0.012, 0.018, 0.018]),
    (3.0, [0.05, 0.12, 0.10, 0.004, 0.007, 0.007]),
    (4.0, [0.03, 0.06, 0.05, 0.002, 0.004, 0.004]),
    // The blades of the fan.
    (7.0, [0.08, 0.18, 0.16, 0.003, 0.010, 0.010]),
    (14.0, [0.02, 0.06, 0.05, 0.001, 0.003, 0.003]),
];
/// Looseness: order and share of its level.
const LOOSE_ORDERS: [(f64, f64); 7] =
    [(0.5, 1.0), (1.5, 0.6), (2.5, 0.35), (3.0, 0.55), (4.0, 0.45), (5.0, 0.35), (6.0, 0.25)];
const LOOSE_AXES: [f64; AXES] = [0.15, 0.45, 1.0, 0.01, 0.08, 0.03];
const HUM_AXES: [f64; AXES] = [0.05, 0.07, 0.07, 0.006, 0.002, 0.002];
/// What an impulse of 1 m/s² does to each axis through the two modes.
const RESONANCE_AXES: [f64; AXES] = [0.3, 0.7, 1.0, 0.0, 0.0, 0.0];
const ROCKING_AXES: [f64; AXES] = [0.10, 0.30, 0.35, 0.010, 0.040, 0.030];
/// How fast speed and load wander.
const WANDER_S: f64 = 1.5;

impl Generator for MachineOptions {
    type Fault = MachineFault;

    fn rate_hz(&self) -> f64 {
        self.rate_hz
    }

    fn seconds(&self) -> f64 {
        40.0
    }

    fn check(&self) -> Result<(), SynthError> {
        within("rate_hz", self.rate_hz, 1.0, RATE_HZ_MAX)?;
        // The first order must be there to see.
        within("shaft_hz", self.shaft_hz, 0.1, PASS_SHARE * self.rate_hz)?;
        within("speed_wander", self.speed_wander, 0.0, 0.1)?;
        within("load_wander", self.load_wander, 0.0, 0.3)?;
        within("resonance_damping", self.resonance_damping, 1e-3, 0.9)?;
        within("rocking_damping", self.rocking_damping, 1e-3, 0.9)?;
        let bearing = &self.bearing;
        within("contact_degrees", bearing.contact_degrees, 0.0, 89.0)?;
        let positives = [
            ("resonance_hz", self.resonance_hz),
            ("rocking_hz", self.rocking_hz),
            ("accel_range_g", self.accel_range_g),
            ("gyro_range_dps", self.gyro_range_dps),
            ("balls", bearing.balls),
            ("ball_mm", bearing.ball_mm),
        ];
        positives.into_iter().try_for_each(|(name, value)| positive(name, value))?;
        within("pitch_mm", bearing.pitch_mm, bearing.ball_mm, f64::MAX)
    }

    fn check_fault(&self, fault: &MachineFault) -> Result<(), SynthError> {
        match *fault {
            MachineFault::Imbalance { gain } => within("gain", gain, 1.0, 1e3),
            MachineFault::Looseness { level, truncation } => {
                positive("level", level)?;
                within("truncation", truncation, 0.05, 1.0)
            }
            MachineFault::Bearing { impulse, slip, .. } => {
                positive("impulse", impulse)?;
                within("slip", slip, 0.0, 0.1)
            }
            MachineFault::SpeedChange { ratio } => within("ratio", ratio, 0.1, 3.0),
        }
    }

    fn channels(&self) -> Vec<ChannelInfo> {
        let channel = |(name, unit): (&str, &str)| ChannelInfo::new(name, unit);
        let accel = ["accel_x", "accel_y", "accel_z"].map(|name| (name, "m/s2"));
        let gyro = ["gyro_x", "gyro_y", "gyro_z"].map(|name| (name, "rad/s"));
        accel.into_iter().chain(gyro).map(channel).collect()
    }

    fn typical(&self) -> Vec<(MachineFault, f64)> {
        let bearing = |race, impulse| MachineFault::Bearing { race, impulse, slip: 0.01 };
        vec![
            (MachineFault::Imbalance { gain: 2.0 }, 2.0),
            (MachineFault::Looseness { level: 0.3, truncation: 0.7 }, 2.0),
            (bearing(Race::Outer, 0.8), 2.0),
            (bearing(Race::Inner, 1.2), 2.0),
            (MachineFault::SpeedChange { ratio: 1.15 }, 2.0),
        ]
    }

    fn derived(&self) -> Vec<(&'static str, f64)> {
        let bearing = &self.bearing;
        vec![
            ("bpfo_hz", bearing.outer_order() * self.shaft_hz),
            ("bpfi_hz", bearing.inner_order() * self.shaft_hz),
            ("ftf_hz", bearing.cage_order() * self.shaft_hz),
            ("bsf_hz", bearing.ball_order() * self.shaft_hz),
        ]
    }

    fn render(&self, scene: &Scene<'_, MachineFault>) -> Vec<f32> {
        let mut machine = Machine::new(self, scene.seed);
        let mut cursor = Cursor::new(scene.faults);
        let mut samples = Vec::with_capacity(scene.rows * AXES);
        for _ in 0..scene.rows {
            samples.extend(machine.next_sample(cursor.next_row()));
        }
        samples
    }
}

/// One of the housing's modes with what it does to the axes.
struct Mode {
    ringing: Ringing,
    /// The same mode, struck by a fault alone: silenced at the fault's end.
    struck: Ringing,
    rest: Ringing,
    axes: [f64; AXES],
    shake: f64,
}

struct Machine<'a> {
    options: &'a MachineOptions,
    random: Random,
    fault_random: Random,
    speed: Wander,
    load: Wander,
    /// Turns of the shaft since the start, of the mains' second harmonic, and of the bearing's next impulse.
    shaft: f64,
    hum: f64,
    next_strike: Option<f64>,
    /// Phase of each order on each axis, in turns.
    phases: Vec<[f64; AXES]>,
    loose_phases: Vec<f64>,
    modes: Vec<Mode>,
    /// Gravity and the gyroscope's bias.
    rest: [f64; AXES],
    white: [f64; 2],
    converters: [Converter; 2],
}

impl<'a> Machine<'a> {
    fn new(options: &'a MachineOptions, seed: u64) -> Self {
        let mut random = Random::stream(seed, 2);
        let step_s = 1.0 / options.rate_hz;
        let mode = |frequency_hz: f64, damping: f64, axes: [f64; AXES]| {
            let ringing = Ringing::new(frequency_hz, damping, options.rate_hz);
            // Noise of both phases adds up to this variance of the deflection.
            let keep = ringing.keep();
            let shake = options.noise * sqrt(1.0 - keep * keep);
            Mode { struck: ringing.clone(), rest: ringing.clone(), ringing, axes, shake }
        };
        let modes = [
            (options.resonance_hz, options.resonance_damping, RESONANCE_AXES),
            (options.rocking_hz, options.rocking_damping, ROCKING_AXES),
        ];
        let passed = modes.into_iter().filter(|(hz, ..)| *hz < PASS_SHARE * options.rate_hz);
        let (tilt_x, tilt_y) = (random.between(-0.03, 0.03), random.between(-0.03, 0.03));
        let upright = GRAVITY * cos(tilt_x) * cos(tilt_y);
        let bias: [f64; 3] = std::array::from_fn(|_| random.between(-0.01, 0.01));
        // The vertical motion lags the horizontal by a quarter turn, as a rotating force demands.
        let phases = ORDERS.iter().map(|_| {
            let start = random.uniform();
            std::array::from_fn(|axis| {
                start + if axis % 3 == 2 { 0.25 } else { 0.0 } + random.between(-0.05, 0.05)
            })
        });
        let phases = phases.collect();
        let bandwidth = sqrt(options.rate_hz / 2.0);
        Self {
            speed: Wander::new(options.speed_wander, WANDER_S, step_s, &mut random),
            load: Wander::new(options.load_wander, WANDER_S, step_s, &mut random),
            shaft: random.uniform(),
            hum: random.uniform(),
            next_strike: None,
            phases,
            loose_phases: LOOSE_ORDERS.iter().map(|_| random.uniform()).collect(),
            modes: passed.map(|(hz, damping, axes)| mode(hz, damping, axes)).collect(),
            rest: [
                GRAVITY * sin(tilt_y),
                -GRAVITY * sin(tilt_x) * cos(tilt_y),
                upright,
                bias[0],
                bias[1],
                bias[2],
            ],
            white: [
                options.accel_noise_ug * 1e-6 * GRAVITY * bandwidth,
                (options.gyro_noise_mdps * 1e-3 * bandwidth).to_radians(),
            ],
            converters: [
                Converter::new(options.accel_range_g * GRAVITY),
                Converter::new(options.gyro_range_dps.to_radians()),
            ],
            random,
            fault_random: Random::stream(seed, 3),
            options,
        }
    }

    fn next_sample(&mut self, acting: Option<(&Fault<MachineFault>, usize)>) -> [f32; AXES] {
        let options = self.options;
        let ratio = match acting {
            Some((Fault { kind: MachineFault::SpeedChange { ratio }, rows, .. }, at)) => {
                1.0 + (ratio - 1.0) * trapezoid(at, *rows, 0.05)
            }
            _ => 1.0,
        };
        let relative = ratio * (1.0 + self.speed.next(&mut self.random));
        let shaft_hz = options.shaft_hz * relative;
        self.shaft += shaft_hz / options.rate_hz;
        self.hum += 2.0 * options.mains_hz / options.rate_hz;
        let load = 1.0 + self.load.next(&mut self.random);
        let scale = options.vibration * relative * relative * load;
        let mut motion = self.orders(scale, shaft_hz, acting.map(|(fault, _)| &fault.kind));
        if let Some((Fault { kind: MachineFault::Looseness { level, truncation }, .. }, _)) = acting
        {
            let level = level * relative * relative;
            self.loosen(&mut motion, level, *truncation, scale, shaft_hz);
        }
        self.strike(acting, shaft_hz);
        let hum = sin(TAU * self.hum);
        for mode in &mut self.modes {
            mode.ringing.shake(mode.shake, &mut self.random);
            let deflection = mode.ringing.next() + mode.struck.next();
            for (axis, coupling) in motion.iter_mut().zip(&mode.axes) {
                *axis += coupling * deflection;
            }
        }
        let mut sample = [0.0; AXES];
        for (axis, sample) in sample.iter_mut().enumerate() {
            let white = self.white[axis / 3] * self.random.normal();
            let value = self.rest[axis] + motion[axis] + HUM_AXES[axis] * hum + white;
            *sample = self.converters[axis / 3].read(value);
        }
        sample
    }

    /// What repeats with the shaft.
    fn orders(&self, scale: f64, shaft_hz: f64, fault: Option<&MachineFault>) -> [f64; AXES] {
        let mut motion = [0.0; AXES];
        for ((order, axes), phases) in ORDERS.iter().zip(&self.phases) {
            if !self.passes(order * shaft_hz) {
                continue;
            }
            let gain = match fault {
                Some(MachineFault::Imbalance { gain }) if *order == 1.0 => *gain,
                _ => 1.0,
            };
            for axis in 0..AXES {
                // A mass off the axis pulls radially, not along the shaft or about it.
                let gain = if axis % 3 == 0 { 1.0 } else { gain };
                let phase = order * self.shaft + phases[axis];
                motion[axis] += gain * scale * axes[axis] * sin(TAU * phase);
            }
        }
        motion
    }

    fn passes(&self, frequency_hz: f64) -> bool {
        frequency_hz < PASS_SHARE * self.options.rate_hz
    }

    /// Adds half and multiple orders, and cuts the motion off above, where the seat stops it.
    fn loosen(
        &self,
        motion: &mut [f64; AXES],
        level: f64,
        truncation: f64,
        scale: f64,
        shaft_hz: f64,
    ) {
        for ((order, share), phase) in LOOSE_ORDERS.iter().zip(&self.loose_phases) {
            if !self.passes(order * shaft_hz) {
                continue;
            }
            let wave = level * share * sin(TAU * (order * self.shaft + phase));
            for (axis, coupling) in motion.iter_mut().zip(LOOSE_AXES) {
                *axis += coupling * wave;
            }
        }
        for axis in [2, 4] {
            let amplitude = scale * ORDERS[0].1[axis] + level * LOOSE_AXES[axis];
            motion[axis] = motion[axis].min(truncation * amplitude);
        }
    }

    /// Strikes the modes for every ball that has passed the damage since the last sample.
    fn strike(&mut self, acting: Option<(&Fault<MachineFault>, usize)>, shaft_hz: f64) {
        let Some((Fault { kind: MachineFault::Bearing { race, impulse, slip }, .. }, at)) = acting
        else {
            if self.next_strike.take().is_some() {
                self.modes.iter_mut().for_each(|mode| mode.struck = mode.rest.clone());
            }
            return;
        };
        let bearing = &self.options.bearing;
        let order = match race {
            Race::Outer => bearing.outer_order(),
            Race::Inner => bearing.inner_order(),
        };
        if at == 0 {
            // The first ball strikes with the first row, so that the label is true from there on.
            self.next_strike = Some(self.shaft);
            self.modes.iter_mut().for_each(|mode| mode.struck = mode.rest.clone());
        }
        let Some(mut next) = self.next_strike else { return };
        while next <= self.shaft {
            let seconds_ago = (self.shaft - next) / shaft_hz;
            let load = match race {
                Race::Outer => 1.0,
                // Stribeck's distribution of the load over the lower half of the bearing.
                Race::Inner => 0.1 + 0.9 * pow(cos(TAU * next).max(0.0), 1.5),
            };
            let amplitude = impulse * load * (1.0 + 0.1 * self.fault_random.normal());
            for mode in &mut self.modes {
                mode.struck.strike(amplitude, seconds_ago);
            }
            next += (1.0 + slip * self.fault_random.normal()) / order;
        }
        self.next_strike = Some(next);
    }
}
