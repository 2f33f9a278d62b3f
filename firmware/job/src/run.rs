//! Drives a detector over a job's samples.

use core::fmt;

use stonechat_core::decision::{Decision, Verdict};
use stonechat_core::detector::{DenseInt8, Detector, Engine, LoadError};
use stonechat_core::pipeline::{MemoryTooShort, Pipeline, SensorFault, WindowResult};

use crate::digest::Digest;
use crate::format::Job;
use crate::limits::ENGINE_RUNS;
use crate::report::{Block, Count, Line, Part, Stage, Total};

/// What a chip can measure of itself.
pub trait Probe {
    /// Instructions so far; the count may wrap.
    fn instructions(&self) -> u32;

    /// Runs something and tells the bytes of stack that it needed.
    fn stack_bytes(&self, call: impl FnOnce()) -> u32;
}

/// Why a job could not be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunError {
    /// The detector file is refused.
    Detector(LoadError),
    /// The working memory is too short.
    Memory(MemoryTooShort),
    /// The job has another number of channels than the detector.
    Channels {
        /// Of the job.
        job: usize,
        /// Of the detector.
        detector: usize,
    },
    /// The report could not be sent.
    Output,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Detector(error) => write!(f, "the detector is refused: {error}"),
            Self::Memory(error) => error.fmt(f),
            Self::Channels { job, detector } => {
                write!(f, "the job has {job} channels, its detector {detector}")
            }
            Self::Output => f.write_str("the report could not be sent"),
        }
    }
}

impl core::error::Error for RunError {}

impl From<fmt::Error> for RunError {
    fn from(_: fmt::Error) -> Self {
        Self::Output
    }
}

/// Runs a job in working memory that the caller lends, and sends the report's lines to `sink`,
/// all but the last, [`Line::End`].
///
/// # Errors
/// Fails for a detector that is refused or does not fit the job or the memory, and where `sink` does.
pub fn run(
    job: &Job<'_>,
    memory: &mut [u32],
    probe: &impl Probe,
    sink: &mut dyn FnMut(Line<'_>) -> fmt::Result,
) -> Result<(), RunError> {
    let meter = Meter::new(probe);
    let mut load = Count::default();
    let detector =
        meter.measure(&mut load, || Detector::load(job.detector)).map_err(RunError::Detector)?;
    if detector.channel_count() != job.settings.channels {
        return Err(RunError::Channels {
            job: job.settings.channels,
            detector: detector.channel_count(),
        });
    }
    digests(job, start(&detector, memory)?, sink)?;
    if !job.settings.count {
        return Ok(());
    }
    sink(Line::Count(Stage::Load, load))?;
    let (memory, spare) = memory.split_at_mut(detector.memory_words());
    if let Engine::DenseInt8(network) = detector.engine() {
        engine(network, detector.vector_len(), spare, &meter, sink)?;
    }
    whole(job, start(&detector, memory)?, &meter, sink)?;
    stages(job, start(&detector, memory)?, &meter, sink)?;
    let mut pipeline = start(&detector, memory)?;
    let stack = probe.stack_bytes(|| {
        for sample in job.samples() {
            // The results were taken in by `digests`.
            let _ = core::hint::black_box(pipeline.push(sample));
        }
    });
    let memories = [
        (Part::Detector, job.detector.len()),
        (Part::Workspace, detector.memory_words() * size_of::<u32>()),
        (Part::State, size_of::<Pipeline<'_, '_>>()),
        (Part::Stack, stack as usize),
    ];
    for (part, bytes) in memories {
        sink(Line::Memory(part, bytes as u32))?;
    }
    Ok(())
}

fn start<'d, 'm>(
    detector: &Detector<'d>,
    memory: &'m mut [u32],
) -> Result<Pipeline<'d, 'm>, RunError> {
    Pipeline::new(detector, memory).map_err(RunError::Memory)
}

/// Sends the digests of all features, scores, verdicts and sensor faults.
fn digests(
    job: &Job<'_>,
    mut pipeline: Pipeline<'_, '_>,
    sink: &mut dyn FnMut(Line<'_>) -> fmt::Result,
) -> Result<(), RunError> {
    let mut total = Total::default();
    let mut whole = Digest::default();
    let mut block = Digest::default();
    let mut index = 0;
    for sample in job.samples() {
        match pipeline.push(sample) {
            Ok(Some(result)) => {
                window(&mut block, pipeline.features(), result);
                window(&mut whole, pipeline.features(), result);
                total.windows += 1;
                total.anomalies += u32::from(result.verdict == Verdict::Anomaly);
            }
            Ok(None) => continue,
            Err(SensorFault { channels }) => {
                block.word(u32::from(channels));
                whole.word(u32::from(channels));
                total.faults += 1;
                continue;
            }
        }
        if total.windows.is_multiple_of(job.settings.block_windows) {
            let windows = job.settings.block_windows;
            let digest = core::mem::take(&mut block).value();
            sink(Line::Block(Block { index, windows, digest }))?;
            index += 1;
        }
    }
    let windows = total.windows % job.settings.block_windows;
    if windows > 0 {
        sink(Line::Block(Block { index, windows, digest: block.value() }))?;
    }
    total.digest = whole.value();
    sink(Line::Total(total))?;
    Ok(())
}

fn window(digest: &mut Digest, features: &[f32], result: WindowResult) {
    for &feature in features {
        digest.number(feature);
    }
    digest.number(result.score);
    digest.word(u32::from(result.verdict == Verdict::Anomaly) << 1 | u32::from(result.changed));
}

/// Sends the instructions of whole samples, with and without a window's end.
fn whole(
    job: &Job<'_>,
    mut pipeline: Pipeline<'_, '_>,
    meter: &Meter<'_, impl Probe>,
    sink: &mut dyn FnMut(Line<'_>) -> fmt::Result,
) -> fmt::Result {
    let (mut without, mut with) = (Count::default(), Count::default());
    for sample in job.samples() {
        let mut one = Count::default();
        match meter.measure(&mut one, || pipeline.push(sample)) {
            Ok(Some(_)) => with.add(one.most),
            Ok(None) | Err(_) => without.add(one.most),
        }
    }
    sink(Line::Count(Stage::Sample, without))?;
    sink(Line::Count(Stage::Window, with))
}

/// Sends the instructions of each stage of a window's end.
fn stages(
    job: &Job<'_>,
    mut pipeline: Pipeline<'_, '_>,
    meter: &Meter<'_, impl Probe>,
    sink: &mut dyn FnMut(Line<'_>) -> fmt::Result,
) -> fmt::Result {
    let mut counts = [Count::default(); 3];
    let [features, scores, decisions] = &mut counts;
    let mut decision = Decision::default();
    for sample in job.samples() {
        if pipeline.collect(sample) != Ok(true) {
            continue;
        }
        meter.measure(features, || {
            pipeline.compute_features();
        });
        let Some(score) = meter.measure(scores, || pipeline.score()) else {
            continue;
        };
        let rule = pipeline.detector().decision_rule();
        meter.measure(decisions, || decision.push(rule, score));
    }
    for (stage, count) in [Stage::Features, Stage::Score, Stage::Decision].into_iter().zip(counts) {
        sink(Line::Count(stage, count))?;
    }
    Ok(())
}

/// Sends the instructions of a network alone, from int8 to int8: what interpreters are asked for.
fn engine(
    network: &DenseInt8<'_>,
    vector_len: usize,
    memory: &mut [u32],
    meter: &Meter<'_, impl Probe>,
    sink: &mut dyn FnMut(Line<'_>) -> fmt::Result,
) -> Result<(), RunError> {
    let vector_words = vector_len.div_ceil(size_of::<u32>());
    let needed = 2 * vector_words + network.memory_words();
    let memory = memory.get_mut(..needed).ok_or(RunError::Memory(MemoryTooShort { needed }))?;
    let (inputs, memory) = memory.split_at_mut(vector_words);
    let (outputs, memory) = memory.split_at_mut(vector_words);
    let inputs: &mut [i8] = bytemuck::cast_slice_mut(inputs);
    let outputs: &mut [i8] = bytemuck::cast_slice_mut(outputs);
    let mut count = Count::default();
    for turn in 0..ENGINE_RUNS {
        for (index, input) in (0_u8..=u8::MAX).cycle().zip(inputs.iter_mut()) {
            *input = index.wrapping_mul(7).wrapping_add(turn.wrapping_mul(29)).cast_signed();
        }
        meter.measure(&mut count, || {
            network.run_quantised(&inputs[..vector_len], &mut outputs[..vector_len], memory);
        });
    }
    sink(Line::Count(Stage::Engine, count))?;
    Ok(())
}

/// Counts the instructions of calls, less those of the counting itself.
struct Meter<'p, P> {
    probe: &'p P,
    overhead: u32,
}

impl<'p, P: Probe> Meter<'p, P> {
    fn new(probe: &'p P) -> Self {
        let mut meter = Self { probe, overhead: 0 };
        let mut empty = Count::default();
        meter.measure(&mut empty, || ());
        meter.overhead = empty.most;
        meter
    }

    #[inline(always)]
    fn measure<T>(&self, count: &mut Count, call: impl FnOnce() -> T) -> T {
        let before = self.probe.instructions();
        let value = core::hint::black_box(call());
        let after = self.probe.instructions();
        count.add(after.wrapping_sub(before).saturating_sub(self.overhead));
        value
    }
}
