"""Makes testdata/sealed.json: what a sealed session looks like on the wire.

The handshake follows the Noise Protocol Framework, revision 34, from its text alone, over
OpenSSL's X25519 and ChaCha20-Poly1305 (package `cryptography`) and Python's own BLAKE2s; nothing of
Stonechat takes part. `python3 testdata/make/sealed.py` writes the file again, byte for byte the same.
"""

import hashlib
import hmac
import json
import struct
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

PROTOCOL = b"Noise_IK_25519_ChaChaPoly_BLAKE2s"
PROLOGUE = b"stonechat sealed 1"
VERSION, HELLO, WELCOME, SEALED, REJECTED = 1, 1, 2, 3, 4
UPLINK, ACKNOWLEDGEMENT, KEEP_ALIVE = 1, 2, 3


def drawn(name: str, length: int = 32) -> bytes:
    """Fixed bytes that look random."""
    return hashlib.sha256(b"stonechat sealed vector " + name.encode()).digest()[:length]


def public(secret: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def dh(secret: bytes, other: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(other))


def blake2s(data: bytes) -> bytes:
    return hashlib.blake2s(data).digest()


def hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """Section 4.3, two outputs."""
    temporary = hmac.new(chaining_key, material, hashlib.blake2s).digest()
    first = hmac.new(temporary, b"\x01", hashlib.blake2s).digest()
    return first, hmac.new(temporary, first + b"\x02", hashlib.blake2s).digest()


def nonce(counter: int) -> bytes:
    """Section 12.3."""
    return bytes(4) + struct.pack("<Q", counter)


class Symmetric:
    """Sections 5.1 and 5.2."""

    def __init__(self) -> None:
        self.hash = blake2s(PROTOCOL)  # The name has 33 bytes, more than a hash.
        self.chaining_key, self.key, self.counter = self.hash, None, 0

    def mix_hash(self, data: bytes) -> None:
        self.hash = blake2s(self.hash + data)

    def mix_key(self, material: bytes) -> None:
        self.chaining_key, self.key = hkdf(self.chaining_key, material)
        self.counter = 0

    def encrypt_and_hash(self, text: bytes) -> bytes:
        sealed = ChaCha20Poly1305(self.key).encrypt(nonce(self.counter), text, self.hash)
        self.counter += 1
        self.mix_hash(sealed)
        return sealed


def handshake(session: int, device: bytes, server: bytes, device_once: bytes, server_once: bytes) -> dict:
    """Section 7.5, pattern IK: <- s ... -> e, es, s, ss <- e, ee, se; payloads are empty."""
    state = Symmetric()
    state.mix_hash(PROLOGUE + struct.pack("<I", session))
    state.mix_hash(public(server))
    state.mix_hash(public(device_once))
    state.mix_key(dh(device_once, public(server)))
    static = state.encrypt_and_hash(public(device))
    state.mix_key(dh(device, public(server)))
    first = public(device_once) + static + state.encrypt_and_hash(b"")
    state.mix_hash(public(server_once))
    state.mix_key(dh(server_once, public(device_once)))
    state.mix_key(dh(server_once, public(device)))
    second = public(server_once) + state.encrypt_and_hash(b"")
    to_server, to_device = hkdf(state.chaining_key, b"")
    header = lambda kind: struct.pack("<BBI", VERSION, kind, session)
    return {
        "hello": header(HELLO) + first,
        "welcome": header(WELCOME) + second,
        "to_server": to_server,
        "to_device": to_device,
    }


def sealed(key: bytes, session: int, counter: int, message: bytes) -> bytes:
    header = struct.pack("<BBIQ", VERSION, SEALED, session, counter)
    return header + ChaCha20Poly1305(key).encrypt(nonce(counter), message, b"")


def acknowledgement(runs: list[tuple[int, int]]) -> bytes:
    return bytes([ACKNOWLEDGEMENT, len(runs)]) + b"".join(struct.pack("<QH", *run) for run in runs)


def case(name: str, session: int, uplinks: list[tuple[int, bytes]], runs: list[tuple[int, int]]) -> dict:
    keys = {key: drawn(f"{name} {key}") for key in ("device", "server", "device_once", "server_once")}
    shaken = handshake(session, **keys)
    frames = []
    for counter, text in uplinks:
        frame = sealed(shaken["to_server"], session, counter, bytes([UPLINK]) + text)
        frames.append({"counter": counter, "text": text.hex(), "frame": frame.hex()})
    counter = uplinks[-1][0] + 1
    alive = sealed(shaken["to_server"], session, counter, bytes([KEEP_ALIVE]))
    answer = sealed(shaken["to_device"], session, 0, acknowledgement(runs))
    return {
        "name": name,
        "session": session,
        "device_secret": keys["device"].hex(),
        "device_public": public(keys["device"]).hex(),
        "server_secret": keys["server"].hex(),
        "server_public": public(keys["server"]).hex(),
        "device_ephemeral": keys["device_once"].hex(),
        "server_ephemeral": keys["server_once"].hex(),
        "hello": shaken["hello"].hex(),
        "welcome": shaken["welcome"].hex(),
        "uplinks": frames,
        "keep_alive": {"counter": counter, "frame": alive.hex()},
        "acknowledged_runs": runs,
        "acknowledgement": answer.hex(),
        "rejected": struct.pack("<BBI", VERSION, REJECTED, session).hex(),
    }


def main() -> None:
    cases = [
        case("plain", 0, [(0, b"first"), (1, b""), (2, drawn("text") * 30)], [(0, 3)]),
        case("late", 0x04030201, [(2047, b"a"), (2048, b"b"), (4095, b"c")], [(2047, 2), (4095, 1)]),
        case("high", 0xFFFFFFFF, [((1 << 21) - 2, bytes(range(256)))], [((1 << 21) - 2, 1)]),
    ]
    path = Path(__file__).parent.parent / "sealed.json"
    path.write_text(json.dumps({"protocol": PROTOCOL.decode(), "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
