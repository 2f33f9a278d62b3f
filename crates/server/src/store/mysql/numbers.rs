//! Which messages of a session are stored: runs of sequence numbers.
//!
//! Several gateways write for one device, and one of them may keep older messages in its spool
//! while another stores newer ones. A window below the highest number would take those for
//! duplicates and lose them, so that the gaps themselves are remembered.

use crate::limits::{SEQUENCE_RUNS_MAX, SEQUENCE_WINDOW};
use crate::store::window::Arrival;

/// A set of sequence numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    /// First and last number of each run, ascending, with gaps between them; never empty.
    runs: Vec<(u32, u32)>,
}

impl Numbers {
    /// Starts with the first number that came in.
    pub(super) fn starting_at(sequence: u32) -> Self {
        Self { runs: vec![(sequence, sequence)] }
    }

    /// Takes what was stored; `None` if it is no such set.
    pub(super) fn from_runs(runs: Vec<(u32, u32)>) -> Option<Self> {
        let ordered = runs.iter().all(|run| run.0 <= run.1)
            && runs.windows(2).all(|pair| pair[0].1 < pair[1].0.saturating_sub(1));
        (ordered && !runs.is_empty()).then_some(Self { runs })
    }

    /// Returns what is to be stored.
    pub(super) fn runs(&self) -> &[(u32, u32)] {
        &self.runs
    }

    fn highest(&self) -> u32 {
        self.runs.last().map_or(0, |run| run.1)
    }

    /// Notes a number and tells how it relates to the others. One far below the highest counts as
    /// stored: a device has far fewer messages in flight. One that a gateway has `acknowledged`
    /// without storing it is new unless it is in the set.
    pub(super) fn note(&mut self, sequence: u32, acknowledged: bool) -> Arrival {
        let highest = self.highest();
        let old = sequence < highest && highest - sequence > SEQUENCE_WINDOW;
        if self.contains(sequence) || (old && !acknowledged) {
            return Arrival::Duplicate;
        }
        self.insert(sequence);
        if sequence > highest { Arrival::Newest } else { Arrival::Late }
    }

    fn contains(&self, sequence: u32) -> bool {
        let after = self.runs.partition_point(|run| run.0 <= sequence);
        after > 0 && self.runs[after - 1].1 >= sequence
    }

    fn insert(&mut self, sequence: u32) {
        let at = self.runs.partition_point(|run| run.0 < sequence);
        let joins_before = at > 0 && self.runs[at - 1].1.checked_add(1) == Some(sequence);
        let joins_after =
            self.runs.get(at).is_some_and(|run| sequence.checked_add(1) == Some(run.0));
        match (joins_before, joins_after) {
            (true, true) => {
                self.runs[at - 1].1 = self.runs[at].1;
                self.runs.remove(at);
            }
            (true, false) => self.runs[at - 1].1 = sequence,
            (false, true) => self.runs[at].0 = sequence,
            (false, false) => self.runs.insert(at, (sequence, sequence)),
        }
        if self.runs.len() > SEQUENCE_RUNS_MAX {
            self.runs[1].0 = self.runs[0].0;
            self.runs.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// As long as there are few gaps, what gateways acknowledged is told apart as a set would.
        #[test]
        fn equals_a_set(sequences in prop::collection::vec(0_u32..120, 1..300)) {
            let mut set = HashSet::from([60]);
            let mut numbers = Numbers::starting_at(60);
            for sequence in sequences {
                let highest = set.iter().max().copied().unwrap_or(0);
                let expected = match (set.insert(sequence), sequence > highest) {
                    (false, _) => Arrival::Duplicate,
                    (true, true) => Arrival::Newest,
                    (true, false) => Arrival::Late,
                };
                prop_assert_eq!(numbers.note(sequence, true), expected);
                let same = Numbers::from_runs(numbers.runs().to_vec());
                prop_assert_eq!(same.as_ref(), Some(&numbers));
            }
        }
    }

    #[test]
    fn old_numbers_are_new_only_from_a_spool() {
        let mut numbers = Numbers::starting_at(1_000);
        assert_eq!(numbers.note(3, false), Arrival::Duplicate);
        assert_eq!(numbers.note(1_000 - SEQUENCE_WINDOW, false), Arrival::Late);
        assert_eq!(numbers.note(3, true), Arrival::Late);
        assert_eq!(numbers.note(3, true), Arrival::Duplicate);
        assert_eq!(numbers.note(u32::MAX, true), Arrival::Newest);
        assert_eq!(numbers.note(0, true), Arrival::Late);
        assert_eq!(numbers.note(u32::MAX, true), Arrival::Duplicate);
    }

    #[test]
    fn the_oldest_gap_counts_as_filled_when_there_are_too_many() {
        let mut numbers = Numbers::starting_at(0);
        for sequence in 1..=SEQUENCE_RUNS_MAX as u32 {
            assert_eq!(numbers.note(sequence * 2, true), Arrival::Newest);
        }
        assert_eq!(numbers.runs().len(), SEQUENCE_RUNS_MAX);
        assert_eq!(numbers.note(1, true), Arrival::Duplicate);
        assert_eq!(numbers.note(3, true), Arrival::Late);
    }
}
