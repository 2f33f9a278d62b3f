//! The distance to the nearest of some stored vectors.

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::{Fit, FitError, FittedModel, Progress, TrainingData};

/// How to fit the nearest neighbour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeighbourOptions {}

impl Fit for NeighbourOptions {
    fn fit(
        &self,
        _data: &TrainingData<'_>,
        _progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError> {
        Err(FitError::Unavailable)
    }
}
