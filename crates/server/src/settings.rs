//! What a server can be told.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::store::Retention;

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
    /// Days for which readings are kept; 0 keeps them for ever.
    pub retention_days: u32,

    // Identity.
    /// Where dashboard and API are served over TLS 1.3 besides; off unless named.
    pub https: Listen,
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
            https: Listen::Off,
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
    /// Returns for how long each class of data is kept.
    #[must_use]
    pub fn retention(&self) -> Retention {
        let days =
            |days: u32| (days > 0).then(|| Duration::from_secs(u64::from(days) * 24 * 60 * 60));
        Retention { readings: days(self.retention_days) }
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
    fn unknown_keys_are_errors_and_missing_ones_default() {
        let some: Settings = serde_json::from_str(r#"{"silent_after_s": 5}"#).expect("known key");
        assert_eq!(some, Settings { silent_after_s: 5, ..Settings::default() });
        assert!(serde_json::from_str::<Settings>(r#"{"silent_after": 5}"#).is_err());
    }
}
