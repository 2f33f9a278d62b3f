//! Made-up faults in real data, so that detectors can be chosen where no anomaly was ever recorded.

use crate::dataset::Recording;
use crate::random::Random;

/// What happens to a channel. Sizes are in deviations of the channel.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Disturbance {
    /// Off by so much.
    Step(f32),
    /// Off by an error that grows to so much.
    Drift(f32),
    /// The deviation from the mean is so many times as large.
    Gain(f32),
    /// Noise of this deviation on top.
    Noise(f32),
    /// The last value, again and again.
    Stuck,
}

/// In turn, so that each kind comes about as often.
const DISTURBANCES: [Disturbance; 6] = [
    Disturbance::Step(2.0),
    Disturbance::Drift(4.0),
    Disturbance::Gain(2.5),
    Disturbance::Noise(1.0),
    Disturbance::Stuck,
    Disturbance::Step(-4.0),
];

/// So many faults are in one recording, of which each takes a third of its part.
const FAULTS: usize = 24;
const FAULT_SPACING: usize = 3;

/// Returns the recording with labelled faults, about one in three rows; each is in one channel. What was
/// labelled before stays so.
#[must_use]
pub fn disturbed(recording: &Recording, seed: u64) -> Recording {
    let mut random = Random::new(seed);
    let mut disturbed = recording.clone();
    let rows = recording.rows();
    let width = recording.channels.len();
    let mut labels = recording.labels.clone().unwrap_or_else(|| vec![false; rows]);
    let count = FAULTS.min(rows / FAULT_SPACING);
    let part = rows / count.max(1);
    let len = part / FAULT_SPACING;
    let scales: Vec<(f32, f32)> = (0..width).map(|channel| moments(recording, channel)).collect();
    for index in 0..count {
        let slack = part.saturating_sub(len).max(1);
        let start = index * part + random.below(slack as u32) as usize;
        let channel = random.below(width as u32) as usize;
        let kind = DISTURBANCES[index % DISTURBANCES.len()];
        let (mean, deviation) = scales[channel];
        let held = recording.row(start)[channel];
        let end = (start + len).min(rows);
        for (at, label) in labels[start..end].iter_mut().enumerate() {
            let share = (at + 1) as f32 / (end - start) as f32;
            let value = &mut disturbed.samples[(start + at) * width + channel];
            *value = match kind {
                Disturbance::Step(size) => *value + size * deviation,
                Disturbance::Drift(size) => *value + size * share * deviation,
                Disturbance::Gain(factor) => mean + (*value - mean) * factor,
                Disturbance::Noise(size) => *value + size * deviation * random.normal() as f32,
                Disturbance::Stuck => held,
            };
            *label = true;
        }
    }
    disturbed.labels = Some(labels);
    disturbed.name = format!("{} with made-up faults", recording.name);
    disturbed
}

/// Mean and deviation of a channel's numbers.
fn moments(recording: &Recording, channel: usize) -> (f32, f32) {
    let numbers = || recording.channel(channel).filter(|x| x.is_finite()).map(f64::from);
    let count = numbers().count().max(1) as f64;
    let mean = numbers().sum::<f64>() / count;
    let variance = numbers().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    (mean as f32, variance.sqrt() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::ChannelInfo;

    fn flat(rows: usize) -> Recording {
        let mut random = Random::new(1);
        Recording {
            name: "noise".to_owned(),
            channels: vec![ChannelInfo::new("a", ""), ChannelInfo::new("b", "")],
            rate_hz: 1.0,
            time_us: (0..rows as i64).map(|row| row * 1_000_000).collect(),
            samples: (0..2 * rows).map(|_| random.normal() as f32).collect(),
            labels: None,
            segment_starts: vec![0],
        }
    }

    #[test]
    fn only_labelled_rows_differ_and_a_third_of_them_is_labelled() {
        let before = flat(6_000);
        let after = disturbed(&before, 7);
        let labels = after.labels.as_ref().expect("it has labels");
        for (row, labelled) in labels.iter().enumerate() {
            assert!(*labelled || before.row(row) == after.row(row), "row {row}");
        }
        let changed = (0..6_000).filter(|&row| before.row(row) != after.row(row)).count();
        let labelled = labels.iter().filter(|label| **label).count();
        assert!(changed > labelled * 9 / 10, "{changed} of {labelled} rows changed");
        assert!((1_800..=2_000).contains(&labelled), "{labelled} rows are labelled");
        assert_eq!(disturbed(&before, 7), after);
        assert_ne!(disturbed(&before, 8), after);
    }
}
