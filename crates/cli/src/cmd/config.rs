use clap::Subcommand;
use serde::Serialize;
use stonechat_server::Settings;

use crate::Outcome;
use crate::config::{Origin, SettingsArgs};
use crate::output::Output;

/// Show the server's settings and where each comes from.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat config show")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print each setting, its value, and where it came from.
    #[command(after_help = "Example: stonechat config show --http 127.0.0.1:9000")]
    Show(SettingsArgs),
    /// Print a settings file with the defaults.
    #[command(after_help = "Example: stonechat config template > stonechat.toml")]
    Template,
}

#[derive(Serialize)]
struct Shown {
    settings: Vec<Origin>,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        match self.command {
            Command::Show(settings) => {
                let origins = settings.origins(&Settings::default())?;
                let settings = origins.into_iter().map(Origin::without_password).collect();
                let shown = Shown { settings };
                output.result(&shown, || {
                    let line = |origin: &Origin| {
                        format!(
                            "{:<16} {:<24} {}\n",
                            origin.key,
                            origin.value.to_string(),
                            origin.from
                        )
                    };
                    shown.settings.iter().map(line).collect()
                });
            }
            Command::Template => {
                let defaults = Settings::default();
                output.result(&defaults, || {
                    let table = toml::to_string(&defaults).unwrap_or_default();
                    let commented = table.lines().map(|line| format!("# {line}\n"));
                    std::iter::once(
                        "# Settings of stonechat; a line without its # overrides the default.\n"
                            .to_owned(),
                    )
                    .chain(commented)
                    .collect()
                });
            }
        }
        Ok(Outcome::Done)
    }
}
