mod capture;
mod power;
mod synth;

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;
use stonechat_train::dataset::{ChannelInfo, Recording, write_csv, write_parquet};

use crate::Outcome;
use crate::data::{ReadArgs, Source};
use crate::output::{Output, counted, require_folder_of};

/// Import recordings, or make some up.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat data import log.csv")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Import(Box<ImportArgs>),
    Synth(Box<synth::SynthArgs>),
    Capture(Box<capture::CaptureArgs>),
    Power(Box<power::PowerArgs>),
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        match self.command {
            Command::Import(args) => args.run(output),
            Command::Synth(args) => args.run(output),
            Command::Capture(args) => args.run(output),
            Command::Power(args) => args.run(output),
        }
    }
}

/// Read recordings, check them, and write them as one file; say what was found.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: stonechat data import log.csv --channels 3=temperature:Cel --rate 0.2 -o room.parquet"
)]
struct ImportArgs {
    /// Recordings, CSV or Parquet: FILE or FILE@0%..60%.
    #[arg(required = true, value_name = "RECORDING")]
    recordings: Vec<Source>,
    /// The file to write, .parquet or .csv; without it, only say what was found.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    read: ReadArgs,
}

#[derive(Serialize)]
struct Imported {
    name: String,
    rows: usize,
    seconds: f64,
    rate_hz: f64,
    segments: usize,
    channels: Vec<Channel>,
    anomalous_rows: Option<usize>,
    file: Option<String>,
}

#[derive(Serialize)]
struct Channel {
    name: String,
    unit: String,
    minimum: f32,
    mean: f64,
    maximum: f32,
    missing: usize,
}

impl ImportArgs {
    fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        if let Some(path) = &self.output {
            require_folder_of(path)?;
        }
        let recording = self.read.read_all(&self.recordings, output)?;
        if let Some(path) = &self.output {
            write_recording(path, &recording)?;
        }
        let imported = summarise(&recording, self.output.as_ref());
        output.result(&imported, || text(&imported));
        Ok(Outcome::Done)
    }
}

pub(crate) fn write_recording(path: &std::path::Path, recording: &Recording) -> anyhow::Result<()> {
    let is_parquet = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"));
    if is_parquet {
        write_parquet(path, recording)?;
    } else {
        write_csv(path, recording)?;
    }
    Ok(())
}

fn summarise(recording: &Recording, file: Option<&PathBuf>) -> Imported {
    let channel = |(index, info): (usize, &ChannelInfo)| {
        let numbers: Vec<f32> =
            recording.channel(index).filter(|number| number.is_finite()).collect();
        Channel {
            name: info.name.clone(),
            unit: info.unit.clone(),
            minimum: numbers.iter().copied().fold(f32::INFINITY, f32::min),
            mean: numbers.iter().map(|number| f64::from(*number)).sum::<f64>()
                / numbers.len().max(1) as f64,
            maximum: numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            missing: recording.rows() - numbers.len(),
        }
    };
    Imported {
        name: recording.name.clone(),
        rows: recording.rows(),
        seconds: recording.seconds(),
        rate_hz: recording.rate_hz,
        segments: recording.segment_starts.len(),
        channels: recording.channels.iter().enumerate().map(channel).collect(),
        anomalous_rows: recording
            .labels
            .as_ref()
            .map(|labels| labels.iter().filter(|label| **label).count()),
        file: file.map(|path| path.display().to_string()),
    }
}

fn text(imported: &Imported) -> String {
    let channels = imported.channels.iter().map(|channel| {
        format!(
            "\n  {}  {} .. {} (mean {:.4}), {} missing",
            ChannelInfo::new(&channel.name, &channel.unit).title(),
            channel.minimum,
            channel.maximum,
            channel.mean,
            channel.missing
        )
    });
    let labels = imported
        .anomalous_rows
        .map(|rows| format!("\nlabels      {rows} rows anomalous"))
        .unwrap_or_default();
    let file =
        imported.file.as_ref().map(|file| format!("\nwritten     {file}")).unwrap_or_default();
    format!(
        "recording   {}\nrows        {}, {}: {:.0} s in {} without a gap\nchannels    {}{}{labels}{file}",
        imported.name,
        imported.rows,
        rate(imported.rate_hz),
        imported.seconds,
        counted(imported.segments, "run"),
        imported.channels.len(),
        channels.collect::<String>()
    )
}

/// Writes a rate so that slow ones keep their digits: `10 Hz`, `one every 300 s`.
fn rate(rate_hz: f64) -> String {
    let rounded = |number: f64| (number * 1e4).round() / 1e4;
    if rate_hz < 1.0 {
        format!("one every {} s", rounded(1.0 / rate_hz))
    } else {
        format!("{} Hz", rounded(rate_hz))
    }
}
