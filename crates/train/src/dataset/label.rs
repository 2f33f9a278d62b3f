//! Labels that stand in a file of their own: intervals or points of time.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::DatasetError;
use super::time::read_any;

/// A stretch of time in microseconds, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// First moment.
    pub start_us: i64,
    /// Last moment.
    pub end_us: i64,
}

impl Interval {
    /// Tells whether a moment lies inside.
    #[must_use]
    pub fn contains(&self, time_us: i64) -> bool {
        (self.start_us..=self.end_us).contains(&time_us)
    }
}

/// Reads intervals: JSON as NAB writes it, `{file: [[start, end], ...], ...}`, or a bare list of pairs.
///
/// `key` is the recording's file; the entry whose path ends alike is taken.
///
/// # Errors
/// [`DatasetError`] where the file cannot be read, is of another shape, or has no entry for `key`.
pub fn read_intervals(path: &Path, key: &str) -> Result<Vec<Interval>, DatasetError> {
    let expected = "{\"file\": [[\"start\", \"end\"], ...]}";
    let (file, entry) = read_entry(path, key, expected)?;
    let pairs = <Vec<(Value, Value)>>::deserialize(entry).map_err(|source| DatasetError::Json {
        file: file.clone(),
        expected,
        source,
    })?;
    pairs
        .iter()
        .map(|(start, end)| {
            Ok(Interval { start_us: moment(&file, start)?, end_us: moment(&file, end)? })
        })
        .collect()
}

/// Reads points of time: JSON `{file: [time, ...], ...}` or a bare list, or a text file with a time a line.
///
/// # Errors
/// As [`read_intervals`].
pub fn read_points(path: &Path, key: &str) -> Result<Vec<i64>, DatasetError> {
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    if !is_json {
        let (file, text) = read_text(path)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        return lines
            .map(|line| {
                read_any(line).ok_or_else(|| DatasetError::LabelTime {
                    file: file.clone(),
                    found: line.to_owned(),
                })
            })
            .collect();
    }
    let expected = "{\"file\": [\"time\", ...]}";
    let (file, entry) = read_entry(path, key, expected)?;
    let points = <Vec<Value>>::deserialize(entry).map_err(|source| DatasetError::Json {
        file: file.clone(),
        expected,
        source,
    })?;
    points.iter().map(|point| moment(&file, point)).collect()
}

fn read_text(path: &Path) -> Result<(String, String), DatasetError> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((file, text)),
        Err(source) => Err(DatasetError::File { file, source }),
    }
}

/// Returns the list that belongs to `key`.
fn read_entry(
    path: &Path,
    key: &str,
    expected: &'static str,
) -> Result<(String, Value), DatasetError> {
    let (file, text) = read_text(path)?;
    let value: Value = serde_json::from_str(&text).map_err(|source| DatasetError::Json {
        file: file.clone(),
        expected,
        source,
    })?;
    let Value::Object(entries) = value else {
        return Ok((file, value));
    };
    let wanted = key.replace('\\', "/");
    let found = entries
        .iter()
        .find(|(name, _)| ends_with_path(&wanted, name) || ends_with_path(name, &wanted));
    if let Some((_, entry)) = found {
        return Ok((file, entry.clone()));
    }
    let mut existing: Vec<&str> = entries.keys().take(8).map(String::as_str).collect();
    if entries.len() > existing.len() {
        existing.push("...");
    }
    let existing = existing.join(", ");
    Err(DatasetError::MissingKey { file, key: key.to_owned(), existing })
}

/// Tells whether `path` ends with all parts of `tail`: `a/b.csv` ends with `b.csv`, `ab.csv` does not.
fn ends_with_path(path: &str, tail: &str) -> bool {
    path.strip_suffix(tail).is_some_and(|head| head.is_empty() || head.ends_with('/'))
}

fn moment(file: &str, value: &Value) -> Result<i64, DatasetError> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    read_any(&text).ok_or_else(|| DatasetError::LabelTime { file: file.to_owned(), found: text })
}
