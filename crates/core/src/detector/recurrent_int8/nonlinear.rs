//! σ and tanh from int16 to int16 by one table, as TensorFlow Lite's `integer_ops/logistic.h` and
//! `integer_ops/tanh.h` define them.

/// Entries from one whole number to the next: the table reaches to 255 / 24.
const ENTRIES_PER_UNIT: f64 = 24.0;

/// σ(i / 24) in steps of 2^-16.
///
/// The entries lie above the curve by a sixteenth of its second difference, which halves the
/// greatest error of the straight lines between them; the last one is the limit, rounded down.
static SIGMOID: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut entries = [u16::MAX; 256];
    let mut power = 1.0;
    let mut index = 0;
    while index < 255 {
        let value = 1.0 / (1.0 + power);
        let second_derivative = value * (1.0 - value) * (1.0 - 2.0 * value);
        let bend = second_derivative / (ENTRIES_PER_UNIT * ENTRIES_PER_UNIT);
        entries[index] = (65_536.0 * (value - bend / 16.0) + 0.5) as u16;
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

/// σ(x) in steps of 2^-15, of x in steps of 2^-12.
#[inline]
pub(super) fn sigmoid(x: i32) -> i32 {
    let scaled = 3 * x;
    let magnitude = scaled.unsigned_abs();
    let entry = (magnitude >> 9) as usize;
    let positive = match SIGMOID.get(entry..entry + 2) {
        Some(&[low, high]) => {
            let (low, high) = (u32::from(low), u32::from(high));
            (low << 9) + (magnitude & 0x1ff) * (high - low)
        }
        _ => 0x7fff << 10,
    };
    let result =
        if scaled >= 0 { positive + (1 << 9) } else { (1 << 25) - positive + (1 << 9) - 1 };
    (result >> 10) as i32
}

/// tanh(x) in steps of 2^-15, of `scaled` = 3 x in steps of 2^-12.
#[inline]
pub(super) fn tanh_of_third(scaled: i32) -> i32 {
    let magnitude = scaled.unsigned_abs();
    let entry = (magnitude >> 8) as usize;
    let positive = match SIGMOID.get(entry..entry + 2) {
        Some(&[low, high]) => {
            let (low, high) = (i32::from(low), i32::from(high));
            (low << 8) + (magnitude & 0xff) as i32 * (high - low)
        }
        _ => 0xffff << 8,
    };
    // Twice σ(2 x) less one.
    let half = if scaled >= 0 {
        positive - (1 << 23) + (1 << 7)
    } else {
        -positive + (1 << 23) + (1 << 7) - 1
    };
    half >> 8
}

/// tanh(x) in steps of 2^-15, of x in steps of 2^-12.
#[inline]
pub(super) fn tanh(x: i32) -> i32 {
    tanh_of_third(3 * x)
}

/// tanh(x) in steps of 2^-15, of x in steps of 2 to the power of `power`.
#[inline]
pub(super) fn tanh_of_cell(x: i32, power: i32) -> i32 {
    let left = power + 12;
    if left >= 0 {
        tanh_of_third((3 * x) << left)
    } else {
        tanh_of_third((3 * x + (1 << (-left - 1))) >> -left)
    }
}

#[cfg(test)]
mod tests;
