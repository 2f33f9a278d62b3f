//! What is known of a device: the JSON body of its record.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::hex;
use crate::device::{DeviceId, TokenHash};
use crate::limits::{CREDENTIALS_PER_DEVICE_MAX, LABEL_LEN_MAX, LABELS_PER_DEVICE_MAX};

/// A registered device with what it proves its identity by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceEntry {
    /// Who it is.
    pub id: DeviceId,
    /// When it was registered, in unix milliseconds.
    #[serde(default)]
    pub created_ms: i64,
    /// The groups to which it belongs.
    #[serde(default)]
    pub groups: BTreeSet<String>,
    /// What else it is found by.
    #[serde(default)]
    pub tags: BTreeSet<String>,
    /// Whether it is shut out, whatever it presents.
    #[serde(default)]
    pub disabled: bool,
    /// Its tokens; the newest one last.
    #[serde(default)]
    pub tokens: Vec<TokenCredential>,
    /// Its certificates; the newest one last.
    #[serde(default)]
    pub certificates: Vec<CertificateCredential>,
    /// The public keys of its sealed link; the newest one last.
    #[serde(default)]
    pub link_keys: Vec<LinkCredential>,
    /// Its number in the old, unauthenticated packets; a device that has one has nothing else.
    #[serde(default)]
    pub number: Option<u16>,
    /// The codec of its messages, where their topic or content type does not say it.
    #[serde(default)]
    pub codec: Option<String>,
    /// The decoder of its latent vectors.
    #[serde(default)]
    pub decoder: Option<String>,
}

/// A token, of which only the hash is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenCredential {
    /// What is kept of it.
    pub hash: TokenHash,
    /// When it was made, in unix milliseconds.
    #[serde(default)]
    pub created_ms: i64,
    /// From when on it is worth nothing, in unix milliseconds.
    #[serde(default)]
    pub expires_ms: Option<i64>,
}

/// A certificate of the own authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateCredential {
    /// Its serial number in hexadecimal digits, without leading zeros.
    pub serial: String,
    /// When it was made, in unix milliseconds.
    #[serde(default)]
    pub created_ms: i64,
    /// The end of its validity, in unix milliseconds.
    pub not_after_ms: i64,
    /// From when on it is revoked, in unix milliseconds; in the future while keys overlap.
    #[serde(default)]
    pub revoked_ms: Option<i64>,
}

/// A public key of the sealed link (X25519).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkCredential {
    /// The key.
    #[serde(with = "hex")]
    pub public: [u8; 32],
    /// When it was enrolled, in unix milliseconds.
    #[serde(default)]
    pub created_ms: i64,
    /// From when on it is worth nothing, in unix milliseconds.
    #[serde(default)]
    pub expires_ms: Option<i64>,
}

/// By what a device proved its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The token with this hash.
    Token(TokenHash),
    /// The certificate with this serial number.
    Certificate(String),
    /// The key of the sealed link.
    LinkKey([u8; 32]),
}

impl TokenCredential {
    /// Tells whether it counts at a time.
    #[must_use]
    pub fn is_active(&self, now_ms: i64) -> bool {
        self.expires_ms.is_none_or(|end| now_ms < end)
    }
}

impl CertificateCredential {
    /// Returns from when on it is worth nothing, in unix milliseconds.
    #[must_use]
    pub fn end_ms(&self) -> i64 {
        self.revoked_ms.map_or(self.not_after_ms, |revoked| revoked.min(self.not_after_ms))
    }

    /// Tells whether it counts at a time.
    #[must_use]
    pub fn is_active(&self, now_ms: i64) -> bool {
        now_ms < self.end_ms()
    }
}

impl LinkCredential {
    /// Tells whether it counts at a time.
    #[must_use]
    pub fn is_active(&self, now_ms: i64) -> bool {
        self.expires_ms.is_none_or(|end| now_ms < end)
    }
}

impl DeviceEntry {
    /// Makes the entry of a device that has nothing to prove its identity by yet.
    #[must_use]
    pub fn new(id: DeviceId, created_ms: i64) -> Self {
        Self {
            id,
            created_ms,
            groups: BTreeSet::new(),
            tags: BTreeSet::new(),
            disabled: false,
            tokens: Vec::new(),
            certificates: Vec::new(),
            link_keys: Vec::new(),
            number: None,
            codec: None,
            decoder: None,
        }
    }

    /// Tells whether a credential counts at a time.
    #[must_use]
    pub fn accepts(&self, credential: &Credential, now_ms: i64) -> bool {
        let active = match credential {
            Credential::Token(hash) => {
                self.tokens.iter().any(|token| token.hash == *hash && token.is_active(now_ms))
            }
            Credential::Certificate(serial) => {
                self.certificates.iter().any(|one| one.serial == *serial && one.is_active(now_ms))
            }
            Credential::LinkKey(public) => {
                self.link_keys.iter().any(|key| key.public == *public && key.is_active(now_ms))
            }
        };
        active && !self.disabled && self.number.is_none()
    }

    /// Returns the next time after `now_ms` at which a credential ends, in unix milliseconds.
    #[must_use]
    pub fn next_end_ms(&self, now_ms: i64) -> Option<i64> {
        let tokens = self.tokens.iter().filter_map(|token| token.expires_ms);
        let certificates = self.certificates.iter().map(CertificateCredential::end_ms);
        let keys = self.link_keys.iter().filter_map(|key| key.expires_ms);
        tokens.chain(certificates).chain(keys).filter(|&end| end > now_ms).min()
    }

    /// Lets the credentials that count now end at `end_ms`, if they do not end before.
    pub fn end_credentials(&mut self, kind: CredentialKind, end_ms: i64) {
        let sooner = |end: &mut Option<i64>| *end = Some(end.map_or(end_ms, |old| old.min(end_ms)));
        match kind {
            CredentialKind::Token => {
                self.tokens.iter_mut().for_each(|token| sooner(&mut token.expires_ms));
            }
            CredentialKind::Certificate => {
                self.certificates.iter_mut().for_each(|one| sooner(&mut one.revoked_ms));
            }
            CredentialKind::LinkKey => {
                self.link_keys.iter_mut().for_each(|key| sooner(&mut key.expires_ms));
            }
        }
    }

    /// Forgets credentials that ended.
    pub fn forget_ended(&mut self, now_ms: i64) {
        self.tokens.retain(|token| token.is_active(now_ms));
        self.certificates.retain(|one| one.is_active(now_ms));
        self.link_keys.retain(|key| key.is_active(now_ms));
    }

    /// Checks what a record must hold.
    ///
    /// # Errors
    /// [`BadEntry`] says what does not fit.
    pub fn check(&self) -> Result<(), BadEntry> {
        for label in self.groups.iter().chain(&self.tags) {
            check_label(label)?;
        }
        let labels = self.groups.len().max(self.tags.len());
        let credentials = [self.tokens.len(), self.certificates.len(), self.link_keys.len()];
        if labels > LABELS_PER_DEVICE_MAX {
            Err(BadEntry::TooManyLabels)
        } else if credentials.iter().any(|&count| count > CREDENTIALS_PER_DEVICE_MAX) {
            Err(BadEntry::TooManyCredentials)
        } else if self.number.is_some() && credentials.iter().any(|&count| count > 0) {
            Err(BadEntry::NumberAndCredentials)
        } else {
            Ok(())
        }
    }
}

/// A kind of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CredentialKind {
    /// A token.
    Token,
    /// A certificate.
    Certificate,
    /// A key of the sealed link.
    LinkKey,
}

/// Checks the name of a group or a tag.
///
/// # Errors
/// [`BadEntry::Label`] if it is none.
pub fn check_label(label: &str) -> Result<(), BadEntry> {
    let legal = |c: char| c.is_alphanumeric() || "-_.:/=+".contains(c);
    if (1..=LABEL_LEN_MAX).contains(&label.len()) && label.chars().all(legal) {
        Ok(())
    } else {
        Err(BadEntry::Label(label.to_owned()))
    }
}

/// Why an entry cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// A text is no group or tag.
    #[error(
        "`{0}` is no group or tag: these have 1 to {LABEL_LEN_MAX} bytes of letters, digits and - _ . : / = +"
    )]
    Label(String),
    /// There are too many groups or tags.
    #[error("a device has at most {LABELS_PER_DEVICE_MAX} groups and as many tags; remove some")]
    TooManyLabels,
    /// There are too many credentials.
    #[error(
        "a device has at most {CREDENTIALS_PER_DEVICE_MAX} credentials of a kind at one time; revoke some"
    )]
    TooManyCredentials,
    /// A device of the old packets has a credential.
    #[error(
        "a device with a packet number is unauthenticated and can have no token, certificate or key; register it under another identity"
    )]
    NumberAndCredentials,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Token;

    fn entry() -> DeviceEntry {
        DeviceEntry::new(DeviceId::parse("pump-7").expect("legal"), 5)
    }

    #[test]
    fn a_body_needs_the_identity_only_and_no_unknown_field() {
        let read = serde_json::from_str::<DeviceEntry>;
        let least = read(r#"{"id":"pump-7","created_ms":5}"#).expect("enough");
        assert_eq!(least, entry());
        assert!(read(r#"{"id":"pump-7","colour":"red"}"#).is_err());
        assert!(read(r#"{"id":"pump/7"}"#).is_err());
        let mut full = entry();
        full.groups.insert("hall-1".into());
        full.link_keys.push(LinkCredential { public: [7; 32], created_ms: 1, expires_ms: Some(9) });
        let hash = Token::draw().expect("random").hash();
        full.tokens.push(TokenCredential { hash, created_ms: 2, expires_ms: None });
        let text = serde_json::to_string(&full).expect("plain");
        assert_eq!(read(&text).expect("own text"), full);
    }

    #[test]
    fn an_overlap_ends_older_credentials_and_never_prolongs_them() {
        let mut entry = entry();
        for (serial, revoked_ms) in [("a", None), ("b", Some(50))] {
            let serial = serial.to_owned();
            let one =
                CertificateCredential { serial, created_ms: 0, not_after_ms: 1_000, revoked_ms };
            entry.certificates.push(one);
        }
        entry.end_credentials(CredentialKind::Certificate, 100);
        let accepts =
            |serial: &str, ms| entry.accepts(&Credential::Certificate(serial.to_owned()), ms);
        assert!(accepts("a", 99) && !accepts("a", 100));
        assert!(accepts("b", 49) && !accepts("b", 50));
        assert!(!accepts("c", 0));
        assert_eq!(entry.next_end_ms(0), Some(50));
        assert_eq!(entry.next_end_ms(50), Some(100));
        let mut disabled = entry.clone();
        disabled.disabled = true;
        assert!(!disabled.accepts(&Credential::Certificate("a".to_owned()), 0));
    }

    #[test]
    fn entries_that_cannot_be_kept_are_told() {
        let mut number = entry();
        number.number = Some(7);
        assert_eq!(number.check(), Ok(()));
        let hash = Token::draw().expect("random").hash();
        number.tokens.push(TokenCredential { hash, created_ms: 0, expires_ms: None });
        assert_eq!(number.check(), Err(BadEntry::NumberAndCredentials));
        for bad in ["", "a,b", "a b", "\"", &"x".repeat(65)] {
            assert!(check_label(bad).is_err(), "{bad:?}");
        }
        assert!(check_label("hall-1/line=2").is_ok());
    }
}
