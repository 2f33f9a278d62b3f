//! What goes wrong with a temperature sensor or with what it measures.

use crate::random::Random;

/// A kind of fault with its size. Lengths are in samples, sizes in degrees Celsius.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum FaultKind {
    /// Jumps by `size` and falls back to the true value in a straight line: hot air, a loose contact.
    Spike {
        /// Height of the jump.
        size: f32,
    },
    /// Reads off by `size`: a sensor that was moved, a reference that failed.
    Step {
        /// The error.
        size: f32,
    },
    /// Reads off by an error that grows evenly to `size`: ageing, damp.
    Drift {
        /// The error at the end.
        size: f32,
    },
    /// Repeats its last reading: a hung bus or driver.
    Stuck,
    /// Every second reading on average is `reading`: a bad cable. NaN stands for none at all.
    Dropout {
        /// What is read instead; a DS18B20 gives 85 or -127.
        reading: f32,
    },
    /// A square wave on top: electrical interference, a valve that hunts.
    Oscillation {
        /// Error in both directions.
        size: f32,
        /// Length of a full period.
        period: usize,
    },
}

impl FaultKind {
    /// One of each kind, clear to see and not absurd, with its usual length in samples.
    pub const TYPICAL: [(Self, usize); 6] = [
        (Self::Spike { size: 6.0 }, 8),
        (Self::Step { size: -3.0 }, 48),
        (Self::Drift { size: 5.0 }, 96),
        (Self::Stuck, 64),
        (Self::Dropout { reading: 0.0 }, 24),
        (Self::Oscillation { size: 1.5, period: 6 }, 48),
    ];

    /// Returns the kind's name, as the JSON form has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Spike { .. } => "spike",
            Self::Step { .. } => "step",
            Self::Drift { .. } => "drift",
            Self::Stuck => "stuck",
            Self::Dropout { .. } => "dropout",
            Self::Oscillation { .. } => "oscillation",
        }
    }

    /// Returns the typical fault of that name with its usual length in samples.
    #[must_use]
    pub fn typical(name: &str) -> Option<(Self, usize)> {
        Self::TYPICAL.into_iter().find(|(kind, _)| kind.name() == name)
    }

    /// Changes a reading; `at` counts the samples since the fault began, of `rows` in all.
    pub(super) fn apply(
        &self,
        reading: f32,
        last: f32,
        at: usize,
        rows: usize,
        random: &mut Random,
    ) -> f32 {
        let share = at as f32 / rows.max(1) as f32;
        match *self {
            Self::Spike { size } => reading + size * (1.0 - share),
            Self::Step { size } => reading + size,
            Self::Drift { size } => reading + size * share,
            Self::Stuck => last,
            Self::Dropout { reading: instead } => {
                // The first sample always drops, so that the label is true from its first row on.
                if at == 0 || random.below(2) == 0 { instead } else { reading }
            }
            Self::Oscillation { size, period } => {
                let up = at % period.max(2) < period.max(2) / 2;
                if up { reading + size } else { reading - size }
            }
        }
    }
}
