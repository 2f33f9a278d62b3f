//! Recordings that are computed instead of measured: known normal behaviour and known faults, the same from the same seed.

mod fault;
mod temperature;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use fault::{Fault, FaultKind, FaultPlan};
pub use temperature::{TemperatureOptions, TemperatureSource};

use crate::dataset::{ChannelInfo, Recording};
use crate::limits::SYNTH_ROWS_MAX;
use crate::random::Random;

/// 2026-01-01T00:00:00Z, where recordings start unless told otherwise.
const START_US: i64 = 1_767_225_600_000_000;

/// What to compute.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The same seed gives the same recording.
    pub seed: u64,
    /// Samples to compute.
    pub rows: usize,
    /// Time of the first row, microseconds since 1970.
    pub start_us: i64,
    /// The room and its sensor.
    pub sensor: TemperatureOptions,
    /// What goes wrong, and when.
    pub faults: FaultPlan,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            rows: 20_000,
            start_us: START_US,
            sensor: TemperatureOptions::default(),
            faults: FaultPlan::None,
        }
    }
}

/// A recording that cannot be computed.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum SynthError {
    /// More rows than [`SYNTH_ROWS_MAX`], or none.
    #[error("{rows} rows cannot be computed; choose 1 to {SYNTH_ROWS_MAX}")]
    Rows {
        /// As asked for.
        rows: usize,
    },
    /// The faults do not find room.
    #[error(
        "{count} faults need at least {needed} rows from row {first_row} on, but there are {rows}"
    )]
    NoRoom {
        /// Faults asked for.
        count: usize,
        /// Rows that they need.
        needed: usize,
        /// Where they may begin.
        first_row: usize,
        /// Rows of the whole recording.
        rows: usize,
    },
    /// A number of the options is not positive and finite.
    #[error("{name} is {value}; it must be a positive number")]
    Option {
        /// Which one.
        name: &'static str,
        /// As given.
        value: f64,
    },
}

/// Computes the readings of a temperature sensor in a heated room, labelled where a fault acts.
///
/// Returns the recording and its faults in the order of time.
///
/// # Errors
/// [`SynthError`] where the options cannot be met.
///
/// # Examples
/// ```
/// use stonechat_train::synth::{FaultPlan, Options, temperature};
///
/// let faults = FaultPlan::Random { count: 6, first_row: 500 };
/// let (recording, faults) = temperature(&Options { seed: 7, rows: 4_000, faults, ..Options::default() })?;
/// assert_eq!((recording.rows(), faults.len()), (4_000, 6));
/// # Ok::<(), stonechat_train::synth::SynthError>(())
/// ```
pub fn temperature(options: &Options) -> Result<(Recording, Vec<Fault>), SynthError> {
    let rows = options.rows;
    if rows == 0 || rows > SYNTH_ROWS_MAX {
        return Err(SynthError::Rows { rows });
    }
    options.sensor.check()?;
    // A stream of its own: adding a fault does not change the room's noise.
    let faults = options.faults.place(rows, &mut Random::stream(options.seed, 1))?;
    let mut source = TemperatureSource::new(options.seed, options.sensor.clone());
    let mut samples = Vec::with_capacity(rows);
    let mut labels = Vec::with_capacity(rows);
    let mut pending = faults.iter().peekable();
    for row in 0..rows {
        while let Some(fault) = pending.next_if(|fault| fault.start_row <= row) {
            source.inject(fault.kind, fault.rows);
        }
        labels.push(source.is_faulty());
        samples.push(source.next_sample());
    }
    let rate_hz = options.sensor.rate_hz;
    let time_of = |row: usize| options.start_us + (row as f64 * 1e6 / rate_hz).round() as i64;
    let recording = Recording {
        name: format!("synthetic temperature, seed {}", options.seed),
        channels: vec![ChannelInfo::new("temperature", "Cel")],
        rate_hz,
        time_us: (0..rows).map(time_of).collect(),
        samples,
        labels: Some(labels),
        segment_starts: vec![0],
    };
    Ok((recording, faults))
}
