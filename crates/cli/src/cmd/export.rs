use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;
use stonechat_train::compile::DetectorFile;
use stonechat_train::decompile::{DetectorNetwork, Half, decompile};
use stonechat_train::export::{c_header, tflite_float, tflite_int8};
use stonechat_train::latent::encoder_layers;

use crate::Outcome;
use crate::output::{Hinted, Output, require_folder_of};

/// Write a detector's network for other tools.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat export fan.detector --format tflite -o fan.tflite
  stonechat export fan.detector --format c-header -o fan_model.h
  stonechat export room.detector --part encoder -o room_encoder.tflite

A half of an autoencoder takes and gives scaled features. The encoder's code is shorter than what it
encodes, and no secret: it is compression, not encryption.")]
pub(crate) struct Args {
    /// The detector file.
    detector: PathBuf,
    /// What to write.
    #[arg(long, value_enum, default_value = "tflite")]
    format: Format,
    /// Which part of the network.
    #[arg(long, value_enum, default_value = "whole")]
    part: Part,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Whole,
    /// From the features to the code, for the device.
    Encoder,
    /// From the code back, for whoever receives it.
    Decoder,
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
            Format::Tflite => tflite(&file, self.part)?,
            Format::CHeader => c_header(&name, &tflite(&file, self.part)?)?.into_bytes(),
            Format::DetectorHeader if self.part != Part::Whole => {
                return Err(Hinted::new(
                    "a detector file cannot be cut in halves",
                    "export the half with --format tflite or c-header",
                ));
            }
            Format::DetectorHeader => c_header(&name, file.bytes())?.into_bytes(),
        };
        std::fs::write(&path, &bytes)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        let written = Written { file: path.display().to_string(), bytes: bytes.len() };
        output.result(&written, || format!("{} ({} bytes)", written.file, written.bytes));
        Ok(Outcome::Done)
    }
}

fn tflite(file: &DetectorFile, part: Part) -> anyhow::Result<Vec<u8>> {
    let detector = file.detector();
    let Some(network) = decompile(&detector) else {
        return Err(Hinted::new(
            format!(
                "the detector `{}` has no network: its engine is {}",
                detector.name(),
                detector.engine().kind().name()
            ),
            "export it with --format detector-header, or train one with --detector dense",
        ));
    };
    let half = match part {
        Part::Whole => None,
        Part::Encoder => Some(Half::Encoder),
        Part::Decoder => Some(Half::Decoder),
    };
    let network = match half {
        None => network,
        Some(half) => network.half(half, encoder_layers(&detector)?),
    };
    match network {
        DetectorNetwork::Float(network) => Ok(tflite_float(&network)?),
        DetectorNetwork::Int8(network) => Ok(tflite_int8(&network)?),
    }
}
