//! Activations rounded as int8 will hold them, while a network learns to live with that: Jacob et al.
//! 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
//! Inference", section 3. Gradients pass the rounding unchanged (straight-through estimator) and
//! stop where a value was clipped.

use pulp::{Arch, Simd, WithSimd};

use super::elementwise::Activate;
use crate::network::{Activation, Grid};

/// Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
const ROUND: f32 = 12_582_912.0;

/// Least and greatest value that a grid holds.
fn ends(grid: Grid) -> (f32, f32) {
    let value = |steps: i32| (steps - grid.zero_point) as f32 * grid.scale;
    (value(i32::from(i8::MIN)), value(i32::from(i8::MAX)))
}

/// Brings values to the nearest step of a grid.
pub(super) struct Round<'a> {
    pub(super) grid: Grid,
    pub(super) values: &'a mut [f32],
}

impl WithSimd for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let least = (i32::from(i8::MIN) - self.grid.zero_point) as f32;
        let greatest = (i32::from(i8::MAX) - self.grid.zero_point) as f32;
        for value in self.values {
            let steps = (*value / self.grid.scale).clamp(least, greatest);
            *value = (steps + ROUND - ROUND) * self.grid.scale;
        }
    }
}

/// Clears deltas where the value stands at an end of its grid.
struct Stop<'a> {
    grid: Grid,
    values: &'a [f32],
    deltas: &'a mut [f32],
}

impl WithSimd for Stop<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let (low, high) = ends(self.grid);
        for (delta, value) in self.deltas.iter_mut().zip(self.values) {
            *delta = if *value > low && *value < high { *delta } else { 0.0 };
        }
    }
}

/// Applies an activation; with a grid, rounds what the device rounds: the output or, before tanh and
/// logistic, the weighted sums, and then the output to the grid that TensorFlow Lite gives it.
pub(super) fn activate(arch: Arch, activation: Activation, grid: Option<Grid>, values: &mut [f32]) {
    let Some(grid) = grid else {
        arch.dispatch(Activate { activation, values });
        return;
    };
    match activation.fixed_grid() {
        None => {
            arch.dispatch(Activate { activation, values: &mut *values });
            arch.dispatch(Round { grid, values });
        }
        Some(fixed) => {
            arch.dispatch(Round { grid, values: &mut *values });
            arch.dispatch(Activate { activation, values: &mut *values });
            arch.dispatch(Round { grid: fixed, values });
        }
    }
}

/// Stops deltas where [`activate`] clipped. Tanh and logistic hardly pass any there by themselves.
pub(super) fn stop(
    arch: Arch,
    activation: Activation,
    grid: Option<Grid>,
    values: &[f32],
    deltas: &mut [f32],
) {
    if let (Some(grid), None) = (grid, activation.fixed_grid()) {
        arch.dispatch(Stop { grid, values, deltas });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_to_steps_and_stop_at_the_ends() {
        let grid = Grid { scale: 0.5, zero_point: -128 };
        let mut values = [-3.0, 0.2, 0.3, 1.6, 200.0];
        activate(Arch::new(), Activation::Linear, Some(grid), &mut values);
        assert_eq!(values, [0.0, 0.0, 0.5, 1.5, 127.5]);
        let mut deltas = [1.0; 5];
        stop(Arch::new(), Activation::Linear, Some(grid), &values, &mut deltas);
        assert_eq!(deltas, [0.0, 0.0, 1.0, 1.0, 0.0]);
        let mut values = [0.3];
        activate(Arch::new(), Activation::Tanh, Some(grid), &mut values);
        assert_eq!(values, [59.0 / 128.0]); // 128 tanh(0.5) is 59.15
    }
}
