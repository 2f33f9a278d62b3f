//! How a file is read: which columns mean what, and which rows are wanted.

use std::convert::Infallible;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::ChannelInfo;
use super::time::TimeFormat;
use crate::limits::GAP_FACTOR_DEFAULT;

/// A column, by its name in the header or by its number from 1.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Column(String);

impl Column {
    /// Names a column.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// Finds the column: a name as written, else in other case, else without its unit, else a number from 1.
    #[must_use]
    pub fn find(&self, names: &[&str]) -> Option<usize> {
        let wanted = self.0.trim();
        names
            .iter()
            .position(|name| *name == wanted)
            .or_else(|| names.iter().position(|name| name.eq_ignore_ascii_case(wanted)))
            .or_else(|| {
                names.iter().position(|name| ChannelInfo::new(name, "").wire_name() == wanted)
            })
            .or_else(|| {
                wanted.parse::<usize>().ok()?.checked_sub(1).filter(|&index| index < names.len())
            })
    }
}

impl fmt::Display for Column {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl FromStr for Column {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

/// Whether a special column is found by its name and content, left unused, or given.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Found where there is one.
    #[default]
    Detect,
    /// Not used, even where there is one.
    Unused,
    /// This one.
    Column(Column),
}

/// A column that becomes a channel.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ChannelChoice {
    /// Where it is.
    pub column: Column,
    /// Its name in the recording; the header's where none is given.
    pub name: Option<String>,
    /// Its unit; found in the header's name where none is given.
    pub unit: Option<String>,
}

impl FromStr for ChannelChoice {
    type Err = Infallible;

    /// Reads `COLUMN`, `COLUMN=NAME`, `COLUMN=NAME:UNIT` or `COLUMN=:UNIT`.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let (column, rest) = text.split_once('=').unwrap_or((text, ""));
        let (name, unit) = rest.split_once(':').unwrap_or((rest, ""));
        let given = |part: &str| (!part.is_empty()).then(|| part.to_owned());
        Ok(Self { column: Column::new(column), name: given(name), unit: given(unit) })
    }
}

/// How a file is read; the default finds everything out by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadOptions {
    /// Name of the recording; the file's where none is given.
    pub name: Option<String>,
    /// Byte between cells; found where none is given.
    pub delimiter: Option<u8>,
    /// Whether the first row holds names; found where it is not said.
    pub header: Option<bool>,
    /// Whether numbers are written `1,5`; found where it is not said, and never where the delimiter is a comma.
    pub decimal_comma: Option<bool>,
    /// The time column.
    pub time: Choice,
    /// How it is written; found where none is given.
    pub time_format: Option<TimeFormat>,
    /// Rows a second; from the time column where none is given.
    pub rate_hz: Option<f64>,
    /// Which columns become channels, in this order; every other column of numbers where none are given.
    pub channels: Vec<ChannelChoice>,
    /// The column that says 0 or 1 for normal or anomalous.
    pub label: Choice,
    /// The column whose every change starts a segment.
    pub clip: Choice,
    /// Rows of readings that are wanted, from 0; all where none are given.
    pub rows: Option<Range<usize>>,
    /// Times that are wanted, in microseconds; all where none are given.
    pub time_us: Option<Range<i64>>,
    /// A step of the clock longer than this many periods starts a segment.
    pub gap_factor: f64,
    /// Whether a clock that goes backwards starts a segment instead of being an error.
    pub allow_clock_steps: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            name: None,
            delimiter: None,
            header: None,
            decimal_comma: None,
            time: Choice::Detect,
            time_format: None,
            rate_hz: None,
            channels: Vec::new(),
            label: Choice::Detect,
            clip: Choice::Detect,
            rows: None,
            time_us: None,
            gap_factor: GAP_FACTOR_DEFAULT,
            allow_clock_steps: false,
        }
    }
}

/// What the reader found and did.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ReadReport {
    /// Rows that were taken.
    pub rows: usize,
    /// Byte between the cells of a text file, as a character.
    pub delimiter: Option<char>,
    /// Whether the first row held names.
    pub header: bool,
    /// The time column.
    pub time_column: Option<String>,
    /// How it is written.
    pub time_format: Option<TimeFormat>,
    /// The column of labels.
    pub label_column: Option<String>,
    /// The column of clips.
    pub clip_column: Option<String>,
    /// Columns that were not taken because they hold no numbers.
    pub skipped_columns: Vec<String>,
    /// Cells without a finite number, now NaN, for each channel.
    pub missing_cells: Vec<usize>,
    /// Gaps of the clock, each of which started a segment.
    pub gaps: usize,
    /// Rows with the time of the row before.
    pub repeated_times: usize,
    /// Rows where the clock went backwards and that was allowed.
    pub clock_steps: usize,
}

/// Finds the unit in a header such as `Current (A)`, `Pressure [bar]` or `ax_g`.
pub(super) fn unit_in_name(name: &str) -> &str {
    let bracketed = |open: char, close: char| {
        let (_, rest) = name.split_once(open)?;
        Some(rest.split_once(close)?.0.trim())
    };
    let unit = bracketed('(', ')').or_else(|| bracketed('[', ']'));
    let suffix = || name.rsplit_once('_').map(|(_, suffix)| suffix);
    match unit {
        Some("°C" | "C" | "degC" | "deg C" | "celsius" | "Celsius" | "Cel") => "Cel",
        Some("m/s^2" | "m/s²" | "m/s2") => "m/s2",
        Some("%" | "%RH") => "%RH",
        Some(unit) => unit,
        None => match suffix() {
            Some("g") => "g",
            Some("c" | "C" | "degc" | "celsius") => "Cel",
            Some("ms2" | "mps2") => "m/s2",
            Some("hz" | "Hz") => "Hz",
            Some("pa" | "Pa") => "Pa",
            Some("v" | "V") => "V",
            Some("a" | "A") => "A",
            Some("w" | "W") => "W",
            _ => "",
        },
    }
}
