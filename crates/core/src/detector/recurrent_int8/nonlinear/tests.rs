extern crate std;

use super::*;

/// Steps of 2^-15 that a result may lie from the function: straight lines between entries that are
/// themselves rounded, then rounded again. The steepest bend costs half of 0.68 of a step of 2^-16.
const SIGMOID_STEPS: f64 = 1.2;
/// tanh has twice the error of σ.
const TANH_STEPS: f64 = 2.4;

#[test]
fn the_table_is_that_of_tensorflow_lite() {
    // Entries that differ from the nearest step of σ, and the ends.
    let known = [
        (0, 32_768),
        (1, 33_451),
        (4, 35_493),
        (28, 49_975),
        (29, 50_464),
        (66, 61_599),
        (127, 65_208),
        (253, 65_534),
        (254, 65_534),
        (255, 65_535),
    ];
    for (index, value) in known {
        assert_eq!(SIGMOID[index], value, "entry {index}");
    }
    assert!(SIGMOID.is_sorted());
}

#[test]
fn sigmoid_is_sigmoid() {
    for x in i32::from(i16::MIN)..=i32::from(i16::MAX) {
        let expected = 32_768.0 / (1.0 + f64::exp(-f64::from(x) / 4_096.0));
        let found = f64::from(sigmoid(x));
        assert!((found - expected).abs() <= SIGMOID_STEPS, "{x}: {found} for {expected}");
        assert!((0.0..=32_767.0).contains(&found));
    }
}

#[test]
fn tanh_is_tanh_whatever_the_step_of_its_input() {
    for power in -15..=0 {
        for x in i32::from(i16::MIN)..=i32::from(i16::MAX) {
            let real = f64::from(x) * f64::exp2(f64::from(power));
            let expected = 32_768.0 * f64::tanh(real);
            let found = f64::from(tanh_of_cell(x, power));
            // Below steps of 2^-12 the input is rounded to a third of one first.
            let rounding = if power < -12 { 8.0 / 6.0 } else { 0.0 };
            let bound = TANH_STEPS + rounding;
            assert!((found - expected).abs() <= bound, "{x} 2^{power}: {found} for {expected}");
            assert!((-32_768.0..=32_767.0).contains(&found));
        }
    }
    assert_eq!(tanh(1_234), tanh_of_cell(1_234, -12));
}
