//! The dense autoencoder.

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::refine::{QuantisationAware, Refinement};
use super::trainer;
use super::{Architecture, Fit, FitError, FitOptions, FittedModel, Progress, TrainingData};

/// The arithmetic of a network on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 8-bit integers.
    Int8,
    /// Single precision.
    Float32,
}

/// How to fit a dense autoencoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DenseOptions {
    /// The widths of the encoder's layers; the decoder mirrors them.
    pub encoder: Vec<usize>,
    /// The arithmetic on the device.
    pub precision: Precision,
    /// The share of the weights that pruning takes out; 0 prunes nothing.
    pub prune: f64,
    /// Whether the network learns to live with the rounding of int8.
    pub quantisation_aware: QuantisationAware,
    /// How the network is fitted.
    pub fit: FitOptions,
}

impl Default for DenseOptions {
    fn default() -> Self {
        let fit = FitOptions {
            epochs: 200,
            learning_rate: 0.002,
            patience: Some(20),
            seed: 1,
            ..FitOptions::default()
        };
        Self {
            encoder: vec![16, 4],
            precision: Precision::Int8,
            prune: 0.0,
            quantisation_aware: QuantisationAware::Auto,
            fit,
        }
    }
}

impl Fit for DenseOptions {
    fn fit(
        &self,
        data: &TrainingData<'_>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError> {
        let architecture = Architecture::autoencoder(data.rows.width(), &self.encoder);
        let refinement = Refinement {
            precision: self.precision,
            prune: self.prune,
            quantisation_aware: self.quantisation_aware,
            fit: &self.fit,
        };
        trainer::fit_model(&architecture, data.rows, &refinement, progress)
    }
}
