//! The detector file, version 1: little-endian, each part aligned to four bytes.
//!
//! | offset | part | size |
//! |---|---|---|
//! | 0 | [`Header`] | 176 |
//! | `channels` | [`ChannelEntry`] each | 48 |
//! | `features` | [`FeatureEntry`] each | 8 |
//! | `scaler` | [`ScalerEntry`] for each entry of the feature vector | 8 |
//! | `gains` | `f32` for each entry of the feature vector, or none | 4 |
//! | `traces` | [`TraceEntry`] each | 68 |
//! | `model` | see the engines: [`ZScoreHeader`], [`DenseHeader`] | |
//! | `provenance` | UTF-8 text (JSON), padded with zeros | |
//!
//! The checksum is CRC-32 (ISO-HDLC) over the whole file with the checksum's own four bytes left out.

pub mod convolution;
pub mod covariance;
pub mod isolation_forest;
pub mod learner;
pub mod neighbour;
pub mod one_class;
pub mod random_forest;
pub mod recurrent;
pub mod robust_zscore;
pub mod trees;

use bytemuck::{Pod, Zeroable};

use crate::limits::{
    CHANNEL_NAME_LEN, DETECTOR_NAME_LEN, SCALED_FEATURE_ABS_MAX, TRACE_NAME_LEN, UNIT_LEN,
};

#[cfg(target_endian = "big")]
compile_error!("the detector file is read in place and is little-endian");

/// The first eight bytes of a detector file.
pub const MAGIC: [u8; 8] = *b"STONECHT";
/// The version of the format.
pub const VERSION: u16 = 1;
/// Every part starts at a multiple of this.
pub const ALIGNMENT: usize = 4;
/// Where the checksum stands.
pub const CHECKSUM_OFFSET: usize = 16;

/// A part of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Part {
    /// Bytes from the start of the file.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// The start of the file.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    /// 0: [`MAGIC`].
    pub magic: [u8; 8],
    /// 8: [`VERSION`].
    pub version: u16,
    /// 10: the size of this header.
    pub header_len: u16,
    /// 12: the size of the file.
    pub file_len: u32,
    /// 16: the checksum.
    pub checksum: u32,
    /// 20: zero.
    pub reserved: u32,
    /// 24: the name, UTF-8, padded with zeros.
    pub name: [u8; DETECTOR_NAME_LEN],
    /// 56: samples a second.
    pub rate_hz: f32,
    /// 60: samples in a window.
    pub window_len: u32,
    /// 64: samples from one window to the next.
    pub stride: u32,
    /// 68: numbers in the feature vector.
    pub vector_len: u32,
    /// 72: the engine's number.
    pub engine: u16,
    /// 74: the score rule's number.
    pub score_rule: u16,
    /// 76: scores above this speak for an anomaly.
    pub threshold: f32,
    /// 80: scores at or below this speak for its end.
    pub clear_level: f32,
    /// 84: k of the decision.
    pub raise_count: u8,
    /// 85: n of the decision.
    pub raise_of: u8,
    /// 86: scores in a row that end an anomaly.
    pub clear_count: u8,
    /// 87: zero.
    pub reserved_decision: u8,
    /// 88: the channels.
    pub channels: Part,
    /// 96: the features.
    pub features: Part,
    /// 104: the scaler.
    pub scaler: Part,
    /// 112: the residual gains.
    pub gains: Part,
    /// 120: the traces.
    pub traces: Part,
    /// 128: the model.
    pub model: Part,
    /// 136: the provenance text.
    pub provenance: Part,
    /// 144: scores are smoothed over so many windows; 0 and 1 leave them as they are.
    pub smoothing: u32,
    /// 148: zero.
    pub reserved_parts: [u32; 7],
}

/// A channel.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct ChannelEntry {
    /// 0: the name, UTF-8, padded with zeros.
    pub name: [u8; CHANNEL_NAME_LEN],
    /// 24: the unit, UTF-8, padded with zeros.
    pub unit: [u8; UNIT_LEN],
    /// 32: the least value that is not a sensor fault.
    pub minimum: f32,
    /// 36: the greatest value that is not a sensor fault.
    pub maximum: f32,
    /// 40: the quantity's number.
    pub quantity: u16,
    /// 42: zero.
    pub reserved: [u16; 3],
}

/// A feature.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct FeatureEntry {
    /// 0: the kind's number.
    pub kind: u16,
    /// 2: the channel's index.
    pub channel: u16,
    /// 4: the parameter.
    pub parameter: u32,
}

/// One number of the feature vector is scaled to `(x - offset) * gain`.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct ScalerEntry {
    /// 0: in the feature's unit.
    pub offset: f32,
    /// 4: in one over the feature's unit; not zero.
    pub gain: f32,
}

impl ScalerEntry {
    /// Scales a feature and bounds it to [`SCALED_FEATURE_ABS_MAX`]; NaN becomes the upper bound.
    #[must_use]
    pub fn scale(&self, feature: f32) -> f32 {
        let value = (feature - self.offset) * self.gain;
        // The order of the comparisons is what decides about NaN.
        if value <= -SCALED_FEATURE_ABS_MAX {
            -SCALED_FEATURE_ABS_MAX
        } else if value < SCALED_FEATURE_ABS_MAX {
            value
        } else {
            SCALED_FEATURE_ABS_MAX
        }
    }

    /// Returns a scaled feature to its own unit.
    #[must_use]
    pub fn unscale(&self, scaled: f32) -> f32 {
        scaled / self.gain + self.offset
    }
}

/// What is reported of each window: some numbers of the feature vector beside their reconstruction.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct TraceEntry {
    /// 0: the name of the signal, UTF-8, padded with zeros.
    pub name: [u8; TRACE_NAME_LEN],
    /// 48: the unit, UTF-8, padded with zeros.
    pub unit: [u8; UNIT_LEN],
    /// 56: the first index in the feature vector.
    pub first: u32,
    /// 60: how many numbers, the last of them belonging to the window's end.
    pub count: u32,
    /// 64: samples from one of them to the next.
    pub step: u32,
}

/// The z-score model: a running mean and variance of each scaled feature.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct ZScoreHeader {
    /// 0: the weight of a new window in the running moments; 0 keeps those of training.
    pub alpha: f32,
    /// 4: the deviation is never taken smaller than this, in scaled units.
    pub minimum_deviation: f32,
    /// 8: residuals are clipped to this many deviations before they are learned.
    pub clip: f32,
    /// 12: zero.
    pub reserved: u32,
}

/// A network of dense layers; [`DenseLayerEntry`] each follow it, then the arrays.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct DenseHeader {
    /// 0: how many layers.
    pub layer_count: u32,
    /// 4: the scale of the quantised input; 0 in single precision.
    pub input_scale: f32,
    /// 8: the zero point of the quantised input.
    pub input_zero_point: i32,
    /// 12: the scale of the quantised output; 0 in single precision.
    pub output_scale: f32,
    /// 16: the zero point of the quantised output.
    pub output_zero_point: i32,
    /// 20: zero.
    pub reserved: u32,
}

/// A dense layer; offsets count from the start of the model.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct DenseLayerEntry {
    /// 0: numbers in.
    pub inputs: u32,
    /// 4: numbers out.
    pub outputs: u32,
    /// 8: `[outputs][inputs]` of `f32`, or `i8` in the order of [`weight_index`].
    pub weights: u32,
    /// 12: `[outputs]` of `f32`; of `i32` with the input's zero point folded in.
    pub bias: u32,
    /// 16: `[outputs]` of [`Requantisation`]; 0 in single precision. In int8 the table of tanh and
    /// logistic follows: [`ACTIVATION_TABLE_LEN`] of `i8`, for the weighted sums from -128 to 127.
    pub requantisation: u32,
    /// 20: the activation's number.
    pub activation: u16,
    /// 22: zero.
    pub reserved: u16,
    /// 24: the zero point of the output; before the table, where there is one.
    pub output_zero_point: i32,
    /// 28: the least output after the activation, or before the table.
    pub output_minimum: i32,
    /// 32: the greatest output after the activation, or before the table.
    pub output_maximum: i32,
    /// 36: the scale of the output, before the table where there is one; 0 in single precision.
    /// Running needs it not, exporting does.
    pub output_scale: f32,
}

/// The factor from accumulator to output, as TensorFlow Lite splits it: `multiplier * 2^(shift - 31)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Requantisation {
    /// 0: 2^30 to 2^31 - 1, or 0.
    pub multiplier: i32,
    /// 4: -31 to 30; positive shifts left.
    pub shift: i32,
}

/// The entries of an activation's int8 table.
pub const ACTIVATION_TABLE_LEN: usize = 256;

/// So many outputs of an int8 layer are computed together.
pub const OUTPUT_GROUP: usize = 8;

/// Returns where the int8 weight from an input to an output stands among a layer's weights: eight
/// outputs at a time as `[inputs][8]`, then the outputs that are left as `[inputs]` each.
#[must_use]
pub const fn weight_index(inputs: usize, outputs: usize, output: usize, input: usize) -> usize {
    let group = output / OUTPUT_GROUP;
    if group < outputs / OUTPUT_GROUP {
        (group * inputs + input) * OUTPUT_GROUP + output % OUTPUT_GROUP
    } else {
        output * inputs + input
    }
}

/// Computes the checksum of a file.
#[must_use]
pub fn checksum(file: &[u8]) -> u32 {
    const CRC: crc::Crc<u32, crc::Table<1>> =
        crc::Crc::<u32, crc::Table<1>>::new(&crc::CRC_32_ISO_HDLC);
    let mut digest = CRC.digest();
    let (before, rest) = file.split_at(CHECKSUM_OFFSET.min(file.len()));
    digest.update(before);
    digest.update(rest.get(4..).unwrap_or(&[]));
    digest.finalize()
}
