use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;
use stonechat_core::detector::Detector;
use stonechat_train::compile::DetectorFile;
use stonechat_train::dataset::Recording;
use stonechat_train::evaluate::{Metrics, Report, Scored, Subject, Windows};
use stonechat_train::replay::{replay, window_labels};

use crate::Outcome;
use crate::cmd::plot;
use crate::cmd::train::float_twin_path;
use crate::data::{LabelledArgs, Source};
use crate::output::Output;

/// Say how good a detector is on labelled recordings, beside four controls.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat evaluate fan.detector low.csv@80%..100% --anomalous coin.csv --trained-on low.csv@0%..60%
  stonechat evaluate m.detector machine.csv@15%..100% --intervals labels.json --trained-on machine.csv@0%..15%

The controls never, always, random and a frozen z-score are measured on the same windows; a detector
that does not beat them is of no use. FAR is the share of normal windows called anomalous, MAR the
share of anomalous windows missed.")]
pub(crate) struct Args {
    /// The detector file.
    detector: PathBuf,
    /// What the detector was trained on; the control z-score learns from it.
    #[arg(long, value_name = "RECORDING", required = true)]
    trained_on: Vec<Source>,
    /// Also write the plots into this folder.
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
    /// Exit with 1 if the detector raised an anomaly.
    #[arg(long)]
    fail_on_anomaly: bool,
    #[command(flatten)]
    recordings: LabelledArgs,
}

#[derive(Serialize)]
struct Evaluation<'a> {
    detector: &'a str,
    sensor_faults: usize,
    #[serde(flatten)]
    report: &'a Report,
    /// The same network before it was quantised.
    float_twin: Option<Metrics>,
}

fn text(evaluation: &Evaluation<'_>) -> String {
    let mut report = evaluation.report.clone();
    if let Some(twin) = &evaluation.float_twin {
        let name = format!("{} in float32", evaluation.detector);
        report.rows.insert(1, Metrics { name, ..twin.clone() });
    }
    report.table()
}

/// Measures a detector beside the controls; returns its scores and the sensor faults, too.
fn measure(
    detector: &Detector<'_>,
    recording: &Recording,
    normal: &Recording,
) -> anyhow::Result<(Report, Scored, usize)> {
    let replay = replay(detector, recording, |_, _| {})?;
    let scored = replay.scored(detector.decision_rule().threshold);
    let labels = window_labels(recording, &replay, detector);
    let last_rows = replay.last_rows();
    let coverage = detector.coverage();
    let subject = Subject {
        recording,
        windows: Windows { last_rows: &last_rows, len: coverage.len + coverage.delay },
        labels: &labels,
        volume_window: None,
    };
    let report = Report::new(detector.name(), &scored, &subject, normal)
        .with_context(|| format!("cannot evaluate `{}`", detector.name()))?;
    Ok((report, scored, replay.faults))
}

/// Reads the float twin that training wrote beside an int8 detector, if it is of the same training.
fn float_twin(path: &Path, detector: &Detector<'_>) -> Option<DetectorFile> {
    let file = DetectorFile::read(&float_twin_path(path)).ok()?;
    (file.detector().provenance() == detector.provenance()).then_some(file)
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let file = DetectorFile::read(&self.detector)?;
        let detector = file.detector();
        let recording = self.recordings.recording(output)?;
        let normal = self.recordings.read.read_all(&self.trained_on, output)?;
        let (report, scored, sensor_faults) = measure(&detector, &recording, &normal)?;
        let float_twin = match float_twin(&self.detector, &detector) {
            Some(file) => measure(&file.detector(), &recording, &normal)?.0.rows.into_iter().next(),
            None => None,
        };
        let evaluation =
            Evaluation { detector: detector.name(), sensor_faults, report: &report, float_twin };
        output.result(&evaluation, || text(&evaluation));
        if let Some(folder) = &self.plots {
            plot::write(folder, plot::Format::Svg, &plot::draw(&detector, &recording)?, output)?;
        }
        let raised = scored.verdicts.contains(&true);
        Ok(if raised && self.fail_on_anomaly { Outcome::No } else { Outcome::Done })
    }
}
