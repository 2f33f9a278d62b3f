//! What the 32 bits of a feature's parameter say, for the kinds that take more than one number.

/// A range of frequencies in percent of half the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    /// From here, 0 to 99.
    pub low_percent: u8,
    /// Up to here, above `low_percent` and at most 100.
    pub high_percent: u8,
}

impl Band {
    /// Everything from 0 to half the rate.
    pub const WHOLE: Self = Self { low_percent: 0, high_percent: 100 };

    fn checked(self) -> Option<Self> {
        (self.low_percent < self.high_percent && self.high_percent <= 100).then_some(self)
    }

    /// Returns the bins of a spectrum of `half` + 1 bins: the first, and the one behind the last.
    pub(super) fn bins(self, half: usize) -> (usize, usize) {
        let bin = |percent: u8| usize::from(percent) * half / 100;
        (bin(self.low_percent), bin(self.high_percent) + usize::from(self.high_percent == 100))
    }
}

/// Bands of equal width: the parameter of [`BandEnergy`](super::FeatureKind::BandEnergy) and
/// [`EnvelopeBandEnergy`](super::FeatureKind::EnvelopeBandEnergy).
///
/// | bits | meaning |
/// |---|---|
/// | 0-15 | how many bands |
/// | 16-23 | low edge, percent of half the rate |
/// | 24-31 | high edge, percent of half the rate |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bands {
    /// How many, at least 1.
    pub count: u16,
    /// What they divide; of an envelope, what is let through before the envelope is taken, and its
    /// bands divide 0 to a quarter of the rate.
    pub range: Band,
}

impl Bands {
    /// Packs the parameter.
    #[must_use]
    pub fn pack(self) -> u32 {
        u32::from(self.count)
            | u32::from(self.range.low_percent) << 16
            | u32::from(self.range.high_percent) << 24
    }

    /// Unpacks a parameter; `None` if it is out of bounds.
    #[must_use]
    pub fn unpack(parameter: u32) -> Option<Self> {
        let [count_low, count_high, low_percent, high_percent] = parameter.to_le_bytes();
        let count = u16::from_le_bytes([count_low, count_high]);
        let range = Band { low_percent, high_percent }.checked()?;
        (count > 0).then_some(Self { count, range })
    }
}

/// A frequency and its multiples: the parameter of
/// [`EnvelopeAmplitude`](super::FeatureKind::EnvelopeAmplitude).
///
/// | bits | meaning |
/// |---|---|
/// | 0-13 | frequency in tenths of a hertz |
/// | 14-17 | how many multiples, the frequency itself included |
/// | 18-24 | low edge of what is let through, percent of half the rate |
/// | 25-31 | high edge of what is let through, percent of half the rate |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    /// The frequency in tenths of a hertz, 1 to 16,383.
    pub frequency_dhz: u16,
    /// How many multiples, 1 to 15.
    pub count: u8,
    /// What is let through before the envelope is taken.
    pub range: Band,
}

impl Lines {
    /// The highest frequency, in tenths of a hertz.
    pub const FREQUENCY_DHZ_MAX: u16 = (1 << 14) - 1;
    /// The most multiples.
    pub const COUNT_MAX: u8 = 15;

    /// Packs the parameter; bits that do not fit are lost.
    #[must_use]
    pub fn pack(self) -> u32 {
        u32::from(self.frequency_dhz & Self::FREQUENCY_DHZ_MAX)
            | u32::from(self.count & Self::COUNT_MAX) << 14
            | u32::from(self.range.low_percent & 127) << 18
            | u32::from(self.range.high_percent & 127) << 25
    }

    /// Unpacks a parameter; `None` if it is out of bounds.
    #[must_use]
    pub fn unpack(parameter: u32) -> Option<Self> {
        let bits = |first: u32, count: u32| (parameter >> first) & ((1 << count) - 1);
        let range =
            Band { low_percent: bits(18, 7) as u8, high_percent: bits(25, 7) as u8 }.checked()?;
        let lines = Self { frequency_dhz: bits(0, 14) as u16, count: bits(14, 4) as u8, range };
        (lines.frequency_dhz > 0 && lines.count > 0).then_some(lines)
    }
}

/// How a window is cut into frames of a power of two, and the mel bands of each: the parameter of
/// [`LogMel`](super::FeatureKind::LogMel) and [`MelCepstrum`](super::FeatureKind::MelCepstrum).
///
/// | bits | meaning |
/// |---|---|
/// | 0-11 | mel bands |
/// | 12-15 | binary logarithm of the samples in a frame |
/// | 16-19 | binary logarithm of frame over hop |
/// | 20-31 | cepstral coefficients; 0 for log-mel |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    /// Mel bands, at least 1.
    pub bands: u16,
    /// Binary logarithm of the samples in a frame.
    pub frame_len_log2: u8,
    /// Binary logarithm of the samples in a frame over those from one frame to the next.
    pub overlap_log2: u8,
    /// Cepstral coefficients, at most as many as bands; 0 for log-mel.
    pub coefficients: u16,
}

impl Frames {
    /// The most mel bands.
    pub const BANDS_MAX: u16 = (1 << 12) - 1;

    /// Packs the parameter; bits that do not fit are lost.
    #[must_use]
    pub fn pack(self) -> u32 {
        u32::from(self.bands & Self::BANDS_MAX)
            | u32::from(self.frame_len_log2 & 15) << 12
            | u32::from(self.overlap_log2 & 15) << 16
            | u32::from(self.coefficients & Self::BANDS_MAX) << 20
    }

    /// Unpacks a parameter; `None` if it is out of bounds.
    #[must_use]
    pub fn unpack(parameter: u32) -> Option<Self> {
        let bits = |first: u32, count: u32| (parameter >> first) & ((1 << count) - 1);
        let frames = Self {
            bands: bits(0, 12) as u16,
            frame_len_log2: bits(12, 4) as u8,
            overlap_log2: bits(16, 4) as u8,
            coefficients: bits(20, 12) as u16,
        };
        let is_legal = frames.bands > 0
            && frames.coefficients <= frames.bands
            && frames.overlap_log2 <= frames.frame_len_log2
            && frames.frame_len() >= super::fft::FFT_LEN_MIN
            && usize::from(frames.bands) <= frames.frame_len();
        is_legal.then_some(frames)
    }

    /// Returns the samples in a frame.
    #[must_use]
    pub fn frame_len(self) -> usize {
        1 << self.frame_len_log2
    }

    /// Returns the samples from one frame to the next.
    #[must_use]
    pub fn hop(self) -> usize {
        self.frame_len() >> self.overlap_log2
    }

    /// Returns how many frames a window of `window_len` samples holds.
    #[must_use]
    pub fn count(self, window_len: usize) -> usize {
        match window_len.checked_sub(self.frame_len()) {
            Some(rest) => rest / self.hop() + 1,
            None => 0,
        }
    }

    /// Returns the numbers of each frame.
    #[must_use]
    pub fn outputs(self) -> usize {
        usize::from(if self.coefficients == 0 { self.bands } else { self.coefficients })
    }
}
