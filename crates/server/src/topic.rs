//! The topics of a device, and what it may do there.
//!
//! | topic | a device may |
//! |---|---|
//! | `stonechat/v1/DEVICE/…`, DEVICE being itself | publish; subscribe, also with wildcards |
//! | what a [`codec`] names: `v1/devices/me/telemetry`, `v1/devices/me/attributes` | publish |
//! | `v1/devices/me/rpc/response/NUMBER` | publish; nothing is made of it yet |
//! | `v1/devices/me/rpc/request/+` | subscribe |
//! | any other | nothing |
//!
//! The topics with `me` are those of the ThingsBoard device API: each device has its own.

use crate::codec;
use crate::device::DeviceId;
use crate::limits::{MQTT_TOPIC_LEN_MAX, MQTT_TOPIC_LEVELS_MAX};

const PREFIX: &str = "stonechat/v1/";
/// Where a device of the ThingsBoard API answers commands; a number follows.
const ANSWERS: &str = "v1/devices/me/rpc/response/";
/// Where a device of the ThingsBoard API hears commands.
pub const COMMANDS: &str = "v1/devices/me/rpc/request/+";

/// Returns what follows a device's own prefix, or `None` if the topic or filter is outside.
#[must_use]
pub fn within<'t>(device: &DeviceId, topic: &'t str) -> Option<&'t str> {
    topic.strip_prefix(PREFIX)?.strip_prefix(device.as_str())?.strip_prefix('/')
}

/// Tells whether the topic is the one on which a device sends its readings.
#[must_use]
pub fn is_uplink(device: &DeviceId, topic: &str) -> bool {
    within(device, topic) == Some("up")
}

/// Returns the topic on which a device sends its readings.
#[must_use]
pub fn uplink(device: &DeviceId) -> String {
    format!("{PREFIX}{device}/up")
}

/// Tells whether a device may publish there.
#[must_use]
pub fn may_publish(device: &DeviceId, topic: &str) -> bool {
    let own = within(device, topic).is_some_and(|rest| !rest.is_empty());
    let own = own || codec::on_topic(topic).is_some() || topic.starts_with(ANSWERS);
    own && is_bounded(topic) && !has_wildcard(topic)
}

/// Why a device may not subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFilter {
    /// It is no topic filter.
    Invalid,
    /// It is shared between clients.
    Shared,
    /// It reaches beyond what is the device's own.
    Foreign,
}

/// Tells whether a device may subscribe there.
///
/// # Errors
/// [`BadFilter`].
pub fn may_subscribe(device: &DeviceId, filter: &str) -> Result<(), BadFilter> {
    if !is_filter(filter) {
        Err(BadFilter::Invalid)
    } else if filter.starts_with("$share/") {
        Err(BadFilter::Shared)
    } else if filter == COMMANDS || within(device, filter).is_some_and(|rest| !rest.is_empty()) {
        Ok(())
    } else {
        Err(BadFilter::Foreign)
    }
}

/// Tells whether a text is a topic filter (section 4.7.1 of MQTT 3.1.1 and 5.0) within the bounds.
#[must_use]
pub fn is_filter(filter: &str) -> bool {
    if filter.is_empty() || !is_bounded(filter) {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let legal = match level {
            "#" => levels.peek().is_none(),
            "+" => true,
            level => !has_wildcard(level),
        };
        if !legal {
            return false;
        }
    }
    true
}

/// Tells whether a topic is one of those that a filter names.
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['#', '+']) {
        return false;
    }
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            // The level above is meant, too.
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

fn is_bounded(topic: &str) -> bool {
    topic.len() <= MQTT_TOPIC_LEN_MAX && topic.split('/').count() <= MQTT_TOPIC_LEVELS_MAX
}

fn has_wildcard(text: &str) -> bool {
    text.contains(['#', '+', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pump() -> DeviceId {
        DeviceId::parse("pump").expect("legal")
    }

    #[test]
    fn only_the_own_prefix_is_within() {
        let pump = pump();
        assert_eq!(within(&pump, "stonechat/v1/pump/#"), Some("#"));
        assert_eq!(within(&pump, "stonechat/v1/pump/a/b"), Some("a/b"));
        for outside in [
            "#",
            "+",
            "$SYS/brokers",
            "stonechat/v1/pump",
            "stonechat/v1/pump2/up",
            "stonechat/v1/+/up",
            "stonechat/+/pump/up",
            "$share/g/stonechat/v1/pump/up",
            "/stonechat/v1/pump/up",
            "",
        ] {
            assert_eq!(within(&pump, outside), None, "{outside:?}");
            assert!(!may_publish(&pump, outside), "{outside:?}");
            assert!(may_subscribe(&pump, outside).is_err(), "{outside:?}");
        }
        assert!(is_uplink(&pump, &uplink(&pump)));
        assert!(may_publish(&pump, &uplink(&pump)));
    }

    #[test]
    fn a_device_publishes_where_it_may() {
        let pump = pump();
        let deep = format!("stonechat/v1/pump{}", "/a".repeat(MQTT_TOPIC_LEVELS_MAX));
        let long = format!("stonechat/v1/pump/{}", "a".repeat(MQTT_TOPIC_LEN_MAX));
        for (topic, expected) in [
            ("stonechat/v1/pump/up", true),
            ("stonechat/v1/pump/a/b", true),
            ("v1/devices/me/telemetry", true),
            ("v1/devices/me/attributes", true),
            ("v1/devices/me/rpc/response/1", true),
            ("v1/devices/me/rpc/request/1", false),
            ("v1/devices/fan/telemetry", false),
            ("stonechat/v1/pump/", false),
            ("stonechat/v1/pump/#", false),
            ("stonechat/v1/pump/+", false),
            (&deep, false),
            (&long, false),
        ] {
            assert_eq!(may_publish(&pump, topic), expected, "{topic}");
        }
    }

    #[test]
    fn a_device_subscribes_where_it_may() {
        let pump = pump();
        for (filter, expected) in [
            ("stonechat/v1/pump/#", Ok(())),
            ("stonechat/v1/pump/+/a", Ok(())),
            (COMMANDS, Ok(())),
            ("v1/devices/me/rpc/request/#", Err(BadFilter::Foreign)),
            ("v1/devices/me/#", Err(BadFilter::Foreign)),
            ("v1/devices/+/rpc/request/+", Err(BadFilter::Foreign)),
            ("stonechat/v1/fan/#", Err(BadFilter::Foreign)),
            ("stonechat/v1/pump/#/a", Err(BadFilter::Invalid)),
            ("stonechat/v1/pump/a#", Err(BadFilter::Invalid)),
            ("stonechat/v1/pump/a+", Err(BadFilter::Invalid)),
            ("$share/g/stonechat/v1/pump/#", Err(BadFilter::Shared)),
            ("$SYS/#", Err(BadFilter::Foreign)),
        ] {
            assert_eq!(may_subscribe(&pump, filter), expected, "{filter}");
        }
    }

    /// The examples of section 4.7.1 of both standards, and of 4.7.2.
    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/a", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
        assert!(!is_filter("sport/tennis#"));
        assert!(!is_filter("sport/tennis/#/ranking"));
        assert!(!is_filter("sport+"));
        assert!(is_filter("+/tennis/#"));
    }
}
