//! Detectors that rest on the covariance of normal data: Mahalanobis distance and principal components.

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::{Fit, FitError, FittedModel, Progress, TrainingData};

/// How to fit the Mahalanobis distance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MahalanobisOptions {}

impl Fit for MahalanobisOptions {
    fn fit(
        &self,
        _data: &TrainingData<'_>,
        _progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError> {
        Err(FitError::Unavailable)
    }
}

/// How to fit principal components.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PcaOptions {}

impl Fit for PcaOptions {
    fn fit(
        &self,
        _data: &TrainingData<'_>,
        _progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError> {
        Err(FitError::Unavailable)
    }
}
