//! The uplink message: what a device sends home, as a SenML pack with a fixed beginning.
//!
//! | record | name | value |
//! |---|---|---|
//! | 0 | `session`, under base name `DEVICE/` and base time | number drawn at each start of the device |
//! | 1 | `sequence` | counts the messages of the session, from 0 |
//! | others | a channel | a reading |

use core::fmt;

use super::senml::{DecodeError, Full, PackReader, PackWriter, Record, Resolved, Value};
use crate::limits::{DEVICE_ID_LEN_MAX, MESSAGE_LEN_MAX};

/// The record that names the session.
pub const SESSION: &str = "session";
/// The record that counts the messages of a session.
pub const SEQUENCE: &str = "sequence";
/// The channel of a window's score.
pub const SCORE: &str = "score";
/// The channel of the threshold in force.
pub const THRESHOLD: &str = "threshold";
/// The channel of the verdict: true for an anomaly.
pub const ANOMALY: &str = "anomaly";
/// The text that names the running detector.
pub const DETECTOR: &str = "detector";
/// The suffix of the channel that carries a signal's reconstruction.
pub const RECONSTRUCTION_SUFFIX: &str = "/reconstruction";
/// The suffix of the channel that counts a sensor's rejected samples.
pub const SENSOR_FAULT_SUFFIX: &str = "/sensor_fault";

/// Tells whether a text may be a device's identity: 1 to 64 of `A-Z a-z 0-9 - _`.
#[must_use]
pub fn is_device_id(text: &str) -> bool {
    (1..=DEVICE_ID_LEN_MAX).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
}

/// What identifies a message: sent again, it is the same message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// Drawn at each start of the device.
    pub session: u32,
    /// Counts the messages of the session.
    pub sequence: u32,
}

/// Opens an uplink message in `buffer`.
///
/// # Errors
/// [`Full`] if the buffer is too short.
pub fn open<'b>(
    buffer: &'b mut [u8],
    base_name: &str,
    base_time_s: f64,
    id: MessageId,
) -> Result<PackWriter<'b>, Full> {
    let number = |name, value: u32| Record {
        name,
        unit: "",
        value: Value::Number(f64::from(value)),
        time_s: 0.0,
    };
    let mut pack = PackWriter::open(buffer, base_name, base_time_s, &number(SESSION, id.session))?;
    pack.push(&number(SEQUENCE, id.sequence))?;
    Ok(pack)
}

/// An uplink message as received: every record is checked before the first one is handed out.
#[derive(Clone, Debug)]
pub struct Uplink<'a> {
    /// The device that the message claims to come from.
    pub device: &'a str,
    /// The message's identity.
    pub id: MessageId,
    readings: PackReader<'a>,
}

impl<'a> Uplink<'a> {
    /// Reads a message and checks it to its last byte.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, UplinkError> {
        if bytes.len() > MESSAGE_LEN_MAX {
            return Err(UplinkError::TooLong);
        }
        let mut pack = PackReader::new(bytes)?;
        let session = pack.next().ok_or(UplinkError::NoSession)??;
        let device = session.base_name.strip_suffix('/').ok_or(UplinkError::BadDevice)?;
        if !is_device_id(device) {
            return Err(UplinkError::BadDevice);
        }
        let sequence = pack.next().ok_or(UplinkError::NoSequence)??;
        let id = MessageId {
            session: counter(&session, SESSION).ok_or(UplinkError::NoSession)?,
            sequence: counter(&sequence, SEQUENCE).ok_or(UplinkError::NoSequence)?,
        };
        for record in pack.clone() {
            if record?.base_name != session.base_name {
                return Err(UplinkError::ForeignName);
            }
        }
        Ok(Self { device, id, readings: pack })
    }

    /// Walks through the readings: name without the device's prefix, unit, value, unix seconds.
    pub fn readings(&self) -> impl Iterator<Item = Resolved<'a>> + use<'a> {
        // The pack was read to its end in `parse`, so no record is left out here.
        self.readings.clone().map_while(Result::ok)
    }
}

fn counter(record: &Resolved<'_>, name: &str) -> Option<u32> {
    match record.value {
        Value::Number(number) if record.name == name => {
            let whole = number as u32;
            (f64::from(whole) == number).then_some(whole)
        }
        _ => None,
    }
}

/// Why an uplink message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UplinkError {
    /// It is longer than [`MESSAGE_LEN_MAX`].
    TooLong,
    /// It is not SenML.
    Senml(DecodeError),
    /// Its first record is not the session number.
    NoSession,
    /// Its second record is not the sequence number.
    NoSequence,
    /// Its base name is not a device identity and a slash.
    BadDevice,
    /// A record changes the base name, that is, speaks for another device.
    ForeignName,
}

impl From<DecodeError> for UplinkError {
    fn from(error: DecodeError) -> Self {
        Self::Senml(error)
    }
}

impl fmt::Display for UplinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the message is longer than {MESSAGE_LEN_MAX} bytes"),
            Self::Senml(error) => error.fmt(f),
            Self::NoSession => {
                f.write_str("the first record must be `session`, a number of 32 bits")
            }
            Self::NoSequence => {
                f.write_str("the second record must be `sequence`, a number of 32 bits")
            }
            Self::BadDevice => {
                f.write_str("the base name must be the device's identity and a slash")
            }
            Self::ForeignName => f.write_str("a record names another device"),
        }
    }
}

impl core::error::Error for UplinkError {}
