//! The axis of time, and ranges and labels of the others.

use kuva::render::datetime::{DateTimeAxis, DateUnit};
use kuva::render::layout::Layout;

use crate::dataset::ChannelInfo;

/// 2000-01-01 in microseconds since 1970: earlier times are a clock that started with the recording.
const CALENDAR_US: i64 = 946_684_800_000_000;
const DAY_S: f64 = 86_400.0;
/// Most dates beside one another.
const DATES_MAX: f64 = 8.0;

/// How times become positions on the axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeAxis {
    start_us: i64,
    end_us: i64,
    /// Seconds of one unit of the axis.
    unit_s: f64,
    label: &'static str,
    /// Positions are seconds since 1970.
    is_calendar: bool,
}

impl TimeAxis {
    pub(super) fn new(time_us: &[i64]) -> Option<Self> {
        let start_us = *time_us.iter().min()?;
        let end_us = *time_us.iter().max()?;
        let seconds = (end_us - start_us) as f64 / 1e6;
        let (unit_s, label) = match seconds {
            s if s < 1.0 => (1e-3, "time, ms"),
            s if s < 300.0 => (1.0, "time, s"),
            s if s < 3.0 * 3600.0 => (60.0, "time, min"),
            s if s < 3.0 * DAY_S => (3600.0, "time, h"),
            _ => (DAY_S, "time, days"),
        };
        let is_calendar = start_us >= CALENDAR_US && seconds >= 3.0 * DAY_S;
        Some(Self { start_us, end_us, unit_s, label, is_calendar })
    }

    pub(super) fn position(&self, time_us: i64) -> f64 {
        if self.is_calendar {
            return time_us as f64 / 1e6;
        }
        (time_us - self.start_us) as f64 / 1e6 / self.unit_s
    }

    /// Returns both ends; an axis without length gets one.
    pub(super) fn range(&self) -> (f64, f64) {
        let (start, end) = (self.position(self.start_us), self.position(self.end_us));
        if end > start { (start, end) } else { (start, start + 1.0) }
    }

    pub(super) fn apply(&self, layout: Layout) -> Layout {
        let (start, end) = self.range();
        let layout = layout.with_x_axis_min(start).with_x_axis_max(end);
        if !self.is_calendar {
            return layout.with_x_label(self.label);
        }
        let days = (end - start) / DAY_S;
        let dates = if days <= 240.0 {
            DateTimeAxis::days("%Y-%m-%d").with_step((days / DATES_MAX).ceil().max(1.0) as usize)
        } else {
            let months = (days / 30.0 / DATES_MAX).ceil();
            DateTimeAxis {
                unit: DateUnit::Month,
                step: months as usize,
                format: "%Y-%m".to_owned(),
            }
        };
        layout.with_x_label("date (UTC)").with_x_datetime(dates)
    }
}

/// Returns `temperature, °C`.
pub(super) fn channel_label(channel: &ChannelInfo) -> String {
    let unit = match channel.unit.as_str() {
        "Cel" => "°C",
        "m/s2" => "m/s²",
        unit => unit,
    };
    // A name that ends with its unit in brackets needs no second one.
    let has_unit = unit.is_empty()
        || channel.name.contains(&format!("({unit})"))
        || channel.name.contains('[');
    if has_unit { channel.name.clone() } else { format!("{}, {unit}", channel.name) }
}

/// Returns the range of finite values, a little wider; a single value lies in its middle.
pub(super) fn padded_range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) = finite_range(values)?;
    let span = high - low;
    let padding = if span > 0.0 { span * 0.05 } else { low.abs().max(1.0) * 0.1 };
    Some((low - padding, high + padding))
}

/// Returns least and greatest of the finite values.
pub(super) fn finite_range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

/// Writes a power of ten, as the ticks of a logarithmic axis have it.
pub(super) fn power_of_ten(exponent: f64) -> String {
    let value = 10_f64.powf(exponent);
    match exponent {
        // A tick's exponent may be a hair above the whole number, which must not cost a digit.
        e if (-4.0..-1e-9).contains(&e) => format!("{value:.*}", (-e - 1e-9).ceil() as usize),
        e if (-1e-9..5.0).contains(&e) => format!("{value:.0}"),
        _ => format!("{value:.0e}"),
    }
}
