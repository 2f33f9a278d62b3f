//! The replay window: which counters were seen, as in RFC 4303 section 3.4.3.

use crate::limits::SEALED_WINDOW_LEN;

const WORD_BITS: u64 = 32;
const WORDS: usize = SEALED_WINDOW_LEN as usize / WORD_BITS as usize;

/// Remembers which of the newest [`SEALED_WINDOW_LEN`] counters were seen; older ones count as seen.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    /// One above the highest counter seen.
    next: u64,
    /// Bit `counter % SEALED_WINDOW_LEN` tells whether a counter within the window was seen.
    seen: [u32; WORDS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { next: 0, seen: [0; WORDS] }
    }
}

impl ReplayWindow {
    /// Tells whether a counter was not seen yet, as far as the window remembers. Nothing is marked:
    /// the frame must prove genuine first.
    /// The very last counter, which Noise reserves, never is.
    #[must_use]
    pub fn is_new(&self, counter: u64) -> bool {
        if counter >= self.next {
            return counter < u64::MAX;
        }
        self.next - counter <= SEALED_WINDOW_LEN && {
            let (word, bit) = place(counter);
            self.seen[word] & bit == 0
        }
    }

    /// Marks a counter as seen and moves the window on to it.
    pub fn mark(&mut self, counter: u64) {
        if !self.is_new(counter) {
            return;
        }
        if counter >= self.next {
            if counter - self.next >= SEALED_WINDOW_LEN {
                self.seen = [0; WORDS];
            } else {
                for skipped in self.next..counter {
                    let (word, bit) = place(skipped);
                    self.seen[word] &= !bit;
                }
            }
            self.next = counter + 1;
        }
        let (word, bit) = place(counter);
        self.seen[word] |= bit;
    }
}

/// Word and bit of a counter.
fn place(counter: u64) -> (usize, u32) {
    let place = counter % SEALED_WINDOW_LEN;
    ((place / WORD_BITS) as usize, 1 << (place % WORD_BITS))
}
