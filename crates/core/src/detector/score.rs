/// How residuals become a score. A residual is a scaled feature less its reconstruction, times its
/// gain where the detector has gains.
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
}

impl ScoreRule {
    /// Returns the rule with a number of the detector file.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        [Self::MeanAbsolute, Self::MeanSquared, Self::RootMeanSquare, Self::Maximum]
            .into_iter()
            .find(|rule| *rule as u16 == number)
    }

    /// Returns the name that people see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MeanAbsolute => "mean absolute residual",
            Self::MeanSquared => "mean squared residual",
            Self::RootMeanSquare => "root mean square residual",
            Self::Maximum => "greatest residual",
        }
    }

    /// Computes the score, which is finite: what overflows becomes the greatest number.
    pub(crate) fn score(self, inputs: &[f32], reconstruction: &[f32], gains: &[f32]) -> f32 {
        let mut sum = 0.0_f32;
        let mut greatest = 0.0_f32;
        for (index, (input, output)) in inputs.iter().zip(reconstruction).enumerate() {
            let mut residual = input - output;
            if let Some(gain) = gains.get(index) {
                residual *= gain;
            }
            match self {
                Self::MeanAbsolute => sum += libm::fabsf(residual),
                Self::MeanSquared | Self::RootMeanSquare => sum += residual * residual,
                Self::Maximum => {
                    let magnitude = libm::fabsf(residual);
                    if magnitude > greatest {
                        greatest = magnitude;
                    }
                }
            }
        }
        let mean = sum / inputs.len().max(1) as f32;
        let score = match self {
            Self::MeanAbsolute | Self::MeanSquared => mean,
            Self::RootMeanSquare => libm::sqrtf(mean),
            Self::Maximum => greatest,
        };
        if score.is_finite() { score } else { f32::MAX }
    }
}
