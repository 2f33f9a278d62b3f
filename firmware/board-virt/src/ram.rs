//! The memory that the host's loader fills before the chip starts.
#![allow(unsafe_code)]

use stonechat_job::format::{HEADER_BYTES, job_len};

unsafe extern "C" {
    static __job_start: [u8; HEADER_BYTES];
    static __job_end: u8;
}

/// The job's bytes, as many as its header says; only the header where it says nothing sensible.
pub(crate) fn job() -> &'static [u8] {
    // SAFETY: the linker script keeps this region of RAM free of the program's
    // own parts, the loader wrote it before the start, and nothing writes it later.
    let header: &'static [u8; HEADER_BYTES] = unsafe { &__job_start };
    // SAFETY: only the address is taken.
    let end = &raw const __job_end;
    let room = end as usize - header.as_ptr() as usize;
    match job_len(header) {
        // SAFETY: as above; the length stays within the region.
        Ok(len) if len <= room => unsafe { core::slice::from_raw_parts(header.as_ptr(), len) },
        _ => header,
    }
}
