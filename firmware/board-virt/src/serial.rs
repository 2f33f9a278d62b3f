//! The serial line: an NS16550A at 0x10000000, without interrupts.
#![allow(unsafe_code, reason = "the serial port is a memory address")]
#![allow(dead_code, reason = "each program of this package uses a part of it")]

const DATA: *mut u8 = 0x1000_0000 as *mut u8;
const LINE_STATUS: *mut u8 = 0x1000_0005 as *mut u8;
const DATA_READY: u8 = 1;

/// Sends one byte.
pub(crate) fn send(byte: u8) {
    // SAFETY: the transmit register of the only board that this program is for; writing has no
    // effect on memory. The emulator takes every byte at once, so that the line status need not
    // be polled.
    unsafe { DATA.write_volatile(byte) };
}

/// Waits for one byte.
pub(crate) fn receive() -> u8 {
    // SAFETY: the line status register of the same device; reading has no effect on memory.
    while unsafe { LINE_STATUS.read_volatile() } & DATA_READY == 0 {
        core::hint::spin_loop();
    }
    // SAFETY: the receive register of the same device; reading takes the byte from its queue.
    unsafe { DATA.read_volatile() }
}

/// The serial line as a place to write text to.
pub(crate) struct Serial;

impl core::fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.bytes().for_each(send);
        Ok(())
    }
}
