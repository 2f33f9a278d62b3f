//! Readings out of captured MQTT text.
//!
//! The text is often no valid JSON. What matters is `"Start register": N` and `"Raw data": N`; both are found wherever
//! they stand, and every message that had to be read that way is counted.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::PowerError;
use crate::dataset::time::format_iso;
use crate::limits::{CAPTURE_READINGS_MAX, METER_FILE_BYTES_MAX, METER_MESSAGE_LEN_MAX};

/// Register of the current, in A.
pub const CURRENT: u32 = 1006;
/// Register of the active power, in W.
pub const ACTIVE_POWER: u32 = 1007;
/// Register of the voltage, in V.
pub const VOLTAGE: u32 = 1009;
/// Register of the frequency, in Hz.
pub const FREQUENCY: u32 = 1010;

const REGISTER_KEY: &str = "Start register";
const RAW_KEY: &str = "Raw data";

/// One number of a meter.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Reading {
    /// Microseconds since 1970 when it was received; none where nobody wrote it down.
    pub time_us: Option<i64>,
    /// Which quantity.
    pub register: u32,
    /// Its number.
    pub raw: f64,
}

/// How a message was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// It is JSON.
    WellFormed,
    /// It is not, but its readings were found.
    Malformed,
    /// No reading was found, or one without its other half.
    Unreadable,
}

/// Counts of a capture's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// All messages.
    pub messages: usize,
    /// Those that are no JSON, but whose readings were found.
    pub malformed: usize,
    /// Those without a whole reading, or longer than [`METER_MESSAGE_LEN_MAX`].
    pub unreadable: usize,
    /// Readings that were left out, as there are [`CAPTURE_READINGS_MAX`] already.
    pub dropped: usize,
}

/// Readings in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Capture {
    /// In the order of receipt.
    pub readings: Vec<Reading>,
    /// What was read and how.
    pub counts: Counts,
}

/// Finds the readings of a message, as pairs of register and number.
#[must_use]
pub fn parse(message: &[u8]) -> (Vec<(u32, f64)>, Form) {
    if message.len() > METER_MESSAGE_LEN_MAX {
        return (Vec::new(), Form::Unreadable);
    }
    let json = serde_json::from_slice::<Value>(message).ok();
    if let Some(readings) = json.as_ref().and_then(of_json) {
        return (readings, Form::WellFormed);
    }
    let (readings, whole) = scan(&String::from_utf8_lossy(message));
    let form = if whole && !readings.is_empty() { Form::Malformed } else { Form::Unreadable };
    (readings, form)
}

fn of_json(value: &Value) -> Option<Vec<(u32, f64)>> {
    let one = |value: &Value| {
        let register = u32::try_from(value.get(REGISTER_KEY)?.as_u64()?).ok()?;
        Some((register, value.get(RAW_KEY)?.as_f64()?))
    };
    match value {
        Value::Array(values) if !values.is_empty() => values.iter().map(one).collect(),
        value => one(value).map(|reading| vec![reading]),
    }
}

/// Finds the two keys wherever they stand; also tells whether each register had its number.
fn scan(text: &str) -> (Vec<(u32, f64)>, bool) {
    let (mut readings, mut whole) = (Vec::new(), true);
    let (mut register, mut raw) = (None, None);
    let mut rest = text;
    while let Some((is_register, after)) = next_key(rest) {
        rest = after;
        let found = number(after);
        if is_register {
            // Registers are whole numbers; the cast keeps what is one.
            let found = found.filter(|n| n.fract() == 0.0 && (0.0..=65_535.0).contains(n));
            whole &= register.is_none() && found.is_some();
            register = found.map(|n| n as u32);
        } else {
            whole &= raw.is_none() && found.is_some();
            raw = found;
        }
        if let (Some(first), Some(second)) = (register, raw) {
            readings.push((first, second));
            (register, raw) = (None, None);
        }
    }
    (readings, whole && register.is_none() && raw.is_none())
}

/// Returns which key comes next and the text after it.
fn next_key(text: &str) -> Option<(bool, &str)> {
    let register = text.find(REGISTER_KEY).map(|at| (at, true, REGISTER_KEY.len()));
    let raw = text.find(RAW_KEY).map(|at| (at, false, RAW_KEY.len()));
    let (at, is_register, len) = register.into_iter().chain(raw).min()?;
    Some((is_register, &text[at + len..]))
}

/// Reads the number after a key: quotes, spaces and backslashes may stand around its colon.
fn number(text: &str) -> Option<f64> {
    let is_filling = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\');
    let text = text.trim_start_matches(is_filling).strip_prefix([':', '='])?;
    let text = text.trim_start_matches(is_filling);
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
    let end = text.find(|c: char| !is_part(c)).unwrap_or(text.len());
    text[..end].parse().ok().filter(|number: &f64| number.is_finite())
}

impl Capture {
    /// Takes a message up; returns how it was read.
    pub fn push(&mut self, time_us: Option<i64>, message: &[u8]) -> Form {
        let (readings, form) = parse(message);
        self.counts.messages += 1;
        match form {
            Form::WellFormed => {}
            Form::Malformed => self.counts.malformed += 1,
            Form::Unreadable => self.counts.unreadable += 1,
        }
        for (register, raw) in readings {
            self.add(Reading { time_us, register, raw });
        }
        form
    }

    fn add(&mut self, reading: Reading) {
        if self.readings.len() < CAPTURE_READINGS_MAX {
            self.readings.push(reading);
        } else {
            self.counts.dropped += 1;
        }
    }

    /// Reads a capture: a CSV with the columns `Start register` and `Raw data`, or a text with a message a line.
    ///
    /// # Errors
    /// [`PowerError`] where it cannot be read or holds no reading.
    pub fn read(path: &Path) -> Result<Self, PowerError> {
        let len = std::fs::metadata(path).map_err(|error| PowerError::file(path, error))?.len();
        if len > METER_FILE_BYTES_MAX {
            let large =
                std::io::Error::other(format!("it is larger than {METER_FILE_BYTES_MAX} bytes"));
            return Err(PowerError::file(path, large));
        }
        let bytes = std::fs::read(path).map_err(|error| PowerError::file(path, error))?;
        let header = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let header = String::from_utf8_lossy(header);
        let names: Vec<&str> =
            header.trim().split(',').map(|name| name.trim_matches('"')).collect();
        let mut capture = Self::default();
        if names.contains(&REGISTER_KEY) && names.contains(&RAW_KEY) {
            capture.read_csv(path, &bytes)?;
        } else {
            let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            for line in lines.filter(|line| !line.is_empty()) {
                capture.push(None, line);
            }
        }
        if capture.readings.is_empty() {
            return Err(PowerError::Empty { file: path.display().to_string() });
        }
        Ok(capture)
    }

    fn read_csv(&mut self, path: &Path, bytes: &[u8]) -> Result<(), PowerError> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
        let headers = reader.headers().map_err(|error| PowerError::csv(path, error))?.clone();
        let column = |name: &str| headers.iter().position(|header| header == name);
        let (register, raw, time) = (column(REGISTER_KEY), column(RAW_KEY), column("Time"));
        for record in reader.byte_records() {
            let record = record.map_err(|error| PowerError::csv(path, error))?;
            let cell = |column: Option<usize>| {
                let cell = record.get(column?)?;
                std::str::from_utf8(cell).ok().map(str::trim)
            };
            self.counts.messages += 1;
            let number = |column| cell(column)?.parse::<f64>().ok().filter(|n| n.is_finite());
            let pair = number(register)
                .filter(|n| n.fract() == 0.0 && (0.0..=65_535.0).contains(n))
                .zip(number(raw));
            match pair {
                Some((register, raw)) => {
                    let time_us = cell(time).and_then(crate::dataset::time::read_any);
                    self.add(Reading { time_us, register: register as u32, raw });
                }
                None => self.counts.unreadable += 1,
            }
        }
        Ok(())
    }

    /// Returns how many readings each register has.
    #[must_use]
    pub fn register_counts(&self) -> BTreeMap<u32, usize> {
        let mut counts = BTreeMap::new();
        for reading in &self.readings {
            *counts.entry(reading.register).or_insert(0) += 1;
        }
        counts
    }

    /// Writes the three shapes of a capture into a folder and returns the files:
    ///
    /// | file | columns |
    /// |---|---|
    /// | `mqtt_all_messages_<stamp>.csv` | `Start register,Raw data,Time` |
    /// | `mqtt_messages_<register>_<stamp>.csv`, one a register | `Start register,Raw data` |
    /// | `mqtt_register_counts_<stamp>.csv` | `Start register,Count` |
    ///
    /// `stamp` is `YYYYmmddHHMMSS`.
    ///
    /// # Errors
    /// [`PowerError::File`].
    pub fn write(&self, folder: &Path, stamp: &str) -> Result<Vec<PathBuf>, PowerError> {
        let counts = self.register_counts();
        let all = folder.join(format!("mqtt_all_messages_{stamp}.csv"));
        write_lines(
            &all,
            "Start register,Raw data,Time",
            self.readings.iter().map(|reading| {
                let time = reading.time_us.map(format_iso).unwrap_or_default();
                format!("{},{},{time}", reading.register, reading.raw)
            }),
        )?;
        let mut files = vec![all];
        for register in counts.keys() {
            let file = folder.join(format!("mqtt_messages_{register}_{stamp}.csv"));
            let readings = self.readings.iter().filter(|reading| reading.register == *register);
            let lines = readings.map(|reading| format!("{},{}", reading.register, reading.raw));
            write_lines(&file, "Start register,Raw data", lines)?;
            files.push(file);
        }
        let file = folder.join(format!("mqtt_register_counts_{stamp}.csv"));
        let lines = counts.iter().map(|(register, count)| format!("{register},{count}"));
        write_lines(&file, "Start register,Count", lines)?;
        files.push(file);
        Ok(files)
    }
}

/// Writes a CSV whose cells need no quotes.
pub(super) fn write_lines(
    path: &Path,
    header: &str,
    lines: impl Iterator<Item = String>,
) -> Result<(), PowerError> {
    let write = || {
        let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
        writeln!(out, "{header}")?;
        for line in lines {
            writeln!(out, "{line}")?;
        }
        out.flush()
    };
    write().map_err(|error| PowerError::file(path, error))
}

/// Returns the time as `YYYYmmddHHMMSS`, for the names of files.
#[must_use]
pub fn stamp(time_us: i64) -> String {
    format_iso(time_us).chars().filter(char::is_ascii_digit).take(14).collect()
}
