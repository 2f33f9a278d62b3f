//! Quantises a fitted network to int8 after training, as TensorFlow Lite does.
//!
//! Weights are symmetric (zero point 0, -127..=127), activations asymmetric with ranges from
//! calibration rows, biases int32. Source: "TensorFlow Lite 8-bit quantization specification", and
//! Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
//! Integer-Arithmetic-Only Inference", equations 1 to 11.

mod convolution;
pub mod recurrent;
mod table;

use thiserror::Error;

pub use convolution::quantise_convolution;
pub use table::activation_table;

use crate::limits::{BIAS_STEPS_MAX, CALIBRATION_VALUES_MAX};
use crate::network::{Grid, Layer, Network, NetworkError, QuantisedLayer, QuantisedNetwork};
use crate::rows::Rows;

/// Greatest magnitude of a quantised weight.
const WEIGHT_STEPS: f32 = 127.0;
/// Steps between the ends of the int8 range.
const ACTIVATION_STEPS: f32 = 255.0;
/// The range where calibration saw nothing but zero: it must be some range, and no value needs it.
const EMPTY_RANGE: Span = Span { low: 0.0, high: 1.0 };

/// How finely weights are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightScaling {
    /// One scale for each output: more exact, a little more flash.
    #[default]
    PerChannel,
    /// One scale for the whole layer, for old interpreters.
    PerTensor,
}

/// How the range of an activation is taken from the calibration rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Calibration {
    /// From the least to the greatest value seen.
    #[default]
    MinMax,
    /// Leaves this share of the values out at each end, against outliers; from 0 to below 0.5.
    Percentile(f32),
}

/// How to quantise.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct QuantiseOptions {
    /// How finely weights are scaled.
    pub weights: WeightScaling,
    /// How activation ranges are found.
    pub calibration: Calibration,
}

/// Why a network cannot be quantised.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum QuantiseError {
    /// The network is not well formed, or has an activation without an int8 form.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The calibration rows do not fit the network.
    #[error("the calibration rows have {found} columns, but the network takes {needed}")]
    Width {
        /// Columns found.
        found: usize,
        /// The network's inputs.
        needed: usize,
    },
    /// No run of calibration rows fills a window.
    #[error(
        "the longest run without a gap has {longest} rows, but a window takes {steps}: give longer \
         recordings, or train with a shorter window"
    )]
    Short {
        /// Rows of the longest run.
        longest: usize,
        /// Rows of a window.
        steps: usize,
    },
    /// The share to leave out is no share.
    #[error("the calibration percentile leaves out {share}; it must be from 0 to below 0.5")]
    Share {
        /// The share given.
        share: f32,
    },
    /// An activation is not finite or its range cannot be scaled.
    #[error(
        "{place} reaches from {low} to {high} over the calibration rows, which int8 cannot hold: \
         scale the inputs to about mean 0 and deviation 1 and fit again"
    )]
    Range {
        /// `the input` or `layer N`.
        place: String,
        /// Least value.
        low: f32,
        /// Greatest value.
        high: f32,
    },
}

/// The values that an activation takes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    low: f32,
    high: f32,
}

/// Quantises `network`, with the ranges of its activations over the calibration rows.
///
/// Give rows like those the network will see: the training rows, or a part of them.
///
/// # Errors
/// When the network is malformed, or the rows do not fit it or drive it out of range.
pub fn quantise(
    network: &Network,
    calibration: Rows<'_>,
    options: &QuantiseOptions,
) -> Result<QuantisedNetwork, QuantiseError> {
    network.check()?;
    let grids = activation_grids(network, calibration, options.calibration)?;
    quantise_on(network, &grids, options.weights)
}

/// Quantises `network` with these grids of its input and of each layer's output or, before tanh and
/// logistic, weighted sums.
pub(crate) fn quantise_on(
    network: &Network,
    grids: &[Grid],
    weights: WeightScaling,
) -> Result<QuantisedNetwork, QuantiseError> {
    let mut input = grids[0];
    let mut layers = Vec::with_capacity(network.layers.len());
    for (layer, grid) in network.layers.iter().zip(&grids[1..]) {
        let quantised = quantise_layer(layer, input, *grid, weights);
        input = quantised.output();
        layers.push(quantised);
    }
    let quantised = QuantisedNetwork {
        input_scale: grids[0].scale,
        input_zero_point: grids[0].zero_point,
        layers,
    };
    quantised.check()?;
    Ok(quantised)
}

fn check_share(calibration: Calibration) -> Result<(), QuantiseError> {
    match calibration {
        Calibration::Percentile(share) if !(0.0..0.5).contains(&share) => {
            Err(QuantiseError::Share { share })
        }
        _ => Ok(()),
    }
}

/// A network whose tensors calibration looks at: the input and, of each layer, the output or,
/// before tanh and logistic, the weighted sums.
pub(crate) trait Calibrated {
    /// Numbers of a row.
    fn inputs(&self) -> usize;
    /// Layers.
    fn depth(&self) -> usize;
    /// Numbers of the largest tensor.
    fn numbers_max(&self) -> usize;
    /// Runs a row and shows each tensor, counted from the input.
    fn visit(&self, row: &[f32], see: &mut dyn FnMut(usize, &[f32]));
}

impl Calibrated for Network {
    fn inputs(&self) -> usize {
        self.inputs()
    }

    fn depth(&self) -> usize {
        self.layers.len()
    }

    fn numbers_max(&self) -> usize {
        let widest = self.layers.iter().map(|layer| layer.outputs).max();
        widest.unwrap_or(1).max(self.inputs())
    }

    fn visit(&self, row: &[f32], see: &mut dyn FnMut(usize, &[f32])) {
        see(0, row);
        let mut values = row.to_vec();
        for (index, layer) in (1..).zip(&self.layers) {
            values = layer.sums(&values);
            if layer.activation.fixed_grid().is_some() {
                see(index, &values);
                layer.activate(&mut values);
            } else {
                layer.activate(&mut values);
                see(index, &values);
            }
        }
    }
}

/// The grid of each tensor of a network over the calibration rows.
pub(crate) fn activation_grids(
    network: &impl Calibrated,
    rows: Rows<'_>,
    calibration: Calibration,
) -> Result<Vec<Grid>, QuantiseError> {
    if rows.width() != network.inputs() {
        return Err(QuantiseError::Width { found: rows.width(), needed: network.inputs() });
    }
    check_share(calibration)?;
    let kept_max = (CALIBRATION_VALUES_MAX / network.numbers_max()).max(1);
    let every = match calibration {
        Calibration::MinMax => usize::MAX,
        Calibration::Percentile(_) => rows.len().div_ceil(kept_max),
    };
    let mut seen = vec![Seen::default(); network.depth() + 1];
    for (index, row) in rows.iter().enumerate() {
        let keep = index.is_multiple_of(every);
        network.visit(row, &mut |tensor, values| seen[tensor].take(values, keep));
    }
    let grids = seen.into_iter().enumerate();
    grids.map(|(index, seen)| seen.grid(index, calibration)).collect()
}

/// What the input or a layer's output was over the calibration rows.
#[derive(Clone, Debug)]
struct Seen {
    low: f32,
    high: f32,
    /// Of evenly spread rows, for the percentile.
    kept: Vec<f32>,
}

impl Default for Seen {
    /// Zero is always inside, as the specification wants it to be exact.
    fn default() -> Self {
        Self { low: 0.0, high: 0.0, kept: Vec::new() }
    }
}

impl Seen {
    fn take(&mut self, values: &[f32], keep: bool) {
        for value in values {
            self.low = self.low.min(*value);
            // The minimum passes over what is not a number, so here it counts as infinite.
            self.high = if value.is_nan() { f32::INFINITY } else { self.high.max(*value) };
        }
        if keep {
            self.kept.extend_from_slice(values);
        }
    }

    /// The grid of the input (`index` 0) or of layer `index - 1`.
    fn grid(mut self, index: usize, calibration: Calibration) -> Result<Grid, QuantiseError> {
        let mut span = Span { low: self.low, high: self.high };
        let finite = span.low.is_finite() && span.high.is_finite();
        if let Calibration::Percentile(share) = calibration
            && finite
            && !self.kept.is_empty()
        {
            let last = self.kept.len() - 1;
            let cut = (f64::from(share) * last as f64).round() as usize;
            let mut ranked = |rank| *self.kept.select_nth_unstable_by(rank, f32::total_cmp).1;
            span.low = ranked(cut).min(0.0);
            span.high = ranked(last - cut).max(0.0);
        }
        if finite && span.low == 0.0 && span.high == 0.0 {
            return Ok(Grid::of(EMPTY_RANGE));
        }
        let grid = Grid::of(span);
        if grid.scale.is_normal() {
            return Ok(grid);
        }
        Err(QuantiseError::Range {
            place: match index.checked_sub(1) {
                None => "the input".into(),
                Some(layer) => format!("layer {layer}"),
            },
            low: span.low,
            high: span.high,
        })
    }
}

impl Grid {
    /// The grid whose ends are the ends of `span`, with 0.0 on a step.
    fn of(span: Span) -> Self {
        let scale = (span.high - span.low) / ACTIVATION_STEPS;
        let least = f32::from(i8::MIN);
        let zero_point = (least - span.low / scale).round();
        Self { scale, zero_point: zero_point.clamp(least, f32::from(i8::MAX)) as i32 }
    }
}

/// Quantises one layer, with `grid` for its output or, before tanh and logistic, its sums.
fn quantise_layer(
    layer: &Layer,
    input: Grid,
    grid: Grid,
    scaling: WeightScaling,
) -> QuantisedLayer {
    let fixed = layer.activation.fixed_grid();
    let output = fixed.unwrap_or(grid);
    let rows = || layer.weights.chunks_exact(layer.inputs).zip(&layer.bias);
    let needed: Vec<f32> =
        rows().map(|(weights, bias)| weight_scale(weights, *bias, input.scale)).collect();
    let weight_scales = match scaling {
        WeightScaling::PerChannel => needed,
        WeightScaling::PerTensor => vec![needed.iter().copied().fold(f32::MIN_POSITIVE, f32::max)],
    };
    let scale_of = |output: usize| weight_scales[output.min(weight_scales.len() - 1)];
    let steps = |(index, (weights, _)): (usize, (&[f32], &f32))| -> Vec<i8> {
        let scale = scale_of(index);
        weights.iter().map(|weight| weight_steps(*weight, scale)).collect()
    };
    let bias_steps = |(index, (_, bias)): (usize, (&[f32], &f32))| {
        let scale = f64::from(input.scale) * f64::from(scale_of(index));
        (f64::from(*bias) / scale).round() as i32
    };
    QuantisedLayer {
        inputs: layer.inputs,
        outputs: layer.outputs,
        weights: rows().enumerate().flat_map(steps).collect(),
        bias: rows().enumerate().map(bias_steps).collect(),
        output_scale: output.scale,
        output_zero_point: output.zero_point,
        activation: layer.activation,
        sums: fixed.map(|_| grid),
        weight_scales,
    }
}

fn weight_steps(weight: f32, scale: f32) -> i8 {
    (weight / scale).round().clamp(-WEIGHT_STEPS, WEIGHT_STEPS) as i8
}

/// The scale that fits the greatest weight into 127 steps and the bias into [`BIAS_STEPS_MAX`].
fn weight_scale(weights: &[f32], bias: f32, input_scale: f32) -> f32 {
    let greatest = weights.iter().fold(0.0_f32, |most, w| most.max(w.abs()));
    let for_weights = greatest / WEIGHT_STEPS;
    let for_bias = f64::from(bias.abs()) / (f64::from(input_scale) * f64::from(BIAS_STEPS_MAX));
    let scale = for_weights.max(for_bias as f32);
    if scale.is_normal() {
        scale
    } else {
        // The output does not depend on its inputs and has no bias: any scale does.
        1.0 / WEIGHT_STEPS
    }
}

#[cfg(test)]
mod tests;
