//! Garbage on the port of the old packets, as fast as it is taken, from a process of its own.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command};
use std::time::Duration;

use crate::Outcome;

/// Makes the program send garbage instead.
pub(crate) const FLAG: &str = "--send-garbage";
const CONNECTIONS: u64 = 32;
/// The length of an RSA-2048 ciphertext.
const CIPHERTEXT_LEN: usize = 256;
/// How many are sent in one go.
const AT_ONCE: usize = 16;

/// A flood that ends with this.
pub(crate) struct Flood(Child);

impl Flood {
    pub(crate) fn start(to: SocketAddr) -> Outcome<Self> {
        Ok(Self(Command::new(std::env::current_exe()?).args([FLAG, &to.to_string()]).spawn()?))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends garbage as told, until it is killed.
pub(crate) fn run(arguments: &[String]) -> Outcome<()> {
    let [to] = arguments else {
        return Err("an address expected".into());
    };
    let to: SocketAddr = to.parse()?;
    let threads: Vec<_> =
        (0..CONNECTIONS).map(|seed| std::thread::spawn(move || send(to, seed))).collect();
    for thread in threads {
        thread.join().map_err(|_| "a sender ended")?;
    }
    Ok(())
}

fn send(to: SocketAddr, seed: u64) {
    let mut state = seed;
    loop {
        let Ok(mut stream) = TcpStream::connect(to) else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        let mut garbage = [0; CIPHERTEXT_LEN * AT_ONCE];
        loop {
            for ciphertext in garbage.chunks_mut(CIPHERTEXT_LEN) {
                // Below the modulus, so that it is decrypted at full cost.
                for byte in &mut ciphertext[1..] {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    *byte = (state >> 56) as u8;
                }
            }
            if stream.write_all(&garbage).is_err() {
                break;
            }
        }
    }
}
