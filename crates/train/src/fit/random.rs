//! Seeded random numbers: the same seed gives the same weights and order everywhere.

/// xoshiro256** by Blackman and Vigna (2018), seeded through SplitMix64.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: [u64; 4],
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut split = seed;
        let mut next = || {
            split = split.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = split;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Self {
            state: [next(), next(), next(), next()],
        }
    }

    pub(super) fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// Uniform in 0..`end`, without bias (Lemire 2019).
    fn below(&mut self, end: u32) -> u32 {
        let threshold = end.wrapping_neg() % end;
        loop {
            let product = (self.next() >> 32) * u64::from(end);
            if (product as u32) >= threshold {
                return (product >> 32) as u32;
            }
        }
    }

    /// Uniform in -1..1, on a grid of 2^-23.
    pub(super) fn symmetric(&mut self) -> f32 {
        (self.next() >> 40) as f32 * (1.0 / 8_388_608.0) - 1.0
    }

    /// Puts `order` into random order (Fisher and Yates).
    pub(super) fn shuffle(&mut self, order: &mut [u32]) {
        for index in (1..order.len()).rev() {
            let end = u32::try_from(index + 1).expect("an order of u32 has at most 2^32 entries");
            order.swap(index, self.below(end) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffle_keeps_every_entry_and_moves_most() {
        let mut order: Vec<u32> = (0..1000).collect();
        Random::new(7).shuffle(&mut order);
        let fixed = (0..).zip(&order).filter(|(index, value)| index == *value);
        assert!(fixed.count() < 10);
        order.sort_unstable();
        assert!(order.iter().copied().eq(0..1000));
    }

    #[test]
    fn symmetric_has_mean_zero_and_variance_a_third() {
        let mut random = Random::new(1);
        let draws: Vec<f64> = (0..100_000)
            .map(|_| f64::from(random.symmetric()))
            .collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let square = draws.iter().map(|x| x * x).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.01, "mean {mean}");
        assert!((square - 1.0 / 3.0).abs() < 0.01, "mean square {square}");
        assert!(draws.iter().all(|x| (-1.0..1.0).contains(x)));
    }

    #[test]
    fn the_first_numbers_of_a_seed_never_change() {
        // Reference: xoshiro256** with the state 1, 2, 3, 4 gives these outputs.
        let mut random = Random {
            state: [1, 2, 3, 4],
        };
        let first: Vec<u64> = (0..4).map(|_| random.next()).collect();
        assert_eq!(first, [11520, 0, 1_509_978_240, 1_215_971_899_390_074_240]);
    }
}
