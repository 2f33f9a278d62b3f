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

/// The frequencies are tried on so many periods of the least frequency.
const COARSE_PERIODS: f32 = 4.0;
/// A window holds at least so many periods of the least frequency.
const PERIODS_MIN: f32 = 3.0;
/// So many oscillations run side by side.
const LANES: usize = 8;
const LANE_INDICES: [u32; LANES] = [0, 1, 2, 3, 4, 5, 6, 7];
/// After so many steps an oscillation is computed anew, so that roundings do not add up.
const STEPS: usize = 64;
/// The same where the lanes are oscillations of different steps.
const STEPS_OF_ORDERS: usize = 256;

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
    /// Makes oscillations of these steps at phase 0.
    fn new(steps: [u32; LANES]) -> Self {
        let steps = steps.map(cos_sin);
        Self {
            cos: [1.0; LANES],
            sin: [0.0; LANES],
            step_cos: steps.map(|step| step.0),
            step_sin: steps.map(|step| step.1),
        }
    }

    /// Makes samples side by side of one oscillation: lane i is i steps ahead.
    fn of_one(step: u32) -> Self {
        let (step_cos, step_sin) = cos_sin(step.wrapping_mul(LANES as u32));
        Self {
            cos: [1.0; LANES],
            sin: [0.0; LANES],
            step_cos: [step_cos; LANES],
            step_sin: [step_sin; LANES],
        }
    }

    /// Sets the phases.
    fn set(&mut self, phase: impl Fn(u32) -> u32) {
        for lane in 0..LANES {
            (self.cos[lane], self.sin[lane]) = cos_sin(phase(lane as u32));
        }
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

/// Writes (1 + cos(phase)) / 2 for phases in equal steps: Hann's window.
fn fill_taper(phase: u32, step: u32, taper: &mut [f32]) {
    let mut wave = Oscillations::of_one(step);
    for (index, block) in taper.chunks_mut(LANES * STEPS).enumerate() {
        let first = (index * LANES * STEPS) as u32;
        wave.set(|lane| phase.wrapping_add(step.wrapping_mul(first + lane)));
        for chunk in block.chunks_mut(LANES) {
            for (weight, cosine) in chunk.iter_mut().zip(&wave.cos) {
                *weight = 0.5 + 0.5 * cosine;
            }
            wave.advance();
        }
    }
}

/// Fills Hann's window of `len` samples, whole or not, over the middle of the taper, which is no
/// longer.
fn fill_taper_of(len: f32, taper: &mut [f32]) {
    // Where the first sample lies from the middle, as a share of the window: half a turn or less.
    let before = turns(0.5 * (taper.len() as f32 - 1.0) / len);
    fill_taper(before.wrapping_neg(), turns(1.0 / len), taper);
}

/// Returns Σ w(n) (x(n) - centre) e^(-iωn).
fn phasor(samples: &[f32], taper: &[f32], centre: f32, step: u32) -> (f32, f32) {
    let (mut real, mut imaginary) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    let mut wave = Oscillations::of_one(step);
    let blocks = samples.chunks(LANES * STEPS).zip(taper.chunks(LANES * STEPS));
    for (index, (block, taper)) in blocks.enumerate() {
        let first = (index * LANES * STEPS) as u32;
        wave.set(|lane| step.wrapping_mul(first + lane));
        let ((chunks, rest), (weights, rest_weights)) =
            (block.as_chunks::<LANES>(), taper.as_chunks::<LANES>());
        for (chunk, weights) in chunks.iter().zip(weights) {
            for lane in 0..LANES {
                let value = (chunk[lane] - centre) * weights[lane];
                real[lane] += value * wave.cos[lane];
                imaginary[lane] -= value * wave.sin[lane];
            }
            wave.advance();
        }
        for (lane, (sample, weight)) in rest.iter().zip(rest_weights).enumerate() {
            let value = (sample - centre) * weight;
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

/// Tries eight frequencies and returns the one with the most power.
fn coarse_hz(samples: &[f32], rate_hz: f32, taper: &mut [f32]) -> f32 {
    let taper = &mut taper[..samples.len()];
    fill_taper_of(samples.len() as f32, taper);
    let centre = time::centre(samples);
    let mut frequencies = [0.0; LANES];
    for (index, hz) in frequencies.iter_mut().enumerate() {
        let share = (index as f32 + 0.5) / LANES as f32;
        *hz = MAINS_HZ_MIN + share * (MAINS_HZ_MAX - MAINS_HZ_MIN);
    }
    let steps = frequencies.map(|hz| turns(hz / rate_hz));
    let (mut real, mut imaginary) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    let mut waves = Oscillations::new(steps);
    let blocks = samples.chunks(STEPS_OF_ORDERS).zip(taper.chunks(STEPS_OF_ORDERS));
    for (index, (block, taper)) in blocks.enumerate() {
        let first = (index * STEPS_OF_ORDERS) as u32;
        waves.set(|lane| steps[lane as usize].wrapping_mul(first));
        for (sample, weight) in block.iter().zip(taper) {
            let value = (sample - centre) * weight;
            for lane in 0..LANES {
                real[lane] += value * waves.cos[lane];
                imaginary[lane] -= value * waves.sin[lane];
            }
            waves.advance();
        }
    }
    let (mut best_hz, mut best_power) = (MAINS_HZ_MIN, -1.0);
    for (hz, (real, imaginary)) in frequencies.into_iter().zip(real.into_iter().zip(imaginary)) {
        let power = real * real + imaginary * imaginary;
        if power > best_power {
            (best_hz, best_power) = (hz, power);
        }
    }
    best_hz
}

/// Betters an estimate by the phase gained from the first to the last stretch of the samples, each
/// of as many whole cycles of the estimate as half of the samples hold, and of two at least: over
/// one cycle the second harmonic leaks into the first.
fn finer_hz(samples: &[f32], rate_hz: f32, hz: f32, taper: &mut [f32]) -> f32 {
    let period = rate_hz / hz;
    let cycles = ((samples.len() as f32 / (2.0 * period)) as usize).max(2);
    let taper_len = cycles as f32 * period;
    let len = (taper_len as usize).clamp(1, samples.len());
    let taper = &mut taper[..len];
    fill_taper_of(taper_len, taper);
    let apart = samples.len() - len;
    let centre = time::centre(samples);
    let step = turns(hz / rate_hz);
    let a = phasor(&samples[..len], taper, centre, step);
    let b = phasor(&samples[apart..], taper, centre, step);
    // b over a, turned back by what the estimate itself gains.
    let (cosine, sine) = cos_sin(step.wrapping_mul(apart as u32));
    let (real, imaginary) = (b.0 * a.0 + b.1 * a.1, b.1 * a.0 - b.0 * a.1);
    let (real, imaginary) = (real * cosine + imaginary * sine, imaginary * cosine - real * sine);
    let gained = libm::atan2f(imaginary, real);
    limited(hz + gained / (2.0 * PI * apart.max(1) as f32) * rate_hz)
}

/// Finds the mains frequency of a window, in hertz; 45 Hz where there is none.
fn track(samples: &[f32], rate_hz: f32, taper: &mut [f32]) -> f32 {
    let mut len = ((COARSE_PERIODS * rate_hz / MAINS_HZ_MIN) as usize).min(samples.len());
    let mut hz = coarse_hz(&samples[..len], rate_hz, taper);
    hz = finer_hz(&samples[..len], rate_hz, hz, taper);
    // Over longer stretches the same phase is a smaller frequency; what is still unknown must gain
    // less than half a turn. The last estimate is always bettered once more over the whole window.
    loop {
        len = (8 * len).min(samples.len());
        hz = finer_hz(&samples[..len], rate_hz, hz, taper);
        if len == samples.len() {
            return hz;
        }
    }
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
        // Less than two thirds of the window: it holds three periods, and two are tapered.
        let hz = track(samples, rate_hz, work);
        let period = rate_hz / hz;
        let cycles = (samples.len() as f32 / period) as usize;
        let len = cycles.max(1) as f32 * period;
        // Samples lie half a step from the middle, and inside the cycles.
        let half = ((0.5 * len + 0.5) as usize).clamp(1, (samples.len() / 2).max(1));
        let (step, taper_step) = (turns(hz / rate_hz), turns(1.0 / len));
        let mains = Self { hz, step, half, weight: 0.5 * len };
        // From the middle outwards, the first sample half a step from it.
        fill_taper(taper_step / 2, taper_step, mains.divide(work).taper);
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
            let mut wave =
                Oscillations::new(LANE_INDICES.map(|i| self.step.wrapping_mul(order(i))));
            let blocks = work.even.chunks(STEPS_OF_ORDERS).zip(work.odd.chunks(STEPS_OF_ORDERS));
            for (index, (even, odd)) in blocks.enumerate() {
                // Samples lie half a step from the middle.
                let at = (index * STEPS_OF_ORDERS) as u32;
                let start = self.step.wrapping_mul(at).wrapping_add(self.step / 2);
                wave.set(|lane| start.wrapping_mul(order(lane)));
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
