//! Thins out a series so that no peak is lost: each bucket keeps its minimum and maximum.

/// Keeps at most `points_max` of the points, which must be in the order of time; tells whether
/// any were left out.
#[must_use]
pub(super) fn downsample(points: Vec<(i64, f64)>, points_max: usize) -> (Vec<(i64, f64)>, bool) {
    if points.len() <= points_max {
        return (points, false);
    }
    let buckets = (points_max / 2).max(1);
    let mut kept = Vec::with_capacity(buckets * 2);
    for bucket in 0..buckets {
        let from = bucket * points.len() / buckets;
        let to = (bucket + 1) * points.len() / buckets;
        let bucket = &points[from..to];
        let Some((low, high)) = extremes(bucket) else {
            continue;
        };
        kept.push(bucket[low.min(high)]);
        if low != high {
            kept.push(bucket[low.max(high)]);
        }
    }
    kept.truncate(points_max);
    (kept, true)
}

fn extremes(bucket: &[(i64, f64)]) -> Option<(usize, usize)> {
    let by_value = |a: &usize, b: &usize| bucket[*a].1.total_cmp(&bucket[*b].1);
    let low = (0..bucket.len()).min_by(by_value)?;
    let high = (0..bucket.len()).max_by(by_value)?;
    Some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_points_stay_as_they_are() {
        let points = vec![(1, 1.0), (2, 2.0)];
        assert_eq!(downsample(points.clone(), 2), (points, false));
        assert_eq!(downsample(Vec::new(), 0), (Vec::new(), false));
    }

    #[test]
    fn peaks_and_order_survive() {
        let mut points: Vec<_> = (0..10_000).map(|i| (i, (i as f64 / 50.0).sin())).collect();
        points[7_777].1 = 9.0;
        points[1_234].1 = -9.0;
        let (kept, thinned) = downsample(points, 100);
        assert!(thinned && kept.len() <= 100);
        assert!(kept.contains(&(7_777, 9.0)) && kept.contains(&(1_234, -9.0)));
        assert!(kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
