use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use serde::Serialize;
use stonechat_train::benchmark::nab::{self, NabOptions};
use stonechat_train::benchmark::skab::{self, SkabOptions};
use stonechat_train::benchmark::ucr::{self, UcrOptions};
use stonechat_train::dataset::time::format_iso;

use crate::Outcome;
use crate::output::{Output, require_folder_of};

/// Run a public benchmark on data that you have, with the published tables beside ours.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: stonechat bench skab SKAB/data -o docs/benchmarks.md")]
pub(crate) struct Args {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// The Numenta Anomaly Benchmark: 58 streams, learned from as they come, one detector for all.
    #[command(after_help = "Example: stonechat bench nab NAB -o docs/benchmarks.md")]
    Nab(RunArgs),
    /// The Skoltech Anomaly Benchmark: a water loop; each file trains on its first 400 rows.
    #[command(after_help = "Example: stonechat bench skab SKAB/data -o docs/benchmarks.md")]
    Skab(RunArgs),
    /// The UCR time series anomaly archive: one anomaly a series.
    #[command(after_help = "Example: stonechat bench ucr UCR/series -o docs/benchmarks.md")]
    Ucr(RunArgs),
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// The folder with the benchmark's data.
    folder: PathBuf,
    /// Also write the results into this Markdown file, in the place of those of an earlier run.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        match self.benchmark {
            Benchmark::Nab(args) => {
                let report = nab::run(&args.folder, &NabOptions::default())?;
                args.finish("nab", &report, &report.markdown(), output)
            }
            Benchmark::Skab(args) => {
                let report = skab::run(&args.folder, &SkabOptions::default())?;
                args.finish("skab", &report, &report.markdown(), output)
            }
            Benchmark::Ucr(args) => {
                let report = ucr::run(&args.folder, &UcrOptions::default())?;
                args.finish("ucr", &report, &report.markdown(), output)
            }
        }
    }
}

impl RunArgs {
    fn finish(
        &self,
        name: &str,
        report: &impl Serialize,
        markdown: &str,
        output: &Output,
    ) -> anyhow::Result<Outcome> {
        output.result(report, || markdown.to_owned());
        if let Some(path) = &self.output {
            require_folder_of(path)?;
            write_section(path, name, markdown)
                .with_context(|| format!("cannot write the results into `{}`", path.display()))?;
            output.note(format!("wrote {}", path.display()));
        }
        Ok(Outcome::Done)
    }
}

const HEAD: &str = "# Benchmarks\n\nWritten by `stonechat bench`, each section by its own run; the data are not part of this project.\n";

/// Puts a section in the place of the one of that name, or at the end.
fn write_section(path: &Path, name: &str, markdown: &str) -> anyhow::Result<()> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => HEAD.to_owned(),
        Err(error) => return Err(error.into()),
    };
    let (begin, end) = (format!("<!-- begin {name} -->"), format!("<!-- end {name} -->"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let date = format_iso(now.as_micros() as i64);
    let section = format!(
        "{begin}\n{}\n\nRun on {}: `stonechat bench {name}`.\n{end}",
        markdown.trim(),
        date.split('T').next().unwrap_or_default()
    );
    let text = match text.split_once(&begin).map(|(before, rest)| (before, rest.split_once(&end))) {
        Some((before, Some((_, after)))) => format!("{before}{section}{after}"),
        _ => format!("{}\n\n{section}\n", text.trim_end()),
    };
    std::fs::write(path, text)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_the_others_stay() {
        let path = std::env::temp_dir().join(format!("stonechat-bench-{}.md", std::process::id()));
        for (name, text) in [("a", "first"), ("b", "second"), ("a", "third")] {
            write_section(&path, name, text).expect("is written");
        }
        let text = std::fs::read_to_string(&path).expect("is there");
        std::fs::remove_file(&path).expect("is removed");
        assert!(text.starts_with("# Benchmarks") && !text.contains("first"), "{text}");
        assert!(text.find("third") < text.find("second"), "{text}");
        assert_eq!(text.matches("<!-- begin").count(), 2, "{text}");
    }
}
