//! Log-mel energies and mel-frequency cepstral coefficients, frame by frame.
//!
//! Each frame is tapered by the periodic Hann window and transformed; its power |X(k)|² is summed
//! over triangles that are equally wide in mel (Slaney 1998, "Auditory Toolbox": linear below
//! 1 kHz, 27 steps to each factor of 6.4 above) and of equal area 2 / (upper - lower edge in hertz),
//! from 0 to half the rate: librosa's `melspectrogram` without its padding. Log-mel is
//! 10 log₁₀(S + 2.2e-16), in decibels, as MLPerf Tiny's anomaly detector has it (frames of 1,024,
//! half overlapping, 128 bands).
//!
//! Cepstral coefficients are the orthonormal DCT-II of log-mel (Davis and Mermelstein 1980).

use super::fft::{Plane, Planes, Turn, cosine_of_turn, power};
use super::parameter::Frames;
use super::spectrum;

/// What is added to a power before its logarithm.
const POWER_OFFSET: f32 = 2.220_446e-16;
/// Below this frequency a mel is this many hertz wide ...
const LINEAR_HZ_PER_MEL: f32 = 200.0 / 3.0;
/// ... and above, it is this factor: 6.4^(1/27), as its natural logarithm.
const LOG_STEP: f32 = 0.068_751_78;
/// Where the two meet.
const CORNER_HZ: f32 = 1_000.0;
const CORNER_MEL: f32 = CORNER_HZ / LINEAR_HZ_PER_MEL;

fn mel_of_hz(hz: f32) -> f32 {
    if hz < CORNER_HZ {
        hz / LINEAR_HZ_PER_MEL
    } else {
        CORNER_MEL + libm::logf(hz / CORNER_HZ) / LOG_STEP
    }
}

fn hz_of_mel(mel: f32) -> f32 {
    if mel < CORNER_MEL {
        mel * LINEAR_HZ_PER_MEL
    } else {
        CORNER_HZ * libm::expf((mel - CORNER_MEL) * LOG_STEP)
    }
}

/// Returns the words of the tables that [`fill_tables`] fills.
pub(super) fn table_words(frames: Frames) -> usize {
    let bands = usize::from(frames.bands);
    let cosines = if frames.coefficients > 0 { 4 * bands } else { 0 };
    Tables::fixed_words(frames) + cosines
}

/// Returns the words of work memory.
pub(super) fn work_words(frames: Frames) -> usize {
    spectrum::work_words(frames.frame_len()) + usize::from(frames.bands)
}

/// Tables of one kind of frame.
struct Tables<'t> {
    /// How far each bin lies between the edges around it, 0 to 1.
    share: &'t [f32],
    /// The first bin at or above each edge; whole numbers.
    start: &'t [f32],
    /// The height of each triangle.
    height: &'t [f32],
    /// Cosines of a turn in 4 x bands steps, where there are coefficients.
    cosines: &'t [f32],
}

impl<'t> Tables<'t> {
    fn fixed_words(frames: Frames) -> usize {
        let bands = usize::from(frames.bands);
        (frames.frame_len() / 2 + 1) + (bands + 2) + bands
    }

    fn new(tables: &'t [f32], frames: Frames) -> Self {
        let bands = usize::from(frames.bands);
        let (share, rest) = tables.split_at(frames.frame_len() / 2 + 1);
        let (start, rest) = rest.split_at(bands + 2);
        let (height, cosines) = rest.split_at(bands);
        Self { share, start, height, cosines }
    }
}

/// Computes the triangles and the cosines of a kind of frame.
pub(super) fn fill_tables(frames: Frames, rate_hz: f32, tables: &mut [f32]) {
    let bands = usize::from(frames.bands);
    let half = frames.frame_len() / 2;
    let (fixed, cosines) = tables.split_at_mut(Tables::fixed_words(frames));
    let (share, rest) = fixed.split_at_mut(half + 1);
    let (start, height) = rest.split_at_mut(bands + 2);
    let bin_hz = rate_hz / frames.frame_len() as f32;
    let mel_max = mel_of_hz(0.5 * rate_hz);
    let edge = |index: usize| hz_of_mel(mel_max * (index as f32 / (bands + 1) as f32));
    for (band, height) in height.iter_mut().enumerate() {
        *height = 2.0 / (edge(band + 2) - edge(band));
    }
    let mut bin = 0;
    for (segment, start) in start.iter_mut().enumerate() {
        *start = bin as f32;
        if segment > bands {
            break;
        }
        let (low, high) = (edge(segment), edge(segment + 1));
        while bin <= half && (bin as f32 * bin_hz < high) {
            share[bin] = (bin as f32 * bin_hz - low) / (high - low);
            bin += 1;
        }
    }
    let turn = cosines.len();
    for (index, cosine) in cosines.iter_mut().enumerate() {
        *cosine = cosine_of_turn(index, turn);
    }
}

/// Computes every frame of a window; `output` is `[frames][bands or coefficients]`.
pub(super) fn compute(
    samples: &[f32],
    frames: Frames,
    tables: &[f32],
    turn: Turn<'_>,
    work: &mut [f32],
    output: &mut [f32],
) {
    let tables = Tables::new(tables, frames);
    let half = frames.frame_len() / 2;
    let (planes_memory, mel) = work.split_at_mut(Planes::words(half));
    let mel = &mut mel[..usize::from(frames.bands)];
    let starts = samples.windows(frames.frame_len()).step_by(frames.hop());
    for (frame, output) in starts.zip(output.chunks_exact_mut(frames.outputs())) {
        let mut planes = Planes::new(planes_memory, half);
        load(frame, turn, &mut planes.input());
        planes.transform(turn);
        let (plane, powers) = planes.result();
        power(&plane, turn, powers);
        let bands = if frames.coefficients == 0 { &mut *output } else { &mut *mel };
        log_mel(&powers[..=half], &tables, bands);
        if frames.coefficients > 0 {
            cepstrum(mel, tables.cosines, output);
        }
    }
}

/// Writes the samples of a frame as pairs, tapered by the Hann window that the cosines of a turn give.
fn load(frame: &[f32], turn: Turn<'_>, input: &mut Plane<'_>) {
    let (cosines, others) = turn.cosines_of_turn();
    let step = (cosines.len() + others.len()) / frame.len();
    let (before, behind) = frame.split_at(3 * frame.len() / 4);
    let (re, re_behind) = input.re.split_at_mut(before.len() / 2);
    let (im, im_behind) = input.im.split_at_mut(before.len() / 2);
    for (samples, cosines, re, im) in
        [(before, cosines, re, im), (behind, others, re_behind, im_behind)]
    {
        let (pairs, _) = samples.as_chunks::<2>();
        let weighted = |sample: f32, cosine: f32| sample * (0.5 - 0.5 * cosine);
        if step == 1 {
            let (weights, _) = cosines.as_chunks::<2>();
            for (((pair, weights), re), im) in pairs.iter().zip(weights).zip(re).zip(im) {
                (*re, *im) = (weighted(pair[0], weights[0]), weighted(pair[1], weights[1]));
            }
        } else {
            for (index, ((pair, re), im)) in pairs.iter().zip(re).zip(im).enumerate() {
                let (even, odd) = (cosines[2 * index * step], cosines[(2 * index + 1) * step]);
                (*re, *im) = (weighted(pair[0], even), weighted(pair[1], odd));
            }
        }
    }
}

fn log_mel(powers: &[f32], tables: &Tables<'_>, output: &mut [f32]) {
    // Between two edges the lower triangle falls and the upper one rises.
    let mut rising_before = 0.0;
    for (segment, bounds) in tables.start.windows(2).enumerate() {
        let bins = bounds[0] as usize..bounds[1] as usize;
        let (mut rising, mut falling) = (0.0, 0.0);
        for (power, share) in powers[bins.clone()].iter().zip(&tables.share[bins]) {
            let part = share * power;
            rising += part;
            falling += power - part;
        }
        if let Some(band) = segment.checked_sub(1) {
            let energy = (rising_before + falling) * tables.height[band];
            output[band] = 10.0 * libm::log10f(energy + POWER_OFFSET);
        }
        rising_before = rising;
    }
}

/// Writes c(k) = s(k) Σ log-mel(m) cos(πk(2m + 1) / 2M), s(0) = √(1/M), else √(2/M).
fn cepstrum(mel: &[f32], cosines: &[f32], output: &mut [f32]) {
    let bands = mel.len();
    let scale = libm::sqrtf(2.0 / bands as f32);
    for (k, output) in output.iter_mut().enumerate() {
        let mut sum = 0.0;
        let mut index = k;
        for energy in mel {
            sum += energy * cosines[index];
            index += 2 * k;
            if index >= cosines.len() {
                index -= cosines.len();
            }
        }
        *output = sum * scale;
    }
    if let Some(first) = output.first_mut() {
        *first *= core::f32::consts::FRAC_1_SQRT_2;
    }
}
