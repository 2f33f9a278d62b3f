//! What tests of the whole program share: a folder that goes away, the program, the server, its API.
#![allow(dead_code, reason = "each test uses some of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A folder that is removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stonechat-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the temporary folder can be written");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The program, in a folder, without the caller's settings.
pub(crate) fn stonechat(folder: &Folder, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stonechat"));
    command
        .current_dir(folder.path())
        .args(args)
        .env("XDG_CONFIG_HOME", folder.path())
        .env("NO_COLOR", "1");
    command
}

/// Runs the program to its end.
pub(crate) fn run(folder: &Folder, args: &[&str]) -> Output {
    stonechat(folder, args).output().expect("the program starts")
}

/// Runs the program, demands that it succeeds, and returns its JSON lines.
pub(crate) fn run_json(folder: &Folder, args: &[&str]) -> Vec<Value> {
    let output = run(folder, &[&["--json"], args].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// How often a device tries that was revoked a moment ago.
const REVOKED_ATTEMPTS_MAX: u32 = 20;

/// Runs a device until it is refused: a running server takes note of a revocation within a second,
/// about as long as an attempt takes.
pub(crate) fn until_refused(attempt: impl Fn() -> Output) -> Output {
    let mut attempts = (0..REVOKED_ATTEMPTS_MAX).map(|_| attempt());
    attempts.find(|output| output.status.code() == Some(2)).expect("a server that takes note")
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("bound").port()
}

/// A program that is killed if nobody waits for it.
pub(crate) struct Running(Option<Child>);

impl Running {
    /// Starts a program with its output in pipes.
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self(Some(child.expect("the program starts")))
    }

    /// Asks it to end, as a service manager does.
    pub(crate) fn terminate(&self) {
        let id = self.0.as_ref().expect("nobody waited before").id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status();
        assert!(status.expect("there is a kill").success());
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Output {
        let child = self.0.take().expect("nobody waited before");
        child.wait_with_output().expect("it ends")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The API token of a folder's servers, made beside the first of them.
fn api_token(folder: &Folder) -> String {
    let file = folder.path().join("api.token");
    if let Ok(token) = std::fs::read_to_string(&file) {
        return token;
    }
    let add = ["--quiet", "token", "add", "test", "--scope", "admin", "--data", "data"];
    let token = String::from_utf8(run(folder, &add).stdout).expect("UTF-8").trim().to_owned();
    std::fs::write(file, &token).expect("writable");
    token
}

/// A server that is killed at the end.
pub(crate) struct Server {
    child: Child,
    http: SocketAddr,
    token: String,
    started: Value,
}

impl Server {
    /// Starts a server on the folder `data` and waits until it says that it has started.
    pub(crate) fn start(folder: &Folder, mqtt_port: u16) -> Self {
        let mqtt = format!("127.0.0.1:{mqtt_port}");
        let args = [
            "--quiet",
            "--json",
            "serve",
            "--data",
            "data",
            "--http",
            "127.0.0.1:0",
            "--mqtt",
            &mqtt,
        ];
        let mut child =
            stonechat(folder, &args).stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("UTF-8");
        let started: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("the server said `{line}`"));
        let url = started["url"].as_str().expect("an address");
        let http = url.trim_start_matches("http://").parse().expect("an address");
        let token = api_token(folder);
        Self { child, http, token, started }
    }

    /// Returns what it said when it had started.
    pub(crate) fn started(&self) -> &Value {
        &self.started
    }

    /// Ends the server as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Asks the API.
    pub(crate) fn api(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(self.http).expect("the server listens");
        let (host, token) = (self.http, &self.token);
        write!(
            stream,
            "GET /api/v1{path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
        .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(" 200 "), "{path}: {answer}");
        serde_json::from_str(body).expect("JSON")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
