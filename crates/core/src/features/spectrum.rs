//! Features of the power spectrum.
//!
//! The mean is taken off the window, which is then tapered by the periodic Hann window and, where
//! its length is no power of two, continued with zeros up to the next one, N. With P(k) = |X(k)|²,
//! k = 0 to N/2, bin k lies at k rate / N hertz. Functions of the spectrum leave out bin 0.

use super::fft::{FFT_LEN_MIN, Plane, Planes, Turn, power, real};
use super::parameter::{Band, Bands};
use super::{lanes, time};

/// The least power that the flatness sees, as librosa's `amin`.
const POWER_MIN: f32 = 1.0e-10;

/// Returns the points of the transform of `window_len` samples.
pub(super) fn fft_len(window_len: usize) -> usize {
    window_len.next_power_of_two().max(FFT_LEN_MIN)
}

/// Returns the words that a spectrum of `fft_len` points needs.
pub(super) const fn work_words(fft_len: usize) -> usize {
    Planes::words(fft_len / 2)
}

/// Fills the Hann window of the length of `taper`.
pub(super) fn fill_taper(taper: &mut [f32]) {
    let len = taper.len();
    for (index, weight) in taper.iter_mut().enumerate() {
        *weight = 0.5 - 0.5 * super::fft::cosine_of_turn(index, len);
    }
}

/// Where the spectrum of `fft_len` points stands in the work memory.
pub(super) fn place(fft_len: usize) -> core::ops::RangeInclusive<usize> {
    fft_len..=fft_len + fft_len / 2
}

/// Writes samples less `centre` as pairs, and zeros behind them.
pub(super) fn load(samples: &[f32], centre: f32, input: &mut Plane<'_>) {
    let (pairs, rest) = samples.as_chunks::<2>();
    for ((pair, re), im) in pairs.iter().zip(&mut *input.re).zip(&mut *input.im) {
        (*re, *im) = (pair[0] - centre, pair[1] - centre);
    }
    load_rest(pairs.len(), rest.first().map(|last| last - centre), input);
}

/// As [`load`], times the weights.
fn load_tapered(samples: &[f32], taper: &[f32], centre: f32, input: &mut Plane<'_>) {
    let (pairs, rest) = samples.as_chunks::<2>();
    let (weights, rest_weights) = taper.as_chunks::<2>();
    let values = pairs.iter().zip(weights);
    for (((pair, weights), re), im) in values.zip(&mut *input.re).zip(&mut *input.im) {
        (*re, *im) = ((pair[0] - centre) * weights[0], (pair[1] - centre) * weights[1]);
    }
    let last = rest.first().zip(rest_weights.first());
    load_rest(pairs.len(), last.map(|(last, weight)| (last - centre) * weight), input);
}

/// Loads `value` of each sample, times every other weight of the taper.
#[inline(always)]
pub(super) fn load_half_tapered(
    samples: &[f32],
    value: impl Fn(f32) -> f32,
    taper: &[f32],
    input: &mut Plane<'_>,
) {
    let (pairs, rest) = samples.as_chunks::<2>();
    let (weights, rest_weights) = taper.as_chunks::<4>();
    let values = pairs.iter().zip(weights);
    for (((pair, weights), re), im) in values.zip(&mut *input.re).zip(&mut *input.im) {
        (*re, *im) = (value(pair[0]) * weights[0], value(pair[1]) * weights[2]);
    }
    // The last pair may lack the weight that is left out, and be no pair.
    let mut filled = pairs.len().min(weights.len());
    if let (Some(pair), [even, _, odd]) = (pairs.get(filled), rest_weights) {
        (input.re[filled], input.im[filled]) = (value(pair[0]) * even, value(pair[1]) * odd);
        filled += 1;
    }
    let last = rest.first().zip(taper.get(4 * pairs.len()));
    load_rest(filled, last.map(|(last, weight)| value(*last) * weight), input);
}

/// Writes a last sample without a pair, and zeros.
fn load_rest(mut filled: usize, last: Option<f32>, input: &mut Plane<'_>) {
    if let Some(last) = last {
        (input.re[filled], input.im[filled]) = (last, 0.0);
        filled += 1;
    }
    input.re[filled..].fill(0.0);
    input.im[filled..].fill(0.0);
}

/// Computes the power spectrum of a window into its [`place`].
pub(super) fn compute(samples: &[f32], taper: &[f32], turn: Turn<'_>, work: &mut [f32]) {
    let half = fft_len(samples.len()) / 2;
    let mut planes = Planes::new(&mut work[..Planes::words(half)], half);
    load_tapered(samples, taper, time::centre(samples), &mut planes.input());
    planes.transform(turn);
    let (plane, output) = planes.result();
    power(&plane, turn, output);
}

/// Writes the mean square in each band, in the channel's unit squared.
///
/// Bin k contributes c P(k) / (N Σw²), c = 2 but for bins 0 and N/2, where c = 1: the periodogram
/// (Welch 1967, with one segment) times the distance of its bins. All bands together give the mean
/// square of the tapered samples over that of the taper.
pub(super) fn band_energy(spectrum: &[f32], window_len: usize, bands: Bands, output: &mut [f32]) {
    // Σw² of the Hann window.
    let weight = 0.375 * window_len as f32;
    let half = spectrum.len() - 1;
    let scale = 2.0 / ((2 * half) as f32 * weight);
    in_bands(spectrum, bands.range, output, |sum| sum * scale);
}

/// Writes `scaled` of the sum of each band of a one-sided spectrum; bins 0 and N/2 count half.
pub(super) fn in_bands(
    spectrum: &[f32],
    range: Band,
    output: &mut [f32],
    scaled: impl Fn(f32) -> f32,
) {
    let half = spectrum.len() - 1;
    let (first, end) = range.bins(half);
    let count = output.len();
    for (band, output) in output.iter_mut().enumerate() {
        let edge = |band: usize| first + (end - first) * band / count;
        let bins = edge(band)..edge(band + 1);
        let mut sum = lanes::sum(&spectrum[bins.clone()], |power| power);
        if bins.contains(&0) {
            sum -= 0.5 * spectrum[0];
        }
        if bins.contains(&half) {
            sum -= 0.5 * spectrum[half];
        }
        *output = scaled(sum);
    }
}

/// Returns the mean frequency Σ f P / Σ P, in hertz; 0 of no power (Peeters 2004, "A large set of
/// audio features for sound description", section 6.1.1, over power).
pub(super) fn centroid(spectrum: &[f32], bin_hz: f32) -> f32 {
    let lines = &spectrum[1..];
    let total = lanes::sum(lines, |power| power);
    if total == 0.0 {
        return 0.0;
    }
    let moment = lanes::sum_indexed(lines, |index, power| (index + 1.0) * power);
    moment / total * bin_hz
}

/// Returns the frequency of the first bin up to which at least `percent` of the power lie, in hertz
/// (Peeters 2004, section 6.1.6).
pub(super) fn rolloff(spectrum: &[f32], bin_hz: f32, percent: u32) -> f32 {
    const BLOCK: usize = 64;
    let lines = &spectrum[1..];
    let wanted = lanes::sum(lines, |power| power) * (percent as f32 / 100.0);
    if wanted == 0.0 {
        return 0.0;
    }
    let mut below = 0.0;
    for (block, powers) in lines.chunks(BLOCK).enumerate() {
        let with_block = below + lanes::sum(powers, |power| power);
        if with_block < wanted {
            below = with_block;
            continue;
        }
        for (index, power) in powers.iter().enumerate() {
            below += power;
            if below >= wanted {
                return (block * BLOCK + index + 1) as f32 * bin_hz;
            }
        }
    }
    lines.len() as f32 * bin_hz
}

/// Returns the geometric over the arithmetic mean of the powers, each taken as at least 1e-10,
/// without a unit (Johnston 1988, "Transform coding of audio signals using perceptual noise
/// criteria", spectral flatness measure).
pub(super) fn flatness(spectrum: &[f32]) -> f32 {
    let lines = &spectrum[1..];
    let at_least = |power: f32| if power > POWER_MIN { power } else { POWER_MIN };
    let mean = lanes::sum(lines, at_least) / lines.len() as f32;
    libm::exp2f(mean_log2(lines, at_least)) / mean
}

/// Returns the mean of the binary logarithms of positive normal numbers.
///
/// The exponents are added and the mantissas, 1 to 2, multiplied, so that one logarithm serves 64
/// numbers.
fn mean_log2(numbers: &[f32], value: impl Fn(f32) -> f32) -> f32 {
    const LANES: usize = 16;
    const FACTORS: usize = 64;
    let mut exponents = 0_i32;
    let mut logarithms = 0.0;
    for run in numbers.chunks(LANES * FACTORS) {
        let mut products = [1.0_f32; LANES];
        let mut sums = [0_i32; LANES];
        for block in run.chunks(LANES) {
            for ((product, sum), number) in products.iter_mut().zip(&mut sums).zip(block) {
                let bits = value(*number).to_bits();
                *sum += (bits >> 23) as i32 - 127;
                *product *= f32::from_bits((bits & 0x007f_ffff) | 0x3f80_0000);
            }
        }
        for (product, sum) in products.into_iter().zip(sums) {
            exponents += sum;
            logarithms += libm::log2f(product);
        }
    }
    (exponents as f32 + logarithms) / numbers.len() as f32
}

/// Returns the frequency of the strongest line, in hertz; 0 of no power.
///
/// The top of the parabola through the logarithms of the greatest power and its neighbours (Smith
/// and Serra 1987, "PARSHL", section 3).
pub(super) fn dominant_frequency(spectrum: &[f32], bin_hz: f32) -> f32 {
    let lines = &spectrum[1..];
    let (_, greatest) = lanes::extremes(lines, |power| power);
    if greatest == 0.0 {
        return 0.0;
    }
    let index = 1 + lines.iter().position(|power| *power == greatest).unwrap_or(0);
    let mut offset = 0.0;
    if let [before, top, after] = spectrum.get(index - 1..=index + 1).unwrap_or(&[]) {
        let log = |power: f32| {
            libm::logf(if power > f32::MIN_POSITIVE { power } else { f32::MIN_POSITIVE })
        };
        let (before, top, after) = (log(*before), log(*top), log(*after));
        let curvature = before - 2.0 * top + after;
        if curvature < 0.0 {
            offset = (0.5 * (before - after) / curvature).clamp(-0.5, 0.5);
        }
    }
    (index as f32 + offset) * bin_hz
}

/// Returns the points of the transform for the autocorrelation: half a window of zeros keeps the
/// lags that are used free of wrapping.
pub(super) fn autocorrelation_fft_len(window_len: usize) -> usize {
    fft_len(window_len + window_len / 2)
}

/// Returns the greatest autocorrelation c(k) / c(0), c(k) = Σ(x(i) - x̄)(x(i + k) - x̄) / n, at lags
/// up to n/2 behind the first lag at which it is not positive; 0 if there is none, or none is
/// greater (Box, Jenkins and Reinsel 1994, equation 2.1.11; by the theorem of Wiener and Khinchin).
pub(super) fn autocorrelation_peak(samples: &[f32], turn: Turn<'_>, work: &mut [f32]) -> f32 {
    let half = autocorrelation_fft_len(samples.len()) / 2;
    let work = &mut work[..Planes::words(half)];
    let mut planes = Planes::new(work, half);
    load(samples, time::centre(samples), &mut planes.input());
    planes.transform(turn);
    let (plane, output) = planes.result();
    power(&plane, turn, output);
    // The spectrum is even and real, so its transform is the autocorrelation.
    let (first, second) = work.split_at_mut(2 * half);
    let (powers, input) = if Planes::input_is_first(half) {
        (second, first)
    } else {
        first[..=half].copy_from_slice(&second[..=half]);
        (first, second)
    };
    let (re, im) = input.split_at_mut(half);
    let (re_rising, re_falling) = re.split_at_mut(half / 2);
    let (im_rising, im_falling) = im.split_at_mut(half / 2);
    let (pairs, _) = powers[..half].as_chunks::<2>();
    for ((pair, re), im) in pairs.iter().zip(re_rising).zip(im_rising) {
        (*re, *im) = (pair[0], pair[1]);
    }
    let (pairs, _) = powers[1..=half].as_chunks::<2>();
    for ((pair, re), im) in pairs.iter().rev().zip(re_falling).zip(im_falling) {
        (*re, *im) = (pair[1], pair[0]);
    }
    let mut planes = Planes::new(work, half);
    planes.transform(turn);
    let (plane, output) = planes.result();
    real(&plane, turn, output);
    let correlations = &output[..=samples.len() / 2];
    let energy = correlations[0];
    if energy <= 0.0 {
        return 0.0;
    }
    let Some(fall) = correlations.iter().position(|correlation| *correlation <= 0.0) else {
        return 0.0;
    };
    let (_, greatest) = lanes::extremes(&correlations[fall..], |correlation| correlation);
    if greatest > 0.0 { greatest / energy } else { 0.0 }
}
