//! What must not open, and who must not get in.

use stonechat_core::limits::{
    SEALED_SESSION_FRAMES_MAX, SEALED_SESSION_TIME_MAX_MS, SEALED_WINDOW_LEN,
};
use stonechat_core::link::frame::{rejected, sealed_header};
use stonechat_core::link::message::RunsWriter;
use stonechat_core::link::{Event, LinkError};

use super::*;

fn sealed(link: &mut Link, text: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 300];
    let len = link.seal_message(0, 1, text, &mut out).expect("a session");
    out.truncate(len);
    out
}

fn acknowledgement(session: &Session, counter: u64) -> Vec<u8> {
    let mut runs = RunsWriter::default();
    assert!(runs.push(counter));
    let mut frame = Vec::new();
    session.sealer().seal(runs.message().expect("a run"), &mut frame).expect("fresh");
    frame
}

#[test]
fn both_sides_understand_each_other() {
    let responder = responder(KeyRing::new());
    let (mut link, mut session) = established(&responder, &PUMP_SECRET, 1);
    assert_eq!(session.peer().device, id("pump"));
    let frame = sealed(&mut link, b"reading");
    assert_eq!(open(&mut session, &frame), Ok(b"\x01reading".to_vec()));
    match link.open(0, &mut acknowledgement(&session, 0)) {
        Ok(Event::Acknowledged(done)) => assert_eq!(done.sequences(), [1]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_byte_of_a_frame_can_change() {
    let responder = responder(KeyRing::new());
    let (mut link, mut session) = established(&responder, &PUMP_SECRET, 1);
    let frame = sealed(&mut link, b"a reading of 21.5 degrees");
    let answer = acknowledgement(&session, 0);
    for at in 0..frame.len() {
        for flip in [1, 0x80, 0xff] {
            let mut changed = frame.clone();
            changed[at] ^= flip;
            assert!(open(&mut session, &changed).is_err(), "byte {at} of the frame");
        }
    }
    for at in 0..answer.len() {
        let mut changed = answer.clone();
        changed[at] ^= 4;
        assert!(link.open(0, &mut changed).is_err(), "byte {at} of the answer");
    }
    for len in 0..frame.len() {
        assert!(open(&mut session, &frame[..len]).is_err());
    }
    // None of the attempts has hurt the session.
    assert!(open(&mut session, &frame).is_ok());
    assert!(matches!(link.open(0, &mut answer.clone()), Ok(Event::Acknowledged(_))));
}

#[test]
fn no_byte_of_a_handshake_can_change() {
    let responder = responder(KeyRing::new());
    let mut device = link(&PUMP_SECRET);
    let hello = device.hello(0, [3; HANDSHAKE_RANDOM_LEN]).expect("a key");
    for at in 2..hello.len() {
        let mut changed = hello;
        changed[at] ^= 1;
        // The highest bit of an X25519 key does not count (RFC 7748), but it is hashed all the same.
        assert_eq!(answer(&responder, &changed).err(), Some(Refusal::Unreadable), "byte {at}");
    }
    let mut high = hello;
    high[6 + 31] ^= 0x80;
    assert_eq!(answer(&responder, &high).err(), Some(Refusal::Unreadable));
    let (_, welcome) = answer(&responder, &hello).expect("enrolled");
    for at in 6..welcome.len() {
        let mut device = link(&PUMP_SECRET);
        assert_eq!(device.hello(0, [3; HANDSHAKE_RANDOM_LEN]).expect("a key"), hello);
        let mut changed = welcome.clone();
        changed[at] ^= 1;
        assert_eq!(device.open(0, &mut changed), Err(LinkError::WrongServer), "byte {at}");
        assert!(!device.is_established());
    }
    let mut other = welcome.clone();
    other[2] ^= 1;
    assert_eq!(device.open(0, &mut other), Err(LinkError::UnknownSession));
    assert_eq!(device.open(0, &mut welcome.clone()), Ok(Event::Established));
}

#[test]
fn a_replayed_frame_is_taken_once() {
    let responder = responder(KeyRing::new());
    let (mut link, mut session) = established(&responder, &PUMP_SECRET, 1);
    let frame = sealed(&mut link, b"once");
    assert!(open(&mut session, &frame).is_ok());
    for _ in 0..3 {
        assert_eq!(open(&mut session, &frame), Err(LinkError::Replayed.to_string()));
    }
    // Nor does the device take an acknowledgement twice.
    let answer = acknowledgement(&session, 0);
    assert!(link.open(0, &mut answer.clone()).is_ok());
    assert_eq!(link.open(0, &mut answer.clone()), Err(LinkError::Replayed));
    // Nor does a frame open in another session, or its own sender's direction.
    let (mut other, mut other_session) = established(&responder, &PUMP_SECRET, 2);
    let mut moved = frame.clone();
    moved[2..6].copy_from_slice(&other_session.number().to_le_bytes());
    assert_eq!(open(&mut other_session, &moved), Err(LinkError::Forged.to_string()));
    let mut back = sealed(&mut other, b"echo");
    assert_eq!(other.open(0, &mut back), Err(LinkError::Forged));
}

#[test]
fn frames_may_come_out_of_order_within_the_window() {
    let responder = responder(KeyRing::new());
    let (mut link, mut session) = established(&responder, &PUMP_SECRET, 1);
    let len = SEALED_WINDOW_LEN as usize;
    let frames: Vec<Vec<u8>> = (0..len + 1).map(|_| sealed(&mut link, b"x")).collect();
    assert!(open(&mut session, &frames[len]).is_ok());
    assert_eq!(open(&mut session, &frames[0]), Err(LinkError::Replayed.to_string()));
    for frame in frames[1..len].iter().rev() {
        assert!(open(&mut session, frame).is_ok());
        assert_eq!(open(&mut session, frame), Err(LinkError::Replayed.to_string()));
    }
}

#[test]
fn a_replayed_handshake_gives_nothing() {
    let responder = responder(KeyRing::new());
    let mut device = link(&PUMP_SECRET);
    let hello = device.hello(0, [3; HANDSHAKE_RANDOM_LEN]).expect("a key");
    let (mut genuine, mut welcome) = answer(&responder, &hello).expect("enrolled");
    device.open(0, &mut welcome).expect("the server's");
    let first = sealed(&mut device, b"first");
    assert!(open(&mut genuine, &first).is_ok());
    // Somebody who heard all of it says it again: the server's ephemeral key is another one, so
    // that the frame that was heard does not open, and the session is never confirmed.
    let (mut replayed, again) = answer(&responder, &hello).expect("a hello like any other");
    assert_ne!(again, welcome);
    assert_eq!(open(&mut replayed, &first), Err(LinkError::Forged.to_string()));
    assert!(!replayed.is_confirmed());
    // Nor does the second answer move the device.
    assert_eq!(device.open(0, &mut again.clone()), Err(LinkError::UnknownSession));
}

#[test]
fn who_is_not_enrolled_gets_no_answer() {
    let ring = KeyRing::new();
    let responder = responder(ring.clone());
    let mut stranger = link(&[0x77; 32]);
    let hello = stranger.hello(0, [3; HANDSHAKE_RANDOM_LEN]).expect("a key");
    assert!(matches!(answer(&responder, &hello), Err(Refusal::UnknownKey(_))));
    // A device that pins another server's key.
    let mut lost = Link::new(SecretKey::from_bytes(PUMP_SECRET), public(&[0x55; 32]));
    let hello = lost.hello(0, [3; HANDSHAKE_RANDOM_LEN]).expect("a key");
    assert_eq!(answer(&responder, &hello).err(), Some(Refusal::Unreadable));
    let session = u32::from_le_bytes([3; 4]);
    assert_eq!(lost.open(0, &mut rejected(session)), Ok(Event::Rejected));
    // A server that poses as the pinned one.
    let impostor = Responder::new([0x55; 32], ring.clone());
    let mut device = link(&PUMP_SECRET);
    let hello = device.hello(0, [3; HANDSHAKE_RANDOM_LEN]).expect("a key");
    assert_eq!(answer(&impostor, &hello).err(), Some(Refusal::Unreadable));
    // A revoked key.
    let mut device = link(&PUMP_SECRET);
    let hello = device.hello(0, [4; HANDSHAKE_RANDOM_LEN]).expect("a key");
    let (session, _) = answer(&responder, &hello).expect("enrolled");
    ring.revoke(&PUMP_SECRET);
    assert!(matches!(answer(&responder, &hello), Err(Refusal::UnknownKey(_))));
    assert!(!ring.is_current(session.peer()));
}

#[test]
fn a_forged_rejection_costs_a_handshake_at_most() {
    let responder = responder(KeyRing::new());
    let (mut link, mut session) = established(&responder, &PUMP_SECRET, 1);
    assert!(!link.needs_handshake(100));
    assert_eq!(link.open(100, &mut rejected(session.number())), Ok(Event::Ignored));
    assert!(link.needs_handshake(60_000));
    assert!(open(&mut session, &sealed(&mut link, b"still here")).is_ok());
    let hello = link.hello(60_000, [9; HANDSHAKE_RANDOM_LEN]).expect("a key");
    let (_, mut welcome) = answer(&responder, &hello).expect("enrolled");
    assert_eq!(link.open(60_000, &mut welcome), Ok(Event::Established));
    assert!(!link.needs_handshake(120_000));
    assert_eq!(link.open(0, &mut rejected(12_345)), Err(LinkError::UnknownSession));
}

#[test]
fn a_session_ends_with_its_counters_and_its_time() {
    use stonechat_core::limits::{SEALED_REKEY_FRAMES, SEALED_REKEY_TIME_MS};
    let responder = responder(KeyRing::new());
    let (mut link, mut session) = established(&responder, &PUMP_SECRET, 1);
    let header = sealed_header(session.number(), SEALED_SESSION_FRAMES_MAX);
    let beyond = [&header[..], &[0; 40]].concat();
    assert_eq!(open(&mut session, &beyond), Err(LinkError::Exhausted.to_string()));
    assert_eq!(link.open(0, &mut beyond.clone()), Err(LinkError::Exhausted));
    let header = sealed_header(session.number(), u64::MAX);
    let last = [&header[..], &[0; 40]].concat();
    assert_eq!(open(&mut session, &last), Err(LinkError::Exhausted.to_string()));
    // The device renews in time ...
    assert!(!link.needs_handshake(SEALED_REKEY_TIME_MS - 1));
    assert!(link.needs_handshake(SEALED_REKEY_TIME_MS));
    // ... or says nothing any more.
    let mut out = [0; 100];
    assert!(link.seal_keep_alive(SEALED_SESSION_TIME_MAX_MS - 1, &mut out).is_ok());
    assert_eq!(
        link.seal_keep_alive(SEALED_SESSION_TIME_MAX_MS, &mut out),
        Err(LinkError::Exhausted)
    );
    for _ in 1..SEALED_REKEY_FRAMES {
        link.seal_keep_alive(0, &mut out).expect("not yet");
    }
    assert!(link.needs_handshake(100_000));
    for _ in SEALED_REKEY_FRAMES..SEALED_SESSION_FRAMES_MAX {
        link.seal_keep_alive(0, &mut out).expect("not yet");
    }
    assert_eq!(link.seal_keep_alive(0, &mut out), Err(LinkError::Exhausted));
    // The last one that was sealed still opens.
    assert_eq!(open(&mut session, &out[..31]), Ok(vec![3]));
}
