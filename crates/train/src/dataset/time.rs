//! Times in recordings: ISO 8601 and its everyday variants, day/month/year, and numbers since 1970 or since a start.

const DAY_US: i64 = 86_400_000_000;

/// How a time column is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    /// `2014-04-01 00:05[:30[.25]]`, with `T` or a space, `-` or `/`, and optionally `Z` or an offset.
    Iso,
    /// `31/12/2017 1:00[:30[.5]]`; also with `.` or `-` between the parts.
    DayFirst,
    /// `12/31/2017 1:00[:30[.5]]`.
    MonthFirst,
    /// Seconds since 1970 or since any start; may have decimals.
    Seconds,
    /// Milliseconds since 1970 or since any start.
    Milliseconds,
    /// Microseconds since 1970 or since any start.
    Microseconds,
    /// Nanoseconds since 1970 or since any start.
    Nanoseconds,
}

impl TimeFormat {
    /// Every format, with the name that users write.
    pub const NAMES: [(&'static str, Self); 7] = [
        ("iso", Self::Iso),
        ("day-first", Self::DayFirst),
        ("month-first", Self::MonthFirst),
        ("s", Self::Seconds),
        ("ms", Self::Milliseconds),
        ("us", Self::Microseconds),
        ("ns", Self::Nanoseconds),
    ];

    /// Reads a cell as microseconds since 1970 (UTC where no offset is written) or since the column's own start.
    #[must_use]
    pub fn read(self, cell: &[u8]) -> Option<i64> {
        let cell = cell.trim_ascii();
        match self {
            Self::Iso => read_date(cell, [0, 1, 2]),
            Self::DayFirst => read_date(cell, [2, 1, 0]),
            Self::MonthFirst => read_date(cell, [2, 0, 1]),
            Self::Seconds | Self::Milliseconds | Self::Microseconds | Self::Nanoseconds => {
                read_number(cell, self.unit_us()?)
            }
        }
    }

    /// Returns the microseconds of the unit that a number counts; a date has none.
    #[must_use]
    pub fn unit_us(self) -> Option<f64> {
        match self {
            Self::Seconds => Some(1e6),
            Self::Milliseconds => Some(1e3),
            Self::Microseconds => Some(1.0),
            Self::Nanoseconds => Some(1e-3),
            Self::Iso | Self::DayFirst | Self::MonthFirst => None,
        }
    }

    /// Finds the format that reads all the given cells; `column` may carry a hint such as `time_ms`.
    #[must_use]
    pub fn detect(column: &str, cells: &[&[u8]]) -> Option<Self> {
        let first = cells.first()?;
        if let Ok(value) = fast_float2::parse::<f64, _>(first.trim_ascii()) {
            return Some(detect_number(column, value));
        }
        // Day first stands before month first: it is the more common where both fit.
        [Self::Iso, Self::DayFirst, Self::MonthFirst]
            .into_iter()
            .find(|format| cells.iter().all(|cell| format.read(cell).is_some()))
    }

    /// Tells whether the format is a plain number, which a column of readings could be as well.
    #[must_use]
    pub fn is_number(self) -> bool {
        self.unit_us().is_some()
    }
}

impl std::str::FromStr for TimeFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::NAMES
            .into_iter()
            .find(|(name, _)| *name == text)
            .map(|(_, format)| format)
            .ok_or_else(|| {
                let names: Vec<&str> = Self::NAMES.iter().map(|(name, _)| *name).collect();
                format!("unknown time format {text:?}; use one of {}", names.join(", "))
            })
    }
}

fn detect_number(column: &str, value: f64) -> TimeFormat {
    let column = column.to_ascii_lowercase();
    let hints = [
        ("ms", TimeFormat::Milliseconds),
        ("us", TimeFormat::Microseconds),
        ("ns", TimeFormat::Nanoseconds),
        ("s", TimeFormat::Seconds),
    ];
    for (unit, format) in hints {
        let is_suffix = column.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'));
        if is_suffix
            || column.contains(&format!("({unit})"))
            || column.contains(&format!("[{unit}]"))
        {
            return format;
        }
    }
    // By size: 1e11 seconds is the year 5138, 1e11 milliseconds is 1973.
    match value {
        v if v < 1e11 => TimeFormat::Seconds,
        v if v < 1e14 => TimeFormat::Milliseconds,
        v if v < 1e17 => TimeFormat::Microseconds,
        _ => TimeFormat::Nanoseconds,
    }
}

fn read_number(cell: &[u8], scale: f64) -> Option<i64> {
    if scale == 1.0
        && let Some(whole) =
            std::str::from_utf8(cell).ok().and_then(|text| text.parse::<i64>().ok())
    {
        return Some(whole);
    }
    let value: f64 = fast_float2::parse(cell).ok()?;
    let us = value * scale;
    // Beyond this, f64 no longer counts single microseconds of i64.
    (us.is_finite() && us.abs() < 9e18).then(|| us.round() as i64)
}

/// Reads a date with an optional time of day; `order` says where year, month and day stand.
fn read_date(cell: &[u8], order: [usize; 3]) -> Option<i64> {
    let mut cursor = Cursor { rest: cell };
    let mut parts = [(0_i64, 0_usize); 3];
    parts[0] = cursor.digits()?;
    let separator = cursor.one_of(b"-/.")?;
    parts[1] = cursor.digits()?;
    cursor.one_of(&[separator])?;
    parts[2] = cursor.digits()?;
    let [(year, year_digits), (month, month_digits), (day, day_digits)] =
        order.map(|place| parts[place]);
    if year_digits != 4 || month_digits > 2 || day_digits > 2 {
        return None;
    }
    let days = days_from_civil(year, month, day)?;
    let mut us = days * DAY_US;
    if cursor.rest.is_empty() {
        return Some(us);
    }
    cursor.one_of(b"T t")?;
    us += read_time_of_day(&mut cursor)?;
    us -= read_offset(&mut cursor)?;
    cursor.rest.is_empty().then_some(us)
}

fn read_time_of_day(cursor: &mut Cursor<'_>) -> Option<i64> {
    let (hour, _) = cursor.digits()?;
    cursor.one_of(b":")?;
    let (minute, _) = cursor.digits()?;
    let mut us = (hour * 60 + minute) * 60_000_000;
    let mut second = 0;
    if cursor.one_of(b":").is_some() {
        second = cursor.digits()?.0;
        us += second * 1_000_000;
        if cursor.one_of(b".,").is_some() {
            us += cursor.fraction_us()?;
        }
    }
    // 60 is a leap second; it falls together with the next second, as in POSIX.
    (hour < 24 && minute < 60 && second <= 60).then_some(us)
}

fn read_offset(cursor: &mut Cursor<'_>) -> Option<i64> {
    cursor.rest = cursor.rest.trim_ascii();
    if cursor.rest.eq_ignore_ascii_case(b"Z") || cursor.rest.eq_ignore_ascii_case(b"UTC") {
        cursor.rest = &[];
        return Some(0);
    }
    let Some(sign) = cursor.one_of(b"+-") else {
        return Some(0);
    };
    let (value, digits) = cursor.digits()?;
    let minutes = match digits {
        1 | 2 => {
            let minute = if cursor.one_of(b":").is_some() { cursor.digits()?.0 } else { 0 };
            value * 60 + minute
        }
        4 => value / 100 * 60 + value % 100,
        _ => return None,
    };
    let us = minutes * 60_000_000;
    (us <= DAY_US).then_some(if sign == b'+' { us } else { -us })
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    /// Reads up to nine digits: the value and how many there were.
    fn digits(&mut self) -> Option<(i64, usize)> {
        let count = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 || count > 9 {
            return None;
        }
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        Some((digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')), count))
    }

    fn fraction_us(&mut self) -> Option<i64> {
        let count = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        let padded = digits.iter().map(|digit| i64::from(digit - b'0')).chain(std::iter::repeat(0));
        (count > 0).then(|| padded.take(6).fold(0, |value, digit| value * 10 + digit))
    }

    fn one_of(&mut self, wanted: &[u8]) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        if !wanted.contains(first) {
            return None;
        }
        self.rest = rest;
        Some(*first)
    }
}

/// Counts days since 1970-01-01; none for a date that does not exist.
///
/// Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let month_days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day < 1 || day > month_days {
        return None;
    }
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Writes microseconds since 1970 as `2014-04-01T00:05:30Z`, with decimals where there are any.
#[must_use]
pub fn format_iso(time_us: i64) -> String {
    let days = time_us.div_euclid(DAY_US);
    let us = time_us.rem_euclid(DAY_US);
    let (year, month, day) = civil_from_days(days);
    let (second, fraction) = (us / 1_000_000, us % 1_000_000);
    let mut text = format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    if fraction > 0 {
        text.push_str(format!(".{fraction:06}").trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// Turns days since 1970-01-01 into year, month, day; the inverse of [`days_from_civil`], from the same source.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Reads a time that a person wrote: any format that [`TimeFormat::detect`] knows.
#[must_use]
pub fn read_any(text: &str) -> Option<i64> {
    TimeFormat::detect("", &[text.as_bytes()])?.read(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_variants_of_iso() {
        // `date -u -d '2014-04-01 00:05:30' +%s` prints 1396310730.
        let expected = 1_396_310_730_000_000;
        for text in [
            "2014-04-01 00:05:30",
            "2014-04-01T00:05:30Z",
            "2014/04/01 0:05:30",
            "2014-04-01T02:05:30+02:00",
            "2014-04-01 02:05:30+0200",
            "2014-03-31T19:05:30.000-05",
            " 2014-04-01 00:05:30.0 ",
        ] {
            assert_eq!(read_any(text), Some(expected), "{text}");
        }
        assert_eq!(read_any("2014-04-01"), Some(1_396_310_400_000_000));
        assert_eq!(read_any("2014-04-01 00:05:30.1234567"), Some(expected + 123_456));
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "",
            "2014-02-29 00:00",
            "2014-13-01",
            "2014-04-01 24:00",
            "2014-04-01x",
            "abc",
            "2014-04",
            "14-04-01",
        ] {
            assert_eq!(TimeFormat::Iso.read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn finds_whether_day_or_month_stands_first() {
        assert_eq!(
            TimeFormat::detect("t", &[b"12/03/2017 1:00", b"13/03/2017 2:30"]),
            Some(TimeFormat::DayFirst)
        );
        assert_eq!(
            TimeFormat::detect("t", &[b"12/03/2017 1:00", b"12/31/2017 2:30"]),
            Some(TimeFormat::MonthFirst)
        );
        assert_eq!(TimeFormat::DayFirst.read(b"12/03/2017 1:00"), read_any("2017-03-12 01:00"));
        assert_eq!(TimeFormat::MonthFirst.read(b"12/03/2017 1:00"), read_any("2017-12-03 01:00"));
    }

    #[test]
    fn finds_the_unit_of_numbers() {
        assert_eq!(TimeFormat::detect("ts", &[b"1396310730"]), Some(TimeFormat::Seconds));
        assert_eq!(TimeFormat::detect("ts", &[b"1396310730000"]), Some(TimeFormat::Milliseconds));
        assert_eq!(
            TimeFormat::detect("ts", &[b"1396310730000000"]),
            Some(TimeFormat::Microseconds)
        );
        assert_eq!(
            TimeFormat::detect("ts", &[b"1396310730000000000"]),
            Some(TimeFormat::Nanoseconds)
        );
        assert_eq!(TimeFormat::detect("time_ms", &[b"0"]), Some(TimeFormat::Milliseconds));
        assert_eq!(TimeFormat::Seconds.read(b"0.005"), Some(5000));
        assert_eq!(
            TimeFormat::Nanoseconds.read(b"1396310730000000000"),
            Some(1_396_310_730_000_000)
        );
    }

    #[test]
    fn writes_what_it_reads() {
        for day in (-200_000_i64..200_000).step_by(97) {
            let us = day * DAY_US + 45_296_250_000;
            assert_eq!(
                TimeFormat::Iso.read(format_iso(us).as_bytes()),
                Some(us),
                "{}",
                format_iso(us)
            );
        }
        assert_eq!(format_iso(1_396_310_730_500_000), "2014-04-01T00:05:30.5Z");
    }
}
