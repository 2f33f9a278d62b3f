//! The audit log: who did what, from where, when, and how it ended.
//!
//! Each entry holds the hash of the one before it, so that a changed, removed, inserted or moved
//! entry shows. Beside the entries the store keeps their head (number and hash of the newest), and,
//! once old entries were removed by the retention, their anchor (number and hash of the newest
//! removed one), which an entry of the log itself confirms. Whoever can write the database could
//! compute all hashes anew: against that, each hash also goes to the server's log, and
//! `stonechat audit verify --expect` holds the chain against a hash that was noted elsewhere.
//!
//! | part | bytes |
//! |---|---|
//! | what is hashed (SHA-256) | `stonechat audit 1` and a line feed, then the entry as JSON without its `hash`, fields in the order of [`Entry`], no spaces |
//! | key of an entry | 2^64 - 1 - number, 20 decimal digits: newest first |
//! | key of head and anchor | `audit-head`, `audit-anchor` among the settings |

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::info;
use utoipa::ToSchema;

use super::secret::hex;
use super::{AccessError, Actor};
use crate::clock::now_ms;
use crate::limits::{
    ACCESS_PAGE, ACCESS_RETRIES_MAX, AUDIT_FAULTS_MAX, AUDIT_FIELD_LEN_MAX, AUDIT_PAGE_MAX,
};
use crate::store::StoreError;
use crate::store::record::{Expected, Record, RecordChange, RecordClass, Records};

const DOMAIN: &[u8] = b"stonechat audit 1\n";
const HEAD: &str = "audit-head";
const ANCHOR: &str = "audit-anchor";
/// What the first entry has in the place of a hash before it.
const NOTHING_BEFORE: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The act of removing old entries; its subject names the anchor.
const PRUNE: &str = "audit.prune";

/// How an act ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It was done.
    Done,
    /// It was not allowed, or a password was wrong.
    Refused,
    /// It was allowed, but did not succeed.
    Failed,
}

/// What is to be noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act<'a> {
    /// Who, and from where.
    pub actor: &'a Actor,
    /// What kind of act, such as `account.add`.
    pub act: &'a str,
    /// What it was done to. Never a secret.
    pub subject: &'a str,
    /// How it ended.
    pub ending: Ending,
}

/// One entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number; the first has 1.
    pub sequence: u64,
    /// When, in unix milliseconds.
    pub time_ms: i64,
    /// Who: an account, `token:NAME`, `cli:USER`, or `anonymous`.
    pub who: String,
    /// From where: an address, or `local` for the command line.
    pub from: String,
    /// What was done, such as `account.add`.
    pub act: String,
    /// What it was done to.
    pub subject: String,
    /// How it ended.
    pub ending: Ending,
    /// The hash of the entry before.
    pub previous: String,
    /// The hash of this entry.
    pub hash: String,
}

/// An entry as it is hashed.
#[derive(Serialize)]
struct Hashed<'a> {
    sequence: u64,
    time_ms: i64,
    who: &'a str,
    from: &'a str,
    act: &'a str,
    subject: &'a str,
    ending: Ending,
    previous: &'a str,
}

/// A place in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The number of an entry.
    pub sequence: u64,
    /// Its hash.
    pub hash: String,
}

/// What a check of the whole log found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Verification {
    /// Whether nothing is wrong.
    pub intact: bool,
    /// How many entries there are.
    pub entries: u64,
    /// The newest entry, to be noted elsewhere.
    pub head: Option<Link>,
    /// What is wrong, at most 100 of them.
    pub faults: Vec<Fault>,
}

/// Something is wrong with the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema, thiserror::Error)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// A record cannot be read as an entry.
    #[error("the record {key} is no entry")]
    Unreadable {
        /// Its key.
        key: String,
    },
    /// An entry stands under the key of another.
    #[error("entry {sequence} stands in the place of another")]
    Misplaced {
        /// Its number.
        sequence: u64,
    },
    /// An entry does not have the hash that it says.
    #[error("entry {sequence} was changed")]
    Changed {
        /// Its number.
        sequence: u64,
    },
    /// An entry does not follow from the one before it.
    #[error("entry {sequence} does not follow from the one before it")]
    Unlinked {
        /// Its number.
        sequence: u64,
    },
    /// Entries are missing.
    #[error("entries {from} to {to} are missing")]
    Missing {
        /// The first that is missing.
        from: u64,
        /// The last that is missing.
        to: u64,
    },
    /// The newest entry is not the one that the store says.
    #[error("the newest entry is not the one that the store noted")]
    OtherHead,
    /// Nothing in the log confirms that older entries were removed by the retention.
    #[error("no entry confirms that the entries up to {sequence} were removed by the retention")]
    Unconfirmed {
        /// The last of them.
        sequence: u64,
    },
    /// The entry that was noted elsewhere is not there, or has another hash.
    #[error("entry {sequence} is not the one that was expected")]
    NotAsExpected {
        /// Its number.
        sequence: u64,
    },
}

impl Entry {
    fn computed_hash(&self) -> String {
        let hashed = Hashed {
            sequence: self.sequence,
            time_ms: self.time_ms,
            who: &self.who,
            from: &self.from,
            act: &self.act,
            subject: &self.subject,
            ending: self.ending,
            previous: &self.previous,
        };
        let mut digest = Sha256::new();
        digest.update(DOMAIN);
        digest.update(json(&hashed));
        hex(&digest.finalize())
    }

    fn link(&self) -> Link {
        Link { sequence: self.sequence, hash: self.hash.clone() }
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("made of texts and numbers only")
}

fn key_of(sequence: u64) -> String {
    format!("{:020}", u64::MAX - sequence)
}

/// Cuts a field, and takes control characters out of it.
fn field(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(AUDIT_FIELD_LEN_MAX).collect()
}

/// The audit log of a store.
#[derive(Clone)]
pub struct Audit {
    records: Arc<dyn Records>,
}

impl Audit {
    /// Takes the log in a store; a server may be writing to it at the same time.
    #[must_use]
    pub fn of(records: Arc<dyn Records>) -> Self {
        Self { records }
    }

    /// Notes an act.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note(&self, act: &Act<'_>) -> Result<(), StoreError> {
        self.note_with(act, Vec::new()).await
    }

    /// Makes changes and notes the act that they are, both or neither.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if one of the changes is not as expected, or when the store fails.
    pub async fn note_with(
        &self,
        act: &Act<'_>,
        changes: Vec<RecordChange>,
    ) -> Result<(), StoreError> {
        for _ in 1..ACCESS_RETRIES_MAX {
            match self.try_note(act, changes.clone()).await {
                // Somebody else noted something at the same time: take the next number.
                Err(StoreError::Conflict { class: RecordClass::Audit, .. }) => {}
                Err(StoreError::Conflict { class: RecordClass::Setting, key }) if key == HEAD => {}
                outcome => return outcome,
            }
        }
        self.try_note(act, changes).await
    }

    async fn try_note(
        &self,
        act: &Act<'_>,
        mut changes: Vec<RecordChange>,
    ) -> Result<(), StoreError> {
        let noted = self.records.record(RecordClass::Setting, HEAD).await?;
        let expected = noted.as_ref().map_or(Expected::Absent, |r| Expected::Revision(r.revision));
        let head: Option<Link> = noted.as_ref().and_then(read);
        let previous =
            head.unwrap_or_else(|| Link { sequence: 0, hash: NOTHING_BEFORE.to_owned() });
        let mut entry = Entry {
            sequence: previous.sequence + 1,
            time_ms: now_ms(),
            who: field(&act.actor.who),
            from: field(&act.actor.from),
            act: field(act.act),
            subject: field(act.subject),
            ending: act.ending,
            previous: previous.hash,
            hash: String::new(),
        };
        entry.hash = entry.computed_hash();
        let key = key_of(entry.sequence);
        changes.push(RecordChange::put(RecordClass::Audit, key, Expected::Absent, json(&entry)));
        changes.push(RecordChange::put(RecordClass::Setting, HEAD, expected, json(&entry.link())));
        self.records.change_records(changes).await?;
        info!(
            target: "stonechat_server::audit",
            sequence = entry.sequence, who = entry.who, from = entry.from, act = entry.act,
            subject = entry.subject, ending = ?entry.ending, hash = entry.hash, "audit"
        );
        Ok(())
    }

    /// Lists entries, newest first, from the one before `before`.
    ///
    /// # Errors
    /// When the store fails, or an entry cannot be read.
    pub async fn list(&self, before: Option<u64>, limit: usize) -> Result<Vec<Entry>, AccessError> {
        let after_key = before.map(key_of).unwrap_or_default();
        let limit = limit.min(AUDIT_PAGE_MAX + 1);
        let records = self.records.records(RecordClass::Audit, &after_key, limit).await?;
        let entry = |record: &Record| read(record).ok_or(AccessError::Damaged);
        records.iter().map(entry).collect()
    }

    /// Checks the whole log; `expect` is an entry that was noted elsewhere.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn verify(&self, expect: Option<&Link>) -> Result<Verification, StoreError> {
        // A server may be writing: the head of before must be there, and none newer than that of after.
        let noted = self.setting(HEAD).await?;
        let mut check = Check::default();
        let mut after = String::new();
        loop {
            let page = self.records.records(RecordClass::Audit, &after, ACCESS_PAGE).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.key);
            page.iter().for_each(|record| check.take(record, noted.as_ref(), expect));
        }
        let anchor = self.setting(ANCHOR).await?;
        let head = self.setting(HEAD).await?;
        Ok(check.finish(head.as_ref(), anchor.as_ref(), expect))
    }

    /// Removes the entries from before a time, but never the newest, and notes that. Returns how
    /// many.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn prune(&self, before_ms: i64, actor: &Actor) -> Result<u64, StoreError> {
        // Entries are newest first; from the first old one on all go.
        let (mut after, mut old) = (String::new(), Vec::new());
        loop {
            let page = self.records.records(RecordClass::Audit, &after, ACCESS_PAGE).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.key);
            for record in &page {
                let Some(entry) = read::<Entry>(record) else { continue };
                if !old.is_empty() || entry.time_ms < before_ms {
                    old.push((record.key.clone(), entry.link()));
                }
            }
        }
        let Some((_, newest)) = old.first() else { return Ok(0) };
        let before = self.records.record(RecordClass::Setting, ANCHOR).await?;
        let expected =
            before.map_or(Expected::Absent, |record| Expected::Revision(record.revision));
        let subject = format!("{}:{}", newest.sequence, newest.hash);
        let anchor = RecordChange::put(RecordClass::Setting, ANCHOR, expected, json(newest));
        let act = Act { actor, act: PRUNE, subject: &subject, ending: Ending::Done };
        // Anchor and note first: what is between them and the end of the removal is a known rest.
        self.note_with(&act, vec![anchor]).await?;
        let count = old.len() as u64;
        for some in old.rchunks(ACCESS_PAGE) {
            let delete = |(key, _): &(String, Link)| {
                RecordChange::delete(RecordClass::Audit, key, Expected::Any)
            };
            self.records.change_records(some.iter().map(delete).collect()).await?;
        }
        Ok(count)
    }

    async fn setting(&self, key: &str) -> Result<Option<Link>, StoreError> {
        let record = self.records.record(RecordClass::Setting, key).await?;
        // One that cannot be read stands for an entry that cannot be there.
        let damaged = || Link { sequence: 0, hash: String::new() };
        Ok(record.map(|record| read(&record).unwrap_or_else(damaged)))
    }
}

fn read<T: serde::de::DeserializeOwned>(record: &Record) -> Option<T> {
    serde_json::from_str(record.body.as_deref()?).ok()
}

/// A walk over the log, newest entry first.
#[derive(Default)]
struct Check {
    entries: u64,
    newest: Option<Link>,
    /// The entry after the next one, as far as it could be read.
    later: Option<Entry>,
    /// Anchors that entries confirm.
    confirmed: Vec<String>,
    head_seen: bool,
    expected_seen: bool,
    faults: Vec<Fault>,
}

impl Check {
    fn fault(&mut self, fault: Fault) {
        if self.faults.len() < AUDIT_FAULTS_MAX {
            self.faults.push(fault);
        }
    }

    fn take(&mut self, record: &Record, head: Option<&Link>, expect: Option<&Link>) {
        self.entries += 1;
        let Some(entry) = read::<Entry>(record) else {
            self.fault(Fault::Unreadable { key: record.key.clone() });
            return;
        };
        let sequence = entry.sequence;
        if record.key != key_of(sequence) {
            self.fault(Fault::Misplaced { sequence });
        }
        // Also another spelling of the same values is a change.
        if entry.computed_hash() != entry.hash || record.body.as_deref() != Some(&json(&entry)) {
            self.fault(Fault::Changed { sequence });
        }
        if let Some(later) = &self.later {
            let gap = later.sequence.saturating_sub(sequence);
            if gap > 1 {
                self.fault(Fault::Missing { from: sequence + 1, to: later.sequence - 1 });
            } else if gap == 0 || later.previous != entry.hash {
                self.fault(Fault::Unlinked { sequence: later.sequence });
            }
        }
        self.newest.get_or_insert_with(|| entry.link());
        self.head_seen |= head.is_some_and(|head| *head == entry.link());
        self.expected_seen |= expect.is_some_and(|expect| *expect == entry.link());
        if entry.act == PRUNE && entry.ending == Ending::Done {
            self.confirmed.push(entry.subject.clone());
        }
        self.later = Some(entry);
    }

    fn finish(
        mut self,
        head: Option<&Link>,
        anchor: Option<&Link>,
        expect: Option<&Link>,
    ) -> Verification {
        if let Some(anchor) = anchor
            && !self.confirmed.contains(&format!("{}:{}", anchor.sequence, anchor.hash))
        {
            self.fault(Fault::Unconfirmed { sequence: anchor.sequence });
        }
        if let Some(oldest) = self.later.take() {
            let (sequence, hash) = match anchor {
                // A removal that was cut short leaves some that the anchor covers already.
                Some(anchor) if oldest.sequence > anchor.sequence => {
                    (anchor.sequence, anchor.hash.as_str())
                }
                Some(_) => (oldest.sequence.saturating_sub(1), oldest.previous.as_str()),
                None => (0, NOTHING_BEFORE),
            };
            if oldest.sequence > sequence + 1 {
                self.fault(Fault::Missing { from: sequence + 1, to: oldest.sequence - 1 });
            } else if oldest.previous != hash {
                self.fault(Fault::Unlinked { sequence: oldest.sequence });
            }
        }
        let head_fits = match (head, &self.newest) {
            (None, None) => true,
            (Some(head), Some(newest)) => self.head_seen && newest.sequence <= head.sequence,
            _ => false,
        };
        if !head_fits {
            self.fault(Fault::OtherHead);
        }
        if let Some(expect) = expect
            && !self.expected_seen
        {
            self.fault(Fault::NotAsExpected { sequence: expect.sequence });
        }
        Verification {
            intact: self.faults.is_empty(),
            entries: self.entries,
            head: self.newest,
            faults: self.faults,
        }
    }
}
