//! Quantises convolutions, as [`super`] does dense layers: one weight scale a filter.

use super::{
    Calibrated, Calibration, QuantiseError, WeightScaling, activation_grids, quantise_layer,
};
use crate::network::Grid;
use crate::network::convolution::{
    ConvolutionNetwork, QuantisedConvolutionLayer, QuantisedConvolutionNetwork,
};
use crate::rows::Rows;

impl Calibrated for ConvolutionNetwork {
    fn inputs(&self) -> usize {
        self.inputs()
    }

    fn depth(&self) -> usize {
        self.layers.len()
    }

    fn numbers_max(&self) -> usize {
        let outputs = self.layers.iter().map(|l| l.geometry.output_len() * l.product.outputs);
        outputs.max().unwrap_or(1).max(self.inputs())
    }

    fn visit(&self, row: &[f32], see: &mut dyn FnMut(usize, &[f32])) {
        self.visit(row, see);
    }
}

/// Quantises a convolution network, with the ranges of its activations over the calibration rows.
///
/// # Errors
/// When the network is malformed, or the rows do not fit it or drive it out of range.
pub fn quantise_convolution(
    network: &ConvolutionNetwork,
    rows: Rows<'_>,
    calibration: Calibration,
) -> Result<QuantisedConvolutionNetwork, QuantiseError> {
    network.check()?;
    let grids = activation_grids(network, rows, calibration)?;
    quantise_convolution_on(network, &grids)
}

/// Quantises a convolution network with these grids of its input and of each layer's output.
pub(crate) fn quantise_convolution_on(
    network: &ConvolutionNetwork,
    grids: &[Grid],
) -> Result<QuantisedConvolutionNetwork, QuantiseError> {
    let mut input = grids[0];
    let mut layers = Vec::with_capacity(network.layers.len());
    for (layer, grid) in network.layers.iter().zip(&grids[1..]) {
        let product = quantise_layer(&layer.product, input, *grid, WeightScaling::PerChannel);
        input = product.output();
        layers.push(QuantisedConvolutionLayer { geometry: layer.geometry, product });
    }
    let quantised = QuantisedConvolutionNetwork {
        input_scale: grids[0].scale,
        input_zero_point: grids[0].zero_point,
        layers,
    };
    quantised.check()?;
    Ok(quantised)
}
