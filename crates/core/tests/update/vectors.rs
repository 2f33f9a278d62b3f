//! `testdata/update.json`, which `testdata/make/update.py` makes with pycose, cbor2 and OpenSSL.

use serde::Deserialize;
use sha2::{Digest, Sha256};
use stonechat_core::update::Reason;

#[derive(Deserialize)]
pub(crate) struct Vectors {
    pub(crate) manifests: Vec<ManifestCase>,
    pub(crate) optional_key: String,
    pub(crate) key_documents: Vec<KeyCase>,
    pub(crate) signed_by_roots_that_left: String,
    pub(crate) forged_manifests: Vec<Forged>,
    pub(crate) forged_key_documents: Vec<Forged>,
    pub(crate) trees: Vec<TreeCase>,
    pub(crate) messages: Messages,
    pub(crate) flash: FlashCase,
}

#[derive(Deserialize)]
pub(crate) struct Messages {
    pub(crate) release: String,
    pub(crate) other: String,
    pub(crate) proof: Vec<String>,
    pub(crate) keys: String,
    pub(crate) offer: String,
    pub(crate) chunk: String,
    pub(crate) seen: String,
    pub(crate) cancel: String,
    pub(crate) ask: String,
    pub(crate) later: String,
    pub(crate) status: String,
    pub(crate) wanted: Vec<u32>,
}

#[derive(Deserialize)]
pub(crate) struct FlashCase {
    pub(crate) record: String,
    pub(crate) document: String,
}

#[derive(Deserialize)]
pub(crate) struct ManifestCase {
    pub(crate) name: String,
    pub(crate) component: u64,
    pub(crate) hardware: String,
    pub(crate) sequence: u64,
    pub(crate) version: String,
    pub(crate) image_len: u32,
    pub(crate) root: String,
    pub(crate) digest: String,
    pub(crate) needs: [u64; 4],
    pub(crate) rollback: Option<u64>,
    pub(crate) secret: String,
    pub(crate) id: String,
    pub(crate) payload: String,
    pub(crate) signed: String,
}

#[derive(Deserialize)]
pub(crate) struct KeyCase {
    pub(crate) name: String,
    pub(crate) version: u64,
    pub(crate) roots: Vec<String>,
    pub(crate) threshold: usize,
    pub(crate) release: Vec<String>,
    pub(crate) revoked: Vec<String>,
    pub(crate) signers: Vec<String>,
    pub(crate) payload: String,
    pub(crate) signed: String,
}

#[derive(Deserialize)]
pub(crate) struct Forged {
    pub(crate) name: String,
    pub(crate) signed: String,
    reason: String,
}

impl Forged {
    pub(crate) fn reason(&self) -> Reason {
        match self.reason.as_str() {
            "malformed" => Reason::Malformed,
            "unknown key" => Reason::UnknownKey,
            "revoked key" => Reason::RevokedKey,
            "wrong signature" => Reason::WrongSignature,
            "too few signatures" => Reason::TooFewSignatures,
            "old keys" => Reason::OldKeys,
            other => panic!("no such reason: {other}"),
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct TreeCase {
    pub(crate) image_len: usize,
    pub(crate) root: String,
    pub(crate) digest: String,
    pub(crate) proofs: Vec<Proof>,
}

#[derive(Deserialize)]
pub(crate) struct Proof {
    pub(crate) index: u32,
    pub(crate) proof: Vec<String>,
}

pub(crate) fn load() -> Vectors {
    serde_json::from_str(include_str!("../../../../testdata/update.json")).expect("the vectors")
}

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digit).collect()
}

pub(crate) fn array<const N: usize>(hex: &str) -> [u8; N] {
    bytes(hex).try_into().expect("so many bytes")
}

/// The bytes of an image of the vectors.
pub(crate) fn image(len: usize) -> Vec<u8> {
    let block = |i| Sha256::digest(format!("stonechat update vector image {len} {i}"));
    (0..len.div_ceil(32)).flat_map(block).take(len).collect()
}
