"""Provider and consumer processes, and the pairs that are tested."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .processes import Process
from .sides import KINDS, environment, interpreter

HERE = Path(__file__).resolve().parent
CONNECT_S = 60.0


@dataclass(frozen=True)
class Cell:
    """Who calls whom over which server."""

    consumer: str
    provider: str
    server: str

    def __str__(self) -> str:
        clients = self.consumer if self.consumer == self.provider else f"{self.consumer}-calls-{self.provider}"
        return f"{clients}-on-{self.server}"


CELLS = [
    Cell(consumer, provider, server)
    for server in KINDS
    for provider in KINDS
    for consumer in sorted(KINDS, key=lambda kind, like=provider: kind != like)  # type: ignore[misc]
]


def run_program(kind: str, name: str, arguments: Sequence[str], *, log: Path, **variables: str) -> Process:
    """Start one of ``programs/`` with the interpreter of one side, and further environment variables."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [str(interpreter(kind)), "-m", f"programs.{name}", *arguments]
    # the programs are found through the working directory, which holds no other package
    return Process(command, env=environment(kind, **variables), log=log, cwd=HERE)


def start_provider(kind: str, url: str, folder: Path) -> Process:
    """Start a provider; its ``ready`` report says where it is."""
    return run_program(kind, "provider", [url], log=folder / f"provider-{kind}.log")


def wait_until_ready(provider: Process) -> dict[str, Any]:
    """The provider's report about itself."""
    return provider.wait_for("ready", timeout_s=CONNECT_S)


def start_consumer(kind: str, url: str, ready: Mapping[str, Any], names: Sequence[str], *, log: Path) -> Process:
    """Start a consumer that runs these checks."""
    return run_program(kind, "consumer", [url, json.dumps(ready), *names], log=log)
