use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;
use stonechat_train::compile::DetectorFile;
use stonechat_train::dataset::Recording;
use stonechat_train::latent;

use crate::Outcome;
use crate::cmd::data::write_recording;
use crate::data::{ReadArgs, Source};
use crate::output::{Output, counted, require_folder_of};

/// Turn recordings into the short codes of a dense autoencoder, and back.
///
/// A device can send the code instead of its measurements. That is compression: whoever reads the code
/// can read the measurements.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat latent decode room.detector codes.csv -o room.csv")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Encode each window of a recording.
    #[command(after_help = "Example: stonechat latent encode room.detector room.csv -o codes.csv")]
    Encode(Convert),
    /// Decode codes into features in their own units.
    #[command(
        after_help = "Example: stonechat latent decode room.detector codes.csv -o decoded.csv"
    )]
    Decode(Convert),
}

#[derive(Debug, clap::Args)]
struct Convert {
    /// The detector file: a dense autoencoder whose code is shorter than its features.
    detector: PathBuf,
    /// Recordings or codes, CSV or Parquet.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<Source>,
    /// The file to write, .csv or .parquet.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    read: ReadArgs,
}

#[derive(Serialize)]
struct Converted {
    file: String,
    rows: usize,
    columns: usize,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let (args, is_encoding) = match self.command {
            Command::Encode(args) => (args, true),
            Command::Decode(args) => (args, false),
        };
        require_folder_of(&args.output)?;
        let file = DetectorFile::read(&args.detector)?;
        let recording: Recording = args.read.read_all(&args.files, output)?;
        let converted = if is_encoding {
            latent::encode(&file.detector(), &recording)?
        } else {
            latent::decode(&file.detector(), &recording)?
        };
        write_recording(&args.output, &converted)?;
        let converted = Converted {
            file: args.output.display().to_string(),
            rows: converted.rows(),
            columns: converted.channels.len(),
        };
        output.result(&converted, || {
            format!(
                "{}: {} of {}",
                converted.file,
                counted(converted.rows, "row"),
                counted(converted.columns, "number")
            )
        });
        Ok(Outcome::Done)
    }
}
