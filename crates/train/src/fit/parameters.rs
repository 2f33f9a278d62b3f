//! What a network learns, with the moments that Adam keeps of its gradients.

use pulp::Arch;

use super::FitOptions;
use super::elementwise::Adam;

/// Parameters, their gradients and moments, laid out alike.
pub(super) struct Parameters {
    pub(super) values: Vec<f32>,
    pub(super) gradients: Vec<f32>,
    first_moments: Vec<f32>,
    second_moments: Vec<f32>,
    steps: i32,
}

impl Parameters {
    pub(super) fn new(len: usize) -> Self {
        Self {
            values: vec![0.0; len],
            gradients: vec![0.0; len],
            first_moments: vec![0.0; len],
            second_moments: vec![0.0; len],
            steps: 0,
        }
    }

    /// Takes one step of Adam along the gradients.
    pub(super) fn step(&mut self, arch: Arch, options: &FitOptions) {
        self.steps = self.steps.saturating_add(1);
        // In f64, as 0.999^n is too close to 1 for f32 in the first steps.
        let correction1 = 1.0 - f64::from(options.beta1).powi(self.steps);
        let correction2 = 1.0 - f64::from(options.beta2).powi(self.steps);
        arch.dispatch(Adam {
            parameters: &mut self.values,
            gradients: &self.gradients,
            first_moments: &mut self.first_moments,
            second_moments: &mut self.second_moments,
            beta1: options.beta1,
            beta2: options.beta2,
            epsilon: options.epsilon,
            step: (f64::from(options.learning_rate) / correction1) as f32,
            second_correction: (1.0 / correction2.sqrt()) as f32,
        });
    }
}
