//! The routes, asked without a network.

mod access;
mod ingest;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode, header};
use futures_util::StreamExt;
use serde_json::{Value, json};
use stonechat_core::wire::uplink::MessageId;
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt;

use super::{Context, Hosts, document, router};
use crate::access::{Access, Actor, NewToken, Scope};
use crate::clock::now_ms;
use crate::codec::latent::Decoders;
use crate::device::DeviceId;
use crate::identity::{Directory, Registry};
use crate::ingest::Ingest;
use crate::live::Hub;
use crate::presence::Presence;
use crate::store::{Message, Reading, Retention, SqliteStore, Store};

struct Site {
    context: Context,
    /// An API token that may everything.
    token: String,
    _ending: watch::Sender<bool>,
    _folder: TempDir,
}

async fn site() -> Site {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(folder.path(), Retention::default()).expect("own folder"));
    let (hub, presence) = (Hub::default(), Arc::new(Presence::default()));
    let ingest = Arc::new(Ingest::new(store.clone(), hub.clone(), presence.clone()));
    let (sender, ending) = watch::channel(false);
    let access = Arc::new(Access::new(store.clone()));
    let token = token_of(&access, "test", &Scope::ALL).await;
    let directory = Directory::start(store.clone()).await.expect("own store");
    let context = Context {
        directory,
        downlink: None,
        decoders: Arc::new(Decoders::of(folder.path())),
        legacy: None,
        mqtt: Arc::default(),
        store,
        access,
        metrics_on_loopback: false,
        hub,
        presence,
        ingest,
        hosts: Arc::new(Hosts::default()),
        enroller: None,
        started_ms: now_ms(),
        silent_after_ms: 60_000,
        ending,
    };
    Site { context, token, _ending: sender, _folder: folder }
}

async fn token_of(access: &Access, name: &str, scopes: &[Scope]) -> String {
    let new = NewToken { name: name.to_owned(), scopes: scopes.to_vec(), expires_ms: None };
    access.add_token(&Actor::server(), None, new, now_ms()).await.expect("new").0
}

impl Site {
    /// Registers a device and has it send three windows, the last one anomalous.
    async fn with_device(&self, name: &str) {
        let id = DeviceId::parse(name).expect("legal");
        Registry::of(self.context.store.clone()).add(&id).await.expect("new");
        let now_ms = now_ms();
        for sequence in 0..3_u32 {
            let time_ms = now_ms - 2_000 + i64::from(sequence) * 1_000;
            let reading = |channel: &str, unit: &str, value| Reading {
                channel: Arc::from(channel),
                unit: Arc::from(unit),
                time_ms,
                value,
            };
            let message = Message {
                device: id.clone(),
                key: MessageId { session: 1, sequence }.into(),
                received_ms: time_ms,
                readings: vec![
                    reading("temperature", "Cel", 20.0 + f64::from(sequence)),
                    reading("score", "", f64::from(sequence)),
                    reading("threshold", "", 1.5),
                    reading("anomaly", "", f64::from(u8::from(sequence == 2))),
                ],
                detector: Some("fan 0badcafe".to_owned()),
            };
            self.context.store.append(message).await.expect("stored");
        }
    }

    /// Asks as a program that may everything.
    async fn send(&self, mut request: Request<Body>) -> Response<Body> {
        let token = format!("Bearer {}", self.token).parse().expect("legal");
        request.headers_mut().insert(header::AUTHORIZATION, token);
        self.send_bare(request).await
    }

    async fn send_bare(&self, request: Request<Body>) -> Response<Body> {
        router(self.context.clone()).oneshot(request).await.expect("routes do not fail")
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let request = Request::get(path).header(header::HOST, "localhost:8080");
        let response = self.send(request.body(Body::empty()).expect("legal")).await;
        let status = response.status();
        (status, json_of(response).await)
    }

    async fn post(&self, path: &str, body: &str) -> (StatusCode, Value) {
        let request = Request::post(path)
            .header(header::HOST, "localhost:8080")
            .header(header::CONTENT_TYPE, "application/json");
        let response = self.send(request.body(Body::from(body.to_owned())).expect("legal")).await;
        let status = response.status();
        (status, json_of(response).await)
    }
}

async fn json_of(response: Response<Body>) -> Value {
    let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("whole");
    serde_json::from_slice(&bytes).unwrap_or(Value::Null)
}

#[tokio::test]
async fn the_status_counts_what_is_there() {
    let site = site().await;
    site.with_device("pump").await;
    let (status, body) = site.get("/api/v1/status").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["devices"], 1);
    assert_eq!(body["devices_anomalous"], 1);
    assert_eq!(body["messages_stored"], 3);
    assert_eq!(body["readings_stored"], 12);
    assert_eq!(body["alarms_open"], 1);
    assert!(body["storage_bytes"].as_u64().expect("number") > 0);
}

#[tokio::test]
async fn devices_are_listed_searched_and_paged() {
    let site = site().await;
    for name in ["fan-1", "fan-2", "Pump-1"] {
        site.with_device(name).await;
    }
    let new = DeviceId::parse("new").expect("legal");
    Registry::of(site.context.store.clone()).add(&new).await.expect("new");
    let ids = |body: &Value| -> Vec<String> {
        let devices = body["devices"].as_array().expect("list");
        devices.iter().map(|d| d["id"].as_str().expect("text").to_owned()).collect()
    };
    let (_, all) = site.get("/api/v1/devices").await;
    assert_eq!(ids(&all), ["Pump-1", "fan-1", "fan-2", "new"]);
    assert_eq!((&all["next"], &all["total"]), (&Value::Null, &json!(4)));
    let device = &all["devices"][0];
    assert_eq!(device["state"], "anomaly");
    assert_eq!((&device["score"], &device["threshold"]), (&json!(2.0), &json!(1.5)));
    assert_eq!(device["detector"], "fan 0badcafe");
    assert_eq!(device["recent_scores"].as_array().expect("list").len(), 3);
    let (_, first) = site.get("/api/v1/devices?limit=2").await;
    assert_eq!(
        (ids(&first), &first["next"]),
        (vec!["Pump-1".into(), "fan-1".into()], &json!("fan-1"))
    );
    let (_, second) = site.get("/api/v1/devices?limit=2&after=fan-1").await;
    assert_eq!((ids(&second), &second["next"]), (vec!["fan-2".into(), "new".into()], &Value::Null));
    assert_eq!(ids(&site.get("/api/v1/devices?search=PUMP").await.1), ["Pump-1"]);
    assert_eq!(ids(&site.get("/api/v1/devices?state=never_seen").await.1), ["new"]);
    for wrong in ["state=odd", "limit=x", "serach=pump"] {
        let (status, problem) = site.get(&format!("/api/v1/devices?{wrong}")).await;
        assert_eq!((status, &problem["status"]), (StatusCode::BAD_REQUEST, &json!(400)), "{wrong}");
    }
    let (_, one) = site.get("/api/v1/devices/fan-1").await;
    let channels: Vec<_> =
        one["channels"].as_array().expect("list").iter().map(|c| &c["name"]).collect();
    assert_eq!(channels, ["anomaly", "score", "temperature", "threshold"]);
    assert_eq!(one["channels"][2]["unit"], "Cel");
    assert_eq!(one["channels"][1]["unit"], Value::Null);
    let (status, problem) = site.get("/api/v1/devices/none").await;
    assert_eq!((status, &problem["title"]), (StatusCode::NOT_FOUND, &json!("Not Found")));
}

#[tokio::test]
async fn readings_are_found_by_channel_and_time() {
    let site = site().await;
    site.with_device("pump").await;
    let (status, body) =
        site.get("/api/v1/devices/pump/readings?channel=temperature&channel=score").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        body["to_ms"].as_i64().expect("number") - body["from_ms"].as_i64().expect("number"),
        600_000
    );
    let series = body["series"].as_array().expect("list");
    assert_eq!(series.iter().map(|s| &s["channel"]).collect::<Vec<_>>(), ["score", "temperature"]);
    assert_eq!(series[1]["points"].as_array().expect("list").len(), 3);
    assert_eq!(series[1]["points"][0][1], 20.0);
    let from_ms = series[1]["points"][1][0].as_i64().expect("number");
    let path =
        format!("/api/v1/devices/pump/readings?channel=score&from_ms={from_ms}&to_ms={from_ms}");
    let (_, one) = site.get(&path).await;
    assert_eq!(one["series"][0]["points"], json!([[from_ms, 1.0]]));
    for wrong in ["from_ms=2&to_ms=1", "from_ms=x", "chanel=a"] {
        let (status, _) = site.get(&format!("/api/v1/devices/pump/readings?{wrong}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    assert_eq!(site.get("/api/v1/devices/none/readings").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_alarm_is_acknowledged_and_cleared() {
    let site = site().await;
    for name in ["fan", "pump"] {
        site.with_device(name).await;
    }
    let (_, page) = site.get("/api/v1/alarms?state=open&state=acknowledged&limit=1").await;
    assert_eq!(page["alarms"][0]["device"], "pump");
    let after = page["next"].as_str().expect("more").to_owned();
    let (_, rest) = site.get(&format!("/api/v1/alarms?after={after}")).await;
    assert_eq!((&rest["alarms"][0]["device"], &rest["next"]), (&json!("fan"), &Value::Null));
    let id = &page["alarms"][0]["id"];
    let (status, alarm) =
        site.post(&format!("/api/v1/alarms/{id}/acknowledge"), r#"{"note": "on my way"}"#).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&alarm["state"], &alarm["note"]), (&json!("acknowledged"), &json!("on my way")));
    assert_eq!(site.get(&format!("/api/v1/alarms/{id}")).await.1, alarm);
    let (status, _) = site.post(&format!("/api/v1/alarms/{id}/acknowledge"), "{}").await;
    assert_eq!(status, StatusCode::CONFLICT);
    let (status, alarm) = site.post(&format!("/api/v1/alarms/{id}/clear"), "").await;
    assert_eq!((status, &alarm["state"]), (StatusCode::OK, &json!("cleared")));
    let long = json!({ "note": "x".repeat(501) }).to_string();
    for (path, body, expected) in [
        ("/api/v1/alarms/999/clear", "{}", StatusCode::NOT_FOUND),
        ("/api/v1/alarms/x/clear", "{}", StatusCode::NOT_FOUND),
        (&format!("/api/v1/alarms/{id}/clear"), "{", StatusCode::BAD_REQUEST),
        (&format!("/api/v1/alarms/{id}/clear"), r#"{"nota": ""}"#, StatusCode::BAD_REQUEST),
        (&format!("/api/v1/alarms/{id}/clear"), &long, StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(site.post(path, body).await.0, expected, "{path} {body}");
    }
    assert_eq!(site.get("/api/v1/alarms?state=odd").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn live_events_are_those_that_were_asked_for() {
    let site = site().await;
    let request = Request::get("/api/v1/live?device=pump").header(header::HOST, "localhost");
    let response = site.send(request.body(Body::empty()).expect("legal")).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let reading = |value| Reading {
        channel: Arc::from("temperature"),
        unit: Arc::from("Cel"),
        time_ms: 5,
        value,
    };
    site.context.hub.readings("fan", &[reading(1.0)]);
    site.context.hub.readings("pump", &[reading(2.0)]);
    let mut body = response.into_body().into_data_stream();
    let first = body.next().await.expect("an event").expect("whole");
    let expected = "event: readings\ndata: {\"device\":\"pump\",\"readings\":[{\"channel\":\"temperature\",\"unit\":\"Cel\",\"time_ms\":5,\"value\":2.0}]}\n\n";
    assert_eq!(std::str::from_utf8(&first).expect("text"), expected);
    site._ending.send_replace(true);
    assert!(body.next().await.is_none(), "the stream ends with the server");
}

#[tokio::test]
async fn metrics_and_probes_answer() {
    let site = site().await;
    site.with_device("pump").await;
    let request = Request::get("/metrics").header(header::HOST, "localhost");
    let response = site.send(request.body(Body::empty()).expect("legal")).await;
    let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("whole");
    let text = std::str::from_utf8(&bytes).expect("text");
    assert!(text.contains("\nstonechat_alarms_open 1\n"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.split_once(' ').expect("name and value");
        assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        value.parse::<f64>().expect("a number");
    }
    assert_eq!(site.get("/health/live").await.0, StatusCode::OK);
    assert_eq!(site.get("/health/ready").await.0, StatusCode::OK);
    site.context.store.close().await;
    assert_eq!(site.get("/health/ready").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(site.get("/health/live").await.0, StatusCode::OK);
}

#[tokio::test]
async fn every_answer_bounds_what_a_browser_does() {
    let site = site().await;
    for path in ["/", "/api/v1/status", "/api/v1/nothing", "/metrics", "/none.js"] {
        let request = Request::get(path).header(header::HOST, "localhost");
        let response = site.send(request.body(Body::empty()).expect("legal")).await;
        let headers = response.headers();
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(policy.contains("default-src 'self'"), "{path}");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
    }
    let request = Request::get("/api/v1/status").header(header::HOST, "evil.example");
    let response = site.send(request.body(Body::empty()).expect("legal")).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    let (status, problem) = site.get("/api/v1/nothing").await;
    assert_eq!((status, &problem["type"]), (StatusCode::NOT_FOUND, &json!("about:blank")));
    let (status, problem) = site.post("/api/v1/status", "{}").await;
    assert_eq!((status, &problem["status"]), (StatusCode::METHOD_NOT_ALLOWED, &json!(405)));
}

/// Names the fields of an answer that its schema does not have, and the other way round.
fn differences(document: &Value, schema: &Value, answer: &Value) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.trim_start_matches('#');
        return differences(document, document.pointer(pointer).expect("a schema"), answer);
    }
    if let Some(all) = schema["allOf"].as_array() {
        let mut merged = json!({ "properties": {} });
        for part in all {
            let part = match part["$ref"].as_str() {
                Some(name) => document.pointer(name.trim_start_matches('#')).expect("a schema"),
                None => part,
            };
            for (name, property) in part["properties"].as_object().expect("properties") {
                merged["properties"][name] = property.clone();
            }
        }
        return differences(document, &merged, answer);
    }
    if let (Some(items), Some(answers)) = (schema.get("items"), answer.as_array()) {
        return answers.iter().flat_map(|answer| differences(document, items, answer)).collect();
    }
    let (Some(properties), Some(fields)) = (schema["properties"].as_object(), answer.as_object())
    else {
        return Vec::new();
    };
    let names: BTreeSet<_> = properties.keys().collect();
    let present: BTreeSet<_> = fields.keys().collect();
    let mut found: Vec<String> =
        names.symmetric_difference(&present).map(|name| (**name).clone()).collect();
    for (name, property) in properties {
        found.extend(differences(document, property, &answer[name]));
    }
    found
}

#[tokio::test]
async fn the_description_fits_the_answers() {
    let site = site().await;
    site.with_device("pump").await;
    let document = serde_json::to_value(document()).expect("JSON");
    for (route, path) in [
        ("/api/v1/status", "/api/v1/status"),
        ("/api/v1/devices", "/api/v1/devices"),
        ("/api/v1/devices/{id}", "/api/v1/devices/pump"),
        ("/api/v1/devices/{id}/readings", "/api/v1/devices/pump/readings"),
        ("/api/v1/alarms", "/api/v1/alarms"),
        ("/api/v1/alarms/{id}", "/api/v1/alarms/1"),
    ] {
        let schema = &document["paths"][route]["get"]["responses"]["200"]["content"]["application/json"]
            ["schema"];
        assert!(schema.is_object(), "{route} has no schema");
        let (status, answer) = site.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert_eq!(differences(&document, schema, &answer), Vec::<String>::new(), "{route}");
    }
    // Every described route exists: it answers with something else than "no such route".
    for (route, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            let path = route.replace("{id}", "pump").replace("{name}", "pump");
            let request = Request::builder()
                .method(method.to_uppercase().as_str())
                .uri(&path)
                .header(header::HOST, "localhost")
                .header(header::CONTENT_TYPE, "application/json");
            let response = site.send(request.body(Body::from("{}")).expect("legal")).await;
            assert_ne!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {route}");
            if response.status() == StatusCode::NOT_FOUND {
                let detail = json_of(response).await["detail"].to_string();
                assert!(!detail.contains("there is nothing"), "{method} {route}: {detail}");
            }
        }
    }
    assert_eq!(site.get("/api/v1/openapi.json").await.1, document);
}
