//! Who may use the server: accounts with roles, sessions, API tokens with scopes, the one-time
//! set-up link, rate limits, and the audit log of what they did.
//!
//! Everything is kept as records in the store and read from there for each request: what is
//! changed here or by a command line beside the server holds from the next request on.

mod account;
pub mod audit;
pub mod limiter;
mod link;
mod password;
mod role;
pub mod secret;
mod session;
#[cfg(test)]
mod tests;
mod token;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::DeserializeOwned;

pub use self::account::AccountSummary;
pub use self::audit::{Act, Audit, Ending};
pub use self::limiter::{Limited, Pace, SourceNet};
use self::limiter::{Rates, SignIns};
use self::password::Passwords;
pub use self::role::{Need, Role, Scope, UnknownName};
pub use self::secret::Credential;
pub use self::session::{SessionSummary, SignedIn};
pub use self::token::{API_TOKEN_PREFIX, NewToken, TokenSummary};
use crate::limits::{
    ACCOUNT_NAME_LEN_MAX, PACE_OF_ALL_NOTES_IN_VAIN, PACE_OF_NOTES_IN_VAIN, PASSWORD_LEN_MAX,
    PASSWORD_LEN_MIN,
};
use crate::store::StoreError;
use crate::store::record::{Record, Records};

/// Who acts, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// An account, `token:NAME`, `cli:USER`, or `anonymous`.
    pub who: String,
    /// An address, or `local`.
    pub from: String,
}

impl Actor {
    /// Somebody at the command line.
    #[must_use]
    pub fn command_line(user: &str) -> Self {
        Self { who: format!("cli:{user}"), from: "local".to_owned() }
    }

    /// The server itself.
    #[must_use]
    pub fn server() -> Self {
        Self { who: "server".to_owned(), from: "local".to_owned() }
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The address of who asks.
    pub address: IpAddr,
    /// Whether it came encrypted.
    pub https: bool,
}

impl Default for Origin {
    /// What is asked from within: loopback, unencrypted.
    fn default() -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::LOCALHOST), https: false }
    }
}

impl Origin {
    /// Returns the address as the audit log shows it.
    #[must_use]
    pub fn shown(&self) -> String {
        self.address.to_canonical().to_string()
    }
}

/// A person who is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The account's name.
    pub account: String,
    /// What he may do.
    pub role: Role,
    /// The session, without its secret.
    pub session: String,
    /// When it ends at the latest, in unix milliseconds.
    pub expires_ms: i64,
}

/// A program with an API token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The token, without its secret.
    pub token: String,
    /// What it is called.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Nobody in particular.
    Anonymous,
    /// Somebody with a session.
    Person(Person),
    /// Something with an API token.
    Program(Program),
}

impl Principal {
    /// Tells whether he may do what needs this.
    #[must_use]
    pub fn may(&self, need: Need) -> bool {
        match self {
            Self::Anonymous => need == Need::Nothing,
            Self::Person(person) => person.role.may(need),
            Self::Program(program) => {
                need == Need::Nothing || program.scopes.iter().any(|scope| scope.may(need))
            }
        }
    }

    /// Names him for the audit log.
    #[must_use]
    pub fn actor(&self, origin: &Origin) -> Actor {
        let who = match self {
            Self::Anonymous => "anonymous".to_owned(),
            Self::Person(person) => person.account.clone(),
            Self::Program(program) => format!("token:{}", program.name),
        };
        Actor { who, from: origin.shown() }
    }
}

/// Why something about access was not done.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gave no random numbers.
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// A password could not be hashed.
    #[error("a password could not be hashed: {0}")]
    Hash(String),
    /// A record cannot be read.
    #[error("a record of the access control is damaged; `stonechat audit verify` tells more")]
    Damaged,
    /// Too many passwords wait to be checked.
    #[error("too many sign-ins at once; try again in a moment")]
    Busy,
    /// It was too often.
    #[error("too many attempts; try again in {} s", .0.retry_after_ms.max(1).unsigned_abs().div_ceil(1000))]
    Limited(Limited),
    /// A name is not legal.
    #[error(
        "a name has 1 to {ACCOUNT_NAME_LEN_MAX} characters out of a-z, 0-9, and - _ . @ between them"
    )]
    BadName,
    /// A new password is too short or too long.
    #[error(
        "a password has at least {PASSWORD_LEN_MIN} characters and at most {PASSWORD_LEN_MAX} bytes"
    )]
    PasswordLength,
    /// A new password is easy to guess.
    #[error("this password is easy to guess; take several words that do not belong together")]
    PasswordGuessable,
    /// The name or the password is wrong.
    #[error("the name or the password is wrong")]
    WrongPassword,
    /// There is no such account.
    #[error("there is no account {0}")]
    UnknownAccount(String),
    /// There is such an account.
    #[error("the account {0} exists already")]
    AccountExists(String),
    /// There would be nobody left to administer.
    #[error("this is the last admin; make another account an admin first")]
    LastAdmin,
    /// There are as many as there may be.
    #[error("there are {0} already, no more are possible; remove some first")]
    TooMany(usize),
    /// There is no such session.
    #[error("there is no such session; it may be over")]
    UnknownSession,
    /// There is no such API token.
    #[error("there is no API token {0}")]
    UnknownToken(String),
    /// There is an API token with this name.
    #[error("there is an API token {0} already; revoke it, or choose another name")]
    TokenExists(String),
    /// A token needs a scope.
    #[error("a token needs at least one scope: read, operate, admin, ingest or metrics")]
    NoScope,
    /// A link does not hold.
    #[error(
        "this link was used before or has expired; start the server again for a new one, or use `stonechat account`"
    )]
    LinkInvalid,
    /// Somebody else changed the same at the same time.
    #[error("somebody changed the same at the same time; look at it again, then try again")]
    Changed,
}

/// What happened so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sign-ins that succeeded.
    pub signed_in: AtomicU64,
    /// Sign-ins with a wrong name, password or link.
    pub refused: AtomicU64,
    /// Requests without the credentials that they need.
    pub unauthorised: AtomicU64,
    /// Requests of somebody who may not do that.
    pub forbidden: AtomicU64,
}

/// Access control over the records of a store.
pub struct Access {
    records: Arc<dyn Records>,
    audit: Audit,
    passwords: Passwords,
    rates: Rates,
    in_vain: Rates,
    sign_ins: SignIns,
    counters: Counters,
    /// Refused and failed acts since the last one that was noted.
    unnoted: AtomicU64,
}

impl Access {
    /// Takes the accounts, sessions and tokens in a store; another process may change them, too.
    #[must_use]
    pub fn new(records: Arc<dyn Records>) -> Self {
        Self {
            audit: Audit::of(records.clone()),
            records,
            passwords: Passwords::default(),
            rates: Rates::default(),
            in_vain: Rates::default(),
            sign_ins: SignIns::default(),
            counters: Counters::default(),
            unnoted: AtomicU64::new(0),
        }
    }

    /// Signs in without a password, for tests; makes the account when it is missing.
    #[cfg(test)]
    pub(crate) async fn session_for_test(&self, name: &str, role: Role) -> Credential {
        if self.find_account(name).await.expect("readable").is_none() {
            let made = self.put_new_account(&Actor::server(), name, role, None, Vec::new()).await;
            made.expect("new");
        }
        let (_, account) = self.find_account(name).await.expect("readable").expect("it is there");
        let (actor, now_ms) = (Actor::server(), crate::clock::now_ms());
        let begun = self.begin_session(name, &account, &actor, "test", None, now_ms).await;
        begun.expect("stored").credential
    }

    /// Returns the audit log.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Notes an act that was refused or failed; in a flood of them only some, of which each tells
    /// how many were left out: nobody fills the disk from outside.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_in_vain(&self, act: &Act<'_>, now_ms: i64) -> Result<(), StoreError> {
        let who = (&act.actor.who, &act.actor.from, "in vain");
        let room = self.in_vain.take(&who, PACE_OF_NOTES_IN_VAIN, now_ms).is_ok()
            && self.in_vain.take(&"in vain", PACE_OF_ALL_NOTES_IN_VAIN, now_ms).is_ok();
        if !room {
            count(&self.unnoted);
            return Ok(());
        }
        let more = self.unnoted.swap(0, Ordering::Relaxed);
        if more == 0 {
            return self.audit.note(act).await;
        }
        let subject = format!("{} ({more} more in vain were not noted)", act.subject);
        self.audit.note(&Act { subject: subject.trim_start(), ..act.clone() }).await
    }

    /// Returns what happened so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns the requests and sign-ins that were refused as too frequent, and the sign-ins for
    /// which there was no room to wait.
    #[must_use]
    pub fn limited(&self) -> (u64, u64, u64) {
        (self.rates.limited(), self.sign_ins.limited(), self.passwords.turned_away())
    }

    /// Returns how many hashes of passwords were computed.
    #[must_use]
    pub fn password_checks(&self) -> u64 {
        self.passwords.checks()
    }

    /// Tells whether somebody whose request goes on may still do what he may; a store that does
    /// not answer changes nothing.
    pub async fn holds(&self, principal: &Principal, now_ms: i64) -> bool {
        let holds = match principal {
            Principal::Anonymous => Ok(true),
            Principal::Person(person) => self.session_holds(person, now_ms).await,
            Principal::Program(program) => self.token_holds(program, now_ms).await,
        };
        holds.unwrap_or(true)
    }

    /// Counts a request of somebody, or tells when there will be room for it. The key names who,
    /// and what for.
    ///
    /// # Errors
    /// [`Limited`] when the pace is exceeded.
    pub fn pace(&self, key: &impl std::hash::Hash, pace: Pace, now_ms: i64) -> Result<(), Limited> {
        self.rates.take(key, pace, now_ms)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Reads the body of a record; records that cannot be read give nobody access.
fn body<T: DeserializeOwned>(record: &Record) -> Result<T, AccessError> {
    let text = record.body.as_deref().ok_or(AccessError::Damaged)?;
    serde_json::from_str(text).map_err(|_| AccessError::Damaged)
}

/// Writes the body of a record.
fn text(body: &impl serde::Serialize) -> String {
    serde_json::to_string(body).expect("made of texts and numbers only")
}

/// Brings the name of an account or token into its one form: small letters.
fn normal_name(name: &str) -> Result<String, AccessError> {
    let name = name.trim().to_lowercase();
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let legal = |c: u8| plain(c) || matches!(c, b'-' | b'_' | b'.' | b'@');
    let ends = name.bytes().next().is_some_and(plain) && name.bytes().last().is_some_and(plain);
    if ends && name.len() <= ACCOUNT_NAME_LEN_MAX && name.bytes().all(legal) {
        Ok(name)
    } else {
        Err(AccessError::BadName)
    }
}
