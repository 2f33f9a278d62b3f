//! All that a device needs to connect, in one file: the provisioning bundle.
//!
//! As TOML it is for computers and people, as [an image](stonechat_core::provision) for the flash
//! of a chip. Both hold secrets and belong to the device alone.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use stonechat_core::provision::{PROVISION_LEN, Provision, ProvisionError};

use super::hex::Key32;
use super::keys::ServerKeys;
use super::tls::{TlsError, Trust, client_config};
use crate::device::DeviceId;
use crate::settings::{Listen, Settings};
use crate::store::{Expected, RecordChange, RecordClass, Records, StoreError};

/// The version of the bundle.
pub const BUNDLE_FORMAT: u32 = 1;

/// A provisioning bundle.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// [`BUNDLE_FORMAT`].
    pub format: u32,
    /// Who the device is.
    pub device: DeviceId,
    /// Where the server is, and by what the device knows it.
    pub server: BundleServer,
    /// By what the device proves itself.
    #[serde(default)]
    pub credentials: BundleCredentials,
}

/// Where the server is, and by what a device knows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleServer {
    /// Where it speaks.
    #[serde(flatten)]
    pub addresses: Addresses,
    /// The public X25519 key of its sealed link.
    pub link_key: Key32,
    /// The certificate of its authority, PEM.
    pub authority: String,
}

/// Where a server speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// MQTT over TLS 1.3: `HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtts: Option<String>,
    /// `https://HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<String>,
    /// The sealed session over TCP: `HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
}

/// The ports at which a server speaks encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// MQTT over TLS 1.3.
    pub mqtts: Option<u16>,
    /// HTTPS.
    pub https: Option<u16>,
    /// The sealed session over TCP.
    pub sealed: Option<u16>,
}

/// Under which key of the settings' records a server says at which ports it speaks.
const PORTS_KEY: &str = "server-ports";

/// By what a device proves itself.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleCredentials {
    /// The MQTT password and HTTP bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The secret X25519 key of its sealed link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_key: Option<Key32>,
    /// Its certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The certificate's key, PKCS #8 in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<String>,
}

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A later version made it.
    #[error(
        "the bundle has format {0}, but this version knows {BUNDLE_FORMAT} only; install a newer stonechat"
    )]
    Format(u32),
    /// A certificate or key in it is none.
    #[error("the bundle's {0} is no PEM text of one; make a new bundle")]
    Pem(&'static str),
    /// TLS does not take it.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It does not fit into a flash image.
    #[error("the bundle cannot be written as a flash image: {0}")]
    Image(#[from] ProvisionError),
}

impl Ports {
    /// Returns the ports that the settings name.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let port = |listen: Listen| listen.address().map(|address| address.port());
        Self {
            mqtts: port(settings.mqtts),
            https: port(settings.https),
            sealed: port(settings.sealed),
        }
    }

    /// Writes them into the records, for whoever makes bundles beside the server.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn announce(&self, records: &dyn Records) -> Result<(), StoreError> {
        let body = serde_json::to_string(self).expect("ports are numbers");
        let put = RecordChange::put(RecordClass::Setting, PORTS_KEY, Expected::Any, body);
        records.change_records(vec![put]).await.map(|_| ())
    }

    /// Reads what the server that started last announced.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn announced(records: &dyn Records) -> Result<Self, StoreError> {
        let record = records.record(RecordClass::Setting, PORTS_KEY).await?;
        let body = record.and_then(|record| record.body);
        Ok(body.and_then(|body| serde_json::from_str(&body).ok()).unwrap_or_default())
    }
}

impl Addresses {
    /// Returns where a server speaks at these ports, if devices reach it as `host`.
    #[must_use]
    pub fn at(host: &str, ports: Ports) -> Self {
        let host = if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let at = |port: Option<u16>| port.map(|port| format!("{host}:{port}"));
        Self {
            mqtts: at(ports.mqtts),
            https: at(ports.https).map(|it| format!("https://{it}")),
            sealed: at(ports.sealed),
        }
    }
}

impl BundleServer {
    /// Describes a server.
    #[must_use]
    pub fn of(keys: &ServerKeys, addresses: Addresses) -> Self {
        Self {
            addresses,
            authority: keys.authority().pem().to_owned(),
            link_key: Key32(*keys.link_public()),
        }
    }
}

impl Bundle {
    /// Puts one together.
    #[must_use]
    pub fn new(device: DeviceId, server: BundleServer, credentials: BundleCredentials) -> Self {
        Self { format: BUNDLE_FORMAT, device, server, credentials }
    }

    /// Checks what its text alone does not say.
    ///
    /// # Errors
    /// [`BundleError`] says what is wrong.
    pub fn check(&self) -> Result<(), BundleError> {
        if self.format != BUNDLE_FORMAT {
            return Err(BundleError::Format(self.format));
        }
        self.tls().map(drop)
    }

    /// Makes the TLS settings of the device: its server must end at the bundle's authority, and
    /// the device shows its certificate, if it has one.
    ///
    /// # Errors
    /// [`BundleError`] says which part is wrong.
    pub fn tls(&self) -> Result<Arc<ClientConfig>, BundleError> {
        let credentials = &self.credentials;
        let identity = match (&credentials.certificate, &credentials.private_key) {
            (Some(certificate), Some(key)) => {
                let key = private_key(key)?;
                Some((vec![self::certificate("certificate", certificate)?], key))
            }
            _ => None,
        };
        Ok(client_config(&Trust::Authority(self.authority()?), identity)?)
    }

    /// Returns the certificate of the server's authority, DER.
    ///
    /// # Errors
    /// [`BundleError::Pem`] if it is none.
    pub fn authority(&self) -> Result<CertificateDer<'static>, BundleError> {
        certificate("authority", &self.server.authority)
    }

    /// Writes the bundle as a page of flash.
    ///
    /// # Errors
    /// [`BundleError`] says what does not fit.
    pub fn image(&self) -> Result<[u8; PROVISION_LEN], BundleError> {
        let credentials = &self.credentials;
        let authority = self.authority()?;
        let own = credentials.certificate.as_deref();
        let own = own.map(|pem| certificate("certificate", pem)).transpose()?;
        let key = credentials.private_key.as_deref().map(private_key).transpose()?;
        let addresses = &self.server.addresses;
        let provision = Provision {
            device: self.device.as_str(),
            mqtts: addresses.mqtts.as_deref(),
            https: addresses.https.as_deref(),
            sealed: addresses.sealed.as_deref(),
            authority: Some(&authority),
            server_link_key: Some(&self.server.link_key.0),
            token: credentials.token.as_deref(),
            certificate: own.as_deref(),
            private_key: key.as_ref().map(PrivateKeyDer::secret_der),
            link_key: credentials.link_key.as_ref().map(|key| &key.0),
        };
        let mut image = [0; PROVISION_LEN];
        provision.write(&mut image)?;
        Ok(image)
    }
}

fn certificate(what: &'static str, pem: &str) -> Result<CertificateDer<'static>, BundleError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| BundleError::Pem(what))
}

fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, BundleError> {
    let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes());
    Ok(key.map_err(|_| BundleError::Pem("private key"))?.into())
}
