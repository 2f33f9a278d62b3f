use std::path::PathBuf;

use serde::Serialize;
use stonechat_server::store::backup::{Manifest, back_up, verify};

use crate::Outcome;
use crate::config::FolderArgs;
use crate::output::{Output, counted};

/// Copy the database and the server's keys into a new folder, also while the server runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat backup /var/backups/stonechat-monday
  stonechat backup --check /var/backups/stonechat-monday

The folder holds the keys of the server: keep it where only you can read it. Readings in a MariaDB
database are not in it; `mariadb-dump --single-transaction` copies those.")]
pub(crate) struct Args {
    /// The folder to write; it must not exist.
    #[arg(value_name = "FOLDER")]
    target: PathBuf,
    /// Check a backup to its last byte instead of making one.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Serialize)]
struct Shown<'a> {
    backup: String,
    made_ms: i64,
    version: &'a str,
    files: usize,
    bytes: u64,
    database: bool,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let (manifest, done) = if self.check {
            (verify(&self.target)?, "whole")
        } else {
            let data = self.folder.settings()?.data;
            (back_up(&data, &self.target)?, "written")
        };
        let shown = shown(&manifest, self.target.display().to_string());
        output.result(&shown, || {
            format!(
                "{}: {}, {} bytes, {done}",
                shown.backup,
                counted(shown.files, "file"),
                shown.bytes
            )
        });
        if !shown.database {
            output.warn("there is no SQLite database in it");
        }
        Ok(Outcome::Done)
    }
}

fn shown(manifest: &Manifest, backup: String) -> Shown<'_> {
    Shown {
        backup,
        made_ms: manifest.made_ms,
        version: &manifest.version,
        files: manifest.files.len(),
        bytes: manifest.files.iter().map(|file| file.bytes).sum(),
        database: manifest.files.iter().any(|file| file.name == "stonechat.sqlite"),
    }
}
