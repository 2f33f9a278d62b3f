use bytemuck::from_bytes;

use super::format::covariance::PcaHeader;
use super::{LoadError, Outcome, Work, array};

/// The engine of principal components: what is left of the scaled feature vector when its
/// projection on the first components of normal ones is taken away (Jackson and Mudholkar 1979,
/// "Control procedures for residuals associated with principal component analysis").
///
/// With orthonormal components V the reconstruction is μ + Vᵀ V (x - μ).
#[derive(Clone, Copy, Debug)]
pub struct Pca<'d> {
    means: &'d [f32],
    /// `[component_count][vector_len]`.
    components: &'d [f32],
    component_count: usize,
}

impl<'d> Pca<'d> {
    pub(super) fn load(model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        let header_len = size_of::<PcaHeader>();
        let header: &PcaHeader = from_bytes(array::<u8>(model, 0, header_len)?);
        let component_count = header.component_count as usize;
        if !(1..vector_len).contains(&component_count) {
            return Err(LoadError::Model);
        }
        let loaded = Self {
            means: array(model, header.means, vector_len)?,
            components: array(model, header.components, component_count * vector_len)?,
            component_count,
        };
        let mut numbers = loaded.means.iter().chain(loaded.components);
        if numbers.all(|number| number.is_finite()) { Ok(loaded) } else { Err(LoadError::Model) }
    }

    /// Returns how many components there are.
    #[must_use]
    pub fn component_count(&self) -> usize {
        self.component_count
    }

    pub(super) fn memory_words(&self) -> usize {
        self.component_count
    }

    pub(super) fn work(&self) -> Work {
        let weights = self.components.len() as u64;
        Work {
            float_macs: 2 * weights,
            float_operations: weights + self.means.len() as u64,
            ..Work::default()
        }
    }

    pub(super) fn start(&self, _memory: &mut [f32]) {}

    /// Replaces `vector` by the residuals of its projection, which goes into `reconstruction`.
    pub(super) fn run(
        &self,
        vector: &mut [f32],
        reconstruction: &mut [f32],
        memory: &mut [f32],
    ) -> Outcome {
        let components = self.components.chunks_exact(self.means.len());
        for (coordinate, component) in memory.iter_mut().zip(components.clone()) {
            let mut sum = 0.0;
            for ((value, mean), weight) in vector.iter().zip(self.means).zip(component) {
                sum += weight * (value - mean);
            }
            *coordinate = sum;
        }
        reconstruction.copy_from_slice(self.means);
        for (coordinate, component) in memory.iter().zip(components) {
            for (output, weight) in reconstruction.iter_mut().zip(component) {
                *output += weight * coordinate;
            }
        }
        for (value, output) in vector.iter_mut().zip(&*reconstruction) {
            *value -= output;
        }
        Outcome::Residuals
    }
}
