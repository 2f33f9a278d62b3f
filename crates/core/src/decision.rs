//! The decision: from scores to a verdict that does not flicker.

use crate::limits::DECISION_WINDOWS_MAX;

/// Normal, or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// The windows fit what the detector learned.
    #[default]
    Normal,
    /// They do not.
    Anomaly,
}

/// When a run of scores becomes an anomaly, and when it ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecisionRule {
    /// A score above this speaks for an anomaly.
    pub threshold: f32,
    /// A score at or below this speaks for the end of an anomaly; at most the threshold.
    pub clear_level: f32,
    /// An anomaly begins when this many (k) ...
    pub raise_count: u8,
    /// ... of the last this many (n) scores speak for it.
    pub raise_of: u8,
    /// It ends when this many scores in a row speak for the end.
    pub clear_count: u8,
}

impl DecisionRule {
    /// Tells whether the rule can be followed: `1 <= k <= n <= 32`, levels finite and in order.
    #[must_use]
    pub fn is_legal(&self) -> bool {
        self.threshold.is_finite()
            && self.clear_level.is_finite()
            && self.clear_level <= self.threshold
            && (1..=self.raise_of).contains(&self.raise_count)
            && usize::from(self.raise_of) <= DECISION_WINDOWS_MAX
            && self.clear_count >= 1
    }
}

/// The decision's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The last scores, newest in bit 0: 1 for above the threshold.
    above: u32,
    /// How many scores in a row spoke for the end.
    calm: u8,
    verdict: Verdict,
}

impl Decision {
    /// Takes a score in and returns the verdict that holds now.
    pub fn push(&mut self, rule: &DecisionRule, score: f32) -> Verdict {
        let mask = u32::MAX >> (u32::BITS - u32::from(rule.raise_of).clamp(1, u32::BITS));
        self.above = (self.above << 1 | u32::from(score > rule.threshold)) & mask;
        match self.verdict {
            Verdict::Normal => {
                if self.above.count_ones() >= u32::from(rule.raise_count) {
                    self.verdict = Verdict::Anomaly;
                    self.calm = 0;
                }
            }
            Verdict::Anomaly => {
                self.calm = if score <= rule.clear_level { self.calm.saturating_add(1) } else { 0 };
                if self.calm >= rule.clear_count {
                    *self = Self::default();
                }
            }
        }
        self.verdict
    }

    /// Returns the verdict that holds now.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }
}
