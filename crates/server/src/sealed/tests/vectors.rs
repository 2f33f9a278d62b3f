//! `testdata/sealed.json`, which `testdata/make/sealed.py` makes with OpenSSL and Noise's text.

use serde::Deserialize;
use stonechat_core::link::frame::Frame;
use stonechat_core::link::message::{Message, RunsWriter};
use stonechat_core::link::{Event, HANDSHAKE_RANDOM_LEN, Link, Session as DeviceSession};
use stonechat_core::link::{Handshake, SecretKey};

use super::*;
use crate::sealed::session::Session;

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    session: u32,
    device_secret: String,
    device_public: String,
    server_secret: String,
    server_public: String,
    device_ephemeral: String,
    server_ephemeral: String,
    hello: String,
    welcome: String,
    uplinks: Vec<Uplink>,
    keep_alive: KeepAlive,
    acknowledged_runs: Vec<(u64, u16)>,
    acknowledgement: String,
    rejected: String,
}

#[derive(Deserialize)]
struct Uplink {
    counter: u64,
    text: String,
    frame: String,
}

#[derive(Deserialize)]
struct KeepAlive {
    counter: u64,
    frame: String,
}

fn bytes(hex: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(pair).collect()
}

fn key(hex: &str) -> [u8; 32] {
    bytes(hex).try_into().expect("a key")
}

fn cases() -> Vec<Case> {
    let text = include_str!("../../../../../testdata/sealed.json");
    let vectors: Vectors = serde_json::from_str(text).expect("vectors");
    assert!(vectors.cases.len() >= 3);
    vectors.cases
}

impl Case {
    fn random(&self) -> [u8; HANDSHAKE_RANDOM_LEN] {
        let mut random = [0; HANDSHAKE_RANDOM_LEN];
        random[..32].copy_from_slice(&key(&self.device_ephemeral));
        random[32..].copy_from_slice(&self.session.to_le_bytes());
        random
    }

    fn device_session(&self) -> DeviceSession {
        let secret = SecretKey::from_bytes(key(&self.device_secret));
        let (handshake, hello) =
            Handshake::start(&secret, &key(&self.server_public), self.random()).expect("a key");
        assert_eq!(hello.to_vec(), bytes(&self.hello), "{}", self.name);
        let welcome = bytes(&self.welcome);
        let Ok(Frame::Welcome { noise, .. }) = Frame::parse(&welcome) else {
            panic!("no welcome");
        };
        handshake.finish(noise).expect("the pinned server")
    }

    fn server_session(&self) -> Session {
        let ring = KeyRing::new();
        ring.enrol("probe", &key(&self.device_secret));
        let responder = Responder::new(key(&self.server_secret), ring);
        assert_eq!(responder.public().to_vec(), bytes(&self.server_public));
        let hello = bytes(&self.hello);
        let (number, noise) = noise_of(&hello);
        assert_eq!(number, self.session);
        let (session, welcome) = responder
            .answer_with(number, noise, Some(&key(&self.server_ephemeral)))
            .expect("enrolled");
        assert_eq!(welcome.to_vec(), bytes(&self.welcome), "{}", self.name);
        assert_eq!(session.peer().key.to_vec(), bytes(&self.device_public));
        session
    }
}

#[test]
fn core_seals_and_opens_as_the_vectors_say() {
    for case in cases() {
        let mut session = case.device_session();
        for uplink in &case.uplinks {
            session.skip(uplink.counter - session.next_counter());
            let mut out = vec![0; 2_000];
            let (counter, len) = session.seal(1, &bytes(&uplink.text), &mut out).expect("room");
            assert_eq!(counter, uplink.counter);
            assert_eq!(out[..len], bytes(&uplink.frame), "{}", case.name);
        }
        let mut out = vec![0; 100];
        assert_eq!(session.next_counter(), case.keep_alive.counter);
        let (_, len) = session.seal(3, &[], &mut out).expect("room");
        assert_eq!(out[..len], bytes(&case.keep_alive.frame), "{}", case.name);
        let mut frame = bytes(&case.acknowledgement);
        let Ok(Frame::Sealed { session: number, counter, .. }) = Frame::parse(&frame) else {
            panic!("no sealed frame");
        };
        assert_eq!((number, counter), (case.session, 0));
        let text = session.open(0, &mut frame[14..]).expect("genuine");
        let Ok(Message::Acknowledgement(runs)) = Message::parse(text) else {
            panic!("no acknowledgement");
        };
        assert_eq!(runs.iter().collect::<Vec<_>>(), case.acknowledged_runs);
    }
}

#[test]
fn the_whole_link_follows_the_vectors() {
    for case in cases() {
        let secret = SecretKey::from_bytes(key(&case.device_secret));
        let mut link = Link::new(secret, key(&case.server_public));
        let hello = link.hello(0, case.random()).expect("a key");
        assert_eq!(hello.to_vec(), bytes(&case.hello));
        assert_eq!(link.open(1, &mut bytes(&case.welcome)), Ok(Event::Established));
        if case.uplinks[0].counter == 0 {
            for (sequence, uplink) in case.uplinks.iter().enumerate() {
                let mut out = vec![0; 2_000];
                let len = link
                    .seal_message(2, sequence as u32 + 70, &bytes(&uplink.text), &mut out)
                    .expect("room");
                assert_eq!(out[..len], bytes(&uplink.frame));
            }
            match link.open(3, &mut bytes(&case.acknowledgement)) {
                Ok(Event::Acknowledged(done)) => assert_eq!(done.sequences(), [70, 71, 72]),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(link.open(4, &mut bytes(&case.rejected)), Ok(Event::Ignored));
        assert!(link.needs_handshake(100_000), "the session is doubtful now");
    }
}

#[test]
fn the_server_opens_and_seals_as_the_vectors_say() {
    for case in cases() {
        let mut session = case.server_session();
        assert!(!session.is_confirmed());
        for uplink in &case.uplinks {
            let text = open(&mut session, &bytes(&uplink.frame)).expect("genuine");
            assert_eq!(text, [&[1], &bytes(&uplink.text)[..]].concat(), "{}", case.name);
        }
        assert_eq!(open(&mut session, &bytes(&case.keep_alive.frame)), Ok(vec![3]));
        assert!(session.is_confirmed());
        let mut runs = RunsWriter::default();
        for &(first, len) in &case.acknowledged_runs {
            assert!((first..first + u64::from(len)).all(|counter| runs.push(counter)));
        }
        let mut frame = Vec::new();
        session.sealer().seal(runs.message().expect("runs"), &mut frame).expect("fresh");
        assert_eq!(frame, bytes(&case.acknowledgement), "{}", case.name);
    }
}
