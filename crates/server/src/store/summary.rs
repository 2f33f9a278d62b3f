//! What is kept of readings once they are too many or too old to be kept one by one: for each
//! minute and each hour their number, least, greatest, sum and last. The extremes keep their
//! times, so that a graph of summaries shows points that were measured.

use std::collections::BTreeMap;

use serde::Serialize;

/// How finely readings are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// One by one.
    #[default]
    Raw,
    /// By minutes.
    Minute,
    /// By hours.
    Hour,
}

impl Resolution {
    /// The length of one summary; the readings themselves have none.
    #[must_use]
    pub const fn width_ms(self) -> i64 {
        match self {
            Self::Raw => 0,
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
        }
    }

    /// The coarsest one that still has two summaries for each of the points that a span of time
    /// is shown with.
    #[must_use]
    pub(super) fn for_span(span_ms: i64, points_max: usize) -> Self {
        let points = i64::try_from(points_max).unwrap_or(i64::MAX).max(1);
        let per_point_ms = span_ms / points;
        [Self::Hour, Self::Minute]
            .into_iter()
            .find(|resolution| per_point_ms >= 2 * resolution.width_ms())
            .unwrap_or(Self::Raw)
    }

    /// Returns the beginning of the summary into which a time falls.
    #[must_use]
    pub(super) fn start_of(self, time_ms: i64) -> i64 {
        time_ms.saturating_sub(time_ms.rem_euclid(self.width_ms().max(1)))
    }
}

/// The readings of one channel within one minute or hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Its beginning, in unix milliseconds.
    pub start_ms: i64,
    /// The readings.
    pub count: u64,
    /// The first of the least ones: unix milliseconds and value.
    pub min: (i64, f64),
    /// The first of the greatest ones.
    pub max: (i64, f64),
    /// The newest one.
    pub last: (i64, f64),
    /// Their sum.
    pub sum: f64,
}

impl Summary {
    fn of(start_ms: i64, point: (i64, f64)) -> Self {
        Self { start_ms, count: 1, min: point, max: point, last: point, sum: point.1 }
    }

    /// Returns their mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// Adds those of another one of the same time.
    pub(super) fn merge(&mut self, other: &Self) {
        let before = |a: (i64, f64), b: (i64, f64)| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)).is_lt();
        if before(other.min, self.min) {
            self.min = other.min;
        }
        // Of equal ones the first counts here, too.
        if other.max.1.total_cmp(&self.max.1).then(self.max.0.cmp(&other.max.0)).is_gt() {
            self.max = other.max;
        }
        if other.last.0 >= self.last.0 {
            self.last = other.last;
        }
        self.count += other.count;
        self.sum += other.sum;
    }

    /// Returns the points that stand for them in a graph: the extremes, in the order of time.
    pub(super) fn points(&self) -> impl Iterator<Item = (i64, f64)> + use<> {
        let (one, other) =
            if self.min.0 <= self.max.0 { (self.min, self.max) } else { (self.max, self.min) };
        let second = (self.count > 1 && one != other).then_some(other);
        std::iter::once(one).chain(second)
    }
}

/// Summarises points, in the order of time.
pub(super) fn summarise(resolution: Resolution, points: &[(i64, f64)]) -> Vec<Summary> {
    let mut found: BTreeMap<i64, Summary> = BTreeMap::new();
    for &point in points {
        let start_ms = resolution.start_of(point.0);
        let one = Summary::of(start_ms, point);
        found.entry(start_ms).and_modify(|summary| summary.merge(&one)).or_insert(one);
    }
    found.into_values().collect()
}

/// Adds summaries to others; both are in the order of time, and so is the result.
pub(super) fn merge(into: Vec<Summary>, more: &[Summary]) -> Vec<Summary> {
    let mut found: BTreeMap<i64, Summary> = into.into_iter().map(|s| (s.start_ms, s)).collect();
    for one in more {
        found.entry(one.start_ms).and_modify(|summary| summary.merge(one)).or_insert(*one);
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Looks through all points for each question.
    fn naive(points: &[(i64, f64)], start_ms: i64, width_ms: i64) -> Summary {
        let within: Vec<_> =
            points.iter().filter(|p| p.0 >= start_ms && p.0 < start_ms + width_ms).collect();
        let values = || within.iter().map(|p| p.1);
        let min = values().fold(f64::INFINITY, f64::min);
        let max = values().fold(f64::NEG_INFINITY, f64::max);
        let first = |value: f64| within.iter().filter(|p| p.1 == value).map(|p| p.0).min();
        let newest_ms = within.iter().map(|p| p.0).max().expect("some");
        let last = within.iter().rev().find(|p| p.0 == newest_ms).expect("some").1;
        Summary {
            start_ms,
            count: within.len() as u64,
            min: (first(min).expect("some"), min),
            max: (first(max).expect("some"), max),
            last: (newest_ms, last),
            sum: values().sum(),
        }
    }

    proptest! {
        #[test]
        fn equals_a_naive_computation(
            points in prop::collection::vec((-200_000_i64..200_000, -50_i32..50), 1..200),
            cut in any::<prop::sample::Index>(),
        ) {
            let points: Vec<_> = points.iter().map(|&(t, v)| (t, f64::from(v))).collect();
            let (early, late) = points.split_at(cut.index(points.len()));
            for resolution in [Resolution::Minute, Resolution::Hour] {
                let parts = summarise(resolution, early);
                let merged = merge(parts, &summarise(resolution, late));
                prop_assert_eq!(&merged, &summarise(resolution, &points));
                prop_assert!(merged.is_sorted_by_key(|summary| summary.start_ms));
                prop_assert_eq!(merged.iter().map(|s| s.count).sum::<u64>(), points.len() as u64);
                for summary in merged {
                    prop_assert_eq!(summary.start_ms.rem_euclid(resolution.width_ms()), 0);
                    let expected = naive(&points, summary.start_ms, resolution.width_ms());
                    prop_assert_eq!(summary, expected);
                }
            }
        }
    }

    #[test]
    fn a_summary_shows_its_extremes_in_the_order_of_time() {
        let of = |points: &[(i64, f64)]| {
            summarise(Resolution::Minute, points)[0].points().collect::<Vec<_>>()
        };
        assert_eq!(of(&[(1, 5.0)]), [(1, 5.0)]);
        assert_eq!(of(&[(1, 5.0), (2, 7.0), (3, 6.0)]), [(1, 5.0), (2, 7.0)]);
        assert_eq!(of(&[(1, 9.0), (2, 7.0), (3, 8.0)]), [(1, 9.0), (2, 7.0)]);
        assert_eq!(of(&[(1, 5.0), (2, 5.0)]), [(1, 5.0)]);
    }

    #[test]
    fn wide_spans_are_told_coarsely() {
        const DAY_MS: i64 = 86_400_000;
        assert_eq!(Resolution::for_span(600_000, 1_000), Resolution::Raw);
        assert_eq!(Resolution::for_span(DAY_MS, 1_000), Resolution::Raw);
        assert_eq!(Resolution::for_span(2 * DAY_MS, 1_000), Resolution::Minute);
        assert_eq!(Resolution::for_span(365 * DAY_MS, 1_000), Resolution::Hour);
        assert_eq!(Resolution::for_span(i64::MAX, usize::MAX), Resolution::Raw);
        assert_eq!(Resolution::for_span(i64::MAX, 0), Resolution::Hour);
    }
}
