//! Counts of right and wrong verdicts, and the shares that follow from them.

/// Verdicts against labels. Shares are none where they would divide by nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Confusion {
    /// Anomalous and called so.
    pub true_positives: u64,
    /// Normal and called anomalous.
    pub false_positives: u64,
    /// Normal and called so.
    pub true_negatives: u64,
    /// Anomalous and called normal.
    pub false_negatives: u64,
}

impl Confusion {
    /// Counts verdicts (true = anomaly) against labels (true = anomalous).
    #[must_use]
    pub fn of_verdicts(verdicts: &[bool], labels: &[bool]) -> Self {
        let mut confusion = Self::default();
        for (&verdict, &label) in verdicts.iter().zip(labels) {
            *match (verdict, label) {
                (true, true) => &mut confusion.true_positives,
                (true, false) => &mut confusion.false_positives,
                (false, false) => &mut confusion.true_negatives,
                (false, true) => &mut confusion.false_negatives,
            } += 1;
        }
        confusion
    }

    /// Counts scores above the threshold as verdicts of an anomaly, as the device does.
    #[must_use]
    pub fn at_threshold<S: Copy + Into<f64>>(
        scores: &[S],
        labels: &[bool],
        threshold: f64,
    ) -> Self {
        let verdicts: Vec<bool> = scores.iter().map(|&score| score.into() > threshold).collect();
        Self::of_verdicts(&verdicts, labels)
    }

    /// Returns how many of the verdicts of an anomaly were right.
    #[must_use]
    pub fn precision(&self) -> Option<f64> {
        share(self.true_positives, self.true_positives + self.false_positives)
    }

    /// Returns how many of the anomalous were found.
    #[must_use]
    pub fn recall(&self) -> Option<f64> {
        share(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// Returns the harmonic mean of precision and recall; 0 where anomalies were there and none was found.
    #[must_use]
    pub fn f1(&self) -> Option<f64> {
        share(
            2 * self.true_positives,
            2 * self.true_positives + self.false_positives + self.false_negatives,
        )
    }

    /// Returns the false-alarm rate: how many of the normal were called anomalous.
    #[must_use]
    pub fn false_alarm_rate(&self) -> Option<f64> {
        share(self.false_positives, self.false_positives + self.true_negatives)
    }

    /// Returns the missed-alarm rate: how many of the anomalous were called normal.
    #[must_use]
    pub fn missed_alarm_rate(&self) -> Option<f64> {
        share(self.false_negatives, self.false_negatives + self.true_positives)
    }

    /// Returns how many verdicts were right.
    #[must_use]
    pub fn accuracy(&self) -> Option<f64> {
        share(self.true_positives + self.true_negatives, self.total())
    }

    /// Returns the number of verdicts.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.true_positives + self.false_positives + self.true_negatives + self.false_negatives
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
