//! From reset to `main`: stack, trap vector, zeroed variables.
#![allow(unsafe_code)]

use core::fmt::Write;

use crate::power;
use crate::serial::Serial;

// Initialised variables need no copying, since the emulator's loader puts them
// where they run.
core::arch::global_asm!(
    ".section .text.start, \"ax\"",
    ".global _start",
    "_start:",
    "la sp, __stack_top",
    "la t0, 3f",
    "csrw mtvec, t0",
    "la t0, __bss_start",
    "la t1, __bss_end",
    "1: bgeu t0, t1, 2f",
    "sw zero, 0(t0)",
    "addi t0, t0, 4",
    "j 1b",
    "2: j {main}",
    // The trap vector's lowest two bits are its mode, so that it must be aligned.
    ".balign 4",
    "3: j {trap}",
    trap = sym trap,
    main = sym enter,
);

extern "C" fn enter() -> ! {
    crate::main()
}

/// No interrupt is enabled, so that every trap is a defect: say where, and stop.
extern "C" fn trap() -> ! {
    let (cause, address, value): (u32, u32, u32);
    // SAFETY: reading these registers has no effect, and they exist in machine mode.
    unsafe {
        core::arch::asm!(
            "csrr {cause}, mcause",
            "csrr {address}, mepc",
            "csrr {value}, mtval",
            cause = out(reg) cause,
            address = out(reg) address,
            value = out(reg) value,
            options(nomem, nostack),
        );
    }
    // Nothing is left to do with a failure of the serial line itself.
    let _ = writeln!(
        Serial,
        "error the chip trapped: cause {cause}, at {address:#x}, value {value:#x}"
    );
    power::exit(102)
}
