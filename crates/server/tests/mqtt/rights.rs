//! What a device may do, as a matrix of allowed and refused, in both versions.

use crate::common::{Site, payload, site};
use crate::raw::{BOTH, Hello, PUBLISH, Raw, Version};

/// MQTT 5 section 2.4, 3.1.1 section 3.2.2.3.
const NOT_AUTHORIZED: u8 = 0x87;
const OLD_NOT_AUTHORIZED: u8 = 5;
const SHARED_NOT_SUPPORTED: u8 = 0x9e;
const FILTER_INVALID: u8 = 0x8f;
const QUOTA_EXCEEDED: u8 = 0x97;
const RETAIN_NOT_SUPPORTED: u8 = 0x9a;

async fn enter(site: &Site, version: Version, token: &str) -> Raw {
    Raw::welcome(site.server.mqtt_addr, version, &Hello::token("pump", token)).await
}

#[tokio::test]
async fn only_who_proves_to_be_a_device_gets_in() {
    let site = site().await;
    let pump = site.add("pump").await;
    let fan = site.add("fan").await;
    let (pump, fan) = (pump.reveal(), fan.reveal());
    let matrix = [
        ("pump", Some("pump"), Some(pump), true),
        ("", Some("pump"), Some(pump), true),
        ("pump", Some("pump"), Some(fan), false),
        ("fan", Some("pump"), Some(pump), false),
        ("pump", Some("fan"), Some(fan), false),
        ("pump", Some("fan"), Some(pump), false),
        ("pump", Some("pump"), Some(""), false),
        ("pump", Some("pump"), None, false),
        ("pump", Some(""), Some(pump), false),
        ("pump", None, None, false),
        ("pump2", Some("pump2"), Some(pump), false),
        ("#", Some("#"), Some(pump), false),
        ("pump/up", Some("pump/up"), Some(pump), false),
    ];
    for version in BOTH {
        let refused = if version == Version::V3 { OLD_NOT_AUTHORIZED } else { NOT_AUTHORIZED };
        for (client_id, user_name, password, allowed) in matrix {
            let hello = Hello {
                client_id: client_id.into(),
                user_name: user_name.map(Into::into),
                password: password.map(Into::into),
                ..Hello::default()
            };
            let mut raw = Raw::open(site.server.mqtt_addr, version).await;
            let expected = if allowed { 0 } else { refused };
            let told = raw.connect(&hello).await;
            assert_eq!(told, Some(expected), "{version:?} {client_id} {user_name:?}");
            if !allowed {
                assert_eq!(raw.receive().await, None, "and the connection ends");
            }
        }
        // Version 5 allows a password without a user name; it proves nothing.
        let hello = Hello { password: Some(pump.into()), ..Hello::default() };
        let mut raw = Raw::open(site.server.mqtt_addr, version).await;
        let told = raw.connect(&hello).await;
        assert_eq!(told, (version == Version::V5).then_some(NOT_AUTHORIZED));
    }
    site.server.shutdown().await;
}

#[tokio::test]
async fn a_device_publishes_on_its_own_topics_only() {
    let site = site().await;
    let pump = site.add("pump").await;
    let fan = site.add("fan").await;
    let deep = format!("stonechat/v1/pump{}", "/a".repeat(20));
    let long = format!("stonechat/v1/pump/{}", "a".repeat(2_000));
    let refused = [
        "stonechat/v1/fan/up",
        "stonechat/v1/pump2/up",
        "stonechat/v1/up",
        "stonechat/v1/pump",
        "stonechat/v1/pump/",
        "/stonechat/v1/pump/up",
        "$SYS/broker",
        "$share/all/stonechat/v1/pump/up",
        "up",
        "v1/devices/fan/telemetry",
        "v1/devices/me/rpc/request/1",
        &deep,
        &long,
    ];
    let hello = Hello::token("fan", fan.reveal());
    let mut listener = Raw::welcome(site.server.mqtt_addr, Version::V5, &hello).await;
    assert_eq!(listener.subscribe(&[("stonechat/v1/fan/#", 1)]).await, [1]);
    let mut sequence = 0;
    for version in BOTH {
        for topic in refused {
            for quality in 0..=2 {
                sequence += 1;
                let mut raw = enter(&site, version, pump.reveal()).await;
                let bytes = payload("pump", sequence, 1.0);
                raw.publish(PUBLISH | quality << 1, topic, 9, &bytes).await;
                if version == Version::V5 && quality > 0 {
                    let (_, body) = raw.receive().await.expect("an answer");
                    assert_eq!(body[2], NOT_AUTHORIZED, "{topic}");
                    // The connection goes on.
                    raw.ping().await;
                } else {
                    let told = (version == Version::V5).then_some(NOT_AUTHORIZED);
                    assert_eq!(raw.end().await, told, "{topic} {quality}");
                }
            }
        }
        sequence += 1;
        let mut raw = enter(&site, version, pump.reveal()).await;
        let bytes = payload("pump", sequence, 7.0);
        assert_eq!(raw.store("stonechat/v1/pump/up", 1, &bytes).await, Some(0));
    }
    assert_eq!(site.values("pump", "a").await, [7.0, 7.0]);
    assert!(site.values("fan", "a").await.is_empty());
    // The other device heard nothing of all that.
    listener.ping().await;
    site.server.shutdown().await;
}

#[tokio::test]
async fn a_device_subscribes_to_its_own_topics_only() {
    let site = site().await;
    let pump = site.add("pump").await;
    let matrix = [
        ("stonechat/v1/pump/down", 0),
        ("stonechat/v1/pump/#", 0),
        ("stonechat/v1/pump/+/a", 0),
        ("v1/devices/me/rpc/request/+", 0),
        ("stonechat/v1/fan/down", NOT_AUTHORIZED),
        ("stonechat/v1/+/down", NOT_AUTHORIZED),
        ("stonechat/v1/#", NOT_AUTHORIZED),
        ("stonechat/v1/pump", NOT_AUTHORIZED),
        ("#", NOT_AUTHORIZED),
        ("+/+/+/+", NOT_AUTHORIZED),
        ("$SYS/#", NOT_AUTHORIZED),
        ("v1/devices/me/#", NOT_AUTHORIZED),
        ("v1/devices/+/rpc/request/+", NOT_AUTHORIZED),
        ("$share/all/stonechat/v1/pump/up", SHARED_NOT_SUPPORTED),
        ("$share/all/#", SHARED_NOT_SUPPORTED),
        ("stonechat/v1/pump+/down", FILTER_INVALID),
        ("stonechat/v1/pump/#/down", FILTER_INVALID),
        ("stonechat/v1/pump/a#", FILTER_INVALID),
    ];
    for version in BOTH {
        for (filter, code) in matrix {
            let mut raw = enter(&site, version, pump.reveal()).await;
            let expected = if version == Version::V3 && code > 0 { 0x80 } else { code };
            assert_eq!(raw.subscribe(&[(filter, 0)]).await, [expected], "{version:?} {filter}");
        }
        // In one packet, each filter is answered for itself, with quality 1 at most.
        let mut raw = enter(&site, version, pump.reveal()).await;
        let all = [
            ("stonechat/v1/pump/a", 2),
            ("stonechat/v1/fan/a", 2),
            ("stonechat/v1/pump/b", 1),
            ("stonechat/v1/pump/c", 0),
        ];
        let refused = if version == Version::V3 { 0x80 } else { NOT_AUTHORIZED };
        assert_eq!(raw.subscribe(&all).await, [1, refused, 1, 0]);
    }
    site.server.shutdown().await;
}

#[tokio::test]
async fn subscriptions_are_bounded() {
    let site = site().await;
    let pump = site.add("pump").await;
    for version in BOTH {
        let mut raw = enter(&site, version, pump.reveal()).await;
        for number in 0..stonechat_server::limits::MQTT_SUBSCRIPTIONS_MAX {
            let filter = format!("stonechat/v1/pump/{number}");
            assert_eq!(raw.subscribe(&[(&filter, 0)]).await, [0]);
        }
        let full = if version == Version::V3 { 0x80 } else { QUOTA_EXCEEDED };
        assert_eq!(raw.subscribe(&[("stonechat/v1/pump/more", 0)]).await, [full]);
        // The same one again takes no room.
        assert_eq!(raw.subscribe(&[("stonechat/v1/pump/0", 1)]).await, [1]);
        let told = raw.unsubscribe(&["stonechat/v1/pump/0", "stonechat/v1/pump/none"]).await;
        let expected: &[u8] = if version == Version::V3 { &[] } else { &[0, 0x11] };
        assert_eq!(told, expected);
        assert_eq!(raw.subscribe(&[("stonechat/v1/pump/more", 0)]).await, [0]);
    }
    site.server.shutdown().await;
}

#[tokio::test]
async fn a_last_will_is_neither_stored_nor_a_way_to_others() {
    let site = site().await;
    let pump = site.add("pump").await;
    let fan = site.add("fan").await;
    let hello = Hello::token("fan", fan.reveal());
    let mut listener = Raw::welcome(site.server.mqtt_addr, Version::V5, &hello).await;
    assert_eq!(listener.subscribe(&[("stonechat/v1/fan/#", 1)]).await, [1]);
    let matrix = [
        ("stonechat/v1/pump/up", false, Some(0), Some(0)),
        ("stonechat/v1/pump/state", false, Some(0), Some(0)),
        // Version 3.1.1 cannot announce that nothing is retained: it just is not.
        ("stonechat/v1/pump/state", true, Some(0), Some(RETAIN_NOT_SUPPORTED)),
        ("stonechat/v1/fan/down", false, Some(OLD_NOT_AUTHORIZED), Some(NOT_AUTHORIZED)),
        ("stonechat/v1/pump", false, Some(OLD_NOT_AUTHORIZED), Some(NOT_AUTHORIZED)),
        ("stonechat/v1/pump/#", false, Some(OLD_NOT_AUTHORIZED), Some(NOT_AUTHORIZED)),
        ("$SYS/broker", false, Some(OLD_NOT_AUTHORIZED), Some(NOT_AUTHORIZED)),
    ];
    for (topic, retained, old, new) in matrix {
        for version in BOTH {
            let mut raw = Raw::open(site.server.mqtt_addr, version).await;
            let will = Some((topic.to_owned(), retained));
            let hello = Hello { will, ..Hello::token("pump", pump.reveal()) };
            let expected = if version == Version::V3 { old } else { new };
            assert_eq!(raw.connect(&hello).await, expected, "{version:?} {topic} {retained}");
            // It ends without a good-bye, so that the will would be due.
        }
    }
    let mut raw = enter(&site, Version::V3, pump.reveal()).await;
    assert_eq!(raw.subscribe(&[("stonechat/v1/pump/#", 1)]).await, [1]);
    raw.ping().await;
    listener.ping().await;
    let totals = site.server.store().totals().await.expect("answer");
    assert_eq!(totals.messages, 0);
    site.server.shutdown().await;
}

#[tokio::test]
async fn nothing_is_retained() {
    let site = site().await;
    let pump = site.add("pump").await;
    let retained = PUBLISH | 0b11;
    let mut old = enter(&site, Version::V3, pump.reveal()).await;
    old.publish(retained, "stonechat/v1/pump/up", 1, &payload("pump", 1, 5.0)).await;
    assert!(old.receive().await.is_some(), "the message counts as any other");
    let mut new = enter(&site, Version::V5, pump.reveal()).await;
    new.publish(retained, "stonechat/v1/pump/up", 1, &payload("pump", 2, 6.0)).await;
    assert_eq!(new.end().await, Some(RETAIN_NOT_SUPPORTED));
    for version in BOTH {
        let mut raw = enter(&site, version, pump.reveal()).await;
        assert_eq!(raw.subscribe(&[("stonechat/v1/pump/#", 1)]).await, [1]);
        raw.ping().await;
    }
    assert_eq!(site.values("pump", "a").await, [5.0]);
    site.server.shutdown().await;
}
