//! A sample: one instant, one number a channel; and what makes it a sensor fault instead.

/// What a channel's sensor can measure; anything else is a sensor fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The least value that the sensor can report, in the channel's unit.
    pub minimum: f32,
    /// The greatest value that the sensor can report, in the channel's unit.
    pub maximum: f32,
}

impl Range {
    /// Tells whether a value is one that the sensor can have measured: finite and inside the range.
    #[must_use]
    pub fn admits(&self, value: f32) -> bool {
        // NaN compares false with everything.
        value >= self.minimum && value <= self.maximum
    }
}

/// A physical quantity, as stored in the detector file; numbers are never reassigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[non_exhaustive]
pub enum Quantity {
    /// Anything that has no number of its own.
    Other = 0,
    /// Temperature, SenML unit `Cel`.
    Temperature = 1,
    /// Relative humidity, `%RH`.
    RelativeHumidity = 2,
    /// Acceleration, `m/s2`.
    Acceleration = 3,
    /// Angular velocity, `rad/s`.
    AngularVelocity = 4,
    /// Sound pressure, `Pa`.
    SoundPressure = 5,
    /// Voltage, `V`.
    Voltage = 6,
    /// Electric current, `A`.
    Current = 7,
    /// Active power, `W`.
    ActivePower = 8,
    /// Frequency, `Hz`.
    Frequency = 9,
    /// Dissolved oxygen, `mg/l`.
    DissolvedOxygen = 10,
}

impl Quantity {
    const ALL: [Self; 11] = [
        Self::Other,
        Self::Temperature,
        Self::RelativeHumidity,
        Self::Acceleration,
        Self::AngularVelocity,
        Self::SoundPressure,
        Self::Voltage,
        Self::Current,
        Self::ActivePower,
        Self::Frequency,
        Self::DissolvedOxygen,
    ];

    /// Returns the quantity with the number of the detector file; unknown numbers are [`Quantity::Other`].
    #[must_use]
    pub fn from_number(number: u16) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Other)
    }

    /// Returns the quantity that a SenML unit usually measures.
    #[must_use]
    pub fn of_unit(unit: &str) -> Self {
        match unit {
            "Cel" | "K" => Self::Temperature,
            "%RH" => Self::RelativeHumidity,
            "m/s2" | "g" => Self::Acceleration,
            "rad/s" | "deg/s" => Self::AngularVelocity,
            "Pa" => Self::SoundPressure,
            "V" => Self::Voltage,
            "A" => Self::Current,
            "W" => Self::ActivePower,
            "Hz" => Self::Frequency,
            "mg/l" | "mg/L" => Self::DissolvedOxygen,
            _ => Self::Other,
        }
    }
}
