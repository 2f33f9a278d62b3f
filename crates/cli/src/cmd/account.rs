use std::io::{BufRead, IsTerminal, Read, Write, stderr, stdin};
use std::path::{Path, PathBuf};
use std::process::Command as Program;

use anyhow::Context;
use clap::Subcommand;
use serde::Serialize;
use stonechat_server::access::{Access, AccountSummary, Actor, Role};
use stonechat_server::limits::PASSWORD_LEN_MAX;
use stonechat_server::store::records_beside;

use super::serve::runtime;
use crate::Outcome;
use crate::config::FolderArgs;
use crate::output::{Hinted, Output};

/// Administer who may sign in to the dashboard; also beside a running server.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat account add anna --role operator")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(AddArgs),
    List(ListArgs),
    Password(PasswordArgs),
    Role(RoleArgs),
    Remove(RemoveArgs),
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        match self.command {
            Command::Add(args) => args.run(output),
            Command::List(args) => args.run(output),
            Command::Password(args) => args.run(output),
            Command::Role(args) => args.run(output),
            Command::Remove(args) => args.run(output),
        }
    }
}

/// Takes the accounts of a data folder, which must be there.
pub(super) fn access(folder: FolderArgs) -> anyhow::Result<Access> {
    let settings = folder.settings()?;
    if !settings.data.exists() {
        return Err(Hinted::new(
            format!("there is no data folder `{}`", settings.data.display()),
            "`stonechat serve` makes it; name another with --data",
        ));
    }
    Ok(Access::new(records_beside(&settings)))
}

/// Names who runs the command, for the audit log.
pub(crate) fn actor() -> Actor {
    let names = ["SUDO_USER", "USER", "LOGNAME"];
    let user = names.into_iter().find_map(|name| std::env::var(name).ok());
    Actor::command_line(&user.unwrap_or_else(|| "unknown".to_owned()))
}

/// Where a new password comes from.
#[derive(Debug, clap::Args)]
struct PasswordSource {
    /// Read the password from the first line of this file; without it, from standard input.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordSource {
    fn read(&self) -> anyhow::Result<String> {
        if let Some(path) = &self.password_file {
            return first_line_of(path);
        }
        if stdin().is_terminal() {
            return ask();
        }
        first_line(stdin().lock()).context("cannot read the password from standard input")
    }
}

fn first_line_of(path: &Path) -> anyhow::Result<String> {
    let what = || format!("cannot read the password file `{}`", path.display());
    first_line(std::fs::File::open(path).with_context(what)?).with_context(what)
}

fn first_line(source: impl Read) -> anyhow::Result<String> {
    let mut line = String::new();
    // A byte more than fits, so that a longer one is refused and not cut.
    let source = source.take(PASSWORD_LEN_MAX as u64 + 2);
    std::io::BufReader::new(source).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks at the terminal, twice, without showing what is typed where `stty` can do that.
fn ask() -> anyhow::Result<String> {
    let echo = |mode: &str| drop(Program::new("stty").arg(mode).status());
    let line = |prompt: &str| -> anyhow::Result<String> {
        write!(stderr(), "{prompt}")?;
        let line = first_line(stdin().lock());
        writeln!(stderr())?;
        line
    };
    echo("-echo");
    let passwords = line("New password: ").and_then(|one| Ok((one, line("Again: ")?)));
    echo("echo");
    let (one, again) = passwords?;
    if one == again {
        Ok(one)
    } else {
        Err(Hinted::new("the two passwords differ", "run the command again"))
    }
}

fn line(account: &AccountSummary) -> String {
    format!("{:<24} {}", account.name, account.role)
}

/// Make an account.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat account add anna --role admin
  stonechat account add wall --role viewer --password-file wall.password")]
struct AddArgs {
    /// A name of a-z, 0-9, and - _ . @ between them.
    name: String,
    /// What it may do: viewer looks, operator also acts on alarms, admin also administers.
    #[arg(long, default_value = "viewer")]
    role: Role,
    #[command(flatten)]
    password: PasswordSource,
    #[command(flatten)]
    folder: FolderArgs,
}

impl AddArgs {
    fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let access = access(self.folder)?;
        let password = self.password.read()?;
        let actor = actor();
        let add = access.add_account(&actor, &self.name, self.role, &password);
        let account = runtime()?.block_on(add)?;
        output.result(&account, || line(&account));
        Ok(Outcome::Done)
    }
}

/// List the accounts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat account list --data /var/lib/stonechat")]
struct ListArgs {
    #[command(flatten)]
    folder: FolderArgs,
}

impl ListArgs {
    fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let accounts = runtime()?.block_on(access(self.folder)?.accounts())?;
        for account in &accounts {
            output.result(account, || line(account));
        }
        Ok(Outcome::Done)
    }
}

/// Give an account another password; whoever is signed in to it has to sign in again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat account password anna < new.password")]
struct PasswordArgs {
    /// The account.
    name: String,
    #[command(flatten)]
    password: PasswordSource,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Serialize)]
struct Changed<'a> {
    account: &'a str,
    changed: &'static str,
}

impl PasswordArgs {
    fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let access = access(self.folder)?;
        let password = self.password.read()?;
        runtime()?.block_on(access.set_password(&actor(), &self.name, &password, None))?;
        let changed = Changed { account: &self.name, changed: "password" };
        output.result(&changed, || format!("{} has another password", self.name));
        Ok(Outcome::Done)
    }
}

/// Give an account another role.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat account role anna admin")]
struct RoleArgs {
    /// The account.
    name: String,
    /// viewer, operator or admin.
    role: Role,
    #[command(flatten)]
    folder: FolderArgs,
}

impl RoleArgs {
    fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let access = access(self.folder)?;
        let account = runtime()?.block_on(access.set_role(&actor(), &self.name, self.role))?;
        output.result(&account, || line(&account));
        Ok(Outcome::Done)
    }
}

/// Remove an account, with its sessions and the API tokens that it made.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat account remove anna --yes")]
struct RemoveArgs {
    /// The account.
    name: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

impl RemoveArgs {
    fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let access = access(self.folder)?;
        confirm(self.yes, &format!("Remove the account {}?", self.name))?;
        runtime()?.block_on(access.remove_account(&actor(), &self.name))?;
        let changed = Changed { account: &self.name, changed: "removed" };
        output.result(&changed, || format!("{} is removed", self.name));
        Ok(Outcome::Done)
    }
}

/// Asks before something cannot be taken back.
pub(super) fn confirm(yes: bool, question: &str) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !stdin().is_terminal() {
        return Err(Hinted::new("this cannot be taken back", "say --yes to do it"));
    }
    write!(stderr(), "{question} [y/N] ")?;
    let answer = first_line(stdin().lock())?;
    if answer.trim().eq_ignore_ascii_case("y") {
        Ok(())
    } else {
        Err(Hinted::new("nothing was done", "answer y, or say --yes, to do it"))
    }
}
