//! Provisioning bundles and other files that hold secrets.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use stonechat_server::identity::Bundle;

use crate::output::Hinted;

/// Reads a bundle.
pub(crate) fn read(path: &Path) -> anyhow::Result<Bundle> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the bundle `{}`", path.display()))?;
    // The error of the parser would show the line, and with it secrets.
    let bundle: Bundle = toml::from_str(&text).map_err(|error| {
        Hinted::new(
            format!("`{}` is no provisioning bundle: {}", path.display(), error.message()),
            "`stonechat device add ID -o FILE` makes one",
        )
    })?;
    bundle.check().with_context(|| format!("the bundle `{}` cannot be used", path.display()))?;
    Ok(bundle)
}

/// Writes a bundle as TOML.
pub(crate) fn text(bundle: &Bundle) -> anyhow::Result<String> {
    let table = toml::to_string_pretty(bundle).context("a bundle is a table")?;
    let device = &bundle.device;
    Ok(format!(
        "# Provisioning bundle of the Stonechat device {device}. It holds secrets: give it to the\n\
         # device, and to nobody else.\n{table}"
    ))
}

/// A new file that only its owner may read; it goes again unless it is written.
pub(crate) struct SecretFile {
    path: PathBuf,
    file: Option<File>,
}

impl SecretFile {
    /// Makes the file, before anything is changed that it is needed for.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), file: Some(file) }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Hinted::new(
                format!("the file `{}` is there already", path.display()),
                "it may hold a device's only secrets; name another, or move it away",
            )),
            Err(error) => Err(error).with_context(|| format!("cannot write `{}`", path.display())),
        }
    }

    /// Writes it whole.
    pub(crate) fn write(mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if let Some(mut file) = self.file.take() {
            file.write_all(bytes)
                .and_then(|()| file.sync_all())
                .with_context(|| format!("cannot write `{}`", self.path.display()))?;
        }
        Ok(())
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
