//! What a fit asks of its rows and options before it starts.

use super::{Architecture, FitError, FitOptions};
use crate::limits::{FIT_BATCH_MAX, FIT_ROWS_MAX};
use crate::network::check_chain;
use crate::rows::Rows;

pub(super) fn check_architecture(architecture: &Architecture) -> Result<(), FitError> {
    let pairs = architecture.widths.windows(2);
    Ok(check_chain(pairs.map(|pair| (pair[0], pair[1])))?)
}

pub(super) fn check_options(options: &FitOptions) -> Result<(), FitError> {
    let refuse = |option, value, range| Err(FitError::Option { option, value, range });
    let fraction = |value: f32| (0.0..1.0).contains(&value);
    if options.epochs == 0 {
        return refuse("epochs", 0.0, "at least 1");
    }
    if !(1..=FIT_BATCH_MAX).contains(&options.batch) {
        return refuse("batch", options.batch as f64, "1 to 65536");
    }
    if !(options.learning_rate.is_finite() && options.learning_rate > 0.0) {
        let value = f64::from(options.learning_rate);
        return refuse("learning_rate", value, "a number above 0");
    }
    for (option, value) in [
        ("beta1", options.beta1),
        ("beta2", options.beta2),
        ("validation_share", options.validation_share),
    ] {
        if !fraction(value) {
            return refuse(option, f64::from(value), "from 0 to below 1");
        }
    }
    if !(options.epsilon.is_finite() && options.epsilon > 0.0) {
        return refuse("epsilon", f64::from(options.epsilon), "a number above 0");
    }
    if options.patience == Some(0) {
        return refuse("patience", 0.0, "at least 1, or none");
    }
    if !(options.improvement_min.is_finite() && options.improvement_min >= 0.0) {
        return refuse("improvement_min", options.improvement_min, "0 or above");
    }
    Ok(())
}

pub(super) fn check_rows(
    architecture: &Architecture,
    inputs: Rows<'_>,
    targets: Rows<'_>,
) -> Result<(), FitError> {
    check_architecture(architecture)?;
    let widths = &architecture.widths;
    let (first, last) = (widths[0], widths[widths.len() - 1]);
    for (table, end, found, needed) in
        [("input", "input", inputs.width(), first), ("target", "output", targets.width(), last)]
    {
        if found != needed {
            return Err(FitError::Width { table, end, found, needed });
        }
    }
    if inputs.len() != targets.len() {
        return Err(FitError::Pairs { inputs: inputs.len(), targets: targets.len() });
    }
    if inputs.len() > FIT_ROWS_MAX {
        return Err(FitError::TooManyRows { rows: inputs.len() });
    }
    Ok(())
}

/// Number of rows before the validation rows.
pub(super) fn training_rows(rows: usize, options: &FitOptions) -> Result<usize, FitError> {
    let share = options.validation_share;
    let validation = (rows as f64 * f64::from(share)).round() as usize;
    let train = rows - validation.min(rows);
    if train == 0 || (share > 0.0 && validation == 0) {
        return Err(FitError::Split { rows, share, train, validation });
    }
    Ok(train)
}

pub(super) fn largest(rows: Rows<'_>) -> f32 {
    rows.iter().flatten().fold(0.0, |largest, value| value.abs().max(largest))
}
