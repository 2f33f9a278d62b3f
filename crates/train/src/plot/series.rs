//! Pictures over time: signal against reconstruction, score against threshold.

use std::ops::Range;
use std::sync::Arc;

use kuva::plot::LinePlot;
use kuva::plot::legend::{LegendEntry, LegendPosition, LegendShape};
use kuva::render::annotations::{ReferenceLine, ShadedRegion};
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;

use super::axis::{TimeAxis, channel_label, finite_range, padded_range, power_of_ten};
use super::thin::thin;
use super::{LOW, Picture, PlotError, WIDE, colour, layout};
use crate::dataset::{ChannelInfo, Recording};
use crate::limits::{GAP_FACTOR_DEFAULT, PLOT_POINTS_MAX};

/// A logarithmic axis is used where the greatest score is this many times the middle one.
const LOG_RATIO: f64 = 50.0;
/// Below this many pieces a line is interrupted at gaps; beyond, the gaps are too small to see.
const PIECES_MAX: usize = 200;

/// A stretch of time, in microseconds.
pub type Span = Range<i64>;

/// Returns the stretches of time that a recording labels as anomalous.
#[must_use]
pub fn label_spans(recording: &Recording) -> Vec<Span> {
    let period_us = (1e6 / recording.rate_hz) as i64;
    let span = |rows: Range<usize>| {
        recording.time_us[rows.start]..recording.time_us[rows.end - 1] + period_us
    };
    recording.anomalous_rows().into_iter().map(span).collect()
}

/// Draws a signal and what the detector reconstructs of it, with the labelled stretches shaded.
///
/// `signal` and `reconstruction` have one value for each time; NaN leaves a hole.
///
/// # Errors
/// [`PlotError`] where there is nothing to draw or lengths differ.
pub fn reconstruction(
    title: &str,
    channel: &ChannelInfo,
    time_us: &[i64],
    signal: &[f32],
    reconstruction: &[f32],
    spans: &[Span],
) -> Result<Picture, PlotError> {
    check("the signal", signal.len(), time_us.len())?;
    check("the reconstruction", reconstruction.len(), time_us.len())?;
    let axis = TimeAxis::new(time_us).ok_or(PlotError::Empty { what: "no samples" })?;
    let values = signal.iter().chain(reconstruction).map(|&value| f64::from(value));
    let range = padded_range(values).ok_or(PlotError::Empty { what: "no finite samples" })?;
    let mut plots =
        lines(&axis, time_us, signal.iter().map(|&v| f64::from(v)), colour::SIGNAL, 1.4);
    plots.extend(lines(
        &axis,
        time_us,
        reconstruction.iter().map(|&v| f64::from(v)),
        colour::RECONSTRUCTION,
        1.2,
    ));
    let mut entries = vec![
        line_entry("signal", colour::SIGNAL),
        line_entry("reconstruction", colour::RECONSTRUCTION),
    ];
    let layout = framed(&axis, range, title);
    let layout = shaded(layout, &axis, spans, &mut entries);
    Ok(Picture::of(plots, with_legend(layout, entries), &channel_label(channel)))
}

/// Draws scores and the threshold over time, with the labelled stretches shaded.
///
/// The axis is logarithmic where the scores need it and are all positive.
///
/// # Errors
/// [`PlotError`] where there is nothing to draw or lengths differ.
pub fn scores_over_time(
    title: &str,
    time_us: &[i64],
    scores: &[f64],
    threshold: f64,
    spans: &[Span],
) -> Result<Picture, PlotError> {
    check("the list of scores", scores.len(), time_us.len())?;
    let axis = TimeAxis::new(time_us).ok_or(PlotError::Empty { what: "no scores" })?;
    let all = || scores.iter().copied().chain([threshold]);
    let (low, high) = finite_range(all()).ok_or(PlotError::Empty { what: "no finite scores" })?;
    let is_log = low > 0.0 && high > LOG_RATIO * middle(scores);
    let range = if is_log {
        (low * 0.8, high * 1.25)
    } else {
        (low.min(0.0), high + (high - low.min(0.0)) * 0.05)
    };
    let plots = lines(&axis, time_us, scores.iter().copied(), colour::SIGNAL, 1.2);
    let mut entries = vec![
        line_entry("score", colour::SIGNAL),
        LegendEntry {
            dasharray: Some("6 4".to_owned()),
            ..line_entry("threshold", colour::THRESHOLD)
        },
    ];
    let line =
        ReferenceLine::horizontal(threshold).with_color(colour::THRESHOLD).with_stroke_width(1.6);
    let mut layout = framed(&axis, range, title).with_reference_line(line);
    if is_log {
        let format = TickFormat::Custom(Arc::new(|score: f64| power_of_ten(score.log10())));
        layout = layout.with_log_y().with_y_tick_format(format);
    }
    let layout = shaded(layout, &axis, spans, &mut entries);
    Ok(Picture::of(plots, with_legend(layout, entries), "score"))
}

fn check(what: &'static str, found: usize, expected: usize) -> Result<(), PlotError> {
    if found == expected { Ok(()) } else { Err(PlotError::Lengths { what, found, expected }) }
}

fn middle(scores: &[f64]) -> f64 {
    let mut sorted = scores.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn framed(axis: &TimeAxis, (low, high): (f64, f64), title: &str) -> Layout {
    let layout = layout(axis.range(), (low, high), title, WIDE, LOW);
    axis.apply(layout).with_y_axis_min(low).with_y_axis_max(high)
}

fn line_entry(label: &str, color: &str) -> LegendEntry {
    LegendEntry {
        label: label.to_owned(),
        color: color.to_owned(),
        shape: LegendShape::Line,
        dasharray: None,
    }
}

fn with_legend(layout: Layout, entries: Vec<LegendEntry>) -> Layout {
    layout.with_legend_entries(entries).with_legend_position(LegendPosition::OutsideRightTop)
}

fn shaded(
    mut layout: Layout,
    axis: &TimeAxis,
    spans: &[Span],
    entries: &mut Vec<LegendEntry>,
) -> Layout {
    let (start, end) = axis.range();
    for span in spans {
        let (from, to) = (axis.position(span.start).max(start), axis.position(span.end).min(end));
        if from < to {
            let region =
                ShadedRegion::vertical(from, to).with_color(colour::SPAN).with_opacity(1.0);
            layout = layout.with_shaded_region(region);
        }
    }
    if !spans.is_empty() {
        let entry = line_entry("labelled anomalous", colour::SPAN);
        entries.push(LegendEntry { shape: LegendShape::Rect, ..entry });
    }
    layout
}

/// Returns the curve, interrupted where values are missing or time has a gap.
fn lines(
    axis: &TimeAxis,
    time_us: &[i64],
    values: impl Iterator<Item = f64>,
    color: &str,
    width: f64,
) -> Vec<Plot> {
    let points: Vec<(i64, f64)> = time_us.iter().copied().zip(values).collect();
    let longest_us = typical_step_us(time_us) * GAP_FACTOR_DEFAULT;
    let joined = |a: &(i64, f64), b: &(i64, f64)| {
        a.1.is_finite() == b.1.is_finite() && b.0 >= a.0 && (b.0 - a.0) as f64 <= longest_us
    };
    let finite = |piece: &&[(i64, f64)]| piece.first().is_some_and(|(_, value)| value.is_finite());
    let mut pieces: Vec<Vec<(i64, f64)>> =
        points.chunk_by(joined).filter(finite).map(<[(i64, f64)]>::to_vec).collect();
    if pieces.len() > PIECES_MAX {
        pieces = vec![pieces.concat()];
    }
    let total: usize = pieces.iter().map(Vec::len).sum();
    let draw = |piece: Vec<(i64, f64)>| {
        let limit = (PLOT_POINTS_MAX * piece.len() / total.max(1)).max(2);
        let positions: Vec<(f64, f64)> =
            piece.iter().map(|&(time, value)| (axis.position(time), value)).collect();
        let line = LinePlot::new().with_data(thin(&positions, limit));
        line.with_color(color).with_stroke_width(width).into()
    };
    pieces.into_iter().map(draw).collect()
}

fn typical_step_us(time_us: &[i64]) -> f64 {
    let mut steps: Vec<i64> =
        time_us.windows(2).map(|pair| pair[1] - pair[0]).filter(|&step| step > 0).collect();
    steps.sort_unstable();
    steps.get(steps.len() / 2).map_or(f64::INFINITY, |&step| step as f64)
}
