//! What people and programs see: data on stdout, everything else on stderr.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the one file that prints")]

use std::io::{Error, ErrorKind, IsTerminal, Write, stderr, stdout};
use std::path::Path;
use std::sync::OnceLock;

use clap::{Args, ValueEnum};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

/// The version of the JSON objects that commands print.
pub(crate) const SCHEMA: u32 = 1;

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Print results as JSON, one object a line, each with a `schema` number.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print results, warnings and errors only.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Log more; twice for still more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Colour messages; NO_COLOR is respected.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// Where results, messages and errors go.
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    color: bool,
    unwritten: OnceLock<Error>,
}

#[derive(Serialize)]
struct WithSchema<'a, T> {
    schema: u32,
    #[serde(flatten)]
    value: &'a T,
}

impl Output {
    /// Starts logging as the command line says; a service logs its audit records too.
    pub(crate) fn new(args: &OutputArgs, is_service: bool) -> Self {
        let color = match args.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                stderr().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        let level = match (args.quiet, args.verbose) {
            (true, _) => "error",
            (_, 0) if is_service => "warn,stonechat=info,stonechat_server=info",
            (_, 0) => "warn,stonechat=info,stonechat_server=info,stonechat_server::audit=warn",
            (_, 1) => "info,stonechat=debug,stonechat_server=debug",
            (_, _) => "debug",
        };
        let filter =
            EnvFilter::try_from_env("STONECHAT_LOG").unwrap_or_else(|_| EnvFilter::new(level));
        let logs =
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(color);
        // A second subscriber cannot be set; there is none, since this runs once.
        let _ = if args.json { logs.json().try_init() } else { logs.with_target(false).try_init() };
        Self { json: args.json, quiet: args.quiet, color, unwritten: OnceLock::new() }
    }

    /// Tells whether results are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a result: as JSON when that was asked for, else as text.
    pub(crate) fn result(&self, value: &impl Serialize, text: impl FnOnce() -> String) {
        let text = if self.json {
            serde_json::to_string(&WithSchema { schema: SCHEMA, value })
                .expect("results are made of maps with text keys")
        } else {
            text()
        };
        self.data(&format!("{}\n", text.trim_end()));
    }

    /// Writes text to stdout as it is.
    pub(crate) fn data(&self, text: &str) {
        let mut stdout = stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        match written {
            // A closed pipe, as of `| head`, is no error of ours.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                self.unwritten.get_or_init(|| error);
            }
            _ => {}
        }
    }

    /// Returns why stdout could not be written, as on a full disk.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match self.unwritten.get() {
            Some(error) => Err(Hinted::new(
                format!("cannot write the results to standard output: {error}"),
                "make room, or send them elsewhere; then run the command again",
            )),
            None => Ok(()),
        }
    }

    /// Tells how things go.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            let _ = writeln!(stderr(), "{}", text.as_ref());
        }
    }

    /// Tells what may be wrong although the command goes on.
    pub(crate) fn warn(&self, text: impl AsRef<str>) {
        let label = self.painted("warning:", "33");
        let _ = writeln!(stderr(), "{label} {}", text.as_ref());
    }

    /// Tells why the command failed: the chain of causes, then what to do where that is known.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let label = self.painted("error:", "31");
        let _ = writeln!(stderr(), "{label} {error}");
        let mut said = error.to_string();
        for cause in error.chain().skip(1) {
            let cause = cause.to_string();
            // Some messages name their cause themselves.
            if !said.contains(&cause) {
                let _ = writeln!(stderr(), "  because: {}", cause.trim_end());
            }
            said = cause;
        }
        if let Some(hinted) = error.chain().find_map(|cause| cause.downcast_ref::<Hinted>()) {
            let _ = writeln!(stderr(), "{} {}", self.painted("hint:", "36"), hinted.hint);
        }
    }

    /// Makes a progress bar, hidden where stderr is no terminal.
    pub(crate) fn progress(&self, len: u64) -> indicatif::ProgressBar {
        if self.quiet || !stderr().is_terminal() {
            return indicatif::ProgressBar::hidden();
        }
        let style = indicatif::ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")
            .expect("the template is well formed");
        indicatif::ProgressBar::new(len).with_style(style)
    }

    fn painted(&self, text: &str, code: &str) -> String {
        if self.color { format!("\x1b[1;{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Writes a number and what it counts: `1 run`, `2 runs`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {what}{ending}")
}

/// Refuses a file to be written whose folder does not exist, before the work is done.
pub(crate) fn require_folder_of(path: &Path) -> anyhow::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => Err(Hinted::new(
            format!("cannot write `{}`: there is no folder `{}`", path.display(), folder.display()),
            "make it, or name another file with --output",
        )),
        _ => Ok(()),
    }
}

/// An error that knows what to do about it.
#[derive(Debug)]
pub(crate) struct Hinted {
    message: String,
    hint: String,
}

impl Hinted {
    /// Makes an error: what is wrong and where, and what to do.
    #[allow(clippy::new_ret_no_self, reason = "it is made only to be raised")]
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self { message: message.into(), hint: hint.into() })
    }
}

impl std::fmt::Display for Hinted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Hinted {}
