use clap::CommandFactory;
use clap_complete::Shell;

use crate::Outcome;
use crate::output::Output;

/// Print the completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat completions bash > /etc/bash_completion.d/stonechat")]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Cli::command(), "stonechat", &mut script);
        output.data(&String::from_utf8_lossy(&script));
        Ok(Outcome::Done)
    }
}
