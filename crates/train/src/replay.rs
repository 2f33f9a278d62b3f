//! Replays recordings through the core's pipeline: the one way in which training, evaluation and
//! plots get features and scores.

use stonechat_core::decision::Verdict;
use stonechat_core::detector::{Coverage, Detector};
use stonechat_core::pipeline::Pipeline;
use thiserror::Error;

use crate::dataset::Recording;
use crate::evaluate::Scored;

/// A detector and a recording do not fit together.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ReplayError {
    /// The number of channels differs.
    #[error(
        "the number of channels differs: the detector `{detector}` needs {needed}, the recording `{recording}` has {found} ({names}); choose columns with --channels"
    )]
    Channels {
        /// The recording's name.
        recording: String,
        /// Channels found.
        found: usize,
        /// Their names.
        names: String,
        /// The detector's name.
        detector: String,
        /// Channels needed.
        needed: usize,
    },
    /// The rate differs.
    #[error(
        "the rate differs: the detector `{detector}` was made for {needed} Hz, the recording `{recording}` has {found} Hz; give the right --rate, or train again"
    )]
    Rate {
        /// The recording's name.
        recording: String,
        /// The rate found, in hertz.
        found: f64,
        /// The detector's name.
        detector: String,
        /// The rate needed, in hertz.
        needed: f64,
    },
}

/// The rates of recording and detector may differ by this share.
const RATE_TOLERANCE: f64 = 0.05;

/// A scored window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredWindow {
    /// The recording's row that completed the window.
    pub row: usize,
    /// The score.
    pub score: f32,
    /// The verdict that held then.
    pub verdict: Verdict,
}

/// What a replay gave.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// The windows in order.
    pub windows: Vec<ScoredWindow>,
    /// Samples that were sensor faults.
    pub faults: usize,
}

impl Replay {
    /// Returns scores and verdicts as the evaluation takes them.
    #[must_use]
    pub fn scored(&self, threshold: f32) -> Scored {
        let windows = || self.windows.iter();
        Scored {
            scores: windows().map(|window| f64::from(window.score)).collect(),
            verdicts: windows().map(|window| window.verdict == Verdict::Anomaly).collect(),
            threshold: Some(f64::from(threshold)),
        }
    }

    /// Returns the last row of each window.
    #[must_use]
    pub fn last_rows(&self) -> Vec<usize> {
        self.windows.iter().map(|window| window.row).collect()
    }
}

/// Checks that a recording is what a detector expects.
///
/// # Errors
/// [`ReplayError`] says what differs.
pub fn check(detector: &Detector<'_>, recording: &Recording) -> Result<(), ReplayError> {
    if recording.channels.len() != detector.channel_count() {
        let names: Vec<&str> = recording.channels.iter().map(|c| c.name.as_str()).collect();
        return Err(ReplayError::Channels {
            recording: recording.name.clone(),
            found: names.len(),
            names: names.join(", "),
            detector: detector.name().to_owned(),
            needed: detector.channel_count(),
        });
    }
    let needed = f64::from(detector.rate_hz());
    if (recording.rate_hz / needed - 1.0).abs() > RATE_TOLERANCE {
        return Err(ReplayError::Rate {
            recording: recording.name.clone(),
            found: recording.rate_hz,
            detector: detector.name().to_owned(),
            needed,
        });
    }
    Ok(())
}

/// Runs a detector over a recording; each segment starts a new window. `observe` sees the pipeline
/// after each window.
///
/// # Errors
/// [`ReplayError`] if recording and detector do not fit together.
pub fn replay(
    detector: &Detector<'_>,
    recording: &Recording,
    mut observe: impl FnMut(&Pipeline<'_, '_>, &ScoredWindow),
) -> Result<Replay, ReplayError> {
    check(detector, recording)?;
    let mut memory = vec![0; detector.memory_words()];
    let mut pipeline =
        Pipeline::new(detector, &mut memory).expect("the memory has the size asked for");
    let mut replay = Replay::default();
    let mut segments = recording.segment_starts.iter().copied().peekable();
    for (row, sample) in recording.samples.chunks_exact(recording.channels.len()).enumerate() {
        if segments.next_if_eq(&row).is_some() {
            pipeline.reset_window();
        }
        match pipeline.push(sample) {
            Ok(None) => {}
            Ok(Some(result)) => {
                let window = ScoredWindow { row, score: result.score, verdict: result.verdict };
                observe(&pipeline, &window);
                replay.windows.push(window);
            }
            Err(_) => replay.faults += 1,
        }
    }
    Ok(replay)
}

/// Tells for each scored window whether the samples that its score speaks of hold a labelled anomaly.
/// Recordings without labels are normal throughout.
#[must_use]
pub fn window_labels(recording: &Recording, replay: &Replay, detector: &Detector<'_>) -> Vec<bool> {
    let Some(labels) = &recording.labels else {
        return vec![false; replay.windows.len()];
    };
    let Coverage { len, delay } = detector.coverage();
    let label = |window: &ScoredWindow| {
        let end = (window.row + 1).saturating_sub(delay);
        labels[end.saturating_sub(len)..end].contains(&true)
    };
    replay.windows.iter().map(label).collect()
}
