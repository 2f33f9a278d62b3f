//! How often something may happen, for each of a bounded number of sources.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Instant;

/// A rate: so many a second, so many at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) per_s: f64,
    pub(super) burst: f64,
}

/// A bucket that fills at a rate and from which each event takes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    level: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self { level: rate.burst, at: now }
    }

    /// Takes one, if there is one.
    pub(super) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.level = self.level_at(rate, now);
        self.at = now;
        let may = self.level >= 1.0;
        if may {
            self.level -= 1.0;
        }
        may
    }

    fn level_at(&self, rate: Rate, now: Instant) -> f64 {
        let elapsed_s = now.saturating_duration_since(self.at).as_secs_f64();
        (self.level + elapsed_s * rate.per_s).min(rate.burst)
    }
}

/// A bucket for each source.
#[derive(Debug)]
pub(super) struct Buckets<K> {
    rate: Rate,
    sources_max: usize,
    buckets: HashMap<K, Bucket>,
}

impl<K: Eq + Hash> Buckets<K> {
    pub(super) fn new(rate: Rate, sources_max: usize) -> Self {
        Self { rate, sources_max, buckets: HashMap::new() }
    }

    /// Takes one for a source; no when it had too many, or when too many sources had some lately.
    pub(super) fn take(&mut self, source: K, now: Instant) -> bool {
        let rate = self.rate;
        if self.buckets.len() >= self.sources_max && !self.buckets.contains_key(&source) {
            // Who has a full bucket again needs not be remembered.
            self.buckets.retain(|_, bucket| bucket.level_at(rate, now) < rate.burst);
            if self.buckets.len() >= self.sources_max {
                return false;
            }
        }
        self.buckets.entry(source).or_insert_with(|| Bucket::new(rate, now)).take(rate, now)
    }
}

/// What counts as one source: an address, or the 64 bits of IPv6 that one site has.
pub(super) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let site = v6.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(site.into())
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_source_has_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut buckets = Buckets::new(Rate { per_s: 2.0, burst: 3.0 }, 2);
        let taken = (0..10).filter(|_| buckets.take("a", start)).count();
        assert_eq!(taken, 3);
        assert!(buckets.take("b", start), "another source has its own");
        assert!(!buckets.take("c", start), "but there are no more of them than may be");
        let later = start + Duration::from_millis(1_100);
        assert_eq!((0..10).filter(|_| buckets.take("a", later)).count(), 2);
        assert!(buckets.take("c", later + Duration::from_secs(10)), "others are forgotten");
    }

    #[test]
    fn a_site_of_ipv6_is_one_source() {
        let of = |text: &str| source(text.parse().expect("legal"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.2"), of("10.0.0.1"));
    }
}
