//! Recordings that are computed instead of measured: known normal behaviour and known faults, the same from the same seed.

mod dht11;
mod fault;
mod generator;
mod kind;
mod machine;
mod mains;
mod meter;
mod plan;
mod signal;
mod sound;
mod tank;
mod temperature;
#[cfg(test)]
mod tests;
mod waveform;

use thiserror::Error;

pub use dht11::{Dht11Fault, Dht11Options};
pub use fault::FaultKind;
pub use generator::{Generator, Made, Scene, Take, synthesise};
pub use kind::{Kind, LabelledFault, Request, SIDECAR_SCHEMA, Sidecar, Synthetic, generate};
pub use machine::{Bearing, MachineFault, MachineOptions, Race};
pub use mains::{MainsFault, MainsOptions};
pub use meter::{MeterFault, MeterOptions, MeterRow, meter_rows};
pub use plan::{Fault, FaultPlan};
pub use sound::{SoundFault, SoundOptions};
pub use tank::{Probe, TankFault, TankOptions, saturation_mg_l};
pub use temperature::{TemperatureOptions, TemperatureSource};

use crate::dataset::Recording;
use crate::limits::SYNTH_ROWS_MAX;

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
    /// A number of the options lies outside of its bounds.
    #[error("{name} is {value}; it must lie between {low} and {high}")]
    Range {
        /// Which one.
        name: &'static str,
        /// As given.
        value: f64,
        /// Least.
        low: f64,
        /// Most.
        high: f64,
    },
    /// The share of faulty rows is none, or more than half.
    #[error("{share} of all rows cannot be faulty; choose a share from 0 to 0.5")]
    Share {
        /// As given.
        share: f64,
    },
    /// A listed fault begins before the one before it has ended.
    #[error(
        "the fault at row {start_row} begins before the one before it ends at row {end_before}"
    )]
    Overlap {
        /// Where it begins.
        start_row: usize,
        /// Where the one before ends.
        end_before: usize,
    },
    /// A listed fault has no rows, or ends after the recording.
    #[error("the fault of {fault_rows} rows at row {start_row} does not fit into {rows} rows")]
    Outside {
        /// Where it begins.
        start_row: usize,
        /// Its rows.
        fault_rows: usize,
        /// Rows of the recording.
        rows: usize,
    },
    /// There is no such kind of recording or of fault.
    #[error("there is no {what} `{found}`; choose one of {existing}")]
    Unknown {
        /// Kind of recording or fault.
        what: &'static str,
        /// As given.
        found: String,
        /// Those that exist.
        existing: String,
    },
    /// The options or a fault's parameters have a wrong name or type.
    #[error("the {what} do not fit: {reason}")]
    Parameters {
        /// Options or parameters of which fault.
        what: String,
        /// What the reader of JSON says.
        reason: String,
    },
    /// A file cannot be written.
    #[error("cannot write `{file}`: {reason}")]
    File {
        /// Which one.
        file: String,
        /// What the system says.
        reason: String,
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
    let Options { seed, rows, start_us, ref sensor, ref faults } = *options;
    let take = Take { seed, rows, start_us, faults: faults.clone() };
    let (mut recording, faults) = synthesise(sensor, &take)?;
    recording.name = format!("synthetic temperature, seed {seed}");
    Ok((recording, faults))
}
