//! The scorer of the Numenta Anomaly Benchmark 1.1 (Lavin & Ahmad 2015, "Evaluating real-time
//! anomaly detection algorithms", section II.B; the details as `nab/sweeper.py` has them).
//!
//! A detection inside a labelled window earns what the sigmoid S(y) = 2 / (1 + e^5y) - 1 gives for its
//! place, and the best one of a window counts. A detection outside costs what S gives for its
//! distance behind the last window. One threshold holds for the whole corpus: the one with the
//! highest score.

use serde::Serialize;

use super::corpus::Stream;

/// The share of a stream's rows that is not scored ...
const PROBATION_SHARE: f64 = 0.15;
/// ... and the rows above which the share is taken of no more.
const PROBATION_ROWS: f64 = 5_000.0;
/// So many window widths behind a window a detection has nothing to do with it.
const FAR_WIDTHS: f64 = 3.0;
/// The threshold that no score reaches.
pub const THRESHOLD_OF_NONE: f64 = 1.1;

/// What hits, misses and false alarms weigh.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// The name that people see.
    pub name: &'static str,
    /// A window detected at its first row earns this.
    pub true_positive: f64,
    /// A window without a detection costs this.
    pub false_negative: f64,
    /// A detection far from any window costs this.
    pub false_positive: f64,
}

/// A row that counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredRow {
    /// The detector's score, 0 to 1.
    pub score: f64,
    /// The window that the row belongs to, counted over the corpus.
    pub window: Option<u32>,
    /// What a detection earns here (inside a window, 0 to 1) or costs (outside, -1 to 0), unweighted.
    pub worth: f64,
}

/// How a corpus scores at one threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mark {
    /// The sum over the corpus.
    pub raw: f64,
    /// Between 0 (no detection at all) and 100 (each window at its first row, no false alarm).
    pub normalised: f64,
    /// Scores from here on are detections.
    pub threshold: f64,
    /// Windows detected.
    pub windows_detected: usize,
    /// Rows outside all windows that were called anomalous.
    pub false_positives: usize,
}

fn scaled_sigmoid(position: f64) -> f64 {
    if position > FAR_WIDTHS { -1.0 } else { 2.0 / (1.0 + (5.0 * position).exp()) - 1.0 }
}

/// Returns the rows at the start of a stream that are not scored.
#[must_use]
pub fn probation(rows: usize) -> usize {
    (PROBATION_SHARE * (rows as f64).min(PROBATION_ROWS)) as usize
}

/// Returns the rows of a stream that count, in the order of time.
///
/// `first_window` is how many windows the streams before it have. `scores` has one number a row.
#[must_use]
pub fn scored_rows(stream: &Stream, scores: &[f64], first_window: u32) -> Vec<ScoredRow> {
    let row_of = |time_us| stream.time_us.iter().position(|moment| *moment == time_us);
    let probation = probation(stream.time_us.len());
    let mut windows = (first_window..).zip(&stream.windows).peekable();
    // The window that the row is in: its number, last row and width.
    let mut inside: Option<(u32, usize, f64)> = None;
    // The last row and the width of the window before.
    let mut before: Option<(usize, f64)> = None;
    let mut rows = Vec::with_capacity(stream.time_us.len().saturating_sub(probation));
    for (row, (moment, score)) in stream.time_us.iter().zip(scores).enumerate() {
        if let Some((number, window)) = windows.next_if(|(_, window)| window.start_us == *moment) {
            // A clock that steps back shows a moment twice; its first row counts, as in NAB.
            let first = row_of(window.start_us).unwrap_or(row);
            let last = row_of(window.end_us).unwrap_or(row);
            inside = Some((number, last, last as f64 - first as f64 + 1.0));
        }
        let worth = match (inside, before) {
            (Some((_, last, width)), _) => {
                scaled_sigmoid((row as f64 - last as f64 - 1.0) / width) / scaled_sigmoid(-1.0)
            }
            (None, None) => -1.0,
            (None, Some((last, width))) => {
                scaled_sigmoid((row as f64 - last as f64).abs() / (width - 1.0))
            }
        };
        if row >= probation {
            rows.push(ScoredRow {
                score: *score,
                window: inside.map(|(number, ..)| number),
                worth,
            });
        }
        if let Some((number, _, width)) = inside
            && *moment == stream.windows[(number - first_window) as usize].end_us
        {
            before = Some((row, width));
            inside = None;
        }
    }
    rows
}

/// Scores every threshold that changes anything, highest first, and returns the best; of equals the
/// highest threshold.
///
/// `window_count` is how many windows the corpus has; those without a row that counts are left out,
/// as in NAB.
#[must_use]
pub fn best_threshold(rows: &[ScoredRow], window_count: usize, profile: &Profile) -> Mark {
    let mut order: Vec<&ScoredRow> = rows.iter().collect();
    order.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut tally = Tally::new(rows, window_count, profile);
    let mut best = tally.mark(THRESHOLD_OF_NONE);
    for group in order.chunk_by(|a, b| a.score == b.score) {
        for row in group {
            tally.detect(row);
        }
        let mark = tally.mark(group[0].score);
        if mark.raw > best.raw {
            best = mark;
        }
    }
    best
}

/// Scores one threshold.
#[must_use]
pub fn at_threshold(
    rows: &[ScoredRow],
    window_count: usize,
    profile: &Profile,
    threshold: f64,
) -> Mark {
    let mut tally = Tally::new(rows, window_count, profile);
    for row in rows.iter().filter(|row| row.score >= threshold) {
        tally.detect(row);
    }
    tally.mark(threshold)
}

/// The score while detections come in.
struct Tally<'a> {
    profile: &'a Profile,
    /// What each window that counts has earned so far.
    windows: Vec<Option<f64>>,
    window_count: usize,
    raw: f64,
    windows_detected: usize,
    false_positives: usize,
}

impl<'a> Tally<'a> {
    fn new(rows: &[ScoredRow], window_count: usize, profile: &'a Profile) -> Self {
        let mut windows = vec![None; window_count];
        for window in rows.iter().filter_map(|row| row.window) {
            windows[window as usize] = Some(-profile.false_negative);
        }
        let counted = windows.iter().flatten().count();
        Self {
            profile,
            windows,
            window_count: counted,
            raw: -profile.false_negative * counted as f64,
            windows_detected: 0,
            false_positives: 0,
        }
    }

    fn detect(&mut self, row: &ScoredRow) {
        let Some(window) = row.window else {
            self.raw += self.profile.false_positive * row.worth;
            self.false_positives += 1;
            return;
        };
        let earned = self.profile.true_positive * row.worth;
        if let Some(best) = &mut self.windows[window as usize]
            && earned > *best
        {
            self.windows_detected += usize::from(*best < 0.0);
            self.raw += earned - *best;
            *best = earned;
        }
    }

    fn mark(&self, threshold: f64) -> Mark {
        let null = -self.profile.false_negative * self.window_count as f64;
        let perfect = self.profile.true_positive * self.window_count as f64;
        let normalised =
            if perfect > null { 100.0 * (self.raw - null) / (perfect - null) } else { 0.0 };
        Mark {
            raw: self.raw,
            normalised,
            threshold,
            windows_detected: self.windows_detected,
            false_positives: self.false_positives,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Interval;

    const STANDARD: Profile =
        Profile { name: "standard", true_positive: 1.0, false_negative: 1.0, false_positive: 0.11 };

    /// 40 rows, one a second, with a window over rows 10 to 19; rows 0 to 5 are probation.
    fn stream() -> Stream {
        Stream {
            name: "category/stream.csv".to_owned(),
            time_us: (0..40).map(|second| second * 1_000_000).collect(),
            values: vec![0.0; 40],
            windows: vec![Interval { start_us: 10_000_000, end_us: 19_000_000 }],
        }
    }

    fn detections(at: &[usize]) -> Vec<ScoredRow> {
        let scores: Vec<f64> = (0..40).map(|row| f64::from(u8::from(at.contains(&row)))).collect();
        scored_rows(&stream(), &scores, 0)
    }

    fn sigmoid(y: f64) -> f64 {
        2.0 / (1.0 + (5.0 * y).exp()) - 1.0
    }

    #[test]
    fn probation_is_a_share_with_a_bound() {
        assert_eq!([probation(40), probation(4_032), probation(5_000)], [6, 604, 750]);
        assert_eq!(probation(22_695), 750);
        assert_eq!(probation(0), 0);
    }

    #[test]
    fn a_detection_is_worth_its_place() {
        let rows = detections(&[]);
        assert_eq!(rows.len(), 34);
        let worth = |row: usize| rows[row - 6].worth;
        // The window's first row is the best that can be, its last is a tenth of the way left.
        assert_eq!((worth(9), rows[3].window), (-1.0, None));
        assert!((worth(10) - 1.0).abs() < 1e-12);
        // 2 / (1 + e^-0.5) - 1 = 0.244919 and 2 / (1 + e^-5) - 1 = 0.986614.
        assert!((worth(19) - 0.244_919 / 0.986_614).abs() < 1e-6);
        assert_eq!((rows[13].window, rows[14].window), (Some(0), None));
        // A window of ten rows is nine wide: row 28 is one width behind, row 37 two.
        assert!((worth(28) - sigmoid(1.0)).abs() < 1e-12);
        assert!((worth(37) - sigmoid(2.0)).abs() < 1e-12);
    }

    #[test]
    fn the_best_detection_of_a_window_counts_once() {
        let twice = at_threshold(&detections(&[12, 15]), 1, &STANDARD, 0.5);
        assert!((twice.raw - sigmoid(-0.8) / sigmoid(-1.0)).abs() < 1e-12);
        assert_eq!((twice.windows_detected, twice.false_positives), (1, 0));
        let none = at_threshold(&detections(&[]), 1, &STANDARD, 0.5);
        assert_eq!((none.raw, none.normalised), (-1.0, 0.0));
        let perfect = at_threshold(&detections(&[10]), 1, &STANDARD, 0.5);
        assert!((perfect.normalised - 100.0).abs() < 1e-9);
    }

    #[test]
    fn false_alarms_cost_by_their_distance() {
        // Row 8 stands before any window, row 3 in probation, row 28 one width behind.
        let mark = at_threshold(&detections(&[3, 8, 10, 28]), 1, &STANDARD, 0.5);
        assert!((mark.raw - (1.0 - 0.11 + 0.11 * sigmoid(1.0))).abs() < 1e-12);
        assert_eq!(mark.false_positives, 2);
    }

    #[test]
    fn the_threshold_is_the_best_of_all() {
        let mut scores = vec![0.0; 40];
        // The hit at row 11 is worth more than the alarm at row 8 costs, that at row 30 is not.
        (scores[8], scores[11], scores[30]) = (0.9, 0.8, 0.7);
        let best = best_threshold(&scored_rows(&stream(), &scores, 0), 1, &STANDARD);
        assert_eq!((best.threshold, best.windows_detected, best.false_positives), (0.8, 1, 1));
        // Where every detection costs, none is made.
        let mut scores = vec![0.0; 40];
        scores[8] = 0.9;
        let best = best_threshold(&scored_rows(&stream(), &scores, 0)[..4], 1, &STANDARD);
        assert_eq!((best.threshold, best.raw), (THRESHOLD_OF_NONE, 0.0));
    }

    #[test]
    fn a_profile_that_hates_misses_weighs_them() {
        let low_misses = Profile { false_negative: 2.0, ..STANDARD };
        let none = at_threshold(&detections(&[]), 1, &low_misses, 0.5);
        assert_eq!((none.raw, none.normalised), (-2.0, 0.0));
        let late = at_threshold(&detections(&[19]), 1, &low_misses, 0.5);
        let worth = 0.244_919 / 0.986_614;
        assert!((late.normalised - 100.0 * (worth + 2.0) / 3.0).abs() < 1e-4);
    }
}
