//! Credentials that the server makes for a device, at once in its entry and for its bundle.

use std::time::Duration;

use super::authority::{AuthorityError, new_key};
use super::bundle::BundleCredentials;
use super::entry::{CredentialKind, DeviceEntry, LinkCredential, TokenCredential};
use super::hex::Key32;
use super::keys::{ServerKeys, new_link_key};
use crate::device::Token;

/// Which credentials a device gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The kinds.
    pub kinds: Vec<CredentialKind>,
    /// How long a certificate is valid.
    pub validity: Duration,
    /// How long what the device has of these kinds goes on to count, in milliseconds.
    pub overlap_ms: i64,
}

/// Makes credentials, and records them in the entry: the secrets are returned and kept nowhere.
///
/// # Errors
/// When the operating system has no random numbers, or the library fails.
pub fn provision(
    entry: &mut DeviceEntry,
    keys: &ServerKeys,
    wanted: &Wanted,
    now_ms: i64,
) -> Result<BundleCredentials, AuthorityError> {
    let mut credentials = BundleCredentials::default();
    for &kind in &wanted.kinds {
        entry.end_credentials(kind, now_ms.saturating_add(wanted.overlap_ms));
        entry.forget_ended(now_ms);
        let (created_ms, expires_ms) = (now_ms, None);
        match kind {
            CredentialKind::Token => {
                let token = Token::draw().map_err(AuthorityError::Random)?;
                let hash = token.hash();
                entry.tokens.push(TokenCredential { hash, created_ms, expires_ms });
                credentials.token = Some(token.reveal().to_owned());
            }
            CredentialKind::Certificate => {
                let key = new_key()?;
                let authority = keys.authority();
                let issued = authority.certify_key(&entry.id, &key, wanted.validity, now_ms)?;
                entry.certificates.push(issued.credential);
                credentials.certificate = Some(issued.certificate);
                credentials.private_key = Some(key.serialize_pem());
            }
            CredentialKind::LinkKey => {
                let (secret, public) = new_link_key()?;
                entry.link_keys.push(LinkCredential { public, created_ms, expires_ms });
                credentials.link_key = Some(Key32(secret));
            }
        }
    }
    Ok(credentials)
}
