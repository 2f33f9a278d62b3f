//! The dense autoencoder.

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::{Architecture, Fit, FitError, FitOptions, FittedModel, Progress, TrainingData};
use crate::compile::Model;
use crate::quantise::{QuantiseOptions, quantise};

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
#[serde(deny_unknown_fields)]
pub struct DenseOptions {
    /// The widths of the encoder's layers; the decoder mirrors them.
    pub encoder: Vec<usize>,
    /// The arithmetic on the device.
    pub precision: Precision,
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
        Self { encoder: vec![16, 4], precision: Precision::Int8, fit }
    }
}

impl Fit for DenseOptions {
    fn fit(
        &self,
        data: &TrainingData<'_>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError> {
        let architecture = Architecture::autoencoder(data.rows.width(), &self.encoder);
        let fitted = super::fit_autoencoder(&architecture, data.rows, &self.fit, progress)?;
        let model = match self.precision {
            Precision::Float32 => Model::dense(&fitted.network)?,
            Precision::Int8 => {
                let options = QuantiseOptions::default();
                Model::dense_int8(&quantise(&fitted.network, data.rows, &options)?)?
            }
        };
        Ok(FittedModel {
            model,
            history: fitted.history,
            best_epoch: Some(fitted.best_epoch),
            ending: Some(fitted.ending),
        })
    }
}
