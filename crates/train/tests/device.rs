//! The device as a state machine: what it sees is reported once acknowledged, whatever the network does.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use stonechat_core::decision::Verdict;
use stonechat_core::device::{Device, Settings};
use stonechat_core::limits::{OUTBOX_SLOT_LEN, OUTBOX_SLOTS_MAX};
use stonechat_core::wire::senml::Value;
use stonechat_core::wire::uplink::Uplink;
use stonechat_train::random::Random;

const START_US: u64 = 1_700_000_000_000_000;
const PERIOD_US: u64 = 100_000;

fn settings(id: &str) -> Settings<'_> {
    Settings { id, session: 42, flush_interval_us: 1_000_000, report_interval_us: 0 }
}

/// A server that forgets and a network that loses: every score arrives, once after deduplication.
#[test]
fn nothing_is_lost_on_a_bad_network() {
    for seed in 0..20 {
        let file = &common::detectors()[2];
        let detector = file.detector();
        let mut memory = vec![0; detector.memory_words()];
        let mut outbox = vec![0; OUTBOX_SLOT_LEN * OUTBOX_SLOTS_MAX];
        let mut device =
            Device::new(settings("bird-1"), &detector, &mut memory, &mut outbox).expect("starts");
        let recording = common::sine(600, seed);
        let mut random = Random::new(seed);
        let mut stored: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let mut in_flight: Vec<u32> = Vec::new();
        let mut windows = 0;
        let mut now_us = START_US;
        for sample in recording.samples.chunks(1) {
            while !device.has_room() {
                step(&mut device, &mut random, &mut stored, &mut in_flight, seed);
            }
            now_us += PERIOD_US;
            windows += usize::from(device.sample(now_us, sample).is_some());
            if random.next_u32().is_multiple_of(4) {
                step(&mut device, &mut random, &mut stored, &mut in_flight, seed);
            }
        }
        device.flush(now_us);
        while !device.is_drained() {
            step(&mut device, &mut random, &mut stored, &mut in_flight, seed);
        }
        let mut times = BTreeSet::new();
        for payload in stored.values() {
            let uplink = Uplink::parse(payload).expect("a legal message");
            for reading in uplink.readings().filter(|reading| reading.name == "score") {
                assert!(times.insert(reading.time_s.to_bits()), "seed {seed}: a score twice");
            }
        }
        assert_eq!(times.len(), windows, "seed {seed}");
        assert_eq!(device.counters().reports_dropped, 0, "seed {seed}");
    }
}

fn step(
    device: &mut Device<'_, '_>,
    random: &mut Random,
    stored: &mut BTreeMap<u32, Vec<u8>>,
    in_flight: &mut Vec<u32>,
    seed: u64,
) {
    match random.next_u32() % 8 {
        0 => {
            device.disconnected();
            in_flight.clear();
        }
        1..=4 => {
            let Some(transmit) = device.transmit() else {
                return;
            };
            in_flight.push(transmit.sequence);
            // One in four messages is lost on its way.
            if !random.next_u32().is_multiple_of(4) {
                let uplink = Uplink::parse(transmit.payload).expect("a legal message");
                let before = stored.insert(uplink.id.sequence, transmit.payload.to_vec());
                assert!(
                    before.is_none_or(|before| before == transmit.payload),
                    "seed {seed}: changed when sent again"
                );
            }
        }
        _ => {
            // An acknowledgement, in any order, of a message that arrived.
            if in_flight.is_empty() {
                return;
            }
            let sequence = in_flight.swap_remove(random.next_u32() as usize % in_flight.len());
            if stored.contains_key(&sequence) {
                device.acknowledge(sequence);
            }
        }
    }
}

#[test]
fn a_fault_lights_the_led_and_is_sent_at_once() {
    let file = &common::detectors()[2];
    let detector = file.detector();
    let mut memory = vec![0; detector.memory_words()];
    let mut outbox = vec![0; OUTBOX_SLOT_LEN * OUTBOX_SLOTS_MAX];
    let mut device =
        Device::new(settings("bird-1"), &detector, &mut memory, &mut outbox).expect("starts");
    let recording = common::sine(400, 3);
    let mut raised = None;
    for (row, sample) in recording.samples.iter().enumerate() {
        let sample = if row >= 300 { sample + 5.0 } else { *sample };
        let now_us = START_US + row as u64 * PERIOD_US;
        let result = device.sample(now_us, &[sample]);
        let changed =
            result.is_some_and(|result| result.changed && result.verdict == Verdict::Anomaly);
        if changed {
            raised = Some(row);
            break;
        }
        assert!(!device.led(), "row {row} is normal");
        while let Some(sequence) = device.transmit().map(|transmit| transmit.sequence) {
            device.acknowledge(sequence);
        }
    }
    let raised = raised.expect("the step is found");
    assert!((300..306).contains(&raised), "found at row {raised}");
    assert!(device.led());
    let transmit = device.transmit().expect("the verdict is not held back");
    let uplink = Uplink::parse(transmit.payload).expect("a legal message");
    let verdict = uplink.readings().filter(|reading| reading.name == "anomaly").last();
    assert_eq!(verdict.map(|reading| reading.value), Some(Value::Boolean(true)));
}

#[test]
fn sensor_faults_are_counted_and_never_scored() {
    let file = &common::detectors()[0];
    let detector = file.detector();
    let mut memory = vec![0; detector.memory_words()];
    let mut outbox = vec![0; OUTBOX_SLOT_LEN * OUTBOX_SLOTS_MAX];
    let mut device =
        Device::new(settings("bird-1"), &detector, &mut memory, &mut outbox).expect("starts");
    for (row, sample) in
        [f32::NAN, f32::INFINITY, -1.0e6, 9.0e9].iter().cycle().take(40).enumerate()
    {
        assert_eq!(device.sample(START_US + row as u64 * PERIOD_US, &[*sample]), None);
    }
    device.flush(START_US + 4_000_000);
    assert_eq!((device.counters().faults, device.counters().windows), (40, 0));
    let mut reported = 0.0;
    while let Some(transmit) = device.transmit() {
        let sequence = transmit.sequence;
        for reading in Uplink::parse(transmit.payload).expect("a legal message").readings() {
            if let ("temperature/sensor_fault", Value::Number(count)) =
                (reading.name, reading.value)
            {
                reported += count;
            }
        }
        device.acknowledge(sequence);
    }
    assert_eq!(reported, 40.0);
}
