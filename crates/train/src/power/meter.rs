//! A meter's file with waveforms, measured through the core.
//!
//! Columns: `Time,Voltage_L1,Current_L1,Active_Power_L1,THD_Voltage_L1,Frequency,target`; the voltage is a JSON array of
//! samples. The file's own distortion is not used: it is measured anew from the waveform.

use std::path::Path;

use stonechat_core::features::{Feature, FeatureKind, Workspace};
use stonechat_core::window::Window;

use super::PowerError;
use super::capture::write_lines;
use crate::limits::METER_WAVEFORM_LEN_MAX;

/// A minute of the meter.
#[derive(Clone, Debug, PartialEq)]
pub struct Minute {
    /// As the file has it.
    pub time: String,
    /// Samples of the voltage, in V.
    pub voltage_v: Vec<f32>,
    /// Root mean square of the current, in A.
    pub current_a: f32,
    /// In W.
    pub power_w: f32,
    /// In Hz.
    pub frequency_hz: f32,
    /// The label: true where the file's `target` is 1.
    pub anomalous: bool,
}

/// What a minute is judged by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Root mean square of the voltage, in V, from the waveform.
    pub voltage_v: f32,
    /// In A.
    pub current_a: f32,
    /// In W.
    pub power_w: f32,
    /// √(Σ Vh², h = 2..40) / V1 in percent, from the waveform.
    pub thd_percent: f32,
    /// In Hz.
    pub frequency_hz: f32,
    /// Active over apparent power; 0 without power.
    pub power_factor: f32,
}

/// Names of the numbers of [`Measured::numbers`], as a table has them.
pub const COLUMNS: [&str; 6] = [
    "Voltage_RMS_L1",
    "Current_L1",
    "Active_Power_L1",
    "THD_Voltage_L1",
    "Frequency",
    "Power_Factor_L1",
];

/// What is usual for a meter: deviations count from here.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Nominal {
    /// In V.
    pub voltage_v: f32,
    /// In Hz.
    pub frequency_hz: f32,
}

impl Nominal {
    /// Returns the medians of minutes, which are to be those of the training alone.
    #[must_use]
    pub fn of(measured: &[Measured]) -> Self {
        let median = |of: fn(&Measured) -> f32| {
            let mut values: Vec<f32> = measured.iter().map(of).collect();
            values.sort_unstable_by(f32::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        Self {
            voltage_v: median(|minute| minute.voltage_v),
            frequency_hz: median(|minute| minute.frequency_hz),
        }
    }
}

impl Measured {
    /// Returns the numbers in the order of [`COLUMNS`].
    #[must_use]
    pub fn numbers(&self) -> [f32; 6] {
        [
            self.voltage_v,
            self.current_a,
            self.power_w,
            self.thd_percent,
            self.frequency_hz,
            self.power_factor,
        ]
    }

    /// Returns what a forest judges by: deviation of the voltage in V, current in A, distortion in percent, deviation of
    /// the frequency in Hz, power factor.
    ///
    /// Too much and too little are the same to a grid, and as one number they need half the examples. The power is the
    /// product of the others. Each is rounded to [`VECTOR_STEPS`].
    #[must_use]
    pub fn vector(&self, nominal: &Nominal) -> [f32; VECTOR_LEN] {
        let numbers = [
            (self.voltage_v - nominal.voltage_v).abs(),
            self.current_a,
            self.thd_percent,
            (self.frequency_hz - nominal.frequency_hz).abs(),
            self.power_factor,
        ];
        std::array::from_fn(|index| {
            (numbers[index] / VECTOR_STEPS[index]).round() * VECTOR_STEPS[index]
        })
    }
}

/// Steps of [`Measured::vector`]: coarse enough that the forest's 256 bins hold one value each, so that a split lies in
/// the middle of the gap between normal and anomalous values and not inside of one of them.
pub const VECTOR_STEPS: [f32; VECTOR_LEN] = [0.5, 0.05, 0.1, 0.02, 0.005];

/// Numbers of [`Measured::vector`].
pub const VECTOR_LEN: usize = 5;

/// Highest harmonic that counts, as IEC 61000-4-7 and EN 50160 have it.
const THD_ORDER_MAX: u32 = 40;

/// Tells whether a file's header is that of a meter with waveforms.
///
/// # Errors
/// [`PowerError`] where the file cannot be read.
pub fn is_meter_file(path: &Path) -> Result<bool, PowerError> {
    let mut reader = csv::Reader::from_path(path).map_err(|error| PowerError::csv(path, error))?;
    let headers = reader.headers().map_err(|error| PowerError::csv(path, error))?;
    Ok(headers.iter().any(|header| header.trim() == "Voltage_L1"))
}

/// Reads a meter's file.
///
/// # Errors
/// [`PowerError`] names the row and the column.
pub fn read(path: &Path) -> Result<Vec<Minute>, PowerError> {
    let file = || path.display().to_string();
    let mut reader = csv::Reader::from_path(path).map_err(|error| PowerError::csv(path, error))?;
    let headers = reader.headers().map_err(|error| PowerError::csv(path, error))?.clone();
    let column = |column: &'static str| {
        headers.iter().position(|header| header.trim() == column).ok_or_else(|| {
            let existing = headers.iter().collect::<Vec<_>>().join(", ");
            PowerError::Column { file: file(), column, existing }
        })
    };
    let time = column("Time")?;
    let names = ["Current_L1", "Active_Power_L1", "Frequency", "target"];
    let numbers = [column(names[0])?, column(names[1])?, column(names[2])?, column(names[3])?];
    let voltage = column("Voltage_L1")?;
    let mut minutes = Vec::new();
    for (row, record) in (1..).zip(reader.records()) {
        let record = record.map_err(|error| PowerError::csv(path, error))?;
        let cell = |column: usize| record.get(column).unwrap_or_default().trim();
        let refuse = |column: &'static str, found: &str, expected: &'static str| PowerError::Cell {
            file: file(),
            row,
            column,
            found: found.chars().take(40).collect(),
            expected,
        };
        let number = |index: usize| {
            let found = cell(numbers[index]);
            let number = found.parse::<f32>().ok().filter(|number| number.is_finite());
            number.ok_or_else(|| refuse(names[index], found, "a number"))
        };
        let waveform = cell(voltage);
        let voltage_v: Vec<f32> = serde_json::from_str(waveform)
            .ok()
            .filter(|samples: &Vec<f32>| {
                samples.len() <= METER_WAVEFORM_LEN_MAX && samples.iter().all(|v| v.is_finite())
            })
            .ok_or_else(|| {
                refuse("Voltage_L1", waveform, "a JSON array of at most 100000 numbers")
            })?;
        let anomalous = match number(3)? {
            0.0 => false,
            1.0 => true,
            _ => return Err(refuse("target", cell(numbers[3]), "0 or 1")),
        };
        minutes.push(Minute {
            time: cell(time).to_owned(),
            voltage_v,
            current_a: number(0)?,
            power_w: number(1)?,
            frequency_hz: number(2)?,
            anomalous,
        });
    }
    Ok(minutes)
}

/// Measures minutes whose waveforms have `rate_hz` samples a second, by the features of the core.
///
/// # Errors
/// [`PowerError::Waveform`] where one holds too little of the mains.
pub fn measure(minutes: &[Minute], rate_hz: f32) -> Result<Vec<Measured>, PowerError> {
    let feature = |kind, parameter| Feature { kind, channel: 0, parameter };
    let features = [
        feature(FeatureKind::MainsRootMeanSquare, 0),
        feature(FeatureKind::TotalHarmonicDistortion, THD_ORDER_MAX),
    ];
    let mut memory = Vec::new();
    let measure = |(index, minute): (usize, &Minute)| {
        let len = minute.voltage_v.len();
        if len == 0 || !features.iter().all(|feature| feature.fits(1, len, rate_hz)) {
            return Err(PowerError::Waveform { row: index + 1, samples: len, rate_hz });
        }
        memory.resize(Workspace::words(features.iter().copied(), len), 0.0);
        let mut workspace = Workspace::new(features.iter().copied(), len, rate_hz, &mut memory);
        let mut samples = minute.voltage_v.clone();
        let window = Window::complete(&mut samples, len);
        workspace.begin();
        let mut numbers = [0.0_f32; 2];
        for (feature, number) in features.iter().zip(numbers.chunks_mut(1)) {
            feature.compute(&window, rate_hz, &mut workspace, number);
        }
        let [voltage_v, thd_percent] = numbers;
        let apparent = voltage_v * minute.current_a;
        Ok(Measured {
            voltage_v,
            current_a: minute.current_a,
            power_w: minute.power_w,
            thd_percent,
            frequency_hz: minute.frequency_hz,
            power_factor: if apparent > 0.0 { minute.power_w / apparent } else { 0.0 },
        })
    };
    minutes.iter().enumerate().map(measure).collect()
}

/// Writes the measured minutes as a table that every command reads: `Time`, [`COLUMNS`], `label`.
///
/// # Errors
/// [`PowerError::File`].
pub fn write(path: &Path, minutes: &[Minute], measured: &[Measured]) -> Result<(), PowerError> {
    let header = format!("Time,{},label", COLUMNS.join(","));
    let lines = minutes.iter().zip(measured).map(|(minute, measured)| {
        let numbers = measured.numbers().map(|number| number.to_string()).join(",");
        format!("{},{numbers},{}", minute.time, u8::from(minute.anomalous))
    });
    write_lines(path, &header, lines)
}
