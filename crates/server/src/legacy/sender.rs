//! The sender's side, for programs that stand in for a sensor.

use std::io;

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use stonechat_core::wire::packet::PACKET_LEN;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{CIPHERTEXT_LEN, KEY_FAILURE, KEY_REQUEST};

/// The longest answer to a request for the key.
const KEY_LEN_MAX: u32 = 8_192;

/// A text is no RSA-2048 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no RSA-2048 public key in PEM (`BEGIN PUBLIC KEY`)")]
pub struct BadSenderKey;

/// A server's public key.
#[derive(Debug)]
pub struct SenderKey {
    encrypting: OaepPublicEncryptingKey,
}

impl SenderKey {
    /// Reads a key.
    ///
    /// # Errors
    /// When it is none, or none of 2,048 bits.
    pub fn from_pem(text: &str) -> Result<Self, BadSenderKey> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes());
        let der = der.map_err(|_| BadSenderKey)?;
        let key = PublicEncryptingKey::from_der(&der).map_err(|_| BadSenderKey)?;
        let encrypting = OaepPublicEncryptingKey::new(key).map_err(|_| BadSenderKey)?;
        let is_right = encrypting.ciphertext_size() == CIPHERTEXT_LEN;
        is_right.then_some(Self { encrypting }).ok_or(BadSenderKey)
    }

    /// Encrypts a packet; the same one gives another ciphertext each time.
    ///
    /// # Panics
    /// If the operating system has no random numbers.
    #[must_use]
    pub fn encrypt(&self, packet: &[u8; PACKET_LEN]) -> [u8; CIPHERTEXT_LEN] {
        let mut ciphertext = [0; CIPHERTEXT_LEN];
        self.encrypting
            .encrypt(&OAEP_SHA1_MGF1SHA1, packet, &mut ciphertext, None)
            .expect("32 bytes fit into 256, and there are random numbers");
        ciphertext
    }
}

/// Asks a server for its public key, and returns the PEM.
///
/// # Errors
/// When the connection fails, or the server has none to give.
pub async fn request_key(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<String> {
    stream.write_all(KEY_REQUEST).await?;
    let len = stream.read_u32().await?;
    if len > KEY_LEN_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long for a key"));
    }
    let mut text = vec![0; len as usize];
    stream.read_exact(&mut text).await?;
    let text = String::from_utf8(text)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the answer is no text"))?;
    if text == KEY_FAILURE {
        return Err(io::Error::other("the server gives no key now"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legacy::key::tests::key;

    #[test]
    fn the_servers_key_is_the_senders() {
        let (key, _) = key();
        let sender = SenderKey::from_pem(key.public_pem()).expect("a key");
        let packet = [7; PACKET_LEN];
        let (one, other) = (sender.encrypt(&packet), sender.encrypt(&packet));
        assert_ne!(one, other);
        assert_eq!(key.decrypt(&one).as_deref(), Some(&packet[..]));
        assert_eq!(key.decrypt(&other).as_deref(), Some(&packet[..]));
        for text in ["", "ERROR: PUBLIC_KEY_FAILED", &key.public_pem()[..200]] {
            assert!(SenderKey::from_pem(text).is_err(), "{text:?}");
        }
    }

    #[tokio::test]
    async fn the_answer_is_read_as_it_is_framed() {
        for (answer, expected) in [
            (&b"\0\0\0\x03PEM"[..], Ok("PEM")),
            (b"\0\0\0\x18ERROR: PUBLIC_KEY_FAILED", Err(io::ErrorKind::Other)),
            (b"\xff\0\0\0", Err(io::ErrorKind::InvalidData)),
            (b"\0\0\0\x05PEM", Err(io::ErrorKind::UnexpectedEof)),
        ] {
            let (client, mut server) = tokio::io::duplex(256);
            let task = tokio::spawn(async move { request_key(client).await });
            let mut request = [0; 18];
            server.read_exact(&mut request).await.expect("open");
            assert_eq!(&request, KEY_REQUEST);
            server.write_all(answer).await.expect("open");
            drop(server);
            let seen = task.await.expect("no panic");
            let seen = seen.as_deref().map_err(io::Error::kind);
            assert_eq!(seen, expected);
        }
    }
}
