//! A random forest on rows of a meter, and how good it is on later ones.

use super::PowerError;
use super::meter::{Measured, Nominal, VECTOR_LEN};
use crate::evaluate::{Confusion, roc_auc, roc_curve};
use crate::fit::random_forest::{RandomForestModel, RandomForestOptions, fit_classes};
use crate::plot::{Picture, RocLine, confusion_matrix, roc};
use crate::rows::Rows;

/// Share of the rows, in the order of time, that the forest and its threshold come from.
pub const TRAINING_SHARE: f64 = 0.7;
/// The training rows are cut into so many stretches; each is scored by a forest that was grown from the others.
const STRETCHES: usize = 5;
/// The threshold where the training rows have no better one: half of the votes.
const MAJORITY: f64 = 0.5;
/// Fewest rows: each part needs some of both classes.
const ROWS_MIN: usize = 100;

/// Returns how a forest on [`Measured::vector`] is grown.
///
/// Each split looks at every number: a fault shows in one of them, and a split that must not look at that one would
/// divide by chance. Leaves hold some rows, as minutes in a run are alike.
#[must_use]
pub fn forest_options(seed: u64) -> RandomForestOptions {
    RandomForestOptions {
        features_per_split: Some(VECTOR_LEN),
        min_rows_in_leaf: 3,
        seed,
        ..RandomForestOptions::default()
    }
}

/// Where rows, in the order of time, are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Split {
    /// Rows from the first on that forest and threshold come from.
    pub training_rows: usize,
    /// Rows after them, which are only judged.
    pub test_rows: usize,
}

/// A forest and its verdicts on rows that it has not seen.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The forest.
    pub forest: RandomForestModel,
    /// Scores above it are anomalies.
    pub threshold: f64,
    /// Where the rows were cut.
    pub split: Split,
    /// Scores of the test rows.
    pub scores: Vec<f32>,
    /// Their labels.
    pub labels: Vec<bool>,
    /// The forest against the labels.
    pub confusion: Confusion,
    /// The control that calls every row normal.
    pub always_normal: Confusion,
    /// Area under the ROC curve.
    pub roc_auc: f64,
}

/// Judges the later minutes of a meter; what is usual for it comes from the earlier ones.
///
/// # Errors
/// As [`judge`].
pub fn judge_minutes(
    measured: &[Measured],
    labels: &[bool],
    options: &RandomForestOptions,
    threads: usize,
) -> Result<Judged, PowerError> {
    let nominal = Nominal::of(&measured[..training_rows(measured.len())]);
    let vectors: Vec<f32> =
        measured.iter().flat_map(|measured| measured.vector(&nominal)).collect();
    judge(&vectors, VECTOR_LEN, labels, options, threads)
}

fn training_rows(rows: usize) -> usize {
    (rows as f64 * TRAINING_SHARE) as usize
}

/// Fits a forest on the first rows, and judges the last; all scores come from the core.
///
/// The threshold comes from the training rows alone: each stretch of them is scored by a forest that has not seen it.
///
/// # Errors
/// [`PowerError`] where a part is too small or has one class only.
pub fn judge(
    vectors: &[f32],
    width: usize,
    labels: &[bool],
    options: &RandomForestOptions,
    threads: usize,
) -> Result<Judged, PowerError> {
    let rows = labels.len();
    if rows < ROWS_MIN {
        return Err(PowerError::TooFewRows { rows, needed: ROWS_MIN });
    }
    let training_rows = training_rows(rows);
    let split = Split { training_rows, test_rows: rows - training_rows };
    let (training, test) = vectors.split_at(training_rows * width);
    let (training_labels, test_labels) = labels.split_at(training_rows);
    both_classes("training", training_labels)?;
    both_classes("later", test_labels)?;
    let unseen = unseen_scores(training, width, training_labels, options, threads)?;
    let threshold = choose_threshold(&unseen, training_labels);
    let forest =
        fit_classes(Rows::new(training, width)?, &classes(training_labels), options, threads)?;
    let scores = forest.score(Rows::new(test, width)?, threads)?;
    Ok(Judged {
        threshold,
        split,
        confusion: Confusion::at_threshold(&scores, test_labels, threshold),
        always_normal: Confusion::of_verdicts(&vec![false; test_labels.len()], test_labels),
        roc_auc: roc_auc(&scores, test_labels).unwrap_or(0.5),
        labels: test_labels.to_vec(),
        scores,
        forest,
    })
}

fn classes(labels: &[bool]) -> Vec<u8> {
    labels.iter().map(|label| u8::from(*label)).collect()
}

fn both_classes(part: &'static str, labels: &[bool]) -> Result<(), PowerError> {
    let class = match labels.iter().filter(|label| **label).count() {
        0 => "normal",
        count if count == labels.len() => "anomalous",
        _ => return Ok(()),
    };
    Err(PowerError::SingleClass { part, class })
}

/// Scores each stretch of rows by a forest grown from the other stretches.
fn unseen_scores(
    vectors: &[f32],
    width: usize,
    labels: &[bool],
    options: &RandomForestOptions,
    threads: usize,
) -> Result<Vec<f32>, PowerError> {
    let mut scores = Vec::with_capacity(labels.len());
    for stretch in 0..STRETCHES {
        let at = |stretch: usize| labels.len() * stretch / STRETCHES;
        let (start, end) = (at(stretch), at(stretch + 1));
        let seen = [&vectors[..start * width], &vectors[end * width..]].concat();
        let seen_labels = [&labels[..start], &labels[end..]].concat();
        both_classes("training", &seen_labels)?;
        let forest =
            fit_classes(Rows::new(&seen, width)?, &classes(&seen_labels), options, threads)?;
        let unseen = Rows::new(&vectors[start * width..end * width], width)?;
        scores.extend(forest.score(unseen, threads)?);
    }
    Ok(scores)
}

/// Returns the threshold with the best F1; of equally good ones the nearest to the majority of the votes.
fn choose_threshold(scores: &[f32], labels: &[bool]) -> f64 {
    let mut candidates: Vec<f64> = scores.iter().copied().map(f64::from).collect();
    candidates.sort_unstable_by(f64::total_cmp);
    candidates.dedup();
    // A threshold between two scores is the middle of their gap, so that it fits rows that are a little different.
    let middles = candidates.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
    let f1 = |threshold: f64| {
        Confusion::at_threshold(scores, labels, threshold).f1().unwrap_or_default()
    };
    let far = |threshold: f64| (threshold - MAJORITY).abs();
    let judged = middles.chain([MAJORITY]).map(|threshold| (f1(threshold), threshold));
    let best = judged.max_by(|a, b| a.0.total_cmp(&b.0).then(far(b.1).total_cmp(&far(a.1))));
    best.map_or(MAJORITY, |(_, threshold)| threshold)
}

impl Judged {
    /// Draws the confusion matrix and the ROC curve.
    ///
    /// # Errors
    /// [`PowerError::Plot`].
    pub fn pictures(&self) -> Result<[Picture; 2], PowerError> {
        let points = roc_curve(&self.scores, &self.labels);
        let line = RocLine { name: "random forest", points: &points, area: self.roc_auc };
        Ok([
            confusion_matrix("Power meter: random forest, later rows", &self.confusion),
            roc("Power meter: random forest, later rows", &[line])?,
        ])
    }

    /// Returns the figures as text, beside the control.
    #[must_use]
    pub fn text(&self) -> String {
        let Split { training_rows, test_rows } = self.split;
        let line = |name: &str, confusion: &Confusion| {
            let share = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.3}"));
            format!(
                "\n{name:<16}{:>8}{:>8}{:>8}{:>8}{:>10}{:>11}{:>8}{:>8}",
                confusion.true_positives,
                confusion.false_positives,
                confusion.true_negatives,
                confusion.false_negatives,
                share(confusion.accuracy()),
                share(confusion.precision()),
                share(confusion.recall()),
                share(confusion.false_alarm_rate()),
            )
        };
        format!(
            "rows            {training_rows} to train, {test_rows} later ones judged\nthreshold       {:.3}, from the training rows alone\nROC AUC         {:.4}\n{:<16}{:>8}{:>8}{:>8}{:>8}{:>10}{:>11}{:>8}{:>8}{}{}",
            self.threshold,
            self.roc_auc,
            "",
            "TP",
            "FP",
            "TN",
            "FN",
            "accuracy",
            "precision",
            "recall",
            "FAR",
            line("random forest", &self.confusion),
            line("always normal", &self.always_normal),
        )
    }
}
