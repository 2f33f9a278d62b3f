//! The shell that drives `stonechat_core::device` on Linux: time, randomness and an MQTT connection.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rumqttc::tokio_rustls::rustls::{self, ClientConfig};
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, Incoming, MqttOptions, Outgoing, QoS,
    TlsConfiguration, Transport,
};
use stonechat_core::decision::Verdict;
use stonechat_core::device::{Counters, Device, Settings};
use stonechat_core::limits::{MESSAGE_LEN_MAX, OUTBOX_SLOT_LEN, OUTBOX_SLOTS_MAX};
use stonechat_train::compile::DetectorFile;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until};

use crate::output::Hinted;
use crate::sealed::Sealed;

/// The first wait after a lost connection ...
pub(crate) const RECONNECT_WAIT_MIN: Duration = Duration::from_millis(100);
/// ... which doubles up to this.
pub(crate) const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a device that has no more samples waits for its last acknowledgements.
pub(crate) const DRAIN_TIME_MAX: Duration = Duration::from_secs(30);
/// A replay gives up when the server has been away for this long; a sensor never does.
pub(crate) const OUTAGE_MAX: Duration = Duration::from_secs(60);
/// An open message is closed at least this often when no samples come.
const TICK: Duration = Duration::from_millis(100);
/// Samples taken in between two looks at the network in a replay at full speed.
const BURST_SAMPLES_MAX: usize = 256;
/// Events of a connection that wait to be looked at.
const EVENTS_WAITING_MAX: usize = 64;
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
        mut source: impl SampleSource,
        mut stop: watch::Receiver<bool>,
        mut acknowledged: impl FnMut(u32) + Send,
    ) -> anyhow::Result<Run> {
        if let Some(sealed) = &self.link.sealed {
            return self.run_sealed(sealed, source, stop, acknowledged).await;
        }
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
        let mut connection = Connection::new(&self.link);
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
            if source.can_wait() && connection.outage() > OUTAGE_MAX {
                break;
            }
            connection.send(&mut device);
            let wake = clock.next_wake(ended_at.is_some() || !device.has_room());
            tokio::select! {
                // The connection's task says why before it ends.
                event = connection.events.recv() => match event.unwrap_or(Err(ConnectionError::RequestsDone)) {
                    Ok(event) => if let Some(sequence) = connection.take(&event) {
                        device.acknowledge(sequence);
                        run.messages_acknowledged += 1;
                        acknowledged(sequence);
                    },
                    Err(error) => {
                        self.lost(&error)?;
                        device.disconnected();
                        connection.reconnect(&self.link);
                    }
                },
                () = sleep_until(wake.into()) => {}
                _ = stop.changed(), if ended_at.is_none() => {}
            }
        }
        run.counters = device.counters();
        connection.close().await;
        Ok(run)
    }

    /// Takes note of a lost connection; one that the server refuses, or that is none to the right
    /// server, is not tried again.
    fn lost(&self, error: &ConnectionError) -> anyhow::Result<()> {
        match error {
            ConnectionError::ConnectionRefused(code) if is_final(*code) => {
                Err(refused(&self.link, *code))
            }
            error => {
                if let Some(fault) = tls_fault(error) {
                    return Err(untrusted(&self.link, fault));
                }
                tracing::debug!(device = self.link.id, %error, "the connection is lost");
                Ok(())
            }
        }
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

struct Connection {
    client: AsyncClient,
    /// What happens on the connection; its last item says why it was lost.
    events: mpsc::Receiver<Result<Event, ConnectionError>>,
    task: JoinHandle<()>,
    /// Sequences handed to the client, oldest first, whose packet identifier is not known yet.
    handed: VecDeque<u32>,
    /// Packet identifier to sequence.
    in_flight: HashMap<u16, u32>,
    /// How long to wait before the next connection.
    wait: Duration,
    /// When the server was last heard of.
    heard: Instant,
    topic: String,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    fn new(link: &Link) -> Self {
        let (client, events, task) = open(link, Duration::ZERO);
        Self {
            client,
            events,
            task,
            handed: VecDeque::new(),
            in_flight: HashMap::new(),
            wait: RECONNECT_WAIT_MIN,
            heard: Instant::now(),
            topic: format!("stonechat/v1/{}/up", link.id),
        }
    }

    /// Starts over with a new connection after a wait that grows from one failure to the next.
    fn reconnect(&mut self, link: &Link) {
        self.task.abort();
        (self.client, self.events, self.task) = open(link, self.wait);
        self.handed.clear();
        self.in_flight.clear();
        self.wait = (self.wait * 2).min(RECONNECT_WAIT_MAX);
    }

    /// Returns for how long nothing was heard of the server, beyond what its silence permits.
    fn outage(&self) -> Duration {
        self.heard.elapsed().saturating_sub(KEEP_ALIVE)
    }

    /// Hands the device's messages to the client, as many as its queue takes.
    fn send(&mut self, device: &mut Device<'_, '_>) {
        while self.handed.len() < OUTBOX_SLOTS_MAX {
            let Some(transmit) = device.transmit() else {
                break;
            };
            self.handed.push_back(transmit.sequence);
            let sent =
                self.client.try_publish(&self.topic, QoS::AtLeastOnce, false, transmit.payload);
            // The client's queue is as long as the outbox, so it takes every message.
            debug_assert!(sent.is_ok(), "the client's queue is full");
        }
    }

    /// Says farewell; the server closes the connection in answer.
    async fn close(mut self) {
        let _ = self.client.try_disconnect();
        let closed = async { while self.events.recv().await.is_some() {} };
        let _ = tokio::time::timeout(TICK, closed).await;
    }

    /// Returns the sequence that an event acknowledges.
    fn take(&mut self, event: &Event) -> Option<u32> {
        if matches!(event, Event::Incoming(_)) {
            self.heard = Instant::now();
        }
        match event {
            Event::Outgoing(Outgoing::Publish(packet)) => {
                if let Some(sequence) = self.handed.pop_front() {
                    self.in_flight.insert(*packet, sequence);
                }
                None
            }
            Event::Incoming(Incoming::PubAck(ack)) => {
                self.wait = RECONNECT_WAIT_MIN;
                self.in_flight.remove(&ack.pkid)
            }
            _ => None,
        }
    }
}

type Opened = (AsyncClient, mpsc::Receiver<Result<Event, ConnectionError>>, JoinHandle<()>);

/// Connects after `wait`, in a task of its own: connecting must not be broken off by a sample.
fn open(link: &Link, wait: Duration) -> Opened {
    let mut options = MqttOptions::new(&link.id, &link.host, link.port);
    if let Some(token) = &link.token {
        options.set_credentials(&link.id, token);
    }
    if let Some(tls) = &link.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.clone())));
    }
    options.set_keep_alive(KEEP_ALIVE);
    options.set_clean_session(true);
    options.set_max_packet_size(MESSAGE_LEN_MAX, MESSAGE_LEN_MAX);
    options.set_inflight(OUTBOX_SLOTS_MAX as u16);
    let (client, mut connection) = AsyncClient::new(options, OUTBOX_SLOTS_MAX * 2);
    let (sender, events) = mpsc::channel(EVENTS_WAITING_MAX);
    let task = tokio::spawn(async move {
        sleep(wait).await;
        loop {
            let event = connection.poll().await;
            let lost = event.is_err();
            if sender.send(event).await.is_err() || lost {
                break;
            }
        }
    });
    (client, events, task)
}

fn is_final(code: ConnectReturnCode) -> bool {
    matches!(
        code,
        ConnectReturnCode::BadUserNamePassword
            | ConnectReturnCode::NotAuthorized
            | ConnectReturnCode::BadClientId
    )
}

fn refused(link: &Link, code: ConnectReturnCode) -> anyhow::Error {
    let Link { host, port, id, .. } = link;
    let reason = match code {
        ConnectReturnCode::BadClientId => "it is no device's identity",
        _ => "the device or its token is not known there",
    };
    Hinted::new(
        format!("the server at {host}:{port} refuses the device `{id}`: {reason}"),
        format!(
            "`stonechat device add {id}` registers it, with --new-token if it is registered already; \
             give the token that this prints, and mind the server's --data"
        ),
    )
}

/// Finds the fault of TLS behind a lost connection, unless it may pass by itself.
fn tls_fault(error: &ConnectionError) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(fault) = inner.or_else(|| error.downcast_ref()) {
            return Some(fault);
        }
        next = error.source();
    }
    None
}

/// Says that the other end is not the server that the device knows, or does not know the device.
fn untrusted(link: &Link, fault: &rustls::Error) -> anyhow::Error {
    let Link { host, port, id, .. } = link;
    if matches!(fault, rustls::Error::AlertReceived(_)) {
        return Hinted::new(
            format!("the server at {host}:{port} refuses the device `{id}`: {fault}"),
            format!(
                "its certificate may have ended; `stonechat device rotate {id} -o FILE` makes a new bundle"
            ),
        );
    }
    Hinted::new(
        format!(
            "the server at {host}:{port} is not the one that the device `{id}` trusts: {fault}"
        ),
        "nothing was sent to it; mind the address, and if the server's keys were replaced, make a new bundle",
    )
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
