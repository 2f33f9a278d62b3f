//! From reset to `main`: stack, trap vector, zeroed variables.
#![allow(unsafe_code, reason = "the first instructions run before there is a stack")]

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

/// What the trap registers say.
#[allow(dead_code, reason = "a program without text output cannot tell it")]
pub(crate) struct Trap {
    /// `mcause`.
    pub(crate) cause: u32,
    /// `mepc`.
    pub(crate) address: u32,
    /// `mtval`.
    pub(crate) value: u32,
}

/// No interrupt is enabled, so that every trap is a defect: the program says where, and stops.
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
    crate::trapped(&Trap { cause, address, value })
}
