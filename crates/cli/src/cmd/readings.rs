//! Readings out of a data folder into other tools' files.

mod parquet_file;

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use stonechat_server::store::StoreError;
use stonechat_server::store::sqlite::{ExtractQuery, Part, extract};
use stonechat_train::dataset::time;

use self::parquet_file::ParquetFile;
use crate::Outcome;
use crate::config::FolderArgs;
use crate::output::{Hinted, Output, require_folder_of};

/// Copy stored readings out, also while the server runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Export(ExportArgs),
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        match self.command {
            Command::Export(args) => args.run(output),
        }
    }
}

/// Write readings as CSV or Parquet: one row each, with device, channel, unit, time and value.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat readings export --device pump-7 -o pump-7.parquet
  stonechat readings export --channel temperature --from 2026-11-01 --to 2026-11-30T23:59:59Z > november.csv

Times are in UTC, to the millisecond. Rows go device by device, channel by channel, in the order of time.")]
struct ExportArgs {
    /// A device; may be repeated. Without any: all devices.
    #[arg(long, value_name = "ID")]
    device: Vec<String>,
    /// A channel; may be repeated. Without any: all channels.
    #[arg(long, value_name = "NAME")]
    channel: Vec<String>,
    /// The first time: a date, a date and time, or unix seconds.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Option<i64>,
    /// The last time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    to: Option<i64>,
    /// The format; without it, what the file's name ends with says, else CSV.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The file to write; without it, CSV goes to standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Csv,
    Parquet,
}

fn parse_time(text: &str) -> Result<i64, String> {
    time::read_any(text)
        .map(|time_us| time_us.div_euclid(1_000))
        .ok_or_else(|| "write a time such as 2026-11-30, 2026-11-30T12:00:00Z or 1796040000".into())
}

#[derive(Serialize)]
struct Written {
    file: String,
    readings: u64,
}

/// Why copying stopped.
enum Stop {
    Store(StoreError),
    Other(anyhow::Error),
    /// Who reads standard output has enough.
    Enough,
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe {
            Self::Enough
        } else {
            Self::Other(anyhow::Error::new(error).context("cannot write the readings"))
        }
    }
}

impl ExportArgs {
    fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let by_name = self.output.as_deref().and_then(Path::extension);
        let parquet = by_name.is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"));
        let guessed = if parquet { Format::Parquet } else { Format::Csv };
        let format = self.format.unwrap_or(guessed);
        let query = ExtractQuery {
            devices: self.device,
            channels: self.channel,
            from_ms: self.from.unwrap_or(i64::MIN),
            to_ms: self.to.unwrap_or(i64::MAX),
        };
        let data = self.folder.settings()?.data;
        let Some(path) = self.output else {
            if format == Format::Parquet {
                return Err(Hinted::new(
                    "Parquet cannot be written to standard output",
                    "name a file with --output",
                ));
            }
            let mut csv = Csv::new(std::io::stdout().lock());
            finished(csv.begin().and_then(|()| extract(&data, &query, |part| csv.push(part))))?;
            finished(csv.out.flush().map_err(Stop::from))?;
            return Ok(Outcome::Done);
        };
        require_folder_of(&path)?;
        let file =
            File::create(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
        let mut readings = 0;
        let copied = match format {
            Format::Csv => {
                let mut csv = Csv::new(file);
                csv.begin()
                    .and_then(|()| {
                        extract(&data, &query, |part| {
                            readings += part.points.len() as u64;
                            csv.push(part)
                        })
                    })
                    .and_then(|()| csv.out.flush().map_err(Stop::from))
            }
            Format::Parquet => to_parquet(file, &data, &query, &mut readings),
        };
        finished(copied).with_context(|| format!("`{}` is not complete", path.display()))?;
        let written = Written { file: path.display().to_string(), readings };
        output.result(&written, || format!("{}: {readings} readings", written.file));
        Ok(Outcome::Done)
    }
}

fn to_parquet(
    file: File,
    data: &Path,
    query: &ExtractQuery,
    readings: &mut u64,
) -> Result<(), Stop> {
    let failed = |error: parquet::errors::ParquetError| {
        Stop::Other(anyhow::Error::new(error).context("cannot write the readings"))
    };
    let mut out = ParquetFile::new(file).map_err(failed)?;
    extract(data, query, |part| {
        *readings += part.points.len() as u64;
        out.push(&part).map_err(failed)
    })?;
    out.finish().map_err(failed)
}

fn finished(copied: Result<(), Stop>) -> anyhow::Result<()> {
    match copied {
        Ok(()) | Err(Stop::Enough) => Ok(()),
        Err(Stop::Store(error)) => Err(error.into()),
        Err(Stop::Other(error)) => Err(error),
    }
}

/// CSV as in RFC 4180, with a header.
struct Csv<W: Write> {
    out: BufWriter<W>,
    line: String,
}

impl<W: Write> Csv<W> {
    fn new(out: W) -> Self {
        Self { out: BufWriter::with_capacity(1 << 16, out), line: String::new() }
    }

    fn begin(&mut self) -> Result<(), Stop> {
        Ok(self.out.write_all(b"device,channel,unit,time,value\r\n")?)
    }

    fn push(&mut self, part: Part<'_>) -> Result<(), Stop> {
        use std::fmt::Write as _;
        let names = [part.device, part.channel, part.unit].map(quoted).join(",");
        for &(time_ms, value) in part.points {
            let at = time::format_iso(time_ms.saturating_mul(1_000));
            self.line.clear();
            // Writing to text cannot fail.
            let _ = write!(self.line, "{names},{at},{value}\r\n");
            self.out.write_all(self.line.as_bytes())?;
        }
        Ok(())
    }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_quoted_where_it_must_be() {
        let mut csv = Csv::new(Vec::new());
        assert!(csv.begin().is_ok());
        let points = [(0, 1.5), (1_796_040_000_123, -0.1)];
        let part = Part { device: "pump", channel: "a,\"b\"", unit: "Cel", points: &points };
        assert!(csv.push(part).is_ok());
        let text = String::from_utf8(csv.out.into_inner().expect("memory")).expect("text");
        let lines: Vec<_> = text.split("\r\n").collect();
        assert_eq!(lines[0], "device,channel,unit,time,value");
        assert!(lines[1].starts_with("pump,\"a,\"\"b\"\"\",Cel,1970-01-01T00:00:00"), "{text}");
        assert!(lines[2].contains("2026-11-30T") && lines[2].ends_with(",-0.1"), "{text}");
        let time = lines[2].rsplit(',').nth(1).expect("a column");
        assert_eq!(time::read_any(time), Some(1_796_040_000_123_000));
    }
}
