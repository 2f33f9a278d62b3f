//! mosquitto beside us: it acknowledges from memory and stores nothing.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Outcome;

/// A mosquitto that ends with this.
pub(crate) struct Mosquitto {
    pub(crate) address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Mosquitto {
    /// Starts one if it is installed; with the server's own keys if there is to be TLS.
    pub(crate) fn start(keys: Option<&Path>) -> Outcome<Option<Self>> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = folder.path().join("mosquitto.conf");
        let mut text =
            format!("listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n");
        if let Some(keys) = keys {
            for (setting, file) in
                [("cafile", "ca.crt"), ("certfile", "server.crt"), ("keyfile", "server.key")]
            {
                text += &format!("{setting} {}\n", keys.join(file).display());
            }
            text += "require_certificate true\nuser root\n";
        }
        std::fs::write(&config, text)?;
        let program = if Path::new("/usr/sbin/mosquitto").is_file() {
            "/usr/sbin/mosquitto"
        } else {
            "mosquitto"
        };
        let spawned = Command::new(program)
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = spawned else {
            eprintln!("mosquitto is not installed; running without a peer");
            return Ok(None);
        };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mosquitto = Self { address, child, _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(5);
        while TcpStream::connect(address).is_err() {
            if Instant::now() > deadline {
                return Err("mosquitto does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(mosquitto))
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
