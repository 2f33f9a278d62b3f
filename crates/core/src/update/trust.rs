//! The chain of keys: which keys may sign releases, said by a document that root keys sign
//! (`COSE_Sign`, several signatures; [`cose`](super::cose)).
//!
//! A device starts with the document of its provisioning. It takes another one if that has a
//! higher version and if as many root keys as the present document demands, of those that it
//! names, have signed it: so keys are added, replaced and revoked without touching the device.
//!
//! | key | value | |
//! |---|---|---|
//! | 1 | uint | version of this format, 1 |
//! | 2 | uint | version of the document, from 1 |
//! | 3 | array of bytes | root keys (Ed25519, 32 bytes each), 1 to 5 |
//! | 4 | uint | how many of them must sign the next document |
//! | 5 | array of bytes | release keys, 1 to 5 |
//! | 6 | array of bytes | ids of keys that were revoked (8 bytes each), up to 16 |
//!
//! Keys of the map and entries of the arrays stand in ascending order, and no key is both listed
//! and revoked. Keys of the map from 128 on are for later, as in the manifest.

use super::Reason;
use super::cbor::{Reader, Writer};
use super::cose::{KeyId, PUBLIC_KEY_LEN, Sign, Signature};
use crate::limits::{RELEASE_DOCUMENT_LEN_MAX, RELEASE_KEYS_MAX, REVOKED_KEYS_MAX, ROOT_KEYS_MAX};

const VERSION: u64 = 1;

/// Up to N borrowed entries of equal length, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct List<'a, const LEN: usize, const N: usize>([Option<&'a [u8; LEN]>; N]);

impl<'a, const LEN: usize, const N: usize> List<'a, LEN, N> {
    fn new(entries: &[&'a [u8; LEN]]) -> Option<Self> {
        let mut list = [None; N];
        for (place, entry) in list.get_mut(..entries.len())?.iter_mut().zip(entries) {
            *place = Some(*entry);
        }
        entries.is_sorted_by(|a, b| a < b).then_some(Self(list))
    }

    fn parse(reader: &mut Reader<'a>) -> Option<Self> {
        let count = usize::try_from(reader.array()?).ok()?;
        let mut list = [None; N];
        for place in list.get_mut(..count)? {
            *place = Some(reader.array_of_bytes()?);
        }
        list[..count].is_sorted_by(|a, b| a < b).then_some(Self(list))
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.array(self.iter().count());
        self.iter().for_each(|entry| {
            writer.bytes(entry);
        });
    }

    fn iter(&self) -> impl Iterator<Item = &'a [u8; LEN]> {
        self.0.into_iter().flatten()
    }
}

/// What a key document says; it borrows from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyDocument<'a> {
    /// Grows with each document.
    pub version: u64,
    /// How many root keys must sign the next document.
    pub threshold: usize,
    roots: List<'a, PUBLIC_KEY_LEN, ROOT_KEYS_MAX>,
    release: List<'a, PUBLIC_KEY_LEN, RELEASE_KEYS_MAX>,
    revoked: List<'a, 8, REVOKED_KEYS_MAX>,
}

impl<'a> KeyDocument<'a> {
    /// Makes a document; keys and ids in ascending order.
    ///
    /// # Errors
    /// [`Reason::Malformed`] if no document may say that.
    pub fn new(
        version: u64,
        roots: &[&'a [u8; PUBLIC_KEY_LEN]],
        threshold: usize,
        release: &[&'a [u8; PUBLIC_KEY_LEN]],
        revoked: &[&'a [u8; 8]],
    ) -> Result<Self, Reason> {
        let (roots, release) = (List::new(roots), List::new(release));
        let lists = roots.zip(release).zip(List::new(revoked)).ok_or(Reason::Malformed)?;
        let ((roots, release), revoked) = lists;
        let document = Self { version, threshold, roots, release, revoked };
        if document.is_legal() { Ok(document) } else { Err(Reason::Malformed) }
    }

    /// Reads a document in its envelope without asking who signed it: for one that is trusted
    /// already, out of provisioning or the device's own flash.
    ///
    /// # Errors
    /// [`Reason::Malformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Reason> {
        Self::parse_signed(bytes).map(|parsed| parsed.0)
    }

    /// Reads a document in its envelope, and checks that it may follow this one.
    ///
    /// # Errors
    /// [`Reason::Malformed`], [`Reason::OldKeys`], [`Reason::WrongSignature`] or
    /// [`Reason::TooFewSignatures`].
    pub fn successor<'b>(&self, bytes: &'b [u8]) -> Result<KeyDocument<'b>, Reason> {
        let (document, envelope) = KeyDocument::parse_signed(bytes)?;
        if document.version <= self.version {
            return Err(Reason::OldKeys);
        }
        let mut count = 0;
        for signature in envelope.signatures() {
            // Others may sign, too, such as the new document's own keys; they do not count here.
            let Some(key) = self.roots().find(|root| KeyId::of(root) == signature.key) else {
                continue;
            };
            if !envelope.is_signed_by(&signature, key) {
                return Err(Reason::WrongSignature);
            }
            count += 1;
        }
        if count < self.threshold { Err(Reason::TooFewSignatures) } else { Ok(document) }
    }

    fn parse_signed(bytes: &'a [u8]) -> Result<(Self, Sign<'a>), Reason> {
        let short = bytes.len() <= RELEASE_DOCUMENT_LEN_MAX;
        let envelope = Sign::parse(bytes).filter(|_| short).ok_or(Reason::Malformed)?;
        let document = Self::read(envelope.payload).filter(Self::is_legal);
        Ok((document.ok_or(Reason::Malformed)?, envelope))
    }

    fn read(payload: &'a [u8]) -> Option<Self> {
        let (mut format, mut version, mut threshold) = (None, None, None);
        let (mut roots, mut release, mut revoked) = (None, None, None);
        let mut reader = Reader::new(payload);
        reader.map(|key, reader| {
            match key {
                1 => format = Some(reader.uint()?),
                2 => version = Some(reader.uint()?),
                3 => roots = Some(List::parse(reader)?),
                4 => threshold = Some(usize::try_from(reader.uint()?).ok()?),
                5 => release = Some(List::parse(reader)?),
                6 => revoked = Some(List::parse(reader)?),
                _ => return Some(false),
            }
            Some(true)
        })?;
        reader.end()?;
        let document = Self {
            version: version?,
            threshold: threshold?,
            roots: roots?,
            release: release?,
            revoked: revoked?,
        };
        (format == Some(VERSION)).then_some(document)
    }

    fn is_legal(&self) -> bool {
        let keys = || self.roots().chain(self.release_keys());
        self.version > 0
            && (1..=self.roots().count()).contains(&self.threshold)
            && self.release_keys().count() > 0
            && !keys().any(|key| self.is_revoked(KeyId::of(key)))
    }

    /// Writes the document, the payload of its envelope. Returns its length, or `None` without room.
    #[must_use]
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        writer.map(6).uint(1).uint(VERSION).uint(2).uint(self.version);
        self.roots.write(writer.uint(3));
        writer.uint(4).uint(self.threshold as u64);
        self.release.write(writer.uint(5));
        self.revoked.write(writer.uint(6));
        writer.finish()
    }

    /// Walks through the root keys.
    pub fn roots(&self) -> impl Iterator<Item = &'a [u8; PUBLIC_KEY_LEN]> {
        self.roots.iter()
    }

    /// Walks through the release keys.
    pub fn release_keys(&self) -> impl Iterator<Item = &'a [u8; PUBLIC_KEY_LEN]> {
        self.release.iter()
    }

    /// Walks through the keys that were revoked.
    pub fn revoked(&self) -> impl Iterator<Item = KeyId> {
        self.revoked.iter().map(|id| KeyId(*id))
    }

    fn is_revoked(&self, id: KeyId) -> bool {
        self.revoked().any(|revoked| revoked == id)
    }

    /// Finds a release key.
    ///
    /// # Errors
    /// [`Reason::RevokedKey`] or [`Reason::UnknownKey`].
    pub fn release_key(&self, id: KeyId) -> Result<&'a [u8; PUBLIC_KEY_LEN], Reason> {
        let unknown = if self.is_revoked(id) { Reason::RevokedKey } else { Reason::UnknownKey };
        self.release_keys().find(|key| KeyId::of(key) == id).ok_or(unknown)
    }
}

/// Puts a document and its signatures ([`cose::signed_by_several`](super::cose::signed_by_several)
/// says over what; in the order of the keys' ids) into an envelope. Returns its length.
///
/// # Errors
/// [`Reason::Malformed`] if the payload is no document or the signatures are no legal list,
/// [`Reason::TooBig`] without room.
pub fn seal(payload: &[u8], signatures: &[Signature<'_>], out: &mut [u8]) -> Result<usize, Reason> {
    let legal = KeyDocument::read(payload).is_some_and(|document| document.is_legal());
    let envelope = Sign::new(payload, signatures).filter(|_| legal).ok_or(Reason::Malformed)?;
    let len = envelope.write(out);
    len.filter(|&len| len <= RELEASE_DOCUMENT_LEN_MAX).ok_or(Reason::TooBig)
}
