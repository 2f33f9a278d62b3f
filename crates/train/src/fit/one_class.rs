//! The one-class SVM: fitted exactly, then projected onto random features for the chip.

use core::f64::consts::PI;
use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use stonechat_core::detector::format::one_class::OneClassHeader;
use stonechat_core::detector::{EngineKind, OneClass};
use stonechat_core::limits::ONE_CLASS_FEATURES_MAX;

use super::{Fit, FitError, FittedModel, Progress, TrainingData, linear};
use crate::compile::{Model, append, number};
use crate::limits::{ONE_CLASS_CACHE_LEN_MAX, ONE_CLASS_PROJECTION_ROWS, ONE_CLASS_ROWS_MAX};
use crate::random::Random;
use crate::rows::Rows;

/// Stands for a curvature that is not positive, as in LIBSVM.
const CURVATURE_MIN: f64 = 1.0e-12;
/// Directions deviate by 16 to 32 steps, so that four deviations fit into a byte.
const DIRECTION_DEVIATION_MIN: f64 = 16.0;
/// What is added to the diagonal of the projection's equations, for each row.
const RIDGE: f64 = 1.0e-3;
/// Beyond the radius a similarity is at most this share of the greatest.
const SHARE_OUTSIDE: f64 = 0.01;
/// Rows are moved by up to so many deviations to learn what lies around the normal ones.
const SPREAD_MAX: f64 = 3.0;

/// How to fit the one-class SVM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneClassOptions {
    /// At most this share of the rows lies outside, and at least this share are support vectors;
    /// above 0, at most 1.
    pub nu: f64,
    /// The kernel is exp(-gamma |x - y|²), in scaled units; none takes one over the length of the
    /// feature vector.
    pub gamma: Option<f64>,
    /// How many random features stand for the kernel on the device. The AUC of 512 lay up to 0.04
    /// below that of the exact machine, where the kernel was narrow (a large gamma) and rows were few.
    pub features: usize,
    /// Decides the random features, and which rows are taken where there are too many.
    pub seed: u64,
}

impl Default for OneClassOptions {
    fn default() -> Self {
        Self { nu: 0.05, gamma: None, features: 512, seed: 0 }
    }
}

impl Fit for OneClassOptions {
    fn fit(
        &self,
        data: &TrainingData<'_>,
        _progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<FittedModel, FitError> {
        if !(1..=ONE_CLASS_FEATURES_MAX).contains(&self.features) {
            let (value, range) = (self.features as f64, "1 to 4096");
            return Err(FitError::Option { option: "features", value, range });
        }
        let width = data.rows.width();
        let mut random = Random::new(self.seed);
        let values = some_rows(data.rows, ONE_CLASS_ROWS_MAX, &mut random);
        let rows = Rows::new(&values, width)?;
        let gamma = self.gamma.unwrap_or(1.0 / width as f64);
        let machine = OneClassMachine::of_rows(rows, self.nu, gamma, TOLERANCE)?;
        Ok(OneClassModel::project(&machine, rows, self.features, &mut random)?.encode().into())
    }
}

/// The greatest violation of the optimality conditions at which fitting ends, as in LIBSVM.
const TOLERANCE: f64 = 1.0e-3;

/// Returns at most `count` rows in their order, drawn at random.
fn some_rows(rows: Rows<'_>, count: usize, random: &mut Random) -> Vec<f32> {
    let mut left = rows.len();
    let mut wanted = count.min(left);
    let mut values = Vec::with_capacity(wanted * rows.width());
    for row in rows.iter() {
        // Selection sampling (Knuth, The Art of Computer Programming, 3.4.2, algorithm S).
        if (random.below(left as u32) as usize) < wanted {
            values.extend_from_slice(row);
            wanted -= 1;
        }
        left -= 1;
    }
    values
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// An exact one-class SVM (Schölkopf et al. 2001, "Estimating the support of a high-dimensional
/// distribution", equations 3.8 to 3.11), scaled as LIBSVM and scikit-learn do: coefficients are 0 to
/// 1 and add up to ν times the rows.
#[derive(Clone, Debug, PartialEq)]
pub struct OneClassMachine {
    /// The kernel is exp(-gamma |x - y|²).
    pub gamma: f64,
    /// The rows that are support vectors.
    pub support: Vec<usize>,
    /// The coefficient of each.
    pub coefficients: Vec<f64>,
    /// What the sum over the support vectors is compared with.
    pub rho: f64,
    vectors: Vec<f32>,
}

impl OneClassMachine {
    /// Fits rows of scaled features by sequential minimal optimisation with the working sets of Fan,
    /// Chen and Lin (2005, "Working set selection using second order information for training
    /// support vector machines").
    ///
    /// # Errors
    /// If `nu` or `gamma` is out of bounds.
    pub fn of_rows(rows: Rows<'_>, nu: f64, gamma: f64, tolerance: f64) -> Result<Self, FitError> {
        if !(nu > 0.0 && nu <= 1.0) {
            return Err(FitError::Option { option: "nu", value: nu, range: "above 0, at most 1" });
        }
        if !(gamma > 0.0 && gamma.is_finite()) {
            return Err(FitError::Option { option: "gamma", value: gamma, range: "above 0" });
        }
        let mut solver = Solver::new(rows, nu, gamma);
        solver.run(tolerance);
        let support: Vec<usize> =
            (0..rows.len()).filter(|index| solver.alphas[*index] > 0.0).collect();
        Ok(Self {
            gamma,
            coefficients: support.iter().map(|index| solver.alphas[*index]).collect(),
            rho: solver.rho(),
            vectors: support.iter().flat_map(|index| rows.row(*index)).copied().collect(),
            support,
        })
    }

    /// Returns Σ αᵢ K(xᵢ, x).
    #[must_use]
    pub fn similarity(&self, row: &[f32]) -> f64 {
        let vectors = self.vectors.chunks_exact(row.len());
        vectors
            .zip(&self.coefficients)
            .map(|(vector, alpha)| alpha * (-self.gamma * squared_distance(vector, row)).exp())
            .sum()
    }

    /// Returns the decision: at least 0 inside.
    #[must_use]
    pub fn decision(&self, row: &[f32]) -> f64 {
        self.similarity(row) - self.rho
    }
}

/// Minimises ½ αᵀKα over 0 ≤ α ≤ 1 with a fixed sum.
struct Solver<'a> {
    kernel: Kernel<'a>,
    alphas: Vec<f64>,
    gradient: Vec<f64>,
}

impl<'a> Solver<'a> {
    /// Starts as LIBSVM does: the first rows bear the whole sum.
    fn new(rows: Rows<'a>, nu: f64, gamma: f64) -> Self {
        let count = rows.len();
        let sum = nu * count as f64;
        let full = sum as usize;
        let mut alphas = vec![0.0; count];
        alphas[..full].fill(1.0);
        if full < count {
            alphas[full] = sum - full as f64;
        }
        let mut kernel = Kernel::new(rows, gamma);
        let mut gradient = vec![0.0; count];
        for (index, alpha) in alphas.iter().enumerate().filter(|(_, alpha)| **alpha > 0.0) {
            for (gradient, value) in gradient.iter_mut().zip(kernel.row(index)) {
                *gradient += alpha * f64::from(*value);
            }
        }
        Self { kernel, alphas, gradient }
    }

    fn run(&mut self, tolerance: f64) {
        // LIBSVM's bound on the steps.
        let steps_max = (100 * self.alphas.len()).max(10_000_000);
        for _ in 0..steps_max {
            let Some((i, j)) = self.working_set(tolerance) else {
                return;
            };
            self.step(i, j);
        }
    }

    /// Selects the pair that promises most by the second order; none where the conditions hold.
    fn working_set(&mut self, tolerance: f64) -> Option<(usize, usize)> {
        let mut first: Option<(usize, f64)> = None;
        for (index, (alpha, gradient)) in self.alphas.iter().zip(&self.gradient).enumerate() {
            if *alpha < 1.0 && first.is_none_or(|(_, most)| -gradient >= most) {
                first = Some((index, -gradient));
            }
        }
        let (i, most) = first?;
        let kernel = self.kernel.row(i);
        let mut steepest = f64::NEG_INFINITY;
        let mut second: Option<(usize, f64)> = None;
        for (index, (alpha, gradient)) in self.alphas.iter().zip(&self.gradient).enumerate() {
            if *alpha <= 0.0 {
                continue;
            }
            steepest = steepest.max(*gradient);
            let difference = most + gradient;
            if difference > 0.0 {
                let curvature = (2.0 - 2.0 * f64::from(kernel[index])).max(CURVATURE_MIN);
                let gain = difference * difference / curvature;
                if second.is_none_or(|(_, best)| gain >= best) {
                    second = Some((index, gain));
                }
            }
        }
        let (j, _) = second?;
        (most + steepest >= tolerance).then_some((i, j))
    }

    /// Moves weight from j to i as far as the gradient says and the bounds allow.
    fn step(&mut self, i: usize, j: usize) {
        let between = f64::from(self.kernel.row(i)[j]);
        let curvature = (2.0 - 2.0 * between).max(CURVATURE_MIN);
        let wanted = (self.gradient[j] - self.gradient[i]) / curvature;
        let moved = wanted.min(1.0 - self.alphas[i]).min(self.alphas[j]);
        // At a bound the coefficient is the bound itself, not a rounding of it.
        let at_bound = |alpha: f64| {
            if alpha < f64::EPSILON {
                0.0
            } else if alpha > 1.0 - f64::EPSILON {
                1.0
            } else {
                alpha
            }
        };
        self.alphas[i] = at_bound(self.alphas[i] + moved);
        self.alphas[j] = at_bound(self.alphas[j] - moved);
        for (gradient, value) in self.gradient.iter_mut().zip(self.kernel.row(i)) {
            *gradient += moved * f64::from(*value);
        }
        for (gradient, value) in self.gradient.iter_mut().zip(self.kernel.row(j)) {
            *gradient -= moved * f64::from(*value);
        }
    }

    /// Returns the gradient where coefficients are free, or the middle of what the bounds allow.
    fn rho(&self) -> f64 {
        let (mut sum, mut free) = (0.0, 0_usize);
        let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
        for (alpha, gradient) in self.alphas.iter().zip(&self.gradient) {
            if *alpha >= 1.0 {
                low = low.max(*gradient);
            } else if *alpha <= 0.0 {
                high = high.min(*gradient);
            } else {
                sum += gradient;
                free += 1;
            }
        }
        match (free, low.is_finite(), high.is_finite()) {
            (1.., _, _) => sum / free as f64,
            (0, true, true) => f64::midpoint(low, high),
            (0, true, false) => low,
            (0, false, _) => high,
        }
    }
}

/// Rows of the kernel matrix, computed when asked for and kept while there is room.
struct Kernel<'a> {
    rows: Rows<'a>,
    gamma: f64,
    kept: Vec<Option<Box<[f32]>>>,
    /// The rows that are kept, in the order in which they were computed.
    order: std::collections::VecDeque<usize>,
    room: usize,
}

impl<'a> Kernel<'a> {
    fn new(rows: Rows<'a>, gamma: f64) -> Self {
        // A step needs two rows at a time.
        let room = (ONE_CLASS_CACHE_LEN_MAX / rows.len()).max(2);
        Self { rows, gamma, kept: vec![None; rows.len()], order: Default::default(), room }
    }

    fn row(&mut self, index: usize) -> &[f32] {
        if self.kept[index].is_none() {
            let oldest = (self.order.len() >= self.room).then(|| self.order.pop_front()).flatten();
            if let Some(oldest) = oldest {
                self.kept[oldest] = None;
            }
            self.order.push_back(index);
        }
        let (rows, gamma) = (self.rows, self.gamma);
        self.kept[index].get_or_insert_with(|| {
            let one = rows.row(index);
            rows.iter().map(|row| (-gamma * squared_distance(one, row)).exp() as f32).collect()
        })
    }
}

/// What the device runs: a sum of random features that stands for the sum over the support vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct OneClassModel {
    /// `[features][n]`, in steps.
    pub directions: Vec<i8>,
    /// The angle of each feature, in units of 2^-32 of a turn.
    pub phases: Vec<u32>,
    /// The weight of each feature.
    pub weights: Vec<f32>,
    /// A step of a direction turns 1 / 1,024 by 2^`shift` units of 2^-32 of a turn.
    pub shift: u32,
    /// One over the greatest similarity of a training row.
    pub gain: f32,
    /// Rows that are longer are like no training row.
    pub radius: f32,
}

impl OneClassModel {
    /// Draws random features and finds the weights with which they come closest to the machine's
    /// similarity, by least squares over rows and rows moved at random.
    ///
    /// # Errors
    /// If no row is similar to the others.
    pub fn project(
        machine: &OneClassMachine,
        rows: Rows<'_>,
        features: usize,
        random: &mut Random,
    ) -> Result<Self, FitError> {
        let width = rows.width();
        let mut model = Self::drawn(machine.gamma, features, width, random);
        let near = some_rows(rows, ONE_CLASS_PROJECTION_ROWS, random);
        let mut samples = near.clone();
        for row in near.chunks_exact(width) {
            let spread = random.between(0.0, SPREAD_MAX);
            samples.extend(row.iter().map(|value| value + (spread * random.normal()) as f32));
        }
        let count = samples.len() / width;
        let mut square = vec![0.0; features * features];
        let mut right = vec![0.0; features];
        let mut values = vec![0.0; features];
        for sample in samples.chunks_exact(width) {
            model.features_of(sample, &mut values);
            let similarity = machine.similarity(sample);
            for (i, value) in values.iter().enumerate() {
                right[i] += value * similarity;
                for (entry, other) in
                    square[i * features..=i * features + i].iter_mut().zip(&values)
                {
                    *entry += value * other;
                }
            }
        }
        for i in 0..features {
            square[i * features + i] += RIDGE * count as f64;
            for j in 0..i {
                square[j * features + i] = square[i * features + j];
            }
        }
        let degenerate = FitError::Degenerate(
            "the one-class SVM found no row similar to the others: choose a smaller gamma, or more rows",
        );
        let Some(lower) = linear::cholesky(&square, features) else {
            return Err(degenerate);
        };
        model.weights = solve(&lower, right).into_iter().map(|weight| weight as f32).collect();
        let mut peak = 0.0_f64;
        for row in near.chunks_exact(width) {
            model.features_of(row, &mut values);
            let weights = model.weights.iter().map(|weight| f64::from(*weight));
            peak = peak.max(values.iter().zip(weights).map(|(value, weight)| value * weight).sum());
        }
        model.gain = (1.0 / peak) as f32;
        // Support vectors are no longer than this, and what lies so far from all of them ...
        let origin = vec![0.0; width];
        let vectors = machine.vectors.chunks_exact(width);
        let longest = vectors.map(|vector| squared_distance(vector, &origin)).fold(0.0, f64::max);
        // ... has this share: Σα exp(-gamma distance²) / peak.
        let sum: f64 = machine.coefficients.iter().sum();
        let distance = ((sum / (peak * SHARE_OUTSIDE)).ln().max(0.0) / machine.gamma).sqrt();
        model.radius = (longest.sqrt() + distance) as f32;
        if model.gain.is_finite() && model.gain > 0.0 { Ok(model) } else { Err(degenerate) }
    }

    /// Draws directions for the kernel's spectral density, normal with variance 2 gamma (Rahimi and
    /// Recht 2007, figure 1), and phases; the weights are still 0.
    fn drawn(gamma: f64, features: usize, width: usize, random: &mut Random) -> Self {
        let deviation = (2.0 * gamma).sqrt();
        // The angle by which one step turns a number of 1, at shift 0.
        let unit = 1_024.0 * 2.0 * PI / 4_294_967_296.0;
        let shift = (deviation / (DIRECTION_DEVIATION_MIN * unit)).log2().floor().clamp(0.0, 31.0);
        let steps = deviation / (unit * shift.exp2());
        let mut step = || (random.normal() * steps).round().clamp(-127.0, 127.0) as i8;
        let directions = (0..features * width).map(|_| step()).collect();
        Self {
            directions,
            phases: (0..features).map(|_| random.next_u32()).collect(),
            weights: vec![0.0; features],
            shift: shift as u32,
            gain: 1.0,
            radius: 1.0,
        }
    }

    fn features_of(&self, row: &[f32], values: &mut [f64]) {
        let mut steps = vec![0; row.len()];
        OneClass::quantise(row, &mut steps);
        let directions = self.directions.chunks_exact(row.len()).zip(&self.phases);
        for (value, (direction, phase)) in values.iter_mut().zip(directions) {
            *value = f64::from(OneClass::random_feature(&steps, direction, self.shift, *phase));
        }
    }

    /// Lays the model out for the detector file.
    #[must_use]
    pub fn encode(&self) -> Model {
        let mut bytes = vec![0; size_of::<OneClassHeader>()];
        let header = OneClassHeader {
            directions: append(&mut bytes, &self.directions).offset,
            phases: append(&mut bytes, &self.phases).offset,
            weights: append(&mut bytes, &self.weights).offset,
            feature_count: number(self.weights.len()),
            shift: self.shift,
            gain: self.gain,
            radius: self.radius,
            reserved: 0,
        };
        bytes[..size_of::<OneClassHeader>()].copy_from_slice(bytemuck::bytes_of(&header));
        Model::new(EngineKind::OneClass, bytes)
    }
}

/// Solves LLᵀx = b.
fn solve(lower: &[f64], mut right: Vec<f64>) -> Vec<f64> {
    let width = right.len();
    for i in 0..width {
        let row = &lower[i * width..];
        let known: f64 = row[..i].iter().zip(&right).map(|(entry, value)| entry * value).sum();
        right[i] = (right[i] - known) / row[i];
    }
    for i in (0..width).rev() {
        let known: f64 = (i + 1..width).map(|k| lower[k * width + i] * right[k]).sum();
        right[i] = (right[i] - known) / lower[i * width + i];
    }
    right
}
