//! The waveform of mains voltage and current: a fundamental with harmonics.

use libm::{cos, sin, sqrt};

use super::signal::TAU;

/// Highest harmonic that is computed; EN 50160 and IEC 61000-4-7 count to this one.
pub(super) const ORDER_MAX: usize = 40;

/// Amplitude of each harmonic as a share of the fundamental, and its phase in turns; index 0 is the second.
#[derive(Clone, Debug)]
pub(super) struct Harmonics {
    shares: [f64; ORDER_MAX - 1],
    /// Cosine and sine of the phase.
    phases: [(f64, f64); ORDER_MAX - 1],
}

impl Harmonics {
    /// Makes a spectrum of the given orders and shares; `phase` gives the phase of each order in turns.
    pub(super) fn new(shares: &[(usize, f64)], mut phase: impl FnMut() -> f64) -> Self {
        let mut harmonics =
            Self { shares: [0.0; ORDER_MAX - 1], phases: [(1.0, 0.0); ORDER_MAX - 1] };
        for turn in &mut harmonics.phases {
            let phase = TAU * phase();
            *turn = (cos(phase), sin(phase));
        }
        for &(order, share) in shares {
            harmonics.shares[order - 2] = share;
        }
        harmonics
    }

    /// Returns the same spectrum with all shares multiplied.
    pub(super) fn scaled(&self, factor: f64) -> Self {
        Self { shares: self.shares.map(|share| share * factor), phases: self.phases }
    }

    /// Returns the same spectrum with the share of some orders replaced.
    pub(super) fn with(&self, shares: &[(usize, f64)]) -> Self {
        let mut changed = self.clone();
        for &(order, share) in shares {
            changed.shares[order - 2] = share;
        }
        changed
    }

    /// Returns the total harmonic distortion, √(Σ Vh², h = 2..40) / V1, as a share.
    pub(super) fn thd(&self) -> f64 {
        sqrt(self.shares.iter().map(|share| share * share).sum())
    }

    /// Returns the root mean square of the waveform whose fundamental has an amplitude of 1.
    pub(super) fn rms(&self) -> f64 {
        let thd = self.thd();
        sqrt((1.0 + thd * thd) / 2.0)
    }

    /// Returns the waveform at a phase of the fundamental, in turns, with a fundamental of amplitude 1.
    ///
    /// `gain` multiplies the harmonics; those above `order_max` are left out.
    pub(super) fn at(&self, turns: f64, gain: f64, order_max: usize) -> f64 {
        let turns = turns - turns.floor();
        let (one_re, one_im) = (cos(TAU * turns), sin(TAU * turns));
        let (mut re, mut im) = (one_re, one_im);
        let mut sum = one_im;
        for (index, (share, phase)) in self.shares.iter().zip(&self.phases).enumerate() {
            // Each multiple of the angle from the one before.
            (re, im) = (re * one_re - im * one_im, re * one_im + im * one_re);
            if index + 2 > order_max {
                break;
            }
            if *share > 0.0 {
                sum += gain * share * (im * phase.0 + re * phase.1);
            }
        }
        sum
    }
}

/// How a distorting load spreads a total distortion over the harmonics: six-pulse rectifiers.
pub(super) fn distorted(thd: f64) -> [(usize, f64); 4] {
    const SHARES: [(usize, f64); 4] = [(5, 0.78), (7, 0.48), (11, 0.3), (13, 0.22)];
    let total = sqrt(SHARES.iter().map(|(_, share)| share * share).sum());
    SHARES.map(|(order, share)| (order, thd * share / total))
}
