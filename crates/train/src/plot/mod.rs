//! Pictures of a detector at work, as SVG and PNG.

mod axis;
mod distribution;
mod matrix;
mod series;
#[cfg(test)]
mod tests;
mod thin;

use kuva::backend::png::PngBackend;
use kuva::backend::svg::SvgBackend;
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;
use kuva::render::render::{Primitive, Scene, TextAnchor, render_multiple};
use thiserror::Error;

pub use distribution::{RocLine, roc, score_histogram};
pub use matrix::confusion_matrix;
pub use series::{Span, label_spans, reconstruction, scores_over_time};

/// Width of the pictures over time, in pixels at scale 1.
const WIDE: f64 = 1_000.0;
/// Height of the pictures over time.
const LOW: f64 = 380.0;
/// Room for the title and, below it, the label of the upright axis.
const MARGIN_TOP: f64 = 58.0;
/// Room for the ticks and the label of the level axis.
const MARGIN_BOTTOM: f64 = 52.0;
/// Where the label of the upright axis begins.
const Y_LABEL: (f64, f64) = (10.0, 48.0);
/// About what a legend beside the chart takes; the title stands above the chart alone.
const LEGEND_WIDTH: f64 = 200.0;
/// Pixels of a PNG for one of the SVG.
const PNG_SCALE: f32 = 2.0;

/// Colours that stay apart for colour-blind readers and in grey.
mod colour {
    pub(super) const SIGNAL: &str = "#1f4e79";
    pub(super) const RECONSTRUCTION: &str = "#e07b00";
    pub(super) const THRESHOLD: &str = "#b3261e";
    pub(super) const ANOMALOUS: &str = "#e07b00";
    pub(super) const SPAN: &str = "#f4d9c6";
    pub(super) const FAINT: &str = "#8a8a8a";
    pub(super) const TEXT: &str = "#222222";
    pub(super) const GRID: &str = "#e6e6e6";
}

/// A picture that could not be drawn.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PlotError {
    /// There is nothing to draw.
    #[error("there is nothing to draw: {what}")]
    Empty {
        /// What is missing.
        what: &'static str,
    },
    /// Lists that belong together differ in length.
    #[error("{what} has {found} entries, but there are {expected} times")]
    Lengths {
        /// Which list differs.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length that it must have.
        expected: usize,
    },
    /// The picture could not be turned into pixels.
    #[error("the picture cannot be written as PNG: {reason}")]
    Png {
        /// As the encoder says.
        reason: String,
    },
}

/// A drawn picture.
pub struct Picture {
    scene: Scene,
}

impl Picture {
    /// Renders a chart; the label of its upright axis stands level above it, which is easier to read.
    fn of(plots: Vec<Plot>, layout: Layout, y_label: &str) -> Self {
        let mut scene = render_multiple(plots, layout);
        scene.add(Primitive::Text {
            x: Y_LABEL.0,
            y: Y_LABEL.1,
            content: plain(y_label),
            size: 13,
            anchor: TextAnchor::Start,
            rotate: None,
            bold: false,
            color: Some(colour::TEXT.into()),
        });
        Self { scene }
    }

    /// Returns the picture as an SVG file.
    #[must_use]
    pub fn svg(&self) -> String {
        SvgBackend.render_scene(&self.scene)
    }

    /// Returns the picture as a PNG file, at twice the size of the SVG.
    ///
    /// # Errors
    /// [`PlotError::Png`] where the encoder fails.
    pub fn png(&self) -> Result<Vec<u8>, PlotError> {
        let png = PngBackend::new().with_scale(PNG_SCALE).render_scene(&self.scene);
        png.map_err(|reason| PlotError::Png { reason })
    }
}

/// Keeps a dollar sign from being read as the start of a formula.
fn plain(text: &str) -> String {
    text.replace('$', "\\$")
}

/// Returns the size at which a title fits into the width: 16 where it can be, never below 9.
fn title_size(title: &str, width: f64) -> u32 {
    // A character of the sans-serif face is on average 0.58 of its size wide.
    let fitting = width / (0.58 * title.chars().count().max(1) as f64);
    fitting.clamp(9.0, 16.0) as u32
}

/// Starts the layout that all pictures share.
fn layout(x: (f64, f64), y: (f64, f64), title: &str, width: f64, height: f64) -> Layout {
    use kuva::render::theme::Theme;
    let theme = Theme {
        axis_color: colour::TEXT.into(),
        tick_color: colour::TEXT.into(),
        text_color: colour::TEXT.into(),
        grid_color: colour::GRID.into(),
        legend_border: "none".into(),
        ..Theme::light()
    };
    Layout::new(x, y)
        .with_theme(theme)
        .with_title(plain(title))
        .with_force_margins_y(MARGIN_TOP, MARGIN_BOTTOM)
        .with_title_size(title_size(title, width - LEGEND_WIDTH))
        .with_label_size(13)
        .with_tick_size(11)
        .with_width(width)
        .with_height(height)
        .with_legend_box(false)
        .with_ticks(8)
}
