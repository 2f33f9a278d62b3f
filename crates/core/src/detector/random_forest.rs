use super::format::random_forest::RandomForestHeader;
use super::trees::Trees;
use super::{LoadError, Outcome, Work, array};
use crate::limits::FOREST_CLASSES_MAX;

/// A vote of classification trees (Breiman 2001, "Random Forests"), each giving its leaf's share of
/// every class, as scikit-learn's soft vote does, in integers.
///
/// The score is the share of the vote that all classes but class 0, which is normal, have together.
/// A class differs from that of the exact shares only where two classes' votes lie within the
/// rounding of the weights, half of 2^-`weight_bits` a tree.
#[derive(Clone, Copy, Debug)]
pub struct RandomForest<'d> {
    trees: Trees<'d>,
    class_count: usize,
    /// The votes of all classes together; at most 2^31.
    total: u32,
}

impl<'d> RandomForest<'d> {
    /// Reads a model as a detector file holds it, and checks that running it cannot fail.
    ///
    /// # Errors
    /// What is wrong with the model.
    pub fn load(model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        let header_bytes = array::<u8>(model, 0, size_of::<RandomForestHeader>())?;
        let header: &RandomForestHeader = bytemuck::from_bytes(header_bytes);
        let class_count = header.class_count as usize;
        if !(2..=FOREST_CLASSES_MAX).contains(&class_count) || header.weight_bits >= u32::BITS {
            return Err(LoadError::Model);
        }
        let trees = Trees::load(model, &header.trees, vector_len, class_count - 1)?;
        let weight = 1_u64 << header.weight_bits;
        let total = trees.tree_count() as u64 * weight;
        let weights_are_legal = trees
            .records()
            .all(|record| record.iter().map(|weight| u64::from(*weight)).sum::<u64>() <= weight);
        match u32::try_from(total) {
            Ok(total) if total <= 1 << 31 && weights_are_legal => {
                Ok(Self { trees, class_count, total })
            }
            _ => Err(LoadError::Model),
        }
    }

    /// Returns how many classes it tells apart.
    #[must_use]
    pub fn class_count(&self) -> usize {
        self.class_count
    }

    /// Returns how many trees vote.
    #[must_use]
    pub fn tree_count(&self) -> usize {
        self.trees.tree_count()
    }

    /// Returns the words of memory that a vote needs.
    #[must_use]
    pub fn memory_words(&self) -> usize {
        self.trees.vector_len()
    }

    /// Counts what a run computes on average.
    pub(super) fn work(&self) -> Work {
        let division = Work { float_divisions: 1, ..Work::default() };
        self.trees.work() + division
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

    /// Returns the share of the vote that speaks for an anomaly, 0 to 1.
    ///
    /// `vector` is the scaled feature vector; `memory` has [`Self::memory_words`] words, as in all
    /// functions here.
    #[must_use]
    pub fn score(&self, vector: &[f32], memory: &mut [u32]) -> f32 {
        let votes = self.votes(vector, memory);
        (self.total - votes[0]) as f32 / self.total as f32
    }

    /// Returns the class with the most votes; the first of them where several have as many.
    #[must_use]
    pub fn classify(&self, vector: &[f32], memory: &mut [u32]) -> u8 {
        let votes = self.votes(vector, memory);
        let mut best = 0;
        for (class, vote) in votes.iter().enumerate().take(self.class_count) {
            if *vote > votes[best] {
                best = class;
            }
        }
        // There are at most 16 classes.
        best as u8
    }

    /// Returns the votes of each class; those of all classes are [`Self::vote_total`] together.
    #[must_use]
    pub fn votes(&self, vector: &[f32], memory: &mut [u32]) -> [u32; FOREST_CLASSES_MAX] {
        self.trees.rank(vector, memory);
        let mut votes = [0; FOREST_CLASSES_MAX];
        if self.class_count == 2 {
            let mut anomalous = 0_u32;
            self.trees.each_leaf(memory, |record| {
                for weight in record {
                    anomalous = anomalous.wrapping_add(*weight);
                }
            });
            votes[1] = anomalous;
        } else {
            self.trees.each_leaf(memory, |record| {
                for (vote, weight) in votes[1..].iter_mut().zip(record) {
                    *vote = vote.wrapping_add(*weight);
                }
            });
        }
        votes[0] = self.total.wrapping_sub(votes.iter().sum());
        votes
    }

    /// Returns the votes of all classes together.
    #[must_use]
    pub fn vote_total(&self) -> u32 {
        self.total
    }
}
