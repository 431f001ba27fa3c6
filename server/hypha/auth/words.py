"""Readable random names, such as ``amber-otter-40707802``."""

from __future__ import annotations

import secrets

__all__ = ["readable_name"]


def _words(text: str) -> list[str]:
    return text.split()


_QUALITIES = _words(
    "amber autumn brave bright calm candid clear clever coral cosmic crisp dapper daring deep eager early "
    "easy fair fleet fond fresh gentle glad golden grand green happy hidden humble icy jolly keen "
    "kind light lively lucid lunar mellow merry mild misty modest noble patient plain polite proud quick "
    "quiet rapid rustic sandy serene silent silver smooth snowy solar steady sunny swift tidal warm witty"
)
_THINGS = _words(
    "acorn anchor arrow badger bamboo beacon birch brook canyon cedar cliff cloud comet cricket delta dune "
    "ember falcon fern finch fjord forest garden glacier grove harbor hawk hazel heron island ivy juniper "
    "lagoon lantern lark lemur lotus maple meadow meteor moss nectar oak orchid osprey otter pebble pine "
    "planet pond poppy prairie quartz raven reef river robin sparrow spruce summit thistle tulip valley willow"
)


def readable_name() -> str:
    """A name of two words and eight digits, all chosen by the system's random source."""
    return f"{secrets.choice(_QUALITIES)}-{secrets.choice(_THINGS)}-{secrets.randbelow(10**8):08d}"
