//! The table: a detector and the four controls, measured alike.

use thiserror::Error;

use super::control::{CONTROL_NAMES, FrozenZScore, Windows, always, never, random};
use super::{
    Confusion, Events, Volume, average_precision, default_volume_window, events, roc_auc,
    volume_under_surface,
};
use crate::dataset::Recording;
use crate::table::aligned;

/// Seed of the random control, so that a report is the same each time.
const RANDOM_SEED: u64 = 1;

/// Something that cannot be evaluated.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum EvaluateError {
    /// There are no windows.
    #[error("there is no window to evaluate; the recording is shorter than one window")]
    Empty,
    /// Two lists that belong together differ in length.
    #[error("{scores} scores, but {found} {what}; there must be one for each score")]
    Lengths {
        /// Number of scores.
        scores: usize,
        /// Which list differs.
        what: &'static str,
        /// Its length.
        found: usize,
    },
    /// A score is no finite number.
    #[error("the score of window {window} is {score}, not a finite number")]
    Score {
        /// From 0.
        window: usize,
        /// The score.
        score: f64,
    },
    /// A window ends outside of the recording.
    #[error("a window ends at row {row}, but the recording has {rows} rows")]
    Row {
        /// Last row of the window.
        row: usize,
        /// Rows of the recording.
        rows: usize,
    },
    /// The normal data hold no numbers for some channel.
    #[error("the normal recording has a channel without a single number; choose other channels")]
    NoNormal,
}

/// What a detector or control said about each window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scored {
    /// A score a window; higher is more anomalous.
    pub scores: Vec<f64>,
    /// A verdict a window, after hysteresis where there is one; true = anomaly.
    pub verdicts: Vec<bool>,
    /// The threshold, where there is one.
    pub threshold: Option<f64>,
}

/// What is evaluated: windows of a recording and what is known about them.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The recording that was replayed.
    pub recording: &'a Recording,
    /// Its windows.
    pub windows: Windows<'a>,
    /// `[windows]`, true = anomalous.
    pub labels: &'a [bool],
    /// Longest buffer of the volumes under the surface; from the labels where none is given.
    pub volume_window: Option<usize>,
}

/// One row of the table. Measures that are not defined for the data are none.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Metrics {
    /// The detector or control.
    pub name: String,
    /// From training data alone.
    pub threshold: Option<f64>,
    /// Verdicts against labels.
    pub confusion: Confusion,
    /// Share of right ones among the verdicts of an anomaly.
    pub precision: Option<f64>,
    /// Share of the anomalous windows that were found.
    pub recall: Option<f64>,
    /// Harmonic mean of the two.
    pub f1: Option<f64>,
    /// False-alarm rate (FAR).
    pub false_alarm_rate: Option<f64>,
    /// Missed-alarm rate (MAR).
    pub missed_alarm_rate: Option<f64>,
    /// Share of right verdicts.
    pub accuracy: Option<f64>,
    /// Area under the ROC curve.
    pub roc_auc: Option<f64>,
    /// Average precision (AUC-PR).
    pub average_precision: Option<f64>,
    /// VUS-ROC.
    pub vus_roc: Option<f64>,
    /// VUS-PR.
    pub vus_pr: Option<f64>,
    /// Alarms and labelled intervals.
    pub events: Events,
    /// Median delay of the detected intervals, in seconds.
    pub median_delay_s: Option<f64>,
}

impl Metrics {
    fn measure(
        name: &str,
        scored: &Scored,
        subject: &Subject<'_>,
        time_us: &[i64],
        volume_window: usize,
    ) -> Self {
        let labels = subject.labels;
        let confusion = Confusion::of_verdicts(&scored.verdicts, labels);
        let events = events(&scored.verdicts, labels, time_us, subject.recording.seconds());
        let volume = volume_under_surface(&scored.scores, labels, volume_window);
        Self {
            name: name.to_owned(),
            threshold: scored.threshold,
            confusion,
            precision: confusion.precision(),
            recall: confusion.recall(),
            f1: confusion.f1(),
            false_alarm_rate: confusion.false_alarm_rate(),
            missed_alarm_rate: confusion.missed_alarm_rate(),
            accuracy: confusion.accuracy(),
            roc_auc: roc_auc(&scored.scores, labels),
            average_precision: average_precision(&scored.scores, labels),
            vus_roc: volume.map(|Volume { roc, .. }| roc),
            vus_pr: volume.map(|Volume { pr, .. }| pr),
            median_delay_s: events.median_delay_s(),
            events,
        }
    }
}

/// An evaluation: the detector first, then the four controls.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// The recording.
    pub recording: String,
    /// Windows that were scored.
    pub windows: usize,
    /// Windows with an anomalous row.
    pub anomalous_windows: usize,
    /// Length of the recording without its gaps.
    pub seconds: f64,
    /// Longest buffer of VUS, in windows.
    pub volume_window: usize,
    /// The detector and the controls.
    pub rows: Vec<Metrics>,
}

impl Report {
    /// Measures a detector and the four controls on the same windows; `normal` is what the detector was trained on.
    ///
    /// # Errors
    /// [`EvaluateError`] where the parts do not belong together.
    pub fn new(
        name: &str,
        detector: &Scored,
        subject: &Subject<'_>,
        normal: &Recording,
    ) -> Result<Self, EvaluateError> {
        check(detector, subject)?;
        let count = detector.scores.len();
        let time_us: Vec<i64> =
            subject.windows.last_rows.iter().map(|&row| subject.recording.time_us[row]).collect();
        let volume_window =
            subject.volume_window.unwrap_or_else(|| default_volume_window(subject.labels));
        let share =
            detector.verdicts.iter().filter(|&&verdict| verdict).count() as f64 / count as f64;
        let z_score = FrozenZScore::fit(normal)?.score(subject.recording, subject.windows);
        let controls = [never(count), always(count), random(count, share, RANDOM_SEED), z_score];
        let named =
            std::iter::once((name, detector)).chain(CONTROL_NAMES.into_iter().zip(&controls));
        let rows = named
            .map(|(name, scored)| Metrics::measure(name, scored, subject, &time_us, volume_window))
            .collect();
        Ok(Self {
            recording: subject.recording.name.clone(),
            windows: count,
            anomalous_windows: subject.labels.iter().filter(|&&label| label).count(),
            seconds: subject.recording.seconds(),
            volume_window,
            rows,
        })
    }

    /// Returns the detector's row.
    #[must_use]
    pub fn detector(&self) -> Option<&Metrics> {
        self.rows.first()
    }

    /// Writes the report as a plain table.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "{}: {} windows, {} anomalous, {} of recording\n\n",
            self.recording,
            self.windows,
            self.anomalous_windows,
            duration(self.seconds)
        );
        let mut lines = vec![HEADS.map(str::to_owned).to_vec()];
        lines.extend(self.rows.iter().map(cells));
        text.push_str(&aligned(&lines));
        text
    }
}

fn check(detector: &Scored, subject: &Subject<'_>) -> Result<(), EvaluateError> {
    let scores = detector.scores.len();
    if scores == 0 {
        return Err(EvaluateError::Empty);
    }
    let lists = [
        ("verdicts", detector.verdicts.len()),
        ("labels", subject.labels.len()),
        ("windows", subject.windows.last_rows.len()),
    ];
    if let Some((what, found)) = lists.into_iter().find(|(_, len)| *len != scores) {
        return Err(EvaluateError::Lengths { scores, what, found });
    }
    if let Some((window, &score)) =
        detector.scores.iter().enumerate().find(|(_, score)| !score.is_finite())
    {
        return Err(EvaluateError::Score { window, score });
    }
    let rows = subject.recording.rows();
    match subject.windows.last_rows.iter().find(|&&row| row >= rows) {
        Some(&row) => Err(EvaluateError::Row { row, rows }),
        None => Ok(()),
    }
}

/// The heads of a table of [`cells`].
pub(crate) const HEADS: [&str; 12] = [
    "",
    "precision",
    "recall",
    "F1",
    "FAR",
    "MAR",
    "ROC AUC",
    "AUC-PR",
    "VUS-PR",
    "alarms/day",
    "detected",
    "delay",
];

/// One row of the table.
pub(crate) fn cells(row: &Metrics) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let share = |value: Option<f64>| or_dash(value.map(|value| format!("{value:.3}")));
    let percent =
        |value: Option<f64>| or_dash(value.map(|value| format!("{:.2} %", value * 100.0)));
    vec![
        row.name.clone(),
        share(row.precision),
        share(row.recall),
        share(row.f1),
        percent(row.false_alarm_rate),
        percent(row.missed_alarm_rate),
        share(row.roc_auc),
        share(row.average_precision),
        share(row.vus_pr),
        or_dash(row.events.alarms_per_day.map(|count| format!("{count:.2}"))),
        format!("{}/{}", row.events.intervals_detected, row.events.intervals),
        or_dash(row.median_delay_s.map(duration)),
    ]
}

/// Writes a length of time in the unit that fits.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7_200.0 => format!("{:.1} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}
