//! Decoders of the core.

use stonechat_core::detector::{Detector, format};
use stonechat_core::limits::{MESSAGE_LEN_MAX, MESSAGE_RECORDS_MAX};
use stonechat_core::pipeline::Pipeline;
use stonechat_core::wire::uplink::Uplink;

/// An uplink message: whatever is accepted has no more records than the limit.
pub(crate) fn uplink(bytes: &[u8]) {
    if let Ok(message) = Uplink::parse(bytes) {
        assert!(bytes.len() <= MESSAGE_LEN_MAX);
        assert!(message.readings().count() <= MESSAGE_RECORDS_MAX);
    }
}

/// The words of memory that a forged detector may ask for here.
const MEMORY_WORDS_MAX: usize = 1 << 20;
/// Samples that it is fed.
const SAMPLES: usize = 64;

/// A detector file with a right checksum, which any forger can make: it is refused, or runs.
pub(crate) fn detector(bytes: &[u8]) {
    let mut words = vec![0_u32; bytes.len().div_ceil(4)];
    let file = &mut bytemuck::cast_slice_mut(&mut words)[..bytes.len()];
    file.copy_from_slice(bytes);
    if let Some(place) = file.get(format::CHECKSUM_OFFSET..format::CHECKSUM_OFFSET + 4) {
        let len = place.len();
        let checksum = format::checksum(file).to_le_bytes();
        file[format::CHECKSUM_OFFSET..format::CHECKSUM_OFFSET + len].copy_from_slice(&checksum);
    }
    let Ok(detector) = Detector::load(&bytemuck::cast_slice(&words)[..bytes.len()]) else {
        return;
    };
    if detector.memory_words() > MEMORY_WORDS_MAX {
        return;
    }
    let mut memory = vec![0; detector.memory_words()];
    let mut pipeline = Pipeline::new(&detector, &mut memory).expect("as much as it asked for");
    let mut sample = vec![0.0; detector.channels().count()];
    for index in 0..SAMPLES {
        sample.fill((index as f32).sin() * 10.0);
        if let Ok(Some(result)) = pipeline.push(&sample) {
            assert!(result.score.is_finite(), "a score is finite, whatever the file says");
        }
    }
}
