//! Updates: what a device and those who release for it must agree on.
//!
//! A release is an image (a detector file, or firmware) and its [`manifest`]: who may take it, what
//! it needs, and its hashes, signed with a release key. Which keys those are says the key document
//! of [`trust`], which root keys sign. The image travels in chunks, each of which proves by the
//! hash [`tree`] that it belongs to the release; [`transfer`] has the messages. On the device the
//! [`Updater`] writes them to the slot that does not run, and switches, tries and confirms, with a
//! journal that survives a power cut at any moment.
//!
//! Signing happens elsewhere, with keys that no device and no server has: [`cose`] says what is to
//! be signed and puts the signature into its envelope.

mod agent;
mod cbor;
pub mod cose;
mod journal;
mod key_store;
pub mod manifest;
mod slots;
pub mod transfer;
pub mod tree;
pub mod trust;
mod updater;

use core::fmt;

use sha2::{Digest, Sha256};

pub use agent::{Agent, AgentConfig};
pub use journal::State;
pub use key_store::KeyStore;
pub use manifest::{Dependencies, Manifest, SignedManifest};
pub use slots::{Layout, Region};
pub use trust::KeyDocument;
pub use updater::{Config, Event, Updater};

/// The number of the feature set that this crate computes; a detector can ask for one. It grows
/// whenever a kind of feature or an engine is added.
pub const FEATURE_SET: u32 = 1;

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Hashes what the parts say one after the other.
pub(crate) fn sha256(parts: &[&[u8]]) -> Hash {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// Names a release: the first eight bytes of the SHA-256 of its manifest, without signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseId(pub [u8; 8]);

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a release replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Component {
    /// The detector file; it is swapped while the device runs.
    Detector = 0,
    /// The firmware; it takes a restart.
    Firmware = 1,
}

impl Component {
    /// Reads its number.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Detector),
            1 => Some(Self::Firmware),
            _ => None,
        }
    }
}

/// What a device is, as far as releases ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device<'a> {
    /// The hardware class that its firmware was built for.
    pub hardware: &'a str,
    /// The newest version of the detector file that its firmware reads.
    pub detector_format: u16,
    /// The feature set of its firmware: [`FEATURE_SET`].
    pub feature_set: u32,
    /// The sequence number of the firmware that runs.
    pub firmware_sequence: u64,
    /// The sequence number of the detector that runs.
    pub detector_sequence: u64,
}

/// Why a release, a chunk or a key document was not taken, or why a release did not stay.
///
/// The numbers go over the wire: they never change, and new ones come at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// It is no such document or message, or not in its one legal encoding.
    Malformed = 1,
    /// It is signed with a key that is not trusted.
    UnknownKey = 2,
    /// It is signed with a key that was revoked.
    RevokedKey = 3,
    /// The signature does not fit.
    WrongSignature = 4,
    /// Fewer root keys have signed a key document than the present one demands.
    TooFewSignatures = 5,
    /// The key document is not newer than the present one.
    OldKeys = 6,
    /// The release is for another hardware class.
    OtherHardware = 7,
    /// The release is not newer than what the device has already had.
    OldSequence = 8,
    /// The image does not fit into its slot.
    TooBig = 9,
    /// The device lacks what the release needs.
    UnmetDependency = 10,
    /// Another release is under way, or its end was not reported yet.
    Busy = 11,
    /// The chunk does not belong where it says.
    WrongProof = 12,
    /// The chunk has an impossible number or length.
    WrongChunk = 13,
    /// No such release is under way.
    UnknownRelease = 14,
    /// The image in flash is not the one that was signed.
    WrongDigest = 15,
    /// The flash could not be read, written or erased.
    Flash = 16,
    /// No chunk came for too long.
    ReceivingTimeout = 17,
    /// Checking took too long.
    VerifyingTimeout = 18,
    /// The device did not switch for too long.
    StagedTimeout = 19,
    /// The release was not found healthy in time.
    TrialTimeout = 20,
    /// The device restarted too often on trial.
    TrialBoots = 21,
    /// The release was found unhealthy.
    Unhealthy = 22,
    /// The detector file cannot be loaded by this device.
    DetectorRefused = 23,
    /// The server has called it off.
    Cancelled = 24,
    /// A restart found the slot without its manifest.
    Interrupted = 25,
    /// The device runs this very release.
    Running = 26,
    /// What was asked for does not fit the state.
    WrongState = 27,
    /// The release is for another component.
    OtherComponent = 28,
}

impl Reason {
    /// Every reason, in the order of their numbers from 1.
    pub const ALL: [Self; 28] = [
        Self::Malformed,
        Self::UnknownKey,
        Self::RevokedKey,
        Self::WrongSignature,
        Self::TooFewSignatures,
        Self::OldKeys,
        Self::OtherHardware,
        Self::OldSequence,
        Self::TooBig,
        Self::UnmetDependency,
        Self::Busy,
        Self::WrongProof,
        Self::WrongChunk,
        Self::UnknownRelease,
        Self::WrongDigest,
        Self::Flash,
        Self::ReceivingTimeout,
        Self::VerifyingTimeout,
        Self::StagedTimeout,
        Self::TrialTimeout,
        Self::TrialBoots,
        Self::Unhealthy,
        Self::DetectorRefused,
        Self::Cancelled,
        Self::Interrupted,
        Self::Running,
        Self::WrongState,
        Self::OtherComponent,
    ];

    /// Reads its number; 0 stands for no reason and is none.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it is malformed",
            Self::UnknownKey => "it is signed with a key that is not trusted",
            Self::RevokedKey => "it is signed with a revoked key",
            Self::WrongSignature => "its signature is wrong",
            Self::TooFewSignatures => "too few root keys have signed it",
            Self::OldKeys => "the key document is not newer than the present one",
            Self::OtherHardware => "it is for another hardware class",
            Self::OldSequence => "it is not newer than what the device has had",
            Self::TooBig => "it does not fit into its slot",
            Self::UnmetDependency => "the device lacks what it needs",
            Self::Busy => "another release is under way or not reported yet",
            Self::WrongProof => "the chunk does not belong to the release",
            Self::WrongChunk => "the chunk has an impossible number or length",
            Self::UnknownRelease => "no such release is under way",
            Self::WrongDigest => "the image is not the one that was signed",
            Self::Flash => "the flash failed",
            Self::ReceivingTimeout => "no chunk came for too long",
            Self::VerifyingTimeout => "checking took too long",
            Self::StagedTimeout => "the device did not switch in time",
            Self::TrialTimeout => "it was not found healthy in time",
            Self::TrialBoots => "the device restarted too often on trial",
            Self::Unhealthy => "it was found unhealthy",
            Self::DetectorRefused => "the detector file cannot be loaded",
            Self::Cancelled => "it was called off",
            Self::Interrupted => "a restart found the slot without its manifest",
            Self::Running => "the device runs this very release",
            Self::WrongState => "that does not fit the state",
            Self::OtherComponent => "it is for another component",
        })
    }
}

impl core::error::Error for Reason {}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn every_reason_has_its_number() {
        for (number, reason) in (1_u8..).zip(Reason::ALL) {
            assert_eq!(reason as u8, number);
            assert_eq!(Reason::from_number(number), Some(reason));
        }
        assert_eq!(Reason::from_number(0), None);
        assert_eq!(Reason::from_number(Reason::ALL.len() as u8 + 1), None);
    }
}
