//! The models of the recurrent networks.
//!
//! | offset | part | size |
//! |---|---|---|
//! | 0 | [`RecurrentHeader`] | 32 |
//! | 32 | [`RecurrentLayerEntry`] each: the encoder's, then the decoder's | 40 |
//! | behind them | [`DenseLayerEntry`](super::DenseLayerEntry): from the last layer to the vector | 40 |
//! | | the arrays | |
//!
//! Gates stand in the order input, forget, candidate, output for LSTM and reset, update, candidate
//! for GRU.
//!
//! No field carries state through an autoencoder. One that was trained on windows from zero state
//! meets states that it never saw when they are carried: its cells saturate, and the area under the
//! ROC curve of the detector that was measured fell from 0.993 to 0.551.

use bytemuck::{Pod, Zeroable};

use super::Requantisation;

/// The start of the model of a recurrent network.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct RecurrentHeader {
    /// 0: the number of the [`RecurrentForm`](crate::detector::RecurrentForm).
    pub form: u16,
    /// 2: the number of the [`RecurrentCell`](crate::detector::RecurrentCell).
    pub cell: u16,
    /// 4: vectors in a window of the autoencoder; vectors before the forecaster's first verdict counts.
    pub steps: u32,
    /// 8: vectors from one verdict to the next; of an autoencoder a divisor of `steps`.
    pub hop: u32,
    /// 12: layers from vector to code.
    pub encoder_count: u32,
    /// 16: layers from code to vector; none in a forecaster.
    pub decoder_count: u32,
    /// 20: the scale of the quantised input; 0 in single precision.
    pub input_scale: f32,
    /// 24: the zero point of the quantised input.
    pub input_zero_point: i32,
    /// 28: zero.
    pub reserved: u32,
}

/// A recurrent layer; offsets count from the start of the model.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct RecurrentLayerEntry {
    /// 0: numbers in.
    pub inputs: u32,
    /// 4: units, and so numbers out.
    pub units: u32,
    /// 8: of `f32` `[units][gates][inputs + units]`; of `i8` for each gate a matrix from the input,
    /// then for each gate one from the state, each in the order of
    /// [`weight_index`](super::weight_index).
    pub weights: u32,
    /// 12: of `f32` `[units][4]`: one for each gate of an LSTM; of a GRU reset, update, candidate
    /// from the input, candidate from the state. Of `i32` `[2][gates][units]` for the products with
    /// the input and with the state, with the zero points folded in.
    pub bias: u32,
    /// 16: [`Requantisation`] `[2][gates]` for the products with the input and with the state, to
    /// steps of 2^-12; 0 in single precision.
    pub requantisation: u32,
    /// 20: one step of the cell state is 2 to the power of this, -15 to 0; 0 for a GRU, whose state
    /// has steps of 2^-15, and in single precision.
    pub cell_power: i32,
    /// 24: the zero point of the outputs.
    pub output_zero_point: i32,
    /// 28: the scale of the outputs; 0 in single precision. Running needs it not, exporting does.
    pub output_scale: f32,
    /// 32: from steps of 2^-30 (LSTM) or 2^-15 (GRU) to those of the outputs.
    pub output_factor: Requantisation,
}
