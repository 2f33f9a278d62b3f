//! Connections within TLS 1.3 that do nothing: what does one cost?
//!
//! The clients are a process of their own. Each shows a certificate of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use stonechat_server::identity::authority::new_key;
use stonechat_server::identity::tls::{Trust, client_config};
use stonechat_server::identity::{DeviceEntry, ServerKeys};
use stonechat_server::settings::Listen;
use stonechat_server::{DeviceId, Server, Settings, clock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::peer::Mosquitto;
use super::{device_name, packet};
use crate::Outcome;

/// Makes the program hold connections instead.
pub(crate) const FLAG: &str = "--hold-connections";
/// Handshakes under way at one time.
const HANDSHAKES: usize = 50;
/// How long allocations may settle.
const SETTLE: Duration = Duration::from_secs(2);
const VALIDITY: Duration = Duration::from_secs(24 * 60 * 60);

/// What was seen, in KiB for each connection.
pub(crate) struct Idle {
    pub(crate) ours_kb: f64,
    pub(crate) peer_kb: Option<f64>,
    pub(crate) handshakes_per_s: f64,
}

/// Measures a server of our own in this process, and mosquitto in its own.
pub(crate) async fn measure(connections: usize) -> Outcome<Idle> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let data = folder.path().join("data");
    let settings = Settings {
        data: data.clone(),
        http: any,
        mqtt: any,
        mqtts: Listen::At(any),
        ..Settings::default()
    };
    let server = Server::start(settings).await?;
    let entries = certify(server.keys(), connections, folder.path())?;
    server.registry().insert_all(&entries).await?;
    drop(entries);
    let mqtts = server.mqtts_addr.ok_or("no TLS listener")?;
    // What the first ones allocate is not counted for each.
    drop(hold(mqtts, 10, folder.path())?);
    tokio::time::sleep(SETTLE).await;
    let before_kb = resident_kb(std::process::id())?;
    let begun = std::time::Instant::now();
    let held = hold(mqtts, connections, folder.path())?;
    let handshakes_per_s = connections as f64 / begun.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLE).await;
    let ours_kb = (resident_kb(std::process::id())? - before_kb) / connections as f64;
    let online = server.connected();
    if online != connections {
        return Err(format!("{online} of {connections} are connected").into());
    }
    drop(held);
    let peer_kb = match Mosquitto::start(Some(&data.join("keys")))? {
        None => None,
        Some(mosquitto) => {
            drop(hold(mosquitto.address, 10, folder.path())?);
            tokio::time::sleep(SETTLE).await;
            let before_kb = resident_kb(mosquitto.process())?;
            let held = hold(mosquitto.address, connections, folder.path())?;
            tokio::time::sleep(SETTLE).await;
            let kb = (resident_kb(mosquitto.process())? - before_kb) / connections as f64;
            drop(held);
            Some(kb)
        }
    };
    server.shutdown().await;
    Ok(Idle { ours_kb, peer_kb, handshakes_per_s })
}

/// Makes a certificate for each device, all for one key, and leaves what the clients need in files.
fn certify(keys: &ServerKeys, devices: usize, folder: &Path) -> Outcome<Vec<DeviceEntry>> {
    let (key, now_ms) = (new_key()?, clock::now_ms());
    let mut certificates = String::new();
    let mut entries = Vec::with_capacity(devices);
    for device in 0..devices {
        let id = DeviceId::parse(&device_name(device))?;
        let issued = keys.authority().certify_key(&id, &key, VALIDITY, now_ms)?;
        certificates += &issued.certificate;
        let mut entry = DeviceEntry::new(id, now_ms);
        entry.certificates.push(issued.credential);
        entries.push(entry);
    }
    std::fs::write(folder.join("clients.crt"), certificates)?;
    std::fs::write(folder.join("clients.key"), key.serialize_pem())?;
    std::fs::write(folder.join("ca.crt"), keys.authority().pem())?;
    Ok(entries)
}

/// A process that holds connections until this is dropped.
struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn hold(to: SocketAddr, connections: usize, folder: &Path) -> Outcome<Held> {
    let child = Command::new(std::env::current_exe()?)
        .args([FLAG, &to.to_string(), &connections.to_string()])
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut held = Held(child);
    let mut line = String::new();
    let stdout = held.0.stdout.take().ok_or("the output is piped")?;
    // The server must go on meanwhile.
    tokio::task::block_in_place(|| BufReader::new(stdout).read_line(&mut line))?;
    if line.trim() == "ready" { Ok(held) } else { Err("the clients did not all get in".into()) }
}

/// Resident memory of a process (proc(5)).
fn resident_kb(process: u32) -> Outcome<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// Holds connections as told, until it is killed.
pub(crate) fn run(arguments: &[String]) -> Outcome<()> {
    let [to, connections, folder] = arguments else {
        return Err("address, connections and folder expected".into());
    };
    let (to, connections): (SocketAddr, usize) = (to.parse()?, connections.parse()?);
    let folder = Path::new(folder);
    let trust = Trust::Authority(CertificateDer::from_pem_file(folder.join("ca.crt"))?);
    let key = PrivateKeyDer::from_pem_file(folder.join("clients.key"))?;
    let chains = CertificateDer::pem_file_iter(folder.join("clients.crt"))?;
    let mut configs = Vec::with_capacity(connections);
    for chain in chains.take(connections) {
        configs.push(client_config(&trust, Some((vec![chain?], key.clone_key())))?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let under_way = Arc::new(Semaphore::new(HANDSHAKES));
        let tasks = configs.into_iter().enumerate().map(|(device, config)| {
            let under_way = under_way.clone();
            tokio::spawn(async move {
                let _permit = under_way.acquire_owned().await?;
                connect(to, device, config).await
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut held = Vec::with_capacity(connections);
        for task in tasks {
            held.push(task.await??);
        }
        println!("ready");
        std::future::pending::<()>().await;
        drop(held);
        Ok(())
    })
}

async fn connect(
    to: SocketAddr,
    device: usize,
    config: Arc<ClientConfig>,
) -> Outcome<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost")?;
    let mut attempts = 0;
    let mut stream = loop {
        let handshake = async {
            TlsConnector::from(config.clone())
                .connect(name.clone(), TcpStream::connect(to).await?)
                .await
        };
        match handshake.await {
            Ok(stream) => break stream,
            // Who connects too fast is turned away.
            Err(_) if attempts < 100 => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => return Err(error.into()),
        }
        attempts += 1;
    };
    let id = device_name(device);
    let mut rest = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0b10, 0x0e, 0x10];
    rest.extend((id.len() as u16).to_be_bytes());
    rest.extend(id.as_bytes());
    stream.write_all(&packet(0x10, &rest)).await?;
    stream.flush().await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    if answer != [0x20, 2, 0, 0] {
        return Err(format!("{id} was refused: {answer:?}").into());
    }
    Ok(stream)
}
