//! The least that a detector needs on a chip, to tell its flash: start, a loader, every engine.
//!
//! Samples are read from the serial line as four bytes a channel, verdicts go back as one byte a
//! window; nothing is measured or formatted.

#![no_std]
#![no_main]

mod power;
mod ram;
mod serial;
mod start;

use stonechat_core::decision::Verdict;
use stonechat_core::detector::Detector;
use stonechat_core::detector::format::Header;
use stonechat_core::limits::CHANNELS_MAX;
use stonechat_core::pipeline::Pipeline;

use crate::start::Trap;

/// Words of working memory that a detector may ask for.
const WORKSPACE_WORDS: usize = 1024;

/// Exit statuses: the detector is refused, a panic, a trap.
const REFUSED: u16 = 1;
const PANICKED: u16 = 101;
const TRAPPED: u16 = 102;

/// Where [`start`] hands over.
fn main() -> ! {
    let mut workspace = [0; WORKSPACE_WORDS];
    let Some(Ok(detector)) = file(ram::from_host()).map(Detector::load) else {
        power::exit(REFUSED)
    };
    let Ok(mut pipeline) = Pipeline::new(&detector, &mut workspace) else { power::exit(REFUSED) };
    let mut sample = [0.0; CHANNELS_MAX];
    loop {
        for value in &mut sample[..detector.channel_count()] {
            *value = f32::from_le_bytes([(); 4].map(|()| serial::receive()));
        }
        let answer = match pipeline.push(&sample) {
            Ok(None) => continue,
            Ok(Some(result)) if result.verdict == Verdict::Anomaly => b'A',
            Ok(Some(_)) => b'N',
            Err(_) => b'F',
        };
        serial::send(answer);
    }
}

/// Cuts the detector file out of the memory at whose start it lies.
fn file(memory: &[u8]) -> Option<&[u8]> {
    let header: &Header = bytemuck::from_bytes(memory.get(..size_of::<Header>())?);
    memory.get(..header.file_len as usize)
}

fn trapped(_: &Trap) -> ! {
    power::exit(TRAPPED)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    power::exit(PANICKED)
}
