use bytemuck::from_bytes;

use super::format::covariance::MahalanobisHeader;
use super::{LoadError, Outcome, Work, array};

/// The Mahalanobis engine: how far the scaled feature vector lies from the mean of normal ones,
/// measured by their covariance Σ (Mahalanobis 1936, "On the generalised distance in statistics").
///
/// The residual is the whitened vector y = L⁻¹(x - μ) with Σ = LLᵀ, whose squares add up to the
/// squared distance d²: the rule of the root mean square then gives d / √n. The reconstruction of a
/// number is what the other numbers let expect of it, x - (Σ⁻¹(x - μ)) / diag(Σ⁻¹): the conditional
/// mean of a normal distribution (Lauritzen 1996, "Graphical Models", proposition C.5).
#[derive(Clone, Copy, Debug)]
pub struct Mahalanobis<'d> {
    means: &'d [f32],
    /// Rows of 1, 2, ... n numbers.
    whitening: &'d [f32],
    remainders: &'d [f32],
}

impl<'d> Mahalanobis<'d> {
    pub(super) fn load(model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        let header_len = size_of::<MahalanobisHeader>();
        let header: &MahalanobisHeader = from_bytes(array::<u8>(model, 0, header_len)?);
        let triangle = row_start(vector_len);
        let loaded = Self {
            means: array(model, header.means, vector_len)?,
            whitening: array(model, header.whitening, triangle)?,
            remainders: array(model, header.remainders, vector_len)?,
        };
        let mut numbers = loaded.means.iter().chain(loaded.whitening).chain(loaded.remainders);
        if numbers.all(|number| number.is_finite()) { Ok(loaded) } else { Err(LoadError::Model) }
    }

    /// One word for each number, to add up Σ⁻¹(x - μ).
    pub(super) fn memory_words(&self) -> usize {
        self.means.len()
    }

    pub(super) fn work(&self) -> Work {
        let triangle = self.whitening.len() as u64;
        Work {
            float_macs: 2 * triangle,
            float_operations: 3 * self.means.len() as u64,
            ..Work::default()
        }
    }

    pub(super) fn start(&self, _memory: &mut [f32]) {}

    /// Replaces `vector` by the whitened residuals and writes what the other numbers let expect of
    /// each into `reconstruction`.
    pub(super) fn run(
        &self,
        vector: &mut [f32],
        reconstruction: &mut [f32],
        memory: &mut [f32],
    ) -> Outcome {
        for ((value, output), mean) in vector.iter_mut().zip(&mut *reconstruction).zip(self.means) {
            *output = *value;
            *value -= mean;
        }
        // In place, for a row of the lower triangle reads no later number.
        for row in (0..vector.len()).rev() {
            let mut sum = 0.0;
            for (weight, value) in self.row(row).iter().zip(&*vector) {
                sum += weight * value;
            }
            vector[row] = sum;
        }
        // Σ⁻¹(x - μ) is the transposed triangle times the residuals, read in its order again.
        memory.fill(0.0);
        for (row, residual) in vector.iter().enumerate() {
            for (sum, weight) in memory.iter_mut().zip(self.row(row)) {
                *sum += weight * residual;
            }
        }
        let terms = memory.iter().zip(self.remainders);
        for (output, (sum, remainder)) in reconstruction.iter_mut().zip(terms) {
            *output -= remainder * sum;
        }
        Outcome::Residuals
    }

    /// Returns a row of the triangle, checked when the model was loaded.
    fn row(&self, row: usize) -> &'d [f32] {
        self.whitening.get(row_start(row)..row_start(row + 1)).unwrap_or_default()
    }
}

/// Returns how many numbers stand before a row of a packed lower triangle.
const fn row_start(row: usize) -> usize {
    row * (row + 1) / 2
}
