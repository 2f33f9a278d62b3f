use serde::Serialize;
use stonechat_server::clock::now_ms;
use stonechat_server::identity::{DeviceEntry, Filter, hex};

use super::{Place, hinted, parse_id};
use crate::Outcome;
use crate::cmd::serve::runtime;
use crate::config::FolderArgs;
use crate::output::Output;

/// List the registered devices, their groups and tags.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat device list --data /var/lib/stonechat
  stonechat device list --group hall-1 --tag old")]
pub(super) struct ListArgs {
    /// Only those of this group.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Only those with this tag; several times for all of several.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Serialize)]
struct Listed {
    device: String,
    groups: Vec<String>,
    tags: Vec<String>,
    disabled: bool,
    number: Option<u16>,
}

impl Listed {
    fn of(entry: &DeviceEntry) -> Self {
        Self {
            device: entry.id.as_str().to_owned(),
            groups: entry.groups.iter().cloned().collect(),
            tags: entry.tags.iter().cloned().collect(),
            disabled: entry.disabled,
            number: entry.number,
        }
    }

    fn text(&self) -> String {
        let marked = |mark: &str, labels: &[String]| {
            labels.iter().map(|label| format!("  {mark}{label}")).collect::<String>()
        };
        let number = self.number.map(|number| format!("  unauthenticated packets of {number}"));
        format!(
            "{}{}{}{}{}",
            self.device,
            marked("", &self.groups),
            marked("#", &self.tags),
            number.unwrap_or_default(),
            if self.disabled { "  disabled" } else { "" }
        )
    }
}

impl ListArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let place = Place::existing(self.folder)?;
        let filter = Filter { group: self.group, tags: self.tags };
        let entries = runtime()?.block_on(place.registry.entries(&filter))?;
        for entry in entries {
            let listed = Listed::of(&entry);
            output.result(&listed, || listed.text());
        }
        Ok(Outcome::Done)
    }
}

/// Show a device and its credentials; secrets are kept nowhere, so they are not among them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat device show pump-7")]
pub(super) struct ShowArgs {
    /// The device.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    listed: Listed,
    created_ms: i64,
    codec: Option<String>,
    decoder: Option<String>,
    credentials: Vec<ShownCredential>,
}

#[derive(Serialize)]
struct ShownCredential {
    kind: &'static str,
    /// What `device revoke --credential` takes.
    name: String,
    created_ms: i64,
    ends_ms: Option<i64>,
    active: bool,
}

impl Shown {
    fn of(entry: &DeviceEntry) -> Self {
        let now_ms = now_ms();
        let tokens = entry.tokens.iter().map(|token| ShownCredential {
            kind: "token",
            name: hex::encode(token.hash.as_bytes()),
            created_ms: token.created_ms,
            ends_ms: token.expires_ms,
            active: token.is_active(now_ms),
        });
        let certificates = entry.certificates.iter().map(|one| ShownCredential {
            kind: "certificate",
            name: one.serial.clone(),
            created_ms: one.created_ms,
            ends_ms: Some(one.end_ms()),
            active: one.is_active(now_ms),
        });
        let keys = entry.link_keys.iter().map(|key| ShownCredential {
            kind: "link",
            name: hex::encode(&key.public),
            created_ms: key.created_ms,
            ends_ms: key.expires_ms,
            active: key.is_active(now_ms),
        });
        Self {
            listed: Listed::of(entry),
            created_ms: entry.created_ms,
            codec: entry.codec.clone(),
            decoder: entry.decoder.clone(),
            credentials: tokens.chain(certificates).chain(keys).collect(),
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![self.listed.text()];
        let named = [("codec", &self.codec), ("decoder", &self.decoder)];
        for (what, name) in named {
            lines.extend(name.as_ref().map(|name| format!("  {what} {name}")));
        }
        let now_ms = now_ms();
        for credential in &self.credentials {
            let name = credential.name.get(..16).unwrap_or(&credential.name);
            let end = match credential.ends_ms {
                _ if !credential.active => ", ended".to_owned(),
                Some(end_ms) => {
                    let minutes = (end_ms - now_ms) / 60_000;
                    format!(
                        ", ends in {} d {} h {} min",
                        minutes / 1_440,
                        minutes / 60 % 24,
                        minutes % 60
                    )
                }
                None => String::new(),
            };
            lines.push(format!("  {:<11} {name}{end}", credential.kind));
        }
        lines.join("\n")
    }
}

impl ShowArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let place = Place::existing(self.folder)?;
        let id = parse_id(&self.id)?;
        let entry = runtime()?.block_on(place.registry.entry(&id)).map_err(hinted)?;
        let shown = Shown::of(&entry);
        output.result(&shown, || shown.text());
        Ok(Outcome::Done)
    }
}
