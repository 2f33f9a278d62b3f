//! Who is who over TLS: each end against the wrong other end. Foreign programs (openssl, curl) are
//! the other end wherever they can be.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{Site, settings};
use stonechat_server::settings::Listen;
use stonechat_server::{Server, Settings};

/// A server with HTTPS.
async fn site() -> Site {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(secure(&folder)).await.expect("free ports");
    Site { server, folder }
}

fn secure(folder: &tempfile::TempDir) -> Settings {
    let any = "127.0.0.1:0".parse().expect("legal");
    Settings { https: Listen::At(any), ..settings(folder) }
}

impl Site {
    fn key_file(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join("keys").join(name)
    }

    fn https(&self) -> String {
        self.server.https_addr.expect("HTTPS is on").to_string()
    }
}

/// Runs a program that has to be installed (`apt-packages.txt` of the tests names it).
async fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let program = program.to_owned();
    tokio::task::spawn_blocking(move || {
        command.output().unwrap_or_else(|error| panic!("{program} does not run: {error}"))
    })
    .await
    .expect("no panic")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain")
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_trusts_the_servers_authority_and_no_other() {
    let site = site().await;
    let other = self::site().await;
    let port = site.server.https_addr.expect("HTTPS is on").port();
    for name in ["localhost", "127.0.0.1"] {
        let url = format!("https://{name}:{port}/health/live");
        let own = site.key_file("ca.crt");
        let answer = run("curl", &["-sS", "--fail", "--cacert", text(&own), &url]).await;
        assert!(answer.status.success(), "{}", said(&answer));
        let foreign = other.key_file("ca.crt");
        let answer = run("curl", &["-sS", "--fail", "--cacert", text(&foreign), &url]).await;
        // 60: the peer's certificate cannot be authenticated.
        assert_eq!(answer.status.code(), Some(60), "{}", said(&answer));
    }
    site.server.shutdown().await;
    other.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_older_than_tls_1_3_is_spoken() {
    let site = site().await;
    let authority = site.key_file("ca.crt");
    let address = site.https();
    let shake = async |version: &str| {
        let authority = text(&authority);
        let arguments = ["s_client", "-connect", &address, "-CAfile", authority, version];
        run("openssl", &[&arguments[..], &["-verify_return_error"]].concat()).await
    };
    let newest = shake("-tls1_3").await;
    assert!(newest.status.success() && said(&newest).contains("TLSv1.3"), "{}", said(&newest));
    for version in ["-tls1_2", "-tls1_1", "-tls1"] {
        let older = shake(version).await;
        assert!(!older.status.success(), "{version}: {}", said(&older));
        if version == "-tls1_2" {
            assert!(said(&older).contains("alert protocol version"), "{}", said(&older));
        }
    }
    site.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_verifies_what_the_authority_makes() {
    let site = site().await;
    let (authority, server) = (site.key_file("ca.crt"), site.key_file("server.crt"));
    let verify = async |purpose: &str, name: &[&str]| {
        let fixed = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", text(&authority)];
        run("openssl", &[&fixed[..], name, &[text(&server)]].concat()).await
    };
    for name in
        [["-verify_hostname", "localhost"], ["-verify_ip", "127.0.0.1"], ["-verify_ip", "::1"]]
    {
        let outcome = verify("sslserver", &name).await;
        assert!(outcome.status.success(), "{name:?}: {}", said(&outcome));
    }
    assert!(!verify("sslserver", &["-verify_hostname", "evil.example"]).await.status.success());
    // The server's certificate is no device's.
    assert!(!verify("sslclient", &[]).await.status.success());
    site.server.shutdown().await;
}
