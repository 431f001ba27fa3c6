"""The golden messages of ``vectors/``: reading their JSON conventions."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgpack

FOLDER = Path(__file__).parents[3] / "vectors"

Case = dict[str, Any]


@lru_cache(maxsize=1)
def _document() -> dict[str, Any]:
    return json.loads((FOLDER / "vectors.json").read_text("utf-8"))


def cases(*sections: str) -> list[Case]:
    """The cases of *sections* that have bytes."""
    return [case for case in _document()["cases"] if case["section"] in sections and "hex" in case]


def rejected() -> list[Case]:
    """The values that public peers refuse to send."""
    return [case for case in _document()["cases"] if case["section"] == "value-rejected"]


def case(name: str) -> Case:
    """One case by its name."""
    return next(case for case in _document()["cases"] if case["name"] == name)


def name_of(one: Any) -> str:
    """For the ids of parametrized tests."""
    return str(one["name"]) if isinstance(one, dict) else ""


class LongBytes:
    """A binary that the vectors describe by length, digest and beginning."""

    def __init__(self, length: int, digest: str, head: str) -> None:
        self._facts = length, digest, head

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, bytes):
            return NotImplemented
        return self._facts == (len(other), hashlib.sha256(other).hexdigest(), other[:16].hex())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{self._facts[0]} bytes beginning with {self._facts[2]}>"


_SCALARS = {
    frozenset({"$bytes"}): lambda told: bytes.fromhex(told["$bytes"]),
    frozenset({"$int"}): lambda told: int(told["$int"]),
    frozenset({"$float"}): lambda told: Float(told["$float"]),
    frozenset({"$ext"}): lambda told: timestamp(*told["$ext"]),
    frozenset({"$map"}): lambda told: {meant(key): meant(value) for key, value in told["$map"]},
    frozenset({"$bytes_len", "$sha256", "$head"}): lambda told: LongBytes(
        told["$bytes_len"], told["$sha256"], told["$head"]
    ),
}


class Float(float):
    """A float that equals only what is written the same: ``nan`` itself, and neither 1 nor 0.0 for -0.0."""

    def __eq__(self, other: object) -> bool:
        return type(other) in (float, Float) and repr(float(self)) == repr(float(other))  # type: ignore[arg-type]

    def __hash__(self) -> int:
        return hash(float(self))


def timestamp(code: int, data: str) -> msgpack.Timestamp:
    """The one extension type there is."""
    assert code == -1
    return msgpack.Timestamp.from_bytes(bytes.fromhex(data))


def meant(told: Any) -> Any:
    """What a JSON value of the vectors stands for (``json_conventions``)."""
    if isinstance(told, list):
        return [meant(item) for item in told]
    if isinstance(told, dict):
        scalar = _SCALARS.get(frozenset(told))
        return scalar(told) if scalar else {key: meant(value) for key, value in told.items()}
    return told


def session(name: str) -> list[dict[str, Any]]:
    """The entries of a recorded session."""
    return json.loads((FOLDER / f"session_{name}.json").read_text("utf-8"))["frames"]


def session_bytes(entries: list[dict[str, Any]], entry: dict[str, Any], boundary: int) -> bytes:
    """The bytes of a binary *entry*; a second segment that repeats another's is taken from there.

    Args:
        entries: the whole session.
        entry: a binary one.
        boundary: where the second segment of the other frame begins, or -1 when *entry* has all its bytes.
    """
    if "hex" in entry:
        return bytes.fromhex(entry["hex"])
    other = next(one for one in entries if one["seq"] == same_as(entry))
    return bytes.fromhex(entry["hex_first_segment"]) + bytes.fromhex(other["hex"])[boundary:]


def same_as(entry: dict[str, Any]) -> int | None:
    """The number of the entry whose second segment *entry* repeats, or None."""
    segments = entry.get("segments") or []
    last = segments[-1] if segments else None
    return last.get("$same_as_seq") if isinstance(last, dict) else None
