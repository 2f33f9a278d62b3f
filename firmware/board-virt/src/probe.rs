//! What the chip measures of itself: instructions and stack.
#![allow(unsafe_code, reason = "the instruction counter is read by an instruction of its own")]

use stonechat_job::run::Probe;

use crate::stack;

/// The chip's own measurements.
pub(crate) struct Chip;

impl Probe for Chip {
    /// Instructions retired, by the `minstret` register; exact under `-icount shift=0`.
    #[inline(always)]
    fn instructions(&self) -> u32 {
        let count: u32;
        // SAFETY: reading the register has no effect. It is not marked `nomem`, so that
        // memory accesses stay on their side of the measurement.
        unsafe { core::arch::asm!("csrr {}, minstret", out(reg) count, options(nostack)) };
        count
    }

    fn stack_bytes(&self, call: impl FnOnce()) -> u32 {
        stack::high_water(call)
    }
}
