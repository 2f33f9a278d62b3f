//! How far the latest stretch lies from the most similar one of the past.

use super::super::Work;
use super::super::format::learner::ExpertEntry;
use super::record::{Blocks, Record};

const BLOCKS: usize = Record::MEMORY_WORDS;
const FILLED: usize = BLOCKS + Blocks::MEMORY_WORDS;
const HISTORY: usize = FILLED + 1;

/// The distance of the last `len` block means from the nearest stretch of as many that lies wholly
/// before them: a time series discord (Keogh, Lin and Fu 2005, "HOT SAX: efficiently finding the most
/// unusual time series subsequence"), looking back only, in a history of fixed length. A distance is
/// given up as soon as it exceeds the least so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Discord {
    blocks: Blocks,
    record: Record,
    len: usize,
    history_len: usize,
}

impl Discord {
    pub(super) fn new(entry: &ExpertEntry) -> Self {
        Self {
            blocks: Blocks { len: entry.block_len },
            record: Record { fading: entry.fading, other_side: entry.other_side },
            len: entry.len as usize,
            history_len: entry.history_len as usize,
        }
    }

    pub(super) fn memory_words(self) -> usize {
        HISTORY + self.history_len
    }

    pub(super) fn work(self) -> Work {
        let blocks = u64::from(self.blocks.len);
        let pairs = (self.history_len - 2 * self.len + 1) as u64 * self.len as u64;
        Work {
            float_macs: pairs.div_ceil(blocks),
            float_operations: 1 + (2 * pairs + 8).div_ceil(blocks),
            float_divisions: 2,
            float_functions: 1,
            integer_steps: (self.history_len as u64).div_ceil(blocks),
            ..Work::default()
        }
    }

    pub(super) fn run(self, value: f32, memory: &mut [f32]) -> f32 {
        let (common, history) = memory.split_at_mut(HISTORY);
        let (record, common) = common.split_at_mut(BLOCKS);
        let (blocks, filled) = common.split_at_mut(FILLED - BLOCKS);
        let (Some(mean), Some(filled)) = (self.blocks.push(value, blocks), filled.first_mut())
        else {
            return 0.0;
        };
        let mut count = *filled as usize;
        if count >= self.history_len {
            history.copy_within(1.., 0);
            count = self.history_len - 1;
        }
        if let Some(place) = history.get_mut(count) {
            *place = mean;
        }
        count += 1;
        *filled = count as f32;
        let known = history.get(..count).unwrap_or_default();
        match self.nearest(known) {
            Some(squares) => {
                let distance = libm::sqrtf(squares / self.len as f32);
                self.record.ratio(distance, record)
            }
            None => 0.0,
        }
    }

    /// Returns the least sum of squared differences; none while the past is too short.
    fn nearest(self, known: &[f32]) -> Option<f32> {
        // One stretch of the past alone says nothing.
        if known.len() <= 2 * self.len {
            return None;
        }
        let (past, latest) = known.split_at(known.len() - self.len);
        let mut least = f32::MAX;
        for stretch in past.windows(self.len).rev() {
            let mut squares = 0.0;
            for (a, b) in stretch.iter().zip(latest).rev() {
                squares += (a - b) * (a - b);
                if squares >= least {
                    break;
                }
            }
            if squares < least {
                least = squares;
            }
        }
        Some(least)
    }
}
