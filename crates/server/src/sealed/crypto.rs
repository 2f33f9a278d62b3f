//! The cipher of sealed sessions: snow's handshake over aws-lc's ChaCha20-Poly1305.

use std::time::Instant;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use stonechat_core::link::{KEY_LEN, TAG_LEN};

/// Takes the cipher from aws-lc, all else from snow's own resolver.
pub(super) struct Accelerated;

impl CryptoResolver for Accelerated {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        DefaultResolver.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::ChaChaPoly => Some(Box::new(ChaChaPoly(key(&[0; KEY_LEN])))),
            _ => DefaultResolver.resolve_cipher(choice),
        }
    }
}

struct ChaChaPoly(LessSafeKey);

fn key(bytes: &[u8; KEY_LEN]) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, bytes);
    LessSafeKey::new(key.expect("a key of this cipher has 32 bytes"))
}

/// 32 zero bits and the counter, little-endian (Noise section 12.3).
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, bytes: &[u8; KEY_LEN]) {
        self.0 = key(bytes);
    }

    fn encrypt(&self, counter: u64, ad: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let len = plaintext.len();
        let (text, rest) = out.split_at_mut(len);
        let tag = &mut rest[..TAG_LEN];
        self.0
            .seal_out_of_place_scatter(nonce(counter), Aad::from(ad), plaintext, text, &[], tag)
            .expect("the lengths fit, and no text is as long as 256 GB");
        len + TAG_LEN
    }

    fn decrypt(
        &self,
        counter: u64,
        ad: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let len = ciphertext.len().checked_sub(TAG_LEN).ok_or(snow::Error::Decrypt)?;
        let (text, tag) = ciphertext.split_at(len);
        let out = out.get_mut(..len).ok_or(snow::Error::Decrypt)?;
        self.0
            .open_separate_gather(nonce(counter), Aad::from(ad), text, tag, out)
            .map_err(|_| snow::Error::Decrypt)?;
        Ok(len)
    }
}

/// Measures how many texts of a length the cipher alone opens in a second, for benches.
#[must_use]
pub fn open_rate(text_len: usize, frames: u32) -> f64 {
    let cipher = ChaChaPoly(key(&[7; KEY_LEN]));
    let text = vec![3; text_len];
    let mut sealed = vec![0; text_len + TAG_LEN];
    cipher.encrypt(5, &[], &text, &mut sealed);
    let mut out = vec![0; text_len];
    let started = Instant::now();
    for _ in 0..frames {
        let opened = cipher.decrypt(5, &[], std::hint::black_box(&sealed), &mut out);
        assert!(opened.is_ok(), "a text that was just sealed opens");
    }
    f64::from(frames) / started.elapsed().as_secs_f64()
}
