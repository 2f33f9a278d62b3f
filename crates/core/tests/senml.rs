//! SenML packs: what is written is read, and nothing from outside panics.

use stonechat_core::wire::senml::{DecodeError, PackReader, PackWriter, Record, Resolved, Value};
use stonechat_core::wire::uplink::{self, MessageId, Uplink, UplinkError};

fn number(name: &str, value: f64) -> Record<'_> {
    Record { name, unit: "", value: Value::Number(value), time_s: 0.0 }
}

fn message() -> Vec<u8> {
    let mut buffer = [0; 512];
    let id = MessageId { session: 7, sequence: 4_000_000_000 };
    let mut pack = uplink::open(&mut buffer, "pump-7/", 1_700_000_000.25, id).expect("room");
    pack.push(&Record { name: "water", unit: "Cel", value: Value::Number(21.3), time_s: -0.5 })
        .expect("room");
    pack.push(&Record { name: "anomaly", unit: "", value: Value::Boolean(true), time_s: 0.0 })
        .expect("room");
    pack.push(&Record { name: "detector", unit: "", value: Value::Text("a b"), time_s: 1.0 })
        .expect("room");
    let len = pack.close();
    buffer[..len].to_vec()
}

#[test]
fn what_is_written_is_read() {
    let bytes = message();
    let uplink = Uplink::parse(&bytes).expect("a legal message");
    assert_eq!(uplink.device, "pump-7");
    assert_eq!(uplink.id, MessageId { session: 7, sequence: 4_000_000_000 });
    let readings: Vec<_> = uplink.readings().collect();
    assert_eq!(readings.len(), 3);
    assert_eq!((readings[0].name, readings[0].unit), ("water", "Cel"));
    assert_eq!(readings[0].value, Value::Number(21.3));
    assert_eq!(readings[0].time_s, 1_700_000_000.25 - 0.5);
    assert_eq!(readings[1].value, Value::Boolean(true));
    assert_eq!(readings[2].value, Value::Text("a b"));
}

#[test]
fn numbers_keep_every_bit() {
    for value in [0.0, -0.0, 1.0, -17.0, 0.1, f64::from(0.1_f32), 1.0e300, 16_777_217.0, -1.0e-310]
    {
        let mut buffer = [0; 64];
        let len =
            PackWriter::open(&mut buffer, "d/", 0.0, &number("x", value)).expect("room").close();
        let record = PackReader::new(&buffer[..len]).expect("a pack").next();
        let Some(Ok(record)) = record else { panic!("{value} was not read: {record:?}") };
        let Value::Number(read) = record.value else { panic!("not a number: {record:?}") };
        // The base value of 0 is added, which turns -0 into 0.
        assert_eq!((value + 0.0).to_bits(), read.to_bits(), "{value}");
    }
}

#[test]
fn a_record_that_does_not_fit_leaves_the_pack_as_it_was() {
    let mut buffer = [0; 40];
    let mut pack = PackWriter::open(&mut buffer, "d/", 0.0, &number("x", 1.0)).expect("room");
    let before = pack.len();
    let long = Record { name: "a-rather-long-name", ..number("", 2.5) };
    assert!(pack.push(&long).is_err());
    assert_eq!(pack.len(), before);
    pack.push(&number("y", 2.0)).expect("a short record still fits");
    let len = pack.close();
    assert_eq!(PackReader::new(&buffer[..len]).expect("a pack").filter(Result::is_ok).count(), 2);
}

#[test]
fn every_cut_and_every_flipped_byte_is_an_error_or_a_message() {
    let bytes = message();
    for len in 0..bytes.len() {
        assert!(Uplink::parse(&bytes[..len]).is_err(), "cut at {len}");
    }
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1 << bit;
            if let Ok(uplink) = Uplink::parse(&damaged) {
                assert!(uplink.readings().count() <= 3);
            }
        }
    }
}

/// The CBOR example of RFC 8428 section 6.
#[test]
fn reads_the_example_of_the_rfc() {
    let bytes: &[u8] = &[
        0x87, 0xa7, 0x21, 0x78, 0x1b, 0x75, 0x72, 0x6e, 0x3a, 0x64, 0x65, 0x76, 0x3a, 0x6f, 0x77,
        0x3a, 0x31, 0x30, 0x65, 0x32, 0x30, 0x37, 0x33, 0x61, 0x30, 0x31, 0x30, 0x38, 0x30, 0x30,
        0x36, 0x3a, 0x22, 0xfb, 0x41, 0xd3, 0x03, 0xa1, 0x5b, 0x00, 0x10, 0x62, 0x23, 0x61, 0x41,
        0x20, 0x05, 0x00, 0x67, 0x76, 0x6f, 0x6c, 0x74, 0x61, 0x67, 0x65, 0x01, 0x61, 0x56, 0x02,
        0xfb, 0x40, 0x5e, 0x06, 0x66, 0x66, 0x66, 0x66, 0x66, 0xa3, 0x00, 0x67, 0x63, 0x75, 0x72,
        0x72, 0x65, 0x6e, 0x74, 0x06, 0x24, 0x02, 0xfb, 0x3f, 0xf3, 0x33, 0x33, 0x33, 0x33, 0x33,
        0x33, 0xa3, 0x00, 0x67, 0x63, 0x75, 0x72, 0x72, 0x65, 0x6e, 0x74, 0x06, 0x23, 0x02, 0xfb,
        0x3f, 0xf4, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcd, 0xa3, 0x00, 0x67, 0x63, 0x75, 0x72, 0x72,
        0x65, 0x6e, 0x74, 0x06, 0x22, 0x02, 0xfb, 0x3f, 0xf6, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
        0xa3, 0x00, 0x67, 0x63, 0x75, 0x72, 0x72, 0x65, 0x6e, 0x74, 0x06, 0x21, 0x02, 0xf9, 0x3e,
        0x00, 0xa3, 0x00, 0x67, 0x63, 0x75, 0x72, 0x72, 0x65, 0x6e, 0x74, 0x06, 0x20, 0x02, 0xfb,
        0x3f, 0xf9, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a, 0xa2, 0x00, 0x67, 0x63, 0x75, 0x72, 0x72,
        0x65, 0x6e, 0x74, 0x02, 0xfb, 0x3f, 0xfb, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33,
    ];
    let records: Vec<_> =
        PackReader::new(bytes).expect("an array").collect::<Result<_, _>>().expect("legal records");
    assert_eq!(records.len(), 7);
    assert_eq!(records[0].base_name, "urn:dev:ow:10e2073a0108006:");
    assert_eq!((records[0].name, records[0].unit), ("voltage", "V"));
    assert_eq!(records[0].value, Value::Number(120.1));
    assert_eq!((records[1].name, records[1].unit), ("current", "A"));
    assert_eq!(records[1].time_s - records[0].time_s, -5.0);
    assert_eq!(records[4].value, Value::Number(1.5));
    assert_eq!(records[6].value, Value::Number(1.7));
}

#[test]
fn refuses_what_a_reading_cannot_be() {
    fn read(bytes: &[u8]) -> Result<Resolved<'_>, DecodeError> {
        PackReader::new(bytes).and_then(|pack| pack.last().expect("an item"))
    }
    // [{0: "x", 2: NaN}]
    assert_eq!(
        read(&[0x81, 0xa2, 0x00, 0x61, 0x78, 0x02, 0xf9, 0x7e, 0x00]),
        Err(DecodeError::NotFinite)
    );
    // [{0: "x"}]
    assert_eq!(read(&[0x81, 0xa1, 0x00, 0x61, 0x78]), Err(DecodeError::NotOneValue));
    // [{0: "x", 2: 1, 4: true}]
    assert_eq!(
        read(&[0x81, 0xa3, 0x00, 0x61, 0x78, 0x02, 0x01, 0x04, 0xf5]),
        Err(DecodeError::NotOneValue)
    );
    // [{0: "<", 2: 1}]
    assert_eq!(read(&[0x81, 0xa2, 0x00, 0x61, 0x3c, 0x02, 0x01]), Err(DecodeError::BadName));
    // [{0: "x", 2: 1, "a_": 1}]
    assert_eq!(
        read(&[0x81, 0xa3, 0x00, 0x61, 0x78, 0x02, 0x01, 0x62, 0x61, 0x5f, 0x01]),
        Err(DecodeError::Unsupported)
    );
    // Two bytes after the pack.
    assert_eq!(
        read(&[0x81, 0xa2, 0x00, 0x61, 0x78, 0x02, 0x01, 0x00]),
        Err(DecodeError::TrailingBytes)
    );
    // A message that changes its device halfway.
    let mut buffer = [0; 128];
    let id = MessageId { session: 1, sequence: 0 };
    let pack = uplink::open(&mut buffer, "a/", 0.0, id).expect("room");
    let len = pack.len();
    let foreign = [0xa3, 0x21, 0x62, b'b', b'/', 0x00, 0x61, b'x', 0x02, 0x01, 0xff];
    buffer[len..len + foreign.len()].copy_from_slice(&foreign);
    assert_eq!(Uplink::parse(&buffer[..len + foreign.len()]).err(), Some(UplinkError::ForeignName));
}
