//! Readings by HTTP, latent vectors, commands, and the mark of what nobody made sure of.

use super::*;
use crate::identity::DeviceEntry;
use crate::ingest::{Arrival, Outcome, Route};
use crate::store::ReadingsQuery;

impl Site {
    /// Registers a device and returns its token.
    async fn device(&self, name: &str) -> String {
        let id = DeviceId::parse(name).expect("legal");
        let token = Registry::of(self.context.store.clone()).add(&id).await.expect("new");
        self.context.directory.refresh().await.expect("own store");
        token.reveal().to_owned()
    }

    /// Posts as a device does: by a foreign name, without an account.
    async fn send_as(
        &self,
        path: &str,
        token: Option<&str>,
        content_type: &str,
        body: &[u8],
    ) -> (StatusCode, Value) {
        let mut request = Request::post(path)
            .header(header::HOST, "localhost:8080")
            .header(header::CONTENT_TYPE, content_type);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response =
            self.send_bare(request.body(Body::from(body.to_vec())).expect("legal")).await;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
        }
        (status, json_of(response).await)
    }

    async fn values(&self, device: &str, channel: &str) -> Vec<f64> {
        let query = ReadingsQuery {
            device: device.into(),
            channels: vec![channel.into()],
            from_ms: 0,
            to_ms: i64::MAX,
            points_max: 100,
        };
        let series = self.context.store.readings(query).await.expect("readable");
        series.into_iter().flat_map(|series| series.points).map(|point| point.1).collect()
    }
}

const PATH: &str = "/api/v1/devices/pump/readings";

#[tokio::test]
async fn readings_come_in_by_http_in_three_forms() {
    let site = site().await;
    let token = site.device("pump").await;
    let post = async |content_type: &str, body: &[u8]| {
        site.send_as(PATH, Some(&token), content_type, body).await.0
    };
    assert_eq!(post("application/json", br#"{"a": 1.5}"#).await, StatusCode::NO_CONTENT);
    let pack = br#"[{"bn":"pump/","n":"a","v":2.5}]"#;
    assert_eq!(post("application/senml+json", pack).await, StatusCode::NO_CONTENT);
    // [{0: "a", 2: 3.5}], RFC 8428 section 6.
    let cbor = b"\x81\xa2\x00\x61a\x02\xf9\x43\x00";
    assert_eq!(post("application/senml+cbor", cbor).await, StatusCode::NO_CONTENT);
    assert_eq!(site.values("pump", "a").await, [1.5, 2.5, 3.5]);
    // What brings its own time counts once.
    let time_ms = now_ms() - 5_000;
    let timed = format!(r#"{{"b": 1, "time": {}}}"#, time_ms as f64 / 1_000.0);
    for _ in 0..2 {
        assert_eq!(post("application/json", timed.as_bytes()).await, StatusCode::NO_CONTENT);
    }
    assert_eq!(site.values("pump", "b").await, [1.0]);
}

#[tokio::test]
async fn only_a_devices_own_token_or_a_gateways_sends_for_it() {
    let site = site().await;
    let (pump, fan) = (site.device("pump").await, site.device("fan").await);
    let tank = DeviceEntry {
        number: Some(7),
        ..DeviceEntry::new(DeviceId::parse("tank").expect("legal"), now_ms())
    };
    Registry::of(site.context.store.clone()).insert(tank).await.expect("new");
    site.context.directory.refresh().await.expect("own store");
    let gateway = token_of(&site.context.access, "gateway", &[Scope::Ingest]).await;
    let reader = token_of(&site.context.access, "reader", &[Scope::Read]).await;
    let body = br#"{"a": 1}"#;
    for (device, token, expected) in [
        ("pump", Some(pump.as_str()), StatusCode::NO_CONTENT),
        ("pump", Some(gateway.as_str()), StatusCode::NO_CONTENT),
        ("pump", Some(fan.as_str()), StatusCode::UNAUTHORIZED),
        ("pump", Some(""), StatusCode::UNAUTHORIZED),
        ("pump", None, StatusCode::UNAUTHORIZED),
        ("none", Some(pump.as_str()), StatusCode::UNAUTHORIZED),
        ("none", Some(gateway.as_str()), StatusCode::NOT_FOUND),
        ("pump", Some(reader.as_str()), StatusCode::FORBIDDEN),
        // What sends packets that prove nothing cannot send in another way, by nobody's token.
        ("tank", Some(gateway.as_str()), StatusCode::NOT_FOUND),
        ("tank", Some(pump.as_str()), StatusCode::UNAUTHORIZED),
    ] {
        let path = format!("/api/v1/devices/{device}/readings");
        let (status, _) = site.send_as(&path, token, "application/json", body).await;
        assert_eq!(status, expected, "{device} {token:?}");
    }
    assert_eq!(site.values("pump", "a").await, [1.0, 1.0]);
    // A revoked token is worth nothing.
    let id = DeviceId::parse("pump").expect("legal");
    Registry::of(site.context.store.clone()).revoke(&id).await.expect("there");
    site.context.directory.refresh().await.expect("own store");
    let (status, _) = site.send_as(PATH, Some(&pump), "application/json", body).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_is_wrong_with_readings_is_told() {
    let site = site().await;
    let token = site.device("pump").await;
    let long = vec![b' '; crate::limits::REQUEST_BODY_LEN_MAX + 1];
    for (content_type, body, expected) in [
        ("text/html", &b"{}"[..], StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("", b"{}", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("application/json", b"", StatusCode::BAD_REQUEST),
        ("application/json", b"{}", StatusCode::BAD_REQUEST),
        ("application/json", br#"{"a": NaN}"#, StatusCode::BAD_REQUEST),
        ("application/json", br#"{"unauthenticated/a": 1}"#, StatusCode::BAD_REQUEST),
        ("application/senml+json", br#"{"a": 1}"#, StatusCode::BAD_REQUEST),
        ("application/senml+cbor", br#"{"a": 1}"#, StatusCode::BAD_REQUEST),
        ("application/json", &long, StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let (status, problem) = site.send_as(PATH, Some(&token), content_type, body).await;
        assert_eq!(status, expected, "{content_type}: {problem}");
        assert_eq!(problem["status"], expected.as_u16(), "{content_type}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
    }
    assert!(site.context.store.channels("pump").await.expect("readable").is_empty());
}

#[tokio::test]
async fn the_mark_of_old_packets_reaches_those_who_read() {
    let site = site().await;
    site.with_device("tank").await;
    let golden = "2404d200002000ff07d000d57779376231686d62703207e9080712093208805c";
    let plain: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&golden[at * 2..at * 2 + 2], 16).expect("hexadecimal"))
        .collect();
    let device = DeviceId::parse("tank").expect("legal");
    let route = Route::Packet { digest: [1; 16], utc_offset: "+09:00".parse().expect("legal") };
    let arrival = Arrival { device: &device, route, payload: &plain };
    assert_eq!(site.context.ingest.take(arrival).await.expect("stored"), Outcome::Stored);
    let (_, body) = site.get("/api/v1/devices/tank").await;
    let channels = body["channels"].as_array().expect("list");
    assert_eq!(channels.len(), 10);
    for channel in channels {
        let is_marked = channel["name"].as_str().expect("text").starts_with("unauthenticated/");
        assert_eq!(channel["authenticated"], !is_marked, "{channel}");
    }
    let question = "channel=unauthenticated/air_temperature&channel=score&from_ms=0";
    let (_, body) = site.get(&format!("/api/v1/devices/tank/readings?{question}")).await;
    for series in body["series"].as_array().expect("list") {
        assert_eq!(series["authenticated"], series["channel"] == "score", "{series}");
    }
    assert_eq!(body["series"].as_array().expect("list").len(), 2);
}

#[tokio::test]
async fn latent_vectors_need_a_token_and_a_decoder() {
    let site = site().await;
    let token = site.device("pump").await;
    let body = br#"{"latent_vector": [0.5, 0.5]}"#;
    let ask = async |path: &str, token: Option<&str>| {
        site.send_as(path, token, "application/json", body).await
    };
    let (status, answer) = ask("/decode?device=pump", None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(answer["error"].is_string(), "{answer}");
    assert_eq!(ask("/decode", None).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("/decode", Some(&token)).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(ask("/decode?device=none", Some(&token)).await.0, StatusCode::UNAUTHORIZED);
    let (status, answer) = ask("/decode?device=pump", Some(&token)).await;
    assert_eq!(
        (status, &answer),
        (StatusCode::NOT_FOUND, &json!({"error": "The device has no decoder"}))
    );
}

#[tokio::test]
async fn a_command_needs_a_device_that_is_connected() {
    let site = site().await;
    site.device("pump").await;
    let path = "/api/v1/devices/pump/commands";
    let (status, problem) = site.post(path, r#"{"method": "setState", "params": true}"#).await;
    assert_eq!((status, &problem["status"]), (StatusCode::CONFLICT, &json!(409)));
    assert_eq!(site.post(path, r#"{"method": ""}"#).await.0, StatusCode::BAD_REQUEST);
    assert!(site.post(path, r#"{"methods": "x"}"#).await.0.is_client_error());
    let elsewhere = "/api/v1/devices/none/commands";
    assert_eq!(site.post(elsewhere, r#"{"method": "x"}"#).await.0, StatusCode::NOT_FOUND);
}
