//! The detectors and recordings on which the chip and the host must agree.
//!
//! The weights are drawn from a seed and not trained: every bit of the arithmetic
//! is exercised, whatever the training does today.

use anyhow::{Result, bail};
use bytemuck::{Pod, bytes_of, cast_slice};
use stonechat_core::detector::format::{
    self, ChannelEntry, DenseHeader, DenseLayerEntry, FeatureEntry, Header, Part, Requantisation,
    ScalerEntry, ZScoreHeader,
};
use stonechat_core::detector::{Activation, Detector, EngineKind, ScoreRule};
use stonechat_core::features::{Band, Bands, Feature, FeatureKind, Frames, Lines};
use stonechat_core::pipeline::Pipeline;
use stonechat_job::report::Total;

/// The widths of the autoencoder that peers were measured with.
const DENSE_16: [usize; 7] = [16, 32, 16, 8, 16, 32, 16];
/// The least network that peers were measured with.
const DENSE_1: [usize; 3] = [1, 8, 1];
/// The autoencoder of the MLPerf Tiny anomaly benchmark.
const AD01: [usize; 11] = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640];
/// What the imagined sensor can report.
const RANGE: (f32, f32) = (-40.0, 125.0);
/// Samples between two that the sensor cannot have measured, at least; a prime, so that they fall
/// anywhere in a window.
const FAULT_PERIOD: usize = 1_009;

/// Windows of every feature that the chip and the host must agree on, at most.
const WINDOWS_OF_FEATURES: u32 = 1_000;

/// A detector with a recording.
pub(super) struct Case {
    /// Names it in reports.
    pub(super) name: String,
    /// The detector file.
    pub(super) detector: Vec<u8>,
    /// Numbers in a sample.
    pub(super) channels: usize,
    /// The recording, channels interleaved.
    pub(super) samples: Vec<f32>,
    pub(super) windows: u32,
}

impl Case {
    /// Demands that the recording put the detector through its paces.
    ///
    /// # Errors
    /// Fails where windows are too few, or where one of the verdicts or sensor faults never came.
    pub(super) fn check(&self, total: &Total) -> Result<()> {
        let both_verdicts = (1..total.windows).contains(&total.anomalies);
        if total.windows < self.windows || total.faults == 0 || !both_verdicts {
            bail!("the recording of {} compares too little: {total:?}", self.name);
        }
        Ok(())
    }
}

/// Makes every case with at least `windows` windows.
///
/// # Errors
/// Fails where the core refuses one of the detectors.
pub(super) fn all(windows: u32) -> Result<Vec<Case>> {
    Ok(vec![
        case("zscore", windows, moments_design())?,
        // These take some hundred times the instructions of the others.
        case("features", windows.min(WINDOWS_OF_FEATURES), features_design())?,
        autoencoder("dense16_float", windows, EngineKind::Dense, &DENSE_16)?,
        autoencoder("dense16_int8", windows, EngineKind::DenseInt8, &DENSE_16)?,
    ])
}

/// Makes the cases that are only measured: other shapes of the same engine.
///
/// # Errors
/// Fails where the core refuses one of the detectors.
pub(super) fn more_shapes(windows: u32) -> Result<Vec<Case>> {
    Ok(vec![
        autoencoder("dense1_int8", windows, EngineKind::DenseInt8, &DENSE_1)?,
        autoencoder("ad01_int8", windows, EngineKind::DenseInt8, &AD01)?,
    ])
}

fn autoencoder(
    name: &'static str,
    windows: u32,
    engine: EngineKind,
    widths: &[usize],
) -> Result<Case> {
    case(name, windows, vector_design(engine, widths))
}

fn case(name: &'static str, windows: u32, mut design: Design) -> Result<Case> {
    let channels = design.channels;
    let strides = windows as usize + 2;
    let len = strides * design.stride as usize;
    let fault_period = FAULT_PERIOD.max(8 * design.window_len as usize + 1);
    // Each fault costs at most a window and a stride.
    let faults = len / (fault_period - 2 * design.window_len as usize) + 1;
    let len = len + faults * 2 * design.window_len as usize;
    let samples = recording(len, channels, fault_period);
    design.threshold = typical_score(&design.file(), channels, &samples)?;
    Ok(Case { name: name.to_owned(), detector: design.file(), channels, samples, windows })
}

/// A slow swing with noise and jumps, and now and then what no sensor can have measured.
fn recording(len: usize, channels: usize, fault_period: usize) -> Vec<f32> {
    let mut random = Random(0x5EED_0001);
    let mut level = 20.0_f32;
    let mut samples = Vec::with_capacity(len * channels);
    for index in 0..len {
        if index % 700 == 650 {
            level += random.between(-8.0, 8.0);
            level = level.clamp(-10.0, 60.0);
        }
        for channel in 0..channels {
            let phase = (index * (channel + 1) % 288) as f32 / 288.0;
            let swing = 8.0 * phase * (1.0 - phase);
            samples.push(level + swing + random.between(-0.6, 0.6));
        }
        if index % fault_period == fault_period - 1 {
            let wrong = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0e9, RANGE.0 - 0.01];
            let at = samples.len() - 1 - index % channels;
            samples[at] = wrong[index / fault_period % wrong.len()];
        } else if index % 97 == 3 {
            // Signed zeros and a subnormal number are samples like any other.
            let at = samples.len() - 1;
            samples[at] = [0.0, -0.0, 1.0e-41][index % 3];
        }
    }
    samples
}

/// The median score of a recording: the threshold that brings both verdicts about.
fn typical_score(file: &[u8], channels: usize, samples: &[f32]) -> Result<f32> {
    let mut aligned = vec![0_u32; file.len() / 4];
    bytemuck::cast_slice_mut(&mut aligned).copy_from_slice(file);
    let detector = Detector::load(cast_slice(&aligned))?;
    let mut memory = vec![0; detector.memory_words()];
    let mut pipeline = Pipeline::new(&detector, &mut memory)?;
    let mut scores: Vec<f32> = samples
        .chunks_exact(channels)
        .filter_map(|sample| pipeline.push(sample).ok().flatten())
        .map(|result| result.score)
        .collect();
    scores.sort_by(f32::total_cmp);
    match scores.get(scores.len() / 2) {
        Some(&median) => Ok(median),
        None => bail!("the recording holds no window"),
    }
}

/// A detector before it is a file.
struct Design {
    window_len: u32,
    stride: u32,
    rate_hz: f32,
    engine: EngineKind,
    channels: usize,
    features: Vec<FeatureEntry>,
    scaler: Vec<ScalerEntry>,
    gains: Vec<f32>,
    model: Vec<u8>,
    score_rule: ScoreRule,
    threshold: f32,
}

/// The plainest features of both channels, scored by running moments.
fn moments_design() -> Design {
    let (window_len, block) = (24, 8);
    let mut features = Vec::new();
    for channel in 0..2 {
        for kind in FeatureKind::ALL.into_iter().take_while(|kind| *kind != FeatureKind::Skewness) {
            let parameter = if kind.takes_parameter() { block } else { 0 };
            features.push(Feature { kind, channel, parameter });
        }
    }
    scored_by_moments(window_len, 4, 2.0, &features)
}

/// Every other feature of both channels, at a rate and window that hold three cycles of the mains.
fn features_design() -> Design {
    let range = Band { low_percent: 10, high_percent: 90 };
    let frames = Frames { bands: 6, frame_len_log2: 5, overlap_log2: 1, coefficients: 0 };
    let mut features = Vec::new();
    for channel in 0..2 {
        for kind in FeatureKind::ALL.into_iter().skip_while(|kind| *kind != FeatureKind::Skewness) {
            let parameter = match kind {
                FeatureKind::BandEnergy | FeatureKind::EnvelopeBandEnergy => {
                    Bands { count: 5, range }.pack()
                }
                FeatureKind::EnvelopeAmplitude => {
                    Lines { frequency_dhz: 205, count: 3, range }.pack()
                }
                FeatureKind::LogMel => frames.pack(),
                FeatureKind::MelCepstrum => Frames { coefficients: 4, ..frames }.pack(),
                FeatureKind::SpectralRolloff => 85,
                FeatureKind::Harmonics | FeatureKind::TotalHarmonicDistortion => 3,
                kind if kind.reads_current() => 1 - u32::from(channel),
                _ => 0,
            };
            features.push(Feature { kind, channel, parameter });
        }
    }
    scored_by_moments(64, 16, 320.0, &features)
}

fn scored_by_moments(window_len: u32, stride: u32, rate_hz: f32, features: &[Feature]) -> Design {
    let lens = features.iter().filter_map(|feature| feature.output_len(window_len as usize));
    let vector_len = lens.sum();
    let entry = |feature: &Feature| FeatureEntry {
        kind: feature.kind as u16,
        channel: feature.channel,
        parameter: feature.parameter,
    };
    let header = ZScoreHeader { alpha: 0.02, minimum_deviation: 1.0e-3, clip: 4.0, reserved: 0 };
    let mut model = bytes_of(&header).to_vec();
    append(&mut model, &vec![0.1_f32; vector_len]);
    append(&mut model, &vec![0.7_f32; vector_len]);
    Design {
        window_len,
        stride,
        rate_hz,
        engine: EngineKind::ZScore,
        channels: 2,
        features: features.iter().map(entry).collect(),
        scaler: vec![ScalerEntry { offset: 20.0, gain: 0.11 }; vector_len],
        gains: vec![0.9; vector_len],
        model,
        score_rule: ScoreRule::RootMeanSquare,
        threshold: 0.0,
    }
}

/// The samples themselves through an autoencoder.
fn vector_design(engine: EngineKind, widths: &[usize]) -> Design {
    let vector_len = widths[0];
    Design {
        window_len: vector_len as u32,
        stride: vector_len.div_ceil(4) as u32,
        rate_hz: 2.0,
        engine,
        channels: 1,
        features: vec![FeatureEntry {
            // A single sample, centred, would always be 0.
            kind: if vector_len == 1 { FeatureKind::Samples } else { FeatureKind::CentredSamples }
                as u16,
            channel: 0,
            parameter: 1,
        }],
        scaler: vec![ScalerEntry { offset: 0.05, gain: 0.6 }; vector_len],
        gains: Vec::new(),
        model: match engine {
            EngineKind::DenseInt8 => dense_int8(widths),
            _ => dense_float(widths),
        },
        score_rule: ScoreRule::MeanSquared,
        threshold: 0.0,
    }
}

fn dense_float(widths: &[usize]) -> Vec<u8> {
    let mut random = Random(0x5EED_0002);
    layers(widths, None, |inputs, outputs| {
        let spread = (3.0 / inputs as f32).sqrt();
        let weights: Vec<f32> =
            (0..inputs * outputs).map(|_| random.between(-spread, spread)).collect();
        let bias: Vec<f32> = (0..outputs).map(|_| random.between(-0.2, 0.2)).collect();
        [cast_slice(&weights).to_vec(), cast_slice(&bias).to_vec(), Vec::new()]
    })
}

fn dense_int8(widths: &[usize]) -> Vec<u8> {
    let mut random = Random(0x5EED_0003);
    layers(widths, Some((0.03, -3)), |inputs, outputs| {
        let weights: Vec<i8> =
            (0..inputs * outputs).map(|_| random.between(-127.0, 127.9) as i8).collect();
        let bias: Vec<i32> = (0..outputs).map(|_| random.between(-9e3, 9e3) as i32).collect();
        // About one over the deviation of a sum of products, so that outputs fill int8's range.
        let factors: Vec<Requantisation> = (0..outputs)
            .map(|_| Requantisation {
                multiplier: (1 << 30) + (random.next() >> 2) as i32,
                shift: -6 - (inputs.ilog2() as i32 / 2),
            })
            .collect();
        [weights, cast_slice(&bias).to_vec(), cast_slice(&factors).to_vec()]
            .map(|array| cast_slice(&array).to_vec())
    })
}

/// Lays out a network whose arrays (weights, bias, requantisation) come from `draw`.
fn layers(
    widths: &[usize],
    quantised: Option<(f32, i32)>,
    mut draw: impl FnMut(usize, usize) -> [Vec<u8>; 3],
) -> Vec<u8> {
    let count = widths.len() - 1;
    let (scale, zero_point) = quantised.unwrap_or_default();
    let header = DenseHeader {
        layer_count: count as u32,
        input_scale: scale,
        input_zero_point: zero_point,
        output_scale: scale,
        output_zero_point: zero_point,
        reserved: 0,
    };
    let mut entries = Vec::new();
    let mut arrays = Vec::new();
    let start = size_of::<DenseHeader>() + count * size_of::<DenseLayerEntry>();
    for (index, width) in widths.windows(2).enumerate() {
        let last = index == count - 1;
        let offsets = draw(width[0], width[1]).map(|array| {
            let offset = (start + arrays.len()) as u32;
            append(&mut arrays, &array);
            offset
        });
        let activation = if last { Activation::Linear } else { Activation::Relu };
        entries.push(DenseLayerEntry {
            inputs: width[0] as u32,
            outputs: width[1] as u32,
            weights: offsets[0],
            bias: offsets[1],
            requantisation: if quantised.is_some() { offsets[2] } else { 0 },
            activation: activation as u16,
            reserved: 0,
            output_zero_point: zero_point,
            output_minimum: if last { -128 } else { zero_point },
            output_maximum: 127,
            output_scale: if quantised.is_some() { 1.0 } else { 0.0 },
        });
    }
    [bytes_of(&header), cast_slice(&entries), &arrays].concat()
}

impl Design {
    fn file(&self) -> Vec<u8> {
        let mut file = vec![0; size_of::<Header>()];
        let channel = ChannelEntry {
            name: padded(b"temperature"),
            unit: padded(b"Cel"),
            minimum: RANGE.0,
            maximum: RANGE.1,
            quantity: 1,
            reserved: [0; 3],
        };
        let header = Header {
            magic: format::MAGIC,
            version: format::VERSION,
            header_len: size_of::<Header>() as u16,
            file_len: 0,
            checksum: 0,
            reserved: 0,
            name: padded(b"drawn"),
            rate_hz: self.rate_hz,
            window_len: self.window_len,
            stride: self.stride,
            vector_len: self.scaler.len() as u32,
            engine: self.engine as u16,
            score_rule: self.score_rule as u16,
            threshold: self.threshold,
            clear_level: self.threshold,
            raise_count: 3,
            raise_of: 4,
            clear_count: 2,
            reserved_decision: 0,
            channels: append(&mut file, &vec![channel; self.channels]),
            features: append(&mut file, &self.features),
            scaler: append(&mut file, &self.scaler),
            gains: append(&mut file, &self.gains),
            traces: append::<u8>(&mut file, &[]),
            model: append(&mut file, &self.model),
            provenance: append(&mut file, b"{} "),
            smoothing: 0,
            reserved_parts: [0; 7],
        };
        let header = Header { file_len: file.len() as u32, ..header };
        file[..size_of::<Header>()].copy_from_slice(bytes_of(&header));
        let checksum = format::checksum(&file);
        file[format::CHECKSUM_OFFSET..][..4].copy_from_slice(&checksum.to_le_bytes());
        file
    }
}

/// Appends an array and fills up to the file's alignment; says where it stands.
fn append<T: Pod>(file: &mut Vec<u8>, array: &[T]) -> Part {
    let part = Part { offset: file.len() as u32, len: size_of_val(array) as u32 };
    file.extend_from_slice(cast_slice(array));
    file.resize(file.len().next_multiple_of(format::ALIGNMENT), 0);
    part
}

fn padded<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut padded = [0; N];
    padded[..text.len()].copy_from_slice(text);
    padded
}

/// Marsaglia's xorshift with 32 bits (2003, "Xorshift RNGs").
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    fn between(&mut self, least: f32, most: f32) -> f32 {
        least + (self.next() >> 8) as f32 / (1_u32 << 24) as f32 * (most - least)
    }
}
