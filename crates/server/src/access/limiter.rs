//! How often somebody may: bounded tables of rates, and the back-off of failed sign-ins.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::limits::{
    RATE_KEYS_MAX, SIGN_IN_BACKOFF_FIRST_MS, SIGN_IN_BACKOFF_MAX_MS, SIGN_IN_FAILURES_FREE,
    SIGN_IN_FAILURES_FREE_ANYWHERE, SIGN_IN_FAILURES_KEPT_MS,
};

/// A steady pace with a burst before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Milliseconds for each one, in the long run.
    pub interval_ms: i64,
    /// How many may come at once.
    pub burst: i64,
}

impl Pace {
    /// So many a second.
    #[must_use]
    pub const fn per_second(count: i64, burst: i64) -> Self {
        Self { interval_ms: 1_000 / count, burst }
    }

    /// One each so many seconds.
    #[must_use]
    pub const fn every_seconds(seconds: i64, burst: i64) -> Self {
        Self { interval_ms: seconds * 1_000, burst }
    }
}

/// Who asks, for the sake of limits: an IPv4 address, or the network of an IPv6 address, of which
/// anybody has as many as he likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceNet(IpAddr);

impl From<IpAddr> for SourceNet {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        })
    }
}

/// It was too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// When to try again, in milliseconds from now; at least 1.
    pub retry_after_ms: i64,
}

/// A table with at most so many keys. Keys are hashed with a secret, so that nobody can aim at
/// another's.
struct Table<T> {
    hasher: RandomState,
    entries: Mutex<HashMap<u64, T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { hasher: RandomState::new(), entries: Mutex::default() }
    }
}

impl<T: Default> Table<T> {
    /// Works on the entry of a key. Where the table is full, what `idle` tells goes first, then
    /// any.
    fn with<R>(
        &self,
        key: &impl Hash,
        idle: impl Fn(&T) -> bool,
        work: impl FnOnce(&mut T) -> R,
    ) -> R {
        let key = self.hasher.hash_one(key);
        let mut entries = self.entries.lock();
        if entries.len() >= RATE_KEYS_MAX && !entries.contains_key(&key) {
            entries.retain(|_, entry| !idle(entry));
            // Half of them at once, so that the search above stays rare.
            if entries.len() >= RATE_KEYS_MAX {
                let any: Vec<u64> = entries.keys().copied().take(RATE_KEYS_MAX / 2).collect();
                any.iter().for_each(|key| drop(entries.remove(key)));
            }
        }
        work(entries.entry(key).or_default())
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.lock().len()
    }
}

/// Rates of one kind of request, by whoever makes them.
#[derive(Default)]
pub(super) struct Rates {
    /// For each key the time at which it would be back at rest (the "virtual scheduling" form of
    /// the generic cell rate algorithm, ITU-T I.371).
    at_rest_ms: Table<i64>,
    limited: AtomicU64,
}

impl Rates {
    /// Counts one, or tells when there will be room for it.
    pub(super) fn take(&self, key: &impl Hash, pace: Pace, now_ms: i64) -> Result<(), Limited> {
        let room_ms = pace.interval_ms * (pace.burst - 1);
        let outcome = self.at_rest_ms.with(
            key,
            |at_rest_ms| *at_rest_ms <= now_ms,
            |at_rest_ms| {
                let due_ms = (*at_rest_ms).max(now_ms);
                let early_ms = due_ms - now_ms - room_ms;
                if early_ms > 0 {
                    return Err(Limited { retry_after_ms: early_ms });
                }
                *at_rest_ms = due_ms + pace.interval_ms;
                Ok(())
            },
        );
        if outcome.is_err() {
            self.limited.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// Returns how many were refused.
    pub(super) fn limited(&self) -> u64 {
        self.limited.load(Ordering::Relaxed)
    }
}

/// The failed sign-ins of one account: in all, or from one source.
#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    count: u32,
    last_ms: i64,
    closed_until_ms: i64,
    /// Whether a sign-in succeeded here: then failures from elsewhere do not shut it out.
    familiar: bool,
}

impl Failures {
    fn forget_old(&mut self, now_ms: i64) {
        if now_ms - self.last_ms > SIGN_IN_FAILURES_KEPT_MS {
            *self = Self { familiar: self.familiar, ..Self::default() };
        }
    }

    fn add(&mut self, free: u32, now_ms: i64) {
        self.forget_old(now_ms);
        self.count = self.count.saturating_add(1);
        self.last_ms = now_ms;
        if self.count >= free {
            let doublings = (self.count - free).min(20);
            let wait_ms = (SIGN_IN_BACKOFF_FIRST_MS << doublings).min(SIGN_IN_BACKOFF_MAX_MS);
            self.closed_until_ms = now_ms + wait_ms;
        }
    }

    fn check(&self, now_ms: i64) -> Result<(), Limited> {
        let retry_after_ms = self.closed_until_ms - now_ms;
        if retry_after_ms > 0 { Err(Limited { retry_after_ms }) } else { Ok(()) }
    }

    fn is_idle(&self, now_ms: i64) -> bool {
        !self.familiar && now_ms - self.last_ms > SIGN_IN_FAILURES_KEPT_MS
    }
}

/// The back-off of failed sign-ins, the same for accounts that do not exist.
#[derive(Default)]
pub(super) struct SignIns {
    by_account_and_source: Table<Failures>,
    by_account: Table<Failures>,
    limited: AtomicU64,
}

impl SignIns {
    /// Tells whether a sign-in may be tried now, and counts it as failed until
    /// [`SignIns::succeeded`]: many at once are no way around.
    pub(super) fn begin(
        &self,
        account: &str,
        source: SourceNet,
        now_ms: i64,
    ) -> Result<(), Limited> {
        let idle = |failures: &Failures| failures.is_idle(now_ms);
        let familiar = self.by_account_and_source.with(&(account, source), idle, |failures| {
            failures.forget_old(now_ms);
            failures.check(now_ms)?;
            failures.add(SIGN_IN_FAILURES_FREE, now_ms);
            Ok(failures.familiar)
        });
        let outcome = familiar.and_then(|familiar| {
            self.by_account.with(&account, idle, |failures| {
                failures.forget_old(now_ms);
                if !familiar {
                    failures.check(now_ms)?;
                }
                failures.add(SIGN_IN_FAILURES_FREE_ANYWHERE, now_ms);
                Ok(())
            })
        });
        if outcome.is_err() {
            self.limited.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// Forgets the failures of this source, and takes back what [`SignIns::begin`] counted for
    /// the account.
    pub(super) fn succeeded(&self, account: &str, source: SourceNet, now_ms: i64) {
        let idle = |failures: &Failures| failures.is_idle(now_ms);
        self.by_account_and_source.with(&(account, source), idle, |failures| {
            *failures = Failures { familiar: true, last_ms: now_ms, ..Failures::default() };
        });
        self.by_account.with(&account, idle, |failures| {
            failures.count = failures.count.saturating_sub(1);
        });
    }

    /// Returns how many were refused.
    pub(super) fn limited(&self) -> u64 {
        self.limited.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> SourceNet {
        SourceNet::from(text.parse::<IpAddr>().expect("an address"))
    }

    #[test]
    fn a_pace_lets_its_burst_through_and_then_one_at_a_time() {
        let rates = Rates::default();
        let pace = Pace { interval_ms: 100, burst: 3 };
        for _ in 0..3 {
            assert_eq!(rates.take(&"anna", pace, 1_000), Ok(()));
        }
        assert_eq!(rates.take(&"anna", pace, 1_000), Err(Limited { retry_after_ms: 100 }));
        assert_eq!(rates.take(&"bert", pace, 1_000), Ok(()));
        assert_eq!(rates.take(&"anna", pace, 1_099), Err(Limited { retry_after_ms: 1 }));
        assert_eq!(rates.take(&"anna", pace, 1_100), Ok(()));
        assert_eq!(rates.take(&"anna", pace, 1_101), Err(Limited { retry_after_ms: 99 }));
        assert_eq!(rates.limited(), 3);
        for _ in 0..3 {
            assert_eq!(rates.take(&"anna", pace, 9_000), Ok(()), "at rest again");
        }
    }

    #[test]
    fn a_table_stays_bounded_however_many_sources_there_are() {
        let rates = Rates::default();
        let pace = Pace { interval_ms: 100, burst: 1 };
        for key in 0..RATE_KEYS_MAX * 3 {
            rates.take(&key, pace, 0).expect("each is new");
            assert!(rates.at_rest_ms.len() <= RATE_KEYS_MAX);
        }
        // Those at rest go first: one that is not stays.
        let rates = Rates::default();
        rates.take(&"busy", Pace { interval_ms: 10_000, burst: 1 }, 0).expect("first");
        for key in 0..RATE_KEYS_MAX {
            rates.take(&key, pace, 0).expect("each is new");
            if key == RATE_KEYS_MAX - 2 {
                rates.take(&"new", pace, 5_000).expect("new");
            }
        }
        assert!(rates.take(&"busy", pace, 5_000).is_err());
    }

    #[test]
    fn neighbours_of_one_network_count_as_one() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.7"), source("192.0.2.7"));
        assert_ne!(source("192.0.2.7"), source("192.0.2.8"));
    }

    #[test]
    fn failed_sign_ins_back_off_twice_as_long_each_time() {
        let (sign_ins, here) = (SignIns::default(), source("192.0.2.7"));
        let mut now_ms = 0;
        for _ in 0..SIGN_IN_FAILURES_FREE {
            sign_ins.begin("anna", here, now_ms).expect("free");
        }
        for doublings in 0..12 {
            let wait_ms = (1_000 << doublings).min(SIGN_IN_BACKOFF_MAX_MS);
            let refused = sign_ins.begin("anna", here, now_ms);
            assert_eq!(refused, Err(Limited { retry_after_ms: wait_ms }));
            assert!(sign_ins.begin("bert", here, now_ms).is_ok(), "another account");
            sign_ins.succeeded("bert", here, now_ms);
            now_ms += wait_ms;
            sign_ins.begin("anna", here, now_ms).expect("the wait is over");
        }
        sign_ins.begin("anna", source("192.0.2.8"), now_ms).expect("another source");
        now_ms += SIGN_IN_FAILURES_KEPT_MS + 1;
        for _ in 0..SIGN_IN_FAILURES_FREE {
            sign_ins.begin("anna", here, now_ms).expect("forgotten");
        }
    }

    #[test]
    fn many_sources_together_are_slowed_down_but_do_not_shut_out_the_known_one() {
        let (sign_ins, home) = (SignIns::default(), source("198.51.100.1"));
        sign_ins.begin("anna", home, 0).expect("free");
        sign_ins.succeeded("anna", home, 0);
        let tried = (0..100_u8)
            .filter(|last| {
                let from = source(&format!("192.0.2.{last}"));
                sign_ins.begin("anna", from, i64::from(*last)).is_ok()
            })
            .count();
        assert_eq!(tried, SIGN_IN_FAILURES_FREE_ANYWHERE as usize);
        sign_ins.begin("anna", home, 101).expect("it signed in from here before");
        sign_ins.begin("bert", source("192.0.2.1"), 101).expect("another account");
    }
}
