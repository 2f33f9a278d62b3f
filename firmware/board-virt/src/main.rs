//! Runs one job on an emulated rv32imc chip, `qemu-system-riscv32 -M virt`.
//!
//! The host lays the job into memory with `-device loader`; the report goes out
//! over the serial line; the exit status says whether a job was run.

#![no_std]
#![no_main]

mod power;
mod probe;
mod ram;
mod serial;
mod stack;
mod start;

use core::fmt::Write;

use stonechat_job::format::Job;
use stonechat_job::report::Line;
use stonechat_job::run;

use crate::probe::Chip;
use crate::serial::Serial;
use crate::start::Trap;

/// Words of working memory that a detector may ask for.
const WORKSPACE_WORDS: usize = 16 * 1024;

/// Exit status after a panic.
const PANICKED: u16 = 101;
/// Exit status after a trap.
const TRAPPED: u16 = 102;

/// Where [`start`] hands over.
fn main() -> ! {
    let status = match job(&mut Serial) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    power::exit(status)
}

fn job(serial: &mut Serial) -> Result<(), core::fmt::Error> {
    let job = match Job::parse(ram::from_host()) {
        Ok(job) => job,
        Err(error) => return refuse(serial, &error),
    };
    let mut workspace = [0; WORKSPACE_WORDS];
    let mut lines = |line: Line<'_>| writeln!(serial, "{line}");
    match run::run(&job, &mut workspace, &Chip, &mut lines) {
        Ok(()) => lines(Line::End),
        Err(error) => refuse(serial, &error),
    }
}

fn refuse(serial: &mut Serial, error: &dyn core::fmt::Display) -> Result<(), core::fmt::Error> {
    writeln!(serial, "error {error}")?;
    Err(core::fmt::Error)
}

/// Where [`start`] ends up after a trap.
fn trapped(trap: &Trap) -> ! {
    // Nothing is left to do with a failure of the serial line itself.
    let _ = writeln!(
        Serial,
        "error the chip trapped: cause {}, at {:#x}, value {:#x}",
        trap.cause, trap.address, trap.value
    );
    power::exit(TRAPPED)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing is left to do with a failure of the serial line itself.
    let _ = writeln!(Serial, "error the chip panicked: {}", info.message());
    power::exit(PANICKED)
}
