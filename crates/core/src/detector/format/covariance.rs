//! The models that rest on a covariance: Mahalanobis distance and principal components.
//!
//! | offset | field | size |
//! |---|---|---|
//! | 0 | [`MahalanobisHeader`] | 16 |
//! | `means` | `f32` for each number of the feature vector (n) | 4n |
//! | `whitening` | `f32`, the rows of a lower triangle: 1, 2, ... n numbers | 2n(n + 1) |
//! | `remainders` | `f32` each | 4n |
//!
//! | offset | field | size |
//! |---|---|---|
//! | 0 | [`PcaHeader`] | 16 |
//! | `means` | `f32` for each number of the feature vector (n) | 4n |
//! | `components` | `[component_count][n]` of `f32` | 4n each |

use bytemuck::{Pod, Zeroable};

/// The start of a Mahalanobis model; offsets count from here.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct MahalanobisHeader {
    /// 0: the means.
    pub means: u32,
    /// 4: the inverse of the Cholesky factor of the covariance, row by row without the zeros.
    pub whitening: u32,
    /// 8: one over the diagonal of the inverse covariance: what the other numbers leave of each
    /// number's variance.
    pub remainders: u32,
    /// 12: zero.
    pub reserved: u32,
}

/// The start of a model of principal components; offsets count from here.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct PcaHeader {
    /// 0: the means.
    pub means: u32,
    /// 4: the components, orthonormal.
    pub components: u32,
    /// 8: how many; at least 1, fewer than the feature vector has numbers.
    pub component_count: u32,
    /// 12: zero.
    pub reserved: u32,
}
