//! Directory, registry and keys over records in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::*;
use crate::clock::now_ms;
use crate::device::{DeviceId, Token};
use crate::limits::{DEVICE_VALIDITY, DIRECTORY_LOOK_INTERVAL};
use crate::store::{Expected, Record, RecordChange, RecordClass, Records, StoreError};

/// Records that are gone with the process.
#[derive(Default)]
struct InMemory(Mutex<(u64, Kept)>);

type Kept = BTreeMap<(RecordClass, String), Record>;

#[async_trait]
impl Records for InMemory {
    async fn record(&self, class: RecordClass, key: &str) -> Result<Option<Record>, StoreError> {
        let found = self.0.lock().1.get(&(class, key.to_owned())).cloned();
        Ok(found.filter(|record| record.body.is_some()))
    }

    async fn records(
        &self,
        class: RecordClass,
        after_key: &str,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let inner = self.0.lock();
        let living = inner.1.values().filter(|record| {
            record.class == class && record.body.is_some() && record.key.as_str() > after_key
        });
        Ok(living.take(limit).cloned().collect())
    }

    async fn records_since(&self, revision: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        let mut later: Vec<Record> = self.0.lock().1.values().cloned().collect();
        later.retain(|record| record.revision > revision);
        later.sort_by_key(|record| record.revision);
        later.truncate(limit);
        Ok(later)
    }

    async fn change_records(&self, changes: Vec<RecordChange>) -> Result<u64, StoreError> {
        let mut inner = self.0.lock();
        for RecordChange { class, key, expected, .. } in &changes {
            let found = inner.1.get(&(*class, key.clone())).filter(|record| record.body.is_some());
            let fits = match expected {
                Expected::Any => true,
                Expected::Absent => found.is_none(),
                Expected::Revision(revision) => {
                    found.is_some_and(|record| record.revision == *revision)
                }
            };
            if !fits {
                return Err(StoreError::Conflict { class: *class, key: key.clone() });
            }
        }
        inner.0 += 1;
        let revision = inner.0;
        for RecordChange { class, key, body, .. } in changes {
            inner.1.insert((class, key.clone()), Record { class, key, revision, body });
        }
        Ok(revision)
    }
}

fn id(name: &str) -> DeviceId {
    DeviceId::parse(name).expect("legal")
}

/// A directory, the registry within its process, and one beside it.
async fn site() -> (Arc<Directory>, Registry, Registry, Arc<dyn Records>) {
    let records: Arc<dyn Records> = Arc::new(InMemory::default());
    let directory = Directory::start(records.clone()).await.expect("readable");
    let within = Registry::within(records.clone(), directory.clone());
    (directory, within, Registry::of(records.clone()), records)
}

/// Waits until the directory says that something changed.
async fn changed(changes: &mut tokio::sync::watch::Receiver<u64>) {
    tokio::time::timeout(Duration::from_secs(20), changes.changed())
        .await
        .expect("a change is seen")
        .expect("the directory is there");
}

fn refusal(outcome: Result<Admission, Refusal>) -> Refusal {
    outcome.expect_err("refused")
}

#[tokio::test]
async fn a_token_admits_its_device_until_it_is_revoked() {
    let (directory, registry, _, _) = site().await;
    let (one, other) = (id("one"), id("other"));
    let token = registry.add(&one).await.expect("new");
    let foreign = registry.add(&other).await.expect("new");
    assert!(matches!(registry.add(&one).await, Err(IdentityError::Exists(_))));

    let admit = |token: &Token| directory.admit_token("one", token.reveal().as_bytes());
    let admission = admit(&token).expect("its own token");
    assert!(directory.is_current(&admission));
    assert_eq!(refusal(admit(&foreign)), Refusal::WrongToken);
    assert_eq!(refusal(directory.admit_token("nobody", b"")), Refusal::UnknownDevice);

    registry.revoke(&one).await.expect("there");
    assert!(!directory.is_current(&admission));
    assert_eq!(refusal(admit(&token)), Refusal::Disabled);
    registry.delete(&one).await.expect("there");
    assert_eq!(refusal(admit(&token)), Refusal::UnknownDevice);
}

#[tokio::test]
async fn a_change_by_another_process_is_seen_by_itself() {
    let (directory, _, beside, _) = site().await;
    let mut changes = directory.changes();
    let token = beside.add(&id("pump")).await.expect("new");
    changed(&mut changes).await;
    let admission = directory.admit_token("pump", token.reveal().as_bytes()).expect("known");
    beside.revoke(&id("pump")).await.expect("there");
    changed(&mut changes).await;
    assert!(!directory.is_current(&admission));
}

#[tokio::test]
async fn a_device_that_was_added_a_moment_ago_is_let_in() {
    let (directory, _, beside, _) = site().await;
    let attempt = |token: &Token| {
        let token = token.reveal().to_owned();
        move |known: &Directory| known.admit_token("pump", token.as_bytes())
    };
    let stranger = directory.seek(|known| known.admit_token("pump", b"")).await;
    assert_eq!(refusal(stranger), Refusal::UnknownDevice);
    tokio::time::sleep(2 * DIRECTORY_LOOK_INTERVAL).await;
    let token = beside.add(&id("pump")).await.expect("new");
    directory.seek(attempt(&token)).await.expect("known at once");
}

#[tokio::test]
async fn a_server_says_where_it_speaks() {
    let (_, _, _, records) = site().await;
    assert_eq!(Ports::announced(&*records).await.expect("readable"), Ports::default());
    let ports = Ports { mqtts: Some(8_883), https: None, sealed: Some(12_352) };
    ports.announce(&*records).await.expect("written");
    assert_eq!(Ports::announced(&*records).await.expect("readable"), ports);
    let addresses = Addresses::at("::1", ports);
    assert_eq!(addresses.mqtts.as_deref(), Some("[::1]:8883"));
    assert_eq!((addresses.https, addresses.sealed.as_deref()), (None, Some("[::1]:12352")));
}

#[tokio::test]
async fn rotation_overlaps_and_the_old_token_ends_by_itself() {
    let (directory, registry, _, _) = site().await;
    let pump = id("pump");
    let old = registry.add(&pump).await.expect("new");
    let new = registry.rotate_token(&pump, 700).await.expect("there");
    let mut changes = directory.changes();
    let admission = directory.admit_token("pump", old.reveal().as_bytes()).expect("overlap");
    let newer = directory.admit_token("pump", new.reveal().as_bytes()).expect("the new one");
    // Nothing but time moves the directory now.
    changed(&mut changes).await;
    assert!(!directory.is_current(&admission));
    assert!(directory.is_current(&newer));
    assert_eq!(refusal(directory.admit_token("pump", old.reveal().as_bytes())), Refusal::Ended);
    let last = registry.rotate(&pump).await.expect("there");
    assert!(!directory.is_current(&newer));
    directory.admit_token("pump", last.reveal().as_bytes()).expect("without overlap");
}

#[tokio::test]
async fn numbers_and_link_keys_belong_to_one_device() {
    let (directory, registry, _, _) = site().await;
    let mut tank = DeviceEntry::new(id("tank"), 0);
    tank.number = Some(7);
    registry.insert(tank.clone()).await.expect("free");
    let taken = |outcome| matches!(outcome, Err(IdentityError::Taken { .. }));
    assert!(taken(registry.insert(DeviceEntry { id: id("tank-2"), ..tank.clone() }).await));
    assert_eq!(directory.by_number(7).expect("known").id, id("tank"));
    assert!(directory.by_number(8).is_none());
    assert_eq!(refusal(directory.admit_token("tank", b"")), Refusal::Unauthenticated);
    assert!(matches!(registry.rotate(&id("tank")).await, Err(IdentityError::Bad(_))));

    let (_, public) = keys::new_link_key().expect("random");
    registry.insert(DeviceEntry::new(id("a"), 0)).await.expect("free");
    registry.insert(DeviceEntry::new(id("b"), 0)).await.expect("free");
    registry.rotate_link_key(&id("a"), public, 0).await.expect("free");
    assert!(taken(registry.rotate_link_key(&id("b"), public, 0).await));
    let admission = directory.by_link_key(&public).expect("known");
    assert_eq!(admission.device, id("a"));
    registry.revoke_credential(&id("a"), &hex::encode(&public)[..8]).await.expect("there");
    assert!(directory.by_link_key(&public).is_none());
    assert!(!directory.is_current(&admission));
}

#[tokio::test]
async fn devices_are_found_by_group_and_tag() {
    let (_, registry, _, _) = site().await;
    for (name, group, tag) in [("a", "hall", "old"), ("b", "hall", "new"), ("c", "yard", "new")] {
        let mut entry = DeviceEntry::new(id(name), 0);
        entry.groups.insert(group.into());
        entry.tags.insert(tag.into());
        registry.insert(entry).await.expect("free");
    }
    let found = async |group: Option<&str>, tags: &[&str]| {
        let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
        let filter = Filter { group: group.map(str::to_owned), tags };
        let entries = registry.entries(&filter).await.expect("readable");
        entries.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>().join("")
    };
    assert_eq!(found(None, &[]).await, "abc");
    assert_eq!(found(Some("hall"), &[]).await, "ab");
    assert_eq!(found(Some("hall"), &["new"]).await, "b");
    assert_eq!(found(None, &["old", "new"]).await, "");
}

#[tokio::test]
async fn a_certificate_admits_the_device_that_it_was_made_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (directory, registry, _, records) = site().await;
    let keys = ServerKeys::open(folder.path(), &[], &*records).await.expect("made");
    let (one, other) = (id("one"), id("other"));
    registry.insert(DeviceEntry::new(one.clone(), 0)).await.expect("free");
    registry.insert(DeviceEntry::new(other.clone(), 0)).await.expect("free");
    let key = authority::new_key().expect("made");
    let request = authority::request(&one, &key).expect("made");
    let certify =
        |id: &DeviceId| keys.authority().certify_request(id, &request, DEVICE_VALIDITY, now_ms());
    let issued = certify(&one).expect("its own request");
    // The request of one device gives no certificate to another.
    assert!(matches!(certify(&other), Err(AuthorityError::OtherName { .. })));
    let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).expect("PEM");
    assert_eq!(refusal(directory.admit_certificate(&der)), Refusal::UnknownCertificate);
    registry.rotate_certificate(&one, issued.credential.clone(), 0).await.expect("there");
    let admission = directory.admit_certificate(&der).expect("recorded");
    assert_eq!(admission.device, one);
    registry.revoke_credential(&one, &issued.credential.serial).await.expect("there");
    assert!(!directory.is_current(&admission));
    assert_eq!(refusal(directory.admit_certificate(&der)), Refusal::UnknownCertificate);
    assert_eq!(refusal(directory.admit_certificate(b"no certificate")), Refusal::BadCertificate);
    // Neither the authority nor the server is a device.
    let own = directory.admit_certificate(keys.authority().certificate());
    assert_eq!(refusal(own), Refusal::BadCertificate);
}

mod server_keys {
    use super::*;

    async fn open(
        data: &std::path::Path,
        records: &Arc<dyn Records>,
    ) -> Result<ServerKeys, KeyError> {
        ServerKeys::open(data, &["Pumps.example".to_owned()], &**records).await
    }

    #[tokio::test]
    async fn they_are_made_once_and_stay() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let records: Arc<dyn Records> = Arc::new(InMemory::default());
        let first = open(folder.path(), &records).await.expect("made").fingerprints();
        let files = || {
            let mut files: Vec<_> = std::fs::read_dir(folder.path().join("keys"))
                .expect("there")
                .map(|file| {
                    let path = file.expect("readable").path();
                    (path.clone(), std::fs::read(path).expect("readable"))
                })
                .collect();
            files.sort();
            files
        };
        let before = files();
        let again = open(folder.path(), &records).await.expect("there");
        assert_eq!(again.fingerprints(), first);
        assert_eq!(files(), before);
        assert_eq!(again.names(), ["127.0.0.1", "::1", "localhost", "pumps.example"]);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn files_that_are_missing_open_to_others_or_foreign_are_errors_and_stay_as_they_are() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let stranger = tempfile::tempdir().expect("a temporary folder");
        let records: Arc<dyn Records> = Arc::new(InMemory::default());
        let strange: Arc<dyn Records> = Arc::new(InMemory::default());
        open(folder.path(), &records).await.expect("made");
        open(stranger.path(), &strange).await.expect("made");
        let keys = folder.path().join("keys");
        for name in ["ca.key", "ca.crt", "server.key", "server.crt", "link.key", "packets.key"] {
            let path = keys.join(name);
            let text = std::fs::read(&path).expect("there");
            let fails = async |what: &str| match open(folder.path(), &records).await {
                Ok(_) => panic!("{name} {what} was taken"),
                Err(error) => error.to_string(),
            };
            std::fs::remove_file(&path).expect("there");
            assert!(fails("missing").await.contains("is missing; restore"), "{name}");
            assert!(!path.exists());
            std::fs::write(&path, "nonsense").expect("writable");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("own file");
            fails("with nonsense").await;
            // Another server's file is a good one, but not this server's.
            let other = std::fs::read(stranger.path().join("keys").join(name)).expect("there");
            std::fs::write(&path, other).expect("writable");
            let error = fails("of another server").await;
            assert!(
                error.contains("does not belong") || error.contains("are not those"),
                "{error}"
            );
            std::fs::write(&path, text).expect("writable");
            if name.ends_with(".key") {
                std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("own");
                assert!(fails("open to others").await.contains("chmod 600"), "{name}");
                std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("own");
            }
            open(folder.path(), &records).await.expect("as before");
        }
        std::fs::rename(&keys, folder.path().join("elsewhere")).expect("own folder");
        let missing = open(folder.path(), &records).await;
        assert!(matches!(missing, Err(KeyError::FolderMissing { .. })));
        assert!(!keys.exists());
        keys::put_aside(folder.path(), &*records).await.expect("nothing there");
        open(folder.path(), &records).await.expect("made anew, as was asked");
    }

    #[tokio::test]
    async fn the_servers_certificate_is_renewed_before_it_ends_with_the_same_key() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let records: Arc<dyn Records> = Arc::new(InMemory::default());
        let keys = open(folder.path(), &records).await.expect("made");
        let leaf = || keys.served().leaf();
        let (before, now_ms) = (leaf(), now_ms());
        assert!(!keys.renew_if_due(now_ms).expect("nothing to do"));
        let day_ms = 24 * 60 * 60 * 1_000;
        assert!(keys.renew_if_due(now_ms + 350 * day_ms).expect("renewed"));
        assert_ne!(leaf(), before);
        assert_eq!(authority::public_key_of(&leaf()), authority::public_key_of(&before));
        let names = open(folder.path(), &records).await.expect("there");
        assert_eq!(names.names().len(), 4);
    }
}
