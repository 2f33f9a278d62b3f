//! What the benchmark gave, and how it reads.

use core::fmt::Write;

use serde::Serialize;

use super::score::Mark;

/// How the learner's settings came about, which a reader of its scores must know.
const HOW_CHOSEN: &str = "\
The learner's settings were chosen on this corpus: about 25,000 combinations of experts and settings \
were scored on it during the design, most of them by a random or a greedy search. To see how much of \
the score that makes, the last step was repeated in the prototype 14 times on one half of the streams \
each: of 700 random combinations of the same kinds of experts the best on that half was taken, with \
the threshold that was best there, and scored on the other half. On the halves of the choice the \
standard scores were 73.6 to 80.0; on the others 58.6 to 74.9, in the mean 69.5, and with low FP 52.7 \
to 69.4, in the mean 64.5. Those are nearer to what an unseen corpus would give, and still too kind: \
the kinds of experts themselves were found with all streams in view.";

/// What the benchmark gave.
#[derive(Clone, Debug, Serialize)]
pub struct NabReport {
    /// Streams in the corpus.
    pub streams: usize,
    /// Values in the corpus.
    pub values: usize,
    /// Labelled windows in the corpus.
    pub windows: usize,
    /// The profiles, in the order of every list of scores.
    pub profiles: [&'static str; 3],
    /// The online learner.
    pub learner: Entry,
    /// The windowed Gaussian, computed and scored here: a right scorer gives its published scores.
    pub control: Entry,
    /// The published scoreboard, best standard score first.
    pub published: Vec<PublishedEntry>,
    /// The learner by category, at its threshold of the standard profile.
    pub categories: Vec<Category>,
    /// The learner's scores on every other stream with the threshold chosen on those between, both
    /// ways: how much of the score the choice of the threshold on the same streams makes.
    pub split: [[f64; 3]; 2],
    /// Bytes of memory of the learner.
    pub memory_len: usize,
    /// Bytes of its detector file.
    pub file_len: usize,
    /// The learner's settings.
    pub settings: serde_json::Value,
}

/// How a detector scored.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// The detector.
    pub detector: String,
    /// One mark a profile.
    pub marks: [Mark; 3],
}

/// A line of the published scoreboard.
#[derive(Clone, Debug, Serialize)]
pub struct PublishedEntry {
    /// The detector, as the scoreboard spells it.
    pub detector: String,
    /// One score a profile.
    pub scores: [f64; 3],
}

/// How the learner did on the streams of one category.
#[derive(Clone, Debug, Serialize)]
pub struct Category {
    /// Its name.
    pub category: String,
    /// Its streams.
    pub streams: usize,
    /// Labelled windows.
    pub windows: usize,
    /// Windows detected.
    pub windows_detected: usize,
    /// Rows outside all windows that were called anomalous.
    pub false_positives: usize,
    /// The standard score of these streams alone; none without windows.
    pub score: Option<f64>,
}

impl NabReport {
    /// Writes the report as a section of a Markdown document, without a heading.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a string takes all that is written to it");
        text
    }

    fn write(&self, text: &mut String) -> core::fmt::Result {
        writeln!(
            text,
            "{} streams, {} values, {} labelled windows. One configuration and one pass for all \
             streams, from the first value on, without training; {} bytes of memory, a detector \
             file of {} bytes. The threshold of each profile is the best on the whole corpus, as \
             NAB chooses it for every detector.\n",
            self.streams, self.values, self.windows, self.memory_len, self.file_len
        )?;
        self.write_scoreboard(text)?;
        self.write_marks(text)?;
        self.write_categories(text)?;
        writeln!(text, "\n{HOW_CHOSEN}")
    }

    fn write_scoreboard(&self, text: &mut String) -> core::fmt::Result {
        let ours =
            [(&self.learner, "**Stonechat learner**"), (&self.control, "windowedGaussian, here")];
        let here =
            ours.map(|(entry, name)| (name.to_owned(), entry.marks.map(|mark| mark.normalised)));
        let published = self.published.iter().map(|entry| (entry.detector.clone(), entry.scores));
        let mut lines: Vec<(String, [f64; 3])> = here.into_iter().chain(published).collect();
        lines.sort_by(|a, b| b.1[0].total_cmp(&a.1[0]));
        let [standard, low_fp, low_fn] = self.profiles;
        writeln!(text, "| detector | {standard} | {low_fp} | {low_fn} |\n|---|---:|---:|---:|")?;
        for (name, [standard, low_fp, low_fn]) in lines {
            writeln!(text, "| {name} | {standard:.2} | {low_fp:.2} | {low_fn:.2} |")?;
        }
        writeln!(text, "\nAll but the two lines of ours are NAB's published scores.\n")
    }

    fn write_marks(&self, text: &mut String) -> core::fmt::Result {
        writeln!(
            text,
            "| profile | threshold, of the record | windows detected | false detections | score | threshold from \
             the other half of the streams |\n|---|---:|---:|---:|---:|---:|"
        )?;
        for (index, mark) in self.learner.marks.iter().enumerate() {
            writeln!(
                text,
                "| {} | {:.3} | {} of {} | {} | {:.2} | {:.2} / {:.2} |",
                self.profiles[index],
                // The learner's score s is scored as s / (1 + s), which is less than 1.
                mark.threshold / (1.0 - mark.threshold),
                mark.windows_detected,
                self.windows,
                mark.false_positives,
                mark.normalised,
                self.split[0][index],
                self.split[1][index],
            )?;
        }
        writeln!(text)
    }

    fn write_categories(&self, text: &mut String) -> core::fmt::Result {
        writeln!(
            text,
            "| category | streams | windows detected | false detections | standard score |\n\
             |---|---:|---:|---:|---:|"
        )?;
        for category in &self.categories {
            let score = category.score.map_or("-".to_owned(), |score| format!("{score:.1}"));
            writeln!(
                text,
                "| {} | {} | {} of {} | {} | {score} |",
                category.category,
                category.streams,
                category.windows_detected,
                category.windows,
                category.false_positives,
            )?;
        }
        Ok(())
    }
}
