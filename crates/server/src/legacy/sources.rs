//! What one source may ask for. Each ciphertext takes a credit; one that turns out to be a packet of a
//! registered device gives it back, garbage does not. Credits grow again slowly, so that a source that
//! sends garbage is served at that pace and costs next to nothing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::limits::{
    LEGACY_CONNECTIONS_PER_SOURCE_MAX, LEGACY_CREDITS_MAX, LEGACY_CREDITS_PER_S, LEGACY_SOURCES_MAX,
};

/// The sources.
#[derive(Debug, Default)]
pub(super) struct Sources {
    known: Mutex<HashMap<IpAddr, Source>>,
}

#[derive(Debug)]
struct Source {
    connections: usize,
    credits: f64,
    counted: Instant,
}

impl Source {
    fn grow(&mut self, now: Instant) {
        let grown =
            now.saturating_duration_since(self.counted).as_secs_f64() * LEGACY_CREDITS_PER_S;
        self.credits = (self.credits + grown).min(LEGACY_CREDITS_MAX);
        self.counted = now;
    }
}

/// A connection of a source; it is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    sources: Arc<Sources>,
    source: IpAddr,
}

impl Sources {
    /// Lets a connection in; none if the source has too many, or there are too many sources.
    pub(super) fn enter(sources: &Arc<Self>, address: IpAddr) -> Option<Guest> {
        let source = source_of(address);
        let now = Instant::now();
        let mut known = sources.known.lock();
        if known.len() >= LEGACY_SOURCES_MAX && !known.contains_key(&source) {
            // Who is here, or was garbled lately, is remembered.
            known.retain(|_, source| {
                source.grow(now);
                source.connections > 0 || source.credits < LEGACY_CREDITS_MAX
            });
            if known.len() >= LEGACY_SOURCES_MAX {
                return None;
            }
        }
        let new = || Source { connections: 0, credits: LEGACY_CREDITS_MAX, counted: now };
        let entry = known.entry(source).or_insert_with(new);
        if entry.connections >= LEGACY_CONNECTIONS_PER_SOURCE_MAX {
            return None;
        }
        entry.connections += 1;
        drop(known);
        Some(Guest { sources: sources.clone(), source })
    }
}

impl Guest {
    /// Takes a credit, if there is one.
    pub(super) fn take(&self) -> bool {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> bool {
        let mut known = self.sources.known.lock();
        let Some(source) = known.get_mut(&self.source) else { return false };
        source.grow(now);
        let has_one = source.credits >= 1.0;
        if has_one {
            source.credits -= 1.0;
        }
        has_one
    }

    /// Gives a credit back.
    pub(super) fn give_back(&self) {
        if let Some(source) = self.sources.known.lock().get_mut(&self.source) {
            source.credits = (source.credits + 1.0).min(LEGACY_CREDITS_MAX);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(source) = self.sources.known.lock().get_mut(&self.source) {
            source.connections = source.connections.saturating_sub(1);
        }
    }
}

/// One subscriber has a whole /64 of IPv6 addresses.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("legal")
    }

    #[test]
    fn garbage_uses_credits_up_and_packets_do_not() {
        let sources = Arc::new(Sources::default());
        let guest = Sources::enter(&sources, address("192.0.2.1")).expect("room");
        let now = Instant::now();
        for _ in 0..LEGACY_CREDITS_MAX as usize * 3 {
            assert!(guest.take_at(now));
            guest.give_back();
        }
        let taken = (0..LEGACY_CREDITS_MAX as usize * 3).filter(|_| guest.take_at(now)).count();
        assert!(taken <= LEGACY_CREDITS_MAX as usize + 1, "{taken}");
        assert!(!guest.take_at(now));
        let other = Sources::enter(&sources, address("192.0.2.2")).expect("room");
        assert!(other.take_at(now), "another source is not held up");
        let later = now + Duration::from_secs_f64(3.5 / LEGACY_CREDITS_PER_S);
        assert_eq!((0..10).filter(|_| guest.take_at(later)).count(), 3);
        // Coming again does not help.
        drop(guest);
        let again = Sources::enter(&sources, address("192.0.2.1")).expect("room");
        assert!(!again.take_at(later));
    }

    #[test]
    fn connections_are_counted_by_source() {
        let sources = Arc::new(Sources::default());
        let enter = |text: &str| Sources::enter(&sources, address(text));
        let mut guests: Vec<_> = (0..LEGACY_CONNECTIONS_PER_SOURCE_MAX)
            .map(|host| enter(&format!("2001:db8::{host:x}")).expect("room"))
            .collect();
        assert!(enter("2001:db8::ffff").is_none(), "the same network");
        assert!(enter("2001:db8:0:1::1").is_some(), "another network");
        guests.pop();
        assert!(enter("2001:db8::ffff").is_some());
        assert_eq!(source_of(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }

    #[test]
    fn sources_are_bounded() {
        let sources = Arc::new(Sources::default());
        let host = |number: usize| IpAddr::from((number as u32).to_be_bytes());
        for number in 0..LEGACY_SOURCES_MAX * 2 {
            assert!(Sources::enter(&sources, host(number)).is_some());
            assert!(sources.known.lock().len() <= LEGACY_SOURCES_MAX);
        }
    }
}
