//! Which detector fits: several recipes trained, measured and weighed on the same data.
//!
//! The rows are used in the order of time: the first part trains (and sets the threshold), the second
//! is for the choice alone, with made-up faults beside the rows as they are, and the last is what the
//! table reports. What is chosen has never seen the last part.

mod chip;
mod disturb;
mod page;
mod report;

use core::ops::{ControlFlow, Range};

use serde::Serialize;
use thiserror::Error;

pub use chip::{Budget, BudgetError};
pub use disturb::disturbed;
pub use page::{PageError, page};

use crate::compile::DetectorFile;
use crate::cost::{Cost, cost};
use crate::dataset::{DatasetError, Recording};
use crate::evaluate::{
    Confusion, EvaluateError, Metrics, Report, Scored, Subject, Windows, roc_auc, runs,
};
use crate::plot::{Span, label_spans};
use crate::recipe::Recipe;
use crate::replay::{ReplayError, replay, window_labels};
use crate::threshold::Threshold;
use crate::train::{Trained, train};

/// The data of a comparison, each part later than the one before.
#[derive(Clone, Debug)]
pub struct Parts {
    /// What the detectors are trained on; anomalous windows serve those that learn from labels.
    pub training: Recording,
    /// Normal data for the choice.
    pub validation: Recording,
    /// What the table reports, with labels.
    pub test: Recording,
    /// Whether the test's anomalies are made up because none were recorded.
    pub made_up: bool,
}

/// Of a recording's rows, so much trains ...
const TRAINING_SHARE: f64 = 0.6;
/// ... and so much more serves the choice.
const VALIDATION_SHARE: f64 = 0.15;
/// Of a recording that is for training alone, the last part serves the choice.
const VALIDATION_OF_TRAINING: f64 = 0.2;
/// Decides where faults are made up.
const SEED: u64 = 1;

/// Nothing can be compared.
#[derive(Debug, Error)]
pub enum CompareError {
    /// No recipe gave a detector.
    #[error("none of the {} detectors can be trained on `{recording}`:{}", reasons.len(), list(reasons))]
    NoneTrained {
        /// The recording.
        recording: String,
        /// Each detector with its reason.
        reasons: Vec<(String, String)>,
    },
    /// Nothing fits the budget.
    #[error("no detector fits {chip}:{}", list(reasons))]
    NoneFits {
        /// The chip.
        chip: String,
        /// Each detector with what it takes too much of.
        reasons: Vec<(String, String)>,
    },
}

fn list(reasons: &[(String, String)]) -> String {
    reasons.iter().map(|(name, reason)| format!("\n  {name}: {reason}")).collect()
}

impl Parts {
    /// Splits one recording in the order of time; `anomalous` recordings join the last part.
    ///
    /// # Errors
    /// Where the channels of an anomalous recording differ.
    pub fn split(recording: &Recording, anomalous: &[Recording]) -> Result<Self, DatasetError> {
        let part = |range| {
            if recording.segment_starts.len() >= CLIPS_MIN {
                recording.slice_clips(range)
            } else {
                recording.slice_fraction(range)
            }
        };
        let validation_end = TRAINING_SHARE + VALIDATION_SHARE;
        let test = part(validation_end..1.0);
        Self::new(part(0.0..TRAINING_SHARE), part(TRAINING_SHARE..validation_end), test, anomalous)
    }

    /// Takes a recording to train on and one to test on.
    ///
    /// # Errors
    /// Where the channels of an anomalous recording differ.
    pub fn given(
        training: &Recording,
        test: &Recording,
        anomalous: &[Recording],
    ) -> Result<Self, DatasetError> {
        let cut = 1.0 - VALIDATION_OF_TRAINING;
        Self::new(
            training.slice_fraction(0.0..cut),
            training.slice_fraction(cut..1.0),
            test.clone(),
            anomalous,
        )
    }

    fn new(
        training: Recording,
        validation: Recording,
        mut test: Recording,
        anomalous: &[Recording],
    ) -> Result<Self, DatasetError> {
        for recording in anomalous {
            test.append(recording)?;
        }
        let made_up = !test.labels.as_ref().is_some_and(|labels| labels.contains(&true));
        if made_up {
            test = disturbed(&test, SEED + 1);
        }
        Ok(Self { training, validation, test, made_up })
    }
}

/// A recording with as many clips is split between clips.
const CLIPS_MIN: usize = 20;

/// A detector of the comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// The kind and what tells it from others of the kind.
    pub name: String,
    /// The recipe.
    pub recipe: Recipe,
    /// What it came to, or why it could not be trained.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What a candidate came to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It was trained and measured.
    Measured(Box<Measured>),
    /// It could not be trained.
    Failed {
        /// Why, and what to do.
        reason: String,
    },
}

/// What was measured of a candidate.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// On the test part.
    pub test: Metrics,
    /// The four controls on the same windows.
    pub controls: Vec<Metrics>,
    /// Area under the ROC curve on the validation part with its made-up faults.
    pub validation_auc: f64,
    /// Share of the normal validation windows called anomalous.
    pub validation_far: f64,
    /// Faults of the validation part in which an anomaly was raised, and how many there are.
    pub validation_found: (usize, usize),
    /// The threshold and what it rests on.
    pub threshold: Threshold,
    /// Why the threshold is what it is.
    pub threshold_reason: String,
    /// Bytes of the detector file.
    pub flash_bytes: usize,
    /// Bytes of working memory.
    pub ram_bytes: usize,
    /// Instructions on rv32imc.
    pub cost: Cost,
    /// What it takes too much of; nothing if it fits.
    pub excess: Vec<String>,
    /// The detector.
    #[serde(skip)]
    pub file: DetectorFile,
    /// Scores of the test windows, their labels and times.
    #[serde(skip)]
    scored: (Scored, Vec<bool>, Vec<i64>),
}

/// A comparison of detectors on the same data.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The recording.
    pub recording: String,
    /// Rows to train, to choose and to report.
    pub rows: [usize; 3],
    /// Whether the anomalies of the last part are made up because none were recorded.
    pub made_up: bool,
    /// What the chip leaves to a detector.
    pub budget: Budget,
    /// The detectors.
    pub candidates: Vec<Candidate>,
    /// Which is chosen.
    pub chosen: Option<Chosen>,
    /// The labelled stretches of the last part.
    #[serde(skip)]
    spans: Vec<Span>,
}

/// The choice and its reason.
#[derive(Clone, Debug, Serialize)]
pub struct Chosen {
    /// The candidate's place.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A candidate's normal validation windows may be called anomalous up to this share.
const VALIDATION_FAR_MAX: f64 = 0.1;
/// A candidate finds at least this share of the made-up faults that the best one finds.
const FOUND_SHARE_MIN: f64 = 0.5;
/// Areas that differ by less count as equal, and the cheaper detector is chosen.
const AREA_TOLERANCE: f64 = 0.01;

/// Trains and measures each recipe; `begin` hears of each before its turn.
///
/// # Errors
/// [`CompareError`] where not one detector can be trained.
pub fn compare(
    parts: &Parts,
    recipes: Vec<(String, Recipe)>,
    budget: Budget,
    mut begin: impl FnMut(&str),
) -> Result<Comparison, CompareError> {
    let candidates: Vec<Candidate> = recipes
        .into_iter()
        .map(|(name, recipe)| {
            begin(&name);
            let outcome = match measure(parts, &recipe, &budget) {
                Ok(measured) => Outcome::Measured(Box::new(measured)),
                Err(reason) => Outcome::Failed { reason },
            };
            Candidate { name, recipe, outcome }
        })
        .collect();
    let failed: Vec<(String, String)> = candidates
        .iter()
        .filter_map(|candidate| match &candidate.outcome {
            Outcome::Failed { reason } => Some((candidate.name.clone(), reason.clone())),
            Outcome::Measured(_) => None,
        })
        .collect();
    if failed.len() == candidates.len() {
        let recording = parts.training.name.clone();
        return Err(CompareError::NoneTrained { recording, reasons: failed });
    }
    let chosen = choose(&candidates);
    Ok(Comparison {
        recording: parts.test.name.clone(),
        rows: [parts.training.rows(), parts.validation.rows(), parts.test.rows()],
        made_up: parts.made_up,
        budget,
        candidates,
        chosen,
        spans: label_spans(&parts.test),
    })
}

impl Comparison {
    /// Returns the chosen detector.
    ///
    /// # Errors
    /// [`CompareError::NoneFits`] says what each takes too much of.
    pub fn chosen_file(&self) -> Result<&DetectorFile, CompareError> {
        let measured = self.chosen.as_ref().and_then(|chosen| self.measured(chosen.index));
        measured.map(|measured| &measured.file).ok_or_else(|| CompareError::NoneFits {
            chip: self.budget.chip.clone(),
            reasons: self
                .candidates
                .iter()
                .map(|candidate| (candidate.name.clone(), unfit(candidate)))
                .collect(),
        })
    }

    fn measured(&self, index: usize) -> Option<&Measured> {
        self.candidates.get(index).and_then(Candidate::measured)
    }
}

impl Candidate {
    /// Returns what was measured, if it could be trained.
    #[must_use]
    pub fn measured(&self) -> Option<&Measured> {
        match &self.outcome {
            Outcome::Measured(measured) => Some(measured),
            Outcome::Failed { .. } => None,
        }
    }
}

/// Says why a candidate cannot be chosen.
fn unfit(candidate: &Candidate) -> String {
    match &candidate.outcome {
        Outcome::Failed { reason } => reason.clone(),
        Outcome::Measured(measured) if !measured.excess.is_empty() => measured.excess.join(", "),
        Outcome::Measured(measured) => {
            let (found, faults) = measured.validation_found;
            format!(
                "calls {:.1} % of normal windows anomalous and finds {found} of {faults} made-up faults",
                measured.validation_far * 100.0
            )
        }
    }
}

fn measure(parts: &Parts, recipe: &Recipe, budget: &Budget) -> Result<Measured, String> {
    let Trained { file, summary, .. } =
        train(&parts.training, recipe, |_| ControlFlow::Continue(())).map_err(|e| e.to_string())?;
    let detector = file.detector();
    let cost = cost(&detector);
    let excess = budget.excess(
        detector.file_len(),
        summary.memory_len,
        &cost,
        f64::from(detector.rate_hz()),
    );
    let calm = scores(&file, &parts.validation).map_err(|e| e.to_string())?;
    let rough = disturbed(&parts.validation, SEED);
    let rough = scores(&file, &rough).map_err(|e| e.to_string())?;
    let confusion = Confusion::of_verdicts(&calm.scored.verdicts, &calm.labels);
    let validation_far = confusion.false_alarm_rate().unwrap_or(0.0);
    let found = rough.found();
    let validation_auc = roc_auc(&rough.scored.scores, &rough.labels).unwrap_or(0.5);
    let tested = scores(&file, &parts.test).map_err(|e| e.to_string())?;
    let mut report = tested.report(&file, parts).map_err(|e| e.to_string())?;
    let test = report.rows.remove(0);
    let time_us = tested.last_rows.iter().map(|row| parts.test.time_us[*row]).collect();
    Ok(Measured {
        test,
        controls: report.rows,
        validation_auc,
        validation_far,
        validation_found: found,
        threshold_reason: report::threshold_reason(recipe, &summary),
        threshold: summary.threshold,
        flash_bytes: detector.file_len(),
        ram_bytes: summary.memory_len,
        cost,
        excess,
        scored: (tested.scored, tested.labels, time_us),
        file: file.clone(),
    })
}

/// A detector's scores on one recording.
struct Scores {
    scored: Scored,
    labels: Vec<bool>,
    last_rows: Vec<usize>,
}

fn scores(file: &DetectorFile, recording: &Recording) -> Result<Scores, ReplayError> {
    let detector = file.detector();
    let replay = replay(&detector, recording, |_, _| {})?;
    Ok(Scores {
        scored: replay.scored(detector.decision_rule().threshold),
        labels: window_labels(recording, &replay, &detector),
        last_rows: replay.last_rows(),
    })
}

impl Scores {
    /// Counts the labelled stretches of windows in which an anomaly was raised, and all of them.
    fn found(&self) -> (usize, usize) {
        let stretches = runs(&self.labels);
        let is_found =
            |stretch: &Range<usize>| self.scored.verdicts[stretch.clone()].contains(&true);
        (stretches.iter().filter(|stretch| is_found(stretch)).count(), stretches.len())
    }

    fn report(&self, file: &DetectorFile, parts: &Parts) -> Result<Report, EvaluateError> {
        let coverage = file.detector().coverage();
        let subject = Subject {
            recording: &parts.test,
            windows: Windows { last_rows: &self.last_rows, len: coverage.len + coverage.delay },
            labels: &self.labels,
            volume_window: None,
        };
        Report::new(file.detector().name(), &self.scored, &subject, &parts.training)
    }
}

/// Chooses by the validation part alone: the greatest area among those that fit the budget, keep quiet
/// on normal data and find made-up faults; of areas about equal, the cheapest.
fn choose(candidates: &[Candidate]) -> Option<Chosen> {
    let most = candidates.iter().filter_map(|c| Some(c.measured()?.validation_found.0)).max()?;
    let found_min = most as f64 * FOUND_SHARE_MIN;
    let fitting: Vec<(usize, &Measured)> = candidates
        .iter()
        .enumerate()
        .filter_map(|(index, candidate)| Some((index, candidate.measured()?)))
        .filter(|(_, measured)| {
            measured.excess.is_empty()
                && measured.validation_far <= VALIDATION_FAR_MAX
                && measured.validation_found.0 as f64 >= found_min
        })
        .collect();
    let best = fitting.iter().map(|(_, measured)| measured.validation_auc).fold(0.0, f64::max);
    let level = fitting.iter().filter(|(_, m)| m.validation_auc >= best - AREA_TOLERANCE);
    let (index, measured) =
        level.min_by(|(_, a), (_, b)| a.cost.per_sample.total_cmp(&b.cost.per_sample)).copied()?;
    let candidate = &candidates[index];
    Some(Chosen {
        index,
        name: candidate.name.clone(),
        reason: format!(
            "of {} that fit, keep quiet and find faults, the cheapest within {AREA_TOLERANCE} of the greatest area on the validation part ({:.3}; the greatest is {best:.3})",
            fitting.len(),
            measured.validation_auc,
        ),
    })
}
