mod recorded;
mod rooms;

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use stonechat_server::clock::now_ms;
use stonechat_server::server::StartError;
use stonechat_server::store::{AlarmsQuery, ReadingsQuery};
use stonechat_server::{DeviceId, Running, Server, Settings};
use stonechat_train::compile::DetectorFile;
use stonechat_train::train::Trained;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::rooms::Injected;
use super::device::{Speed, parse_speed};
use super::serve::{ended, runtime};
use super::train::RecipeArgs;
use crate::Outcome;
use crate::config::SettingsArgs;
use crate::data::{ReadArgs, Source};
use crate::output::Output;
use crate::shell::{Link, Pace, Post, Reporting, Run, SampleSource, random_session};

/// Train a detector, start the server and a small fleet of simulated devices, and let faults occur.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat demo
  stonechat demo --seconds 60 --headless --json
  stonechat demo fan.csv coin.csv --rate 200 --window 200 --features standard_deviation,peak_to_peak

Given recordings, it trains on the first 60 % of the first one, and a device replays the rest and the
other recordings.")]
pub(crate) struct Args {
    /// Recordings in the place of the simulated rooms: FILE or FILE@60%..80%.
    #[arg(value_name = "RECORDING")]
    recordings: Vec<Source>,
    /// How many simulated devices.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=200))]
    devices: u16,
    /// Stop after this many seconds and print a summary; without it, run until Ctrl-C.
    #[arg(long, value_parser = clap::value_parser!(u64).range(20..))]
    seconds: Option<u64>,
    /// Open no browser.
    #[arg(long)]
    headless: bool,
    /// How many times as fast as recorded recordings are replayed.
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = parse_speed)]
    speed: Speed,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// How long a demo without end goes on making faults.
const ENDLESS_S: u64 = 7 * 24 * 3600;
/// After a fault its samples stay in the window, and the verdict takes some scores to clear.
const AFTERMATH_MS: i64 = 6_000;
/// How often messages are closed: the page is to be live.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);
/// Readings that the summary looks at for one device.
const POINTS_MAX: usize = 1_000_000;

#[derive(Serialize)]
struct Started {
    event: &'static str,
    url: String,
    /// Signs in to the demo's own account, as often as one likes.
    sign_in_url: String,
    mqtt: String,
    detector: String,
    training_seconds: f64,
    devices: usize,
}

/// What the demo watches.
struct Scene {
    trained: Trained,
    devices: Vec<Watched>,
    /// What a person is told of the devices.
    about: String,
    /// The faults that occurred so far.
    injected: Arc<Mutex<Vec<Injected>>>,
}

/// A device to be.
struct Watched {
    id: String,
    source: Box<dyn SampleSource>,
    pace: Pace,
}

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    devices: usize,
    seconds: f64,
    messages_stored: u64,
    readings_stored: u64,
    windows_scored: u64,
    anomalies_injected: usize,
    anomalies_detected: usize,
    alarms_opened: usize,
    /// Unknown of a recording, as nobody said what in it is anomalous.
    false_alarms: Option<usize>,
    reports_dropped: u64,
    faults: Vec<Injected>,
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let folder = TemporaryFolder::new()?;
        output.note("training a detector on normal behaviour ...");
        let begun = Instant::now();
        let scene = match &self.recordings[..] {
            [] => rooms::scene(self.devices, self.seconds.unwrap_or(ENDLESS_S))?,
            sources => recorded::scene(sources, self.speed, &self.read, &self.recipe, output)?,
        };
        let training_seconds = begun.elapsed().as_secs_f64();
        let summary = scene.trained.summary.clone();
        runtime()?.block_on(async {
            let server = self.start_server(&folder, output).await?;
            let url = format!("http://{}", server.http_addr);
            let link = server.access().offer_demo(now_ms()).await?;
            let sign_in_url = format!("{url}/sign-in#{}", link.reveal());
            let started = Started {
                event: "started",
                url,
                sign_in_url: sign_in_url.clone(),
                mqtt: server.mqtt_addr.to_string(),
                detector: scene.trained.file.detector().name().to_owned(),
                training_seconds,
                devices: scene.devices.len(),
            };
            output.result(&started, || {
                format!(
                    "detector    {} trained in {training_seconds:.2} s: {} bytes, {} bytes of RAM, threshold {:.3}\ndashboard   {sign_in_url}\n            (this link signs in; it is worth nothing once the demo ends)\nMQTT        {}\ndevices     {}",
                    started.detector,
                    summary.file_len,
                    summary.memory_len,
                    summary.threshold.value,
                    started.mqtt,
                    scene.about,
                )
            });
            if !self.headless && !output.is_json() && std::io::stdout().is_terminal() {
                open_browser(&sign_in_url);
            }
            if self.seconds.is_none() {
                output.note("Stop with Ctrl-C.");
            }
            let summary = self.watch(server, scene).await?;
            output.result(&summary, || text(&summary));
            let all_found = summary.anomalies_detected == summary.anomalies_injected;
            let good = all_found && summary.false_alarms.is_none_or(|count| count == 0);
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
        let defaults = Settings { data: folder.0.clone(), mqtt: any_port, ..Settings::default() };
        let settings = self.settings.settings_over(&defaults)?;
        match Server::start(settings.clone()).await {
            Err(StartError::PortInUse(address, _)) if address == defaults.http => {
                output.note(format!("{address} is in use; taking a free port"));
                Ok(Server::start(Settings { http: any_port, ..settings }).await?)
            }
            started => Ok(started?),
        }
    }

    /// Runs the fleet to its end and looks at what the server stored.
    async fn watch(&self, server: Running, scene: Scene) -> anyhow::Result<Summary> {
        let begun = Instant::now();
        let (stop, stopped) = watch::channel(false);
        let detector = Arc::new(scene.trained.file);
        let (mut ids, mut fleet) = (Vec::new(), Vec::new());
        for device in scene.devices {
            ids.push(device.id.clone());
            fleet.push(start_device(device, &server, &detector, stopped.clone()).await?);
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
        let injected = scene.injected.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut summary = summarise(&server, &ids, begun, injected, &runs).await?;
        if !self.recordings.is_empty() {
            summary.false_alarms = None;
        }
        server.shutdown().await;
        Ok(summary)
    }
}

async fn start_device(
    device: Watched,
    server: &Running,
    detector: &Arc<DetectorFile>,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<JoinHandle<anyhow::Result<Run>>> {
    let id = DeviceId::parse(&device.id).context("a legal identity")?;
    let token = server.registry().rotate(&id).await?;
    let post = Post {
        link: Link {
            host: server.mqtt_addr.ip().to_string(),
            port: server.mqtt_addr.port(),
            id: device.id,
            token: Some(token.reveal().to_owned()),
            tls: None,
            sealed: None,
        },
        detector: detector.clone(),
        session: random_session()?,
        pace: device.pace,
        reporting: Reporting { flush_interval: FLUSH_INTERVAL, report_interval: Duration::ZERO },
    };
    Ok(tokio::spawn(async move { post.run(device.source, stopped, |_| {}).await }))
}

/// Counts by what the server stored, not by what the devices say.
async fn summarise(
    server: &Running,
    devices: &[String],
    begun: Instant,
    mut injected: Vec<Injected>,
    runs: &[Run],
) -> anyhow::Result<Summary> {
    let store = server.store();
    let mut false_alarms = 0;
    for device in devices {
        let query = ReadingsQuery {
            device: device.clone(),
            channels: vec!["anomaly".to_owned()],
            from_ms: 0,
            to_ms: i64::MAX,
            points_max: POINTS_MAX,
        };
        let series = store.readings(query).await?;
        let points: Vec<(i64, f64)> = series.into_iter().flat_map(|series| series.points).collect();
        for raised_ms in rising_edges(&points) {
            let cause = injected.iter_mut().find(|fault| {
                fault.device == *device
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
    let alarms = store.alarms(AlarmsQuery { limit: usize::MAX, ..AlarmsQuery::default() }).await?;
    let totals = store.totals().await?;
    Ok(Summary {
        event: "summary",
        devices: devices.len(),
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
        false_alarms: Some(false_alarms),
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
        Some(delay_ms) => {
            let delay_s = delay_ms as f64 / 1_000.0;
            format!("\n  {:<12} {:<12} found after {delay_s:.1} s", fault.device, fault.kind)
        }
        None => format!("\n  {:<12} {:<12} NOT FOUND", fault.device, fault.kind),
    };
    let alarms = match summary.false_alarms {
        None => format!("alarms      {} opened", summary.alarms_opened),
        Some(false_alarms) => format!(
            "faults      {} injected, {} found; {} alarms opened, {false_alarms} false{}",
            summary.anomalies_injected,
            summary.anomalies_detected,
            summary.alarms_opened,
            summary.faults.iter().map(fault).collect::<String>()
        ),
    };
    format!(
        "{:.0} s, {} devices: {} readings stored in {} messages, {} windows scored\n{alarms}",
        summary.seconds,
        summary.devices,
        summary.readings_stored,
        summary.messages_stored,
        summary.windows_scored,
    )
}

fn open_browser(url: &str) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
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
