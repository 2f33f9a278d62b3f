//! Detector files: what is damaged is refused, what is forged cannot make the core reach outside.

mod common;

use stonechat_core::detector::{Detector, LoadError, format};
use stonechat_core::pipeline::Pipeline;
use stonechat_train::compile::DetectorFile;
use stonechat_train::random::Random;

fn aligned(bytes: &[u8]) -> Vec<u32> {
    let mut words = vec![0; bytes.len().div_ceil(4)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    words
}

fn load(words: &[u32], len: usize) -> Result<Detector<'_>, LoadError> {
    Detector::load(&bytemuck::cast_slice(words)[..len])
}

#[test]
fn every_cut_is_refused() {
    for file in common::detectors() {
        let words = aligned(file.bytes());
        for len in 0..file.bytes().len() {
            assert!(load(&words, len).is_err(), "cut at {len}");
        }
    }
}

#[test]
fn every_flipped_byte_is_refused() {
    for file in common::detectors() {
        let mut bytes = file.bytes().to_vec();
        for position in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                bytes[position] ^= flip;
                let words = aligned(&bytes);
                assert!(load(&words, bytes.len()).is_err(), "byte {position} flipped by {flip:#x}");
                bytes[position] ^= flip;
            }
        }
    }
}

/// A forger can make the checksum right; then the checks alone stand between him and the device.
#[test]
fn a_forged_file_is_refused_or_runs_within_its_bounds() {
    let mut random = Random::new(7);
    let (mut refused, mut ran) = (0, 0);
    for file in common::detectors() {
        for _ in 0..3_000 {
            let mut bytes = file.bytes().to_vec();
            for _ in 0..=random.next_u32() % 3 {
                let position = random.next_u32() as usize % bytes.len();
                bytes[position] = random.next_u32() as u8;
            }
            let checksum = format::checksum(&bytes);
            bytes[format::CHECKSUM_OFFSET..format::CHECKSUM_OFFSET + 4]
                .copy_from_slice(&checksum.to_le_bytes());
            let words = aligned(&bytes);
            let Ok(detector) = load(&words, bytes.len()) else {
                refused += 1;
                continue;
            };
            ran += 1;
            let mut memory = vec![0; detector.memory_words()];
            let mut pipeline =
                Pipeline::new(&detector, &mut memory).expect("as much as it asked for");
            let sample = vec![21.0; detector.channel_count()];
            for _ in 0..detector.window_len().min(1_000) + 2 {
                if let Ok(Some(result)) = pipeline.push(&sample) {
                    assert!(result.score.is_finite());
                }
            }
        }
    }
    assert!(refused > 500 && ran > 500, "{refused} refused, {ran} ran: the test must see both");
}

#[test]
fn says_what_is_wrong() {
    let file = &common::detectors()[0];
    let words = aligned(file.bytes());
    assert_eq!(load(&words, 10).err(), Some(LoadError::TooShort));
    assert_eq!(load(&words, file.bytes().len() - 4).err(), Some(LoadError::Length));
    let misaligned = aligned(&[&[0], file.bytes()].concat());
    assert_eq!(
        Detector::load(&bytemuck::cast_slice(&misaligned)[1..=file.bytes().len()]).err(),
        Some(LoadError::Misaligned)
    );
    assert_eq!(DetectorFile::from_bytes(&[0; 400]).err(), Some(LoadError::NotADetector));
}
