//! What features cost, counted from their formulas.

use super::lanes::LANES;
use super::parameter::{Frames, Lines};
use super::{Feature, FeatureKind, spectrum};
use crate::detector::Work;

impl Feature {
    /// Counts what computing the feature takes, as if no other feature shared its spectrum.
    #[must_use]
    pub fn work(&self, window_len: usize) -> Work {
        let len = window_len as u64;
        let fft_len = spectrum::fft_len(window_len) as u64;
        // Each pass over the samples ends with joining its lanes, see `lanes`.
        let of_samples = |operations: u64| Work {
            float_operations: operations * len + operations.div_ceil(2) * len.min(LANES as u64),
            float_divisions: 1,
            ..Work::default()
        };
        match self.kind {
            FeatureKind::Samples | FeatureKind::Minimum | FeatureKind::Maximum => of_samples(1),
            FeatureKind::Mean
            | FeatureKind::RollingMean
            | FeatureKind::RootMeanSquare
            | FeatureKind::PeakToPeak
            | FeatureKind::MaximumDifference => of_samples(2),
            FeatureKind::CentredSamples => of_samples(3),
            FeatureKind::ZeroCrossingRate => of_samples(4),
            FeatureKind::Variance | FeatureKind::StandardDeviation | FeatureKind::Slope => {
                of_samples(5)
            }
            FeatureKind::CrestFactor => of_samples(9),
            FeatureKind::Skewness | FeatureKind::Kurtosis => of_samples(13),
            // Two selections of about three passes each.
            FeatureKind::MedianAbsDeviation => {
                Work { float_operations: len, integer_steps: 10 * len, ..Work::default() }
            }
            FeatureKind::AutocorrelationPeak => {
                let fft_len = spectrum::autocorrelation_fft_len(window_len) as u64;
                transform(fft_len) + transform(fft_len) + of_samples(3)
            }
            FeatureKind::EnvelopeBandEnergy | FeatureKind::EnvelopeAmplitude => {
                let lines = Lines::unpack(self.parameter).map_or(1, |lines| u64::from(lines.count));
                let roots = Work { float_functions: lines, float_divisions: 2, ..Work::default() };
                transform(fft_len) + transform(fft_len) + transform(fft_len / 2) + roots
            }
            FeatureKind::LogMel | FeatureKind::MelCepstrum => self.mel_work(window_len),
            kind if kind.follows_mains() => self.mains_work(len),
            FeatureKind::SpectralFlatness => transform(fft_len) + of_spectrum(fft_len, 3, 17),
            FeatureKind::DominantFrequency => transform(fft_len) + of_spectrum(fft_len, 2, 3),
            _ => transform(fft_len) + of_spectrum(fft_len, 3, 0),
        }
    }

    fn mel_work(&self, window_len: usize) -> Work {
        let Some(frames) = Frames::unpack(self.parameter) else {
            return Work::default();
        };
        let (count, fft_len) = (frames.count(window_len) as u64, frames.frame_len() as u64);
        let bands = u64::from(frames.bands);
        let one = transform(fft_len)
            + of_spectrum(fft_len, 4, bands)
            + Work { float_macs: u64::from(frames.coefficients) * bands, ..Work::default() };
        (0..count).fold(Work::default(), |sum, _| sum + one)
    }

    fn mains_work(&self, len: u64) -> Work {
        // Nine frequencies on four periods, two refinements over the window or more, the taper.
        let tracking = Work { float_operations: 60 * len, float_functions: 500, ..Work::default() };
        let orders = match self.kind {
            FeatureKind::Harmonics | FeatureKind::TotalHarmonicDistortion => self.parameter,
            FeatureKind::ReactivePower => 2,
            _ => 0,
        };
        // Eight orders together; a projection is two products summed and a turn of six operations.
        let lanes = u64::from(orders.next_multiple_of(8));
        let projection = Work {
            float_macs: lanes * len,
            float_operations: 3 * lanes * len,
            float_functions: lanes * (len / 64 + 4),
            ..Work::default()
        };
        tracking + projection
    }
}

/// A transform of real samples with its power: radix 4 takes 34 operations for each four points.
fn transform(fft_len: u64) -> Work {
    let stages = u64::from((fft_len / 2).max(2).ilog2().div_ceil(2));
    Work { float_operations: fft_len * (17 * stages + 30) / 4, ..Work::default() }
}

fn of_spectrum(fft_len: u64, operations: u64, functions: u64) -> Work {
    Work {
        float_operations: operations * fft_len / 2,
        float_functions: functions,
        float_divisions: 1,
        ..Work::default()
    }
}
