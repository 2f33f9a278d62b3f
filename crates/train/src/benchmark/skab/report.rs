//! What the benchmark found: the detector, four controls and published detectors, measured alike.

use core::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::{ScoredFile, SkabError, SkabOptions};
use crate::evaluate::{CONTROL_NAMES, Confusion, Scored, always, never, random, roc_auc};

/// The version of the report's form.
pub(super) const SCHEMA: u32 = 1;

/// The leaderboard over all 34 files as its README has it: F1, FAR and MAR in percent.
const PUBLISHED: [(&str, f64, f64, f64); 7] = [
    ("Conv-AE", 0.784, 13.55, 28.02),
    ("MSET", 0.780, 39.73, 14.13),
    ("T² + Q", 0.758, 26.62, 24.92),
    ("LSTM-AE", 0.741, 29.96, 25.92),
    ("T²", 0.660, 19.21, 42.60),
    ("Vanilla AE", 0.391, 2.59, 75.15),
    ("Isolation forest", 0.287, 2.56, 82.89),
];

/// What the benchmark found.
#[derive(Clone, Debug, Serialize)]
pub struct SkabReport {
    /// The version of this form.
    pub schema: u32,
    /// The version of Stonechat.
    pub version: &'static str,
    /// What was run.
    pub options: SkabOptions,
    /// The groups that were there.
    pub groups: Vec<GroupReport>,
}

/// The files of one folder.
#[derive(Clone, Debug, Serialize)]
pub struct GroupReport {
    /// The folder's name.
    pub name: String,
    /// Each file.
    pub files: Vec<FileReport>,
    /// The detector over all files.
    pub detector: Line,
    /// Never, always, random and the frozen z-score.
    pub controls: Vec<Line>,
    /// Detectors whose published verdicts on the same files lie beside the data.
    pub published: Vec<Line>,
}

/// One file.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// Folder and file.
    pub name: String,
    /// The threshold that its training rows gave.
    pub threshold: f64,
    /// Area under the ROC curve of the scores; none where one class is missing.
    pub roc_auc: Option<f64>,
    /// Verdicts against labels.
    pub confusion: Confusion,
}

/// A line of the table: the rows of all files added up.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The detector.
    pub name: String,
    /// Verdicts against labels.
    pub confusion: Confusion,
    /// Harmonic mean of precision and recall.
    pub f1: Option<f64>,
    /// Share of the normal rows that were called anomalous.
    pub false_alarm_rate: Option<f64>,
    /// Share of the anomalous rows that were called normal.
    pub missed_alarm_rate: Option<f64>,
    /// Mean over the files of the area under the ROC curve; none without scores.
    pub mean_roc_auc: Option<f64>,
}

impl Line {
    fn new(name: &str, confusion: Confusion, aucs: &[f64]) -> Self {
        Self {
            name: name.to_owned(),
            confusion,
            f1: confusion.f1(),
            false_alarm_rate: confusion.false_alarm_rate(),
            missed_alarm_rate: confusion.missed_alarm_rate(),
            mean_roc_auc: (!aucs.is_empty()).then(|| aucs.iter().sum::<f64>() / aucs.len() as f64),
        }
    }
}

/// Measures the files of a group, whose labels are read here for the first time.
pub(super) fn group(
    folder: &Path,
    name: &str,
    files: &[ScoredFile],
    seed: u64,
) -> Result<GroupReport, SkabError> {
    let labels = files.iter().map(ScoredFile::labels).collect::<Result<Vec<_>, _>>()?;
    let line = |name: &str, scored: &[Scored]| {
        let mut total = Confusion::default();
        let mut aucs = Vec::new();
        for (scored, labels) in scored.iter().zip(&labels) {
            total = sum(total, Confusion::of_verdicts(&scored.verdicts, labels));
            aucs.extend(roc_auc(&scored.scores, labels));
        }
        Line::new(name, total, &aucs)
    };
    let rows = |file: &ScoredFile| file.scored().scores.len();
    let alarms = |file: &ScoredFile| {
        let raised = file.scored().verdicts.iter().filter(|verdict| **verdict).count();
        raised as f64 / rows(file) as f64
    };
    let numbered = || (seed..).zip(files);
    let controls = [
        files.iter().map(|file| never(rows(file))).collect::<Vec<_>>(),
        files.iter().map(|file| always(rows(file))).collect(),
        numbered().map(|(seed, file)| random(rows(file), alarms(file), seed)).collect(),
        files.iter().map(|file| file.frozen().clone()).collect(),
    ];
    let scored: Vec<Scored> = files.iter().map(|file| file.scored().clone()).collect();
    Ok(GroupReport {
        name: name.to_owned(),
        files: files.iter().zip(&labels).map(|(file, labels)| file_report(file, labels)).collect(),
        detector: line("Stonechat", &scored),
        controls: CONTROL_NAMES.iter().zip(&controls).map(|(name, all)| line(name, all)).collect(),
        published: published(folder, files, &labels)?,
    })
}

fn file_report(file: &ScoredFile, labels: &[bool]) -> FileReport {
    let scored = file.scored();
    FileReport {
        name: file.name().to_owned(),
        threshold: file.threshold(),
        roc_auc: roc_auc(&scored.scores, labels),
        confusion: Confusion::of_verdicts(&scored.verdicts, labels),
    }
}

fn sum(a: Confusion, b: Confusion) -> Confusion {
    Confusion {
        true_positives: a.true_positives + b.true_positives,
        false_positives: a.false_positives + b.false_positives,
        true_negatives: a.true_negatives + b.true_negatives,
        false_negatives: a.false_negatives + b.false_negatives,
    }
}

/// Measures the published verdicts in `published_predictions`: lines of a file's name, a semicolon and a digit
/// for each row. Detectors whose verdicts do not cover the files are left out.
fn published(
    folder: &Path,
    files: &[ScoredFile],
    labels: &[Vec<bool>],
) -> Result<Vec<Line>, SkabError> {
    let folder = folder.join("published_predictions");
    let failed = |source| SkabError::Read { path: folder.clone(), source };
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    let mut lines = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).map_err(failed)?;
        let digits = |file: &ScoredFile| {
            let verdicts = text.lines().filter_map(|line| line.split_once(';'));
            verdicts.into_iter().find(|(name, _)| *name == file.name()).map(|(_, digits)| digits)
        };
        let mut total = Some(Confusion::default());
        for (file, labels) in files.iter().zip(labels) {
            let verdicts: Vec<bool> = digits(file)
                .unwrap_or_default()
                .trim()
                .bytes()
                .map(|digit| digit == b'1')
                .collect();
            total = total
                .filter(|_| verdicts.len() == labels.len())
                .map(|total| sum(total, Confusion::of_verdicts(&verdicts, labels)));
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().replace('_', " ");
        lines.extend(total.map(|total| Line::new(&name, total, &[])));
    }
    lines.sort_by(|a, b| b.f1.unwrap_or(0.0).total_cmp(&a.f1.unwrap_or(0.0)));
    Ok(lines)
}

impl SkabReport {
    /// Returns a group by its name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&GroupReport> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// Returns the report as a section of a Markdown page.
    #[must_use]
    pub fn markdown(&self) -> String {
        let recipe = &self.options.recipe;
        let mut text = format!(
            "## SKAB\n\nStonechat {}, seed {}: detector {} {}, windows of {} rows, features {}. In each file rows 0 to {} \
             fit the detector, its scaler and its threshold; every row after them is judged, in one run, gaps or not. \
             Labels are read when the scores exist.\n",
            self.version,
            self.options.seed,
            recipe.detector.kind(),
            recipe.detector.settings(),
            recipe.window_len,
            recipe.features.join(", "),
            self.options.training_rows - 1,
        );
        for group in &self.groups {
            group.write(&mut text);
        }
        text.push_str(
            "\nThe published table, over all 34 files (F1, FAR %, MAR %; \"always\" has F1 0.698 there):\n\n\
             | detector | F1 | FAR % | MAR % |\n|---|---:|---:|---:|\n",
        );
        for (name, f1, false_alarms, missed) in PUBLISHED {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {name} | {f1:.3} | {false_alarms:.2} | {missed:.2} |");
        }
        text
    }
}

impl GroupReport {
    fn write(&self, text: &mut String) {
        let _ = write!(
            text,
            "\n### {}: {} files\n\n| detector | F1 | FAR % | MAR % | mean AUC |\n|---|---:|---:|---:|---:|\n",
            self.name,
            self.files.len()
        );
        let ours = core::iter::once(&self.detector);
        for line in ours.chain(&self.controls).chain(&self.published) {
            let percent = |share: Option<f64>| cell(share.map(|share| 100.0 * share), 2);
            let is_published = line.mean_roc_auc.is_none();
            let _ = writeln!(
                text,
                "| {}{} | {} | {} | {} | {} |",
                line.name,
                if is_published { " (published verdicts)" } else { "" },
                cell(line.f1, 3),
                percent(line.false_alarm_rate),
                percent(line.missed_alarm_rate),
                cell(line.mean_roc_auc, 3),
            );
        }
        text.push_str("\n| file | AUC | F1 | threshold |\n|---|---:|---:|---:|\n");
        for file in &self.files {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.3} |",
                file.name,
                cell(file.roc_auc, 3),
                cell(file.confusion.f1(), 3),
                file.threshold,
            );
        }
    }
}

fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}
