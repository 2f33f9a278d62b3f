//! Which devices are connected, and which have news since somebody last looked.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use parking_lot::Mutex;

/// What tells the connections of one device apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Where it comes from.
    pub peer: Option<SocketAddr>,
    /// When it began, in unix milliseconds.
    pub since_ms: i64,
}

/// Which devices are connected, and which have news.
#[derive(Debug, Default)]
pub struct Presence {
    /// A device has one connection: a new one takes over.
    connections: Mutex<HashMap<String, Connection>>,
    changed: Mutex<HashSet<String>>,
}

impl Presence {
    /// Notes that a device connected.
    pub fn connected(&self, device: &str, connection: Connection) {
        self.connections.lock().insert(device.to_owned(), connection);
        self.changed(device);
    }

    /// Notes that a connection of a device ended; if another took over, the device stays online.
    pub fn disconnected(&self, device: &str, connection: Connection) {
        let mut connections = self.connections.lock();
        if connections.get(device) == Some(&connection) {
            connections.remove(device);
        }
        drop(connections);
        self.changed(device);
    }

    /// Notes that there is news of a device.
    pub fn changed(&self, device: &str) {
        let mut changed = self.changed.lock();
        if !changed.contains(device) {
            changed.insert(device.to_owned());
        }
    }

    /// Takes the devices with news.
    pub fn take_changed(&self) -> HashSet<String> {
        std::mem::take(&mut *self.changed.lock())
    }

    /// Tells whether a device is connected.
    #[must_use]
    pub fn is_online(&self, device: &str) -> bool {
        self.connections.lock().contains_key(device)
    }

    /// Counts the connected devices.
    #[must_use]
    pub fn online(&self) -> usize {
        self.connections.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_takeover_leaves_the_device_online() {
        let presence = Presence::default();
        let first = Connection { peer: None, since_ms: 1 };
        let second = Connection { peer: None, since_ms: 2 };
        presence.connected("pump", first);
        presence.connected("pump", second);
        presence.disconnected("pump", first);
        assert!(presence.is_online("pump"));
        presence.disconnected("pump", second);
        assert!(!presence.is_online("pump"));
        assert_eq!(presence.take_changed(), HashSet::from(["pump".to_owned()]));
        assert!(presence.take_changed().is_empty());
    }
}
