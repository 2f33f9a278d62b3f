//! Tanh and logistic in int8, as a table of all 256 inputs.
//!
//! TensorFlow Lite Micro computes both in fixed point with the functions of gemmlowp
//! (`fixedpoint/fixedpoint.h`): e^-x from a Taylor polynomial and a product of constants, then a
//! Newton-Raphson division. The same steps are taken here, so that every entry is what its kernels
//! give; the device only looks it up.

use stonechat_core::detector::format::{ACTIVATION_TABLE_LEN, Requantisation};
use stonechat_core::detector::multiply_by_quantised_multiplier;

use crate::network::{Activation, Grid};

/// Bits before the point of the kernels' input: numbers from -16 to 16.
const INPUT_INTEGER_BITS: i32 = 4;
/// 1.0 as a fixed-point number without integer bits, as near as it gets.
const ONE: i32 = i32::MAX;
const HALF: i32 = 1 << 30;
/// Products of these make e^-x: e to the power of -2^n for n = -2 to 4, without integer bits.
const POWERS_OF_E: [(i32, i32); 7] = [
    (-2, 1_672_461_947),
    (-1, 1_302_514_674),
    (0, 790_015_084),
    (1, 290_630_308),
    (2, 39_332_535),
    (3, 720_401),
    (4, 242),
];
/// e^(-1/8), without integer bits.
const E_TO_MINUS_EIGHTH: i32 = 1_895_147_668;
const THIRD: i32 = 715_827_883;
/// 48/17 and -32/17 with two integer bits, which begin the division.
const FORTY_EIGHT_SEVENTEENTHS: i32 = 1_515_870_810;
const MINUS_THIRTY_TWO_SEVENTEENTHS: i32 = -1_010_580_540;

/// Returns what tanh or logistic makes of each int8 number of `sums`, from -128 to 127; none for
/// activations that need no table.
#[must_use]
pub fn activation_table(activation: Activation, sums: Grid) -> Option<[i8; ACTIVATION_TABLE_LEN]> {
    let logistic = match activation {
        Activation::Linear | Activation::Relu => return None,
        Activation::Tanh => false,
        Activation::Logistic => true,
    };
    let input = Input::of(sums);
    let mut table = [0; ACTIVATION_TABLE_LEN];
    for (entry, steps) in table.iter_mut().zip(i32::from(i8::MIN)..) {
        let steps = steps - sums.zero_point;
        *entry = if i64::from(steps) <= -input.radius {
            i8::MIN
        } else if i64::from(steps) >= input.radius {
            i8::MAX
        } else {
            let x = multiply_by_quantised_multiplier(steps, input.factor);
            let y = if logistic {
                shift_right(logistic_of(x), 31 - 8) - 128
            } else {
                shift_right(tanh_of(x), 31 - 7)
            };
            y.clamp(i32::from(i8::MIN), i32::from(i8::MAX)) as i8
        };
    }
    Some(table)
}

/// How int8 becomes the kernels' input.
struct Input {
    factor: Requantisation,
    /// From so many steps on, the result is at its end.
    radius: i64,
}

impl Input {
    /// As `CalculateInputRadius` and the kernels' `Prepare` do.
    fn of(sums: Grid) -> Self {
        let fractional_bits = 31 - INPUT_INTEGER_BITS;
        let mut fraction = f64::from(sums.scale) * f64::from(1 << fractional_bits);
        let mut shift = 0;
        while fraction >= 1.0 {
            fraction /= 2.0;
            shift += 1;
        }
        while fraction < 0.5 {
            fraction *= 2.0;
            shift -= 1;
        }
        // A scale has 24 bits, so that nothing is rounded.
        let multiplier = (fraction * f64::from(1_u32 << 31)) as i32;
        let largest = f64::from((1 << INPUT_INTEGER_BITS) - 1) * f64::from(1 << fractional_bits);
        let radius = (largest / f64::from(shift).exp2()).floor() as i64;
        // Beyond these shifts the radius is 0, or every step rounds to zero.
        let factor = Requantisation { multiplier, shift: shift.clamp(-31, 30) };
        Self { factor, radius }
    }
}

/// The high half of twice the product, rounded (gemmlowp's saturating rounding doubling high
/// multiplication): the product of two fixed-point numbers.
fn times(a: i32, b: i32) -> i32 {
    let product = i64::from(a) * i64::from(b);
    let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
    // Only the least number times itself leaves the range, and it does not occur.
    ((product + nudge) / (1 << 31)).min(i64::from(i32::MAX)) as i32
}

/// Divides by a power of two, to the nearest with ties away from zero.
fn shift_right(x: i32, exponent: u32) -> i32 {
    let (mask, half) = ((1_i64 << exponent) - 1, (1_i64 << exponent) / 2);
    let over = i64::from(x) & mask;
    let least = if x < 0 { half + 1 } else { half };
    (x >> exponent) + i32::from(exponent > 0 && over >= least)
}

/// Multiplies by a power of two and stops at the ends.
fn shift_left(x: i32, exponent: u32) -> i32 {
    let wide = i64::from(x) << exponent;
    wide.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

/// e^x for x from -1/4 to 0, both without integer bits: the Taylor polynomial at -1/8.
fn exp_near_zero(x: i32) -> i32 {
    let x = x + (1 << 28);
    let square = times(x, x);
    let cube = times(square, x);
    let quarter_of_fourth = shift_right(times(square, square), 2);
    let tail = shift_right(times(quarter_of_fourth + cube, THIRD) + square, 1);
    E_TO_MINUS_EIGHTH + times(E_TO_MINUS_EIGHTH, x + tail)
}

/// e^x for x at or below 0 with so many integer bits; the result has none.
fn exp(x: i32, integer_bits: i32) -> i32 {
    if x == 0 {
        return ONE;
    }
    let fractional_bits = 31 - integer_bits;
    let quarter = 1 << (fractional_bits - 2);
    let within = (x & (quarter - 1)) - quarter;
    let mut result = exp_near_zero(shift_left(within, integer_bits as u32));
    let rest = within.wrapping_sub(x);
    for (exponent, power) in POWERS_OF_E {
        if exponent < integer_bits && rest & (1 << (fractional_bits + exponent)) != 0 {
            result = times(result, power);
        }
    }
    result
}

/// 2 / (1 + x) for x from 0 to 1 without integer bits, with two integer bits: three steps of Newton
/// and Raphson.
fn double_reciprocal_of_one_plus(x: i32) -> i32 {
    // Half of the sum, rounded up: neither is negative.
    let half_denominator = ((i64::from(x) + i64::from(ONE) + 1) / 2) as i32;
    let mut y = FORTY_EIGHT_SEVENTEENTHS + times(half_denominator, MINUS_THIRTY_TWO_SEVENTEENTHS);
    for _ in 0..3 {
        let missing = (1 << 29) - times(half_denominator, y);
        y += shift_left(times(y, missing), 2);
    }
    y
}

/// The logistic function of a number with four integer bits, without integer bits.
fn logistic_of(x: i32) -> i32 {
    if x == 0 {
        return HALF;
    }
    let y = shift_left(double_reciprocal_of_one_plus(exp(-x.abs(), INPUT_INTEGER_BITS)), 1);
    if x > 0 { y } else { ONE - y }
}

/// The hyperbolic tangent of a number with four integer bits, without integer bits.
fn tanh_of(x: i32) -> i32 {
    if x == 0 {
        return 0;
    }
    // The same bits with one more integer bit are twice the number.
    let e = exp(-x.abs(), INPUT_INTEGER_BITS + 1);
    let y = shift_left(double_reciprocal_of_one_plus(e) - (1 << 29), 2);
    if x > 0 { y } else { -y }
}
