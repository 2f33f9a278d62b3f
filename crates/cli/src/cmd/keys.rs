use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;
use stonechat_server::identity::hex;
use stonechat_server::identity::keys::put_aside;

use super::device::{Place, confirmed};
use super::serve::runtime;
use crate::Outcome;
use crate::config::FolderArgs;
use crate::output::Output;

/// Show the server's own keys, or have new ones made.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat keys show")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(ShowArgs),
    Replace(ReplaceArgs),
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        match self.command {
            Command::Show(args) => args.run(output),
            Command::Replace(args) => args.run(output),
        }
    }
}

/// Print by what devices know this server; nothing of it is secret.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat keys show --data /var/lib/stonechat")]
struct ShowArgs {
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Serialize)]
struct Shown {
    authority_sha256: String,
    link_public: String,
    packets_sha256: String,
    names: Vec<String>,
    authority: String,
}

impl ShowArgs {
    fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let place = Place::existing(self.folder)?;
        let keys = runtime()?.block_on(place.keys())?;
        let prints = keys.fingerprints();
        let shown = Shown {
            authority_sha256: hex::encode(&prints.authority_sha256),
            link_public: hex::encode(&prints.link_public),
            packets_sha256: hex::encode(&prints.packets_sha256),
            names: keys.names().to_vec(),
            authority: keys.authority().pem().to_owned(),
        };
        output.result(&shown, || {
            format!(
                "authority (SHA-256)  {}\nlink key             {}\npackets (SHA-256)    {}\nnames                {}\n{}",
                shown.authority_sha256,
                shown.link_public,
                shown.packets_sha256,
                shown.names.join(" "),
                shown.authority
            )
        });
        Ok(Outcome::Done)
    }
}

/// Put lost or exposed keys aside: the next start makes new ones, and every device needs a new bundle.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat keys replace --yes")]
struct ReplaceArgs {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Serialize)]
struct Replaced {
    old_keys: Option<PathBuf>,
}

impl ReplaceArgs {
    fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let place = Place::existing(self.folder)?;
        let question =
            "Replace the server's keys? No device will trust it until it has a new bundle.";
        if !self.yes && !confirmed(question, output)? {
            return Ok(Outcome::No);
        }
        let old_keys = runtime()?.block_on(put_aside(&place.settings.data, &*place.records))?;
        let replaced = Replaced { old_keys };
        output.result(&replaced, || match &replaced.old_keys {
            Some(folder) => format!("the old keys are in {}", folder.display()),
            None => "there were no keys".to_owned(),
        });
        output.note("Start the server again: it makes new keys then.");
        Ok(Outcome::Done)
    }
}
