//! The confusion matrix.

use kuva::render::render::{Primitive, Scene, TextAnchor};

use super::{Picture, colour, title_size};
use crate::evaluate::Confusion;

const CELL_WIDTH: f64 = 150.0;
const CELL_HEIGHT: f64 = 110.0;
/// Room for the names of the rows.
const LEFT: f64 = 130.0;
/// Room for the title and the names of the columns.
const TOP: f64 = 110.0;
const MARGIN: f64 = 30.0;
/// From this depth of colour on, white has more contrast than black.
const WHITE_INK_SHARE: f64 = 0.7;

/// Draws the four counts as a matrix; a cell is the darker the greater its share of its row.
#[must_use]
pub fn confusion_matrix(title: &str, confusion: &Confusion) -> Picture {
    let width = LEFT + 2.0 * CELL_WIDTH + MARGIN;
    let mut scene = Scene::new(width, TOP + 2.0 * CELL_HEIGHT + MARGIN);
    let size = title_size(title, width - MARGIN);
    write(&mut scene, (width / 2.0, 30.0), title, size, colour::TEXT);
    write(&mut scene, (LEFT + CELL_WIDTH, 68.0), "verdict", 13, colour::TEXT);
    write(&mut scene, (LEFT / 2.0, 94.0), "label", 13, colour::TEXT);
    for (column, name) in [(0.5, "normal"), (1.5, "anomaly")] {
        write(&mut scene, (LEFT + column * CELL_WIDTH, 94.0), name, 13, colour::TEXT);
    }
    for (row, name) in [(0.5, "normal"), (1.5, "anomalous")] {
        write(&mut scene, (LEFT / 2.0, TOP + row * CELL_HEIGHT + 5.0), name, 13, colour::TEXT);
    }
    let rows = [
        [confusion.true_negatives, confusion.false_positives],
        [confusion.false_negatives, confusion.true_positives],
    ];
    for (row, counts) in (0_u8..).zip(rows) {
        let total: u64 = counts.iter().sum();
        for (column, count) in (0_u8..).zip(counts) {
            let share = if total > 0 { count as f64 / total as f64 } else { 0.0 };
            let corner =
                (LEFT + f64::from(column) * CELL_WIDTH, TOP + f64::from(row) * CELL_HEIGHT);
            cell(&mut scene, corner, count, share);
        }
    }
    Picture { scene }
}

fn cell(scene: &mut Scene, (x, y): (f64, f64), count: u64, share: f64) {
    scene.add(Primitive::Rect {
        x,
        y,
        width: CELL_WIDTH - 2.0,
        height: CELL_HEIGHT - 2.0,
        fill: shade(share).as_str().into(),
        stroke: None,
        stroke_width: None,
        opacity: None,
    });
    let ink = if share > WHITE_INK_SHARE { "#ffffff" } else { colour::TEXT };
    let (x, y) = (x + CELL_WIDTH / 2.0 - 1.0, y + CELL_HEIGHT / 2.0);
    write(scene, (x, y + 2.0), &grouped(count), 22, ink);
    write(scene, (x, y + 26.0), &format!("{:.2} %", share * 100.0), 12, ink);
}

fn write(scene: &mut Scene, (x, y): (f64, f64), text: &str, size: u32, ink: &str) {
    scene.add(Primitive::Text {
        x,
        y,
        content: text.to_owned(),
        size,
        anchor: TextAnchor::Middle,
        rotate: None,
        bold: false,
        color: Some(ink.into()),
    });
}

/// Mixes white with the colour of signals.
fn shade(share: f64) -> String {
    let mix = |full: f64| (245.0 + (full - 245.0) * share).round() as u8;
    format!("#{:02x}{:02x}{:02x}", mix(31.0), mix(78.0), mix(121.0))
}

/// Writes a count in groups of three digits with thin spaces.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}
