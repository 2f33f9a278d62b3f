//! The devices in memory, and who of them is at the door.
//!
//! The records in the store are the truth; the directory follows them every
//! [`DIRECTORY_POLL`], so that a change by another process counts within a second. While the store
//! is away it keeps what it knows.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::RwLock;
use tokio::sync::{Mutex, watch};
use tracing::{error, warn};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::entry::{Credential, DeviceEntry};
use super::hex;
use crate::clock::now_ms;
use crate::device::DeviceId;
use crate::limits::{DIRECTORY_LOOK_INTERVAL, DIRECTORY_PAGE, DIRECTORY_POLL};
use crate::store::{Record, RecordClass, Records, StoreError};

/// A device that proved its identity.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Who it is.
    pub device: DeviceId,
    /// What was known of it then.
    pub entry: Arc<DeviceEntry>,
    /// By what it proved it.
    pub credential: Credential,
}

/// Why a device is not let in. It is for the log: the device learns only that it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such device is registered.
    #[error("no such device")]
    UnknownDevice,
    /// The device is shut out.
    #[error("the device is disabled")]
    Disabled,
    /// The device speaks the old packets, which prove nothing.
    #[error("the device has a packet number and no credentials")]
    Unauthenticated,
    /// The token is not the device's.
    #[error("wrong token")]
    WrongToken,
    /// The certificate cannot be read, or names no device.
    #[error("the certificate names no device")]
    BadCertificate,
    /// The certificate was not made for the device that it names, or was forgotten since.
    #[error("the certificate is not known")]
    UnknownCertificate,
    /// The credential was the device's once.
    #[error("the credential is revoked or expired")]
    Ended,
}

/// The devices as the front ends see them.
pub struct Directory {
    records: Arc<dyn Records>,
    index: RwLock<Index>,
    /// The revision up to which the index follows the records. One reader at a time.
    followed: Mutex<u64>,
    /// When somebody who is not known last made the directory look.
    looked: parking_lot::Mutex<Option<Instant>>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Index {
    devices: HashMap<DeviceId, Arc<DeviceEntry>>,
    link_keys: HashMap<[u8; 32], DeviceId>,
    numbers: HashMap<u16, DeviceId>,
    /// When the next credential ends.
    next_end_ms: Option<i64>,
}

impl Directory {
    /// Reads all devices, and follows their records until the directory is dropped.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn start(records: Arc<dyn Records>) -> Result<Arc<Self>, StoreError> {
        let directory = Arc::new(Self {
            records,
            index: RwLock::default(),
            followed: Mutex::new(0),
            looked: parking_lot::Mutex::default(),
            changes: watch::Sender::new(0),
        });
        directory.read_all().await?;
        tokio::spawn(follow(Arc::downgrade(&directory)));
        Ok(directory)
    }

    /// Finds a device.
    #[must_use]
    pub fn device(&self, id: &str) -> Option<Arc<DeviceEntry>> {
        self.index.read().devices.get(id).cloned()
    }

    /// Returns all devices, in no order.
    #[must_use]
    pub fn devices(&self) -> Vec<Arc<DeviceEntry>> {
        self.index.read().devices.values().cloned().collect()
    }

    /// Finds the device of a sealed link's public key, if the key counts now.
    #[must_use]
    pub fn by_link_key(&self, public: &[u8; 32]) -> Option<Admission> {
        let index = self.index.read();
        let device = index.link_keys.get(public)?.clone();
        let entry = index.devices.get(&device)?.clone();
        let credential = Credential::LinkKey(*public);
        entry.accepts(&credential, now_ms()).then_some(Admission { device, entry, credential })
    }

    /// Finds the device of an old packet's number, if it is not disabled.
    #[must_use]
    pub fn by_number(&self, number: u16) -> Option<Arc<DeviceEntry>> {
        let index = self.index.read();
        let entry = index.devices.get(index.numbers.get(&number)?)?;
        (!entry.disabled).then(|| entry.clone())
    }

    /// Lets a device in by its token.
    ///
    /// # Errors
    /// [`Refusal`] says why not.
    pub fn admit_token(&self, id: &str, token: &[u8]) -> Result<Admission, Refusal> {
        let entry = self.device(id).ok_or(Refusal::UnknownDevice)?;
        check_open(&entry)?;
        let known = entry.tokens.iter().find(|known| known.hash.matches(token));
        let hash = known.ok_or(Refusal::WrongToken)?.hash;
        admit(entry, Credential::Token(hash))
    }

    /// Lets a device in by its certificate. That the own authority made the certificate, and that
    /// the device has its key, was proved in the handshake; whom it names, and that it was not
    /// revoked since, is found here.
    ///
    /// # Errors
    /// [`Refusal`] says why not.
    pub fn admit_certificate(&self, der: &[u8]) -> Result<Admission, Refusal> {
        let (id, serial) = names_of(der).ok_or(Refusal::BadCertificate)?;
        let entry = self.device(&id).ok_or(Refusal::UnknownDevice)?;
        check_open(&entry)?;
        if !entry.certificates.iter().any(|one| one.serial == serial) {
            return Err(Refusal::UnknownCertificate);
        }
        admit(entry, Credential::Certificate(serial))
    }

    /// Tells whether what let a device in still does: false after revocation, the credential's
    /// end, disabling and deletion.
    #[must_use]
    pub fn is_current(&self, admission: &Admission) -> bool {
        self.device(admission.device.as_str())
            .is_some_and(|entry| entry.accepts(&admission.credential, now_ms()))
    }

    /// Returns a count that moves when a device changes or a credential ends: a long-lived
    /// connection then asks [`Directory::is_current`].
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Finds or lets in a device as `attempt` does. Before it is refused, the directory looks whether
    /// another process added it a moment ago.
    ///
    /// # Errors
    /// As `attempt`.
    pub async fn seek<T, E>(
        &self,
        attempt: impl Fn(&Self) -> Result<T, E> + Send + Sync,
    ) -> Result<T, E>
    where
        T: Send,
        E: Send,
    {
        let found = attempt(self);
        if found.is_ok() || !self.may_look() || self.refresh().await.is_err() {
            return found;
        }
        attempt(self)
    }

    /// Whoever is refused again and again must not keep the store busy.
    fn may_look(&self) -> bool {
        let mut looked = self.looked.lock();
        let may = looked.is_none_or(|then| then.elapsed() >= DIRECTORY_LOOK_INTERVAL);
        if may {
            *looked = Some(Instant::now());
        }
        may
    }

    /// Takes in what changed in the records since the last look.
    ///
    /// # Errors
    /// When the store fails; what is known stays.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let mut followed = self.followed.lock().await;
        let mut limit = DIRECTORY_PAGE;
        let mut changed = false;
        loop {
            let page = self.records.records_since(*followed, limit).await?;
            let (first, last) = match (page.first(), page.last()) {
                (Some(first), Some(last)) => (first.revision, last.revision),
                _ => break,
            };
            let full = page.len() >= limit;
            changed |= self.take(page);
            if full && first == last {
                // One change with more records than a page may be cut: read it whole.
                limit *= 2;
            } else {
                *followed = last;
                if !full {
                    break;
                }
            }
        }
        drop(followed);
        if self.settle(changed) {
            self.changes.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    /// Reads the living records page by page. The changes that follow are those after the first
    /// page, as later pages may hold newer ones.
    async fn read_all(&self) -> Result<(), StoreError> {
        let mut followed = self.followed.lock().await;
        let mut after = String::new();
        loop {
            let page = self.records.records(RecordClass::Device, &after, DIRECTORY_PAGE).await?;
            if after.is_empty() {
                *followed = page.iter().map(|record| record.revision).max().unwrap_or(0);
            }
            let full = page.len() >= DIRECTORY_PAGE;
            if let Some(last) = page.last() {
                after.clone_from(&last.key);
            }
            self.take(page);
            if !full {
                break;
            }
        }
        drop(followed);
        self.settle(true);
        self.refresh().await
    }

    /// Takes in records; tells whether a device was among them.
    fn take(&self, records: Vec<Record>) -> bool {
        let devices: Vec<_> = records
            .into_iter()
            .filter(|record| record.class == RecordClass::Device)
            .map(|record| (entry_of(&record), record.key))
            .collect();
        let mut index = self.index.write();
        for (entry, key) in &devices {
            index.replace(key, entry.clone());
        }
        !devices.is_empty()
    }

    /// Tells whether something changed or ended, and finds when the next credential ends.
    fn settle(&self, changed: bool) -> bool {
        let now_ms = now_ms();
        let ended = self.index.read().next_end_ms.is_some_and(|end| end <= now_ms);
        if changed || ended {
            let mut index = self.index.write();
            let ends = index.devices.values().filter_map(|entry| entry.next_end_ms(now_ms));
            let next_end_ms = ends.min();
            index.next_end_ms = next_end_ms;
        }
        changed || ended
    }
}

impl Index {
    fn replace(&mut self, key: &str, entry: Option<DeviceEntry>) {
        if let Some((id, old)) = self.devices.remove_entry(key) {
            for known in &old.link_keys {
                if self.link_keys.get(&known.public) == Some(&id) {
                    self.link_keys.remove(&known.public);
                }
            }
            if let Some(number) = old.number.filter(|number| self.numbers.get(number) == Some(&id))
            {
                self.numbers.remove(&number);
            }
        }
        let Some(entry) = entry else {
            return;
        };
        for known in &entry.link_keys {
            // The registry refuses a key that another device has; who has it keeps it.
            self.link_keys.entry(known.public).or_insert_with(|| entry.id.clone());
        }
        if let Some(number) = entry.number {
            let holder = self.numbers.entry(number).or_insert_with(|| entry.id.clone());
            if *holder != entry.id {
                warn!(device = %entry.id, %holder, number, "two devices have one packet number");
            }
        }
        self.devices.insert(entry.id.clone(), Arc::new(entry));
    }
}

/// Reads a record's entry. One that cannot be read lets nobody in.
fn entry_of(record: &Record) -> Option<DeviceEntry> {
    let body = record.body.as_deref()?;
    match serde_json::from_str::<DeviceEntry>(body) {
        Ok(entry) if entry.id.as_str() == record.key => Some(entry),
        Ok(_) => {
            error!(device = record.key, "the device's record names another device; ignored");
            None
        }
        Err(error) => {
            error!(device = record.key, %error, "the device's record cannot be read; ignored");
            None
        }
    }
}

fn check_open(entry: &DeviceEntry) -> Result<(), Refusal> {
    if entry.disabled {
        Err(Refusal::Disabled)
    } else if entry.number.is_some() {
        Err(Refusal::Unauthenticated)
    } else {
        Ok(())
    }
}

fn admit(entry: Arc<DeviceEntry>, credential: Credential) -> Result<Admission, Refusal> {
    if entry.accepts(&credential, now_ms()) {
        Ok(Admission { device: entry.id.clone(), entry, credential })
    } else {
        Err(Refusal::Ended)
    }
}

/// Returns the one common name of a certificate, and its serial number in hexadecimal digits.
fn names_of(der: &[u8]) -> Option<(String, String)> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    let one = rest.is_empty() && names.next().is_none();
    let serial = serial_text(certificate.raw_serial());
    (one && DeviceId::parse(name).is_ok()).then(|| (name.to_owned(), serial))
}

/// Writes a serial number without leading zeros.
pub(super) fn serial_text(serial: &[u8]) -> String {
    let start = serial.iter().position(|&byte| byte != 0).unwrap_or(serial.len());
    hex::encode(&serial[start..])
}

/// Looks at the records again and again.
async fn follow(directory: Weak<Directory>) {
    let mut failing = false;
    loop {
        tokio::time::sleep(DIRECTORY_POLL).await;
        let Some(directory) = directory.upgrade() else {
            return;
        };
        match directory.refresh().await {
            Ok(()) => failing = false,
            Err(StoreError::Closed) => return,
            Err(error) if !failing => {
                failing = true;
                warn!(%error, "the devices cannot be read; those known before stay");
            }
            Err(_) => {}
        }
    }
}
