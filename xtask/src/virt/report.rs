//! What a job came to, on the chip or on the host.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use stonechat_job::format::Job;
use stonechat_job::report::{Block, Count, Line, Part, Stage, Total};
use stonechat_job::run::{self, Probe};

use super::Row;

/// Words of working memory on the host; as many as `board-virt` has.
const WORKSPACE_WORDS: usize = 16 * 1024;

/// What a job came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// One digest for each run of windows.
    pub blocks: Vec<Block>,
    /// The whole job.
    pub total: Total,
    /// Instructions by stage; only of the chip.
    pub counts: BTreeMap<Stage, Count>,
    /// Bytes of memory by part; only of the chip.
    pub memory: BTreeMap<Part, u32>,
    whole: bool,
}

/// The host measures nothing: its instructions are of another kind.
struct Host;

impl Probe for Host {
    fn instructions(&self) -> u32 {
        0
    }

    fn stack_bytes(&self, call: impl FnOnce()) -> u32 {
        call();
        0
    }
}

impl Report {
    /// Runs a job on the host, with the same code as the chip.
    ///
    /// # Errors
    /// Fails where the job or its detector is refused.
    pub fn on_host(job: &[u8]) -> Result<Self> {
        // The loader wants the file aligned, as the chip's memory is.
        let mut words = vec![0u128; job.len().div_ceil(size_of::<u128>())];
        let aligned: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        aligned[..job.len()].copy_from_slice(job);
        let job = Job::parse(&aligned[..job.len()])?;
        let mut workspace = vec![0; WORKSPACE_WORDS];
        let mut report = Self::default();
        run::run(&job, &mut workspace, &Host, &mut |line| {
            report.add(line);
            Ok(())
        })?;
        report.counts.clear();
        report.memory.clear();
        report.whole = true;
        Ok(report)
    }

    /// Takes in one line of the chip's report.
    pub(super) fn take_in(&mut self, line: &str) -> Result<()> {
        match Line::parse(line) {
            Some(Line::Error(text)) => bail!("the chip says: {text}"),
            Some(_) if self.whole => bail!("the chip says more after the end: {line:?}"),
            Some(line) => self.add(line),
            None => bail!("the chip says something that is no report: {line:?}"),
        }
        Ok(())
    }

    fn add(&mut self, line: Line<'_>) {
        match line {
            Line::Block(block) => self.blocks.push(block),
            Line::Total(total) => self.total = total,
            Line::Count(stage, count) => {
                self.counts.insert(stage, count);
            }
            Line::Memory(part, bytes) => {
                self.memory.insert(part, bytes);
            }
            Line::Error(_) => {}
            Line::End => self.whole = true,
        }
    }

    /// Whether the report came to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Demands that another report has the same bits.
    ///
    /// # Errors
    /// Fails where they differ, and says from which windows on.
    pub fn compare(&self, other: &Self) -> Result<()> {
        let mut first_window = 0;
        for (index, block) in self.blocks.iter().enumerate() {
            if other.blocks.get(index) != Some(block) {
                bail!(
                    "host and chip differ within windows {first_window} to {}: {block:?} on the \
                     host, {:?} on the chip",
                    first_window + block.windows - 1,
                    other.blocks.get(index),
                );
            }
            first_window += block.windows;
        }
        if self.blocks.len() != other.blocks.len() || self.total != other.total {
            bail!(
                "host and chip differ: {:?} on the host, {:?} on the chip",
                self.total,
                other.total
            );
        }
        Ok(())
    }

    /// The instructions of a sample, on average over those that complete a window and those that do not.
    #[must_use]
    pub fn instructions_per_sample(&self) -> f64 {
        let counts =
            || [Stage::Sample, Stage::Window].into_iter().filter_map(|s| self.counts.get(&s));
        let calls: u32 = counts().map(|count| count.calls).sum();
        let sum: u64 = counts().map(|count| count.sum).sum();
        sum as f64 / f64::from(calls.max(1))
    }

    /// The counts and bytes as rows of a bench; `program_bytes` is the flash of the least program
    /// that runs a detector.
    #[must_use]
    pub fn rows(&self, name: &str, program_bytes: u64) -> Vec<Row> {
        let row = |quantity: String, value: f64, unit: &'static str| Row {
            name: format!("{name}.{quantity}"),
            value,
            unit,
        };
        let mut rows = Vec::new();
        for (stage, count) in &self.counts {
            let quantity = format!("{}_instructions", stage.word());
            rows.push(row(format!("{quantity}_max"), f64::from(count.most), "instructions"));
            rows.push(row(quantity, count.mean(), "instructions"));
        }
        let mut ram = 0;
        for (part, &bytes) in &self.memory {
            rows.push(row(format!("{}_bytes", part.word()), f64::from(bytes), "bytes"));
            if *part == Part::Detector {
                let flash = program_bytes + u64::from(bytes);
                rows.push(row("flash_bytes".into(), flash as f64, "bytes"));
            } else {
                ram += bytes;
            }
        }
        rows.push(row("ram_bytes".into(), f64::from(ram), "bytes"));
        rows
    }
}
