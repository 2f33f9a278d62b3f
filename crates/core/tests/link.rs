//! The sealed session's parts that need no server: frames, messages, the replay window, waiting.

use std::collections::BTreeSet;

use stonechat_core::limits::{
    SEALED_ACKNOWLEDGED_RUNS_MAX, SEALED_FRAME_LEN_MAX, SEALED_HANDSHAKE_WAIT_MAX_MS,
    SEALED_HANDSHAKE_WAIT_MS, SEALED_WINDOW_LEN,
};
use stonechat_core::link::frame::{self, Delimited, Frame, delimit};
use stonechat_core::link::message::{Message, RunsWriter};
use stonechat_core::link::window::ReplayWindow;
use stonechat_core::link::{HANDSHAKE_RANDOM_LEN, Link, LinkError, SecretKey};

/// Marsaglia's xorshift with 64 bits.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The window as its documentation puts it: a set of all that was seen.
#[derive(Default)]
struct Seen(BTreeSet<u64>);

impl Seen {
    fn is_new(&self, counter: u64) -> bool {
        let highest = self.0.last().copied();
        let too_old = highest.is_some_and(|highest| counter + SEALED_WINDOW_LEN <= highest);
        !too_old && !self.0.contains(&counter)
    }
}

#[test]
fn the_window_equals_a_set() {
    for seed in 1..=60 {
        let mut random = Random(seed * 0x9E37_79B9);
        let (mut window, mut seen) = (ReplayWindow::default(), Seen::default());
        let mut highest = 0_u64;
        for step in 0..4_000 {
            let counter = match random.below(10) {
                0..5 => highest + random.below(4),
                5..8 => highest.saturating_sub(random.below(SEALED_WINDOW_LEN + 20)),
                8 => highest + random.below(3 * SEALED_WINDOW_LEN),
                _ => random.below(highest + 1),
            };
            assert_eq!(
                window.is_new(counter),
                seen.is_new(counter),
                "seed {seed}, step {step}, counter {counter}, highest {highest}"
            );
            if seen.is_new(counter) && random.below(4) > 0 {
                window.mark(counter);
                seen.0.insert(counter);
                highest = highest.max(counter);
            }
        }
    }
}

#[test]
fn the_window_has_exactly_its_length() {
    let top = 10 * SEALED_WINDOW_LEN;
    let mut window = ReplayWindow::default();
    window.mark(top);
    assert!(!window.is_new(top));
    assert!(window.is_new(top + 1));
    assert!(window.is_new(top - SEALED_WINDOW_LEN + 1), "the oldest that is remembered");
    assert!(!window.is_new(top - SEALED_WINDOW_LEN), "older ones count as seen");
    window.mark(top - SEALED_WINDOW_LEN + 1);
    assert!(!window.is_new(top - SEALED_WINDOW_LEN + 1));
    // What is too old leaves no mark on the counter that shares its bit.
    window.mark(top - SEALED_WINDOW_LEN - 1);
    assert!(window.is_new(top - 1));
    window.mark(u64::MAX - 1);
    assert!(!window.is_new(u64::MAX - 1));
    assert!(!window.is_new(top));
    assert!(window.is_new(u64::MAX - 2));
    window.mark(u64::MAX);
    assert!(!window.is_new(u64::MAX), "reserved");
    assert!(window.is_new(u64::MAX - 2));
}

#[test]
fn frames_are_taken_apart_as_they_were_put_together() {
    let noise = [7; frame::HELLO_NOISE_LEN];
    let hello = frame::hello(0xA1B2_C3D4, &noise);
    assert_eq!(hello[..6], [1, 1, 0xD4, 0xC3, 0xB2, 0xA1]);
    assert_eq!(Frame::parse(&hello), Ok(Frame::Hello { session: 0xA1B2_C3D4, noise: &noise }));
    let noise = [9; frame::WELCOME_NOISE_LEN];
    let welcome = frame::welcome(5, &noise);
    assert_eq!(Frame::parse(&welcome), Ok(Frame::Welcome { session: 5, noise: &noise }));
    assert_eq!(Frame::parse(&frame::rejected(6)), Ok(Frame::Rejected { session: 6 }));
    let sealed = [&frame::sealed_header(7, 1 << 40)[..], &[3; 17]].concat();
    let expected = Frame::Sealed { session: 7, counter: 1 << 40, sealed: &[3; 17] };
    assert_eq!(Frame::parse(&sealed), Ok(expected));
    for bad in [
        &hello[..101],
        &welcome[..53],
        &sealed[..30],
        &[1, 4, 0, 0, 0, 0, 0],
        &[2, 4, 0, 0, 0, 0],
        &[1, 5, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0],
        &[1, 4, 0, 0, 0],
        &[],
        &vec![1; SEALED_FRAME_LEN_MAX + 1],
    ] {
        assert_eq!(Frame::parse(bad), Err(LinkError::Malformed), "{bad:?}");
    }
}

#[test]
fn a_stream_is_cut_into_its_frames_wherever_it_breaks() {
    let frames = [frame::rejected(1).to_vec(), vec![1; 300], frame::rejected(2).to_vec()];
    let stream: Vec<u8> = frames.iter().flat_map(|f| [&frame::length(f)[..], f].concat()).collect();
    for end in 0..=stream.len() {
        let (mut at, mut found) = (0, Vec::new());
        while let Ok(Delimited::Whole(start, stop)) = delimit(&stream[..end], at) {
            found.push(stream[start..stop].to_vec());
            at = stop;
        }
        assert_eq!(found, frames[..found.len()]);
        if end == stream.len() {
            assert_eq!(found.len(), frames.len());
        }
    }
    for length in [0_u16, 5, SEALED_FRAME_LEN_MAX as u16 + 1, u16::MAX] {
        assert_eq!(delimit(&length.to_le_bytes(), 0), Err(LinkError::Malformed), "{length}");
    }
    assert_eq!(delimit(&[], 7), Ok(Delimited::Partial), "beyond the stream");
}

#[test]
fn an_acknowledgement_names_what_was_pushed() {
    let mut random = Random(11);
    for _ in 0..200 {
        let mut counters = BTreeSet::new();
        let mut next = random.below(1 << 40);
        for _ in 0..random.below(400) {
            next += 1 + u64::from(random.below(12) == 0) * random.below(5);
            counters.insert(next);
        }
        let mut left: Vec<u64> = counters.iter().copied().collect();
        let mut named = BTreeSet::new();
        while !left.is_empty() {
            let mut writer = RunsWriter::default();
            let taken = left.iter().take_while(|counter| writer.push(**counter)).count();
            assert!(taken > 0);
            let Ok(Message::Acknowledgement(runs)) =
                Message::parse(writer.message().expect("pushed"))
            else {
                panic!("no acknowledgement");
            };
            for (first, len) in runs.iter() {
                named.extend(first..first + u64::from(len));
            }
            assert!(left[..taken].iter().all(|counter| runs.contains(*counter)));
            left.drain(..taken);
        }
        assert_eq!(named, counters);
    }
    assert_eq!(RunsWriter::default().message(), None);
    let mut writer = RunsWriter::default();
    let apart = (0..).map(|i| 2 * i).take_while(|counter| writer.push(*counter)).count();
    assert_eq!(apart, SEALED_ACKNOWLEDGED_RUNS_MAX);
    // A run is no longer than its length can tell.
    let mut writer = RunsWriter::default();
    assert!((0..70_000).all(|counter| writer.push(counter)));
    assert_eq!(writer.message().map(<[u8]>::len), Some(2 + 2 * 10));
}

#[test]
fn messages_of_another_shape_are_refused() {
    for bad in [&[][..], &[2], &[2, 0], &[2, 1], &[2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1], &[3, 0]] {
        assert_eq!(Message::parse(bad), Err(LinkError::Malformed), "{bad:?}");
    }
    assert_eq!(Message::parse(&[3]), Ok(Message::KeepAlive));
    assert_eq!(Message::parse(&[200, 1, 2]), Ok(Message::Unknown));
    let wrap = [&[2, 1][..], &u64::MAX.to_le_bytes(), &2_u16.to_le_bytes()].concat();
    let Ok(Message::Acknowledgement(runs)) = Message::parse(&wrap) else {
        panic!("a run to the end is legal");
    };
    assert!(runs.contains(u64::MAX));
    assert!(!runs.contains(1));
}

#[test]
fn garbage_never_panics() {
    let mut random = Random(3);
    let mut link = Link::new(SecretKey::from_bytes([1; 32]), [9; 32]);
    let hello = link.hello(0, [5; HANDSHAKE_RANDOM_LEN]).expect("a key");
    for round in 0..20_000_u64 {
        let len = random.below(130) as usize;
        let mut bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        if round % 2 == 0 && len >= 6 {
            bytes[0] = 1;
            bytes[1] = (random.below(5)) as u8;
            bytes[2..6].copy_from_slice(&hello[2..6]);
        }
        let _ = Frame::parse(&bytes);
        let _ = Message::parse(&bytes);
        let _ = delimit(&bytes, random.below(140) as usize);
        let _ = link.open(round, &mut bytes);
        assert!(!link.is_established());
    }
}

#[test]
fn handshakes_wait_longer_each_time() {
    let mut link = Link::new(SecretKey::from_bytes([1; 32]), [9; 32]);
    let (mut now_ms, mut waits) = (1_000_000, Vec::new());
    assert!(link.needs_handshake(now_ms));
    for attempt in 0..9_u8 {
        link.hello(now_ms, [attempt; HANDSHAKE_RANDOM_LEN]).expect("a key");
        let before = now_ms;
        while !link.needs_handshake(now_ms) {
            now_ms += 500;
        }
        waits.push(now_ms - before);
    }
    assert_eq!(waits[..3], [1, 2, 4].map(|times| times * SEALED_HANDSHAKE_WAIT_MS));
    assert_eq!(waits.last(), Some(&SEALED_HANDSHAKE_WAIT_MAX_MS));
    link.disconnected();
    assert!(link.needs_handshake(now_ms));
    assert_eq!(link.seal_keep_alive(now_ms, &mut [0; 64]), Err(LinkError::NoSession));
    // A point of low order as pinned key would make every session's key known to all.
    let mut link = Link::new(SecretKey::from_bytes([1; 32]), [0; 32]);
    assert_eq!(link.hello(0, [5; HANDSHAKE_RANDOM_LEN]), Err(LinkError::WrongServer));
}
