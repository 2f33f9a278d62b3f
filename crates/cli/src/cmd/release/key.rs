//! Keys, and the documents that say which of them count.

use std::path::{Path, PathBuf};

use serde::Serialize;
use stonechat_core::limits::RELEASE_DOCUMENT_LEN_MAX;
use stonechat_core::update::KeyDocument;
use stonechat_core::update::cose::{KeyId, SIGNED_LEN_MAX, Signature, signed_by_several};
use stonechat_core::update::trust::seal;

use super::{document, malformed, refused};
use crate::Outcome;
use crate::bundle::SecretFile;
use crate::output::{Hinted, Output, require_folder_of};
use crate::signing::{PublicKey, SigningKey};

/// Make a key: NAME.key signs and stays with you, NAME.pub is for everybody.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat release key team")]
pub(super) struct KeyArgs {
    /// What the two files are called, without ending.
    name: PathBuf,
}

#[derive(Serialize)]
struct Made {
    key_id: String,
    key: PathBuf,
    public: PathBuf,
}

impl KeyArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let with = |ending: &str| {
            let mut path = self.name.clone().into_os_string();
            path.push(ending);
            PathBuf::from(path)
        };
        let made = (with(".key"), with(".pub"));
        require_folder_of(&made.0)?;
        let secret = SecretFile::create(&made.0)?;
        let (key, text) = SigningKey::make()?;
        write(&made.1, key.public().text().as_bytes())?;
        secret.write(text.as_bytes())?;
        let key_id = key.public().id().to_string();
        let told = Made { key_id, key: made.0, public: made.1 };
        output.result(&told, || {
            format!("{}  {} {}", told.key_id, told.key.display(), told.public.display())
        });
        Ok(Outcome::Done)
    }
}

/// Write the document that says which keys may sign releases; root keys sign it.
///
/// Devices that have a document take the next one if enough root keys of the former one have signed it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat release keys --root a.pub --root b.pub --threshold 2 --release team.pub --sign a.key --sign b.key -o keys.cose
  stonechat release keys --after keys.cose --release new.pub --revoke 0123456789abcdef --sign a.key --sign b.key -o keys-2.cose")]
pub(super) struct KeysArgs {
    /// The document before this one; its root keys and threshold go on unless others are named.
    #[arg(long, value_name = "FILE")]
    after: Option<PathBuf>,
    /// A root key's public half; may be repeated.
    #[arg(long = "root", value_name = "FILE")]
    roots: Vec<PathBuf>,
    /// How many root keys must sign the next document.
    #[arg(long, value_name = "COUNT")]
    threshold: Option<usize>,
    /// The public half of a key that signs releases; may be repeated.
    #[arg(long = "release", value_name = "FILE", required = true)]
    release: Vec<PathBuf>,
    /// The id of a key that no longer counts, also for whoever has an older document; may be repeated.
    #[arg(long = "revoke", value_name = "ID", value_parser = parse_id)]
    revoked: Vec<[u8; 8]>,
    /// A root key that signs this document; may be repeated.
    #[arg(long = "sign", value_name = "FILE", required = true)]
    signers: Vec<PathBuf>,
    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

fn parse_id(text: &str) -> Result<[u8; 8], String> {
    let wrong = || "write the 16 hexadecimal digits that `stonechat release key` prints".to_owned();
    let number = u64::from_str_radix(text, 16).map_err(|_| wrong())?;
    if text.len() == 16 { Ok(number.to_be_bytes()) } else { Err(wrong()) }
}

#[derive(Serialize)]
struct Written {
    file: PathBuf,
    version: u64,
    threshold: usize,
    signed_by: Vec<String>,
}

impl KeysArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        require_folder_of(&self.output)?;
        let former = self.after.as_deref().map(document).transpose()?;
        let former = match (&former, &self.after) {
            (Some(bytes), Some(path)) => {
                Some(KeyDocument::parse(bytes).map_err(|_| malformed(path, "key document"))?)
            }
            _ => None,
        };
        let mut roots = public_keys(&self.roots)?;
        if let (true, Some(former)) = (roots.is_empty(), &former) {
            roots = former.roots().map(|key| PublicKey(*key)).collect();
        }
        let threshold = self.threshold.or(former.map(|former| former.threshold)).unwrap_or(1);
        let release = public_keys(&self.release)?;
        let mut revoked: Vec<[u8; 8]> =
            former.iter().flat_map(|former| former.revoked().map(|id| id.0)).collect();
        revoked.extend(&self.revoked);
        revoked.sort_unstable();
        revoked.dedup();
        let version = former.map_or(1, |former| former.version + 1);
        let borrowed =
            |keys: &'_ [PublicKey]| -> Vec<[u8; 32]> { keys.iter().map(|k| k.0).collect() };
        let (roots, release) = (borrowed(&roots), borrowed(&release));
        let made = KeyDocument::new(
            version,
            &roots.iter().collect::<Vec<_>>(),
            threshold,
            &release.iter().collect::<Vec<_>>(),
            &revoked.iter().collect::<Vec<_>>(),
        );
        let hint = "name 1 to 5 root keys, a threshold of at most as many, 1 to 5 release keys, and no key that is revoked";
        let made = made.map_err(|reason| refused(reason, "no key document can say that", hint))?;
        let (bytes, signed_by) = sign(&made, &self.signers)?;
        if let Some(former) = &former {
            let hint = "sign with as many of the former document's root keys as it demands";
            former
                .successor(&bytes)
                .map_err(|reason| refused(reason, "no device would take this document", hint))?;
        }
        write(&self.output, &bytes)?;
        let told = Written { file: self.output, version, threshold, signed_by };
        output.result(&told, || {
            let file = told.file.display();
            format!("{file}: version {version}, signed by {}", told.signed_by.join(", "))
        });
        Ok(Outcome::Done)
    }
}

fn public_keys(paths: &[PathBuf]) -> anyhow::Result<Vec<PublicKey>> {
    let mut keys = paths.iter().map(|path| PublicKey::read(path)).collect::<Result<Vec<_>, _>>()?;
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

/// Has the named keys sign a document; returns it in its envelope, and who signed.
fn sign(made: &KeyDocument<'_>, signers: &[PathBuf]) -> anyhow::Result<(Vec<u8>, Vec<String>)> {
    let mut payload = [0; RELEASE_DOCUMENT_LEN_MAX];
    let len = made.write(&mut payload).ok_or_else(too_long)?;
    let payload = &payload[..len];
    let mut signatures: Vec<(KeyId, [u8; 64])> = Vec::new();
    for path in signers {
        let key = SigningKey::read(path)?;
        let id = key.public().id();
        let mut text = [0; SIGNED_LEN_MAX];
        let len = signed_by_several(payload, id, &mut text).ok_or_else(too_long)?;
        signatures.push((id, key.sign(&text[..len])));
    }
    signatures.sort_unstable_by_key(|signature| signature.0);
    signatures.dedup_by_key(|signature| signature.0);
    let list: Vec<Signature<'_>> =
        signatures.iter().map(|(key, bytes)| Signature { key: *key, bytes }).collect();
    let mut out = [0; RELEASE_DOCUMENT_LEN_MAX];
    let hint = "name fewer keys, or let fewer sign";
    let len = seal(payload, &list, &mut out)
        .map_err(|reason| refused(reason, "the document cannot be signed", hint))?;
    let signed_by = signatures.iter().map(|(key, _)| key.to_string()).collect();
    Ok((out[..len].to_vec(), signed_by))
}

fn too_long() -> anyhow::Error {
    Hinted::new("the document is too long", "name fewer keys")
}

/// Writes a document.
pub(super) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use anyhow::Context;
    std::fs::write(path, bytes).with_context(|| format!("cannot write `{}`", path.display()))
}
