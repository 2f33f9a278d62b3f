use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use stonechat_server::DeviceId;
use stonechat_server::clock::now_ms;
use stonechat_server::identity::{
    Bundle, BundleCredentials, BundleServer, CredentialKind, DeviceEntry, IdentityError,
    ServerKeys, Wanted, provision,
};

use super::{Kind, Place, hinted, millis, parse_id, parse_span};
use crate::Outcome;
use crate::bundle::{self, SecretFile};
use crate::cmd::serve::runtime;
use crate::config::FolderArgs;
use crate::output::{Hinted, Output};

/// Register devices: with a bundle that holds all that one needs, or a token to standard output.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat device add pump-7 -o pump-7.toml
  stonechat device add pump-7 -o pump-7.toml --flash pump-7.bin --group hall-1
  stonechat device add pump-7 > pump-7.credentials
  stonechat device add --new-token pump-7
  stonechat device add tank-3 --number 3

Secrets are shown once and kept nowhere.")]
pub(super) struct AddArgs {
    /// Identities: 1 to 64 of A-Z a-z 0-9 - _.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Give devices that are registered already a new token; the old one is worth nothing then.
    #[arg(long, conflicts_with_all = ["output", "flash", "number"])]
    new_token: bool,
    /// Put it into a group.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// Give it a tag.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Read its messages with this codec, where topic and content type do not say it.
    #[arg(long, value_name = "CODEC")]
    codec: Option<String>,
    /// Decode its latent vectors with this decoder.
    #[arg(long, value_name = "DECODER")]
    decoder: Option<String>,
    /// Its number in the old packets; it is unauthenticated and gets no credentials then.
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["output", "flash"])]
    number: Option<u16>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    folder: FolderArgs,
}

/// Where a bundle goes, and what it holds.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Bundle")]
pub(super) struct FileArgs {
    /// Write the provisioning bundle, TOML.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write it as an image of one flash page of 4,096 bytes, too.
    #[arg(long, value_name = "FILE")]
    flash: Option<PathBuf>,
    /// What it proves itself by: several times for several; all of them without.
    #[arg(long = "with", value_name = "KIND", value_enum)]
    kinds: Vec<Kind>,
    /// How long its certificate is valid.
    #[arg(long, value_name = "SPAN", default_value = "730d", value_parser = parse_span)]
    valid: Duration,
    /// By which name the device reaches the server; without it, the first of `allowed_hosts`.
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
}

/// The files of a bundle, made before anything is changed.
struct Files {
    toml: Option<SecretFile>,
    image: Option<SecretFile>,
}

impl FileArgs {
    fn is_wanted(&self) -> bool {
        self.output.is_some() || self.flash.is_some()
    }

    fn create(&self) -> anyhow::Result<Files> {
        let create = |path: &Option<PathBuf>| path.as_deref().map(SecretFile::create).transpose();
        Ok(Files { toml: create(&self.output)?, image: create(&self.flash)? })
    }

    /// What is made; without a bundle, only a token can be handed over.
    fn wanted(&self, overlap: Duration) -> Wanted {
        let kinds = match (self.is_wanted(), self.kinds.is_empty()) {
            (false, true) => vec![CredentialKind::Token],
            (true, true) => {
                vec![CredentialKind::Token, CredentialKind::Certificate, CredentialKind::LinkKey]
            }
            (_, false) => self.kinds.iter().map(|&kind| kind.into()).collect(),
        };
        Wanted { kinds, validity: self.valid, overlap_ms: millis(overlap) }
    }
}

impl Files {
    fn write(self, bundle: &Bundle) -> anyhow::Result<()> {
        let image = self.image.map(|file| anyhow::Ok((file, bundle.image()?))).transpose()?;
        if let Some(file) = self.toml {
            file.write(bundle::text(bundle)?.as_bytes())?;
        }
        if let Some((file, image)) = image {
            file.write(&image)?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Credential {
    device: String,
    token: String,
}

#[derive(Serialize)]
struct Provisioned {
    device: String,
    bundle: Option<PathBuf>,
    flash: Option<PathBuf>,
}

/// Hands a device's new secrets over: as files, else the token to standard output.
fn hand_over(
    id: &DeviceId,
    server: BundleServer,
    credentials: BundleCredentials,
    (args, files): (&FileArgs, Files),
    output: &Output,
) -> anyhow::Result<()> {
    let device = id.as_str().to_owned();
    if !args.is_wanted() {
        let token = credentials.token.unwrap_or_default();
        let credential = Credential { device, token };
        output.result(&credential, || format!("{} {}", credential.device, credential.token));
        return Ok(());
    }
    files.write(&Bundle::new(id.clone(), server, credentials)).with_context(|| {
        format!("`{id}` is registered, but its secrets are lost; `stonechat device rotate {id}` makes new ones")
    })?;
    let told = Provisioned { device, bundle: args.output.clone(), flash: args.flash.clone() };
    output.result(&told, || {
        let paths = [&told.bundle, &told.flash].into_iter().flatten();
        let paths: Vec<_> = paths.map(|path: &PathBuf| path.display().to_string()).collect();
        format!("{} {}", told.device, paths.join(" "))
    });
    Ok(())
}

impl AddArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let ids = self.ids.iter().map(|id| parse_id(id)).collect::<anyhow::Result<Vec<_>>>()?;
        let bundled = self.files.is_wanted();
        if ids.len() > 1 && (bundled || self.number.is_some()) {
            return Err(Hinted::new(
                "a bundle or a number is one device's",
                "name one device, or make many bundles with `stonechat device import`",
            ));
        }
        if !bundled
            && self.number.is_none()
            && !self.files.kinds.iter().all(|kind| *kind == Kind::Token)
        {
            return Err(Hinted::new(
                "certificates and keys do not go to standard output",
                "name a file for the bundle with -o",
            ));
        }
        let place = Place::open(self.folder.clone())?;
        runtime()?.block_on(async {
            for id in ids {
                if self.new_token {
                    let token = place.registry.rotate(&id).await.map_err(hinted)?;
                    let token = token.reveal().to_owned();
                    let credential = Credential { device: id.as_str().to_owned(), token };
                    output.result(&credential, || {
                        format!("{} {}", credential.device, credential.token)
                    });
                } else {
                    self.add(&place, id, output).await?;
                }
            }
            Ok(Outcome::Done)
        })
    }

    async fn add(&self, place: &Place, id: DeviceId, output: &Output) -> anyhow::Result<()> {
        let now_ms = now_ms();
        let mut entry = DeviceEntry::new(id.clone(), now_ms);
        entry.groups.extend(self.groups.iter().cloned());
        entry.tags.extend(self.tags.iter().cloned());
        entry.codec.clone_from(&self.codec);
        entry.decoder.clone_from(&self.decoder);
        entry.number = self.number;
        if self.number.is_some() {
            place.registry.insert(entry).await.map_err(hinted)?;
            let told = Provisioned { device: id.as_str().to_owned(), bundle: None, flash: None };
            output.result(&told, || format!("{} registered, unauthenticated", told.device));
            return Ok(());
        }
        let keys = place.keys().await?;
        let files = self.files.create()?;
        let credentials = provision(&mut entry, &keys, &self.files.wanted(Duration::ZERO), now_ms)?;
        let server = describe(place, &keys, &self.files, output).await?;
        place.registry.insert(entry).await.map_err(hinted)?;
        hand_over(&id, server, credentials, (&self.files, files), output)
    }
}

async fn describe(
    place: &Place,
    keys: &ServerKeys,
    files: &FileArgs,
    output: &Output,
) -> anyhow::Result<BundleServer> {
    if files.is_wanted() {
        place.server(keys, files.host.as_deref(), output).await
    } else {
        Ok(BundleServer::of(keys, Default::default()))
    }
}

/// Give a device new credentials; the old ones of the same kind go on to count for a while.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat device rotate pump-7 --overlap 24h -o pump-7-new.toml
  stonechat device rotate pump-7 --with certificate --overlap 7d -o pump-7-new.toml
  stonechat device rotate pump-7 > pump-7.credentials")]
pub(super) struct RotateArgs {
    /// The device.
    #[arg(value_name = "ID")]
    id: String,
    /// How long the old credentials of these kinds go on to count.
    #[arg(long, value_name = "SPAN", default_value = "0s", value_parser = parse_span)]
    overlap: Duration,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    folder: FolderArgs,
}

impl RotateArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let id = parse_id(&self.id)?;
        if !self.files.is_wanted() && !self.files.kinds.iter().all(|kind| *kind == Kind::Token) {
            return Err(Hinted::new(
                "certificates and keys do not go to standard output",
                "name a file for the bundle with -o",
            ));
        }
        let place = Place::existing(self.folder)?;
        runtime()?.block_on(async {
            let keys = place.keys().await?;
            let files = self.files.create()?;
            let server = describe(&place, &keys, &self.files, output).await?;
            let wanted = self.files.wanted(self.overlap);
            let made = place.registry.change(&id, "device.rotate", |entry| {
                provision(entry, &keys, &wanted, now_ms()).map_err(IdentityError::from)
            });
            let credentials = made.await.map_err(hinted)?;
            hand_over(&id, server, credentials, (&self.files, files), output)?;
            Ok(Outcome::Done)
        })
    }
}

/// Certify a key that a device made itself, from its signed request.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN=pump-7 -keyout pump-7.key -out pump-7.csr
  stonechat device certify pump-7 --csr pump-7.csr > pump-7.crt")]
pub(super) struct CertifyArgs {
    /// The device.
    #[arg(value_name = "ID")]
    id: String,
    /// The certificate request, PEM (PKCS #10).
    #[arg(long, value_name = "FILE")]
    csr: PathBuf,
    /// How long the certificate is valid.
    #[arg(long, value_name = "SPAN", default_value = "730d", value_parser = parse_span)]
    valid: Duration,
    /// How long older certificates go on to count.
    #[arg(long, value_name = "SPAN", default_value = "0s", value_parser = parse_span)]
    overlap: Duration,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Serialize)]
struct Certified {
    device: String,
    serial: String,
    certificate: String,
}

impl CertifyArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let id = parse_id(&self.id)?;
        let request = read(&self.csr)?;
        let place = Place::existing(self.folder)?;
        let certified = runtime()?.block_on(async {
            let keys = place.keys().await?;
            let issued = keys.authority().certify_request(&id, &request, self.valid, now_ms())?;
            let serial = issued.credential.serial.clone();
            let overlap_ms = millis(self.overlap);
            let recorded = place.registry.rotate_certificate(&id, issued.credential, overlap_ms);
            recorded.await.map_err(hinted)?;
            anyhow::Ok(Certified {
                device: self.id.clone(),
                serial,
                certificate: issued.certificate,
            })
        })?;
        output.result(&certified, || certified.certificate.clone());
        Ok(Outcome::Done)
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) => bail!("cannot read `{}`: {error}", path.display()),
    }
}
