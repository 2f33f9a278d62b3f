use bytemuck::{cast_slice_mut, from_bytes};

use super::format::neighbour::{CODE_ABS_MAX, NeighbourHeader};
use super::{LoadError, Outcome, Work, array};
use crate::limits::NEIGHBOURS_MAX;

/// An input is clamped to this many steps, so that the squares of [`GROUP`] differences fit into 32 bits.
const INPUT_STEPS_MAX: f32 = 2.0 * CODE_ABS_MAX as f32;
/// So many squares are added before the sum is compared.
const GROUP: usize = 4;

/// The engine of the nearest neighbour: how far the scaled feature vector lies from the nearest of some
/// stored vectors of normal behaviour (Ramaswamy et al. 2000, "Efficient algorithms for mining outliers
/// from large data sets", with k = 1).
///
/// The nearest is found in whole numbers, exactly and without floating point; a candidate is given up
/// as soon as its distance exceeds the best so far. The reconstruction is the nearest stored vector and
/// the residual what differs from it.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour<'d> {
    /// `[count][vector_len]`.
    vectors: &'d [i16],
    vector_len: usize,
    scale: f32,
    steps_per_unit: f32,
}

impl<'d> Neighbour<'d> {
    pub(super) fn load(model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        let header_len = size_of::<NeighbourHeader>();
        let header: &NeighbourHeader = from_bytes(array::<u8>(model, 0, header_len)?);
        let count = header.count as usize;
        if !(1..=NEIGHBOURS_MAX).contains(&count) {
            return Err(LoadError::Model);
        }
        let vectors: &[i16] = array(model, header.vectors, count * vector_len)?;
        let steps_per_unit = 1.0 / header.scale;
        let legal = header.scale.is_finite()
            && header.scale > 0.0
            && steps_per_unit.is_finite()
            && vectors.iter().all(|code| code.unsigned_abs() <= CODE_ABS_MAX.unsigned_abs());
        if !legal {
            return Err(LoadError::Model);
        }
        Ok(Self { vectors, vector_len, scale: header.scale, steps_per_unit })
    }

    /// Returns how many vectors are stored.
    #[must_use]
    pub fn count(&self) -> usize {
        self.vectors.len() / self.vector_len
    }

    /// One word for each number of the input in steps.
    pub(super) fn memory_words(&self) -> usize {
        self.vector_len
    }

    /// On average: candidates are given up early, so that on recordings about three in eight of the
    /// stored numbers are looked at. How many depends on the data; on noise it can be all.
    pub(super) fn work(&self) -> Work {
        Work {
            // Two loads, a difference and a product each.
            integer_steps: self.vectors.len() as u64 * 3 / 8,
            float_operations: 5 * self.vector_len as u64,
            ..Work::default()
        }
    }

    pub(super) fn start(&self, _memory: &mut [f32]) {}

    /// Writes the nearest stored vector into `reconstruction` and replaces `vector` by what differs.
    pub(super) fn run(
        &self,
        vector: &mut [f32],
        reconstruction: &mut [f32],
        memory: &mut [f32],
    ) -> Outcome {
        let input: &mut [i32] = cast_slice_mut(memory);
        for (steps, value) in input.iter_mut().zip(&*vector) {
            let scaled = value * self.steps_per_unit;
            *steps = libm::roundf(scaled.clamp(-INPUT_STEPS_MAX, INPUT_STEPS_MAX)) as i32;
        }
        let mut nearest: &[i16] = &[];
        let mut least = u64::MAX;
        for stored in self.vectors.chunks_exact(self.vector_len) {
            let distance = squared_distance(input, stored, least);
            if distance < least {
                least = distance;
                nearest = stored;
            }
        }
        for ((value, output), code) in vector.iter_mut().zip(reconstruction).zip(nearest) {
            *output = f32::from(*code) * self.scale;
            *value -= *output;
        }
        Outcome::Residuals
    }
}

/// Adds the squares of the differences, until the sum is no longer below `limit`.
fn squared_distance(input: &[i32], stored: &[i16], limit: u64) -> u64 {
    let mut sum = 0_u64;
    for (input, stored) in input.chunks(GROUP).zip(stored.chunks(GROUP)) {
        let mut part = 0_u32;
        for (steps, code) in input.iter().zip(stored) {
            let difference = (steps - i32::from(*code)).unsigned_abs();
            // Four times at most (3 * 8,191)^2: below 2^32.
            part += difference * difference;
        }
        sum += u64::from(part);
        if sum >= limit {
            break;
        }
    }
    sum
}
