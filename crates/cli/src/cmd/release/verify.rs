//! Checking what is signed, as a device does.

use std::path::PathBuf;

use anyhow::Context;
use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use stonechat_core::limits::RELEASE_CHUNK_LEN;
use stonechat_core::update::{Hash, KeyDocument, Reason, SignedManifest, tree};

use super::inspect::word;
use super::{document, malformed};
use crate::Outcome;
use crate::output::Output;

/// Check a release, or the next key document, against the key document that devices have.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat release verify room.release --keys keys.cose --image room.detector
  stonechat release verify keys-2.cose --keys keys.cose")]
pub(super) struct VerifyArgs {
    /// The release, or the next key document.
    file: PathBuf,
    /// The key document that is trusted.
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// The image, to be held against the release.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

#[derive(Serialize)]
struct Verified {
    holds: bool,
    what: String,
    reason: Option<String>,
}

impl VerifyArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let trusted = document(&self.keys)?;
        let trusted =
            KeyDocument::parse(&trusted).map_err(|_| malformed(&self.keys, "key document"))?;
        let bytes = document(&self.file)?;
        let (what, outcome) = match SignedManifest::parse(&bytes) {
            Ok(signed) => {
                let image = self.image.as_ref().map(|path| {
                    std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
                });
                let image = image.transpose()?;
                let what =
                    format!("{} {}", word(signed.manifest.component), signed.manifest.version);
                (what, check(&signed, &trusted, image.as_deref()))
            }
            Err(_) => {
                let next = trusted.successor(&bytes);
                if matches!(next, Err(Reason::Malformed)) {
                    return Err(malformed(&self.file, "release or key document"));
                }
                ("key document".to_owned(), next.map(|_| ()))
            }
        };
        let reason = outcome.err().map(|reason| reason.to_string());
        let told = Verified { holds: reason.is_none(), what, reason };
        output.result(&told, || match &told.reason {
            None => format!("{}: devices that trust these keys take it", told.what),
            Some(reason) => format!("{}: refused, as {reason}", told.what),
        });
        Ok(if told.holds { Outcome::Done } else { Outcome::No })
    }
}

fn check(
    signed: &SignedManifest<'_>,
    trusted: &KeyDocument<'_>,
    image: Option<&[u8]>,
) -> Result<(), Reason> {
    signed.verify(trusted)?;
    let manifest = &signed.manifest;
    let fits = |image: &[u8]| {
        image.len() as u64 == u64::from(manifest.image_len)
            && digest_of(image) == *manifest.digest
            && root_of(image) == *manifest.root
    };
    if image.is_none_or(fits) { Ok(()) } else { Err(Reason::WrongDigest) }
}

/// Returns the SHA-256 of an image.
pub(super) fn digest_of(image: &[u8]) -> Hash {
    digest(&SHA256, image).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Returns the root of the hash tree over an image's chunks; of one that is too long, of its
/// beginning.
pub(super) fn root_of(image: &[u8]) -> Hash {
    let mut root = tree::Root::default();
    let mut leaves = image.chunks(RELEASE_CHUNK_LEN).map(tree::leaf);
    let _ = leaves.all(|leaf| root.push(leaf));
    root.finish()
}
