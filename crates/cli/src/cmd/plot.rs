use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;
use stonechat_core::detector::Detector;
use stonechat_train::compile::DetectorFile;
use stonechat_train::dataset::{ChannelInfo, Recording};
use stonechat_train::evaluate::{Confusion, roc_auc, roc_curve};
use stonechat_train::plot::{
    Picture, RocLine, Span, confusion_matrix, label_spans, reconstruction, roc, score_histogram,
    scores_over_time,
};
use stonechat_train::replay::{replay, window_labels};

use crate::Outcome;
use crate::data::LabelledArgs;
use crate::output::Output;

/// Draw what a detector makes of a recording, as SVG or PNG.
///
/// Draws signal against reconstruction, score against threshold over time, score histograms, and,
/// where both classes are labelled, ROC curve and confusion matrix.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: stonechat plot fan.detector low.csv@80%.. --anomalous coin.csv -o plots --format png"
)]
pub(crate) struct Args {
    /// The detector file.
    detector: PathBuf,
    /// The folder to write into.
    #[arg(short, long, value_name = "FOLDER", default_value = "plots")]
    output: PathBuf,
    /// The pictures' format.
    #[arg(long, value_enum, default_value = "svg")]
    format: Format,
    #[command(flatten)]
    recordings: LabelledArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    Svg,
    Png,
}

/// A picture and the name of its file, without the ending.
pub(crate) struct Named {
    name: String,
    picture: Picture,
}

#[derive(Serialize)]
struct Written {
    file: String,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let file = DetectorFile::read(&self.detector)?;
        let recording = self.recordings.recording(output)?;
        let pictures = draw(&file.detector(), &recording)?;
        for path in write_files(&self.output, self.format, &pictures)? {
            let written = Written { file: path.display().to_string() };
            output.result(&written, || written.file.clone());
        }
        Ok(Outcome::Done)
    }
}

/// Draws everything that the recording's labels permit.
pub(crate) fn draw(detector: &Detector<'_>, recording: &Recording) -> anyhow::Result<Vec<Named>> {
    let traces: Vec<_> = detector.traces().collect();
    let mut drawn: Vec<Drawn> = traces.iter().map(|_| Drawn::default()).collect();
    let replay = replay(detector, recording, |pipeline, window| {
        for (trace, drawn) in traces.iter().zip(&mut drawn) {
            for position in 0..trace.count {
                let age = (trace.count - 1 - position) * trace.step;
                let index = trace.first + position;
                drawn.time_us.push(recording.time_us[window.row.saturating_sub(age)]);
                drawn.signal.push(pipeline.features()[index]);
                drawn.reconstruction.push(pipeline.reconstruction(index).unwrap_or(f32::NAN));
            }
        }
    })?;
    let spans = label_spans(recording);
    let name = detector.name();
    let mut pictures = Vec::new();
    for (trace, drawn) in traces.iter().zip(drawn) {
        let channel = ChannelInfo::new(trace.name, trace.unit);
        let file = format!("signal-{}", trace.name.replace('/', "-"));
        pictures.push(Named { name: file, picture: drawn.picture(name, &channel, &spans)? });
    }
    let threshold = f64::from(detector.decision_rule().threshold);
    let scored = replay.scored(detector.decision_rule().threshold);
    let labels = window_labels(recording, &replay, detector);
    let time_us: Vec<i64> =
        replay.windows.iter().map(|window| recording.time_us[window.row]).collect();
    let mut add = |file: &str, picture| {
        pictures.push(Named { name: file.to_owned(), picture });
    };
    let title = |what: &str| format!("{name}: {what} on {}", recording.name);
    add("score", scores_over_time(&title("score"), &time_us, &scored.scores, threshold, &spans)?);
    add("histogram", score_histogram(&title("scores"), &scored.scores, &labels, threshold)?);
    if let Some(area) = roc_auc(&scored.scores, &labels) {
        let points = roc_curve(&scored.scores, &labels);
        add("roc", roc(&title("ROC"), &[RocLine { name, points: &points, area }])?);
        let confusion = Confusion::of_verdicts(&scored.verdicts, &labels);
        add("confusion", confusion_matrix(&title("windows"), &confusion));
    }
    Ok(pictures)
}

/// Writes pictures and tells where they are.
pub(crate) fn write(
    folder: &Path,
    format: Format,
    pictures: &[Named],
    output: &Output,
) -> anyhow::Result<()> {
    for path in write_files(folder, format, pictures)? {
        output.note(format!("wrote {}", path.display()));
    }
    Ok(())
}

fn write_files(folder: &Path, format: Format, pictures: &[Named]) -> anyhow::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
    let mut paths = Vec::new();
    for Named { name, picture } in pictures {
        let (ending, bytes) = match format {
            Format::Svg => ("svg", picture.svg().into_bytes()),
            Format::Png => ("png", picture.png()?),
        };
        let path = folder.join(format!("{name}.{ending}"));
        std::fs::write(&path, bytes)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        paths.push(path);
    }
    Ok(paths)
}

/// A trace over the whole recording.
#[derive(Default)]
struct Drawn {
    time_us: Vec<i64>,
    signal: Vec<f32>,
    reconstruction: Vec<f32>,
}

impl Drawn {
    fn picture(
        &self,
        detector: &str,
        channel: &ChannelInfo,
        spans: &[Span],
    ) -> anyhow::Result<Picture> {
        let title = format!("{detector}: {} and its reconstruction", channel.name);
        let picture = reconstruction(
            &title,
            channel,
            &self.time_us,
            &self.signal,
            &self.reconstruction,
            spans,
        );
        Ok(picture?)
    }
}
