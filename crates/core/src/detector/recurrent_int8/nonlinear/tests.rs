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
        assert_eq!(SIGMOID[MIDDLE + index], value, "entry {index}");
    }
    assert!(SIGMOID.is_sorted());
}

/// σ as TensorFlow Lite computes it: of the magnitude, then mirrored.
fn reference_sigmoid(x: i32) -> i32 {
    let scaled = 3 * x;
    let magnitude = scaled.unsigned_abs();
    let entry = (magnitude >> 9) as usize;
    let positive = if entry >= 255 {
        0x7fff << 10
    } else {
        let (low, high) = (SIGMOID[MIDDLE + entry], SIGMOID[MIDDLE + entry + 1]);
        (u32::from(low) << 9) + (magnitude & 0x1ff) * u32::from(high - low)
    };
    let result =
        if scaled >= 0 { positive + (1 << 9) } else { (1 << 25) - positive + (1 << 9) - 1 };
    (result >> 10) as i32
}

/// tanh as TensorFlow Lite computes it, of three times x in steps of 2^-12.
fn reference_tanh(scaled: i32) -> i32 {
    let magnitude = scaled.unsigned_abs();
    let entry = (magnitude >> 8) as usize;
    let positive = if entry >= 255 {
        0xffff << 8
    } else {
        let (low, high) = (SIGMOID[MIDDLE + entry], SIGMOID[MIDDLE + entry + 1]);
        (i32::from(low) << 8) + (magnitude & 0xff) as i32 * i32::from(high - low)
    };
    let half = if scaled >= 0 {
        positive - (1 << 23) + (1 << 7)
    } else {
        -positive + (1 << 23) + (1 << 7) - 1
    };
    half >> 8
}

#[test]
fn the_mirrored_table_gives_what_mirroring_gives() {
    for x in i32::from(i16::MIN)..=i32::from(i16::MAX) {
        assert_eq!(sigmoid(x), reference_sigmoid(x), "{x}");
        assert_eq!(tanh(x), reference_tanh(3 * x), "{x}");
        for power in -15..=0 {
            let left: i32 = power + 12;
            let scaled = match u32::try_from(left) {
                Ok(left) => (3 * x) << left,
                Err(_) => (3 * x + (1 << (-left - 1))) >> -left,
            };
            assert_eq!(tanh_of_cell(x, power), reference_tanh(scaled), "{x} 2^{power}");
        }
    }
    // Sums beyond int16, too: tanh has long reached its end there.
    assert_eq!((tanh(40_000), tanh(-40_000)), (tanh(32_767), tanh(-32_768)));
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
