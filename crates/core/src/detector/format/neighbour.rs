//! The model of the nearest neighbour.
//!
//! | offset | field | size |
//! |---|---|---|
//! | 0 | [`NeighbourHeader`] | 16 |
//! | `vectors` | `[count][n]` of `i16`, where n is the length of the feature vector | 2n each |

use bytemuck::{Pod, Zeroable};

/// The start of the model; offsets count from here.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct NeighbourHeader {
    /// 0: the stored vectors, in steps of `scale`; magnitudes up to [`CODE_ABS_MAX`].
    pub vectors: u32,
    /// 4: how many; 1 to [`crate::limits::NEIGHBOURS_MAX`].
    pub count: u32,
    /// 8: one step in scaled units; above 0.
    pub scale: f32,
    /// 12: zero.
    pub reserved: u32,
}

/// The greatest magnitude of a stored number: with inputs of twice that, the squares of four
/// differences add up to less than 2³².
pub const CODE_ABS_MAX: i16 = 8_191;
