//! One step of a layer of cells over the rows of a batch, forward and backward, vectorised like the
//! passes of [`elementwise`](crate::fit::elementwise).

use pulp::{Simd, WithSimd};

use super::plan::BLOCKS;
use crate::fit::elementwise::{exp, tanh};
use crate::fit::kernel::LANES;

type Lanes = [f32; LANES];

/// `h = o tanh(c)`, `c = f c' + i g` (Hochreiter and Schmidhuber 1997; Gers et al. 2000).
pub(super) struct LstmForward<'a> {
    /// `[rows][BLOCKS][units]`: sums in, gates i, f, g, o out.
    pub(super) gates: &'a mut [f32],
    /// `[rows][units]` before the step.
    pub(super) cells_before: &'a [f32],
    /// `[rows][units]` after it.
    pub(super) cells: &'a mut [f32],
    /// `[rows][units]`: tanh of `cells`.
    pub(super) cells_tanh: &'a mut [f32],
    /// `[rows][stride]`, the state in the first `units`.
    pub(super) state: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) units: usize,
}

impl WithSimd for LstmForward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let units = self.units;
        let rows = self
            .gates
            .chunks_exact_mut(BLOCKS * units)
            .zip(self.cells_before.chunks_exact(units))
            .zip(self.cells.chunks_exact_mut(units))
            .zip(self.cells_tanh.chunks_exact_mut(units))
            .zip(self.state.chunks_exact_mut(self.stride));
        for ((((gates, before), cells), cells_tanh), state) in rows {
            for unit in (0..units).step_by(LANES) {
                let [mut i, mut f, mut g, mut o] = load_gates(gates, units, unit);
                let before = lanes(before, unit);
                let (mut c, mut t, mut h) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
                for lane in 0..LANES {
                    i[lane] = sigmoid(i[lane]);
                    f[lane] = sigmoid(f[lane]);
                    g[lane] = tanh(g[lane]);
                    o[lane] = sigmoid(o[lane]);
                    c[lane] = f[lane].mul_add(before[lane], i[lane] * g[lane]);
                    t[lane] = tanh(c[lane]);
                    h[lane] = o[lane] * t[lane];
                }
                store_gates(gates, units, unit, [i, f, g, o]);
                store(cells, unit, c);
                store(cells_tanh, unit, t);
                store(state, unit, h);
            }
        }
    }
}

/// The way back through [`LstmForward`].
pub(super) struct LstmBackward<'a> {
    /// `[rows][BLOCKS][units]`: gates in, gradients of the sums out.
    pub(super) gates: &'a mut [f32],
    /// `[rows][units]` before the step.
    pub(super) cells_before: &'a [f32],
    /// `[rows][units]`: tanh of the cells after it.
    pub(super) cells_tanh: &'a [f32],
    /// `[rows][units]`: gradient of the state from the layer above, or empty.
    pub(super) from_above: &'a [f32],
    /// `[rows][units]`: gradient of the state from the step behind.
    pub(super) from_behind: &'a [f32],
    /// `[rows][units]`: gradient of the cells; in after the step, out before it.
    pub(super) carry: &'a mut [f32],
    pub(super) units: usize,
}

impl WithSimd for LstmBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let units = self.units;
        let rows = self
            .gates
            .chunks_exact_mut(BLOCKS * units)
            .zip(self.cells_before.chunks_exact(units))
            .zip(self.cells_tanh.chunks_exact(units))
            .zip(self.from_behind.chunks_exact(units))
            .zip(self.carry.chunks_exact_mut(units));
        for (row, ((((gates, before), cells_tanh), behind), carry)) in rows.enumerate() {
            let above = above_row(self.from_above, row, units);
            for unit in (0..units).step_by(LANES) {
                let [mut i, mut f, mut g, mut o] = load_gates(gates, units, unit);
                let (before, t) = (lanes(before, unit), lanes(cells_tanh, unit));
                let (above, behind) = (lanes_or_zero(above, unit), lanes(behind, unit));
                let mut carried = lanes(carry, unit);
                for lane in 0..LANES {
                    let dh = above[lane] + behind[lane];
                    let squashed = 1.0 - t[lane] * t[lane];
                    let dc = (dh * o[lane]).mul_add(squashed, carried[lane]);
                    carried[lane] = dc * f[lane];
                    let (i_now, g_now) = (i[lane], g[lane]);
                    o[lane] = dh * t[lane] * (o[lane] * (1.0 - o[lane]));
                    i[lane] = dc * g_now * (i_now * (1.0 - i_now));
                    f[lane] = dc * before[lane] * (f[lane] * (1.0 - f[lane]));
                    g[lane] = dc * i_now * (1.0 - g_now * g_now);
                }
                store_gates(gates, units, unit, [i, f, g, o]);
                store(carry, unit, carried);
            }
        }
    }
}

/// `h = (1 - z) n + z h'`, `n = tanh(a + r b)` with the candidate's sums `a` from the input and `b` from
/// the state: the reset gate after the product, as cuDNN, PyTorch and Keras have it.
pub(super) struct GruForward<'a> {
    /// `[rows][BLOCKS][units]`: sums in; r, z, n, b out.
    pub(super) gates: &'a mut [f32],
    /// `[rows][stride]`, the state before the step in the first `units`.
    pub(super) before: &'a [f32],
    /// `[rows][stride]`, the state after it in the first `units`.
    pub(super) state: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) units: usize,
}

impl WithSimd for GruForward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let units = self.units;
        let rows = self
            .gates
            .chunks_exact_mut(BLOCKS * units)
            .zip(self.before.chunks_exact(self.stride))
            .zip(self.state.chunks_exact_mut(self.stride));
        for ((gates, before), state) in rows {
            for unit in (0..units).step_by(LANES) {
                let [mut r, mut z, mut n, b] = load_gates(gates, units, unit);
                let before = lanes(before, unit);
                let mut h = [0.0; LANES];
                for lane in 0..LANES {
                    r[lane] = sigmoid(r[lane]);
                    z[lane] = sigmoid(z[lane]);
                    n[lane] = tanh(r[lane].mul_add(b[lane], n[lane]));
                    h[lane] = z[lane].mul_add(before[lane] - n[lane], n[lane]);
                }
                store_gates(gates, units, unit, [r, z, n, b]);
                store(state, unit, h);
            }
        }
    }
}

/// The way back through [`GruForward`].
pub(super) struct GruBackward<'a> {
    /// `[rows][BLOCKS][units]`: r, z, n, b in; gradients of the sums out.
    pub(super) gates: &'a mut [f32],
    /// `[rows][stride]`, the state before the step in the first `units`.
    pub(super) before: &'a [f32],
    /// `[rows][units]`: gradient of the state from the layer above, or empty.
    pub(super) from_above: &'a [f32],
    /// `[rows][units]`: gradient of the state through the gates of the step behind.
    pub(super) from_behind: &'a [f32],
    /// `[rows][units]`: gradient of the state past the gates; in after the step, out before it.
    pub(super) carry: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) units: usize,
}

impl WithSimd for GruBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let units = self.units;
        let rows = self
            .gates
            .chunks_exact_mut(BLOCKS * units)
            .zip(self.before.chunks_exact(self.stride))
            .zip(self.from_behind.chunks_exact(units))
            .zip(self.carry.chunks_exact_mut(units));
        for (row, (((gates, before), behind), carry)) in rows.enumerate() {
            let above = above_row(self.from_above, row, units);
            for unit in (0..units).step_by(LANES) {
                let [mut r, mut z, mut n, mut b] = load_gates(gates, units, unit);
                let (before, behind) = (lanes(before, unit), lanes(behind, unit));
                let above = lanes_or_zero(above, unit);
                let mut carried = lanes(carry, unit);
                for lane in 0..LANES {
                    let dh = (above[lane] + behind[lane]) + carried[lane];
                    let dn = dh * (1.0 - z[lane]) * (1.0 - n[lane] * n[lane]);
                    carried[lane] = dh * z[lane];
                    z[lane] = dh * (before[lane] - n[lane]) * (z[lane] * (1.0 - z[lane]));
                    n[lane] = dn;
                    let r_now = r[lane];
                    r[lane] = dn * b[lane] * (r_now * (1.0 - r_now));
                    b[lane] = dn * r_now;
                }
                store_gates(gates, units, unit, [r, z, n, b]);
                store(carry, unit, carried);
            }
        }
    }
}

/// `sums[row][column] += values[row][column]`.
pub(super) struct AddTo<'a> {
    pub(super) sums: &'a mut [f32],
    pub(super) values: &'a [f32],
}

impl WithSimd for AddTo<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        for (sum, value) in self.sums.iter_mut().zip(self.values) {
            *sum += value;
        }
    }
}

/// The sum of squares, in f64.
pub(super) struct SumOfSquares<'a> {
    /// A multiple of [`LANES`].
    pub(super) values: &'a [f32],
}

impl WithSimd for SumOfSquares<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> f64 {
        let mut sums = [0.0_f64; LANES];
        for values in self.values.chunks_exact(LANES) {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += f64::from(*value) * f64::from(*value);
            }
        }
        sums.iter().sum()
    }
}

/// `deltas = outputs - targets`; returns the sum of their squares, then scales them.
pub(super) struct Difference<'a> {
    /// `[rows][padded]`, zero in the padding.
    pub(super) outputs: &'a [f32],
    /// As `outputs`.
    pub(super) targets: &'a [f32],
    /// As `outputs`.
    pub(super) deltas: &'a mut [f32],
    pub(super) gradient_scale: f32,
}

impl WithSimd for Difference<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> f64 {
        let mut sums = [0.0_f64; LANES];
        let rows = self
            .deltas
            .chunks_exact_mut(LANES)
            .zip(self.outputs.chunks_exact(LANES))
            .zip(self.targets.chunks_exact(LANES));
        for ((deltas, outputs), targets) in rows {
            let (mut delta, outputs) = (lanes(outputs, 0), lanes(outputs, 0));
            let targets = lanes(targets, 0);
            for lane in 0..LANES {
                let error = outputs[lane] - targets[lane];
                sums[lane] += f64::from(error) * f64::from(error);
                delta[lane] = error * self.gradient_scale;
            }
            store(deltas, 0, delta);
        }
        sums.iter().sum()
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn lanes(values: &[f32], at: usize) -> Lanes {
    values[at..at + LANES].try_into().expect("the range is LANES long")
}

#[inline(always)]
fn store(values: &mut [f32], at: usize, lanes: Lanes) {
    values[at..at + LANES].copy_from_slice(&lanes);
}

#[inline(always)]
fn load_gates(gates: &[f32], units: usize, unit: usize) -> [Lanes; BLOCKS] {
    [0, 1, 2, 3].map(
        #[inline(always)]
        |block| lanes(gates, block * units + unit),
    )
}

#[inline(always)]
fn store_gates(gates: &mut [f32], units: usize, unit: usize, values: [Lanes; BLOCKS]) {
    for (block, values) in values.into_iter().enumerate() {
        store(gates, block * units + unit, values);
    }
}

#[inline(always)]
fn above_row(from_above: &[f32], row: usize, units: usize) -> &[f32] {
    if from_above.is_empty() { from_above } else { &from_above[row * units..][..units] }
}

#[inline(always)]
fn lanes_or_zero(values: &[f32], at: usize) -> Lanes {
    if values.is_empty() { [0.0; LANES] } else { lanes(values, at) }
}
