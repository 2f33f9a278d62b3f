//! A comparison as a table for the terminal.

use core::fmt::Write;

use super::{Candidate, Comparison, Measured, Outcome};
use crate::evaluate::{HEADS, cells};
use crate::recipe::Recipe;
use crate::table::aligned;
use crate::threshold::ThresholdRule;
use crate::train::Summary;

impl Comparison {
    /// Writes the comparison as plain tables: how good, how dear, and what is chosen.
    #[must_use]
    pub fn table(&self) -> String {
        let [training, validation, test] = self.rows;
        let mut text = format!(
            "{}: {training} rows to train, {validation} to choose, {test} to report{}\n\n",
            self.recording,
            if self.made_up { " (no anomaly is labelled there: faults were made up)" } else { "" },
        );
        text.push_str(&aligned(&self.quality()));
        text.push('\n');
        text.push_str(&aligned(&self.expense()));
        for candidate in &self.candidates {
            if let Outcome::Failed { reason } = &candidate.outcome {
                // Writing to a String cannot fail.
                let _ = write!(text, "\n{}: not trained: {reason}", candidate.name);
            }
        }
        let choice = match &self.chosen {
            Some(chosen) => format!("\nchosen      {}: {}\n", chosen.name, chosen.reason),
            None => format!("\nchosen      none: no detector fits {}\n", self.budget.chip),
        };
        text.push_str(&choice);
        text
    }

    fn trained(&self) -> impl Iterator<Item = (&Candidate, &Measured)> {
        self.candidates.iter().filter_map(|candidate| Some((candidate, candidate.measured()?)))
    }

    /// What each is worth on the test part, the controls of the first of them last.
    pub(super) fn quality(&self) -> Vec<Vec<String>> {
        let mut lines = vec![HEADS.map(str::to_owned).to_vec()];
        for (candidate, measured) in self.trained() {
            let mut line = cells(&measured.test);
            line[0].clone_from(&candidate.name);
            lines.push(line);
        }
        if let Some((_, first)) = self.trained().next() {
            lines.extend(first.controls.iter().map(cells));
        }
        lines
    }

    /// What each takes of the chip.
    pub(super) fn expense(&self) -> Vec<Vec<String>> {
        let heads = [
            &format!("on {}", self.budget.chip),
            "flash",
            "RAM",
            "instr/sample",
            "worst sample",
            "fits",
            "validation AUC",
            "FAR",
            "found",
            "threshold",
        ];
        let mut lines = vec![heads.map(str::to_owned).to_vec()];
        for (candidate, measured) in self.trained() {
            lines.push(vec![
                candidate.name.clone(),
                measured.flash_bytes.to_string(),
                measured.ram_bytes.to_string(),
                format!("{:.0}", measured.cost.per_sample),
                format!("{:.0}", measured.cost.worst_sample),
                if measured.excess.is_empty() { "yes" } else { "no" }.to_owned(),
                format!("{:.3}", measured.validation_auc),
                format!("{:.2} %", measured.validation_far * 100.0),
                format!("{}/{}", measured.validation_found.0, measured.validation_found.1),
                format!("{:.4}", measured.threshold.value),
            ]);
        }
        lines
    }
}

/// Says in words what a threshold rests on.
pub(super) fn threshold_reason(recipe: &Recipe, summary: &Summary) -> String {
    let scores = summary.threshold.scores;
    match recipe.threshold_rule() {
        _ if recipe.detector.learns_from_labels() => "half of the votes".to_owned(),
        ThresholdRule::Quantile { quantile, margin } => format!(
            "the {:.4} quantile of {scores} held-out normal scores, raised by {:.0} %",
            quantile,
            margin * 100.0
        ),
        ThresholdRule::AboveMedian { quantile, margin } => format!(
            "the {quantile:.4} quantile of {scores} held-out normal scores, raised by {:.0} % of its distance from their median",
            margin * 100.0
        ),
        ThresholdRule::PeaksOverThreshold { risk, .. } => format!(
            "exceeded by a normal score with probability {risk}, from the tail of {scores} held-out scores"
        ),
    }
}
