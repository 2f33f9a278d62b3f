//! The sound of a machine as a microphone hears it: a tonal hum, blades, and air.
//!
//! The motor hums at twice the mains' frequency and its multiples. The fan's blades make a tone whose loudness, as that
//! of the air's broadband noise, follows the turns of the shaft. The noise falls with frequency as moving air's does
//! (first-order low-pass), with a floor of the microphone's own.

use libm::{exp, sin, sqrt, tan};

use super::generator::{Generator, Scene, positive, share, within};
use super::plan::Cursor;
use super::signal::{Converter, Ringing, TAU, Wander, trapezoid};
use super::{Fault, SynthError};
use crate::dataset::ChannelInfo;
use crate::random::Random;

/// Highest frequency that the microphone's filter passes, as a share of the rate.
const PASS_SHARE: f64 = 0.45;
/// Loudness of the hum's multiples against the first.
const HUM: [f64; 6] = [1.0, 0.55, 0.3, 0.22, 0.12, 0.08];
/// Loudness of the blade tone's multiples.
const BLADES: [f64; 3] = [1.0, 0.4, 0.15];

/// The machine and the microphone.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SoundOptions {
    /// Samples a second.
    pub rate_hz: f64,
    /// The mains' frequency; the hum's first tone is at twice that.
    pub mains_hz: f64,
    /// Sound pressure of the hum's first tone, in Pa.
    pub hum_pa: f64,
    /// Turns of the shaft a second.
    pub shaft_hz: f64,
    /// Blades of the fan.
    pub blades: f64,
    /// Sound pressure of the blade tone, in Pa.
    pub blade_pa: f64,
    /// Standard deviation of the air's noise, in Pa.
    pub air_pa: f64,
    /// Where the air's noise begins to fall, in Hz.
    pub air_hz: f64,
    /// Depth with which the shaft modulates blades and air.
    pub modulation: f64,
    /// Standard deviation of the microphone's noise, in Pa.
    pub floor_pa: f64,
    /// Standard deviation of the slow changes of loudness, as a share.
    pub wander: f64,
    /// Greatest sound pressure that the converter reads, in Pa.
    pub full_scale_pa: f64,
}

impl Default for SoundOptions {
    fn default() -> Self {
        Self {
            rate_hz: 16_000.0,
            mains_hz: 50.0,
            hum_pa: 0.06,
            shaft_hz: 24.6,
            blades: 7.0,
            blade_pa: 0.03,
            air_pa: 0.08,
            air_hz: 700.0,
            modulation: 0.25,
            floor_pa: 0.004,
            wander: 0.05,
            full_scale_pa: 2.0,
        }
    }
}

/// What goes wrong with the machine, to be heard.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum SoundFault {
    /// A dry bearing: a shrill tone that wavers with the shaft.
    Squeal {
        /// Of the tone.
        frequency_hz: f64,
        /// Sound pressure, in Pa.
        level_pa: f64,
    },
    /// Something hits the housing once in so many turns.
    Knock {
        /// Turns of the shaft between two knocks.
        turns: f64,
        /// Of the housing's tone.
        frequency_hz: f64,
        /// Sound pressure at the hit, in Pa.
        level_pa: f64,
    },
    /// Air escapes: noise above a frequency.
    Hiss {
        /// Where the noise begins.
        above_hz: f64,
        /// Its standard deviation, in Pa.
        level_pa: f64,
    },
    /// The hum changes its loudness and its pitch: load, a lost phase, a speed drive.
    HumChange {
        /// Loudness as a share of the old one.
        gain: f64,
        /// Pitch as a share of the old one.
        pitch: f64,
    },
}

impl Generator for SoundOptions {
    type Fault = SoundFault;

    fn rate_hz(&self) -> f64 {
        self.rate_hz
    }

    fn seconds(&self) -> f64 {
        40.0
    }

    fn check(&self) -> Result<(), SynthError> {
        within("rate_hz", self.rate_hz, 1_000.0, 192_000.0)?;
        share("modulation", self.modulation)?;
        within("wander", self.wander, 0.0, 0.3)?;
        let positives = [
            ("mains_hz", self.mains_hz),
            ("shaft_hz", self.shaft_hz),
            ("blades", self.blades),
            ("air_hz", self.air_hz),
            ("full_scale_pa", self.full_scale_pa),
        ];
        positives.into_iter().try_for_each(|(name, value)| positive(name, value))
    }

    fn check_fault(&self, fault: &SoundFault) -> Result<(), SynthError> {
        let highest = PASS_SHARE * self.rate_hz;
        match *fault {
            SoundFault::Squeal { frequency_hz, .. } => {
                within("frequency_hz", frequency_hz, 1.0, highest)
            }
            SoundFault::Knock { turns, frequency_hz, .. } => {
                positive("turns", turns)?;
                within("frequency_hz", frequency_hz, 1.0, highest)
            }
            SoundFault::Hiss { above_hz, .. } => within("above_hz", above_hz, 1.0, highest),
            SoundFault::HumChange { gain, pitch } => {
                within("gain", gain, 0.0, 100.0)?;
                within("pitch", pitch, 0.1, 5.0)
            }
        }
    }

    fn channels(&self) -> Vec<ChannelInfo> {
        vec![ChannelInfo::new("sound", "Pa")]
    }

    fn typical(&self) -> Vec<(SoundFault, f64)> {
        // Below what the rate can show, for slow microphones.
        let hz = |frequency: f64| frequency.min(0.4 * self.rate_hz);
        vec![
            (SoundFault::Squeal { frequency_hz: hz(3_150.0), level_pa: 0.03 }, 2.0),
            (SoundFault::Knock { turns: 2.0, frequency_hz: hz(820.0), level_pa: 0.5 }, 2.0),
            (SoundFault::Hiss { above_hz: hz(3_000.0), level_pa: 0.03 }, 2.0),
            (SoundFault::HumChange { gain: 2.2, pitch: 0.94 }, 2.0),
        ]
    }

    fn render(&self, scene: &Scene<'_, SoundFault>) -> Vec<f32> {
        let mut sound = Sound::new(self, scene.seed);
        let mut cursor = Cursor::new(scene.faults);
        (0..scene.rows).map(|_| sound.next_sample(cursor.next_row())).collect()
    }
}

/// A first-order low-pass: what it keeps a sample, and its state.
struct LowPass {
    keep: f64,
    state: f64,
}

impl LowPass {
    fn new(corner_hz: f64, rate_hz: f64) -> Self {
        Self { keep: exp(-TAU * corner_hz / rate_hz), state: 0.0 }
    }

    fn next(&mut self, input: f64) -> f64 {
        self.state = self.state * self.keep + input * (1.0 - self.keep);
        self.state
    }
}

/// A Butterworth high-pass of the second order by the bilinear transform, scaled so that white noise keeps its deviation.
struct HighPass {
    gain: f64,
    feedback: [f64; 2],
    inputs: [f64; 2],
    outputs: [f64; 2],
}

impl HighPass {
    fn new(corner_hz: f64, rate_hz: f64) -> Self {
        let warped = tan(TAU * corner_hz / rate_hz / 2.0);
        let square = warped * warped;
        let norm = 1.0 / (1.0 + sqrt(2.0) * warped + square);
        // White noise spreads evenly up to half the rate; what lies above the corner passes.
        let passed = 1.0 - 2.0 * corner_hz / rate_hz;
        Self {
            gain: norm / sqrt(passed),
            feedback: [2.0 * (square - 1.0) * norm, (1.0 - sqrt(2.0) * warped + square) * norm],
            inputs: [0.0; 2],
            outputs: [0.0; 2],
        }
    }

    fn next(&mut self, input: f64) -> f64 {
        let difference = input - 2.0 * self.inputs[0] + self.inputs[1];
        let output = self.gain * difference
            - self.feedback[0] * self.outputs[0]
            - self.feedback[1] * self.outputs[1];
        self.inputs = [input, self.inputs[0]];
        self.outputs = [output, self.outputs[0]];
        output
    }
}

struct Sound<'a> {
    options: &'a SoundOptions,
    random: Random,
    fault_random: Random,
    /// In turns.
    hum: f64,
    shaft: f64,
    squeal: f64,
    hum_level: Wander,
    air_level: Wander,
    speed: Wander,
    /// The air's noise has the same deviation whatever its corner.
    air: LowPass,
    air_gain: f64,
    hiss: HighPass,
    knock: Ringing,
    next_knock: Option<f64>,
    converter: Converter,
}

impl<'a> Sound<'a> {
    fn new(options: &'a SoundOptions, seed: u64) -> Self {
        let mut random = Random::stream(seed, 2);
        let step_s = 1.0 / options.rate_hz;
        let air = LowPass::new(options.air_hz, options.rate_hz);
        let air_gain = options.air_pa * sqrt((1.0 + air.keep) / (1.0 - air.keep));
        Self {
            hum: random.uniform(),
            shaft: random.uniform(),
            squeal: 0.0,
            hum_level: Wander::new(options.wander, 3.0, step_s, &mut random),
            air_level: Wander::new(options.wander, 1.0, step_s, &mut random),
            speed: Wander::new(0.002, 2.0, step_s, &mut random),
            air,
            air_gain,
            hiss: HighPass::new(1.0, options.rate_hz),
            knock: Ringing::new(1.0, 0.0, options.rate_hz),
            next_knock: None,
            converter: Converter::new(options.full_scale_pa),
            random,
            fault_random: Random::stream(seed, 3),
            options,
        }
    }

    fn next_sample(&mut self, acting: Option<(&Fault<SoundFault>, usize)>) -> f32 {
        let options = self.options;
        let (mut gain, mut pitch) = (1.0, 1.0);
        if let Some((Fault { kind: SoundFault::HumChange { gain: g, pitch: p }, rows, .. }, at)) =
            acting
        {
            let ramp = trapezoid(at, *rows, 0.02);
            (gain, pitch) = (1.0 + (g - 1.0) * ramp, 1.0 + (p - 1.0) * ramp);
        }
        let hum_hz = 2.0 * options.mains_hz * pitch;
        self.hum += hum_hz / options.rate_hz;
        let shaft_hz = options.shaft_hz * (1.0 + self.speed.next(&mut self.random));
        self.shaft += shaft_hz / options.rate_hz;
        let passes = |hz: f64| hz < PASS_SHARE * options.rate_hz;
        let tones = |turns: f64, hz: f64, levels: &[f64]| -> f64 {
            (1..)
                .zip(levels)
                .filter(|(multiple, _)| passes(f64::from(*multiple) * hz))
                .map(|(multiple, level)| level * sin(TAU * f64::from(multiple) * turns))
                .sum()
        };
        let hum = tones(self.hum, hum_hz, &HUM) * options.hum_pa * gain;
        let hum = hum * (1.0 + self.hum_level.next(&mut self.random));
        let turning = 1.0 + options.modulation * sin(TAU * self.shaft);
        let blade_hz = options.blades * shaft_hz;
        let blades = tones(options.blades * self.shaft, blade_hz, &BLADES) * options.blade_pa;
        let air = self.air.next(self.random.normal()) * self.air_gain;
        let air = (air + blades) * turning * (1.0 + self.air_level.next(&mut self.random));
        let floor = options.floor_pa * self.random.normal();
        let fault = self.fault(acting);
        self.converter.read(hum + air + floor + fault)
    }

    /// What a fault adds.
    fn fault(&mut self, acting: Option<(&Fault<SoundFault>, usize)>) -> f64 {
        let Some((fault, at)) = acting else { return 0.0 };
        let rate_hz = self.options.rate_hz;
        match fault.kind {
            SoundFault::Squeal { frequency_hz, level_pa } => {
                // Stick and slip come and go with the place under load.
                let waver = 1.0 + 0.01 * sin(TAU * self.shaft);
                self.squeal += frequency_hz * waver / rate_hz;
                let loudness = 1.0 + 0.5 * sin(TAU * self.shaft + 1.0);
                level_pa * loudness * sin(TAU * self.squeal)
            }
            SoundFault::Knock { turns, frequency_hz, level_pa } => {
                if at == 0 {
                    self.knock = Ringing::new(frequency_hz, 0.04, rate_hz);
                    self.next_knock = Some(self.shaft);
                }
                let mut next = self.next_knock.unwrap_or(self.shaft);
                while next <= self.shaft {
                    let seconds_ago = (self.shaft - next) / self.options.shaft_hz;
                    let level = level_pa * (1.0 + 0.15 * self.fault_random.normal());
                    self.knock.strike(level, seconds_ago);
                    next += turns * (1.0 + 0.02 * self.fault_random.normal());
                }
                self.next_knock = Some(next);
                self.knock.next()
            }
            SoundFault::Hiss { above_hz, level_pa } => {
                if at == 0 {
                    self.hiss = HighPass::new(above_hz, rate_hz);
                }
                self.hiss.next(level_pa * self.fault_random.normal())
            }
            SoundFault::HumChange { .. } => 0.0,
        }
    }
}
