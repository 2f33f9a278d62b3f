//! Windows: a fixed run of samples, advanced by a stride.

/// A sliding window over one or more channels, in memory that the caller lends.
///
/// Samples lie channel by channel in the order of time, so that a feature reads one plain slice.
/// When the window is complete it is handed out once; the next sample first moves it on by a stride.
#[derive(Debug)]
pub struct Window<'m> {
    /// `[channels][len]`.
    samples: &'m mut [f32],
    len: usize,
    stride: usize,
    filled: usize,
}

impl<'m> Window<'m> {
    /// Makes an empty window of `len` samples; `samples` holds a multiple of `len`, one run a channel.
    #[must_use]
    pub(crate) fn new(samples: &'m mut [f32], len: usize, stride: usize) -> Self {
        debug_assert!(len > 0 && stride > 0 && stride <= len && samples.len().is_multiple_of(len));
        Self { samples, len, stride, filled: 0 }
    }

    /// Takes a window of `len` samples that is already complete, such as a part of a recording;
    /// `samples` holds a run a channel.
    #[must_use]
    pub fn complete(samples: &'m mut [f32], len: usize) -> Self {
        let len = len.max(1);
        Self { samples, len, stride: len, filled: len }
    }

    /// Appends a sample, one value a channel, and tells whether the window is complete now.
    pub(crate) fn push(&mut self, sample: &[f32]) -> bool {
        if self.filled == self.len {
            self.advance();
        }
        for (channel, value) in self.samples.chunks_exact_mut(self.len).zip(sample) {
            channel[self.filled] = *value;
        }
        self.filled += 1;
        self.filled == self.len
    }

    fn advance(&mut self) {
        for channel in self.samples.chunks_exact_mut(self.len) {
            channel.copy_within(self.stride.., 0);
        }
        self.filled = self.len - self.stride;
    }

    /// Empties the window: after a gap or a sensor fault its samples are no longer one run.
    pub(crate) fn reset(&mut self) {
        self.filled = 0;
    }

    /// Returns the samples of a channel in the order of time.
    #[must_use]
    pub fn channel(&self, channel: usize) -> &[f32] {
        self.samples.chunks_exact(self.len).nth(channel).map_or(&[], |run| &run[..self.filled])
    }
}
