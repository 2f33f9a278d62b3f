//! The pipeline: samples in, verdicts out. Training, server, simulator and firmware all run this.

use core::fmt;

use crate::decision::{Decision, Verdict};
use crate::detector::{Detector, Outcome, finite};
use crate::features::Workspace;
use crate::window::Window;

/// What a complete window gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowResult {
    /// How badly the window fits normal; finite.
    pub score: f32,
    /// The verdict that holds now.
    pub verdict: Verdict,
    /// Whether this window changed the verdict.
    pub changed: bool,
}

/// A sample that the sensor cannot have measured: it is counted, never scored, and the window
/// starts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SensorFault {
    /// The channels at fault, channel 0 in bit 0.
    pub channels: u16,
}

/// The memory lent to a pipeline is shorter than [`Detector::memory_words`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryTooShort {
    /// The words that it needs.
    pub needed: usize,
}

impl fmt::Display for MemoryTooShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the detector needs {} words of memory", self.needed)
    }
}

impl core::error::Error for MemoryTooShort {}

/// A detector with its state, in memory that the caller lends.
#[derive(Debug)]
pub struct Pipeline<'d, 'm> {
    detector: Detector<'d>,
    window: Window<'m>,
    workspace: Workspace<'m>,
    features: &'m mut [f32],
    scaled: &'m mut [f32],
    reconstruction: &'m mut [f32],
    engine_memory: &'m mut [f32],
    /// The exponential mean of the scores since the last gap.
    smoothed: Option<f32>,
    decision: Decision,
}

impl<'d, 'm> Pipeline<'d, 'm> {
    /// Starts a pipeline in `memory`.
    ///
    /// # Errors
    /// [`MemoryTooShort`] if `memory` has fewer than [`Detector::memory_words`] words.
    pub fn new(detector: &Detector<'d>, memory: &'m mut [u32]) -> Result<Self, MemoryTooShort> {
        let needed = detector.memory_words();
        let memory = memory.get_mut(..needed).ok_or(MemoryTooShort { needed })?;
        memory.fill(0);
        let vector_len = detector.vector_len();
        let memory: &mut [f32] = bytemuck::cast_slice_mut(memory);
        let (window, memory) =
            memory.split_at_mut(detector.channel_count() * detector.window_len());
        let (features, memory) = memory.split_at_mut(vector_len);
        let (scaled, memory) = memory.split_at_mut(vector_len);
        let (reconstruction, memory) = memory.split_at_mut(vector_len);
        let window_len = detector.window_len();
        let (workspace, engine_memory) =
            memory.split_at_mut(Workspace::words(detector.features(), window_len));
        detector.engine().start(engine_memory);
        Ok(Self {
            detector: *detector,
            window: Window::new(window, window_len, detector.stride()),
            workspace: Workspace::new(
                detector.features(),
                window_len,
                detector.rate_hz(),
                workspace,
            ),
            features,
            scaled,
            reconstruction,
            engine_memory,
            smoothed: None,
            decision: Decision::default(),
        })
    }

    /// Takes a sample in, one number a channel, and returns a result when it completes a window.
    ///
    /// # Errors
    /// [`SensorFault`] if a number is missing, not finite or outside its channel's range.
    pub fn push(&mut self, sample: &[f32]) -> Result<Option<WindowResult>, SensorFault> {
        if !self.collect(sample)? {
            return Ok(None);
        }
        self.compute_features();
        let Some(score) = self.score() else {
            return Ok(None);
        };
        let before = self.decision.verdict();
        let verdict = self.decision.push(self.detector.decision_rule(), score);
        Ok(Some(WindowResult { score, verdict, changed: verdict != before }))
    }

    /// Takes a sample in and tells whether it completes a window; the first stage of [`Pipeline::push`].
    ///
    /// # Errors
    /// As [`Pipeline::push`].
    pub fn collect(&mut self, sample: &[f32]) -> Result<bool, SensorFault> {
        let mut channels = 0;
        for channel in 0..self.detector.channel_count() {
            let admitted =
                sample.get(channel).is_some_and(|value| self.detector.admits(channel, *value));
            channels |= u16::from(!admitted) << channel;
        }
        if channels != 0 {
            self.reset_window();
            return Err(SensorFault { channels });
        }
        Ok(self.window.push(sample))
    }

    /// Computes the features of the complete window; the second stage.
    pub fn compute_features(&mut self) -> &[f32] {
        self.workspace.begin();
        let mut rest = &mut *self.features;
        for feature in self.detector.features() {
            // Checked when the detector was loaded.
            let len = feature.output_len(self.detector.window_len()).unwrap_or(0);
            let (output, others) = rest.split_at_mut(len);
            feature.compute(&self.window, self.detector.rate_hz(), &mut self.workspace, output);
            rest = others;
        }
        self.features
    }

    /// Scales the features, runs the engine and returns the score, smoothed where the detector says
    /// so; the third stage. There is none while the engine waits for more windows.
    pub fn score(&mut self) -> Option<f32> {
        self.scale();
        let engine = self.detector.engine();
        let score = match engine.run(self.scaled, self.reconstruction, self.engine_memory) {
            Outcome::Residuals => {
                self.restore_source();
                self.detector.score_rule().score(self.scaled, self.detector.gains())
            }
            Outcome::Score(score) => finite(score),
            Outcome::Pending => return None,
        };
        Some(self.smooth(score))
    }

    fn smooth(&mut self, score: f32) -> f32 {
        let windows = self.detector.smoothing();
        let score = match self.smoothed {
            Some(before) if windows > 1 => {
                finite(before + 2.0 / (windows as f32 + 1.0) * (score - before))
            }
            _ => score,
        };
        self.smoothed = Some(score);
        score
    }

    fn scale(&mut self) {
        let entries = self.features.iter().zip(self.detector.scaler());
        for (scaled, (feature, entry)) in self.scaled.iter_mut().zip(entries) {
            *scaled = entry.scale(*feature);
        }
    }

    /// Starts the window anew, after a gap in the samples.
    pub fn reset_window(&mut self) {
        self.window.reset();
        self.smoothed = None;
        self.detector.engine().reset(self.engine_memory);
    }

    /// Returns the detector.
    #[must_use]
    pub fn detector(&self) -> &Detector<'d> {
        &self.detector
    }

    /// Puts the features in place that the engine's reconstruction belongs to, where these are not
    /// those of the newest window.
    fn restore_source(&mut self) {
        let Some(source) = self.detector.engine().source(self.engine_memory) else { return };
        let entries = source.iter().zip(self.detector.scaler());
        for (feature, (scaled, entry)) in self.features.iter_mut().zip(entries) {
            *feature = scaled / entry.gain + entry.offset;
        }
    }

    /// Returns the features that the last result speaks of, in their own units: those of the last
    /// window, but for a recurrent autoencoder those a whole reconstruction earlier.
    #[must_use]
    pub fn features(&self) -> &[f32] {
        self.features
    }

    /// Returns what the engine left of the scaled features of the last window: for most engines the
    /// residuals, without their gains.
    #[must_use]
    pub fn residuals(&self) -> &[f32] {
        self.scaled
    }

    /// Returns the reconstruction of one number of the feature vector, in the feature's own unit.
    #[must_use]
    pub fn reconstruction(&self, index: usize) -> Option<f32> {
        let entry = self.detector.scaler().get(index)?;
        self.reconstruction.get(index).map(|scaled| entry.unscale(*scaled))
    }

    /// Returns the verdict that holds now.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.decision.verdict()
    }
}
