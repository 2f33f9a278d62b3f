use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, QoS, SubscribeReasonCode};
use serde::Serialize;
use stonechat_train::limits::METER_MESSAGE_LEN_MAX;
use stonechat_train::power::capture::{Capture, Counts, stamp};
use tokio::time::{Instant, sleep, timeout_at};

use crate::Outcome;
use crate::cmd::serve::{ended, runtime};
use crate::output::{Hinted, Output, counted};

/// The wait after a lost connection doubles from this ...
const RECONNECT_WAIT_MIN: Duration = Duration::from_millis(100);
/// ... up to this.
const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// The first connection must come in this time.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const REQUESTS_WAITING_MAX: usize = 8;
/// What the packet has besides the message: topic and headers.
const PACKET_OVERHEAD_MAX: usize = 70_000;

/// Capture a power meter's messages from an MQTT broker into CSV files.
///
/// Messages that are no valid JSON are read as far as possible and counted. The files are written at the end: after
/// --seconds, after --messages, or at Ctrl-C. A password is taken from STONECHAT_MQTT_PASSWORD.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: stonechat data capture --broker 192.168.1.10:1883 --topic meter/# --seconds 3600 -o captured"
)]
pub(super) struct CaptureArgs {
    /// The broker: HOST:PORT.
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_broker)]
    broker: (String, u16),
    /// The topic; + and # stand for parts of it.
    #[arg(long)]
    topic: String,
    /// The folder for the files; made where it is missing.
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    /// End after this time.
    #[arg(long)]
    seconds: Option<u64>,
    /// End after so many messages.
    #[arg(long, value_name = "COUNT")]
    messages: Option<usize>,
    /// The user's name at the broker.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

fn parse_broker(text: &str) -> Result<(String, u16), String> {
    text.rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)))
        .ok_or_else(|| "write HOST:PORT, such as localhost:1883".to_owned())
}

#[derive(Serialize)]
struct Captured {
    readings: usize,
    messages: Counts,
    connections: usize,
    files: Vec<String>,
}

impl CaptureArgs {
    pub(super) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        std::fs::create_dir_all(&self.output)
            .with_context(|| format!("cannot make the folder `{}`", self.output.display()))?;
        let begun = stamp(now_us());
        let (capture, connections) = runtime()?.block_on(self.capture(output))?;
        let files = capture.write(&self.output, &begun)?;
        let captured = Captured {
            readings: capture.readings.len(),
            messages: capture.counts,
            connections,
            files: files.iter().map(|file| file.display().to_string()).collect(),
        };
        output.result(&captured, || {
            let files = captured.files.iter().map(|file| format!("\n  {file}"));
            format!(
                "{} from {}, {} malformed, {} unreadable{}",
                counted(captured.readings, "reading"),
                counted(captured.messages.messages, "message"),
                captured.messages.malformed,
                captured.messages.unreadable,
                files.collect::<String>()
            )
        });
        Ok(Outcome::Done)
    }

    fn connect(&self) -> (AsyncClient, EventLoop) {
        let (host, port) = &self.broker;
        // A name of its own, so that two captures do not push each other out.
        let id = format!("stonechat-capture-{}-{}", std::process::id(), now_us() % 1_000_000);
        let mut options = MqttOptions::new(id, host, *port);
        options.set_keep_alive(KEEP_ALIVE);
        let packet_len_max = METER_MESSAGE_LEN_MAX + PACKET_OVERHEAD_MAX;
        options.set_max_packet_size(packet_len_max, packet_len_max);
        if let Some(user) = &self.user {
            let password = std::env::var("STONECHAT_MQTT_PASSWORD").unwrap_or_default();
            options.set_credentials(user, password);
        }
        AsyncClient::new(options, REQUESTS_WAITING_MAX)
    }

    /// Takes messages until an end is reached; a lost connection is made again.
    async fn capture(&self, output: &Output) -> anyhow::Result<(Capture, usize)> {
        let (client, mut events) = self.connect();
        let mut capture = Capture::default();
        let (mut connections, mut wait) = (0, RECONNECT_WAIT_MIN);
        let started = Instant::now();
        let end = self.seconds.map(|seconds| started + Duration::from_secs(seconds));
        // Without an end, Ctrl-C is the only one.
        let far = started + Duration::from_secs(u64::from(u32::MAX));
        let mut interrupt = std::pin::pin!(ended());
        while self.messages.is_none_or(|most| capture.counts.messages < most) {
            let event = tokio::select! {
                () = &mut interrupt => break,
                event = timeout_at(end.unwrap_or(far), events.poll()) => event,
            };
            match event {
                Err(_) => break,
                Ok(Ok(Event::Incoming(Incoming::ConnAck(_)))) => {
                    connections += 1;
                    wait = RECONNECT_WAIT_MIN;
                    client.subscribe(&self.topic, QoS::AtLeastOnce).await?;
                }
                Ok(Ok(Event::Incoming(Incoming::SubAck(answer))))
                    if answer.return_codes.contains(&SubscribeReasonCode::Failure) =>
                {
                    return Err(Hinted::new(
                        format!(
                            "the broker does not let this client read the topic `{}`",
                            self.topic
                        ),
                        "ask whoever runs it for the right; --user names a user",
                    ));
                }
                Ok(Ok(Event::Incoming(Incoming::Publish(message)))) => {
                    capture.push(Some(now_us()), &message.payload);
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    if connections == 0 && started.elapsed() > CONNECT_TIME_MAX {
                        let (host, port) = &self.broker;
                        return Err(Hinted::new(
                            format!("cannot reach the broker {host}:{port}: {error}"),
                            "is it running, and does it let this user in? --user names one",
                        ));
                    }
                    if connections > 0 && wait == RECONNECT_WAIT_MIN {
                        output.warn(format!("the connection is lost, trying again: {error}"));
                    }
                    sleep(wait).await;
                    wait = (wait * 2).min(RECONNECT_WAIT_MAX);
                }
            }
        }
        Ok((capture, connections))
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
