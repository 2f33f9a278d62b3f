//! Enrolment: a device that made its own keys shows them once, by a one-time permission.
//!
//! The permission is a *ticket*, `TOKEN.FINGERPRINT`: 256 random bits, and the SHA-256 of the
//! authority's certificate in hexadecimal, by which the device knows the right server before it
//! knows anything else of it. The store keeps the token's hash; redeeming removes it in the same
//! change that records the new credential, so that it works once, whoever is quicker.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::authority::AuthorityError;
use super::bundle::{Addresses, BundleServer};
use super::entry::{CredentialKind, DeviceEntry, LinkCredential};
use super::hex::{self, Key32};
use super::keys::ServerKeys;
use super::registry::{self, IdentityError, Registry};
use crate::access::Actor;
use crate::clock::now_ms;
use crate::device::{DeviceId, Token, TokenHash};
use crate::limits::{CHANGE_TRIES_MAX, DEVICE_VALIDITY};
use crate::store::{Expected, RecordChange, RecordClass, StoreError};

/// The permission to enrol one device once.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The secret.
    pub token: String,
    /// The SHA-256 of the certificate of the server's authority.
    pub authority_sha256: [u8; 32],
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.token, hex::encode(&self.authority_sha256))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

impl FromStr for Ticket {
    type Err = BadTicket;

    fn from_str(text: &str) -> Result<Self, BadTicket> {
        let (token, authority) = text.split_once('.').ok_or(BadTicket)?;
        let authority_sha256 = hex::decode(authority).ok_or(BadTicket)?;
        Ok(Self { token: token.to_owned(), authority_sha256 })
    }
}

/// A text is no ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no enrolment ticket, `TOKEN.FINGERPRINT`")]
pub struct BadTicket;

/// The JSON body of an enrolment's record; its key is the device's identity.
#[derive(Debug, Serialize, Deserialize)]
struct Permission {
    hash: TokenHash,
    created_ms: i64,
    expires_ms: i64,
}

/// What a device sends.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// Who it is.
    #[schema(value_type = String)]
    pub device: DeviceId,
    /// The ticket's token.
    pub token: String,
    /// A certificate request (PKCS #10, PEM) that its new key signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_request: Option<String>,
    /// Its new public X25519 key, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub link_key: Option<Key32>,
}

/// What a device gets.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Enrolled {
    /// Who it is.
    #[schema(value_type = String)]
    pub device: DeviceId,
    /// The certificate of the server's authority, PEM.
    pub authority: String,
    /// The server's public X25519 key, 64 hexadecimal digits.
    #[schema(value_type = String)]
    pub server_link_key: Key32,
    /// The device's new certificate, PEM, if it asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Where the server speaks.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub addresses: Addresses,
}

/// Why a device is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// No such permission, or not any more. The device learns no more than this.
    #[error("the enrolment is refused: the ticket is wrong, used, or too old")]
    Refused,
    /// The device shows no key.
    #[error("the enrolment names no key: send `certificate_request`, `link_key`, or both")]
    NoKey,
    /// No certificate can be made from the request.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The device cannot be changed so.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl From<StoreError> for EnrolError {
    fn from(error: StoreError) -> Self {
        Self::Identity(error.into())
    }
}

/// Permits a device to enrol once, until `validity` has passed; an earlier permission ends.
///
/// # Errors
/// [`IdentityError::Unknown`] if the device is not registered; when the store fails.
pub async fn permit(
    registry: &Registry,
    keys: &ServerKeys,
    id: &DeviceId,
    validity: Duration,
) -> Result<Ticket, IdentityError> {
    let entry = registry.entry(id).await?;
    if entry.number.is_some() {
        return Err(super::BadEntry::NumberAndCredentials.into());
    }
    let token = Token::draw().map_err(IdentityError::Random)?;
    let now_ms = now_ms();
    let validity_ms = i64::try_from(validity.as_millis()).unwrap_or(i64::MAX);
    let permission = Permission {
        hash: token.hash(),
        created_ms: now_ms,
        expires_ms: now_ms.saturating_add(validity_ms),
    };
    let body = serde_json::to_string(&permission).expect("texts and numbers");
    let put = RecordChange::put(RecordClass::Enrolment, id.as_str(), Expected::Any, body);
    registry.write("device.permit", id.as_str(), vec![put]).await?;
    let token = token.reveal().to_owned();
    Ok(Ticket { token, authority_sha256: keys.authority().fingerprint() })
}

/// Redeems tickets.
pub struct Enroller {
    registry: Registry,
    keys: Arc<ServerKeys>,
    addresses: Addresses,
}

impl Enroller {
    /// Makes one; `addresses` are those that devices are told.
    #[must_use]
    pub fn new(registry: Registry, keys: Arc<ServerKeys>, addresses: Addresses) -> Self {
        Self { registry, keys, addresses }
    }

    /// Enrols a device that asks `from` an address: uses its permission up, and records what it showed, together.
    ///
    /// # Errors
    /// [`EnrolError`] says why not; the permission stays unless it was used.
    pub async fn enrol(
        &self,
        request: &EnrolRequest,
        from: IpAddr,
    ) -> Result<Enrolled, EnrolError> {
        let who = format!("device:{}", request.device);
        let registry = self.registry.by(Actor { who, from: from.to_canonical().to_string() });
        if request.certificate_request.is_none() && request.link_key.is_none() {
            return Err(EnrolError::NoKey);
        }
        for _ in 0..CHANGE_TRIES_MAX {
            let permitted = self.permitted(request).await?;
            let (revision, mut entry) = self.registry.read(&request.device).await?;
            if entry.disabled || entry.number.is_some() {
                warn!(device = %request.device, "refused to enrol a device that is shut out");
                return Err(EnrolError::Refused);
            }
            let certificate = self.add_credentials(request, &mut entry)?;
            entry.check().map_err(IdentityError::from)?;
            self.registry.check_unique(std::slice::from_ref(&entry)).await?;
            let id = request.device.as_str();
            let use_up =
                RecordChange::delete(RecordClass::Enrolment, id, Expected::Revision(permitted));
            let record = registry::put(&entry, Expected::Revision(revision));
            match registry.write("device.enrol", id, vec![use_up, record]).await {
                Ok(()) => {
                    info!(device = id, "enrolled");
                    return Ok(self.answer(request, certificate));
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(IdentityError::Busy(request.device.clone()).into())
    }

    /// Returns the revision of the permission, if the request has its token in time.
    async fn permitted(&self, request: &EnrolRequest) -> Result<u64, EnrolError> {
        let device = request.device.as_str();
        let record = self.registry.records().record(RecordClass::Enrolment, device).await?;
        let permission = record.as_ref().and_then(|record| {
            serde_json::from_str::<Permission>(record.body.as_deref().unwrap_or_default()).ok()
        });
        let reason = match permission {
            None => "there is no permission",
            Some(permission) if !permission.hash.matches(request.token.as_bytes()) => "wrong token",
            Some(permission) if permission.expires_ms <= now_ms() => "the permission is too old",
            Some(_) => return Ok(record.map_or(0, |record| record.revision)),
        };
        warn!(device, reason, "refused an enrolment");
        Err(EnrolError::Refused)
    }

    /// Adds what the device showed to its entry; returns its certificate. What it had of the same
    /// kind ends: it enrols since that is lost, or out of trust.
    fn add_credentials(
        &self,
        request: &EnrolRequest,
        entry: &mut DeviceEntry,
    ) -> Result<Option<String>, EnrolError> {
        let now_ms = now_ms();
        if let Some(Key32(public)) = request.link_key {
            entry.end_credentials(CredentialKind::LinkKey, now_ms);
            entry.forget_ended(now_ms);
            entry.link_keys.push(LinkCredential { public, created_ms: now_ms, expires_ms: None });
        }
        let Some(csr) = &request.certificate_request else {
            return Ok(None);
        };
        let authority = self.keys.authority();
        let issued = authority.certify_request(&request.device, csr, DEVICE_VALIDITY, now_ms)?;
        entry.end_credentials(CredentialKind::Certificate, now_ms);
        entry.forget_ended(now_ms);
        entry.certificates.push(issued.credential);
        Ok(Some(issued.certificate))
    }

    fn answer(&self, request: &EnrolRequest, certificate: Option<String>) -> Enrolled {
        let server = BundleServer::of(&self.keys, self.addresses.clone());
        Enrolled {
            device: request.device.clone(),
            authority: server.authority,
            server_link_key: server.link_key,
            certificate,
            addresses: server.addresses,
        }
    }
}
