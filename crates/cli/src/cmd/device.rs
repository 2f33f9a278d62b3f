mod add;
mod change;
mod enrol;
mod import;
mod list;
mod run;

use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use stonechat_server::identity::{
    Addresses, BundleServer, CredentialKind, IdentityError, Ports, Registry, ServerKeys,
};
use stonechat_server::store::{Records, records_beside};
use stonechat_server::{DeviceId, Settings};

use crate::Outcome;
use crate::cmd::account::actor;
use crate::config::FolderArgs;
use crate::output::{Hinted, Output};

pub(crate) use change::confirmed;
pub(crate) use run::{Samples, Speed, parse_speed, split_address};

/// Register devices, change them, or run this computer as one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat device add pump-7 -o pump-7.toml")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(Box<add::AddArgs>),
    List(list::ListArgs),
    Show(list::ShowArgs),
    Change(Box<change::ChangeArgs>),
    Rotate(Box<add::RotateArgs>),
    Certify(Box<add::CertifyArgs>),
    Revoke(change::RevokeArgs),
    Delete(change::DeleteArgs),
    Enrol(Box<enrol::EnrolArgs>),
    Import(Box<import::ImportArgs>),
    Run(Box<run::RunArgs>),
    Legacy(Box<super::legacy::Args>),
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        match self.command {
            Command::Add(args) => args.run(output),
            Command::List(args) => args.run(output),
            Command::Show(args) => args.run(output),
            Command::Change(args) => args.run(output),
            Command::Rotate(args) => args.run(output),
            Command::Certify(args) => args.run(output),
            Command::Revoke(args) => args.run(output),
            Command::Delete(args) => args.run(output),
            Command::Enrol(args) => args.run(output),
            Command::Import(args) => args.run(output),
            Command::Run(args) => args.run(output),
            Command::Legacy(args) => args.run(output),
        }
    }
}

/// The devices of a server's data, be it running or not.
pub(crate) struct Place {
    pub(crate) settings: Settings,
    pub(crate) records: Arc<dyn Records>,
    pub(crate) registry: Registry,
}

impl Place {
    /// Opens the data that the settings name; it is made where it is missing.
    pub(crate) fn open(folder: FolderArgs) -> anyhow::Result<Self> {
        let settings = folder.settings()?;
        let records = records_beside(&settings);
        let registry = Registry::of(records.clone()).by(actor());
        Ok(Self { settings, records, registry })
    }

    /// Opens the data that the settings name.
    pub(crate) fn existing(folder: FolderArgs) -> anyhow::Result<Self> {
        let place = Self::open(folder)?;
        if !place.settings.data.exists() {
            return Err(Hinted::new(
                format!("there is no data folder `{}`", place.settings.data.display()),
                "`stonechat serve` and `stonechat device add` make it; name another with --data",
            ));
        }
        Ok(place)
    }

    /// Opens the server's own keys, or makes them where there never were any.
    pub(crate) async fn keys(&self) -> anyhow::Result<ServerKeys> {
        let Settings { data, allowed_hosts, .. } = &self.settings;
        Ok(ServerKeys::open(data, allowed_hosts, &*self.records).await?)
    }

    /// Describes the server to a device that reaches it as `host`.
    /// Where it speaks, the settings say, or else the server that started last.
    async fn server(
        &self,
        keys: &ServerKeys,
        host: Option<&str>,
        output: &Output,
    ) -> anyhow::Result<BundleServer> {
        let first = self.settings.allowed_hosts.first().map(String::as_str);
        let host = host.or(first).unwrap_or("localhost");
        if !keys.names().iter().any(|name| name.eq_ignore_ascii_case(host)) {
            output.warn(format!(
                "the server's certificate does not name `{host}`, so that no device will trust it \
                 there; add it to `allowed_hosts` in the settings"
            ));
        }
        let mut ports = Ports::of(&self.settings);
        if ports == Ports::default() {
            ports = Ports::announced(&*self.records).await?;
        }
        let addresses = Addresses::at(host, ports);
        if addresses == Addresses::default() {
            output.warn(
                "the server has no encrypted listener, so that the bundle holds no address; \
                 set `mqtts`, `https` or `sealed`",
            );
        }
        Ok(BundleServer::of(keys, addresses))
    }
}

/// A kind of credential, as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// A token, for MQTT and HTTPS.
    Token,
    /// A certificate with its key, for MQTT over TLS.
    Certificate,
    /// A key of the sealed link.
    Link,
}

impl From<Kind> for CredentialKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Token => Self::Token,
            Kind::Certificate => Self::Certificate,
            Kind::Link => Self::LinkKey,
        }
    }
}

/// Reads an identity.
fn parse_id(text: &str) -> anyhow::Result<DeviceId> {
    use anyhow::Context;
    DeviceId::parse(text).with_context(|| format!("`{text}` is no device's identity"))
}

/// Reads a time span: a whole number and s, m, h or d.
fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || "write a whole number and s, m, h or d, such as 24h".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    // A hundred years are enough, and stay within what times can hold.
    let span = number.checked_mul(unit_s).filter(|&s| s <= 100 * 365 * 24 * 60 * 60);
    span.map(Duration::from_secs).ok_or_else(|| "write at most a hundred years".to_owned())
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Says what to do about an error of the registry.
fn hinted(error: IdentityError) -> anyhow::Error {
    match error {
        IdentityError::Exists(id) => Hinted::new(
            format!("the device `{id}` is registered already"),
            "give it new credentials with `stonechat device rotate`, or a new token with --new-token; or choose another identity",
        ),
        IdentityError::Unknown(id) => Hinted::new(
            format!("there is no device `{id}`"),
            "`stonechat device list` names them; `stonechat device add` registers one",
        ),
        IdentityError::UnknownCredential { .. } => Hinted::new(
            error.to_string(),
            "`stonechat device show` lists a device's credentials; give the first digits of one",
        ),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_numbers_with_a_unit() {
        assert_eq!(parse_span("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse_span("0s"), Ok(Duration::ZERO));
        for bad in ["", "h", "24", "1.5h", "-1h", "1w", "99999999999d", "1 h"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }
}
