//! The manifest of a release: the semantics of SUIT (RFC 9124) in a CBOR map of its own, signed
//! with a release key in a `COSE_Sign1` ([`cose`](super::cose)).
//!
//! | key | value | |
//! |---|---|---|
//! | 1 | uint | version of the manifest, 1 |
//! | 2 | uint | component: 0 detector, 1 firmware |
//! | 3 | text | hardware class, 1 to 32 of `A-Z a-z 0-9 - _ .` |
//! | 4 | uint | sequence number, from 1; grows with each release of a component |
//! | 5 | text | version to show, 1 to 32 of `A-Z a-z 0-9 - _ . +` |
//! | 6 | uint | length of the image in bytes, from 1 |
//! | 7 | uint | length of a chunk, 1,024 |
//! | 8 | bytes | root of the hash tree over the chunks ([`tree`]) |
//! | 9 | bytes | SHA-256 of the image |
//! | 10 | map | what the device needs, absent for nothing |
//! | 10.1 | uint | version of the detector file |
//! | 10.2 | uint | feature set |
//! | 10.3 | uint | least sequence number of its firmware |
//! | 10.4 | uint | least sequence number of its detector |
//! | 11 | uint | the release goes back: devices that had up to this sequence number may take it |
//!
//! Keys stand in ascending order. Whoever does not know a key below 128 must refuse the manifest;
//! unknown keys from 128 on, with a number or a string, are passed over.

use super::cbor::{Reader, Writer};
use super::cose::{KeyId, SIGNATURE_LEN, Sign1, Signature};
use super::{Component, Device, Hash, KeyDocument, Reason, ReleaseId, sha256, tree};
use crate::limits::{
    RELEASE_CHUNK_LEN, RELEASE_DOCUMENT_LEN_MAX, RELEASE_IMAGE_LEN_MAX, RELEASE_TEXT_LEN_MAX,
};

const VERSION: u64 = 1;

/// What a release needs of its device; zero for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dependencies {
    /// A version of the detector file that the firmware reads.
    pub detector_format: u16,
    /// A feature set that the firmware computes.
    pub feature_set: u32,
    /// The least sequence number of the firmware.
    pub firmware_sequence: u64,
    /// The least sequence number of the detector.
    pub detector_sequence: u64,
}

impl Dependencies {
    fn numbers(&self) -> [u64; 4] {
        let format = u64::from(self.detector_format);
        let set = u64::from(self.feature_set);
        [format, set, self.firmware_sequence, self.detector_sequence]
    }

    fn parse(reader: &mut Reader<'_>) -> Option<Self> {
        let mut numbers = [0; 4];
        reader.map(|key, reader| {
            let place =
                key.checked_sub(1).and_then(|at| numbers.get_mut(usize::try_from(at).ok()?));
            let Some(number) = place else {
                return Some(false);
            };
            *number = reader.uint().filter(|&number| number > 0)?;
            Some(true)
        })?;
        let [format, set, firmware_sequence, detector_sequence] = numbers;
        let detector_format = format.try_into().ok()?;
        let feature_set = set.try_into().ok()?;
        let all = Self { detector_format, feature_set, firmware_sequence, detector_sequence };
        // Nothing is written as no map at all.
        (all != Self::default()).then_some(all)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let numbers = self.numbers();
        writer.map(numbers.iter().filter(|&&number| number > 0).count());
        for (key, number) in (1..).zip(numbers) {
            if number > 0 {
                writer.uint(key).uint(number);
            }
        }
    }

    /// Tells whether a device has all that is needed.
    #[must_use]
    pub fn are_met_by(&self, device: &Device<'_>) -> bool {
        self.detector_format <= device.detector_format
            && self.feature_set <= device.feature_set
            && self.firmware_sequence <= device.firmware_sequence
            && self.detector_sequence <= device.detector_sequence
    }
}

/// What a manifest says; it borrows from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manifest<'a> {
    /// What the release replaces.
    pub component: Component,
    /// The devices that it is for.
    pub hardware: &'a str,
    /// Grows with each release of a component.
    pub sequence: u64,
    /// The version to show to people.
    pub version: &'a str,
    /// The length of the image in bytes.
    pub image_len: u32,
    /// The root of the hash tree over the chunks.
    pub root: &'a Hash,
    /// The SHA-256 of the image.
    pub digest: &'a Hash,
    /// What the device needs.
    pub dependencies: Dependencies,
    /// The release goes back: devices that had up to this sequence number may take it.
    pub rollback: Option<u64>,
}

impl<'a> Manifest<'a> {
    /// Reads a manifest, the payload of its envelope.
    ///
    /// # Errors
    /// [`Reason::Malformed`].
    pub fn parse(payload: &'a [u8]) -> Result<Self, Reason> {
        Self::read(payload).filter(Self::is_legal).ok_or(Reason::Malformed)
    }

    fn read(payload: &'a [u8]) -> Option<Self> {
        let (mut component, mut hardware, mut sequence) = (None, None, None);
        let (mut version, mut image_len, mut root, mut digest) = (None, None, None, None);
        let (mut dependencies, mut rollback) = (Dependencies::default(), None);
        let mut fixed = (None, None);
        let mut reader = Reader::new(payload);
        reader.map(|key, reader| {
            match key {
                1 => fixed.0 = Some(reader.uint()?),
                2 => component = Some(Component::from_number(reader.uint()?)?),
                3 => hardware = Some(reader.text()?),
                4 => sequence = Some(reader.uint()?),
                5 => version = Some(reader.text()?),
                6 => image_len = Some(u32::try_from(reader.uint()?).ok()?),
                7 => fixed.1 = Some(reader.uint()?),
                8 => root = Some(reader.array_of_bytes()?),
                9 => digest = Some(reader.array_of_bytes()?),
                10 => dependencies = Dependencies::parse(reader)?,
                11 => rollback = Some(reader.uint()?),
                _ => return Some(false),
            }
            Some(true)
        })?;
        reader.end()?;
        let manifest = Self {
            component: component?,
            hardware: hardware?,
            sequence: sequence?,
            version: version?,
            image_len: image_len?,
            root: root?,
            digest: digest?,
            dependencies,
            rollback,
        };
        (fixed == (Some(VERSION), Some(RELEASE_CHUNK_LEN as u64))).then_some(manifest)
    }

    fn is_legal(&self) -> bool {
        is_text(self.hardware, b"-_.")
            && is_text(self.version, b"-_.+")
            && self.sequence > 0
            && (1..=RELEASE_IMAGE_LEN_MAX).contains(&self.image_len)
            && self.rollback.is_none_or(|from| from > self.sequence)
    }

    /// Writes the manifest, the payload of its envelope. Returns its length.
    ///
    /// # Errors
    /// [`Reason::Malformed`] if a value is not legal, [`Reason::TooBig`] without room.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, Reason> {
        if !self.is_legal() {
            return Err(Reason::Malformed);
        }
        let depends = self.dependencies != Dependencies::default();
        let mut writer = Writer::new(out);
        writer.map(9 + usize::from(depends) + usize::from(self.rollback.is_some()));
        writer.uint(1).uint(VERSION).uint(2).uint(self.component as u64);
        writer.uint(3).text(self.hardware).uint(4).uint(self.sequence).uint(5).text(self.version);
        writer.uint(6).uint(u64::from(self.image_len)).uint(7).uint(RELEASE_CHUNK_LEN as u64);
        writer.uint(8).bytes(self.root).uint(9).bytes(self.digest);
        if depends {
            self.dependencies.write(writer.uint(10));
        }
        if let Some(from) = self.rollback {
            writer.uint(11).uint(from);
        }
        writer.finish().ok_or(Reason::TooBig)
    }

    /// Returns the number of chunks of the image.
    #[must_use]
    pub fn chunk_count(&self) -> u32 {
        tree::chunk_count(self.image_len)
    }

    /// Checks that a device may take the release; `highest` is the greatest sequence number of the
    /// component that it ever confirmed.
    ///
    /// # Errors
    /// [`Reason::OtherHardware`], [`Reason::OldSequence`] or [`Reason::UnmetDependency`].
    pub fn check(&self, device: &Device<'_>, highest: u64) -> Result<(), Reason> {
        let goes_on = self.sequence > highest;
        let goes_back = self.rollback.is_some_and(|from| from >= highest);
        if self.hardware != device.hardware {
            Err(Reason::OtherHardware)
        } else if !goes_on && !goes_back {
            Err(Reason::OldSequence)
        } else if !self.dependencies.are_met_by(device) {
            Err(Reason::UnmetDependency)
        } else {
            Ok(())
        }
    }
}

fn is_text(text: &str, signs: &[u8]) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || signs.contains(&byte);
    (1..=RELEASE_TEXT_LEN_MAX).contains(&text.len()) && text.bytes().all(legal)
}

/// A manifest in its envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedManifest<'a> {
    /// What it says.
    pub manifest: Manifest<'a>,
    /// The release's name.
    pub id: ReleaseId,
    envelope: Sign1<'a>,
}

impl<'a> SignedManifest<'a> {
    /// Reads an envelope and its manifest; the signature is not verified.
    ///
    /// # Errors
    /// [`Reason::Malformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Reason> {
        let short = bytes.len() <= RELEASE_DOCUMENT_LEN_MAX;
        let envelope = Sign1::parse(bytes).filter(|_| short).ok_or(Reason::Malformed)?;
        let manifest = Manifest::parse(envelope.payload)?;
        let [a, b, c, d, e, f, g, h, ..] = sha256(&[envelope.payload]);
        Ok(Self { manifest, id: ReleaseId([a, b, c, d, e, f, g, h]), envelope })
    }

    /// Checks that a release key that is trusted has signed it.
    ///
    /// # Errors
    /// [`Reason::UnknownKey`], [`Reason::RevokedKey`] or [`Reason::WrongSignature`].
    pub fn verify(&self, keys: &KeyDocument<'_>) -> Result<(), Reason> {
        let key = keys.release_key(self.key())?;
        if self.envelope.is_signed_by(key) { Ok(()) } else { Err(Reason::WrongSignature) }
    }

    /// Returns the key that it says it is signed with.
    #[must_use]
    pub fn key(&self) -> KeyId {
        self.envelope.signature.key
    }
}

/// Puts a manifest and its signature ([`cose::signed_by_one`](super::cose::signed_by_one) says over
/// what) into an envelope. Returns its length.
///
/// # Errors
/// [`Reason::Malformed`] if the payload is no manifest, [`Reason::TooBig`] without room.
pub fn seal(
    payload: &[u8],
    key: KeyId,
    signature: &[u8; SIGNATURE_LEN],
    out: &mut [u8],
) -> Result<usize, Reason> {
    Manifest::parse(payload)?;
    let signature = Signature { key, bytes: signature };
    let len = Sign1 { payload, signature }.write(out);
    len.filter(|&len| len <= RELEASE_DOCUMENT_LEN_MAX).ok_or(Reason::TooBig)
}
