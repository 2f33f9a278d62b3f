//! A client that puts its packets together by hand, after the standards' byte tables, so that
//! what the server says is not held against the server's own codec.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::PATIENCE;

pub(crate) const CONNACK: u8 = 0x20;
pub(crate) const PUBLISH: u8 = 0x30;
pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const PUBREC: u8 = 0x50;
pub(crate) const PUBREL: u8 = 0x62;
pub(crate) const PUBCOMP: u8 = 0x70;
pub(crate) const SUBSCRIBE: u8 = 0x82;
pub(crate) const SUBACK: u8 = 0x90;
pub(crate) const UNSUBSCRIBE: u8 = 0xa2;
pub(crate) const UNSUBACK: u8 = 0xb0;
pub(crate) const PINGREQ: u8 = 0xc0;
pub(crate) const PINGRESP: u8 = 0xd0;
pub(crate) const DISCONNECT: u8 = 0xe0;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The version that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V3,
    V5,
}

pub(crate) const BOTH: [Version; 2] = [Version::V3, Version::V5];

/// What CONNECT says.
#[derive(Clone, Default)]
pub(crate) struct Hello {
    pub(crate) client_id: String,
    pub(crate) user_name: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) keep_alive_s: u16,
    /// Topic, and whether it is to be retained.
    pub(crate) will: Option<(String, bool)>,
    /// The properties of version 5, without their length.
    pub(crate) properties: Vec<u8>,
}

impl Hello {
    pub(crate) fn token(device: &str, token: &str) -> Self {
        Self {
            client_id: device.into(),
            user_name: Some(device.into()),
            password: Some(token.into()),
            keep_alive_s: 30,
            ..Self::default()
        }
    }
}

pub(crate) struct Raw {
    stream: Box<dyn Stream>,
    pub(crate) version: Version,
}

impl Raw {
    pub(crate) async fn open(address: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        Self::over(stream, version)
    }

    pub(crate) fn over(stream: impl Stream + 'static, version: Version) -> Self {
        Self { stream: Box::new(stream), version }
    }

    /// Connects and returns the reason code, or `None` if the connection ended instead.
    pub(crate) async fn connect(&mut self, hello: &Hello) -> Option<u8> {
        self.hello(hello).await;
        let (first, body) = self.receive().await?;
        assert_eq!((first, body[0]), (CONNACK, 0), "no session is ever present");
        Some(body[1])
    }

    /// Connects, or fails the test.
    pub(crate) async fn welcome(address: SocketAddr, version: Version, hello: &Hello) -> Self {
        let mut raw = Self::open(address, version).await;
        assert_eq!(raw.connect(hello).await, Some(0));
        raw
    }

    pub(crate) async fn hello(&mut self, hello: &Hello) {
        let level = if self.version == Version::V3 { 4 } else { 5 };
        let mut flags = 0b10;
        flags |= if hello.user_name.is_some() { 0x80 } else { 0 };
        flags |= if hello.password.is_some() { 0x40 } else { 0 };
        if let Some((_, retained)) = &hello.will {
            flags |= 0b0000_1100 | if *retained { 0x20 } else { 0 };
        }
        let mut body = text("MQTT");
        body.extend([level, flags]);
        body.extend(hello.keep_alive_s.to_be_bytes());
        self.properties(&mut body, &hello.properties);
        body.extend(text(&hello.client_id));
        if let Some((topic, _)) = &hello.will {
            self.properties(&mut body, &[]);
            body.extend(text(topic));
            body.extend(text("gone"));
        }
        body.extend(hello.user_name.iter().chain(&hello.password).flat_map(|part| text(part)));
        self.send(0x10, &body).await;
    }

    /// Publishes; `first` holds quality, DUP and RETAIN.
    pub(crate) async fn publish(&mut self, first: u8, topic: &str, id: u16, payload: &[u8]) {
        let bytes = self.message(first, topic, id, payload);
        self.send_bytes(&bytes).await;
    }

    pub(crate) fn message(&self, first: u8, topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
        let mut body = text(topic);
        if first & 0b110 != 0 {
            body.extend(id.to_be_bytes());
        }
        self.properties(&mut body, &[]);
        body.extend(payload);
        packet(first, &body)
    }

    /// Publishes with quality 1 and returns the reason code, or `None` if the connection ended.
    pub(crate) async fn store(&mut self, topic: &str, id: u16, payload: &[u8]) -> Option<u8> {
        self.publish(PUBLISH | 0b10, topic, id, payload).await;
        let (first, body) = self.receive().await?;
        if first == DISCONNECT {
            return None;
        }
        assert_eq!((first, &body[..2]), (PUBACK, &id.to_be_bytes()[..]));
        Some(body.get(2).copied().unwrap_or(0))
    }

    /// Subscribes and returns the reason codes.
    pub(crate) async fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        let mut body = vec![0, 7];
        self.properties(&mut body, &[]);
        for (filter, quality) in filters {
            body.extend(text(filter));
            body.push(*quality);
        }
        self.send(SUBSCRIBE, &body).await;
        self.codes(SUBACK).await
    }

    /// Ends subscriptions and returns the reason codes of version 5.
    pub(crate) async fn unsubscribe(&mut self, filters: &[&str]) -> Vec<u8> {
        let mut body = vec![0, 7];
        self.properties(&mut body, &[]);
        body.extend(filters.iter().flat_map(|filter| text(filter)));
        self.send(UNSUBSCRIBE, &body).await;
        self.codes(UNSUBACK).await
    }

    async fn codes(&mut self, expected: u8) -> Vec<u8> {
        let (first, body) = self.receive().await.expect("an answer");
        assert_eq!((first, &body[..2]), (expected, &[0, 7][..]));
        let properties = usize::from(self.version == Version::V5);
        body[2 + properties..].to_vec()
    }

    pub(crate) async fn ping(&mut self) {
        self.send(PINGREQ, &[]).await;
        assert_eq!(self.receive().await, Some((PINGRESP, vec![])));
    }

    pub(crate) async fn send(&mut self, first: u8, body: &[u8]) {
        self.send_bytes(&packet(first, body)).await;
    }

    /// Sends bytes as they are. The server may have closed already.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// Receives the next packet: first byte and what follows the length; `None` at the end.
    pub(crate) async fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let receiving = async {
            let first = self.stream.read_u8().await.ok()?;
            let (mut len, mut shift) = (0, 0);
            loop {
                let byte = self.stream.read_u8().await.ok()?;
                len |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; len];
            self.stream.read_exact(&mut body).await.ok()?;
            Some((first, body))
        };
        tokio::time::timeout(PATIENCE, receiving).await.expect("the server says something or ends")
    }

    /// Waits for the end; returns the reason that version 5 was told.
    pub(crate) async fn end(&mut self) -> Option<u8> {
        let mut reason = None;
        while let Some((first, body)) = self.receive().await {
            if first == DISCONNECT {
                assert_eq!(self.version, Version::V5, "servers of 3.1.1 just close");
                reason = Some(body.first().copied().unwrap_or(0));
            }
        }
        reason
    }

    fn properties(&self, body: &mut Vec<u8>, properties: &[u8]) {
        if self.version == Version::V5 {
            body.push(properties.len() as u8);
            body.extend(properties);
        }
    }
}

/// A text with its length.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// A packet with its length.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut len = body.len();
    loop {
        let low = (len % 128) as u8;
        len /= 128;
        bytes.push(if len > 0 { low | 0x80 } else { low });
        if len == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}
