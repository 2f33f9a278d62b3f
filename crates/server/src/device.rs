//! A device as the server knows it.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use stonechat_core::wire::uplink::is_device_id;
use subtle::ConstantTimeEq;

use crate::identity::hex;
use crate::limits::{TOKEN_BYTES, TOKEN_LEN_MAX};

/// The identity of a device: 1 to 64 of `A-Z a-z 0-9 - _`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(Arc<str>);

impl DeviceId {
    /// Checks a text.
    ///
    /// # Errors
    /// [`BadDeviceId`] if it is none.
    pub fn parse(text: &str) -> Result<Self, BadDeviceId> {
        if is_device_id(text) { Ok(Self(Arc::from(text))) } else { Err(BadDeviceId) }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for DeviceId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for DeviceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DeviceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// A text is no device identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a device identity has 1 to 64 characters out of A-Z, a-z, 0-9, - and _")]
pub struct BadDeviceId;

/// The secret of a device, shown once when it is made; only its hash is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Draws a new one from the operating system's random numbers.
    ///
    /// # Errors
    /// If the operating system has none to give.
    pub fn draw() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(base64_url(&bytes)))
    }

    /// Returns the text that the device sends as its MQTT password.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns what is kept of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(self.0.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The SHA-256 of a token. A token has 256 random bits, so that a slow hash would add nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Takes a stored hash.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes to be stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Tells in constant time whether `password` is the token.
    #[must_use]
    pub fn matches(&self, password: &[u8]) -> bool {
        password.len() <= TOKEN_LEN_MAX && bool::from(Self::of(password).0.ct_eq(&self.0))
    }
}

impl Serialize for TokenHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        hex::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for TokenHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hex::deserialize(deserializer).map(Self)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

/// Base64 with the URL alphabet, without padding (RFC 4648 section 5).
fn base64_url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0_u32, |word, &byte| word << 8 | u32::from(byte))
            << (8 * (3 - group.len()));
        for position in 0..=group.len() {
            let index = word >> (18 - 6 * position) & 63;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_equals_the_vectors_of_rfc_4648() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("fooba", "Zm9vYmE"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64_url(plain.as_bytes()), coded);
        }
        assert_eq!(base64_url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn a_token_matches_its_own_hash_only() {
        let (one, other) = (Token::draw().expect("random"), Token::draw().expect("random"));
        assert_eq!(one.reveal().len(), 43);
        assert!(one.hash().matches(one.reveal().as_bytes()));
        assert!(!one.hash().matches(other.reveal().as_bytes()));
        assert!(!one.hash().matches(b""));
        assert!(!one.hash().matches(&[b'a'; TOKEN_LEN_MAX + 1]));
        assert!(!format!("{one:?}").contains(one.reveal()));
    }

    #[test]
    fn device_identities_are_checked() {
        assert!(DeviceId::parse("pump-3_A").is_ok());
        for bad in ["", "a/b", "a b", "#", "+", "ä", &"x".repeat(65)] {
            assert_eq!(DeviceId::parse(bad), Err(BadDeviceId), "{bad:?}");
        }
    }
}
