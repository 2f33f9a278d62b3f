//! The own small certificate authority (RFC 5280), which makes certificates for this server and
//! its devices and for nobody else.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::directory::serial_text;
use super::entry::CertificateCredential;
use crate::device::DeviceId;
use crate::limits::{
    AUTHORITY_VALIDITY, CERTIFICATE_BACKDATE, CERTIFICATE_SERIAL_BYTES, SERVER_VALIDITY,
};

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The library refuses.
    #[error("the certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The request is none, or was not signed by the key that it names.
    #[error("this is no certificate request (PEM, PKCS #10) that its own key signed: {0}")]
    Request(rcgen::Error),
    /// A device's own name is not this one.
    #[error("the request names `{found}`, not the device `{expected}`")]
    OtherName {
        /// The name in the request.
        found: String,
        /// The device.
        expected: DeviceId,
    },
    /// The operating system gave no random numbers.
    #[error("no random numbers for a serial number: {0}")]
    Random(getrandom::Error),
}

/// A certificate that was just made.
pub struct Issued {
    /// The certificate, PEM.
    pub certificate: String,
    /// What the device's entry holds of it.
    pub credential: CertificateCredential,
}

/// The authority: its key and its certificate.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    /// Makes a new key, and its certificate (PEM).
    pub(super) fn make(now_ms: i64) -> Result<(KeyPair, String), AuthorityError> {
        let key = KeyPair::generate()?;
        let mark = super::hex::encode(&random_serial()?[..4]);
        let mut params =
            params(&format!("Stonechat authority {mark}"), now_ms, AUTHORITY_VALIDITY)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        Ok((key, certificate.pem()))
    }

    /// Takes a key and its certificate; `None` if they do not belong together.
    pub(super) fn of(key: KeyPair, pem: String) -> Option<Self> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        if public_key_of(&certificate)? != key.subject_public_key_info() {
            return None;
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).ok()?;
        Some(Self { issuer, certificate, pem })
    }

    /// Returns the certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Returns the certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns the SHA-256 of the certificate, by which a device that enrols knows it.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }

    /// Makes the certificate of this server (PEM), for names and addresses.
    pub(super) fn certify_server(
        &self,
        key: &KeyPair,
        names: &[String],
        now_ms: i64,
    ) -> Result<String, AuthorityError> {
        let mut params = params("Stonechat server", now_ms, SERVER_VALIDITY)?;
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }

    /// Makes the certificate of a device whose key was made here.
    ///
    /// # Errors
    /// When the library or the operating system fails.
    pub fn certify_key(
        &self,
        id: &DeviceId,
        key: &KeyPair,
        validity: Duration,
        now_ms: i64,
    ) -> Result<Issued, AuthorityError> {
        self.certify(id, key, validity, now_ms)
    }

    /// Makes the certificate of a device whose key never left it, from its signed request. Of the
    /// request only the key is taken: whom it names has to be the device, or nobody.
    ///
    /// # Errors
    /// When the request is none, or names somebody else.
    pub fn certify_request(
        &self,
        id: &DeviceId,
        request: &str,
        validity: Duration,
        now_ms: i64,
    ) -> Result<Issued, AuthorityError> {
        let request =
            CertificateSigningRequestParams::from_pem(request).map_err(AuthorityError::Request)?;
        if let Some(name) = request.params.distinguished_name.get(&DnType::CommonName) {
            let found = match name {
                rcgen::DnValue::Utf8String(name) => name.clone(),
                rcgen::DnValue::PrintableString(name) => name.as_str().to_owned(),
                other => format!("{other:?}"),
            };
            if found != id.as_str() {
                return Err(AuthorityError::OtherName { found, expected: id.clone() });
            }
        }
        self.certify(id, &request.public_key, validity, now_ms)
    }

    fn certify(
        &self,
        id: &DeviceId,
        key: &impl PublicKeyData,
        validity: Duration,
        now_ms: i64,
    ) -> Result<Issued, AuthorityError> {
        let mut params = params(id.as_str(), now_ms, validity)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let serial = random_serial()?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let credential = CertificateCredential {
            serial: serial_text(&serial),
            created_ms: now_ms,
            not_after_ms: params.not_after.unix_timestamp() * 1_000,
            revoked_ms: None,
        };
        let certificate = params.signed_by(key, &self.issuer)?.pem();
        Ok(Issued { certificate, credential })
    }
}

/// Makes a new key pair for certificates: ECDSA on P-256, which also small devices know.
///
/// # Errors
/// When the library fails.
pub fn new_key() -> Result<KeyPair, AuthorityError> {
    Ok(KeyPair::generate()?)
}

/// Makes a certificate request (PEM, PKCS #10) that names a device.
///
/// # Errors
/// When the library fails.
pub fn request(id: &DeviceId, key: &KeyPair) -> Result<String, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, id.as_str());
    Ok(params.serialize_request(key)?.pem()?)
}

/// Returns a certificate's public key, as a DER SubjectPublicKeyInfo.
pub(super) fn public_key_of(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.public_key().raw.to_vec())
}

fn params(
    name: &str,
    now_ms: i64,
    validity: Duration,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    let now = Duration::from_millis(u64::try_from(now_ms).unwrap_or(0));
    let epoch = date_time_ymd(1970, 1, 1);
    // Whole seconds: certificates know no others.
    let whole = |time: Duration| epoch + Duration::from_secs(time.as_secs());
    params.not_before = whole(now.saturating_sub(CERTIFICATE_BACKDATE));
    params.not_after = whole(now + validity);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
    Ok(params)
}

/// Draws a serial number: positive and without a leading zero, so that it has one spelling.
fn random_serial() -> Result<[u8; CERTIFICATE_SERIAL_BYTES], AuthorityError> {
    let mut serial = [0; CERTIFICATE_SERIAL_BYTES];
    getrandom::fill(&mut serial).map_err(AuthorityError::Random)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}
