//! The server's own keys: made once, at the first start, and never again without being asked.
//!
//! | file in `DATA/keys` | what it holds |
//! |---|---|
//! | `ca.key`, `ca.crt` | the authority's key (PKCS #8, PEM) and certificate |
//! | `server.key`, `server.crt` | the key of the TLS listeners, and the certificate, which is renewed |
//! | `link.key` | the X25519 key of the sealed link, 64 hexadecimal digits |
//! | `packets.key` | the RSA-2048 key of the old packets (PKCS #8, PEM) |
//!
//! The store remembers their fingerprints, so that other keys than those which the devices know
//! are noticed before a device notices.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::agreement;
use rcgen::{KeyPair, PublicKeyData, RsaKeySize};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::info;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::{Authority, AuthorityError, public_key_of};
use super::hex;
use super::tls::{ServedCertificate, TlsError};
use crate::clock::now_ms;
use crate::limits::SERVER_RENEWAL;
use crate::store::{Expected, RecordChange, RecordClass, Records, StoreError};

/// The folder of the keys within the data folder.
pub const KEYS_FOLDER: &str = "keys";
/// The record that holds the fingerprints.
const FINGERPRINTS_KEY: &str = "server-keys";
/// The names by which every server is known.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const RESTORE: &str = "restore the folder from a backup (`stonechat restore`), or copy it from the other servers of this database; only if it is lost for good, `stonechat keys replace` makes new keys, and each device needs a new bundle then";

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The folder is gone, but devices know its keys.
    #[error("the folder of the server's keys {path} is missing; {RESTORE}")]
    FolderMissing {
        /// The folder.
        path: PathBuf,
    },
    /// A file is gone.
    #[error("the server's key file {path} is missing; {RESTORE}")]
    FileMissing {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error(
        "cannot use the server's key file {path}: {source}; let it belong to the user that runs stonechat"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read the file.
    #[error("others may read the server's key file {path} (mode {mode:o}); run: chmod 600 {path}")]
    Permission {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file holds something else.
    #[error("the server's key file {path} holds no {what}; {RESTORE}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// Key and certificate, or certificate and authority, do not belong together.
    #[error("the server's key file {path} does not belong to {other}; {RESTORE}")]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// To what it should belong.
        other: &'static str,
    },
    /// These are other keys than those that the store remembers.
    #[error(
        "the server's keys in {path} are not those that this database's devices know; {RESTORE}"
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// A key or certificate cannot be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// TLS cannot use them.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The server's keys, checked.
pub struct ServerKeys {
    folder: PathBuf,
    names: Vec<String>,
    authority: Authority,
    server_key: KeyPair,
    served: Arc<ServedCertificate>,
    link_secret: [u8; 32],
    link_public: [u8; 32],
    packets: KeyPair,
}

/// What the store remembers of the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprints {
    /// The SHA-256 of the authority's certificate.
    #[serde(with = "hex")]
    pub authority_sha256: [u8; 32],
    /// The public key of the sealed link.
    #[serde(with = "hex")]
    pub link_public: [u8; 32],
    /// The SHA-256 of the old packets' public key (SubjectPublicKeyInfo).
    #[serde(with = "hex")]
    pub packets_sha256: [u8; 32],
}

impl ServerKeys {
    /// Opens the keys of a data folder, or makes them if neither folder nor store knows any.
    /// `names` are those by which devices and browsers address the server, loopback ones apart.
    ///
    /// # Errors
    /// [`KeyError`] says which file is wrong, and what to do. Nothing is made anew then.
    pub async fn open(
        data: &Path,
        names: &[String],
        records: &dyn Records,
    ) -> Result<Self, KeyError> {
        let folder = data.join(KEYS_FOLDER);
        let remembered = remembered(records).await?;
        if !folder.exists() {
            if remembered.is_some() {
                return Err(KeyError::FolderMissing { path: folder });
            }
            make(data, &folder)?;
        }
        let keys = Self::load(folder, names)?;
        let own = keys.fingerprints();
        let known = match remembered {
            Some(known) => known,
            None => remember(records, &own).await?,
        };
        if known == own { Ok(keys) } else { Err(KeyError::Foreign { path: keys.folder }) }
    }

    /// Reads and checks every file, and renews the server's certificate if it is due.
    fn load(folder: PathBuf, names: &[String]) -> Result<Self, KeyError> {
        let file = |name: &str| folder.join(name);
        let authority_key = read_key_pair(&file("ca.key"))?;
        let authority = Authority::of(authority_key, read_text(&file("ca.crt"), false)?)
            .ok_or_else(|| KeyError::Mismatch { path: file("ca.key"), other: "ca.crt" })?;
        let server_key = read_key_pair(&file("server.key"))?;
        let link_path = file("link.key");
        let link_secret: [u8; 32] = hex::decode(read_text(&link_path, true)?.trim())
            .ok_or_else(|| KeyError::Content { path: link_path.clone(), what: "link key" })?;
        let link_public = link_public(&link_secret)
            .ok_or(KeyError::Content { path: link_path, what: "link key" })?;
        let packets = read_key_pair(&file("packets.key"))?;
        if !packets.is_compatible(&rcgen::PKCS_RSA_SHA256) {
            return Err(KeyError::Content { path: file("packets.key"), what: "RSA key" });
        }
        let certificate = read_certificate(&file("server.crt"))?;
        if public_key_of(&certificate).as_deref() != Some(&server_key.subject_public_key_info()) {
            return Err(KeyError::Mismatch { path: file("server.key"), other: "server.crt" });
        }
        if !is_signed_by(&certificate, authority.certificate()) {
            return Err(KeyError::Mismatch { path: file("server.crt"), other: "ca.crt" });
        }
        let chain = vec![certificate, authority.certificate().clone()];
        let served = Arc::new(ServedCertificate::new(chain, &private_key(&server_key))?);
        let mut all: Vec<String> = LOOPBACK_NAMES.map(str::to_owned).to_vec();
        all.extend(names.iter().map(|name| name.trim_matches(['[', ']']).to_ascii_lowercase()));
        all.sort();
        all.dedup();
        let keys = Self {
            folder,
            names: all,
            authority,
            server_key,
            served,
            link_secret,
            link_public,
            packets,
        };
        keys.renew_if_due(now_ms())?;
        Ok(keys)
    }

    /// Makes a new certificate for the server's same key if the old one ends soon, or names other
    /// hosts; connections from now on see it. Tells whether it did.
    ///
    /// # Errors
    /// When the certificate cannot be made or written.
    pub fn renew_if_due(&self, now_ms: i64) -> Result<bool, KeyError> {
        let old = self.served.leaf();
        let margin_ms = i64::try_from(SERVER_RENEWAL.as_millis()).unwrap_or(i64::MAX);
        if not_after_ms(&old).is_some_and(|end| now_ms < end - margin_ms)
            && names_in(&old).as_ref() == Some(&self.names)
        {
            return Ok(false);
        }
        let pem = self.authority.certify_server(&self.server_key, &self.names, now_ms)?;
        let path = self.folder.join("server.crt");
        let fresh = self.folder.join("server.crt.new");
        write_private(&fresh, &pem)?;
        std::fs::rename(&fresh, &path)
            .map_err(|source| KeyError::File { path: path.clone(), source })?;
        let chain = vec![read_certificate(&path)?, self.authority.certificate().clone()];
        self.served.replace(chain, &private_key(&self.server_key))?;
        info!(names = ?self.names, "renewed the server's certificate");
        Ok(true)
    }

    /// Returns the authority, which makes devices' certificates.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns the certificate that TLS listeners present.
    #[must_use]
    pub fn served(&self) -> &Arc<ServedCertificate> {
        &self.served
    }

    /// Returns the names and addresses in the server's certificate.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the secret X25519 key of the sealed link.
    #[must_use]
    pub fn link_secret(&self) -> &[u8; 32] {
        &self.link_secret
    }

    /// Returns the public X25519 key of the sealed link, which devices pin.
    #[must_use]
    pub fn link_public(&self) -> &[u8; 32] {
        &self.link_public
    }

    /// Returns the RSA-2048 key of the old packets, PKCS #8 in DER.
    #[must_use]
    pub fn packets_key(&self) -> &[u8] {
        self.packets.serialized_der()
    }

    /// Returns by what the keys are recognised.
    #[must_use]
    pub fn fingerprints(&self) -> Fingerprints {
        Fingerprints {
            authority_sha256: self.authority.fingerprint(),
            link_public: self.link_public,
            packets_sha256: Sha256::digest(self.packets.subject_public_key_info()).into(),
        }
    }
}

/// Puts the keys of a data folder aside, and has the store forget them: the next start makes new
/// ones, and no device's bundle fits any more. Returns the folder in which the old ones are now.
///
/// # Errors
/// When the folder cannot be renamed, or the store fails.
pub async fn put_aside(data: &Path, records: &dyn Records) -> Result<Option<PathBuf>, KeyError> {
    let folder = data.join(KEYS_FOLDER);
    let aside = data.join(format!("{KEYS_FOLDER}.old-{}", now_ms()));
    let moved = match std::fs::rename(&folder, &aside) {
        Ok(()) => Some(aside),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(source) => return Err(KeyError::File { path: folder, source }),
    };
    let forget = RecordChange::delete(RecordClass::Setting, FINGERPRINTS_KEY, Expected::Any);
    records.change_records(vec![forget]).await?;
    Ok(moved)
}

async fn remembered(records: &dyn Records) -> Result<Option<Fingerprints>, KeyError> {
    let record = records.record(RecordClass::Setting, FINGERPRINTS_KEY).await?;
    let body = record.and_then(|record| record.body);
    // A record that cannot be read fits no keys, so that nothing is made anew over it.
    let unreadable =
        Fingerprints { authority_sha256: [0; 32], link_public: [0; 32], packets_sha256: [0; 32] };
    Ok(body.map(|body| serde_json::from_str(&body).unwrap_or(unreadable)))
}

/// Has the store remember these keys; returns those that it remembers, as another server may
/// have been quicker.
async fn remember(records: &dyn Records, own: &Fingerprints) -> Result<Fingerprints, KeyError> {
    let body = serde_json::to_string(own).expect("fingerprints are texts");
    let put = RecordChange::put(RecordClass::Setting, FINGERPRINTS_KEY, Expected::Absent, body);
    match records.change_records(vec![put]).await {
        Ok(_) => Ok(own.clone()),
        Err(StoreError::Conflict { .. }) => {
            Ok(remembered(records).await?.unwrap_or_else(|| own.clone()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes all keys in a folder aside, which then takes its place as a whole.
fn make(data: &Path, folder: &Path) -> Result<(), KeyError> {
    let file_error = |path: &Path| {
        let path = path.to_owned();
        move |source| KeyError::File { path, source }
    };
    let new = data.join(format!("{KEYS_FOLDER}.new-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&new);
    create_private_folder(&new).map_err(file_error(&new))?;
    let now_ms = now_ms();
    let (authority_key, pem) = Authority::make(now_ms)?;
    write_private(&new.join("ca.key"), &authority_key.serialize_pem())?;
    write_private(&new.join("ca.crt"), &pem)?;
    let authority = Authority::of(authority_key, pem)
        .ok_or_else(|| KeyError::Mismatch { path: new.join("ca.key"), other: "ca.crt" })?;
    let server_key = super::authority::new_key()?;
    let names = LOOPBACK_NAMES.map(str::to_owned);
    let certificate = authority.certify_server(&server_key, &names, now_ms)?;
    write_private(&new.join("server.key"), &server_key.serialize_pem())?;
    write_private(&new.join("server.crt"), &certificate)?;
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(AuthorityError::Random)?;
    write_private(&new.join("link.key"), &format!("{}\n", hex::encode(&secret)))?;
    let packets = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)
        .map_err(AuthorityError::Make)?;
    write_private(&new.join("packets.key"), &packets.serialize_pem())?;
    sync_folder(&new).map_err(file_error(&new))?;
    match std::fs::rename(&new, folder) {
        Ok(()) => {
            sync_folder(data).map_err(file_error(data))?;
            info!(folder = %folder.display(), "made the server's keys; back them up");
            Ok(())
        }
        // Another process made them in the same moment: its keys count.
        Err(_) if folder.exists() => std::fs::remove_dir_all(&new).map_err(file_error(&new)),
        Err(source) => Err(KeyError::File { path: folder.to_owned(), source }),
    }
}

fn create_private_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

/// Writes a file that only its owner reads, and waits until it is on disk.
fn write_private(path: &Path, text: &str) -> Result<(), KeyError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let write = || {
        let mut file = options.open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| KeyError::File { path: path.to_owned(), source })
}

/// Reads a file; a secret one only if nobody else may.
fn read_text(path: &Path, secret: bool) -> Result<String, KeyError> {
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => KeyError::FileMissing { path: path.to_owned() },
        ErrorKind::InvalidData => KeyError::Content { path: path.to_owned(), what: "text" },
        _ => KeyError::File { path: path.to_owned(), source },
    };
    #[cfg(unix)]
    if secret {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Permission { path: path.to_owned(), mode });
        }
    }
    std::fs::read_to_string(path).map_err(failed)
}

fn read_key_pair(path: &Path) -> Result<KeyPair, KeyError> {
    KeyPair::from_pem(&read_text(path, true)?).map_err(|_| KeyError::Content {
        path: path.to_owned(),
        what: "private key (PKCS #8, PEM)",
    })
}

fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, KeyError> {
    CertificateDer::from_pem_slice(read_text(path, false)?.as_bytes())
        .map_err(|_| KeyError::Content { path: path.to_owned(), what: "certificate (PEM)" })
}

fn private_key(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

/// Computes the public X25519 key of a secret one.
#[must_use]
pub fn link_public(secret: &[u8; 32]) -> Option<[u8; 32]> {
    let key = agreement::PrivateKey::from_private_key(&agreement::X25519, secret).ok()?;
    key.compute_public_key().ok()?.as_ref().try_into().ok()
}

/// Draws a key of the sealed link: secret and public part.
///
/// # Errors
/// When the operating system has no random numbers.
pub fn new_link_key() -> Result<([u8; 32], [u8; 32]), AuthorityError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(AuthorityError::Random)?;
    let public = link_public(&secret).expect("any 32 bytes are an X25519 key");
    Ok((secret, public))
}

fn is_signed_by(certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> bool {
    let parse = |der| X509Certificate::from_der(der).map(|(_, parsed)| parsed).ok();
    let (Some(certificate), Some(issuer)) = (parse(certificate), parse(issuer)) else {
        return false;
    };
    certificate.verify_signature(Some(issuer.public_key())).is_ok()
}

fn not_after_ms(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    certificate.validity().not_after.timestamp().checked_mul(1_000)
}

/// Returns the names and addresses of a certificate, sorted.
fn names_in(certificate: &CertificateDer<'_>) -> Option<Vec<String>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(std::net::IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            16 => Some(std::net::IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
            _ => None,
        },
        _ => None,
    };
    let mut names: Vec<String> = names.value.general_names.iter().filter_map(name).collect();
    names.sort();
    Some(names)
}

/// Renews the server's certificate when it is due, as long as the keys are in use.
pub(crate) async fn keep_renewed(keys: std::sync::Weak<ServerKeys>) {
    const EVERY: Duration = Duration::from_secs(60 * 60);
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(keys) = keys.upgrade() else {
            return;
        };
        if let Err(error) = keys.renew_if_due(now_ms()) {
            tracing::error!(%error, "the server's certificate is not renewed");
        }
    }
}
