use std::path::PathBuf;

use serde::Serialize;
use stonechat_core::detector::Detector;
use stonechat_train::compile::DetectorFile;
use stonechat_train::recipe::spell_feature;

use crate::Outcome;
use crate::output::{Output, counted};

/// Check a detector file and show what is in it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat inspect pump.detector")]
pub(crate) struct Args {
    /// The detector file.
    detector: PathBuf,
}

#[derive(Serialize)]
struct Contents<'a> {
    name: &'a str,
    checksum: String,
    file_len: usize,
    memory_len: usize,
    engine: &'static str,
    rate_hz: f32,
    window_len: usize,
    stride: usize,
    channels: Vec<Channel<'a>>,
    features: Vec<String>,
    vector_len: usize,
    score_rule: &'static str,
    smoothing: usize,
    threshold: f32,
    clear_level: f32,
    raise: String,
    clear_count: u8,
    provenance: serde_json::Value,
}

#[derive(Serialize)]
struct Channel<'a> {
    name: &'a str,
    unit: &'a str,
    minimum: f32,
    maximum: f32,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let file = DetectorFile::read(&self.detector)?;
        let detector = file.detector();
        let contents = contents(&detector);
        output.result(&contents, || text(&contents));
        Ok(Outcome::Done)
    }
}

fn contents<'a>(detector: &Detector<'a>) -> Contents<'a> {
    let rule = detector.decision_rule();
    let names: Vec<&str> = detector.channels().map(|channel| channel.name).collect();
    let feature = |feature: stonechat_core::features::Feature| {
        format!("{}/{}", names[usize::from(feature.channel)], spell_feature(&feature))
    };
    Contents {
        name: detector.name(),
        checksum: format!("{:08x}", detector.checksum()),
        file_len: detector.file_len(),
        memory_len: detector.memory_words() * size_of::<u32>(),
        engine: detector.engine().kind().name(),
        rate_hz: detector.rate_hz(),
        window_len: detector.window_len(),
        stride: detector.stride(),
        channels: detector
            .channels()
            .map(|channel| Channel {
                name: channel.name,
                unit: channel.unit,
                minimum: channel.range.minimum,
                maximum: channel.range.maximum,
            })
            .collect(),
        features: detector.features().map(feature).collect(),
        vector_len: detector.vector_len(),
        score_rule: detector.score_rule().name(),
        smoothing: detector.smoothing(),
        threshold: rule.threshold,
        clear_level: rule.clear_level,
        raise: format!("{}/{}", rule.raise_count, rule.raise_of),
        clear_count: rule.clear_count,
        provenance: serde_json::from_str(detector.provenance()).unwrap_or_default(),
    }
}

fn text(contents: &Contents<'_>) -> String {
    let channels: Vec<String> = contents
        .channels
        .iter()
        .map(|channel| {
            format!(
                "{} [{}] {} .. {}",
                channel.name, channel.unit, channel.minimum, channel.maximum
            )
        })
        .collect();
    format!(
        "name        {}\nchecksum    {}\nsize        {} bytes; {} bytes of RAM\nengine      {}\nwindow      {} at {} Hz, a new one every {}\nchannels    {}\nfeatures    {} ({} numbers)\nscore       {}\nthreshold   {} ({} scores above it raise an anomaly), clears at {} ({} in a row)\nmade by     {}",
        contents.name,
        contents.checksum,
        contents.file_len,
        contents.memory_len,
        contents.engine,
        counted(contents.window_len, "sample"),
        contents.rate_hz,
        match contents.stride {
            1 => "sample".to_owned(),
            stride => counted(stride, "sample"),
        },
        channels.join("\n            "),
        contents.features.join(", "),
        contents.vector_len,
        match contents.smoothing {
            1 => contents.score_rule.to_owned(),
            windows => format!("{}, smoothed over {windows} windows", contents.score_rule),
        },
        contents.threshold,
        contents.raise,
        contents.clear_level,
        contents.clear_count,
        made_by(&contents.provenance),
    )
}

/// Says where a detector comes from; `--json` has the whole recipe.
fn made_by(provenance: &serde_json::Value) -> String {
    let part = |name: &str| match provenance.get(name) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "unknown".to_owned(),
    };
    let seed = provenance
        .pointer("/recipe/detector/fit/seed")
        .or_else(|| provenance.pointer("/recipe/detector/seed"))
        .map_or_else(|| "unknown".to_owned(), ToString::to_string);
    format!(
        "stonechat {} from {} ({} rows, CRC {}), seed {seed}",
        part("stonechat"),
        part("recording"),
        part("rows"),
        part("data_crc32"),
    )
}
