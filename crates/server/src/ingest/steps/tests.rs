use proptest::prelude::*;
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
