//! How far a number, or its fast mean, lies from its slow mean.

use super::super::Work;
use super::super::format::learner::ExpertEntry;
use super::record::{Record, RunningMean};

const FAST: usize = Record::MEMORY_WORDS;
const SLOW: usize = FAST + RunningMean::MEMORY_WORDS;

/// The difference of two exponentially weighted means, as a control chart has it (Roberts 1959,
/// "Control chart tests based on geometric moving averages").
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    record: Record,
    fast: RunningMean,
    slow: RunningMean,
}

impl Level {
    pub(super) const MEMORY_WORDS: usize = SLOW + RunningMean::MEMORY_WORDS;
    pub(super) const WORK: Work = Work {
        int8_macs: 0,
        requantised: 0,
        float_macs: 2,
        float_operations: 24,
        float_divisions: 3,
        float_functions: 0,
        integer_steps: 0,
    };

    pub(super) fn new(entry: &ExpertEntry) -> Self {
        Self {
            record: Record { fading: entry.fading, other_side: entry.other_side },
            fast: RunningMean { len: entry.smoothing_len },
            slow: RunningMean { len: entry.len as f32 },
        }
    }

    /// Returns the slow mean.
    pub(super) fn mean(memory: &[f32]) -> f32 {
        memory.get(SLOW).copied().unwrap_or(0.0)
    }

    pub(super) fn run(self, value: f32, memory: &mut [f32]) -> f32 {
        let (record, means) = memory.split_at_mut(FAST);
        let (fast, slow) = means.split_at_mut(SLOW - FAST);
        self.fast.push(value, fast);
        // The slow mean as it was before the number.
        let fast_mean = fast.first().copied().unwrap_or(value);
        let residual = RunningMean::distance(fast_mean, slow);
        self.slow.push(value, slow);
        self.record.ratio(residual, record)
    }
}
