use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use stonechat_core::wire::packet::{LocalTime, PACKET_LEN, Packet, Position};
use stonechat_server::legacy::CIPHERTEXT_LEN;
use stonechat_server::legacy::sender::{SenderKey, request_key};
use stonechat_server::settings::UtcOffset;
use stonechat_train::dataset::Recording;
use stonechat_train::random::Random;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::device::{Speed, parse_speed};
use super::serve::{ended, runtime};
use crate::Outcome;
use crate::data::{ReadArgs, Source};
use crate::output::{Hinted, Output, counted};

/// How long the server may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// The first wait after a lost connection ...
const RECONNECT_WAIT_MIN: Duration = Duration::from_millis(100);
/// ... which doubles up to this.
const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a server may be away at the start.
const SERVER_WAIT_MAX: Duration = Duration::from_secs(5);
/// The measurements of a packet, as a recording's columns may be called.
const MEASUREMENTS: [&str; 3] = ["air_temperature", "dissolved_oxygen", "water_temperature"];

/// Run this computer as an older tank sensor that sends RSA packets.
///
/// Nothing proves who such a sensor is, and nothing is acknowledged: for sensors that cannot be
/// changed, and to test the server's port for them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stonechat device legacy --config config.json
  stonechat device legacy --config config.json --recording tank.csv --speed max

The configuration is that of the older sensors:
  {\"server\": {\"address\": \"127.0.0.1\", \"port\": 12351},
   \"client\": {\"sensor_id\": 1234, \"send_interval\": 10, \"public_key_path\": \"server.pem\"}}
The key is kept in the file `public_key_path`, beside the configuration, and asked for anew at each
connection. The server needs the setting `legacy`, and a device of that number: `stonechat device add tank --number 1234`.")]
pub(crate) struct Args {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Replay this recording: columns air_temperature, dissolved_oxygen and water_temperature, or any
    /// three in this order. Without it, values are made up.
    #[arg(long, value_name = "FILE")]
    recording: Option<Source>,
    /// The seed of made-up values.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many times as fast as `send_interval` says; `max` for as fast as the server reads.
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = parse_speed)]
    speed: Speed,
    /// Stop after so many packets; a recording stops at its end.
    #[arg(long, value_name = "COUNT")]
    packets: Option<usize>,
    /// How far the sensor's clock is ahead of UTC; the server's setting `legacy_utc_offset` must match.
    #[arg(long, value_name = "OFFSET", default_value = "+00:00", allow_hyphen_values = true)]
    utc_offset: UtcOffset,
    /// Degrees north.
    #[arg(long, value_name = "DEGREES", default_value_t = 35.1796, allow_negative_numbers = true)]
    latitude: f64,
    /// Degrees east.
    #[arg(long, value_name = "DEGREES", default_value_t = 129.0756, allow_negative_numbers = true)]
    longitude: f64,
    #[command(flatten)]
    read: ReadArgs,
}

/// The configuration of the older sensors; what else it holds is passed over.
#[derive(Debug, Deserialize)]
struct Config {
    server: ConfigServer,
    client: ConfigClient,
}

#[derive(Debug, Deserialize)]
struct ConfigServer {
    address: String,
    port: u16,
}

#[derive(Debug, Deserialize)]
struct ConfigClient {
    #[serde(deserialize_with = "number")]
    sensor_id: u16,
    /// Seconds.
    send_interval: f64,
    public_key_path: PathBuf,
}

/// Some wrote the number as a text.
fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u16),
        Text(String),
    }
    match Written::deserialize(deserializer)? {
        Written::Number(number) => Ok(number),
        Written::Text(text) => text.trim().parse().map_err(serde::de::Error::custom),
    }
}

impl Config {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let hint = "`stonechat device legacy --help` shows one";
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration `{}`", path.display()))?;
        let mut config: Self = serde_json::from_str(&text).map_err(|error| {
            Hinted::new(format!("the configuration `{}`: {error}", path.display()), hint)
        })?;
        let interval_s = config.client.send_interval;
        if !(interval_s.is_finite() && (0.0..=86_400.0).contains(&interval_s)) {
            return Err(Hinted::new(
                format!("`client.send_interval` is {interval_s}"),
                "write seconds, up to 86400",
            ));
        }
        // The key lies beside the configuration, wherever the command runs.
        if let Some(folder) = path.parent() {
            config.client.public_key_path = folder.join(&config.client.public_key_path);
        }
        Ok(config)
    }
}

#[derive(Serialize)]
struct Sent {
    sensor_id: u16,
    packets_sent: usize,
    /// Rows whose values do not fit into a packet.
    rows_left_out: usize,
    reconnections: usize,
}

/// Where values come from.
enum Values {
    Recorded { recording: Recording, columns: [usize; 3], row: usize },
    MadeUp { random: Random, step: u64 },
}

impl Values {
    /// Returns air temperature, dissolved oxygen, water temperature; none at the end.
    fn next(&mut self) -> Option<[f64; 3]> {
        match self {
            Self::Recorded { recording, columns, row } => {
                // A sensor without a number sends no packet.
                while *row < recording.rows() {
                    let values = recording.row(*row);
                    let picked = columns.map(|column| f64::from(values[column]));
                    *row += 1;
                    if picked.iter().all(|value| value.is_finite()) {
                        return Some(picked);
                    }
                }
                None
            }
            Self::MadeUp { random, step } => {
                let phase = *step as f64 * 0.05;
                *step += 1;
                Some([
                    24.0 + 4.0 * phase.sin() + 0.2 * random.normal(),
                    8.0 + 0.8 * (phase * 0.7).sin() + 0.05 * random.normal(),
                    21.0 + 1.5 * (phase - 0.6).sin() + 0.05 * random.normal(),
                ])
            }
        }
    }
}

/// Finds the three measurements of a recording.
fn columns(recording: &Recording) -> anyhow::Result<[usize; 3]> {
    let find = |name: &str| recording.channels.iter().position(|channel| channel.name == name);
    let named = MEASUREMENTS.map(find);
    match named {
        [Some(air), Some(oxygen), Some(water)] => Ok([air, oxygen, water]),
        _ if recording.channels.len() == 3 => Ok([0, 1, 2]),
        _ => Err(Hinted::new(
            format!(
                "`{}` has not the columns {}, nor just three",
                recording.name,
                MEASUREMENTS.join(", ")
            ),
            "choose three with --channels, in this order",
        )),
    }
}

/// A connection to a server, and the key of that server.
struct Sender<'a> {
    config: &'a Config,
    key: Option<SenderKey>,
    stream: Option<TcpStream>,
    connections: usize,
    /// How many different keys there were.
    keys: u64,
}

impl Sender<'_> {
    async fn open(&self) -> std::io::Result<TcpStream> {
        let ConfigServer { address, port } = &self.config.server;
        let stream = TcpStream::connect((address.as_str(), *port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Asks for the key on a connection of its own, then opens the one for packets.
    async fn connect(&mut self, output: &Output) -> std::io::Result<()> {
        let slow = |_| Error::new(ErrorKind::TimedOut, "no answer");
        let asked = async { request_key(self.open().await?).await };
        let pem = timeout(ANSWER_TIME_MAX, asked).await.map_err(slow)?;
        let path = &self.config.client.public_key_path;
        let kept = std::fs::read_to_string(path).ok();
        let pem = match (pem, &kept) {
            (Ok(pem), _) => pem,
            // A server that gives no key now may take packets all the same.
            (Err(_), Some(kept)) => kept.clone(),
            (Err(error), None) => return Err(error),
        };
        let key = SenderKey::from_pem(&pem)
            .map_err(|error| Error::new(ErrorKind::InvalidData, error.to_string()))?;
        if kept.as_ref() != Some(&pem) {
            if kept.is_some() {
                output.warn(format!(
                    "the server at {}:{} has another key than `{}` held; it is replaced, as older sensors have no way to tell which one is right",
                    self.config.server.address,
                    self.config.server.port,
                    path.display()
                ));
            }
            std::fs::write(path, &pem)?;
            self.keys += 1;
        }
        self.key = Some(key);
        self.stream = Some(timeout(ANSWER_TIME_MAX, self.open()).await.map_err(slow)??);
        self.connections += 1;
        Ok(())
    }

    /// Tells whether the server has closed the connection; it never says anything on it.
    fn is_closed(&self) -> bool {
        let Some(stream) = &self.stream else { return true };
        match stream.try_read(&mut [0; 16]) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Connects, and tries again for ever, or for some time only.
    async fn connect_until(&mut self, end: Option<Instant>, output: &Output) -> anyhow::Result<()> {
        let mut wait = RECONNECT_WAIT_MIN;
        loop {
            match self.connect(output).await {
                Ok(()) => return Ok(()),
                Err(error) if end.is_some_and(|end| Instant::now() >= end) => {
                    let ConfigServer { address, port } = &self.config.server;
                    return Err(Hinted::new(
                        format!("cannot use the server at {address}:{port}: {error}"),
                        "is it running, and is the setting `legacy` on? `stonechat serve --legacy 127.0.0.1:12351`",
                    ));
                }
                Err(_) => sleep(wait).await,
            }
            wait = (wait * 2).min(RECONNECT_WAIT_MAX);
        }
    }

    /// Sends a packet. Written again after a lost connection it is the same ciphertext, so that it
    /// counts once, unless the key has changed.
    async fn send(&mut self, plain: &[u8; PACKET_LEN], output: &Output) -> anyhow::Result<()> {
        let mut encrypted: Option<(u64, [u8; CIPHERTEXT_LEN])> = None;
        loop {
            if self.is_closed() {
                self.connect_until(None, output).await?;
            }
            let (Some(key), Some(stream)) = (&self.key, &mut self.stream) else {
                bail!("a connection has a key");
            };
            let ciphertext = match encrypted {
                Some((keys, ciphertext)) if keys == self.keys => ciphertext,
                _ => key.encrypt(plain),
            };
            encrypted = Some((self.keys, ciphertext));
            if stream.write_all(&ciphertext).await.is_ok() {
                return Ok(());
            }
            self.stream = None;
        }
    }
}

impl Args {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<Outcome> {
        let config = Config::read(&self.config)?;
        let mut values = match &self.recording {
            None => Values::MadeUp { random: Random::new(self.seed), step: 0 },
            Some(source) => {
                let recording = self.read.read(source, output)?;
                let columns = columns(&recording)?;
                Values::Recorded { recording, columns, row: 0 }
            }
        };
        let sensor_id = config.client.sensor_id;
        let mut sender =
            Sender { config: &config, key: None, stream: None, connections: 0, keys: 0 };
        let mut sent = Sent { sensor_id, packets_sent: 0, rows_left_out: 0, reconnections: 0 };
        let sending = runtime()?.block_on(async {
            tokio::select! {
                outcome = self.send_all(&mut sender, &mut values, &mut sent, output) => outcome,
                () = ended() => Ok(()),
            }
        });
        sent.reconnections = sender.connections.saturating_sub(1);
        output.result(&sent, || {
            format!(
                "sensor {sensor_id}: {} sent, {} left out, {}; nothing acknowledges them",
                counted(sent.packets_sent, "packet"),
                counted(sent.rows_left_out, "row"),
                counted(sent.reconnections, "reconnection")
            )
        });
        sending.map(|()| Outcome::Done)
    }

    async fn send_all(
        &self,
        sender: &mut Sender<'_>,
        values: &mut Values,
        sent: &mut Sent,
        output: &Output,
    ) -> anyhow::Result<()> {
        sender.connect_until(Some(Instant::now() + SERVER_WAIT_MAX), output).await?;
        let interval = match self.speed {
            Speed::Max => Duration::ZERO,
            Speed::Factor(factor) => {
                Duration::from_secs_f64(sender.config.client.send_interval / factor)
            }
        };
        let mut next = Instant::now();
        while self.packets.is_none_or(|packets| sent.packets_sent < packets) {
            let Some(values) = values.next() else { break };
            sleep_until(next).await;
            match self.packet(sender.config.client.sensor_id, values)?.write() {
                Ok(plain) => {
                    sender.send(&plain, output).await?;
                    sent.packets_sent += 1;
                }
                Err(error) => {
                    output.note(format!("left out a row: {error}"));
                    sent.rows_left_out += 1;
                }
            }
            next = Instant::now().max(next + interval);
        }
        if let Some(mut stream) = sender.stream.take() {
            // What was written is sent before the connection ends.
            let _ = stream.shutdown().await;
        }
        Ok(())
    }

    fn packet(&self, number: u16, values: [f64; 3]) -> anyhow::Result<Packet> {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now_s = i64::try_from(now_s).unwrap_or(i64::MAX);
        let time = LocalTime::from_unix_s(now_s, self.utc_offset.seconds());
        let [air_temperature_c, dissolved_oxygen_mg_per_l, water_temperature_c] = values;
        Ok(Packet {
            number,
            air_temperature_c,
            dissolved_oxygen_mg_per_l,
            water_temperature_c,
            position: Position { latitude_deg: self.latitude, longitude_deg: self.longitude },
            time: time.context("this computer's clock is not from 2000 to 2099")?,
        })
    }
}
