//! One connection, from CONNECT to its end.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::v5::SubscribeAckReason;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::bytes::Bytes;
use tracing::{debug, info, warn};

use super::answer::{Answers, Grant, Receipt, Refusal};
use super::ending::Ending;
use super::line::Line;
use super::packet::{Connect, Fault, Incoming, Version};
use super::sessions::{Delivery, Session, Undelivered};
use super::{House, door};
use crate::clock::now_ms;
use crate::device::DeviceId;
use crate::ingest::{Arrival, Outcome, Prepared, Route};
use crate::limits::{
    MQTT_BATCH_MAX, MQTT_CUT_GRACE, MQTT_DOWNLINK_IN_FLIGHT_MAX, MQTT_HANDSHAKE_TIMEOUT,
    MQTT_IN_FLIGHT_MAX, MQTT_RELEASES_MAX, MQTT_SUBSCRIPTIONS_MAX,
};
use crate::presence::Connection;
use crate::sealed::topics as sealed;
use crate::topic::{self, BadFilter};

/// Serves one connection to its end. `certificate` is what the client showed, its chain checked;
/// `handshake` is held until the client is in.
pub(super) async fn serve<S, H>(
    house: Arc<House>,
    stream: S,
    peer: SocketAddr,
    certificate: Option<Vec<u8>>,
    handshake: H,
    mut ended: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Send,
{
    let mut line = Line::new(stream);
    let welcomed = Box::pin(async {
        tokio::select! {
            welcomed = welcome(&house, &mut line, peer, certificate) => welcomed,
            _ = ended.wait_for(|&ended| ended) => None,
        }
    })
    .await;
    drop((handshake, ended));
    let Some((session, answers, connect)) = welcomed else {
        line.close().await;
        return;
    };
    let device = session.device().clone();
    info!(%device, %peer, "connected");
    house.presence.connected(device.as_str(), session.connection);
    let mut talk = Talk::new(&house, line, session.clone(), answers, &connect);
    drop(connect);
    let ending = talk.run().await;
    house.sessions.leave(&session, ending);
    house.presence.disconnected(device.as_str(), session.connection);
    if ending.is_fault() {
        count(&house.counters.faults);
    }
    info!(%device, reason = %ending, "disconnected");
    talk.part(ending).await;
}

/// Waits for CONNECT, and answers it.
async fn welcome<S: AsyncRead + AsyncWrite + Unpin>(
    house: &House,
    line: &mut Line<S>,
    peer: SocketAddr,
    certificate: Option<Vec<u8>>,
) -> Option<(Arc<Session>, Answers, Box<Connect>)> {
    let connect = match tokio::time::timeout(MQTT_HANDSHAKE_TIMEOUT, connect(line)).await {
        Ok(Ok(connect)) => connect,
        Ok(Err(None)) => return None,
        Ok(Err(Some(fault))) => {
            count(&house.counters.handshakes_failed);
            debug!(%peer, %fault, "refused a client");
            let version = line.decoder().version().unwrap_or(match fault {
                Fault::Version(level) if level > 5 => Version::V5,
                _ => Version::V3,
            });
            refuse(line, Answers::new(version, 0), Refusal::Fault(fault)).await;
            return None;
        }
        Err(_) => {
            count(&house.counters.handshakes_failed);
            debug!(%peer, "a client did not say who it is in time");
            return None;
        }
    };
    let mut answers = Answers::new(connect.version, connect.packet_len_max);
    let admission = match door::admit(&house.directory, &connect, certificate.as_deref()).await {
        Ok(admission) => admission,
        Err((refusal, reason)) => {
            count(&house.counters.refused);
            warn!(client = connect.client_id, user = connect.user_name, %peer, reason, "refused a client");
            refuse(line, answers, refusal).await;
            return None;
        }
    };
    let connection = Connection { peer: Some(peer), since_ms: now_ms() };
    let session = Session::new(admission, connection);
    if !house.sessions.enter(&session) {
        refuse(line, answers, Refusal::Unavailable).await;
        return None;
    }
    // Whoever was revoked in between would not have been found among the connections.
    if !house.directory.is_current(&session.admission) {
        session.end(Ending::Revoked);
    }
    let assigned = connect.client_id.is_empty().then(|| session.device().as_str());
    answers.welcome(assigned);
    let written = line.write(answers.bytes()).await;
    answers.clear();
    if written.is_err() {
        house.sessions.leave(&session, Ending::Closed);
        return None;
    }
    Some((session, answers, connect))
}

/// Reads until CONNECT is whole; an error without a fault when the client leaves.
async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    line: &mut Line<S>,
) -> Result<Box<Connect>, Option<Fault>> {
    loop {
        match line.next() {
            Ok(Some(Incoming::Connect(connect))) => return Ok(connect),
            Ok(Some(_)) => return Err(Some(Fault::NotMqtt)),
            Ok(None) => {}
            Err(fault) => return Err(Some(fault)),
        }
        if line.read().await.map_err(|_| None)? == 0 {
            return Err(None);
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(
    line: &mut Line<S>,
    mut answers: Answers,
    refusal: Refusal,
) {
    answers.refuse(refusal);
    let _ = line.write(answers.bytes()).await;
}

/// What is said on one connection after it was accepted.
struct Talk<'a, S> {
    house: &'a House,
    line: Line<S>,
    session: Arc<Session>,
    answers: Answers,
    version: Version,
    /// The longest pause that is allowed.
    patience: Option<Duration>,
    heard: Instant,
    /// Messages of quality 2 that arrived and are not released by the client yet.
    unreleased: HashSet<NonZeroU16>,
    /// Messages to the device that it has not acknowledged, in their order.
    unacknowledged: VecDeque<(NonZeroU16, oneshot::Sender<Result<Delivery, Undelivered>>)>,
    unacknowledged_max: usize,
    next_id: NonZeroU16,
    /// Whether a message was refused before.
    complained: bool,
    /// Whether what was written last broke off, so that nothing can follow.
    broken: bool,
}

/// What one look at the received packets gave.
#[derive(Default)]
struct Round {
    prepared: Vec<Prepared>,
    /// Frames of sealed sessions.
    sealed: Vec<Bytes>,
    /// What is to be acknowledged, in order; without a receipt it is the next of the prepared.
    receipts: Vec<(QoS, Option<NonZeroU16>, Option<Receipt>)>,
    ending: Option<Ending>,
    /// Whether there may be more to look at.
    more: bool,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Talk<'a, S> {
    fn new(
        house: &'a House,
        line: Line<S>,
        session: Arc<Session>,
        answers: Answers,
        connect: &Connect,
    ) -> Self {
        let keep_alive = Duration::from_secs(u64::from(connect.keep_alive_s));
        Self {
            house,
            line,
            session,
            answers,
            version: connect.version,
            // Section 3.1.2.10 of both versions.
            patience: (!keep_alive.is_zero()).then(|| keep_alive.mul_f32(1.5)),
            heard: Instant::now(),
            unreleased: HashSet::new(),
            unacknowledged: VecDeque::new(),
            unacknowledged_max: usize::from(connect.receive_max).min(MQTT_DOWNLINK_IN_FLIGHT_MAX),
            next_id: NonZeroU16::MIN,
            complained: false,
            broken: false,
        }
    }

    async fn run(&mut self) -> Ending {
        let silence = tokio::time::sleep_until(self.silent_at());
        tokio::pin!(silence);
        loop {
            if let Err(ending) = self.answer_all().await {
                return ending;
            }
            if let Some(ending) = self.session.ending() {
                return ending;
            }
            tokio::select! {
                biased;
                () = self.session.rung() => {}
                read = self.line.read() => match read {
                    Ok(0) | Err(_) => return Ending::Closed,
                    Ok(_) => {}
                },
                () = &mut silence, if self.patience.is_some() => {
                    // Moved on when it is due only: a timer is dear to move with each packet.
                    let silent_at = self.silent_at();
                    if silent_at <= Instant::now() {
                        return Ending::Silent;
                    }
                    silence.as_mut().reset(silent_at);
                }
            }
        }
    }

    fn silent_at(&self) -> Instant {
        self.heard + self.patience.unwrap_or_default()
    }

    /// Answers all that was read, and sends what waits for the device.
    async fn answer_all(&mut self) -> Result<(), Ending> {
        loop {
            let round = self.look();
            let stored = match self.open_sealed(&round.sealed).await {
                Ok(()) => self.store(round.prepared, round.receipts).await,
                Err(ending) => Err(ending),
            };
            self.send_outgoing();
            self.flush().await?;
            stored?;
            if let Some(ending) = round.ending {
                return Err(ending);
            }
            if !round.more {
                return Ok(());
            }
        }
    }

    /// Looks at received packets, up to as many messages as are stored in one go.
    fn look(&mut self) -> Round {
        let mut round = Round::default();
        loop {
            if round.receipts.len() >= MQTT_BATCH_MAX {
                round.more = true;
                return round;
            }
            let packet = match self.line.next() {
                Ok(Some(packet)) => packet,
                Ok(None) => return round,
                Err(fault) => {
                    round.ending = Some(Ending::Fault(fault));
                    return round;
                }
            };
            self.heard = Instant::now();
            if let Err(ending) = self.take(packet, &mut round) {
                round.ending = Some(ending);
                return round;
            }
        }
    }

    fn take(&mut self, packet: Incoming, round: &mut Round) -> Result<(), Ending> {
        match packet {
            Incoming::Publish(publish) => self.take_message(&publish, round)?,
            Incoming::PublishAck { packet_id, taken } => self.acknowledged(packet_id, taken),
            Incoming::PublishRelease { packet_id } => {
                let known = self.unreleased.remove(&packet_id);
                self.answers.complete(packet_id, known);
            }
            Incoming::Subscribe { packet_id, filters } => {
                let grants: Vec<Grant> =
                    filters.into_iter().map(|(filter, qos)| self.subscribe(filter, qos)).collect();
                self.answers.subscribed(packet_id, &grants);
            }
            Incoming::Unsubscribe { packet_id, filters } => {
                let existed: Vec<bool> =
                    filters.iter().map(|filter| self.session.unsubscribe(filter)).collect();
                self.answers.unsubscribed(packet_id, &existed);
            }
            Incoming::Ping => self.answers.pong(),
            Incoming::Disconnect => return Err(Ending::GoodBye),
            Incoming::Connect(_) => {
                return Err(Ending::Fault(Fault::Protocol("a second CONNECT")));
            }
        }
        Ok(())
    }

    fn take_message(&mut self, publish: &Publish, round: &mut Round) -> Result<(), Ending> {
        let id = publish.packet_id;
        // Version 3.1.1 cannot announce that nothing is retained; the message still counts.
        if publish.retain && self.version == Version::V5 {
            return Err(Ending::Retain);
        }
        if let (QoS::ExactlyOnce, Some(id)) = (publish.qos, id) {
            if self.unreleased.contains(&id) {
                // It is sent again, as the answer was lost.
                round.receipts.push((publish.qos, Some(id), Some(Receipt::Stored)));
                return Ok(());
            }
            if self.unreleased.len() >= MQTT_RELEASES_MAX {
                return Err(Ending::TooManyInFlight);
            }
        }
        if self.version == Version::V5 && id.is_some() {
            let waiting = |(qos, _, _): &&(QoS, _, _)| *qos == QoS::AtLeastOnce;
            let waiting = round.receipts.iter().filter(waiting).count();
            if self.unreleased.len() + waiting >= usize::from(MQTT_IN_FLIGHT_MAX) {
                return Err(Ending::TooManyInFlight);
            }
        }
        let device = self.session.device();
        if !topic::may_publish(device, &publish.topic) {
            let device = device.clone();
            self.complain(&device, &publish.topic, "refused a message outside the device's topics");
            // Only version 5 can refuse a single message, and only one that is acknowledged.
            if self.version == Version::V3 || id.is_none() {
                return Err(Ending::ForeignTopic);
            }
            round.receipts.push((publish.qos, id, Some(Receipt::NotAuthorized)));
            return Ok(());
        }
        if let (QoS::ExactlyOnce, Some(id)) = (publish.qos, id) {
            self.unreleased.insert(id);
        }
        if topic::within(device, &publish.topic) == Some(sealed::UP) {
            // What it says is acknowledged within the session; this only tells that it came.
            round.sealed.push(publish.payload.clone());
            round.receipts.push((publish.qos, id, Some(Receipt::Stored)));
            return Ok(());
        }
        let route = Route::Topic(&publish.topic);
        let receipt =
            match self.house.ingest.prepare(Arrival { device, route, payload: &publish.payload }) {
                Ok(prepared) => {
                    round.prepared.push(prepared);
                    None
                }
                // A message that can never be stored would otherwise come again for ever.
                Err(_) => Some(Receipt::Rejected),
            };
        round.receipts.push((publish.qos, id, receipt));
        Ok(())
    }

    /// Takes frames of sealed sessions in, stores what they say, and has the answers sent.
    async fn open_sealed(&mut self, frames: &[Bytes]) -> Result<(), Ending> {
        if frames.is_empty() {
            return Ok(());
        }
        let device = self.session.device();
        let frames: Vec<_> = frames.iter().map(|frame| (device.clone(), &frame[..])).collect();
        let answers = tokio::select! {
            biased;
            answers = self.house.sealed.take_all(&frames) => answers,
            ending = cut(&self.session) => return Err(ending),
        };
        for (device, frame) in answers {
            // A device that does not listen, or too slowly, asks again.
            let _ = self.session.post(&sealed::down_of(&device), frame.into());
        }
        Ok(())
    }

    /// Stores messages, and acknowledges in order what is on disk. A message that could not be
    /// stored, and all after it, are not acknowledged.
    async fn store(
        &mut self,
        prepared: Vec<Prepared>,
        receipts: Vec<(QoS, Option<NonZeroU16>, Option<Receipt>)>,
    ) -> Result<(), Ending> {
        let mut outcomes = if prepared.is_empty() {
            Vec::new()
        } else {
            tokio::select! {
                biased;
                outcomes = self.house.ingest.commit(prepared) => outcomes,
                ending = cut(&self.session) => return Err(ending),
            }
        }
        .into_iter();
        for (qos, id, receipt) in receipts {
            let receipt = match receipt {
                Some(receipt) => receipt,
                None => match outcomes.next() {
                    Some(Ok(Outcome::Stored | Outcome::Duplicate)) => Receipt::Stored,
                    Some(Ok(Outcome::Rejected)) => Receipt::Rejected,
                    Some(Err(_)) | None => return Err(Ending::NotStored),
                },
            };
            match (qos, id) {
                (QoS::AtLeastOnce, Some(id)) => self.answers.acknowledge(id, receipt),
                (QoS::ExactlyOnce, Some(id)) => {
                    // A refusal ends the exchange (MQTT 5 section 4.3.3).
                    if receipt.is_failure() && self.version == Version::V5 {
                        self.unreleased.remove(&id);
                    }
                    self.answers.receive(id, receipt);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn subscribe(&mut self, filter: String, qos: QoS) -> Grant {
        let device = self.session.device();
        let reason = match topic::may_subscribe(device, &filter) {
            Ok(()) => {
                let qos = qos.less_value(QoS::AtLeastOnce);
                if self.session.subscribe(filter, qos, MQTT_SUBSCRIPTIONS_MAX) {
                    return Grant::Granted(qos);
                }
                return Grant::Refused(SubscribeAckReason::QuotaExceeded);
            }
            Err(BadFilter::Invalid) => SubscribeAckReason::TopicFilterInvalid,
            Err(BadFilter::Shared) => SubscribeAckReason::SharedSubscriptionNotSupported,
            Err(BadFilter::Foreign) => SubscribeAckReason::NotAuthorized,
        };
        let device = device.clone();
        self.complain(&device, &filter, "refused a subscription");
        Grant::Refused(reason)
    }

    /// Warns once for a connection, or whoever is let in could fill the log.
    fn complain(&mut self, device: &DeviceId, topic: &str, what: &str) {
        if std::mem::replace(&mut self.complained, true) {
            debug!(%device, topic, "{what}");
        } else {
            warn!(%device, topic, "{what}");
        }
    }

    fn acknowledged(&mut self, packet_id: NonZeroU16, taken: bool) {
        let at = self.unacknowledged.iter().position(|(id, _)| *id == packet_id);
        if let Some((_, done)) = at.and_then(|at| self.unacknowledged.remove(at)) {
            let _ = done.send(if taken {
                Ok(Delivery::Acknowledged)
            } else {
                Err(Undelivered::Refused)
            });
        }
    }

    /// Turns what waits for the device into packets, as many as it takes at one time.
    fn send_outgoing(&mut self) {
        while self.unacknowledged.len() < self.unacknowledged_max {
            let Some(outgoing) = self.session.next_outgoing() else { return };
            let id = outgoing.acknowledged.then(|| self.free_id());
            if !self.answers.publish(&outgoing.topic, outgoing.payload, id) {
                let _ = outgoing.done.send(Err(Undelivered::Refused));
            } else if let Some(id) = id {
                self.unacknowledged.push_back((id, outgoing.done));
            } else {
                let _ = outgoing.done.send(Ok(Delivery::Written));
            }
        }
    }

    fn free_id(&mut self) -> NonZeroU16 {
        loop {
            let id = self.next_id;
            self.next_id = id.checked_add(1).unwrap_or(NonZeroU16::MIN);
            if self.unacknowledged.iter().all(|(taken, _)| *taken != id) {
                return id;
            }
        }
    }

    /// Writes what is answered, unless the connection is cut meanwhile.
    async fn flush(&mut self) -> Result<(), Ending> {
        if self.answers.bytes().is_empty() {
            return Ok(());
        }
        let written = tokio::select! {
            biased;
            written = self.line.write(self.answers.bytes()) => written.map_err(|_| Ending::Stuck),
            ending = self.session.cut() => Err(ending),
        };
        self.answers.clear();
        self.broken = written.is_err();
        written
    }

    /// Says good-bye and closes.
    async fn part(mut self, ending: Ending) {
        if let Some(reason) = ending.reason()
            && !self.broken
        {
            self.answers.clear();
            self.answers.disconnect(reason);
            let _ = self.line.write(self.answers.bytes()).await;
        }
        if !self.broken {
            self.line.close().await;
        }
    }
}

/// Waits until the connection is cut, and a little for the store that may just be done.
async fn cut(session: &Session) -> Ending {
    let ending = session.cut().await;
    tokio::time::sleep(MQTT_CUT_GRACE).await;
    ending
}
