//! The temperature of a heated room as a digital sensor reads it.
//!
//! The room loses heat to an outside whose temperature follows the day (one time constant), and a heater with a
//! thermostat brings it back: a sawtooth whose shape changes with the hour. The sensor follows the air with a delay,
//! adds noise, and rounds to its resolution. All of it is additions and multiplications, so that the same seed gives
//! the same bits on every machine.

use super::{FaultKind, SynthError};
use crate::random::Random;

/// Longest step of the integration, in simulated seconds.
const STEP_S_MAX: f64 = 10.0;
pub(super) const DAY_S: f64 = 86_400.0;
/// Simulated seconds before the first sample, in which the room settles into its cycle.
const SETTLING_S: f64 = 4.0 * 3600.0;
/// How fast disturbances such as doors and people come and go, in simulated seconds.
const DISTURBANCE_S: f64 = 1_800.0;

/// The room, its heating and the sensor.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TemperatureOptions {
    /// Samples a second, as the device takes them.
    pub rate_hz: f64,
    /// Simulated seconds between two samples: 60 at 10 Hz lets a day pass in 144 seconds.
    pub sample_seconds: f64,
    /// Temperature that the thermostat holds, in degrees Celsius.
    pub setpoint: f64,
    /// Width of its switching band.
    pub hysteresis: f64,
    /// How much the set point rises and falls in the course of a day.
    pub setpoint_swing: f64,
    /// Mean temperature outside.
    pub outside: f64,
    /// How much it rises and falls in the course of a day.
    pub outside_swing: f64,
    /// Time constant of the room's cooling, in simulated seconds.
    pub cooling_s: f64,
    /// What the heater adds, in degrees an hour.
    pub heating_per_hour: f64,
    /// Standard deviation of slow disturbances.
    pub disturbance: f64,
    /// Time constant of the sensor, in simulated seconds.
    pub sensor_s: f64,
    /// Standard deviation of the sensor's noise.
    pub noise: f64,
    /// Step of the sensor's readings.
    pub resolution: f64,
}

impl Default for TemperatureOptions {
    fn default() -> Self {
        Self {
            rate_hz: 10.0,
            sample_seconds: 60.0,
            setpoint: 21.0,
            hysteresis: 0.8,
            setpoint_swing: 0.5,
            outside: 8.0,
            outside_swing: 4.0,
            cooling_s: 6.0 * 3600.0,
            heating_per_hour: 5.4,
            disturbance: 0.05,
            sensor_s: 120.0,
            noise: 0.04,
            resolution: 0.0625,
        }
    }
}

impl TemperatureOptions {
    /// Refuses numbers with which the simulation has no meaning.
    pub(super) fn check(&self) -> Result<(), SynthError> {
        let positive = [
            ("rate_hz", self.rate_hz),
            ("sample_seconds", self.sample_seconds),
            ("hysteresis", self.hysteresis),
            ("cooling_s", self.cooling_s),
            ("heating_per_hour", self.heating_per_hour),
            ("sensor_s", self.sensor_s),
            ("resolution", self.resolution),
        ];
        match positive.into_iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            Some((name, value)) => Err(SynthError::Option { name, value }),
            None => Ok(()),
        }
    }
}

/// A simulated sensor: one sample after the other, with faults injected at any time.
///
/// # Examples
/// ```
/// use stonechat_train::synth::{FaultKind, TemperatureOptions, TemperatureSource};
///
/// let mut source = TemperatureSource::new(1, TemperatureOptions::default());
/// let normal = source.next_sample();
/// source.inject(FaultKind::Step { size: -3.0 }, 48);
/// assert!(source.is_faulty() && source.next_sample() < normal - 2.0);
/// ```
#[derive(Clone, Debug)]
pub struct TemperatureSource {
    options: TemperatureOptions,
    random: Random,
    /// Simulated time of day.
    clock_s: f64,
    room: f64,
    sensor: f64,
    disturbance: f64,
    heating: bool,
    last: f32,
    /// Kind, samples since it began, samples in all.
    fault: Option<(FaultKind, usize, usize)>,
}

impl TemperatureSource {
    /// Makes a sensor in a room of its own: the seed also chooses the time of day at which it starts.
    #[must_use]
    pub fn new(seed: u64, options: TemperatureOptions) -> Self {
        let mut random = Random::new(seed);
        let clock_s = random.between(0.0, DAY_S);
        let room = options.setpoint + random.between(-0.5, 0.5) * options.hysteresis;
        let mut source = Self {
            options,
            random,
            clock_s,
            room,
            sensor: room,
            disturbance: 0.0,
            heating: false,
            last: 0.0,
            fault: None,
        };
        source.pass(SETTLING_S);
        source
    }

    /// Returns the options.
    #[must_use]
    pub fn options(&self) -> &TemperatureOptions {
        &self.options
    }

    /// Begins a fault that lasts `rows` samples; one that still acts ends.
    pub fn inject(&mut self, kind: FaultKind, rows: usize) {
        self.fault = (rows > 0).then_some((kind, 0, rows));
    }

    /// Ends a fault before its time.
    pub fn end_fault(&mut self) {
        self.fault = None;
    }

    /// Tells whether the next sample is a faulty one.
    #[must_use]
    pub fn is_faulty(&self) -> bool {
        self.fault.is_some()
    }

    /// Returns the fault that acts on the next sample.
    #[must_use]
    pub fn fault(&self) -> Option<FaultKind> {
        self.fault.map(|(kind, _, _)| kind)
    }

    /// Lets time pass to the next sample and reads it, in degrees Celsius.
    pub fn next_sample(&mut self) -> f32 {
        self.pass(self.options.sample_seconds);
        let measured = self.sensor + self.random.normal() * self.options.noise;
        let mut reading = self.round(measured);
        if let Some((kind, at, rows)) = self.fault {
            let faulty = kind.apply(reading, self.last, at, rows, &mut self.random);
            // Without a reading there is nothing to round; all else leaves the same converter.
            reading = if faulty.is_finite() { self.round(f64::from(faulty)) } else { faulty };
            self.fault = (at + 1 < rows).then_some((kind, at + 1, rows));
        }
        self.last = reading;
        reading
    }

    fn round(&self, value: f64) -> f32 {
        ((value / self.options.resolution).round() * self.options.resolution) as f32
    }

    /// Integrates the room by the explicit Euler method.
    fn pass(&mut self, seconds: f64) {
        let steps = (seconds / STEP_S_MAX).ceil().max(1.0);
        let step_s = seconds / steps;
        for _ in 0..steps as usize {
            let options = &self.options;
            self.clock_s = (self.clock_s + step_s) % DAY_S;
            // Warmest at 15:00 outside, and the set point follows the hours in which the room is used.
            let outside =
                options.outside + options.outside_swing * day_wave(self.clock_s - 15.0 * 3600.0);
            let setpoint =
                options.setpoint + options.setpoint_swing * day_wave(self.clock_s - 18.0 * 3600.0);
            let noise = self.random.normal() * options.disturbance;
            // The factor keeps the disturbance's deviation what the options say, whatever the step.
            let memory = step_s / DISTURBANCE_S;
            self.disturbance += -self.disturbance * memory + noise * (2.0 * memory).sqrt();
            if self.room < setpoint - options.hysteresis / 2.0 {
                self.heating = true;
            } else if self.room > setpoint + options.hysteresis / 2.0 {
                self.heating = false;
            }
            let heating = if self.heating { options.heating_per_hour / 3600.0 } else { 0.0 };
            self.room += step_s * ((outside - self.room) / options.cooling_s + heating);
            let air = self.room + self.disturbance;
            // A step longer than the time constant would overshoot; the sensor then simply follows.
            self.sensor += (air - self.sensor) * (step_s / options.sensor_s).min(1.0);
        }
    }
}

impl Iterator for TemperatureSource {
    type Item = f32;

    fn next(&mut self) -> Option<f32> {
        Some(self.next_sample())
    }
}

/// A wave of one day between -1 and 1 with its crest at 0: close to a cosine, of multiplications alone.
pub(super) fn day_wave(seconds: f64) -> f64 {
    let phase = (seconds / DAY_S + 0.25).rem_euclid(1.0) * 2.0;
    let (x, sign) = if phase < 1.0 { (phase, 1.0) } else { (phase - 1.0, -1.0) };
    let parabola = 4.0 * x * (1.0 - x);
    // The correction of the parabola towards the sine, at most 0.001 off.
    sign * (0.225 * (parabola * parabola - parabola) + parabola)
}

#[cfg(test)]
mod wave_tests {
    use super::{DAY_S, day_wave};

    #[test]
    fn wave_is_close_to_a_cosine() {
        for minute in -2000..4000 {
            let seconds = f64::from(minute) * 60.0;
            let cosine = (seconds / DAY_S * std::f64::consts::TAU).cos();
            assert!((day_wave(seconds) - cosine).abs() < 0.002, "{minute}");
        }
    }
}
