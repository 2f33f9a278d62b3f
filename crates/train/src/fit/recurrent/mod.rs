//! Recurrent networks: autoencoders over windows and forecasters.

pub mod encode;
pub mod network;

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::{Fit, FitError, FittedModel, Progress, TrainingData};

/// How to fit a recurrent network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecurrentOptions {}

impl Fit for RecurrentOptions {
    fn fit(
        &self,
        _data: &TrainingData<'_>,
        _progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError> {
        Err(FitError::Unavailable)
    }
}
