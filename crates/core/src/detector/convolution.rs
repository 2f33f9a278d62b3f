use super::{LoadError, Outcome, Work};

/// Convolution layers in single precision.
#[derive(Clone, Copy, Debug)]
pub struct Convolution<'d> {
    model: &'d [u8],
}

impl<'d> Convolution<'d> {
    pub(super) fn load(_model: &'d [u8], _vector_len: usize) -> Result<Self, LoadError> {
        Err(LoadError::Engine)
    }

    pub(super) fn memory_words(&self) -> usize {
        self.model.len()
    }

    /// Counts what a run computes on average.
    pub(super) fn work(&self) -> Work {
        Work::default()
    }

    pub(super) fn start(&self, _memory: &mut [f32]) {}

    pub(super) fn run(
        &self,
        _vector: &mut [f32],
        _reconstruction: &mut [f32],
        _memory: &mut [f32],
    ) -> Outcome {
        Outcome::Pending
    }
}
