//! Pictures without time: score histograms and ROC curves.

use kuva::plot::LinePlot;
use kuva::plot::legend::{LegendEntry, LegendPosition, LegendShape};
use kuva::render::annotations::ReferenceLine;
use kuva::render::layout::TickFormat;
use kuva::render::plots::Plot;

use super::axis::{finite_range, power_of_ten};
use super::thin::thin;
use super::{Picture, PlotError, colour, layout, plain};
use crate::evaluate::RocPoint;
use crate::limits::PLOT_POINTS_MAX;

const BINS: usize = 60;
/// Scores that span more than this ratio are binned by their logarithm.
const LOG_RATIO: f64 = 50.0;

/// Draws how normal and anomalous scores are distributed, each as a share of its own class, and the threshold.
///
/// # Errors
/// [`PlotError`] where there is nothing to draw or lengths differ.
pub fn score_histogram(
    title: &str,
    scores: &[f64],
    labels: &[bool],
    threshold: f64,
) -> Result<Picture, PlotError> {
    if labels.len() != scores.len() {
        return Err(PlotError::Lengths {
            what: "the list of labels",
            found: labels.len(),
            expected: scores.len(),
        });
    }
    let (low, high) = finite_range(scores.iter().copied().chain([threshold]))
        .filter(|_| scores.iter().any(|score| score.is_finite()))
        .ok_or(PlotError::Empty { what: "no finite scores" })?;
    let is_log = low > 0.0 && high / low > LOG_RATIO;
    let scale = |score: f64| if is_log { score.log10() } else { score };
    let (low, high) = (scale(low), scale(high));
    let (low, high) = if high > low { (low, high) } else { (low - 0.5, high + 0.5) };
    let width = (high - low) / BINS as f64;

    let mut plots = Vec::new();
    let mut entries = Vec::new();
    let mut top = 0.0_f64;
    for (class, name, color) in
        [(false, "normal", colour::SIGNAL), (true, "anomalous", colour::ANOMALOUS)]
    {
        let of_class = scores
            .iter()
            .zip(labels)
            .filter(|(score, label)| **label == class && score.is_finite());
        let positions: Vec<f64> = of_class.map(|(score, _)| scale(*score)).collect();
        if positions.is_empty() {
            continue;
        }
        let mut shares = [0.0; BINS];
        for position in &positions {
            let bin = (((position - low) / width) as usize).min(BINS - 1);
            shares[bin] += 100.0 / positions.len() as f64;
        }
        top = shares.iter().copied().fold(top, f64::max);
        let line = LinePlot::new()
            .with_data(outline(&shares, low, width))
            .with_color(color)
            .with_stroke_width(1.4);
        plots.push(Plot::from(line.with_fill().with_fill_opacity(0.25)));
        entries.push(entry(
            &format!("{name} ({})", positions.len()),
            color,
            LegendShape::Rect,
            None,
        ));
    }
    entries.push(entry("threshold", colour::THRESHOLD, LegendShape::Line, Some("6 4")));
    let line = ReferenceLine::vertical(scale(threshold))
        .with_color(colour::THRESHOLD)
        .with_stroke_width(1.6);
    let padding = width * 2.0;
    let mut layout =
        layout((low - padding, high + padding), (0.0, top * 1.08), title, 760.0, 400.0)
            .with_x_axis_min(low - padding)
            .with_x_axis_max(high + padding)
            .with_y_axis_min(0.0)
            .with_y_axis_max(top * 1.08)
            .with_x_label(if is_log { "score (logarithmic)" } else { "score" })
            .with_reference_line(line)
            .with_legend_entries(entries)
            .with_legend_position(LegendPosition::OutsideRightTop);
    if is_log {
        layout = layout.with_x_tick_format(TickFormat::Custom(std::sync::Arc::new(power_of_ten)));
        // Whole powers of ten only, unless that leaves too few.
        layout = layout.with_x_tick_step(if high - low > 3.0 { 1.0 } else { 0.5 });
    }
    Ok(Picture::of(plots, layout, "share of windows, %"))
}

/// Returns the upper edge of the bars, from the base line and back to it.
fn outline(shares: &[f64], low: f64, width: f64) -> Vec<(f64, f64)> {
    let mut points = vec![(low, 0.0)];
    for (bin, &share) in shares.iter().enumerate() {
        points.push((low + bin as f64 * width, share));
        points.push((low + (bin + 1) as f64 * width, share));
    }
    points.push((low + shares.len() as f64 * width, 0.0));
    points
}

fn entry(label: &str, color: &str, shape: LegendShape, dashes: Option<&str>) -> LegendEntry {
    LegendEntry {
        label: label.to_owned(),
        color: color.to_owned(),
        shape,
        dasharray: dashes.map(str::to_owned),
    }
}

/// A ROC curve with its name and area.
#[derive(Clone, Copy, Debug)]
pub struct RocLine<'a> {
    /// The detector or control.
    pub name: &'a str,
    /// From [`crate::evaluate::roc_curve`].
    pub points: &'a [RocPoint],
    /// From [`crate::evaluate::roc_auc`].
    pub area: f64,
}

/// Draws ROC curves, the first one strongest, and the diagonal of chance.
///
/// # Errors
/// [`PlotError::Empty`] where no curve has points.
pub fn roc(title: &str, curves: &[RocLine<'_>]) -> Result<Picture, PlotError> {
    const COLOURS: [&str; 5] =
        [colour::SIGNAL, colour::RECONSTRUCTION, "#3a7d44", "#7b4ea3", colour::FAINT];
    if curves.iter().all(|curve| curve.points.is_empty()) {
        return Err(PlotError::Empty {
            what: "no ROC curve; both normal and anomalous windows are needed",
        });
    }
    let diagonal =
        LinePlot::new().with_data([(0.0, 0.0), (1.0, 1.0)]).with_color(colour::FAINT).with_dashed();
    let mut plots = vec![Plot::from(diagonal.with_stroke_width(1.0))];
    let mut entries = Vec::new();
    for (index, curve) in curves.iter().enumerate() {
        let color = COLOURS[index % COLOURS.len()];
        let points: Vec<(f64, f64)> =
            curve.points.iter().map(|point| (point.false_alarm_rate, point.recall)).collect();
        let width = if index == 0 { 2.4 } else { 1.4 };
        let line = LinePlot::new()
            .with_data(thin(&points, PLOT_POINTS_MAX))
            .with_color(color)
            .with_stroke_width(width);
        plots.push(line.into());
        let label = format!("{} (AUC {:.3})", plain(curve.name), curve.area);
        entries.push(entry(&label, color, LegendShape::Line, None));
    }
    entries.push(entry("chance", colour::FAINT, LegendShape::Line, Some("6 4")));
    let layout = layout((0.0, 1.0), (0.0, 1.0), title, 560.0, 520.0)
        .with_x_axis_min(0.0)
        .with_x_axis_max(1.0)
        .with_y_axis_min(0.0)
        .with_y_axis_max(1.02)
        .with_x_tick_step(0.2)
        .with_y_tick_step(0.2)
        .with_x_label("false-alarm rate")
        .with_legend_entries(entries)
        .with_legend_position(LegendPosition::InsideBottomRight);
    Ok(Picture::of(plots, layout, "recall"))
}
