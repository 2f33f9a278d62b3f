//! A power meter on one phase: a row a minute, with the voltage's waveform of the first 200 ms of the minute.
//!
//! Ten periods of 50 Hz are the measuring window of IEC 61000-4-7. The distortion that a row states is that of the
//! harmonics which the waveform was made of, √(Σ Vh², h = 2..40) / V1.

use std::io::Write;
use std::path::Path;

use super::generator::{Generator, Scene, positive, within};
use super::plan::Cursor;
use super::signal::{Wander, round_to};
use super::temperature::{DAY_S, day_wave};
use super::waveform::{Harmonics, ORDER_MAX, distorted};
use super::{Fault, SynthError, mains};
use crate::dataset::time::format_iso;
use crate::dataset::{ChannelInfo, Recording};
use crate::random::Random;

/// Seconds between two rows.
const ROW_S: f64 = 60.0;
/// 2024-01-01T00:00:00Z, where the meter's files begin.
pub(super) const START_US: i64 = 1_704_067_200_000_000;

/// The grid, the house and the meter.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeterOptions {
    /// Root mean square of the voltage.
    pub voltage_v: f64,
    /// The grid's frequency.
    pub mains_hz: f64,
    /// Mean current of the house, root mean square.
    pub current_a: f64,
    /// Samples a second of the waveform.
    pub sample_hz: f64,
    /// Samples of the waveform in a row.
    pub samples: usize,
    /// Standard deviation of the waveform's noise, in V.
    pub noise_v: f64,
}

impl Default for MeterOptions {
    fn default() -> Self {
        Self {
            voltage_v: 230.0,
            mains_hz: 50.0,
            current_a: 2.0,
            sample_hz: 6_400.0,
            samples: 1_280,
            noise_v: 0.1,
        }
    }
}

/// What is wrong in a minute.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum MeterFault {
    /// Too little voltage.
    Sag {
        /// Remaining voltage, as a share.
        residual: f64,
    },
    /// Too much voltage.
    Swell {
        /// Voltage as a share.
        ratio: f64,
    },
    /// Distorted voltage.
    Harmonics {
        /// Of harmonics 5, 7, 11 and 13 alone.
        thd_percent: f64,
    },
    /// The grid's frequency is off.
    Frequency {
        /// By so much, in Hz.
        deviation_hz: f64,
    },
    /// Too much current: a short to earth, a blocked motor.
    Overload {
        /// Root mean square, in A.
        current_a: f64,
    },
    /// The current does little work: a failed capacitor bank.
    PowerFactor {
        /// Active over apparent power.
        power_factor: f64,
    },
}

/// A row of the meter's file.
#[derive(Clone, Debug, PartialEq)]
pub struct MeterRow {
    /// Waveform of the voltage, in V.
    pub voltage_v: Vec<f32>,
    /// Root mean square of the voltage.
    pub voltage_rms_v: f32,
    /// Root mean square of the current.
    pub current_a: f32,
    /// Active power, in W.
    pub power_w: f32,
    /// Total harmonic distortion of the voltage, in percent.
    pub thd_percent: f32,
    /// Frequency in Hz.
    pub frequency_hz: f32,
}

impl Generator for MeterOptions {
    type Fault = MeterFault;

    fn rate_hz(&self) -> f64 {
        1.0 / ROW_S
    }

    fn seconds(&self) -> f64 {
        1_000.0 * ROW_S
    }

    fn check(&self) -> Result<(), SynthError> {
        within("mains_hz", self.mains_hz, 45.0, 65.0)?;
        // Every harmonic up to the fortieth must be there.
        within("sample_hz", self.sample_hz, 2.2 * 40.0 * 45.0, 200_000.0)?;
        within("samples", self.samples as f64, 2.0 * self.sample_hz / self.mains_hz, 100_000.0)?;
        positive("voltage_v", self.voltage_v)?;
        positive("current_a", self.current_a)
    }

    fn check_fault(&self, fault: &MeterFault) -> Result<(), SynthError> {
        match *fault {
            MeterFault::Sag { residual } => within("residual", residual, 0.0, 0.9),
            MeterFault::Swell { ratio } => within("ratio", ratio, 1.1, 3.0),
            MeterFault::Harmonics { thd_percent } => within("thd_percent", thd_percent, 0.1, 100.0),
            MeterFault::Frequency { deviation_hz } => {
                within("deviation_hz", deviation_hz, -10.0, 10.0)
            }
            MeterFault::Overload { current_a } => positive("current_a", current_a),
            MeterFault::PowerFactor { power_factor } => {
                within("power_factor", power_factor, 0.05, 1.0)
            }
        }
    }

    fn channels(&self) -> Vec<ChannelInfo> {
        [
            ("Voltage_RMS_L1", "V"),
            ("Current_L1", "A"),
            ("Active_Power_L1", "W"),
            ("THD_Voltage_L1", "%"),
            ("Frequency", "Hz"),
        ]
        .map(|(name, unit)| ChannelInfo::new(name, unit))
        .into()
    }

    fn typical(&self) -> Vec<(MeterFault, f64)> {
        vec![
            (MeterFault::Sag { residual: 0.75 }, 3.0 * ROW_S),
            (MeterFault::Harmonics { thd_percent: 11.0 }, 8.0 * ROW_S),
            (MeterFault::Swell { ratio: 1.18 }, 3.0 * ROW_S),
            (MeterFault::Frequency { deviation_hz: -1.0 }, 5.0 * ROW_S),
            (MeterFault::Overload { current_a: 6.5 }, 4.0 * ROW_S),
            (MeterFault::PowerFactor { power_factor: 0.5 }, 8.0 * ROW_S),
        ]
    }

    /// The kinds in turn, each time of another size and length.
    fn draw(&self, number: usize, random: &mut Random) -> (MeterFault, f64) {
        let mut between = |low: f64, high: f64| (random.between(low, high) * 1e3).round() / 1e3;
        let fault = match number % 6 {
            0 => MeterFault::Sag { residual: between(0.4, 0.87) },
            1 => MeterFault::Harmonics { thd_percent: between(8.5, 18.0) },
            2 => MeterFault::Swell { ratio: between(1.12, 1.3) },
            3 => {
                let size = between(0.6, 2.5);
                let sign = if random.below(2) == 0 { 1.0 } else { -1.0 };
                MeterFault::Frequency { deviation_hz: sign * size }
            }
            4 => MeterFault::Overload { current_a: between(5.6, 9.0) },
            _ => MeterFault::PowerFactor { power_factor: between(0.3, 0.6) },
        };
        (fault, ROW_S * f64::from(1 + random.below(8)))
    }

    fn render(&self, scene: &Scene<'_, MeterFault>) -> Vec<f32> {
        meter_rows(self, scene).iter().flat_map(numbers).collect()
    }
}

/// Computes the rows of a meter, with their waveforms.
#[must_use]
pub fn meter_rows(options: &MeterOptions, scene: &Scene<'_, MeterFault>) -> Vec<MeterRow> {
    let mut meter = Meter::new(options, scene.seed);
    let mut cursor = Cursor::new(scene.faults);
    (0..scene.rows).map(|_| meter.next_row(cursor.next_row().map(|(fault, _)| fault))).collect()
}

/// Returns a row's numbers in the order of the channels.
pub(super) fn numbers(row: &MeterRow) -> [f32; 5] {
    [row.voltage_rms_v, row.current_a, row.power_w, row.thd_percent, row.frequency_hz]
}

struct Meter<'a> {
    options: &'a MeterOptions,
    random: Random,
    clock_s: f64,
    voltage: Wander,
    frequency: Wander,
    distortion: Wander,
    use_of_power: Wander,
    /// What runs: a load that switches on and off.
    appliance: bool,
    harmonics: Harmonics,
}

impl<'a> Meter<'a> {
    fn new(options: &'a MeterOptions, seed: u64) -> Self {
        let mut random = Random::stream(seed, 2);
        Self {
            clock_s: 0.0,
            voltage: Wander::new(0.008, 1_800.0, ROW_S, &mut random),
            frequency: Wander::new(0.02, 300.0, ROW_S, &mut random),
            distortion: Wander::new(0.1, 3_600.0, ROW_S, &mut random),
            use_of_power: Wander::new(0.15, 1_200.0, ROW_S, &mut random),
            appliance: false,
            harmonics: Harmonics::new(&mains::VOLTAGE_HARMONICS, || random.uniform()),
            random,
            options,
        }
    }

    fn next_row(&mut self, acting: Option<&Fault<MeterFault>>) -> MeterRow {
        let options = self.options;
        self.clock_s = (self.clock_s + ROW_S) % DAY_S;
        // Most is used in the evening, when the voltage is lowest and the distortion highest.
        let evening = day_wave(self.clock_s - 19.0 * 3_600.0);
        if self.random.uniform() < 0.06 {
            self.appliance = !self.appliance;
        }
        let appliance = if self.appliance { 0.55 } else { 0.0 };
        let profile = 0.75 + 0.3 * evening + appliance + self.use_of_power.next(&mut self.random);
        let mut current_a = options.current_a * profile.clamp(0.1, 2.2);
        let mut level = 1.0 - 0.012 * evening + self.voltage.next(&mut self.random);
        let mut frequency_hz = options.mains_hz + self.frequency.next(&mut self.random);
        let gain = 1.0 + 0.2 * evening + self.distortion.next(&mut self.random);
        let mut harmonics = self.harmonics.scaled(gain.max(0.2));
        let mut power_factor = self.random.between(0.86, 0.97);
        match acting.map(|fault| &fault.kind) {
            Some(MeterFault::Sag { residual }) => {
                level *= residual;
                current_a *= residual;
            }
            Some(MeterFault::Swell { ratio }) => {
                level *= ratio;
                current_a *= ratio;
            }
            Some(MeterFault::Harmonics { thd_percent }) => {
                harmonics = harmonics.with(&distorted(thd_percent / 100.0));
            }
            Some(MeterFault::Frequency { deviation_hz }) => frequency_hz += deviation_hz,
            Some(MeterFault::Overload { current_a: load }) => current_a = *load,
            Some(MeterFault::PowerFactor { power_factor: low }) => power_factor = *low,
            None => {}
        }
        self.measure(&harmonics, level, frequency_hz, current_a, power_factor)
    }

    fn measure(
        &mut self,
        harmonics: &Harmonics,
        level: f64,
        frequency_hz: f64,
        current_a: f64,
        power_factor: f64,
    ) -> MeterRow {
        let options = self.options;
        let rms_v = options.voltage_v * level;
        let peak_v = rms_v / harmonics.rms();
        let start = self.random.uniform();
        let random = &mut self.random;
        let voltage_v = (0..options.samples).map(|sample| {
            let turns = start + sample as f64 * frequency_hz / options.sample_hz;
            let volts = peak_v * harmonics.at(turns, 1.0, ORDER_MAX);
            round_to(volts + options.noise_v * random.normal(), 0.1)
        });
        let voltage_v = voltage_v.collect();
        // Class 0.5: the meter's own error, as a share.
        let mut error = || 1.0 + 0.001 * random.normal();
        MeterRow {
            voltage_v,
            voltage_rms_v: round_to(rms_v * error(), 0.1),
            power_w: round_to(rms_v * current_a * power_factor * error(), 0.1),
            current_a: round_to(current_a * error(), 0.001),
            thd_percent: round_to(100.0 * harmonics.thd(), 0.01),
            frequency_hz: round_to(frequency_hz, 0.01),
        }
    }
}

/// Writes the meter's file: `Time,Voltage_L1,Current_L1,Active_Power_L1,THD_Voltage_L1,Frequency,target`, where the
/// voltage is a JSON array and the target is 1 for a faulty minute.
///
/// # Errors
/// [`SynthError::File`].
pub(super) fn write_meter_csv(
    path: &Path,
    recording: &Recording,
    waveforms: &[Vec<f32>],
) -> Result<(), SynthError> {
    let write = || -> std::io::Result<()> {
        let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
        writeln!(
            out,
            "Time,Voltage_L1,Current_L1,Active_Power_L1,THD_Voltage_L1,Frequency,target"
        )?;
        let labels = recording.labels.as_deref().unwrap_or_default();
        for (row, waveform) in waveforms.iter().enumerate() {
            let time = format_iso(recording.time_us[row]);
            let time = time.replace('T', " ");
            write!(out, "{},\"[", time.split(['.', 'Z', '+']).next().unwrap_or(&time))?;
            for (sample, volts) in waveform.iter().enumerate() {
                write!(out, "{}{volts}", if sample == 0 { "" } else { ", " })?;
            }
            let [_, current, power, thd, frequency] = recording.row(row) else { continue };
            let target = labels.get(row).map_or(0, |label| u8::from(*label));
            writeln!(out, "]\",{current},{power},{thd},{frequency},{target}")?;
        }
        out.flush()
    };
    write().map_err(|error| SynthError::File {
        file: path.display().to_string(),
        reason: error.to_string(),
    })
}
