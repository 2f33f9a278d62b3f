//! The broker in this process, by the crate `rmqtt` 0.24.0 without its clustering.
//!
//! Its publish hook also runs for last wills, which its access check never sees. So nothing is
//! taken in there: a message passes in the access check, which is asked for each message of a
//! client and for nothing else, and waits there until it is on disk. Last wills are stored
//! nowhere, and reach only who subscribed to the device's own prefix: the device itself.
//!
//! A client that connects while its earlier connection is just ending may be refused as
//! "unavailable" (the session that ends does not answer the one that takes over); it tries again.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rmqtt::codec::v5::{PublishAckReason, SubscribeAckReason};
use rmqtt::context::ServerContext;
use rmqtt::hook::{Handler, HookResult, Parameter, ReturnType, Type};
use rmqtt::net::Builder;
use rmqtt::server::MqttServer;
use rmqtt::types::{
    AuthResult, Id, LastWill, PublishAclResult, PublishResult, QoS, Reason, SubscribeAclResult,
};
use tokio::runtime::{self, Runtime};

use super::{Claim, Gate, Verdict};
use crate::limits::{
    MQTT_CONNECTIONS_MAX, MQTT_HANDSHAKE_TIMEOUT, MQTT_HANDSHAKES_MAX, MQTT_IN_FLIGHT_MAX,
    MQTT_PACKET_LEN_MAX, MQTT_QUEUE_LEN_MAX, MQTT_SESSION_EXPIRY, MQTT_SUBSCRIPTIONS_MAX,
    MQTT_TOPIC_LEVELS_MAX,
};
use crate::presence::Connection;

const PRIORITY: u32 = 100;
/// How long tasks may take to end at a stop.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// Why the broker does not run.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Another program has the port.
    #[error("port in use: {0}; stop what listens there, or choose another with --mqtt")]
    PortInUse(SocketAddr),
    /// The address cannot be used.
    #[error("cannot listen on {address}: {reason}; choose another with --mqtt")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// No threads to be had.
    #[error("cannot start the broker's threads: {0}")]
    Threads(std::io::Error),
}

/// A broker that runs.
#[derive(Debug)]
pub struct EmbeddedBroker {
    address: SocketAddr,
    /// Of its own, so that stopping it ends every connection.
    runtime: Option<Runtime>,
}

impl EmbeddedBroker {
    /// Starts listening.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub async fn start(address: SocketAddr, gate: Arc<Gate>) -> Result<Self, BrokerError> {
        // rmqtt's error does not tell a taken port from other faults; asking by hand first does.
        probe(address)?;
        let runtime = runtime::Builder::new_multi_thread()
            .thread_name("broker")
            .enable_all()
            .build()
            .map_err(BrokerError::Threads)?;
        let (started, address_taken) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            let listener = match listener(address) {
                Ok(listener) => listener,
                Err(error) => return drop(started.send(Err(error))),
            };
            let local = listener.local_addr().unwrap_or(address);
            let context = ServerContext::new().busy_check_enable(false).build().await;
            register(&context, gate).await;
            let server = MqttServer::new(context).listener_by_id(listener, 1).build();
            let _ = started.send(Ok(local));
            if let Err(error) = server.run().await {
                tracing::error!(%error, "the broker ended");
            }
        });
        let started = address_taken.await.unwrap_or_else(|_| {
            Err(BrokerError::Listen { address, reason: "the broker ended at once".into() })
        });
        match started {
            Ok(local) => Ok(Self { address: local, runtime: Some(runtime) }),
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening and closes every connection.
    pub async fn stop(mut self) {
        if let Some(runtime) = self.runtime.take() {
            let stop = move || runtime.shutdown_timeout(STOP_GRACE);
            // Waiting for threads must not happen on a thread that serves others.
            let _ = tokio::task::spawn_blocking(stop).await;
        }
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn probe(address: SocketAddr) -> Result<(), BrokerError> {
    match std::net::TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Err(BrokerError::PortInUse(address))
        }
        Err(error) => Err(BrokerError::Listen { address, reason: error.to_string() }),
    }
}

fn listener(address: SocketAddr) -> Result<rmqtt::net::Listener, BrokerError> {
    let in_flight = NonZeroU16::new(MQTT_IN_FLIGHT_MAX).unwrap_or(NonZeroU16::MIN);
    Builder::new()
        .name("devices")
        .laddr(address)
        // After a crash the old connections linger; without this the port is taken until they end.
        .reuseaddr(Some(true))
        .nodelay(true)
        .allow_anonymous(false)
        .max_connections(MQTT_CONNECTIONS_MAX)
        .max_handshaking_limit(MQTT_HANDSHAKES_MAX)
        .handshake_timeout(MQTT_HANDSHAKE_TIMEOUT)
        .max_packet_size(MQTT_PACKET_LEN_MAX as u32)
        .max_clientid_len(stonechat_core::limits::DEVICE_ID_LEN_MAX)
        .max_inflight(in_flight)
        .max_mqueue_len(MQTT_QUEUE_LEN_MAX)
        .max_subscriptions(MQTT_SUBSCRIPTIONS_MAX)
        .max_topic_levels(MQTT_TOPIC_LEVELS_MAX)
        .session_expiry_interval(MQTT_SESSION_EXPIRY)
        .max_session_expiry_interval(MQTT_SESSION_EXPIRY)
        .max_qos_allowed(QoS::AtLeastOnce)
        .bind()
        .and_then(rmqtt::net::Listener::tcp)
        .map_err(|error| BrokerError::Listen { address, reason: error.to_string() })
}

async fn register(context: &ServerContext, gate: Arc<Gate>) {
    let register = context.extends.hook_mgr().register();
    for hook in [
        Type::ClientAuthenticate,
        Type::ClientSubscribeCheckAcl,
        Type::MessagePublishCheckAcl,
        Type::ClientConnected,
        Type::ClientDisconnected,
    ] {
        register.add_priority(hook, PRIORITY, Box::new(Hooks { gate: gate.clone() })).await;
    }
    register.start().await;
}

struct Hooks {
    gate: Arc<Gate>,
}

#[async_trait]
impl Handler for Hooks {
    async fn hook(&self, parameter: &Parameter, before: Option<HookResult>) -> ReturnType {
        match parameter {
            Parameter::ClientAuthenticate(info) => {
                let will = info.last_will();
                let claim = Claim {
                    client_id: &info.id().client_id,
                    user_name: info.username().map(|name| &**name),
                    password: info.password().map(|password| &**password),
                    will_topic: will.as_ref().map(will_topic),
                };
                // Never a superuser: those pass by the access checks.
                let result = if self.gate.authenticate(claim).await {
                    AuthResult::Allow(false, None)
                } else {
                    AuthResult::NotAuthorized
                };
                (false, Some(HookResult::AuthResult(result)))
            }
            Parameter::ClientSubscribeCheckAcl(session, subscribe) => {
                let client_id = &session.id.client_id;
                let result = if self.gate.may_subscribe(client_id, &subscribe.topic_filter) {
                    SubscribeAclResult::new_success(subscribe.opts.qos(), None)
                } else {
                    SubscribeAclResult::new_failure(SubscribeAckReason::NotAuthorized)
                };
                (false, Some(HookResult::SubscribeAclResult(result)))
            }
            Parameter::MessagePublishCheckAcl(session, publish) => {
                let client_id = &session.id.client_id;
                let verdict = self
                    .gate
                    .publish(client_id, &publish.inner.topic, &publish.inner.payload)
                    .await;
                (false, Some(HookResult::PublishAclResult(answer(verdict))))
            }
            Parameter::ClientConnected(session) => {
                self.gate.connected(&session.id.client_id, connection(&session.id));
                (true, before)
            }
            Parameter::ClientDisconnected(session, reason) => {
                let reason = describe(reason);
                self.gate.disconnected(&session.id.client_id, connection(&session.id), &reason);
                (true, before)
            }
            _ => (true, before),
        }
    }
}

/// Says why a connection ended, without the details of a good-bye.
fn describe(reason: &Reason) -> String {
    let text = reason.to_string();
    if text.starts_with("Disconnect(") { "the client said good-bye".to_owned() } else { text }
}

fn will_topic<'a>(will: &LastWill<'a>) -> &'a str {
    match will {
        LastWill::V3(will) => &will.topic,
        LastWill::V5(will) => &will.topic,
    }
}

fn connection(id: &Id) -> Connection {
    Connection { peer: id.remote_addr, since_ms: id.create_time }
}

/// "No matching subscribers" is a good acknowledgement (MQTT 5 section 3.4.2.1; in 3.1.1 there is
/// but one) after which the broker looks for no subscribers: devices do not hear each other.
fn answer(verdict: Verdict) -> PublishAclResult {
    match verdict {
        Verdict::Acknowledge => PublishAclResult(PublishResult::reason_code(
            PublishAckReason::NoMatchingSubscribers,
            None,
            false,
        )),
        Verdict::Close => PublishAclResult::rejected(true, None),
    }
}
