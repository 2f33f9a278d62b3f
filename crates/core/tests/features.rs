//! Features in the time domain against values worked out by hand, and NumPy's of one sine.

use stonechat_core::features::time::{
    block_means, maximum, mean, minimum, root_mean_square, slope, standard_deviation, variance,
};

#[test]
fn by_hand() {
    let samples = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
    assert_eq!(mean(&samples), 5.0);
    assert_eq!(variance(&samples), 4.0);
    assert_eq!(standard_deviation(&samples), 2.0);
    assert_eq!(root_mean_square(&[3.0, -4.0, 0.0, 0.0]), 2.5);
    assert_eq!((minimum(&samples), maximum(&samples)), (2.0, 9.0));
    assert_eq!(slope(&[1.0, 3.0, 5.0, 7.0], 10.0), 20.0);
    let mut blocks = [0.0; 4];
    block_means(&samples, 2, 5.0, &mut blocks);
    assert_eq!(blocks, [-2.0, -1.0, 0.0, 3.0]);
}

#[test]
fn nothing_gives_zero() {
    for feature in [mean, variance, standard_deviation, root_mean_square, minimum, maximum] {
        assert_eq!(feature(&[]), 0.0);
    }
    assert_eq!(slope(&[1.0], 10.0), 0.0);
}

/// A large offset must not swallow the variance: the reason for two passes.
#[test]
fn a_large_offset_leaves_the_variance() {
    let samples: Vec<f32> = (0..64).map(|i| 10_000.0 + (i % 2) as f32).collect();
    assert_eq!(variance(&samples), 0.25);
}
