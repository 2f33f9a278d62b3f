//! Features of mains voltage and current.
//!
//! The mains frequency is tracked from 45 to 65 Hz, so a window holds no whole number of cycles and
//! no bin of an FFT is a harmonic. First the frequency is found to about 1 mHz from the phase that
//! it gains from one half of the window to the other; then the last whole number of cycles, to the
//! sample, is tapered by Hann's window and projected on sine and cosine of each harmonic. Hann's
//! spectrum is 0 at every whole cycle but the first neighbours, so harmonics do not leak into each
//! other.
//!
//! Powers are those of IEEE 1459-2010, section 3.1: active power P = mean(ui), apparent power
//! S = U I of the root mean squares, power factor P / S, and reactive power of the fundamentals
//! Q₁ = U₁ I₁ sin(φu - φi), positive where the current lags. Means are weighted by the same taper,
//! over the same whole cycles of the voltage. Total harmonic distortion is √(Σ Uh², h ≥ 2) / U₁, in
//! percent (IEC 61000-4-7, section 3.3.1, over harmonics only).

use core::f32::consts::{PI, SQRT_2};

use super::{lanes, time};

/// The least mains frequency that is tracked, in hertz.
pub const MAINS_HZ_MIN: f32 = 45.0;
/// The greatest mains frequency that is tracked, in hertz.
pub const MAINS_HZ_MAX: f32 = 65.0;
/// The highest harmonic.
pub const HARMONIC_ORDER_MAX: usize = 50;

/// Frequencies that are tried first lie so far apart, in hertz.
const COARSE_STEP_HZ: f32 = 2.5;
/// The frequencies are tried on so many periods of the least frequency.
const COARSE_PERIODS: f32 = 4.0;
/// A window holds at least so many periods of the least frequency.
const PERIODS_MIN: f32 = 3.0;
/// So many oscillations run side by side.
const LANES: usize = 8;
/// After so many steps an oscillation is computed anew, so that roundings do not add up.
const STEPS: usize = 64;

/// Tells whether windows of `window_len` samples can be followed: at least three periods, and at
/// least four samples in each.
pub(super) fn fits(window_len: usize, rate_hz: f32) -> bool {
    rate_hz >= 4.0 * MAINS_HZ_MAX && window_len as f32 * MAINS_HZ_MIN >= PERIODS_MIN * rate_hz
}

/// Returns the words of work memory.
pub(super) fn work_words(window_len: usize) -> usize {
    2 * HARMONIC_ORDER_MAX.next_multiple_of(LANES) + 3 * (window_len / 2)
}

/// A share of a turn in units of 2^-32: whole numbers wrap as phases do, and lose nothing.
fn turns(share: f32) -> u32 {
    (share * 4_294_967_296.0) as u32
}

fn cos_sin(phase: u32) -> (f32, f32) {
    let angle = phase as i32 as f32 * (PI / 2_147_483_648.0);
    (libm::cosf(angle), libm::sinf(angle))
}

/// Oscillations side by side, each going on by a step of its own.
struct Oscillations {
    cos: [f32; LANES],
    sin: [f32; LANES],
    step_cos: [f32; LANES],
    step_sin: [f32; LANES],
}

impl Oscillations {
    fn new(phase: impl Fn(u32) -> u32, step: impl Fn(u32) -> u32) -> Self {
        let mut new = Self {
            cos: [0.0; LANES],
            sin: [0.0; LANES],
            step_cos: [0.0; LANES],
            step_sin: [0.0; LANES],
        };
        for lane in 0..LANES {
            (new.cos[lane], new.sin[lane]) = cos_sin(phase(lane as u32));
            (new.step_cos[lane], new.step_sin[lane]) = cos_sin(step(lane as u32));
        }
        new
    }

    /// Samples side by side of one oscillation that starts at `phase` and goes on by `step`.
    fn of_one(phase: u32, step: u32) -> Self {
        let lanes = LANES as u32;
        Self::new(|lane| phase.wrapping_add(step.wrapping_mul(lane)), |_| step.wrapping_mul(lanes))
    }

    #[inline(always)]
    fn advance(&mut self) {
        for lane in 0..LANES {
            let (cos, sin) = (self.cos[lane], self.sin[lane]);
            self.cos[lane] = cos * self.step_cos[lane] - sin * self.step_sin[lane];
            self.sin[lane] = sin * self.step_cos[lane] + cos * self.step_sin[lane];
        }
    }
}

/// Returns Σ w(n) (x(n) - centre) e^(-iωn), w Hann's window of `taper_len` samples, whole or not,
/// over the middle of the samples, which are no more.
fn phasor(samples: &[f32], centre: f32, step: u32, taper_len: f32) -> (f32, f32) {
    let (mut real, mut imaginary) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    let taper_step = turns(1.0 / taper_len);
    let margin = turns(0.5 * (taper_len - samples.len() as f32) / taper_len);
    for (index, block) in samples.chunks(LANES * STEPS).enumerate() {
        let first = (index * LANES * STEPS) as u32;
        let mut wave = Oscillations::of_one(step.wrapping_mul(first), step);
        let taper_phase =
            taper_step.wrapping_mul(first).wrapping_add(taper_step / 2).wrapping_add(margin);
        let mut taper = Oscillations::of_one(taper_phase, taper_step);
        let (chunks, rest) = block.as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                let value = (chunk[lane] - centre) * (0.5 - 0.5 * taper.cos[lane]);
                real[lane] += value * wave.cos[lane];
                imaginary[lane] -= value * wave.sin[lane];
            }
            wave.advance();
            taper.advance();
        }
        for (lane, sample) in rest.iter().enumerate() {
            let value = (sample - centre) * (0.5 - 0.5 * taper.cos[lane]);
            real[lane] += value * wave.cos[lane];
            imaginary[lane] -= value * wave.sin[lane];
        }
    }
    (lanes::sum(&real, |lane| lane), lanes::sum(&imaginary, |lane| lane))
}

fn limited(hz: f32) -> f32 {
    // The order of the comparisons turns NaN into the least.
    if hz > MAINS_HZ_MAX {
        MAINS_HZ_MAX
    } else if hz > MAINS_HZ_MIN {
        hz
    } else {
        MAINS_HZ_MIN
    }
}

/// Tries frequencies in steps and returns the one with the most power.
fn coarse_hz(samples: &[f32], rate_hz: f32) -> f32 {
    let centre = time::centre(samples);
    let (mut best_hz, mut best_power) = (MAINS_HZ_MIN, -1.0);
    let mut hz = MAINS_HZ_MIN;
    while hz <= MAINS_HZ_MAX {
        let (real, imaginary) = phasor(samples, centre, turns(hz / rate_hz), samples.len() as f32);
        let power = real * real + imaginary * imaginary;
        if power > best_power {
            (best_hz, best_power) = (hz, power);
        }
        hz += COARSE_STEP_HZ;
    }
    best_hz
}

/// Betters an estimate by the phase gained from the first to the last stretch of the samples, each
/// of as many whole cycles of the estimate as half of the samples hold, and of two at least: over
/// one cycle the second harmonic leaks into the first.
fn finer_hz(samples: &[f32], rate_hz: f32, hz: f32) -> f32 {
    let period = rate_hz / hz;
    let cycles = ((samples.len() as f32 / (2.0 * period)) as usize).max(2);
    let taper_len = cycles as f32 * period;
    let len = (taper_len as usize).clamp(1, samples.len());
    let apart = samples.len() - len;
    let centre = time::centre(samples);
    let step = turns(hz / rate_hz);
    let a = phasor(&samples[..len], centre, step, taper_len);
    let b = phasor(&samples[apart..], centre, step, taper_len);
    // b over a, turned back by what the estimate itself gains.
    let (cosine, sine) = cos_sin(step.wrapping_mul(apart as u32));
    let (real, imaginary) = (b.0 * a.0 + b.1 * a.1, b.1 * a.0 - b.0 * a.1);
    let (real, imaginary) = (real * cosine + imaginary * sine, imaginary * cosine - real * sine);
    let gained = libm::atan2f(imaginary, real);
    limited(hz + gained / (2.0 * PI * apart.max(1) as f32) * rate_hz)
}

/// Finds the mains frequency of a window, in hertz; 45 Hz where there is none.
fn track(samples: &[f32], rate_hz: f32) -> f32 {
    let head_len = ((COARSE_PERIODS * rate_hz / MAINS_HZ_MIN) as usize).min(samples.len());
    let head = &samples[..head_len];
    let mut hz = coarse_hz(head, rate_hz);
    hz = finer_hz(head, rate_hz, hz);
    // Over longer stretches the same phase is a smaller frequency; the doubling keeps what is still
    // unknown below half a turn.
    let mut len = head_len;
    while len < samples.len() {
        len = (8 * len).min(samples.len());
        hz = finer_hz(&samples[..len], rate_hz, hz);
    }
    finer_hz(samples, rate_hz, hz)
}

/// The mains frequency of a window and the whole cycles at its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mains {
    /// The frequency in hertz.
    pub(super) hz: f32,
    /// One sample's share of a cycle, in units of 2^-32.
    step: u32,
    /// Half the samples in the whole cycles.
    half: usize,
    /// The sum of the taper's weights: half the length of the whole cycles in samples.
    weight: f32,
    /// One sample's share of the whole cycles, in units of 2^-32.
    taper_step: u32,
}

/// The work memory divided.
struct Work<'m> {
    /// Projections on the cosines of the harmonics, from order 1.
    cosines: &'m mut [f32],
    /// Projections on the sines.
    sines: &'m mut [f32],
    /// The taper from the middle outwards, `[half]`.
    taper: &'m mut [f32],
    /// Tapered sums of samples equally far from the middle, `[half]`.
    even: &'m mut [f32],
    /// Tapered differences of the same, later less earlier, `[half]`.
    odd: &'m mut [f32],
}

impl Mains {
    /// Tracks the frequency and computes the taper.
    pub(super) fn new(samples: &[f32], rate_hz: f32, work: &mut [f32]) -> Self {
        let hz = track(samples, rate_hz);
        let period = rate_hz / hz;
        let cycles = (samples.len() as f32 / period) as usize;
        let len = cycles.max(1) as f32 * period;
        // Samples lie half a step from the middle, and inside the cycles.
        let half = ((0.5 * len + 0.5) as usize).clamp(1, (samples.len() / 2).max(1));
        let (step, taper_step) = (turns(hz / rate_hz), turns(1.0 / len));
        let mains = Self { hz, step, half, weight: 0.5 * len, taper_step };
        mains.fill_taper(mains.divide(work).taper);
        mains
    }

    fn divide<'m>(&self, work: &'m mut [f32]) -> Work<'m> {
        let orders = HARMONIC_ORDER_MAX.next_multiple_of(LANES);
        let (cosines, rest) = work.split_at_mut(orders);
        let (sines, rest) = rest.split_at_mut(orders);
        let (taper, rest) = rest.split_at_mut(self.half);
        let (even, rest) = rest.split_at_mut(self.half);
        Work { cosines, sines, taper, even, odd: &mut rest[..self.half] }
    }

    /// Hann's window from its middle: (1 + cos(2π(j + 1/2) / len)) / 2, where `len`, that of the whole
    /// cycles, is no whole number of samples.
    fn fill_taper(&self, taper: &mut [f32]) {
        let step = self.taper_step;
        for (index, block) in taper.chunks_mut(LANES * STEPS).enumerate() {
            let first = (index * LANES * STEPS) as u32;
            let mut wave =
                Oscillations::of_one(step.wrapping_mul(first).wrapping_add(step / 2), step);
            for chunk in block.chunks_mut(LANES) {
                for (weight, cosine) in chunk.iter_mut().zip(&wave.cos) {
                    *weight = 0.5 + 0.5 * cosine;
                }
                wave.advance();
            }
        }
    }

    /// Returns the samples before the middle of the whole cycles, and those behind it.
    fn halves<'s>(&self, samples: &'s [f32]) -> (&'s [f32], &'s [f32]) {
        let cycles = &samples[samples.len() - 2 * self.half..];
        cycles.split_at(self.half)
    }

    /// Projects a channel on the harmonics 1 to `orders`.
    fn project(&self, samples: &[f32], orders: usize, work: &mut [f32]) {
        let work = self.divide(work);
        let (before, after) = self.halves(samples);
        let folds = work.even.iter_mut().zip(work.odd.iter_mut()).zip(&*work.taper);
        let pairs = before.iter().rev().zip(after);
        for (((even, odd), weight), (before, after)) in folds.zip(pairs) {
            *even = weight * (after + before);
            *odd = weight * (after - before);
        }
        for first in (0..orders).step_by(LANES) {
            let order = |lane: u32| first as u32 + 1 + lane;
            let (mut cosines, mut sines) = ([0.0_f32; LANES], [0.0_f32; LANES]);
            let blocks = work.even.chunks(2 * STEPS).zip(work.odd.chunks(2 * STEPS));
            for (index, (even, odd)) in blocks.enumerate() {
                // Samples lie half a step from the middle.
                let at = (index * 2 * STEPS) as u32;
                let start = self.step.wrapping_mul(at).wrapping_add(self.step / 2);
                let mut wave = Oscillations::new(
                    |lane| start.wrapping_mul(order(lane)),
                    |lane| self.step.wrapping_mul(order(lane)),
                );
                for (even, odd) in even.iter().zip(odd) {
                    for lane in 0..LANES {
                        cosines[lane] += even * wave.cos[lane];
                        sines[lane] += odd * wave.sin[lane];
                    }
                    wave.advance();
                }
            }
            work.cosines[first..first + LANES].copy_from_slice(&cosines);
            work.sines[first..first + LANES].copy_from_slice(&sines);
        }
    }

    /// Computes the root mean squares of the harmonics 1 to `orders` in place of their projections
    /// on the cosines; those at or above half the rate are 0.
    pub(super) fn harmonics(&self, samples: &[f32], orders: usize, work: &mut [f32]) {
        self.project(samples, orders, work);
        let work = self.divide(work);
        // The amplitude is twice the projection over the sum of weights; root mean square is
        // amplitude / √2.
        let scale = SQRT_2 / self.weight;
        for (order, (cosine, sine)) in (1_u64..).zip(work.cosines.iter_mut().zip(work.sines)) {
            let amplitude = libm::sqrtf(*cosine * *cosine + *sine * *sine);
            let is_below = order * u64::from(self.step) < 1 << 31;
            *cosine = if is_below { scale * amplitude } else { 0.0 };
        }
    }

    /// Returns Σ w a b / Σ w over the whole cycles.
    fn mean_product(&self, a: &[f32], b: &[f32], work: &mut [f32]) -> f32 {
        let work = self.divide(work);
        let (a_before, a_after) = self.halves(a);
        let (b_before, b_after) = self.halves(b);
        for (index, product) in work.even.iter_mut().enumerate() {
            let mirrored = self.half - 1 - index;
            *product = a_before[mirrored] * b_before[mirrored] + a_after[index] * b_after[index];
        }
        lanes::sum_of_pairs(work.even, work.taper, |product, weight| product * weight) / self.weight
    }

    /// Returns the root mean square.
    pub(super) fn root_mean_square(&self, samples: &[f32], work: &mut [f32]) -> f32 {
        libm::sqrtf(self.mean_product(samples, samples, work))
    }

    /// Returns the active power.
    pub(super) fn active_power(&self, voltage: &[f32], current: &[f32], work: &mut [f32]) -> f32 {
        self.mean_product(voltage, current, work)
    }

    /// Returns the apparent power.
    pub(super) fn apparent_power(&self, voltage: &[f32], current: &[f32], work: &mut [f32]) -> f32 {
        self.root_mean_square(voltage, work) * self.root_mean_square(current, work)
    }

    /// Returns the power factor; 0 without power.
    pub(super) fn power_factor(&self, voltage: &[f32], current: &[f32], work: &mut [f32]) -> f32 {
        let apparent = self.apparent_power(voltage, current, work);
        if apparent > 0.0 { self.active_power(voltage, current, work) / apparent } else { 0.0 }
    }

    /// Returns the reactive power of the fundamentals.
    pub(super) fn reactive_power(&self, voltage: &[f32], current: &[f32], work: &mut [f32]) -> f32 {
        self.project(voltage, 1, work);
        let (u_cosine, u_sine) = (work[0], self.divide(work).sines[0]);
        self.project(current, 1, work);
        let (i_cosine, i_sine) = (work[0], self.divide(work).sines[0]);
        // u = a cos + b sin has the phasor a - ib; Q is the imaginary part of u times i conjugate,
        // of root mean squares.
        let scale = SQRT_2 / self.weight;
        (u_cosine * i_sine - u_sine * i_cosine) * scale * scale
    }
}

/// Returns the total harmonic distortion of the root mean squares of harmonics, the fundamental first,
/// in percent; 0 without a fundamental.
#[must_use]
pub fn total_harmonic_distortion(harmonics: &[f32]) -> f32 {
    let Some((fundamental, others)) = harmonics.split_first() else {
        return 0.0;
    };
    if *fundamental <= 0.0 {
        return 0.0;
    }
    let share = 1.0 / fundamental;
    let squares = lanes::sum(others, |harmonic| {
        let share = harmonic * share;
        share * share
    });
    100.0 * libm::sqrtf(squares)
}
