use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;
use stonechat_server::DeviceId;
use stonechat_train::compile::DetectorFile;
use stonechat_train::dataset::Recording;
use stonechat_train::replay;
use stonechat_train::synth::{TemperatureOptions, TemperatureSource};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::Outcome;
use crate::bundle;
use crate::cmd::serve::{ended, runtime};
use crate::data::{ReadArgs, Source};
use crate::output::{Hinted, Output};
use crate::sealed;
use crate::shell::{Link, Pace, Post, Reporting, Run, SampleSource, random_session};

/// How long a device waits at its start for a server that is just starting.
const SERVER_WAIT_MAX: Duration = Duration::from_secs(5);
/// How often it looks.
const SERVER_RETRY: Duration = Duration::from_millis(200);

/// Run this computer as one device or several: it replays a recording or makes up a temperature.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat device run fan_on.csv --detector fan.detector --bundle fan-1.toml
  stonechat device run fan_on.csv --detector fan.detector --bundle fan-1.toml --link sealed
  stonechat device run fan_on.csv --detector fan.detector --credentials fan-1.credentials
  stonechat device run --synth 7 --detector room.detector --credentials room.credentials --seconds 60
  stonechat device run machine.csv --detector machine.detector --credentials m.credentials --speed max

With a bundle the device speaks MQTT over TLS 1.3, to the server that the bundle names and to no
other. The credentials file holds what `stonechat device add` printed; each line runs one device,
unencrypted: for a server on the same computer.")]
pub(super) struct RunArgs {
    /// The recording to replay: FILE or FILE@60%..80%.
    #[arg(value_name = "RECORDING", required_unless_present = "synth")]
    recording: Option<Source>,
    /// Make up a room's temperature from this seed instead.
    #[arg(long, value_name = "SEED", conflicts_with = "recording")]
    synth: Option<u64>,
    /// The detector that the device runs.
    #[arg(long, value_name = "FILE")]
    detector: PathBuf,
    /// The file of identities and tokens; without it, the environment variable STONECHAT_CREDENTIALS holds its text.
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// The provisioning bundle, TOML; several times for several devices.
    #[arg(long = "bundle", value_name = "FILE", conflicts_with = "credentials")]
    bundles: Vec<PathBuf>,
    /// The server's MQTT address; without it, the bundle's, or 127.0.0.1:1883.
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    #[command(flatten)]
    sealed: sealed::Args,
    /// How many times as fast as recorded; `max` for as fast as the server stores.
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = parse_speed)]
    speed: Speed,
    /// Stop after this many seconds; a recording stops at its end.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Milliseconds that a message waits at most for more readings.
    #[arg(long, value_name = "MS", default_value_t = 500)]
    flush_ms: u64,
    /// Report windows at most this often, in milliseconds, while the verdict stays the same.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    report_ms: u64,
    /// Exit with 1 if the device raised an anomaly.
    #[arg(long)]
    fail_on_anomaly: bool,
    /// Write each acknowledged message to this file: DEVICE SESSION SEQUENCE.
    #[arg(long, value_name = "FILE")]
    acknowledged: Option<PathBuf>,
    #[command(flatten)]
    read: ReadArgs,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Speed {
    Factor(f64),
    Max,
}

pub(crate) fn parse_speed(text: &str) -> Result<Speed, String> {
    match text {
        "max" => Ok(Speed::Max),
        text => text
            .parse()
            .ok()
            .filter(|factor: &f64| factor.is_finite() && *factor > 0.0)
            .map(Speed::Factor)
            .ok_or_else(|| "write a number above 0, or max".to_owned()),
    }
}

#[derive(Serialize)]
struct Ran {
    device: String,
    samples: u64,
    sensor_faults: u64,
    windows: u64,
    anomalous_windows: u64,
    anomalies_raised: u64,
    messages: u64,
    messages_acknowledged: u64,
    reports_dropped: u64,
    all_acknowledged: bool,
}

impl Ran {
    fn new(device: String, run: &Run) -> Self {
        Self {
            device,
            samples: run.counters.samples,
            sensor_faults: run.counters.faults,
            windows: run.counters.windows,
            anomalous_windows: run.anomalous_windows,
            anomalies_raised: run.alarms_raised,
            messages: run.counters.messages,
            messages_acknowledged: run.messages_acknowledged,
            reports_dropped: run.counters.reports_dropped,
            all_acknowledged: run.drained,
        }
    }

    fn text(&self) -> String {
        format!(
            "{}: {} samples, {} sensor faults, {} windows of which {} anomalous, {} anomalies raised; {} of {} messages acknowledged",
            self.device,
            self.samples,
            self.sensor_faults,
            self.windows,
            self.anomalous_windows,
            self.anomalies_raised,
            self.messages_acknowledged,
            self.messages
        )
    }
}

/// Replays a recording, or makes one up as it goes.
pub(crate) enum Samples {
    Recorded { recording: Arc<Recording>, row: usize, segment: usize },
    Synthetic(Box<TemperatureSource>),
}

impl Samples {
    /// Replays a recording from its first row.
    pub(crate) fn of(recording: Arc<Recording>) -> Self {
        Self::Recorded { recording, row: 0, segment: 0 }
    }
}

impl SampleSource for Samples {
    fn next_sample(&mut self) -> Option<(Vec<f32>, bool)> {
        match self {
            Self::Recorded { recording, row, segment } => {
                if *row >= recording.rows() {
                    return None;
                }
                let after_gap = recording.segment_starts.get(*segment) == Some(row);
                *segment += usize::from(after_gap);
                let sample = recording.row(*row).to_vec();
                *row += 1;
                Some((sample, after_gap))
            }
            Self::Synthetic(source) => Some((vec![source.next_sample()], false)),
        }
    }

    fn can_wait(&self) -> bool {
        matches!(self, Self::Recorded { .. })
    }
}

impl RunArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let detector = Arc::new(DetectorFile::read(&self.detector)?);
        let links = self.links()?;
        let recording =
            self.recording.as_ref().map(|source| self.read.read(source, output)).transpose()?;
        if let Some(recording) = &recording {
            replay::check(&detector.detector(), recording)?;
        }
        let recording = recording.map(Arc::new);
        let acknowledged = self.acknowledged.as_ref().map(|path| {
            let file =
                File::create(path).with_context(|| format!("cannot write `{}`", path.display()))?;
            anyhow::Ok(Arc::new(Mutex::new(BufWriter::new(file))))
        });
        let acknowledged = acknowledged.transpose()?;
        let runs = runtime()?.block_on(async {
            // All of them are most often one server's.
            let servers: BTreeSet<_> = links.iter().map(|link| (&link.host, link.port)).collect();
            for (host, port) in servers {
                reach(host, port).await?;
            }
            let (stop, stopped) = watch::channel(false);
            let mut devices = Vec::new();
            for (index, link) in links.into_iter().enumerate() {
                let samples = self.samples(recording.as_ref(), index);
                let rate_hz = recording
                    .as_ref()
                    .map_or(f64::from(detector.detector().rate_hz()), |r| r.rate_hz);
                let pace = match self.speed {
                    Speed::Factor(factor) => Pace::Rate(rate_hz * factor),
                    Speed::Max => Pace::Full,
                };
                let reporting = Reporting {
                    flush_interval: Duration::from_millis(self.flush_ms),
                    report_interval: Duration::from_millis(self.report_ms),
                };
                let session = random_session()?;
                let post = Post { link, detector: detector.clone(), session, pace, reporting };
                let (stopped, log) = (stopped.clone(), acknowledged.clone());
                devices.push(tokio::spawn(async move {
                    let log = |sequence| {
                        log_acknowledged(log.as_deref(), &post.link.id, session, sequence);
                    };
                    let run = post.run(samples, stopped, log).await?;
                    anyhow::Ok((post.link.id, run))
                }));
            }
            let limit = async {
                match self.seconds {
                    Some(seconds) => sleep(Duration::from_secs(seconds)).await,
                    None => std::future::pending().await,
                }
            };
            let stopper = async {
                tokio::select! { () = limit => {}, () = ended() => {} }
                stop.send_replace(true);
                // Whoever asks twice does not want to wait for the last acknowledgements.
                ended().await;
            };
            let all = async {
                let mut runs = Vec::new();
                for device in devices {
                    runs.push(device.await??);
                }
                anyhow::Ok(runs)
            };
            tokio::select! {
                runs = all => runs,
                () = stopper => bail!("stopped before every message was acknowledged"),
            }
        })?;
        self.report(&runs, output)
    }

    fn report(&self, runs: &[(String, Run)], output: &Output) -> anyhow::Result<Outcome> {
        let mut raised = false;
        let mut lost = Vec::new();
        for (id, run) in runs {
            let ran = Ran::new(id.clone(), run);
            output.result(&ran, || ran.text());
            raised |= run.alarms_raised > 0;
            if !run.drained {
                lost.push(id.as_str());
            }
        }
        if !lost.is_empty() {
            return Err(Hinted::new(
                format!(
                    "the server{} did not acknowledge every message of {}",
                    self.server.as_ref().map(|it| format!(" at {it}")).unwrap_or_default(),
                    lost.join(", ")
                ),
                "is it running, and is that its MQTT address? `stonechat serve` prints it",
            ));
        }
        Ok(if raised && self.fail_on_anomaly { Outcome::No } else { Outcome::Done })
    }

    fn samples(&self, recording: Option<&Arc<Recording>>, index: usize) -> Samples {
        match recording {
            Some(recording) => Samples::of(recording.clone()),
            None => {
                let seed = self.synth.unwrap_or(0).wrapping_add(index as u64);
                Samples::Synthetic(Box::new(TemperatureSource::new(
                    seed,
                    TemperatureOptions::default(),
                )))
            }
        }
    }

    /// Where each device connects, and as whom.
    fn links(&self) -> anyhow::Result<Vec<Link>> {
        let server = self.server.as_deref().map(split_address).transpose()?;
        if !self.bundles.is_empty() {
            let link = |path: &PathBuf| {
                if self.sealed.is_asked_for() {
                    self.sealed.link(path, server.as_ref())
                } else {
                    bundle_link(path, server.as_ref())
                }
            };
            return self.bundles.iter().map(link).collect();
        }
        let (host, port) = server.unwrap_or_else(|| ("127.0.0.1".to_owned(), 1883));
        let link = |(id, token)| Link {
            host: host.clone(),
            port,
            id,
            token: Some(token),
            tls: None,
            sealed: None,
        };
        Ok(self.credentials()?.into_iter().map(link).collect())
    }

    /// Reads lines of identity and token.
    fn credentials(&self) -> anyhow::Result<Vec<(String, String)>> {
        let text = match &self.credentials {
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the credentials `{}`", path.display()))?,
            None => std::env::var("STONECHAT_CREDENTIALS").map_err(|_| {
                Hinted::new(
                    "the device has no credentials",
                    "`stonechat device add ID -o FILE` makes them; name the file with --bundle",
                )
            })?,
        };
        let mut credentials = HashMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let fields = line.split_whitespace().collect::<Vec<_>>();
            let &[id, token] = fields.as_slice() else {
                return Err(malformed(format!(
                    "line {} of the credentials is not `ID TOKEN`",
                    number + 1
                )));
            };
            DeviceId::parse(id).with_context(|| {
                format!("line {} of the credentials: `{id}` is no device's identity", number + 1)
            })?;
            if credentials.insert(id.to_owned(), token.to_owned()).is_some() {
                bail!("the credentials name the device `{id}` twice; remove the older line");
            }
        }
        if credentials.is_empty() {
            return Err(malformed("the credentials are empty".to_owned()));
        }
        let mut credentials: Vec<_> = credentials.into_iter().collect();
        credentials.sort();
        Ok(credentials)
    }
}

pub(crate) fn split_address(text: &str) -> anyhow::Result<(String, u16)> {
    let split = text.rsplit_once(':').and_then(|(host, port)| {
        Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
    });
    split.ok_or_else(|| {
        Hinted::new(
            format!("--server is `{text}`, but must be HOST:PORT"),
            "`stonechat serve` prints its MQTT address",
        )
    })
}

/// Connects as a bundle says, or to another address of the same server.
fn bundle_link(path: &Path, server: Option<&(String, u16)>) -> anyhow::Result<Link> {
    let bundle = bundle::read(path)?;
    let tls = bundle.tls()?;
    let named = bundle.server.addresses.mqtts.as_deref().map(split_address).transpose()?;
    let (host, port) = server.cloned().or(named).ok_or_else(|| {
        Hinted::new(
            format!("the bundle `{}` names no address of MQTT over TLS", path.display()),
            "name it with --server, or set `mqtts` in the server's settings and make a new bundle",
        )
    })?;
    let id = bundle.device.as_str().to_owned();
    Ok(Link { host, port, id, token: bundle.credentials.token, tls: Some(tls), sealed: None })
}

fn malformed(message: String) -> anyhow::Error {
    Hinted::new(message, "`stonechat device add ID` prints such a line")
}

/// Waits until the server can be reached, so that a wrong address is an error at once and a server
/// that is just starting is not.
async fn reach(host: &str, port: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + SERVER_WAIT_MAX;
    loop {
        let attempt = timeout(SERVER_WAIT_MAX, TcpStream::connect((host, port))).await;
        let reason = match attempt {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() >= deadline {
            return Err(Hinted::new(
                format!("cannot reach the server at {host}:{port}: {reason}"),
                "is it running, and is that its MQTT address? `stonechat serve` prints it",
            ));
        }
        sleep(SERVER_RETRY).await;
    }
}

fn log_acknowledged(log: Option<&Mutex<BufWriter<File>>>, id: &str, session: u32, sequence: u32) {
    if let Some(log) = log {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        // What cannot be written shows as a missing line to whoever compares.
        let _ = writeln!(log, "{id} {session} {sequence}");
    }
}
