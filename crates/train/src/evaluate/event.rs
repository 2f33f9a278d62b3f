//! What an operator sees: alarms a day, labelled intervals found, and how long it took.

use super::runs;

/// Alarms and labelled intervals of one replay. An alarm is a run of verdicts of an anomaly.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Events {
    /// Number of alarms.
    pub alarms: usize,
    /// Alarms that touch no labelled interval.
    pub false_alarms: usize,
    /// Alarms in a day of recording; none where it has no length.
    pub alarms_per_day: Option<f64>,
    /// False alarms in a day of recording.
    pub false_alarms_per_day: Option<f64>,
    /// Labelled intervals.
    pub intervals: usize,
    /// Intervals in which an alarm was up.
    pub intervals_detected: usize,
    /// For each interval the seconds from its start to the first alarm in it; none where it was missed.
    pub delays_s: Vec<Option<f64>>,
}

impl Events {
    /// Returns the median delay of the intervals that were detected, in seconds.
    #[must_use]
    pub fn median_delay_s(&self) -> Option<f64> {
        let mut delays: Vec<f64> = self.delays_s.iter().flatten().copied().collect();
        delays.sort_unstable_by(f64::total_cmp);
        let middle = delays.len() / 2;
        match delays.len() {
            0 => None,
            n if n % 2 == 1 => Some(delays[middle]),
            _ => Some((delays[middle - 1] + delays[middle]) / 2.0),
        }
    }
}

/// Compares verdicts with labelled intervals.
///
/// `time_us` is the time of each verdict, `seconds` the length of the recording without its gaps.
#[must_use]
pub fn events(verdicts: &[bool], labels: &[bool], time_us: &[i64], seconds: f64) -> Events {
    let intervals = runs(labels);
    let alarms = runs(verdicts);
    let false_alarms =
        alarms.iter().filter(|alarm| !labels[(*alarm).clone()].contains(&true)).count();
    let delay = |interval: &std::ops::Range<usize>| {
        let first = interval.clone().find(|&row| verdicts[row])?;
        Some((time_us[first] - time_us[interval.start]) as f64 / 1e6)
    };
    let delays_s: Vec<Option<f64>> = intervals.iter().map(delay).collect();
    let per_day = |count: usize| (seconds > 0.0).then(|| count as f64 * 86_400.0 / seconds);
    Events {
        alarms: alarms.len(),
        false_alarms,
        alarms_per_day: per_day(alarms.len()),
        false_alarms_per_day: per_day(false_alarms),
        intervals: intervals.len(),
        intervals_detected: delays_s.iter().flatten().count(),
        delays_s,
    }
}
