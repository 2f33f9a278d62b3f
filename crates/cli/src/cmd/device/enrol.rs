use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use stonechat_server::DeviceId;
use stonechat_server::clock::now_ms;
use stonechat_server::identity::authority::{new_key, request};
use stonechat_server::identity::client::{self, ClientError};
use stonechat_server::identity::enrol::permit;
use stonechat_server::identity::hex::Key32;
use stonechat_server::identity::keys::new_link_key;
use stonechat_server::identity::{
    Bundle, BundleCredentials, BundleServer, DeviceEntry, EnrolRequest, IdentityError, Ticket,
};

use super::{Place, hinted, parse_id, parse_span};
use crate::Outcome;
use crate::bundle::{self, SecretFile};
use crate::cmd::serve::runtime;
use crate::config::FolderArgs;
use crate::output::{Hinted, Output};

/// Permit a device to enrol once; or, on the device, enrol with keys that never leave it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat device enrol pump-7 > pump-7.ticket
  stonechat device enrol pump-7 --token-file pump-7.ticket --server https://plant.example:8443 -o pump-7.toml

The first registers the device if it is not, and prints a ticket that works once. The second runs on
the device: it makes keys, shows them to the server, and writes the bundle.")]
pub(super) struct EnrolArgs {
    /// The device.
    #[arg(value_name = "ID")]
    id: String,
    /// How long the ticket is good.
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = parse_span, conflicts_with = "server")]
    valid: Duration,
    /// On the device: the file that holds the ticket.
    #[arg(long, value_name = "FILE", requires_all = ["server", "output"])]
    token_file: Option<PathBuf>,
    /// On the device: the server's address.
    #[arg(long, value_name = "URL", requires_all = ["token_file", "output"])]
    server: Option<String>,
    /// On the device: the bundle to write, TOML.
    #[arg(short, long, value_name = "FILE", requires_all = ["server", "token_file"])]
    output: Option<PathBuf>,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Serialize)]
struct Permitted {
    device: String,
    ticket: String,
    expires_ms: i64,
}

#[derive(Serialize)]
struct Enrolled {
    device: String,
    bundle: PathBuf,
}

impl EnrolArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let id = parse_id(&self.id)?;
        match (&self.server, &self.token_file, &self.output) {
            (Some(server), Some(ticket), Some(file)) => {
                runtime()?.block_on(enrol(&id, server, ticket, file))?;
                let enrolled = Enrolled { device: self.id, bundle: file.clone() };
                output.result(&enrolled, || {
                    format!("{} enrolled, bundle in {}", enrolled.device, enrolled.bundle.display())
                });
            }
            _ => {
                let permitted = self.permit(&id)?;
                output.result(&permitted, || permitted.ticket.clone());
                output.note(format!(
                    "The ticket enrols `{id}` once, within {} minutes.",
                    self.valid.as_secs() / 60
                ));
            }
        }
        Ok(Outcome::Done)
    }

    fn permit(&self, id: &DeviceId) -> anyhow::Result<Permitted> {
        let place = Place::open(self.folder.clone())?;
        runtime()?.block_on(async {
            let keys = place.keys().await?;
            let now_ms = now_ms();
            match place.registry.insert(DeviceEntry::new(id.clone(), now_ms)).await {
                Ok(()) | Err(IdentityError::Exists(_)) => {}
                Err(error) => return Err(hinted(error)),
            }
            let ticket = permit(&place.registry, &keys, id, self.valid).await.map_err(hinted)?;
            Ok(Permitted {
                device: self.id.clone(),
                ticket: ticket.to_string(),
                expires_ms: now_ms.saturating_add(super::millis(self.valid)),
            })
        })
    }
}

/// Makes keys, shows them to the server, and writes what it answers as a bundle.
async fn enrol(id: &DeviceId, server: &str, ticket: &Path, file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(ticket)
        .with_context(|| format!("cannot read the ticket `{}`", ticket.display()))?;
    let ticket: Ticket = text.trim().parse().map_err(|error| {
        Hinted::new(
            format!("`{}`: {error}", ticket.display()),
            "`stonechat device enrol ID`, at the server, prints one",
        )
    })?;
    let secret_file = SecretFile::create(file)?;
    let key = new_key()?;
    let (link_secret, link_public) = new_link_key()?;
    let asked = EnrolRequest {
        device: id.clone(),
        token: ticket.token,
        certificate_request: Some(request(id, &key)?),
        link_key: Some(Key32(link_public)),
    };
    let enrolled =
        client::enrol(server, &asked, ticket.authority_sha256).await.map_err(explained)?;
    let server = BundleServer {
        addresses: enrolled.addresses,
        link_key: enrolled.server_link_key,
        authority: enrolled.authority,
    };
    let credentials = BundleCredentials {
        token: None,
        link_key: Some(Key32(link_secret)),
        certificate: enrolled.certificate,
        private_key: Some(key.serialize_pem()),
    };
    let bundle = Bundle::new(id.clone(), server, credentials);
    bundle.check().context("the server's answer cannot be used")?;
    secret_file.write(bundle::text(&bundle)?.as_bytes())
}

fn explained(error: ClientError) -> anyhow::Error {
    let hint = match &error {
        ClientError::Refused { .. } => {
            "at the server, `stonechat device enrol ID` prints a new ticket"
        }
        ClientError::WrongServer { .. } => {
            "mind the address; if the server's keys were replaced, ask for a new ticket"
        }
        ClientError::Unreachable { .. } => {
            "is it running with `https` in its settings, and is that its address?"
        }
        _ => return error.into(),
    };
    Hinted::new(error.to_string(), hint)
}
