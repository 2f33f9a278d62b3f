//! Ed25519 keys in files, as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write
//! them: PKCS #8 and SubjectPublicKeyInfo (RFC 8410), PEM.

use std::path::Path;

use anyhow::Context;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use pem::{EncodeConfig, LineEnding, Pem};
use rumqttc::tokio_rustls::rustls::pki_types::pem::PemObject;
use rumqttc::tokio_rustls::rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use stonechat_core::update::cose::{KeyId, PUBLIC_KEY_LEN, SIGNATURE_LEN};

use crate::output::Hinted;

/// What stands before the 32 bytes of a public key: a sequence of the algorithm's identifier
/// (1.3.101.112) and a string of 256 bits.
const PUBLIC_KEY_HEAD: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A key that signs.
pub(crate) struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Makes a key; returns it with its file's text.
    pub(crate) fn make() -> anyhow::Result<(Self, String)> {
        let pair = Ed25519KeyPair::generate().ok().context("the system gives no random numbers")?;
        let document = pair.to_pkcs8v1().ok().context("the new key cannot be written")?;
        let text = pem_text("PRIVATE KEY", document.as_ref());
        Ok((Self(pair), text))
    }

    /// Reads a key.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = std::fs::read(path).with_context(|| format!("cannot read the key `{shown}`"))?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(&text).ok();
        let pair = key.and_then(|key| {
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der()).ok()
        });
        pair.map(Self).ok_or_else(|| {
            Hinted::new(
                format!("`{shown}` is no Ed25519 key in PEM"),
                "`stonechat release key NAME` makes one, and so does `openssl genpkey -algorithm ed25519`",
            )
        })
    }

    /// Returns the public half.
    pub(crate) fn public(&self) -> PublicKey {
        let bytes = self.0.public_key().as_ref();
        PublicKey(bytes.try_into().expect("an Ed25519 key has 32 bytes"))
    }

    /// Signs.
    pub(crate) fn sign(&self, text: &[u8]) -> [u8; SIGNATURE_LEN] {
        let signature = self.0.sign(text);
        signature.as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }
}

/// A public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PublicKey(pub(crate) [u8; PUBLIC_KEY_LEN]);

impl PublicKey {
    /// Reads a public key.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = std::fs::read(path).with_context(|| format!("cannot read the key `{shown}`"))?;
        let info = SubjectPublicKeyInfoDer::from_pem_slice(&text).ok();
        let bytes = info.as_deref().and_then(|info| info.strip_prefix(&PUBLIC_KEY_HEAD));
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(|| {
            Hinted::new(
                format!("`{shown}` is no public Ed25519 key in PEM"),
                "`stonechat release key NAME` writes one into NAME.pub, and so does `openssl pkey -in NAME.key -pubout`",
            )
        })
    }

    /// Returns its file's text.
    pub(crate) fn text(&self) -> String {
        pem_text("PUBLIC KEY", &[&PUBLIC_KEY_HEAD[..], &self.0].concat())
    }

    /// Returns its name.
    pub(crate) fn id(&self) -> KeyId {
        KeyId::of(&self.0)
    }
}

fn pem_text(tag: &str, bytes: &[u8]) -> String {
    let unix = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new(tag, bytes), unix)
}
