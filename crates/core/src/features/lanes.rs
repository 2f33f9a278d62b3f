//! Sums and extremes over samples, in an order of their own.
//!
//! A running sum in one variable waits for each addition. Here sample i goes to lane i mod 32 and
//! the lanes are added pairwise at the end: the order is fixed, so every machine gives the same
//! bits, and a machine with vectors may use them. Pairwise sums also lose less to rounding.

/// How many partial results run side by side.
pub(super) const LANES: usize = 32;

/// Sums `value` of each sample.
#[inline(always)]
pub(super) fn sum(samples: &[f32], value: impl Fn(f32) -> f32) -> f32 {
    let [sum] = sums(samples, |sample| [value(sample)]);
    sum
}

/// Sums several values of each sample in one pass.
#[inline(always)]
pub(super) fn sums<const N: usize>(samples: &[f32], values: impl Fn(f32) -> [f32; N]) -> [f32; N] {
    let mut lanes = [[0.0_f32; LANES]; N];
    let (blocks, rest) = samples.as_chunks::<LANES>();
    for block in blocks {
        for (lane, sample) in block.iter().enumerate() {
            let values = values(*sample);
            for (lanes, value) in lanes.iter_mut().zip(values) {
                lanes[lane] += value;
            }
        }
    }
    for (lane, sample) in rest.iter().enumerate() {
        let values = values(*sample);
        for (lanes, value) in lanes.iter_mut().zip(values) {
            lanes[lane] += value;
        }
    }
    lanes.map(|lanes| fold(lanes, samples.len(), |a, b| a + b))
}

/// Sums a value of each pair of numbers at the same place.
#[inline(always)]
pub(super) fn sum_of_pairs(a: &[f32], b: &[f32], value: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (blocks_a, rest_a) = a.as_chunks::<LANES>();
    let (blocks_b, rest_b) = b.as_chunks::<LANES>();
    for (block_a, block_b) in blocks_a.iter().zip(blocks_b) {
        for ((lane, a), b) in lanes.iter_mut().zip(block_a).zip(block_b) {
            *lane += value(*a, *b);
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(rest_a).zip(rest_b) {
        *lane += value(*a, *b);
    }
    fold(lanes, a.len().min(b.len()), |a, b| a + b)
}

/// Sums a value of each sample and its index.
#[inline(always)]
pub(super) fn sum_indexed(samples: &[f32], value: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let mut index = [0.0_f32; LANES];
    for (lane, index) in index.iter_mut().enumerate() {
        *index = lane as f32;
    }
    let (blocks, rest) = samples.as_chunks::<LANES>();
    for block in blocks {
        for ((lane, index), sample) in lanes.iter_mut().zip(&mut index).zip(block) {
            *lane += value(*index, *sample);
            *index += LANES as f32;
        }
    }
    for ((lane, index), sample) in lanes.iter_mut().zip(&index).zip(rest) {
        *lane += value(*index, *sample);
    }
    fold(lanes, samples.len(), |a, b| a + b)
}

/// Returns the least and the greatest of `value` over the samples; `(0, 0)` of none.
#[inline(always)]
pub(super) fn extremes(samples: &[f32], value: impl Fn(f32) -> f32) -> (f32, f32) {
    let Some(first) = samples.first() else {
        return (0.0, 0.0);
    };
    let first = value(*first);
    let (mut least, mut greatest) = ([first; LANES], [first; LANES]);
    let (blocks, rest) = samples.as_chunks::<LANES>();
    for block in blocks {
        for ((least, greatest), sample) in least.iter_mut().zip(&mut greatest).zip(block) {
            let value = value(*sample);
            *least = lesser(value, *least);
            *greatest = greater(value, *greatest);
        }
    }
    for ((least, greatest), sample) in least.iter_mut().zip(&mut greatest).zip(rest) {
        let value = value(*sample);
        *least = lesser(value, *least);
        *greatest = greater(value, *greatest);
    }
    (fold(least, samples.len(), lesser), fold(greatest, samples.len(), greater))
}

/// Returns the greatest distance between neighbours; 0 of fewer than two samples.
pub(super) fn greatest_step(samples: &[f32]) -> f32 {
    let next = samples.get(1..).unwrap_or(&[]);
    let mut greatest = [0.0_f32; LANES];
    let (blocks, rest) = next.as_chunks::<LANES>();
    let (before, before_rest) = samples[..next.len()].as_chunks::<LANES>();
    for (block, before) in blocks.iter().zip(before) {
        for ((greatest, a), b) in greatest.iter_mut().zip(block).zip(before) {
            *greatest = greater(libm::fabsf(a - b), *greatest);
        }
    }
    for ((greatest, a), b) in greatest.iter_mut().zip(rest).zip(before_rest) {
        *greatest = greater(libm::fabsf(a - b), *greatest);
    }
    fold(greatest, next.len(), greater)
}

#[inline(always)]
fn lesser(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Joins the lanes that `count` values went to pairwise: the first half with the second, until one is
/// left.
#[inline(always)]
fn fold(mut lanes: [f32; LANES], count: usize, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = count.clamp(1, LANES).next_power_of_two() / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = join(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}
