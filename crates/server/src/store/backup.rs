//! Backups of a data folder, also while the server runs, and their way back.
//!
//! A backup is a folder that only its owner can look into:
//!
//! | file | content |
//! |---|---|
//! | `manifest.json` | when and by which version it was made; name, length and SHA-256 of each file |
//! | `stonechat.sqlite` | the database as of one moment, if the folder has one |
//! | `keys/...` and others | every other file of the data folder, 0600 |

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{StoreError, sqlite};
use crate::clock::now_ms;

/// The file that lists the others.
pub const MANIFEST: &str = "manifest.json";
/// The version of the manifest's layout.
const FORMAT: u32 = 1;
const COPY_BUFFER_LEN: usize = 64 * 1024;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this layout.
    pub format: u32,
    /// When it was begun, in unix milliseconds.
    pub made_ms: i64,
    /// The version of the program that made it.
    pub version: String,
    /// The files, in the order of their names.
    pub files: Vec<Entry>,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path within the folder, with `/`.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// What became of a restoration.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What is there now.
    pub manifest: Manifest,
    /// Where the folder is that was there before, if any.
    pub kept: Option<PathBuf>,
}

/// Why a backup was not made or not brought back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is nothing to back up.
    #[error("there is no data folder {0}; name another with --data")]
    NoData(PathBuf),
    /// The target is there already.
    #[error("{0} exists already; name a folder that does not")]
    Exists(PathBuf),
    /// The data folder is not empty.
    #[error(
        "the data folder {0} is not empty; with --yes it is put aside and the backup takes its place"
    )]
    NotEmpty(PathBuf),
    /// The backup is incomplete or was changed.
    #[error("the backup {path} is not whole: {detail}; nothing was changed, use another one")]
    Damaged {
        /// The backup.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A file cannot be read or written.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { path, source }
}

/// Copies a data folder into a new folder; a server may run there.
///
/// # Errors
/// When something can not be read or written; there is no new folder then.
pub fn back_up(data: &Path, target: &Path) -> Result<Manifest, BackupError> {
    if !data.is_dir() {
        return Err(BackupError::NoData(data.to_owned()));
    }
    if target.exists() {
        return Err(BackupError::Exists(target.to_owned()));
    }
    let partial = beside(target, "partial")?;
    let made = fill(data, &partial).and_then(|manifest| {
        fs::rename(&partial, target).map_err(at(target))?;
        sync_parent(target)?;
        Ok(manifest)
    });
    if made.is_err() {
        // What is left is of no use; the failure itself is what counts.
        let _ = fs::remove_dir_all(&partial);
    }
    made
}

fn fill(data: &Path, partial: &Path) -> Result<Manifest, BackupError> {
    create_private(partial)?;
    let made_ms = now_ms();
    let mut files = Vec::new();
    // Keys first: a key made meanwhile is then unknown to the database, never the other way round.
    for name in names_of(data)? {
        if !sqlite::is_database_file(&name) {
            files.push(copy(data, partial, &name)?);
        }
    }
    if sqlite::copy_database(data, partial)? {
        let path = partial.join(sqlite::FILE_NAME);
        private(&path)?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(at(&path))?;
        files.push(entry_of(partial, sqlite::FILE_NAME)?);
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let manifest = Manifest { format: FORMAT, made_ms, version, files };
    let text = serde_json::to_string_pretty(&manifest).expect("texts and numbers only");
    write_private(&partial.join(MANIFEST), text.as_bytes())?;
    Ok(manifest)
}

/// Checks a backup to its last byte, the database included.
///
/// # Errors
/// [`BackupError::Damaged`] tells what is wrong with it.
pub fn verify(backup: &Path) -> Result<Manifest, BackupError> {
    let damaged = |detail: String| BackupError::Damaged { path: backup.to_owned(), detail };
    let text = fs::read_to_string(backup.join(MANIFEST))
        .map_err(|error| damaged(format!("its {MANIFEST} cannot be read ({error})")))?;
    let manifest: Manifest = serde_json::from_str(&text)
        .map_err(|error| damaged(format!("its {MANIFEST} is no manifest ({error})")))?;
    if manifest.format != FORMAT {
        return Err(damaged(format!("its layout {} is not known here", manifest.format)));
    }
    for entry in &manifest.files {
        if !is_plain(&entry.name) {
            return Err(damaged(format!("`{}` is no name within the folder", entry.name)));
        }
        let found = entry_of(backup, &entry.name)
            .map_err(|error| damaged(format!("`{}` cannot be read ({error})", entry.name)))?;
        if found != *entry {
            return Err(damaged(format!("`{}` is not what was written", entry.name)));
        }
    }
    if manifest.files.iter().any(|entry| entry.name == sqlite::FILE_NAME) {
        sqlite::check_database(&backup.join(sqlite::FILE_NAME)).map_err(damaged)?;
    }
    Ok(manifest)
}

/// Puts a backup into a data folder that no server uses. A folder that is not empty is put
/// aside under another name if `replace` says so.
///
/// # Errors
/// When the backup is damaged, a server runs, or something can not be written; the data folder is
/// as it was then.
pub fn restore(backup: &Path, data: &Path, replace: bool) -> Result<Restored, BackupError> {
    let manifest = verify(backup)?;
    let occupied = data.is_dir() && fs::read_dir(data).map_err(at(data))?.next().is_some();
    let _lock = if occupied {
        if !replace {
            return Err(BackupError::NotEmpty(data.to_owned()));
        }
        Some(sqlite::lock_folder(data)?)
    } else {
        None
    };
    let fresh = beside(data, "restoring")?;
    let filled = create_private(&fresh).and_then(|()| {
        for entry in &manifest.files {
            if copy(backup, &fresh, &entry.name)? != *entry {
                let detail = format!("`{}` changed while it was read", entry.name);
                return Err(BackupError::Damaged { path: backup.to_owned(), detail });
            }
        }
        Ok(())
    });
    let swapped = filled.and_then(|()| {
        let kept = if occupied {
            let kept = beside(data, "before-restore")?;
            fs::rename(data, &kept).map_err(at(data))?;
            Some(kept)
        } else {
            None
        };
        // An empty folder gives way to another one by itself.
        if let Err(source) = fs::rename(&fresh, data) {
            if let Some(kept) = &kept {
                let _ = fs::rename(kept, data);
            }
            return Err(BackupError::File { path: data.to_owned(), source });
        }
        sync_parent(data)?;
        Ok(kept)
    });
    match swapped {
        Ok(kept) => Ok(Restored { manifest, kept }),
        Err(error) => {
            let _ = fs::remove_dir_all(&fresh);
            Err(error)
        }
    }
}

/// Lists the files within a folder, by their paths with `/`; links are passed over.
fn names_of(folder: &Path) -> Result<Vec<String>, BackupError> {
    let mut names = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(inner) = folders.pop() {
        let path = folder.join(&inner);
        for entry in fs::read_dir(&path).map_err(at(&path))? {
            let entry = entry.map_err(at(&path))?;
            let kind = entry.file_type().map_err(at(&path))?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            let name = if inner.is_empty() { name } else { format!("{inner}/{name}") };
            if kind.is_dir() {
                folders.push(name);
            } else if kind.is_file() {
                names.push(name);
            }
        }
    }
    Ok(names)
}

/// Copies a file, private and on disk when this returns.
fn copy(from: &Path, to: &Path, name: &str) -> Result<Entry, BackupError> {
    let (source_path, path) = (from.join(name), to.join(name));
    if let Some(folder) = path.parent() {
        create_private(folder)?;
    }
    let mut source = File::open(&source_path).map_err(at(&source_path))?;
    let mut out = create_file(&path)?;
    let (mut digest, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; COPY_BUFFER_LEN];
    loop {
        let count = source.read(&mut buffer).map_err(at(&source_path))?;
        if count == 0 {
            break;
        }
        digest.update(&buffer[..count]);
        out.write_all(&buffer[..count]).map_err(at(&path))?;
        bytes += count as u64;
    }
    out.sync_all().map_err(at(&path))?;
    Ok(Entry { name: name.to_owned(), bytes, sha256: hex(&digest.finalize()) })
}

/// Measures a file.
fn entry_of(folder: &Path, name: &str) -> Result<Entry, BackupError> {
    let path = folder.join(name);
    let mut file = File::open(&path).map_err(at(&path))?;
    let mut digest = Sha256::new();
    let bytes = std::io::copy(&mut file, &mut digest).map_err(at(&path))?;
    Ok(Entry { name: name.to_owned(), bytes, sha256: hex(&digest.finalize()) })
}

/// Tells whether a name stays within its folder.
fn is_plain(name: &str) -> bool {
    let mut components = Path::new(name).components();
    !name.is_empty() && components.all(|component| matches!(component, Component::Normal(_)))
}

/// Names a folder beside another one.
fn beside(folder: &Path, what: &str) -> Result<PathBuf, BackupError> {
    let invalid = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "this is no folder");
    let absolute = std::path::absolute(folder).map_err(at(folder))?;
    let name = absolute.file_name().ok_or_else(invalid).map_err(at(folder))?;
    let name = format!("{}.{what}-{}", name.to_string_lossy(), now_ms());
    Ok(absolute.with_file_name(name))
}

fn create_private(folder: &Path) -> Result<(), BackupError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(at(folder))
}

fn create_file(path: &Path) -> Result<File, BackupError> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(at(path))
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    let mut file = create_file(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(path))
}

#[cfg_attr(not(unix), allow(clippy::unnecessary_wraps, reason = "only unix has modes"))]
fn private(path: &Path) -> Result<(), BackupError> {
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .map_err(at(path))?;
    Ok(())
}

fn sync_parent(path: &Path) -> Result<(), BackupError> {
    let absolute = std::path::absolute(path).map_err(at(path))?;
    if let Some(parent) = absolute.parent() {
        File::open(parent).and_then(|folder| folder.sync_all()).map_err(at(parent))?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
