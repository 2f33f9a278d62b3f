//! The memory that the host's loader fills before the chip starts.
#![allow(unsafe_code, reason = "reads the job that the emulator put into memory")]

unsafe extern "C" {
    static __job_start: u8;
    static __job_end: u8;
}

/// All of that memory; what the host did not write is zero.
pub(crate) fn from_host() -> &'static [u8] {
    let start = &raw const __job_start;
    let end = &raw const __job_end;
    // SAFETY: the linker script keeps this region of RAM free of the program's own parts, the
    // emulator has it filled before the start, and nothing writes it later.
    unsafe { core::slice::from_raw_parts(start, end as usize - start as usize) }
}
