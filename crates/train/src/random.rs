//! One small generator of random numbers, so that a seed gives the same data on every machine and in every version.

/// A PCG-XSH-RR 64/32 generator.
///
/// Source: M. E. O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms for Random Number
/// Generation", 2014, section 6.1. Not for secrets.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
    increment: u64,
}

const MULTIPLIER: u64 = 6_364_136_223_846_793_005;

impl Random {
    /// Makes the generator of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::stream(seed, 0)
    }

    /// Makes one of several independent generators of a seed.
    #[must_use]
    pub fn stream(seed: u64, stream: u64) -> Self {
        let mut random = Self { state: 0, increment: (stream << 1) | 1 };
        random.next_u32();
        random.state = random.state.wrapping_add(seed);
        random.next_u32();
        random
    }

    /// Draws 32 uniform bits.
    pub fn next_u32(&mut self) -> u32 {
        let old = self.state;
        self.state = old.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
        // The casts keep the bits that the algorithm is made of.
        let mixed = (((old >> 18) ^ old) >> 27) as u32;
        mixed.rotate_right((old >> 59) as u32)
    }

    /// Draws a number from 0 (included) to 1 (excluded), in steps of 2^-32.
    pub fn uniform(&mut self) -> f64 {
        f64::from(self.next_u32()) / 4_294_967_296.0
    }

    /// Draws a number between two bounds.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Draws a whole number below `bound`; 0 where the bound is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        // Multiply-shift: the bias is below 2^-32 times the bound, which no simulation here can see.
        ((u64::from(self.next_u32()) * u64::from(bound)) >> 32) as u32
    }

    /// Draws from the standard normal distribution.
    ///
    /// The sum of twelve uniform numbers: it needs no logarithm or cosine, whose last bit differs between machines.
    /// Its tails end at six deviations.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn equals_the_published_sequence() {
        // The reference program of the PCG paper prints these for pcg32_srandom(42, 54).
        let mut random = Random::stream(42, 54);
        let drawn: Vec<u32> = (0..6).map(|_| random.next_u32()).collect();
        assert_eq!(
            drawn,
            [0xa15c_02b7, 0x7b47_f409, 0xba1d_3330, 0x83d2_f293, 0xbfa4_784b, 0xcbed_606e]
        );
    }

    #[test]
    fn draws_the_distributions_it_names() {
        let mut random = Random::new(1);
        let normals: Vec<f64> = (0..20_000).map(|_| random.normal()).collect();
        let mean = normals.iter().sum::<f64>() / 20_000.0;
        let variance = normals.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03, "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
        assert!((0..1000).all(|_| random.below(7) < 7));
        assert_eq!(random.below(0), 0);
        assert!((0..1000).map(|_| random.between(-2.0, 3.0)).all(|x| (-2.0..3.0).contains(&x)));
    }
}
