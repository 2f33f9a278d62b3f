//! Thresholds from the scores of held-out normal windows.

use thiserror::Error;

use crate::limits::{POT_EXCESSES_MIN, THRESHOLD_SCORES_MIN};

/// How a threshold is taken from normal scores.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "rule")]
pub enum ThresholdRule {
    /// A quantile of the scores, raised by a margin: `quantile * (1 + margin)`.
    Quantile {
        /// Share of normal scores at or below the threshold before the margin; above 0, at most 1.
        quantile: f64,
        /// Share by which the quantile is raised, at least 0.
        margin: f64,
    },
    /// A quantile of the scores, raised by a share of its distance from their median, for scores whose
    /// zero means nothing: `quantile + margin * (quantile - median)`.
    AboveMedian {
        /// Share of normal scores at or below the threshold before the margin; above 0, at most 1.
        quantile: f64,
        /// Share of the distance by which the quantile is raised, at least 0.
        margin: f64,
    },
    /// Peaks over threshold: see [`peaks_over_threshold`].
    PeaksOverThreshold {
        /// Probability that a normal score exceeds the threshold; above 0, below `1 - initial`.
        risk: f64,
        /// Quantile above which scores count as the tail; above 0, below 1.
        initial: f64,
    },
}

/// A threshold and what it rests on.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Threshold {
    /// Scores above it are anomalous.
    pub value: f64,
    /// Normal scores it was taken from.
    pub scores: usize,
    /// The fitted tail, for peaks over threshold.
    pub tail: Option<Tail>,
}

/// A generalised Pareto distribution fitted to the scores above a level.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Tail {
    /// Scores above this level make up the tail.
    pub level: f64,
    /// How many scores do.
    pub excesses: usize,
    /// Shape γ; 0 is an exponential tail, above 0 a heavier one, below 0 a bounded one.
    pub shape: f64,
    /// Scale σ.
    pub scale: f64,
}

/// Why no threshold can be given.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ThresholdError {
    /// There are too few scores for the rule.
    #[error(
        "{found} normal scores are too few for {rule}; {needed} are needed: hold out more normal data, {otherwise}"
    )]
    TooFew {
        /// The rule in words.
        rule: String,
        /// Scores found.
        found: usize,
        /// Scores needed.
        needed: usize,
        /// What else helps.
        otherwise: &'static str,
    },
    /// A score is negative or not finite.
    #[error("normal score {index} is {value}; scores are finite and not negative")]
    Score {
        /// Counted from 0.
        index: usize,
        /// The offending score.
        value: f64,
    },
    /// A parameter is outside its range.
    #[error("{parameter} is {value}, but must be {range}")]
    Parameter {
        /// Its name.
        parameter: &'static str,
        /// The value given.
        value: f64,
        /// The legal range.
        range: &'static str,
    },
    /// The tail's scores are all equal.
    #[error(
        "the highest normal scores are all {value}, so no tail can be fitted: use the quantile rule, and check \
         that the held-out data vary"
    )]
    Flat {
        /// The one value.
        value: f64,
    },
}

/// Takes the threshold by a rule.
///
/// # Errors
/// As [`quantile`] and [`peaks_over_threshold`].
pub fn threshold(scores: &[f64], rule: ThresholdRule) -> Result<Threshold, ThresholdError> {
    match rule {
        ThresholdRule::Quantile { quantile: share, margin } => quantile(scores, share, margin),
        ThresholdRule::AboveMedian { quantile: share, margin } => {
            let high = quantile(scores, share, 0.0)?;
            let middle = quantile(scores, 0.5, 0.0)?;
            let raised = quantile(scores, share, margin)?;
            Ok(Threshold { value: high.value + margin * (high.value - middle.value), ..raised })
        }
        ThresholdRule::PeaksOverThreshold { risk, initial } => {
            peaks_over_threshold(scores, risk, initial)
        }
    }
}

/// The `share` quantile of normal scores, raised by `margin` (0.1 raises it by a tenth).
///
/// Between two scores the quantile is interpolated (Hyndman and Fan 1996, type 7).
///
/// # Errors
/// When a parameter is out of range, a score is negative or not finite, or the scores are fewer
/// than it takes to expect one of them above the quantile.
pub fn quantile(scores: &[f64], share: f64, margin: f64) -> Result<Threshold, ThresholdError> {
    if !(share > 0.0 && share <= 1.0) {
        return Err(parameter("quantile", share, "above 0 and at most 1"));
    }
    if !(margin.is_finite() && margin >= 0.0) {
        return Err(parameter("margin", margin, "0 or above"));
    }
    let beyond = if share < 1.0 {
        // Rounded, as 1 - 0.99 is a little more than 0.01.
        (1.0 / (1.0 - share)).round() as usize
    } else {
        0
    };
    let needed = beyond.max(THRESHOLD_SCORES_MIN);
    if scores.len() < needed {
        return Err(ThresholdError::TooFew {
            rule: format!("the {share} quantile"),
            found: scores.len(),
            needed,
            otherwise: "or lower the quantile",
        });
    }
    let sorted = sorted(scores)?;
    Ok(Threshold {
        value: quantile_of(&sorted, share) * (1.0 + margin),
        scores: scores.len(),
        tail: None,
    })
}

/// The threshold that a normal score exceeds with probability `risk`, by extreme value theory.
///
/// The scores above the `initial` quantile t are taken to follow a generalised Pareto distribution
/// (the theorem of Pickands, Balkema and de Haan), fitted by maximum likelihood; the threshold is
/// `t + σ/γ ((risk n / excesses)^-γ - 1)`: Siffer et al. 2017, "Anomaly Detection in Streams with
/// Extreme Value Theory", equation 1. Unlike a quantile this reaches beyond the largest score seen.
///
/// # Errors
/// When a parameter is out of range, a score is negative or not finite, or the tail holds too few
/// scores or equal ones.
pub fn peaks_over_threshold(
    scores: &[f64],
    risk: f64,
    initial: f64,
) -> Result<Threshold, ThresholdError> {
    if !(initial > 0.0 && initial < 1.0) {
        return Err(parameter("initial quantile", initial, "above 0 and below 1"));
    }
    if !(risk > 0.0 && risk < 1.0 - initial) {
        let range = "above 0 and below 1 - initial quantile";
        return Err(parameter("risk", risk, range));
    }
    let sorted = sorted(scores)?;
    let level = if sorted.is_empty() { 0.0 } else { quantile_of(&sorted, initial) };
    let excesses: Vec<f64> = sorted[sorted.partition_point(|score| *score <= level)..]
        .iter()
        .map(|score| score - level)
        .collect();
    if let (Some(first), Some(last)) = (sorted.first(), sorted.last())
        && (first == last || level == *last)
        && sorted.len() >= POT_EXCESSES_MIN
    {
        return Err(ThresholdError::Flat { value: *last });
    }
    if excesses.len() < POT_EXCESSES_MIN {
        return Err(ThresholdError::TooFew {
            rule: format!("a tail above the {initial} quantile"),
            found: scores.len(),
            needed: (POT_EXCESSES_MIN as f64 / (1.0 - initial)).ceil() as usize + 1,
            otherwise: "or use the quantile rule",
        });
    }
    let (shape, scale) = fit_tail(&excesses);
    let ratio = risk * scores.len() as f64 / excesses.len() as f64;
    // The limit for γ -> 0 is -σ ln(ratio); exp_m1 keeps the digits near it.
    let beyond = if shape == 0.0 {
        -scale * ratio.ln()
    } else {
        scale / shape * (-shape * ratio.ln()).exp_m1()
    };
    Ok(Threshold {
        value: level + beyond,
        scores: scores.len(),
        tail: Some(Tail { level, excesses: excesses.len(), shape, scale }),
    })
}

/// Shape and scale of the generalised Pareto distribution that make `excesses` most likely.
///
/// Grimshaw 1993 reduces the problem to one variable x = γ/σ, for which γ(x) = mean ln(1 + x y);
/// what remains is to find the greatest value of one smooth function. The search keeps γ >= -1/2,
/// where maximum likelihood is regular (Smith 1985): a tail that ends more abruptly gets a
/// threshold slightly too high.
fn fit_tail(excesses: &[f64]) -> (f64, f64) {
    /// Steps of the first, coarse search.
    const COARSE: i32 = 400;
    /// The search spans `1 + x * largest` from exp(-SPAN) to exp(SPAN).
    const SPAN: f64 = 12.0;
    const SHAPE_MIN: f64 = -0.5;
    let count = excesses.len() as f64;
    let mean = excesses.iter().sum::<f64>() / count;
    let largest = excesses.iter().copied().fold(0.0, f64::max);

    let tail = |position: f64| {
        let x = position.exp_m1() / largest;
        if x.abs() * largest < 1e-9 {
            return (0.0, mean);
        }
        let shape = excesses.iter().map(|y| (x * y).ln_1p()).sum::<f64>() / count;
        (shape, shape / x)
    };
    let likelihood = |position: f64| {
        let (shape, scale) = tail(position);
        if shape < SHAPE_MIN { f64::NEG_INFINITY } else { -scale.ln() - shape - 1.0 }
    };
    let step = SPAN / f64::from(COARSE);
    let coarse = (-COARSE..=COARSE).map(|index| f64::from(index) * step);
    let centre = coarse.max_by(|a, b| likelihood(*a).total_cmp(&likelihood(*b))).unwrap_or(0.0);
    tail(golden_section(centre - step, centre + step, likelihood))
}

/// The place of the greatest value of `function` between `low` and `high`.
fn golden_section(mut low: f64, mut high: f64, function: impl Fn(f64) -> f64) -> f64 {
    const RATIO: f64 = 0.618_033_988_749_894_9;
    for _ in 0..60 {
        let (left, right) = (high - RATIO * (high - low), low + RATIO * (high - low));
        if function(left) < function(right) {
            low = left;
        } else {
            high = right;
        }
    }
    f64::midpoint(low, high)
}

fn sorted(scores: &[f64]) -> Result<Vec<f64>, ThresholdError> {
    let bad = |score: &f64| !(score.is_finite() && *score >= 0.0);
    if let Some(index) = scores.iter().position(bad) {
        return Err(ThresholdError::Score { index, value: scores[index] });
    }
    let mut sorted = scores.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    Ok(sorted)
}

/// Quantile of scores that are sorted and not empty.
fn quantile_of(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let part = position - below as f64;
    sorted[below] + part * (sorted[above] - sorted[below])
}

fn parameter(parameter: &'static str, value: f64, range: &'static str) -> ThresholdError {
    ThresholdError::Parameter { parameter, value, range }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a distribution at evenly spread probabilities: a sample without chance in it.
    fn sample(count: usize, inverse: impl Fn(f64) -> f64) -> Vec<f64> {
        (0..count).map(|index| inverse((index as f64 + 0.5) / count as f64)).collect()
    }

    fn pareto(shape: f64, scale: f64) -> impl Fn(f64) -> f64 {
        move |p| scale / shape * ((1.0 - p).powf(-shape) - 1.0)
    }

    #[test]
    fn quantiles_interpolate_and_take_the_margin() {
        let scores: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&scores, 0.5, 0.0).unwrap().value, 50.0);
        let raised = quantile(&scores, 0.985, 0.1).unwrap().value;
        assert!((raised - 98.5 * 1.1).abs() < 1e-9, "{raised}");
        assert_eq!(quantile(&scores, 1.0, 0.0).unwrap().value, 100.0);
    }

    #[test]
    fn a_margin_above_the_median_is_the_same_wherever_zero_lies() {
        let rule = ThresholdRule::AboveMedian { quantile: 1.0, margin: 0.2 };
        for zero in [0.0, 1_000.0] {
            let scores: Vec<f64> = (0..=100).map(|score| zero + f64::from(score)).collect();
            assert_eq!(threshold(&scores, rule).unwrap().value, zero + 110.0);
        }
    }

    #[test]
    fn an_exponential_tail_is_continued() {
        let scores = sample(20_000, |p| -2.0 * (1.0 - p).ln());
        let found = peaks_over_threshold(&scores, 1e-5, 0.95).unwrap();
        let exact = -2.0 * 1e-5_f64.ln();
        assert!((found.value / exact - 1.0).abs() < 0.02, "{found:?}");
        let tail = found.tail.unwrap();
        assert!(tail.shape.abs() < 0.02, "{tail:?}");
        assert!((tail.scale - 2.0).abs() < 0.05, "{tail:?}");
        assert_eq!(tail.excesses, 1000);
    }

    #[test]
    fn heavy_and_bounded_tails_are_recovered() {
        for shape in [0.4, 0.2, -0.2, -0.4] {
            let scores = sample(50_000, pareto(shape, 3.0));
            let found = peaks_over_threshold(&scores, 1e-4, 0.9).unwrap();
            let exact = pareto(shape, 3.0)(1.0 - 1e-4);
            assert!((found.value / exact - 1.0).abs() < 0.03, "{shape}: {found:?}, {exact}");
            let tail = found.tail.unwrap();
            assert!((tail.shape - shape).abs() < 0.03, "{shape}: {tail:?}");
        }
    }

    #[test]
    fn the_tail_is_as_likely_as_any_nearby() {
        // Against the two-parameter likelihood itself, on a small sample of another family.
        let excesses: Vec<f64> = (1..=40).map(|i| 0.1 * 1.13_f64.powi(i)).collect();
        let likelihood = |shape: f64, scale: f64| -> f64 {
            let term = |y: &f64| -scale.ln() - (1.0 + 1.0 / shape) * (shape * y / scale).ln_1p();
            excesses.iter().map(term).sum()
        };
        let (shape, scale) = fit_tail(&excesses);
        let best = likelihood(shape, scale);
        for (by_shape, by_scale) in [(1e-3, 1.0), (-1e-3, 1.0), (0.0, 1.001), (0.0, 0.999)] {
            let other = likelihood(shape + by_shape, scale * by_scale);
            assert!(other < best, "γ {by_shape} σ {by_scale}: {other}, {best}");
        }
    }

    #[test]
    fn a_uniform_tail_ends_near_its_bound() {
        let scores = sample(10_000, |p| p);
        let value = peaks_over_threshold(&scores, 1e-4, 0.98).unwrap().value;
        assert!((0.9999..1.01).contains(&value), "{value}");
    }

    #[test]
    fn scale_of_the_scores_does_not_matter() {
        let scores = sample(5_000, pareto(0.1, 1.0));
        let one = peaks_over_threshold(&scores, 1e-4, 0.98).unwrap().value;
        for factor in [1e-12, 1e12] {
            let scaled: Vec<f64> = scores.iter().map(|score| score * factor).collect();
            let other = peaks_over_threshold(&scaled, 1e-4, 0.98).unwrap().value;
            assert!((other / factor / one - 1.0).abs() < 1e-6, "{factor}");
        }
    }

    #[test]
    fn too_few_scores_are_refused_with_the_number_needed() {
        let scores = sample(99, |p| p);
        let error = quantile(&scores, 0.99, 0.0).unwrap_err();
        assert!(error.to_string().contains("100 are needed"), "{error}");
        assert!(quantile(&scores, 0.98, 0.0).is_ok());
        assert!(quantile(&[], 1.0, 0.0).is_err());

        let error = peaks_over_threshold(&scores, 1e-4, 0.98).unwrap_err();
        let ThresholdError::TooFew { needed, .. } = error else {
            panic!("{error}");
        };
        let enough = sample(needed, |p| p);
        assert!(peaks_over_threshold(&enough, 1e-4, 0.98).is_ok());
        assert!(matches!(
            peaks_over_threshold(&[], 1e-4, 0.98),
            Err(ThresholdError::TooFew { .. })
        ));
    }

    #[test]
    fn flat_scores_bad_scores_and_bad_parameters_are_refused() {
        let flat = peaks_over_threshold(&[2.5; 5000], 1e-4, 0.98).unwrap_err();
        assert_eq!(flat, ThresholdError::Flat { value: 2.5 });
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            let mut scores = sample(5000, |p| p);
            scores[7] = bad;
            for rule in [
                ThresholdRule::Quantile { quantile: 0.9, margin: 0.0 },
                ThresholdRule::PeaksOverThreshold { risk: 1e-4, initial: 0.98 },
            ] {
                let error = threshold(&scores, rule).unwrap_err();
                assert!(matches!(error, ThresholdError::Score { index: 7, .. }), "{error}");
            }
        }
        let scores = sample(5000, |p| p);
        for refused in [
            quantile(&scores, 0.0, 0.0),
            quantile(&scores, 1.1, 0.0),
            quantile(&scores, 0.9, -0.1),
            quantile(&scores, f64::NAN, 0.0),
            peaks_over_threshold(&scores, 0.0, 0.98),
            peaks_over_threshold(&scores, 0.05, 0.98),
            peaks_over_threshold(&scores, 1e-4, 1.0),
        ] {
            assert!(matches!(refused, Err(ThresholdError::Parameter { .. })));
        }
    }
}
