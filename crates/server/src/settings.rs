//! What a server can be told.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

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
        }
    }
}

impl Settings {
    /// Returns the time for which readings are kept, if it is bounded.
    #[must_use]
    pub fn retention(&self) -> Option<Duration> {
        (self.retention_days > 0)
            .then(|| Duration::from_secs(u64::from(self.retention_days) * 24 * 60 * 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_errors_and_missing_ones_default() {
        let some: Settings = serde_json::from_str(r#"{"silent_after_s": 5}"#).expect("known key");
        assert_eq!(some, Settings { silent_after_s: 5, ..Settings::default() });
        assert!(serde_json::from_str::<Settings>(r#"{"silent_after": 5}"#).is_err());
    }
}
