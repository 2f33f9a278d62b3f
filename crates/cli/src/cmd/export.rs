use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;
use stonechat_train::compile::DetectorFile;
use stonechat_train::decompile::{DetectorNetwork, decompile};
use stonechat_train::export::{c_header, tflite_float, tflite_int8};

use crate::Outcome;
use crate::output::{Hinted, Output, require_folder_of};

/// Write a detector's network for other tools.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat export fan.detector --format tflite -o fan.tflite
  stonechat export fan.detector --format c-header -o fan_model.h")]
pub(crate) struct Args {
    /// The detector file.
    detector: PathBuf,
    /// What to write.
    #[arg(long, value_enum, default_value = "tflite")]
    format: Format,
    /// The file to write; without it, beside the detector: NAME.tflite, NAME_model.h or NAME_detector.h.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// TensorFlow Lite, for TensorFlow Lite Micro and LiteRT.
    Tflite,
    /// The .tflite file as a C array, for Arduino and ESP-IDF.
    CHeader,
    /// The detector file itself as a C array.
    DetectorHeader,
}

impl Format {
    /// Returns the file that is written when none is named: no format overwrites another's.
    fn file_beside(self, detector: &Path) -> PathBuf {
        let ending = match self {
            Self::Tflite => ".tflite",
            Self::CHeader => "_model.h",
            Self::DetectorHeader => "_detector.h",
        };
        let mut name = detector.file_stem().unwrap_or_default().to_owned();
        name.push(ending);
        detector.with_file_name(name)
    }
}

#[derive(Serialize)]
struct Written {
    file: String,
    bytes: usize,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let file = DetectorFile::read(&self.detector)?;
        let path = self.output.unwrap_or_else(|| self.format.file_beside(&self.detector));
        require_folder_of(&path)?;
        let name =
            path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let bytes = match self.format {
            Format::Tflite => tflite(&file)?,
            Format::CHeader => c_header(&name, &tflite(&file)?)?.into_bytes(),
            Format::DetectorHeader => c_header(&name, file.bytes())?.into_bytes(),
        };
        std::fs::write(&path, &bytes)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        let written = Written { file: path.display().to_string(), bytes: bytes.len() };
        output.result(&written, || format!("{} ({} bytes)", written.file, written.bytes));
        Ok(Outcome::Done)
    }
}

fn tflite(file: &DetectorFile) -> anyhow::Result<Vec<u8>> {
    let detector = file.detector();
    match decompile(&detector) {
        Some(DetectorNetwork::Float(network)) => Ok(tflite_float(&network)?),
        Some(DetectorNetwork::Int8(network)) => Ok(tflite_int8(&network)?),
        None => Err(Hinted::new(
            format!(
                "the detector `{}` has no network: its engine is {}",
                detector.name(),
                detector.engine().kind().name()
            ),
            "export it with --format detector-header, or train one with --detector dense",
        )),
    }
}
