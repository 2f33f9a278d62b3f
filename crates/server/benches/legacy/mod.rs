//! Old packets: how many a second come through to the disk, beside what the decryption alone gives on
//! as many cores.
//!
//! The load comes from a second process, which has the ciphertexts ready before the clock starts. The
//! time runs from the first byte until the server has closed every connection, which it does once all
//! that came on it is stored.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use stonechat_core::wire::packet::{LocalTime, Packet, Position};
use stonechat_server::identity::DeviceEntry;
use stonechat_server::legacy::sender::{SenderKey, request_key};
use stonechat_server::legacy::{CIPHERTEXT_LEN, PacketKey, decrypt_threads};
use stonechat_server::settings::Listen;
use stonechat_server::{DeviceId, Running, Server, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::{Outcome, ROUNDS, Row, load, middle};

/// Makes the program send ciphertexts instead.
pub(crate) const FLAG: &str = "--generate-packets";
const DEVICES: usize = 100;
const PACKETS: usize = 12_000;
const CONNECTIONS: usize = 16;

#[derive(Debug, Serialize, Deserialize)]
struct Sent {
    seconds: f64,
}

/// Measures packets a second.
pub(crate) fn measure(runtime: &Runtime) -> Outcome<Vec<Row>> {
    let (mut per_s, mut raw_per_s) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (packets, raw) = runtime.block_on(packets())?;
        per_s.push(packets);
        raw_per_s.push(raw);
    }
    let raw = middle(raw_per_s);
    let peer = "decrypted by aws-lc-rs alone on as many cores, packets/s";
    let row = middle(per_s)
        .map(|value| Row::new("ingest.rsa_per_s", value, "packets/s").beside(peer, raw));
    Ok(row.into_iter().collect())
}

fn settings(folder: &Path) -> Outcome<Settings> {
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let data = folder.join("data");
    Ok(Settings { data, http: any, mqtt: any, legacy: Listen::At(any), ..Settings::default() })
}

/// Returns packets a second through the server, and by the decryption alone.
async fn packets() -> Outcome<(f64, f64)> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let server = Server::start(settings(folder.path())?).await?;
    let mut entries = Vec::with_capacity(DEVICES);
    for device in 0..DEVICES {
        let id = DeviceId::parse(&load::device_name(device))?;
        entries.push(DeviceEntry { number: Some(device as u16), ..DeviceEntry::new(id, 0) });
    }
    server.registry().insert_all(&entries).await?;
    let ciphertexts = Arc::new(ciphertexts(&server).await?);
    let file = folder.path().join("ciphertexts");
    std::fs::write(&file, ciphertexts.as_flattened())?;
    let raw_per_s = raw(&server, &ciphertexts)?;
    let address = server.legacy_addr.ok_or("the port is off")?;
    let sent = tokio::task::spawn_blocking(move || send(address, &file)).await??;
    let stored = server.store().totals().await?.messages;
    server.shutdown().await;
    if stored != PACKETS as u64 {
        return Err(format!("sent {PACKETS} packets but stored {stored}").into());
    }
    Ok((PACKETS as f64 / sent.seconds, raw_per_s))
}

async fn ciphertexts(server: &Running) -> Outcome<Vec<[u8; CIPHERTEXT_LEN]>> {
    let address = server.legacy_addr.ok_or("the port is off")?;
    let pem = request_key(TcpStream::connect(address).await?).await?;
    let key = SenderKey::from_pem(&pem)?;
    let now_s = stonechat_server::clock::now_ms() / 1_000;
    let mut ciphertexts = Vec::with_capacity(PACKETS);
    for index in 0..PACKETS {
        let packet = Packet {
            number: (index % DEVICES) as u16,
            air_temperature_c: 20.0 + (index / DEVICES % 100) as f64 / 10.0,
            dissolved_oxygen_mg_per_l: 8.25,
            water_temperature_c: 21.3,
            position: Position { latitude_deg: 35.179_6, longitude_deg: 129.075_6 },
            time: LocalTime::from_unix_s(now_s, 0).ok_or("a clock of this century")?,
        };
        ciphertexts.push(key.encrypt(&packet.write()?));
    }
    Ok(ciphertexts)
}

/// Decrypts on as many threads as the server has for it, and does nothing else.
fn raw(server: &Running, ciphertexts: &Arc<Vec<[u8; CIPHERTEXT_LEN]>>) -> Outcome<f64> {
    let key = Arc::new(PacketKey::from_pkcs8(server.keys().packets_key())?);
    let threads = decrypt_threads();
    let started = Instant::now();
    let workers: Vec<_> = (0..threads)
        .map(|worker| {
            let (key, ciphertexts) = (key.clone(), ciphertexts.clone());
            std::thread::spawn(move || {
                let own = ciphertexts.iter().skip(worker).step_by(threads);
                own.filter(|ciphertext| key.decrypt(ciphertext).is_some()).count()
            })
        })
        .collect();
    let decrypted: usize = workers.into_iter().filter_map(|worker| worker.join().ok()).sum();
    Ok(decrypted as f64 / started.elapsed().as_secs_f64())
}

fn send(address: SocketAddr, file: &Path) -> Outcome<Sent> {
    let output = Command::new(std::env::current_exe()?)
        .args([FLAG, &address.to_string(), &file.display().to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("the load generator failed: {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Sends the ciphertexts of a file, and prints how long it took.
pub(crate) fn run(arguments: &[String]) -> Outcome<()> {
    let [address, file] = arguments else {
        return Err("address and file expected".into());
    };
    let (address, bytes): (SocketAddr, _) = (address.parse()?, std::fs::read(file)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seconds = runtime.block_on(async {
        let share = (bytes.len() / CIPHERTEXT_LEN).div_ceil(CONNECTIONS) * CIPHERTEXT_LEN;
        let mut streams = Vec::new();
        for part in bytes.chunks(share) {
            streams.push((TcpStream::connect(address).await?, part.to_vec()));
        }
        let started = Instant::now();
        let mut tasks = Vec::new();
        for (mut stream, part) in streams {
            tasks.push(tokio::spawn(async move {
                stream.write_all(&part).await?;
                stream.shutdown().await?;
                // The server closes its side when everything is stored.
                stream.read(&mut [0; 1]).await
            }));
        }
        for task in tasks {
            task.await??;
        }
        Outcome::Ok(started.elapsed().as_secs_f64())
    })?;
    println!("{}", serde_json::to_string(&Sent { seconds })?);
    Ok(())
}
