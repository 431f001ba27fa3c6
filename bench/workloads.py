"""What is measured: names, units, which direction is better."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

SIZES = {"1KB": 1024, "64KB": 65_536, "1MB": 2**20, "16MB": 2**24}


@dataclass(frozen=True)
class Workload:
    """One line of the table.

    Attributes:
        name: How it is called here, and by ``--only``.
        unit: Of its value.
        where: ``calls`` (three standing processes), ``blocking``, ``crowd`` or ``cold`` (fresh processes).
        lower_is_better: For times and memory.
        per: What CPU time is divided by; empty: CPU time says nothing here.
        options: For the program.
        quick: Whether ``--quick`` measures it, too.
        ours_only: Whether it compares ours with itself; the public side has no value.
    """

    name: str
    unit: str
    where: str = "calls"
    lower_is_better: bool = False
    per: str = "call"
    options: dict[str, Any] = field(default_factory=dict)
    quick: bool = True
    ours_only: bool = False


def sized(kind: str, name: str, size: int) -> Workload:
    """An echo of one size."""
    quick = kind == "bytes" and name in ("64KB", "16MB")
    return Workload(f"{kind}_{name}", "MB/s", options={"workload": f"{kind}_echo", "size": size}, quick=quick)


WORKLOADS = [
    Workload("latency", "µs", lower_is_better=True, options={"workload": "latency"}),
    Workload("in_flight_64", "calls/s", options={"workload": "in_flight", "width": 64}),
    *(sized("bytes", name, size) for name, size in SIZES.items()),
    *(sized("array", name, size) for name, size in SIZES.items()),
    sized("array", "100MB", 100 * 10**6),
    Workload(
        "array_100MB_memory",
        "x its size",
        lower_is_better=True,
        per="",
        options={"workload": "array_memory", "size": 100 * 10**6},
        quick=False,
    ),
    Workload(
        "small_beside_100MB",
        "ms",
        lower_is_better=True,
        per="",
        options={"workload": "small_beside_big", "size": 100 * 10**6},
        quick=False,
    ),
    Workload("callbacks", "calls/s", per="callback", options={"workload": "callbacks", "count": 200}),
    Workload("generator", "items/s", per="item", options={"workload": "generator", "count": 1000}, quick=False),
    Workload(
        "generator_1MB",
        "items/s",
        per="item",
        options={"workload": "generator_of_bytes", "count": 20, "size": 10**6},
        quick=False,
    ),
    Workload("http_sequential", "calls/s", options={"workload": "http_calls", "width": 1}),
    Workload("http_in_flight_32", "calls/s", options={"workload": "http_calls", "width": 32}),
    Workload("blocking_latency", "µs", where="blocking", lower_is_better=True, options={"workload": "latency"}),
    Workload("blocking_overhead", "µs CPU", where="blocking", lower_is_better=True, options={"workload": "overhead"}),
    Workload("crowd_connect", "clients/s", where="crowd", per="client", options={"clients": 200}),
    Workload("crowd_calls", "calls/s", where="crowd", options={"clients": 200}),
    Workload("connect", "ms", where="cold", lower_is_better=True, per="connection"),
    Workload("server_start", "ms", where="cold", lower_is_better=True, per=""),
    Workload("server_memory", "MB", where="cold", lower_is_better=True, per=""),
    Workload("server_start_share", "of 1", where="cold", per="", ours_only=True),
    Workload("server_memory_share", "of 1", where="cold", per="", ours_only=True),
    Workload("import", "ms", where="cold", lower_is_better=True, per=""),
    Workload("import_memory", "MB", where="cold", lower_is_better=True, per=""),
    Workload("import_asyncio", "ms", where="cold", lower_is_better=True, per=""),
]


def chosen(patterns: list[str], *, quick: bool) -> list[Workload]:
    """The workloads whose name matches one of these patterns, or all (the quick ones).

    Raises:
        SystemExit: A pattern matches nothing.
    """
    for pattern in patterns:
        if not any(fnmatch(workload.name, pattern) for workload in WORKLOADS):
            names = ", ".join(workload.name for workload in WORKLOADS)
            raise SystemExit(f"no workload is called {pattern}; there are {names}")
    if patterns:
        return [item for item in WORKLOADS if any(fnmatch(item.name, pattern) for pattern in patterns)]
    return [item for item in WORKLOADS if item.quick or not quick]
