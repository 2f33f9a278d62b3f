//! The three primitives of Noise_IK_25519_ChaChaPoly_BLAKE2s, for the crate `noise-protocol`.

use blake2::{Blake2s256, Digest};
use chacha20poly1305::{AeadInPlace, ChaCha20Poly1305, KeyInit};
use noise_protocol::{Cipher, DH, Hash, U8Array};
use x25519_dalek::{PublicKey, StaticSecret};

use super::{KEY_LEN, TAG_LEN};

/// Bytes that are wiped when they are dropped, as far as safe Rust can.
#[derive(Clone)]
pub(super) struct Secret<const N: usize>(pub(super) [u8; N]);

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.fill(0);
        // The compiler must take the zeros to be looked at.
        core::hint::black_box(&self.0);
    }
}

impl<const N: usize> U8Array for Secret<N> {
    fn new() -> Self {
        Self([0; N])
    }

    fn new_with(byte: u8) -> Self {
        Self([byte; N])
    }

    fn from_slice(bytes: &[u8]) -> Self {
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        Self(array)
    }

    fn len() -> usize {
        N
    }

    fn as_slice(&self) -> &[u8] {
        &self.0
    }

    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// Curve25519, RFC 7748.
pub(super) enum X25519 {}

impl DH for X25519 {
    type Key = Secret<KEY_LEN>;
    type Pubkey = [u8; KEY_LEN];
    type Output = Secret<KEY_LEN>;

    fn name() -> &'static str {
        "25519"
    }

    fn genkey() -> Secret<KEY_LEN> {
        unreachable!("the ephemeral key is passed in")
    }

    fn pubkey(key: &Secret<KEY_LEN>) -> [u8; KEY_LEN] {
        PublicKey::from(&StaticSecret::from(key.0)).to_bytes()
    }

    fn dh(key: &Secret<KEY_LEN>, public: &[u8; KEY_LEN]) -> Result<Secret<KEY_LEN>, ()> {
        let shared = StaticSecret::from(key.0).diffie_hellman(&PublicKey::from(*public));
        // A peer that sends a point of low order would make the secret known to everybody.
        if shared.was_contributory() { Ok(Secret(shared.to_bytes())) } else { Err(()) }
    }
}

/// ChaCha20-Poly1305, RFC 8439.
pub(super) enum ChaChaPoly {}

impl Cipher for ChaChaPoly {
    type Key = Secret<KEY_LEN>;

    fn name() -> &'static str {
        "ChaChaPoly"
    }

    fn encrypt(key: &Secret<KEY_LEN>, nonce: u64, ad: &[u8], plaintext: &[u8], out: &mut [u8]) {
        out[..plaintext.len()].copy_from_slice(plaintext);
        Self::encrypt_in_place(key, nonce, ad, out, plaintext.len());
    }

    fn encrypt_in_place(
        key: &Secret<KEY_LEN>,
        nonce: u64,
        ad: &[u8],
        in_out: &mut [u8],
        plaintext_len: usize,
    ) -> usize {
        let (text, tag) = in_out.split_at_mut(plaintext_len);
        seal(key, nonce, ad, text, tag);
        plaintext_len + TAG_LEN
    }

    fn decrypt(
        key: &Secret<KEY_LEN>,
        nonce: u64,
        ad: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<(), ()> {
        let (text, tag) = ciphertext.split_at(out.len());
        out.copy_from_slice(text);
        open(key, nonce, ad, out, tag)
    }

    fn decrypt_in_place(
        key: &Secret<KEY_LEN>,
        nonce: u64,
        ad: &[u8],
        in_out: &mut [u8],
        ciphertext_len: usize,
    ) -> Result<usize, ()> {
        let len = ciphertext_len.checked_sub(TAG_LEN).ok_or(())?;
        let (text, rest) = in_out.split_at_mut(len);
        open(key, nonce, ad, text, &rest[..TAG_LEN])?;
        Ok(len)
    }
}

/// Seals a text in place and writes its tag into the first bytes of `tag`.
pub(super) fn seal(key: &Secret<KEY_LEN>, nonce: u64, ad: &[u8], text: &mut [u8], tag: &mut [u8]) {
    let cipher = ChaCha20Poly1305::new(&key.0.into());
    match cipher.encrypt_in_place_detached(&nonce_bytes(nonce).into(), ad, text) {
        Ok(computed) => tag[..TAG_LEN].copy_from_slice(&computed),
        // Only for texts beyond 256 GB; none of them leaves in clear.
        Err(_) => text.fill(0),
    }
}

/// Opens a text in place.
pub(super) fn open(
    key: &Secret<KEY_LEN>,
    nonce: u64,
    ad: &[u8],
    text: &mut [u8],
    tag: &[u8],
) -> Result<(), ()> {
    let tag: [u8; TAG_LEN] = tag.try_into().map_err(|_| ())?;
    let cipher = ChaCha20Poly1305::new(&key.0.into());
    cipher
        .decrypt_in_place_detached(&nonce_bytes(nonce).into(), ad, text, &tag.into())
        .map_err(|_| ())
}

/// 32 zero bits and the counter, little-endian (Noise section 12.3).
fn nonce_bytes(nonce: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&nonce.to_le_bytes());
    bytes
}

/// BLAKE2s, RFC 7693.
#[derive(Default)]
pub(super) struct Blake2s(Blake2s256);

impl Hash for Blake2s {
    type Block = Secret<64>;
    type Output = Secret<32>;

    fn name() -> &'static str {
        "BLAKE2s"
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self) -> Secret<32> {
        Secret(self.0.finalize_reset().into())
    }
}
