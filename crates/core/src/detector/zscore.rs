use bytemuck::from_bytes;

use super::format::ZScoreHeader;
use super::{LoadError, Outcome, Work, array};

/// The z-score engine: how many deviations each scaled feature lies from its running mean.
///
/// Exponentially weighted moments (West 1979, "Updating mean and variance estimates"; Finch 2009,
/// equations 124 and 143): with d = x - m, m += αd and v = (1 - α)(v + αd²). With α = 0 the
/// moments are those of training. Before it is learned a residual is clipped to `clip` deviations,
/// so that an anomaly does not teach the detector that it is normal.
#[derive(Clone, Copy, Debug)]
pub struct ZScore<'d> {
    header: &'d ZScoreHeader,
    mean: &'d [f32],
    variance: &'d [f32],
}

impl<'d> ZScore<'d> {
    pub(super) fn load(model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        let header_len = size_of::<ZScoreHeader>();
        let header: &ZScoreHeader = from_bytes(array::<u8>(model, 0, header_len)?);
        let moments: &[f32] = array(model, header_len as u32, 2 * vector_len)?;
        let (mean, variance) = moments.split_at(vector_len);
        let legal = (0.0..=1.0).contains(&header.alpha)
            && header.minimum_deviation.is_finite()
            && header.minimum_deviation > 0.0
            && header.clip.is_finite()
            && header.clip > 0.0
            && mean.iter().all(|mean| mean.is_finite())
            && variance.iter().all(|variance| variance.is_finite() && *variance >= 0.0);
        if legal { Ok(Self { header, mean, variance }) } else { Err(LoadError::Model) }
    }

    /// Returns the weight of a new window; 0 for a detector that does not adapt.
    #[must_use]
    pub fn alpha(&self) -> f32 {
        self.header.alpha
    }

    pub(super) fn memory_words(&self) -> usize {
        self.mean.len() + self.variance.len()
    }

    pub(super) fn work(&self) -> Work {
        let count = self.mean.len() as u64;
        let learned = if self.header.alpha > 0.0 { 8 } else { 0 };
        Work {
            float_functions: count,
            float_divisions: count,
            float_operations: (3 + learned) * count,
            ..Work::default()
        }
    }

    /// Puts the moments of training into `memory`.
    pub(super) fn start(&self, memory: &mut [f32]) {
        let (mean, variance) = memory.split_at_mut(self.mean.len());
        mean.copy_from_slice(self.mean);
        variance.copy_from_slice(self.variance);
    }

    /// Writes the running means into `reconstruction`, replaces the numbers of `vector` by their
    /// distances from them in deviations, and learns.
    pub(super) fn run(
        &self,
        vector: &mut [f32],
        reconstruction: &mut [f32],
        memory: &mut [f32],
    ) -> Outcome {
        let alpha = self.header.alpha;
        let (means, variances) = memory.split_at_mut(self.mean.len());
        let moments = means.iter_mut().zip(variances);
        for ((input, output), (mean, variance)) in
            vector.iter_mut().zip(reconstruction).zip(moments)
        {
            let mut deviation = libm::sqrtf(*variance);
            if deviation < self.header.minimum_deviation {
                deviation = self.header.minimum_deviation;
            }
            let difference = *input - *mean;
            *output = *mean;
            *input = difference / deviation;
            if alpha > 0.0 {
                let limit = self.header.clip * deviation;
                let step = difference.clamp(-limit, limit);
                *mean += alpha * step;
                *variance = (1.0 - alpha) * (*variance + alpha * step * step);
            }
        }
        Outcome::Residuals
    }
}
