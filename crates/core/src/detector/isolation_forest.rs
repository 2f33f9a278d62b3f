use super::format::isolation_forest::IsolationForestHeader;
use super::trees::Trees;
use super::{LoadError, Outcome, Work, array};

/// Mean depth at which random trees isolate a vector (Liu, Ting and Zhou 2008, "Isolation Forest"):
/// the score is 2^(-E[h(x)] / c(ψ)), near 1 for what few splits isolate and below 0.5 for what is
/// among many.
#[derive(Clone, Copy, Debug)]
pub struct IsolationForest<'d> {
    trees: Trees<'d>,
    gain: f32,
}

impl<'d> IsolationForest<'d> {
    /// Reads a model as a detector file holds it, and checks that running it cannot fail.
    ///
    /// # Errors
    /// What is wrong with the model.
    pub fn load(model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        let header_bytes = array::<u8>(model, 0, size_of::<IsolationForestHeader>())?;
        let header: &IsolationForestHeader = bytemuck::from_bytes(header_bytes);
        let trees = Trees::load(model, &header.trees, vector_len, 1)?;
        let deepest = trees.records().filter_map(|record| record.first()).max();
        let deepest = deepest.map_or(0, |depth| u64::from(*depth));
        let sum_fits = u32::try_from(deepest * trees.tree_count() as u64).is_ok();
        if sum_fits && header.gain.is_finite() && header.gain <= 0.0 {
            Ok(Self { trees, gain: header.gain })
        } else {
            Err(LoadError::Model)
        }
    }

    /// Returns how many trees it has.
    #[must_use]
    pub fn tree_count(&self) -> usize {
        self.trees.tree_count()
    }

    /// Returns the words of memory that a score needs.
    #[must_use]
    pub fn memory_words(&self) -> usize {
        self.trees.vector_len()
    }

    /// Counts what a run computes on average.
    pub(super) fn work(&self) -> Work {
        let exponential = Work { float_operations: 1, float_functions: 1, ..Work::default() };
        self.trees.work() + exponential
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

    /// Returns the score of a scaled feature vector, 0 to 1; `memory` has [`Self::memory_words`] words.
    #[must_use]
    pub fn score(&self, vector: &[f32], memory: &mut [u32]) -> f32 {
        self.trees.rank(vector, memory);
        let mut depth = 0_u32;
        self.trees.each_leaf(memory, |record| {
            for level in record {
                depth = depth.wrapping_add(*level);
            }
        });
        libm::exp2f(self.gain * depth as f32)
    }
}
