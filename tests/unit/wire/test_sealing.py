"""Sealed payloads: the recorded vector, tampering, replays, bounds (protocol §9, security S48)."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from hypha_rpc.wire.frame import FrameWriter, read_extra, read_header
from hypha_rpc.wire.sealing import KEY_BYTES, NonceMemory, Sealer, SealingError, binding, shared_secret, unbox

from .vectors import case

ROOT = Path(__file__).resolve().parents[3]


def keys() -> dict[str, bytes]:
    return {name: bytes.fromhex(text) for name, text in case("py.encrypted_extra")["keys"].items()}


def sealers() -> tuple[Sealer, Sealer]:
    """The two peers of the vector, with nonces that count."""
    given = keys()
    numbers = count(1)
    make = lambda size: next(numbers).to_bytes(size, "big")  # noqa: E731
    return (
        Sealer(given["a_private"], given["a_public"], make),
        Sealer(given["b_private"], given["b_public"], make),
    )


def test_the_recorded_payload_is_opened() -> None:
    recorded = case("py.encrypted_extra")
    payload, key = sealers()[1].open(read_extra(bytes.fromhex(recorded["hex"]), 0))
    assert payload.hex() == recorded["plaintext_hex"]
    assert key == keys()["a_public"]
    assert read_extra(payload, 0) == {"args": [1, 2], "promise": "*", "t": 15.0}


def test_a_payload_is_sealed_as_the_recorded_one() -> None:
    recorded, given = case("py.encrypted_extra"), keys()
    nonce = bytes.fromhex(recorded["decoded"]["_enc"]["nonce"]["$bytes"])
    sealer = Sealer(given["a_private"], given["a_public"], lambda size: nonce)
    sealed = sealer.seal(bytes.fromhex(recorded["plaintext_hex"]), given["b_public"])
    assert sealed == read_extra(bytes.fromhex(recorded["hex"]), 0)


def test_only_the_receiver_can_open() -> None:
    mine, theirs = sealers()
    sealed = mine.seal(b"secret", theirs.public_key)
    other = Sealer(b"\x07" * 32, mine.public_key, lambda size: b"\0" * size)
    with pytest.raises(SealingError, match="invalid key or tampered data"):
        other.open(sealed)
    assert theirs.open(sealed) == (b"secret", mine.public_key)


@pytest.mark.parametrize("part", ["data", "nonce", "pub"])
def test_one_changed_bit_is_noticed(part: str) -> None:
    mine, theirs = sealers()
    sealed = mine.seal(b"secret", theirs.public_key)
    holder = sealed if part == "data" else sealed["_enc"]
    holder[part] = bytes([holder[part][0] ^ 1]) + holder[part][1:]
    with pytest.raises(SealingError):
        theirs.open(sealed)


def test_a_replay_is_refused_and_a_forgery_does_not_use_up_a_nonce() -> None:
    mine, theirs = sealers()
    sealed = mine.seal(b"secret", theirs.public_key)
    with pytest.raises(SealingError, match="tampered"):
        theirs.open({**sealed, "data": sealed["data"][:-1] + b"\0"})
    theirs.open(sealed)
    with pytest.raises(SealingError, match="has come before"):
        theirs.open(sealed)


@pytest.mark.parametrize(
    "extra",
    [
        {"_enc": {"v": 1, "pub": b"\1" * 32, "nonce": b"\1" * 24}, "data": b"x" * 20},
        {"_enc": {"v": 2, "pub": b"\1" * 31, "nonce": b"\1" * 24}, "data": b"x" * 20},
        {"_enc": {"v": 2, "pub": b"\1" * 32, "nonce": b"\1" * 23}, "data": b"x" * 20},
        {"_enc": {"v": 2, "pub": "k", "nonce": b"\1" * 24}, "data": b"x" * 20},
        {"_enc": {"v": 2, "pub": b"\1" * 32}, "data": b"x" * 20},
        {"_enc": {"v": 2, "pub": b"\1" * 32, "nonce": b"\1" * 24}, "data": b"x"},
        {"_enc": {"v": 2, "pub": b"\1" * 32, "nonce": b"\1" * 24}, "data": "text"},
        {"_enc": {"v": 2, "pub": b"\1" * 32, "nonce": b"\1" * 24}},
        {"_enc": [], "data": b"x" * 20},
    ],
)
def test_malformed_envelopes_are_refused(extra: dict[str, Any]) -> None:
    with pytest.raises(SealingError):
        sealers()[0].open(extra)


@pytest.mark.parametrize("key", [b"\0" * 32, b"\1" + b"\0" * 31, b"short", b"\1" * 33])
def test_keys_that_keep_no_secret_are_refused(key: bytes) -> None:
    with pytest.raises(SealingError):
        shared_secret(b"\7" * KEY_BYTES, key)


def test_a_nonce_of_another_length_is_refused() -> None:
    with pytest.raises(SealingError, match="24 bytes"):
        unbox(b"x" * 20, b"short", b"\1" * 32)


def test_the_memory_of_nonces_is_bounded_by_key_and_in_all() -> None:
    memory = NonceMemory(per_key=3, in_all=5)
    assert all(memory.is_new(b"a", bytes([number])) for number in range(4))
    assert len(memory) == 3
    assert not memory.is_new(b"a", b"\3") and not memory.is_new(b"a", b"\1")
    assert memory.is_new(b"a", b"\0"), "the oldest is forgotten"
    assert memory.is_new(b"b", b"\0") and memory.is_new(b"b", b"\1")
    assert len(memory) == 5
    assert memory.is_new(b"c", b"\0")
    assert len(memory) == 3, "the key that was quiet for longest is forgotten"
    assert not memory.is_new(b"b", b"\0") and not memory.is_new(b"c", b"\0")


def test_many_partners_do_not_make_the_table_of_secrets_grow_without_bound() -> None:
    mine, _ = sealers()
    for number in range(1100):
        mine.seal(b"", number.to_bytes(2, "little") + b"\5" * 30)
    assert len(mine._secrets) <= 1000


def test_a_binding_names_sender_receiver_method_and_session() -> None:
    assert binding("w/a", "w/b", "services.x.f", "s1") == "w/a|w/b|services.x.f|s1"
    assert binding("w/a", "w/b", "s1.resolve", None) == "w/a|w/b|s1.resolve|"


def test_importing_the_client_does_not_load_the_cipher() -> None:
    program = "import sys, hypha_rpc.client.connect, hypha_rpc.crypto; sys.exit('nacl' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=30, check=False)
    assert done.returncode == 0


def bound_cases() -> list[dict[str, Any]]:
    document = json.loads((ROOT / "vectors" / "extensions_sealed.json").read_text("utf-8"))
    return list(document["cases"])


@pytest.mark.parametrize("recorded", bound_cases(), ids=lambda one: str(one["name"]))
def test_payloads_bound_to_their_frames_are_opened_and_made(recorded: dict[str, Any]) -> None:
    given, frame = keys(), bytes.fromhex(recorded["hex"])
    header, offset = read_header(frame)
    extra = read_extra(frame, offset)
    sender, receiver = recorded["sealed_by"], recorded["sealed_for"]
    opener = Sealer(given[f"{receiver}_private"], given[f"{receiver}_public"], lambda size: b"\0" * size)
    payload, key = opener.open(extra)
    assert payload.hex() == recorded["plaintext_hex"] and key == given[f"{sender}_public"]
    bound = binding(recorded["from"], header["to"], header["method"], header.get("session"))
    assert read_extra(payload, 0)["_bind"] == bound == recorded["bound_to"]
    sealer = Sealer(given[f"{sender}_private"], given[f"{sender}_public"], lambda size: extra["_enc"]["nonce"])
    assert FrameWriter().write(header, sealer.seal(payload, given[f"{receiver}_public"])) == frame
