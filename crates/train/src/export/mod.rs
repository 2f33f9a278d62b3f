//! Writes fitted networks in the formats of other tools.

mod c_header;
mod tflite;

pub use c_header::{CHeaderError, c_header};
pub use tflite::{
    TfliteError, tflite_convolution_float, tflite_convolution_int8, tflite_float, tflite_int8,
};
