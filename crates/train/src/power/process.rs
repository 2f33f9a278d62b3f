//! Readings joined into rows, with flags where a limit is passed.

use std::ops::RangeInclusive;
use std::path::Path;

use super::PowerError;
use super::capture::{ACTIVE_POWER, CURRENT, Capture, FREQUENCY, VOLTAGE, write_lines};

/// Current that is neither too small nor too large, in A.
pub const CURRENT_LIMITS_A: RangeInclusive<f64> = 0.05..=5.5;
/// Voltage likewise, in V.
pub const VOLTAGE_LIMITS_V: RangeInclusive<f64> = 10.0..=300.0;
/// Frequency likewise, in Hz.
pub const FREQUENCY_LIMITS_HZ: RangeInclusive<f64> = 45.0..=65.0;

/// Where a number lies against its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Issue {
    /// Within.
    Normal,
    /// Above.
    Over,
    /// Below.
    Under,
    /// There is no number.
    Missing,
}

impl Issue {
    /// Compares a number with its limits, which are themselves normal.
    #[must_use]
    pub fn of(value: Option<f64>, limits: &RangeInclusive<f64>) -> Self {
        match value {
            None => Self::Missing,
            Some(value) if value > *limits.end() => Self::Over,
            Some(value) if value < *limits.start() => Self::Under,
            Some(_) => Self::Normal,
        }
    }

    /// Returns the flag as the file has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Over => "Over",
            Self::Under => "Under",
            Self::Missing => "Missing",
        }
    }
}

/// One round of the meter's registers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    /// In A.
    pub current_a: Option<f64>,
    /// In V.
    pub voltage_v: Option<f64>,
    /// In W.
    pub power_w: Option<f64>,
    /// In Hz.
    pub frequency_hz: Option<f64>,
}

impl Row {
    fn of(&mut self, register: u32) -> Option<&mut Option<f64>> {
        match register {
            CURRENT => Some(&mut self.current_a),
            ACTIVE_POWER => Some(&mut self.power_w),
            VOLTAGE => Some(&mut self.voltage_v),
            FREQUENCY => Some(&mut self.frequency_hz),
            _ => None,
        }
    }

    /// Returns the flag of the current.
    #[must_use]
    pub fn current_issue(&self) -> Issue {
        Issue::of(self.current_a, &CURRENT_LIMITS_A)
    }

    /// Returns the flag of the voltage.
    #[must_use]
    pub fn voltage_issue(&self) -> Issue {
        Issue::of(self.voltage_v, &VOLTAGE_LIMITS_V)
    }

    /// Returns the flag of the frequency.
    #[must_use]
    pub fn frequency_issue(&self) -> Issue {
        Issue::of(self.frequency_hz, &FREQUENCY_LIMITS_HZ)
    }

    /// Tells whether a limit is passed; a missing number passes none.
    #[must_use]
    pub fn is_anomalous(&self) -> bool {
        [self.current_issue(), self.voltage_issue(), self.frequency_issue()]
            .iter()
            .any(|issue| matches!(issue, Issue::Over | Issue::Under))
    }
}

/// A capture as rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Processed {
    /// In the order of time.
    pub rows: Vec<Row>,
    /// Readings of registers without a meaning here.
    pub unknown: usize,
}

/// How many of a file's rows pass which limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Issues {
    /// Rows with too much current.
    pub current_over: usize,
    /// Rows with too little.
    pub current_under: usize,
    /// Rows with too much voltage.
    pub voltage_over: usize,
    /// Rows with too little.
    pub voltage_under: usize,
    /// Rows whose frequency is off either way.
    pub frequency: usize,
    /// Rows that pass any limit.
    pub anomalous: usize,
}

/// Joins readings into rows: a row ends when a register comes again. `scale` turns a register's number into its unit.
#[must_use]
pub fn process(capture: &Capture, scale: impl Fn(u32) -> f64) -> Processed {
    let mut processed = Processed::default();
    let mut row = Row::default();
    for reading in &capture.readings {
        let value = reading.raw * scale(reading.register);
        let Some(cell) = row.of(reading.register) else {
            processed.unknown += 1;
            continue;
        };
        if cell.is_some() {
            processed.rows.push(std::mem::take(&mut row));
        }
        if let Some(cell) = row.of(reading.register) {
            *cell = Some(value);
        }
    }
    if row != Row::default() {
        processed.rows.push(row);
    }
    processed
}

impl Processed {
    /// Counts the rows that pass a limit.
    #[must_use]
    pub fn issues(&self) -> Issues {
        let count = |test: &dyn Fn(&Row) -> bool| self.rows.iter().filter(|row| test(row)).count();
        Issues {
            current_over: count(&|row| row.current_issue() == Issue::Over),
            current_under: count(&|row| row.current_issue() == Issue::Under),
            voltage_over: count(&|row| row.voltage_issue() == Issue::Over),
            voltage_under: count(&|row| row.voltage_issue() == Issue::Under),
            frequency: count(&|row| matches!(row.frequency_issue(), Issue::Over | Issue::Under)),
            anomalous: count(&Row::is_anomalous),
        }
    }

    /// Writes `Raw data_Current,Current_Issue,Raw data_Voltage,Voltage_Issue,Active_Power,Frequency`.
    ///
    /// # Errors
    /// [`PowerError::File`].
    pub fn write(&self, path: &Path) -> Result<(), PowerError> {
        let header =
            "Raw data_Current,Current_Issue,Raw data_Voltage,Voltage_Issue,Active_Power,Frequency";
        let cell = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let line = |row: &Row| {
            format!(
                "{},{},{},{},{},{}",
                cell(row.current_a),
                row.current_issue().name(),
                cell(row.voltage_v),
                row.voltage_issue().name(),
                cell(row.power_w),
                cell(row.frequency_hz)
            )
        };
        write_lines(path, header, self.rows.iter().map(line))
    }
}
