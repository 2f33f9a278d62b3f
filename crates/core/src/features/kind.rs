//! The kinds of features: numbers, names, units.

use core::fmt;

/// What is computed from a window; numbers are those of the detector file and never reassigned.
///
/// Formulas and sources stand with the functions of [`time`](super::time) and in the modules named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[non_exhaustive]
pub enum FeatureKind {
    /// The samples themselves, as means of blocks of `parameter` samples (1: each sample).
    Samples = 0,
    /// Arithmetic mean.
    Mean = 1,
    /// Population variance.
    Variance = 2,
    /// Population standard deviation.
    StandardDeviation = 3,
    /// Root mean square.
    RootMeanSquare = 4,
    /// Minimum.
    Minimum = 5,
    /// Maximum.
    Maximum = 6,
    /// Maximum less minimum.
    PeakToPeak = 7,
    /// Slope of the least-squares line, in units a second.
    Slope = 8,
    /// Mean of the last `parameter` samples.
    RollingMean = 9,
    /// The samples less the window's mean, as means of blocks of `parameter` samples.
    CentredSamples = 10,
    /// Skewness of the population.
    Skewness = 11,
    /// Excess kurtosis of the population.
    Kurtosis = 12,
    /// Greatest distance from the mean over the standard deviation.
    CrestFactor = 13,
    /// Crossings of the mean a second.
    ZeroCrossingRate = 14,
    /// Median of the distances from the median.
    MedianAbsDeviation = 15,
    /// Greatest autocorrelation after its first fall to 0: how periodic the signal is.
    AutocorrelationPeak = 16,
    /// Greatest distance between neighbours.
    MaximumDifference = 17,
    /// Mean square in each of some bands of equal width ([`Bands`](super::Bands)).
    BandEnergy = 18,
    /// Mean frequency of the power spectrum.
    SpectralCentroid = 19,
    /// Frequency below which `parameter` percent of the power lie.
    SpectralRolloff = 20,
    /// Geometric over arithmetic mean of the power spectrum: 1 for white noise, 0 for a tone.
    SpectralFlatness = 21,
    /// Frequency of the strongest line.
    DominantFrequency = 22,
    /// Logarithm of the power in mel bands, frame by frame ([`Frames`](super::Frames)).
    LogMel = 23,
    /// Mel-frequency cepstral coefficients, frame by frame ([`Frames`](super::Frames)).
    MelCepstrum = 24,
    /// Power of the envelope in bands of equal width ([`Bands`](super::Bands)).
    EnvelopeBandEnergy = 25,
    /// Amplitude of the envelope at a frequency and its multiples ([`Lines`](super::Lines)).
    EnvelopeAmplitude = 26,
    /// The mains frequency.
    FundamentalFrequency = 27,
    /// Root mean square of the mains harmonics 1 to `parameter`.
    Harmonics = 28,
    /// Total harmonic distortion over the harmonics 2 to `parameter`.
    TotalHarmonicDistortion = 29,
    /// Root mean square over whole mains cycles.
    MainsRootMeanSquare = 30,
    /// Active power of this channel's voltage and the current of channel `parameter`.
    ActivePower = 31,
    /// Reactive power of the fundamentals, of the same channels.
    ReactivePower = 32,
    /// Apparent power, of the same channels.
    ApparentPower = 33,
    /// Active over apparent power, of the same channels.
    PowerFactor = 34,
}

impl FeatureKind {
    /// Every kind, in the order of the numbers.
    pub const ALL: [Self; 35] = [
        Self::Samples,
        Self::Mean,
        Self::Variance,
        Self::StandardDeviation,
        Self::RootMeanSquare,
        Self::Minimum,
        Self::Maximum,
        Self::PeakToPeak,
        Self::Slope,
        Self::RollingMean,
        Self::CentredSamples,
        Self::Skewness,
        Self::Kurtosis,
        Self::CrestFactor,
        Self::ZeroCrossingRate,
        Self::MedianAbsDeviation,
        Self::AutocorrelationPeak,
        Self::MaximumDifference,
        Self::BandEnergy,
        Self::SpectralCentroid,
        Self::SpectralRolloff,
        Self::SpectralFlatness,
        Self::DominantFrequency,
        Self::LogMel,
        Self::MelCepstrum,
        Self::EnvelopeBandEnergy,
        Self::EnvelopeAmplitude,
        Self::FundamentalFrequency,
        Self::Harmonics,
        Self::TotalHarmonicDistortion,
        Self::MainsRootMeanSquare,
        Self::ActivePower,
        Self::ReactivePower,
        Self::ApparentPower,
        Self::PowerFactor,
    ];

    /// Returns the kind with a number of the detector file.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Returns the name that the command line and channel names use: at most 23 bytes, so that it
    /// fits behind a channel's into the name of a trace.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::Mean => "mean",
            Self::Variance => "variance",
            Self::StandardDeviation => "standard_deviation",
            Self::RootMeanSquare => "rms",
            Self::Minimum => "minimum",
            Self::Maximum => "maximum",
            Self::PeakToPeak => "peak_to_peak",
            Self::Slope => "slope",
            Self::RollingMean => "rolling_mean",
            Self::CentredSamples => "centred_samples",
            Self::Skewness => "skewness",
            Self::Kurtosis => "kurtosis",
            Self::CrestFactor => "crest_factor",
            Self::ZeroCrossingRate => "zero_crossing_rate",
            Self::MedianAbsDeviation => "median_abs_deviation",
            Self::AutocorrelationPeak => "autocorrelation_peak",
            Self::MaximumDifference => "maximum_difference",
            Self::BandEnergy => "band_energy",
            Self::SpectralCentroid => "spectral_centroid",
            Self::SpectralRolloff => "spectral_rolloff",
            Self::SpectralFlatness => "spectral_flatness",
            Self::DominantFrequency => "dominant_frequency",
            Self::LogMel => "log_mel",
            Self::MelCepstrum => "mfcc",
            Self::EnvelopeBandEnergy => "envelope_band_energy",
            Self::EnvelopeAmplitude => "envelope_amplitude",
            Self::FundamentalFrequency => "fundamental_frequency",
            Self::Harmonics => "harmonics",
            Self::TotalHarmonicDistortion => "thd",
            Self::MainsRootMeanSquare => "mains_rms",
            Self::ActivePower => "active_power",
            Self::ReactivePower => "reactive_power",
            Self::ApparentPower => "apparent_power",
            Self::PowerFactor => "power_factor",
        }
    }

    /// Tells whether the parameter is a plain number of samples.
    #[must_use]
    pub fn takes_parameter(self) -> bool {
        matches!(self, Self::Samples | Self::RollingMean | Self::CentredSamples)
    }

    /// Tells whether the kind reads a voltage from its channel and a current from another one.
    #[must_use]
    pub fn reads_current(self) -> bool {
        matches!(
            self,
            Self::ActivePower | Self::ReactivePower | Self::ApparentPower | Self::PowerFactor
        )
    }

    /// Tells whether the kind follows the mains.
    #[must_use]
    pub fn follows_mains(self) -> bool {
        self.reads_current()
            || matches!(
                self,
                Self::FundamentalFrequency
                    | Self::Harmonics
                    | Self::TotalHarmonicDistortion
                    | Self::MainsRootMeanSquare
            )
    }

    /// Returns the unit of the numbers.
    #[must_use]
    pub fn unit(self) -> FeatureUnit {
        match self {
            Self::Variance | Self::BandEnergy => FeatureUnit::Squared,
            Self::Slope => FeatureUnit::PerSecond,
            Self::Skewness
            | Self::Kurtosis
            | Self::CrestFactor
            | Self::AutocorrelationPeak
            | Self::SpectralFlatness
            | Self::EnvelopeBandEnergy
            | Self::EnvelopeAmplitude
            | Self::PowerFactor => FeatureUnit::Named(""),
            Self::ZeroCrossingRate
            | Self::SpectralCentroid
            | Self::SpectralRolloff
            | Self::DominantFrequency
            | Self::FundamentalFrequency => FeatureUnit::Named("Hz"),
            Self::LogMel | Self::MelCepstrum => FeatureUnit::Named("dB"),
            Self::TotalHarmonicDistortion => FeatureUnit::Named("%"),
            Self::ActivePower => FeatureUnit::Named("W"),
            Self::ReactivePower => FeatureUnit::Named("var"),
            Self::ApparentPower => FeatureUnit::Named("VA"),
            _ => FeatureUnit::Channel,
        }
    }
}

/// The unit of a feature, which may follow from its channel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureUnit {
    /// The channel's.
    Channel,
    /// The channel's, squared.
    Squared,
    /// The channel's, a second.
    PerSecond,
    /// A unit of its own; empty for a bare number.
    Named(&'static str),
}

impl FeatureUnit {
    /// Returns the unit's spelling for a channel; empty where the channel has none.
    #[must_use]
    pub fn of(self, channel_unit: &str) -> impl fmt::Display {
        Spelling { unit: self, channel_unit }
    }
}

struct Spelling<'u> {
    unit: FeatureUnit,
    channel_unit: &'u str,
}

impl fmt::Display for Spelling<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            FeatureUnit::Named(name) => f.write_str(name),
            _ if self.channel_unit.is_empty() => Ok(()),
            FeatureUnit::Channel => f.write_str(self.channel_unit),
            FeatureUnit::Squared => write!(f, "({})2", self.channel_unit),
            FeatureUnit::PerSecond => write!(f, "{}/s", self.channel_unit),
        }
    }
}
