//! Passwords: argon2id (RFC 9106), one check at a time, so that a flood of sign-ins costs at most
//! half a core.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::{OnceCell, Semaphore, oneshot};

use super::AccessError;
use crate::limits::{
    ARGON2_LANES, ARGON2_MEMORY_KIB, ARGON2_PASSES, PASSWORD_CHECKS_AT_ONCE, PASSWORD_LEN_MAX,
    PASSWORD_LEN_MIN, PASSWORD_QUEUE_LEN,
};

/// Computes and checks hashes of passwords.
pub(super) struct Passwords {
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    /// The hash of no password: unknown accounts are checked against it, so that they take as
    /// long as known ones.
    decoy: OnceCell<String>,
    checks: AtomicU64,
    turned_away: AtomicU64,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(PASSWORD_CHECKS_AT_ONCE)),
            waiting: Arc::default(),
            decoy: OnceCell::new(),
            checks: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
        }
    }
}

/// A place in the queue, given back however the waiting ends.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Demands that a new password is hard to guess at the rate that the limits leave.
pub(super) fn require_good(name: &str, password: &str) -> Result<(), AccessError> {
    let len = password.chars().count();
    if len < PASSWORD_LEN_MIN || password.len() > PASSWORD_LEN_MAX {
        return Err(AccessError::PasswordLength);
    }
    let plain = password.to_lowercase();
    let mut distinct: Vec<char> = plain.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    if plain.contains(&name.to_lowercase()) && len < name.chars().count() + PASSWORD_LEN_MIN
        || distinct.len() < 5
    {
        return Err(AccessError::PasswordGuessable);
    }
    Ok(())
}

impl Passwords {
    /// Returns how many hashes were computed.
    pub(super) fn checks(&self) -> u64 {
        self.checks.load(Ordering::Relaxed)
    }

    /// Returns how many found the queue full.
    pub(super) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Computes the hash of a password, with a new salt, as a PHC string.
    pub(super) async fn hash(&self, password: String) -> Result<String, AccessError> {
        self.work(move || {
            let hash = argon2().hash_password(password.as_bytes());
            hash.map(|hash| hash.to_string()).map_err(|error| AccessError::Hash(error.to_string()))
        })
        .await?
    }

    /// Tells whether a password has this hash. Without a hash, or with a password that is too
    /// long, the answer is no after the same work.
    pub(super) async fn matches(
        &self,
        password: &str,
        hash: Option<&str>,
    ) -> Result<bool, AccessError> {
        let decoy = self.decoy.get_or_try_init(|| self.hash(String::new())).await?;
        let known = hash.is_some() && password.len() <= PASSWORD_LEN_MAX;
        let hash = hash.unwrap_or(decoy).to_owned();
        let password =
            if password.len() <= PASSWORD_LEN_MAX { password.to_owned() } else { String::new() };
        let equal = self
            .work(move || {
                let Ok(hash) = PasswordHash::new(&hash) else {
                    return false;
                };
                Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
            })
            .await?;
        Ok(known && equal)
    }

    /// Does work on a thread of its own, one at a time. As long as the work takes, as long the
    /// thread rests before the next: a flood leaves the cores to others.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AccessError> {
        let place = Place(self.waiting.clone());
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= PASSWORD_QUEUE_LEN {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return Err(AccessError::Busy);
        }
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| AccessError::Busy)?;
        self.checks.fetch_add(1, Ordering::Relaxed);
        let (sender, result) = oneshot::channel();
        // Whoever asked may be gone before it ends; the permit stays until then all the same.
        tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let done = work();
            let took = begun.elapsed();
            let _ = sender.send(done);
            std::thread::sleep(took);
            drop(permit);
        });
        let done = result.await.map_err(|_| AccessError::Busy);
        drop(place);
        done
    }
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES, None)
        .expect("the limits are legal parameters, as a test shows");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_names_its_parameters_and_fits_its_password_only() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse battery".to_owned()).await.expect("idle");
        let expected =
            format!("$argon2id$v=19$m={ARGON2_MEMORY_KIB},t={ARGON2_PASSES},p={ARGON2_LANES}$");
        assert!(hash.starts_with(&expected), "{hash}");
        assert!(passwords.matches("correct horse battery", Some(&hash)).await.expect("idle"));
        assert!(!passwords.matches("correct horse batterz", Some(&hash)).await.expect("idle"));
        assert!(!passwords.matches("", Some("no hash at all")).await.expect("idle"));
    }

    #[tokio::test]
    async fn a_hash_made_by_another_implementation_is_understood() {
        // Python's argon2-cffi 25.1 over the reference implementation in C: hash_secret(b"password",
        // b"somesaltsomesalt", time_cost=2, memory_cost=256, parallelism=1, hash_len=32, type=ID).
        let hash = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$yrdGtGIZk/3JHsUHh5gLQUqQppLwvGjf4Z+cJbPLqew";
        let passwords = Passwords::default();
        assert!(passwords.matches("password", Some(hash)).await.expect("idle"));
        assert!(!passwords.matches("Password", Some(hash)).await.expect("idle"));
    }

    #[tokio::test]
    async fn an_unknown_account_costs_as_much_as_a_known_one() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse battery".to_owned()).await.expect("idle");
        assert!(!passwords.matches("", None).await.expect("idle"), "the decoy's own password");
        let before = passwords.checks();
        assert!(!passwords.matches("wrong", Some(&hash)).await.expect("idle"));
        let known = passwords.checks() - before;
        assert!(!passwords.matches("wrong", None).await.expect("idle"));
        assert_eq!(passwords.checks() - before - known, known);
        assert!(!passwords.matches(&"x".repeat(PASSWORD_LEN_MAX + 1), None).await.expect("idle"));
        assert_eq!(passwords.checks() - before, 3 * known);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_flood_is_worked_off_one_by_one_and_turned_away_when_the_queue_is_full() {
        let passwords = Arc::new(Passwords::default());
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let many = PASSWORD_QUEUE_LEN * 3;
        let mut tasks = Vec::new();
        for _ in 0..many {
            let (passwords, now, most) = (passwords.clone(), now.clone(), most.clone());
            tasks.push(tokio::spawn(async move {
                let work = move || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(2));
                    now.fetch_sub(1, Ordering::SeqCst);
                };
                passwords.work(work).await.is_ok()
            }));
        }
        let mut done = 0;
        for task in tasks {
            done += usize::from(task.await.expect("no panic"));
        }
        assert_eq!(most.load(Ordering::SeqCst), PASSWORD_CHECKS_AT_ONCE);
        assert_eq!(done + passwords.turned_away() as usize, many);
        assert!(passwords.turned_away() > 0, "the queue was never full");
        passwords.work(|| ()).await.expect("there is room again");
    }

    #[test]
    fn new_passwords_are_long_and_not_the_name() {
        for bad in ["short", "elevenchars", "aaaaaaaaaaaaaaaa", "Anna-anna-ann"] {
            assert!(require_good("anna", bad).is_err(), "{bad}");
        }
        assert!(require_good("anna", &"x1y2z3".repeat(PASSWORD_LEN_MAX)).is_err());
        require_good("anna", "correct horse battery").expect("good");
        require_good("anna", "ein langer Satz für Anna").expect("long enough beside the name");
    }
}
