//! How good a detector is: scores and verdicts against labels, beside four controls that anybody can beat or cannot.
//!
//! Thresholds come in from outside and are never tuned here, and there is no point adjustment: F1 stands beside the
//! rates of false and missed alarms.

mod confusion;
mod control;
mod event;
mod ranking;
mod report;
#[cfg(test)]
mod tests;
mod volume;

use std::ops::Range;

pub use confusion::Confusion;
pub use control::{CONTROL_NAMES, FrozenZScore, Windows, always, never, random};
pub use event::{Events, events};
pub use ranking::{RocPoint, average_precision, roc_auc, roc_curve};
pub use report::{EvaluateError, Metrics, Report, Scored, Subject};
pub(crate) use report::{HEADS, cells};
pub use volume::{Volume, default_volume_window, volume_under_surface};

/// Returns the stretches of true values, in order.
#[must_use]
pub fn runs(values: &[bool]) -> Vec<Range<usize>> {
    let mut start = 0;
    let mut runs = Vec::new();
    for run in values.chunk_by(|a, b| a == b) {
        if run[0] {
            runs.push(start..start + run.len());
        }
        start += run.len();
    }
    runs
}
