//! Changes devices: within the server, or beside it on the same data.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::authority::AuthorityError;
use super::directory::Directory;
use super::entry::{
    BadEntry, CertificateCredential, CredentialKind, DeviceEntry, LinkCredential, TokenCredential,
};
use crate::access::{Act, Actor, Audit, Ending};
use crate::clock::now_ms;
use crate::device::{DeviceId, Token};
use crate::limits::{CHANGE_TRIES_MAX, DIRECTORY_PAGE};
use crate::store::{Expected, Record, RecordChange, RecordClass, Records, StoreError};

/// Why a device was not changed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A device with this identity is registered already.
    #[error("the device `{0}` is registered already")]
    Exists(DeviceId),
    /// No such device is registered.
    #[error("there is no device `{0}`")]
    Unknown(DeviceId),
    /// The entry cannot be kept so.
    #[error(transparent)]
    Bad(#[from] BadEntry),
    /// The record cannot be read.
    #[error(
        "the record of the device `{id}` cannot be read: {source}; if a newer stonechat wrote it, use that, else restore a backup"
    )]
    Damaged {
        /// The device.
        id: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The number or key belongs to another device.
    #[error("this {what} is the device `{holder}`'s")]
    Taken {
        /// What it is.
        what: &'static str,
        /// Whose it is.
        holder: DeviceId,
    },
    /// There is no such credential.
    #[error("the device `{id}` has no credential `{name}`")]
    UnknownCredential {
        /// The device.
        id: DeviceId,
        /// The start of a serial number, hash or key.
        name: String,
    },
    /// Others changed the device again and again.
    #[error("the device `{0}` is being changed by others all the time; try again")]
    Busy(DeviceId),
    /// A certificate or key cannot be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The operating system gave no random numbers.
    #[error("no random numbers for a secret: {0}")]
    Random(getrandom::Error),
}

/// Which devices are meant; what is not named fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those in this group.
    pub group: Option<String>,
    /// Those with each of these tags.
    pub tags: Vec<String>,
}

impl Filter {
    /// Tells whether a device fits.
    #[must_use]
    pub fn fits(&self, entry: &DeviceEntry) -> bool {
        self.group.as_ref().is_none_or(|group| entry.groups.contains(group))
            && self.tags.iter().all(|tag| entry.tags.contains(tag))
    }
}

/// The registered devices.
#[derive(Clone)]
pub struct Registry {
    records: Arc<dyn Records>,
    /// The directory of this process, which shall see changes at once.
    directory: Option<Arc<Directory>>,
    /// Who changes devices, for the audit log; without one, nothing is noted.
    actor: Option<Actor>,
}

impl Registry {
    /// Takes the records, as of a store beside a running server.
    #[must_use]
    pub fn of(records: Arc<dyn Records>) -> Self {
        Self { records, directory: None, actor: None }
    }

    /// Takes the records and the directory of a running server.
    #[must_use]
    pub fn within(records: Arc<dyn Records>, directory: Arc<Directory>) -> Self {
        Self { records, directory: Some(directory), actor: None }
    }

    /// Notes each change in the audit log, as somebody's.
    #[must_use]
    pub fn by(&self, actor: Actor) -> Self {
        Self { actor: Some(actor), ..self.clone() }
    }

    /// Registers a device with a token, which can not be read again.
    ///
    /// # Errors
    /// [`IdentityError::Exists`], or when the store fails.
    pub async fn add(&self, id: &DeviceId) -> Result<Token, IdentityError> {
        let token = Token::draw().map_err(IdentityError::Random)?;
        let mut entry = DeviceEntry::new(id.clone(), now_ms());
        entry.tokens.push(token_credential(&token, entry.created_ms));
        self.insert(entry).await?;
        Ok(token)
    }

    /// Gives a device a new token, registering it if it is not. The old tokens end at once.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn rotate(&self, id: &DeviceId) -> Result<Token, IdentityError> {
        match self.add(id).await {
            Err(IdentityError::Exists(_)) => self.rotate_token(id, 0).await,
            outcome => outcome,
        }
    }

    /// Registers devices: all of them or none.
    ///
    /// # Errors
    /// [`IdentityError::Exists`] names the first that is there already; or when one cannot be
    /// kept so, or the store fails.
    pub async fn insert_all(&self, entries: &[DeviceEntry]) -> Result<(), IdentityError> {
        self.check_unique(entries).await?;
        let change = |entry: &DeviceEntry| {
            entry.check()?;
            Ok(put(entry, Expected::Absent))
        };
        let changes = entries.iter().map(change).collect::<Result<Vec<_>, IdentityError>>()?;
        let subject = match entries {
            [] => return Ok(()),
            [one] => one.id.as_str().to_owned(),
            [first, .., last] => {
                format!("{} devices, {} to {}", entries.len(), first.id, last.id)
            }
        };
        self.write("device.add", &subject, changes).await.map_err(|error| match error {
            StoreError::Conflict { key, .. } => {
                let entry = entries.iter().find(|entry| entry.id.as_str() == key);
                entry.map_or_else(
                    || StoreError::Conflict { class: RecordClass::Device, key }.into(),
                    |entry| IdentityError::Exists(entry.id.clone()),
                )
            }
            error => error.into(),
        })
    }

    /// Registers a device.
    ///
    /// # Errors
    /// As [`Registry::insert_all`].
    pub async fn insert(&self, entry: DeviceEntry) -> Result<(), IdentityError> {
        self.insert_all(&[entry]).await
    }

    /// Finds a device.
    ///
    /// # Errors
    /// [`IdentityError::Unknown`], or when the store fails.
    pub async fn entry(&self, id: &DeviceId) -> Result<DeviceEntry, IdentityError> {
        Ok(self.read(id).await?.1)
    }

    /// Lists the devices that fit, in the order of their identities.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn entries(&self, filter: &Filter) -> Result<Vec<DeviceEntry>, IdentityError> {
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.records.records(RecordClass::Device, &after, DIRECTORY_PAGE).await?;
            let full = page.len() >= DIRECTORY_PAGE;
            for record in page {
                if let Some(entry) = parse(&record)?.filter(|entry| filter.fits(entry)) {
                    found.push(entry);
                }
                after = record.key;
            }
            if !full {
                return Ok(found);
            }
        }
    }

    /// Lists the identities of the registered devices.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<String>, IdentityError> {
        let entries = self.entries(&Filter::default()).await?;
        Ok(entries.into_iter().map(|entry| entry.id.as_str().to_owned()).collect())
    }

    /// Changes a device: `change` sees its entry as it is, and is asked again if another process
    /// was quicker. Returns what it returned.
    ///
    /// # Errors
    /// [`IdentityError::Unknown`]; what `change` fails with; when the entry cannot be kept so, or
    /// the store fails.
    pub async fn change<T>(
        &self,
        id: &DeviceId,
        act: &'static str,
        mut change: impl FnMut(&mut DeviceEntry) -> Result<T, IdentityError> + Send,
    ) -> Result<T, IdentityError>
    where
        T: Send,
    {
        for _ in 0..CHANGE_TRIES_MAX {
            let (revision, mut entry) = self.read(id).await?;
            let before = entry.clone();
            let outcome = change(&mut entry)?;
            entry.forget_ended(now_ms());
            entry.check()?;
            if entry == before {
                return Ok(outcome);
            }
            if entry.number != before.number || entry.link_keys != before.link_keys {
                self.check_unique(std::slice::from_ref(&entry)).await?;
            }
            let change = put(&entry, Expected::Revision(revision));
            match self.write(act, id.as_str(), vec![change]).await {
                Ok(()) => return Ok(outcome),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(IdentityError::Busy(id.clone()))
    }

    /// Gives a device a new token; its old ones end after `overlap_ms`.
    ///
    /// # Errors
    /// As [`Registry::change`].
    pub async fn rotate_token(
        &self,
        id: &DeviceId,
        overlap_ms: i64,
    ) -> Result<Token, IdentityError> {
        let token = Token::draw().map_err(IdentityError::Random)?;
        self.change(id, "device.rotate", |entry| {
            let now_ms = now_ms();
            entry.end_credentials(CredentialKind::Token, now_ms.saturating_add(overlap_ms));
            entry.forget_ended(now_ms);
            entry.tokens.push(token_credential(&token, now_ms));
            Ok(())
        })
        .await?;
        Ok(token)
    }

    /// Records a new certificate; the old ones are revoked after `overlap_ms`.
    ///
    /// # Errors
    /// As [`Registry::change`].
    pub async fn rotate_certificate(
        &self,
        id: &DeviceId,
        certificate: CertificateCredential,
        overlap_ms: i64,
    ) -> Result<(), IdentityError> {
        self.change(id, "device.certify", |entry| {
            let now_ms = now_ms();
            entry.end_credentials(CredentialKind::Certificate, now_ms.saturating_add(overlap_ms));
            entry.forget_ended(now_ms);
            entry.certificates.push(certificate.clone());
            Ok(())
        })
        .await
    }

    /// Enrols a new key of the sealed link; the old ones end after `overlap_ms`.
    ///
    /// # Errors
    /// As [`Registry::change`]; [`IdentityError::Taken`] if it is another device's.
    pub async fn rotate_link_key(
        &self,
        id: &DeviceId,
        public: [u8; 32],
        overlap_ms: i64,
    ) -> Result<(), IdentityError> {
        self.change(id, "device.link-key", |entry| {
            let now_ms = now_ms();
            entry.end_credentials(CredentialKind::LinkKey, now_ms.saturating_add(overlap_ms));
            entry.link_keys.retain(|key| key.public != public && key.is_active(now_ms));
            entry.link_keys.push(LinkCredential { public, created_ms: now_ms, expires_ms: None });
            Ok(())
        })
        .await
    }

    /// Takes every credential from a device and shuts it out.
    ///
    /// # Errors
    /// As [`Registry::change`].
    pub async fn revoke(&self, id: &DeviceId) -> Result<(), IdentityError> {
        self.change(id, "device.revoke", |entry| {
            entry.tokens.clear();
            entry.certificates.clear();
            entry.link_keys.clear();
            entry.disabled = true;
            Ok(())
        })
        .await
    }

    /// Takes one credential from a device: the certificate, token or link key whose serial
    /// number, hash or key starts with these hexadecimal digits.
    ///
    /// # Errors
    /// As [`Registry::change`]; [`IdentityError::UnknownCredential`] if none starts so.
    pub async fn revoke_credential(&self, id: &DeviceId, name: &str) -> Result<(), IdentityError> {
        self.change(id, "device.revoke", |entry| {
            let count = |entry: &DeviceEntry| {
                entry.tokens.len() + entry.certificates.len() + entry.link_keys.len()
            };
            let before = count(entry);
            if !name.is_empty() {
                let starts = |bytes: &[u8]| super::hex::encode(bytes).starts_with(name);
                entry.tokens.retain(|token| !starts(token.hash.as_bytes()));
                entry.certificates.retain(|one| !one.serial.starts_with(name));
                entry.link_keys.retain(|key| !starts(&key.public));
            }
            if count(entry) == before {
                let name = name.to_owned();
                return Err(IdentityError::UnknownCredential { id: entry.id.clone(), name });
            }
            Ok(())
        })
        .await
    }

    /// Removes a device; its readings stay.
    ///
    /// # Errors
    /// [`IdentityError::Unknown`], or when the store fails.
    pub async fn delete(&self, id: &DeviceId) -> Result<(), IdentityError> {
        self.read(id).await?;
        let change = RecordChange::delete(RecordClass::Device, id.as_str(), Expected::Any);
        Ok(self.write("device.delete", id.as_str(), vec![change]).await?)
    }

    /// Returns the records behind the devices.
    #[must_use]
    pub fn records(&self) -> &Arc<dyn Records> {
        &self.records
    }

    pub(super) async fn read(&self, id: &DeviceId) -> Result<(u64, DeviceEntry), IdentityError> {
        let record = self.records.record(RecordClass::Device, id.as_str()).await?;
        let record = record.ok_or_else(|| IdentityError::Unknown(id.clone()))?;
        let entry = parse(&record)?.ok_or_else(|| IdentityError::Unknown(id.clone()))?;
        Ok((record.revision, entry))
    }

    /// Refuses numbers and link keys that another device has.
    pub(super) async fn check_unique(&self, entries: &[DeviceEntry]) -> Result<(), IdentityError> {
        if entries.iter().all(|entry| entry.number.is_none() && entry.link_keys.is_empty()) {
            return Ok(());
        }
        let known = self.entries(&Filter::default()).await?;
        let (mut numbers, mut keys) = (HashMap::new(), HashMap::new());
        let changed: HashSet<&DeviceId> = entries.iter().map(|entry| &entry.id).collect();
        let others = known.iter().filter(|entry| !changed.contains(&entry.id));
        for entry in others.chain(entries) {
            let taken = |what, holder: &DeviceId| {
                Err(IdentityError::Taken { what, holder: holder.clone() })
            };
            if let Some(holder) = entry.number.and_then(|number| numbers.insert(number, &entry.id))
            {
                return taken("packet number", holder);
            }
            for key in &entry.link_keys {
                if let Some(holder) = keys.insert(key.public, &entry.id) {
                    return taken("link key", holder);
                }
            }
        }
        Ok(())
    }

    /// Makes changes, and notes them as one act in the same transaction.
    pub(super) async fn write(
        &self,
        act: &str,
        subject: &str,
        changes: Vec<RecordChange>,
    ) -> Result<(), StoreError> {
        match &self.actor {
            Some(actor) => {
                let act = Act { actor, act, subject, ending: Ending::Done };
                Audit::of(self.records.clone()).note_with(&act, changes).await?;
            }
            None => {
                self.records.change_records(changes).await?;
            }
        }
        if let Some(directory) = &self.directory {
            directory.refresh().await?;
        }
        Ok(())
    }
}

fn token_credential(token: &Token, now_ms: i64) -> TokenCredential {
    TokenCredential { hash: token.hash(), created_ms: now_ms, expires_ms: None }
}

pub(super) fn put(entry: &DeviceEntry, expected: Expected) -> RecordChange {
    let body = serde_json::to_string(entry).expect("an entry is made of texts and numbers");
    RecordChange::put(RecordClass::Device, entry.id.as_str(), expected, body)
}

fn parse(record: &Record) -> Result<Option<DeviceEntry>, IdentityError> {
    let parse = |body: &String| {
        serde_json::from_str(body)
            .map_err(|source| IdentityError::Damaged { id: record.key.clone(), source })
    };
    record.body.as_ref().map(parse).transpose()
}
