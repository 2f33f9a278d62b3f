//! The device's side of enrolment: one request over TLS 1.3 to a server of which only the
//! fingerprint of its authority is known.

use std::io;

use axum::http::Uri;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::enrol::{EnrolRequest, Enrolled};
use super::tls::{TlsError, Trust, client_config};
use crate::limits::{ENROL_ANSWER_LEN_MAX, ENROL_TIMEOUT};

/// Why a server gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none of HTTPS.
    #[error("`{0}` is no address such as https://plant.example:8443")]
    Address(String),
    /// The server is not the one that the ticket names.
    #[error("the server at {address} is not the one that the ticket is for: {source}")]
    WrongServer {
        /// Its address.
        address: String,
        /// What TLS says.
        source: io::Error,
    },
    /// The server cannot be reached.
    #[error("cannot reach the server at {address}: {source}")]
    Unreachable {
        /// Its address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The server refuses.
    #[error("the server at {address} refuses: {detail}")]
    Refused {
        /// Its address.
        address: String,
        /// What it says.
        detail: String,
    },
    /// The answer is none of a Stonechat server.
    #[error("the server at {0} gave an answer that is none of a Stonechat server")]
    Answer(String),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Tells whether an error of a connection says that the other end is not the right server.
#[must_use]
pub fn is_wrong_server(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(
        inner,
        Some(
            rustls::Error::InvalidCertificate(_)
                | rustls::Error::NoCertificatesPresented
                | rustls::Error::UnsupportedNameType
        )
    )
}

/// Enrols at a server.
///
/// # Errors
/// [`ClientError`] says why the server, or who there, refuses.
pub async fn enrol(
    server: &str,
    request: &EnrolRequest,
    authority_sha256: [u8; 32],
) -> Result<Enrolled, ClientError> {
    let unreachable = |source| ClientError::Unreachable { address: server.to_owned(), source };
    let asked = timeout(ENROL_TIMEOUT, ask(server, request, authority_sha256));
    let (status, body) = asked.await.map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))??;
    if status == 200 {
        return serde_json::from_slice(&body).map_err(|_| ClientError::Answer(server.to_owned()));
    }
    let problem: Option<Value> = serde_json::from_slice(&body).ok();
    let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str());
    let detail = detail.map_or_else(|| format!("HTTP status {status}"), str::to_owned);
    Err(ClientError::Refused { address: server.to_owned(), detail })
}

async fn ask(
    server: &str,
    request: &EnrolRequest,
    authority_sha256: [u8; 32],
) -> Result<(u16, Vec<u8>), ClientError> {
    let wrong = || ClientError::Address(server.to_owned());
    let uri: Uri = server.parse().map_err(|_| wrong())?;
    let (Some("https"), Some(host), "" | "/") = (uri.scheme_str(), uri.host(), uri.path()) else {
        return Err(wrong());
    };
    let port = uri.port_u16().unwrap_or(443);
    let plain = host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(plain.clone()).map_err(|_| wrong())?;
    let config = client_config(&Trust::Fingerprint(authority_sha256), None)?;
    let failed = |source| {
        let address = server.to_owned();
        if is_wrong_server(&source) {
            ClientError::WrongServer { address, source }
        } else {
            ClientError::Unreachable { address, source }
        }
    };
    let stream = TcpStream::connect((plain.as_str(), port)).await.map_err(failed)?;
    let mut stream = TlsConnector::from(config).connect(name, stream).await.map_err(failed)?;
    let body = serde_json::to_vec(request).expect("an enrolment is made of texts");
    let head = format!(
        "POST /api/v1/enrol HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.map_err(failed)?;
    stream.write_all(&body).await.map_err(failed)?;
    stream.flush().await.map_err(failed)?;
    let mut answer = Vec::new();
    let mut bounded = stream.take(ENROL_ANSWER_LEN_MAX);
    match bounded.read_to_end(&mut answer).await {
        // Some servers end without TLS's farewell; the length says whether the answer is whole.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(failed(error)),
        _ => {}
    }
    parse(&answer).ok_or_else(|| ClientError::Answer(server.to_owned()))
}

/// Reads an answer's status and body (RFC 9112), which has to be as long as its head says.
fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = str::from_utf8(&answer[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let mut status = lines.next()?.split(' ');
    if status.next()? != "HTTP/1.1" {
        return None;
    }
    let status = status.next()?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    let body = &answer[end + 4..];
    (body.len() == length).then(|| (status, body.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        let whole = b"HTTP/1.1 403 Forbidden\r\nX: y\r\ncontent-LENGTH: 2\r\n\r\n{}";
        assert_eq!(parse(whole), Some((403, b"{}".to_vec())));
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]), None, "{len}");
        }
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n{}"), None);
        assert_eq!(parse(b"SSH-2.0\r\ncontent-length: 0\r\n\r\n"), None);
    }
}
