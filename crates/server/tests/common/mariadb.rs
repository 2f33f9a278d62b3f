//! A MariaDB server of a test's own: in a temporary folder, on a free loopback port.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Has characters that an address must escape.
const PASSWORD: &str = "p@ss/w:rd%";
const PASSWORD_ESCAPED: &str = "p%40ss%2Fw%3Ard%25";
/// How long it may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server that ends with the test.
pub(crate) struct Mariadb {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Mariadb {
    /// Makes and starts one.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        let installed = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", data.display()))
            .args(user())
            .output()
            .expect("mariadb-install-db is there; `cargo xtask test --only mariadb` installs it");
        assert!(installed.status.success(), "{installed:?}");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let mut server = Self { folder, port, child: None };
        server.run();
        server.shell(
            "",
            &format!(
                "CREATE USER stonechat@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'; \
             GRANT ALL ON *.* TO stonechat@'127.0.0.1';"
            ),
        );
        server
    }

    /// Starts it, after it was stopped; returns when it takes connections.
    pub(crate) fn run(&mut self) {
        let data = self.folder.path().join("data");
        let log = std::fs::File::create(self.folder.path().join("log")).expect("writable");
        let child = Command::new(program("mariadbd"))
            .args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"])
            .args(["--innodb-buffer-pool-size=256M", "--innodb-log-file-size=256M"])
            .arg(format!("--port={}", self.port))
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!("--pid-file={}", self.folder.path().join("pid").display()))
            .args(user())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("mariadbd is there");
        self.child = Some(child);
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(Instant::now() < end, "it does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills it, as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Makes a database.
    pub(crate) fn database(&self, name: &str) -> String {
        self.shell("", &format!("CREATE DATABASE {name} CHARACTER SET latin1"));
        self.url(name)
    }

    /// Returns the address of a database.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("mysql://stonechat:{PASSWORD_ESCAPED}@127.0.0.1:{}/{name}", self.port)
    }

    /// Runs SQL in the MariaDB shell, as an administrator would, and returns what it prints: a line
    /// for each row, tabs between columns.
    pub(crate) fn shell(&self, database: &str, sql: &str) -> String {
        let output = Command::new("mariadb")
            .args(["--no-defaults", "--batch", "--skip-column-names", "--user=root"])
            .arg(format!("--socket={}", self.socket().display()))
            .args(["--execute", sql])
            .args((!database.is_empty()).then_some(database))
            .output()
            .expect("the MariaDB shell is there");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}: {errors}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The server refuses to run as root unless told so.
fn user() -> Option<&'static str> {
    let id = Command::new("id").arg("-u").output().expect("id is there").stdout;
    (id.trim_ascii() == b"0").then_some("--user=root")
}

fn program(name: &str) -> PathBuf {
    let in_sbin = Path::new("/usr/sbin").join(name);
    if in_sbin.exists() { in_sbin } else { name.into() }
}
