//! What a device refuses, and what it gives up, each with its reason.

use stonechat_core::detector::Detector;
use stonechat_core::limits::{
    RELEASE_CHUNK_LEN, UPDATE_RECEIVING_TIME_MAX_MS, UPDATE_STAGED_TIME_MAX_MS,
    UPDATE_TRIAL_BOOTS_MAX, UPDATE_TRIAL_TIME_MAX_MS, UPDATE_VERIFYING_TIME_MAX_MS,
};
use stonechat_core::update::transfer::{Chunk, Message, Status};
use stonechat_core::update::{
    Agent, Component, Dependencies, Event, FEATURE_SET, Reason, ReleaseId, State, tree,
};

use crate::plant::{FACTORY_SEQUENCE, Plant, Release, Says, image, key_document, written};
use crate::vectors;

type Strict<'p> = Plant<'p, 4, 4_096>;

const DETECTOR: Component = Component::Detector;

fn status(plant: &mut Strict<'_>, agent: &mut Agent<'_>) -> Status {
    let updater = agent.updater(DETECTOR).expect("both");
    updater.status(&mut plant.flash, 1, 0).expect("power")
}

/// Offers something that must be refused, and holds that nothing has changed but the answer.
#[track_caller]
fn refused(plant: &mut Strict<'_>, agent: &mut Agent<'_>, message: &[u8], why: Reason) {
    let before = status(plant, agent);
    let (bytes, changes) = (plant.flash.bytes.clone(), plant.flash.changes);
    assert_eq!(agent.receive(&mut plant.flash, message, 0), Err(why));
    assert!(plant.flash.changes == changes && plant.flash.bytes == bytes, "flash was changed");
    let after = status(plant, agent);
    assert_eq!(after.refused_reason, Some(why));
    assert_eq!(Status { refused: before.refused, refused_reason: None, ..after }, before);
    assert_eq!(status(plant, agent).refused_reason, None, "it is said once");
}

fn state(agent: &mut Agent<'_>) -> (State, Option<Reason>) {
    let updater = agent.updater(DETECTOR).expect("both");
    (updater.state(), updater.reason())
}

/// Sends all chunks of a release.
fn send(plant: &mut Strict<'_>, agent: &mut Agent<'_>, release: &Release) {
    assert_eq!(agent.receive(&mut plant.flash, &release.offer(), 0), Ok(()));
    for index in 0..release.chunk_count() {
        assert_eq!(agent.receive(&mut plant.flash, &release.chunk(index), 0), Ok(()));
    }
}

/// Sends a release and lets it be hashed.
fn stage(plant: &mut Strict<'_>, agent: &mut Agent<'_>, release: &Release) {
    send(plant, agent, release);
    let event =
        (0..=release.chunk_count()).find_map(|_| agent.step(&mut plant.flash, 0).expect("power"));
    assert_eq!(event, Some((DETECTOR, Event::Staged)));
}

/// Sends a release, switches to it and keeps it.
fn install(plant: &mut Strict<'_>, agent: &mut Agent<'_>, release: &Release) {
    plant.releases.push(release.clone());
    stage(plant, agent, release);
    agent.switch(&mut plant.flash, DETECTOR, 0).expect("it was offered");
    plant.check_running(agent, DETECTOR);
    agent.updater(DETECTOR).expect("both").confirm(&mut plant.flash, 0).expect("power");
    agent.receive(&mut plant.flash, &written(&Message::Seen(release.id)), 0).expect("noted");
    assert_eq!(state(agent), (State::Idle, None));
}

#[test]
fn forged_and_unfit_offers_are_refused() {
    let provisioned = key_document(1, &[3], &[5]);
    let mut plant = Strict::new(&provisioned);
    let mut agent = plant.start().expect("power");
    let says = Says::new(DETECTOR, 7);
    let fitting = says.release(image(7, 5_000));
    let of = |says: Says| says.release(image(7, 5_000)).offer();
    let needs = |dependencies| of(Says { dependencies, ..says });
    let nothing = Dependencies::default();
    let slot_len = plant.config().detector.expect("both").layout.slots[0].len as usize - 4_096;
    let mut flipped = fitting.offer();
    *flipped.last_mut().expect("a signature") ^= 1;
    let cut = fitting.offer();
    for (message, why) in [
        (flipped, Reason::WrongSignature),
        (of(Says { key: 4, ..says }), Reason::UnknownKey),
        (of(Says { key: 1, ..says }), Reason::UnknownKey),
        (of(Says { key: 5, ..says }), Reason::RevokedKey),
        (of(Says { hardware: "esp32c3", ..says }), Reason::OtherHardware),
        (of(Says { sequence: FACTORY_SEQUENCE, ..says }), Reason::OldSequence),
        (of(Says { sequence: 1, rollback: Some(3), ..says }), Reason::OldSequence),
        (says.release(image(1, slot_len + 1)).offer(), Reason::TooBig),
        (needs(Dependencies { detector_format: 2, ..nothing }), Reason::UnmetDependency),
        (needs(Dependencies { feature_set: FEATURE_SET + 1, ..nothing }), Reason::UnmetDependency),
        (needs(Dependencies { firmware_sequence: 5, ..nothing }), Reason::UnmetDependency),
        (cut[..cut.len() - 1].to_vec(), Reason::Malformed),
        ([&cut[..], &[0]].concat(), Reason::Malformed),
        (fitting.chunk(0), Reason::UnknownRelease),
        (written(&Message::Seen(fitting.id)), Reason::UnknownRelease),
        (written(&Message::Cancel(fitting.id)), Reason::UnknownRelease),
    ] {
        refused(&mut plant, &mut agent, &message, why);
    }
    let met = Dependencies {
        detector_format: 1,
        feature_set: FEATURE_SET,
        firmware_sequence: FACTORY_SEQUENCE,
        detector_sequence: FACTORY_SEQUENCE,
    };
    assert_eq!(agent.receive(&mut plant.flash, &needs(met), 0), Ok(()));
    // The largest image that fits, for who has the greater number.
    let full = Says { sequence: 8, ..says }.release(image(1, slot_len));
    assert_eq!(agent.receive(&mut plant.flash, &full.offer(), 0), Ok(()));
    // A device without an updater for the component.
    let mut config = plant.config();
    config.detector = None;
    let mut other = Agent::load(config, &mut plant.flash, 0).expect("power");
    assert_eq!(other.receive(&mut plant.flash, &of(says), 0), Err(Reason::OtherComponent));
}

#[test]
fn forged_chunks_are_refused_and_still_wanted() {
    let provisioned = key_document(1, &[3], &[]);
    let mut plant = Strict::new(&provisioned);
    let mut agent = plant.start().expect("power");
    let release = Release::new(DETECTOR, 7, 5_000);
    let other = Release::new(DETECTOR, 7, 5_001);
    assert_eq!(agent.receive(&mut plant.flash, &release.offer(), 0), Ok(()));
    let second = release.chunk(1);
    let Ok(Message::Chunk(chunk)) = Message::parse(&second) else { panic!("a chunk") };
    let with = |changed: Chunk<'_>| written(&Message::Chunk(changed));
    let longer = [chunk.proof, &[[0; 32]]].concat();
    let mut flipped_proof = chunk.proof.to_vec();
    flipped_proof[0][0] ^= 1;
    let mut messages = vec![
        (with(Chunk { index: 2, ..chunk }), Reason::WrongProof),
        (with(Chunk { index: 0, ..chunk }), Reason::WrongProof),
        (with(Chunk { proof: &[], ..chunk }), Reason::WrongProof),
        (with(Chunk { proof: &chunk.proof[1..], ..chunk }), Reason::WrongProof),
        (with(Chunk { proof: &longer, ..chunk }), Reason::WrongProof),
        (with(Chunk { proof: &flipped_proof, ..chunk }), Reason::WrongProof),
        (with(Chunk { index: 5, ..chunk }), Reason::WrongChunk),
        (with(Chunk { index: u32::MAX, ..chunk }), Reason::WrongChunk),
        (with(Chunk { index: 4, ..chunk }), Reason::WrongChunk),
        (with(Chunk { bytes: &chunk.bytes[1..], ..chunk }), Reason::WrongChunk),
        (with(Chunk { release: other.id, ..chunk }), Reason::UnknownRelease),
        (other.chunk(0), Reason::UnknownRelease),
    ];
    for at in [0, 100, RELEASE_CHUNK_LEN - 1] {
        let mut bytes = chunk.bytes.to_vec();
        bytes[at] ^= 0x10;
        messages.push((with(Chunk { bytes: &bytes, ..chunk }), Reason::WrongProof));
    }
    for (message, why) in messages {
        refused(&mut plant, &mut agent, &message, why);
    }
    // Of chunks that are there already nothing is looked at or written again.
    assert_eq!(agent.receive(&mut plant.flash, &second, 0), Ok(()));
    let changes = plant.flash.changes;
    assert_eq!(agent.receive(&mut plant.flash, &second, 0), Ok(()));
    assert_eq!(agent.receive(&mut plant.flash, &with(Chunk { proof: &[], ..chunk }), 0), Ok(()));
    assert_eq!(plant.flash.changes, changes);
    assert_eq!(status(&mut plant, &mut agent).wanted().collect::<Vec<_>>(), [0, 2, 3, 4]);
}

#[test]
fn an_image_with_another_digest_is_refused() {
    let provisioned = key_document(1, &[3], &[]);
    let mut plant = Strict::new(&provisioned);
    let mut agent = plant.start().expect("power");
    // Each chunk is proved, but the signed digest is another's.
    let image = image(7, 2_000);
    let leaves: Vec<[u8; 32]> = image.chunks(RELEASE_CHUNK_LEN).map(tree::leaf).collect();
    let mut root = tree::Root::default();
    assert!(leaves.iter().all(|leaf| root.push(*leaf)));
    let says = Says::new(DETECTOR, 7);
    let release = says.release_of(image, leaves, &root.finish(), &[7; 32]);
    send(&mut plant, &mut agent, &release);
    for _ in 0..5 {
        assert_eq!(agent.step(&mut plant.flash, 0), Ok(None));
    }
    assert_eq!(state(&mut agent), (State::Refused, Some(Reason::WrongDigest)));
    // A bit that the flash has lost after it was written is noticed, too.
    let release = Release::new(DETECTOR, 8, 2_000);
    refused(&mut plant, &mut agent, &release.offer(), Reason::Busy);
    let seen = written(&Message::Seen(status(&mut plant, &mut agent).release));
    agent.receive(&mut plant.flash, &seen, 0).expect("noted");
    send(&mut plant, &mut agent, &release);
    let at = plant.config().detector.expect("both").layout.slots[1].start as usize + 1_500;
    plant.flash.bytes[at] = plant.flash.bytes[at].wrapping_add(1);
    while state(&mut agent).0 == State::Verifying {
        agent.step(&mut plant.flash, 0).expect("power");
    }
    assert_eq!(state(&mut agent), (State::Refused, Some(Reason::WrongDigest)));
    assert_eq!(agent.updater(DETECTOR).map(|updater| updater.active()), Some(0));
}

#[test]
fn what_was_allowed_when_it_was_offered_is_asked_again_before_the_switch() {
    let provisioned = key_document(1, &[3, 4], &[]);
    let mut plant = Strict::new(&provisioned);
    let mut agent = plant.start().expect("power");
    let release = Release::new(DETECTOR, 7, 2_000);
    stage(&mut plant, &mut agent, &release);
    let keys = key_document(2, &[4], &[3]);
    assert_eq!(agent.receive(&mut plant.flash, &written(&Message::Keys(&keys)), 0), Ok(()));
    assert_eq!(agent.switch(&mut plant.flash, DETECTOR, 0), Err(Reason::RevokedKey));
    assert_eq!(state(&mut agent), (State::Refused, Some(Reason::RevokedKey)));
    assert_eq!(agent.switch(&mut plant.flash, DETECTOR, 0), Err(Reason::WrongState));
    // The documents of before are not taken again, and what they allowed stays forbidden.
    for old in [&provisioned, &keys] {
        refused(&mut plant, &mut agent, &written(&Message::Keys(old)), Reason::OldKeys);
    }
    let mut agent = plant.start().expect("power");
    agent.receive(&mut plant.flash, &written(&Message::Seen(release.id)), 0).expect("noted");
    refused(&mut plant, &mut agent, &release.offer(), Reason::RevokedKey);
    let other = Says { key: 4, ..Says::new(DETECTOR, 7) }.release(image(1, 900));
    install(&mut plant, &mut agent, &other);
}

#[test]
fn older_releases_come_back_only_with_a_signed_rollback() {
    let provisioned = key_document(1, &[3], &[]);
    let mut plant = Strict::new(&provisioned);
    let mut agent = plant.start().expect("power");
    let [five, six] = [5, 6].map(|sequence| Release::new(DETECTOR, sequence, 1_500));
    install(&mut plant, &mut agent, &five);
    install(&mut plant, &mut agent, &six);
    refused(&mut plant, &mut agent, &five.offer(), Reason::OldSequence);
    refused(&mut plant, &mut agent, &six.offer(), Reason::Running);
    let back = Says { sequence: 5, rollback: Some(6), ..Says::new(DETECTOR, 5) };
    plant.releases.clear();
    let back = back.release(image(5, 1_500));
    install(&mut plant, &mut agent, &back);
    let after = status(&mut plant, &mut agent);
    assert_eq!((after.running_sequence, after.highest_sequence), (5, 6));
    // What was left stays left, and the way back is not gone twice.
    refused(&mut plant, &mut agent, &six.offer(), Reason::OldSequence);
    refused(&mut plant, &mut agent, &back.offer(), Reason::Running);
    let seven = Release::new(DETECTOR, 7, 1_500);
    install(&mut plant, &mut agent, &seven);
    refused(&mut plant, &mut agent, &back.offer(), Reason::OldSequence);
}

#[test]
fn one_release_at_a_time() {
    let provisioned = key_document(1, &[3], &[]);
    let mut plant = Strict::new(&provisioned);
    let mut agent = plant.start().expect("power");
    let [six, seven, eight] = [6, 7, 8].map(|at| Release::new(DETECTOR, at, 3_000));
    assert_eq!(agent.receive(&mut plant.flash, &seven.offer(), 0), Ok(()));
    assert_eq!(agent.receive(&mut plant.flash, &seven.chunk(2), 0), Ok(()));
    let changes = plant.flash.changes;
    assert_eq!(agent.receive(&mut plant.flash, &seven.offer(), 0), Ok(()), "again");
    assert_eq!(plant.flash.changes, changes, "what is there stays");
    refused(&mut plant, &mut agent, &six.offer(), Reason::Busy);
    refused(&mut plant, &mut agent, &written(&Message::Seen(seven.id)), Reason::WrongState);
    stage(&mut plant, &mut agent, &seven);
    // A newer one takes its place even now; nothing of the other is left.
    assert_eq!(agent.receive(&mut plant.flash, &eight.offer(), 0), Ok(()));
    assert_eq!(status(&mut plant, &mut agent).missing, 3);
    refused(&mut plant, &mut agent, &seven.chunk(0), Reason::UnknownRelease);
    let cancel = written(&Message::Cancel(eight.id));
    assert_eq!(agent.receive(&mut plant.flash, &cancel, 0), Ok(()));
    assert_eq!(state(&mut agent), (State::Refused, Some(Reason::Cancelled)));
    refused(&mut plant, &mut agent, &seven.offer(), Reason::Busy);
    assert_eq!(agent.receive(&mut plant.flash, &cancel, 0), Ok(()), "it is called off already");
    assert_eq!(state(&mut agent), (State::Refused, Some(Reason::Cancelled)));
    refused(&mut plant, &mut agent, &written(&Message::Seen(seven.id)), Reason::UnknownRelease);
    // The reason survives a restart, until it was noted.
    agent = plant.start().expect("power");
    assert_eq!(state(&mut agent), (State::Refused, Some(Reason::Cancelled)));
    assert_eq!(agent.receive(&mut plant.flash, &written(&Message::Seen(eight.id)), 0), Ok(()));
    install(&mut plant, &mut agent, &eight);
}

#[test]
fn a_trial_ends_by_confirmation_or_goes_back() {
    let provisioned = key_document(1, &[3], &[]);
    let mut plant = Strict::new(&provisioned);
    let mut agent = plant.start().expect("power");
    let release = Release::new(DETECTOR, 7, 3_000);
    plant.releases.push(release.clone());
    let active = |agent: &mut Agent<'_>| agent.updater(DETECTOR).expect("both").active();
    let trial = |plant: &mut Strict<'_>, agent: &mut Agent<'_>| {
        stage(plant, agent, &release);
        assert_eq!(agent.switch(&mut plant.flash, DETECTOR, 0), Ok(1));
        let newer = Release::new(DETECTOR, 9, 100);
        refused(plant, agent, &newer.offer(), Reason::Busy);
    };
    let note = |plant: &mut Strict<'_>, agent: &mut Agent<'_>, why: Reason| {
        assert_eq!(state(agent), (State::RolledBack, Some(why)));
        assert_eq!(active(agent), 0);
        plant.check_running(agent, DETECTOR);
        let now = status(plant, agent);
        assert_eq!((now.release, now.reason), (release.id, Some(why)));
        assert_eq!(
            (now.running_sequence, now.highest_sequence),
            (FACTORY_SEQUENCE, FACTORY_SEQUENCE)
        );
        agent.receive(&mut plant.flash, &written(&Message::Seen(release.id)), 0).expect("noted");
        assert_eq!(status(plant, agent).reason, None);
    };
    // By the number of starts.
    trial(&mut plant, &mut agent);
    for _ in 0..UPDATE_TRIAL_BOOTS_MAX {
        agent = plant.start().expect("power");
        assert_eq!((state(&mut agent).0, active(&mut agent)), (State::Trial, 1));
    }
    agent = plant.start().expect("power");
    note(&mut plant, &mut agent, Reason::TrialBoots);
    // By time.
    trial(&mut plant, &mut agent);
    assert_eq!(agent.step(&mut plant.flash, UPDATE_TRIAL_TIME_MAX_MS - 1), Ok(None));
    let back = Ok(Some((DETECTOR, Event::RolledBack)));
    assert_eq!(agent.step(&mut plant.flash, UPDATE_TRIAL_TIME_MAX_MS), back);
    note(&mut plant, &mut agent, Reason::TrialTimeout);
    // By the device, and by the server.
    trial(&mut plant, &mut agent);
    let updater = agent.updater(DETECTOR).expect("both");
    updater.fail(&mut plant.flash, Reason::DetectorRefused, 0).expect("power");
    note(&mut plant, &mut agent, Reason::DetectorRefused);
    trial(&mut plant, &mut agent);
    agent.receive(&mut plant.flash, &written(&Message::Cancel(release.id)), 0).expect("taken");
    note(&mut plant, &mut agent, Reason::Cancelled);
    // Or it stays, however often the device starts.
    trial(&mut plant, &mut agent);
    let updater = agent.updater(DETECTOR).expect("both");
    updater.confirm(&mut plant.flash, 0).expect("power");
    assert_eq!(updater.confirm(&mut plant.flash, 0), Err(Reason::WrongState));
    assert_eq!(updater.fail(&mut plant.flash, Reason::Unhealthy, 0), Err(Reason::WrongState));
    for _ in 0..UPDATE_TRIAL_BOOTS_MAX + 2 {
        agent = plant.start().expect("power");
        assert_eq!((state(&mut agent).0, active(&mut agent)), (State::Confirmed, 1));
    }
    assert_eq!(status(&mut plant, &mut agent).highest_sequence, 7);
}

#[test]
fn every_state_has_its_time() {
    let provisioned = key_document(1, &[3], &[]);
    let release = Release::new(DETECTOR, 7, 3_000);
    let cases: [(State, u64, Reason); 3] = [
        (State::Receiving, UPDATE_RECEIVING_TIME_MAX_MS, Reason::ReceivingTimeout),
        (State::Verifying, UPDATE_VERIFYING_TIME_MAX_MS, Reason::VerifyingTimeout),
        (State::Staged, UPDATE_STAGED_TIME_MAX_MS, Reason::StagedTimeout),
    ];
    for (at, limit_ms, why) in cases {
        let mut plant = Strict::new(&provisioned);
        let mut agent = plant.start().expect("power");
        match at {
            State::Receiving => {
                agent.receive(&mut plant.flash, &release.offer(), 0).expect("taken");
            }
            State::Verifying => send(&mut plant, &mut agent, &release),
            _ => stage(&mut plant, &mut agent, &release),
        }
        assert_eq!(agent.step(&mut plant.flash, limit_ms - 1), Ok(None));
        assert_eq!(state(&mut agent), (at, None));
        assert_eq!(agent.step(&mut plant.flash, limit_ms), Ok(None));
        assert_eq!(state(&mut agent), (State::Refused, Some(why)));
        assert_eq!(agent.step(&mut plant.flash, u64::MAX), Ok(None), "it waits until it is noted");
        assert_eq!(state(&mut agent), (State::Refused, Some(why)));
    }
    // Each new chunk starts the time again; one that is there does not.
    let mut plant = Strict::new(&provisioned);
    let mut agent = plant.start().expect("power");
    agent.receive(&mut plant.flash, &release.offer(), 0).expect("taken");
    agent.receive(&mut plant.flash, &release.chunk(0), 1_000).expect("taken");
    agent.receive(&mut plant.flash, &release.chunk(0), 2_000).expect("taken");
    agent.step(&mut plant.flash, UPDATE_RECEIVING_TIME_MAX_MS + 999).expect("power");
    assert_eq!(state(&mut agent).0, State::Receiving);
    agent.step(&mut plant.flash, UPDATE_RECEIVING_TIME_MAX_MS + 1_000).expect("power");
    assert_eq!(state(&mut agent).0, State::Refused);
}

#[test]
fn what_stands_in_flash_is_what_the_tables_say() {
    let vectors = vectors::load();
    let keys = vectors::bytes(&vectors.key_documents[0].signed);
    let mut plant = Strict::new(&keys);
    let mut config = plant.config();
    config.detector.as_mut().expect("both").factory_sequence = 0;
    let mut agent = Agent::load(config, &mut plant.flash, 0).expect("power");
    let signed = vectors::bytes(&vectors.manifests[0].signed);
    agent.receive(&mut plant.flash, &written(&Message::Offer(&signed)), 0).expect("taken");
    let layout = config.detector.expect("both").layout;
    let expected = vectors::bytes(&vectors.flash.record);
    let at = layout.journal[1].start as usize;
    assert_eq!(plant.flash.bytes[at..at + expected.len()], expected);
    let expected = vectors::bytes(&vectors.flash.document);
    let trailer = (layout.slots[1].start + layout.slots[1].len) as usize - 4_096;
    assert_eq!(plant.flash.bytes[trailer..trailer + expected.len()], expected);
    assert!(plant.flash.bytes[trailer + 2_048..trailer + 4_096].iter().all(|&byte| byte == 0xff));
}

#[test]
fn a_layout_that_does_not_fit_is_refused() {
    let provisioned = key_document(1, &[3], &[]);
    let mut plant = Strict::new(&provisioned);
    let good = plant.config();
    let capacity = plant.flash.bytes.len() as u32;
    let mut loads = |change: &dyn Fn(&mut [u32; 2])| {
        let mut config = good;
        let slot = &mut config.detector.as_mut().expect("both").layout.slots[1];
        let mut place = [slot.start, slot.len];
        change(&mut place);
        [slot.start, slot.len] = place;
        Agent::load(config, &mut plant.flash, 0).is_ok()
    };
    assert!(loads(&|_| {}));
    assert!(!loads(&|place| place[0] += 1), "not aligned");
    assert!(!loads(&|place| place[1] -= 4), "not whole blocks");
    assert!(!loads(&|place| place[0] -= 4_096), "over another");
    assert!(!loads(&|place| place[1] = 4_096), "no room but for the trailer");
    assert!(!loads(&|place| *place = [capacity, 8_192]), "beyond the end");
    assert!(!loads(&|place| *place = [0u32.wrapping_sub(4_096), 8_192]), "beyond all numbers");
    assert_eq!(ReleaseId::default().to_string(), "0000000000000000");
}

#[test]
fn a_detector_is_loaded_out_of_its_slot() {
    const FILE: &[u8] = include_bytes!("../../../../fuzz/corpus/detector/zscore_adaptive.detector");
    let provisioned = key_document(1, &[3], &[]);
    let mut plant = Strict::new(&provisioned);
    let mut agent = plant.start().expect("power");
    for (sequence, file) in [(7, FILE.to_vec()), (8, FILE[..FILE.len() - 4].to_vec())] {
        let release = Says::new(DETECTOR, sequence).release(file.clone());
        plant.releases.push(release.clone());
        stage(&mut plant, &mut agent, &release);
        let updater = agent.updater(DETECTOR).expect("both");
        let place = updater.image(&mut plant.flash, 1 - updater.active()).expect("power");
        let place = place.expect("staged");
        // As mapped flash is read: in place, aligned to words.
        assert_eq!(place.start % 4, 0);
        let image = &plant.flash.bytes[place.start as usize..place.end as usize];
        let words: Vec<u32> = image.chunks(4).map(bytemuck::pod_read_unaligned).collect();
        let loaded = Detector::load(bytemuck::cast_slice(&words));
        if sequence == 7 {
            assert!(loaded.is_ok());
            assert_eq!(agent.switch(&mut plant.flash, DETECTOR, 0), Ok(1));
            let updater = agent.updater(DETECTOR).expect("both");
            updater.confirm(&mut plant.flash, 0).expect("power");
            updater.seen(&mut plant.flash, release.id, 0).expect("power");
        } else {
            // What cannot be loaded never gets to run.
            assert!(loaded.is_err());
            updater.fail(&mut plant.flash, Reason::DetectorRefused, 0).expect("power");
            assert_eq!(state(&mut agent), (State::Refused, Some(Reason::DetectorRefused)));
            let updater = agent.updater(DETECTOR).expect("both");
            assert_eq!((updater.active(), updater.running_sequence()), (1, 7));
            let other = updater.image(&mut plant.flash, 0).expect("power");
            assert_eq!(other, None, "nothing that may be used");
            let running = updater.image(&mut plant.flash, 1).expect("power").expect("it runs");
            assert_eq!(running.len(), FILE.len());
        }
    }
}

#[test]
fn a_damaged_key_document_gives_way_to_the_one_before() {
    let provisioned = key_document(1, &[3], &[]);
    let mut plant = Strict::new(&provisioned);
    let keys = plant.config().keys;
    let version = |plant: &mut Strict<'_>| {
        let mut buffer = [0; 1_024];
        keys.load(&mut plant.flash, &provisioned, &mut buffer).map(|document| document.version)
    };
    assert_eq!(version(&mut plant), Ok(1));
    for next in 2..=5 {
        let document = key_document(next, &[3], &[]);
        assert_eq!(keys.replace(&mut plant.flash, &provisioned, &document), Ok(next));
        assert_eq!(version(&mut plant), Ok(next));
    }
    // The documents of 5 and 4; a bit of a key is lost, which leaves the encoding legal.
    let intact = plant.flash.bytes.clone();
    let newest = keys.blocks.iter().map(|block| block.start as usize + 100);
    let found: Vec<u64> = newest
        .map(|at| {
            plant.flash.bytes.clone_from(&intact);
            plant.flash.bytes[at] ^= 1;
            version(&mut plant).expect("one is whole")
        })
        .collect();
    assert!(found.contains(&4) && found.contains(&5), "{found:?}");
    // A device that is provisioned anew trusts that, if it is newer.
    plant.flash.bytes = intact;
    let mut buffer = [0; 1_024];
    let newer = key_document(6, &[4], &[]);
    let found = keys.load(&mut plant.flash, &newer, &mut buffer).map(|document| document.version);
    assert_eq!(found, Ok(6));
    let found = keys.load(&mut Strict::new(&provisioned).flash, &[], &mut buffer).map(|_| ());
    assert_eq!(found, Err(Reason::Malformed), "no keys at all");
}

#[test]
fn one_component_is_on_trial_at_a_time() {
    let provisioned = key_document(1, &[3], &[]);
    let mut plant = Strict::new(&provisioned);
    let mut agent = plant.start().expect("power");
    let detector = Release::new(DETECTOR, 7, 3_000);
    let needs = Dependencies { detector_sequence: 7, ..Dependencies::default() };
    let firmware = Says { dependencies: needs, ..Says::new(Component::Firmware, 7) };
    let firmware = firmware.release(image(3, 2_000));
    refused(&mut plant, &mut agent, &detector.chunk(0), Reason::UnknownRelease);
    assert_eq!(
        agent.receive(&mut plant.flash, &firmware.offer(), 0),
        Err(Reason::UnmetDependency),
        "the detector does not run yet"
    );
    stage(&mut plant, &mut agent, &detector);
    assert_eq!(agent.switch(&mut plant.flash, DETECTOR, 0), Ok(1));
    send(&mut plant, &mut agent, &firmware);
    while agent.step(&mut plant.flash, 0).expect("power").is_none() {}
    for _ in 0..2 {
        let switched = agent.switch(&mut plant.flash, Component::Firmware, 0);
        assert_eq!(switched, Err(Reason::Busy), "it may be asked again");
    }
    let (mut gone, mut flash) = (agent.clone(), plant.flash.clone());
    agent.updater(DETECTOR).expect("both").confirm(&mut plant.flash, 0).expect("power");
    assert_eq!(agent.switch(&mut plant.flash, Component::Firmware, 0), Ok(1));
    // Had the detector gone back, the firmware would not have what it needs.
    let updater = gone.updater(DETECTOR).expect("both");
    updater.fail(&mut flash, Reason::Unhealthy, 0).expect("power");
    let switched = gone.switch(&mut flash, Component::Firmware, 0);
    assert_eq!(switched, Err(Reason::UnmetDependency));
}

#[test]
fn an_agent_needs_little_memory() {
    assert!(size_of::<Agent<'_>>() <= 1_024, "{}", size_of::<Agent<'_>>());
}
