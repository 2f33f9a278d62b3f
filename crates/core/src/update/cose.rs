//! The parts of COSE (RFC 9052) that releases need: Ed25519 signatures (`EdDSA`, RFC 9053 section
//! 2.2) by one key (`COSE_Sign1`, tag 18) or several (`COSE_Sign`, tag 98).
//!
//! Each signature has the protected header `{1: -8, 4: key id}` and no unprotected one; a key id is
//! the first eight bytes of the SHA-256 of the public key. Everything has its deterministic
//! encoding, so that a document has one spelling.

use core::fmt;

use ed25519_dalek::{Signature as Ed25519Signature, VerifyingKey};

use super::cbor::{Reader, Writer};
use super::sha256;
use crate::limits::{RELEASE_DOCUMENT_LEN_MAX, ROOT_KEYS_MAX};

/// The bytes of an Ed25519 public key.
pub const PUBLIC_KEY_LEN: usize = 32;
/// The bytes of an Ed25519 signature.
pub const SIGNATURE_LEN: usize = 64;
/// The bytes of the longest text that is signed: a document's payload and what COSE puts around it.
pub const SIGNED_LEN_MAX: usize = RELEASE_DOCUMENT_LEN_MAX + 64;

const SIGN1_TAG: u64 = 18;
const SIGN_TAG: u64 = 98;
const PROTECTED_LEN: usize = 13;
/// A map of two: 1 (algorithm) to -8 (EdDSA), 4 (key id) to eight bytes.
const PROTECTED_HEAD: [u8; 5] = [0xa2, 0x01, 0x27, 0x04, 0x48];
/// An empty map.
const UNPROTECTED: [u8; 1] = [0xa0];

/// Names a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl KeyId {
    /// Names a public key.
    #[must_use]
    pub fn of(key: &[u8; PUBLIC_KEY_LEN]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = sha256(&[key]);
        Self([a, b, c, d, e, f, g, h])
    }

    fn protected(self) -> [u8; PROTECTED_LEN] {
        let mut protected = [0; PROTECTED_LEN];
        let (head, id) = protected.split_at_mut(PROTECTED_HEAD.len());
        head.copy_from_slice(&PROTECTED_HEAD);
        id.copy_from_slice(&self.0);
        protected
    }

    fn parse_protected(protected: &[u8]) -> Option<Self> {
        protected.strip_prefix(&PROTECTED_HEAD)?.try_into().ok().map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A signature, and the key that it says it was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    /// The key.
    pub key: KeyId,
    /// The signature.
    pub bytes: &'a [u8; SIGNATURE_LEN],
}

/// A document that one key has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign1<'a> {
    /// What is signed.
    pub payload: &'a [u8],
    /// By whom.
    pub signature: Signature<'a>,
}

impl<'a> Sign1<'a> {
    /// Reads the envelope; nothing is verified.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let reader = &mut reader;
        reader.tag(SIGN1_TAG)?;
        let (key, payload) = parse_start(reader)?;
        let bytes = reader.array_of_bytes()?;
        reader.end()?;
        let key = KeyId::parse_protected(key)?;
        Some(Self { payload, signature: Signature { key, bytes } })
    }

    /// Tells whether the holder of a key has signed it.
    #[must_use]
    pub fn is_signed_by(&self, key: &[u8; PUBLIC_KEY_LEN]) -> bool {
        let mut signed = [0; SIGNED_LEN_MAX];
        signed_by_one(self.payload, self.signature.key, &mut signed)
            .is_some_and(|len| verifies(key, &signed[..len], self.signature.bytes))
    }

    /// Writes the envelope. Returns its length, or `None` without room.
    #[must_use]
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        writer.tag(SIGN1_TAG).array(4).bytes(&self.signature.key.protected());
        writer.encoded(&UNPROTECTED).bytes(self.payload).bytes(self.signature.bytes);
        writer.finish()
    }
}

/// A document that several keys have signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign<'a> {
    /// What is signed.
    pub payload: &'a [u8],
    signatures: [Option<Signature<'a>>; ROOT_KEYS_MAX],
}

impl<'a> Sign<'a> {
    /// Joins a payload and its signatures, in the order of their keys' ids.
    ///
    /// Returns `None` unless there are 1 to [`ROOT_KEYS_MAX`] of them, in ascending order.
    #[must_use]
    pub fn new(payload: &'a [u8], list: &[Signature<'a>]) -> Option<Self> {
        let mut signatures = [None; ROOT_KEYS_MAX];
        signatures
            .get_mut(..list.len())?
            .iter_mut()
            .zip(list)
            .for_each(|(to, from)| *to = Some(*from));
        let legal = !list.is_empty() && list.is_sorted_by(|a, b| a.key < b.key);
        legal.then_some(Self { payload, signatures })
    }

    /// Reads the envelope; nothing is verified.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let reader = &mut reader;
        reader.tag(SIGN_TAG)?;
        let (protected, payload) = parse_start(reader)?;
        let count = usize::try_from(reader.array()?).ok()?;
        let mut signatures = [None; ROOT_KEYS_MAX];
        let mut before = None;
        for place in signatures.get_mut(..count)? {
            let legal = reader.array()? == 3;
            let key = KeyId::parse_protected(reader.bytes()?)?;
            reader.empty_map()?;
            let bytes = reader.array_of_bytes()?;
            if !legal || before >= Some(key) {
                return None;
            }
            before = Some(key);
            *place = Some(Signature { key, bytes });
        }
        reader.end()?;
        (protected.is_empty() && count > 0).then_some(Self { payload, signatures })
    }

    /// Walks through the signatures, in the order of their keys' ids.
    pub fn signatures(&self) -> impl Iterator<Item = Signature<'a>> {
        self.signatures.into_iter().flatten()
    }

    /// Tells whether the holder of a key has made one of the signatures.
    #[must_use]
    pub fn is_signed_by(&self, signature: &Signature<'_>, key: &[u8; PUBLIC_KEY_LEN]) -> bool {
        let mut signed = [0; SIGNED_LEN_MAX];
        signed_by_several(self.payload, signature.key, &mut signed)
            .is_some_and(|len| verifies(key, &signed[..len], signature.bytes))
    }

    /// Writes the envelope. Returns its length, or `None` without room.
    #[must_use]
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        writer.tag(SIGN_TAG).array(4).bytes(&[]).encoded(&UNPROTECTED).bytes(self.payload);
        writer.array(self.signatures().count());
        for Signature { key, bytes } in self.signatures() {
            writer.array(3).bytes(&key.protected()).encoded(&UNPROTECTED).bytes(bytes);
        }
        writer.finish()
    }
}

/// Reads an array of four up to the payload: the protected header, an empty unprotected one, and
/// the payload.
fn parse_start<'a>(reader: &mut Reader<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let legal = reader.array()? == 4;
    let protected = reader.bytes()?;
    reader.empty_map()?;
    let payload = reader.bytes()?;
    legal.then_some((protected, payload))
}

/// Writes what the one signer of a [`Sign1`] signs (RFC 9052, section 4.4). Returns its length, or
/// `None` without room: [`SIGNED_LEN_MAX`] is enough.
#[must_use]
pub fn signed_by_one(payload: &[u8], key: KeyId, out: &mut [u8]) -> Option<usize> {
    let mut writer = Writer::new(out);
    writer.array(4).text("Signature1").bytes(&key.protected()).bytes(&[]).bytes(payload);
    writer.finish()
}

/// Writes what each signer of a [`Sign`] signs, as [`signed_by_one`] does.
#[must_use]
pub fn signed_by_several(payload: &[u8], key: KeyId, out: &mut [u8]) -> Option<usize> {
    let mut writer = Writer::new(out);
    writer.array(5).text("Signature").bytes(&[]).bytes(&key.protected()).bytes(&[]).bytes(payload);
    writer.finish()
}

/// Verifies strictly: no key of small order, and one signature for each text.
fn verifies(key: &[u8; PUBLIC_KEY_LEN], text: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
    let signature = Ed25519Signature::from_bytes(signature);
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(text, &signature).is_ok())
}
