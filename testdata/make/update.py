"""Makes testdata/update.json: releases, key documents, hash trees and messages, legal and forged.

Envelopes and signatures are made by `pycose` and `cryptography` (OpenSSL), maps by `cbor2` in its
canonical form, trees by the text of RFC 9162; nothing of Stonechat takes part.
`python3 testdata/make/update.py` writes the file again, byte for byte the same
(testdata/oracles/requirements-update.txt).
"""

import hashlib
import json
import struct
import zlib
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pycose.algorithms import EdDSA
from pycose.headers import KID, Algorithm
from pycose.keys import OKPKey
from pycose.keys.curves import Ed25519
from pycose.messages import Sign1Message, SignMessage
from pycose.messages.signer import CoseSignature

CHUNK = 1024
DETECTOR, FIRMWARE = 0, 1


def drawn(name: str, length: int = 32) -> bytes:
    """Fixed bytes that look random."""
    blocks = (length + 31) // 32
    block = lambda i: hashlib.sha256(f"stonechat update vector {name} {i}".encode()).digest()
    return b"".join(block(i) for i in range(blocks))[:length]


def secret(name: str) -> bytes:
    return drawn(f"key {name}")


def public(name: str) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(secret(name)).public_key().public_bytes_raw()


def key_id(name: str) -> bytes:
    return hashlib.sha256(public(name)).digest()[:8]


def cose_key(name: str) -> OKPKey:
    return OKPKey(crv=Ed25519, x=public(name), d=secret(name))


# RFC 9162, section 2.1.


def leaves(image: bytes) -> list[bytes]:
    return [image[at : at + CHUNK] for at in range(0, len(image), CHUNK)]


def split(count: int) -> int:
    at = 1
    while 2 * at < count:
        at *= 2
    return at


def root(entries: list[bytes]) -> bytes:
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = split(len(entries))
    return hashlib.sha256(b"\x01" + root(entries[:k]) + root(entries[k:])).digest()


def path(index: int, entries: list[bytes]) -> list[bytes]:
    if len(entries) == 1:
        return []
    k = split(len(entries))
    if index < k:
        return path(index, entries[:k]) + [root(entries[k:])]
    return path(index - k, entries[k:]) + [root(entries[:k])]


def check_published_roots() -> None:
    """The roots that the reference implementation of Certificate Transparency tests itself with."""
    entries = [bytes.fromhex(text) for text in ("", "00", "10")]
    assert root(entries[:2]).hex() == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    assert root(entries).hex() == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"


# Manifests.


def manifest(image: bytes, **changes) -> dict:
    fields = {
        1: 1,
        2: DETECTOR,
        3: "virt",
        4: 7,
        5: "1.2.0",
        6: len(image),
        7: CHUNK,
        8: root(leaves(image)),
        9: hashlib.sha256(image).digest(),
    }
    fields.update({int(key[1:]): value for key, value in changes.items()})
    return {key: fields[key] for key in sorted(fields) if fields[key] is not None}


def canonical(value) -> bytes:
    return cbor2.dumps(value, canonical=True)


def sign1(payload: bytes, key: str = "release-a", headers: dict | None = None, plain: dict | None = None) -> bytes:
    headers = {Algorithm: EdDSA, KID: key_id(key)} if headers is None else headers
    message = Sign1Message(phdr=headers, uhdr=plain or {}, payload=payload)
    message.key = cose_key(key)
    encoded = message.encode()
    again = Sign1Message.decode(encoded)
    again.key = cose_key(key)
    assert again.verify_signature()
    return encoded


def manifest_case(name: str, fields: dict, key: str = "release-a") -> dict:
    payload = canonical(fields)
    needs = fields.get(10, {})
    return {
        "name": name,
        "component": fields[2],
        "hardware": fields[3],
        "sequence": fields[4],
        "version": fields[5],
        "image_len": fields[6],
        "root": fields[8].hex(),
        "digest": fields[9].hex(),
        "needs": [needs.get(key, 0) for key in (1, 2, 3, 4)],
        "rollback": fields.get(11),
        "secret": secret(key).hex(),
        "id": hashlib.sha256(payload).digest()[:8].hex(),
        "payload": payload.hex(),
        "signed": sign1(payload, key).hex(),
    }


# Key documents.


def key_document(version: int, roots: list[str], threshold: int, release: list[str], revoked: list[str]) -> dict:
    return {
        1: 1,
        2: version,
        3: sorted(public(name) for name in roots),
        4: threshold,
        5: sorted(public(name) for name in release),
        6: sorted(key_id(name) for name in revoked),
    }


def sign(payload: bytes, keys: list[str]) -> bytes:
    signers = []
    for name in sorted(keys, key=key_id):
        signer = CoseSignature(phdr={Algorithm: EdDSA, KID: key_id(name)})
        signer.key = cose_key(name)
        signers.append(signer)
    return SignMessage(phdr={}, uhdr={}, payload=payload, signers=signers).encode()


def key_case(name: str, fields: dict, signers: list[str]) -> dict:
    payload = canonical(fields)
    return {
        "name": name,
        "version": fields[2],
        "roots": [key.hex() for key in fields[3]],
        "threshold": fields[4],
        "release": [key.hex() for key in fields[5]],
        "revoked": [key.hex() for key in fields[6]],
        "signers": [secret(name).hex() for name in sorted(signers, key=key_id)],
        "payload": payload.hex(),
        "signed": sign(payload, signers).hex(),
    }


# What must be refused.


def flipped(data: bytes, at: int, bit: int = 1) -> bytes:
    return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]


def pairs(items: list[tuple[bytes, bytes]]) -> bytes:
    """A map of what is already encoded, in whatever order."""
    return bytes([0xA0 + len(items)]) + b"".join(key + value for key, value in items)


def forged_manifests(image: bytes) -> list[dict]:
    good = manifest(image)
    payload = canonical(good)
    signed = sign1(payload)
    items = [(canonical(key), canonical(value)) for key, value in good.items()]
    change = lambda **changes: sign1(canonical(manifest(image, **changes)))
    cases = [
        ("nothing", b"", "malformed"),
        ("cut off", signed[:-1], "malformed"),
        ("something behind", signed + b"\x00", "malformed"),
        ("no tag", signed[1:], "malformed"),
        ("another tag", b"\xd8\x62" + signed[1:], "malformed"),
        ("another algorithm", signed.replace(b"\xa2\x01\x27\x04", b"\xa2\x01\x26\x04"), "malformed"),
        ("no key id", sign1(payload, headers={Algorithm: EdDSA}), "malformed"),
        ("an unprotected header", sign1(payload, plain={KID: key_id("release-a")}), "malformed"),
        ("a key out of order", sign1(pairs([items[1], items[0], *items[2:]])), "malformed"),
        ("a key twice", sign1(pairs([*items, items[-1]])), "malformed"),
        ("a key missing", sign1(pairs(items[:-1])), "malformed"),
        ("a number in more bytes", sign1(pairs([(b"\x18\x01", items[0][1]), *items[1:]])), "malformed"),
        ("a value in more bytes", sign1(pairs([(items[0][0], b"\x18\x01"), *items[1:]])), "malformed"),
        ("a map without length", sign1(b"\xbf" + payload[1:] + b"\xff"), "malformed"),
        ("an unknown key", change(_12=1), "malformed"),
        ("a version of tomorrow", change(_1=2), "malformed"),
        ("another component", change(_2=2), "malformed"),
        ("no hardware", change(_3=""), "malformed"),
        ("hardware with a space", change(_3="a b"), "malformed"),
        ("hardware too long", change(_3="x" * 33), "malformed"),
        ("sequence 0", change(_4=0), "malformed"),
        ("sequence below 0", change(_4=-1), "malformed"),
        ("sequence of 9 bytes", change(_4=1 << 64), "malformed"),
        ("no image", change(_6=0), "malformed"),
        ("image too big", change(_6=CHUNK * (1 << 14) + 1), "malformed"),
        ("another chunk", change(_7=2048), "malformed"),
        ("a short root", change(_8=bytes(31)), "malformed"),
        ("a long digest", change(_9=bytes(33)), "malformed"),
        ("no needs", change(_10={}), "malformed"),
        ("needs nothing", change(_10={1: 0}), "malformed"),
        ("an unknown need", change(_10={5: 1}), "malformed"),
        ("a rollback forwards", change(_11=7), "malformed"),
        ("too long", change(_200="x" * 900), "malformed"),
        ("another key", sign1(payload, "stranger"), "unknown key"),
        ("a revoked key", sign1(payload, "release-old"), "revoked key"),
        ("a root key", sign1(payload, "root-a"), "unknown key"),
        ("flipped signature", flipped(signed, len(signed) - 1), "wrong signature"),
        ("another's name", sign1(payload, "stranger").replace(key_id("stranger"), key_id("release-a")), "wrong signature"),
        ("flipped version", signed.replace(b"1.2.0", b"1.2.1"), "wrong signature"),
    ]
    # S + L has the same value as S: a second signature without the key (RFC 8032, section 5.1.7).
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(signed[-32:], "little") + order
    cases.append(("a second spelling of the signature", signed[:-32] + s.to_bytes(32, "little"), "wrong signature"))
    return [{"name": name, "signed": data.hex(), "reason": reason} for name, data, reason in cases]


def forged_keys() -> list[dict]:
    fields = key_document(3, ["root-a", "root-b", "root-c"], 2, ["release-c"], ["release-a"])
    payload = canonical(fields)
    change = lambda **changes: sign(canonical(fields | {int(k[1:]): v for k, v in changes.items()}), ["root-a", "root-b"])
    signed = sign(payload, ["root-a", "root-b"])
    twice = sign(payload, ["root-a", "root-a"])
    items = cbor2.loads(signed).value
    reordered = cbor2.dumps(cbor2.CBORTag(98, [*items[:3], list(reversed(items[3]))]))
    cases = [
        ("nothing", b"", "malformed"),
        ("cut off", signed[:-1], "malformed"),
        ("something behind", signed + b"\x00", "malformed"),
        ("a manifest's envelope", sign1(payload), "malformed"),
        ("one key twice", twice, "malformed"),
        ("signatures out of order", reordered, "malformed"),
        ("no signature", cbor2.dumps(cbor2.CBORTag(98, [*items[:3], []])), "malformed"),
        ("no roots", change(_3=[], _4=0), "malformed"),
        ("threshold 0", change(_4=0), "malformed"),
        ("threshold beyond the roots", change(_4=4), "malformed"),
        ("roots out of order", change(_3=list(reversed(fields[3]))), "malformed"),
        ("a root twice", change(_3=sorted([fields[3][0], *fields[3]])), "malformed"),
        ("too many roots", change(_3=sorted(public(f"more {i}") for i in range(6))), "malformed"),
        ("no release key", change(_5=[]), "malformed"),
        ("a revoked release key", change(_6=[key_id("release-c")]), "malformed"),
        ("an unknown key", change(_7=1), "malformed"),
        ("the same version", change(_2=2), "old keys"),
        ("an older version", change(_2=1), "old keys"),
        ("one signature", sign(payload, ["root-b"]), "too few signatures"),
        ("one signature and a stranger's", sign(payload, ["root-b", "stranger"]), "too few signatures"),
        ("release keys' signatures", sign(payload, ["release-a", "release-b"]), "too few signatures"),
        ("a flipped signature", flipped(signed, len(signed) - 1), "wrong signature"),
        ("a flipped key", signed.replace(public("release-c"), flipped(public("release-c"), 31)), "wrong signature"),
    ]
    return [{"name": name, "signed": data.hex(), "reason": reason} for name, data, reason in cases]


def tree_case(length: int) -> dict:
    image = drawn(f"image {length}", length)
    chunks = leaves(image)
    indices = sorted({0, len(chunks) // 3, len(chunks) // 2, len(chunks) - 1})
    proofs = [{"index": i, "proof": [hash.hex() for hash in path(i, chunks)]} for i in indices]
    return {"image_len": length, "root": root(chunks).hex(), "digest": hashlib.sha256(image).hexdigest(), "proofs": proofs}


# Messages and flash, from the byte tables in docs/updates.md.


def messages() -> dict:
    release, other = drawn("release", 8), drawn("other release", 8)
    proof = [drawn("proof 0"), drawn("proof 1")]
    header = lambda kind: struct.pack("<BB", 1, kind)
    chunk = struct.pack("<8sIBB", release, 1234, len(proof), 0) + b"".join(proof) + b"the chunk"
    wanted = bytearray(32)
    for index in (100, 101, 108, 355):
        wanted[(index - 100) // 8] |= 1 << ((index - 100) % 8)
    status = struct.pack("<BBBB8sQQQIII", 1, 1, 0, 16, release, 7, 9, 3, 400, 5, 100)
    return {
        "release": release.hex(),
        "other": other.hex(),
        "proof": [hash.hex() for hash in proof],
        "keys": (header(1) + b"a key document").hex(),
        "offer": (header(2) + b"a manifest").hex(),
        "chunk": (header(3) + chunk).hex(),
        "seen": (header(4) + release).hex(),
        "cancel": (header(5) + release).hex(),
        "ask": header(6).hex(),
        "later": (header(7) + b"?").hex(),
        "status": (header(16) + status + bytes(wanted) + other + bytes([12])).hex(),
        "wanted": [100, 101, 108, 355],
    }


def flash(manifest: dict) -> dict:
    """The first record of a journal, and the document, after a device has taken an offer."""
    release = bytes.fromhex(manifest["id"])
    record = b"SCUJ" + struct.pack("<IBBBBB3x8sQQ", 1, 1, 1, 0, 0, 0, release, manifest["sequence"], 0)
    record += b"\xff" * 20
    record += struct.pack("<I", zlib.crc32(record))
    signed = bytes.fromhex(manifest["signed"])
    document = b"SCDC" + struct.pack("<II", len(signed), zlib.crc32(signed)) + b"\xff" * 20 + signed
    return {"record": record.hex(), "document": document.hex()}


def main() -> None:
    check_published_roots()
    image = drawn("image 5000", 5000)
    first = key_document(1, ["root-a", "root-b", "root-c"], 2, ["release-old", "release-a"], [])
    second = key_document(2, ["root-a", "root-b", "root-c"], 2, ["release-a", "release-b"], ["release-old"])
    moved = key_document(4, ["root-b", "root-d"], 1, ["release-c"], ["release-a", "release-old", "root-a"])
    least = key_document(5, ["root-d"], 1, ["release-c"], [])
    everything = {1: 1, 2: 1, 3: 40, 4: 6}
    vectors = {
        "image": "drawn as the images of the trees",
        "manifests": [
            manifest_case("detector", manifest(image)),
            manifest_case("firmware", manifest(image, _2=FIRMWARE, _4=(1 << 40) + 5, _5="0.3.0-rc.1+b7"), "release-b"),
            manifest_case("needs", manifest(image, _10={1: 1, 3: 40})),
            manifest_case("needs everything, goes back", manifest(image, _3="esp32c3", _4=1, _10=everything, _11=24)),
            manifest_case("greatest numbers", manifest(image, _4=(1 << 64) - 2, _6=CHUNK << 14, _11=(1 << 64) - 1)),
            manifest_case("one byte", manifest(b"x", _5="1")),
        ],
        "optional_key": sign1(canonical(manifest(image, _200="for later"))).hex(),
        "key_documents": [
            key_case("first", first, ["root-a", "root-b"]),
            key_case("a release key is revoked", second, ["root-a", "root-c"]),
            key_case("a root leaves, one joins", moved, ["root-a", "root-b", "root-c", "root-d"]),
            key_case("one signature", least, ["root-b"]),
        ],
        "signed_by_roots_that_left": sign(canonical(least | {2: 9}), ["root-a", "root-c"]).hex(),
        "forged_manifests": forged_manifests(image),
        "forged_key_documents": forged_keys(),
        "trees": [tree_case(length) for length in (1, 1024, 1025, 3072, 5000, 7 * 1024 + 1, 65536, 100_001)],
    }
    vectors["messages"] = messages()
    vectors["flash"] = flash(vectors["manifests"][0])
    path = Path(__file__).parent.parent / "update.json"
    path.write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
