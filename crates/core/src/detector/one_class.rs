use bytemuck::from_bytes;

use super::format::one_class::OneClassHeader;
use super::{LoadError, Outcome, Work, array};
use crate::limits::ONE_CLASS_FEATURES_MAX;

/// Steps of a scaled feature from 0 to 1.
const STEPS: f32 = 1_024.0;

/// A one-class SVM (Schölkopf et al. 2001, "Estimating the support of a high-dimensional
/// distribution") over random Fourier features (Rahimi and Recht 2007, "Random features for
/// large-scale kernel machines"): s(x) = Σ aⱼ cos(wⱼ·x + bⱼ) stands for the sum Σ αᵢ K(xᵢ, x) over
/// the support vectors, so that the chip needs none of them.
///
/// The score is 1 - s(x) / max s of normal vectors: about 0 for the most usual vector and 1 for one
/// that is like none, as is every vector longer than a radius. The directions are small whole numbers, and an angle is a whole number that
/// wraps with the turn: up to the cosine all is exact, and a multiplication and an addition of
/// integers for each number.
#[derive(Clone, Copy, Debug)]
pub struct OneClass<'d> {
    /// `[feature_count][vector_len]`.
    directions: &'d [i8],
    phases: &'d [u32],
    weights: &'d [f32],
    shift: u32,
    gain: f32,
    radius: f32,
    vector_len: usize,
}

impl<'d> OneClass<'d> {
    /// Reads a model as a detector file holds it, and checks that running it cannot fail.
    ///
    /// # Errors
    /// What is wrong with the model.
    pub fn load(model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        let header_len = size_of::<OneClassHeader>();
        let header: &OneClassHeader = from_bytes(array::<u8>(model, 0, header_len)?);
        let count = header.feature_count as usize;
        if !(1..=ONE_CLASS_FEATURES_MAX).contains(&count) || header.shift >= u32::BITS {
            return Err(LoadError::Model);
        }
        let loaded = Self {
            directions: array(model, header.directions, count * vector_len)?,
            phases: array(model, header.phases, count)?,
            weights: array(model, header.weights, count)?,
            shift: header.shift,
            gain: header.gain,
            radius: header.radius,
            vector_len,
        };
        let is_legal = |number: f32| number.is_finite() && number > 0.0;
        if is_legal(header.gain)
            && is_legal(header.radius)
            && loaded.weights.iter().all(|weight| weight.is_finite())
        {
            Ok(loaded)
        } else {
            Err(LoadError::Model)
        }
    }

    /// Returns how many random features it has.
    #[must_use]
    pub fn feature_count(&self) -> usize {
        self.weights.len()
    }

    /// Returns the words of memory that a score needs.
    #[must_use]
    pub fn memory_words(&self) -> usize {
        self.vector_len
    }

    /// Counts what a run computes on average.
    pub(super) fn work(&self) -> Work {
        let features = self.weights.len() as u64;
        Work {
            integer_steps: self.directions.len() as u64 + 6 * features,
            float_macs: features + self.vector_len as u64,
            float_operations: 3 * self.vector_len as u64 + features + 2,
            ..Work::default()
        }
    }

    pub(super) fn start(&self, _memory: &mut [f32]) {}

    pub(super) fn run(
        &self,
        vector: &mut [f32],
        reconstruction: &mut [f32],
        memory: &mut [f32],
    ) -> Outcome {
        reconstruction.copy_from_slice(vector);
        Outcome::Score(self.score(vector, bytemuck::cast_slice_mut(memory)))
    }

    /// Returns the score of a scaled feature vector; `memory` has [`Self::memory_words`] words.
    #[must_use]
    pub fn score(&self, vector: &[f32], memory: &mut [i32]) -> f32 {
        let mut square = 0.0;
        for value in vector {
            square += value * value;
        }
        // Far away random features are noise, where the kernel is 0.
        if square > self.radius * self.radius {
            return 1.0;
        }
        Self::quantise(vector, memory);
        let mut similarity = 0.0;
        let directions = self.directions.chunks_exact(self.vector_len);
        for ((direction, phase), weight) in directions.zip(self.phases).zip(self.weights) {
            similarity += weight * Self::random_feature(memory, direction, self.shift, *phase);
        }
        1.0 - similarity * self.gain
    }

    /// Writes a scaled feature vector in steps of 1 / 1,024, rounded, halves away from 0.
    pub fn quantise(vector: &[f32], output: &mut [i32]) {
        for (output, value) in output.iter_mut().zip(vector) {
            let steps = value * STEPS;
            // The cast saturates; half a step more makes it round.
            *output = (if steps < 0.0 { steps - 0.5 } else { steps + 0.5 }) as i32;
        }
    }

    /// Returns cos(w·x + b) of a vector in steps, as [`OneClass::quantise`] writes it.
    #[must_use]
    pub fn random_feature(vector: &[i32], direction: &[i8], shift: u32, phase: u32) -> f32 {
        let mut sum = 0_i32;
        for (value, step) in vector.iter().zip(direction) {
            sum = sum.wrapping_add(value.wrapping_mul(i32::from(*step)));
        }
        cosine((sum as u32).wrapping_shl(shift).wrapping_add(phase))
    }
}

/// Returns the cosine of an angle in units of 2^-32 of a turn, right to 4e-6.
///
/// With t = 1 - |angle| / a quarter turn it is sin(πt/2), a polynomial of t in whole numbers of
/// 30 binary places (the Taylor series up to t⁹).
#[must_use]
fn cosine(angle: u32) -> f32 {
    const ONE: i64 = 1 << 30;
    // π/2, (π/2)³/3!, (π/2)⁵/5!, (π/2)⁷/7!, (π/2)⁹/9! times 2^30.
    const SERIES: [i64; 5] = [1_686_629_713, 693_598_668, 85_569_306, 5_026_995, 172_272];
    let t = ONE - i64::from((angle as i32).unsigned_abs());
    let square = (t * t) >> 30;
    let [first, third, fifth, seventh, ninth] = SERIES;
    let mut sum = ninth;
    for term in [seventh, fifth, third, first] {
        sum = term - ((sum * square) >> 30);
    }
    ((sum * t) >> 30) as f32 * (1.0 / ONE as f32)
}

#[cfg(test)]
mod tests {
    use super::cosine;

    #[test]
    fn the_cosine_is_that_of_libm() {
        for step in 0..=4_096_u32 {
            let angle = step.wrapping_mul(1 << 20).wrapping_add(step * 77);
            let turns = f64::from(angle) / 4_294_967_296.0;
            let expected = libm::cos(2.0 * core::f64::consts::PI * turns);
            let found = f64::from(cosine(angle));
            assert!((found - expected).abs() < 4.0e-6, "{turns}: {found}, not {expected}");
        }
    }
}
