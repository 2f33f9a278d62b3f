//! Which messages of a session have been stored: the highest sequence number, and one bit for
//! each of the 64 below it.

use crate::limits::SEQUENCE_WINDOW;

/// The sequence numbers of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SequenceWindow {
    highest: u32,
    /// Bit `n` stands for the number `highest - 1 - n`.
    below: u64,
}

/// How a sequence number relates to those that were stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is the highest so far.
    Newest,
    /// It is new, but a later one was stored already.
    Late,
    /// It was stored, or is so old that it must have been: a device has far fewer messages in
    /// flight than the window is wide.
    Duplicate,
}

impl SequenceWindow {
    /// Starts with the first number that came in.
    #[must_use]
    pub(super) fn starting_at(sequence: u32) -> Self {
        Self { highest: sequence, below: 0 }
    }

    /// Takes what was stored.
    #[must_use]
    pub(super) fn from_parts(highest: u32, below: u64) -> Self {
        Self { highest, below }
    }

    /// Returns what is to be stored: the highest number and the bits below it.
    #[must_use]
    pub(super) fn parts(self) -> (u32, u64) {
        (self.highest, self.below)
    }

    /// Notes a number and tells how it relates to the others.
    pub(super) fn note(&mut self, sequence: u32) -> Arrival {
        if sequence > self.highest {
            let distance = sequence - self.highest;
            self.below = match distance {
                1..SEQUENCE_WINDOW => self.below << distance | 1 << (distance - 1),
                SEQUENCE_WINDOW => 1 << (SEQUENCE_WINDOW - 1),
                _ => 0,
            };
            self.highest = sequence;
            return Arrival::Newest;
        }
        let behind = self.highest - sequence;
        if behind == 0 || behind > SEQUENCE_WINDOW {
            return Arrival::Duplicate;
        }
        let bit = 1 << (behind - 1);
        if self.below & bit != 0 {
            return Arrival::Duplicate;
        }
        self.below |= bit;
        Arrival::Late
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Numbers that stray by less than the window are told apart exactly as a set would.
        #[test]
        fn equals_a_set_within_the_window(steps in prop::collection::vec((0_u32..4, 0_u32..60), 1..400)) {
            let mut highest = 1_000_u32;
            let mut window = SequenceWindow::starting_at(highest);
            let mut stored = HashSet::from([highest]);
            for (ahead, behind) in steps {
                let sequence = highest + ahead - behind.min(highest + ahead);
                if sequence + SEQUENCE_WINDOW < highest { continue; }
                let expected = match (stored.insert(sequence), sequence > highest) {
                    (false, _) => Arrival::Duplicate,
                    (true, true) => Arrival::Newest,
                    (true, false) => Arrival::Late,
                };
                prop_assert_eq!(window.note(sequence), expected);
                highest = highest.max(sequence);
            }
        }
    }

    #[test]
    fn the_edges_of_the_window() {
        let mut window = SequenceWindow::starting_at(0);
        assert_eq!(window.note(0), Arrival::Duplicate);
        assert_eq!(window.note(64), Arrival::Newest);
        assert_eq!(window.note(0), Arrival::Duplicate);
        assert_eq!(window.note(1), Arrival::Late);
        assert_eq!(window.note(1), Arrival::Duplicate);
        assert_eq!(window.note(200), Arrival::Newest);
        assert_eq!(window.note(64), Arrival::Duplicate);
        assert_eq!(window.note(136), Arrival::Late);
        assert_eq!(window.note(135), Arrival::Duplicate);
        assert_eq!(window.note(u32::MAX), Arrival::Newest);
        assert_eq!(window.note(u32::MAX), Arrival::Duplicate);
    }
}
