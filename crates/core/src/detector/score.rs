/// How residuals become a score. A residual is what the engine leaves of a scaled feature, mostly the
/// feature less its reconstruction, times its gain where the detector has gains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[non_exhaustive]
pub enum ScoreRule {
    /// The mean of the magnitudes.
    MeanAbsolute = 1,
    /// The mean of the squares.
    MeanSquared = 2,
    /// The square root of the mean of the squares.
    RootMeanSquare = 3,
    /// The greatest magnitude.
    Maximum = 4,
    /// The engine's own score.
    Engine = 5,
}

impl ScoreRule {
    /// Returns the rule with a number of the detector file.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        let rules = [
            Self::MeanAbsolute,
            Self::MeanSquared,
            Self::RootMeanSquare,
            Self::Maximum,
            Self::Engine,
        ];
        rules.into_iter().find(|rule| *rule as u16 == number)
    }

    /// Returns the name that people see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MeanAbsolute => "mean absolute residual",
            Self::MeanSquared => "mean squared residual",
            Self::RootMeanSquare => "root mean square residual",
            Self::Maximum => "greatest residual",
            Self::Engine => "of the engine",
        }
    }

    /// Computes the score, which is finite: what overflows becomes the greatest number.
    pub(crate) fn score(self, residuals: &[f32], gains: &[f32]) -> f32 {
        let mut sum = 0.0_f32;
        let mut greatest = 0.0_f32;
        for (index, residual) in residuals.iter().enumerate() {
            let mut residual = *residual;
            if let Some(gain) = gains.get(index) {
                residual *= gain;
            }
            match self {
                Self::MeanAbsolute => sum += libm::fabsf(residual),
                Self::MeanSquared | Self::RootMeanSquare => sum += residual * residual,
                Self::Maximum | Self::Engine => {
                    let magnitude = libm::fabsf(residual);
                    if magnitude > greatest {
                        greatest = magnitude;
                    }
                }
            }
        }
        let mean = sum / residuals.len().max(1) as f32;
        let score = match self {
            Self::MeanAbsolute | Self::MeanSquared => mean,
            Self::RootMeanSquare => libm::sqrtf(mean),
            Self::Maximum | Self::Engine => greatest,
        };
        finite(score)
    }
}

/// Scores are finite: what overflows becomes the greatest number.
pub(crate) fn finite(score: f32) -> f32 {
    if score.is_finite() { score } else { f32::MAX }
}
