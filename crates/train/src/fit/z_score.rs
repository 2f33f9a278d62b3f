//! The z-score.

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::{Fit, FitError, FittedModel, Progress, TrainingData};
use crate::compile::{Model, ZScoreModel};

/// Residuals of the adaptive z-score are clipped to this many deviations before they are learned.
const CLIP: f32 = 3.0;
/// The least deviation, in scaled units.
const DEVIATION_MIN: f32 = 0.05;

/// How to fit the z-score.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZScoreOptions {
    /// The weight of a new window in the running moments; 0 does not adapt.
    pub alpha: f32,
}

impl Fit for ZScoreOptions {
    /// Nothing is left to fit: the scaler made mean 0 and deviation 1 of the features.
    fn fit(
        &self,
        data: &TrainingData<'_>,
        _progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError> {
        if !(0.0..=1.0).contains(&self.alpha) {
            let (option, value) = ("alpha", f64::from(self.alpha));
            return Err(FitError::Option { option, value, range: "from 0 to 1" });
        }
        Ok(identity_z_score(data.rows.width(), self.alpha).into())
    }
}

/// The z-score of features that have mean 0 and deviation 1.
pub(crate) fn identity_z_score(vector_len: usize, alpha: f32) -> Model {
    Model::z_score(&ZScoreModel {
        mean: vec![0.0; vector_len],
        variance: vec![1.0; vector_len],
        alpha,
        minimum_deviation: DEVIATION_MIN,
        clip: CLIP,
    })
}
