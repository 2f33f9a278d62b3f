//! How often each source may connect: who does nothing but connect must not keep the others out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::limits::{
    MQTT_SOURCE_CONNECTS_BURST, MQTT_SOURCE_CONNECTS_PER_S, MQTT_SOURCE_HANDSHAKES_MAX,
    MQTT_SOURCES_MAX,
};

/// The sources that connected lately.
#[derive(Debug, Default)]
pub(super) struct Sources {
    known: Mutex<HashMap<IpAddr, Source>>,
}

#[derive(Debug)]
struct Source {
    /// How many connections it may open at once; refilled with time.
    credit: f64,
    refilled: Instant,
    handshakes: usize,
}

impl Source {
    fn new(now: Instant) -> Self {
        Self { credit: MQTT_SOURCE_CONNECTS_BURST, refilled: now, handshakes: 0 }
    }

    fn refill(&mut self, now: Instant) {
        let passed_s = now.saturating_duration_since(self.refilled).as_secs_f64();
        let credit = self.credit + passed_s * MQTT_SOURCE_CONNECTS_PER_S;
        self.credit = credit.min(MQTT_SOURCE_CONNECTS_BURST);
        self.refilled = now;
    }

    fn is_idle(&self) -> bool {
        self.handshakes == 0 && self.credit >= MQTT_SOURCE_CONNECTS_BURST
    }
}

/// A handshake of a source that is under way.
#[derive(Debug)]
pub(super) struct Handshake {
    sources: Arc<Sources>,
    address: IpAddr,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        if let Some(source) = self.sources.known.lock().get_mut(&self.address) {
            source.handshakes = source.handshakes.saturating_sub(1);
        }
    }
}

impl Sources {
    /// Lets a source begin a handshake, unless it begins too many.
    pub(super) fn begin(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Handshake> {
        let mut known = self.known.lock();
        let mut address = network(address);
        if !known.contains_key(&address) && known.len() >= MQTT_SOURCES_MAX {
            known.retain(|_, source| {
                source.refill(now);
                !source.is_idle()
            });
            if known.len() >= MQTT_SOURCES_MAX {
                // Nobody is forgotten while busy; the rest share one account.
                address = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            }
        }
        let source = known.entry(address).or_insert_with(|| Source::new(now));
        source.refill(now);
        if source.credit < 1.0 || source.handshakes >= MQTT_SOURCE_HANDSHAKES_MAX {
            return None;
        }
        source.credit -= 1.0;
        source.handshakes += 1;
        Some(Handshake { sources: self.clone(), address })
    }
}

/// Who has one address of an IPv6 network of 64 bits has all of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_source_that_only_connects_is_slowed_down_alone() {
        let sources = Arc::new(Sources::default());
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let now = Instant::now();
        let burst = MQTT_SOURCE_CONNECTS_BURST as usize;
        for _ in 0..burst {
            assert!(sources.begin(one, now).is_some());
        }
        assert!(sources.begin(one, now).is_none(), "the burst is spent");
        assert!(sources.begin(other, now).is_some(), "others are not concerned");
        let later = now + Duration::from_secs_f64(10.0 / MQTT_SOURCE_CONNECTS_PER_S);
        let again = (0..burst).filter(|_| sources.begin(one, later).is_some()).count();
        assert!((9..=10).contains(&again), "{again}");
    }

    #[test]
    fn handshakes_under_way_are_bounded() {
        let sources = Arc::new(Sources::default());
        let one = IpAddr::from([10, 0, 0, 1]);
        let now = Instant::now();
        let mut under_way: Vec<_> =
            (0..MQTT_SOURCE_HANDSHAKES_MAX).map(|_| sources.begin(one, now)).collect();
        assert!(under_way.iter().all(Option::is_some));
        assert!(sources.begin(one, now).is_none());
        under_way.pop();
        assert!(sources.begin(one, now).is_some());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let sources = Arc::new(Sources::default());
        let now = Instant::now();
        for number in 0..MQTT_SOURCES_MAX as u32 + 100 {
            drop(sources.begin(IpAddr::from(number.to_be_bytes()), now));
        }
        assert!(sources.known.lock().len() <= MQTT_SOURCES_MAX + 1);
        let one: IpAddr = "2001:db8::1".parse().expect("legal");
        let neighbour: IpAddr = "2001:db8::2".parse().expect("legal");
        assert_eq!(network(one), network(neighbour));
        assert_ne!(network(one), network("2001:db8:0:1::1".parse().expect("legal")));
    }
}
