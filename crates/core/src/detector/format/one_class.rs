//! The one-class SVM over random features.
//!
//! | offset | field | size |
//! |---|---|---|
//! | 0 | [`OneClassHeader`] | 32 |
//! | `directions` | `[feature_count][n]` of `i8`, n the length of the feature vector | n each |
//! | `phases` | `u32` each, in units of 2^-32 of a turn | 4 each |
//! | `weights` | `f32` each | 4 each |

use bytemuck::{Pod, Zeroable};

/// The start of a one-class model; offsets count from here.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct OneClassHeader {
    /// 0: the directions.
    pub directions: u32,
    /// 4: the phases.
    pub phases: u32,
    /// 8: the weights.
    pub weights: u32,
    /// 12: how many random features; at least 1.
    pub feature_count: u32,
    /// 16: a step of a direction turns a number of 1 / 1,024 by 2^`shift` units of 2^-32 of a turn.
    pub shift: u32,
    /// 20: one over the greatest similarity of a normal vector to the normal ones.
    pub gain: f32,
    /// 24: the length beyond which a vector is like no normal one, in scaled units; above 0.
    pub radius: f32,
    /// 28: zero.
    pub reserved: u32,
}
