//! The serial line: an NS16550A at 0x10000000, output only.
#![allow(unsafe_code)]

const TRANSMIT: *mut u8 = 0x1000_0000 as *mut u8;

/// The serial line.
pub(crate) struct Serial;

impl core::fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the transmit register of the only board that this program
            // is for; writing has no effect on memory. The emulator takes every
            // byte at once, so that the line status need not be polled.
            unsafe { TRANSMIT.write_volatile(byte) };
        }
        Ok(())
    }
}
