//! The convolution model: one-dimensional convolutions over the channels of the feature vector.
//!
//! | offset | part | size |
//! |---|---|---|
//! | 0 | [`DenseHeader`](super::DenseHeader), with the number of layers | 24 |
//! | 24 | [`ConvolutionLayerEntry`] each | 60 |
//! | `product.weights` and so on | the arrays of each layer, as those of a dense layer | |
//!
//! The feature vector holds the channels one after the other, `[channels][length]`; between the
//! layers numbers stand as `[length][channels]`, so that what one output sees lies in one piece.

use bytemuck::{Pod, Zeroable};

use super::DenseLayerEntry;

/// One convolution: at each place of its output it is a dense layer of what its kernel covers.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct ConvolutionLayerEntry {
    /// 0: the dense layer: inputs are `[kernel_width][channels]`, outputs the filters.
    pub product: DenseLayerEntry,
    /// 40: channels in.
    pub channels: u32,
    /// 44: places that the kernel covers.
    pub kernel_width: u32,
    /// 48: places of the input.
    pub input_len: u32,
    /// 52: places of the input after each was repeated `upsampling` times and what is over was cut.
    pub upsampled_len: u32,
    /// 56: places from one output to the next.
    pub stride: u16,
    /// 58: how often each place of the input is repeated.
    pub upsampling: u16,
}
