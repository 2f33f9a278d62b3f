//! The spectrum of the squared envelope, for bearings.
//!
//! A defect strikes at a rate that follows from the bearing's geometry and makes the housing ring
//! much higher; the rate shows in the envelope, not in the signal (Randall and Antoni 2011,
//! "Rolling element bearing diagnostics - A tutorial", section 4.3: the squared envelope).
//!
//! The window's spectrum (as in `spectrum.rs`, but untapered) is cut to the bins of the pass band
//! below half the rate; with the negative frequencies left out this is the analytic signal
//! (Marple 1999, "Computing the discrete-time analytic signal via FFT"). As only half the bins are
//! left, N/2 points hold it, which are every other sample of it. Their squared magnitudes, divided
//! by their mean, less 1, are tapered by Hann's window and transformed: bin k lies at
//! k rate / N hertz, up to a quarter of the rate. Without a unit: how deep the power is modulated.

use super::fft::{Planes, Turn, power, unpack_exchanged};
use super::parameter::{Band, Bands, Lines};
use super::{lanes, spectrum, time};

/// Returns the words of work memory.
pub(super) fn work_words(window_len: usize) -> usize {
    spectrum::work_words(spectrum::fft_len(window_len))
}

/// Where the envelope's spectrum stands in the work memory.
pub(super) fn place(window_len: usize) -> core::ops::RangeInclusive<usize> {
    let fft_len = spectrum::fft_len(window_len);
    fft_len..=fft_len + fft_len / 4
}

/// Computes the power spectrum of the envelope into its [`place`].
pub(super) fn compute(
    samples: &[f32],
    range: Band,
    taper: &[f32],
    turn: Turn<'_>,
    work: &mut [f32],
) {
    let fft_len = spectrum::fft_len(samples.len());
    let half = fft_len / 2;
    let work = &mut work[..Planes::words(half)];
    let mut planes = Planes::new(work, half);
    spectrum::load(samples, time::centre(samples), &mut planes.input());
    planes.transform(turn);
    let (plane, output) = planes.result();
    unpack_exchanged(&plane, turn, output);
    let (first, end) = range.bins(half);
    let (first, end) = (first.clamp(1, half), end.min(half));
    for parts in output.chunks_exact_mut(half) {
        parts[..first].fill(0.0);
        parts[end..].fill(0.0);
    }
    if Planes::input_is_first(half) {
        let (input, output) = work.split_at_mut(2 * half);
        input.copy_from_slice(output);
    }
    let mut planes = Planes::new(work, half);
    planes.transform(turn);
    let (plane, squared) = planes.result();
    let count = samples.len().div_ceil(2);
    let squared = &mut squared[..count];
    for ((squared, re), im) in squared.iter_mut().zip(&*plane.re).zip(&*plane.im) {
        *squared = re * re + im * im;
    }
    let mean = lanes::sum(squared, |squared| squared) / count as f32;
    let gain = if mean > 0.0 { 1.0 / mean } else { 0.0 };
    transform_envelope(count, gain, taper, turn, half, work);
}

/// Transforms the squared envelope, which stands behind the first plane.
fn transform_envelope(
    count: usize,
    gain: f32,
    taper: &[f32],
    turn: Turn<'_>,
    half: usize,
    work: &mut [f32],
) {
    let (free, squared) = work.split_at_mut(2 * half);
    // Silence has no envelope.
    let mean = if gain > 0.0 { 1.0 } else { 0.0 };
    let modulation = |squared: f32| squared * gain - mean;
    let mut planes = Planes::new(free, half / 2);
    spectrum::load_half_tapered(&squared[..count], modulation, taper, &mut planes.input());
    planes.transform(turn);
    let (plane, powers) = planes.result();
    power(&plane, turn, powers);
    squared[..=half / 2].copy_from_slice(&powers[..=half / 2]);
}

/// Writes the mean square of the modulation in each band, as
/// [`spectrum::band_energy`] does; the bands divide 0 to a quarter of the rate.
pub(super) fn band_energy(spectrum: &[f32], window_len: usize, bands: Bands, output: &mut [f32]) {
    let bands = Bands { range: Band::WHOLE, ..bands };
    spectrum::band_energy(spectrum, window_len.div_ceil(2), bands, output);
}

/// Writes the amplitude of the modulation at a frequency and its multiples: 2 |E(k)| / Σw, the
/// greatest of the nearest bin and its neighbours, for a shaft slips; 0 above a quarter of the rate.
pub(super) fn amplitudes(
    spectrum: &[f32],
    window_len: usize,
    bin_hz: f32,
    lines: Lines,
    output: &mut [f32],
) {
    // Σw of the Hann window.
    let weight = 0.5 * window_len.div_ceil(2) as f32;
    let frequency_hz = f32::from(lines.frequency_dhz) / 10.0;
    for (multiple, output) in (1_u8..).zip(output) {
        let bin = f32::from(multiple) * frequency_hz / bin_hz + 0.5;
        let bin = if bin < spectrum.len() as f32 { bin as usize } else { spectrum.len() };
        let near = bin.saturating_sub(1).max(1)..(bin + 2).min(spectrum.len());
        let greatest =
            spectrum.get(near).map_or(0.0, |near| lanes::extremes(near, |power| power).1);
        *output = if bin < spectrum.len() { 2.0 * libm::sqrtf(greatest) / weight } else { 0.0 };
    }
}
