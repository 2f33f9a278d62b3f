//! Dense networks as the trainer holds them: in f32 as fitted, and in int8 as exported.

pub mod convolution;

use thiserror::Error;

use crate::limits::{NETWORK_LAYERS_MAX, NETWORK_WIDTH_MAX};

/// What a layer does to its weighted sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Passes the sum on unchanged.
    Linear,
    /// `max(0, x)`.
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Logistic,
}

/// One fully connected layer in f32: `activation(weights * input + bias)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Values in.
    pub inputs: usize,
    /// Values out.
    pub outputs: usize,
    /// `[outputs][inputs]`, row after row.
    pub weights: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
    /// Applied to each output.
    pub activation: Activation,
}

/// A chain of fully connected layers in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// In the order in which data pass through them.
    pub layers: Vec<Layer>,
}

/// Scale and zero point of an int8 tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Real value of one step.
    pub scale: f32,
    /// The int8 value that means 0.0, -128..=127.
    pub zero_point: i32,
}

/// One fully connected int8 layer with the arithmetic of TensorFlow Lite.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantisedLayer {
    /// Values in.
    pub inputs: usize,
    /// Values out.
    pub outputs: usize,
    /// `[outputs][inputs]`, symmetric: -127..=127 with zero point 0.
    pub weights: Vec<i8>,
    /// `[outputs]`, at the scale `input scale * weight scale`, zero point 0.
    pub bias: Vec<i32>,
    /// One scale for the whole tensor, or one for each output.
    pub weight_scales: Vec<f32>,
    /// Real value of one step of an output.
    pub output_scale: f32,
    /// The int8 value that means 0.0 in the output, -128..=127.
    pub output_zero_point: i32,
    /// Linear and `ReLU` are a clamp in int8; tanh and logistic are a table behind the sums.
    pub activation: Activation,
    /// The grid of the weighted sums, for tanh and logistic alone.
    pub sums: Option<Grid>,
}

/// A chain of fully connected int8 layers; each layer's output is the next one's input.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantisedNetwork {
    /// Real value of one step of an input.
    pub input_scale: f32,
    /// The int8 value that means 0.0 in the input, -128..=127.
    pub input_zero_point: i32,
    /// In the order in which data pass through them.
    pub layers: Vec<QuantisedLayer>,
}

/// Why a network is not well formed.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum NetworkError {
    /// There is no layer.
    #[error("the network has no layer: name at least an input and an output width")]
    Empty,
    /// There are too many layers.
    #[error("the network has {layers} layers; at most {NETWORK_LAYERS_MAX} are supported")]
    TooDeep {
        /// Layers found.
        layers: usize,
    },
    /// A width is zero or too large.
    #[error(
        "layer {layer} has {inputs} inputs and {outputs} outputs; both must be 1 to {NETWORK_WIDTH_MAX}"
    )]
    Width {
        /// Counted from 0.
        layer: usize,
        /// Its inputs.
        inputs: usize,
        /// Its outputs.
        outputs: usize,
    },
    /// A tensor has another length than the widths say.
    #[error("layer {layer}: {tensor} holds {found} values, but its widths need {needed}")]
    Length {
        /// Counted from 0.
        layer: usize,
        /// `weights`, `bias` or `weight_scales`.
        tensor: &'static str,
        /// Values found.
        found: usize,
        /// Values needed.
        needed: usize,
    },
    /// Two neighbouring layers do not fit.
    #[error("layer {layer} takes {inputs} inputs, but the layer before it gives {previous}")]
    Chain {
        /// Counted from 0.
        layer: usize,
        /// Its inputs.
        inputs: usize,
        /// Outputs of the layer before it.
        previous: usize,
    },
    /// A number is not finite or outside its range.
    #[error("layer {layer}: {tensor} holds {value}, which is outside its range")]
    Value {
        /// Counted from 0; the network's input counts as layer 0.
        layer: usize,
        /// The tensor or parameter.
        tensor: &'static str,
        /// The offending value.
        value: f64,
    },
    /// The activation has no int8 form here.
    #[error(
        "layer {layer}: the int8 form of {activation:?} is not supported here; use Linear or Relu"
    )]
    Activation {
        /// Counted from 0.
        layer: usize,
        /// The activation asked for.
        activation: Activation,
    },
    /// The grids of an int8 layer are not those of its activation.
    #[error("layer {layer}: the grids are not those of {activation:?}; quantise the network again")]
    Grids {
        /// Counted from 0.
        layer: usize,
        /// The activation.
        activation: Activation,
    },
}

impl Activation {
    /// Applies the activation to one value.
    #[must_use]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::Linear => x,
            Self::Relu => x.max(0.0),
            Self::Tanh => x.tanh(),
            Self::Logistic => 1.0 / (1.0 + (-x).exp()),
        }
    }

    /// The int8 grid of the output where TensorFlow Lite prescribes it ("8-bit quantization
    /// specification": TANH, LOGISTIC).
    #[must_use]
    pub fn fixed_grid(self) -> Option<Grid> {
        match self {
            Self::Linear | Self::Relu => None,
            Self::Tanh => Some(Grid { scale: 1.0 / 128.0, zero_point: 0 }),
            Self::Logistic => Some(Grid { scale: 1.0 / 256.0, zero_point: -128 }),
        }
    }
}

impl Network {
    /// Number of values in a row of input; 0 without layers.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.inputs)
    }

    /// Number of values in a row of output; 0 without layers.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.outputs)
    }

    /// Number of weights and biases.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(|layer| layer.weights.len() + layer.bias.len()).sum()
    }

    /// Checks widths, lengths and that every number is finite.
    ///
    /// # Errors
    /// The first fault found, as a [`NetworkError`].
    pub fn check(&self) -> Result<(), NetworkError> {
        check_chain(self.layers.iter().map(|layer| (layer.inputs, layer.outputs)))?;
        for (index, layer) in self.layers.iter().enumerate() {
            layer.check(index)?;
        }
        Ok(())
    }

    /// Runs one row through the layers in plain f32.
    ///
    /// For the trainer's own checks and for calibration; scores come from the core's engine.
    ///
    /// # Panics
    /// When `row` is not as long as the network's input or the network fails [`Network::check`].
    #[must_use]
    pub fn forward(&self, row: &[f32]) -> Vec<f32> {
        assert_eq!(row.len(), self.inputs(), "a row must be as long as the input");
        let mut values = row.to_vec();
        for layer in &self.layers {
            values = layer.forward(&values);
        }
        values
    }
}

impl Layer {
    /// Runs one row through this layer; see [`Network::forward`].
    pub(crate) fn forward(&self, row: &[f32]) -> Vec<f32> {
        let mut sums = self.sums(row);
        self.activate(&mut sums);
        sums
    }

    /// The weighted sums of one row.
    pub(crate) fn sums(&self, row: &[f32]) -> Vec<f32> {
        let rows = self.weights.chunks_exact(self.inputs).zip(&self.bias);
        rows.map(|(weights, bias)| {
            weights.iter().zip(row).fold(0.0, |sum, (w, x)| sum + w * x) + bias
        })
        .collect()
    }

    pub(crate) fn activate(&self, sums: &mut [f32]) {
        for sum in sums {
            *sum = self.activation.apply(*sum);
        }
    }

    /// Checks the lengths of layer `index` and that every number is finite.
    fn check(&self, index: usize) -> Result<(), NetworkError> {
        check_length(index, "weights", self.weights.len(), self.inputs * self.outputs)?;
        check_length(index, "bias", self.bias.len(), self.outputs)?;
        check_finite(index, "weights", &self.weights)?;
        check_finite(index, "bias", &self.bias)
    }
}

impl QuantisedLayer {
    /// The grid of the output.
    #[must_use]
    pub fn output(&self) -> Grid {
        Grid { scale: self.output_scale, zero_point: self.output_zero_point }
    }

    /// The grid that the weighted sums are brought to.
    #[must_use]
    pub fn sums_grid(&self) -> Grid {
        self.sums.unwrap_or(self.output())
    }

    /// Checks lengths, scales, zero points and activation of layer `index`.
    fn check(&self, index: usize) -> Result<(), NetworkError> {
        check_length(index, "weights", self.weights.len(), self.inputs * self.outputs)?;
        check_length(index, "bias", self.bias.len(), self.outputs)?;
        let scales = self.weight_scales.len();
        if scales != 1 {
            check_length(index, "weight_scales", scales, self.outputs)?;
        }
        if self.weights.contains(&i8::MIN) {
            return Err(value_error(index, "weights", f64::from(i8::MIN)));
        }
        check_scales(index, "weight_scales", &self.weight_scales)?;
        for (scale, zero_point, grid) in [
            ("output_scale", "output_zero_point", self.output()),
            ("sums_scale", "sums_zero_point", self.sums_grid()),
        ] {
            check_scales(index, scale, &[grid.scale])?;
            check_zero_point(index, zero_point, grid.zero_point)?;
        }
        let fixed = self.activation.fixed_grid();
        let fits = fixed.is_none_or(|grid| grid == self.output());
        if fits && fixed.is_some() == self.sums.is_some() {
            return Ok(());
        }
        Err(NetworkError::Grids { layer: index, activation: self.activation })
    }
}

impl QuantisedNetwork {
    /// Number of values in a row of input; 0 without layers.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.inputs)
    }

    /// Number of values in a row of output; 0 without layers.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.outputs)
    }

    /// Checks widths, lengths, scales, zero points and activations.
    ///
    /// # Errors
    /// The first fault found, as a [`NetworkError`].
    pub fn check(&self) -> Result<(), NetworkError> {
        check_chain(self.layers.iter().map(|layer| (layer.inputs, layer.outputs)))?;
        check_scales(0, "input_scale", &[self.input_scale])?;
        check_zero_point(0, "input_zero_point", self.input_zero_point)?;
        for (index, layer) in self.layers.iter().enumerate() {
            layer.check(index)?;
        }
        Ok(())
    }
}

/// Checks that a chain of `(inputs, outputs)` is not empty, within limits and fits together.
pub(crate) fn check_chain(
    widths: impl ExactSizeIterator<Item = (usize, usize)>,
) -> Result<(), NetworkError> {
    let layers = widths.len();
    if layers == 0 {
        return Err(NetworkError::Empty);
    }
    if layers > NETWORK_LAYERS_MAX {
        return Err(NetworkError::TooDeep { layers });
    }
    let mut previous = None;
    for (layer, (inputs, outputs)) in widths.enumerate() {
        let allowed = 1..=NETWORK_WIDTH_MAX;
        if !allowed.contains(&inputs) || !allowed.contains(&outputs) {
            return Err(NetworkError::Width { layer, inputs, outputs });
        }
        if let Some(previous) = previous
            && previous != inputs
        {
            return Err(NetworkError::Chain { layer, inputs, previous });
        }
        previous = Some(outputs);
    }
    Ok(())
}

pub(crate) fn check_length(
    layer: usize,
    tensor: &'static str,
    found: usize,
    needed: usize,
) -> Result<(), NetworkError> {
    if found == needed {
        return Ok(());
    }
    Err(NetworkError::Length { layer, tensor, found, needed })
}

fn check_finite(layer: usize, tensor: &'static str, values: &[f32]) -> Result<(), NetworkError> {
    values
        .iter()
        .find(|value| !value.is_finite())
        .map_or(Ok(()), |value| Err(value_error(layer, tensor, f64::from(*value))))
}

fn check_scales(layer: usize, tensor: &'static str, scales: &[f32]) -> Result<(), NetworkError> {
    scales
        .iter()
        .find(|scale| !(scale.is_normal() && **scale > 0.0))
        .map_or(Ok(()), |scale| Err(value_error(layer, tensor, f64::from(*scale))))
}

fn check_zero_point(layer: usize, tensor: &'static str, value: i32) -> Result<(), NetworkError> {
    if i8::try_from(value).is_ok() {
        return Ok(());
    }
    Err(value_error(layer, tensor, f64::from(value)))
}

fn value_error(layer: usize, tensor: &'static str, value: f64) -> NetworkError {
    NetworkError::Value { layer, tensor, value }
}
