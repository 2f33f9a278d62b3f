//! The spelling of features: `NAME`, `NAME:NUMBERS`, and behind either `@CHANNEL`.

use stonechat_core::features::{Band, Bands, Feature, FeatureKind, Frames, Lines, MAINS_HZ_MIN};
use thiserror::Error;

/// The share of the power below the roll-off, in percent, unless told otherwise.
const ROLLOFF_PERCENT: u32 = 85;
/// The highest harmonic, unless told otherwise (EN 50160).
const HARMONIC_ORDER: u32 = 40;
/// Mel bands of cepstral coefficients, unless told otherwise.
const CEPSTRUM_BANDS: u16 = 40;

/// A feature's spelling is not understood.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FeatureError {
    /// There is no such feature.
    #[error("there is no feature `{name}`; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The parameter is missing, superfluous or not a whole number that fits the window.
    #[error("the feature `{text}` does not fit a window of {window_len} samples: {remedy}")]
    Parameter {
        /// What was asked for.
        text: String,
        /// The window.
        window_len: usize,
        /// What to write instead.
        remedy: &'static str,
    },
    /// The channel that a feature names is not there.
    #[error("the feature `{text}` names the channel `{channel}`; there are {known}")]
    Channel {
        /// What was asked for.
        text: String,
        /// The channel that it names.
        channel: String,
        /// What there is.
        known: String,
    },
    /// The window holds too little of the mains.
    #[error(
        "the feature `{text}` follows the mains from {MAINS_HZ_MIN} Hz on: at {rate} samples a second a window must hold at least {window_len_min}, not {window_len}, and the rate must be at least 260 a second"
    )]
    Mains {
        /// What was asked for.
        text: String,
        /// Samples a second.
        rate: String,
        /// The window.
        window_len: usize,
        /// The least window.
        window_len_min: usize,
    },
}

/// Reads the features of a recipe for channels of these names, channel by channel.
///
/// Behind `@` a feature may name the one channel that it is taken from, as in `thd@voltage`, by its
/// name or its number from 0; without it, it is taken from every channel. The powers name the
/// channel of the current in the same way, as in `active_power:current@voltage`.
///
/// # Errors
/// [`FeatureError`] names what there is instead.
pub fn parse_features(
    texts: &[String],
    channel_names: &[String],
    rate_hz: f64,
    window_len: usize,
) -> Result<Vec<Feature>, FeatureError> {
    let find = |text: &str, name: &str| {
        let by_name = channel_names.iter().position(|channel| channel == name);
        let by_number = || name.parse().ok().filter(|number| *number < channel_names.len());
        by_name.or_else(by_number).ok_or_else(|| FeatureError::Channel {
            text: text.to_owned(),
            channel: name.to_owned(),
            known: channel_names.join(", "),
        })
    };
    let mut features = Vec::new();
    for channel in 0..channel_names.len() {
        for text in texts {
            let (spelling, only) = match text.split_once('@') {
                Some((spelling, name)) => (spelling, Some(find(text, name)?)),
                None => (text.as_str(), None),
            };
            if only.is_some_and(|only| only != channel) {
                continue;
            }
            let spelling = match spelling.split_once(':') {
                Some((name, current)) if kind_of(name)?.reads_current() => {
                    format!("{name}:{}", find(text, current)?)
                }
                _ => spelling.to_owned(),
            };
            let feature = parse_feature(&spelling, channel as u16, window_len)?;
            if !feature.fits(channel_names.len(), window_len, rate_hz as f32) {
                return Err(FeatureError::Mains {
                    text: text.clone(),
                    rate: rate_hz.to_string(),
                    window_len,
                    window_len_min: (3.0 * rate_hz / f64::from(MAINS_HZ_MIN)).ceil() as usize,
                });
            }
            features.push(feature);
        }
    }
    Ok(features)
}

/// Reads a feature for one channel.
///
/// | spelling | meaning |
/// |---|---|
/// | `rms`, `skewness` and other bare names | one number |
/// | `samples`, `samples:4`, `centred_samples:4` | means of 4 samples |
/// | `rolling_mean:8` | mean of the last 8 |
/// | `band_energy:8`, `band_energy:8:10-50` | 8 bands, of 10 to 50 % of half the rate |
/// | `spectral_rolloff`, `spectral_rolloff:95` | 85 % of the power, or 95 % |
/// | `log_mel:32`, `log_mel:128:1024:512` | mel bands, in frames of 1,024 samples every 512 |
/// | `mfcc:13`, `mfcc:13:40:1024:512` | coefficients, of so many mel bands |
/// | `envelope_band_energy:16:20-80` | bands of the envelope of what lies in 20 to 80 % |
/// | `envelope_amplitude:107.3:3:20-80` | at 107.3 Hz and up to 3 times that |
/// | `harmonics`, `harmonics:20`, `thd`, `thd:20` | orders up to 40, or 20 |
/// | `active_power:1`, `reactive_power:1`, `apparent_power:1`, `power_factor:1` | with the current of channel 1 |
///
/// # Errors
/// [`FeatureError`] names what there is instead.
pub fn parse_feature(text: &str, channel: u16, window_len: usize) -> Result<Feature, FeatureError> {
    let (name, rest) = match text.split_once(':') {
        Some((name, rest)) => (name, Some(rest)),
        None => (text, None),
    };
    let kind = kind_of(name)?;
    let parts: Vec<&str> = rest.map(|rest| rest.split(':').collect()).unwrap_or_default();
    let remedy = remedy(kind);
    let wrong = || FeatureError::Parameter { text: text.to_owned(), window_len, remedy };
    let parameter = parameter(kind, &parts, window_len).ok_or_else(wrong)?;
    let feature = Feature { kind, channel, parameter };
    if feature.output_len(window_len).is_none() {
        return Err(wrong());
    }
    Ok(feature)
}

/// Writes a feature as [`parse_feature`] reads it.
#[must_use]
pub fn spell_feature(feature: &Feature) -> String {
    let name = feature.kind.name();
    let parameter = feature.parameter;
    let numbers = match feature.kind {
        FeatureKind::BandEnergy | FeatureKind::EnvelopeBandEnergy => Bands::unpack(parameter)
            .map(|bands| format!("{}:{}", bands.count, percent(bands.range))),
        FeatureKind::EnvelopeAmplitude => Lines::unpack(parameter).map(|lines| {
            let frequency_hz = f64::from(lines.frequency_dhz) / 10.0;
            format!("{frequency_hz}:{}:{}", lines.count, percent(lines.range))
        }),
        FeatureKind::LogMel => Frames::unpack(parameter)
            .map(|frames| format!("{}:{}:{}", frames.bands, frames.frame_len(), frames.hop())),
        FeatureKind::MelCepstrum => Frames::unpack(parameter).map(|frames| {
            let Frames { bands, coefficients, .. } = frames;
            format!("{coefficients}:{bands}:{}:{}", frames.frame_len(), frames.hop())
        }),
        kind => (kind.takes_parameter() || kind.reads_current()).then(|| parameter.to_string()),
    };
    numbers.map_or_else(|| name.to_owned(), |numbers| format!("{name}:{numbers}"))
}

fn percent(band: Band) -> String {
    format!("{}-{}", band.low_percent, band.high_percent)
}

fn kind_of(name: &str) -> Result<FeatureKind, FeatureError> {
    let found = FeatureKind::ALL.into_iter().find(|kind| kind.name() == name);
    found.ok_or_else(|| FeatureError::Unknown {
        name: name.to_owned(),
        known: FeatureKind::ALL.map(FeatureKind::name).join(", "),
    })
}

/// Says what to write instead of a parameter that does not fit.
fn remedy(kind: FeatureKind) -> &'static str {
    match kind {
        FeatureKind::Samples | FeatureKind::CentredSamples => {
            "its number of samples must divide the window"
        }
        FeatureKind::RollingMean => {
            "name the samples to average, no more than the window has, such as rolling_mean:8"
        }
        FeatureKind::BandEnergy => {
            "name the bands, no more than the spectrum has bins, and if you like the range in percent of half the rate, such as band_energy:8:10-50; the window must have at least 8 samples"
        }
        FeatureKind::EnvelopeBandEnergy => {
            "name the bands, no more than the envelope's spectrum has bins, and if you like what is let through in percent of half the rate, such as envelope_band_energy:16:20-80; the window must have at least 8 samples"
        }
        FeatureKind::EnvelopeAmplitude => {
            "name the frequency up to 1638.3 Hz, and if you like up to 15 multiples and what is let through in percent of half the rate, such as envelope_amplitude:107.3:3:20-80; the window must have at least 8 samples"
        }
        FeatureKind::SpectralRolloff => {
            "name the share in percent, 1 to 99, such as spectral_rolloff:85; the window must have at least 8 samples"
        }
        FeatureKind::LogMel => {
            "name the mel bands, and if you like the samples of a frame and from one frame to the next (powers of two, from 8 on, that fit the window), such as log_mel:32:1024:512"
        }
        FeatureKind::MelCepstrum => {
            "name the coefficients, no more than mel bands, and if you like the mel bands and the samples of a frame and from one frame to the next (powers of two, from 8 on, that fit the window), such as mfcc:13:40:1024:512"
        }
        FeatureKind::Harmonics => "name the highest harmonic, 1 to 50, such as harmonics:40",
        FeatureKind::TotalHarmonicDistortion => {
            "name the highest harmonic, 2 to 50, such as thd:40"
        }
        kind if kind.reads_current() => {
            "name the channel of the current, such as active_power:1 for the second"
        }
        FeatureKind::SpectralCentroid
        | FeatureKind::SpectralFlatness
        | FeatureKind::DominantFrequency => {
            "it takes no number, and the window must have at least 8 samples"
        }
        _ => "it takes no number",
    }
}

/// Packs what follows the name; `None` where it is not understood.
fn parameter(kind: FeatureKind, parts: &[&str], window_len: usize) -> Option<u32> {
    match kind {
        FeatureKind::Samples | FeatureKind::CentredSamples => number_or(parts, 1),
        FeatureKind::RollingMean => number(parts),
        FeatureKind::BandEnergy | FeatureKind::EnvelopeBandEnergy => bands(parts),
        FeatureKind::EnvelopeAmplitude => lines(parts),
        FeatureKind::SpectralRolloff => number_or(parts, ROLLOFF_PERCENT),
        FeatureKind::LogMel => {
            let (bands, frames) = parts.split_first()?;
            frames_of(bands.parse().ok()?, 0, frames, window_len)
        }
        FeatureKind::MelCepstrum => {
            let (coefficients, rest) = parts.split_first()?;
            let coefficients = coefficients.parse().ok().filter(|count| *count > 0)?;
            let default = CEPSTRUM_BANDS.max(coefficients);
            match rest.split_first() {
                None => frames_of(default, coefficients, &[], window_len),
                Some((bands, frames)) => {
                    frames_of(bands.parse().ok()?, coefficients, frames, window_len)
                }
            }
        }
        FeatureKind::Harmonics | FeatureKind::TotalHarmonicDistortion => {
            number_or(parts, HARMONIC_ORDER)
        }
        kind if kind.reads_current() => number(parts),
        _ => parts.is_empty().then_some(0),
    }
}

fn number(parts: &[&str]) -> Option<u32> {
    match parts {
        [one] => one.parse().ok(),
        _ => None,
    }
}

fn number_or(parts: &[&str], default: u32) -> Option<u32> {
    if parts.is_empty() { Some(default) } else { number(parts) }
}

fn band(part: Option<&&str>) -> Option<Band> {
    match part {
        None => Some(Band::WHOLE),
        Some(text) => {
            let (low, high) = text.split_once('-')?;
            Some(Band { low_percent: low.parse().ok()?, high_percent: high.parse().ok()? })
        }
    }
}

fn bands(parts: &[&str]) -> Option<u32> {
    let (count, range) = parts.split_first().filter(|(_, range)| range.len() <= 1)?;
    Some(Bands { count: count.parse().ok()?, range: band(range.first())? }.pack())
}

fn lines(parts: &[&str]) -> Option<u32> {
    let (frequency, rest) = parts.split_first().filter(|(_, rest)| rest.len() <= 2)?;
    let frequency_hz: f64 = frequency.parse().ok()?;
    let frequency_dhz = (frequency_hz * 10.0).round();
    let in_range = (1.0..=f64::from(Lines::FREQUENCY_DHZ_MAX)).contains(&frequency_dhz);
    let count = rest.first().map_or(Some(1), |count| count.parse().ok())?;
    let range = band(rest.get(1))?;
    let fits = in_range && count <= Lines::COUNT_MAX && range.high_percent <= 100;
    fits.then(|| Lines { frequency_dhz: frequency_dhz as u16, count, range }.pack())
}

/// Without a frame, frames are the greatest power of two that fits the window; without a hop, half a
/// frame.
fn frames_of(bands: u16, coefficients: u16, parts: &[&str], window_len: usize) -> Option<u32> {
    let log2 = |text: &&str| {
        let number: usize = text.parse().ok()?;
        number.is_power_of_two().then(|| number.ilog2())
    };
    let (frame, hop) = match parts {
        [] => {
            let frame = window_len.ilog2();
            (frame, frame.checked_sub(1)?)
        }
        [frame] => {
            let frame = log2(frame)?;
            (frame, frame.checked_sub(1)?)
        }
        [frame, hop] => (log2(frame)?, log2(hop)?),
        _ => return None,
    };
    let fits = frame < 16 && bands <= Frames::BANDS_MAX && coefficients <= Frames::BANDS_MAX;
    let frames = Frames {
        bands,
        frame_len_log2: frame as u8,
        overlap_log2: frame.checked_sub(hop)? as u8,
        coefficients,
    };
    fits.then(|| frames.pack())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output_len(text: &str, window_len: usize) -> Option<usize> {
        parse_feature(text, 0, window_len).ok()?.output_len(window_len)
    }

    #[test]
    fn spellings_give_as_many_numbers_as_they_say() {
        for (text, window_len, expected) in [
            ("samples", 32, 32),
            ("samples:4", 32, 8),
            ("skewness", 1, 1),
            ("band_energy:8", 1_000, 8),
            ("band_energy:8:10-50", 1_000, 8),
            ("spectral_rolloff:95", 64, 1),
            ("log_mel:128:1024:512", 3_072, 640),
            ("log_mel:32", 1_024, 32),
            ("mfcc:13", 512, 13),
            ("mfcc:13:20:256:128", 512, 39),
            ("envelope_band_energy:16:20-80", 256, 16),
            ("envelope_amplitude:107.3:3", 256, 3),
            ("harmonics", 1_280, 40),
            ("thd:20", 1_280, 1),
            ("active_power:1", 1_280, 1),
        ] {
            assert_eq!(output_len(text, window_len), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_spelt_is_read_back() {
        for text in [
            "samples:4",
            "rms",
            "rolling_mean:8",
            "band_energy:8:10-50",
            "spectral_rolloff",
            "log_mel:32",
            "log_mel:128:1024:512",
            "mfcc:13:20:256:128",
            "envelope_amplitude:107.3:3:20-80",
            "thd",
            "active_power:1",
        ] {
            let feature = parse_feature(text, 0, 3_072).expect(text);
            let spelt = spell_feature(&feature);
            assert_eq!(parse_feature(&spelt, 0, 3_072), Ok(feature), "{text} as {spelt}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_a_remedy() {
        for (text, window_len) in [
            ("samples:5", 32),
            ("rolling_mean", 32),
            ("rolling_mean:33", 32),
            ("rms:1", 32),
            ("band_energy", 32),
            ("band_energy:0", 32),
            ("band_energy:18", 32),
            ("band_energy:4:50-10", 32),
            ("band_energy:4:0-101", 32),
            ("band_energy:4:0-50:1", 32),
            ("spectral_centroid", 7),
            ("spectral_rolloff:100", 32),
            ("log_mel", 32),
            ("log_mel:0", 32),
            ("log_mel:8:48", 64),
            ("log_mel:8:64", 32),
            ("log_mel:8:16:32", 32),
            ("mfcc:13:8", 64),
            ("mfcc:0", 64),
            ("envelope_amplitude", 64),
            ("envelope_amplitude:0", 64),
            ("envelope_amplitude:nan", 64),
            ("envelope_amplitude:2000", 64),
            ("envelope_amplitude:100:16", 64),
            ("harmonics:51", 1_280),
            ("thd:1", 1_280),
            ("active_power", 1_280),
            ("active_power:u", 1_280),
        ] {
            let found = parse_feature(text, 0, window_len);
            assert!(matches!(found, Err(FeatureError::Parameter { .. })), "{text}: {found:?}");
        }
        let unknown = parse_feature("kurtosiss", 0, 32).expect_err("is misspelt").to_string();
        assert!(unknown.contains("kurtosis,"), "{unknown}");
    }

    #[test]
    fn channels_are_named_behind_an_at_sign() {
        let names = ["voltage", "current"].map(str::to_owned);
        let texts = ["rms", "thd@voltage", "active_power:current@voltage"].map(str::to_owned);
        let features = parse_features(&texts, &names, 6_400.0, 1_280).expect("fits");
        let found: Vec<_> =
            features.iter().map(|f| (f.kind.name(), f.channel, f.parameter)).collect();
        assert_eq!(found, [("rms", 0, 0), ("thd", 0, 40), ("active_power", 0, 1), ("rms", 1, 0)]);
        let by_number = ["active_power:1@0".to_owned()];
        assert_eq!(parse_features(&by_number, &names, 6_400.0, 1_280), Ok(vec![features[2]]));
        let wrong = parse_features(&["rms@power".to_owned()], &names, 6_400.0, 1_280);
        let wrong = wrong.expect_err("there is no such channel").to_string();
        assert!(wrong.contains("voltage, current"), "{wrong}");
        let short = parse_features(&["thd".to_owned()], &names, 6_400.0, 400);
        let short = short.expect_err("is shorter than three periods").to_string();
        assert!(short.contains("at least 427"), "{short}");
    }

    /// 24 bytes of channel, a slash and the kind make the name of a trace.
    #[test]
    fn names_fit_into_the_names_of_traces() {
        use stonechat_core::limits::{CHANNEL_NAME_LEN, TRACE_NAME_LEN, UNIT_LEN};
        for kind in FeatureKind::ALL {
            assert!(CHANNEL_NAME_LEN + 1 + kind.name().len() <= TRACE_NAME_LEN, "{}", kind.name());
            assert!(kind.unit().of("rad/s").to_string().len() <= UNIT_LEN, "{}", kind.name());
        }
    }
}
