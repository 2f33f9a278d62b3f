//! The shell that drives `stonechat_core::device` on Linux: time, randomness and what carries messages.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rumqttc::tokio_rustls::rustls::ClientConfig;
use stonechat_core::decision::Verdict;
use stonechat_core::device::{Counters, Device, Settings};
use stonechat_core::limits::{OUTBOX_SLOT_LEN, OUTBOX_SLOTS_MAX};
use stonechat_train::compile::DetectorFile;
use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::mqtt::Connection;
use crate::sealed::{Sealed, Session};

/// The first wait after a lost connection ...
pub(crate) const RECONNECT_WAIT_MIN: Duration = Duration::from_millis(100);
/// ... which doubles up to this.
pub(crate) const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a device that has no more samples waits for its last acknowledgements.
pub(crate) const DRAIN_TIME_MAX: Duration = Duration::from_secs(30);
/// A replay gives up when the server has been away for this long; a sensor never does.
pub(crate) const OUTAGE_MAX: Duration = Duration::from_secs(60);
/// An open message is closed at least this often when no samples come.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// Samples taken in between two looks at the network in a replay at full speed.
const BURST_SAMPLES_MAX: usize = 256;
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Where a device connects and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) id: String,
    /// The token; with a certificate in `tls`, none is needed.
    pub(crate) token: Option<String>,
    /// Encryption, with the one server that is trusted; none on the same computer only.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// The keys of a sealed link, which then takes the place of MQTT and TLS.
    pub(crate) sealed: Option<Sealed>,
}

/// Where samples come from.
pub(crate) trait SampleSource: Send {
    /// Returns the next sample, one number a channel, and whether a gap lies before it.
    fn next_sample(&mut self) -> Option<(Vec<f32>, bool)>;

    /// Tells whether the source can wait while the outbox is full; a sensor cannot, a recording can.
    fn can_wait(&self) -> bool;
}

impl SampleSource for Box<dyn SampleSource> {
    fn next_sample(&mut self) -> Option<(Vec<f32>, bool)> {
        (**self).next_sample()
    }

    fn can_wait(&self) -> bool {
        (**self).can_wait()
    }
}

/// What carries a device's messages to its server.
pub(crate) trait Uplink: Send {
    /// What happens on it.
    type Event: Send;

    /// Waits for the next event; nothing is lost when the wait is broken off.
    fn event(&mut self) -> impl Future<Output = Self::Event> + Send;

    /// Takes an event in, and returns the sequences of the messages that it acknowledges. An error
    /// ends the run: there is no use in trying again.
    fn take(&mut self, event: Self::Event, device: &mut Device<'_, '_>)
    -> anyhow::Result<Vec<u32>>;

    /// Sends what is due.
    fn send(&mut self, device: &mut Device<'_, '_>) -> anyhow::Result<()>;

    /// Returns for how long nothing was heard of the server.
    fn outage(&self) -> Duration;

    /// Says farewell.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// How fast samples are taken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// This many a second.
    Rate(f64),
    /// As fast as they are acknowledged.
    Full,
}

/// How a device reports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reporting {
    pub(crate) flush_interval: Duration,
    pub(crate) report_interval: Duration,
}

/// What a device did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    pub(crate) counters: Counters,
    pub(crate) anomalous_windows: u64,
    pub(crate) alarms_raised: u64,
    pub(crate) messages_acknowledged: u64,
    pub(crate) drained: bool,
}

/// A device to be run: who it is, what it runs, and how.
pub(crate) struct Post {
    pub(crate) link: Link,
    pub(crate) detector: Arc<DetectorFile>,
    /// Tells this run's messages from those of other runs.
    pub(crate) session: u32,
    pub(crate) pace: Pace,
    pub(crate) reporting: Reporting,
}

impl Post {
    /// Runs the device until its source ends or `stop` turns true, then waits for its last
    /// acknowledgements. `acknowledged` sees each message's sequence once the server has stored it.
    pub(crate) async fn run(
        &self,
        source: impl SampleSource,
        stop: watch::Receiver<bool>,
        acknowledged: impl FnMut(u32) + Send,
    ) -> anyhow::Result<Run> {
        match &self.link.sealed {
            Some(sealed) => {
                let link = Session::new(&self.link, sealed)?;
                self.run_over(link, source, stop, acknowledged).await
            }
            None => {
                let link = Connection::new(&self.link);
                self.run_over(link, source, stop, acknowledged).await
            }
        }
    }

    async fn run_over(
        &self,
        mut link: impl Uplink,
        mut source: impl SampleSource,
        mut stop: watch::Receiver<bool>,
        mut acknowledged: impl FnMut(u32) + Send,
    ) -> anyhow::Result<Run> {
        let detector = self.detector.detector();
        let mut memory = vec![0; detector.memory_words()];
        let mut outbox = vec![0; OUTBOX_SLOT_LEN * OUTBOX_SLOTS_MAX];
        let settings = Settings {
            id: &self.link.id,
            session: self.session,
            flush_interval_us: micros(self.reporting.flush_interval),
            report_interval_us: micros(self.reporting.report_interval),
        };
        let mut device = Device::new(settings, &detector, &mut memory, &mut outbox)
            .with_context(|| format!("the device `{}` cannot start", self.link.id))?;
        let mut run = Run::default();
        let mut clock = Clock::new(self.pace);
        let mut ended_at = None;
        loop {
            if ended_at.is_none()
                && (*stop.borrow() || !feed(&mut device, &mut source, &mut clock, &mut run))
            {
                device.flush(now_us());
                ended_at = Some(Instant::now());
            }
            if let Some(ended_at) = ended_at {
                run.drained = device.is_drained();
                if run.drained || ended_at.elapsed() > DRAIN_TIME_MAX {
                    break;
                }
            } else {
                device.tick(now_us());
            }
            if source.can_wait() && link.outage() > OUTAGE_MAX {
                break;
            }
            link.send(&mut device)?;
            let wake = clock.next_wake(ended_at.is_some() || !device.has_room());
            tokio::select! {
                event = link.event() => for sequence in link.take(event, &mut device)? {
                    run.messages_acknowledged += 1;
                    acknowledged(sequence);
                },
                () = sleep_until(wake.into()) => {}
                _ = stop.changed(), if ended_at.is_none() => {}
            }
        }
        run.counters = device.counters();
        link.close().await;
        Ok(run)
    }
}

/// Takes in the samples that are due; false once the source has ended.
pub(crate) fn feed(
    device: &mut Device<'_, '_>,
    source: &mut impl SampleSource,
    clock: &mut Clock,
    run: &mut Run,
) -> bool {
    for _ in 0..BURST_SAMPLES_MAX {
        if !clock.is_due() || source.can_wait() && !device.has_room() {
            break;
        }
        let Some((sample, after_gap)) = source.next_sample() else {
            return false;
        };
        clock.taken += 1;
        if after_gap {
            device.reset_window();
        }
        if let Some(result) = device.sample(now_us(), &sample) {
            run.anomalous_windows += u64::from(result.verdict == Verdict::Anomaly);
            run.alarms_raised += u64::from(result.changed && result.verdict == Verdict::Anomaly);
        }
    }
    true
}

pub(crate) struct Clock {
    pace: Pace,
    started: Instant,
    taken: u64,
}

impl Clock {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, started: Instant::now(), taken: 0 }
    }

    fn next_due(&self) -> Instant {
        match self.pace {
            Pace::Rate(rate_hz) => {
                self.started + Duration::from_secs_f64(self.taken as f64 / rate_hz)
            }
            Pace::Full => self.started,
        }
    }

    fn is_due(&self) -> bool {
        self.next_due() <= Instant::now()
    }

    pub(crate) fn next_wake(&self, waits_for_network: bool) -> Instant {
        let tick = Instant::now() + TICK;
        if waits_for_network { tick } else { self.next_due().min(tick) }
    }
}

/// Draws the number that tells this run's messages from those of other runs.
pub(crate) fn random_session() -> anyhow::Result<u32> {
    getrandom::u32().map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))
}

/// Returns unix microseconds.
pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros)
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
