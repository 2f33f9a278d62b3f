//! What a network learns, with the moments that Adam keeps of its gradients, what pruning took out,
//! and the weights rounded as int8 will hold them.

use core::ops::Range;

use pulp::Arch;

use super::FitOptions;
use super::elementwise::Adam;

/// Greatest magnitude of a quantised weight.
const WEIGHT_STEPS: f32 = 127.0;

/// Where the weights of a layer lie among the parameters: rows of `stride` with one column an output.
pub(super) struct Matrix {
    pub(super) weights: Range<usize>,
    pub(super) outputs: usize,
    pub(super) stride: usize,
}

/// Parameters, their gradients and moments, laid out alike.
pub(super) struct Parameters {
    pub(super) values: Vec<f32>,
    pub(super) gradients: Vec<f32>,
    first_moments: Vec<f32>,
    second_moments: Vec<f32>,
    matrices: Vec<Matrix>,
    /// One for what is learned, zero for what pruning took out; empty while nothing is.
    mask: Vec<f32>,
    /// The values with weights on int8 steps; empty while the network learns without rounding.
    rounded: Vec<f32>,
    steps: i32,
}

impl Parameters {
    pub(super) fn new(len: usize, matrices: Vec<Matrix>) -> Self {
        Self {
            values: vec![0.0; len],
            gradients: vec![0.0; len],
            first_moments: vec![0.0; len],
            second_moments: vec![0.0; len],
            matrices,
            mask: Vec::new(),
            rounded: Vec::new(),
            steps: 0,
        }
    }

    /// The numbers to compute with.
    pub(super) fn used(&self) -> &[f32] {
        if self.rounded.is_empty() { &self.values } else { &self.rounded }
    }

    /// Takes one step of Adam along the gradients. Those of rounded weights move the weights behind
    /// them (straight-through estimator).
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
        self.mask_and_round();
    }

    /// Goes on from other values, with moments at zero; what was pruned stays pruned.
    pub(super) fn restart(&mut self, values: &[f32]) {
        self.values.copy_from_slice(values);
        self.first_moments.fill(0.0);
        self.second_moments.fill(0.0);
        self.steps = 0;
        self.mask_and_round();
    }

    /// Computes with rounded weights from now on, or no longer.
    pub(super) fn round_weights(&mut self, on: bool) {
        self.rounded = if on { self.values.clone() } else { Vec::new() };
        self.mask_and_round();
    }

    /// Takes out this share of each layer's weights, the least by magnitude.
    pub(super) fn prune(&mut self, share: f64) {
        self.mask.resize(self.values.len(), 1.0);
        for matrix in &self.matrices {
            let columns = |at: &usize| (at - matrix.weights.start) % matrix.stride < matrix.outputs;
            let mut places: Vec<usize> = matrix.weights.clone().filter(columns).collect();
            // A stable order, so that weights of one magnitude are taken out in order.
            places.sort_by(|a, b| self.values[*a].abs().total_cmp(&self.values[*b].abs()));
            let count = (share * places.len() as f64).round() as usize;
            for (rank, place) in places.into_iter().enumerate() {
                self.mask[place] = if rank < count { 0.0 } else { 1.0 };
            }
        }
        self.mask_and_round();
    }

    /// The share of the weights in `values` that are zero.
    pub(super) fn share_of_zeros(&self, values: &[f32]) -> f64 {
        let (mut zeros, mut count) = (0, 0);
        for matrix in &self.matrices {
            for row in values[matrix.weights.clone()].chunks_exact(matrix.stride) {
                zeros += row[..matrix.outputs].iter().filter(|weight| **weight == 0.0).count();
                count += matrix.outputs;
            }
        }
        zeros as f64 / f64::from(u32::try_from(count.max(1)).unwrap_or(u32::MAX))
    }

    fn mask_and_round(&mut self) {
        for (value, keep) in self.values.iter_mut().zip(&self.mask) {
            *value *= keep;
        }
        if self.rounded.is_empty() {
            return;
        }
        self.rounded.copy_from_slice(&self.values);
        for matrix in &self.matrices {
            round(&mut self.rounded[matrix.weights.clone()], matrix.stride);
        }
    }
}

/// Rounds each column to 127 steps of its greatest magnitude, as quantisation per channel does.
fn round(weights: &mut [f32], stride: usize) {
    let mut scales = vec![0.0_f32; stride];
    for row in weights.chunks_exact(stride) {
        for (scale, weight) in scales.iter_mut().zip(row) {
            *scale = scale.max(weight.abs());
        }
    }
    for scale in &mut scales {
        // A column of zeros stays one with any scale.
        *scale = if *scale > 0.0 { *scale / WEIGHT_STEPS } else { 1.0 };
    }
    for row in weights.chunks_exact_mut(stride) {
        for (weight, scale) in row.iter_mut().zip(&scales) {
            *weight = (*weight / scale).round() * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two outputs of three inputs in rows of four, then two biases.
    fn parameters() -> Parameters {
        let matrix = Matrix { weights: 0..12, outputs: 2, stride: 4 };
        let mut parameters = Parameters::new(16, vec![matrix]);
        let weights = [0.5, -3.0, 0.0, 0.0, -0.1, 0.2, 0.0, 0.0, 1.27, 0.01, 0.0, 0.0];
        parameters.restart(&[&weights[..], &[0.001, 7.0, 0.0, 0.0]].concat());
        parameters
    }

    #[test]
    fn pruning_takes_the_least_weights_and_no_bias() {
        let mut parameters = parameters();
        parameters.prune(0.5);
        let kept = [0.5, -3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.27, 0.0, 0.0, 0.0];
        assert_eq!(parameters.values[..12], kept);
        assert_eq!(parameters.values[12..], [0.001, 7.0, 0.0, 0.0]);
        assert_eq!(parameters.share_of_zeros(&parameters.values), 0.5);
        // What is out stays out, whatever the gradients are.
        parameters.gradients.fill(1.0);
        parameters.step(Arch::new(), &FitOptions::default());
        assert_eq!(parameters.share_of_zeros(&parameters.values), 0.5);
        assert_ne!(parameters.values[0], 0.5);
    }

    #[test]
    fn rounded_weights_are_multiples_of_each_columns_step() {
        let mut parameters = parameters();
        assert_eq!(parameters.used(), parameters.values);
        parameters.round_weights(true);
        let used = parameters.used();
        for (index, step) in [(0, 0.01), (4, 0.01), (1, 3.0 / 127.0), (5, 3.0 / 127.0)] {
            let steps = used[index] / step;
            assert!((steps - steps.round()).abs() < 1e-4, "{} is no step", used[index]);
            assert!((used[index] - parameters.values[index]).abs() <= 0.501 * step);
        }
        assert_eq!(used[12..], parameters.values[12..]);
        parameters.round_weights(false);
        assert_eq!(parameters.used(), parameters.values);
    }
}
