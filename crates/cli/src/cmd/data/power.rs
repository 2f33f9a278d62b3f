use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;
use stonechat_train::evaluate::Confusion;
use stonechat_train::power::capture::{Capture, Counts};
use stonechat_train::power::process::{Issues, process};
use stonechat_train::power::{meter, report};

use crate::Outcome;
use crate::output::{Output, counted, require_folder_of};

/// Process a power meter's capture or file: flags, distortion, and a forest that tells faults from normal use.
///
/// A capture (CSV or text of `stonechat data capture`) becomes rows with over and under flags. A meter's file with
/// waveforms (`stonechat data synth meter`) is measured anew; with --report, a random forest learns from its first 70 %
/// and is judged by the rest.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat data power mqtt_all_messages_20240101000000.csv -o processed.csv
  stonechat data synth meter --rows 4000 --faults 20% -o meter.csv
  stonechat data power meter.csv -o measured.csv --report report")]
pub(super) struct PowerArgs {
    /// A capture, or a meter's file with waveforms.
    file: PathBuf,
    /// The file to write, .csv.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What a register's number is multiplied by: REGISTER=FACTOR; may be repeated.
    #[arg(long, value_name = "SCALE", value_parser = parse_scale)]
    scale: Vec<(u32, f64)>,
    /// Samples a second of the waveforms.
    #[arg(long, value_name = "HZ", default_value_t = 6_400.0)]
    sample_rate: f32,
    /// Judge a random forest, and draw its confusion matrix and ROC curve into this folder.
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
    /// Decides how the forest grows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn parse_scale(text: &str) -> Result<(u32, f64), String> {
    text.split_once('=')
        .and_then(|(register, factor)| Some((register.parse().ok()?, factor.parse().ok()?)))
        .filter(|(_, factor): &(u32, f64)| factor.is_finite())
        .ok_or_else(|| "write REGISTER=FACTOR, such as 1006=0.001".to_owned())
}

#[derive(Serialize)]
struct Processed {
    rows: usize,
    messages: Counts,
    readings_of_other_registers: usize,
    issues: Issues,
    file: Option<String>,
}

#[derive(Serialize)]
struct Measured {
    rows: usize,
    anomalous_rows: usize,
    file: Option<String>,
    forest: Option<Forest>,
}

#[derive(Serialize)]
struct Forest {
    training_rows: usize,
    test_rows: usize,
    threshold: f64,
    roc_auc: f64,
    confusion: Confusion,
    always_normal: Confusion,
    pictures: Vec<String>,
    #[serde(skip)]
    text: String,
}

/// Rows of a day: a forest that has not seen every hour takes the unseen ones for faults.
const DAY_ROWS: usize = 1_440;

impl PowerArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        if let Some(path) = &self.output {
            require_folder_of(path)?;
        }
        if meter::is_meter_file(&self.file).unwrap_or(false) {
            self.measure(output)?;
        } else {
            self.process(output)?;
        }
        Ok(Outcome::Done)
    }

    fn file(&self) -> Option<String> {
        self.output.as_ref().map(|path| path.display().to_string())
    }

    fn process(&self, output: &Output) -> anyhow::Result<()> {
        if self.report.is_some() {
            output.warn("a capture has no labels: without them there is no report");
        }
        let capture = Capture::read(&self.file)?;
        let scale = |register| {
            let found = self.scale.iter().find(|(scaled, _)| *scaled == register);
            found.map_or(1.0, |(_, factor)| *factor)
        };
        let processed = process(&capture, scale);
        if let Some(path) = &self.output {
            processed.write(path)?;
        }
        let result = Processed {
            rows: processed.rows.len(),
            messages: capture.counts,
            readings_of_other_registers: processed.unknown,
            issues: processed.issues(),
            file: self.file(),
        };
        output.result(&result, || {
            let Issues { current_over, current_under, voltage_over, voltage_under, .. } =
                result.issues;
            format!(
                "{} from {}, {} malformed, {} unreadable\ncurrent     {current_over} over, {current_under} under\nvoltage     {voltage_over} over, {voltage_under} under\nfrequency   {} off{}",
                counted(result.rows, "row"),
                counted(result.messages.messages, "message"),
                result.messages.malformed,
                result.messages.unreadable,
                result.issues.frequency,
                written(result.file.as_ref())
            )
        });
        Ok(())
    }

    fn measure(&self, output: &Output) -> anyhow::Result<()> {
        let minutes = meter::read(&self.file)?;
        let measured = meter::measure(&minutes, self.sample_rate)?;
        if let Some(path) = &self.output {
            meter::write(path, &minutes, &measured)?;
        }
        let labels: Vec<bool> = minutes.iter().map(|minute| minute.anomalous).collect();
        let forest =
            self.report.as_ref().map(|_| self.judge(&measured, &labels, output)).transpose()?;
        let result = Measured {
            rows: minutes.len(),
            anomalous_rows: labels.iter().filter(|label| **label).count(),
            file: self.file(),
            forest,
        };
        output.result(&result, || {
            let forest = result.forest.as_ref().map(|forest| format!("\n{}", forest.text));
            format!(
                "{}, {} anomalous{}{}",
                counted(result.rows, "row"),
                result.anomalous_rows,
                written(result.file.as_ref()),
                forest.unwrap_or_default()
            )
        });
        Ok(())
    }

    fn judge(
        &self,
        measured: &[meter::Measured],
        labels: &[bool],
        output: &Output,
    ) -> anyhow::Result<Forest> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let options = report::forest_options(self.seed);
        let judged = report::judge_minutes(measured, labels, &options, threads)?;
        if judged.split.training_rows < DAY_ROWS {
            output.warn(format!(
                "{} to learn from are less than a day: hours that they do not hold will look like faults",
                counted(judged.split.training_rows, "row")
            ));
        }
        let mut pictures = Vec::new();
        if let Some(folder) = &self.report {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
            for (name, picture) in ["confusion", "roc"].iter().zip(judged.pictures()?) {
                let path = folder.join(format!("{name}.png"));
                std::fs::write(&path, picture.png()?)
                    .with_context(|| format!("cannot write `{}`", path.display()))?;
                pictures.push(path.display().to_string());
            }
        }
        Ok(Forest {
            training_rows: judged.split.training_rows,
            test_rows: judged.split.test_rows,
            threshold: judged.threshold,
            roc_auc: judged.roc_auc,
            confusion: judged.confusion,
            always_normal: judged.always_normal,
            pictures,
            text: judged.text(),
        })
    }
}

fn written(file: Option<&String>) -> String {
    file.map(|file| format!("\nwritten     {file}")).unwrap_or_default()
}
