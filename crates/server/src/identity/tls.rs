//! TLS 1.3 (RFC 8446) and nothing older, on both ends, by the cryptography of aws-lc-rs, which is
//! always named and never the process's default.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};
use sha2::{Digest, Sha256};

use super::keys::ServerKeys;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The library refuses key, certificate or setting.
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
    /// The authority's certificate is none.
    #[error("TLS cannot be set up: {0}")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// What a listener asks of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// No certificate.
    None,
    /// A certificate of the own authority, or none; any other ends the handshake.
    Optional,
}

/// The certificate that listeners present, which is renewed while they run.
#[derive(Debug)]
pub struct ServedCertificate(RwLock<Arc<CertifiedKey>>);

impl ServedCertificate {
    /// Takes a chain and its key.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        Ok(Self(RwLock::new(Arc::new(certified(chain, key)?))))
    }

    /// Takes a newer chain.
    ///
    /// # Errors
    /// When the key cannot be used; the old one stays.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'static>,
    ) -> Result<(), TlsError> {
        *self.0.write() = Arc::new(certified(chain, key)?);
        Ok(())
    }

    /// Returns the server's own certificate.
    pub(super) fn leaf(&self) -> CertificateDer<'static> {
        self.0.read().cert[0].clone()
    }
}

impl ResolvesServerCert for ServedCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

/// Makes the settings of a listener. `protocols` are those of ALPN (RFC 7301), if any.
///
/// Sessions are not resumed: each connection proves anew that it has its key, and none keeps
/// memory for a later one.
///
/// # Errors
/// When the library refuses the authority's certificate.
pub fn server_config(
    keys: &ServerKeys,
    clients: ClientCertificates,
    protocols: &[&[u8]],
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match clients {
        ClientCertificates::None => builder.with_no_client_auth(),
        ClientCertificates::Optional => {
            let roots = roots(keys.authority().certificate())?;
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .allow_unauthenticated()
                .build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(keys.served().clone());
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// By what a client knows the right server.
#[derive(Clone, Debug)]
pub enum Trust {
    /// By the certificate of its authority.
    Authority(CertificateDer<'static>),
    /// By the SHA-256 of that certificate, which the server sends along.
    Fingerprint([u8; 32]),
}

/// Makes the settings of a client that trusts one authority only, and may have a certificate
/// itself.
///
/// # Errors
/// When the library refuses a key or certificate.
pub fn client_config(
    trust: &Trust,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match trust {
        Trust::Authority(certificate) => {
            let roots = roots(certificate)?;
            let verifier =
                WebPkiServerVerifier::builder_with_provider(roots, provider()).build()?;
            builder.with_webpki_verifier(verifier)
        }
        Trust::Fingerprint(sha256) => {
            let verifier = Arc::new(PinnedAuthority { sha256: *sha256, provider: provider() });
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
    };
    let mut config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(certificate: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    Ok(Arc::new(roots))
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> Result<CertifiedKey, TlsError> {
    Ok(CertifiedKey::from_der(chain, key.clone_key(), &provider())?)
}

/// Trusts the authority with one fingerprint, whose certificate the server sends along; with it,
/// the server's certificate is checked as ever.
#[derive(Debug)]
struct PinnedAuthority {
    sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = |one: &&CertificateDer<'_>| Sha256::digest(one)[..] == self.sha256;
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authority = intermediates.iter().find(pinned).ok_or_else(unknown)?;
        let roots = roots(&authority.clone().into_owned()).map_err(|_| unknown())?;
        WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone())
            .build()
            .map_err(|_| unknown())?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
