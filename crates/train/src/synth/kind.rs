//! Every kind of synthetic recording by name, with its options as text: what the command line and a sidecar need.

use std::path::Path;

use serde_json::{Map, Value};

use super::generator::{Generator, Take, assemble, place, time_of};
use super::meter::{self, write_meter_csv};
use super::plan::{Fault, FaultPlan};
use super::{
    Dht11Options, MachineOptions, MainsOptions, MeterOptions, Scene, SoundOptions, SynthError,
    TankOptions, TemperatureOptions, meter_rows,
};
use crate::dataset::{self, Recording};

/// A kind of synthetic recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// [`TemperatureOptions`].
    Temperature,
    /// [`Dht11Options`].
    Dht11,
    /// [`MachineOptions`].
    Machine,
    /// [`SoundOptions`].
    Sound,
    /// [`TankOptions`].
    Tank,
    /// [`MainsOptions`].
    Mains,
    /// [`MeterOptions`].
    Meter,
}

/// Does something with the generator of a kind.
macro_rules! with_generator {
    ($kind:expr, $generator:ident => $then:expr) => {
        match $kind {
            Kind::Temperature => {
                type $generator = TemperatureOptions;
                $then
            }
            Kind::Dht11 => {
                type $generator = Dht11Options;
                $then
            }
            Kind::Machine => {
                type $generator = MachineOptions;
                $then
            }
            Kind::Sound => {
                type $generator = SoundOptions;
                $then
            }
            Kind::Tank => {
                type $generator = TankOptions;
                $then
            }
            Kind::Mains => {
                type $generator = MainsOptions;
                $then
            }
            Kind::Meter => {
                type $generator = MeterOptions;
                $then
            }
        }
    };
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Temperature,
        Self::Dht11,
        Self::Machine,
        Self::Sound,
        Self::Tank,
        Self::Mains,
        Self::Meter,
    ];

    /// Returns the name, as the command line has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Dht11 => "dht11",
            Self::Machine => "machine",
            Self::Sound => "sound",
            Self::Tank => "tank",
            Self::Mains => "mains",
            Self::Meter => "meter",
        }
    }

    /// Returns the kind of a name.
    ///
    /// # Errors
    /// [`SynthError::Unknown`] names those that exist.
    pub fn named(name: &str) -> Result<Self, SynthError> {
        let names = Self::ALL.map(Self::name);
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| unknown("kind of recording", name, &names))
    }

    /// Says in a sentence what is made up.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Temperature => "A heated room's temperature in degrees Celsius",
            Self::Dht11 => "A room as a DHT11 reads it: whole degrees and percent, once a second",
            Self::Machine => {
                "Acceleration and angular rate of a rotating machine on three axes, 6.6 kHz"
            }
            Self::Sound => "A machine's sound pressure, 16 kHz",
            Self::Tank => "A tank's dissolved oxygen and water temperature, once a minute",
            Self::Mains => "Voltage and current of three-phase mains, 6.4 kHz",
            Self::Meter => "A power meter's file, a row with a waveform each minute",
        }
    }

    /// Returns samples a second unless told otherwise.
    #[must_use]
    pub fn rate_hz(self) -> f64 {
        with_generator!(self, G => G::default().rate_hz())
    }

    /// Returns the seconds of a recording unless told otherwise.
    #[must_use]
    pub fn seconds(self) -> f64 {
        with_generator!(self, G => G::default().seconds())
    }

    /// Returns the options with their defaults, as JSON.
    #[must_use]
    pub fn options(self) -> Value {
        with_generator!(self, G => json(&G::default()))
    }

    /// Returns the typical faults with their parameters, as JSON, and their length in seconds.
    #[must_use]
    pub fn faults(self) -> Vec<(Value, f64)> {
        with_generator!(self, G => {
            let typical = G::default().typical();
            typical.iter().map(|(fault, seconds)| (json(fault), *seconds)).collect()
        })
    }
}

/// What to make up.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Which kind.
    pub kind: Kind,
    /// The same seed gives the same recording.
    pub seed: u64,
    /// Samples to compute; the kind's usual length where none are given.
    pub rows: Option<usize>,
    /// Time of the first row, microseconds since 1970; the kind's usual start where none is given.
    pub start_us: Option<i64>,
    /// Options that differ from the kind's defaults, as [`Kind::options`] names them.
    pub options: Map<String, Value>,
    /// What goes wrong. A listed fault is an object with its `kind`; parameters that it leaves out are the typical ones.
    pub faults: FaultPlan<Value>,
}

impl Request {
    /// Asks for a recording of usual length without faults.
    #[must_use]
    pub fn new(kind: Kind, seed: u64) -> Self {
        Self {
            kind,
            seed,
            rows: None,
            start_us: None,
            options: Map::new(),
            faults: FaultPlan::None,
        }
    }
}

/// A fault of a recording with its parameters and its place.
///
/// The rows of a gap are missing from the recording, so it has none; its times say how long it lasts.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LabelledFault {
    /// Name of the kind of fault.
    pub kind: String,
    /// First row.
    pub start_row: usize,
    /// Number of rows.
    pub rows: usize,
    /// Time of the first row, microseconds since 1970.
    pub start_us: i64,
    /// Time of the first row after it.
    pub end_us: i64,
    /// Its numbers, by name.
    pub parameters: Map<String, Value>,
}

/// Number of the sidecar's form.
pub const SIDECAR_SCHEMA: u32 = 1;

/// What stands beside a synthetic recording: all that it was made of.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sidecar {
    /// [`SIDECAR_SCHEMA`].
    pub schema: u32,
    /// Which kind.
    pub kind: Kind,
    /// The seed.
    pub seed: u64,
    /// Samples a second.
    pub rate_hz: f64,
    /// Rows of the recording.
    pub rows: usize,
    /// Time of the first row, microseconds since 1970.
    pub start_us: i64,
    /// Every option.
    pub options: Value,
    /// What follows from the options, such as the frequencies of a bearing.
    pub derived: Map<String, Value>,
    /// In the order of time.
    pub faults: Vec<LabelledFault>,
}

/// A synthetic recording with all that is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Synthetic {
    /// The readings, labelled.
    pub recording: Recording,
    /// What they were made of.
    pub sidecar: Sidecar,
    /// A meter's voltages, one waveform a row.
    pub waveforms: Option<Vec<Vec<f32>>>,
}

/// Makes a recording up.
///
/// # Errors
/// [`SynthError`] where the options or faults cannot be met.
///
/// # Examples
/// ```
/// use stonechat_train::synth::{FaultPlan, Kind, Request, generate};
///
/// let faults = FaultPlan::Random { count: 1, first_row: 500 };
/// let made = generate(&Request { rows: Some(50_000), faults, ..Request::new(Kind::Machine, 1) })?;
/// assert_eq!(made.sidecar.faults[0].kind, "imbalance");
/// assert_eq!(made.recording.channels.len(), 6);
/// # Ok::<(), stonechat_train::synth::SynthError>(())
/// ```
pub fn generate(request: &Request) -> Result<Synthetic, SynthError> {
    let mut synthetic = if request.kind == Kind::Meter {
        meter_with_waveforms(request)?
    } else {
        with_generator!(request.kind, G => make::<G>(request, |generator, scene| {
            (generator.render(scene), None)
        })?)
    };
    synthetic.recording.name = format!("synthetic {}, seed {}", request.kind.name(), request.seed);
    Ok(synthetic)
}

/// As [`generate`] for any kind, but keeps the waveforms.
fn meter_with_waveforms(request: &Request) -> Result<Synthetic, SynthError> {
    let start_us = request.start_us.or(Some(meter::START_US));
    make::<MeterOptions>(&Request { start_us, ..request.clone() }, |options, scene| {
        let rows = meter_rows(options, scene);
        let numbers = rows.iter().flat_map(meter::numbers).collect();
        (numbers, Some(rows.into_iter().map(|row| row.voltage_v).collect()))
    })
}

type Waveforms = Option<Vec<Vec<f32>>>;

fn make<G: Generator>(
    request: &Request,
    render: impl FnOnce(&G, &Scene<'_, G::Fault>) -> (Vec<f32>, Waveforms),
) -> Result<Synthetic, SynthError> {
    let generator: G = read_options(&request.options)?;
    generator.check()?;
    let usual_rows = (generator.seconds() * generator.rate_hz()).round() as usize;
    let take = Take {
        seed: request.seed,
        rows: request.rows.unwrap_or(usual_rows),
        start_us: request.start_us.unwrap_or(super::START_US),
        faults: read_plan(&generator, &request.faults)?,
    };
    let faults = place(&generator, &take)?;
    let scene = Scene { seed: take.seed, rows: take.rows, faults: &faults };
    let (samples, waveforms) = render(&generator, &scene);
    let recording = assemble(&generator, &take, &faults, samples);
    let derived = generator.derived().into_iter();
    let sidecar = Sidecar {
        schema: SIDECAR_SCHEMA,
        kind: request.kind,
        seed: request.seed,
        rate_hz: generator.rate_hz(),
        rows: recording.rows(),
        start_us: take.start_us,
        options: json(&generator),
        derived: derived.map(|(name, value)| (name.to_owned(), Value::from(value))).collect(),
        faults: label::<G>(&generator, take.start_us, &faults),
    };
    Ok(Synthetic { recording, sidecar, waveforms })
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("options and faults are plain numbers and names")
}

/// Replaces some of the defaults.
fn read_options<G: Generator>(changes: &Map<String, Value>) -> Result<G, SynthError> {
    let mut options = json(&G::default());
    if let Some(options) = options.as_object_mut() {
        merge(options, changes);
    }
    serde_json::from_value(options).map_err(|error| SynthError::Parameters {
        what: "options".to_owned(),
        reason: error.to_string(),
    })
}

fn merge(base: &mut Map<String, Value>, changes: &Map<String, Value>) {
    for (name, value) in changes {
        match (base.get_mut(name), value) {
            (Some(Value::Object(base)), Value::Object(changes)) => merge(base, changes),
            _ => {
                base.insert(name.clone(), value.clone());
            }
        }
    }
}

fn name_of(fault: &Value) -> &str {
    fault.get("kind").and_then(Value::as_str).unwrap_or("")
}

/// Completes the listed faults by the typical parameters.
fn read_plan<G: Generator>(
    generator: &G,
    plan: &FaultPlan<Value>,
) -> Result<FaultPlan<G::Fault>, SynthError> {
    let faults = match *plan {
        FaultPlan::None => return Ok(FaultPlan::None),
        FaultPlan::Random { count, first_row } => {
            return Ok(FaultPlan::Random { count, first_row });
        }
        FaultPlan::Share(share) => return Ok(FaultPlan::Share(share)),
        FaultPlan::Listed(ref faults) => faults,
    };
    let typical: Vec<Value> = generator.typical().iter().map(|(fault, _)| json(fault)).collect();
    let read = |fault: &Fault<Value>| {
        let name = name_of(&fault.kind);
        let Some(Value::Object(mut base)) =
            typical.iter().find(|typical| name_of(typical) == name).cloned()
        else {
            let mut names: Vec<&str> = Vec::new();
            for name in typical.iter().map(name_of) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            return Err(unknown("kind of fault", name, &names));
        };
        if let Some(changes) = fault.kind.as_object() {
            merge(&mut base, changes);
        }
        let kind = serde_json::from_value(Value::Object(base)).map_err(|error| {
            SynthError::Parameters {
                what: format!("parameters of the fault `{name}`"),
                reason: error.to_string(),
            }
        })?;
        Ok(Fault { kind, start_row: fault.start_row, rows: fault.rows })
    };
    faults.iter().map(read).collect::<Result<_, _>>().map(FaultPlan::Listed)
}

fn unknown(what: &'static str, found: &str, existing: &[&str]) -> SynthError {
    SynthError::Unknown { what, found: found.to_owned(), existing: existing.join(", ") }
}

/// Says where each fault stands in the recording, whose rows gaps have taken out.
fn label<G: Generator>(
    generator: &G,
    start_us: i64,
    faults: &[Fault<G::Fault>],
) -> Vec<LabelledFault> {
    let mut removed = 0;
    let time = |row: usize| time_of(start_us, generator.rate_hz(), row);
    let label = |fault: &Fault<G::Fault>| {
        let mut parameters = match json(&fault.kind) {
            Value::Object(parameters) => parameters,
            _ => Map::new(),
        };
        let kind = parameters.remove("kind");
        let is_gap = G::removes_rows(&fault.kind);
        let labelled = LabelledFault {
            kind: kind.as_ref().and_then(Value::as_str).unwrap_or("").to_owned(),
            start_row: fault.start_row - removed,
            rows: if is_gap { 0 } else { fault.rows },
            start_us: time(fault.start_row),
            end_us: time(fault.start_row + fault.rows),
            parameters,
        };
        removed += if is_gap { fault.rows } else { 0 };
        labelled
    };
    faults.iter().map(label).collect()
}

impl Synthetic {
    /// Writes the recording, as Parquet where the file's name ends so, else as CSV; a meter's CSV has its own columns.
    ///
    /// # Errors
    /// [`SynthError::File`].
    pub fn write(&self, path: &Path) -> Result<(), SynthError> {
        let is_parquet =
            path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"));
        let written = match &self.waveforms {
            _ if is_parquet => dataset::write_parquet(path, &self.recording),
            Some(waveforms) => return write_meter_csv(path, &self.recording, waveforms),
            None => dataset::write_csv(path, &self.recording),
        };
        written.map_err(|error| file_error(path, &error))
    }

    /// Writes the sidecar as JSON.
    ///
    /// # Errors
    /// [`SynthError::File`].
    pub fn write_sidecar(&self, path: &Path) -> Result<(), SynthError> {
        let mut text = serde_json::to_string_pretty(&json(&self.sidecar))
            .expect("a JSON value is always written");
        text.push('\n');
        std::fs::write(path, text).map_err(|error| file_error(path, &error))
    }
}

fn file_error(path: &Path, error: &dyn std::error::Error) -> SynthError {
    // The text of a dataset error names the file already; its source says why.
    let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    SynthError::File { file: path.display().to_string(), reason }
}
