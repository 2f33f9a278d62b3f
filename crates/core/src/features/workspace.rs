//! The memory in which features are computed, and what neighbouring features share.

use super::fft::Turn;
use super::mains::{self, Mains};
use super::parameter::{Band, Bands, Frames, Lines};
use super::{Feature, FeatureKind, envelope, make_finite, mel, spectrum, time};
use crate::window::Window;

/// What the work memory holds of the present window.
#[derive(Clone, Copy, Debug)]
enum Held {
    Nothing,
    /// The power spectrum of a channel.
    Spectrum {
        channel: u16,
    },
    /// The spectrum of the envelope of a channel.
    Envelope {
        channel: u16,
        range: Band,
    },
    /// The mains that a channel follows, and how many of its harmonics.
    Mains {
        channel: u16,
        mains: Mains,
        harmonics: usize,
    },
}

/// Tables and work memory of a list of features.
///
/// | words | what |
/// |---|---|
/// | longest transform | cosines of a turn |
/// | window, where a spectrum needs it | Hann's window |
/// | as each feature needs | tables of its own, in the order of the list |
/// | the most that one needs | work memory |
///
/// A spectrum is kept until another feature needs the memory: features that stand next to each other
/// in the list and read the same channel share it.
#[derive(Debug)]
pub struct Workspace<'m> {
    turn: &'m [f32],
    taper: &'m [f32],
    tables: &'m [f32],
    tables_used: usize,
    work: &'m mut [f32],
    held: Held,
}

/// What one feature needs, in words.
#[derive(Clone, Copy, Debug, Default)]
struct Needs {
    turn: usize,
    taper: usize,
    table: usize,
    work: usize,
}

impl Needs {
    fn of_one(feature: &Feature, window_len: usize) -> Self {
        let fft_len = spectrum::fft_len(window_len);
        let none = Self::default();
        match feature.kind {
            FeatureKind::BandEnergy
            | FeatureKind::SpectralCentroid
            | FeatureKind::SpectralRolloff
            | FeatureKind::SpectralFlatness
            | FeatureKind::DominantFrequency => Self {
                turn: fft_len,
                taper: window_len,
                work: spectrum::work_words(fft_len),
                ..none
            },
            FeatureKind::EnvelopeBandEnergy | FeatureKind::EnvelopeAmplitude => Self {
                turn: fft_len,
                taper: window_len,
                work: envelope::work_words(window_len),
                ..none
            },
            FeatureKind::AutocorrelationPeak => {
                let fft_len = spectrum::autocorrelation_fft_len(window_len);
                Self { turn: fft_len, work: spectrum::work_words(fft_len), ..none }
            }
            FeatureKind::LogMel | FeatureKind::MelCepstrum => {
                let Some(frames) = Frames::unpack(feature.parameter) else {
                    return none;
                };
                Self {
                    turn: frames.frame_len(),
                    table: mel::table_words(frames),
                    work: mel::work_words(frames),
                    ..none
                }
            }
            FeatureKind::MedianAbsDeviation => Self { work: window_len, ..none },
            kind if kind.follows_mains() => Self { work: mains::work_words(window_len), ..none },
            _ => none,
        }
    }

    fn of(features: impl Iterator<Item = Feature>, window_len: usize) -> Self {
        features.fold(Self::default(), |sum, feature| {
            let one = Self::of_one(&feature, window_len);
            Self {
                turn: sum.turn.max(one.turn),
                taper: sum.taper.max(one.taper),
                table: sum.table + one.table,
                work: sum.work.max(one.work),
            }
        })
    }
}

impl<'m> Workspace<'m> {
    /// Returns the words of memory that a list of features needs.
    #[must_use]
    pub fn words(features: impl Iterator<Item = Feature>, window_len: usize) -> usize {
        let needs = Needs::of(features, window_len);
        needs.turn + needs.taper + needs.table + needs.work
    }

    /// Fills the tables in `memory` of [`Workspace::words`].
    #[must_use]
    pub fn new(
        features: impl Iterator<Item = Feature> + Clone,
        window_len: usize,
        rate_hz: f32,
        memory: &'m mut [f32],
    ) -> Self {
        let needs = Needs::of(features.clone(), window_len);
        let (turn, rest) = memory.split_at_mut(needs.turn);
        let (taper, rest) = rest.split_at_mut(needs.taper);
        let (tables, work) = rest.split_at_mut(needs.table);
        Turn::fill(turn);
        spectrum::fill_taper(taper);
        let mut rest = &mut *tables;
        for feature in features {
            let (table, others) = rest.split_at_mut(Needs::of_one(&feature, window_len).table);
            if let (false, Some(frames)) = (table.is_empty(), Frames::unpack(feature.parameter)) {
                mel::fill_tables(frames, rate_hz, table);
            }
            rest = others;
        }
        Self { turn, taper, tables, tables_used: 0, work, held: Held::Nothing }
    }

    /// Begins a new window: nothing of the last one is used again.
    pub fn begin(&mut self) {
        self.tables_used = 0;
        self.held = Held::Nothing;
    }

    /// Computes a feature that needs memory.
    pub(super) fn compute(
        &mut self,
        feature: &Feature,
        window: &Window<'_>,
        rate_hz: f32,
        output: &mut [f32],
    ) {
        let samples = window.channel(usize::from(feature.channel));
        match feature.kind {
            FeatureKind::MedianAbsDeviation => {
                self.held = Held::Nothing;
                output[0] = time::median_abs_deviation(samples, self.work);
            }
            FeatureKind::AutocorrelationPeak => {
                self.held = Held::Nothing;
                output[0] =
                    spectrum::autocorrelation_peak(samples, Turn::new(self.turn), self.work);
            }
            FeatureKind::LogMel | FeatureKind::MelCepstrum => {
                self.held = Held::Nothing;
                // Checked when the detector was loaded.
                if let Some(frames) = Frames::unpack(feature.parameter) {
                    let tables = &self.tables[self.tables_used..][..mel::table_words(frames)];
                    self.tables_used += tables.len();
                    let turn = Turn::new(self.turn);
                    mel::compute(samples, frames, tables, turn, self.work, output);
                }
            }
            FeatureKind::EnvelopeBandEnergy | FeatureKind::EnvelopeAmplitude => {
                self.envelope(feature, samples, rate_hz, output);
            }
            kind if kind.follows_mains() => self.mains(feature, window, rate_hz, output),
            _ => self.spectrum(feature, samples, rate_hz, output),
        }
        make_finite(output);
    }

    fn spectrum(&mut self, feature: &Feature, samples: &[f32], rate_hz: f32, output: &mut [f32]) {
        let fft_len = spectrum::fft_len(samples.len());
        if !matches!(self.held, Held::Spectrum { channel } if channel == feature.channel) {
            spectrum::compute(samples, self.taper, Turn::new(self.turn), self.work);
            self.held = Held::Spectrum { channel: feature.channel };
        }
        let powers = &self.work[spectrum::place(fft_len)];
        let bin_hz = rate_hz / fft_len as f32;
        output[0] = match feature.kind {
            FeatureKind::SpectralCentroid => spectrum::centroid(powers, bin_hz),
            FeatureKind::SpectralRolloff => spectrum::rolloff(powers, bin_hz, feature.parameter),
            FeatureKind::SpectralFlatness => spectrum::flatness(powers),
            FeatureKind::DominantFrequency => spectrum::dominant_frequency(powers, bin_hz),
            _ => {
                if let Some(bands) = Bands::unpack(feature.parameter) {
                    spectrum::band_energy(powers, samples.len(), bands, output);
                }
                return;
            }
        };
    }

    fn envelope(&mut self, feature: &Feature, samples: &[f32], rate_hz: f32, output: &mut [f32]) {
        let bands = Bands::unpack(feature.parameter);
        let lines = Lines::unpack(feature.parameter);
        let is_bands = feature.kind == FeatureKind::EnvelopeBandEnergy;
        let wanted = if is_bands { bands.map(|b| b.range) } else { lines.map(|l| l.range) };
        let wanted = wanted.unwrap_or(Band::WHOLE);
        let is_held = matches!(self.held, Held::Envelope { channel, range }
            if channel == feature.channel && range == wanted);
        if !is_held {
            let turn = Turn::new(self.turn);
            envelope::compute(samples, wanted, self.taper, turn, self.work);
            self.held = Held::Envelope { channel: feature.channel, range: wanted };
        }
        let powers = &self.work[envelope::place(samples.len())];
        let bin_hz = rate_hz / spectrum::fft_len(samples.len()) as f32;
        match (is_bands, bands, lines) {
            (true, Some(bands), _) => {
                envelope::band_energy(powers, samples.len(), bands, output);
            }
            (false, _, Some(lines)) => {
                envelope::amplitudes(powers, samples.len(), bin_hz, lines, output);
            }
            _ => {}
        }
    }

    fn mains(&mut self, feature: &Feature, window: &Window<'_>, rate_hz: f32, output: &mut [f32]) {
        let samples = window.channel(usize::from(feature.channel));
        let current = window.channel(feature.parameter as usize);
        let (mains, mut harmonics) = match self.held {
            Held::Mains { channel, mains, harmonics } if channel == feature.channel => {
                (mains, harmonics)
            }
            _ => (Mains::new(samples, rate_hz, self.work), 0),
        };
        let work = &mut *self.work;
        output[0] = match feature.kind {
            FeatureKind::FundamentalFrequency => mains.hz,
            FeatureKind::MainsRootMeanSquare => mains.root_mean_square(samples, work),
            FeatureKind::ActivePower => mains.active_power(samples, current, work),
            FeatureKind::ApparentPower => mains.apparent_power(samples, current, work),
            FeatureKind::PowerFactor => mains.power_factor(samples, current, work),
            FeatureKind::ReactivePower => {
                harmonics = 0;
                mains.reactive_power(samples, current, work)
            }
            _ => {
                let orders = feature.parameter as usize;
                if harmonics < orders {
                    mains.harmonics(samples, orders, work);
                    harmonics = orders;
                }
                let values = &work[..orders];
                if feature.kind == FeatureKind::TotalHarmonicDistortion {
                    mains::total_harmonic_distortion(values)
                } else {
                    output.copy_from_slice(values);
                    values[0]
                }
            }
        };
        self.held = Held::Mains { channel: feature.channel, mains, harmonics };
    }
}
