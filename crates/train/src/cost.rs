//! What a detector costs on a chip, in instructions of rv32imc.
//!
//! The kinds of work are counted from the detector ([`Work`]) and weighed with what each takes on the
//! emulated chip. `cargo xtask test --only virt` holds the sum against counted instructions for every
//! kind of detector; for the learner it is a bound, as its cost grows with what it remembers and it gives
//! up comparisons that cannot matter.

use serde::Serialize;
use stonechat_core::detector::{Detector, Work};

/// Instructions of rv32imc, of which the software floating point is the greatest part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// A sample, on average over a window's stride.
    pub per_sample: f64,
    /// The sample that completes a window.
    pub worst_sample: f64,
}

/// Computes what a detector costs.
#[must_use]
pub fn cost(detector: &Detector<'_>) -> Cost {
    let channels = detector.channel_count() as f64;
    let vector_len = detector.vector_len() as u64;
    // The scaler takes a subtraction, a product and two comparisons, the score rule two operations.
    let around = Work {
        float_operations: 6 * vector_len,
        float_divisions: 1,
        float_functions: 1,
        ..Work::default()
    };
    let features = detector
        .features()
        .fold(Work::default(), |sum, feature| sum + feature.work(detector.window_len()));
    let window = instructions(features + around + detector.engine().work()) + PER_WINDOW;
    let stride = detector.stride() as f64;
    let moved = (detector.window_len() - detector.stride()) as f64 * channels;
    let sample = PER_SAMPLE + PER_CHANNEL * channels;
    Cost {
        per_sample: sample + (window + PER_MOVED * moved) / stride,
        worst_sample: sample + window + PER_MOVED * moved,
    }
}

/// Instructions of a sample, of each of its channels, of each sample moved when a window advances, and
/// of what a window takes besides its work.
const PER_SAMPLE: f64 = 90.0;
const PER_CHANNEL: f64 = 60.0;
const PER_MOVED: f64 = 2.0;
const PER_WINDOW: f64 = 250.0;

fn instructions(work: Work) -> f64 {
    let weighed = [
        (work.int8_macs, 3.6),
        (work.requantised, 22.0),
        (work.float_macs, 106.0),
        (work.float_operations, 55.0),
        (work.float_divisions, 280.0),
        (work.float_functions, 1_000.0),
        (work.integer_steps, 10.0),
    ];
    weighed.into_iter().map(|(count, each)| count as f64 * each).sum()
}
