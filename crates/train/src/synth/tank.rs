//! A tank or pond: dissolved oxygen and water temperature, as probes read them once a minute.
//!
//! The oxygen follows H. T. Odum's balance of "Primary production in flowing waters", Limnol. Oceanogr. 1 (1956)
//! 102-117: the surface drives it towards saturation, plants add to it by daylight, and all that lives takes from it.
//! Saturation: B. B. Benson, D. Krause, Limnol. Oceanogr. 29 (1984) 620-632, fresh water at one atmosphere, in the form
//! of APHA Standard Methods 4500-O.

use libm::{exp, pow};

use super::generator::{Generator, Scene, positive, share, within};
use super::plan::Cursor;
use super::signal::{Wander, round_to};
use super::temperature::{DAY_S, day_wave};
use super::{Fault, SynthError};
use crate::dataset::ChannelInfo;
use crate::random::Random;

const HOUR_S: f64 = 3_600.0;

/// Returns the oxygen that fresh water at one atmosphere holds at a temperature in degrees Celsius, in mg/L.
#[must_use]
pub fn saturation_mg_l(celsius: f64) -> f64 {
    let kelvin = celsius + 273.15;
    let square = kelvin * kelvin;
    exp(-139.344_11 + 1.575_701e5 / kelvin - 6.642_308e7 / square
        + 1.243_800e10 / (square * kelvin)
        - 8.621_949e11 / (square * square))
}

/// The water and the probes.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TankOptions {
    /// Readings a second.
    pub rate_hz: f64,
    /// Mean temperature of the water, in degrees Celsius.
    pub mean: f64,
    /// How much it rises and falls in the course of a day.
    pub day_swing: f64,
    /// Standard deviation of its changes with the weather.
    pub weather: f64,
    /// Share of the oxygen's deficit that passes the surface in an hour.
    pub aeration_per_hour: f64,
    /// What plants add at noon of a clear day, in mg/L an hour.
    pub photosynthesis: f64,
    /// What all that lives takes at 20 °C, in mg/L an hour.
    pub respiration: f64,
    /// Time constant of the oxygen probe, in seconds.
    pub probe_s: f64,
    /// Standard deviation of the oxygen probe's noise, in mg/L.
    pub oxygen_noise: f64,
    /// Standard deviation of the temperature probe's noise.
    pub temperature_noise: f64,
}

impl Default for TankOptions {
    fn default() -> Self {
        Self {
            rate_hz: 1.0 / 60.0,
            mean: 20.0,
            day_swing: 1.2,
            weather: 0.8,
            aeration_per_hour: 0.25,
            photosynthesis: 0.9,
            respiration: 0.3,
            probe_s: 90.0,
            oxygen_noise: 0.02,
            temperature_noise: 0.04,
        }
    }
}

/// Which probe a fault has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Of dissolved oxygen.
    Oxygen,
    /// Of temperature.
    Temperature,
}

/// What goes wrong in the water or with a probe.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum TankFault {
    /// Something takes oxygen: bloom, feed, a failed aerator. The rows end when the oxygen is back.
    OxygenDemand {
        /// What is taken besides, in mg/L an hour.
        rate: f64,
    },
    /// Reads off by an error that grows evenly: a film on the membrane.
    Drift {
        /// Which one.
        probe: Probe,
        /// Error at the end, in the probe's unit.
        size: f64,
    },
    /// Repeats its last reading.
    Stuck {
        /// Which one.
        probe: Probe,
    },
    /// Jumps and falls back within the rows: a bubble on the membrane.
    Spike {
        /// Which one.
        probe: Probe,
        /// Height, in the probe's unit.
        size: f64,
    },
    /// No number in this share of the rows: NaN.
    Dropout {
        /// Which one.
        probe: Probe,
        /// Of all rows, from 0 to 1.
        share: f64,
    },
    /// No rows at all: power or radio failed. The recording has a gap there.
    Gap,
    /// Reads a number that no water has, such as an error code.
    Impossible {
        /// Which one.
        probe: Probe,
        /// What is read.
        reading: f64,
    },
}

/// Share of an oxygen demand's rows in which it acts; the oxygen recovers in the rest.
const DEMAND_SHARE: f64 = 0.35;

impl Generator for TankOptions {
    type Fault = TankFault;

    fn rate_hz(&self) -> f64 {
        self.rate_hz
    }

    fn seconds(&self) -> f64 {
        14.0 * DAY_S
    }

    fn check(&self) -> Result<(), SynthError> {
        positive("rate_hz", self.rate_hz)?;
        positive("aeration_per_hour", self.aeration_per_hour)?;
        positive("probe_s", self.probe_s)?;
        within("mean", self.mean, 2.0, 38.0)
    }

    fn check_fault(&self, fault: &TankFault) -> Result<(), SynthError> {
        match fault {
            TankFault::Dropout { share: of, .. } => share("share", *of),
            TankFault::OxygenDemand { rate } => positive("rate", *rate),
            _ => Ok(()),
        }
    }

    fn channels(&self) -> Vec<ChannelInfo> {
        vec![
            ChannelInfo::new("dissolved_oxygen", "mg/L"),
            ChannelInfo::new("water_temperature", "Cel"),
        ]
    }

    fn typical(&self) -> Vec<(TankFault, f64)> {
        let (oxygen, temperature) = (Probe::Oxygen, Probe::Temperature);
        vec![
            (TankFault::OxygenDemand { rate: 1.5 }, 12.0 * HOUR_S),
            (TankFault::Drift { probe: oxygen, size: -2.5 }, 12.0 * HOUR_S),
            (TankFault::Stuck { probe: oxygen }, 6.0 * HOUR_S),
            (TankFault::Spike { probe: oxygen, size: 3.0 }, 300.0),
            (TankFault::Dropout { probe: oxygen, share: 0.6 }, HOUR_S),
            (TankFault::Gap, 2.0 * HOUR_S),
            (TankFault::Impossible { probe: temperature, reading: 85.0 }, 1_200.0),
            (TankFault::Stuck { probe: temperature }, 6.0 * HOUR_S),
        ]
    }

    fn removes_rows(fault: &TankFault) -> bool {
        matches!(fault, TankFault::Gap)
    }

    fn render(&self, scene: &Scene<'_, TankFault>) -> Vec<f32> {
        let mut tank = Tank::new(self, scene.seed);
        let mut cursor = Cursor::new(scene.faults);
        let mut samples = Vec::with_capacity(scene.rows * 2);
        for _ in 0..scene.rows {
            samples.extend(tank.next_row(cursor.next_row()));
        }
        samples
    }
}

struct Tank<'a> {
    options: &'a TankOptions,
    random: Random,
    fault_random: Random,
    clock_s: f64,
    weather: Wander,
    cloud: Wander,
    oxygen: f64,
    /// What the membrane lets the probe feel.
    felt: f64,
    last: [f32; 2],
}

impl<'a> Tank<'a> {
    fn new(options: &'a TankOptions, seed: u64) -> Self {
        let mut random = Random::stream(seed, 2);
        let step_s = 1.0 / options.rate_hz;
        let oxygen = saturation_mg_l(options.mean);
        let mut tank = Self {
            clock_s: random.between(0.0, DAY_S),
            weather: Wander::new(options.weather, 36.0 * HOUR_S, step_s, &mut random),
            cloud: Wander::new(0.25, 2.0 * HOUR_S, step_s, &mut random),
            random,
            fault_random: Random::stream(seed, 3),
            oxygen,
            felt: oxygen,
            last: [f32::NAN; 2],
            options,
        };
        // Two days let the balance forget where it started.
        for _ in 0..(2.0 * DAY_S * options.rate_hz) as usize {
            tank.pass(0.0);
        }
        tank
    }

    /// Lets time pass to the next reading; returns the temperature.
    fn pass(&mut self, demand: f64) -> f64 {
        let options = self.options;
        let step_s = 1.0 / options.rate_hz;
        self.clock_s = (self.clock_s + step_s) % DAY_S;
        // Water is warmest late in the afternoon.
        let temperature = options.mean
            + options.day_swing * day_wave(self.clock_s - 17.0 * HOUR_S)
            + self.weather.next(&mut self.random);
        let clear = (0.75 + self.cloud.next(&mut self.random)).clamp(0.1, 1.0);
        let light = day_wave(self.clock_s - 12.0 * HOUR_S).max(0.0) * clear;
        // Life doubles about every 15 degrees: the usual factor 1.047 a degree.
        let respiration = options.respiration * pow(1.047, temperature - 20.0) + demand;
        let source = options.photosynthesis * light - respiration;
        // Exact for constant forces, so that long steps cannot overshoot.
        let target = saturation_mg_l(temperature) + source / options.aeration_per_hour;
        let keep = exp(-options.aeration_per_hour * step_s / HOUR_S);
        self.oxygen = (target + (self.oxygen - target) * keep).max(0.0);
        self.felt += (self.oxygen - self.felt) * (1.0 - exp(-step_s / options.probe_s));
        temperature
    }

    fn next_row(&mut self, acting: Option<(&Fault<TankFault>, usize)>) -> [f32; 2] {
        let demand = match acting {
            Some((Fault { kind: TankFault::OxygenDemand { rate }, rows, .. }, at))
                if (at as f64) < DEMAND_SHARE * *rows as f64 =>
            {
                *rate
            }
            _ => 0.0,
        };
        let temperature = self.pass(demand);
        let measured = [
            (self.felt + self.options.oxygen_noise * self.random.normal()).max(0.0),
            temperature + self.options.temperature_noise * self.random.normal(),
        ];
        let mut read = [round_to(measured[0], 0.01), round_to(measured[1], 0.1)];
        if let Some((fault, at)) = acting {
            let position = at as f64 / fault.rows as f64;
            self.misread(&fault.kind, at, position, measured, &mut read);
        }
        self.last = read;
        read
    }

    fn misread(
        &mut self,
        fault: &TankFault,
        at: usize,
        position: f64,
        measured: [f64; 2],
        read: &mut [f32; 2],
    ) {
        let off = |probe: Probe, error: f64| match probe {
            Probe::Oxygen => round_to((measured[0] + error).max(0.0), 0.01),
            Probe::Temperature => round_to(measured[1] + error, 0.1),
        };
        match *fault {
            TankFault::OxygenDemand { .. } | TankFault::Gap => {}
            TankFault::Drift { probe, size } => read[probe as usize] = off(probe, size * position),
            TankFault::Spike { probe, size } => {
                read[probe as usize] = off(probe, size * (1.0 - position));
            }
            TankFault::Stuck { probe } => {
                let last = self.last[probe as usize];
                if last.is_finite() {
                    read[probe as usize] = last;
                }
            }
            TankFault::Dropout { probe, share } => {
                // The first row always drops, so that the label is true from there on.
                if at == 0 || self.fault_random.uniform() < share {
                    read[probe as usize] = f32::NAN;
                }
            }
            TankFault::Impossible { probe, reading } => read[probe as usize] = reading as f32,
        }
    }
}
