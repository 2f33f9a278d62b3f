//! A digest over exact bits: FNV-1a with 64 bits.
//!
//! It guards against accidents and not against an adversary, and costs a chip
//! without a 64-bit multiplier little beside the inference that it follows.

const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// A running FNV-1a digest (RFC 9923, 64 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(OFFSET_BASIS)
    }
}

impl Digest {
    /// Takes in bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    }

    /// Takes in the little-endian bytes of a word.
    pub fn word(&mut self, word: u32) {
        self.bytes(&word.to_le_bytes());
    }

    /// Takes in the exact bits of a number, the sign of a zero included.
    pub fn number(&mut self, number: f32) {
        self.word(number.to_bits());
    }

    /// The digest so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_the_standard() {
        let digest = |text: &str| {
            let mut digest = Digest::default();
            digest.bytes(text.as_bytes());
            digest.value()
        };
        assert_eq!(digest(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(digest("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(digest("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn the_sign_of_a_zero_counts() {
        let (mut plus, mut minus) = (Digest::default(), Digest::default());
        plus.number(0.0);
        minus.number(-0.0);
        assert_ne!(plus, minus);
    }
}
