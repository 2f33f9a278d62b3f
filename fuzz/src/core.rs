//! Decoders of the core.

use std::cell::RefCell;

use stonechat_core::detector::{Detector, format};
use stonechat_core::limits::{MESSAGE_LEN_MAX, MESSAGE_RECORDS_MAX};
use stonechat_core::link::frame::{self, Delimited, Frame};
use stonechat_core::link::message::Message;
use stonechat_core::link::{HANDSHAKE_RANDOM_LEN, KEY_LEN, Link, LinkError, SecretKey};
use stonechat_core::pipeline::Pipeline;
use stonechat_core::provision::{PROVISION_LEN, Provision, ProvisionError};
use stonechat_core::update::cose::{Sign, Sign1};
use stonechat_core::update::transfer::{
    MESSAGE_LEN_MAX as UPDATE_MESSAGE_LEN_MAX, Message as Update, Status,
};
use stonechat_core::update::{KeyDocument, Manifest, Reason, SignedManifest};
use stonechat_core::wire::packet::Packet;
use stonechat_core::wire::uplink::Uplink;

/// An uplink message: whatever is accepted has no more records than the limit.
pub(crate) fn uplink(bytes: &[u8]) {
    if let Ok(message) = Uplink::parse(bytes) {
        assert!(bytes.len() <= MESSAGE_LEN_MAX);
        assert!(message.readings().count() <= MESSAGE_RECORDS_MAX);
    }
}

/// The words of memory that a forged detector may ask for here.
const MEMORY_WORDS_MAX: usize = 1 << 20;
/// Samples that it is fed.
const SAMPLES: usize = 64;

/// A detector file with a right checksum, which any forger can make: it is refused, or runs.
pub(crate) fn detector(bytes: &[u8]) {
    let mut words = vec![0_u32; bytes.len().div_ceil(4)];
    let file = &mut bytemuck::cast_slice_mut(&mut words)[..bytes.len()];
    file.copy_from_slice(bytes);
    if let Some(place) = file.get(format::CHECKSUM_OFFSET..format::CHECKSUM_OFFSET + 4) {
        let len = place.len();
        let checksum = format::checksum(file).to_le_bytes();
        file[format::CHECKSUM_OFFSET..format::CHECKSUM_OFFSET + len].copy_from_slice(&checksum);
    }
    let Ok(detector) = Detector::load(&bytemuck::cast_slice(&words)[..bytes.len()]) else {
        return;
    };
    if detector.memory_words() > MEMORY_WORDS_MAX {
        return;
    }
    let mut memory = vec![0; detector.memory_words()];
    let mut pipeline = Pipeline::new(&detector, &mut memory).expect("as much as it asked for");
    let mut sample = vec![0.0; detector.channels().count()];
    for index in 0..SAMPLES {
        sample.fill((index as f32).sin() * 10.0);
        if let Ok(Some(result)) = pipeline.push(&sample) {
            assert!(result.score.is_finite(), "a score is finite, whatever the file says");
        }
    }
}

/// An old packet: one that is accepted says the same when it is written again.
pub(crate) fn packet(bytes: &[u8]) {
    // The sum is right in one of 65,536; any forger can make it so.
    let mut bytes = bytes.to_vec();
    if let Some(body) = bytes.get(1..=28) {
        let sum = body.iter().map(|byte| u16::from(*byte)).sum::<u16>().to_be_bytes();
        if let Some(place) = bytes.get_mut(29..=30) {
            place.copy_from_slice(&sum);
        }
    }
    if let Ok(packet) = Packet::parse(&bytes) {
        let written = packet.write().expect("what was read can be written");
        assert_eq!(Packet::parse(&written), Ok(packet));
    }
}

/// A stream of sealed frames as TCP cuts it, and the messages within.
pub(crate) fn frames(bytes: &[u8]) {
    let mut at = 0;
    while let Ok(Delimited::Whole(start, end)) = frame::delimit(bytes, at) {
        assert!(at < start && start <= end && end <= bytes.len());
        let _ = Frame::parse(&bytes[start..end]);
        at = end;
    }
    if let Ok(Message::Acknowledgement(runs)) = Message::parse(bytes) {
        for (first, len) in runs.iter() {
            assert!(len == 0 || runs.contains(first));
        }
    }
}

thread_local! {
    /// A device that has said hello: kept, as that takes longer than all the rest.
    static WAITING: RefCell<Option<Link>> = const { RefCell::new(None) };
}

/// What somebody sends to a device that has just said hello.
pub(crate) fn link(bytes: &[u8]) {
    let mut frame = bytes.to_vec();
    WAITING.with_borrow_mut(|waiting| {
        let link = waiting.get_or_insert_with(said_hello);
        let opened = link.open(1, &mut frame);
        assert!(!link.is_established(), "nobody but the server can finish the handshake");
        if !matches!(opened, Err(LinkError::Malformed | LinkError::UnknownSession)) {
            *waiting = None;
        }
    });
}

fn said_hello() -> Link {
    const DEVICE: [u8; KEY_LEN] = [7; KEY_LEN];
    const SERVER: [u8; KEY_LEN] = [9; KEY_LEN];
    let server = SecretKey::from_bytes(SERVER).public();
    let mut link = Link::new(SecretKey::from_bytes(DEVICE), server);
    link.hello(0, [5; HANDSHAKE_RANDOM_LEN]).expect("the server's key is one");
    link
}

/// The fields of a provisioning image under a right header.
pub(crate) fn provision(fields: &[u8]) {
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let mut image = b"SCPV\x01\x00\x00\x00".to_vec();
    image.extend((fields.len() as u32).to_le_bytes());
    let mut digest = crc.digest();
    digest.update(&image);
    digest.update(fields);
    image.extend(digest.finalize().to_le_bytes());
    image.extend(fields);
    let parsed = Provision::parse(&image);
    assert_ne!(parsed, Err(ProvisionError::Checksum), "the header is right");
    if let Ok(provision) = parsed {
        let mut written = [0; PROVISION_LEN];
        provision.write(&mut written).expect("what was read can be written");
        assert_eq!(Provision::parse(&written), Ok(provision));
    }
}

/// A manifest, with and without its envelope: what is accepted has one spelling.
pub(crate) fn manifest(bytes: &[u8]) {
    let mut written = vec![0; bytes.len()];
    if let Some(envelope) = Sign1::parse(bytes) {
        assert_eq!(envelope.write(&mut written), Some(bytes.len()));
        assert_eq!(written, bytes);
    }
    let _ = SignedManifest::parse(bytes);
    if let Ok(manifest) = Manifest::parse(bytes) {
        // Optional keys of later versions are left out, and nothing else.
        let len = manifest.write(&mut written).expect("what was read can be written");
        assert_eq!(Manifest::parse(&written[..len]), Ok(manifest));
    }
}

/// A key document; nothing takes the place of itself.
pub(crate) fn keys(bytes: &[u8]) {
    let mut written = vec![0; bytes.len()];
    if let Some(envelope) = Sign::parse(bytes) {
        assert_eq!(envelope.write(&mut written), Some(bytes.len()));
        assert_eq!(written, bytes);
    }
    if let Ok(document) = KeyDocument::parse(bytes) {
        assert_eq!(document.successor(bytes), Err(Reason::OldKeys));
    }
}

/// A message of an update, to the device and to the server.
pub(crate) fn update(bytes: &[u8]) {
    if let Ok(message) = Update::parse(bytes)
        && message != Update::Unknown
    {
        let mut written = [0; UPDATE_MESSAGE_LEN_MAX];
        let len = message.write(&mut written).expect("what was read can be written");
        assert_eq!(written[..len], *bytes);
    }
    if let Ok(status) = Status::parse(bytes) {
        assert_eq!(status.write()[..], *bytes);
        assert!(status.wanted().all(|index| index < status.chunk_count));
    }
}
