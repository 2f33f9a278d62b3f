use proptest::prelude::*;
use stonechat_core::wire::packet::{LocalTime, Packet, Position};
use stonechat_core::wire::senml::{Record, Value};
use stonechat_core::wire::uplink::{self, MessageId};

use super::*;

const NOW_MS: i64 = 1_800_000_000_000;

fn payload(base_name: &str, base_time_s: f64, records: &[(&str, Value<'_>, f64)]) -> Vec<u8> {
    let mut buffer = [0; 1_024];
    let id = MessageId { session: 7, sequence: 3 };
    let mut pack = uplink::open(&mut buffer, base_name, base_time_s, id).expect("room");
    for &(name, value, time_s) in records {
        pack.push(&Record { name, unit: "Cel", value, time_s }).expect("room");
    }
    let len = pack.close();
    buffer[..len].to_vec()
}

fn take(topic: &str, payload: &[u8]) -> Result<Checked, Rejection> {
    let device = DeviceId::parse("pump").expect("legal");
    message(Arrival { device: &device, route: Route::Topic(topic), payload }, None, NOW_MS)
}

#[test]
fn a_message_becomes_readings() {
    let base_s = NOW_MS as f64 / 1_000.0;
    let records = [
        ("temperature", Value::Number(21.5), -1.0),
        ("anomaly", Value::Boolean(true), 0.0),
        ("detector", Value::Text("fan 12ab"), 0.0),
    ];
    let bytes = payload("pump/", base_s, &records);
    let Checked { message, clock_replaced } = take("stonechat/v1/pump/up", &bytes).expect("legal");
    assert!(!clock_replaced);
    assert_eq!(message.key, MessageId { session: 7, sequence: 3 }.into());
    assert_eq!(message.detector.as_deref(), Some("fan 12ab"));
    let seen: Vec<_> = message.readings.iter().map(|r| (&*r.channel, r.time_ms, r.value)).collect();
    assert_eq!(seen, [("temperature", NOW_MS - 1_000, 21.5), ("anomaly", NOW_MS, 1.0)]);
}

#[test]
fn a_device_without_clock_gets_the_servers() {
    let records = [("a", Value::Number(1.0), 10.0), ("a", Value::Number(2.0), 12.0)];
    let bytes = payload("pump/", 0.0, &records);
    let Checked { message, clock_replaced } = take("stonechat/v1/pump/up", &bytes).expect("legal");
    assert!(clock_replaced);
    let times: Vec<_> = message.readings.iter().map(|r| r.time_ms).collect();
    assert_eq!(times, [NOW_MS - 2_000, NOW_MS]);
}

#[test]
fn foreign_names_and_topics_are_rejected() {
    let own = payload("pump/", 2e9, &[]);
    let foreign = payload("fan/", 2e9, &[]);
    assert_eq!(take("stonechat/v1/pump/down", &own).err(), Some(Rejection::Topic));
    assert_eq!(take("stonechat/v1/fan/up", &own).err(), Some(Rejection::Topic));
    assert_eq!(take("stonechat/v1/pump/up", &foreign).err(), Some(Rejection::ForeignDevice));
    let long = vec![0; MESSAGE_LEN_MAX + 1];
    assert_eq!(take("stonechat/v1/pump/up", &long).err(), Some(Rejection::TooLong));
}

fn take_by(route: Route<'_>, chosen: Option<&str>, payload: &[u8]) -> Result<Message, Rejection> {
    let device = DeviceId::parse("pump").expect("legal");
    let chosen = chosen.map(|name| codec::named(name).expect("there"));
    let arrival = Arrival { device: &device, route, payload };
    message(arrival, chosen, NOW_MS).map(|checked| checked.message)
}

#[test]
fn route_and_entry_decide_on_the_codec() {
    let own = payload("pump/", 1.8e9, &[("a", Value::Number(1.0), 0.0)]);
    let json = br#"{"a": 1}"#;
    let up = Route::Topic("stonechat/v1/pump/up");
    assert!(take_by(up, None, &own).is_ok());
    assert!(take_by(up, None, json).is_err());
    assert!(take_by(up, Some("flat-json"), json).is_ok());
    assert!(take_by(up, Some("flat-json"), &own).is_err());
    assert!(take_by(Route::Sealed, None, &own).is_ok());
    assert!(take_by(Route::Sealed, Some("flat-json"), json).is_ok());
    let named = Route::Topic("stonechat/v1/pump/up/flat-json");
    assert!(take_by(named, Some("raw"), json).is_ok());
    for topic in ["v1/devices/me/telemetry", "v1/devices/me/attributes"] {
        assert!(take_by(Route::Topic(topic), None, json).is_ok());
    }
    for topic in [
        "stonechat/v1/pump/up/",
        "stonechat/v1/pump/up/pigeon",
        "stonechat/v1/fan/up/flat-json",
        "v1/devices/me/rpc/request/1",
        "v1/devices/pump/telemetry",
    ] {
        assert_eq!(take_by(Route::Topic(topic), None, json), Err(Rejection::Topic), "{topic}");
    }
    let http = |content_type| Route::Http { content_type };
    assert!(take_by(http("application/json"), None, json).is_ok());
    assert!(take_by(http("application/senml+cbor"), None, &own).is_ok());
    assert_eq!(take_by(http("text/html"), None, json), Err(Rejection::ContentType));
}

#[test]
fn what_has_its_own_times_is_known_again() {
    let key = |codec: &str, text: &str| {
        let topic = format!("stonechat/v1/pump/up/{codec}");
        take_by(Route::Topic(&topic), None, text.as_bytes()).expect("legal").key
    };
    let timed = r#"{"a": 1, "time": 1754557790}"#;
    assert_eq!(key("flat-json", timed), key("flat-json", timed));
    assert!(matches!(key("flat-json", timed), MessageKey::Digest(_)));
    assert_ne!(key("flat-json", timed), key("flat-json", r#"{"a": 2, "time": 1754557790}"#));
    assert_ne!(key("flat-json", timed), key("thingsboard", timed), "another codec");
    assert_eq!(key("flat-json", r#"{"a": 1}"#), MessageKey::Unkeyed);
    assert_eq!(key("senml-json", r#"[{"n":"a","v":1,"t":-5}]"#), MessageKey::Unkeyed);
    let digest = [7; 16];
    let golden = golden_packet();
    let route = Route::Packet { digest, utc_offset: UtcOffset::default() };
    assert_eq!(take_by(route, None, &golden).expect("legal").key, MessageKey::Digest(digest));
}

#[test]
fn the_mark_of_old_packets_is_theirs_alone() {
    let name = "unauthenticated/air_temperature";
    let own = payload("pump/", 1.8e9, &[(name, Value::Number(1.0), 0.0)]);
    let up = Route::Topic("stonechat/v1/pump/up");
    assert_eq!(take_by(up, None, &own), Err(Rejection::ReservedName));
    let json = format!(r#"{{"{name}": 1}}"#);
    let senml = format!(r#"[{{"n":"pump/{name}","v":1}}]"#);
    for (codec, text) in [("flat-json", &json), ("thingsboard", &json), ("senml-json", &senml)] {
        let topic = format!("stonechat/v1/pump/up/{codec}");
        let taken = take_by(Route::Topic(&topic), None, text.as_bytes());
        assert_eq!(taken, Err(Rejection::ReservedName), "{codec}");
    }
    let route = Route::Packet { digest: [0; 16], utc_offset: UtcOffset::default() };
    let message = take_by(route, None, &golden_packet()).expect("legal");
    assert!(message.readings.iter().all(|r| r.channel.starts_with(UNAUTHENTICATED_PREFIX)));
}

#[test]
fn the_devices_name_before_a_channels_is_left_out() {
    let text = r#"[{"bn":"pump/","n":"a","v":1},{"bn":"","n":"fan/b","v":2},{"n":"pump","v":3}]"#;
    let route = Route::Http { content_type: "application/senml+json" };
    let message = take_by(route, None, text.as_bytes()).expect("legal");
    let names: Vec<_> = message.readings.iter().map(|r| &*r.channel).collect();
    assert_eq!(names, ["a", "fan/b", "pump"]);
}

proptest! {
    #[test]
    fn garbage_is_rejected_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = take("stonechat/v1/pump/up", &bytes);
    }

    #[test]
    fn a_damaged_message_never_panics(at in 0_usize..1_000, byte in any::<u8>()) {
        let mut bytes = payload("pump/", 1e300, &[("a", Value::Number(1.0), -1e300)]);
        let len = bytes.len();
        bytes[at % len] = byte;
        let _ = take("stonechat/v1/pump/up", &bytes);
    }
}

fn golden_packet() -> [u8; 32] {
    let time = LocalTime::new(2025, [8, 7, 18, 9, 50]).expect("a date");
    let position = Position { latitude_deg: 35.179_6, longitude_deg: 129.075_6 };
    let packet = Packet {
        number: 1_234,
        air_temperature_c: 25.5,
        dissolved_oxygen_mg_per_l: 20.0,
        water_temperature_c: 21.3,
        position,
        time,
    };
    packet.write().expect("in range")
}
