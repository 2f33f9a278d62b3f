//! The device's side of a sealed session on the chip: one handshake, one message, one
//! acknowledgement, equal byte for byte to a test vector, with instructions and stack counted.
//!
//! The host lays a vector into memory, part after part, each behind its length (two bytes,
//! little-endian): device's secret key, server's public key, the handshake's random bytes, hello,
//! welcome, what the first message says, its frame, the acknowledgement's frame.

#![no_std]
#![no_main]

mod power;
mod probe;
mod ram;
mod serial;
mod stack;
mod start;

use core::fmt::Write;

use stonechat_core::link::frame::{Frame, SEALED_HEADER_LEN};
use stonechat_core::link::message::{Message, UPLINK};
use stonechat_core::link::{Handshake, SecretKey, Session};
use stonechat_job::run::Probe;

use crate::probe::Chip;
use crate::serial::Serial;
use crate::start::Trap;

/// The longest frame of the vectors that are run here.
const FRAME_LEN_MAX: usize = 2_048;

/// Exit statuses: what came out differs from the vector, a panic, a trap.
const DIFFERENT: u16 = 1;
const PANICKED: u16 = 101;
const TRAPPED: u16 = 102;

/// Where [`start`] hands over.
fn main() -> ! {
    let status = if run().is_some() { 0 } else { DIFFERENT };
    power::exit(status)
}

struct Parts(&'static [u8]);

impl Parts {
    fn next(&mut self) -> Option<&'static [u8]> {
        let (len, rest) = self.0.split_first_chunk::<2>()?;
        let (part, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        self.0 = rest;
        Some(part)
    }
}

/// Counts the instructions of a call, and its stack by running it once more.
fn count(name: &str, mut call: impl FnMut() -> Option<()>) -> Option<()> {
    let before = Chip.instructions();
    call()?;
    let instructions = Chip.instructions().wrapping_sub(before);
    let mut again = None;
    let stack_bytes = Chip.stack_bytes(|| again = call());
    again?;
    writeln!(Serial, "{name} {instructions} {stack_bytes}").ok()
}

fn run() -> Option<()> {
    let mut parts = Parts(ram::from_host());
    let secret: [u8; 32] = parts.next()?.try_into().ok()?;
    let server: [u8; 32] = parts.next()?.try_into().ok()?;
    let random = parts.next()?.try_into().ok()?;
    let (hello, welcome) = (parts.next()?, parts.next()?);
    let (text, frame, answer) = (parts.next()?, parts.next()?, parts.next()?);
    let secret = SecretKey::from_bytes(secret);
    let begin = || Handshake::start(&secret, &server, random).ok();
    count("hello", || (begin()?.1 == hello).then_some(()))?;
    let Ok(Frame::Welcome { noise, .. }) = Frame::parse(welcome) else { return None };
    let mut begun = [Some(begin()?.0), Some(begin()?.0)].into_iter();
    let mut session: Option<Session> = None;
    count("welcome", || {
        session = Some(begun.next()??.finish(noise).ok()?);
        Some(())
    })?;
    let mut fresh = [begin()?.0.finish(noise).ok()?, session?].into_iter();
    let mut buffer = [0; FRAME_LEN_MAX];
    count("seal", || {
        let (_, len) = fresh.next()?.seal(UPLINK, text, &mut buffer).ok()?;
        (buffer[..len] == *frame).then_some(())
    })?;
    let mut fresh = [begin()?.0.finish(noise).ok()?, begin()?.0.finish(noise).ok()?].into_iter();
    count("open", || {
        let place = buffer.get_mut(..answer.len())?;
        place.copy_from_slice(answer);
        let mut session = fresh.next()?;
        let text = session.open(0, &mut place[SEALED_HEADER_LEN..]).ok()?;
        matches!(Message::parse(text), Ok(Message::Acknowledgement(_))).then_some(())
    })?;
    writeln!(Serial, "session_bytes {} 0", size_of::<Session>()).ok()?;
    writeln!(Serial, "link_bytes {} 0", size_of::<stonechat_core::link::Link>()).ok()
}

fn trapped(trap: &Trap) -> ! {
    // Nothing is left to do with a failure of the serial line itself.
    let _ = writeln!(Serial, "error the chip trapped at {:#x}", trap.address);
    power::exit(TRAPPED)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing is left to do with a failure of the serial line itself.
    let _ = writeln!(Serial, "error the chip panicked: {}", info.message());
    power::exit(PANICKED)
}
