//! Secrets that the server draws: of sessions, API tokens and links.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::limits::{CREDENTIAL_ID_BYTES, CREDENTIAL_SECRET_BYTES};

const ID_LEN: usize = 2 * CREDENTIAL_ID_BYTES;
const TEXT_LEN: usize = ID_LEN + 2 * CREDENTIAL_SECRET_BYTES;

/// A drawn identity, by which a record is found, and a drawn secret, of which only the hash is
/// kept. Its text is the one followed by the other, in small hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(String);

impl Credential {
    /// Draws one from the operating system's random numbers.
    ///
    /// # Errors
    /// If the operating system has none to give.
    pub fn draw() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; CREDENTIAL_ID_BYTES + CREDENTIAL_SECRET_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(hex(&bytes)))
    }

    /// Reads what somebody sent; `None` if it cannot be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let legal = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == TEXT_LEN && text.bytes().all(legal)).then(|| Self(text.to_owned()))
    }

    /// Returns the part that is no secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0[..ID_LEN]
    }

    /// Returns the whole text, to be shown once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns what is kept of it: the SHA-256 of the text, in hexadecimal digits. The secret
    /// has 256 random bits, so that a slow hash would add nothing.
    #[must_use]
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes()))
    }

    /// Tells in constant time whether a kept hash is this one's.
    #[must_use]
    pub fn matches(&self, hash: &str) -> bool {
        self.hash().as_bytes().ct_eq(hash.as_bytes()).into()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({}..)", self.id())
    }
}

/// Draws an identity that is no secret.
pub(super) fn draw_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0; CREDENTIAL_ID_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(hex(&bytes))
}

/// Writes bytes in small hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_matches_its_own_hash_only() {
        let (one, other) =
            (Credential::draw().expect("random"), Credential::draw().expect("random"));
        assert_ne!(one.id(), other.id());
        assert!(one.matches(&one.hash()));
        assert!(!one.matches(&other.hash()));
        assert!(!one.matches(""));
        assert_eq!(Credential::parse(one.reveal()), Some(one.clone()));
        assert!(!format!("{one:?}").contains(&one.reveal()[ID_LEN..]));
    }

    #[test]
    fn only_the_exact_form_is_read() {
        let text = Credential::draw().expect("random").reveal().to_owned();
        for wrong in ["", &text[1..], &text.replace(&text[..1], "g"), &format!("{text}0")] {
            assert_eq!(Credential::parse(wrong), None, "{wrong}");
        }
        let upper = "A".repeat(TEXT_LEN);
        assert_eq!(Credential::parse(&upper), None);
    }

    #[test]
    fn the_hash_equals_that_of_sha256sum() {
        // printf 0000...0 (80 zeros) | sha256sum
        let zeros = Credential::parse(&"0".repeat(TEXT_LEN)).expect("legal");
        assert_eq!(
            zeros.hash(),
            "4c7f3da0386523b102328418c28d886bb9dc9c555671884e8fcc9bcba407e819"
        );
    }
}
