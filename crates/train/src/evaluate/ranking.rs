//! Measures of a ranking, which need no threshold: ROC curve and its area, average precision.

/// One point of a ROC curve.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RocPoint {
    /// Scores at or above this count as anomalous; infinite at the first point.
    pub threshold: f64,
    /// Share of the normal that counts as anomalous.
    pub false_alarm_rate: f64,
    /// Share of the anomalous that counts as such.
    pub recall: f64,
}

/// Counts of anomalous and normal scores at or above each distinct score, from the highest down.
struct Ranking {
    /// (score, anomalous so far, normal so far)
    steps: Vec<(f64, f64, f64)>,
    anomalous: f64,
    normal: f64,
}

impl Ranking {
    fn new<S: Copy + Into<f64>>(scores: &[S], labels: &[bool]) -> Option<Self> {
        let mut ranked: Vec<(f64, bool)> =
            scores.iter().map(|&score| score.into()).zip(labels.iter().copied()).collect();
        if scores.len() != labels.len() || ranked.iter().any(|(score, _)| score.is_nan()) {
            return None;
        }
        ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let (mut anomalous, mut normal) = (0.0, 0.0);
        // Equal scores are one step: no order among them is better than another.
        let steps = ranked
            .chunk_by(|a, b| a.0 == b.0)
            .map(|tied| {
                let hits = tied.iter().filter(|(_, label)| *label).count() as f64;
                anomalous += hits;
                normal += tied.len() as f64 - hits;
                (tied[0].0, anomalous, normal)
            })
            .collect();
        Some(Self { steps, anomalous, normal })
    }

    fn has_both(&self) -> bool {
        self.anomalous > 0.0 && self.normal > 0.0
    }
}

/// Returns the ROC curve from (0, 0) to (1, 1), a point for each distinct score; empty where one class is missing.
#[must_use]
pub fn roc_curve<S: Copy + Into<f64>>(scores: &[S], labels: &[bool]) -> Vec<RocPoint> {
    let Some(ranking) = Ranking::new(scores, labels).filter(Ranking::has_both) else {
        return Vec::new();
    };
    let start = RocPoint { threshold: f64::INFINITY, false_alarm_rate: 0.0, recall: 0.0 };
    let points = ranking.steps.iter().map(|&(threshold, anomalous, normal)| RocPoint {
        threshold,
        false_alarm_rate: normal / ranking.normal,
        recall: anomalous / ranking.anomalous,
    });
    std::iter::once(start).chain(points).collect()
}

/// Returns the area under the ROC curve: the chance that an anomalous score is above a normal one, ties counting half.
///
/// None where one class is missing or a score is NaN.
#[must_use]
pub fn roc_auc<S: Copy + Into<f64>>(scores: &[S], labels: &[bool]) -> Option<f64> {
    let ranking = Ranking::new(scores, labels).filter(Ranking::has_both)?;
    let (mut area, mut before) = (0.0, (0.0, 0.0));
    for &(_, anomalous, normal) in &ranking.steps {
        area += (normal - before.1) * (anomalous + before.0) / 2.0;
        before = (anomalous, normal);
    }
    Some(area / (ranking.anomalous * ranking.normal))
}

/// Returns the average precision, the step-wise area under the curve of precision and recall.
///
/// Source: scikit-learn, `average_precision_score`: the sum of (R(n) - R(n-1)) P(n) over the distinct scores.
/// None where nothing is anomalous or a score is NaN.
#[must_use]
pub fn average_precision<S: Copy + Into<f64>>(scores: &[S], labels: &[bool]) -> Option<f64> {
    let ranking = Ranking::new(scores, labels).filter(|ranking| ranking.anomalous > 0.0)?;
    let (mut area, mut before) = (0.0, 0.0);
    for &(_, anomalous, normal) in &ranking.steps {
        area += (anomalous - before) / ranking.anomalous * (anomalous / (anomalous + normal));
        before = anomalous;
    }
    Some(area)
}
