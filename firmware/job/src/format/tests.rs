extern crate std;

use std::vec;
use std::vec::Vec;

use super::*;

const SETTINGS: Settings = Settings { channels: 3, block_windows: 100, count: true };

/// A job, aligned as a chip's memory is.
struct Aligned(Vec<u32>, usize);

impl Aligned {
    fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0; bytes.len().div_ceil(4)];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Self(words, bytes.len())
    }

    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.0)[..self.1]
    }
}

fn job() -> Vec<u8> {
    let samples = [1.0, -0.0, f32::NAN, 3.5, f32::INFINITY, 1e-40];
    let layout = Layout::plan(SETTINGS, 5, samples.len()).unwrap();
    let mut bytes = vec![0; layout.len()];
    layout.write(&mut bytes, b"12345", &samples).unwrap();
    bytes
}

#[test]
fn a_job_comes_back_bit_for_bit() {
    let aligned = Aligned::new(&job());
    let job = Job::parse(aligned.bytes()).unwrap();
    assert_eq!(job.settings, SETTINGS);
    assert_eq!(job.detector, b"12345");
    let bits: Vec<Vec<u32>> =
        job.samples().map(|sample| sample.iter().map(|value| value.to_bits()).collect()).collect();
    let first = vec![1.0f32.to_bits(), 0x8000_0000, f32::NAN.to_bits()];
    let second = vec![3.5f32.to_bits(), f32::INFINITY.to_bits(), 1e-40f32.to_bits()];
    assert_eq!(bits, [first, second]);
}

#[test]
fn a_cut_or_flipped_job_is_refused_or_the_same() {
    let bytes = job();
    for len in 0..bytes.len() {
        let cut = Aligned::new(&bytes[..len]);
        assert!(Job::parse(cut.bytes()).is_err(), "cut at {len}");
    }
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x80;
        // The header is not under the checksum: a flip there may give another
        // job, and must not panic.
        let aligned = Aligned::new(&bytes);
        let job = Job::parse(aligned.bytes());
        assert!(at < HEADER_BYTES || job.is_err(), "flipped at {at}");
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let none = Settings { channels: 0, ..SETTINGS };
    assert_eq!(Layout::plan(none, 0, 0).unwrap_err(), JobError::Field(16));
    assert_eq!(Layout::plan(SETTINGS, 0, 4).unwrap_err(), JobError::Field(40));
    assert_eq!(Layout::plan(SETTINGS, JOB_BYTES_MAX, 0).unwrap_err(), JobError::Field(12));
}
