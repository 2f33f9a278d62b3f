//! σ and tanh from int16 to int16 by one table, as TensorFlow Lite's `integer_ops/logistic.h` and
//! `integer_ops/tanh.h` define them.
//!
//! Those look the magnitude up and then mirror what they find. Here the table is mirrored already,
//! T(-i) = 2^16 - T(i): a line between two entries gives the same number from either side, and what is
//! left of the sign is the rounding, which goes away from zero at a tie.

/// Entries from one whole number to the next: the table reaches to 255 / 24.
const ENTRIES_PER_UNIT: f64 = 24.0;
/// The entry of 0.
const MIDDLE: usize = 256;
/// From here on, in steps of 2^-8 entries, tanh is what it is at the last entry.
const TANH_END: i32 = 255 << 8;

/// σ(i / 24) in steps of 2^-16, for i from -256 to 256.
///
/// The entries lie above the curve by a sixteenth of its second difference, which halves the
/// greatest error of the straight lines between them; the last one is the limit, rounded down.
static SIGMOID: [u16; 2 * MIDDLE + 1] = table();

const fn table() -> [u16; 2 * MIDDLE + 1] {
    let mut entries = [0; 2 * MIDDLE + 1];
    let mut power = 1.0;
    let mut index = 0;
    while index <= MIDDLE {
        let value = 1.0 / (1.0 + power);
        let second_derivative = value * (1.0 - value) * (1.0 - 2.0 * value);
        let bend = second_derivative / (ENTRIES_PER_UNIT * ENTRIES_PER_UNIT);
        let entry = if index < 255 { 65_536.0 * (value - bend / 16.0) + 0.5 } else { 65_535.0 };
        entries[MIDDLE + index] = entry as u16;
        entries[MIDDLE - index] = (65_536 - entry as u32) as u16;
        power *= exp_of_minus_one_entry();
        index += 1;
    }
    entries
}

/// e^(-1/24) by its series, to the last bit of f64.
const fn exp_of_minus_one_entry() -> f64 {
    let mut sum = 1.0;
    let mut term = 1.0;
    let mut index = 1;
    while index < 16 {
        term *= -1.0 / (ENTRIES_PER_UNIT * index as f64);
        sum += term;
        index += 1;
    }
    sum
}

/// σ(x) in steps of 2^-15, of x in steps of 2^-12, which is an int16.
#[inline(always)]
pub(super) fn sigmoid(x: i32) -> i32 {
    // Three quarters of x, in steps of 2^-9 entries.
    (line::<9>(3 * x) + (1 << 9) + (x >> 31)) >> 10
}

/// tanh(x) in steps of 2^-15, of x in steps of 2^-12.
#[inline(always)]
pub(super) fn tanh(x: i32) -> i32 {
    // The bounds are a third of the end.
    tanh_of_third(3 * x.clamp(-TANH_END / 3, TANH_END / 3))
}

/// tanh(x) in steps of 2^-15, of x in steps of 2 to the power of `power`, -15 to 0; x is an int16.
#[inline(always)]
pub(super) fn tanh_of_cell(x: i32, power: i32) -> i32 {
    let left = power + 12;
    let scaled = if left >= 0 { (3 * x) << left } else { (3 * x + (1 << (-left - 1))) >> -left };
    tanh_of_third(scaled.clamp(-TANH_END, TANH_END))
}

/// tanh(x) in steps of 2^-15, of `scaled` = 3 x in steps of 2^-12: twice σ(2 x) less one.
#[inline(always)]
fn tanh_of_third(scaled: i32) -> i32 {
    (line::<8>(scaled) - (1 << 23) + (1 << 7) + (scaled >> 31)) >> 8
}

/// Goes from entry to entry on a straight line; `place` is in steps of 2^-`BITS` entries.
#[inline(always)]
fn line<const BITS: i32>(place: i32) -> i32 {
    let entry = ((place >> BITS) + MIDDLE as i32) as usize;
    // The callers' bounds keep the place inside; asking costs nothing that shows.
    let (Some(low), Some(high)) = (SIGMOID.get(entry), SIGMOID.get(entry + 1)) else { return 0 };
    let (low, high) = (i32::from(*low), i32::from(*high));
    (low << BITS) + (place & ((1 << BITS) - 1)) * (high - low)
}

#[cfg(test)]
mod tests;
