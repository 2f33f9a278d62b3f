//! Elementwise passes of fitting: activations, their derivatives, the loss, Adam.
//!
//! Compiled for each instruction set like the products in [`super::kernel`]; the exponential is a
//! polynomial of ours so that it vectorises and has the same bits everywhere.

use pulp::{Simd, WithSimd};

use crate::network::Activation;

/// Applies an activation in place.
pub(super) struct Activate<'a> {
    pub(super) activation: Activation,
    pub(super) values: &'a mut [f32],
}

impl WithSimd for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        match self.activation {
            Activation::Linear => {}
            // Written so that a value that is not a number stays one and the loss shows it.
            Activation::Relu => {
                for value in self.values {
                    *value = if *value < 0.0 { 0.0 } else { *value };
                }
            }
            Activation::Tanh => {
                for value in self.values {
                    *value = tanh(*value);
                }
            }
            Activation::Logistic => {
                for value in self.values {
                    *value = 1.0 / (1.0 + exp(-*value));
                }
            }
        }
    }
}

/// Multiplies deltas with the activation's derivative, taken from the activation's output.
pub(super) struct Derive<'a> {
    pub(super) activation: Activation,
    pub(super) outputs: &'a [f32],
    pub(super) deltas: &'a mut [f32],
}

impl WithSimd for Derive<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let pairs = self.deltas.iter_mut().zip(self.outputs);
        match self.activation {
            Activation::Linear => {}
            Activation::Relu => pairs.for_each(
                #[inline(always)]
                |(delta, y)| *delta = if *y > 0.0 { *delta } else { 0.0 },
            ),
            Activation::Tanh => pairs.for_each(
                #[inline(always)]
                |(delta, y)| *delta *= 1.0 - y * y,
            ),
            Activation::Logistic => pairs.for_each(
                #[inline(always)]
                |(delta, y)| *delta *= y * (1.0 - y),
            ),
        }
    }
}

/// `out[column] = sum over rows of values[row][column]`.
pub(super) struct ColumnSums<'a> {
    /// `[rows][width]` with the width of `out`.
    pub(super) values: &'a [f32],
    pub(super) out: &'a mut [f32],
}

impl WithSimd for ColumnSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        self.out.fill(0.0);
        for row in self.values.chunks_exact(self.out.len()) {
            for (sum, value) in self.out.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

/// Mean squared error: writes its gradient and returns the sum of squares.
pub(super) struct SquaredError<'a> {
    /// `[rows][padded]`.
    pub(super) outputs: &'a [f32],
    /// `[rows][padded]`.
    pub(super) targets: &'a [f32],
    /// `[rows][padded]`; `gradient_scale * (output - target)`, and zero in the padding.
    pub(super) deltas: &'a mut [f32],
    pub(super) width: usize,
    pub(super) padded: usize,
    pub(super) gradient_scale: f32,
}

impl WithSimd for SquaredError<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> f64 {
        let rows = self
            .deltas
            .chunks_exact_mut(self.padded)
            .zip(self.outputs.chunks_exact(self.padded))
            .zip(self.targets.chunks_exact(self.padded));
        let mut total = 0.0;
        for ((deltas, outputs), targets) in rows {
            let deltas = &mut deltas[..self.width];
            for ((delta, output), target) in deltas.iter_mut().zip(outputs).zip(targets) {
                *delta = output - target;
            }
            // Four running sums, so that the additions need not wait for each other.
            let mut sums = [0.0_f64; 4];
            let quads = deltas.chunks_exact(4);
            for delta in quads.remainder() {
                sums[0] += f64::from(*delta) * f64::from(*delta);
            }
            for quad in quads {
                for (sum, delta) in sums.iter_mut().zip(quad) {
                    *sum += f64::from(*delta) * f64::from(*delta);
                }
            }
            total += (sums[0] + sums[1]) + (sums[2] + sums[3]);
            for delta in deltas {
                *delta *= self.gradient_scale;
            }
        }
        total
    }
}

/// One step of Adam over all parameters (Kingma and Ba 2015, algorithm 1).
pub(super) struct Adam<'a> {
    pub(super) parameters: &'a mut [f32],
    pub(super) gradients: &'a [f32],
    pub(super) first_moments: &'a mut [f32],
    pub(super) second_moments: &'a mut [f32],
    pub(super) beta1: f32,
    pub(super) beta2: f32,
    pub(super) epsilon: f32,
    /// Learning rate divided by the first moment's bias correction.
    pub(super) step: f32,
    /// One over the square root of the second moment's bias correction.
    pub(super) second_correction: f32,
}

impl WithSimd for Adam<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let moments = self.first_moments.iter_mut().zip(self.second_moments);
        let values = self.parameters.iter_mut().zip(self.gradients);
        for ((parameter, gradient), (first, second)) in values.zip(moments) {
            *first = self.beta1 * *first + (1.0 - self.beta1) * gradient;
            *second = self.beta2 * *second + (1.0 - self.beta2) * (gradient * gradient);
            let deviation = second.sqrt() * self.second_correction + self.epsilon;
            *parameter -= self.step * *first / deviation;
        }
    }
}

/// `exp(x)` within 2 units in the last place, the argument held to where the result is normal.
///
/// Polynomial of the Cephes library (Moshier), `expf`.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts (high minus low); the first has so few digits that n times it is exact.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = 2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * core::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = n.mul_add(LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let p = 1.987_569_1e-4_f32
        .mul_add(r, 1.398_199_9e-3)
        .mul_add(r, 8.333_452e-3)
        .mul_add(r, 4.166_579_6e-2)
        .mul_add(r, 0.166_666_65)
        .mul_add(r, 0.5)
        .mul_add(r * r, r)
        + 1.0;
    p * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// `tanh(x)`, within 2e-7.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let e = exp(-2.0 * x.abs());
    ((1.0 - e) / (1.0 + e)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_tanh_agree_with_f64() {
        for step in -8_000..=8_000 {
            let x = step as f32 * 0.01;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.5e-7, "exp({x}) is off by {error}");
            let error = (f64::from(tanh(x)) - f64::from(x).tanh()).abs();
            assert!(error < 2e-7, "tanh({x}) is off by {error}");
        }
        assert!(exp(f32::NAN).is_nan() && tanh(f32::NAN).is_nan());
        assert!(exp(1e30).is_finite() && exp(-1e30) >= 0.0);
    }
}
