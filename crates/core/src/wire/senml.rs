//! SenML, RFC 8428, in its CBOR form: a pack of records with integer labels.
//!
//! | label | field | type here |
//! |---|---|---|
//! | -2 | base name | text |
//! | -3 | base time, s | number |
//! | -4 | base unit | text |
//! | -5 | base value | number |
//! | 0 | name | text |
//! | 1 | unit | text |
//! | 2 | value | number |
//! | 3 | string value | text |
//! | 4 | boolean value | bool |
//! | 6 | time, s | number |
//! | 8 | data value | bytes |

use core::fmt;

use minicbor::data::Type;
use minicbor::encode::write::Cursor;
use minicbor::{Decoder, Encoder};

use crate::limits::{MESSAGE_RECORDS_MAX, SENML_NAME_LEN_MAX, SENML_TEXT_LEN_MAX};

const LABEL_BASE_VERSION: i64 = -1;
const LABEL_BASE_NAME: i64 = -2;
const LABEL_BASE_TIME: i64 = -3;
const LABEL_BASE_UNIT: i64 = -4;
const LABEL_BASE_VALUE: i64 = -5;
const LABEL_NAME: i64 = 0;
const LABEL_UNIT: i64 = 1;
const LABEL_VALUE: i64 = 2;
const LABEL_TEXT: i64 = 3;
const LABEL_BOOLEAN: i64 = 4;
const LABEL_TIME: i64 = 6;
const LABEL_DATA: i64 = 8;

/// The highest SenML version that is read (RFC 8428 section 4.4).
const VERSION_MAX: u64 = 10;
const INDEFINITE_ARRAY: u8 = 0x9f;
const BREAK: u8 = 0xff;
/// Whole numbers below this magnitude are written as CBOR integers, which are shorter.
const WHOLE_NUMBER_LIMIT: f64 = 16_777_216.0;

/// The value of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A finite number.
    Number(f64),
    /// A truth value.
    Boolean(bool),
    /// A text.
    Text(&'a str),
    /// Bytes.
    Data(&'a [u8]),
}

/// One record to be written.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The name, appended to the base name by the reader.
    pub name: &'a str,
    /// The unit; empty for none.
    pub unit: &'a str,
    /// The value.
    pub value: Value<'a>,
    /// The time in seconds, relative to the base time.
    pub time_s: f64,
}

/// The buffer has no room for the record; it was left as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room for the record in the message")
    }
}

impl core::error::Error for Full {}

/// Writes a pack into a buffer, record by record; a record is written whole or not at all.
#[derive(Debug)]
pub struct PackWriter<'b> {
    buffer: &'b mut [u8],
    len: usize,
}

impl<'b> PackWriter<'b> {
    /// Opens a pack whose first record carries base name and base time (unix seconds).
    ///
    /// # Errors
    /// [`Full`] if the buffer is too short.
    pub fn open(
        buffer: &'b mut [u8],
        base_name: &str,
        base_time_s: f64,
        first: &Record<'_>,
    ) -> Result<Self, Full> {
        *buffer.first_mut().ok_or(Full)? = INDEFINITE_ARRAY;
        let mut pack = Self { buffer, len: 1 };
        pack.write(Some((base_name, base_time_s)), first)?;
        Ok(pack)
    }

    /// Goes on with a pack of which `len` bytes were written, as [`PackWriter::len`] told.
    #[must_use]
    pub fn resume(buffer: &'b mut [u8], len: usize) -> Self {
        let len = len.min(buffer.len());
        Self { buffer, len }
    }

    /// Returns the bytes written so far, without the closing byte.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "an opened pack is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Appends a record.
    ///
    /// # Errors
    /// [`Full`] if it does not fit; the pack stays as it was.
    pub fn push(&mut self, record: &Record<'_>) -> Result<(), Full> {
        self.write(None, record)
    }

    /// Closes the pack and returns its length in bytes.
    #[must_use]
    pub fn close(self) -> usize {
        // Each write leaves room for this byte.
        match self.buffer.get_mut(self.len) {
            Some(last) => {
                *last = BREAK;
                self.len + 1
            }
            None => self.len,
        }
    }

    fn write(&mut self, base: Option<(&str, f64)>, record: &Record<'_>) -> Result<(), Full> {
        let end = self.buffer.len().saturating_sub(1);
        let room = self.buffer.get_mut(self.len..end).ok_or(Full)?;
        let mut encoder = Encoder::new(Cursor::new(room));
        encode_record(&mut encoder, base, record).map_err(|_| Full)?;
        self.len += encoder.writer().position();
        Ok(())
    }
}

type EncodeResult<'b> = Result<(), minicbor::encode::Error<minicbor::encode::write::EndOfSlice>>;

fn encode_record<'b>(
    encoder: &mut Encoder<Cursor<&'b mut [u8]>>,
    base: Option<(&str, f64)>,
    record: &Record<'_>,
) -> EncodeResult<'b> {
    let with_unit = !record.unit.is_empty();
    let with_time = record.time_s != 0.0;
    let fields = 2 + 2 * u64::from(base.is_some()) + u64::from(with_unit) + u64::from(with_time);
    encoder.map(fields)?;
    if let Some((base_name, base_time_s)) = base {
        encoder.i64(LABEL_BASE_NAME)?.str(base_name)?;
        encoder.i64(LABEL_BASE_TIME)?.f64(base_time_s)?;
    }
    encoder.i64(LABEL_NAME)?.str(record.name)?;
    if with_unit {
        encoder.i64(LABEL_UNIT)?.str(record.unit)?;
    }
    match record.value {
        Value::Number(number) => encode_number(encoder.i64(LABEL_VALUE)?, number)?,
        Value::Boolean(boolean) => drop(encoder.i64(LABEL_BOOLEAN)?.bool(boolean)?),
        Value::Text(text) => drop(encoder.i64(LABEL_TEXT)?.str(text)?),
        Value::Data(data) => drop(encoder.i64(LABEL_DATA)?.bytes(data)?),
    }
    if with_time {
        encode_number(encoder.i64(LABEL_TIME)?, record.time_s)?;
    }
    Ok(())
}

fn encode_number<'b>(encoder: &mut Encoder<Cursor<&'b mut [u8]>>, number: f64) -> EncodeResult<'b> {
    let negative_zero = number == 0.0 && number.is_sign_negative();
    let whole = number as i64;
    if whole as f64 == number && libm::fabs(number) < WHOLE_NUMBER_LIMIT && !negative_zero {
        encoder.i64(whole)?;
    } else if f64::from(number as f32) == number {
        encoder.f32(number as f32)?;
    } else {
        encoder.f64(number)?;
    }
    Ok(())
}

/// Why a pack is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes are not CBOR of the expected shape, or end early.
    Malformed,
    /// Bytes follow the pack.
    TrailingBytes,
    /// More than [`MESSAGE_RECORDS_MAX`] records.
    TooManyRecords,
    /// A name is empty, longer than [`SENML_NAME_LEN_MAX`] or holds other characters than RFC 8428 section 4.5.1 permits.
    BadName,
    /// A text value is longer than [`SENML_TEXT_LEN_MAX`].
    TextTooLong,
    /// A number is NaN or infinite.
    NotFinite,
    /// A record has no value, or more than one.
    NotOneValue,
    /// A label that must be understood, or a higher version, is not.
    Unsupported,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a SenML pack in CBOR (RFC 8428 section 6)",
            Self::TrailingBytes => "bytes follow the SenML pack",
            Self::TooManyRecords => "too many records in the SenML pack",
            Self::BadName => {
                "a SenML name is empty, too long or has a character outside A-Z a-z 0-9 - : . / _"
            }
            Self::TextTooLong => "a SenML text value is too long",
            Self::NotFinite => "a SenML number is not finite",
            Self::NotOneValue => "a SenML record needs exactly one value",
            Self::Unsupported => "the SenML pack needs a feature that is not supported",
        })
    }
}

impl core::error::Error for DecodeError {}

/// One record as read, with the base fields applied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resolved<'a> {
    /// The base name in force; the full name is `base_name` followed by `name`.
    pub base_name: &'a str,
    /// The name.
    pub name: &'a str,
    /// The unit, own or base; empty for none.
    pub unit: &'a str,
    /// The value.
    pub value: Value<'a>,
    /// Own time plus base time, in seconds.
    pub time_s: f64,
}

/// Reads a pack record by record.
#[derive(Clone, Debug)]
pub struct PackReader<'a> {
    decoder: Decoder<'a>,
    /// Records still to come; `None` when the array is of indefinite length.
    remaining: Option<u64>,
    records: usize,
    base_name: &'a str,
    base_unit: &'a str,
    base_time_s: f64,
    base_value: f64,
    finished: bool,
}

impl<'a> PackReader<'a> {
    /// Opens a pack.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] if the bytes do not start an array.
    pub fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let remaining = decoder.array().map_err(|_| DecodeError::Malformed)?;
        Ok(Self {
            decoder,
            remaining,
            records: 0,
            base_name: "",
            base_unit: "",
            base_time_s: 0.0,
            base_value: 0.0,
            finished: false,
        })
    }

    fn at_end(&mut self) -> Result<bool, DecodeError> {
        match self.remaining {
            Some(0) => Ok(true),
            Some(_) => Ok(false),
            None if self.decoder.datatype().map_err(|_| DecodeError::Malformed)? == Type::Break => {
                self.decoder.set_position(self.decoder.position() + 1);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn read(&mut self) -> Result<Option<Resolved<'a>>, DecodeError> {
        if self.at_end()? {
            let trailing = self.decoder.position() != self.decoder.input().len();
            return if trailing { Err(DecodeError::TrailingBytes) } else { Ok(None) };
        }
        self.records += 1;
        if self.records > MESSAGE_RECORDS_MAX {
            return Err(DecodeError::TooManyRecords);
        }
        if let Some(remaining) = &mut self.remaining {
            *remaining -= 1;
        }
        let fields = self.record()?;
        self.resolve(&fields).map(Some)
    }

    fn record(&mut self) -> Result<Fields<'a>, DecodeError> {
        let mut fields = Fields::default();
        let mut left = self.decoder.map().map_err(|_| DecodeError::Malformed)?;
        loop {
            match &mut left {
                Some(0) => return Ok(fields),
                Some(left) => *left -= 1,
                None => {
                    let next = self.decoder.datatype().map_err(|_| DecodeError::Malformed)?;
                    if next == Type::Break {
                        self.decoder.set_position(self.decoder.position() + 1);
                        return Ok(fields);
                    }
                }
            }
            self.field(&mut fields)?;
        }
    }

    fn field(&mut self, fields: &mut Fields<'a>) -> Result<(), DecodeError> {
        let kind = self.decoder.datatype().map_err(|_| DecodeError::Malformed)?;
        if kind == Type::String {
            // A label ending in an underscore must be understood (RFC 8428 section 4.4).
            let label = self.decoder.str().map_err(|_| DecodeError::Malformed)?;
            if label.ends_with('_') {
                return Err(DecodeError::Unsupported);
            }
            return self.decoder.skip().map_err(|_| DecodeError::Malformed);
        }
        match self.decoder.i64().map_err(|_| DecodeError::Malformed)? {
            LABEL_BASE_VERSION => {
                let version = self.decoder.u64().map_err(|_| DecodeError::Malformed)?;
                if version > VERSION_MAX {
                    return Err(DecodeError::Unsupported);
                }
            }
            LABEL_BASE_NAME => {
                self.base_name = self.text(SENML_NAME_LEN_MAX, DecodeError::BadName)?;
            }
            LABEL_BASE_TIME => self.base_time_s = self.number()?,
            LABEL_BASE_UNIT => {
                self.base_unit = self.text(SENML_NAME_LEN_MAX, DecodeError::BadName)?;
            }
            LABEL_BASE_VALUE => self.base_value = self.number()?,
            LABEL_NAME => fields.name = self.text(SENML_NAME_LEN_MAX, DecodeError::BadName)?,
            LABEL_UNIT => fields.unit = self.text(SENML_NAME_LEN_MAX, DecodeError::BadName)?,
            LABEL_TIME => fields.time_s = self.number()?,
            LABEL_VALUE => {
                let number = self.number()?;
                fields.set(Value::Number(number))?;
            }
            LABEL_TEXT => {
                let text = self.text(SENML_TEXT_LEN_MAX, DecodeError::TextTooLong)?;
                fields.set(Value::Text(text))?;
            }
            LABEL_BOOLEAN => {
                let boolean = self.decoder.bool().map_err(|_| DecodeError::Malformed)?;
                fields.set(Value::Boolean(boolean))?;
            }
            LABEL_DATA => {
                let data = self.decoder.bytes().map_err(|_| DecodeError::Malformed)?;
                fields.set(Value::Data(data))?;
            }
            _ => self.decoder.skip().map_err(|_| DecodeError::Malformed)?,
        }
        Ok(())
    }

    fn text(&mut self, len_max: usize, too_long: DecodeError) -> Result<&'a str, DecodeError> {
        let text = self.decoder.str().map_err(|_| DecodeError::Malformed)?;
        if text.len() > len_max { Err(too_long) } else { Ok(text) }
    }

    fn number(&mut self) -> Result<f64, DecodeError> {
        let malformed = |_| DecodeError::Malformed;
        let number = match self.decoder.datatype().map_err(malformed)? {
            Type::F16 | Type::F32 | Type::F64 => self.decoder.f64().map_err(malformed)?,
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => {
                self.decoder.u64().map_err(malformed)? as f64
            }
            _ => self.decoder.i64().map_err(malformed)? as f64,
        };
        if number.is_finite() { Ok(number) } else { Err(DecodeError::NotFinite) }
    }

    fn resolve(&self, fields: &Fields<'a>) -> Result<Resolved<'a>, DecodeError> {
        check_name(self.base_name, fields.name)?;
        let value = match fields.value.ok_or(DecodeError::NotOneValue)? {
            Value::Number(number) => {
                let sum = number + self.base_value;
                if !sum.is_finite() {
                    return Err(DecodeError::NotFinite);
                }
                Value::Number(sum)
            }
            other => other,
        };
        let time_s = fields.time_s + self.base_time_s;
        if !time_s.is_finite() {
            return Err(DecodeError::NotFinite);
        }
        let unit = if fields.unit.is_empty() { self.base_unit } else { fields.unit };
        Ok(Resolved { base_name: self.base_name, name: fields.name, unit, value, time_s })
    }
}

impl<'a> Iterator for PackReader<'a> {
    type Item = Result<Resolved<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let item = self.read().transpose();
        self.finished = !matches!(item, Some(Ok(_)));
        item
    }
}

#[derive(Default)]
struct Fields<'a> {
    name: &'a str,
    unit: &'a str,
    value: Option<Value<'a>>,
    time_s: f64,
}

impl<'a> Fields<'a> {
    fn set(&mut self, value: Value<'a>) -> Result<(), DecodeError> {
        if self.value.replace(value).is_some() {
            return Err(DecodeError::NotOneValue);
        }
        Ok(())
    }
}

fn check_name(base_name: &str, name: &str) -> Result<(), DecodeError> {
    let mut characters = base_name.bytes().chain(name.bytes());
    let first_is_legal = characters.clone().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let all_are_legal = characters
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b':' | b'.' | b'/' | b'_'));
    let short_enough = base_name.len() + name.len() <= SENML_NAME_LEN_MAX;
    if first_is_legal && all_are_legal && short_enough { Ok(()) } else { Err(DecodeError::BadName) }
}
