//! What a server can be told.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::store::{DatabaseUrl, Retention, StoreError};

/// The settings of a server; layering files, environment and flags is the command line's work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The folder of the database; created when missing.
    pub data: PathBuf,
    /// Where HTTP is served: dashboard and API. Port 0 takes any free one.
    pub http: SocketAddr,
    /// Where devices connect by MQTT. Port 0 takes any free one.
    pub mqtt: SocketAddr,
    /// Names, besides loopback ones, by which browsers may address the server.
    pub allowed_hosts: Vec<String>,
    /// Seconds without a message after which a device counts as silent.
    pub silent_after_s: u32,
    /// Days for which readings are kept one by one; 0 keeps them for ever.
    pub retention_days: u32,
    /// Days for which their summaries by minutes are kept; 0 keeps them for ever.
    pub retention_minutes_days: u32,
    /// Days for which their summaries by hours are kept; 0 keeps them for ever.
    pub retention_hours_days: u32,
    /// Days for which alarms are kept after they were cleared; 0 keeps them for ever.
    pub retention_alarms_days: u32,

    // MQTT.
    /// Where devices connect by MQTT within TLS 1.3 besides; off unless named.
    pub mqtts: Listen,

    // Access.
    /// Addresses of reverse proxies that are believed when they say for whom they ask.
    pub trusted_proxies: Vec<IpAddr>,
    /// Whether `/metrics` needs no token from this computer.
    pub metrics_on_loopback: bool,
    /// Days for which the audit log is kept; 0 keeps it for ever.
    pub audit_days: u32,

    // Identity.
    /// Where dashboard and API are served over TLS 1.3 besides; off unless named.
    pub https: Listen,

    // Sealed sessions.
    /// Where devices without TLS connect by sealed sessions over TCP; off unless named.
    pub sealed: Listen,
    /// Somebody else's MQTT broker through which sealed sessions come: `mqtt://HOST:PORT`,
    /// `mqtts://HOST:PORT`, or `off`.
    pub foreign_broker: String,
    /// The file with `USER PASSWORD` for that broker; empty for none.
    pub foreign_broker_login: PathBuf,
    /// The file of the certificates (PEM) that sign that broker's; for `mqtts://` only.
    pub foreign_broker_ca: PathBuf,

    // Old packets.
    /// Where the old, unauthenticated packets are taken in, mostly on port 12351; off unless named.
    pub legacy: Listen,
    /// How far the clocks of their senders are ahead of UTC.
    pub legacy_utc_offset: UtcOffset,
    // MySQL.
    /// The address of a MySQL or MariaDB database, `mysql://USER:PASSWORD@HOST/DATABASE`, for what
    /// else is kept in the folder `data`; it has a password, so that there is no flag for it.
    pub database: DatabaseUrl,
    /// A file with that address, if it is not in the settings.
    pub database_file: PathBuf,
}

/// How far a clock is ahead of UTC: `+09:00`, `-03:30`, `+00:00`. Summer time is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UtcOffset {
    minutes: i16,
}

/// A text is no offset from UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an offset from UTC is written as +09:00 or -03:30, and is less than a day")]
pub struct BadUtcOffset;

impl UtcOffset {
    /// Returns how many seconds the clock is ahead.
    #[must_use]
    pub fn seconds(self) -> i32 {
        i32::from(self.minutes) * 60
    }
}

impl FromStr for UtcOffset {
    type Err = BadUtcOffset;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (sign, rest) = match text.as_bytes() {
            [b'+', rest @ ..] => (1, rest),
            [b'-', rest @ ..] => (-1, rest),
            _ => return Err(BadUtcOffset),
        };
        let &[h1, h2, b':', m1, m2] = rest else { return Err(BadUtcOffset) };
        if ![h1, h2, m1, m2].iter().all(u8::is_ascii_digit) {
            return Err(BadUtcOffset);
        }
        let two = |tens: u8, ones: u8| i16::from(tens - b'0') * 10 + i16::from(ones - b'0');
        let (hours, minutes) = (two(h1, h2), two(m1, m2));
        if hours >= 24 || minutes >= 60 {
            return Err(BadUtcOffset);
        }
        Ok(Self { minutes: sign * (hours * 60 + minutes) })
    }
}

impl TryFrom<String> for UtcOffset {
    type Error = BadUtcOffset;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<UtcOffset> for String {
    fn from(offset: UtcOffset) -> Self {
        offset.to_string()
    }
}

impl fmt::Display for UtcOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.minutes < 0 { '-' } else { '+' };
        let minutes = self.minutes.unsigned_abs();
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data: PathBuf::from("stonechat-data"),
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            mqtt: SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)),
            allowed_hosts: Vec::new(),
            silent_after_s: 60,
            retention_days: 0,
            mqtts: Listen::Off,
            trusted_proxies: Vec::new(),
            metrics_on_loopback: false,
            audit_days: 0,
            retention_minutes_days: 0,
            retention_hours_days: 0,
            retention_alarms_days: 0,
            https: Listen::Off,
            sealed: Listen::Off,
            foreign_broker: "off".to_owned(),
            foreign_broker_login: PathBuf::new(),
            foreign_broker_ca: PathBuf::new(),
            legacy: Listen::Off,
            legacy_utc_offset: UtcOffset::default(),
            database: DatabaseUrl::default(),
            database_file: PathBuf::new(),
        }
    }
}

/// Where something listens, if it does: `off`, or an address and a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    #[default]
    Off,
    /// Here; port 0 takes any free one.
    At(SocketAddr),
}

impl Listen {
    /// Returns the address, if there is one.
    #[must_use]
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "off" => Ok(Self::Off),
            text => text
                .parse()
                .map(Self::At)
                .map_err(|_| D::Error::custom("expected `off` or an address and a port")),
        }
    }
}

impl Settings {
    /// Returns the database to use instead of the data folder's, if there is one.
    ///
    /// # Errors
    /// When the file with its address cannot be read or holds none, or both are named.
    pub fn database_url(&self) -> Result<Option<DatabaseUrl>, StoreError> {
        let path = &self.database_file;
        let unusable = |reason: String| StoreError::DatabaseFile { path: path.clone(), reason };
        if path.as_os_str().is_empty() {
            return Ok((!self.database.is_empty()).then(|| self.database.clone()));
        }
        if !self.database.is_empty() {
            return Err(unusable("`database` is set as well; name one of them".into()));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        let url: DatabaseUrl = text
            .parse()
            .map_err(|error: crate::store::mysql::BadDatabaseUrl| unusable(error.to_string()))?;
        if url.is_empty() { Err(unusable("it is empty".into())) } else { Ok(Some(url)) }
    }

    /// Returns for how long each class of data is kept.
    #[must_use]
    pub fn retention(&self) -> Retention {
        let days =
            |days: u32| (days > 0).then(|| Duration::from_secs(u64::from(days) * 24 * 60 * 60));
        Retention {
            readings: days(self.retention_days),
            minutes: days(self.retention_minutes_days),
            hours: days(self.retention_hours_days),
            alarms: days(self.retention_alarms_days),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_off_or_at_an_address() {
        let read = |text: &str| serde_json::from_str::<Listen>(&format!("\"{text}\""));
        let address = "127.0.0.1:8443";
        assert_eq!(read("off").expect("legal"), Listen::Off);
        assert_eq!(read(address).expect("legal").address(), address.parse().ok());
        assert_eq!(read(address).expect("legal").to_string(), address);
        assert!(read("8443").is_err());
    }

    #[test]
    fn offsets_are_read_as_they_are_written() {
        for (text, seconds) in
            [("+00:00", 0), ("+09:00", 32_400), ("-03:30", -12_600), ("+23:59", 86_340)]
        {
            let offset: UtcOffset = text.parse().expect("legal");
            assert_eq!((offset.seconds(), offset.to_string().as_str()), (seconds, text));
        }
        for bad in ["", "09:00", "+9:00", "+24:00", "+01:60", "+0a:00", "+01:000", "Z", "+ 1:00"] {
            assert_eq!(bad.parse::<UtcOffset>(), Err(BadUtcOffset), "{bad:?}");
        }
    }

    #[test]
    fn unknown_keys_are_errors_and_missing_ones_default() {
        let some: Settings = serde_json::from_str(r#"{"silent_after_s": 5}"#).expect("known key");
        assert_eq!(some, Settings { silent_after_s: 5, ..Settings::default() });
        assert!(serde_json::from_str::<Settings>(r#"{"silent_after": 5}"#).is_err());
    }
}
