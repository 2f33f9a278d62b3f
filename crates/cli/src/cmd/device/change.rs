use std::io::{IsTerminal, stdin};

use serde::Serialize;

use super::{Place, hinted, parse_id};
use crate::Outcome;
use crate::cmd::serve::runtime;
use crate::config::FolderArgs;
use crate::output::{Hinted, Output};

/// What was done to a device.
#[derive(Serialize)]
struct Done {
    device: String,
    done: &'static str,
}

impl Done {
    fn tell(device: &str, done: &'static str, output: &Output) {
        let told = Self { device: device.to_owned(), done };
        output.result(&told, || format!("{} {}", told.device, told.done));
    }
}

/// Change a device's groups, tags, codec and decoder, or shut it out for a while.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat device change pump-7 --add-group hall-1 --remove-tag new
  stonechat device change pump-7 --disable")]
pub(super) struct ChangeArgs {
    /// The device.
    #[arg(value_name = "ID")]
    id: String,
    /// Put it into a group.
    #[arg(long, value_name = "GROUP")]
    add_group: Vec<String>,
    /// Take it from a group.
    #[arg(long, value_name = "GROUP")]
    remove_group: Vec<String>,
    /// Give it a tag.
    #[arg(long, value_name = "TAG")]
    add_tag: Vec<String>,
    /// Take a tag from it.
    #[arg(long, value_name = "TAG")]
    remove_tag: Vec<String>,
    /// Read its messages with this codec; none where it is empty.
    #[arg(long, value_name = "CODEC")]
    codec: Option<String>,
    /// Decode its latent vectors with this decoder; none where it is empty.
    #[arg(long, value_name = "DECODER")]
    decoder: Option<String>,
    /// Shut it out; its credentials stay.
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
    /// Let it in again.
    #[arg(long)]
    enable: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

impl ChangeArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let place = Place::existing(self.folder)?;
        let id = parse_id(&self.id)?;
        let named = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
        let changed = place.registry.change(&id, "device.change", |entry| {
            entry.groups.extend(self.add_group.iter().cloned());
            entry.groups.retain(|group| !self.remove_group.contains(group));
            entry.tags.extend(self.add_tag.iter().cloned());
            entry.tags.retain(|tag| !self.remove_tag.contains(tag));
            if let Some(codec) = &self.codec {
                entry.codec = named(codec);
            }
            if let Some(decoder) = &self.decoder {
                entry.decoder = named(decoder);
            }
            entry.disabled = entry.disabled && !self.enable || self.disable;
            Ok(())
        });
        runtime()?.block_on(changed).map_err(hinted)?;
        Done::tell(&self.id, "changed", output);
        Ok(Outcome::Done)
    }
}

/// Take a credential, or all of them, from a device; a live connection is cut within a second.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat device revoke pump-7
  stonechat device revoke pump-7 --credential 5e1f02

Without --credential the device loses all of them and is shut out until
`stonechat device rotate pump-7` and `stonechat device change pump-7 --enable`.")]
pub(super) struct RevokeArgs {
    /// The device.
    #[arg(value_name = "ID")]
    id: String,
    /// Only the credential whose name, as `device show` prints it, starts so.
    #[arg(long, value_name = "NAME")]
    credential: Option<String>,
    #[command(flatten)]
    folder: FolderArgs,
}

impl RevokeArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let place = Place::existing(self.folder)?;
        let id = parse_id(&self.id)?;
        runtime()?
            .block_on(async {
                match &self.credential {
                    Some(name) => place.registry.revoke_credential(&id, name).await,
                    None => place.registry.revoke(&id).await,
                }
            })
            .map_err(hinted)?;
        Done::tell(&self.id, "revoked", output);
        Ok(Outcome::Done)
    }
}

/// Remove a device from the registry; its readings stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat device delete pump-7 --yes")]
pub(super) struct DeleteArgs {
    /// The device.
    #[arg(value_name = "ID")]
    id: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

impl DeleteArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let place = Place::existing(self.folder)?;
        let id = parse_id(&self.id)?;
        if !self.yes && !confirmed(&format!("Delete the device `{id}`?"), output)? {
            return Ok(Outcome::No);
        }
        runtime()?.block_on(place.registry.delete(&id)).map_err(hinted)?;
        Done::tell(&self.id, "deleted", output);
        Ok(Outcome::Done)
    }
}

/// Asks the person at the terminal; where there is none, that is an error.
pub(crate) fn confirmed(question: &str, output: &Output) -> anyhow::Result<bool> {
    if !stdin().is_terminal() {
        return Err(Hinted::new("nobody is there to be asked", "say --yes to do it anyway"));
    }
    output.note(format!("{question} [y/N]"));
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
