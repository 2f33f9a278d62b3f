//! The dominant period of a series.

/// Only so many rows are looked at.
const ROWS_MAX: usize = 20_000;
/// The longest lag.
const LAG_MAX: usize = 400;
/// Lags below this are not periods.
const LAG_MIN: usize = 3;
/// A period that is not found between these bounds is taken to be [`PERIOD_DEFAULT`].
const PERIOD_BOUNDS: core::ops::RangeInclusive<usize> = 2 * LAG_MIN..=300 + LAG_MIN;
/// The period of a series that has none.
const PERIOD_DEFAULT: usize = 125;

/// Returns the lag at which the autocorrelation has its greatest local maximum, by the rule of TSB-AD
/// (Liu and Paparrizos 2024, "The elephant in the room", `find_length_rank`): among lags 3 to 400 of the
/// first 20,000 rows; 125 where there is none from 6 to 303.
#[must_use]
pub fn period(samples: &[f32]) -> usize {
    let samples = &samples[..samples.len().min(ROWS_MAX)];
    let mean = samples.iter().map(|x| f64::from(*x)).sum::<f64>() / samples.len().max(1) as f64;
    let centred: Vec<f64> = samples.iter().map(|x| f64::from(*x) - mean).collect();
    let product = |lag: usize| -> f64 {
        let later = centred.get(lag..).unwrap_or_default();
        centred.iter().zip(later).map(|(a, b)| a * b).sum()
    };
    let products: Vec<f64> =
        (LAG_MIN..=LAG_MAX.min(samples.len().saturating_sub(1))).map(product).collect();
    let peaks = products.windows(3).enumerate().filter(|(_, w)| w[1] > w[0] && w[1] > w[2]);
    let best = peaks.max_by(|(i, a), (j, b)| a[1].total_cmp(&b[1]).then(j.cmp(i)));
    let lag = best.map_or(0, |(index, _)| index + 1 + LAG_MIN);
    if PERIOD_BOUNDS.contains(&lag) { lag } else { PERIOD_DEFAULT }
}

#[cfg(test)]
mod tests {
    use super::period;

    #[test]
    fn a_sine_has_its_period_and_a_line_none() {
        let wave = |len: f32| -> Vec<f32> {
            (0..3_000).map(|i| (i as f32 * core::f32::consts::TAU / len).sin()).collect()
        };
        for len in [24.0_f32, 97.0, 250.0] {
            assert_eq!(period(&wave(len)), len as usize);
        }
        let line: Vec<f32> = (0..500).map(|i| i as f32).collect();
        assert_eq!(period(&line), 125);
        assert_eq!(period(&[]), 125);
        assert_eq!(period(&[1.0; 50]), 125);
    }
}
