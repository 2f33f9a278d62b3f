//! The topics of a device: all begin with `stonechat/v1/DEVICE/`.

use crate::device::DeviceId;

const PREFIX: &str = "stonechat/v1/";

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_prefix_is_within() {
        let pump = DeviceId::parse("pump").expect("legal");
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
        }
        assert!(is_uplink(&pump, &uplink(&pump)));
    }
}
