//! What happens now, for those who watch: a bounded broadcast. Who is too slow misses events and
//! is told how many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;
use tokio::sync::broadcast;

use crate::alarm::Alarm;
use crate::limits::{LIVE_CLIENTS_MAX, LIVE_QUEUE_LEN};
use crate::store::Reading;

/// Something that happened, as it is sent.
#[derive(Clone, Debug)]
pub struct Event {
    /// The name of the event.
    pub name: &'static str,
    /// The device that it is about.
    pub device: Arc<str>,
    /// JSON.
    pub data: Arc<str>,
}

/// Hands events to all who watch.
#[derive(Clone, Debug)]
pub struct Hub {
    sender: broadcast::Sender<Event>,
    watchers: Arc<AtomicUsize>,
}

/// One who watches.
#[derive(Debug)]
pub struct Watcher {
    receiver: broadcast::Receiver<Event>,
    watchers: Arc<AtomicUsize>,
}

/// What a watcher gets.
#[derive(Clone, Debug)]
pub enum Next {
    /// Something happened.
    Event(Event),
    /// So many events were missed.
    Missed(u64),
}

#[derive(Serialize)]
struct ReadingsData<'a> {
    device: &'a str,
    readings: Vec<ReadingData<'a>>,
}

#[derive(Serialize)]
struct ReadingData<'a> {
    channel: &'a str,
    unit: Option<&'a str>,
    time_ms: i64,
    value: f64,
}

impl Default for Hub {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(LIVE_QUEUE_LEN), watchers: Arc::default() }
    }
}

impl Hub {
    /// Lets one more watch; `None` if too many do.
    #[must_use]
    pub fn watch(&self) -> Option<Watcher> {
        let add = |count| (count < LIVE_CLIENTS_MAX).then_some(count + 1);
        self.watchers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Watcher { receiver: self.sender.subscribe(), watchers: self.watchers.clone() })
    }

    /// Counts those who watch.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.watchers.load(Ordering::Relaxed)
    }

    /// Publishes the readings of a message.
    pub fn readings(&self, device: &str, readings: &[Reading]) {
        if self.watchers() == 0 || readings.is_empty() {
            return;
        }
        let readings = readings.iter().map(|reading| ReadingData {
            channel: &reading.channel,
            unit: (!reading.unit.is_empty()).then_some(&*reading.unit),
            time_ms: reading.time_ms,
            value: reading.value,
        });
        self.publish("readings", device, &ReadingsData { device, readings: readings.collect() });
    }

    /// Publishes an alarm.
    pub fn alarm(&self, alarm: &Alarm) {
        self.publish("alarm", &alarm.device, alarm);
    }

    /// Publishes anything that has a JSON form.
    pub fn publish(&self, name: &'static str, device: &str, data: &impl Serialize) {
        if self.watchers() == 0 {
            return;
        }
        // Plain structures of numbers and texts always have a JSON form.
        if let Ok(json) = serde_json::to_string(data) {
            let event = Event { name, device: Arc::from(device), data: Arc::from(json) };
            // It fails only when the last watcher has just left.
            let _ = self.sender.send(event);
        }
    }
}

impl Watcher {
    /// Waits for what happens next; `None` when the server ends.
    pub async fn next(&mut self) -> Option<Next> {
        match self.receiver.recv().await {
            Ok(event) => Some(Next::Event(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Next::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_watcher_learns_how_much_it_missed() {
        let hub = Hub::default();
        let mut watcher = hub.watch().expect("room");
        let sent = LIVE_QUEUE_LEN + 5;
        for number in 0..sent {
            hub.publish("device", "pump", &number);
        }
        let Some(Next::Missed(missed)) = watcher.next().await else { panic!("nothing missed") };
        let Some(Next::Event(first)) = watcher.next().await else { panic!("no event") };
        assert_eq!(&*first.data, missed.to_string());
        assert_eq!(missed, 5);
    }

    #[test]
    fn the_number_of_watchers_is_bounded() {
        let hub = Hub::default();
        let all: Vec<_> = std::iter::from_fn(|| hub.watch()).take(LIVE_CLIENTS_MAX + 1).collect();
        assert_eq!(all.len(), LIVE_CLIENTS_MAX);
        drop(all);
        assert!(hub.watch().is_some());
    }
}
