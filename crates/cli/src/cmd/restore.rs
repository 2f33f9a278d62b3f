use std::path::PathBuf;

use serde::Serialize;
use stonechat_server::store::backup::restore;

use crate::Outcome;
use crate::config::FolderArgs;
use crate::output::{Output, counted};

/// Put a backup in the place of the data folder; no server may run there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat restore /var/backups/stonechat-monday --data /var/lib/stonechat
  stonechat restore /var/backups/stonechat-monday --data /var/lib/stonechat --yes

The backup is checked to its last byte before anything is changed.")]
pub(crate) struct Args {
    /// The folder that `stonechat backup` wrote.
    #[arg(value_name = "FOLDER")]
    backup: PathBuf,
    /// Put a data folder that is not empty aside, under another name beside it.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Serialize)]
struct Shown {
    data: String,
    files: usize,
    made_ms: i64,
    kept: Option<String>,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let data = self.folder.settings()?.data;
        let restored = restore(&self.backup, &data, self.yes)?;
        let shown = Shown {
            data: data.display().to_string(),
            files: restored.manifest.files.len(),
            made_ms: restored.manifest.made_ms,
            kept: restored.kept.map(|path| path.display().to_string()),
        };
        output.result(&shown, || {
            let mut text = format!("{}: {} restored", shown.data, counted(shown.files, "file"));
            if let Some(kept) = &shown.kept {
                text += &format!("\nwhat was there before is in {kept}");
            }
            text
        });
        Ok(Outcome::Done)
    }
}
