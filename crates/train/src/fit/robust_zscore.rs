//! The robust z-score: median and median absolute deviation of each scaled feature.

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use stonechat_core::detector::EngineKind;
use stonechat_core::detector::format::robust_zscore::RobustZScoreHeader;

use super::{Fit, FitError, FittedModel, Progress, TrainingData};
use crate::compile::{Model, append};
use crate::rows::Rows;

/// The least deviation, in scaled units.
const DEVIATION_MIN: f32 = 0.05;

/// How to fit the robust z-score.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RobustZScoreOptions {
    /// The step of the running median and spread, in deviations; 0 does not adapt.
    pub alpha: f32,
}

impl Fit for RobustZScoreOptions {
    fn fit(
        &self,
        data: &TrainingData<'_>,
        _progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError> {
        if !(0.0..=1.0).contains(&self.alpha) {
            let (option, value) = ("alpha", f64::from(self.alpha));
            return Err(FitError::Option { option, value, range: "from 0 to 1" });
        }
        Ok(RobustZScoreModel::of_rows(data.rows, self.alpha).encode().into())
    }
}

/// What was fitted; vectors are as long as the feature vector, in scaled units.
#[derive(Clone, Debug, PartialEq)]
pub struct RobustZScoreModel {
    /// The medians at the start.
    pub medians: Vec<f32>,
    /// The median absolute deviations from them at the start.
    pub spreads: Vec<f32>,
    /// The step of the running median, in deviations.
    pub alpha: f32,
    /// The least deviation.
    pub minimum_deviation: f32,
}

impl RobustZScoreModel {
    fn of_rows(rows: Rows<'_>, alpha: f32) -> Self {
        let mut column = Vec::with_capacity(rows.len());
        let mut model = Self {
            medians: Vec::with_capacity(rows.width()),
            spreads: Vec::with_capacity(rows.width()),
            alpha,
            minimum_deviation: DEVIATION_MIN,
        };
        for index in 0..rows.width() {
            column.clear();
            column.extend(rows.iter().map(|row| row[index]));
            let centre = median(&mut column);
            for value in &mut column {
                *value = (*value - centre).abs();
            }
            model.medians.push(centre);
            model.spreads.push(median(&mut column));
        }
        model
    }

    /// Lays the model out for the detector file.
    #[must_use]
    pub fn encode(&self) -> Model {
        let mut bytes = vec![0; size_of::<RobustZScoreHeader>()];
        let header = RobustZScoreHeader {
            alpha: self.alpha,
            minimum_deviation: self.minimum_deviation,
            medians: append(&mut bytes, &self.medians).offset,
            spreads: append(&mut bytes, &self.spreads).offset,
        };
        bytes[..size_of::<RobustZScoreHeader>()].copy_from_slice(bytemuck::bytes_of(&header));
        Model::new(EngineKind::RobustZScore, bytes)
    }
}

/// The median of at least one value, which it puts into another order; the mean of the middle two
/// where their number is even.
fn median(values: &mut [f32]) -> f32 {
    let middle = values.len() / 2;
    let is_even = values.len().is_multiple_of(2);
    let (below, upper, _) = values.select_nth_unstable_by(middle, f32::total_cmp);
    if !is_even {
        return *upper;
    }
    let lower = below.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    f32::midpoint(lower, *upper)
}
