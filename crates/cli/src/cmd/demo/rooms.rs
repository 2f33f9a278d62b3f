//! Simulated rooms, in which faults occur at known times.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use stonechat_train::recipe::Recipe;
use stonechat_train::synth::{self, FaultKind, TemperatureOptions, TemperatureSource};
use stonechat_train::train::{Trained, train};

use super::{Scene, Watched};
use crate::shell::{Pace, SampleSource, now_us};

/// Normal samples to train on: more than a simulated week of one room.
const TRAINING_ROWS: usize = 12_000;
const TRAINING_SEED: u64 = 1;
/// The devices' seeds begin here: no device is the room of the training.
const DEVICE_SEED: u64 = 1_000;
/// Seconds before the first fault, so that every device has filled its window and more.
const FIRST_FAULT_S: f64 = 8.0;
/// Seconds from one fault in the fleet to the next.
const FAULT_INTERVAL_S: f64 = 5.0;
/// A device is left alone for at least this long after a fault began.
const FAULT_INTERVAL_OF_DEVICE_S: f64 = 30.0;
/// No fault begins later than this before the end: the longest lasts 9.6 s.
const LAST_FAULT_BEFORE_END_S: f64 = 16.0;

/// A fault that was injected, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Injected {
    pub(super) device: String,
    pub(super) kind: &'static str,
    pub(super) start_ms: i64,
    pub(super) end_ms: i64,
    pub(super) detected_after_ms: Option<i64>,
}

/// Trains on one room and furnishes others, with faults for so many seconds.
pub(super) fn scene(devices: u16, seconds: u64) -> anyhow::Result<Scene> {
    let injected = Arc::new(Mutex::new(Vec::new()));
    let options = TemperatureOptions::default();
    let rate_hz = options.rate_hz;
    let room = |index: u16| {
        let room = Room {
            source: TemperatureSource::new(DEVICE_SEED + u64::from(index), options.clone()),
            sample: 0,
            faults: faults(index, devices, seconds, rate_hz),
            rate_hz,
            device: device_name(index),
            injected: injected.clone(),
        };
        Watched { id: device_name(index), source: Box::new(room), pace: Pace::Rate(rate_hz) }
    };
    Ok(Scene {
        trained: train_detector()?,
        devices: (0..devices).map(room).collect(),
        about: format!("{devices} simulated; a fault every {FAULT_INTERVAL_S} s"),
        injected,
    })
}

fn train_detector() -> anyhow::Result<Trained> {
    let options =
        synth::Options { seed: TRAINING_SEED, rows: TRAINING_ROWS, ..synth::Options::default() };
    let (recording, _) = synth::temperature(&options)?;
    Ok(train(&recording, &Recipe::synthetic_room(), |_| ControlFlow::Continue(()))?)
}

/// Lays out the faults of one device: they go round the fleet, and so do their kinds.
fn faults(
    device: u16,
    devices: u16,
    seconds: u64,
    rate_hz: f64,
) -> VecDeque<(u64, FaultKind, usize)> {
    let end_s = seconds as f64 - LAST_FAULT_BEFORE_END_S;
    let interval_s = FAULT_INTERVAL_S.max(FAULT_INTERVAL_OF_DEVICE_S / f64::from(devices));
    let mut faults = VecDeque::new();
    for round in 0_u64.. {
        let number = round * u64::from(devices) + u64::from(device);
        let start_s = FIRST_FAULT_S + number as f64 * interval_s;
        if start_s > end_s {
            break;
        }
        let kinds = FaultKind::TYPICAL.len() as u64;
        // Each round starts with another kind, also where the fleet is a multiple of the kinds.
        let (kind, rows) = FaultKind::TYPICAL[((number + round) % kinds) as usize];
        faults.push_back(((start_s * rate_hz) as u64, kind, rows));
    }
    faults
}

fn device_name(index: u16) -> String {
    const ROOMS: [&str; 8] =
        ["cellar", "kitchen", "study", "workshop", "nursery", "greenhouse", "attic", "server-room"];
    let room = ROOMS[usize::from(index) % ROOMS.len()];
    match usize::from(index) / ROOMS.len() {
        0 => room.to_owned(),
        again => format!("{room}-{}", again + 1),
    }
}

/// A simulated sensor with faults at known samples.
struct Room {
    source: TemperatureSource,
    sample: u64,
    faults: VecDeque<(u64, FaultKind, usize)>,
    rate_hz: f64,
    device: String,
    injected: Arc<Mutex<Vec<Injected>>>,
}

impl SampleSource for Room {
    fn next_sample(&mut self) -> Option<(Vec<f32>, bool)> {
        if let Some((at, kind, rows)) = self.faults.front().copied()
            && self.sample >= at
        {
            self.faults.pop_front();
            self.source.inject(kind, rows);
            let start_ms = (now_us() / 1_000) as i64;
            self.injected.lock().unwrap_or_else(PoisonError::into_inner).push(Injected {
                device: self.device.clone(),
                kind: kind.name(),
                start_ms,
                end_ms: start_ms + (rows as f64 * 1_000.0 / self.rate_hz) as i64,
                detected_after_ms: None,
            });
        }
        self.sample += 1;
        Some((vec![self.source.next_sample()], false))
    }

    fn can_wait(&self) -> bool {
        false
    }
}
