//! The RSA key of the old packets.

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::PrivatePkcs8KeyDer;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::CIPHERTEXT_LEN;

/// The bytes are no RSA-2048 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key of the old packets is no RSA-2048 key in PKCS #8")]
pub struct BadPacketKey;

/// The private key, and what senders are told of it.
pub struct PacketKey {
    decrypting: OaepPrivateDecryptingKey,
    modulus: [u8; CIPHERTEXT_LEN],
    public_pem: String,
}

impl PacketKey {
    /// Takes a key in PKCS #8.
    ///
    /// # Errors
    /// When it is none, or none of 2,048 bits.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, BadPacketKey> {
        let private = PrivateDecryptingKey::from_pkcs8(der).map_err(|_| BadPacketKey)?;
        let decrypting = OaepPrivateDecryptingKey::new(private).map_err(|_| BadPacketKey)?;
        if decrypting.key_size_bits() != CIPHERTEXT_LEN * 8 {
            return Err(BadPacketKey);
        }
        let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(der)).map_err(|_| BadPacketKey)?;
        let modulus = modulus(&pair.subject_public_key_info()).ok_or(BadPacketKey)?;
        // Old senders split lines at the line feed only.
        let public_pem = pair.public_key_pem().replace('\r', "");
        Ok(Self { decrypting, modulus, public_pem })
    }

    /// Returns the public key as senders get it.
    #[must_use]
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// Tells whether a ciphertext can be one at all: as a number it is below the modulus.
    #[must_use]
    pub fn is_in_range(&self, ciphertext: &[u8; CIPHERTEXT_LEN]) -> bool {
        // Both are big-endian and of one length, so that their order is that of the numbers.
        *ciphertext < self.modulus
    }

    /// Decrypts; none if no sender can have made the ciphertext. It costs as much either way, so
    /// that neither the answer nor its time tells more than this.
    #[must_use]
    pub fn decrypt(&self, ciphertext: &[u8; CIPHERTEXT_LEN]) -> Option<Vec<u8>> {
        let mut plain = [0; CIPHERTEXT_LEN];
        let decrypted =
            self.decrypting.decrypt(&OAEP_SHA1_MGF1SHA1, ciphertext, &mut plain, None).ok()?;
        Some(decrypted.to_vec())
    }
}

fn modulus(public_key_info: &[u8]) -> Option<[u8; CIPHERTEXT_LEN]> {
    let (_, info) = SubjectPublicKeyInfo::from_der(public_key_info).ok()?;
    let PublicKey::RSA(key) = info.parsed().ok()? else { return None };
    let start = key.modulus.iter().position(|&byte| byte != 0)?;
    key.modulus[start..].try_into().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::{KeySize, OaepPublicEncryptingKey, PublicEncryptingKey};

    use super::*;

    pub(in crate::legacy) fn key() -> (PacketKey, OaepPublicEncryptingKey) {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).expect("random");
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&private).expect("a key");
        let public: PublicEncryptingKey = private.public_key();
        let encrypting = OaepPublicEncryptingKey::new(public).expect("a key");
        (PacketKey::from_pkcs8(der.as_ref()).expect("a key"), encrypting)
    }

    pub(in crate::legacy) fn encrypt(
        key: &OaepPublicEncryptingKey,
        plain: &[u8],
    ) -> [u8; CIPHERTEXT_LEN] {
        let mut ciphertext = [0; CIPHERTEXT_LEN];
        key.encrypt(&OAEP_SHA1_MGF1SHA1, plain, &mut ciphertext, None).expect("short enough");
        ciphertext
    }

    #[test]
    fn what_was_encrypted_is_decrypted_and_nothing_else() {
        let (key, public) = key();
        let mut ciphertext = encrypt(&public, b"a packet");
        assert!(key.is_in_range(&ciphertext));
        assert_eq!(key.decrypt(&ciphertext).as_deref(), Some(&b"a packet"[..]));
        ciphertext[100] ^= 1;
        assert_eq!(key.decrypt(&ciphertext), None);
        assert!(!key.is_in_range(&[0xff; CIPHERTEXT_LEN]));
        assert!(!key.is_in_range(&key.modulus));
        assert_eq!(key.decrypt(&key.modulus), None);
        assert!(key.public_pem().starts_with("-----BEGIN PUBLIC KEY-----\n"));
    }

    #[test]
    fn other_keys_are_refused() {
        assert_eq!(PacketKey::from_pkcs8(b"").err(), Some(BadPacketKey));
        let elliptic = KeyPair::generate().expect("random");
        assert_eq!(PacketKey::from_pkcs8(elliptic.serialized_der()).err(), Some(BadPacketKey));
        let long = PrivateDecryptingKey::generate(KeySize::Rsa3072).expect("random");
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&long).expect("a key");
        assert_eq!(PacketKey::from_pkcs8(der.as_ref()).err(), Some(BadPacketKey));
    }
}
