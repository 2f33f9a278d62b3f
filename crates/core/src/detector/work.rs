use core::ops::{Add, Mul};

/// What a stage computes, counted by kind: the shape of its cost on any chip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Multiply-accumulates in int8.
    pub int8_macs: u64,
    /// Accumulators brought back to int8 or int16.
    pub requantised: u64,
    /// Multiply-accumulates in single precision.
    pub float_macs: u64,
    /// Additions, multiplications, comparisons and conversions in single precision.
    pub float_operations: u64,
    /// Divisions in single precision.
    pub float_divisions: u64,
    /// Square roots, exponentials and the like in single precision.
    pub float_functions: u64,
    /// Steps that load, compare and branch on integers: tree nodes, table look-ups, moved words.
    pub integer_steps: u64,
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            int8_macs: self.int8_macs + other.int8_macs,
            requantised: self.requantised + other.requantised,
            float_macs: self.float_macs + other.float_macs,
            float_operations: self.float_operations + other.float_operations,
            float_divisions: self.float_divisions + other.float_divisions,
            float_functions: self.float_functions + other.float_functions,
            integer_steps: self.integer_steps + other.integer_steps,
        }
    }
}

impl Mul<u64> for Work {
    type Output = Self;

    fn mul(self, times: u64) -> Self {
        Self {
            int8_macs: self.int8_macs * times,
            requantised: self.requantised * times,
            float_macs: self.float_macs * times,
            float_operations: self.float_operations * times,
            float_divisions: self.float_divisions * times,
            float_functions: self.float_functions * times,
            integer_steps: self.integer_steps * times,
        }
    }
}
