//! Small administrative documents, the same on every store: devices with their credentials,
//! accounts, sessions, tokens, the audit log, settings. They change rarely and are kept in memory
//! by who uses them; a revision number tells what has changed since.

use std::fmt;

use async_trait::async_trait;

use super::StoreError;
use crate::device::DeviceId;
use crate::limits::{RECORD_BODY_LEN_MAX, RECORD_KEY_LEN_MAX};

/// What a record is about; its name is what the database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordClass {
    /// A device and its credentials; the key is its identity.
    Device,
    /// A one-time permission to enrol a device.
    Enrolment,
    /// A person who signs in.
    Account,
    /// A person who is signed in.
    Session,
    /// A program that may use the API.
    ApiToken,
    /// An entry of the audit log.
    Audit,
    /// A setting that is kept with the data.
    Setting,
}

impl RecordClass {
    /// Every class.
    pub const ALL: [Self; 7] = [
        Self::Device,
        Self::Enrolment,
        Self::Account,
        Self::Session,
        Self::ApiToken,
        Self::Audit,
        Self::Setting,
    ];

    /// Returns the name under which the database holds it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Enrolment => "enrolment",
            Self::Account => "account",
            Self::Session => "session",
            Self::ApiToken => "api_token",
            Self::Audit => "audit",
            Self::Setting => "setting",
        }
    }

    /// Finds a class by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }
}

impl fmt::Display for RecordClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub class: RecordClass,
    /// Its name within the class.
    pub key: String,
    /// The number of the change that wrote it.
    pub revision: u64,
    /// JSON; `None` if it was deleted.
    pub body: Option<String>,
}

/// What must be so for a change to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    Any,
    /// There is no such record, or it was deleted.
    Absent,
    /// The record is there, and this is its revision.
    Revision(u64),
}

/// One change of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordChange {
    /// The class.
    pub class: RecordClass,
    /// The name within the class.
    pub key: String,
    /// What must be so.
    pub expected: Expected,
    /// The new JSON; `None` deletes it.
    pub body: Option<String>,
}

impl RecordChange {
    /// Writes a record.
    pub fn put(
        class: RecordClass,
        key: impl Into<String>,
        expected: Expected,
        body: impl Into<String>,
    ) -> Self {
        Self { class, key: key.into(), expected, body: Some(body.into()) }
    }

    /// Deletes a record.
    pub fn delete(class: RecordClass, key: impl Into<String>, expected: Expected) -> Self {
        Self { class, key: key.into(), expected, body: None }
    }

    /// Checks what every store checks before it makes a change.
    ///
    /// # Errors
    /// [`StoreError::BadRecord`] for a key or body that is too long, and for a device's key that
    /// is no device's identity.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let length = self.body.as_ref().map_or(0, String::len);
        let wrong = if self.key.is_empty() || self.key.len() > RECORD_KEY_LEN_MAX {
            Some(format!("its key has not 1 to {RECORD_KEY_LEN_MAX} bytes"))
        } else if length > RECORD_BODY_LEN_MAX {
            Some(format!("its text is longer than {RECORD_BODY_LEN_MAX} bytes"))
        } else if self.class == RecordClass::Device {
            DeviceId::parse(&self.key).err().map(|error| error.to_string())
        } else {
            None
        };
        match wrong {
            None => Ok(()),
            Some(detail) => {
                Err(StoreError::BadRecord { class: self.class, key: self.key.clone(), detail })
            }
        }
    }
}

/// What keeps records. Each call stands alone, also beside a running server.
///
/// A deleted record stays visible to [`Records::records_since`] for the next
/// [`RECORD_DELETIONS_KEPT`](crate::limits::RECORD_DELETIONS_KEPT) changes.
#[async_trait]
pub trait Records: Send + Sync + 'static {
    /// Finds a record that is there.
    async fn record(&self, class: RecordClass, key: &str) -> Result<Option<Record>, StoreError>;

    /// Lists the records of a class that are there, in the order of their keys (by bytes), from
    /// the first key after `after_key`; an empty one starts at the beginning.
    async fn records(
        &self,
        class: RecordClass,
        after_key: &str,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError>;

    /// Lists what changed after a revision, also deleted records, in the order of the revisions.
    /// A change is never cut in two: there may be more than `limit` of them at its end.
    async fn records_since(&self, revision: u64, limit: usize) -> Result<Vec<Record>, StoreError>;

    /// Makes all of the changes or none, under one new revision, which it returns. What is
    /// expected is held against the state before. A living device record makes the device known
    /// to the store; a deleted one leaves its readings, but takes in no more.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] names the first record that is not as expected.
    async fn change_records(&self, changes: Vec<RecordChange>) -> Result<u64, StoreError>;
}
