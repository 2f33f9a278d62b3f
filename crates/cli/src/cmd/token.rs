use clap::Subcommand;
use serde::Serialize;
use stonechat_server::access::{NewToken, Scope, TokenSummary};
use stonechat_server::clock::now_ms;
use stonechat_server::limits::{API_TOKEN_LIFE_DAYS, API_TOKEN_LIFE_DAYS_MAX};

use super::account::{access, actor, confirm};
use super::serve::runtime;
use crate::Outcome;
use crate::config::FolderArgs;
use crate::output::Output;

/// Administer the tokens by which programs use the API; also beside a running server.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat token add grafana --scope metrics > grafana.token")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(AddArgs),
    List(ListArgs),
    Revoke(RevokeArgs),
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        match self.command {
            Command::Add(args) => args.run(output),
            Command::List(args) => args.run(output),
            Command::Revoke(args) => args.run(output),
        }
    }
}

/// Make a token and print it; it cannot be read again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat token add grafana --scope metrics > grafana.token
  stonechat token add nightly-report --scope read --days 365
  curl -H \"authorization: Bearer $(cat grafana.token)\" http://127.0.0.1:8080/metrics")]
struct AddArgs {
    /// What it is to be called: a-z, 0-9, and - _ . @ between them.
    name: String,
    /// What it may do: read, operate (also act on alarms), admin (everything), ingest (send readings
    /// for any device), metrics. May be repeated.
    #[arg(long, required = true)]
    scope: Vec<Scope>,
    /// For how many days it holds; 0 for ever.
    #[arg(long, default_value_t = API_TOKEN_LIFE_DAYS,
        value_parser = clap::value_parser!(u32).range(..=i64::from(API_TOKEN_LIFE_DAYS_MAX)))]
    days: u32,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Serialize)]
struct Made {
    token: String,
    #[serde(flatten)]
    summary: TokenSummary,
}

impl AddArgs {
    fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let access = access(self.folder)?;
        let now_ms = now_ms();
        let life_ms = i64::from(self.days) * 24 * 60 * 60 * 1_000;
        let expires_ms = (self.days > 0).then_some(now_ms + life_ms);
        let new = NewToken { name: self.name, scopes: self.scope, expires_ms };
        let actor = actor();
        let made = runtime()?.block_on(access.add_token(&actor, None, new, now_ms));
        let (token, summary) = made?;
        let made = Made { token, summary };
        output.result(&made, || made.token.clone());
        Ok(Outcome::Done)
    }
}

/// List the tokens, without what is secret of them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat token list --data /var/lib/stonechat")]
struct ListArgs {
    #[command(flatten)]
    folder: FolderArgs,
}

impl ListArgs {
    fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let tokens = runtime()?.block_on(access(self.folder)?.tokens())?;
        let now_ms = now_ms();
        for token in &tokens {
            output.result(token, || {
                let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
                format!(
                    "{} {:<24} {:<24} {}",
                    token.id,
                    token.name,
                    scopes.join(","),
                    end(token, now_ms)
                )
            });
        }
        Ok(Outcome::Done)
    }
}

fn end(token: &TokenSummary, now_ms: i64) -> String {
    match token.expires_ms {
        None => "holds for ever".to_owned(),
        Some(end_ms) if end_ms <= now_ms => "expired".to_owned(),
        Some(end_ms) => format!("{} days left", (end_ms - now_ms) / (24 * 60 * 60 * 1_000)),
    }
}

/// Revoke a token; it is worth nothing from the next request on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat token revoke grafana --yes")]
struct RevokeArgs {
    /// The token's name or identity.
    token: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Serialize)]
struct Revoked {
    revoked: String,
    id: String,
}

impl RevokeArgs {
    fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let access = access(self.folder)?;
        confirm(self.yes, &format!("Revoke the token {}?", self.token))?;
        let token = runtime()?.block_on(access.revoke_token(&actor(), &self.token))?;
        let revoked = Revoked { revoked: token.name, id: token.id };
        output.result(&revoked, || format!("{} ({}) is revoked", revoked.revoked, revoked.id));
        Ok(Outcome::Done)
    }
}
