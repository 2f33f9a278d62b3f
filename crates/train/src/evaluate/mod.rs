//! Metrics.
use std::ops::Range;
/// Returns the stretches of true labels.
#[must_use]
pub fn runs(labels: &[bool]) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut start = None;
    for (row, &label) in labels.iter().enumerate() {
        match (label, start) {
            (true, None) => start = Some(row),
            (false, Some(first)) => {
                runs.push(first..row);
                start = None;
            }
            _ => {}
        }
    }
    if let Some(first) = start {
        runs.push(first..labels.len());
    }
    runs
}
