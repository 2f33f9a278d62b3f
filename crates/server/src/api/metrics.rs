//! Measurements in the text format of Prometheus, version 0.0.4.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::{Context, Problem};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Gives counts and sizes to Prometheus.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(context): State<Context>) -> Result<Response, Problem> {
    let totals = context.store.totals().await?;
    let (counters, mqtt) = (context.ingest.counters(), &context.mqtt);
    let since_start = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let mut text = String::new();
    let mut put = |name: &str, kind: &str, help: &str, value: u64| {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "# HELP stonechat_{name} {help}\n# TYPE stonechat_{name} {kind}\nstonechat_{name} {value}\n"
        );
    };
    put("devices", "gauge", "Registered devices.", totals.devices);
    put("devices_online", "gauge", "Connected devices.", context.presence.online() as u64);
    put("alarms_open", "gauge", "Alarms that nobody has seen.", totals.alarms_open);
    put(
        "alarms_acknowledged",
        "gauge",
        "Seen alarms whose cause remains.",
        totals.alarms_acknowledged,
    );
    put(
        "messages_stored_total",
        "counter",
        "Messages stored since the start.",
        since_start(&counters.stored),
    );
    put(
        "messages_duplicate_total",
        "counter",
        "Messages that came in again.",
        since_start(&counters.duplicates),
    );
    put(
        "messages_rejected_total",
        "counter",
        "Messages that can never be stored.",
        since_start(&counters.rejected),
    );
    put(
        "messages_failed_total",
        "counter",
        "Messages not stored, as the store failed.",
        since_start(&counters.failed),
    );
    put(
        "readings_rejected_total",
        "counter",
        "Readings beyond a device's most channels.",
        since_start(&counters.rejected_readings),
    );
    put(
        "messages_clock_replaced_total",
        "counter",
        "Messages of devices without a clock.",
        since_start(&counters.clock_replaced),
    );
    for (name, help, counter) in [
        ("turned_away", "Connections closed at once, as there are too many.", &mqtt.turned_away),
        ("handshakes_failed", "Handshakes that were slow or no MQTT.", &mqtt.handshakes_failed),
        ("refused", "Clients that are not who they claim to be.", &mqtt.refused),
        ("faults", "Connections that ended as the client broke the rules.", &mqtt.faults),
    ] {
        put(&format!("mqtt_{name}_total"), "counter", help, since_start(counter));
    }
    if let Some(legacy) = &context.legacy {
        for (name, help, counter) in [
            ("taken", "Old packets taken in.", &legacy.taken),
            ("undecryptable", "Old ciphertexts that no sender made.", &legacy.undecryptable),
            ("malformed", "Old ciphertexts without a packet.", &legacy.malformed),
            ("unregistered", "Old packets of unregistered numbers.", &legacy.unregistered),
            ("failed", "Old packets that were not stored.", &legacy.failed),
            ("truncated", "Connections of old packets that ended too early.", &legacy.truncated),
            ("refused", "Connections of old packets beyond the most.", &legacy.refused),
            ("keys_sent", "Public keys handed out for old packets.", &legacy.keys_sent),
        ] {
            put(&format!("legacy_{name}_total"), "counter", help, since_start(counter));
        }
    }
    put("readings_stored", "gauge", "Readings ever stored.", totals.readings);
    put("storage_bytes", "gauge", "Bytes on disk.", totals.storage_bytes);
    if let Some(spool) = context.store.spool() {
        put("spool_messages", "gauge", "Messages on disk for the database.", spool.messages);
        put("spool_bytes", "gauge", "Bytes of these messages.", spool.bytes);
        put("spool_bytes_max", "gauge", "The most bytes that the spool takes.", spool.bytes_max);
        put("spool_in_total", "counter", "Messages put into the spool.", spool.spooled);
        put("spool_out_total", "counter", "Messages of the spool now stored.", spool.drained);
        put("spool_refused_total", "counter", "Messages without room there.", spool.refused);
    }
    put("live_clients", "gauge", "Clients that watch live.", context.hub.watchers() as u64);
    let access = context.access.counters();
    let (requests, sign_ins, passwords) = context.access.limited();
    put("sign_ins_total", "counter", "Sign-ins that succeeded.", since_start(&access.signed_in));
    put(
        "sign_ins_refused_total",
        "counter",
        "Sign-ins with a wrong name, password or link.",
        since_start(&access.refused),
    );
    put("sign_ins_limited_total", "counter", "Sign-ins refused as too frequent.", sign_ins);
    put(
        "passwords_turned_away_total",
        "counter",
        "Passwords not checked as too many wait.",
        passwords,
    );
    put(
        "passwords_checked_total",
        "counter",
        "Hashes of passwords computed.",
        context.access.password_checks(),
    );
    put("requests_limited_total", "counter", "Requests refused as too frequent.", requests);
    put(
        "requests_unauthorised_total",
        "counter",
        "Requests without the credentials they need.",
        since_start(&access.unauthorised),
    );
    put(
        "requests_forbidden_total",
        "counter",
        "Requests of somebody who may not do that.",
        since_start(&access.forbidden),
    );
    put("start_time_milliseconds", "gauge", "When the server started.", context.started_ms as u64);
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
