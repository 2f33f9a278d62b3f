use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;
use stonechat_train::recipe::{DetectorChoice, Recipe, ScoreChoice};
use stonechat_train::threshold::ThresholdRule;
use stonechat_train::train::{Summary, train};

use crate::Outcome;
use crate::data::{ReadArgs, Source};
use crate::output::{Output, counted, require_folder_of};

/// Train a detector from recordings of normal behaviour.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat train normal.csv -o pump.detector
  stonechat train fan.csv@0%..60% --window 200 --features standard_deviation,peak_to_peak --encoder 8,3 -o fan.detector
  stonechat train room.csv --rate 0.1 --window 32 --detector z-score --features mean,slope -o room.detector")]
pub(crate) struct Args {
    /// Recordings, CSV or Parquet: FILE or FILE@0%..60%.
    #[arg(required = true, value_name = "RECORDING")]
    recordings: Vec<Source>,
    /// The detector file to write; without it, named like the first recording, in this folder.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    read: ReadArgs,
}

/// The choices of a training run that differ from the recipe's defaults.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Recipe")]
pub(crate) struct RecipeArgs {
    /// The detector's name; without it, that of the output file.
    #[arg(long)]
    name: Option<String>,
    /// The kind of model: dense, unless named; `stonechat compare` takes several, or all.
    /// `stonechat detectors` lists them with their settings.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    detector: Vec<String>,
    /// Change a setting of the kind, such as trees=50 or fit.beta1=0.8; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, Value)>,
    /// The arithmetic of a network on the device.
    #[arg(long, value_name = "NUMBERS", value_parser = ["int8", "float32"])]
    precision: Option<String>,
    /// Samples in a window; without it, 32, or what suits the detector.
    #[arg(long, value_name = "SAMPLES")]
    window: Option<usize>,
    /// Samples from one window to the next; without it, 1 for windows up to 64 samples, else a whole window.
    #[arg(long, value_name = "SAMPLES")]
    stride: Option<usize>,
    /// Features of each channel, or behind @ of one; without it, those that suit the detector.
    ///
    /// Of time: samples[:BLOCK], centred_samples[:BLOCK], mean, variance, standard_deviation, rms,
    /// minimum, maximum, peak_to_peak, slope, rolling_mean:SAMPLES, skewness, kurtosis, crest_factor,
    /// zero_crossing_rate, median_abs_deviation, autocorrelation_peak, maximum_difference.
    /// Of the spectrum: band_energy:BANDS[:LOW-HIGH %], spectral_centroid, spectral_rolloff[:%],
    /// spectral_flatness, dominant_frequency, log_mel:BANDS[:FRAME[:HOP]],
    /// mfcc:COEFFICIENTS[:BANDS[:FRAME[:HOP]]]. Of bearings: envelope_band_energy:BANDS[:LOW-HIGH %],
    /// envelope_amplitude:HZ[:MULTIPLES[:LOW-HIGH %]]. Of the mains: fundamental_frequency,
    /// harmonics[:ORDER], thd[:ORDER], mains_rms, active_power:CURRENT@VOLTAGE, reactive_power,
    /// apparent_power, power_factor.
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    features: Vec<String>,
    /// Widths of the encoder's layers, such as 16,4; the decoder mirrors them.
    #[arg(long, value_name = "WIDTH", value_delimiter = ',')]
    encoder: Option<Vec<usize>>,
    /// How residuals become a score.
    #[arg(long, value_name = "RULE", value_enum, default_value = "rms")]
    score: Score,
    /// Set the threshold at this quantile of the scores of held-out normal data ...
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, allow_negative_numbers = true)]
    quantile: f64,
    /// ... raised by this share of itself.
    #[arg(long, value_name = "SHARE", default_value_t = 0.25, allow_negative_numbers = true)]
    margin: f64,
    /// Set the threshold where a normal window exceeds it with this probability instead (peaks over threshold).
    #[arg(long, value_name = "PROBABILITY", allow_negative_numbers = true, conflicts_with_all = ["quantile", "margin"])]
    risk: Option<f64>,
    /// Smooth scores over this many windows; 1 leaves them as they are.
    #[arg(long, value_name = "WINDOWS", default_value_t = 1)]
    smoothing: usize,
    /// An anomaly begins when K of N scores lie above the threshold; without it, 2/3, or what suits
    /// the detector.
    #[arg(long, value_name = "K/N", value_parser = parse_raise)]
    raise: Option<(u8, u8)>,
    /// It ends when this many scores in a row lie at or below the clear level.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    clear_count: u8,
    /// The clear level as a share of the threshold.
    #[arg(long, value_name = "SHARE", default_value_t = 0.8, allow_negative_numbers = true)]
    clear_share: f32,
    /// The share of the recording, from its end, that sets the threshold.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, allow_negative_numbers = true)]
    calibration: f32,
    /// The weight of a new window in a z-score that adapts; 0 does not adapt.
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    alpha: Option<f32>,
    /// Most passes over the data (epochs).
    #[arg(long, value_name = "COUNT")]
    epochs: Option<usize>,
    /// Rows of a minibatch.
    #[arg(long, value_name = "ROWS")]
    batch: Option<usize>,
    /// Adam's step size.
    #[arg(long, value_name = "STEP", allow_negative_numbers = true)]
    learning_rate: Option<f32>,
    /// Stop after this many epochs without improvement.
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<usize>,
    /// Decides the initial weights and the order of the data.
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Score {
    MeanAbsolute,
    MeanSquared,
    Rms,
    Maximum,
}

/// Scores above this quantile make up the tail that peaks over threshold fits.
const TAIL_QUANTILE: f64 = 0.95;
/// The kind that is trained where none is named.
const DEFAULT_KIND: &str = "dense";

fn parse_raise(text: &str) -> Result<(u8, u8), String> {
    let pair = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    pair.ok_or_else(|| "write K/N, such as 2/3".to_owned())
}

/// Reads NAME=VALUE; what is not JSON is text.
fn parse_setting(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, such as trees=50")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((name.to_owned(), value))
}

impl RecipeArgs {
    pub(crate) fn recipe(&self, default_name: &str) -> anyhow::Result<Recipe> {
        let choice = match &self.detector[..] {
            [] => DetectorChoice::of_kind(DEFAULT_KIND)?,
            [kind] => DetectorChoice::of_kind(kind)?,
            kinds => bail!(
                "one detector is trained, but --detector names {}: {}; use `stonechat compare` for several",
                kinds.len(),
                kinds.join(", ")
            ),
        };
        let unknown = self.changes(&choice).into_iter().find(|(name, _)| !choice.has(name));
        if let Some((name, value)) = unknown {
            // The error names the settings that there are.
            choice.clone().set(name, value)?;
        }
        self.recipe_of(choice, default_name)
    }

    /// Lays out recipes for the kinds that are named, or for all. Settings change those that have them.
    pub(crate) fn recipes(&self) -> anyhow::Result<Vec<(String, Recipe)>> {
        let choices = if self.detector.is_empty() {
            DetectorChoice::all()
        } else {
            let named = self.detector.iter().map(|kind| DetectorChoice::of_kind(kind));
            named.collect::<Result<_, _>>()?
        };
        let named = choices.into_iter().map(|choice| {
            let kind = choice.kind();
            Ok((kind.to_owned(), self.recipe_of(choice, kind)?))
        });
        named.collect()
    }

    /// Lays out the recipe for a kind of detector.
    fn recipe_of(
        &self,
        mut detector: DetectorChoice,
        default_name: &str,
    ) -> anyhow::Result<Recipe> {
        for (name, value) in self.changes(&detector) {
            if detector.has(name) {
                detector.set(name, value)?;
            }
        }
        let features = match &self.features[..] {
            [] => detector.usual_features(),
            features => features.to_vec(),
        };
        let (window_len, stride) = detector.lay_out(self.window, self.stride);
        let (raise_count, raise_of) = self.raise.unwrap_or(detector.usual_raise());
        Ok(Recipe {
            name: self.name.clone().unwrap_or_else(|| default_name.to_owned()),
            detector,
            window_len,
            stride,
            features,
            score: match self.score {
                Score::MeanAbsolute => ScoreChoice::MeanAbsolute,
                Score::MeanSquared => ScoreChoice::MeanSquared,
                Score::Rms => ScoreChoice::Rms,
                Score::Maximum => ScoreChoice::Maximum,
            },
            weigh_residuals: true,
            smoothing: self.smoothing,
            threshold: match self.risk {
                Some(risk) => ThresholdRule::PeaksOverThreshold { risk, initial: TAIL_QUANTILE },
                None => ThresholdRule::Quantile { quantile: self.quantile, margin: self.margin },
            },
            raise_count,
            raise_of,
            clear_share: self.clear_share,
            clear_count: self.clear_count,
            calibration_share: self.calibration,
        })
    }

    /// Changes to the kind's settings: first the flags of their own, then `--set`.
    fn changes(&self, choice: &DetectorChoice) -> Vec<(&str, Value)> {
        let seed = if choice.has("seed") { "seed" } else { "fit.seed" };
        let flags = [
            ("precision", self.precision.clone().map(Value::from)),
            ("encoder", self.encoder.clone().map(Value::from)),
            ("alpha", self.alpha.map(shortest)),
            ("fit.epochs", self.epochs.map(Value::from)),
            ("fit.batch", self.batch.map(Value::from)),
            ("fit.learning_rate", self.learning_rate.map(shortest)),
            ("fit.patience", self.patience.map(Value::from)),
            (seed, self.seed.map(Value::from)),
        ];
        let flags = flags.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let settings = self.settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
        flags.chain(settings).collect()
    }
}

/// The number as it was written, without the digits that its widening to f64 would bring.
fn shortest(number: f32) -> Value {
    serde_json::from_str(&number.to_string()).unwrap_or_else(|_| Value::from(number))
}

/// Where the network stands that an int8 detector was made from: `evaluate` puts it beside.
pub(crate) fn float_twin_path(detector: &Path) -> PathBuf {
    detector.with_extension("float32.detector")
}

#[derive(Serialize)]
struct Report<'a> {
    detector: String,
    file: String,
    #[serde(flatten)]
    summary: &'a Summary,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let first = self.recordings.first();
        let path = self
            .output
            .or_else(|| Some(first?.file_name()?.with_extension("detector")))
            .unwrap_or_else(|| PathBuf::from("trained.detector"));
        require_folder_of(&path)?;
        let recording = self.read.read_all(&self.recordings, output)?;
        let stem =
            path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let recipe = self.recipe.recipe(&stem)?;
        let epochs = recipe.detector.settings().pointer("/fit/epochs").and_then(Value::as_u64);
        let bar = output.progress(epochs.unwrap_or(1));
        let trained = train(&recording, &recipe, |progress| {
            bar.inc(1);
            bar.set_message(format!(
                "loss {:.5}",
                progress.validation_loss.unwrap_or(progress.train_loss)
            ));
            ControlFlow::Continue(())
        })?;
        bar.finish_and_clear();
        std::fs::write(&path, trained.file.bytes())
            .with_context(|| format!("cannot write the detector `{}`", path.display()))?;
        if let Some(twin) = &trained.float_twin {
            let path = float_twin_path(&path);
            std::fs::write(&path, twin.bytes())
                .with_context(|| format!("cannot write the float twin `{}`", path.display()))?;
        }
        let summary = &trained.summary;
        for channel in &summary.constant_channels {
            output.warn(format!(
                "the channel `{channel}` never changes in this recording; leave it out with --channels unless that is normal"
            ));
        }
        if summary.sensor_faults > 0 {
            output.warn(format!(
                "left out as sensor faults: {}",
                counted(summary.sensor_faults, "sample")
            ));
        }
        let report =
            Report { detector: recipe.name.clone(), file: path.display().to_string(), summary };
        output.result(&report, || text(&report));
        Ok(Outcome::Done)
    }
}

fn text(report: &Report<'_>) -> String {
    let summary = report.summary;
    let epochs = match summary.best_epoch {
        Some(best) => format!("{}, best {best}", counted(summary.history.len(), "epoch")),
        None => "in one pass".to_owned(),
    };
    let pruned = summary
        .pruned_share
        .map(|share| format!("\npruned      {:.1} % of the weights", share * 100.0));
    let int8 = summary.quantisation.as_ref().map(|loss| {
        let aware = loss.aware_auc.map(|area| {
            let kept = if loss.aware_kept { "kept" } else { "not kept" };
            format!("; trained with rounding {area:.3}, {kept}")
        });
        format!(
            "\nint8        AUC {:.3} beside {:.3} in float32, on held-out rows against disturbed ones{}",
            loss.int8_auc,
            loss.float_auc,
            aware.unwrap_or_default()
        )
    });
    let rest = pruned.unwrap_or_default() + &int8.unwrap_or_default();
    format!(
        "detector    {}\nfile        {} ({} bytes; {} bytes of RAM)\nwindows     {} to fit, {} to set the threshold\nfit         {epochs}\nthreshold   {:.4} (greatest normal score {:.4}){rest}",
        report.detector,
        report.file,
        summary.file_len,
        summary.memory_len,
        summary.fit_windows,
        summary.calibration_windows,
        summary.threshold.value,
        summary.calibration_score_max,
    )
}
