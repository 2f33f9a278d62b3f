mod discord;
mod level;
mod prediction;
mod record;

use bytemuck::from_bytes;

use self::discord::Discord;
use self::level::Level;
use self::prediction::Prediction;
use super::format::learner::{ExpertEntry, LearnerHeader};
use super::{LoadError, Outcome, Work, array};
use crate::limits::{
    LEARNER_BLOCK_LEN_MAX, LEARNER_EXPERTS_MAX, LEARNER_HISTORY_LEN_MAX, LEARNER_LEN_MAX,
    LEARNER_MEMORY_WORDS_MAX, LEARNER_ORDER_MAX,
};

/// What the learner itself remembers: the ratio that holds others back, how long it still does, and
/// how many vectors it has seen.
const COMMON_WORDS: usize = 3;
/// The greatest ratio, so that what is computed from it stays finite.
const RATIO_MAX: f32 = 1.0e6;

/// A model that keeps learning on the device, from the first vector on, in memory that does not grow.
///
/// Experts watch each number of the vector on their own. Each turns it into a residual: how far it
/// lies from its running mean ([`Level`]), from what its past predicts ([`Prediction`]), or from the
/// most similar stretch of the past ([`Discord`]). What makes a residual large differs from signal to
/// signal, so that each is compared with the greatest of its kind so far, which fades with a half-life:
/// a record breaks it. The score is the ratio of the most surprised expert's residual to its record, and
/// so means the same for every signal: above 1 is what was not seen before. This is an empirical tail in the manner of Lavin and Ahmad
/// (2015, "Evaluating real-time anomaly detection algorithms", section III), whose likelihood compares
/// an error with the distribution of past errors, without assuming that these are normal.
///
/// An anomaly rarely comes as one vector: for `hold_len` vectors after a score, only a considerably
/// higher one is above 1: one higher by `hold_factor`. That is the score too while nothing is known yet,
/// so that a threshold from a short recording lies there.
#[derive(Clone, Copy, Debug)]
pub struct Learner<'d> {
    header: &'d LearnerHeader,
    experts: &'d [ExpertEntry],
    vector_len: usize,
    /// Words that the experts of one number need.
    stride: usize,
}

/// An expert with its settings checked.
#[derive(Clone, Copy, Debug)]
enum Expert {
    Level(Level),
    Prediction(Prediction),
    Discord(Discord),
}

impl Expert {
    fn of(entry: &ExpertEntry) -> Option<Self> {
        let in_blocks = 1..=LEARNER_BLOCK_LEN_MAX;
        let lens = 1.0..=LEARNER_LEN_MAX as f32;
        let legal = in_blocks.contains(&entry.block_len)
            && lens.contains(&entry.smoothing_len)
            && entry.fading > 0.0
            && entry.fading <= 1.0
            && (0.0..=1.0).contains(&entry.other_side);
        let len = entry.len as usize;
        let history_len = entry.history_len as usize;
        match entry.kind {
            1 if legal && entry.block_len == 1 && (1..=LEARNER_LEN_MAX).contains(&entry.len) => {
                Some(Self::Level(Level::new(entry)))
            }
            2 if legal
                && (1..=LEARNER_ORDER_MAX).contains(&len)
                && entry.forgetting > 0.5
                && entry.forgetting <= 1.0 =>
            {
                Some(Self::Prediction(Prediction::new(entry)))
            }
            3 if legal
                && len >= 1
                && history_len <= LEARNER_HISTORY_LEN_MAX
                && history_len / 3 >= len =>
            {
                Some(Self::Discord(Discord::new(entry)))
            }
            _ => None,
        }
    }

    fn memory_words(&self) -> usize {
        match self {
            Self::Level(_) => Level::MEMORY_WORDS,
            Self::Prediction(expert) => expert.memory_words(),
            Self::Discord(expert) => expert.memory_words(),
        }
    }

    fn work(&self) -> Work {
        match self {
            Self::Level(_) => Level::WORK,
            Self::Prediction(expert) => expert.work(),
            Self::Discord(expert) => expert.work(),
        }
    }

    fn start(&self, memory: &mut [f32]) {
        if let Self::Prediction(expert) = self {
            expert.start(memory);
        }
    }

    /// Takes a number in and returns the ratio of its residual to the record.
    fn run(&self, value: f32, memory: &mut [f32]) -> f32 {
        match self {
            Self::Level(expert) => expert.run(value, memory),
            Self::Prediction(expert) => expert.run(value, memory),
            Self::Discord(expert) => expert.run(value, memory),
        }
    }
}

impl<'d> Learner<'d> {
    pub(super) fn load(model: &'d [u8], vector_len: usize) -> Result<Self, LoadError> {
        let header: &LearnerHeader = from_bytes(array::<u8>(model, 0, size_of::<LearnerHeader>())?);
        let count = header.expert_count as usize;
        if !(1..=LEARNER_EXPERTS_MAX).contains(&count) {
            return Err(LoadError::Model);
        }
        let experts: &[ExpertEntry] = array(model, header.experts, count)?;
        let mut stride = 0;
        for entry in experts {
            stride += Expert::of(entry).ok_or(LoadError::Model)?.memory_words();
        }
        let room = (LEARNER_MEMORY_WORDS_MAX - COMMON_WORDS) / vector_len.max(1);
        let legal = stride <= room
            && header.hold_factor >= 1.0
            && header.hold_factor <= RATIO_MAX
            && header.warm_up <= LEARNER_LEN_MAX
            && header.hold_len <= LEARNER_LEN_MAX;
        if legal { Ok(Self { header, experts, vector_len, stride }) } else { Err(LoadError::Model) }
    }

    pub(super) fn memory_words(&self) -> usize {
        COMMON_WORDS + self.vector_len * self.stride
    }

    /// Counts what a run computes on average; what a discord leaves out because a stretch is already
    /// too far away is counted as if it did not.
    pub(super) fn work(&self) -> Work {
        let one = self.experts().fold(Work::default(), |sum, expert| sum + expert.work());
        one * self.vector_len as u64 + Work { float_operations: 8, ..Work::default() }
    }

    fn experts(&self) -> impl Iterator<Item = Expert> + use<'d> {
        // All of them are legal: checked when the model was loaded.
        self.experts.iter().filter_map(Expert::of)
    }

    pub(super) fn start(&self, memory: &mut [f32]) {
        let (_, memory) = memory.split_at_mut(COMMON_WORDS);
        for mut of_number in memory.chunks_exact_mut(self.stride) {
            for expert in self.experts() {
                let (words, rest) = of_number.split_at_mut(expert.memory_words());
                expert.start(words);
                of_number = rest;
            }
        }
    }

    /// Scores `vector`, learns from it and writes the running mean of each number, or where no expert
    /// keeps one the number itself, into `reconstruction`.
    pub(super) fn run(
        &self,
        vector: &mut [f32],
        reconstruction: &mut [f32],
        memory: &mut [f32],
    ) -> Outcome {
        let (common, memory) = memory.split_at_mut(COMMON_WORDS);
        let mut greatest = 0.0_f32;
        let numbers = vector.iter().zip(reconstruction).zip(memory.chunks_exact_mut(self.stride));
        for ((value, expected), mut of_number) in numbers {
            *expected = *value;
            for expert in self.experts() {
                let (words, rest) = of_number.split_at_mut(expert.memory_words());
                of_number = rest;
                if let Expert::Level(_) = expert {
                    *expected = Level::mean(words);
                }
                let ratio = expert.run(*value, words);
                // The order of the comparison leaves NaN out.
                if ratio > greatest {
                    greatest = ratio;
                }
            }
        }
        Outcome::Score(self.score(greatest.min(RATIO_MAX), common))
    }

    fn score(&self, ratio: f32, common: &mut [f32]) -> f32 {
        let [held, hold_left, seen] = common else {
            return 0.0;
        };
        // Counted in single precision, which is exact this far.
        if *seen < self.header.warm_up as f32 {
            *seen += 1.0;
            return self.header.hold_factor;
        }
        if *hold_left > 0.0 {
            *hold_left -= 1.0;
        } else {
            *held = 0.0;
        }
        if ratio <= *held * self.header.hold_factor {
            return ratio.min(1.0);
        }
        *held = ratio;
        *hold_left = self.header.hold_len as f32;
        ratio
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;
    use std::vec::Vec;

    use super::*;

    /// A model with one expert of each kind, as the words of the file.
    fn model() -> Vec<u32> {
        let header = LearnerHeader {
            warm_up: 5,
            hold_len: 3,
            hold_factor: 1.1,
            expert_count: 3,
            experts: size_of::<LearnerHeader>() as u32,
        };
        let level = ExpertEntry {
            kind: 1,
            block_len: 1,
            len: 20,
            history_len: 0,
            smoothing_len: 2.0,
            forgetting: 1.0,
            fading: 0.99,
            other_side: 0.5,
        };
        let prediction = ExpertEntry { kind: 2, block_len: 2, len: 3, forgetting: 0.99, ..level };
        let discord = ExpertEntry { kind: 3, block_len: 2, len: 4, history_len: 20, ..level };
        let mut words = bytemuck::cast_slice(&[header]).to_vec();
        words.extend_from_slice(bytemuck::cast_slice(&[level, prediction, discord]));
        words
    }

    fn run(learner: &Learner<'_>, vector_len: usize) {
        let mut memory = vec![0.0; learner.memory_words()];
        learner.start(&mut memory);
        let mut reconstruction = vec![0.0; vector_len];
        for row in 0..300_u32 {
            let value = (row.wrapping_mul(2_654_435_761) >> 16) as f32 - 30_000.0;
            let mut vector = vec![value; vector_len];
            let outcome = learner.run(&mut vector, &mut reconstruction, &mut memory);
            assert!(matches!(outcome, Outcome::Score(score) if score.is_finite()));
            assert!(reconstruction.iter().all(|value| value.is_finite()));
        }
    }

    #[test]
    fn a_model_is_refused_or_runs() {
        let sound = model();
        run(&Learner::load(bytemuck::cast_slice(&sound), 2).unwrap(), 2);
        let values = [0, 1, 2, 3, 64, 65_537, u32::MAX, f32::NAN.to_bits(), (-1.0_f32).to_bits()];
        let mut refused = 0;
        for place in 0..sound.len() {
            for value in values {
                let mut words = sound.clone();
                words[place] = value;
                match Learner::load(bytemuck::cast_slice(&words), 1) {
                    Ok(learner) => run(&learner, 1),
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(refused > values.len() * sound.len() / 3, "{refused}");
        for len in 0..sound.len() {
            assert!(Learner::load(bytemuck::cast_slice(&sound[..len]), 1).is_err());
        }
    }

    #[test]
    fn memory_is_bounded() {
        let sound = model();
        assert!(Learner::load(bytemuck::cast_slice(&sound), LEARNER_MEMORY_WORDS_MAX).is_err());
    }

    #[test]
    fn a_score_holds_lower_ones_back() {
        let words = model();
        let learner = Learner::load(bytemuck::cast_slice(&words), 1).unwrap();
        let mut common = [0.0, 0.0, 5.0];
        let mut score = |ratio| learner.score(ratio, &mut common);
        assert_eq!((score(2.0), score(2.3)), (2.0, 2.3));
        // Neither is more than a tenth higher, and that within three vectors.
        assert_eq!((score(2.5), score(0.5), score(2.4)), (1.0, 0.5, 1.0));
        assert_eq!(score(2.1), 2.1);
    }
}
