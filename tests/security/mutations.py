"""Frames that no client of ours would send: the recorded ones, damaged by a seeded generator of random numbers.

Knows the wire and the vectors; knows neither sockets nor whom the frames are sent to.
"""

from __future__ import annotations

import functools
import json
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
MIB = 1024 * 1024

# What nobody should take for its meaning: types, methods, members and values that mean something to somebody.
TYPES: Sequence[Any] = (
    *("method", "chunk", "credit", "cancel", "query", "release", "lease", "progress", "force-exit", "error"),
    *(
        "client_disconnected",
        "peer_not_found",
        "reconnection_token",
        "connection_info",
        "",
        "x" * 5000,
        7,
        None,
        [],
        {},
    ),
)
METHODS: Sequence[Any] = (
    *("services.built-in.ping", "services.built-in.get_service", "services.default.echo", "services.svc.echo"),
    *("services.default.register_service", "services.default.generate_token", "services.built-in.message_cache.create"),
    *("services.built-in.message_cache.set", "services.built-in.message_cache.process", "services.default.__class__"),
    *("services", "services.", "services.keys", "a.resolve", "a.reject", "a.heartbeat", ".", "", "..", "x" * 70_000),
    *(3, None, [], {"a": 1}, b"services.built-in.ping", "services.svc.echo.__globals__", "services.svc.0.0"),
)
KEYS = (
    *("type", "to", "from", "ws", "user", "method", "session", "parent", "ctx", "args", "kwargs", "promise", "t", "x"),
    *("at", "of", "upto", "ids", "data", "b", "_renc", "_rext", "_rtype", "_rvalue", "_rshape", "_rdtype", "_rmethod"),
    *("_rtarget", "_rpromise", "_rserver", "_rschema", "_rdoc", "_bind", "resolve", "reject", "heartbeat", "interval"),
)
SCALARS: Sequence[Any] = (
    *(None, True, False, 0, -1, 1, 127, 2**31, 2**53, 2**63, 2**64 - 1, -(2**63)),
    *(
        0.0,
        1e308,
        float("inf"),
        float("-inf"),
        float("nan"),
        "",
        "*",
        "\0",
        "ws-user-root",
        "method",
        "x" * 300,
        "\u202e",
    ),
    *(b"", b"\xff" * 64, [], {}, [[]], {"": None}, {"_rtype": "error"}, {"_rtype": "ndarray", "_rshape": [2**40]}),
    msgpack.ExtType(5, b"ext"),
)


@functools.cache
def recorded_frames() -> tuple[bytes, ...]:
    """Every binary frame of the vectors, and every value of theirs as the argument of a call."""
    found: dict[bytes, None] = {}
    for path in sorted(VECTORS.glob("*.json")):
        document = json.loads(path.read_text("utf-8"))
        for case in (*document.get("frames", ()), *document.get("cases", ())):
            if "hex" not in case or len(case["hex"]) > 40_000:
                continue
            data = bytes.fromhex(case["hex"])
            if case.get("section") in ("value", "function", "service", "generator", "interface", "codec", "iostream"):
                data = _call_with(data)
            found[data] = None
    return tuple(found)


@functools.cache
def recorded_texts() -> tuple[str, ...]:
    """Every text frame of the vectors."""
    found: dict[str, None] = {}
    for path in sorted(VECTORS.glob("*.json")):
        document = json.loads(path.read_text("utf-8"))
        for case in (*document.get("frames", ()), *document.get("cases", ())):
            if isinstance(case.get("text"), str):
                found[case["text"]] = None
    return tuple(found)


def _call_with(value: bytes) -> bytes:
    header = {"type": "method", "to": "", "method": "services.svc.echo", "session": "s"}
    head: bytes = msgpack.packb(header)
    return head + b"\x82\xa4args\x91" + value + b"\xa7promise\xa1*"


class Mutator:
    """Makes damaged frames; the same seed makes the same ones.

    Args:
        seed: of the random numbers.
        receivers: addresses that frames are sent to; an empty one means what the frame said before.
    """

    def __init__(self, seed: int, receivers: Sequence[str]) -> None:
        self.random = random.Random(seed)
        self._receivers = receivers
        self._frames = recorded_frames()
        self._texts = recorded_texts()
        self._bytewise: Sequence[Callable[[bytearray], None]] = (
            *(self._truncate, self._flip, self._insert, self._repeat, self._declare, self._splice, self._nest),
            *(self._drop_byte, self._append),
        )
        self._structural: Sequence[Callable[[dict[Any, Any]], None]] = (
            *(self._retype, self._remethod, self._replace, self._remove, self._add, self._odd_key, self._reroute),
        )

    # -- binary frames -----------------------------------------------------------

    def frames(self, count: int) -> Iterator[bytes]:
        """That many damaged frames."""
        for _ in range(count):
            yield self.frame()

    def frame(self) -> bytes:
        """One damaged frame."""
        chance = self.random
        data = chance.choice(self._frames)
        if chance.random() < 0.75:
            data = self._restructured(data)
        if chance.random() < 0.5:
            damaged = bytearray(data)
            for _ in range(chance.choice((1, 1, 1, 2, 5))):
                chance.choice(self._bytewise)(damaged)
            data = bytes(damaged)
        return data[: 1 * MIB]

    def _restructured(self, data: bytes) -> bytes:
        """The frame with another receiver and some members changed; what cannot be read stays as it is."""
        unpacker = msgpack.Unpacker(strict_map_key=False)
        unpacker.feed(data)
        try:
            segments = [one for one in unpacker if isinstance(one, dict)][:2]
        except ValueError:
            return data
        if not segments:
            return data
        chance = self.random
        receiver = chance.choice(self._receivers)
        if receiver:
            segments[0]["to"] = receiver
        for _ in range(chance.choice((0, 1, 1, 2, 4))):
            chance.choice(self._structural)(chance.choice(segments))
        twice = chance.random() < 0.1
        return b"".join(self._packed(segment, twice=twice) for segment in segments)

    def _packed(self, segment: dict[Any, Any], *, twice: bool) -> bytes:
        """Pack a map; *twice*: with a key that is there already."""
        try:
            if not twice or not segment:
                packed: bytes = msgpack.packb(segment)
                return packed
            pairs = [*segment.items(), (self.random.choice(list(segment)), self._value())]
            return _map_head(len(pairs)) + b"".join(msgpack.packb(key) + msgpack.packb(value) for key, value in pairs)
        except (ValueError, TypeError, UnicodeEncodeError):
            return b"\x80"

    def _value(self) -> Any:
        chance = self.random
        value = chance.choice(SCALARS)
        for _ in range(chance.choice((0, 0, 0, 1, 3, 200))):
            value = [value] if chance.random() < 0.5 else {chance.choice(KEYS): value}
        return value

    def _retype(self, segment: dict[Any, Any]) -> None:
        segment["type"] = self.random.choice(TYPES)

    def _remethod(self, segment: dict[Any, Any]) -> None:
        segment["method"] = self.random.choice(METHODS)

    def _reroute(self, segment: dict[Any, Any]) -> None:
        segment["to"] = self.random.choice((*self._receivers, "*", "*/*", "/", "a/b/c", "", "public/*", 5, None, ["*"]))

    def _replace(self, segment: dict[Any, Any]) -> None:
        if segment:
            segment[self.random.choice(list(segment))] = self._value()

    def _remove(self, segment: dict[Any, Any]) -> None:
        if segment:
            del segment[self.random.choice(list(segment))]

    def _add(self, segment: dict[Any, Any]) -> None:
        segment[self.random.choice(KEYS)] = self._value()

    def _odd_key(self, segment: dict[Any, Any]) -> None:
        segment[self.random.choice((1, None, True, 1.5, b"to", "x" * 5000))] = self._value()

    # -- their bytes -------------------------------------------------------------

    def _at(self, data: bytearray) -> int:
        # Most of what is decided is decided in the first bytes.
        longest = max(len(data), 1)
        return self.random.randrange(longest if self.random.random() < 0.5 else min(longest, 64))

    def _truncate(self, data: bytearray) -> None:
        del data[self._at(data) :]

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._at(data)] ^= 1 << self.random.randrange(8)

    def _insert(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = self.random.randbytes(self.random.choice((1, 1, 4, 40)))

    def _drop_byte(self, data: bytearray) -> None:
        if data:
            del data[self._at(data)]

    def _append(self, data: bytearray) -> None:
        data += self.random.choice((b"\x80", b"\xc1", b"\x00" * 1000, self.random.choice(self._frames)))

    def _repeat(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = data[at : at + self.random.randrange(200)]

    def _declare(self, data: bytearray) -> None:
        """Announce far more than there is."""
        at = self._at(data)
        kind = self.random.choice(b"\xc6\xc9\xdb\xdd\xdf")
        data[at : at + 5] = bytes([kind]) + self.random.choice(
            (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\x10\0\0")
        )

    def _splice(self, data: bytearray) -> None:
        at = self._at(data)
        other = self.random.choice(self._frames)
        data[at:] = other[self.random.randrange(len(other)) :]

    def _nest(self, data: bytearray) -> None:
        at = self._at(data)
        data[at:at] = self.random.choice((b"\x91", b"\x81\xa1a", b"\xdd\0\0\0\1")) * self.random.choice(
            (100, 1000, 20_000)
        )

    # -- text --------------------------------------------------------------------

    def text(self) -> bytes:
        """One damaged text message, not always UTF-8."""
        chance = self.random
        kind = chance.randrange(6)
        if kind == 0:
            return b"[" * chance.choice((10, 1000, 60_000))
        if kind == 1:
            return json.dumps({chance.choice(("type", "token", "client_id", "workspace")): 1e400}).encode()
        if kind == 2:
            return b'{"type": ' + b"9" * chance.choice((5, 5000)) + b"}"
        if kind == 3:
            members = ("client_id", "workspace", "token", "reconnection_token", "x", "life", "type")
            values = (None, "", 5, [], {}, "a/b", "\ud800", "x" * 9000, "public", "root", "..", True, 2**70)
            return json.dumps({name: chance.choice(values) for name in members}).encode()
        text = bytearray(chance.choice(self._texts).encode())
        for _ in range(chance.choice((1, 2, 8))):
            chance.choice((self._truncate, self._flip, self._insert, self._repeat, self._drop_byte))(text)
        return bytes(text)


def _map_head(size: int) -> bytes:
    return bytes([0x80 | size]) if size < 16 else b"\xde" + struct.pack("!H", size)
