//! The power goes at every single write and erasure of whole updates: the device always comes up
//! with an image that is whole, and the update comes to its end.

use stonechat_core::update::{Component, Reason, State};

use crate::flash::Torn;
use crate::plant::{Plant, Release, key_document};

/// A device gets new keys, then all releases: with two, each slot is once the one that is written.
fn all_updates<const WRITE: usize, const ERASE: usize>(
    plant: &mut Plant<'_, WRITE, ERASE>,
) -> Result<(), Reason> {
    while let Some(release) = plant.releases.get(plant.done).cloned() {
        plant.run(&release)?;
        plant.done += 1;
    }
    Ok(())
}

fn plant<const WRITE: usize, const ERASE: usize>(
    provisioned: &[u8],
    component: Component,
    unhealthy: bool,
) -> Plant<'_, WRITE, ERASE> {
    let mut plant = Plant::new(provisioned);
    plant.keys =
        vec![key_document(2, &[3], &[4]), key_document(3, &[3], &[]), key_document(4, &[3], &[4])];
    let lens = if component == Component::Detector { [5_000, 9_217] } else { [17_409, 20_480] };
    plant.releases = vec![Release::new(component, 7, lens[0]), Release::new(component, 8, lens[1])];
    if unhealthy {
        plant.unhealthy.push(8);
    }
    plant
}

/// Holds that everything has come to its end as it should.
fn check_end<const WRITE: usize, const ERASE: usize>(
    plant: &mut Plant<'_, WRITE, ERASE>,
    component: Component,
    unhealthy: bool,
    what: &str,
) {
    let mut agent = plant.start().expect("power");
    assert_eq!(plant.key_version, 4, "{what}");
    let updater = agent.updater(component).expect("both");
    let (sequence, active) = if unhealthy { (7, 1) } else { (8, 0) };
    assert_eq!(updater.state(), State::Idle, "{what}");
    assert_eq!(updater.running_sequence(), sequence, "{what}");
    assert_eq!(updater.active(), active, "{what}");
    let why = match component {
        _ if !unhealthy => (State::Confirmed, None),
        Component::Detector => (State::RolledBack, Some(Reason::Unhealthy)),
        Component::Firmware => (State::RolledBack, Some(Reason::TrialBoots)),
    };
    let [first, second] = [plant.releases[0].id, plant.releases[1].id];
    let expected = [(first, State::Confirmed, None), (second, why.0, why.1)];
    assert_eq!(plant.ends, expected, "{what}");
}

/// Cuts at every change, in each way; returns how many cuts there were.
fn cut_everywhere<const WRITE: usize, const ERASE: usize>(
    component: Component,
    unhealthy: bool,
) -> u64 {
    let provisioned = key_document(1, &[3, 4], &[]);
    let mut whole = plant::<WRITE, ERASE>(&provisioned, component, unhealthy);
    all_updates(&mut whole).expect("power");
    check_end(&mut whole, component, unhealthy, "without a cut");
    let mut cuts = 0;
    for torn in Torn::ALL {
        for at in 0.. {
            let mut plant = plant::<WRITE, ERASE>(&provisioned, component, unhealthy);
            plant.flash.cut = Some((at, torn));
            if all_updates(&mut plant).is_ok() {
                assert!(at >= whole.flash.changes, "the last change was cut");
                break;
            }
            assert!(plant.flash.is_off(), "nothing fails but the power");
            plant.flash.power_on();
            all_updates(&mut plant).expect("power");
            check_end(&mut plant, component, unhealthy, &format!("{torn:?} at change {at}"));
            cuts += 1;
        }
    }
    cuts
}

#[test]
fn a_detector_survives_a_cut_at_every_change() {
    let cuts = cut_everywhere::<4, 4_096>(Component::Detector, false);
    assert!(cuts > 200, "{cuts}");
}

#[test]
fn firmware_survives_a_cut_at_every_change() {
    let cuts = cut_everywhere::<4, 4_096>(Component::Firmware, false);
    assert!(cuts > 450, "{cuts}");
}

#[test]
fn going_back_survives_a_cut_at_every_change() {
    cut_everywhere::<4, 4_096>(Component::Detector, true);
    cut_everywhere::<4, 4_096>(Component::Firmware, true);
}

#[test]
fn other_flashes_do_as_well() {
    // Words of one byte and large blocks, as emulated flash has; units of 32 and small blocks.
    cut_everywhere::<1, 65_536>(Component::Detector, false);
    cut_everywhere::<32, 2_048>(Component::Detector, true);
}

#[test]
fn the_power_may_go_again_and_again() {
    let provisioned = key_document(1, &[3, 4], &[]);
    for seed in 1..=60 {
        let mut plant = plant::<4, 4_096>(&provisioned, Component::Detector, false);
        plant.random.0 = seed * 0x9E37_79B9;
        let mut cuts = 0;
        loop {
            let torn = Torn::ALL[plant.random.below(4) as usize];
            let next = plant.flash.changes + plant.random.below(12);
            plant.flash.cut = (cuts < 40).then_some((next, torn));
            if all_updates(&mut plant).is_ok() {
                break;
            }
            plant.flash.power_on();
            cuts += 1;
        }
        // So many starts may have ended a trial; what runs is whole all the same.
        let mut agent = plant.start().expect("power");
        plant.check_running(&mut agent, Component::Detector);
        for release in &plant.releases {
            assert!(plant.ends.iter().any(|end| end.0 == release.id), "seed {seed}");
        }
    }
}

#[test]
fn the_journal_goes_round() {
    let provisioned = key_document(1, &[3], &[]);
    for seed in 1..=8 {
        let mut plant = Plant::<4, 4_096>::new(&provisioned);
        plant.random.0 = seed * 0x9E37_79B9;
        plant.releases = (5..45).map(|at| Release::new(Component::Detector, at, 700)).collect();
        loop {
            let torn = Torn::ALL[plant.random.below(4) as usize];
            plant.flash.cut = Some((plant.flash.changes + 1 + plant.random.below(60), torn));
            match all_updates(&mut plant) {
                Ok(()) => break,
                Err(_) => plant.flash.power_on(),
            }
        }
        plant.flash.power_on();
        plant.flash.cut = None;
        let mut agent = plant.start().expect("power");
        plant.check_running(&mut agent, Component::Detector);
        let kept = plant.ends.iter().filter(|end| end.1 == State::Confirmed).count();
        assert!(kept >= 38, "seed {seed}: {kept} of 40 were kept");
    }
}

/// Offers a release; what comes of that is seen after the next start.
fn offer(plant: &mut Plant<'_, 4, 4_096>, release: &Release, chunks: u32) -> Result<(), Reason> {
    let mut agent = plant.start()?;
    agent.receive(&mut plant.flash, &release.offer(), 0)?;
    (0..chunks).try_for_each(|at| agent.receive(&mut plant.flash, &release.chunk(at), 0))
}

#[test]
fn a_newer_release_takes_the_place_of_one_on_its_way_wherever_the_power_goes() {
    let provisioned = key_document(1, &[3], &[]);
    let [seven, eight] = [7, 8].map(|at| Release::new(Component::Detector, at, 6_000));
    for torn in Torn::ALL {
        for at in 0.. {
            let mut plant = Plant::<4, 4_096>::new(&provisioned);
            plant.releases = vec![eight.clone()];
            offer(&mut plant, &seven, 5).expect("power");
            plant.flash.cut = Some((plant.flash.changes + at, torn));
            let done = offer(&mut plant, &eight, 0).is_ok();
            plant.flash.power_on();
            plant.flash.cut = None;
            let mut agent = plant.start().expect("power");
            let updater = agent.updater(Component::Detector).expect("both");
            match updater.state() {
                // Of the older one everything is still there, or it is gone for good.
                State::Receiving => {
                    let whole = if updater.release() == seven.id { 1 } else { 6 };
                    let status = updater.status(&mut plant.flash, 1, 0).expect("power");
                    assert_eq!(status.missing, whole, "{torn:?} {at}");
                }
                state => assert_eq!(state, State::Idle, "{torn:?} {at}"),
            }
            offer(&mut plant, &eight, 0).expect("power");
            plant.run(&eight).expect("power");
            if done {
                break;
            }
        }
    }
}
