//! A comparison as one HTML file with its pictures inside.

use core::fmt::Write;

use thiserror::Error;

use super::{Comparison, Measured, Outcome};
use crate::evaluate::{RocPoint, roc_auc, roc_curve};
use crate::plot::{PlotError, RocLine, Span, roc, score_histogram, scores_over_time};

/// A picture of the page cannot be drawn.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("a picture of `{candidate}` cannot be drawn")]
pub struct PageError {
    candidate: String,
    source: PlotError,
}

/// More lines could not be told apart.
const CURVES_MAX: usize = 5;
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;\
color:#222;background:#fff}table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}\
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}\
th:first-child,td:first-child{text-align:left}.table{overflow-x:auto}svg{max-width:100%;height:auto}\
.chosen{background:#e8f1e4}.why{color:#555}summary{cursor:pointer;font-weight:600}";

/// Writes a comparison as a page that needs nothing else.
///
/// # Errors
/// [`PageError`] where a picture cannot be drawn.
pub fn page(comparison: &Comparison, made_by: &str) -> Result<String, PageError> {
    let title = format!("Detectors on {}", comparison.recording);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{0}</title><style>{STYLE}</style></head><body>\n<h1>{0}</h1>\n",
        escaped(&title)
    );
    let [training, validation, test] = comparison.rows;
    let made_up = if comparison.made_up {
        " No anomaly is labelled in the last part: its faults are made up."
    } else {
        ""
    };
    let budget = &comparison.budget;
    push(
        &mut html,
        format_args!(
            "<p>{training} rows trained the detectors, {validation} served the choice, {test} are reported.{made_up} \
         The chip is {}: {} bytes of flash and {} of RAM for a detector, {:.0} million instructions a second.</p>\n",
            escaped(&budget.chip),
            budget.flash_bytes,
            budget.ram_bytes,
            budget.instructions_per_s / 1e6
        ),
    );
    let chosen = match &comparison.chosen {
        Some(chosen) => format!("<b>{}</b>: {}", escaped(&chosen.name), escaped(&chosen.reason)),
        None => "none fits the chip".to_owned(),
    };
    push(&mut html, format_args!("<p class=\"why\">Chosen: {chosen}.</p>\n"));
    let name = comparison.chosen.as_ref().map(|chosen| chosen.name.as_str());
    table(&mut html, &comparison.quality(), name);
    table(&mut html, &comparison.expense(), name);
    push(&mut html, format_args!("{}\n", roc_curves(comparison)?));
    for candidate in &comparison.candidates {
        let name = escaped(&candidate.name);
        push(&mut html, format_args!("<details open><summary>{name}</summary>\n"));
        match &candidate.outcome {
            Outcome::Failed { reason } => {
                push(&mut html, format_args!("<p>Not trained: {}</p>", escaped(reason)));
            }
            Outcome::Measured(measured) => {
                pictures(&mut html, &candidate.name, measured, &comparison.spans)?;
            }
        }
        html.push_str("</details>\n");
    }
    push(&mut html, format_args!("<p class=\"why\">{}</p></body></html>\n", escaped(made_by)));
    Ok(html)
}

fn push(html: &mut String, text: core::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = html.write_fmt(text);
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn table(html: &mut String, lines: &[Vec<String>], chosen: Option<&str>) {
    html.push_str("<div class=\"table\"><table>");
    for (index, line) in lines.iter().enumerate() {
        let tag = if index == 0 { "th" } else { "td" };
        let is_chosen = index > 0 && line.first().map(String::as_str) == chosen;
        html.push_str(if is_chosen { "<tr class=\"chosen\">" } else { "<tr>" });
        for cell in line {
            push(html, format_args!("<{tag}>{}</{tag}>", escaped(cell)));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table></div>\n");
}

/// The best detectors in one picture; nothing where the test part has one class only.
fn roc_curves(comparison: &Comparison) -> Result<String, PageError> {
    let mut curves: Vec<(&str, Vec<RocPoint>, f64)> = comparison
        .candidates
        .iter()
        .filter_map(|candidate| {
            let (scored, labels, _) = &candidate.measured()?.scored;
            let area = roc_auc(&scored.scores, labels)?;
            Some((candidate.name.as_str(), roc_curve(&scored.scores, labels), area))
        })
        .collect();
    if curves.is_empty() {
        return Ok(String::new());
    }
    curves.sort_by(|a, b| b.2.total_cmp(&a.2));
    curves.truncate(CURVES_MAX);
    let lines: Vec<RocLine<'_>> =
        curves.iter().map(|(name, points, area)| RocLine { name, points, area: *area }).collect();
    let drawn = roc("ROC on the reported part, the greatest areas", &lines);
    drawn
        .map(|picture| picture.svg())
        .map_err(|source| PageError { candidate: comparison.recording.clone(), source })
}

fn pictures(
    html: &mut String,
    name: &str,
    measured: &Measured,
    spans: &[Span],
) -> Result<(), PageError> {
    let failed = |source| PageError { candidate: name.to_owned(), source };
    let (scored, labels, time_us) = &measured.scored;
    let threshold = measured.threshold.value;
    push(
        html,
        format_args!(
            "<p class=\"why\">Threshold {threshold:.4}: {}.</p>\n",
            escaped(&measured.threshold_reason)
        ),
    );
    let over_time =
        scores_over_time(&format!("{name}: score"), time_us, &scored.scores, threshold, spans);
    html.push_str(&over_time.map_err(failed)?.svg());
    let histogram = score_histogram(&format!("{name}: scores"), &scored.scores, labels, threshold);
    html.push_str(&histogram.map_err(failed)?.svg());
    Ok(())
}
