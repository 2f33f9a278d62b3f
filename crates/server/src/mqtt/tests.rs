//! The decoder against bytes of every kind.

use proptest::prelude::*;
use rmqtt_codec::types::QoS;
use tokio_util::bytes::BytesMut;

use super::packet::{Decoder, Fault, Incoming, Version, packets_of};

/// CONNECT of version 3.1.1 or 5 with user name and password, after the tables of section 3.1.
fn connect(version: Version) -> Vec<u8> {
    let (level, properties): (u8, &[u8]) =
        if version == Version::V3 { (4, &[]) } else { (5, &[3, 0x21, 0, 9]) };
    let mut body = b"\0\x04MQTT".to_vec();
    body.extend([level, 0b1100_0010, 0, 60]);
    body.extend(properties);
    body.extend(b"\0\x04pump\0\x04pump\0\x06secret");
    let mut bytes = vec![0x10, body.len() as u8];
    bytes.extend(body);
    bytes
}

fn stream(version: Version) -> Vec<u8> {
    let mut bytes = connect(version);
    let no_properties = usize::from(version == Version::V5);
    let mut message = b"\0\x01a\0\x07".to_vec();
    message.extend(std::iter::repeat_n(0, no_properties));
    message.extend([b'x'; 300]);
    bytes.extend([0x32, (message.len() % 128) as u8 | 0x80, (message.len() / 128) as u8]);
    bytes.extend(message);
    bytes.extend([0xc0, 0]);
    bytes.extend([0x62, 2, 0, 9]);
    bytes.extend([0xe0, 0]);
    bytes
}

#[test]
fn a_connection_says_who_it_is() {
    for version in [Version::V3, Version::V5] {
        let mut decoder = Decoder::default();
        let mut buffer = BytesMut::from(&connect(version)[..]);
        let Ok(Some(Incoming::Connect(connect))) = decoder.next(&mut buffer) else {
            panic!("no CONNECT");
        };
        assert_eq!(connect.version, version);
        assert_eq!(connect.client_id, "pump");
        assert_eq!(connect.user_name.as_deref(), Some("pump"));
        assert_eq!(connect.password.as_deref(), Some(&b"secret"[..]));
        assert_eq!(connect.keep_alive_s, 60);
        assert_eq!(connect.receive_max, if version == Version::V3 { u16::MAX } else { 9 });
        assert!(!format!("{connect:?}").contains("secret"), "no password in a log");
    }
}

#[test]
fn packets_come_out_whole_wherever_the_bytes_are_cut() {
    for version in [Version::V3, Version::V5] {
        let bytes = stream(version);
        for cut in 0..=bytes.len() {
            let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::new());
            let mut packets = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                buffer.extend_from_slice(part);
                while let Some(packet) = decoder.next(&mut buffer).expect("legal") {
                    packets.push(packet);
                }
            }
            assert_eq!(packets.len(), 5, "cut at {cut}");
            let Incoming::Publish(publish) = &packets[1] else { panic!("no message") };
            assert_eq!((publish.qos, publish.payload.len()), (QoS::AtLeastOnce, 300));
            assert!(matches!(packets[4], Incoming::Disconnect));
            assert!(buffer.is_empty());
        }
    }
}

#[test]
fn what_is_too_long_is_refused_by_its_header_alone() {
    let long = [&connect(Version::V3)[..], &[0x30, 0xff, 0xff, 0xff, 0x7f]].concat();
    assert!(matches!(packets_of(&long), Err(Fault::TooLong(_))));
    assert!(matches!(packets_of(&[0x10, 0xff, 0xff, 0xff, 0x7f]), Err(Fault::TooLong(_))));
    assert_eq!(packets_of(&[0x10, 0x80, 0x80, 0x80, 0x80]).ok(), None);
    // What is not whole is waited for.
    assert_eq!(packets_of(&[0x10]), Ok(0));
    assert_eq!(packets_of(&connect(Version::V5)[..20]), Ok(0));
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = packets_of(&bytes);
        for version in [Version::V3, Version::V5] {
            let _ = packets_of(&[&connect(version)[..], &bytes].concat());
        }
    }

    #[test]
    fn a_damaged_stream_never_panics(at in 0_usize..1_000, byte in any::<u8>(), five in any::<bool>()) {
        let mut bytes = stream(if five { Version::V5 } else { Version::V3 });
        let len = bytes.len();
        bytes[at % len] = byte;
        let _ = packets_of(&bytes);
    }
}
