//! Signing a release.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::Serialize;
use stonechat_core::detector::format;
use stonechat_core::limits::{RELEASE_DOCUMENT_LEN_MAX, RELEASE_IMAGE_LEN_MAX};
use stonechat_core::update::cose::{SIGNED_LEN_MAX, signed_by_one};
use stonechat_core::update::manifest::seal;
use stonechat_core::update::{Component, Dependencies, FEATURE_SET, Manifest, SignedManifest};
use stonechat_train::compile::DetectorFile;

use super::key::write;
use super::refused;
use super::verify::{digest_of, root_of};
use crate::Outcome;
use crate::output::{Hinted, Output, require_folder_of};
use crate::signing::SigningKey;

/// Sign a detector or a firmware image.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat release sign room.detector --hardware esp32c3 --label 1.2.0 --key team.key -o room.release
  stonechat release sign app.bin --component firmware --hardware esp32c3 --label 0.3.0 --sequence 7 --key team.key -o app.release")]
pub(super) struct SignArgs {
    /// The image: a detector file, or firmware.
    image: PathBuf,
    /// What it replaces.
    #[arg(long, value_enum, default_value = "detector")]
    component: Kind,
    /// The hardware class of the devices that may take it.
    #[arg(long, value_name = "CLASS")]
    hardware: String,
    /// The version to show to people.
    #[arg(long, value_name = "VERSION")]
    label: String,
    /// Grows with each release of a component; without it, the seconds since 1970.
    #[arg(long, value_name = "NUMBER")]
    sequence: Option<u64>,
    /// The least sequence number of the firmware that must run.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    needs_firmware: u64,
    /// The least sequence number of the detector that must run.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    needs_detector: u64,
    /// The release goes back: devices that had up to this sequence number may take it.
    #[arg(long, value_name = "NUMBER")]
    rollback: Option<u64>,
    /// The key that signs.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The file to write; the image stays in its own.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// A detector file.
    Detector,
    /// Firmware.
    Firmware,
}

#[derive(Serialize)]
struct Signed {
    file: PathBuf,
    release: String,
    sequence: u64,
    bytes: u32,
    key_id: String,
}

impl SignArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        require_folder_of(&self.output)?;
        let shown = self.image.display();
        let image = std::fs::read(&self.image).with_context(|| format!("cannot read `{shown}`"))?;
        let image_len = u32::try_from(image.len()).ok();
        let image_len = image_len.filter(|len| (1..=RELEASE_IMAGE_LEN_MAX).contains(len));
        let image_len = image_len.ok_or_else(|| {
            Hinted::new(
                format!("`{shown}` has {} bytes", image.len()),
                format!("an image has 1 to {RELEASE_IMAGE_LEN_MAX}"),
            )
        })?;
        let needs = (self.needs_firmware, self.needs_detector);
        let mut dependencies = Dependencies {
            firmware_sequence: needs.0,
            detector_sequence: needs.1,
            ..Default::default()
        };
        let component = match self.component {
            Kind::Firmware => Component::Firmware,
            Kind::Detector => {
                DetectorFile::from_bytes(&image).map_err(|error| {
                    Hinted::new(
                        format!("`{shown}` is no detector file: {error}"),
                        "`stonechat train` makes one; for firmware, say --component firmware",
                    )
                })?;
                dependencies.detector_format = format::VERSION;
                dependencies.feature_set = FEATURE_SET;
                Component::Detector
            }
        };
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let sequence = self.sequence.unwrap_or(now_s);
        let (root, digest) = (root_of(&image), digest_of(&image));
        let manifest = Manifest {
            component,
            hardware: &self.hardware,
            sequence,
            version: &self.label,
            image_len,
            root: &root,
            digest: &digest,
            dependencies,
            rollback: self.rollback,
        };
        let hint = "hardware class and label are 1 to 32 of A-Z a-z 0-9 - _ . (a label also +); a sequence number is from 1 on, and below that to which a release goes back";
        let mut payload = [0; RELEASE_DOCUMENT_LEN_MAX];
        let len = manifest
            .write(&mut payload)
            .map_err(|reason| refused(reason, "no release can say that", hint))?;
        let key = SigningKey::read(&self.key)?;
        let id = key.public().id();
        let mut text = [0; SIGNED_LEN_MAX];
        let text_len = signed_by_one(&payload[..len], id, &mut text).expect("there is room");
        let mut out = [0; RELEASE_DOCUMENT_LEN_MAX];
        let len = seal(&payload[..len], id, &key.sign(&text[..text_len]), &mut out)
            .map_err(|reason| refused(reason, "no release can say that", hint))?;
        let release = SignedManifest::parse(&out[..len]).expect("it was just written").id;
        write(&self.output, &out[..len])?;
        let told = Signed {
            file: self.output,
            release: release.to_string(),
            sequence,
            bytes: image_len,
            key_id: id.to_string(),
        };
        output.result(&told, || {
            let Signed { file, release, sequence, key_id, .. } = &told;
            format!(
                "{}: release {release}, sequence {sequence}, signed by {key_id}",
                file.display()
            )
        });
        Ok(Outcome::Done)
    }
}
