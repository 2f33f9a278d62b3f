//! Matrix products and elementwise passes of fitting, vectorised at run time.
//!
//! The loops are plain Rust over fixed-size arrays; `pulp` compiles them once for each instruction
//! set and picks at run time, so that a binary for the x86-64 baseline still uses AVX2 and FMA. The
//! `gemm` crate would need `unsafe` calls, and it packs its operands, which costs more than it
//! gains at these widths.
//!
//! Every sum runs in one fixed order with a fused multiply-add, and lanes never hold parts of one
//! sum: results have the same bits on every instruction set.

use pulp::{Arch, Simd, WithSimd};

/// Rows of a matrix are padded with zeros to a multiple of this many values.
pub(super) const LANES: usize = 8;
/// Columns of the larger register tile.
const TILE: usize = 2 * LANES;

/// Rounds a width up to whole lanes.
pub(super) fn padded(width: usize) -> usize {
    width.next_multiple_of(LANES)
}

/// How the left factor lies in memory.
#[derive(Clone, Copy)]
pub(super) enum Left {
    /// Element (row, k) at `row * stride + k`.
    Plain,
    /// Element (row, k) at `k * stride + row`.
    Transposed,
}

/// `out[row][column] = start[row][column] + sum over k of left(row, k) * right[k][column]`.
pub(super) struct Product<'a> {
    pub(super) left: &'a [f32],
    pub(super) left_stride: usize,
    pub(super) layout: Left,
    /// `[depth][width]`.
    pub(super) right: &'a [f32],
    /// `[width]` for all rows alike, `[rows][width]`, or empty for zeros.
    pub(super) start: &'a [f32],
    /// `[rows][width]`.
    pub(super) out: &'a mut [f32],
    /// A multiple of [`LANES`].
    pub(super) width: usize,
    pub(super) rows: usize,
    pub(super) depth: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _simd: S) {
        let mut column = 0;
        while column + TILE <= self.width {
            self.columns::<TILE, 4>(column);
            column += TILE;
        }
        if column < self.width {
            self.columns::<LANES, 8>(column);
        }
    }
}

impl Product<'_> {
    pub(super) fn run(self, arch: Arch) {
        assert!(self.width.is_multiple_of(LANES) && self.right.len() == self.depth * self.width);
        assert!(self.out.len() == self.rows * self.width);
        let start = self.start.len();
        assert!(start == 0 || start == self.width || start == self.rows * self.width);
        arch.dispatch(self);
    }

    #[inline(always)]
    fn columns<const WIDE: usize, const HIGH: usize>(&mut self, column: usize) {
        let mut row = 0;
        while row + HIGH <= self.rows {
            self.tile::<WIDE, HIGH>(row, column);
            row += HIGH;
        }
        while row + 4 <= self.rows {
            self.tile::<WIDE, 4>(row, column);
            row += 4;
        }
        while row < self.rows {
            self.tile::<WIDE, 1>(row, column);
            row += 1;
        }
    }

    #[inline(always)]
    fn tile<const WIDE: usize, const HIGH: usize>(&mut self, row: usize, column: usize) {
        let mut sums = [[0.0; WIDE]; HIGH];
        if !self.start.is_empty() {
            let stride = if self.start.len() == self.width { 0 } else { self.width };
            for (high, sum) in sums.iter_mut().enumerate() {
                let at = (row + high) * stride + column;
                sum.copy_from_slice(&self.start[at..at + WIDE]);
            }
        }
        match self.layout {
            Left::Plain => self.accumulate_plain(row, column, &mut sums),
            Left::Transposed => self.accumulate_transposed(row, column, &mut sums),
        }
        for (high, sum) in sums.iter().enumerate() {
            let at = (row + high) * self.width + column;
            self.out[at..at + WIDE].copy_from_slice(sum);
        }
    }

    #[inline(always)]
    fn accumulate_plain<const WIDE: usize, const HIGH: usize>(
        &self,
        row: usize,
        column: usize,
        sums: &mut [[f32; WIDE]; HIGH],
    ) {
        let mut sources: [&[f32]; HIGH] = [&[]; HIGH];
        for (high, source) in sources.iter_mut().enumerate() {
            *source = &self.left[(row + high) * self.left_stride..][..self.depth];
        }
        let mut local = *sums;
        for (k, right) in self.right.chunks_exact(self.width).enumerate() {
            let right: &[f32; WIDE] =
                right[column..column + WIDE].try_into().expect("the range is WIDE long");
            for high in 0..HIGH {
                add_scaled(&mut local[high], sources[high][k], right);
            }
        }
        *sums = local;
    }

    #[inline(always)]
    fn accumulate_transposed<const WIDE: usize, const HIGH: usize>(
        &self,
        row: usize,
        column: usize,
        sums: &mut [[f32; WIDE]; HIGH],
    ) {
        let mut local = *sums;
        let rights = self.right.chunks_exact(self.width);
        for (left, right) in self.left.chunks_exact(self.left_stride).zip(rights) {
            let left: &[f32; HIGH] =
                left[row..row + HIGH].try_into().expect("the range is HIGH long");
            let right: &[f32; WIDE] =
                right[column..column + WIDE].try_into().expect("the range is WIDE long");
            for high in 0..HIGH {
                add_scaled(&mut local[high], left[high], right);
            }
        }
        *sums = local;
    }
}

#[inline(always)]
fn add_scaled<const WIDE: usize>(sum: &mut [f32; WIDE], factor: f32, values: &[f32; WIDE]) {
    for lane in 0..WIDE {
        sum[lane] = factor.mul_add(values[lane], sum[lane]);
    }
}
