//! Looking at what is signed.

use std::path::PathBuf;

use serde::Serialize;
use stonechat_core::update::cose::KeyId;
use stonechat_core::update::{Component, KeyDocument, SignedManifest};
use stonechat_server::identity::hex;

use super::{document, malformed};
use crate::Outcome;
use crate::output::Output;

/// Print what a release or a key document says, without checking who signed it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat release inspect room.release")]
pub(super) struct InspectArgs {
    /// The release or key document.
    file: PathBuf,
}

#[derive(Serialize)]
struct Release {
    release: String,
    component: &'static str,
    hardware: String,
    sequence: u64,
    label: String,
    bytes: u32,
    chunks: u32,
    sha256: String,
    root: String,
    needs_detector_format: u16,
    needs_feature_set: u32,
    needs_firmware: u64,
    needs_detector: u64,
    rollback: Option<u64>,
    key_id: String,
}

#[derive(Serialize)]
struct Keys {
    version: u64,
    threshold: usize,
    roots: Vec<String>,
    release_keys: Vec<String>,
    revoked: Vec<String>,
}

impl InspectArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let bytes = document(&self.file)?;
        if let Ok(signed) = SignedManifest::parse(&bytes) {
            let told = release(&signed);
            output.result(&told, || told.text());
        } else {
            let keys = KeyDocument::parse(&bytes)
                .map_err(|_| malformed(&self.file, "release or key document"))?;
            let ids = |keys: &mut dyn Iterator<Item = &[u8; 32]>| -> Vec<String> {
                keys.map(|key| KeyId::of(key).to_string()).collect()
            };
            let told = Keys {
                version: keys.version,
                threshold: keys.threshold,
                roots: ids(&mut keys.roots()),
                release_keys: ids(&mut keys.release_keys()),
                revoked: keys.revoked().map(|id| id.to_string()).collect(),
            };
            output.result(&told, || told.text());
        }
        Ok(Outcome::Done)
    }
}

/// Returns the word for a component.
pub(super) fn word(component: Component) -> &'static str {
    match component {
        Component::Detector => "detector",
        Component::Firmware => "firmware",
    }
}

fn release(signed: &SignedManifest<'_>) -> Release {
    let manifest = &signed.manifest;
    let needs = &manifest.dependencies;
    Release {
        release: signed.id.to_string(),
        component: word(manifest.component),
        hardware: manifest.hardware.to_owned(),
        sequence: manifest.sequence,
        label: manifest.version.to_owned(),
        bytes: manifest.image_len,
        chunks: manifest.chunk_count(),
        sha256: hex::encode(manifest.digest),
        root: hex::encode(manifest.root),
        needs_detector_format: needs.detector_format,
        needs_feature_set: needs.feature_set,
        needs_firmware: needs.firmware_sequence,
        needs_detector: needs.detector_sequence,
        rollback: manifest.rollback,
        key_id: signed.key().to_string(),
    }
}

impl Release {
    fn text(&self) -> String {
        let mut lines = vec![
            format!("release     {}", self.release),
            format!("component   {} for {}", self.component, self.hardware),
            format!("label       {}, sequence {}", self.label, self.sequence),
            format!("image       {} bytes in {} chunks", self.bytes, self.chunks),
            format!("sha256      {}", self.sha256),
            format!("tree root   {}", self.root),
        ];
        let needs = [
            ("detector format", u64::from(self.needs_detector_format)),
            ("feature set", u64::from(self.needs_feature_set)),
            ("firmware sequence", self.needs_firmware),
            ("detector sequence", self.needs_detector),
        ];
        let needs: Vec<String> = needs
            .iter()
            .filter(|(_, least)| *least > 0)
            .map(|(what, least)| format!("{what} {least}"))
            .collect();
        if !needs.is_empty() {
            lines.push(format!("needs       {}", needs.join(", ")));
        }
        if let Some(highest) = self.rollback {
            lines.push(format!("goes back   from up to sequence {highest}"));
        }
        lines.push(format!("signed by   {}, not checked", self.key_id));
        lines.join("\n")
    }
}

impl Keys {
    fn text(&self) -> String {
        let joined =
            |ids: &[String]| if ids.is_empty() { "none".to_owned() } else { ids.join(" ") };
        format!(
            "key document  version {}\nroot keys     {}; {} of them sign the next document\n\
             release keys  {}\nrevoked       {}",
            self.version,
            joined(&self.roots),
            self.threshold,
            joined(&self.release_keys),
            joined(&self.revoked)
        )
    }
}
