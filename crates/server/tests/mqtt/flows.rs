//! How a conversation goes: acknowledgements, quality 2, keep-alive, takeover, bounds, the end.

use std::sync::Arc;
use std::time::Duration;

use stonechat_server::mqtt::{Delivery, Undelivered};
use tokio::time::Instant;

use crate::common::{PATIENCE, Site, id, payload, site};
use crate::raw::{
    BOTH, CONNACK, DISCONNECT, Hello, PINGREQ, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Raw,
    SUBSCRIBE, Version, packet, text,
};

// MQTT 5 section 2.4.
const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;
const SHUTTING_DOWN: u8 = 0x8b;
const KEEP_ALIVE_TIMEOUT: u8 = 0x8d;
const TAKEN_OVER: u8 = 0x8e;
const NOT_AUTHORIZED: u8 = 0x87;
const PACKET_ID_NOT_FOUND: u8 = 0x92;
const RECEIVE_MAXIMUM_EXCEEDED: u8 = 0x93;
const TOPIC_ALIAS_INVALID: u8 = 0x94;
const PACKET_TOO_LARGE: u8 = 0x95;
const PAYLOAD_INVALID: u8 = 0x99;
const SUBSCRIPTION_IDS_NOT_SUPPORTED: u8 = 0xa1;

const UP: &str = "stonechat/v1/pump/up";

async fn pump(site: &Site, version: Version) -> Raw {
    let token = site.rotate("pump").await;
    Raw::welcome(site.server.mqtt_addr, version, &Hello::token("pump", token.reveal())).await
}

#[tokio::test]
async fn many_messages_of_one_read_are_acknowledged_in_order_and_stored_once() {
    let site = site().await;
    site.add("pump").await;
    for (number, version) in BOTH.into_iter().enumerate() {
        let mut raw = pump(&site, version).await;
        let first = number as u32 * 1_000;
        let mut bytes = Vec::new();
        for sequence in 0..60 {
            let payload = payload("pump", first + sequence, f64::from(first + sequence));
            bytes.extend(raw.message(PUBLISH | 0b10, UP, 100 + sequence as u16, &payload));
        }
        // Cut anywhere, as TCP may do.
        for part in bytes.chunks(1_000) {
            raw.send_bytes(part).await;
        }
        for sequence in 0..60 {
            let (first, body) = raw.receive().await.expect("an answer");
            assert_eq!((first, &body[..2]), (PUBACK, &(100_u16 + sequence).to_be_bytes()[..]));
        }
        assert_eq!(site.values("pump", "a").await.len(), 60 * (number + 1));
    }
    site.server.shutdown().await;
}

#[tokio::test]
async fn a_message_of_quality_2_is_stored_once_however_often_it_is_sent() {
    let site = site().await;
    site.add("pump").await;
    for (number, version) in BOTH.into_iter().enumerate() {
        let mut raw = pump(&site, version).await;
        // The same packet identifier counts, whatever is in the message.
        for (again, value) in [(0, 1.0), (0b1000, 2.0), (0b1000, 3.0)] {
            let bytes = payload("pump", number as u32 * 10 + value as u32, value);
            raw.publish(PUBLISH | 0b100 | again, UP, 5, &bytes).await;
            let (first, body) = raw.receive().await.expect("an answer");
            assert_eq!((first, &body[..2]), (PUBREC, &[0, 5][..]));
        }
        assert_eq!(site.values("pump", "a").await, vec![1.0; number + 1]);
        raw.send(PUBREL, &[0, 5]).await;
        let (first, body) = raw.receive().await.expect("an answer");
        assert_eq!((first, &body[..2]), (PUBCOMP, &[0, 5][..]));
        // What nobody knows is complete, too.
        raw.send(PUBREL, &[0, 6]).await;
        let (first, body) = raw.receive().await.expect("an answer");
        assert_eq!((first, &body[..2]), (PUBCOMP, &[0, 6][..]));
        if version == Version::V5 {
            assert_eq!(body[2], PACKET_ID_NOT_FOUND);
        }
    }
    site.server.shutdown().await;
}

#[tokio::test]
async fn what_can_never_be_stored_is_answered_so_that_it_does_not_come_again() {
    let site = site().await;
    site.add("pump").await;
    for version in BOTH {
        let mut raw = pump(&site, version).await;
        let expected = if version == Version::V3 { 0 } else { PAYLOAD_INVALID };
        for bytes in [vec![], vec![0xff; 100], payload("fan", 1, 1.0)] {
            assert_eq!(raw.store(UP, 3, &bytes).await, Some(expected));
        }
        raw.publish(PUBLISH | 0b100, UP, 4, &[0xff]).await;
        let (first, body) = raw.receive().await.expect("an answer");
        assert_eq!((first, body.get(2).copied().unwrap_or(0)), (PUBREC, expected));
        raw.ping().await;
    }
    site.server.shutdown().await;
}

#[tokio::test]
async fn malformed_packets_end_the_connection_with_a_reason() {
    let site = site().await;
    site.add("pump").await;
    let mut bad_text = vec![0, 1, 0, 0, 3];
    bad_text.extend([0xff, 0xfe, 0xfd]);
    let matrix: Vec<(Vec<u8>, u8)> = vec![
        (vec![PUBLISH, 0xff, 0xff, 0xff, 0xff, 0x01], MALFORMED),
        (packet(PUBLISH | 0b110, &[0, 1, b'a', 0, 1, 0]), MALFORMED),
        (packet(PUBLISH | 0b1000, &[0, 1, b'a', 0]), MALFORMED),
        (packet(PUBLISH | 0b10, &[0, 1, b'a', 0, 0, 0]), MALFORMED),
        (packet(PUBLISH, &[0, 9, b'a']), MALFORMED),
        (packet(PUBLISH, &[0, 1, b'#', 0]), MALFORMED),
        (packet(PUBLISH, &[0, 1, 0, 0]), MALFORMED),
        (packet(PUBLISH, &[0, 0, 0]), PROTOCOL_ERROR),
        (packet(SUBSCRIBE & 0xf0, &[0, 1, 0, 0, 1, b'a', 0]), MALFORMED),
        (packet(0x00, &[]), MALFORMED),
        (packet(0x80, &[]), MALFORMED),
        (packet(PINGREQ, &[1]), MALFORMED),
        (packet(CONNACK, &[0, 0, 0]), PROTOCOL_ERROR),
        (packet(PUBLISH, &vec![0; 64 * 1024]), PACKET_TOO_LARGE),
        (
            [vec![0x10], packet(0, &[text("MQTT"), vec![4, 2, 0, 9, 0, 0]].concat())[1..].to_vec()]
                .concat(),
            PROTOCOL_ERROR,
        ),
    ];
    for version in BOTH {
        for (bytes, reason) in &matrix {
            let mut raw = pump(&site, version).await;
            raw.send_bytes(bytes).await;
            let told = raw.end().await;
            if version == Version::V3 {
                assert_eq!(told, None, "{bytes:x?}");
            } else if bytes[0] != 0x10 {
                assert_eq!(told, Some(*reason), "{:x?}", &bytes[..bytes.len().min(16)]);
            } else {
                assert!(told.is_some(), "a second CONNECT");
            }
        }
    }
    let five: [(Vec<u8>, u8); 4] = [
        // A topic alias, a subscription identifier, an unknown property, an AUTH never begun.
        (packet(PUBLISH, &[0, 1, b'a', 3, 0x23, 0, 1]), TOPIC_ALIAS_INVALID),
        (packet(SUBSCRIBE, &[0, 1, 2, 0x0b, 1, 0, 1, b'a', 0]), SUBSCRIPTION_IDS_NOT_SUPPORTED),
        (packet(PUBLISH, &[0, 1, b'a', 1, 0x7f]), MALFORMED),
        (packet(0xf0, &[0x18, 0]), PROTOCOL_ERROR),
    ];
    for (bytes, reason) in five {
        let mut raw = pump(&site, Version::V5).await;
        raw.send_bytes(&bytes).await;
        assert_eq!(raw.end().await, Some(reason), "{bytes:x?}");
    }
    site.server.shutdown().await;
}

#[tokio::test]
async fn what_does_not_begin_as_it_should_gets_no_further() {
    let site = site().await;
    let address = site.server.mqtt_addr;
    let connect = |level: u8, name: &str, rest: &[u8]| {
        packet(0x10, &[text(name), vec![level], rest.to_vec()].concat())
    };
    let silent: [Vec<u8>; 6] = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        packet(PINGREQ, &[]),
        connect(4, "MQTX", &[2, 0, 9, 0, 0]),
        // A reserved flag, then a password without a user name.
        connect(4, "MQTT", &[3, 0, 9, 0, 0]),
        connect(4, "MQTT", &[0x42, 0, 9, 0, 0, 0, 1, b'x']),
        packet(0x10, &vec![0; 20_000]),
    ];
    for bytes in silent {
        let mut raw = Raw::open(address, Version::V3).await;
        raw.send_bytes(&bytes).await;
        assert_eq!(raw.receive().await, None, "{:x?}", &bytes[..bytes.len().min(16)]);
    }
    // Versions that are not spoken are named as such (section 3.1.2.2).
    let old = [connect(3, "MQIsdp", &[2, 0, 9, 0, 1, b'x']), connect(3, "MQTT", &[2, 0, 9, 0, 0])];
    for bytes in old {
        let mut raw = Raw::open(address, Version::V3).await;
        raw.send_bytes(&bytes).await;
        assert_eq!(raw.receive().await, Some((CONNACK, vec![0, 1])));
        assert_eq!(raw.receive().await, None);
    }
    let mut raw = Raw::open(address, Version::V5).await;
    raw.send_bytes(&connect(6, "MQTT", &[2, 0, 9, 0, 0, 0])).await;
    let (first, body) = raw.receive().await.expect("an answer");
    assert_eq!((first, body[1]), (CONNACK, 0x84));
    // Another way of authentication (section 4.12).
    let mut raw = Raw::open(address, Version::V5).await;
    let properties = [vec![0x15], text("SCRAM")].concat();
    assert_eq!(raw.connect(&Hello { properties, ..Hello::token("a", "b") }).await, Some(0x8c));
    site.server.shutdown().await;
}

#[tokio::test]
async fn garbage_harms_nobody() {
    let site = site().await;
    site.add("pump").await;
    let mut good = pump(&site, Version::V5).await;
    let mut random = 1_u32;
    let mut draw = || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 24) as u8
    };
    for round in 0..200 {
        let mut bytes: Vec<u8> = (0..usize::from(draw()) * 4).map(|_| draw()).collect();
        if round % 2 == 0 && bytes.len() > 10 {
            bytes[..10].copy_from_slice(&[0x10, 200, 1, 0, 4, b'M', b'Q', b'T', b'T', 5]);
        }
        let mut raw = Raw::open(site.server.mqtt_addr, Version::V5).await;
        raw.send_bytes(&bytes).await;
    }
    good.ping().await;
    assert_eq!(good.store(UP, 1, &payload("pump", 1, 1.0)).await, Some(0));
    site.server.shutdown().await;
}

#[tokio::test]
async fn silence_beyond_the_keep_alive_ends_the_connection() {
    let site = site().await;
    site.add("pump").await;
    let fan = site.add("fan").await;
    let for_ever = Hello { keep_alive_s: 0, ..Hello::token("fan", fan.reveal()) };
    let mut fan = Raw::welcome(site.server.mqtt_addr, Version::V3, &for_ever).await;
    for version in BOTH {
        let token = site.rotate("pump").await;
        let hello = Hello { keep_alive_s: 1, ..Hello::token("pump", token.reveal()) };
        let mut raw = Raw::welcome(site.server.mqtt_addr, version, &hello).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        raw.ping().await;
        let heard = Instant::now();
        let told = (version == Version::V5).then_some(KEEP_ALIVE_TIMEOUT);
        assert_eq!(raw.end().await, told);
        // Not before: the last packet counts, and half as long again is allowed.
        assert!(heard.elapsed() > Duration::from_millis(1_400), "{:?}", heard.elapsed());
    }
    fan.ping().await;
    site.server.shutdown().await;
}

#[tokio::test]
async fn a_later_connection_of_a_device_takes_over_at_once() {
    let site = site().await;
    let token = site.add("pump").await;
    let hello = Hello::token("pump", token.reveal());
    for version in BOTH {
        let mut first = Raw::welcome(site.server.mqtt_addr, version, &hello).await;
        for number in 1..=20 {
            let mut second = Raw::welcome(site.server.mqtt_addr, version, &hello).await;
            let told = (version == Version::V5).then_some(TAKEN_OVER);
            assert_eq!(first.end().await, told);
            assert_eq!(second.store(UP, 1, &payload("pump", number, 1.0)).await, Some(0));
            first = second;
        }
        first.send(DISCONNECT, &[]).await;
        assert_eq!(first.end().await, None);
    }
    site.server.shutdown().await;
}

#[tokio::test]
async fn more_in_flight_than_announced_ends_a_connection_of_version_5() {
    let site = site().await;
    site.add("pump").await;
    let mut raw = pump(&site, Version::V5).await;
    let bound = stonechat_server::limits::MQTT_IN_FLIGHT_MAX;
    for number in 1..=bound {
        let bytes = payload("pump", u32::from(number), 1.0);
        raw.publish(PUBLISH | 0b100, UP, number, &bytes).await;
        assert_eq!(raw.receive().await.map(|answer| answer.0), Some(PUBREC));
    }
    raw.publish(PUBLISH | 0b10, UP, bound + 1, &payload("pump", 1_000, 1.0)).await;
    assert_eq!(raw.end().await, Some(RECEIVE_MAXIMUM_EXCEEDED));
    // Version 3.1.1 knows no such bound.
    let mut raw = pump(&site, Version::V3).await;
    for number in 1..=bound + 10 {
        let bytes = payload("pump", u32::from(number), 1.0);
        raw.publish(PUBLISH | 0b100, UP, number, &bytes).await;
        assert_eq!(raw.receive().await.map(|answer| answer.0), Some(PUBREC));
    }
    site.server.shutdown().await;
}

#[tokio::test]
async fn a_message_reaches_a_device_that_listens() {
    let site = site().await;
    site.add("pump").await;
    let pump_id = id("pump");
    let downlink = site.server.downlink();
    let topic = "stonechat/v1/pump/down/set";
    assert_eq!(downlink.send(&pump_id, topic, "x").await, Err(Undelivered::NotConnected));
    for version in BOTH {
        let mut raw = pump(&site, version).await;
        assert_eq!(downlink.send(&pump_id, topic, "x").await, Err(Undelivered::NotSubscribed));
        assert_eq!(raw.subscribe(&[("stonechat/v1/pump/down/+", 1)]).await, [1]);
        let sending = tokio::spawn({
            let (downlink, device) = (downlink.clone(), pump_id.clone());
            async move { downlink.send(&device, topic, "on").await }
        });
        let (first, body) = raw.receive().await.expect("the message");
        assert_eq!(first, PUBLISH | 0b10);
        let topic_len = 2 + topic.len();
        assert_eq!(body[..topic_len], text(topic));
        assert!(body.ends_with(b"on"));
        assert!(!sending.is_finished(), "not acknowledged yet");
        raw.send(PUBACK, &body[topic_len..topic_len + 2]).await;
        assert_eq!(sending.await.expect("ran"), Ok(Delivery::Acknowledged));

        assert_eq!(raw.subscribe(&[("stonechat/v1/pump/down/+", 0)]).await, [0]);
        assert_eq!(downlink.send(&pump_id, topic, "off").await, Ok(Delivery::Written));
        let (first, body) = raw.receive().await.expect("the message");
        assert_eq!((first, body.ends_with(b"off")), (PUBLISH, true));
        let told = downlink.send(&pump_id, "stonechat/v1/pump/other", "x").await;
        assert_eq!(told, Err(Undelivered::NotSubscribed));
    }
    site.server.shutdown().await;
}

#[tokio::test]
async fn what_waits_for_a_device_is_bounded() {
    let site = site().await;
    let token = site.add("pump").await;
    let downlink = Arc::new(site.server.downlink());
    // Receive Maximum 2, Maximum Packet Size 60.
    let properties = vec![0x21, 0, 2, 0x27, 0, 0, 0, 60];
    let hello = Hello { properties, ..Hello::token("pump", token.reveal()) };
    let mut raw = Raw::welcome(site.server.mqtt_addr, Version::V5, &hello).await;
    assert_eq!(raw.subscribe(&[("stonechat/v1/pump/d", 1)]).await, [1]);
    let long = downlink.send(&id("pump"), "stonechat/v1/pump/d", vec![0; 60]).await;
    assert_eq!(long, Err(Undelivered::Refused));
    let bound = stonechat_server::limits::MQTT_QUEUE_LEN_MAX + 2;
    let sending: Vec<_> = (0..bound + 5)
        .map(|_| {
            let downlink = downlink.clone();
            tokio::spawn(
                async move { downlink.send(&id("pump"), "stonechat/v1/pump/d", "x").await },
            )
        })
        .collect();
    // Two arrive, the rest waits for their acknowledgement, and more than that is refused.
    let mut refused = 0;
    for _ in 0..2 {
        assert_eq!(raw.receive().await.map(|packet| packet.0), Some(PUBLISH | 0b10));
    }
    raw.ping().await;
    raw.send(DISCONNECT, &[]).await;
    for one in sending {
        match tokio::time::timeout(PATIENCE, one).await.expect("in time").expect("ran") {
            Err(Undelivered::QueueFull) => refused += 1,
            outcome => assert_eq!(outcome, Err(Undelivered::ConnectionLost)),
        }
    }
    assert!((5..=7).contains(&refused), "{refused}");
    site.server.shutdown().await;
}

#[tokio::test]
async fn a_tiny_maximum_packet_size_breaks_nothing() {
    let site = site().await;
    let token = site.add("pump").await;
    for size in 2..=8 {
        let properties = vec![0x27, 0, 0, 0, size];
        let hello = Hello { properties, ..Hello::token("pump", token.reveal()) };
        let mut raw = Raw::open(site.server.mqtt_addr, Version::V5).await;
        raw.hello(&hello).await;
        let bytes = payload("pump", u32::from(size), 1.0);
        raw.publish(PUBLISH | 0b10, UP, 1, &bytes).await;
        raw.send(PINGREQ, &[]).await;
        // Longer answers are left out (section 3.1.2.11.4).
        let mut answer = raw.receive().await;
        while let Some((first, _)) = answer
            && first != 0xd0
        {
            answer = raw.receive().await;
        }
        assert!(answer.is_some(), "{size}");
        assert_eq!(site.values("pump", "a").await.len(), usize::from(size) - 1);
    }
    site.server.shutdown().await;
}

/// Whoever is revoked is cut off within a second; the best of three counts, as machines are busy.
#[tokio::test]
async fn revocation_cuts_a_live_connection_within_a_second() {
    let site = site().await;
    site.add("pump").await;
    let mut taken = Vec::new();
    for version in [Version::V5, Version::V3, Version::V5] {
        let mut raw = pump(&site, version).await;
        raw.ping().await;
        let begun = Instant::now();
        site.rotate("pump").await;
        let told = raw.end().await;
        taken.push(begun.elapsed());
        assert_eq!(told, (version == Version::V5).then_some(NOT_AUTHORIZED));
    }
    let best = taken.iter().min().expect("three");
    assert!(*best < Duration::from_secs(1), "{taken:?}");
    site.server.shutdown().await;
}

#[tokio::test]
async fn a_stop_answers_what_is_under_way_and_says_good_bye() {
    let site = site().await;
    site.add("pump").await;
    let fan = site.add("fan").await;
    let mut old = pump(&site, Version::V3).await;
    let hello = Hello::token("fan", fan.reveal());
    let mut new = Raw::welcome(site.server.mqtt_addr, Version::V5, &hello).await;
    new.ping().await;
    let mut acknowledged = 0;
    for sequence in 0..50 {
        old.publish(PUBLISH | 0b10, UP, sequence + 1, &payload("pump", sequence.into(), 1.0)).await;
    }
    let folder = site.folder;
    let stopping = tokio::spawn(site.server.shutdown());
    assert_eq!(new.end().await, Some(SHUTTING_DOWN));
    while let Some((first, _)) = old.receive().await {
        assert_eq!(first, PUBACK);
        acknowledged += 1;
    }
    stopping.await.expect("stopped");
    let mut settings = crate::common::settings(&folder);
    settings.http = "127.0.0.1:0".parse().expect("legal");
    let again = stonechat_server::Server::start(settings).await.expect("starts");
    let stored = again.store().totals().await.expect("answer").messages;
    assert!(stored >= acknowledged, "{stored} stored, {acknowledged} acknowledged");
    again.shutdown().await;
}
