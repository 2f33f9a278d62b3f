//! The one program of Stonechat: trains detectors, runs devices, collects, shows and alarms.

mod bundle;
mod cmd;
mod config;
mod data;
mod mqtt;
mod output;
mod sealed;
mod shell;
mod signing;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use output::{Output, OutputArgs};

/// What a command that ran to its end found.
enum Outcome {
    /// It did what it was asked to.
    Done,
    /// An honest "no": anomalies found, or a verification failed.
    No,
}

/// Watches sensors: trains anomaly detectors from recordings of normal behaviour, runs them on
/// microcontrollers, collects what they report and raises alarms.
#[derive(Debug, Parser)]
#[command(name = "stonechat", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Start here:  stonechat demo\n\nExit codes: 0 done; 1 an honest no (anomalies found, a check failed); 2 wrong use, environment or an internal fault."
)]
struct Cli {
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(Box<cmd::demo::Args>),
    Serve(cmd::serve::Args),
    Train(Box<cmd::train::Args>),
    Detectors(cmd::detectors::Args),
    Compare(Box<cmd::compare::Args>),
    Bench(cmd::bench::Args),
    Evaluate(cmd::evaluate::Args),
    Plot(cmd::plot::Args),
    Export(cmd::export::Args),
    Latent(Box<cmd::latent::Args>),
    Inspect(cmd::inspect::Args),
    Data(cmd::data::Args),
    Device(cmd::device::Args),
    Keys(cmd::keys::Args),
    Account(cmd::account::Args),
    Token(cmd::token::Args),
    Release(cmd::release::Args),
    Audit(cmd::audit::Args),
    Readings(cmd::readings::Args),
    Backup(cmd::backup::Args),
    Restore(cmd::restore::Args),
    Config(cmd::config::Args),
    Completions(cmd::completions::Args),
}

impl Command {
    fn is_service(&self) -> bool {
        matches!(self, Self::Demo(_) | Self::Serve(_))
    }

    fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        match self {
            Self::Demo(args) => args.run(output),
            Self::Serve(args) => args.run(output),
            Self::Train(args) => args.run(output),
            Self::Detectors(args) => args.run(output),
            Self::Compare(args) => args.run(output),
            Self::Bench(args) => args.run(output),
            Self::Evaluate(args) => args.run(output),
            Self::Plot(args) => args.run(output),
            Self::Export(args) => args.run(output),
            Self::Latent(args) => args.run(output),
            Self::Inspect(args) => args.run(output),
            Self::Data(args) => args.run(output),
            Self::Device(args) => args.run(output),
            Self::Keys(args) => args.run(output),
            Self::Account(args) => args.run(output),
            Self::Token(args) => args.run(output),
            Self::Release(args) => args.run(output),
            Self::Audit(args) => args.run(output),
            Self::Readings(args) => args.run(output),
            Self::Backup(args) => args.run(output),
            Self::Restore(args) => args.run(output),
            Self::Config(args) => args.run(output),
            Self::Completions(args) => args.run(output),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(&cli.output, cli.command.is_service());
    let outcome = cli.command.run(&output);
    match outcome.and_then(|outcome| output.check().map(|()| outcome)) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Err(error) => {
            output.error(&error);
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.has_subcommands() {
                command.get_subcommands().for_each(|sub| check(sub, &path));
            } else {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example"), "`{path}` has no example");
            }
        }
        Cli::command().get_subcommands().for_each(|sub| check(sub, "stonechat"));
    }
}
