//! Long curves thinned to what a picture can show, with every extreme kept.

/// Thins points in the order of x to at most `limit`: of each stretch the lowest and the highest remain.
pub(super) fn thin(points: &[(f64, f64)], limit: usize) -> Vec<(f64, f64)> {
    if points.len() <= limit {
        return points.to_vec();
    }
    let stretches = (limit / 2).max(1);
    let mut thinned = Vec::with_capacity(limit);
    for stretch in 0..stretches {
        let part =
            &points[stretch * points.len() / stretches..(stretch + 1) * points.len() / stretches];
        let lowest = (0..part.len()).min_by(|&a, &b| part[a].1.total_cmp(&part[b].1));
        let highest = (0..part.len()).max_by(|&a, &b| part[a].1.total_cmp(&part[b].1));
        if let (Some(lowest), Some(highest)) = (lowest, highest) {
            // In the order of time, so that the line does not run backwards.
            thinned.push(part[lowest.min(highest)]);
            if lowest != highest {
                thinned.push(part[lowest.max(highest)]);
            }
        }
    }
    thinned
}
