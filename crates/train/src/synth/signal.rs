//! Parts that the generators share: slow wander, ringing, the steps of a converter.

use libm::{cos, exp, sin, sqrt};

use crate::random::Random;

pub(super) const TAU: f64 = core::f64::consts::TAU;

/// A quantity that wanders around zero and comes back: an Ornstein-Uhlenbeck process, sampled exactly.
///
/// Source: D. T. Gillespie, "Exact numerical simulation of the Ornstein-Uhlenbeck process and its integral",
/// Phys. Rev. E 54 (1996) 2084, equation 1.9a.
#[derive(Clone, Debug)]
pub(super) struct Wander {
    value: f64,
    keep: f64,
    kick: f64,
}

impl Wander {
    /// Starts one with this standard deviation and time constant, in its stationary state.
    pub(super) fn new(
        deviation: f64,
        time_constant_s: f64,
        step_s: f64,
        random: &mut Random,
    ) -> Self {
        let keep = exp(-step_s / time_constant_s);
        Self { value: deviation * random.normal(), keep, kick: deviation * sqrt(1.0 - keep * keep) }
    }

    pub(super) fn next(&mut self, random: &mut Random) -> f64 {
        self.value = self.value * self.keep + self.kick * random.normal();
        self.value
    }
}

/// A damped mode that rings after each impulse: `e^(-2 pi f d t) sin(2 pi f t)`.
#[derive(Clone, Debug)]
pub(super) struct Ringing {
    state: (f64, f64),
    /// What one sample turns and shrinks the state by.
    turn: (f64, f64),
    rate: f64,
    decay: f64,
}

impl Ringing {
    /// Makes a mode at rest; `damping` is the ratio to critical damping.
    pub(super) fn new(frequency_hz: f64, damping: f64, rate_hz: f64) -> Self {
        let (rate, decay) = (TAU * frequency_hz, TAU * frequency_hz * damping);
        let mut ringing = Self { state: (0.0, 0.0), turn: (0.0, 0.0), rate, decay };
        ringing.turn = ringing.after(1.0 / rate_hz);
        ringing
    }

    fn after(&self, seconds: f64) -> (f64, f64) {
        let size = exp(-self.decay * seconds);
        (size * cos(self.rate * seconds), size * sin(self.rate * seconds))
    }

    /// Adds an impulse that came some time before this sample.
    pub(super) fn strike(&mut self, amplitude: f64, seconds_ago: f64) {
        let (re, im) = self.after(seconds_ago);
        self.state.0 += amplitude * re;
        self.state.1 += amplitude * im;
    }

    /// Shakes the mode by noise of both phases.
    pub(super) fn shake(&mut self, amplitude: f64, random: &mut Random) {
        self.state.0 += amplitude * random.normal();
        self.state.1 += amplitude * random.normal();
    }

    /// Returns the deflection at this sample and goes on to the next.
    pub(super) fn next(&mut self) -> f64 {
        let ((re, im), (turn_re, turn_im)) = (self.state, self.turn);
        self.state = (re * turn_re - im * turn_im, re * turn_im + im * turn_re);
        im
    }

    /// The factor by which one sample shrinks the deflection.
    pub(super) fn keep(&self) -> f64 {
        let (re, im) = self.turn;
        sqrt(re * re + im * im)
    }
}

/// An analogue-to-digital converter of 16 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Converter {
    step: f64,
}

impl Converter {
    /// Makes one that reads from `-full_scale` to `full_scale`.
    pub(super) fn new(full_scale: f64) -> Self {
        Self { step: full_scale / 32_768.0 }
    }

    /// Returns the nearest value that the converter can give.
    pub(super) fn read(self, value: f64) -> f32 {
        ((value / self.step).round().clamp(-32_768.0, 32_767.0) * self.step) as f32
    }
}

/// Rounds to a step, such as the last digit that a sensor gives.
pub(super) fn round_to(value: f64, step: f64) -> f32 {
    ((value / step).round() * step) as f32
}

/// Rises from 0 to 1 in the first part of a fault, stays, and falls back in the last part.
pub(super) fn trapezoid(at: usize, rows: usize, ramp_share: f64) -> f64 {
    let position = (at as f64 + 1.0) / (rows as f64 + 1.0);
    (position.min(1.0 - position) / ramp_share).clamp(0.0, 1.0)
}
