//! What the benchmark found.

use core::fmt::Write;

use serde::Serialize;

use super::{ScoredSeries, UcrError, UcrOptions};
use crate::evaluate::volume_under_surface;

/// The version of the report's form.
pub(super) const SCHEMA: u32 = 1;
/// A location is right within so many rows of the anomaly.
const TOLERANCE: usize = 100;

/// The first of TSB-AD's univariate leaderboard, over its 350 series: VUS-PR and AUC-PR.
const PUBLISHED: [(&str, f64, f64); 8] = [
    ("Sub-PCA", 0.42, 0.37),
    ("KShapeAD", 0.40, 0.35),
    ("POLY", 0.39, 0.31),
    ("MOMENT (fine-tuned)", 0.39, 0.30),
    ("KMeansAD", 0.37, 0.32),
    ("Sub-KNN", 0.35, 0.27),
    ("MatrixProfile", 0.35, 0.26),
    ("IForest", 0.30, 0.29),
];

/// What the benchmark found.
#[derive(Clone, Debug, Serialize)]
pub struct UcrReport {
    /// The version of this form.
    pub schema: u32,
    /// The version of Stonechat.
    pub version: &'static str,
    /// What was run.
    pub options: UcrOptions,
    /// Each series under the detector that was asked for.
    pub series: Vec<SeriesReport>,
    /// That detector, then those measured beside it.
    pub summaries: Vec<Summary>,
}

/// One series.
#[derive(Clone, Debug, Serialize)]
pub struct SeriesReport {
    /// Its name.
    pub name: String,
    /// The length of the detector's window.
    pub window_len: usize,
    /// The row with the greatest score after the training part.
    pub location: usize,
    /// The first row of the anomaly.
    pub anomaly_begin: usize,
    /// The row after its last.
    pub anomaly_end: usize,
    /// Whether the location is within 100 rows of the anomaly.
    pub is_right: bool,
    /// VUS-PR over the whole series; none where it is not defined.
    pub volume_pr: Option<f64>,
    /// Bytes of the detector file.
    pub file_len: usize,
    /// Bytes of memory that the detector needs.
    pub memory_len: usize,
}

/// A detector over all series.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The detector.
    pub name: String,
    /// The share of series whose anomaly was located.
    pub accuracy: f64,
    /// The mean of VUS-PR.
    pub mean_volume_pr: f64,
}

impl Summary {
    pub(super) fn new(name: &str, series: &[SeriesReport]) -> Self {
        let count = series.len().max(1) as f64;
        Self {
            name: name.to_owned(),
            accuracy: series.iter().filter(|series| series.is_right).count() as f64 / count,
            mean_volume_pr: series.iter().filter_map(|series| series.volume_pr).sum::<f64>()
                / count,
        }
    }
}

/// Measures a series, whose anomaly is looked up here for the first time.
pub(super) fn series(scored: &ScoredSeries) -> Result<SeriesReport, UcrError> {
    let location = scored.location();
    let anomaly = scored.anomaly()?;
    let labels: Vec<bool> = (0..scored.scores().len()).map(|row| anomaly.contains(&row)).collect();
    let volume = volume_under_surface(scored.scores(), &labels, scored.volume_window());
    let (file_len, memory_len) = scored.sizes();
    Ok(SeriesReport {
        name: scored.name().to_owned(),
        window_len: scored.window_len(),
        location,
        anomaly_begin: anomaly.start,
        anomaly_end: anomaly.end,
        is_right: (anomaly.start.saturating_sub(TOLERANCE)..anomaly.end + TOLERANCE)
            .contains(&location),
        volume_pr: volume.map(|volume| volume.pr),
        file_len,
        memory_len,
    })
}

impl UcrReport {
    /// Returns the detector that was asked for over all series.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        // `run` puts it first.
        &self.summaries[0]
    }

    /// Returns the report as a section of a Markdown page.
    #[must_use]
    pub fn markdown(&self) -> String {
        let recipe = &self.options.recipe;
        let window = if self.options.window_is_period {
            "windows as long as the dominant period of the training part, scores smoothed over as many".to_owned()
        } else {
            format!("windows of {} rows", recipe.window_len)
        };
        let mut text = format!(
            "## UCR anomaly archive\n\nStonechat {}: detector {} {}, {window}, features {}; one configuration for all {} \
             series. A location is right within {TOLERANCE} rows; VUS-PR is over the whole series, its longest buffer the \
             series' period. The anomaly is looked up when the scores exist.\n\n\
             | detector | top-1 accuracy | mean VUS-PR |\n|---|---:|---:|\n",
            self.version,
            recipe.detector.kind(),
            recipe.detector.settings(),
            recipe.features.join(", "),
            self.series.len(),
        );
        for summary in &self.summaries {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {:.2} | {:.3} |",
                summary.name, summary.accuracy, summary.mean_volume_pr
            );
        }
        text.push_str(
            "\n| series | window | located at | anomaly | right | VUS-PR | file, bytes | memory, bytes |\n\
             |---|---:|---:|---:|---|---:|---:|---:|\n",
        );
        for series in &self.series {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {}..{} | {} | {} | {} | {} |",
                series.name,
                series.window_len,
                series.location,
                series.anomaly_begin,
                series.anomaly_end,
                if series.is_right { "yes" } else { "no" },
                series.volume_pr.map_or_else(|| "–".to_owned(), |pr| format!("{pr:.3}")),
                series.file_len,
                series.memory_len,
            );
        }
        text.push_str(
            "\nPublished by TSB-AD, over its 350 univariate series, of which these are a few:\n\n\
             | detector | VUS-PR | AUC-PR |\n|---|---:|---:|\n",
        );
        for (name, volume, area) in PUBLISHED {
            let _ = writeln!(text, "| {name} | {volume:.2} | {area:.2} |");
        }
        text
    }
}
