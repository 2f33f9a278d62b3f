use bytemuck::from_bytes;

use super::format::robust_zscore::RobustZScoreHeader;
use super::{LoadError, Outcome, Work, array};
use crate::limits::SCALED_FEATURE_ABS_MAX;

/// The deviation of a normal distribution in median absolute deviations, 1 / Φ⁻¹(3/4).
const DEVIATIONS_PER_SPREAD: f32 = 1.482_602_2;

/// The robust z-score engine: how many deviations each scaled feature lies from its running median.
///
/// Median m and median absolute deviation s follow the data in steps of a fixed size, one up or one
/// down with each window: m += α σ sign(x - m) and s += α s sign(|x - m| - s), where σ = 1.4826 s.
/// This is stochastic approximation of a quantile (Robbins and Monro 1951; Tierney 1983, "A
/// space-efficient recursive procedure for estimating a quantile of an unknown distribution") with
/// a step that does not shrink, so that the estimate keeps following. An anomaly, however large,
/// moves the median by no more than any other window does: nothing needs to be clipped. With α = 0
/// both are those of training.
#[derive(Clone, Copy, Debug)]
pub struct RobustZScore<'d> {
    header: &'d RobustZScoreHeader,
    medians: &'d [f32],
    spreads: &'d [f32],
}

impl<'d> RobustZScore<'d> {
    pub(super) fn load(model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        let header_len = size_of::<RobustZScoreHeader>();
        let header: &RobustZScoreHeader = from_bytes(array::<u8>(model, 0, header_len)?);
        let medians: &[f32] = array(model, header.medians, vector_len)?;
        let spreads: &[f32] = array(model, header.spreads, vector_len)?;
        let bounds = 0.0..=SCALED_FEATURE_ABS_MAX;
        let legal = (0.0..=1.0).contains(&header.alpha)
            && header.minimum_deviation > 0.0
            && bounds.contains(&header.minimum_deviation)
            && medians.iter().all(|median| bounds.contains(&libm::fabsf(*median)))
            && spreads.iter().all(|spread| bounds.contains(spread));
        if legal { Ok(Self { header, medians, spreads }) } else { Err(LoadError::Model) }
    }

    /// Returns the step of the running median in deviations; 0 for a detector that does not adapt.
    #[must_use]
    pub fn alpha(&self) -> f32 {
        self.header.alpha
    }

    pub(super) fn memory_words(&self) -> usize {
        self.medians.len() + self.spreads.len()
    }

    pub(super) fn work(&self) -> Work {
        let count = self.medians.len() as u64;
        let learned = if self.header.alpha > 0.0 { 15 } else { 0 };
        Work { float_divisions: count, float_operations: (4 + learned) * count, ..Work::default() }
    }

    /// Puts the medians and spreads of training into `memory`.
    pub(super) fn start(&self, memory: &mut [f32]) {
        let (medians, spreads) = memory.split_at_mut(self.medians.len());
        medians.copy_from_slice(self.medians);
        spreads.copy_from_slice(self.spreads);
    }

    /// Replaces `vector` by the distances from the running medians in deviations, writes the medians
    /// into `reconstruction`, and learns.
    pub(super) fn run(
        &self,
        vector: &mut [f32],
        reconstruction: &mut [f32],
        memory: &mut [f32],
    ) -> Outcome {
        let alpha = self.header.alpha;
        // A spread of zero would have steps of zero and never grow again.
        let least = self.header.minimum_deviation / DEVIATIONS_PER_SPREAD;
        let (medians, spreads) = memory.split_at_mut(self.medians.len());
        let running = medians.iter_mut().zip(spreads);
        for ((value, output), (median, spread)) in
            vector.iter_mut().zip(reconstruction).zip(running)
        {
            let mut deviation = DEVIATIONS_PER_SPREAD * *spread;
            if deviation < self.header.minimum_deviation {
                deviation = self.header.minimum_deviation;
            }
            let difference = *value - *median;
            *output = *median;
            *value = difference / deviation;
            if alpha > 0.0 {
                let excess = libm::fabsf(difference) - *spread;
                let next = *spread + alpha * *spread * sign(excess);
                *spread = next.clamp(least, SCALED_FEATURE_ABS_MAX);
                let next = *median + alpha * deviation * sign(difference);
                *median = next.clamp(-SCALED_FEATURE_ABS_MAX, SCALED_FEATURE_ABS_MAX);
            }
        }
        Outcome::Residuals
    }
}

/// 1, -1, or 0 for zero, which `f32::signum` does not give.
fn sign(x: f32) -> f32 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        0.0
    }
}
