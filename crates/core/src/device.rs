//! The whole application of a device as one state machine without I/O.
//!
//! Samples, time and acknowledgements go in; messages and the state of the LED come out. A Linux
//! process, an emulated chip and a board each drive it with a thin shell.

use core::fmt;

use crate::decision::Verdict;
use crate::detector::Detector;
use crate::limits::{CHANNELS_MAX, OUTBOX_SLOT_LEN, OUTBOX_SLOTS_MAX};
use crate::pipeline::{MemoryTooShort, Pipeline, WindowResult};
use crate::wire::senml::{Full, PackWriter, Record, Value};
use crate::wire::uplink::{
    self, ANOMALY, DETECTOR, MessageId, RECONSTRUCTION_SUFFIX, SCORE, SENSOR_FAULT_SUFFIX,
    THRESHOLD,
};

/// How a device reports.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The device's identity.
    pub id: &'a str,
    /// Drawn at random at each start, so that messages of two runs are told apart.
    pub session: u32,
    /// A message waits at most this long for more readings.
    pub flush_interval_us: u64,
    /// Windows are reported at most this often while the verdict stays the same; 0 reports each.
    pub report_interval_us: u64,
}

/// Why a device cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The memory is too short for the detector.
    Memory(MemoryTooShort),
    /// The identity is not one ([`uplink::is_device_id`]).
    Id,
    /// The outbox has no room for one message.
    Outbox,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(error) => error.fmt(f),
            Self::Id => f.write_str("a device's identity is 1 to 64 of A-Z a-z 0-9 - _"),
            Self::Outbox => write!(f, "the outbox needs at least {OUTBOX_SLOT_LEN} bytes"),
        }
    }
}

impl core::error::Error for StartError {}

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// Names the message in [`Device::acknowledge`].
    pub sequence: u32,
    /// The payload.
    pub payload: &'a [u8],
}

/// What a device has counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Samples taken in, faults included.
    pub samples: u64,
    /// Samples with a sensor fault.
    pub faults: u64,
    /// Windows scored.
    pub windows: u64,
    /// Windows that could not be reported because the outbox was full.
    pub reports_dropped: u64,
    /// Messages handed out for the first time.
    pub messages: u64,
}

/// A device.
#[derive(Debug)]
pub struct Device<'d, 'm> {
    settings: Settings<'d>,
    base_name: BaseName,
    pipeline: Pipeline<'d, 'm>,
    outbox: Outbox<'m>,
    /// Faults not yet reported, by channel.
    faults: [u32; CHANNELS_MAX],
    last_report_us: Option<u64>,
    counters: Counters,
}

impl<'d, 'm> Device<'d, 'm> {
    /// Starts a device: `memory` for the detector ([`Detector::memory_words`]), `outbox` for
    /// messages that wait, [`OUTBOX_SLOT_LEN`] bytes each.
    ///
    /// # Errors
    /// [`StartError`] says what is too short or malformed.
    pub fn new(
        settings: Settings<'d>,
        detector: &Detector<'d>,
        memory: &'m mut [u32],
        outbox: &'m mut [u8],
    ) -> Result<Self, StartError> {
        let pipeline = Pipeline::new(detector, memory).map_err(StartError::Memory)?;
        Ok(Self {
            base_name: BaseName::new(settings.id).ok_or(StartError::Id)?,
            settings,
            pipeline,
            outbox: Outbox::new(outbox).ok_or(StartError::Outbox)?,
            faults: [0; CHANNELS_MAX],
            last_report_us: None,
            counters: Counters::default(),
        })
    }

    /// Takes in a sample taken at `time_us` (unix microseconds), one number a channel, and returns
    /// what a completed window gave.
    pub fn sample(&mut self, time_us: u64, sample: &[f32]) -> Option<WindowResult> {
        self.counters.samples += 1;
        let result = match self.pipeline.push(sample) {
            Ok(result) => result?,
            Err(fault) => {
                self.counters.faults += 1;
                for (channel, count) in self.faults.iter_mut().enumerate() {
                    *count = count.saturating_add(u32::from(fault.channels >> channel & 1));
                }
                self.flush_old(time_us);
                return None;
            }
        };
        self.counters.windows += 1;
        let due = self.last_report_us.is_none_or(|last| {
            time_us < last || time_us - last >= self.settings.report_interval_us
        });
        if due || result.changed {
            self.report(time_us, &result);
        }
        if result.changed {
            self.outbox.close_open();
        }
        self.flush_old(time_us);
        Some(result)
    }

    /// Lets time pass without a sample: closes a message that has waited long enough.
    pub fn tick(&mut self, now_us: u64) {
        self.flush_old(now_us);
    }

    /// Closes the message in progress, whatever its age: before a shutdown.
    pub fn flush(&mut self, now_us: u64) {
        self.report_faults(now_us);
        self.outbox.close_open();
    }

    /// Starts the window anew, after a gap in the samples.
    pub fn reset_window(&mut self) {
        self.pipeline.reset_window();
    }

    /// Returns the next message to send and marks it as sent, oldest first.
    pub fn transmit(&mut self) -> Option<Transmit<'_>> {
        let (transmit, first) = self.outbox.transmit()?;
        self.counters.messages += u64::from(first);
        Some(transmit)
    }

    /// Frees a message that the server has stored.
    pub fn acknowledge(&mut self, sequence: u32) {
        self.outbox.acknowledge(sequence);
    }

    /// Makes every message that is not acknowledged be sent again, after the connection was lost.
    pub fn disconnected(&mut self) {
        self.outbox.unsend();
    }

    /// Tells whether another sample can be reported; a replay waits until it can.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.outbox.has_room()
    }

    /// Tells whether every message was acknowledged.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Tells whether the LED is lit: while the verdict is an anomaly.
    #[must_use]
    pub fn led(&self) -> bool {
        self.pipeline.verdict() == Verdict::Anomaly
    }

    /// Returns the pipeline, to look at its last window.
    #[must_use]
    pub fn pipeline(&self) -> &Pipeline<'d, 'm> {
        &self.pipeline
    }

    /// Returns what was counted since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn flush_old(&mut self, now_us: u64) {
        if self.faults.iter().any(|count| *count > 0) && self.outbox.opened_us.is_none() {
            let waited = self
                .last_report_us
                .is_none_or(|last| now_us.saturating_sub(last) >= self.settings.flush_interval_us);
            if waited {
                self.report_faults(now_us);
                self.last_report_us = Some(now_us);
            }
        }
        if let Some(opened_us) = self.outbox.opened_us
            && (now_us < opened_us || now_us - opened_us >= self.settings.flush_interval_us)
        {
            self.report_faults(now_us);
            self.outbox.close_open();
        }
    }

    fn report_faults(&mut self, now_us: u64) {
        let Self { pipeline, outbox, faults, base_name, settings, .. } = self;
        for (channel, count) in pipeline.detector().channels().zip(faults) {
            if *count == 0 {
                continue;
            }
            let mut name = NameBuffer::new();
            let reading = Reading {
                name: name.join(channel.name, SENSOR_FAULT_SUFFIX),
                unit: "",
                value: Value::Number(f64::from(*count)),
                time_us: now_us,
            };
            if outbox.write(base_name, settings, pipeline.detector(), &[reading]).is_ok() {
                *count = 0;
            }
        }
    }

    fn report(&mut self, time_us: u64, result: &WindowResult) {
        match self.write_window(time_us, result) {
            Ok(()) => self.last_report_us = Some(time_us),
            Err(Full) => self.counters.reports_dropped += 1,
        }
    }

    fn write_window(&mut self, time_us: u64, result: &WindowResult) -> Result<(), Full> {
        let Self { pipeline, outbox, base_name, settings, .. } = self;
        let detector = pipeline.detector();
        let reading = |name, value| Reading { name, unit: "", value, time_us };
        let threshold = detector.decision_rule().threshold;
        // The three belong together: a message holds all of them or none.
        outbox.write(
            base_name,
            settings,
            detector,
            &[
                reading(SCORE, Value::Number(f64::from(result.score))),
                reading(THRESHOLD, Value::Number(f64::from(threshold))),
                reading(ANOMALY, Value::Boolean(result.verdict == Verdict::Anomaly)),
            ],
        )?;
        let period_us = 1.0e6 / f64::from(detector.rate_hz());
        for trace in detector.traces() {
            for position in 0..trace.count {
                let index = trace.first + position;
                let age = ((trace.count - 1 - position) * trace.step) as f64 * period_us;
                let time_us = time_us.saturating_sub(age as u64);
                let (Some(signal), Some(reconstruction)) =
                    (pipeline.features().get(index), pipeline.reconstruction(index))
                else {
                    continue;
                };
                let mut name = NameBuffer::new();
                let reading = |name, number: f32| Reading {
                    name,
                    unit: trace.unit,
                    value: Value::Number(f64::from(number)),
                    time_us,
                };
                outbox.write(
                    base_name,
                    settings,
                    detector,
                    &[
                        reading(trace.name, *signal),
                        reading(name.join(trace.name, RECONSTRUCTION_SUFFIX), reconstruction),
                    ],
                )?;
            }
        }
        Ok(())
    }
}

/// `DEVICE/`, the base name of every message.
#[derive(Debug)]
struct BaseName(NameBuffer);

impl BaseName {
    fn new(id: &str) -> Option<Self> {
        if !uplink::is_device_id(id) {
            return None;
        }
        let mut name = NameBuffer::new();
        name.join(id, "/");
        Some(Self(name))
    }

    fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Room for a name and its suffix.
#[derive(Debug)]
struct NameBuffer {
    bytes: [u8; 80],
    len: usize,
}

impl NameBuffer {
    fn new() -> Self {
        Self { bytes: [0; 80], len: 0 }
    }

    /// Holds `name` followed by `suffix`; both are short enough by the limits of channel and
    /// device names.
    fn join(&mut self, name: &str, suffix: &str) -> &str {
        self.len = 0;
        for byte in name.bytes().chain(suffix.bytes()).take(self.bytes.len()) {
            self.bytes[self.len] = byte;
            self.len += 1;
        }
        self.as_str()
    }

    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

/// A reading on its way into a message.
struct Reading<'a> {
    name: &'a str,
    unit: &'a str,
    value: Value<'a>,
    time_us: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SlotState {
    #[default]
    Empty,
    /// Takes more readings.
    Open,
    /// Waits to be sent.
    Ready,
    /// Waits for its acknowledgement.
    Sent,
    /// Was sent, but the connection was lost: waits to be sent once more.
    Again,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    state: SlotState,
    sequence: u32,
    len: usize,
}

/// Messages that wait for their acknowledgement.
#[derive(Debug)]
struct Outbox<'m> {
    memory: &'m mut [u8],
    slots: [Slot; OUTBOX_SLOTS_MAX],
    slot_count: usize,
    next_sequence: u32,
    /// When the open message got its first reading.
    opened_us: Option<u64>,
}

impl<'m> Outbox<'m> {
    fn new(memory: &'m mut [u8]) -> Option<Self> {
        let slot_count = (memory.len() / OUTBOX_SLOT_LEN).min(OUTBOX_SLOTS_MAX);
        (slot_count > 0).then_some(Self {
            memory,
            slots: [Slot::default(); OUTBOX_SLOTS_MAX],
            slot_count,
            next_sequence: 0,
            opened_us: None,
        })
    }

    fn slots(&self) -> &[Slot] {
        &self.slots[..self.slot_count]
    }

    fn find(&self, wanted: SlotState) -> Option<usize> {
        self.slots().iter().position(|slot| slot.state == wanted)
    }

    /// Room for a window means an empty slot beside the open one: a window may need a new message.
    fn has_room(&self) -> bool {
        let empty = self.slots().iter().filter(|slot| slot.state == SlotState::Empty).count();
        empty > 1 || (empty == 1 && self.slot_count == 1)
    }

    fn is_empty(&self) -> bool {
        self.slots().iter().all(|slot| slot.state == SlotState::Empty)
    }

    /// Writes readings into the open message, all of them or none, opening a new message when
    /// there is none or they do not fit.
    fn write(
        &mut self,
        base_name: &BaseName,
        settings: &Settings<'_>,
        detector: &Detector<'_>,
        readings: &[Reading<'_>],
    ) -> Result<(), Full> {
        if let Some(slot) = self.find(SlotState::Open) {
            if self.append(slot, readings).is_ok() {
                return Ok(());
            }
            self.close_open();
        }
        let slot = self.open(base_name, settings, detector, readings)?;
        let written = self.append(slot, readings);
        if written.is_err() {
            self.slots[slot].state = SlotState::Empty;
            self.opened_us = None;
        }
        written
    }

    fn slot_memory(&mut self, slot: usize) -> &mut [u8] {
        &mut self.memory[slot * OUTBOX_SLOT_LEN..(slot + 1) * OUTBOX_SLOT_LEN]
    }

    fn open(
        &mut self,
        base_name: &BaseName,
        settings: &Settings<'_>,
        detector: &Detector<'_>,
        readings: &[Reading<'_>],
    ) -> Result<usize, Full> {
        let slot = self.find(SlotState::Empty).ok_or(Full)?;
        let sequence = self.next_sequence;
        let id = MessageId { session: settings.session, sequence };
        let opened_us = readings.first().map_or(0, |reading| reading.time_us);
        let memory = self.slot_memory(slot);
        let mut pack = uplink::open(memory, base_name.as_str(), seconds(opened_us), id)?;
        if sequence == 0 {
            let name = Value::Text(detector.name());
            pack.push(&Record { name: DETECTOR, unit: "", value: name, time_s: 0.0 })?;
        }
        let len = pack.len();
        self.slots[slot] = Slot { state: SlotState::Open, sequence, len };
        self.opened_us = Some(opened_us);
        self.next_sequence = self.next_sequence.wrapping_add(1);
        Ok(slot)
    }

    fn append(&mut self, slot: usize, readings: &[Reading<'_>]) -> Result<(), Full> {
        let opened_us = self.opened_us.unwrap_or(0);
        let len = self.slots[slot].len;
        let mut pack = PackWriter::resume(self.slot_memory(slot), len);
        for reading in readings {
            let after_us = reading.time_us as f64 - opened_us as f64;
            pack.push(&Record {
                name: reading.name,
                unit: reading.unit,
                value: reading.value,
                time_s: after_us / 1.0e6,
            })?;
        }
        self.slots[slot].len = pack.len();
        Ok(())
    }

    fn close_open(&mut self) {
        if let Some(slot) = self.find(SlotState::Open) {
            let len = self.slots[slot].len;
            self.slots[slot].len = PackWriter::resume(self.slot_memory(slot), len).close();
            self.slots[slot].state = SlotState::Ready;
        }
        self.opened_us = None;
    }

    /// Returns the message with the least sequence number that waits to be sent, and whether it
    /// goes out for the first time.
    fn transmit(&mut self) -> Option<(Transmit<'_>, bool)> {
        let base = self.next_sequence;
        let (index, slot) = self
            .slots
            .iter_mut()
            .enumerate()
            .take(self.slot_count)
            .filter(|(_, slot)| matches!(slot.state, SlotState::Ready | SlotState::Again))
            // The oldest lies farthest behind the next number, also when the counter has wrapped.
            .max_by_key(|(_, slot)| base.wrapping_sub(slot.sequence))?;
        let first = slot.state == SlotState::Ready;
        slot.state = SlotState::Sent;
        let start = index * OUTBOX_SLOT_LEN;
        let payload = &self.memory[start..start + slot.len];
        Some((Transmit { sequence: slot.sequence, payload }, first))
    }

    fn acknowledge(&mut self, sequence: u32) {
        for slot in &mut self.slots {
            if slot.sequence == sequence && matches!(slot.state, SlotState::Sent | SlotState::Again)
            {
                *slot = Slot::default();
            }
        }
    }

    fn unsend(&mut self) {
        for slot in &mut self.slots {
            if slot.state == SlotState::Sent {
                slot.state = SlotState::Again;
            }
        }
    }
}

fn seconds(time_us: u64) -> f64 {
    time_us as f64 / 1.0e6
}
