//! Detectors that rest on the covariance of normal data: Mahalanobis distance and principal components.

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use stonechat_core::detector::EngineKind;
use stonechat_core::detector::format::covariance::{MahalanobisHeader, PcaHeader};

use super::{Fit, FitError, FittedModel, Progress, TrainingData, linear};
use crate::compile::{Model, append, number};
use crate::limits::COVARIANCE_WIDTH_MAX;
use crate::rows::Rows;

/// Shrinkage found from the data is never taken smaller, so that features which are sums of others
/// do not make the covariance singular.
const SHRINKAGE_MIN: f64 = 1.0e-6;

/// How to fit the Mahalanobis distance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MahalanobisOptions {
    /// How far the covariance is drawn towards a multiple of the identity, 0 to 1; none finds it
    /// from the data (Ledoit and Wolf 2004), so that short recordings work.
    pub shrinkage: Option<f64>,
}

impl Fit for MahalanobisOptions {
    fn fit(
        &self,
        data: &TrainingData<'_>,
        _progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError> {
        if let Some(value) = self.shrinkage.filter(|share| !(0.0..=1.0).contains(share)) {
            return Err(FitError::Option { option: "shrinkage", value, range: "from 0 to 1" });
        }
        check_width("the Mahalanobis distance", data.rows.width(), 1)?;
        Ok(MahalanobisModel::of_rows(data.rows, self.shrinkage)?.encode().into())
    }
}

/// A fitted Mahalanobis distance, in scaled units.
#[derive(Clone, Debug, PartialEq)]
pub struct MahalanobisModel {
    /// The means.
    pub means: Vec<f32>,
    /// The inverse of the covariance's Cholesky factor: rows of 1, 2, ... n numbers.
    pub whitening: Vec<f32>,
    /// What the other numbers leave of each number's variance.
    pub remainders: Vec<f32>,
    /// How far the covariance was drawn towards a multiple of the identity.
    pub shrinkage: f64,
}

impl MahalanobisModel {
    /// Fits rows of scaled features; without a `shrinkage` it is found from them.
    ///
    /// # Errors
    /// If the covariance is singular.
    pub fn of_rows(rows: Rows<'_>, shrinkage: Option<f64>) -> Result<Self, FitError> {
        let width = rows.width();
        let moments = Moments::of_rows(rows);
        let shrinkage =
            shrinkage.unwrap_or_else(|| moments.ledoit_wolf(rows).clamp(SHRINKAGE_MIN, 1.0));
        let mut covariance = moments.covariance;
        let mean_variance =
            (0..width).map(|i| covariance[i * width + i]).sum::<f64>() / width as f64;
        for value in &mut covariance {
            *value *= 1.0 - shrinkage;
        }
        for index in 0..width {
            covariance[index * width + index] += shrinkage * mean_variance;
        }
        let lower = linear::cholesky(&covariance, width).ok_or(FitError::Degenerate(
            "the covariance of the features is singular, for some never change or are sums of others: \
             leave them out, or set a shrinkage above 0",
        ))?;
        let inverse = linear::invert_lower(&lower, width);
        let precision = |column: usize| -> f64 {
            (column..width).map(|row| inverse[row * width + column].powi(2)).sum()
        };
        Ok(Self {
            means: moments.means.iter().map(|mean| *mean as f32).collect(),
            whitening: (0..width)
                .flat_map(|row| &inverse[row * width..=row * width + row])
                .map(|weight| *weight as f32)
                .collect(),
            remainders: (0..width).map(|column| (1.0 / precision(column)) as f32).collect(),
            shrinkage,
        })
    }

    /// Lays the model out for the detector file.
    #[must_use]
    pub fn encode(&self) -> Model {
        let mut bytes = vec![0; size_of::<MahalanobisHeader>()];
        let header = MahalanobisHeader {
            means: append(&mut bytes, &self.means).offset,
            whitening: append(&mut bytes, &self.whitening).offset,
            remainders: append(&mut bytes, &self.remainders).offset,
            reserved: 0,
        };
        bytes[..size_of::<MahalanobisHeader>()].copy_from_slice(bytemuck::bytes_of(&header));
        Model::new(EngineKind::Mahalanobis, bytes)
    }
}

/// How to fit principal components.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PcaOptions {
    /// Keeps as many components as explain this share of the variance; above 0, below 1.
    pub variance_share: f64,
    /// Keeps this many components instead.
    pub components: Option<usize>,
}

impl Default for PcaOptions {
    fn default() -> Self {
        Self { variance_share: 0.9, components: None }
    }
}

impl Fit for PcaOptions {
    fn fit(
        &self,
        data: &TrainingData<'_>,
        _progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError> {
        let share = self.variance_share;
        if !(share > 0.0 && share < 1.0) {
            let (option, range) = ("variance_share", "above 0 and below 1");
            return Err(FitError::Option { option, value: share, range });
        }
        let width = data.rows.width();
        check_width("principal components", width, 2)?;
        if let Some(count) = self.components.filter(|count| !(1..width).contains(count)) {
            let range = "at least 1 and fewer than the feature vector has numbers";
            let value = count as f64;
            return Err(FitError::Option { option: "components", value, range });
        }
        Ok(PcaModel::of_rows(data.rows, self)?.encode().into())
    }
}

/// Fitted principal components, in scaled units.
#[derive(Clone, Debug, PartialEq)]
pub struct PcaModel {
    /// The means.
    pub means: Vec<f32>,
    /// `[count][n]`, orthonormal, that of the largest variance first.
    pub components: Vec<f32>,
}

impl PcaModel {
    fn of_rows(rows: Rows<'_>, options: &PcaOptions) -> Result<Self, FitError> {
        let width = rows.width();
        let moments = Moments::of_rows(rows);
        let eigen = linear::eigen(&moments.covariance, width).ok_or(FitError::Degenerate(
            "the covariance of the features cannot be decomposed: scale them to about mean 0 and deviation 1",
        ))?;
        let wanted = options.variance_share * eigen.values.iter().sum::<f64>();
        let mut explained = 0.0;
        let reaches = |value: &f64| {
            explained += value;
            explained >= wanted
        };
        // One is always left over, or nothing could be a residual.
        let by_share = eigen.values.iter().position(reaches).map_or(width, |index| index + 1);
        let count = options.components.unwrap_or(by_share).min(width - 1);
        Ok(Self {
            means: moments.means.iter().map(|mean| *mean as f32).collect(),
            components: eigen.vectors[..count * width].iter().map(|x| *x as f32).collect(),
        })
    }

    /// Lays the model out for the detector file.
    #[must_use]
    pub fn encode(&self) -> Model {
        let mut bytes = vec![0; size_of::<PcaHeader>()];
        let header = PcaHeader {
            means: append(&mut bytes, &self.means).offset,
            components: append(&mut bytes, &self.components).offset,
            component_count: number(self.components.len() / self.means.len().max(1)),
            reserved: 0,
        };
        bytes[..size_of::<PcaHeader>()].copy_from_slice(bytemuck::bytes_of(&header));
        Model::new(EngineKind::Pca, bytes)
    }
}

fn check_width(model: &'static str, found: usize, least: usize) -> Result<(), FitError> {
    if (least..=COVARIANCE_WIDTH_MAX).contains(&found) {
        return Ok(());
    }
    let legal = format!("{least} to {COVARIANCE_WIDTH_MAX}");
    Err(FitError::VectorLen { model, found, legal })
}

/// Means and population covariance, summed in the order of the rows.
struct Moments {
    means: Vec<f64>,
    /// `[n][n]`
    covariance: Vec<f64>,
}

impl Moments {
    fn of_rows(rows: Rows<'_>) -> Self {
        let (count, width) = (rows.len() as f64, rows.width());
        let mut means = vec![0.0; width];
        for row in rows.iter() {
            for (mean, value) in means.iter_mut().zip(row) {
                *mean += f64::from(*value) / count;
            }
        }
        let mut moments = Self { means, covariance: vec![0.0; width * width] };
        let mut centred = vec![0.0; width];
        for row in rows.iter() {
            moments.centre(row, &mut centred);
            for (index, line) in moments.covariance.chunks_exact_mut(width).enumerate() {
                let factor = centred[index];
                // What stands left of the diagonal is mirrored afterwards.
                for (sum, value) in line[index..].iter_mut().zip(&centred[index..]) {
                    *sum += factor * value;
                }
            }
        }
        for row in 0..width {
            for column in row..width {
                let value = moments.covariance[row * width + column] / count;
                moments.covariance[row * width + column] = value;
                moments.covariance[column * width + row] = value;
            }
        }
        moments
    }

    fn centre(&self, row: &[f32], centred: &mut [f64]) {
        for ((centred, value), mean) in centred.iter_mut().zip(row).zip(&self.means) {
            *centred = f64::from(*value) - mean;
        }
    }

    /// How far the covariance S is best drawn towards a multiple of the identity: Ledoit and Wolf
    /// 2004, "A well-conditioned estimator for large-dimensional covariance matrices", b² / d² of
    /// lemmas 3.3 and 3.4, with m the mean variance, d² = ‖S - mI‖² and
    /// b² = min(d², Σₖ‖xₖxₖᵀ - S‖² / n²).
    fn ledoit_wolf(&self, rows: Rows<'_>) -> f64 {
        let (count, width) = (rows.len() as f64, rows.width());
        let trace: f64 = (0..width).map(|i| self.covariance[i * width + i]).sum();
        let square: f64 = self.covariance.iter().map(|x| x * x).sum();
        let distance = square - trace * trace / width as f64;
        let mut centred = vec![0.0; width];
        let mut fourth = 0.0;
        for row in rows.iter() {
            self.centre(row, &mut centred);
            fourth += centred.iter().map(|x| x * x).sum::<f64>().powi(2);
        }
        // Σₖ‖xₖxₖᵀ - S‖² = Σₖ‖xₖ‖⁴ - n‖S‖².
        let error = (fourth / count - square) / count;
        if distance <= 0.0 { 1.0 } else { (error / distance).clamp(0.0, 1.0) }
    }
}
