//! What every generator offers, and the recording that is made of it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::plan::{self, Fault, FaultPlan};
use super::{FaultKind, SynthError, TemperatureOptions, TemperatureSource};
use crate::dataset::{ChannelInfo, Recording};
use crate::limits::SYNTH_ROWS_MAX;
use crate::random::Random;

/// A simulated thing with its sensors: the options of one kind of recording.
///
/// The generators draw from streams of the seed of their own, so that a fault changes nothing before it begins.
pub trait Generator: Clone + Default + Serialize + DeserializeOwned {
    /// What can go wrong: an enum whose JSON form has a `kind` and the parameters.
    type Fault: Clone + Serialize + DeserializeOwned;

    /// Samples a second.
    fn rate_hz(&self) -> f64;

    /// Length of a recording unless told otherwise, in seconds.
    fn seconds(&self) -> f64;

    /// Refuses options with which the simulation has no meaning.
    ///
    /// # Errors
    /// [`SynthError`] names the option.
    fn check(&self) -> Result<(), SynthError>;

    /// Refuses parameters with which a fault has no meaning.
    ///
    /// # Errors
    /// [`SynthError`] names the parameter.
    fn check_fault(&self, _fault: &Self::Fault) -> Result<(), SynthError> {
        Ok(())
    }

    /// Names and units of what is measured.
    fn channels(&self) -> Vec<ChannelInfo>;

    /// One fault of each kind, clear to see and not absurd, with its usual length in seconds.
    fn typical(&self) -> Vec<(Self::Fault, f64)>;

    /// Draws the fault of a number, with its length in seconds; unless told otherwise the typical faults in turn.
    fn draw(&self, number: usize, _random: &mut Random) -> (Self::Fault, f64) {
        let mut typical = self.typical();
        typical.swap_remove(number % typical.len())
    }

    /// Quantities that follow from the options, such as the frequencies of a bearing, by name.
    fn derived(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }

    /// Tells whether the rows of a fault are missing altogether, as a gap in the time.
    fn removes_rows(_fault: &Self::Fault) -> bool {
        false
    }

    /// Computes the readings, `[rows][channels]`.
    fn render(&self, scene: &Scene<'_, Self::Fault>) -> Vec<f32>;
}

/// What a generator computes from, besides its options.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a, F> {
    /// The same seed gives the same recording.
    pub seed: u64,
    /// Rows to compute.
    pub rows: usize,
    /// In the order of time, checked: none overlaps another or the end.
    pub faults: &'a [Fault<F>],
}

/// What to make of a generator.
#[derive(Clone, Debug, PartialEq)]
pub struct Take<F> {
    /// The same seed gives the same recording.
    pub seed: u64,
    /// Samples to compute.
    pub rows: usize,
    /// Time of the first row, microseconds since 1970.
    pub start_us: i64,
    /// What goes wrong, and when.
    pub faults: FaultPlan<F>,
}

/// A recording and its faults in the order of time.
pub type Made<F> = (Recording, Vec<Fault<F>>);

/// Computes a recording, labelled where a fault acts, and its faults in the order of time.
///
/// # Errors
/// [`SynthError`] where the options cannot be met.
///
/// # Examples
/// ```
/// use stonechat_train::synth::{FaultPlan, MainsOptions, Take, synthesise};
///
/// let faults = FaultPlan::Random { count: 1, first_row: 1_000 };
/// let take = Take { seed: 7, rows: 64_000, start_us: 0, faults };
/// let (recording, faults) = synthesise(&MainsOptions::default(), &take)?;
/// assert_eq!((recording.rows(), recording.channels.len(), faults.len()), (64_000, 6, 1));
/// # Ok::<(), stonechat_train::synth::SynthError>(())
/// ```
pub fn synthesise<G: Generator>(
    generator: &G,
    take: &Take<G::Fault>,
) -> Result<Made<G::Fault>, SynthError> {
    let faults = place(generator, take)?;
    let scene = Scene { seed: take.seed, rows: take.rows, faults: &faults };
    let samples = generator.render(&scene);
    Ok((assemble(generator, take, &faults, samples), faults))
}

/// Checks the options and finds a place for every fault.
pub(super) fn place<G: Generator>(
    generator: &G,
    take: &Take<G::Fault>,
) -> Result<Vec<Fault<G::Fault>>, SynthError> {
    let rows = take.rows;
    if rows == 0 || rows > SYNTH_ROWS_MAX {
        return Err(SynthError::Rows { rows });
    }
    generator.check()?;
    let rows_of = |seconds: f64| ((seconds * generator.rate_hz()).round() as usize).max(1);
    let typical = generator.typical();
    let longest = typical.iter().map(|(_, seconds)| rows_of(*seconds)).max().unwrap_or(1);
    // A stream of its own: adding a fault does not change the noise.
    let random = &mut Random::stream(take.seed, 1);
    let faults = take.faults.place(rows, longest, random, |number, random| {
        let (fault, seconds) = generator.draw(number, random);
        (fault, rows_of(seconds).min(longest))
    })?;
    plan::check(&faults, rows)?;
    for fault in &faults {
        generator.check_fault(&fault.kind)?;
    }
    Ok(faults)
}

/// Adds times and labels to the samples, and takes out the rows of gaps.
pub(super) fn assemble<G: Generator>(
    generator: &G,
    take: &Take<G::Fault>,
    faults: &[Fault<G::Fault>],
    mut samples: Vec<f32>,
) -> Recording {
    let rate_hz = generator.rate_hz();
    let channels = generator.channels();
    let mut time_us: Vec<i64> =
        (0..take.rows).map(|row| time_of(take.start_us, rate_hz, row)).collect();
    let mut labels = vec![false; take.rows];
    for fault in faults {
        labels[fault.start_row..fault.start_row + fault.rows].fill(true);
    }
    let mut segment_starts = vec![0];
    // From the end, so that the rows before keep their numbers.
    for fault in faults.iter().rev().filter(|fault| G::removes_rows(&fault.kind)) {
        let rows = fault.start_row..fault.start_row + fault.rows;
        samples.drain(rows.start * channels.len()..rows.end * channels.len());
        time_us.drain(rows.clone());
        labels.drain(rows.clone());
        segment_starts.iter_mut().skip(1).for_each(|start| *start -= fault.rows);
        segment_starts.insert(1, rows.start);
    }
    segment_starts.dedup();
    segment_starts.retain(|&start| start < time_us.len());
    Recording {
        name: String::new(),
        channels,
        rate_hz,
        time_us,
        samples,
        labels: Some(labels),
        segment_starts,
    }
}

/// Returns the time of a row.
pub(super) fn time_of(start_us: i64, rate_hz: f64, row: usize) -> i64 {
    start_us + (row as f64 * 1e6 / rate_hz).round() as i64
}

/// Refuses what is not a positive number.
pub(super) fn positive(name: &'static str, value: f64) -> Result<(), SynthError> {
    if value.is_finite() && value > 0.0 { Ok(()) } else { Err(SynthError::Option { name, value }) }
}

/// Refuses what does not lie between two bounds.
pub(super) fn within(
    name: &'static str,
    value: f64,
    low: f64,
    high: f64,
) -> Result<(), SynthError> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(SynthError::Range { name, value, low, high })
    }
}

/// Refuses what is not a share of a whole.
pub(super) fn share(name: &'static str, value: f64) -> Result<(), SynthError> {
    within(name, value, 0.0, 1.0)
}

impl Generator for TemperatureOptions {
    type Fault = FaultKind;

    fn rate_hz(&self) -> f64 {
        self.rate_hz
    }

    fn seconds(&self) -> f64 {
        20_000.0 / self.rate_hz
    }

    fn check(&self) -> Result<(), SynthError> {
        self.check()
    }

    fn channels(&self) -> Vec<ChannelInfo> {
        vec![ChannelInfo::new("temperature", "Cel")]
    }

    fn typical(&self) -> Vec<(FaultKind, f64)> {
        FaultKind::TYPICAL
            .into_iter()
            .map(|(kind, rows)| (kind, rows as f64 / self.rate_hz))
            .collect()
    }

    fn render(&self, scene: &Scene<'_, FaultKind>) -> Vec<f32> {
        let mut source = TemperatureSource::new(scene.seed, self.clone());
        let mut pending = scene.faults.iter().peekable();
        (0..scene.rows)
            .map(|row| {
                while let Some(fault) = pending.next_if(|fault| fault.start_row <= row) {
                    source.inject(fault.kind, fault.rows);
                }
                source.next_sample()
            })
            .collect()
    }
}
