use super::{Detector, Engine};

/// A dense autoencoder in two halves: the device encodes, whoever receives the code decodes.
///
/// The code is the output of the narrowest inner layer: compression where it is shorter than the
/// vector, and another way to write the vector where it is not. It hides nothing, as it is close to linear in what was measured; it is no encryption.
#[derive(Clone, Copy, Debug)]
pub struct Latent<'d> {
    engine: Engine<'d>,
    /// Layers of the encoder.
    middle: usize,
    /// Layers in all.
    end: usize,
    code_len: usize,
    vector_len: usize,
}

impl<'d> Latent<'d> {
    /// Splits a detector's network; none if it has none with an inner layer.
    #[must_use]
    pub fn of(detector: &Detector<'d>) -> Option<Self> {
        let engine = *detector.engine();
        let ((middle, code_len), end) = match &engine {
            Engine::Dense(dense) => (dense.code(), dense.layers().count()),
            Engine::DenseInt8(dense) => (dense.code(), dense.layers().count()),
            _ => return None,
        };
        let vector_len = detector.vector_len();
        (middle > 0).then_some(Self { engine, middle, end, code_len, vector_len })
    }

    /// Returns how many numbers a code has.
    #[must_use]
    pub fn code_len(&self) -> usize {
        self.code_len
    }

    /// Returns how many layers the encoder has.
    #[must_use]
    pub fn encoder_layers(&self) -> usize {
        self.middle
    }

    /// Returns the words of memory that encoding and decoding need.
    #[must_use]
    pub fn memory_words(&self) -> usize {
        self.engine.memory_words()
    }

    /// Encodes a scaled feature vector; tells whether `vector`, `code` and `memory` are as long as
    /// needed, else nothing is done.
    #[must_use]
    pub fn encode(&self, vector: &[f32], code: &mut [f32], memory: &mut [f32]) -> bool {
        let fits = vector.len() == self.vector_len && code.len() == self.code_len;
        fits && self.run(0, self.middle, vector, code, memory)
    }

    /// Decodes a code into a scaled feature vector; tells whether `code`, `vector` and `memory` are as
    /// long as needed, else nothing is done.
    #[must_use]
    pub fn decode(&self, code: &[f32], vector: &mut [f32], memory: &mut [f32]) -> bool {
        let fits = vector.len() == self.vector_len && code.len() == self.code_len;
        fits && self.run(self.middle, self.end, code, vector, memory)
    }

    fn run(
        &self,
        start: usize,
        end: usize,
        from: &[f32],
        to: &mut [f32],
        memory: &mut [f32],
    ) -> bool {
        let Some(memory) = memory.get_mut(..self.memory_words()) else { return false };
        match &self.engine {
            Engine::Dense(dense) => dense.run_layers(start..end, from, to, memory),
            Engine::DenseInt8(dense) => dense.run_part(start..end, from, to, memory),
            _ => return false,
        }
        true
    }
}
