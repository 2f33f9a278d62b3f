use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use stonechat_server::clock::now_ms;
use stonechat_server::identity::{Bundle, CredentialKind, DeviceEntry, Wanted, provision};

use super::{Kind, Place, hinted, parse_span};
use crate::Outcome;
use crate::bundle::{self, SecretFile};
use crate::cmd::serve::runtime;
use crate::config::FolderArgs;
use crate::output::{Hinted, Output, counted};

/// The most devices that are registered in one change.
const DEVICES_PER_CHANGE: usize = 500;

/// Register the devices of a CSV file, and write a bundle for each into a folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat device import devices.csv -o bundles

Each line is ID,GROUP,TAG,TAG...; group and tags may be missing or empty. A first line that starts
with `id` is taken for the names of the columns. Every line is checked before anything is written.")]
pub(super) struct ImportArgs {
    /// The file, CSV.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The folder of the bundles; it is made.
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    /// What each proves itself by: several times for several; all of them without.
    #[arg(long = "with", value_name = "KIND", value_enum)]
    kinds: Vec<Kind>,
    /// How long the certificates are valid.
    #[arg(long, value_name = "SPAN", default_value = "730d", value_parser = parse_span)]
    valid: Duration,
    /// By which name the devices reach the server; without it, the first of `allowed_hosts`.
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Write each bundle as an image of one flash page, too.
    #[arg(long)]
    flash: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Serialize)]
struct Imported {
    devices: usize,
    folder: PathBuf,
}

impl ImportArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let text = std::fs::read_to_string(&self.file)
            .with_context(|| format!("cannot read `{}`", self.file.display()))?;
        let entries = parse(&text, now_ms())
            .with_context(|| format!("`{}` cannot be imported", self.file.display()))?;
        let place = Place::open(self.folder.clone())?;
        std::fs::create_dir_all(&self.output)
            .with_context(|| format!("cannot make the folder `{}`", self.output.display()))?;
        let devices = entries.len();
        runtime()?.block_on(self.import(&place, entries, output))?;
        let told = Imported { devices, folder: self.output };
        output.result(&told, || {
            format!(
                "{} registered, bundles in {}",
                counted(devices, "device"),
                told.folder.display()
            )
        });
        Ok(Outcome::Done)
    }

    async fn import(
        &self,
        place: &Place,
        mut entries: Vec<DeviceEntry>,
        output: &Output,
    ) -> anyhow::Result<()> {
        let keys = place.keys().await?;
        let server = place.server(&keys, self.host.as_deref(), output).await?;
        let kinds = if self.kinds.is_empty() {
            vec![CredentialKind::Token, CredentialKind::Certificate, CredentialKind::LinkKey]
        } else {
            self.kinds.iter().map(|&kind| kind.into()).collect()
        };
        let wanted = Wanted { kinds, validity: self.valid, overlap_ms: 0 };
        for chunk in entries.chunks_mut(DEVICES_PER_CHANGE) {
            let mut files = Vec::new();
            for entry in chunk.iter_mut() {
                let file = |ending: &str| {
                    SecretFile::create(&self.output.join(format!("{}.{ending}", entry.id)))
                };
                let toml = file("toml")?;
                let image = if self.flash { Some(file("bin")?) } else { None };
                let credentials = provision(entry, &keys, &wanted, now_ms())?;
                files.push((
                    Bundle::new(entry.id.clone(), server.clone(), credentials),
                    toml,
                    image,
                ));
            }
            place.registry.insert_all(chunk).await.map_err(hinted)?;
            for (bundle, toml, image) in files {
                if let Some(file) = image {
                    file.write(&bundle.image()?)?;
                }
                toml.write(bundle::text(&bundle)?.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// Reads lines of identity, group and tags.
fn parse(text: &str, now_ms: i64) -> anyhow::Result<Vec<DeviceEntry>> {
    let mut entries = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, line) in text.lines().enumerate() {
        let mut fields = line.split(',').map(str::trim);
        let name = fields.next().unwrap_or_default();
        if line.trim().is_empty() || index == 0 && name.eq_ignore_ascii_case("id") {
            continue;
        }
        let number = index + 1;
        let id = super::parse_id(name).with_context(|| format!("line {number}"))?;
        if !seen.insert(id.clone()) {
            return Err(Hinted::new(
                format!("line {number} names the device `{id}` again"),
                "remove one of the lines; a device may have one group here and more with `device change`",
            ));
        }
        let mut entry = DeviceEntry::new(id, now_ms);
        let filled = |field: &&str| !field.is_empty();
        entry.groups.extend(fields.next().filter(filled).map(str::to_owned));
        entry.tags.extend(fields.filter(filled).map(str::to_owned));
        entry.check().with_context(|| format!("line {number}"))?;
        entries.push(entry);
    }
    if entries.is_empty() {
        return Err(Hinted::new("there is no line with a device", "write lines of ID,GROUP,TAG"));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hold_identity_group_and_tags() {
        let entries = parse("id,group,tags\na,hall,old,x\n\nb\r\nc,,y\n", 7).expect("legal");
        let shown: Vec<String> = entries
            .iter()
            .map(|entry| format!("{} {:?} {:?}", entry.id, entry.groups, entry.tags))
            .collect();
        assert_eq!(shown, ["a {\"hall\"} {\"old\", \"x\"}", "b {} {}", "c {} {\"y\"}"]);
        for bad in ["", "id,group\n", "a\na\n", "a b\n", "a,h h\n"] {
            assert!(parse(bad, 0).is_err(), "{bad:?}");
        }
    }
}
