use std::collections::VecDeque;
use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use stonechat_server::server::StartError;
use stonechat_server::store::{AlarmsQuery, ReadingsQuery};
use stonechat_server::{DeviceId, Running, Server, Settings};
use stonechat_train::compile::DetectorFile;
use stonechat_train::recipe::Recipe;
use stonechat_train::synth::{self, FaultKind, TemperatureOptions, TemperatureSource};
use stonechat_train::train::{Trained, train};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::serve::{ended, runtime};
use crate::Outcome;
use crate::config::SettingsArgs;
use crate::output::Output;
use crate::shell::{Link, Pace, Post, Reporting, Run, SampleSource, now_us, random_session};

/// Train a detector, start the server and a small fleet of simulated devices, and let faults occur.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat demo
  stonechat demo --seconds 60 --headless --json")]
pub(crate) struct Args {
    /// How many devices.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=200))]
    devices: u16,
    /// Stop after this many seconds and print a summary; without it, run until Ctrl-C.
    #[arg(long, value_parser = clap::value_parser!(u64).range(20..))]
    seconds: Option<u64>,
    /// Open no browser.
    #[arg(long)]
    headless: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Normal samples to train on: more than a simulated week of one room.
const TRAINING_ROWS: usize = 12_000;
const TRAINING_SEED: u64 = 1;
/// The devices' seeds begin here: no device is the room of the training.
const DEVICE_SEED: u64 = 1_000;
/// Seconds before the first fault, so that every device has filled its window and more.
const FIRST_FAULT_S: f64 = 8.0;
/// Seconds from one fault in the fleet to the next.
const FAULT_INTERVAL_S: f64 = 5.0;
/// A device is left alone for at least this long after a fault began.
const FAULT_INTERVAL_OF_DEVICE_S: f64 = 30.0;
/// No fault begins later than this before the end: the longest lasts 9.6 s.
const LAST_FAULT_BEFORE_END_S: f64 = 16.0;
/// How long a demo without end goes on making faults.
const ENDLESS_S: u64 = 7 * 24 * 3600;
/// After a fault its samples stay in the window, and the verdict takes some scores to clear.
const AFTERMATH_MS: i64 = 6_000;
/// How often messages are closed: the page is to be live.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);
/// Readings that the summary looks at for one device.
const POINTS_MAX: usize = 1_000_000;

#[derive(Serialize)]
struct Started<'a> {
    event: &'static str,
    url: String,
    mqtt: String,
    detector: &'a str,
    training_seconds: f64,
    devices: u16,
}

/// A fault that was injected, and what became of it.
#[derive(Clone, Debug, Serialize)]
struct Injected {
    device: String,
    kind: &'static str,
    start_ms: i64,
    end_ms: i64,
    detected_after_ms: Option<i64>,
}

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    devices: u16,
    seconds: f64,
    messages_stored: u64,
    readings_stored: u64,
    windows_scored: u64,
    anomalies_injected: usize,
    anomalies_detected: usize,
    alarms_opened: usize,
    false_alarms: usize,
    reports_dropped: u64,
    faults: Vec<Injected>,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let folder = TemporaryFolder::new()?;
        output.note("training a detector on normal behaviour ...");
        let begun = Instant::now();
        let trained = train_detector()?;
        let training_seconds = begun.elapsed().as_secs_f64();
        let detector = Arc::new(trained.file);
        runtime()?.block_on(async {
            let server = self.start_server(&folder, output).await?;
            let url = format!("http://{}", server.http_addr);
            let started = Started {
                event: "started",
                url: url.clone(),
                mqtt: server.mqtt_addr.to_string(),
                detector: detector.detector().name(),
                training_seconds,
                devices: self.devices,
            };
            output.result(&started, || {
                format!(
                    "detector    {} trained in {training_seconds:.2} s: {} bytes, {} bytes of RAM, threshold {:.3}\ndashboard   {url}\nMQTT        {}\ndevices     {} simulated; a fault every {FAULT_INTERVAL_S} s",
                    started.detector,
                    trained.summary.file_len,
                    trained.summary.memory_len,
                    trained.summary.threshold.value,
                    started.mqtt,
                    self.devices
                )
            });
            if !self.headless && !output.is_json() && std::io::stdout().is_terminal() {
                open_browser(&url);
            }
            if self.seconds.is_none() {
                output.note("Stop with Ctrl-C.");
            }
            let summary = self.watch(server, detector.clone()).await?;
            output.result(&summary, || text(&summary));
            let good = summary.false_alarms == 0 && summary.anomalies_detected == summary.anomalies_injected;
            Ok(if good { Outcome::Done } else { Outcome::No })
        })
    }

    /// Starts the server; where the usual HTTP port is taken and no other was asked for, on a free one.
    async fn start_server(
        &self,
        folder: &TemporaryFolder,
        output: &Output,
    ) -> anyhow::Result<Running> {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let defaults = Settings {
            data: folder.0.clone(),
            mqtt: any_port,
            ..Settings::default()
        };
        let settings = self.settings.settings_over(&defaults)?;
        match Server::start(settings.clone()).await {
            Err(StartError::PortInUse(address)) if address == defaults.http => {
                output.note(format!("{address} is in use; taking a free port"));
                Ok(Server::start(Settings {
                    http: any_port,
                    ..settings
                })
                .await?)
            }
            started => Ok(started?),
        }
    }

    /// Runs the fleet to its end and looks at what the server stored.
    async fn watch(&self, server: Running, detector: Arc<DetectorFile>) -> anyhow::Result<Summary> {
        let begun = Instant::now();
        let (stop, stopped) = watch::channel(false);
        let injected = Arc::new(Mutex::new(Vec::new()));
        let mut fleet = Vec::new();
        for index in 0..self.devices {
            fleet.push(
                self.start_device(index, &server, &detector, &injected, &stopped)
                    .await?,
            );
        }
        let limit = Duration::from_secs(self.seconds.unwrap_or(ENDLESS_S));
        tokio::select! {
            () = tokio::time::sleep(limit) => {}
            () = ended() => {}
        }
        stop.send_replace(true);
        let mut runs = Vec::new();
        for device in fleet {
            runs.push(device.await??);
        }
        let injected = injected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let summary = summarise(&server, self.devices, begun, injected, &runs).await;
        server.shutdown().await;
        summary
    }

    async fn start_device(
        &self,
        index: u16,
        server: &Running,
        detector: &Arc<DetectorFile>,
        injected: &Arc<Mutex<Vec<Injected>>>,
        stopped: &watch::Receiver<bool>,
    ) -> anyhow::Result<JoinHandle<anyhow::Result<Run>>> {
        let id = device_name(index);
        let token = server
            .registry()
            .rotate(&DeviceId::parse(&id).context("a legal identity")?)
            .await?;
        let link = Link {
            host: server.mqtt_addr.ip().to_string(),
            port: server.mqtt_addr.port(),
            id: id.clone(),
            token: token.reveal().to_owned(),
        };
        let options = TemperatureOptions::default();
        let rate_hz = options.rate_hz;
        let source = Room {
            source: TemperatureSource::new(DEVICE_SEED + u64::from(index), options),
            sample: 0,
            faults: self.faults_of(index, rate_hz),
            rate_hz,
            device: id,
            injected: injected.clone(),
        };
        let reporting = Reporting {
            flush_interval: FLUSH_INTERVAL,
            report_interval: Duration::ZERO,
        };
        let post = Post {
            link,
            detector: detector.clone(),
            session: random_session()?,
            pace: Pace::Rate(rate_hz),
            reporting,
        };
        let stopped = stopped.clone();
        Ok(tokio::spawn(async move {
            post.run(source, stopped, |_| {}).await
        }))
    }

    /// Lays out the faults of one device: they go round the fleet, and so do their kinds.
    fn faults_of(&self, device: u16, rate_hz: f64) -> VecDeque<(u64, FaultKind, usize)> {
        let end_s = self.seconds.unwrap_or(ENDLESS_S) as f64 - LAST_FAULT_BEFORE_END_S;
        let devices = u64::from(self.devices);
        let interval_s = FAULT_INTERVAL_S.max(FAULT_INTERVAL_OF_DEVICE_S / devices as f64);
        let mut faults = VecDeque::new();
        for round in 0_u64.. {
            let number = round * devices + u64::from(device);
            let start_s = FIRST_FAULT_S + number as f64 * interval_s;
            if start_s > end_s {
                break;
            }
            let kinds = FaultKind::TYPICAL.len() as u64;
            // Each round starts with another kind, also where the fleet is a multiple of the kinds.
            let (kind, rows) = FaultKind::TYPICAL[((number + round) % kinds) as usize];
            faults.push_back(((start_s * rate_hz) as u64, kind, rows));
        }
        faults
    }
}

fn train_detector() -> anyhow::Result<Trained> {
    let options = synth::Options {
        seed: TRAINING_SEED,
        rows: TRAINING_ROWS,
        ..synth::Options::default()
    };
    let (recording, _) = synth::temperature(&options)?;
    Ok(train(&recording, &Recipe::synthetic_room(), |_| {
        ControlFlow::Continue(())
    })?)
}

fn device_name(index: u16) -> String {
    const ROOMS: [&str; 8] = [
        "cellar",
        "kitchen",
        "study",
        "workshop",
        "nursery",
        "greenhouse",
        "attic",
        "server-room",
    ];
    let room = ROOMS[usize::from(index) % ROOMS.len()];
    match usize::from(index) / ROOMS.len() {
        0 => room.to_owned(),
        again => format!("{room}-{}", again + 1),
    }
}

/// A simulated sensor with faults at known samples.
struct Room {
    source: TemperatureSource,
    sample: u64,
    faults: VecDeque<(u64, FaultKind, usize)>,
    rate_hz: f64,
    device: String,
    injected: Arc<Mutex<Vec<Injected>>>,
}

impl SampleSource for Room {
    fn next_sample(&mut self) -> Option<(Vec<f32>, bool)> {
        if let Some((at, kind, rows)) = self.faults.front().copied()
            && self.sample >= at
        {
            self.faults.pop_front();
            self.source.inject(kind, rows);
            let start_ms = (now_us() / 1_000) as i64;
            self.injected
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Injected {
                    device: self.device.clone(),
                    kind: kind.name(),
                    start_ms,
                    end_ms: start_ms + (rows as f64 * 1_000.0 / self.rate_hz) as i64,
                    detected_after_ms: None,
                });
        }
        self.sample += 1;
        Some((vec![self.source.next_sample()], false))
    }

    fn can_wait(&self) -> bool {
        false
    }
}

/// Counts by what the server stored, not by what the devices say.
async fn summarise(
    server: &Running,
    devices: u16,
    begun: Instant,
    mut injected: Vec<Injected>,
    runs: &[Run],
) -> anyhow::Result<Summary> {
    let store = server.store();
    let mut false_alarms = 0;
    for index in 0..devices {
        let device = device_name(index);
        let query = ReadingsQuery {
            device: device.clone(),
            channels: vec!["anomaly".to_owned()],
            from_ms: 0,
            to_ms: i64::MAX,
            points_max: POINTS_MAX,
        };
        let series = store.readings(query).await?;
        let points: Vec<(i64, f64)> = series
            .into_iter()
            .flat_map(|series| series.points)
            .collect();
        for raised_ms in rising_edges(&points) {
            let cause = injected.iter_mut().find(|fault| {
                fault.device == device
                    && (fault.start_ms..=fault.end_ms + AFTERMATH_MS).contains(&raised_ms)
            });
            match cause {
                Some(fault) => {
                    let delay_ms = raised_ms - fault.start_ms;
                    fault.detected_after_ms.get_or_insert(delay_ms);
                }
                None => false_alarms += 1,
            }
        }
    }
    let alarms = store
        .alarms(AlarmsQuery {
            limit: usize::MAX,
            ..AlarmsQuery::default()
        })
        .await?;
    let totals = store.totals().await?;
    Ok(Summary {
        event: "summary",
        devices,
        seconds: begun.elapsed().as_secs_f64(),
        messages_stored: totals.messages,
        readings_stored: totals.readings,
        windows_scored: runs.iter().map(|run| run.counters.windows).sum(),
        anomalies_injected: injected.len(),
        anomalies_detected: injected
            .iter()
            .filter(|fault| fault.detected_after_ms.is_some())
            .count(),
        alarms_opened: alarms.len(),
        false_alarms,
        reports_dropped: runs.iter().map(|run| run.counters.reports_dropped).sum(),
        faults: injected,
    })
}

/// The times at which a verdict turned from normal to anomaly.
fn rising_edges(points: &[(i64, f64)]) -> Vec<i64> {
    let mut before = 0.0;
    let mut edges = Vec::new();
    for (time_ms, value) in points {
        if *value > 0.5 && before <= 0.5 {
            edges.push(*time_ms);
        }
        before = *value;
    }
    edges
}

fn text(summary: &Summary) -> String {
    let fault = |fault: &Injected| match fault.detected_after_ms {
        Some(delay_ms) => format!(
            "\n  {:<12} {:<12} found after {:.1} s",
            fault.device,
            fault.kind,
            delay_ms as f64 / 1_000.0
        ),
        None => format!("\n  {:<12} {:<12} NOT FOUND", fault.device, fault.kind),
    };
    format!(
        "{:.0} s, {} devices: {} readings stored in {} messages, {} windows scored\nfaults      {} injected, {} found; {} alarms opened, {} false{}",
        summary.seconds,
        summary.devices,
        summary.readings_stored,
        summary.messages_stored,
        summary.windows_scored,
        summary.anomalies_injected,
        summary.anomalies_detected,
        summary.alarms_opened,
        summary.false_alarms,
        summary.faults.iter().map(fault).collect::<String>()
    )
}

fn open_browser(url: &str) {
    let opener = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    // Without a desktop there is none; the address is on the screen.
    let _ = std::process::Command::new(opener)
        .arg(url)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
}

/// A folder that goes with the demo.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("stonechat-demo-{:08x}", random_session()?));
        std::fs::create_dir(&path)
            .with_context(|| format!("cannot make the folder `{}`", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
