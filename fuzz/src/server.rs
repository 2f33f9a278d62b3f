//! Codecs of the server.

use stonechat_server::codec;
use stonechat_server::legacy::Splitter;
use stonechat_server::limits::READINGS_PER_MESSAGE_MAX;
use stonechat_server::mqtt::packet::packets_of;

/// When the payloads come in, in unix milliseconds.
const RECEIVED_MS: i64 = 1_800_000_000_000;

/// A payload in the named codec: what is accepted is bounded, and every value a number.
pub(crate) fn decode(name: &str, bytes: &[u8]) {
    let codec = codec::named(name).expect("the table of targets names codecs that exist");
    if let Ok(decoded) = (codec.decode)(bytes, RECEIVED_MS) {
        assert!(decoded.readings().len() <= READINGS_PER_MESSAGE_MAX);
        for reading in decoded.readings() {
            assert!(reading.value.is_finite(), "{reading:?}");
            assert!(codec::is_channel_name(&reading.channel), "{reading:?}");
        }
    }
}

/// The fewest bytes of an MQTT packet.
const PACKET_LEN_MIN: usize = 2;

/// What a client sends from its first byte on.
pub(crate) fn mqtt(bytes: &[u8]) {
    if let Ok(packets) = packets_of(bytes) {
        assert!(packets * PACKET_LEN_MIN <= bytes.len());
    }
}

/// A stream of old packets: where TCP cut it makes no difference.
pub(crate) fn legacy_stream(bytes: &[u8]) {
    let Some((&cut, stream)) = bytes.split_first() else { return };
    let whole = Splitter::default().push(stream);
    let (first, second) = stream.split_at(usize::from(cut).min(stream.len()));
    let mut splitter = Splitter::default();
    let mut parts = splitter.push(first);
    parts.extend(splitter.push(second));
    assert_eq!(parts, whole);
}
