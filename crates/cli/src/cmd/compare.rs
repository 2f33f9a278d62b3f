use std::path::PathBuf;

use anyhow::Context;
use stonechat_train::compare::{Budget, Parts, compare, page};
use stonechat_train::dataset::Recording;

use crate::Outcome;
use crate::cmd::train::RecipeArgs;
use crate::data::{ReadArgs, Source};
use crate::output::{Output, require_folder_of};

/// Train several detectors on a recording, and say which is best and fits the chip.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat compare machine.csv --budget esp32c3
  stonechat compare low.csv --anomalous coin.csv --budget rp2040 --html detectors.html
  stonechat compare room.csv --detector z-score,pca,dense --window 64 --auto -o room.detector

Of the rows, in the order of time, the first 60 % train, 15 % serve the choice and the last 25 % are
reported. The choice sees made-up faults in its own part, never the reported part. Where no anomaly is
labelled, faults are made up in the reported part, too, and the table says so.")]
pub(crate) struct Args {
    /// Recordings, with labels where there are any: FILE or FILE@0%..60%.
    #[arg(required = true, value_name = "RECORDING")]
    recordings: Vec<Source>,
    /// Recordings that are anomalous throughout, for the reported part; may be repeated.
    #[arg(long, value_name = "RECORDING")]
    anomalous: Vec<Source>,
    /// Train and choose on these, and report on all of the others.
    #[arg(long, value_name = "RECORDING")]
    train: Vec<Source>,
    /// What a detector may take: a chip (esp32c3, esp32c6, rp2040, nrf52840, stm32f103), or
    /// flash=BYTES,ram=BYTES,rate=INSTRUCTIONS.
    #[arg(long, value_name = "CHIP", default_value = "esp32c3")]
    budget: Budget,
    /// Write the detector that is chosen; exit with 2 if none fits the budget.
    #[arg(long)]
    auto: bool,
    /// The file for --auto; without it, named like the first recording, in this folder.
    #[arg(short, long, value_name = "FILE", requires = "auto")]
    output: Option<PathBuf>,
    /// Also write the tables and pictures as one HTML file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    read: ReadArgs,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let path = self.detector_path();
        for path in [Some(&path), self.html.as_ref()].into_iter().flatten() {
            require_folder_of(path)?;
        }
        let parts = self.parts(output)?;
        let recipes = self.recipe.recipes()?;
        let bar = output.progress(recipes.len() as u64);
        let comparison = compare(&parts, recipes, self.budget.clone(), |name| {
            bar.inc(1);
            bar.set_message(name.to_owned());
        })?;
        bar.finish_and_clear();
        output.result(&comparison, || comparison.table());
        if let Some(path) = &self.html {
            let made_by = format!("Made by stonechat {}.", env!("CARGO_PKG_VERSION"));
            std::fs::write(path, page(&comparison, &made_by)?)
                .with_context(|| format!("cannot write the page `{}`", path.display()))?;
            output.note(format!("wrote {}", path.display()));
        }
        if self.auto {
            std::fs::write(&path, comparison.chosen_file()?.bytes())
                .with_context(|| format!("cannot write the detector `{}`", path.display()))?;
            output.note(format!("wrote {}", path.display()));
        }
        Ok(Outcome::Done)
    }

    fn detector_path(&self) -> PathBuf {
        let named = || Some(self.recordings.first()?.file_name()?.with_extension("detector"));
        let path = self.output.clone().or_else(named);
        path.unwrap_or_else(|| PathBuf::from("chosen.detector"))
    }

    fn parts(&self, output: &Output) -> anyhow::Result<Parts> {
        let recording = self.read.read_all(&self.recordings, output)?;
        let anomalous = self.anomalous.iter().map(|source| -> anyhow::Result<Recording> {
            let mut anomalous = self.read.read(source, output)?;
            anomalous.label_all(true);
            Ok(anomalous)
        });
        let anomalous = anomalous.collect::<anyhow::Result<Vec<Recording>>>()?;
        if self.train.is_empty() {
            return Ok(Parts::split(&recording, &anomalous)?);
        }
        let training = self.read.read_all(&self.train, output)?;
        Ok(Parts::given(&training, &recording, &anomalous)?)
    }
}
