//! A room as a DHT11 reads it: temperature and relative humidity in whole steps, once a second.
//!
//! Source of the sensor's behaviour: Aosong DHT11 datasheet (resolution 1 °C and 1 %RH, at most one reading a second).
//! Source of the humidity: Magnus' formula with the constants of WMO-No. 8 (2018), annex 4.B, equation 4.B.1.

use libm::exp;

use super::generator::{Generator, Scene, positive, share};
use super::plan::Cursor;
use super::signal::{Wander, round_to};
use super::temperature::{DAY_S, day_wave};
use super::{Fault, SynthError};
use crate::dataset::ChannelInfo;
use crate::random::Random;

/// Share of hot air's rows in which it blows; with the typical length the sensor is back to 0.3 degrees at the end.
const HOT_SHARE: f64 = 0.4;

/// The room and its sensor.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dht11Options {
    /// Readings a second; the sensor gives one at most.
    pub rate_hz: f64,
    /// Mean temperature, in degrees Celsius.
    pub mean: f64,
    /// How much it rises and falls in the course of a day.
    pub day_swing: f64,
    /// Standard deviation of slower and faster changes: sun, doors, people.
    pub wander: f64,
    /// Mean pressure of the water vapour, in hPa.
    pub vapour_hpa: f64,
    /// Time constant of the sensor, in seconds.
    pub sensor_s: f64,
    /// Standard deviation of the noise before rounding.
    pub noise: f64,
}

impl Default for Dht11Options {
    fn default() -> Self {
        Self {
            rate_hz: 1.0,
            mean: 22.0,
            day_swing: 2.5,
            wander: 0.7,
            vapour_hpa: 12.0,
            sensor_s: 20.0,
            noise: 0.08,
        }
    }
}

/// What goes wrong in the room or with the sensor.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Dht11Fault {
    /// Hot air, such as a lighter: warmer by `size` degrees for the first part, in the rest the sensor cools down.
    HotAir {
        /// Degrees.
        size: f64,
    },
    /// Reads off by an error that grows evenly to `size` degrees.
    Drift {
        /// Degrees at the end.
        size: f64,
    },
    /// Repeats its last reading.
    Stuck,
    /// No reading, as the checksum does not match: NaN in this share of the rows.
    Dropout {
        /// Of all rows, from 0 to 1.
        share: f64,
    },
    /// Reads a number that no room has.
    Impossible {
        /// Degrees.
        reading: f64,
    },
}

impl Generator for Dht11Options {
    type Fault = Dht11Fault;

    fn rate_hz(&self) -> f64 {
        self.rate_hz
    }

    fn seconds(&self) -> f64 {
        2.0 * DAY_S
    }

    fn check(&self) -> Result<(), SynthError> {
        positive("rate_hz", self.rate_hz)?;
        if self.rate_hz > 1.0 {
            return Err(SynthError::Range {
                name: "rate_hz",
                value: self.rate_hz,
                low: 0.0,
                high: 1.0,
            });
        }
        positive("vapour_hpa", self.vapour_hpa)?;
        positive("sensor_s", self.sensor_s)
    }

    fn check_fault(&self, fault: &Dht11Fault) -> Result<(), SynthError> {
        match fault {
            Dht11Fault::Dropout { share: of } => share("share", *of),
            _ => Ok(()),
        }
    }

    fn channels(&self) -> Vec<ChannelInfo> {
        vec![ChannelInfo::new("temperature", "Cel"), ChannelInfo::new("humidity", "%RH")]
    }

    fn typical(&self) -> Vec<(Dht11Fault, f64)> {
        vec![
            (Dht11Fault::HotAir { size: 9.0 }, 120.0),
            (Dht11Fault::Drift { size: 8.0 }, 1_200.0),
            (Dht11Fault::Stuck, 7_200.0),
            (Dht11Fault::Dropout { share: 0.5 }, 90.0),
            (Dht11Fault::Impossible { reading: 0.0 }, 15.0),
        ]
    }

    fn render(&self, scene: &Scene<'_, Dht11Fault>) -> Vec<f32> {
        let step_s = 1.0 / self.rate_hz;
        let random = &mut Random::stream(scene.seed, 2);
        let faulty = &mut Random::stream(scene.seed, 3);
        let slow = &mut Wander::new(self.wander, 3_600.0, step_s, random);
        let fast = &mut Wander::new(self.wander / 5.0, 120.0, step_s, random);
        let vapour = &mut Wander::new(0.05 * self.vapour_hpa, 4.0 * 3_600.0, step_s, random);
        let follow = 1.0 - exp(-step_s / self.sensor_s);
        let mut clock_s = random.between(0.0, DAY_S);
        let mut sensor = None;
        let mut last = [f32::NAN; 2];
        let mut cursor = Cursor::new(scene.faults);
        let mut samples = Vec::with_capacity(scene.rows * 2);
        for _ in 0..scene.rows {
            clock_s = (clock_s + step_s) % DAY_S;
            let acting = cursor.next_row();
            // Warmest at 16:00, when sun and people have warmed the walls.
            let room = self.mean
                + self.day_swing * day_wave(clock_s - 16.0 * 3_600.0)
                + slow.next(random)
                + fast.next(random);
            let air = match acting {
                Some((Fault { kind: Dht11Fault::HotAir { size }, rows, .. }, at))
                    if (at as f64) < HOT_SHARE * *rows as f64 =>
                {
                    room + size
                }
                _ => room,
            };
            let before = sensor.unwrap_or(room);
            let felt = before + follow * (air - before);
            sensor = Some(felt);
            let measured = felt + self.noise * random.normal();
            let pressure = (self.vapour_hpa + vapour.next(random)).max(0.5);
            let humidity = (100.0 * pressure / saturation_hpa(felt)).clamp(0.0, 100.0);
            let humidity = humidity + 4.0 * self.noise * random.normal();
            let clean = [round_to(measured, 1.0), round_to(humidity, 1.0)];
            let read = acting.map_or(clean, |(fault, at)| {
                let share = at as f64 / fault.rows as f64;
                misread(&fault.kind, at, share, measured, clean, last, faulty)
            });
            last = read;
            samples.extend(read);
        }
        samples
    }
}

/// Returns what a faulty sensor reads.
fn misread(
    fault: &Dht11Fault,
    at: usize,
    position: f64,
    measured: f64,
    clean: [f32; 2],
    last: [f32; 2],
    random: &mut Random,
) -> [f32; 2] {
    match *fault {
        Dht11Fault::HotAir { .. } => clean,
        Dht11Fault::Drift { size } => [round_to(measured + size * position, 1.0), clean[1]],
        Dht11Fault::Stuck if last[0].is_nan() => clean,
        Dht11Fault::Stuck => last,
        // The first row always drops, so that the label is true from there on.
        Dht11Fault::Dropout { share } if at == 0 || random.uniform() < share => [f32::NAN; 2],
        Dht11Fault::Dropout { .. } => clean,
        Dht11Fault::Impossible { reading } => [reading as f32, clean[1]],
    }
}

/// Pressure of saturated water vapour over water in hPa.
pub(super) fn saturation_hpa(celsius: f64) -> f64 {
    6.112 * exp(17.62 * celsius / (243.12 + celsius))
}
