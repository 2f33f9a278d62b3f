//! Features: a fixed vector from a window.
//!
//! A detector file names its features one by one, so a new choice needs no new firmware. [`time`]
//! needs only the samples; `spectrum`, `mel` and `envelope` share one Fourier transform (`fft`);
//! `mains` follows the mains frequency. All work in single precision, in a fixed order and in
//! memory that the caller lends, so that training and chip agree to the bit; what they give is
//! always finite.

mod envelope;
mod fft;
mod kind;
mod lanes;
mod mains;
mod mel;
mod parameter;
mod spectrum;
pub mod time;
mod work;
mod workspace;

pub use kind::{FeatureKind, FeatureUnit};
pub use mains::{HARMONIC_ORDER_MAX, MAINS_HZ_MAX, MAINS_HZ_MIN, total_harmonic_distortion};
pub use parameter::{Band, Bands, Frames, Lines};
pub use workspace::Workspace;

use crate::window::Window;
use fft::FFT_LEN_MIN;

/// One entry of a detector's list of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What is computed.
    pub kind: FeatureKind,
    /// From which channel.
    pub channel: u16,
    /// What the kind needs to know: a number of samples, [`Bands`], [`Lines`], [`Frames`], a share in
    /// percent (roll-off), the highest harmonic, or the current's channel (powers); else 0.
    pub parameter: u32,
}

impl Feature {
    /// Returns how many numbers the feature gives from a window of `window_len` samples, or `None`
    /// if its parameter does not fit the window.
    #[must_use]
    pub fn output_len(&self, window_len: usize) -> Option<usize> {
        let parameter = self.parameter as usize;
        let one_if = |fits: bool| fits.then_some(1);
        match self.kind {
            FeatureKind::Samples | FeatureKind::CentredSamples => {
                (parameter > 0 && parameter <= window_len && window_len.is_multiple_of(parameter))
                    .then(|| window_len / parameter)
            }
            FeatureKind::RollingMean => one_if((1..=window_len).contains(&parameter)),
            FeatureKind::BandEnergy => self.bands(spectrum::fft_len(window_len) / 2, window_len),
            FeatureKind::EnvelopeBandEnergy => {
                self.bands(spectrum::fft_len(window_len) / 4, window_len)
            }
            FeatureKind::EnvelopeAmplitude => {
                let lines = Lines::unpack(self.parameter)?;
                (window_len >= FFT_LEN_MIN).then_some(usize::from(lines.count))
            }
            FeatureKind::LogMel | FeatureKind::MelCepstrum => self.frames(window_len),
            FeatureKind::SpectralRolloff => {
                one_if((1..=99).contains(&parameter) && window_len >= FFT_LEN_MIN)
            }
            FeatureKind::SpectralCentroid
            | FeatureKind::SpectralFlatness
            | FeatureKind::DominantFrequency => one_if(parameter == 0 && window_len >= FFT_LEN_MIN),
            FeatureKind::Harmonics => {
                (1..=HARMONIC_ORDER_MAX).contains(&parameter).then_some(parameter)
            }
            FeatureKind::TotalHarmonicDistortion => {
                one_if((2..=HARMONIC_ORDER_MAX).contains(&parameter))
            }
            // The current's channel, which `fits` checks.
            kind if kind.reads_current() => Some(1),
            _ => one_if(parameter == 0),
        }
    }

    fn bands(&self, bins: usize, window_len: usize) -> Option<usize> {
        let bands = Bands::unpack(self.parameter)?;
        let range = if self.kind == FeatureKind::BandEnergy { bands.range } else { Band::WHOLE };
        let (first, end) = range.bins(bins);
        let count = usize::from(bands.count);
        (window_len >= FFT_LEN_MIN && count <= end - first).then_some(count)
    }

    fn frames(&self, window_len: usize) -> Option<usize> {
        let frames = Frames::unpack(self.parameter)?;
        let with_coefficients = frames.coefficients > 0;
        let count = frames.count(window_len);
        (with_coefficients == (self.kind == FeatureKind::MelCepstrum) && count > 0)
            .then(|| count * frames.outputs())
    }

    /// Tells whether a detector of so many channels and such windows can compute the feature: its
    /// channels exist and, where it follows the mains, rate and window hold enough of it.
    #[must_use]
    pub fn fits(&self, channel_count: usize, window_len: usize, rate_hz: f32) -> bool {
        let current = if self.kind.reads_current() { self.parameter as usize } else { 0 };
        usize::from(self.channel) < channel_count
            && current < channel_count
            && (!self.kind.follows_mains() || mains::fits(window_len, rate_hz))
            && self.output_len(window_len).is_some()
    }

    /// Computes the feature into `output`, whose length is [`Feature::output_len`]; every number is
    /// finite.
    ///
    /// `workspace` was made for a list of features of which this is the next, and
    /// [`Workspace::begin`] was called for the window.
    pub fn compute(
        &self,
        window: &Window<'_>,
        rate_hz: f32,
        workspace: &mut Workspace<'_>,
        output: &mut [f32],
    ) {
        let samples = window.channel(usize::from(self.channel));
        let parameter = self.parameter as usize;
        let one = match self.kind {
            FeatureKind::Samples => return time::block_means(samples, parameter, 0.0, output),
            FeatureKind::CentredSamples => {
                return time::block_means(samples, parameter, time::centre(samples), output);
            }
            FeatureKind::Mean => time::mean(samples),
            FeatureKind::Variance => time::variance(samples),
            FeatureKind::StandardDeviation => time::standard_deviation(samples),
            FeatureKind::RootMeanSquare => time::root_mean_square(samples),
            FeatureKind::Minimum => time::minimum(samples),
            FeatureKind::Maximum => time::maximum(samples),
            FeatureKind::PeakToPeak => time::peak_to_peak(samples),
            FeatureKind::Slope => time::slope(samples, rate_hz),
            FeatureKind::RollingMean => {
                time::mean(&samples[samples.len().saturating_sub(parameter)..])
            }
            FeatureKind::Skewness => time::skewness(samples),
            FeatureKind::Kurtosis => time::kurtosis(samples),
            FeatureKind::CrestFactor => time::crest_factor(samples),
            FeatureKind::ZeroCrossingRate => time::zero_crossing_rate(samples, rate_hz),
            FeatureKind::MaximumDifference => time::maximum_difference(samples),
            _ => return workspace.compute(self, window, rate_hz, output),
        };
        if let Some(first) = output.first_mut() {
            *first = one;
        }
        make_finite(output);
    }
}

/// Puts 0 in place of what is not finite: rates beyond all reason can overflow.
fn make_finite(output: &mut [f32]) {
    for number in output {
        if !number.is_finite() {
            *number = 0.0;
        }
    }
}
