//! Messages byte for byte; a transfer over a line that loses, repeats and reorders.

use stonechat_core::update::transfer::{Chunk, MESSAGE_LEN_MAX, Message, STATUS_LEN, Status};
use stonechat_core::update::{Component, Reason, ReleaseId, State};

use crate::plant::{Plant, Release, key_document};
use crate::vectors::{self, array, bytes};

#[test]
fn messages_are_read_and_written_as_others_do() {
    let vectors = vectors::load().messages;
    let release = ReleaseId(array(&vectors.release));
    let proof: Vec<[u8; 32]> = vectors.proof.iter().map(|hash| array(hash)).collect();
    let chunk = Chunk { release, index: 1234, proof: &proof, bytes: b"the chunk" };
    for (expected, message) in [
        (&vectors.keys, Message::Keys(b"a key document")),
        (&vectors.offer, Message::Offer(b"a manifest")),
        (&vectors.chunk, Message::Chunk(chunk)),
        (&vectors.seen, Message::Seen(release)),
        (&vectors.cancel, Message::Cancel(release)),
        (&vectors.ask, Message::Ask),
    ] {
        let expected = bytes(expected);
        assert_eq!(Message::parse(&expected), Ok(message));
        let mut written = [0; MESSAGE_LEN_MAX];
        assert_eq!(message.write(&mut written), Some(expected.len()));
        assert_eq!(written[..expected.len()], expected);
        assert_eq!(message.write(&mut written[..expected.len() - 1]), None);
    }
    assert_eq!(Message::parse(&bytes(&vectors.later)), Ok(Message::Unknown));
}

#[test]
fn a_status_is_read_and_written_as_others_do() {
    let vectors = vectors::load().messages;
    let expected = bytes(&vectors.status);
    let status = Status::parse(&expected).expect("a status");
    assert_eq!(status.write()[..], expected);
    assert_eq!(status.wanted().collect::<Vec<_>>(), vectors.wanted);
    let Status { wanted: _, .. } = status;
    assert_eq!((status.component, status.state), (Component::Firmware, State::Receiving));
    assert_eq!((status.reason, status.window), (None, 16));
    assert_eq!(status.release, ReleaseId(array(&vectors.release)));
    assert_eq!((status.running_sequence, status.highest_sequence), (7, 9));
    assert_eq!((status.key_version, status.chunk_count, status.missing), (3, 400, 5));
    assert_eq!(status.refused, ReleaseId(array(&vectors.other)));
    assert_eq!(status.refused_reason, Some(Reason::WrongProof));
    // Nobody is made to send what does not exist.
    let short = Status { chunk_count: 108, ..status };
    assert_eq!(short.wanted().collect::<Vec<_>>(), [100, 101]);
    let last = Status { base: u32::MAX, chunk_count: u32::MAX, ..status };
    assert_eq!(last.wanted().count(), 0);
}

#[test]
fn what_is_no_message_is_refused() {
    let chunk = bytes(&vectors::load().messages.chunk);
    let with = |at: usize, byte: u8| {
        let mut changed = chunk.clone();
        changed[at] = byte;
        changed
    };
    let long = [&[1, 2][..], &[0; 1_025]].concat();
    let big = [&chunk[..16 + 64], &[0; 1_025]].concat();
    for bad in [
        &[][..],
        &[1],
        &[2, 6],
        &[1, 6, 0],
        &[1, 1],
        &[1, 2],
        &[1, 4, 0, 0, 0, 0, 0, 0, 0],
        &[1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &long,
        &big,
        &chunk[..chunk.len() - 9],
        &chunk[..15],
        &with(14, 3),
        &with(14, 15),
        &with(15, 1),
    ] {
        assert_eq!(Message::parse(bad), Err(Reason::Malformed), "{bad:?}");
    }
    let status = bytes(&vectors::load().messages.status);
    assert_eq!(status.len(), STATUS_LEN);
    for (at, byte) in [(0, 2), (1, 15), (2, 2), (3, 8), (4, 200), (90, 200)] {
        let mut changed = status.clone();
        changed[at] = byte;
        assert_eq!(Status::parse(&changed), Err(Reason::Malformed), "{at}");
    }
    assert_eq!(Status::parse(&status[1..]), Err(Reason::Malformed));
}

#[test]
fn chunks_come_in_any_order_and_the_map_says_which_are_missing() {
    let provisioned = key_document(1, &[3], &[]);
    let mut plant = Plant::<4, 4_096>::new(&provisioned);
    let release = Release::new(Component::Firmware, 7, 40_000);
    plant.releases = vec![release.clone()];
    let mut agent = plant.start().expect("power");
    agent.receive(&mut plant.flash, &release.offer(), 0).expect("taken");
    let mut missing: Vec<u32> = (0..release.chunk_count()).collect();
    assert_eq!(missing.len(), 40);
    let mut steps = 0;
    let firmware = agent.updater(Component::Firmware).expect("both");
    assert!(firmware.is_status_due(0), "the answer to the offer");
    firmware.status(&mut plant.flash, 1, 0).expect("power");
    while !missing.is_empty() {
        let index = missing.remove(plant.random.below(missing.len() as u64) as usize);
        for _ in 0..2 {
            assert_eq!(agent.receive(&mut plant.flash, &release.chunk(index), 0), Ok(()));
        }
        // Every few chunks the device restarts, or the connection breaks.
        steps += 1;
        if steps % 7 == 0 {
            agent = plant.start().expect("power");
        } else if steps % 7 == 3 {
            agent.ask_statuses();
        }
        let updater = agent.updater(Component::Firmware).expect("both");
        let due = updater.is_status_due(0);
        assert_eq!(due, steps % 7 == 0 || steps % 7 == 3 || missing.is_empty(), "{steps}");
        let status = updater.status(&mut plant.flash, 1, 0).expect("power");
        assert_eq!(status.wanted().collect::<Vec<_>>(), missing);
        assert_eq!(status.missing as usize, missing.len());
        assert_eq!(status.state == State::Receiving, !missing.is_empty());
    }
    assert_eq!(agent.updater(Component::Firmware).map(|u| u.state()), Some(State::Verifying));
}

#[test]
fn a_status_is_due_after_enough_chunks_and_after_a_while() {
    let provisioned = key_document(1, &[3], &[]);
    let mut plant = Plant::<4, 4_096>::new(&provisioned);
    let release = Release::new(Component::Firmware, 7, 40_000);
    let mut agent = plant.start().expect("power");
    agent.receive(&mut plant.flash, &release.offer(), 0).expect("taken");
    let mut due = |now_ms| {
        let mut count = 0;
        while agent.next_status(&mut plant.flash, now_ms).expect("power").is_some() {
            count += 1;
        }
        count
    };
    assert_eq!((due(0), due(0)), (2, 0), "one for each component");
    assert_eq!((due(29_999), due(30_000), due(59_999)), (0, 1, 0));
    for index in 0..7 {
        agent.receive(&mut plant.flash, &release.chunk(index), 40_000).expect("taken");
        assert_eq!(agent.next_status(&mut plant.flash, 40_000), Ok(None));
    }
    agent.receive(&mut plant.flash, &release.chunk(39), 40_000).expect("taken");
    let status = agent.next_status(&mut plant.flash, 40_000).expect("power").expect("eight");
    assert_eq!((status.base, status.missing, status.window), (7, 32, 16));
}
