use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value};
use stonechat_train::synth::{Fault, FaultPlan, Kind, LabelledFault, Request, generate};

use crate::Outcome;
use crate::output::{Hinted, Output, counted, require_folder_of};

/// Make up a recording, with faults whose place and size are known.
///
/// Beside it stands FILE.faults.json: the seed, every option, and every fault with its rows, times and parameters.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat data synth temperature --rows 20000 -o normal.csv
  stonechat data synth temperature --rows 8000 --faults 6 --seed 2 -o faulty.csv
  stonechat data synth machine --set shaft_hz=24.5 --fault bearing@5..8,race=inner -o machine.parquet
  stonechat data synth meter --faults 20% -o meter.csv")]
pub(super) struct SynthArgs {
    /// What to make up.
    #[arg(value_parser = kinds())]
    kind: Kind,
    /// The file to write, .csv or .parquet; the faults go to FILE.faults.json beside it.
    #[arg(short, long, value_name = "FILE", required_unless_present = "explain")]
    output: Option<PathBuf>,
    /// How many samples; without it, the kind's usual length.
    #[arg(long, value_name = "COUNT", conflicts_with = "seconds")]
    rows: Option<usize>,
    /// How many seconds instead.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// The same seed gives the same recording.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many faults to put in, the typical ones in turn; or which share of the rows: 20%.
    #[arg(long, value_name = "COUNT", default_value = "0", conflicts_with = "fault")]
    faults: FaultCount,
    /// A fault from one second to another: NAME@START..END[,PARAMETER=VALUE...]; may be repeated.
    #[arg(long, value_name = "FAULT")]
    fault: Vec<ListedFault>,
    /// Samples a second.
    #[arg(long, value_name = "HZ", allow_negative_numbers = true)]
    rate: Option<f64>,
    /// An option of the kind: NAME=VALUE, or OUTER.INNER=VALUE; may be repeated.
    #[arg(long, value_name = "OPTION", value_parser = parse_option)]
    set: Vec<(String, Value)>,
    /// Say which options and faults the kind has, as JSON, and make nothing.
    #[arg(long)]
    explain: bool,
}

/// Names with a sentence on each, for the help.
fn kinds() -> impl clap::builder::TypedValueParser<Value = Kind> {
    use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
    let value = |kind: Kind| PossibleValue::new(kind.name()).help(kind.about());
    PossibleValuesParser::new(Kind::ALL.map(value)).try_map(|name| Kind::named(&name))
}

#[derive(Clone, Copy, Debug)]
enum FaultCount {
    Number(usize),
    Share(f64),
}

impl FromStr for FaultCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().map(|percent: f64| Self::Share(percent / 100.0)),
            None => text.parse().ok().map(Self::Number),
        };
        read.ok_or_else(|| "write a count such as 6, or a share such as 20%".to_owned())
    }
}

#[derive(Clone, Debug)]
struct ListedFault {
    start_s: f64,
    end_s: f64,
    kind: Map<String, Value>,
}

impl FromStr for ListedFault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let mut parts = text.split(',');
            let (name, times) = parts.next()?.split_once('@')?;
            let (start, end) = times.split_once("..")?;
            let (start_s, end_s) = (start.parse().ok()?, end.parse().ok()?);
            let mut kind = Map::from_iter([("kind".to_owned(), Value::from(name))]);
            for part in parts {
                let (name, value) = part.split_once('=')?;
                kind.insert(name.to_owned(), value_of(value));
            }
            (0.0 <= start_s && start_s < end_s).then_some(Self { start_s, end_s, kind })
        };
        read().ok_or_else(|| {
            "write NAME@START..END in seconds, such as imbalance@5..8 or imbalance@5..8,gain=3"
                .to_owned()
        })
    }
}

/// A number where it is one, else the text.
fn value_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

fn parse_option(text: &str) -> Result<(String, Value), String> {
    text.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.to_owned(), value_of(value)))
        .ok_or_else(|| "write NAME=VALUE, such as shaft_hz=24.5".to_owned())
}

/// Rows before the first of several faults.
const NORMAL_ROWS_FIRST: usize = 500;

#[derive(Serialize)]
struct Made {
    file: String,
    sidecar: String,
    rows: usize,
    faults: Vec<LabelledFault>,
}

#[derive(Serialize)]
struct Explained {
    kind: &'static str,
    about: &'static str,
    seconds: f64,
    options: Value,
    faults: Vec<TypicalFault>,
}

#[derive(Serialize)]
struct TypicalFault {
    seconds: f64,
    #[serde(flatten)]
    fault: Value,
}

impl SynthArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let Some(path) = self.output.as_ref().filter(|_| !self.explain) else {
            explain(self.kind, output);
            return Ok(Outcome::Done);
        };
        require_folder_of(path)?;
        let made = generate(&self.request()?).map_err(|error| {
            let hint = format!("`stonechat data synth {} --explain` lists all", self.kind.name());
            match error {
                error @ (stonechat_train::synth::SynthError::Unknown { .. }
                | stonechat_train::synth::SynthError::Parameters { .. }) => {
                    Hinted::new(error.to_string(), hint)
                }
                error => error.into(),
            }
        })?;
        made.write(path)?;
        let sidecar = sidecar_of(path);
        made.write_sidecar(&sidecar)?;
        let made = Made {
            file: path.display().to_string(),
            sidecar: sidecar.display().to_string(),
            rows: made.recording.rows(),
            faults: made.sidecar.faults,
        };
        output.result(&made, || text(&made));
        Ok(Outcome::Done)
    }

    fn request(&self) -> anyhow::Result<Request> {
        let mut options = Map::new();
        if let Some(rate_hz) = self.rate {
            options.insert("rate_hz".to_owned(), Value::from(rate_hz));
        }
        for (name, value) in &self.set {
            set(&mut options, name, value.clone());
        }
        let rate_hz =
            options.get("rate_hz").and_then(Value::as_f64).unwrap_or_else(|| self.kind.rate_hz());
        let row_of = |seconds: f64| (seconds * rate_hz).round() as usize;
        let listed = |fault: &ListedFault| {
            let start_row = row_of(fault.start_s);
            let rows = row_of(fault.end_s).saturating_sub(start_row).max(1);
            Fault { kind: fault.kind.clone().into(), start_row, rows }
        };
        let faults = match self.faults {
            _ if !self.fault.is_empty() => {
                FaultPlan::Listed(self.fault.iter().map(listed).collect())
            }
            FaultCount::Number(0) => FaultPlan::None,
            FaultCount::Number(count) => FaultPlan::Random { count, first_row: NORMAL_ROWS_FIRST },
            FaultCount::Share(share) => FaultPlan::Share(share),
        };
        Ok(Request {
            rows: self.rows.or(self.seconds.map(row_of)),
            options,
            faults,
            ..Request::new(self.kind, self.seed)
        })
    }
}

/// Puts a value where `OUTER.INNER` says.
fn set(options: &mut Map<String, Value>, name: &str, value: Value) {
    match name.split_once('.') {
        None => {
            options.insert(name.to_owned(), value);
        }
        Some((outer, inner)) => {
            let entry = options.entry(outer).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(entry) = entry {
                set(entry, inner, value);
            }
        }
    }
}

fn sidecar_of(path: &Path) -> PathBuf {
    let mut sidecar = path.as_os_str().to_owned();
    sidecar.push(".faults.json");
    sidecar.into()
}

fn explain(kind: Kind, output: &Output) {
    let faults = kind.faults().into_iter();
    let explained = Explained {
        kind: kind.name(),
        about: kind.about(),
        seconds: kind.seconds(),
        options: kind.options(),
        faults: faults.map(|(fault, seconds)| TypicalFault { seconds, fault }).collect(),
    };
    output.result(&explained, || {
        serde_json::to_string_pretty(&explained).unwrap_or_else(|_| kind.about().to_owned())
    });
}

fn text(made: &Made) -> String {
    let faults = made.faults.iter().map(|fault| {
        let parameters = fault.parameters.iter().map(|(name, value)| format!(" {name}={value}"));
        format!(
            "\n  {:<12} rows {} to {}{}",
            fault.kind,
            fault.start_row,
            fault.start_row + fault.rows,
            parameters.collect::<String>()
        )
    });
    format!(
        "{} ({}, {}){}",
        made.file,
        counted(made.rows, "row"),
        counted(made.faults.len(), "fault"),
        faults.collect::<String>()
    )
}
