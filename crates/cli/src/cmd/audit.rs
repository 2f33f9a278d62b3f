use anyhow::Context;
use clap::Subcommand;
use stonechat_server::access::audit::{Entry, Link};
use stonechat_server::limits::AUDIT_PAGE_MAX;

use super::account::access;
use super::serve::runtime;
use crate::Outcome;
use crate::config::FolderArgs;
use crate::output::Output;

/// Look at the audit log and check it; also beside a running server.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat audit verify")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(ListArgs),
    Verify(VerifyArgs),
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        match self.command {
            Command::List(args) => args.run(output),
            Command::Verify(args) => args.run(output),
        }
    }
}

/// List who did what, newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat audit list --limit 20
  stonechat --json audit list --limit 1000000 > audit.jsonl")]
struct ListArgs {
    /// The most entries.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    folder: FolderArgs,
}

impl ListArgs {
    fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let access = access(self.folder)?;
        runtime()?.block_on(async {
            let (mut before, mut left) = (None, self.limit);
            while left > 0 {
                let page = access.audit().list(before, left.min(AUDIT_PAGE_MAX)).await?;
                let Some(last) = page.last() else { break };
                before = Some(last.sequence);
                left -= page.len();
                page.iter().for_each(|entry| output.result(entry, || line(entry)));
            }
            Ok(Outcome::Done)
        })
    }
}

fn line(entry: &Entry) -> String {
    let seconds = entry.time_ms / 1_000;
    let ending = format!("{:?}", entry.ending).to_lowercase();
    format!(
        "{:>8} {} {:<16} {:<16} {:<18} {:<8} {}",
        entry.sequence,
        time(seconds),
        entry.who,
        entry.from,
        entry.act,
        ending,
        entry.subject
    )
}

/// Writes a time as RFC 3339 does, in UTC (civil from days, Howard Hinnant's algorithm).
fn time(unix_s: i64) -> String {
    let (days, second) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

/// Check that no entry was changed, removed, inserted or moved; exit code 1 if one was.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat audit verify
  stonechat audit verify --expect 412:9c1f…

It prints the newest entry's number and hash. Kept elsewhere and given to --expect later, they also
show a log that was forged as a whole.")]
struct VerifyArgs {
    /// The number and hash of an entry that were noted before: NUMBER:HASH.
    #[arg(long, value_name = "NUMBER:HASH", value_parser = parse_link)]
    expect: Option<Link>,
    #[command(flatten)]
    folder: FolderArgs,
}

fn parse_link(text: &str) -> anyhow::Result<Link> {
    let (sequence, hash) = text.split_once(':').context("write NUMBER:HASH")?;
    Ok(Link { sequence: sequence.parse()?, hash: hash.to_owned() })
}

impl VerifyArgs {
    fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let access = access(self.folder)?;
        let found = runtime()?.block_on(access.audit().verify(self.expect.as_ref()))?;
        output.result(&found, || {
            let mut lines: Vec<String> =
                found.faults.iter().map(|fault| format!("FAULT       {fault}")).collect();
            let head = match &found.head {
                Some(head) => format!("; newest {}:{}", head.sequence, head.hash),
                None => String::new(),
            };
            let word = if found.intact { "intact" } else { "NOT INTACT" };
            lines.push(format!("audit log   {word}: {} entries{head}", found.entries));
            lines.join("\n")
        });
        Ok(if found.intact { Outcome::Done } else { Outcome::No })
    }
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_equal_those_of_date() {
        // date -u -d @SECONDS +%FT%TZ
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_267_800, "2026-11-21T13:30:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(time(seconds), text);
        }
    }
}
