mod inspect;
mod key;
mod sign;
mod verify;

use std::path::Path;

use anyhow::Context;
use clap::Subcommand;
use stonechat_core::limits::RELEASE_DOCUMENT_LEN_MAX;
use stonechat_core::update::Reason;

use crate::Outcome;
use crate::output::{Hinted, Output};

/// Sign detectors and firmware for devices, and look at what is signed. Needs no server, no network.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  stonechat release key root-1; stonechat release key root-2; stonechat release key team
  stonechat release keys --root root-1.pub --root root-2.pub --threshold 2 --release team.pub \\
      --sign root-1.key --sign root-2.key -o keys.cose
  stonechat release sign room.detector --hardware esp32c3 --label 1.2.0 --key team.key -o room.release
  stonechat release verify room.release --keys keys.cose --image room.detector")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Key(key::KeyArgs),
    Keys(key::KeysArgs),
    Sign(sign::SignArgs),
    Inspect(inspect::InspectArgs),
    Verify(verify::VerifyArgs),
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        match self.command {
            Command::Key(args) => args.run(output),
            Command::Keys(args) => args.run(output),
            Command::Sign(args) => args.run(output),
            Command::Inspect(args) => args.run(output),
            Command::Verify(args) => args.run(output),
        }
    }
}

/// Reads a document that is signed: a release's manifest, or a key document.
fn document(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{shown}`"))?;
    if bytes.len() > RELEASE_DOCUMENT_LEN_MAX {
        return Err(malformed(path, "release or key document"));
    }
    Ok(bytes)
}

/// Says that a file is not what it should be.
fn malformed(path: &Path, what: &str) -> anyhow::Error {
    Hinted::new(
        format!("`{}` is no {what}", path.display()),
        "`stonechat release sign` and `stonechat release keys` write them; the image stands beside, in a file of its own",
    )
}

/// Explains why the core refuses what was asked for.
fn refused(reason: Reason, what: &str, hint: &str) -> anyhow::Error {
    Hinted::new(format!("{what}: {reason}"), hint)
}
