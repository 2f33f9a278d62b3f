//! A device's messages over MQTT: within TLS where there is a bundle.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use rumqttc::tokio_rustls::rustls;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, Incoming, MqttOptions, Outgoing, QoS,
    TlsConfiguration, Transport,
};
use stonechat_core::device::Device;
use stonechat_core::limits::{MESSAGE_LEN_MAX, OUTBOX_SLOTS_MAX};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::output::Hinted;
use crate::shell::{KEEP_ALIVE, Link, RECONNECT_WAIT_MAX, RECONNECT_WAIT_MIN, TICK, Uplink};

/// Events of a connection that wait to be looked at.
const EVENTS_WAITING_MAX: usize = 64;

/// A connection, and the next ones when it is lost.
pub(crate) struct Connection<'l> {
    link: &'l Link,
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

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<'l> Connection<'l> {
    pub(crate) fn new(link: &'l Link) -> Self {
        let (client, events, task) = open(link, Duration::ZERO);
        Self {
            link,
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
    fn reconnect(&mut self) {
        self.task.abort();
        (self.client, self.events, self.task) = open(self.link, self.wait);
        self.handed.clear();
        self.in_flight.clear();
        self.wait = (self.wait * 2).min(RECONNECT_WAIT_MAX);
    }

    /// Returns the sequence that an event acknowledges.
    fn acknowledged_by(&mut self, event: &Event) -> Option<u32> {
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

    /// Takes note of a lost connection; one that the server refuses, or that is none to the right
    /// server, is not tried again.
    fn lost(&self, error: &ConnectionError) -> anyhow::Result<()> {
        match error {
            ConnectionError::ConnectionRefused(code) if is_final(*code) => {
                Err(refused(self.link, *code))
            }
            error => {
                if let Some(fault) = tls_fault(error) {
                    return Err(untrusted(self.link, fault));
                }
                tracing::debug!(device = self.link.id, %error, "the connection is lost");
                Ok(())
            }
        }
    }
}

impl Uplink for Connection<'_> {
    type Event = Result<Event, ConnectionError>;

    async fn event(&mut self) -> Self::Event {
        // The connection's task says why before it ends.
        self.events.recv().await.unwrap_or(Err(ConnectionError::RequestsDone))
    }

    fn take(
        &mut self,
        event: Self::Event,
        device: &mut Device<'_, '_>,
    ) -> anyhow::Result<Vec<u32>> {
        match event {
            Ok(event) => {
                let acknowledged = self.acknowledged_by(&event);
                acknowledged.iter().for_each(|sequence| device.acknowledge(*sequence));
                Ok(acknowledged.into_iter().collect())
            }
            Err(error) => {
                self.lost(&error)?;
                device.disconnected();
                self.reconnect();
                Ok(Vec::new())
            }
        }
    }

    /// Hands the device's messages to the client, as many as its queue takes.
    fn send(&mut self, device: &mut Device<'_, '_>) -> anyhow::Result<()> {
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
        Ok(())
    }

    /// Beyond what the server's silence permits.
    fn outage(&self) -> Duration {
        self.heard.elapsed().saturating_sub(KEEP_ALIVE)
    }

    /// Says farewell; the server closes the connection in answer.
    async fn close(mut self) {
        let _ = self.client.try_disconnect();
        let closed = async { while self.events.recv().await.is_some() {} };
        let _ = tokio::time::timeout(TICK, closed).await;
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
