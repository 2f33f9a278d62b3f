//! The model that keeps learning on the device: nothing is fitted here, its experts are laid out.

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use stonechat_core::detector::EngineKind;
use stonechat_core::detector::format::learner::{ExpertEntry, LearnerHeader};
use stonechat_core::limits::{
    LEARNER_BLOCK_LEN_MAX, LEARNER_EXPERTS_MAX, LEARNER_HISTORY_LEN_MAX, LEARNER_LEN_MAX,
    LEARNER_ORDER_MAX,
};

use super::{Fit, FitError, FittedModel, Progress, TrainingData};
use crate::compile::{Model, append, number};

/// How the online learner watches. Lengths count feature vectors, or blocks where an expert has a
/// `block_len`.
///
/// The defaults are those of the Numenta Anomaly Benchmark, whose streams have mostly five minutes
/// from value to value, so that a block of 12 is an hour and a pattern of 24 blocks a day. A
/// detector with this engine should raise an alarm with one score (`raise` 1 of 1): a score holds the
/// next ones back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnerOptions {
    /// Vectors that are learned from before the first score.
    pub warm_up: u32,
    /// Vectors for which a score holds back lower ones.
    pub hold_len: u32,
    /// Within them, a score is above 1 only if it is greater by this factor; at least 1.
    pub hold_factor: f32,
    /// Bytes of memory into which histories are cut to fit, where there are many numbers to watch.
    pub memory_bytes_max: u32,
    /// What watches each number of the vector.
    pub experts: Vec<Expert>,
}

/// One way to be surprised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Expert {
    /// How far a fast mean lies from a slow mean.
    Level {
        /// Values of the fast mean; 1 takes each as it is.
        fast_len: u32,
        /// Values of the slow mean.
        slow_len: u32,
        /// Values after which a record counts half.
        half_life: f32,
        /// The share of a record of the other sign that counts, 0 to 1.
        other_side: f32,
    },
    /// How far a block lies from what an autoregressive model predicts.
    Prediction {
        /// Values in a block.
        block_len: u32,
        /// Blocks that the prediction rests on.
        order: u32,
        /// Errors over which the mean is taken.
        smoothing_len: f32,
        /// The weight that is left of a block after the next.
        forgetting: f32,
        /// Values after which a record counts half.
        half_life: f32,
        /// The share of a record of the other sign that counts, 0 to 1.
        other_side: f32,
    },
    /// How far a stretch lies from the most similar one before.
    Discord {
        /// Values in a block.
        block_len: u32,
        /// Blocks in a stretch.
        pattern_len: u32,
        /// Blocks remembered.
        history_len: u32,
        /// Values after which a record counts half.
        half_life: f32,
    },
}

impl Default for LearnerOptions {
    fn default() -> Self {
        let discord = |pattern_len| Expert::Discord {
            block_len: 12,
            pattern_len,
            history_len: 1_500,
            half_life: 5_000.0,
        };
        Self {
            warm_up: 150,
            hold_len: 100,
            hold_factor: 1.1,
            memory_bytes_max: 64 * 1024,
            experts: vec![
                Expert::Level { fast_len: 1, slow_len: 200, half_life: 20_000.0, other_side: 0.0 },
                Expert::Level {
                    fast_len: 1,
                    slow_len: 4_000,
                    half_life: 10_000.0,
                    other_side: 0.5,
                },
                Expert::Prediction {
                    block_len: 12,
                    order: 12,
                    smoothing_len: 4.0,
                    forgetting: 0.9995,
                    half_life: 20_000.0,
                    other_side: 0.5,
                },
                discord(24),
                discord(36),
            ],
        }
    }
}

impl Fit for LearnerOptions {
    fn fit(
        &self,
        data: &TrainingData<'_>,
        _progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError> {
        self.check()?;
        Ok(self.encode(data.rows.width()).into())
    }
}

impl LearnerOptions {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`FitError::Option`] names the first one outside its range.
    pub fn check(&self) -> Result<(), FitError> {
        let len_max = f64::from(LEARNER_LEN_MAX);
        within("warm_up", self.warm_up.into(), 0.0, len_max, "from 0 to 2^23")?;
        within("hold_len", self.hold_len.into(), 0.0, len_max, "from 0 to 2^23")?;
        within("hold_factor", self.hold_factor.into(), 1.0, 1.0e6, "from 1 to 1e6")?;
        let experts_max = LEARNER_EXPERTS_MAX as f64;
        within("the number of experts", self.experts.len() as f64, 1.0, experts_max, "1 to 16")?;
        self.experts.iter().try_for_each(Expert::check)
    }

    /// Lays the model out for the detector file, for feature vectors of a length.
    #[must_use]
    pub fn encode(&self, vector_len: usize) -> Model {
        let history_len_max = self.history_len_max(vector_len);
        let experts: Vec<ExpertEntry> =
            self.experts.iter().map(|expert| expert.entry(history_len_max)).collect();
        let mut bytes = vec![0; size_of::<LearnerHeader>()];
        let header = LearnerHeader {
            warm_up: self.warm_up,
            hold_len: self.hold_len,
            hold_factor: self.hold_factor,
            expert_count: number(experts.len()),
            experts: append(&mut bytes, &experts).offset,
        };
        bytes[..size_of::<LearnerHeader>()].copy_from_slice(bytemuck::bytes_of(&header));
        Model::new(EngineKind::Learner, bytes)
    }

    /// Returns how many blocks each discord may remember, so that all of them fit into the memory.
    fn history_len_max(&self, vector_len: usize) -> u32 {
        let words = self.memory_bytes_max as usize / size_of::<f32>() / vector_len.max(1);
        let discords = self.experts.iter().filter(|e| matches!(e, Expert::Discord { .. })).count();
        let others: usize = self.experts.iter().map(Expert::fixed_words).sum();
        number(words.saturating_sub(others) / discords.max(1))
    }
}

impl Expert {
    fn check(&self) -> Result<(), FitError> {
        let len_max = f64::from(LEARNER_LEN_MAX);
        let block = |len: u32| {
            within("block_len", len.into(), 1.0, LEARNER_BLOCK_LEN_MAX.into(), "from 1 to 65536")
        };
        let record = |half_life: f32, other_side: f32| {
            within("half_life", half_life.into(), 1.0, f64::from(f32::MAX), "at least 1")?;
            within("other_side", other_side.into(), 0.0, 1.0, "from 0 to 1")
        };
        match self {
            Self::Level { fast_len, slow_len, half_life, other_side } => {
                within("fast_len", (*fast_len).into(), 1.0, len_max, "from 1 to 2^23")?;
                within("slow_len", (*slow_len).into(), 1.0, len_max, "from 1 to 2^23")?;
                record(*half_life, *other_side)
            }
            Self::Prediction {
                block_len,
                order,
                smoothing_len,
                forgetting,
                half_life,
                other_side,
            } => {
                block(*block_len)?;
                let order_max = LEARNER_ORDER_MAX as f64;
                within("order", (*order).into(), 1.0, order_max, "from 1 to 64")?;
                within("smoothing_len", (*smoothing_len).into(), 1.0, len_max, "from 1 to 2^23")?;
                within("forgetting", (*forgetting).into(), 0.501, 1.0, "above 0.5 and at most 1")?;
                record(*half_life, *other_side)
            }
            Self::Discord { block_len, pattern_len, history_len, half_life } => {
                block(*block_len)?;
                let longest = LEARNER_HISTORY_LEN_MAX as f64;
                within("history_len", (*history_len).into(), 3.0, longest, "from 3 to 65536")?;
                let pattern_max = f64::from(history_len / 3);
                let range = "from 1 to a third of history_len";
                within("pattern_len", (*pattern_len).into(), 1.0, pattern_max, range)?;
                record(*half_life, 0.0)
            }
        }
    }

    /// Returns about how many words of memory the expert needs beside a history.
    fn fixed_words(&self) -> usize {
        match self {
            Self::Level { .. } | Self::Discord { .. } => 9,
            Self::Prediction { order, .. } => (*order as usize + 4).pow(2),
        }
    }

    fn entry(&self, history_len_max: u32) -> ExpertEntry {
        match *self {
            Self::Level { fast_len, slow_len, half_life, other_side } => ExpertEntry {
                kind: 1,
                block_len: 1,
                len: slow_len,
                history_len: 0,
                smoothing_len: fast_len as f32,
                forgetting: 1.0,
                fading: fading(half_life, 1),
                other_side,
            },
            Self::Prediction {
                block_len,
                order,
                smoothing_len,
                forgetting,
                half_life,
                other_side,
            } => ExpertEntry {
                kind: 2,
                block_len,
                len: order,
                history_len: 0,
                smoothing_len,
                forgetting,
                fading: fading(half_life, block_len),
                other_side,
            },
            Self::Discord { block_len, pattern_len, history_len, half_life } => ExpertEntry {
                kind: 3,
                block_len,
                len: pattern_len,
                history_len: history_len.min(history_len_max).max(3 * pattern_len),
                smoothing_len: 1.0,
                forgetting: 1.0,
                fading: fading(half_life, block_len),
                other_side: 0.0,
            },
        }
    }
}

/// Returns what is left of a record after one block.
fn fading(half_life: f32, block_len: u32) -> f32 {
    let left = libm::exp2(-f64::from(block_len) / f64::from(half_life)) as f32;
    left.max(f32::MIN_POSITIVE)
}

fn within(
    option: &'static str,
    value: f64,
    least: f64,
    most: f64,
    range: &'static str,
) -> Result<(), FitError> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(FitError::Option { option, value, range })
    }
}
