//! The model that keeps learning on the device.

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::{Fit, FitError, FittedModel, Progress, TrainingData};

/// How to fit the online learner.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnerOptions {}

impl Fit for LearnerOptions {
    fn fit(
        &self,
        _data: &TrainingData<'_>,
        _progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError> {
        Err(FitError::Unavailable)
    }
}
